//! The way to the server: one connection for requests that are answered at once, and some for those that wait.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, ConnectionLike, ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch, Notify, OnceCell, Semaphore};
use tokio::time::{sleep, timeout};

use crate::keeper::Kept;
use crate::names::Names;
use crate::servers::{value, Connection, Servers};

/// How long a reply may take, if not said otherwise.
pub(crate) const REPLY: Duration = Duration::from_secs(5);
/// How long one request waits in the server.
pub(crate) const SLICE: Duration = Duration::from_secs(1);
/// How long a connection of a caller's own may be silent: well below the second in which a turn must be claimed.
const HERE: Duration = Duration::from_millis(400);
/// Connections that wait, at most. Whoever finds none asks now and then, and keeps its place.
const SEATS: usize = 16;
/// Connections for callers who block their threads, at most; more callers at the same moment share the one for all.
const OWN: usize = 8;
/// How often a request that may be repeated is sent.
const TRIES: u32 = 3;

/// A mutex that a panic elsewhere does not lock for ever.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Line {
    pub(crate) servers: Servers,
    /// How long a reply may take.
    pub(crate) reply: Duration,
    /// Made by whoever needs it first. Whoever finds it broken puts an empty cell in its place.
    shared: Mutex<Arc<OnceCell<Connection>>>,
    idle: Mutex<Vec<Connection>>,
    /// For those who block their threads.
    own: Vec<Mutex<Option<redis::Connection>>>,
    pub(crate) seats: Arc<Semaphore>,
    pub(crate) kept: Mutex<Kept>,
    pub(crate) wake: Notify,
    /// Whether somebody listens for losses, and that there is something to ask about.
    pub(crate) listens: AtomicBool,
    pub(crate) look: Notify,
    pub(crate) closed: watch::Sender<bool>,
    /// How many waits and debts there are, that there are none, and why one could not be paid by then.
    busy: AtomicUsize,
    rest: Notify,
    unpaid: Mutex<Option<RedisError>>,
    /// Its end tells the thread that runs all this, if there is one, that it is wanted no more.
    _alive: Option<oneshot::Sender<()>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

/// A wait or a debt, for which [`Line::close`] stays.
pub(crate) struct Busy(pub(crate) Arc<Line>);

impl Busy {
    pub(crate) fn new(line: &Arc<Line>) -> Self {
        line.busy.fetch_add(1, SeqCst);
        Self(Arc::clone(line))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, SeqCst) == 1 && self.0.is_closed() {
            self.0.rest.notify_waiters();
        }
    }
}

