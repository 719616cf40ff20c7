//! One wait for a lock: first a place in line, then slices of waiting in it.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, RedisResult};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::info::Info;
use crate::keeper::{Hold, Times};
use crate::line::{is_passing, jitter, Busy, Line, SLICE};
use crate::moment::Moment;
use crate::names::{ms, with_info, Names};
use crate::{Error, Lock};

/// How long a place in line outlives the last request for it.
const TICKET: Duration = Duration::from_secs(5);
/// Without one good reply, after which a wait ends with the last error.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes up a name for a holder: host, process, and a part that nobody else has.
pub fn owner_of(process: u32) -> String {
    static HOST: LazyLock<String> = LazyLock::new(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        host.trim().chars().take(64).collect()
    });
    // By hand: half of what a format costs, for each acquire.
    let (digits, random) = (b"0123456789abcdef", rand::random::<u64>());
    let mut owner = String::with_capacity(HOST.len() + 28);
    owner += &HOST;
    owner.push(':');
    owner += &process.to_string();
    owner.push(':');
    owner.extend((0..16).map(|n| char::from(digits[(random >> (4 * n)) as usize & 15])));
    owner
}

/// Why there is no lock yet, for whoever looks on: see [`Acquire::on_delay`].
#[derive(Clone, Debug)]
pub enum Delay {
    /// Somebody has it, or comes before us, or nobody gets it for now.
    Busy {
        /// The word of the server, such as "queued" or "min-hold".
        reason: String,
        /// How many come before us in line.
        ahead: u64,
        /// Who has it, where that is the point.
        holder: Option<Vec<u8>>,
        /// How long nobody gets it, where that is known.
        cooldown: Option<Duration>,
    },
    /// There was no reply, or the server refuses. If this is true only for now, the same is asked again.
    Trouble(RedisError),
}

type OnDelay = Box<dyn FnMut(Delay) + Send>;

/// What is wanted, and how. Await it.
#[must_use = "nothing is asked for before it is awaited"]
pub struct Acquire {
    line: Arc<Line>,
    names: Arc<Names>,
    lease: Duration,
    renews: bool,
    watches: bool,
    /// Nothing for ever, zero for one try.
    wait: Option<Duration>,
    /// What the requests say beside the names, and by what the first lease is bounded then.
    options: Vec<(&'static str, Vec<u8>)>,
    longest: Duration,
    on_delay: Option<OnDelay>,
}

impl Acquire {
    pub(crate) fn new(line: &Arc<Line>, keys: Vec<Vec<u8>>) -> Self {
        Self {
            line: Arc::clone(line),
            names: Arc::new(Names { keys, owner: Vec::new(), mode: Vec::new(), tied: None }),
            lease: Duration::from_secs(30),
            renews: true,
            watches: false,
            wait: None,
            options: Vec::new(),
            longest: Duration::MAX,
            on_delay: None,
        }
    }

    fn names(&mut self) -> &mut Names {
        Arc::make_mut(&mut self.names)
    }

    fn say(mut self, word: &'static str, value: Option<impl Into<Vec<u8>>>) -> Self {
        self.options.retain(|(said, _)| *said != word);
        self.options.extend(value.map(|value| (word, value.into())));
        self
    }

