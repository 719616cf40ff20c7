//! Keyspace events in the module class (`d` of `notify-keyspace-events`), and what the channels of tickets are told.

use std::ffi::CStr;

use redis_module::raw;
use smallvec::SmallVec;

use super::api::{rm, Ctx, OwnString, Str};
use super::config;
use crate::primitive::{Hold, HoldEnd};

/// The events that can be told of a lock or a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Acquired,
    Released,
    Expired,
    Cooled,
    Waiting,
    Downgraded,
    Limited,
    Wanted,
    LatchSet,
    LatchDown,
    LatchOpen,
}

/// The events of one step. Published after the step: other modules may listen and call us again.
pub(super) type Events = SmallVec<[Event; 8]>;

impl Event {
    /// The event for a hold that ended so.
    pub(super) const fn of_end(how: HoldEnd) -> Self {
        match how {
            HoldEnd::Expired | HoldEnd::Unclaimed | HoldEnd::Capped | HoldEnd::Closed => Self::Expired,
            HoldEnd::Cooled => Self::Cooled,
            HoldEnd::Released
            | HoldEnd::Vanished
            | HoldEnd::Undone
            | HoldEnd::Broken
            | HoldEnd::Stolen
            | HoldEnd::Transferred
            | HoldEnd::Displaced => Self::Released,
        }
    }

    const fn name(self) -> &'static CStr {
        match self {
            Self::Acquired => c"lock.acquired",
            Self::Released => c"lock.released",
            Self::Expired => c"lock.expired",
            Self::Cooled => c"lock.cooled",
            Self::Waiting => c"lock.waiting",
            Self::Downgraded => c"lock.downgraded",
            Self::Limited => c"lock.limited",
            Self::Wanted => c"lock.wanted",
            Self::LatchSet => c"latch.set",
            Self::LatchDown => c"latch.down",
            Self::LatchOpen => c"latch.open",
        }
    }
}

/// Tells a channel that the turn of a ticket has come: fence, length of the owner's name, the name, and the key, with a space
/// between each two.
pub(super) fn announce(ctx: Ctx, channel: &[u8], hold: &Hold, key: &[u8]) {
    let owner = hold.owner.as_bytes();
    let mut message = format!("{} {} ", hold.fence.get(), owner.len()).into_bytes();
    message.extend_from_slice(owner);
    message.push(b' ');
    message.extend_from_slice(key);
    let (channel, message) = (OwnString::new(channel), OwnString::new(&message));
    rm!(RedisModule_PublishMessage(ctx.as_ptr(), channel.as_str().as_ptr(), message.as_str().as_ptr()));
}

pub(super) fn publish(ctx: Ctx, key: Str, events: &[Event]) {
    if !config::events() {
        return;
    }
    for event in events {
        rm!(RedisModule_NotifyKeyspaceEvent(
            ctx.as_ptr(),
            raw::REDISMODULE_NOTIFY_MODULE,
            event.name().as_ptr(),
            key.as_ptr()
        ));
    }
}