impl Line {
    pub(crate) fn new(servers: Servers, reply: Duration, alive: Option<oneshot::Sender<()>>) -> Self {
        let own = if alive.is_some() { OWN } else { 0 };
        Self {
            own: (0..own).map(|_| Mutex::default()).collect(),
            servers,
            reply,
            shared: Mutex::default(),
            idle: Mutex::default(),
            seats: Arc::new(Semaphore::new(SEATS)),
            kept: Mutex::default(),
            wake: Notify::new(),
            listens: AtomicBool::new(false),
            look: Notify::new(),
            closed: watch::Sender::new(false),
            busy: AtomicUsize::new(0),
            rest: Notify::new(),
            unpaid: Mutex::default(),
            _alive: alive,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Sends a request on the thread of a caller who blocks it anyway, which spares the way to another thread and back. Returns
    /// `None` if it is to go over the connection that all share, which says what is the matter if there is no other.
    pub(crate) fn send_here(&self, names: &Names, cmd: &Cmd) -> Option<RedisResult<Value>> {
        let mut own = self.own.iter().find_map(|own| own.try_lock().ok())?;
        // A hold is tied to the connection that renews it. And what close has not seen here must not be left behind.
        if names.tied.is_some() || self.is_closed() {
            return None;
        }
        let mut connection = match own.take() {
            Some(connection) => connection,
            None => self.servers.connect_here(self.reply.min(HERE))?,
        };
        let reply = connection.req_command(cmd).and_then(value);
        if !reply.as_ref().is_err_and(is_stale) {
            *own = Some(connection);
        }
        Some(reply)
    }

    /// Sends a request over the connection that all share.
    pub(crate) async fn send(&self, names: &Names, cmd: &Cmd, limit: Duration) -> RedisResult<Value> {
        let cell = Arc::clone(&lock(&self.shared));
        let reply = match self.open(&cell, limit).await {
            Ok(mut connection) => within(limit, connection.send(cmd, names.key())).await,
            Err(error) => Err(error),
        };
        if reply.as_ref().is_err_and(is_stale) {
            self.leave(&cell);
        }
        reply
    }

    /// The same for several requests, which go out together. Returns a reply for each.
    pub(crate) async fn send_all(
        &self,
        requests: &[(Cmd, &Names)],
        limit: Duration,
    ) -> Vec<RedisResult<Value>> {
        let cell = Arc::clone(&lock(&self.shared));
        let replies = match self.open(&cell, limit).await {
            Ok(mut connection) => within(limit, connection.send_all(requests)).await,
            Err(error) => Err(error),
        };
        let replies = replies.unwrap_or_else(|error| vec![Err(error); requests.len()]);
        if replies.iter().any(|reply| reply.as_ref().is_err_and(is_stale)) {
            self.leave(&cell);
        }
        replies
    }

    /// A connection takes several round trips, more than a request for a short lease may take.
    async fn open(&self, cell: &OnceCell<Connection>, limit: Duration) -> RedisResult<Connection> {
        if let Some(connection) = cell.get().filter(|connection| !connection.is_named()) {
            return Ok(connection.clone());
        }
        let open = async {
            let connection = cell.get_or_try_init(|| self.servers.connect(self.reply)).await?.clone();
            self.servers.check(&connection).await?;
            Ok(connection)
        };
        // Futures of rare steps have a place of their own: it takes time to move what is large.
        Box::pin(within(limit.max(SLICE).min(self.reply), open)).await
    }

    /// Uses the connection in this cell no more. Others may have replaced it meanwhile.
    fn leave(&self, cell: &Arc<OnceCell<Connection>>) {
        let mut shared = lock(&self.shared);
        if Arc::ptr_eq(&shared, cell) {
            *shared = Arc::default();
            drop(shared);
            if cell.initialized() {
                self.tie_again();
            }
        }
    }

    /// Sends a request that waits in the server, over a connection that nobody shares. One that breaks is not used again, nor
    /// is that of a caller who is gone.
    pub(crate) async fn wait(&self, names: &Names, cmd: &Cmd, limit: Duration) -> RedisResult<Value> {
        let request = async {
            let mut connection = loop {
                let idle = lock(&self.idle).pop();
                match idle {
                    Some(connection) if self.servers.check(&connection).await.is_ok() => break connection,
                    Some(_) => {}
                    None => break self.servers.connect(self.reply).await?,
                }
            };
            let reply = connection.send(cmd, names.key()).await;
            if !reply.as_ref().is_err_and(is_stale) {
                let mut idle = lock(&self.idle);
                if !self.is_closed() {
                    idle.push(connection);
                }
            }
            reply
        };
        let mut closed = self.closed.subscribe();
        let closed = closed.wait_for(|closed| *closed);
        within(limit, async {
            tokio::select! {
                reply = request => reply,
                _ = closed => Err(RedisError::from((ErrorKind::Client, "the locks are closed"))),
            }
        })
        .await
    }

    /// Sends a request that may be sent twice. Returns the least of the numbers in the reply.
    pub(crate) async fn ask(&self, names: &Names, cmd: &Cmd, limit: Duration) -> RedisResult<i64> {
        match self.send_here(names, cmd).map(|reply| reply.and_then(least)) {
            Some(reply) if !reply.as_ref().is_err_and(is_passing) => reply,
            _ => again(|| async { self.send(names, cmd, limit).await.and_then(least) }).await,
        }
    }

    /// Sends a request so many times in the background, each until it is answered, or until this time is over; once the locks
    /// are closed, until nobody is there.
    pub(crate) fn owe(
        self: &Arc<Self>,
        runtime: &Handle,
        names: &Arc<Names>,
        cmd: Cmd,
        times: u32,
        limit: Duration,
    ) {
        let (busy, names) = (Busy::new(self), Arc::clone(names));
        runtime.spawn(async move {
            let pay = async {
                for _ in 0..times {
                    while let Err(error) = busy.0.send(&names, &cmd, SLICE).await {
                        let is_gone = busy.0.is_closed() && error.is_connection_refusal();
                        if is_gone || !is_passing(&error) {
                            return Err(error);
                        }
                        sleep(jitter(100, 300)).await;
                    }
                }
                Ok(())
            };
            if let (Err(error), true) = (within(limit, pay).await, busy.0.is_closed()) {
                *lock(&busy.0.unpaid) = Some(error);
            }
        });
    }

    /// Fails if there is something that could not be given back.
    pub(crate) async fn close(self: &Arc<Self>) -> RedisResult<()> {
        self.closed.send_replace(true);
        self.seats.close();
        let holds = std::mem::take(&mut lock(&self.kept).holds);
        for hold in holds.into_values() {
            hold.end(Some("closed"));
            self.owe(&hold.runtime, &hold.names, hold.names.release(hold.fence), 1, hold.lease());
        }
        self.wake.notify_one();
        self.look.notify_one();
        let rest = async {
            loop {
                let rest = self.rest.notified();
                if self.busy.load(SeqCst) == 0 {
                    return lock(&self.unpaid).take().map_or(Ok(()), Err);
                }
                rest.await;
            }
        };
        let rest = within(self.reply, rest).await;
        lock(&self.idle).clear();
        *lock(&self.shared) = Arc::default();
        for own in &self.own {
            *lock(own) = None;
        }
        rest
    }
}

pub(crate) async fn within<T>(
    limit: Duration,
    request: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let no_reply = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no reply in time");
    timeout(limit, request).await.unwrap_or_else(|_| Err(no_reply().into()))
}

/// Tries what may be tried again, while the answer is true only now.
pub(crate) async fn again<T, F: Future<Output = RedisResult<T>>>(ask: impl Fn() -> F) -> RedisResult<T> {
    let mut turn = 1;
    loop {
        match ask().await {
            Err(error) if turn < TRIES && is_passing(&error) => {
                sleep(turn * jitter(20, 100)).await;
                turn += 1;
            }
            reply => return reply,
        }
    }
}

pub(crate) fn least(reply: Value) -> RedisResult<i64> {
    let Value::Array(items) = reply else { return Ok(i64::from_redis_value(reply)?) };
    let numbers: Result<Vec<i64>, _> = items.into_iter().map(i64::from_redis_value).collect();
    Ok(numbers?.into_iter().min().unwrap_or(0))
}

/// Whether the connection is of no use any more: there was no reply, or it leads to a server that is primary no more.
fn is_stale(error: &RedisError) -> bool {
    error.code().is_none_or(|word| ["READONLY", "MASTERDOWN"].contains(&word))
}

/// Whether the same owner should ask again: there was no reply, or one that is true only now.
pub fn is_passing(error: &RedisError) -> bool {
    const NOW: [&str; 12] = [
        "UNBLOCKED",
        "READONLY",
        "TRYAGAIN",
        "MOVED",
        "ASK",
        "LOADING",
        "BUSY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        // The server writes nothing for now: as a new primary that no replica follows yet, or without disk or memory.
        "NOREPLICAS",
        "MISCONF",
        "OOM",
    ];
    let is_refused = matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::UnexpectedReturnType
    );
    !is_refused && error.code().is_none_or(|word| NOW.contains(&word))
}

/// Some time from so many to so many milliseconds.
pub(crate) fn jitter(from: u64, to: u64) -> Duration {
    Duration::from_millis(rand::random_range(from..to))
}
