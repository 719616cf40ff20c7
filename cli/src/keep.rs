//! A hold from the grant to its end: renewed in time, given back, and its loss told.

use std::io::IsTerminal;
use std::time::Duration;

use redis::{cmd, Cmd, RedisError, Value};
use tokio::time::{sleep, timeout};

use crate::connect::{is_passing, Link, Server};
use crate::exit::{Exit, Failure, Outcome};
use crate::lookout::Lookout;
use crate::name::Name;
use crate::print::{bytes, line};
use crate::reply::Fields;
use crate::time::{ms, Moment};

/// The longest pause between two renewals that fail.
const PAUSE: Duration = Duration::from_millis(300);

/// How long to try to give the lock back; then its lease ends it.
pub const RELEASE: Duration = Duration::from_secs(2);

/// By how much what is left of a lease may fall short of it though nothing caps it.
const ROUNDING: Duration = Duration::from_millis(20);

/// A lock, or several that were granted together.
#[derive(Clone, Debug)]
pub struct Hold {
    pub keys: Vec<Name>,
    pub owner: Name,
    pub fence: i64,
    /// SHARED, LIMIT and such; none of an exclusive hold.
    pub mode: Vec<String>,
    pub lease: Duration,
    pub tied: Option<Duration>,
    /// Ours until then, counted from before the request that was granted.
    pub until: Moment,
    /// The server gave less than was asked for: its greatest length ends the hold, and no renewal helps.
    pub is_capped: bool,
}

impl Hold {
    /// Asks for a new lease. Returns why the hold has ended, or `None` if it has not.
    pub async fn renew(&mut self, link: &mut Link, limit: Duration) -> Result<Option<String>, RedisError> {
        let sent = Moment::now();
        let mut least = u64::MAX;
        for key in &self.keys {
            let mut request = self.about("LOCK.RENEW", key);
            // A failover may have lost the hold: then this brings it back, in the mode that it names.
            request.arg("PX").arg(ms(self.lease)).arg(&self.mode);
            if let Some(tied) = self.tied {
                request.arg("TIED").arg(ms(tied));
            }
            let fields = told(link.ask(request.arg("WITHINFO"), limit).await)?;
            match fields.number("result") {
                Some(left @ 1..) => least = least.min(left.unsigned_abs()),
                _ => return Ok(Some(fields.text("reason").unwrap_or_default())),
            }
        }
        self.has(Duration::from_millis(least), sent);
        Ok(None)
    }

    /// It is ours for so long from this moment.
    pub fn has(&mut self, left: Duration, sent: Moment) {
        self.until = sent.after(left);
        self.is_capped = left + ROUNDING < self.lease;
    }

    /// Gives it back. Returns why it had ended before, or `None` if it had not.
    pub async fn release(&self, link: &mut Link) -> Result<Option<String>, RedisError> {
        let mut lost = None;
        for key in &self.keys {
            let mut request = self.about("LOCK.RELEASE", key);
            // One that names the fence may be sent again.
            let fields = told(link.ask_again(request.arg("WITHINFO")).await)?;
            if fields.number("result") != Some(1) {
                lost = lost.or(fields.text("reason"));
            }
        }
        Ok(lost)
    }

    pub fn about(&self, verb: &str, key: &Name) -> Cmd {
        let mut request = cmd(verb);
        request.arg(key).arg(&self.owner).arg("FENCE").arg(self.fence);
        request
    }

