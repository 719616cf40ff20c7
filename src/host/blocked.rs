//! The clients behind the waiters: blocked by the server, unblocked by us one by one, each with its own answer.
//!
//! Life of an entry: `block` of [`blocking`](super::blocking) makes it; [`Blocked::answer`] unblocks the client, once; the
//! server then runs the reply callback, unless the client is gone, and in any case the free callback, which ends the entry.
//! A grant counts only when its reply was given to a client that was still there.

use std::cell::OnceCell;
use std::ffi::{c_void, CStr};
use std::rc::Rc;

use smallvec::{smallvec, SmallVec};

use super::api::{rm, BlockedHandle, OwnString, Str, User};
use super::elsewhere::Elsewhere;
use crate::command::spec::Spec;
use crate::command::{acquire, convert, group, latch, observe};
use crate::primitive::effect::WaitEnd;
use crate::primitive::table::Table;
use crate::primitive::{Fence, WaiterId};

/// The commands that can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockingCommand {
    Acquire,
    Convert,
    AcquireAll,
    Observe,
    AwaitLatch,
}

impl BlockingCommand {
    /// Whether it takes nothing.
    const fn is_watch(self) -> bool {
        matches!(self, Self::Observe | Self::AwaitLatch)
    }

    /// Which of its words is the first key, counted from the name.
    pub(super) const fn first_key(self) -> usize {
        match self {
            Self::Acquire | Self::Convert | Self::Observe | Self::AwaitLatch => 1,
            Self::AcquireAll => 3,
        }
    }

    /// Which of its words is the owner.
    pub(super) const fn owner(self) -> usize {
        match self {
            Self::AcquireAll => 1,
            Self::Acquire | Self::Convert | Self::Observe | Self::AwaitLatch => 2,
        }
    }
}

/// The request of the client, and the form that its reply shall have.
pub(super) struct ReplySpec {
    pub(super) command: BlockingCommand,
    /// The owner that the server made up, to be named in the reply.
    pub(super) generated_owner: Option<Box<[u8]>>,
    pub(super) with_info: bool,
}

/// The answer that a waiting client is told.
pub(super) enum Answer {
    /// It has the lock, under this fence.
    Granted(Fence),
    /// The condition that it watched for is met.
    Met,
    /// Nothing.
    WaitEnded(WaitEnd),
    /// The wait cannot go on: an error with its code word.
    Failed(&'static CStr),
    /// It is to ask another server.
    Sent(Rc<Elsewhere>),
    /// There is no client left to tell.
    Gone,
}

/// A client that is kept waiting, or has its answer and was not told yet.
pub(super) struct Client {
    pub(super) handle: BlockedHandle,
    pub(super) id: u64,
    /// The client's ACL user, by name: rights may be taken away while it waits.
    pub(super) user: OwnString,
    pub(super) reply_spec: ReplySpec,
    /// Nothing while it waits.
    pub(super) answer: Option<Answer>,
    pub(super) replied: bool,
}

/// The names of the commands that can wait, as the server's strings. Every hand-off asks for the rights to one.
struct Names {
    acquire: OwnString,
    convert: OwnString,
    acquire_all: OwnString,
    observe: OwnString,
    await_latch: OwnString,
}

impl Names {
    fn new() -> Self {
        let name = |spec: &Spec| OwnString::new(spec.name.as_bytes());
        Self {
            acquire: name(&acquire::SPEC),
            convert: name(&convert::SPEC),
            acquire_all: name(&group::ACQUIRE),
            observe: name(&observe::SPEC),
            await_latch: name(&latch::AWAIT),
        }
    }

    const fn of(&self, command: BlockingCommand) -> &OwnString {
        match command {
            BlockingCommand::Acquire => &self.acquire,
            BlockingCommand::Convert => &self.convert,
            BlockingCommand::AcquireAll => &self.acquire_all,
            BlockingCommand::Observe => &self.observe,
            BlockingCommand::AwaitLatch => &self.await_latch,
        }
    }
}

/// Told to a client that may no longer have what it waited for.
pub(super) const NOT_PERMITTED: &CStr =
    c"NOPERM the right to this key was taken away while waiting; ask an administrator";

/// Told to those who wait for a lock whose key has another type now.
pub(super) const NOT_A_LOCK: &CStr = c"WRONGTYPE the key was overwritten with a value that is not a lock";

/// All blocked clients.
#[derive(Default)]
pub(super) struct Blocked {
    clients: Table<WaiterId, Client>,
    by_handle: Table<BlockedHandle, WaiterId>,
    /// Made at the first hand-off.
    names: OnceCell<Names>,
}

impl Blocked {
    /// Notes a client that the server has blocked as the waiter `id`.
    pub(super) fn insert(&mut self, id: WaiterId, client: Client) {
        self.by_handle.insert(client.handle, id);
        self.clients.insert(id, client);
    }

    /// The waiter behind a client that was blocked.
    pub(super) fn id_of(&self, handle: BlockedHandle) -> Option<WaiterId> {
        self.by_handle.get(&handle).copied()
    }

    /// The client of this waiter, to be told its answer.
    pub(super) fn get_mut(&mut self, id: WaiterId) -> Option<&mut Client> {
        self.clients.get_mut(&id)
    }

    /// Takes a client out while it is told its answer; [`Blocked::put_back`] has to follow.
    pub(super) fn take(&mut self, id: WaiterId) -> Option<Client> {
        self.clients.remove(&id)
    }

    pub(super) fn put_back(&mut self, id: WaiterId, client: Client) {
        self.clients.insert(id, client);
    }

    /// Forgets a client, with which the server is done.
    pub(super) fn remove(&mut self, id: WaiterId) -> Option<Client> {
        let client = self.clients.remove(&id)?;
        self.by_handle.remove(&client.handle);
        Some(client)
    }

    /// Whether the waiter may still take these locks, by the rights that its user has now.
    pub(super) fn is_permitted(&self, id: WaiterId, keys: &[Str]) -> bool {
        let Some(client) = self.clients.get(&id) else { return true };
        let Some(user) = User::named(client.user.as_str()) else { return false };
        let command = client.reply_spec.command;
        let name = self.names.get_or_init(Names::new).of(command).as_str();
        // Any word can stand for the owner: rights do not depend on it.
        let owner = name;
        let count;
        let mut words: SmallVec<[Str; 4]> = smallvec![name];
        match command {
            BlockingCommand::Acquire
            | BlockingCommand::Convert
            | BlockingCommand::Observe
            | BlockingCommand::AwaitLatch => {
                words.extend_from_slice(keys);
                words.push(owner);
            }
            BlockingCommand::AcquireAll => {
                count = OwnString::new(keys.len().to_string().as_bytes());
                words.extend([owner, count.as_str()]);
                words.extend_from_slice(keys);
            }
        }
        user.may_run(&words)
    }

    /// All that have no answer yet: the waiter, its client, and whether it only watches.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (WaiterId, u64, bool)> + '_ {
        let waiting = self.clients.iter().filter(|(_, client)| client.answer.is_none());
        waiting.map(|(id, client)| (*id, client.id, client.reply_spec.command.is_watch()))
    }

    /// Ends a wait. Only the first answer counts: a handle must be unblocked once.
    pub(super) fn answer(&mut self, id: WaiterId, answer: Answer) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| client.answer.is_none()) {
            client.answer = Some(answer);
            rm!(RedisModule_UnblockClient(client.handle.as_ptr(), id.0 as *mut c_void));
        }
    }
}
