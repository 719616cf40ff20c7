//! One wait for a lock: first a place in line, then slices of waiting in it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::keeper::{Hold, Times};
use crate::line::{is_passing, jitter, least, Busy, Line, SLICE};
use crate::names::Names;
use crate::{Error, Lock};

/// How long a place in line outlives the last request for it, in ms.
const TICKET_MS: u64 = 5_000;
/// Without one good reply, after which a wait ends with the last error.
const PATIENCE: Duration = Duration::from_secs(10);

static HOST: LazyLock<String> = LazyLock::new(|| {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().chars().take(64).collect()
});

/// What is wanted, and how. Await it.
#[must_use = "nothing is asked for before it is awaited"]
pub struct Acquire {
    line: Arc<Line>,
    keys: Vec<String>,
    owner: Option<String>,
    lease: Duration,
    renews: bool,
    watches: bool,
    /// Nothing for ever, zero for one try.
    wait: Option<Duration>,
    mode: Vec<String>,
    note: Option<String>,
}

impl Acquire {
    pub(crate) fn new(line: Arc<Line>, keys: Vec<String>, wait: Option<Duration>) -> Self {
        let lease = Duration::from_secs(30);
        Self {
            line,
            keys,
            owner: None,
            lease,
            renews: true,
            watches: false,
            wait,
            mode: Vec::new(),
            note: None,
        }
    }

    /// Waits no longer than this; the error is [`Error::Busy`] then.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// How long the lock lasts without a word from its holder, 30 s if not said. It is renewed at a third of it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Lets the lock end with its lease.
    pub fn without_renewal(mut self) -> Self {
        self.renews = false;
        self
    }

    /// Tells of a loss at once, and not by the next renewal. It takes one more connection for all that watch, and a request for
    /// each lock and change; not in a cluster.
    pub fn watch(mut self) -> Self {
        self.watches = true;
        self
    }

    /// For a reader: many hold the lock together, and no writer meanwhile.
    pub fn shared(mut self) -> Self {
        self.mode.push("SHARED".to_owned());
        self
    }

    /// Takes permits of a semaphore. All who use the key say the same limit.
    pub fn permits(mut self, limit: u32, permits: u32) -> Self {
        let words = ["LIMIT".to_owned(), limit.to_string(), "PERMITS".to_owned(), permits.to_string()];
        self.mode.extend(words);
        self
    }

    /// What LOCK.INFO shows beside the holder.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Names the holder. Locks of one piece of work under one name let the server find deadlocks between them.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Lock, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run(self))
    }
}

/// One owner from the first request to the last. To drop it before it has a lock gives back what it may have.
struct Wait {
    line: Arc<Line>,
    names: Arc<Names>,
    lease: Duration,
    renews: bool,
    watches: bool,
    note: Option<String>,
    is_try: bool,
    /// The program chose the owner, who may have the lock by another call then.
    named: bool,
    end: Option<Instant>,
    runtime: Handle,
    /// The server has a place in line for us.
    queued: bool,
    seat: Seat,
    /// How often to say that nothing is wanted any more: not at all if nothing was asked, and twice while a request is without
    /// a reply. It may stand in another connection, and be read after the first.
    owed: u32,
    _busy: Busy,
}

