//! What is held: renewed in time, all that is due in one go, and told of when it is lost.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, RedisError, RedisResult};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::info::reason;
use crate::line::{again, is_passing, jitter, least, lock, Line, SLICE};
use crate::moment::Moment;
use crate::names::{with_info, Names};
use crate::Error;

/// By how much what the server gives may fall short of the lease though nothing caps it.
const ROUNDING: Duration = Duration::from_millis(20);

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
    pub(crate) renewed: Notify,
    pub(crate) times: Mutex<Times>,
    /// In which it was granted: it may be dropped outside of any.
    pub(crate) runtime: Handle,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) lease: Duration,
    /// When the lease ends, by our own clock.
    pub(crate) until: Moment,
    /// When the request was sent by which it lasts so long.
    sent: Moment,
    /// The server gave less than the lease: the greatest length of the hold ends it then, and no renewal helps.
    pub(crate) is_capped: bool,
    /// When it is to be renewed; never, while this is being done, or if it is not wanted.
    due: Option<Moment>,
}

impl Times {
    /// Given so long by a request that was sent at this moment.
    pub(crate) fn new(lease: Duration, given: Duration, sent: Moment) -> Self {
        Self { lease, until: sent.after(given), sent, is_capped: given + ROUNDING < lease, due: None }
    }

    fn next(&self) -> Moment {
        self.due.map_or(self.until, |due| due.min(self.until))
    }

    fn is_over(&self) -> bool {
        self.until <= Moment::now()
    }

    /// What ends a hold of which the server has told no other end.
    fn end(&self) -> &'static str {
        if self.is_capped {
            "max-hold"
        } else {
            "lease-over"
        }
    }
}

impl Hold {
    pub(crate) fn lease(&self) -> Duration {
        lock(&self.times).lease
    }

