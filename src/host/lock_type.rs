//! The lock as a data type of the server: what it has beside what all types have. Loading notes fences and leases, the
//! newest fence goes along with the data, and we notice when somebody else takes a lock out of the keyspace.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use std::ffi::{c_int, c_void};

use redis_module::raw;

use super::api::{has, rm, Ctx, Digest, Io, KeyOpt, Str, ERR, OK};
use super::panics::catch_panic;
use super::type_methods::{self, behind, is_load, source, with_text};
use super::value::{TypeHandle, Value, ENCODING, FIRST_ENCODING};
use super::{clock, events, hearing, replicate, state};
use crate::error::LockError;
use crate::primitive::codec::{self, Source};
use crate::primitive::leases::hold_bytes;
use crate::primitive::recovery::encoding;
use crate::primitive::ties::tie_bytes;
use crate::primitive::{Clock, Cooldown, Fence, Hold, Lease, Lock, LockManager};

static KIND: TypeHandle = TypeHandle::new(c"redislock");

/// How many locks there are in the keyspace.
pub(super) fn count() -> usize {
    KIND.count()
}

/// Tells the server about the type.
pub(super) fn register(ctx: Ctx) -> bool {
    type_methods::register::<Lock>(ctx, |methods| {
        // `unlink2` also says which key it was.
        methods.unlink2 = Some(unlink);
        methods.aux_load = Some(aux_load);
        methods.aux_save = Some(aux_save);
        methods.aux_save_triggers = raw::REDISMODULE_AUX_BEFORE_RDB as c_int;
        methods.aux_save2 = Some(aux_save);
    })
}

impl Value for Lock {
    fn kind() -> &'static TypeHandle {
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
    fn loaded(&mut self, io: Io) {
        let is_load = is_load(io);
        let name = io.key_name();
        let db = rm!(RedisModule_GetDbIdFromIO(io.as_ptr()));
        state::with(|host| {
            let Some(name) = name.filter(|_| is_load) else { return events::watch_moves(host) };
            host.tell(|manager| {
                self.each_mut(|hold| {
                    manager.index_loaded(db, name.as_bytes(), hold);
                });
                if self.is_free() {
                    // Nothing of it could be kept: a look at it takes the key away.
                    manager.recheck_newcomer(db, name.as_bytes(), self);
                }
            });
        });
    }

    fn rewrite(&self, io: Io, key: Str) {
        replicate::rewrite(io, key, self, clock::read());
    }

    fn bytes_beyond(&self) -> usize {
        let (holds, cooldown) = (self.holds(), self.cooldowns());
        let beyond = holds.len().saturating_sub(1) * size_of::<Hold>() + size_of_val(cooldown);
        let all = holds.iter().chain(cooldown.iter().map(|cooldown| &cooldown.hold));
        beyond + all.map(|hold| hold.owner.as_bytes().len() + extra_bytes(hold)).sum::<usize>()
    }

    fn bytes_in_indexes(&self, name_len: usize) -> usize {
        let holds = self.holds();
        let tied = holds.iter().filter_map(Hold::tie).filter(|tie| !tie.is_orphaned()).count();
        (holds.len() + self.cooldowns().len()) * hold_bytes(name_len) + tied * tie_bytes(name_len)
    }

    /// No deadlines, as clocks differ.
    fn digest(&self, digest: Digest) {
        digest.number(i64::from(self.limit()));
        for hold in self.holds() {
            digest.text(hold.owner.as_bytes());
            digest.text(hold.note());
            digest.number(i64::from(hold.permits.count));
            digest.number(hold.fence.to_wire());
            digest.number(hold.lease.to_wire());
            digest.number(i64::from(hold.keys()));
            hold.entries().ids().iter().for_each(|id| digest.text(id));
        }
        for Cooldown { hold, why } in self.cooldowns() {
            digest.number(i64::from(hold.permits.count));
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

/// The value leaves its key: deleted, overwritten, evicted, renamed or moved. A value that we delete ourselves comes by
/// here as well, while our own step has the state.
unsafe extern "C" fn unlink(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) {
    // SAFETY: the server passes what it says, which lives as long as this call.
    let gone = unsafe { KeyOpt::new(ctx) };
    catch_panic("unlink", || {
        state::with_unless_ours(|host| {
            let db = rm!(RedisModule_GetDbIdFromOptCtx(gone.as_ptr()));
            hearing::wake_up(host);
            let now = clock::now();
            let key = gone.key_name().map_or(&[][..], Str::as_bytes);
            // SAFETY: the server passes a lock, which lives and stays as it is as long as this call.
            let lock = unsafe { behind::<Lock>(value) };
            let is_primary = host.is_primary;
            host.tell(|manager| manager.key_gone(db, key, lock, now, is_primary));
            events::watch_moves(host);
        });
    });
}

/// The knowledge of the past goes along with the data: the newest fence, so that a restart cannot repeat one of a lock
/// that was free; and for a recovery window the longest lease, and the one that is open.
unsafe extern "C" fn aux_save(io: *mut raw::RedisModuleIO, _when: c_int) {
    // SAFETY: the server passes the file, which lives as long as this call.
    let io = unsafe { Io::new(io) };
    catch_panic("aux_save", || {
        state::with(|host| {
            let LockManager { fences, recovery, .. } = &host.manager;
            if fences.last() > 0 || !has!(RedisModule_AddPostNotificationJob) {
                rm!(RedisModule_SaveUnsigned(io.as_ptr(), fences.last()));
                rm!(RedisModule_SaveSigned(io.as_ptr(), recovery.leases.longest().to_wire()));
                let window = encoding::encode(recovery, clock::read());
                rm!(RedisModule_SaveStringBuffer(io.as_ptr(), window.as_ptr().cast(), window.len()));
            }
        });
    });
}

unsafe extern "C" fn aux_load(io: *mut raw::RedisModuleIO, encoding: c_int, _when: c_int) -> c_int {
    // SAFETY: the server passes the file, which lives as long as this call.
    let io = unsafe { Io::new(io) };
    let load = || {
        state::with(hearing::wake_up);
        let fence = load_unsigned(io)?;
        if let Some(fence) = Fence::new(fence) {
            state::with(|host| host.manager.note_loaded(fence));
        }
        match encoding {
            FIRST_ENCODING => Some(()),
            ENCODING => {
                let lease = Lease::from_wire(rm!(RedisModule_LoadSigned(io.as_ptr())))?;
                let (source, clock) = (source(io), clock::read());
                with_text(io, |window| {
                    state::with(|host| {
                        host.manager.recovery.leases.note(lease);
                        encoding::decode(window, host.manager.recovery_loaded(), source, clock)
                    })
                })?
            }
            _ => None,
        }
    };
    let done = catch_panic("aux_load", || load().is_some());
    if done {
        OK
    } else {
        ERR
    }
}

fn load_unsigned(io: Io) -> Option<u64> {
    let n = rm!(RedisModule_LoadUnsigned(io.as_ptr()));
    (rm!(RedisModule_IsIOError(io.as_ptr())) == 0).then_some(n)
}
