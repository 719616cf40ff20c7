//! Where a client is sent whose wait ends because this server is a primary no more: to the new one, in the words in which
//! the server itself says it to those who wait for a list.

use std::ffi::CString;

use redis_module::raw;

use super::api::{call, has_flags, Ctx, ServerInfo};
use super::slot_scope::slot_of;

/// The server or the servers to ask.
pub(super) enum Elsewhere {
    /// The primary of this server, as `host:port`.
    Primary(Vec<u8>),
    /// The primaries of a cluster.
    Slots(Vec<Range>),
}

/// The primary of a range of slots, as `host:port`.
pub(super) struct Range {
    first: u16,
    last: u16,
    node: Vec<u8>,
}

impl Elsewhere {
    /// As the server sees it now.
    pub(super) fn now(ctx: Ctx) -> Self {
        if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
            Self::Slots(slots(ctx).unwrap_or_default())
        } else {
            let info = ServerInfo::ask(ctx, c"replication");
            let field = |name| info.as_ref().and_then(|info| info.text(name)).unwrap_or_default();
            Self::Primary([field(c"master_host"), field(c"master_port")].join(&b':'))
        }
    }

    /// The error for a wait for this key.
    pub(super) fn error(&self, key: &[u8]) -> CString {
        let text = match self {
            Self::Primary(node) => [b"REDIRECT ", node.as_slice()].concat(),
            Self::Slots(ranges) => {
                let slot = slot_of(key);
                match ranges.iter().find(|range| (range.first..=range.last).contains(&slot)) {
                    Some(range) => [format!("MOVED {slot} ").as_bytes(), &range.node].concat(),
                    None => b"TRYAGAIN the key has moved to another node; ask again".to_vec(),
                }
            }
        };
        CString::new(text).unwrap_or_default()
    }
}

/// Whether a FAILOVER is under way: this server is a replica by now, but nobody is a primary yet, and it may be one again.
pub(super) fn is_undecided(ctx: Ctx) -> bool {
    let is_it = |info: ServerInfo| info.text(c"master_failover_state") == Some(&b"failover-in-progress"[..]);
    ServerInfo::ask(ctx, c"replication").is_some_and(is_it)
}

/// Whether a client has said that it reads from replicas (READONLY).
pub(super) fn reads_replicas(ctx: Ctx, client: u64) -> bool {
    let (list, id) = (c"LIST".as_ptr(), c"ID".as_ptr());
    let client = client.cast_signed();
    let reply = call!(ctx, c"CLIENT", c"ccl", list, id, client);
    let line = reply.as_ref().and_then(|reply| reply.root().bytes()).unwrap_or_default();
    let mut fields = line.split(|byte| *byte == b' ');
    fields.any(|field| field.strip_prefix(b"flags=").is_some_and(|flags| flags.contains(&b'r')))
}

/// The ranges that CLUSTER SLOTS lists; a primary without a name is left out.
fn slots(ctx: Ctx) -> Option<Vec<Range>> {
    let reply = call!(ctx, c"CLUSTER", c"c", c"SLOTS".as_ptr())?;
    let ranges = reply.root().items().filter_map(|range| {
        let primary = range.item(2)?;
        let host = primary.item(0)?.bytes().filter(|host| !host.is_empty())?;
        let node = [host, primary.item(1)?.int()?.to_string().as_bytes()].join(&b':');
        let slot = |at| u16::try_from(range.item(at)?.int()?).ok();
        Some(Range { first: slot(0)?, last: slot(1)?, node })
    });
    Some(ranges.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_primary() {
        let range = |first, last, node: &str| Range { first, last, node: node.into() };
        let slots = Elsewhere::Slots(vec![range(0, 5_060, "a:1"), range(5_061, 5_061, "::1:2")]);
        // By the cluster specification "bar" is in slot 5061 and "foo" in 12182.
        assert_eq!(slots.error(b"bar").as_c_str(), c"MOVED 5061 ::1:2");
        assert!(slots.error(b"{foo}bar").to_bytes().starts_with(b"TRYAGAIN "));
        assert_eq!(Elsewhere::Primary(b"h:7".to_vec()).error(b"bar").as_c_str(), c"REDIRECT h:7");
    }
}
