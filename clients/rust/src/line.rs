//! The way to the server: one connection for requests that are answered at once, and some for those that wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, Value};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

use crate::keeper::Hold;

/// How long a reply may take, if not said otherwise.
pub(crate) const REPLY: Duration = Duration::from_secs(5);
/// How long one request waits in the server.
pub(crate) const SLICE: Duration = Duration::from_secs(1);
/// Connections that wait, at most. Whoever finds none asks now and then, and keeps its place.
const SEATS: usize = 16;
/// How often a request that may be repeated is sent.
const TRIES: u32 = 3;

/// A mutex that a panic elsewhere does not lock for ever.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Line {
    client: Client,
    /// How long a reply may take.
    pub(crate) reply: Duration,
    shared: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    idle: Mutex<Vec<MultiplexedConnection>>,
    pub(crate) seats: Arc<Semaphore>,
    pub(crate) holds: Mutex<HashMap<i64, Arc<Hold>>>,
    pub(crate) keeps: AtomicBool,
    pub(crate) wake: Notify,
    pub(crate) closed: AtomicBool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.client.get_connection_info().addr())
    }
}

impl Line {
    pub(crate) fn new(client: Client, reply: Duration) -> Self {
        Self {
            client,
            reply,
            shared: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            seats: Arc::new(Semaphore::new(SEATS)),
            holds: Mutex::default(),
            keeps: AtomicBool::new(false),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        // Each request has a limit of its own; the default of the client is shorter than a wait.
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(self.reply));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Sends a request over the connection that all share.
    pub(crate) async fn send(&self, cmd: &Cmd, limit: Duration) -> Result<Value, RedisError> {
        let request = async {
            let mut connection = {
                let mut shared = self.shared.lock().await;
                match &*shared {
                    Some(connection) => connection.clone(),
                    None => shared.insert(self.connect().await?).clone(),
                }
            };
            connection.send_packed_command(cmd).await
        };
        let reply = timeout(limit, request).await.unwrap_or_else(|_| Err(no_reply()));
        if reply.as_ref().is_err_and(is_broken) {
            *self.shared.lock().await = None;
        }
        reply
    }

    /// Sends a request that waits in the server, over a connection that nobody shares. One that breaks is not used again, nor
    /// is that of a caller who is gone.
    pub(crate) async fn wait(&self, cmd: &Cmd, limit: Duration) -> Result<Value, RedisError> {
        let request = async {
            let idle = lock(&self.idle).pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let reply = connection.send_packed_command(cmd).await;
            if !reply.as_ref().is_err_and(is_broken) {
                lock(&self.idle).push(connection);
            }
            reply
        };
        timeout(limit, request).await.unwrap_or_else(|_| Err(no_reply()))
    }

    /// Sends a request that may be sent twice. Returns the least of the numbers in the reply.
    pub(crate) async fn ask(&self, cmd: &Cmd, limit: Duration) -> Result<i64, RedisError> {
        let mut turn = 1;
        loop {
            match self.send(cmd, limit).await.and_then(least) {
                Err(error) if turn < TRIES && is_passing(&error) => {
                    sleep(turn * jitter(20, 100)).await;
                    turn += 1;
                }
                reply => return reply,
            }
        }
    }

    /// Sends a request in the background until it is answered, or this time is over.
    pub(crate) fn owe(self: &Arc<Self>, cmd: Cmd, limit: Duration) {
        let line = Arc::clone(self);
        // Without a runtime the lease ends what was to be given back.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let pay = async {
                while line.send(&cmd, SLICE).await.is_err_and(|error| is_passing(&error)) {
                    sleep(jitter(100, 300)).await;
                }
            };
            let _ = timeout(limit, pay).await;
        });
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, SeqCst);
        let holds: Vec<_> = lock(&self.holds).drain().map(|(_, hold)| hold).collect();
        for hold in holds {
            hold.lose("closed");
            let _ = self.ask(&hold.release(), SLICE).await;
        }
        self.wake.notify_one();
        lock(&self.idle).clear();
        *self.shared.lock().await = None;
    }
}

pub(crate) fn least(reply: Value) -> Result<i64, RedisError> {
    match reply {
        Value::Array(items) => {
            let numbers: Result<Vec<i64>, _> = items.into_iter().map(i64::from_redis_value).collect();
            Ok(numbers?.into_iter().min().unwrap_or(0))
        }
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(i64::from_redis_value(reply)?),
    }
}

/// The first word of what the server said; nothing if it said nothing.
pub(crate) fn word(error: &RedisError) -> Option<&str> {
    if is_broken(error) {
        return None;
    }
    error.code()
}

fn no_reply() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no reply in time").into()
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}

/// Whether the same owner should ask again: there was no reply, or one that is true only now.
pub(crate) fn is_passing(error: &RedisError) -> bool {
    const NOW: [&str; 9] =
        ["UNBLOCKED", "READONLY", "TRYAGAIN", "MOVED", "ASK", "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN"];
    word(error).is_none_or(|word| NOW.contains(&word))
}

/// Some time from so many to so many milliseconds.
pub(crate) fn jitter(from: u64, to: u64) -> Duration {
    Duration::from_millis(rand::random_range(from..to))
}