    /// Waits no longer than this; the error is [`Error::Busy`] then. `None`, here and below, is as if it was not said.
    pub fn wait(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.wait = wait.into();
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

    /// Nobody gets the lock before this time is over, released or not.
    pub fn min_hold(self, time: impl Into<Option<Duration>>) -> Self {
        self.say("MINHOLD", time.into().map(|time| ms(time).to_string()))
    }

    /// The lock ends after this time, however often it is renewed.
    pub fn max_hold(mut self, time: impl Into<Option<Duration>>) -> Self {
        let time = time.into();
        self.longest = time.unwrap_or(Duration::MAX);
        self.say("MAXHOLD", time.map(|time| ms(time).to_string()))
    }

    /// Lets the lock end so long after the connection that renews it, if no other takes its place.
    pub fn tied(mut self, grace: impl Into<Option<Duration>>) -> Self {
        self.names().tied = grace.into();
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
        self.names().mode.push("SHARED".to_owned());
        self
    }

    /// Takes permits of a semaphore. All who use the key say the same limit.
    pub fn permits(mut self, limit: u32, permits: u32) -> Self {
        self.names().mode.extend(["LIMIT".to_owned(), limit.to_string()]);
        // Said only where it is needed: without it the server refuses a limit that no number of holders could reach.
        if permits != 1 {
            self.names().mode.extend(["PERMITS".to_owned(), permits.to_string()]);
        }
        self
    }

    /// What LOCK.INFO shows beside the holder.
    pub fn note(self, note: impl AsRef<[u8]>) -> Self {
        self.say("NOTE", Some(note.as_ref()))
    }

    /// Names the holder. Locks of one piece of work under one name let the server find deadlocks between them.
    pub fn owner(mut self, owner: impl AsRef<[u8]>) -> Self {
        self.names().owner = owner.as_ref().to_vec();
        self
    }

    /// Calls this each time when there is no lock yet, which is once a second or more often. Whoever looks on is also told that
    /// an operator has cancelled the wait, or that the same owner has begun another one: the wait is over then, with
    /// [`Error::Busy`], and not begun anew.
    pub fn on_delay(mut self, tell: impl FnMut(Delay) + Send + 'static) -> Self {
        self.on_delay = Some(Box::new(tell));
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
    asked: Acquire,
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
        if let Self::InRow(row) = self
            && let Ok(Some(permit)) = timeout(patience, row).await
        {
            *self = Self::Has { _permit: permit };
        }
        matches!(self, Self::Has { .. })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.owed > 0 {
            let Acquire { line, names, lease, .. } = &self.asked;
            line.owe(&self.runtime, names, names.cancel(), self.owed, *lease);
        }
    }
}

async fn run(mut asked: Acquire) -> Result<Lock, Error> {
    let named = !asked.names.owner.is_empty();
    if !named {
        asked.names().owner = owner_of(std::process::id()).into_bytes();
    }
    let is_try = asked.wait == Some(Duration::ZERO);
    let mut wait = Wait {
        is_try,
        named,
        // One that would end after the last moment of the clock never ends.
        end: asked.wait.filter(|_| !is_try).and_then(|wait| Instant::now().checked_add(wait)),
        runtime: Handle::current(),
        queued: false,
        seat: Seat::None,
        owed: 0,
        _busy: Busy::new(&asked.line),
        asked,
    };
    let result = wait.stand().await;
    let Acquire { line, names, .. } = &wait.asked;
    match &result {
        Ok(_) => wait.owed = 0,
        Err(_) if wait.owed > 0 && line.ask(names, &names.cancel(), SLICE).await.is_ok() => wait.owed -= 1,
        Err(_) => {}
    }
    result
}

/// What a request has come to.
enum Answer {
    Got(Hold),
    /// The lock is busy.
    Not,
    /// Somebody has ended the wait.
    Over,
}

impl Wait {
    async fn stand(&mut self) -> Result<Lock, Error> {
        let (mut good, mut failed) = (Instant::now(), 0);
        let mut is_first = true;
        loop {
            if self.asked.line.is_closed() {
                return Err(Error::Closed);
            }
            let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
            if !std::mem::take(&mut is_first) && left == Some(Duration::ZERO) && failed == 0 {
                return Err(Error::Busy);
            }
            let error = match self.once(left).await {
                Ok(Answer::Got(hold)) => {
                    let (line, hold) = (Arc::clone(&self.asked.line), Arc::new(hold));
                    return if line.keep(&hold) { Ok(Lock { line, hold }) } else { Err(Error::Closed) };
                }
                Ok(Answer::Over) => {
                    self.owed = 0;
                    return Err(Error::Busy);
                }
                Ok(Answer::Not) if self.is_try => {
                    if failed == 0 {
                        self.owed = 0;
                    }
                    return Err(Error::Busy);
                }
                Ok(Answer::Not) => {
                    (good, failed) = (Instant::now(), 0);
                    continue;
                }
                Err(error) => error,
            };
            self.queued = false;
            self.tell(|| Delay::Trouble(error.clone()));
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
                // After a failover: it is ours, or was, and this is known when the recovery window is over; and nothing is
                // written before a replica follows the new primary.
                Some("WRONGTYPE" | "RECOVERING" | "NOREPLICAS") if !self.is_try => {
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
            if self.asked.line.is_closed() {
                return Err(Error::Closed);
            }
            if !is_passing(&error) || is_too_long || left == Some(Duration::ZERO) {
                return Err(error.into());
            }
            sleep(jitter(20, 200)).await;
        }
    }

    fn tell(&mut self, delay: impl FnOnce() -> Delay) {
        if let Some(tell) = &mut self.asked.on_delay {
            tell(delay());
        }
    }

    fn request(&self, block: Duration) -> Cmd {
        let mut request = self.asked.names.acquire(self.asked.lease);
        for (word, value) in &self.asked.options {
            request.arg(word).arg(value);
        }
        if !block.is_zero() {
            request.arg("BLOCK").arg(ms(block));
        }
        if !self.is_try {
            request.arg("QUEUE").arg(ms(TICKET));
        }
        if self.asked.on_delay.is_some() {
            request = with_info(request);
        }
        request
    }

    async fn once(&mut self, left: Option<Duration>) -> RedisResult<Answer> {
        let line = Arc::clone(&self.asked.line);
        let (mut block, left) = (Duration::ZERO, left.unwrap_or(SLICE));
        if self.queued && self.seat.take(&line, left.min(jitter(250, 700))).await {
            block = left.clamp(Duration::from_millis(1), SLICE);
        }
        let (request, sent) = (self.request(block), Moment::now());
        let owed = std::mem::replace(&mut self.owed, 2);
        // Whoever had no reply here asks over the other connection, which has more time.
        let here =
            if block.is_zero() && owed < 2 { line.send_here(&self.asked.names, &request) } else { None };
        let reply = match here {
            Some(reply) => reply,
            None if block.is_zero() => line.send(&self.asked.names, &request, line.reply).await,
            None => Box::pin(line.wait(&self.asked.names, &request, block + line.reply)).await,
        };
        match reply.as_ref().map_err(RedisError::code) {
            // Whoever is refused has nothing; but it may be what is left of a lost hold that is refused, or a repetition.
            Err(Some(word)) if word != "RECOVERING" && !line.servers.are_cluster() => self.owed = owed,
            Ok(_) | Err(Some(_)) => self.owed = owed.max(1),
            Err(None) => {}
        }
        let info = Info::of(reply?);
        let Some(fence) = info.get("result") else {
            self.queued = !self.is_try;
            return Ok(self.busy(&info));
        };
        let is_new = info.get("reason").is_none_or(|reason: String| reason == "granted");
        let mut times = Times::new(self.asked.lease, self.asked.longest.min(self.asked.lease), sent);
        if !block.is_zero() || !is_new {
            // The turn may have come some time ago: claim it, and count from now.
            let sent = Moment::now();
            let left = line.claim(&self.asked.names, self.asked.lease, fence).await?;
            if left == 0 {
                // Too late, the next in line has it; so stand in line again.
                self.queued = false;
                return Ok(Answer::Not);
            }
            times = Times::new(self.asked.lease, Duration::from_millis(left), sent);
        }
        Ok(Answer::Got(Hold {
            names: Arc::clone(&self.asked.names),
            fence,
            renews: self.asked.renews,
            watches: self.asked.watches,
            look: AtomicBool::new(true),
            end: OnceLock::new(),
            told: Notify::new(),
            renewed: Notify::new(),
            times: Mutex::new(times),
            runtime: self.runtime.clone(),
        }))
    }

    fn busy(&mut self, info: &Info) -> Answer {
        let reason: String = info.get("reason").unwrap_or_default();
        let is_over = !self.is_try && matches!(&*reason, "cancelled" | "superseded");
        let is_cooling = matches!(&*reason, "min-hold" | "lock-delay");
        self.tell(|| Delay::Busy {
            ahead: info.get("ahead").unwrap_or(0),
            holder: info.get("holder"),
            cooldown: info.get("lease-ms").filter(|_| is_cooling).map(Duration::from_millis),
            reason,
        });
        if is_over {
            Answer::Over
        } else {
            Answer::Not
        }
    }
}
