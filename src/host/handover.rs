//! Planned handovers. A replica is told in two ways that it takes over from a primary that has stopped writing, and from where
//! the primary's stream ended; then no grant is lost, and no recovery window is needed.
//!
//! - `PSYNC id offset FAILOVER`, by the old primary itself, which has paused its clients: the stream ended before `offset`.
//! - `CLUSTER FAILOVER`, by an operator: the primary pauses its clients and tells the end of its stream, and the replica takes
//!   over when it has come that far. Or because the primary failed meanwhile; but then it is marked so.
//!
//! No event tells of either, so a filter looks at all commands; and it is there only while this server is a replica.

use std::ffi::{c_char, c_int};
use std::ptr::{self, NonNull};

use redis_module::raw;
use redis_module::raw::{RedisModuleCommandFilter as Filter, RedisModuleCommandFilterCtx as FilterCtx};

use super::api::{rm, Ctx, ServerInfo, OK};

/// How long the id of a node in a cluster is.
const ID_LEN: usize = raw::REDISMODULE_NODE_ID_LEN as usize;

/// Such an id, and the NUL behind it that the server asks for and does not give.
type NodeId = [u8; ID_LEN + 1];

/// The promise that the last command on this replica made about a handover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Promise {
    #[default]
    None,
    /// It may take over without asking the primary, whatever is said after that.
    Forced,
    /// The primary's stream ended at this offset. Only good for the command that says so.
    Ended(u64),
    /// This primary hands over, if it does not fail.
    OnRequest(NodeId),
}

/// The function that the server calls with each command.
pub(super) type CommandFilter = unsafe extern "C" fn(*mut FilterCtx);

#[derive(Default)]
pub(super) struct Handover {
    filter: Option<NonNull<Filter>>,
    promise: Promise,
}

impl Handover {
    /// Has the server show all commands to `on_command` from here on, or no longer.
    pub(super) fn watch(&mut self, ctx: Ctx, is_replica: bool, on_command: CommandFilter) {
        if is_replica && self.filter.is_none() {
            let flags = raw::REDISMODULE_CMDFILTER_NOSELF as c_int;
            let filter = rm!(RedisModule_RegisterCommandFilter(ctx.as_ptr(), Some(on_command), flags));
            self.filter = NonNull::new(filter);
        } else if let Some(filter) = self.filter.take_if(|_| !is_replica) {
            rm!(RedisModule_UnregisterCommandFilter(ctx.as_ptr(), filter.as_ptr()));
        }
        self.promise = Promise::None;
    }

    /// A command is about to run; `word` gives its words, of which there are `count`.
    pub(super) fn hear<'w>(&mut self, count: c_int, word: impl Fn(c_int) -> &'w [u8], ctx: Option<Ctx>) {
        let is = |at, name: &[u8]| word(at).eq_ignore_ascii_case(name);
        self.promise = match count {
            4 if is(0, b"PSYNC") && is(3, b"FAILOVER") => ended(word(2)),
            2 if is(0, b"CLUSTER") && is(1, b"FAILOVER") => match self.promise {
                Promise::Forced => Promise::Forced,
                _ => ctx.map_or(Promise::None, on_request),
            },
            // With a third word it takes over without asking the primary, and RESET makes it a primary of nothing.
            2.. if is(0, b"CLUSTER") && (is(1, b"FAILOVER") || is(1, b"RESET")) => Promise::Forced,
            _ => match self.promise {
                Promise::Ended(_) => Promise::None,
                other => other,
            },
        };
    }

    /// Whether the old primary had granted nothing that this server, promoted at this moment, does not know of.
    pub(super) fn lost_nothing(&self, ctx: Ctx) -> bool {
        match self.promise {
            Promise::None | Promise::Forced => false,
            Promise::Ended(offset) => own_offset(ctx) == Some(offset),
            Promise::OnRequest(primary) => {
                node(ctx, &primary).is_some_and(|(_, flags)| flags & raw::REDISMODULE_NODE_FAIL == 0)
            }
        }
    }
}

/// The old primary names the first byte that it has not written.
fn ended(next: &[u8]) -> Promise {
    let next = std::str::from_utf8(next).ok().and_then(|next| next.parse::<u64>().ok());
    next.and_then(|next| next.checked_sub(1)).map_or(Promise::None, Promise::Ended)
}

fn on_request(ctx: Ctx) -> Promise {
    let given = rm!(RedisModule_GetMyClusterID());
    if given.is_null() {
        return Promise::None;
    }
    let mut own: NodeId = [0; ID_LEN + 1];
    // SAFETY: where this server is in a cluster, it gives its id of this length.
    unsafe { ptr::copy_nonoverlapping(given.cast(), own.as_mut_ptr(), ID_LEN) };
    node(ctx, &own).map_or(Promise::None, |(primary, _)| Promise::OnRequest(primary))
}

/// The primary of a node, and the node's flags; `None` if it is not known.
fn node(ctx: Ctx, id: &NodeId) -> Option<(NodeId, u32)> {
    let (mut primary, mut flags): (NodeId, c_int) = ([0; ID_LEN + 1], 0);
    let (id, to): (*const c_char, *mut c_char) = (id.as_ptr().cast(), primary.as_mut_ptr().cast());
    let nowhere = ptr::null_mut();
    let done =
        rm!(RedisModule_GetClusterNodeInfo(ctx.as_ptr(), id, nowhere, to, ptr::null_mut(), &raw mut flags));
    (done == OK).then_some((primary, flags.unsigned_abs()))
}

/// How far this server has come in the stream.
fn own_offset(ctx: Ctx) -> Option<u64> {
    ServerInfo::ask(ctx, c"replication")?.number(c"master_repl_offset")
}

/// The id of the server's stream, and that of the stream which it went on with when it was promoted.
pub(super) struct Streams {
    own: Vec<u8>,
    earlier: Vec<u8>,
}

impl Streams {
    /// As they are now; `None` if the server does not tell.
    pub(super) fn ask(ctx: Ctx) -> Option<Self> {
        let info = ServerInfo::ask(ctx, c"replication")?;
        Some(Self { own: info.text(c"master_replid")?.into(), earlier: info.text(c"master_replid2")?.into() })
    }

    /// Whether a server that had these streams has been a replica since, and was promoted. One that is left by all its replicas
    /// takes a new id after a while, too, but then it forgets the earlier one.
    pub(super) fn tell_of_promotion(&self, ctx: Ctx) -> bool {
        let is_other = |now: Self| now.own != self.own && now.earlier.iter().any(|byte| *byte != b'0');
        Self::ask(ctx).is_some_and(is_other)
    }
}
