//! The lock as a data type of the server: what it has beside what all types have. Loading notes fences and leases, the
//! newest fence goes along with the data, and we notice when somebody else takes a lock out of the keyspace.

use std::ffi::{c_int, c_void};

use redis_module::raw;

use super::api::{bytes, has, rm, Ctx, Io, RString, ERR, OK};
use super::entry::guard;
use super::value::{self, behind, is_load, Digest, Kind, Value, ENCODING};
use super::{clock, events, hearing, replicate, state};
use crate::error::LockError;
use crate::primitive::codec::{self, Source};
use crate::primitive::leases::hold_bytes;
use crate::primitive::ledger::{Ended, Named};
use crate::primitive::ties::tie_bytes;
use crate::primitive::{Clock, Cooling, End, Fence, Hold, Lock};

static KIND: Kind = Kind::new(c"redislock");

/// How many locks there are in the keyspace.
pub(super) fn count() -> usize {
    KIND.count()
}

/// Tells the server about the type.
pub(super) fn register(ctx: *mut Ctx) -> bool {
    value::register::<Lock>(ctx, |methods| {
        // `unlink2` also says which key it was.
        methods.unlink2 = Some(unlink);
        methods.aux_load = Some(aux_load);
        methods.aux_save = Some(aux_save);
        methods.aux_save_triggers = raw::REDISMODULE_AUX_BEFORE_RDB as c_int;
        methods.aux_save2 = Some(aux_save);
    })
}

impl Value for Lock {
    fn kind() -> &'static Kind {
        &KIND
    }

    fn wrong_type() -> LockError {
        LockError::WrongType
    }

    fn encode(&self, clock: Clock) -> Vec<u8> {
        codec::encode(self, clock)
    }

    fn decode(bytes: &[u8], source: Source, clock: Clock) -> Option<(Self, usize)> {
        codec::decode(bytes, source, clock)
    }

    /// Notes fences and leases of a lock that comes from a file or a full sync. A single RESTORE may still be refused
    /// after this, so its lock is noted when the server tells that the key is there.
    fn loaded(&mut self, io: *mut Io) {
        let is_load = is_load(io);
        let name = rm!(RedisModule_GetKeyNameFromIO(io));
        let db = rm!(RedisModule_GetDbIdFromIO(io));
        state::with(|host| {
            if !is_load || name.is_null() {
                events::watch_moves(host);
                return;
            }
            self.each_mut(|hold| {
                host.memory.index_loaded(db, bytes(name), hold);
            });
            if self.is_free() {
                // Nothing of it could be kept: a look at it takes the key away.
                host.suspect_newcomer(db, bytes(name), self);
            }
            if let Some(deadline) = host.memory.take_soonest() {
                host.alarm.by(deadline);
            }
        });
    }

    fn rewrite(&self, io: *mut Io, key: *mut RString) {
        replicate::rewrite(io, key, self, clock::read());
    }

    fn bytes_beyond(&self) -> usize {
        let (holds, cooling) = (self.holds(), self.cooling());
        let beyond = holds.len().saturating_sub(1) * size_of::<Hold>() + size_of_val(cooling);
        let all = holds.iter().chain(cooling.iter().map(|cooling| &cooling.hold));
        beyond + all.map(|hold| hold.owner.as_bytes().len() + extra_bytes(hold)).sum::<usize>()
    }

    fn bytes_in_indexes(&self, name_len: usize) -> usize {
        let holds = self.holds();
        let tied = holds.iter().filter_map(Hold::tie).filter(|tie| !tie.is_cut()).count();
        (holds.len() + self.cooling().len()) * hold_bytes(name_len) + tied * tie_bytes(name_len)
    }

    /// No deadlines, as clocks differ.
    fn digest(&self, digest: &Digest) {
        digest.number(i64::from(self.limit()));
        for hold in self.holds() {
            digest.text(hold.owner.as_bytes());
            digest.text(hold.note());
            digest.number(i64::from(hold.claim.permits));
            digest.number(hold.fence.to_wire());
            digest.number(hold.lease.to_wire());
            digest.number(i64::from(hold.keys()));
            hold.entries().ids().iter().for_each(|id| digest.text(id));
        }
        for Cooling { hold, why } in self.cooling() {
            digest.number(i64::from(hold.claim.permits));
            digest.number(hold.fence.to_wire());
            digest.number(i64::from(why.to_wire()));
        }
    }
}

fn extra_bytes(hold: &Hold) -> usize {
    let Some(extra) = &hold.extra else { return 0 };
    let ids = extra.entries.ids();
    let bounds = extra.bounds.as_deref().map_or(0, size_of_val);
    let text = extra.note.len() + ids.iter().map(|id| id.len()).sum::<usize>();
    size_of_val(&**extra) + bounds + size_of_val(ids) + text
}

/// The value leaves its key: deleted, overwritten, evicted, renamed or moved. What we delete ourselves comes by
/// here as well, while our own step has the state.
unsafe extern "C" fn unlink(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) {
    guard("unlink", || {
        let name = rm!(RedisModule_GetKeyNameFromOptCtx(ctx));
        let db = rm!(RedisModule_GetDbIdFromOptCtx(ctx));
        state::with_unless_ours(|host| {
            hearing::wake_up(host);
            let now = clock::now();
            let key = if name.is_null() { &[][..] } else { bytes(name) };
            let lock = behind::<Lock>(value);
            lock.cooling().iter().for_each(|cooling| host.memory.unindex(db, key, &cooling.hold));
            for hold in lock.holds() {
                host.memory.unindex(db, key, hold);
                host.memory.forget(hold.fence);
                if hold.is_live(now) {
                    host.memory.stats.vanished += 1;
                    // A replica hears of no releases, and what it knew would be out of date when it is promoted.
                    if host.is_primary {
                        let of = Named { db, key, owner: hold.owner.as_bytes() };
                        let ended = Ended { fence: hold.fence, how: End::Vanished, at: now };
                        host.memory.note_loss(of, ended);
                    }
                }
            }
            host.suspect(db, key);
            events::watch_moves(host);
        });
    });
}

/// The newest fence goes along with the data, so that a restart cannot repeat one of a lock that was free.
unsafe extern "C" fn aux_save(io: *mut Io, _when: c_int) {
    guard("aux_save", || {
        let last = state::with(|host| host.memory.fences.last());
        if last > 0 || !has!(RedisModule_AddPostNotificationJob) {
            rm!(RedisModule_SaveUnsigned(io, last));
        }
    });
}

unsafe extern "C" fn aux_load(io: *mut Io, encoding: c_int, _when: c_int) -> c_int {
    let done = guard("aux_load", || {
        state::with(hearing::wake_up);
        let last = rm!(RedisModule_LoadUnsigned(io));
        if encoding != ENCODING || rm!(RedisModule_IsIOError(io)) != 0 {
            return false;
        }
        if let Some(fence) = Fence::new(last) {
            state::with(|host| host.memory.fences.fold(fence));
        }
        true
    });
    if done {
        OK
    } else {
        ERR
    }
}
