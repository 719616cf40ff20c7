//! The same locks for programs without tokio: a call blocks its thread until it has an answer.
//!
//! To one server, a request that is answered at once goes over a connection of the thread that calls. All else is done by one more
//! thread for each [`Locks`], which ends with the last of them: there is one way to wait, to renew and to tell of a loss. Not to be
//! called inside of async code.

use std::future::{Future, IntoFuture};
use std::io;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::line::{self, Line};
use crate::{Acquire, Error, Moment, Servers};

/// How long a drop waits for the server; it is obeyed in the background then.
const DROP: Duration = Duration::from_secs(2);

/// The thread that waits and renews, in the process that has it: a child that was forked has none.
#[derive(Clone, Debug)]
struct Worker {
    runtime: Handle,
    process: u32,
}

impl Worker {
    fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.here()?.block_on(work)
    }

    fn here(&self) -> Result<&Handle, Error> {
        self.is_here().then_some(&self.runtime).ok_or(Error::Closed)
    }

    fn is_here(&self) -> bool {
        self.process == process::id()
    }
}

/// The way to the locks of one server, or of a cluster. Cheap to clone, for all threads.
#[derive(Clone)]
pub struct Locks {
    locks: crate::Locks,
    worker: Worker,
}

impl Locks {
    /// Makes connections of its own from this client, the first when it is needed. Fails if no thread can be started.
    pub fn new(client: impl Into<Servers>) -> io::Result<Self> {
        Self::with_reply_limit(client, line::REPLY)
    }

    /// See [`crate::Locks::with_reply_limit`].
    pub fn with_reply_limit(client: impl Into<Servers>, limit: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let worker = Worker { runtime: runtime.handle().clone(), process: process::id() };
        let (alive, over) = oneshot::channel();
        std::thread::Builder::new().name("fencelock".to_owned()).spawn(move || runtime.block_on(over))?;
        let line = Arc::new(Line::new(client.into(), limit, Some(alive)));
        Ok(Self { locks: crate::Locks { line }, worker })
    }

    /// Waits in line for a lock, for ever.
    pub fn acquire(&self, key: impl AsRef<[u8]>) -> Result<Lock, Error> {
        self.take(self.locks.acquire(key))
    }

    /// Takes the lock if it is free; [`Error::Busy`] otherwise.
    pub fn try_acquire(&self, key: impl AsRef<[u8]>) -> Result<Lock, Error> {
        self.take(self.locks.try_acquire(key))
    }

    /// Acquires one lock or several, as it is said: `locks.acquire_with(["k"], |asked| asked.shared())`.
    pub fn acquire_with<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        say: impl FnOnce(Acquire) -> Acquire,
    ) -> Result<Lock, Error> {
        self.take(say(self.locks.acquire_all(keys)))
    }

    fn take(&self, asked: Acquire) -> Result<Lock, Error> {
        let lock = self.worker.run(asked.into_future())?;
        Ok(Lock { lock: Arc::new(lock), worker: self.worker.clone(), is_over: false })
    }

    /// See [`crate::Locks::close`].
    pub fn close(&self) -> Result<(), Error> {
        self.worker.run(self.locks.close())
    }
}

/// One hold of a lock, or of several under one fence. It is renewed until it is released; to drop it releases it as well, and
/// tells nobody whether it was still held. A child that was forked does not have it.
#[derive(Debug)]
#[must_use = "to drop it gives it back"]
pub struct Lock {
    lock: Arc<crate::Lock>,
    worker: Worker,
    is_over: bool,
}

impl Lock {
    /// See [`crate::Lock::fence`].
    pub fn fence(&self) -> i64 {
        self.lock.fence()
    }

    /// See [`crate::Lock::owner`].
    pub fn owner(&self) -> &[u8] {
        self.lock.owner()
    }

    /// Whether the lock is known to be lost, or its lease is over by our own clock. Asks nobody.
    pub fn is_lost(&self) -> bool {
        self.lost_reason().is_some()
    }

    /// Why the lock was lost. Returns `None` while it is held.
    pub fn lost_reason(&self) -> Option<String> {
        if self.worker.is_here() {
            self.lock.lost_reason()
        } else {
            Some("forked".to_owned())
        }
    }

    /// Calls this with the reason when the lock is lost, on a thread of its own; never, if it is released before.
    pub fn on_lost(&self, tell: impl FnOnce(String) + Send + 'static) {
        let hold = Arc::clone(&self.lock.hold);
        self.worker.runtime.spawn(async move {
            if let Some(reason) = hold.ended().await {
                tokio::task::spawn_blocking(|| tell(reason));
            }
        });
    }

    /// See [`crate::Lock::until`].
    pub fn until(&self) -> Moment {
        self.lock.until()
    }

    /// See [`crate::Lock::is_capped`].
    pub fn is_capped(&self) -> bool {
        self.lock.is_capped()
    }

    /// Waits until it is renewed, if that has not happened since the last call; [`Error::Lost`] if it is lost before.
    pub fn renewed(&self) -> Result<(), Error> {
        self.worker.run(async {
            tokio::select! {
                reason = self.lock.lost() => Err(Error::Lost(reason)),
                () = self.lock.renewed() => Ok(()),
            }
        })
    }

    /// Asks the server for a new lease, before a step that must not be done twice; so long, or as long as before.
    pub fn renew(&self, lease: Option<Duration>) -> Result<(), Error> {
        self.worker.run(self.lock.renew(lease))
    }

    /// How long the lease lasts if nobody renews it, as the server says; nothing if the lock is not held any more.
    pub fn ttl(&self) -> Result<Duration, Error> {
        self.worker.run(self.lock.ttl())
    }

    /// Gives the lock back. One that was lost before is [`Error::Lost`].
    pub fn release(mut self) -> Result<(), Error> {
        let runtime = self.worker.here()?;
        self.is_over = true;
        runtime.block_on(self.lock.give_back())
    }

    /// See [`crate::Lock::leave`].
    pub fn leave(mut self) {
        if self.worker.is_here() {
            self.is_over = true;
            self.lock.abandon();
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_over || self.lock.line.has_twin(&self.lock.hold) {
            return;
        }
        if !self.worker.is_here() {
            // It belongs to the parent.
            std::mem::forget(Arc::clone(&self.lock));
        } else if Handle::try_current().is_err() {
            // The program may end at once, and the thread with it. What takes too long goes on in the background.
            let _ = self.worker.run(async {
                let _ = timeout(DROP, self.lock.give_back()).await;
                Ok(())
            });
        }
    }
}
