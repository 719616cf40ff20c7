//! What is held: renewed in time, all that is due in one go, and told of when it is lost.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{cmd, Cmd, FromRedisValue, RedisError, Value};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::line::{is_passing, jitter, least, lock, word, Line};
use crate::Error;

/// How long the task that renews stays when nothing is held.
const LINGER: Duration = Duration::from_secs(1);

/// One grant.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) keys: Vec<String>,
    pub(crate) owner: String,
    pub(crate) fence: i64,
    pub(crate) renews: bool,
    pub(crate) lost: watch::Sender<Option<String>>,
    pub(crate) times: Mutex<Times>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) lease: Duration,
    /// When the lease ends, by our own clock.
    pub(crate) until: Instant,
    /// When it is to be renewed.
    pub(crate) due: Instant,
}

impl Times {
    pub(crate) fn new(lease: Duration, until: Instant) -> Self {
        Self { lease, until, due: Instant::now() + lease.mul_f64(rand::random_range(0.28..0.33)) }
    }
}

impl Hold {
    pub(crate) fn lease(&self) -> Duration {
        lock(&self.times).lease
    }

    fn named(&self, verb: &str, verb_of_many: &str, before_keys: Option<u64>) -> Cmd {
        let mut request;
        if let [key] = self.keys.as_slice() {
            request = cmd(verb);
            request.arg(key).arg(&self.owner);
            before_keys.into_iter().for_each(|ms| {
                request.arg("PX").arg(ms);
            });
        } else {
            request = cmd(verb_of_many);
            request.arg(&self.owner);
            before_keys.into_iter().for_each(|ms| {
                request.arg(ms);
            });
            request.arg(self.keys.len()).arg(&self.keys);
        }
        request.arg("FENCE").arg(self.fence);
        request
    }

    pub(crate) fn release(&self) -> Cmd {
        self.named("LOCK.RELEASE", "LOCK.MRELEASE", None)
    }

    pub(crate) fn renewal(&self, lease: Duration) -> Cmd {
        self.named("LOCK.RENEW", "LOCK.MRENEW", Some(lease.as_millis() as u64))
    }

    pub(crate) fn lose(&self, reason: &str) {
        self.lost.send_if_modified(|lost| {
            let is_new = lost.is_none();
            if is_new {
                *lost = Some(reason.to_owned());
            }
            is_new
        });
    }

    /// The server has given it so long from this moment.
    fn renewed(&self, lease: Duration, sent: Instant, left_ms: i64) {
        let until = sent + Duration::from_millis(left_ms.unsigned_abs());
        *lock(&self.times) = Times::new(lease, until);
    }
}

impl Line {
    pub(crate) fn keep(self: &Arc<Self>, hold: Arc<Hold>) {
        lock(&self.holds).insert(hold.fence, hold);
        if self.keeps.swap(true, SeqCst) {
            self.wake.notify_one();
        } else {
            tokio::spawn(Arc::clone(self).keeper());
        }
    }

    /// Whether it was still known.
    pub(crate) fn forget(&self, hold: &Hold) -> bool {
        lock(&self.holds).remove(&hold.fence).is_some()
    }

    async fn keeper(self: Arc<Self>) {
        let mut idle = false;
        loop {
            let next = {
                let holds = lock(&self.holds);
                let next = |hold: &Arc<Hold>| {
                    let times = *lock(&hold.times);
                    if hold.renews {
                        times.due.min(times.until)
                    } else {
                        times.until
                    }
                };
                let next = holds.values().map(next).min();
                if next.is_none() && idle {
                    // Under the lock of the holds: whoever comes next finds that nobody keeps them.
                    self.keeps.store(false, SeqCst);
                    return;
                }
                next
            };
            idle = next.is_none();
            let pause = next.map_or(LINGER, |next| next.saturating_duration_since(Instant::now()));
            let _ = timeout(pause, self.wake.notified()).await;
            self.renew_due().await;
        }
    }

