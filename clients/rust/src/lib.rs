//! Distributed locks for redis-rs, on a Redis or Valkey server with the redis-lock module.
//!
//! Whoever asks first is served first. A lock is renewed while somebody has the [`Lock`]. When an operator has taken it away, the next
//! renewal tells, within a third of the lease, or with [`Acquire::watch`] at once; when nobody answers, our own clock tells at the
//! end of it.

mod acquire;
#[cfg(feature = "sync")]
pub mod blocking;
mod ear;
mod info;
mod keeper;
mod line;
mod moment;
mod names;
mod servers;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use acquire::{owner_of, Acquire, Delay};
use keeper::Hold;
pub use line::is_passing;
use line::{lock, Line};
pub use moment::Moment;
pub use servers::Servers;

/// Why there is no lock.
#[derive(Debug)]
pub enum Error {
    /// Somebody else has the lock, or had it for as long as was to be waited.
    Busy,
    /// The lock is held no more: the reason in the words of the server, such as "expired" or "broken", or "lease-over" by our
    /// own clock.
    Lost(String),
    /// The wait would never end. Release all that is held, then begin again.
    Deadlock(String),
    /// The locks were closed.
    Closed,
    /// What the server or the connection said.
    Redis(redis::RedisError),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy => f.write_str("somebody else has the lock"),
            Self::Lost(reason) => write!(f, "the lock is lost: {reason}"),
            Self::Deadlock(cycle) => write!(f, "this wait would never end: {cycle}"),
            Self::Closed => f.write_str("the locks are closed"),
            Self::Redis(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<redis::RedisError> for Error {
    fn from(error: redis::RedisError) -> Self {
        Self::Redis(error)
    }
}

/// The way to the locks of one server, or of a cluster. Cheap to clone; to be used inside one tokio runtime.
#[derive(Clone)]
pub struct Locks {
    line: Arc<Line>,
}

impl Locks {
    /// Makes connections of its own from this client, the first when it is needed.
    pub fn new(client: impl Into<Servers>) -> Self {
        Self::with_reply_limit(client, line::REPLY)
    }

    /// The same, and a reply may take so long, 5 s if not said. A request that is not answered by then is sent again over another
    /// connection.
    pub fn with_reply_limit(client: impl Into<Servers>, limit: Duration) -> Self {
        Self { line: Arc::new(Line::new(client.into(), limit, None)) }
    }

    /// Waits in line for a lock, for ever if [`Acquire::wait`] does not say how long. To drop it ends the wait.
    pub fn acquire(&self, key: impl AsRef<[u8]>) -> Acquire {
        self.acquire_all([key])
    }

    /// Takes the lock if it is free.
    pub fn try_acquire(&self, key: impl AsRef<[u8]>) -> Acquire {
        self.acquire(key).wait(Duration::ZERO)
    }

    /// [`Locks::acquire`] for up to 64 locks, all or none, under one fence.
    pub fn acquire_all<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Acquire {
        Acquire::new(&self.line, keys.into_iter().map(|key| key.as_ref().to_vec()).collect())
    }

    /// Gives back all that is held, ends all waits, and lets nobody acquire any more. Fails if the server could not be told of
    /// something: then the lease ends that hold, and a place in line ends after 5 s.
    pub async fn close(&self) -> Result<(), Error> {
        Ok(self.line.close().await?)
    }
}

/// One hold of a lock, or of several under one fence. It is renewed until it is released. To drop it gives it back in the
/// background, if the runtime goes on; [`Lock::release`] says whether it was still held.
#[derive(Debug)]
#[must_use = "to drop it gives it back"]
pub struct Lock {
    line: Arc<Line>,
    hold: Arc<Hold>,
}

impl Lock {
    /// A number that grows with every grant of the lock. Send it along with every write, so that an older one can be refused.
    pub fn fence(&self) -> i64 {
        self.hold.fence
    }

    /// The name under which the server knows the holder.
    pub fn owner(&self) -> &[u8] {
        &self.hold.names.owner
    }

    /// Whether the lock is known to be lost, or its lease is over by our own clock. Asks nobody.
    pub fn is_lost(&self) -> bool {
        self.hold.lost_reason().is_some()
    }

    /// Why the lock was lost. Returns `None` while it is held.
    pub fn lost_reason(&self) -> Option<String> {
        self.hold.lost_reason().map(str::to_owned)
    }

    /// Waits until the lock is lost, and tells why. It does not end while the lock is held.
    pub fn lost(&self) -> impl Future<Output = String> + Send + 'static {
        let hold = Arc::clone(&self.hold);
        async move { hold.ended().await.unwrap_or_else(|| "released".to_owned()) }
    }

    /// Until when it is ours if nobody renews it, counted from before the request that was granted. Asks nobody.
    pub fn until(&self) -> Moment {
        lock(&self.hold.times).until
    }

    /// Whether it ends then though it is renewed: see [`Acquire::max_hold`].
    pub fn is_capped(&self) -> bool {
        lock(&self.hold.times).is_capped
    }

    /// Waits until it is renewed, if that has not happened since the last call. One at a time is told.
    pub async fn renewed(&self) {
        self.hold.renewed.notified().await;
    }

    /// Asks the server for a new lease, before a step that must not be done twice; so long, or as long as before.
    pub async fn renew(&self, lease: Option<Duration>) -> Result<(), Error> {
        self.check()?;
        self.line.renew(&self.hold, lease).await
    }

    /// How long the lease lasts if nobody renews it, as the server says; nothing if the lock is not held any more.
    pub async fn ttl(&self) -> Result<Duration, Error> {
        self.line.ttl(&self.hold).await
    }

    /// Gives the lock back. One that was lost before is [`Error::Lost`].
    pub async fn release(self) -> Result<(), Error> {
        self.give_back().await
    }

    /// Leaves it to its lease, or to somebody else who knows its owner and its fence.
    pub fn leave(self) {
        self.abandon();
    }

    fn abandon(&self) {
        self.hold.end(None);
        self.line.forget(&self.hold);
    }

    async fn give_back(&self) -> Result<(), Error> {
        self.check()?;
        self.line.release(&self.hold).await
    }

    fn check(&self) -> Result<(), Error> {
        self.lost_reason().map_or(Ok(()), |reason| Err(Error::Lost(reason)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let hold = &self.hold;
        hold.end(None);
        let was_kept = self.line.forget(hold);
        if was_kept && self.line.has_twin(hold) {
            return;
        }
        if was_kept {
            self.line.owe(&hold.runtime, &hold.names, hold.names.release(hold.fence), 1, hold.lease());
        } else if hold.names.keys.len() > 1 && hold.lost_reason().is_some() && !self.line.is_closed() {
            // One of several was lost, and the others are still ours.
            for key in &hold.names.keys {
                let release = hold.names.release_one(key, hold.fence);
                self.line.owe(&hold.runtime, &hold.names, release, 1, hold.lease());
            }
        }
    }
}
