//! One wait for a lock: first a place in line, then slices of waiting in it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use redis::{cmd, Cmd, FromRedisValue, RedisError, Value};
use tokio::sync::{watch, OwnedSemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::keeper::{Hold, Times};
use crate::line::{is_passing, jitter, least, word, Line, SLICE};
use crate::{Error, Lock};

/// How long a place in line outlives the last request for it, in ms.
const TICKET_MS: u64 = 5_000;
/// Without one good reply, after which a wait ends with the last error.
const PATIENCE: Duration = Duration::from_secs(10);

static PROCESS: LazyLock<String> = LazyLock::new(|| {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().take(64).collect();
    format!("{host}:{}", std::process::id())
});

/// What is wanted, and how. Await it.
#[must_use = "nothing is asked for before it is awaited"]
pub struct Acquire {
    line: Arc<Line>,
    keys: Vec<String>,
    owner: Option<String>,
    lease: Duration,
    renews: bool,
    /// Nothing for ever, zero for one try.
    wait: Option<Duration>,
    mode: Vec<String>,
}

impl Acquire {
    pub(crate) fn new(line: Arc<Line>, keys: Vec<String>, wait: Option<Duration>) -> Self {
        Self { line, keys, owner: None, lease: Duration::from_secs(30), renews: true, wait, mode: Vec::new() }
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
        self.mode.extend(["NOTE".to_owned(), note.into()]);
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
        Box::pin(Wait::new(self).run())
    }
}

/// One owner from the first request to the last. To drop it before it has a lock gives back what it may have.
struct Wait {
    asked: Acquire,
    owner: String,
    /// The server has a place in line for us.
    queued: bool,
    seat: Seat,
    /// Nothing was sent, or nothing is left.
    is_over: bool,
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
        if !self.is_over {
            self.asked.line.owe(self.cancel(), self.asked.lease);
        }
    }
}

impl Wait {
    fn new(mut asked: Acquire) -> Self {
        let name = || format!("{}:{:016x}", *PROCESS, rand::random::<u64>());
        let owner = asked.owner.take().unwrap_or_else(name);
        Self { asked, owner, queued: false, seat: Seat::None, is_over: true }
    }

    fn cancel(&self) -> Cmd {
        let mut request;
        if let [key] = self.asked.keys.as_slice() {
            request = cmd("LOCK.RELEASE");
            request.arg(key).arg(&self.owner);
        } else {
            request = cmd("LOCK.MRELEASE");
            request.arg(&self.owner).arg(self.asked.keys.len()).arg(&self.asked.keys);
        }
        request.arg("CANCEL");
        request
    }

    fn request(&self, block: Duration) -> Cmd {
        let mut request;
        if let [key] = self.asked.keys.as_slice() {
            request = cmd("LOCK.ACQUIRE");
            request.arg(key).arg(&self.owner);
        } else {
            request = cmd("LOCK.MACQUIRE");
            request.arg(&self.owner).arg(self.asked.keys.len()).arg(&self.asked.keys);
        }
        request.arg("PX").arg(self.asked.lease.as_millis() as u64).arg(&self.asked.mode);
        if !block.is_zero() {
            request.arg("BLOCK").arg(block.as_millis() as u64);
        }
        if self.asked.wait != Some(Duration::ZERO) {
            request.arg("QUEUE").arg(TICKET_MS);
        }
        request
    }

    async fn run(mut self) -> Result<Lock, Error> {
        let result = self.stand().await;
        match &result {
            Ok(_) => self.is_over = true,
            Err(_) if !self.is_over => {
                self.is_over = self.asked.line.ask(&self.cancel(), SLICE).await.is_ok();
            }
            Err(_) => {}
        }
        result
    }

    async fn stand(&mut self) -> Result<Lock, Error> {
        let is_try = self.asked.wait == Some(Duration::ZERO);
        let end = self.asked.wait.filter(|_| !is_try).map(|wait| Instant::now() + wait);
        let mut good = Instant::now();
        let mut failed = 0;
        loop {
            if self.asked.line.closed.load(SeqCst) {
                return Err(Error::Closed);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) && !self.is_over && failed == 0 {
                return Err(Error::Busy);
            }
            match self.once(left).await {
                Ok(Some(hold)) => {
                    let (line, hold) = (Arc::clone(&self.asked.line), Arc::new(hold));
                    line.keep(Arc::clone(&hold));
                    return Ok(Lock { line, hold });
                }
                Ok(None) if is_try => {
                    self.is_over = true;
                    return Err(Error::Busy);
                }
                Ok(None) => (good, failed) = (Instant::now(), 0),
                Err(error) => {
                    self.queued = false;
                    match word(&error) {
                        // A string: somebody who uses SET NX has the lock.
                        Some("WRONGTYPE") if is_try => return Err(Error::Busy),
                        Some("WRONGTYPE") => {
                            (good, failed) = (Instant::now(), 0);
                            sleep(left.unwrap_or(SLICE).min(Duration::from_millis(100))).await;
                            continue;
                        }
                        Some("DEADLOCK") => {
                            return Err(Error::Deadlock(error.detail().unwrap_or_default().to_owned()))
                        }
                        _ => failed += 1,
                    }
                    let is_too_long = good.elapsed() > PATIENCE || is_try && failed > 1;
                    if !is_passing(&error) || is_too_long || left == Some(Duration::ZERO) {
                        return Err(error.into());
                    }
                    sleep(jitter(20, 200)).await;
                }
            }
        }
    }

    /// Sends one request. Returns `None` if the lock is busy.
    async fn once(&mut self, left: Option<Duration>) -> Result<Option<Hold>, RedisError> {
        let line = Arc::clone(&self.asked.line);
        let mut block = Duration::ZERO;
        let left = left.unwrap_or(SLICE);
        let has_seat = self.queued && self.seat.take(&line, left.min(jitter(250, 700))).await;
        if has_seat {
            block = left.clamp(Duration::from_millis(1), SLICE);
        }
        self.is_over = false;
        let (request, sent) = (self.request(block), Instant::now());
        let reply = if has_seat {
            line.wait(&request, block + line.reply).await
        } else {
            line.send(&request, line.reply).await
        };
        let fence = match reply? {
            Value::Nil => {
                self.queued = true;
                return Ok(None);
            }
            Value::ServerError(error) => return Err(error.into()),
            fence => i64::from_redis_value(fence)?,
        };
        let lease = self.asked.lease;
        let hold = |until| Hold {
            keys: self.asked.keys.clone(),
            owner: self.owner.clone(),
            fence,
            renews: self.asked.renews,
            lost: watch::Sender::new(None),
            times: Mutex::new(Times::new(lease, until)),
        };
        if !self.queued {
            return Ok(Some(hold(sent + lease)));
        }
        // The turn may have come some time ago: claim it, and count from now.
        let (granted, sent) = (hold(sent + lease), Instant::now());
        let left = line.send(&granted.renewal(lease), line.reply).await.and_then(least)?;
        if left == 0 {
            // Too late, the next in line has it; so stand in line again.
            self.queued = false;
            return Ok(None);
        }
        Ok(Some(hold(sent + Duration::from_millis(left.unsigned_abs()))))
    }
}