    async fn renew_due(&self) {
        let now = Instant::now();
        let (mut due, mut over) = (Vec::new(), Vec::new());
        for hold in lock(&self.holds).values() {
            let times = *lock(&hold.times);
            if times.until <= now {
                over.push(Arc::clone(hold));
            } else if hold.renews && times.due <= now + times.lease / 12 {
                due.push((Arc::clone(hold), times));
            }
        }
        for hold in over {
            self.forget(&hold);
            hold.lose("lease-over");
        }
        join_all(due.into_iter().map(|(hold, times)| self.renew_one(hold, times))).await;
    }

    async fn renew_one(&self, hold: Arc<Hold>, times: Times) {
        let sent = Instant::now();
        // Another one that is lost meanwhile must be told in time, too.
        let limit =
            (times.lease / 6).min(times.until.saturating_duration_since(sent)).max(Duration::from_millis(20));
        match self.send(&hold.renewal(times.lease), limit).await.and_then(least) {
            Ok(0) => drop(self.tell_loss(&hold).await),
            Ok(left) => hold.renewed(times.lease, sent, left),
            Err(error) => match word(&error) {
                Some("WRONGTYPE") => drop(self.tell_loss(&hold).await),
                Some(code) if !is_passing(&error) => {
                    self.forget(&hold);
                    hold.lose(code);
                }
                _ => lock(&hold.times).due = Instant::now() + jitter(5, 300).min(times.lease / 12),
            },
        }
    }

    async fn tell_loss(&self, hold: &Hold) -> String {
        let reason = self.why(hold).await;
        self.forget(hold);
        hold.lose(&reason);
        reason
    }

    /// Why the hold has ended, in the words of the server.
    async fn why(&self, hold: &Hold) -> String {
        for key in &hold.keys {
            let mut check = cmd("LOCK.CHECK");
            check.arg(key).arg(&hold.owner).arg("FENCE").arg(hold.fence).arg("WITHINFO");
            match self.send(&check, Duration::from_secs(1)).await {
                Ok(Value::Array(fields)) => {
                    let text = |at: usize| {
                        fields.get(at).cloned().and_then(|text| String::from_redis_value(text).ok())
                    };
                    if let (Some(Value::Int(0)), Some(reason)) = (fields.get(1), text(7)) {
                        return reason;
                    }
                }
                Err(error) if word(&error) == Some("WRONGTYPE") => return "overwritten".to_owned(),
                _ => {}
            }
        }
        "unknown".to_owned()
    }

    pub(crate) async fn renew(&self, hold: &Hold, lease: Option<Duration>) -> Result<(), Error> {
        let (sent, lease) = (Instant::now(), lease.unwrap_or_else(|| hold.lease()));
        let reply = self.ask(&hold.renewal(lease), self.reply).await;
        if let Ok(left @ 1..) = reply {
            hold.renewed(lease, sent, left);
            self.wake.notify_one();
        }
        self.verdict(hold, reply).await
    }

    pub(crate) async fn release(self: &Arc<Self>, hold: &Hold) -> Result<(), Error> {
        let reply = self.ask(&hold.release(), Duration::from_millis(1500)).await;
        if reply.as_ref().is_err_and(is_passing) {
            self.owe(hold.release(), hold.lease());
        }
        self.verdict(hold, reply).await
    }

    async fn verdict(&self, hold: &Hold, reply: Result<i64, RedisError>) -> Result<(), Error> {
        match reply {
            Ok(0) => Err(Error::Lost(self.tell_loss(hold).await)),
            Ok(_) => Ok(()),
            Err(error) if word(&error) == Some("WRONGTYPE") => Err(Error::Lost(self.tell_loss(hold).await)),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn ttl(&self, hold: &Hold) -> Result<Duration, Error> {
        let mut left = i64::MAX;
        for key in &hold.keys {
            let mut check = cmd("LOCK.CHECK");
            check.arg(key).arg(&hold.owner).arg("FENCE").arg(hold.fence);
            left = match self.ask(&check, self.reply).await {
                Ok(ms) => left.min(ms),
                Err(error) if word(&error) == Some("WRONGTYPE") => 0,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Duration::from_millis(left.unsigned_abs()))
    }
}