/// Whether we may wait on a connection of our own. Whoever came first has one first, and keeps it to the end of the wait.
enum Seat {
    None,
    InRow(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    Has { _permit: OwnedSemaphorePermit },
}

impl Seat {
    /// Gets into the row, and stands there for so long at most; whether there is a seat.
    async fn take(&mut self, line: &Line, patience: Duration) -> bool {
        if matches!(self, Self::None) {
            let seats = Arc::clone(&line.seats);
            *self = Self::InRow(Box::pin(async move { seats.acquire_owned().await.ok() }));
        }
        if let Self::InRow(row) = self {
            if let Ok(Some(permit)) = timeout(patience, row).await {
                *self = Self::Has { _permit: permit };
            }
        }
        matches!(self, Self::Has { .. })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.owed > 0 {
            self.line.owe(&self.runtime, &self.names, self.names.cancel(), self.owed, self.lease);
        }
    }
}

async fn run(asked: Acquire) -> Result<Lock, Error> {
    let Acquire { line, keys, owner, lease, renews, watches, wait, mode, note } = asked;
    let named = owner.is_some();
    let owner =
        owner.unwrap_or_else(|| format!("{}:{}:{:016x}", *HOST, std::process::id(), rand::random::<u64>()));
    let is_try = wait == Some(Duration::ZERO);
    let mut wait = Wait {
        names: Arc::new(Names { keys, owner, mode }),
        lease,
        renews,
        watches,
        note,
        is_try,
        named,
        // One that would end after the last moment of the clock never ends.
        end: wait.filter(|_| !is_try).and_then(|wait| Instant::now().checked_add(wait)),
        runtime: Handle::current(),
        queued: false,
        seat: Seat::None,
        owed: 0,
        _busy: Busy::new(&line),
        line: Arc::clone(&line),
    };
    let result = wait.stand().await;
    match &result {
        Ok(_) => wait.owed = 0,
        Err(_) if wait.owed > 0 && line.ask(&wait.names, &wait.names.cancel(), SLICE).await.is_ok() => {
            wait.owed -= 1;
        }
        Err(_) => {}
    }
    result
}

impl Wait {
    async fn stand(&mut self) -> Result<Lock, Error> {
        let (mut good, mut failed) = (Instant::now(), 0);
        loop {
            if self.line.is_closed() {
                return Err(Error::Closed);
            }
            let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) && self.owed > 0 && failed == 0 {
                return Err(Error::Busy);
            }
            let error = match self.once(left).await {
                Ok(Some(hold)) => {
                    let (line, hold) = (Arc::clone(&self.line), Arc::new(hold));
                    return if line.keep(&hold) { Ok(Lock { line, hold }) } else { Err(Error::Closed) };
                }
                Ok(None) if self.is_try => {
                    if failed == 0 {
                        self.owed = 0;
                    }
                    return Err(Error::Busy);
                }
                Ok(None) => {
                    (good, failed) = (Instant::now(), 0);
                    continue;
                }
                Err(error) => error,
            };
            self.queued = false;
            match error.code() {
                // A string: somebody who uses SET NX has the lock.
                Some("WRONGTYPE") if self.is_try => return Err(Error::Busy),
                Some("RECOVERING") if self.is_try => {
                    // Another call may have it; or this one, as a client for clusters sends again by itself.
                    if self.named && failed == 0 {
                        self.owed = 0;
                    }
                    return Err(Error::Busy);
                }
                // After a failover: it is ours, or was, and this is known when the recovery window is over.
                Some("WRONGTYPE" | "RECOVERING") => {
                    (good, failed) = (Instant::now(), 0);
                    sleep(left.unwrap_or(SLICE).min(Duration::from_millis(100))).await;
                    continue;
                }
                Some("DEADLOCK") => {
                    return Err(Error::Deadlock(error.detail().unwrap_or_default().to_owned()))
                }
                _ => failed += 1,
            }
            let is_too_long = good.elapsed() > PATIENCE || self.is_try && failed > 1;
            if self.line.is_closed() {
                return Err(Error::Closed);
            }
            if !is_passing(&error) || is_too_long || left == Some(Duration::ZERO) {
                return Err(error.into());
            }
            sleep(jitter(20, 200)).await;
        }
    }

    fn request(&self, block: Duration) -> Cmd {
        let mut request = self.names.acquire(self.lease.as_millis() as u64);
        if let Some(note) = &self.note {
            request.arg("NOTE").arg(note);
        }
        if !block.is_zero() {
            request.arg("BLOCK").arg(block.as_millis() as u64);
        }
        if !self.is_try {
            request.arg("QUEUE").arg(TICKET_MS);
        }
        request
    }

    /// Sends one request. Returns `None` if the lock is busy.
    async fn once(&mut self, left: Option<Duration>) -> RedisResult<Option<Hold>> {
        let line = Arc::clone(&self.line);
        let (mut block, left) = (Duration::ZERO, left.unwrap_or(SLICE));
        if self.queued && self.seat.take(&line, left.min(jitter(250, 700))).await {
            block = left.clamp(Duration::from_millis(1), SLICE);
        }
        let (request, sent) = (self.request(block), Instant::now());
        let owed = std::mem::replace(&mut self.owed, 2);
        let reply = if block.is_zero() {
            line.send(&self.names, &request, line.reply).await
        } else {
            line.wait(&self.names, &request, block + line.reply).await
        };
        if reply.as_ref().is_ok() || reply.as_ref().is_err_and(|error| error.code().is_some()) {
            self.owed = owed.max(1);
        }
        let fence = match reply? {
            Value::Nil => {
                self.queued = !self.is_try;
                return Ok(None);
            }
            fence => i64::from_redis_value(fence)?,
        };
        let mut until = sent + self.lease;
        if !block.is_zero() {
            // The turn may have come some time ago: claim it, and count from now.
            let (claim, sent) = (self.names.renewal(self.lease.as_millis() as u64, fence), Instant::now());
            let left = line.send(&self.names, &claim, line.reply).await.and_then(least)?;
            if left == 0 {
                // Too late, the next in line has it; so stand in line again.
                self.queued = false;
                return Ok(None);
            }
            until = sent + Duration::from_millis(left.unsigned_abs());
        }
        Ok(Some(Hold {
            names: Arc::clone(&self.names),
            fence,
            renews: self.renews,
            watches: self.watches,
            look: AtomicBool::new(true),
            end: OnceLock::new(),
            told: Notify::new(),
            times: Mutex::new(Times::new(self.lease, until)),
            runtime: self.runtime.clone(),
        }))
    }
}
