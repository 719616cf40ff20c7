//! What is held: renewed in time, all that is due in one go, and told of when it is lost.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{FromRedisValue, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::line::{is_passing, jitter, least, lock, Line, SLICE};
use crate::names::Names;
use crate::Error;

/// How long the task that renews stays when nothing is held.
const LINGER: Duration = Duration::from_secs(1);

/// One grant.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) names: Arc<Names>,
    pub(crate) fence: i64,
    pub(crate) renews: bool,
    /// Whether a loss is to be told at once, and whether the server is to be asked about it.
    pub(crate) watches: bool,
    pub(crate) look: AtomicBool,
    /// How it ended: lost, for this reason, or given back.
    pub(crate) end: OnceLock<Option<String>>,
    pub(crate) told: Notify,
    pub(crate) times: Mutex<Times>,
    /// In which it was granted: it may be dropped outside of any.
    pub(crate) runtime: Handle,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) lease: Duration,
    /// When the lease ends, by our own clock.
    until: Instant,
    /// When it is to be renewed; never, while this is being done, or if it is not wanted.
    due: Option<Instant>,
}

impl Times {
    pub(crate) fn new(lease: Duration, until: Instant) -> Self {
        Self { lease, until, due: None }
    }

    fn next(&self) -> Instant {
        self.due.map_or(self.until, |due| due.min(self.until))
    }
}

impl Hold {
    pub(crate) fn lease(&self) -> Duration {
        lock(&self.times).lease
    }

    /// Plans the next renewal, a little early and never at the same moment everywhere.
    fn plan(&self) -> Instant {
        let mut times = lock(&self.times);
        let due = || Instant::now() + times.lease.mul_f64(rand::random_range(0.28..0.33));
        times.due = self.renews.then(due);
        times.next()
    }

    /// Nobody renews it any more.
    pub(crate) fn leave(&self) {
        lock(&self.times).due = None;
    }

    /// What is said first counts.
    pub(crate) fn end(&self, reason: Option<&str>) {
        if self.end.set(reason.map(str::to_owned)).is_ok() {
            self.told.notify_waiters();
        }
    }

    /// Why it was lost, by our own clock if nobody has told.
    pub(crate) fn lost_reason(&self) -> Option<&str> {
        if self.end.get().is_none() && lock(&self.times).until <= Instant::now() {
            self.end(Some("lease-over"));
        }
        self.end.get()?.as_deref()
    }

    /// Waits for its end. Returns `None` if it was given back.
    pub(crate) async fn ended(&self) -> Option<String> {
        loop {
            let told = self.told.notified();
            if let Some(end) = self.end.get() {
                return end.clone();
            }
            told.await;
        }
    }
}

/// The holds by their addresses, and when the task that keeps them wakes; nothing if there is none.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) holds: HashMap<usize, Arc<Hold>>,
    wakes: Option<Instant>,
}

/// A task that ends with its runtime makes room for another.
struct Keeper(Option<Arc<Line>>);

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            lock(&line.kept).wakes = None;
        }
    }
}

impl Line {
    /// Returns `false` if the locks were closed meanwhile.
    pub(crate) fn keep(self: &Arc<Self>, hold: &Arc<Hold>) -> bool {
        let mut kept = lock(&self.kept);
        if self.is_closed() {
            return false;
        }
        kept.holds.insert(Arc::as_ptr(hold) as usize, Arc::clone(hold));
        let next = hold.plan();
        match kept.wakes {
            None => {
                kept.wakes = Some(next);
                let keeper = Keeper(Some(Arc::clone(self)));
                hold.runtime.spawn(Arc::clone(self).keeper(keeper));
            }
            Some(wakes) if next < wakes => self.wake.notify_one(),
            Some(_) => {}
        }
        if hold.watches {
            self.listen(&hold.runtime);
        }
        true
    }

    /// Whether it was still known.
    pub(crate) fn forget(&self, hold: &Hold) -> bool {
        lock(&self.kept).holds.remove(&(std::ptr::from_ref(hold) as usize)).is_some()
    }

    /// Asks nobody itself: who has a short lease does not wait for the renewal of others.
    async fn keeper(self: Arc<Self>, mut keeper: Keeper) {
        let mut idle = false;
        loop {
            let (now, mut due) = (Instant::now(), Vec::new());
            let next = {
                let mut kept = lock(&self.kept);
                kept.holds.retain(|_, hold| {
                    let mut times = lock(&hold.times);
                    if times.until <= now {
                        hold.end(Some("lease-over"));
                    } else if times.due.is_some_and(|at| at <= now + times.lease / 12) {
                        times.due = None;
                        due.push(Arc::clone(hold));
                    }
                    times.until > now
                });
                let next = kept.holds.values().map(|hold| lock(&hold.times).next()).min();
                if next.is_none() && (idle || self.is_closed()) {
                    // Under the lock: whoever comes next finds that nobody keeps the holds.
                    kept.wakes = None;
                    keeper.0 = None;
                    return;
                }
                idle = next.is_none();
                *kept.wakes.insert(next.unwrap_or(now + LINGER))
            };
            if !due.is_empty() {
                let line = Arc::clone(&self);
                tokio::spawn(async move { line.renew_all(&due).await });
            }
            let pause = next.saturating_duration_since(Instant::now());
            let _ = timeout(pause, self.wake.notified()).await;
        }
    }