    /// Plans the next renewal, a little early and never at the same moment everywhere.
    fn plan(&self) -> Moment {
        let mut times = lock(&self.times);
        let due = || Moment::now().after(times.lease.mul_f64(rand::random_range(0.28..0.33)));
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
        let times = *lock(&self.times);
        if self.end.get().is_none() && times.is_over() {
            self.end(Some(times.end()));
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
    wakes: Option<Moment>,
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

    /// Whether the same owner has it once more: what ends one of them ends the other, too.
    pub(crate) fn has_twin(&self, hold: &Hold) -> bool {
        let is_twin = |other: &Arc<Hold>| {
            !std::ptr::eq(Arc::as_ptr(other), hold)
                && other.fence == hold.fence
                && other.names.owner == hold.names.owner
        };
        lock(&self.kept).holds.values().any(is_twin)
    }

    /// Asks nobody itself: who has a short lease does not wait for the renewal of others.
    async fn keeper(self: Arc<Self>, mut keeper: Keeper) {
        let mut idle = false;
        loop {
            let (now, mut due) = (Moment::now(), Vec::new());
            let next = {
                let mut kept = lock(&self.kept);
                kept.holds.retain(|_, hold| {
                    let mut times = lock(&hold.times);
                    if times.until <= now {
                        hold.end(Some(times.end()));
                    } else if times.due.is_some_and(|at| at <= now.after(times.lease / 12)) {
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
                // What sleeps here does not count the time in which the machine does. And who is given back just now, and comes
                // again, is no reason to wake: till then there is another look.
                let soon = now.after(SLICE);
                *kept.wakes.insert(next.map_or(soon, |next| next.min(soon)))
            };
            if !due.is_empty() {
                let line = Arc::clone(&self);
                tokio::spawn(async move { line.renew_all(&due).await });
            }
            let _ = timeout(next.left(), self.wake.notified()).await;
        }
    }

    async fn renew_all(&self, due: &[Arc<Hold>]) {
        let sent = Moment::now();
        let wanted: Vec<_> = due.iter().map(|hold| (&*hold.names, hold.lease(), hold.fence)).collect();
        let limit = wanted.iter().map(|wanted| wanted.1).min().map_or(self.reply, |least| least / 6);
        let replies = self.renewals(&wanted, limit.max(Duration::from_millis(20))).await;
        let heard = due.iter().zip(&wanted).zip(replies);
        join_all(heard.map(|((hold, wanted), reply)| self.heard(hold, wanted.1, sent, reply))).await;
    }

    /// Asks for new leases, for all in one go. Returns what each has left, in ms.
    pub(crate) async fn renewals(
        &self,
        wanted: &[(&Names, Duration, i64)],
        limit: Duration,
    ) -> Vec<RedisResult<u64>> {
        let (mut requests, mut counts) = (Vec::new(), Vec::new());
        for (names, lease, fence) in wanted {
            let renewals = names.renewals(*lease, *fence);
            counts.push(renewals.len());
            requests.extend(renewals.into_iter().map(|request| (request, *names)));
        }
        let mut replies = self.send_all(&requests, limit).await.into_iter();
        let mut next = |count| {
            let all: Vec<_> = replies.by_ref().take(count).collect();
            let lefts: RedisResult<Vec<i64>> = all.into_iter().map(|reply| reply.and_then(least)).collect();
            lefts.map(|lefts| lefts.into_iter().min().unwrap_or(0).unsigned_abs())
        };
        counts.into_iter().map(&mut next).collect()
    }

    /// Claims what came by waiting: a renewal, if it can be on the thread of the caller, who is awake by now. Returns what is
    /// left, in ms.
    pub(crate) async fn claim(&self, names: &Names, lease: Duration, fence: i64) -> RedisResult<u64> {
        let request = names.renewals(lease, fence).swap_remove(0);
        match self.send_here(names, &request).map(|reply| reply.and_then(least)) {
            Some(reply) if !reply.as_ref().is_err_and(is_passing) => reply.map(i64::unsigned_abs),
            // The caller's own connection may have ended while it lay idle.
            _ => Box::pin(self.renewals(&[(names, lease, fence)], self.reply)).await.pop().unwrap_or(Ok(0)),
        }
    }

    /// What the server says to a renewal.
    async fn heard(&self, hold: &Hold, lease: Duration, sent: Moment, reply: RedisResult<u64>) {
        match reply {
            Ok(0) => match self.why_not_renewed(hold, lease).await {
                Some(reason) => self.lose(hold, &reason),
                // Another server has said so than the one that has it: an old primary.
                None => self.renew_soon(hold, lease),
            },
            Ok(left) => self.renewed(hold, lease, sent, left),
            Err(error) if error.code() == Some("WRONGTYPE") => self.lose(hold, "overwritten"),
            Err(error) if !is_passing(&error) => self.lose(hold, error.code().unwrap_or("unknown")),
            Err(_) => self.renew_soon(hold, lease),
        }
    }

    /// The server has given it so long from this moment.
    fn renewed(&self, hold: &Hold, lease: Duration, sent: Moment, left_ms: u64) {
        {
            let mut times = lock(&hold.times);
            // The reply to an earlier request may be read after that to a later one.
            if times.sent <= sent {
                *times = Times::new(lease, Duration::from_millis(left_ms), sent);
            }
        }
        self.wake_by(hold.plan());
        hold.renewed.notify_one();
    }

    fn renew_soon(&self, hold: &Hold, lease: Duration) {
        let soon = Moment::now().after(jitter(5, 300).min(lease / 12));
        lock(&hold.times).due = Some(soon);
        self.wake_by(soon);
    }

    /// The connection is another one now: what was tied to the one before is to be tied to this.
    pub(crate) fn tie_again(&self) {
        let kept = lock(&self.kept);
        let tied = kept.holds.values().filter(|hold| hold.renews && hold.names.tied.is_some());
        for hold in tied {
            // One that is being renewed has no such moment, and goes over the next connection if it must.
            lock(&hold.times).due.iter_mut().for_each(|due| *due = Moment::now());
        }
        drop(kept);
        self.wake.notify_one();
    }

    fn wake_by(&self, next: Moment) {
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

    /// Why the hold has ended, in the words of the server: asks the same again of each lock, and for the reason. Returns `None`
    /// if none of them has ended.
    async fn why(&self, hold: &Hold, ask: impl Fn(&[u8]) -> Cmd) -> Option<String> {
        for key in &hold.names.keys {
            let reply = self.send(&hold.names, &with_info(ask(key)), SLICE).await;
            // Whoever has lost the lock is not to be kept waiting for the reason.
            if let Some(reason) = reason(reply).unwrap_or_else(|_| Some("unknown".to_owned())) {
                return Some(reason);
            }
        }
        None
    }

    async fn why_not_renewed(&self, hold: &Hold, lease: Duration) -> Option<String> {
        self.why(hold, |key| hold.names.renew_one(key, lease, hold.fence)).await
    }

    pub(crate) async fn renew(&self, hold: &Hold, lease: Option<Duration>) -> Result<(), Error> {
        let (sent, lease) = (Moment::now(), lease.unwrap_or_else(|| hold.lease()));
        let wanted = [(&*hold.names, lease, hold.fence)];
        let renewal = || async { self.renewals(&wanted, self.reply).await.pop().unwrap_or(Ok(0)) };
        match again(renewal).await {
            Ok(0) => match self.why_not_renewed(hold, lease).await {
                None => {
                    self.renew_soon(hold, lease);
                    Ok(())
                }
                reason => Err(self.found(hold, reason)),
            },
            Ok(left) => {
                self.renewed(hold, lease, sent, left);
                Ok(())
            }
            Err(error) => Err(self.refused(hold, error)),
        }
    }

    /// A caller who goes away meanwhile still has the hold, and the drop of it gives it back.
    pub(crate) async fn release(&self, hold: &Hold) -> Result<(), Error> {
        hold.leave();
        let request = hold.names.release(hold.fence);
        let reply = self.ask(&hold.names, &request, Duration::from_millis(1500)).await;
        if !reply.as_ref().is_err_and(is_passing) {
            self.forget(hold);
        }
        match reply {
            Ok(0) => {
                let why = self.why(hold, |key| hold.names.release_one(key, hold.fence));
                let reason = Box::pin(why).await;
                Err(self.found(hold, reason))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused(hold, error)),
        }
    }

    /// The caller has found that the hold is lost.
    fn found(&self, hold: &Hold, reason: Option<String>) -> Error {
        let reason = reason.unwrap_or_else(|| "unknown".to_owned());
        self.forget(hold);
        hold.end(Some(&reason));
        Error::Lost(reason)
    }

    fn refused(&self, hold: &Hold, error: RedisError) -> Error {
        match error.code() {
            Some("WRONGTYPE") => self.found(hold, Some("overwritten".to_owned())),
            _ => error.into(),
        }
    }

    pub(crate) async fn ttl(&self, hold: &Hold) -> Result<Duration, Error> {
        if hold.lost_reason().is_some() {
            return Ok(Duration::ZERO);
        }
        let check = |key: &[u8]| hold.names.check(key, hold.fence);
        let mut left = i64::MAX;
        for key in &hold.names.keys {
            left = match self.ask(&hold.names, &check(key), self.reply.min(SLICE)).await {
                Ok(ms) => left.min(ms),
                Err(error) if error.code() == Some("WRONGTYPE") => 0,
                Err(error) => return Err(error.into()),
            };
        }
        if left == 0 {
            let reason = self.why(hold, check).await;
            self.seen(hold, reason.as_deref());
            if reason.as_deref() == Some("recovering") {
                return match self.renew(hold, None).await {
                    Err(Error::Lost(_)) => Ok(Duration::ZERO),
                    result => result.map(|()| hold.lease()),
                };
            }
        }
        Ok(Duration::from_millis(left.unsigned_abs()))
    }
}