    /// Prints what whoever is to renew and release it has to know. If that cannot be written nobody ever would, so the lock
    /// is given back.
    pub async fn tell(&self, link: &mut Link, as_json: bool) -> Outcome<()> {
        let is_read_by_people = std::io::stdout().is_terminal();
        let said = if as_json {
            bytes(format!("{}\n", self.as_json()).as_bytes())
        } else if is_read_by_people {
            line(&format!("{} {}", self.fence, self.owner))
        } else {
            // A script gives the owner back as it is.
            bytes(&[format!("{} ", self.fence).as_bytes(), &self.owner, b"\n"].concat())
        };
        let Err(failure) = said else { return Ok(()) };
        let what =
            if failure.text.is_empty() { "cannot write the output: nobody reads it" } else { &failure.text };
        let end = match timeout(RELEASE, self.release(link)).await {
            Ok(Ok(_)) => "the lock is given back".to_owned(),
            Ok(Err(error)) => {
                format!("the lock could not be given back, its lease ends it: {}", Failure::from(error).text)
            }
            Err(_) => "the lock could not be given back, its lease ends it".to_owned(),
        };
        Err(Failure::new(Exit::SYSTEM, format!("{what}; {end}")))
    }

    fn as_json(&self) -> serde_json::Value {
        serde_json::json!({
            "keys": self.keys.iter().map(Name::json).collect::<Vec<_>>(),
            "owner": self.owner.json(),
            "fence": self.fence,
            "deadline_ms": self.deadline_unix_ms(),
        })
    }

    /// When the hold ends if nobody renews it, by the wall clock.
    pub fn deadline_unix_ms(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        ms(now + self.until.left())
    }
}

/// What a reply tells of a hold.
pub fn told(reply: Result<Value, RedisError>) -> Result<Fields, RedisError> {
    match reply {
        Ok(fields) => Ok(Fields::of(fields).unwrap_or_default()),
        // There is other data under the name, so there is no hold any more.
        Err(error) if error.code() == Some("WRONGTYPE") => Ok(Fields::of_texts([("reason", "overwritten")])),
        Err(error) => Err(error),
    }
}

/// Renews a hold for as long as it is asked to.
pub struct Keeper {
    pub hold: Hold,
    link: Link,
    lookout: Lookout,
    due: Moment,
}

/// What has become of the hold.
#[derive(Debug)]
pub enum News {
    /// It was renewed; its new end stands in it.
    Renewed,
    /// It has ended, in the words of the server; "lease-over" by our own clock.
    Lost(String),
}

impl Keeper {
    pub fn new(hold: Hold, link: Link, server: &Server) -> Self {
        let (due, lookout) = (Self::due(&hold), Lookout::over(&hold, server));
        Self { hold, link, lookout, due }
    }

    /// A third of the lease from now, or when it ends if that is earlier. The process in the name of the owner differs
    /// from others', so not all renew at the same moment.
    fn due(hold: &Hold) -> Moment {
        let early = hold.lease.mul_f64(0.05 * f64::from(std::process::id() % 64) / 64.0);
        Moment::now().after(hold.lease / 3).before(early).min(hold.until)
    }

    /// Waits for the next renewal, or for the loss. It may be dropped and called again.
    pub async fn news(&mut self) -> News {
        loop {
            tokio::select! {
                () = sleep(self.due.left()) => {}
                () = self.lookout.alarm() => self.due = Moment::now(),
            }
            let left = self.hold.until.left();
            // Time for a second one, should this one not be answered.
            let limit = (self.hold.lease / 6).min(left).max(Duration::from_millis(20));
            match self.hold.renew(&mut self.link, limit).await {
                Ok(None) => {
                    self.due = Self::due(&self.hold);
                    return News::Renewed;
                }
                Ok(Some(reason)) => return News::Lost(reason),
                Err(_) if self.hold.until.left().is_zero() => return News::Lost("lease-over".to_owned()),
                Err(error) if is_passing(&error) => {
                    self.due = Moment::now().after(PAUSE.min(self.hold.lease / 12)).min(self.hold.until);
                }
                Err(error) => return News::Lost(error.code().unwrap_or("error").to_owned()),
            }
        }
    }

    /// After a loss: gives back what is left, where one of several locks was lost.
    pub async fn give_up(self) {
        if self.hold.keys.len() > 1 {
            let _ = timeout(RELEASE, self.release()).await;
        }
    }

    /// Gives the hold back. Returns why it had ended before, or `None` if it had not.
    pub async fn release(mut self) -> Outcome<Option<String>> {
        Ok(self.hold.release(&mut self.link).await?)
    }
}
