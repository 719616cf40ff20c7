//! A lock that this program has: what it prints of it, the news of it, and how it gives it back.

use std::io::IsTerminal;
use std::time::Duration;

use fencelock::{is_passing, Error, Lock, Locks, Moment};
use tokio::time::{sleep, timeout};

use crate::connect::Server;
use crate::exit::{Exit, Failure, Outcome};
use crate::lookout::Lookout;
use crate::name::Name;
use crate::print::{bytes, line};
use crate::time::ms;

/// How long to try to give the lock back; then its lease ends it.
pub(crate) const RELEASE: Duration = Duration::from_secs(2);

/// How long to pause between two questions that are not answered.
const PAUSE: Duration = Duration::from_millis(300);

/// What whoever is to renew and release a lock has to know, or several locks that were granted together.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub keys: Vec<Name>,
    pub owner: Name,
    pub fence: i64,
}

impl Grant {
    /// Prints it. If that cannot be written nobody ever would give the lock back: see [`given_back`].
    pub(crate) fn tell(&self, until: Moment, as_json: bool) -> Outcome<()> {
        if as_json {
            let keys: Vec<_> = self.keys.iter().map(Name::json).collect();
            let deadline = deadline_unix_ms(until);
            let told = serde_json::json!({
                "keys": keys, "owner": self.owner.json(), "fence": self.fence, "deadline_ms": deadline,
            });
            bytes(format!("{told}\n").as_bytes())
        } else if std::io::stdout().is_terminal() {
            line(&format!("{} {}", self.fence, self.owner))
        } else {
            // A script gives the owner back as it is.
            bytes(&[format!("{} ", self.fence).as_bytes(), &self.owner, b"\n"].concat())
        }
    }
}

/// When the hold ends if nobody renews it, by the wall clock.
pub(crate) fn deadline_unix_ms(until: Moment) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    ms(now + until.left())
}

/// Asks the server for a lock. Returns whether that is still to be done, since there was no answer.
async fn look(lock: &Lock) -> bool {
    let is_open = matches!(lock.ttl().await, Err(Error::Redis(error)) if is_passing(&error));
    if is_open {
        sleep(PAUSE).await;
    }
    is_open
}

/// Gives the lock back that could not be told of, and says so.
pub(crate) async fn given_back<T>(unsaid: Failure, release: impl Future<Output = Outcome<T>>) -> Failure {
    let what = if unsaid.text.is_empty() { "cannot write the output: nobody reads it" } else { &unsaid.text };
    let end = match timeout(RELEASE, release).await {
        Ok(Ok(_)) => "the lock is given back".to_owned(),
        Ok(Err(failure)) => {
            format!("the lock could not be given back, its lease ends it: {}", failure.text)
        }
        Err(_) => "the lock could not be given back, its lease ends it".to_owned(),
    };
    Failure::new(Exit::SYSTEM, format!("{what}; {end}"))
}

/// A hold that the library keeps.
pub(crate) struct Held {
    pub grant: Grant,
    lock: Lock,
    locks: Locks,
    lookout: Option<Lookout>,
    /// It may be lost; the server is to be asked.
    is_alarmed: bool,
}

impl Held {
    pub(crate) fn new(keys: Vec<Name>, owner: Name, lock: Lock, locks: Locks) -> Self {
        let grant = Grant { keys, owner, fence: lock.fence() };
        Self { grant, lock, locks, lookout: None, is_alarmed: false }
    }

    /// Ours until then, counted from before the request that was granted.
    pub(crate) fn until(&self) -> Moment {
        self.lock.until()
    }

    /// Its greatest length ends the hold, and no renewal helps.
    pub(crate) fn is_capped(&self) -> bool {
        self.lock.is_capped()
    }

    pub(crate) async fn tell(self, as_json: bool) -> Outcome<Self> {
        match self.grant.tell(self.until(), as_json) {
            Ok(()) => Ok(self),
            Err(failure) => Err(given_back(failure, self.release()).await),
        }
    }

    /// Somebody else is to renew it and to give it back.
    pub(crate) fn leave(self) {
        self.lock.leave();
    }

    /// Waits for the next renewal, or for the loss: why it has ended, in the words of the server, or "lease-over" by our own
    /// clock. It may be dropped and called again.
    pub(crate) async fn news(&mut self, server: &Server) -> Option<String> {
        let lookout = self.lookout.get_or_insert_with(|| Lookout::over(&self.grant, server));
        loop {
            tokio::select! {
                reason = self.lock.lost() => return Some(reason),
                () = self.lock.renewed() => return None,
                () = lookout.alarm(), if !self.is_alarmed => self.is_alarmed = true,
                // What it finds is told as any other news.
                is_open = look(&self.lock), if self.is_alarmed => self.is_alarmed = is_open,
            }
        }
    }

    /// After a loss: gives back what is left, where one of several locks was lost.
    pub(crate) async fn give_up(self) {
        drop(self.lock);
        if self.grant.keys.len() > 1 {
            let _ = timeout(RELEASE, self.locks.close()).await;
        }
    }

    /// Gives it back. Returns why it had ended before, or `None` if it had not.
    pub(crate) async fn release(self) -> Outcome<Option<String>> {
        match self.lock.release().await {
            Ok(()) => Ok(None),
            Err(Error::Lost(reason)) => Ok(Some(reason)),
            Err(error) => Err(error.into()),
        }
    }
}