    async fn renew_all(&self, due: &[Arc<Hold>]) {
        let sent = Instant::now();
        let leases: Vec<Duration> = due.iter().map(|hold| hold.lease()).collect();
        let limit = leases.iter().min().map_or(self.reply, |least| *least / 6);
        let mut requests = Vec::new();
        for (hold, lease) in due.iter().zip(&leases) {
            requests.push((hold.names.renewal(lease.as_millis() as u64, hold.fence), &*hold.names));
        }
        let replies = self.send_all(&requests, limit.max(Duration::from_millis(20))).await;
        let heard = due.iter().zip(leases).zip(replies);
        join_all(heard.map(|((hold, lease), reply)| self.heard(hold, lease, sent, reply))).await;
    }

    /// What the server says to a renewal.
    async fn heard(&self, hold: &Hold, lease: Duration, sent: Instant, reply: RedisResult<Value>) {
        match reply.and_then(least) {
            Ok(0) => self.lose(hold, &self.why(hold).await),
            Ok(left) => self.renewed(hold, lease, sent, left),
            Err(error) if error.code() == Some("WRONGTYPE") => self.lose(hold, "overwritten"),
            Err(error) if !is_passing(&error) => self.lose(hold, error.code().unwrap_or("unknown")),
            Err(_) => {
                let soon = Instant::now() + jitter(5, 300).min(lease / 12);
                lock(&hold.times).due = Some(soon);
                self.wake_by(soon);
            }
        }
    }

    /// The server has given it so long from this moment.
    fn renewed(&self, hold: &Hold, lease: Duration, sent: Instant, left_ms: i64) {
        let until = sent + Duration::from_millis(left_ms.unsigned_abs());
        *lock(&hold.times) = Times::new(lease, until);
        self.wake_by(hold.plan());
    }

    fn wake_by(&self, next: Instant) {
        if lock(&self.kept).wakes.is_some_and(|wakes| next < wakes) {
            self.wake.notify_one();
        }
    }

    /// Tells of the loss of a hold that nobody has released meanwhile.
    fn lose(&self, hold: &Hold, reason: &str) {
        if self.forget(hold) {
            hold.end(Some(reason));
        }
    }

    /// What the server says of a hold: nothing, or why there is none. Tells of a loss.
    pub(crate) fn seen(&self, hold: &Hold, reason: Option<&str>) {
        // After a failover the server may not have heard of it, and a renewal brings it back.
        if let Some(reason) = reason.filter(|reason| *reason != "recovering") {
            self.lose(hold, reason);
        }
    }

    /// Why the hold has ended, in the words of the server.
    async fn why(&self, hold: &Hold) -> String {
        for key in &hold.names.keys {
            let reply = self.send(&hold.names, &hold.names.look(key, hold.fence), SLICE).await;
            if let Ok(Some(reason)) = reason(reply) {
                return reason;
            }
        }
        "unknown".to_owned()
    }

    pub(crate) async fn renew(&self, hold: &Hold, lease: Option<Duration>) -> Result<(), Error> {
        let (sent, lease) = (Instant::now(), lease.unwrap_or_else(|| hold.lease()));
        let request = hold.names.renewal(lease.as_millis() as u64, hold.fence);
        let reply = self.ask(&hold.names, &request, self.reply).await;
        if let Ok(left @ 1..) = reply {
            self.renewed(hold, lease, sent, left);
        }
        self.verdict(hold, reply).await
    }

    /// A caller who goes away meanwhile still has the hold, and the drop of it gives it back.
    pub(crate) async fn release(&self, hold: &Hold) -> Result<(), Error> {
        hold.leave();
        let request = hold.names.release(hold.fence);
        let reply = self.ask(&hold.names, &request, Duration::from_millis(1500)).await;
        if !reply.as_ref().is_err_and(is_passing) {
            self.forget(hold);
        }
        self.verdict(hold, reply).await
    }

    async fn verdict(&self, hold: &Hold, reply: RedisResult<i64>) -> Result<(), Error> {
        let reason = match reply {
            Ok(0) => self.why(hold).await,
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some("WRONGTYPE") => "overwritten".to_owned(),
            Err(error) => return Err(error.into()),
        };
        self.forget(hold);
        hold.end(Some(&reason));
        Err(Error::Lost(reason))
    }

    pub(crate) async fn ttl(&self, hold: &Hold) -> Result<Duration, Error> {
        if hold.lost_reason().is_some() {
            return Ok(Duration::ZERO);
        }
        let mut left = i64::MAX;
        for key in &hold.names.keys {
            left = match self.ask(&hold.names, &hold.names.check(key, hold.fence), self.reply).await {
                Ok(ms) => left.min(ms),
                Err(error) if error.code() == Some("WRONGTYPE") => 0,
                Err(error) => return Err(error.into()),
            };
        }
        if left == 0 {
            let reason = self.why(hold).await;
            self.seen(hold, Some(&reason));
            if reason == "recovering" {
                return match self.renew(hold, None).await {
                    Err(Error::Lost(_)) => Ok(Duration::ZERO),
                    result => result.map(|()| hold.lease()),
                };
            }
        }
        Ok(Duration::from_millis(left.unsigned_abs()))
    }
}

/// Why there is no hold, as the reply to a check says; nothing if there is one.
pub(crate) fn reason(reply: RedisResult<Value>) -> RedisResult<Option<String>> {
    let fields: Vec<Value> = match reply {
        Ok(Value::Array(fields)) => fields,
        Ok(Value::Map(pairs)) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        Ok(_) => return Ok(None),
        Err(error) if error.code() == Some("WRONGTYPE") => return Ok(Some("overwritten".to_owned())),
        Err(error) => return Err(error),
    };
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        let value = pairs.find_map(|pair| (text(&pair[0]).as_deref() == Some(name)).then(|| &pair[1]));
        value.and_then(text)
    };
    Ok(if field("result").as_deref() == Some("0") { field("reason") } else { None })
}

fn text(value: &Value) -> Option<String> {
    String::from_redis_value(value.clone()).ok()
}
