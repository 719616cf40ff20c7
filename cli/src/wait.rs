//! From the wish for a lock to its hold: what the command line says goes to the library, and how it goes on to people.

use std::convert::Infallible;
use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use fencelock::{Delay, Error, Lock, Locks, Moment};
use redis::{cmd, RedisError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::connect::{Link, Server};
use crate::exit::{Exit, Failure, Outcome};
use crate::keep::Held;
use crate::locks::word;
use crate::name::Name;
use crate::owner::short;
use crate::print::{complain, is_watched, live, shown};
use crate::reply::Fields;
use crate::signals::Signals;
use crate::time::{for_people, ms, some_span, span};

/// How long a look at the holder may take.
const LOOK: Duration = Duration::from_secs(1);
/// How long to pause where there is no line to stand in.
const PAUSE: Duration = Duration::from_millis(200);

/// How a lock is held; by one alone if nothing is said.
#[derive(Args, Clone, Debug)]
pub(crate) struct Mode {
    /// Share the lock with others who say so too
    #[arg(short, long)]
    shared: bool,
    /// The lock is a semaphore of so many permits; everybody says the same
    #[arg(long, value_name = "N", conflicts_with = "shared")]
    limit: Option<u32>,
    /// How many of them to take
    #[arg(long, value_name = "K", requires = "limit", default_value_t = 1)]
    permits: u32,
}

impl Mode {
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.shared {
            words.push("SHARED".to_owned());
        }
        if let Some(limit) = self.limit {
            words.extend(["LIMIT".to_owned(), limit.to_string()]);
            // Said only where it is needed: without it a limit above 1,000 holders is refused, and rightly so.
            if self.permits > 1 {
                words.extend(["PERMITS".to_owned(), self.permits.to_string()]);
            }
        }
        words
    }
}

/// What is wanted: the arguments that `run`, `acquire` and `hold` share.
#[derive(Args, Clone, Debug)]
pub(crate) struct Wanted {
    /// The lock
    pub key: Name,
    /// More locks, all or none; in a cluster they need the same {tag}
    #[arg(short = 'k', long = "key", value_name = "KEY")]
    pub more: Vec<Name>,
    /// Do not wait
    #[arg(short, long, visible_alias = "nb", conflicts_with = "wait")]
    nonblock: bool,
    /// Wait no longer than this (default: for ever)
    #[arg(short, long, visible_alias = "timeout", value_parser = span, value_name = "TIME")]
    wait: Option<Duration>,
    #[command(flatten)]
    mode: Mode,
    /// Share it with nobody, which is the default
    #[arg(short = 'x', long, short_alias = 'e', conflicts_with_all = ["shared", "limit"])]
    exclusive: bool,
    /// How long the lock lasts without a word from here
    #[arg(long, value_name = "TIME", value_parser = some_span, default_value = "30s")]
    pub lease: Duration,
    /// Nobody gets the lock before this time is over, released or not
    #[arg(long, value_name = "TIME", value_parser = some_span)]
    min_hold: Option<Duration>,
    /// The hold ends after this time, whoever renews it
    #[arg(long, value_name = "TIME", value_parser = some_span)]
    pub max_hold: Option<Duration>,
    /// The name of the holder (default: host:process:random)
    #[arg(long)]
    pub owner: Option<Name>,
    /// For people who look at the lock
    #[arg(long)]
    note: Option<OsString>,
    /// The exit code when the lock is not got
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = Exit::NOT_GOT.0)]
    conflict_exit_code: u8,
}

/// Waits for what is wanted, until a signal. The library renews it from then on.
pub(crate) async fn acquire(
    server: &Server,
    wanted: &Wanted,
    tied: Option<Duration>,
    owner: Name,
    signals: &mut Signals,
) -> Outcome<Held> {
    let keys: Vec<Name> = std::iter::once(&wanted.key).chain(&wanted.more).cloned().collect();
    let owner = wanted.owner.clone().unwrap_or(owner);
    // A server that is not there now is a failure, and no reason to wait.
    let locks = Locks::new(server.ways(server.link().await?));
    let (progress, looks) = watch::channel(None);
    let wait = Wait { server, wanted, tied, keys, owner, locks, progress };
    let mut screen = Screen { server, key: &wanted.key, link: None, is_shown: false };
    let end = tokio::select! {
        signal = signals.ending() => Err(signal),
        end = wait.stand() => Ok(end),
        never = screen.follow(looks) => match never {},
    };
    drop(screen);
    match end {
        Ok(Ok(lock)) => Ok(Held::new(wait.keys, wait.owner, lock, wait.locks)),
        Ok(Err(error)) => {
            wait.cancel().await;
            let last = wait.progress.send_replace(None);
            Err(wait.failure(error, last))
        }
        Err(signal) => {
            wait.cancel().await;
            Err(Failure::new(Exit::by_signal(signal as i32), format!("the wait was ended by {signal}")))
        }
    }
}

/// One owner from the first request to the last.
struct Wait<'a> {
    server: &'a Server,
    wanted: &'a Wanted,
    tied: Option<Duration>,
    keys: Vec<Name>,
    owner: Name,
    locks: Locks,
    /// Why there is no lock yet.
    progress: watch::Sender<Option<Delay>>,
}

impl Wait<'_> {
    fn is_try(&self) -> bool {
        self.wanted.nonblock || self.wanted.wait == Some(Duration::ZERO)
    }

    async fn stand(&self) -> Result<Lock, Error> {
        let wait = if self.is_try() { Some(Duration::ZERO) } else { self.wanted.wait };
        let end = wait.map(|wait| Moment::now().after(wait));
        loop {
            let left = end.map(Moment::left);
            match self.ask(left).await {
                // There is no line to stand in.
                Err(Error::Redis(error))
                    if error.code() == Some("QUEUEFULL") && left != Some(Duration::ZERO) =>
                {
                    sleep(left.map_or(PAUSE, |left| left.min(PAUSE))).await;
                }
                end => return end,
            }
        }
    }

    async fn ask(&self, wait: Option<Duration>) -> Result<Lock, Error> {
        let (wanted, mode, progress) = (self.wanted, &self.wanted.mode, self.progress.clone());
        let asked = self.locks.acquire_all(self.keys.iter().map(|key| &**key)).owner(&*self.owner).wait(wait);
        let asked = asked.lease(wanted.lease).min_hold(wanted.min_hold).max_hold(wanted.max_hold);
        let mut asked = asked.tied(self.tied).on_delay(move |delay| drop(progress.send_replace(Some(delay))));
        if mode.shared {
            asked = asked.shared();
        }
        if let Some(limit) = mode.limit {
            asked = asked.permits(limit, mode.permits);
        }
        if let Some(note) = &wanted.note {
            asked = asked.note(word(note));
        }
        asked.await
    }

    /// Waits until the library has given back what the server may have given, and the place in line.
    async fn cancel(&self) {
        match self.locks.close().await {
            Ok(()) => {}
            // There is no server that has the place.
            Err(Error::Redis(error)) if error.is_connection_refusal() => {}
            Err(error) => {
                let Failure { text, .. } = error.into();
                let (key, lease) = (&self.wanted.key, for_people(ms(self.wanted.lease) as i64));
                complain(&if self.is_try() {
                    format!("{key} may have been given, and its lease ends it after {lease}: {text}")
                } else {
                    format!("the place in line for {key} stays for 5 s: {text}")
                });
            }
        }
    }

    fn failure(&self, error: Error, last: Option<Delay>) -> Failure {
        let key = &self.wanted.key;
        let text = match (error, last) {
            (Error::Busy, Some(Delay::Trouble(error))) if self.is_try() => Failure::from(error).text,
            (Error::Busy, Some(Delay::Trouble(error))) if is_foreign(&error) => {
                format!("{key} was not free in time: it holds a value that is not a lock")
            }
            (Error::Busy, Some(Delay::Trouble(error))) => Failure::from(error).text,
            (Error::Busy, Some(Delay::Busy { reason, holder, .. })) if self.is_try() || is_ended(&reason) => {
                match (reason.as_str(), holder) {
                    ("held", Some(holder)) => format!("{key} is held by {}", short(&shown(&holder))),
                    ("superseded", _) => format!("another process waits for {key} under the same owner"),
                    ("cancelled", _) => format!("the wait for {key} was cancelled"),
                    (reason, _) => format!("{key} is not free: {reason}"),
                }
            }
            (Error::Busy, _) => format!("{key} was not free in time"),
            (error, _) => return self.refused(error.into()),
        };
        Failure::new(Exit(self.wanted.conflict_exit_code), text)
    }

    fn refused(&self, failure: Failure) -> Failure {
        const OPTIONS: [(&str, &str); 8] = [
            ("PX", "--lease"),
            ("MAXHOLD", "--max-hold"),
            ("MINHOLD", "--min-hold"),
            ("TIED", "--tied"),
            ("LIMIT", "--limit"),
            ("PERMITS", "--permits"),
            ("the note", "--note"),
            ("the owner", "--owner"),
        ];
        let failure = failure.naming(&OPTIONS);
        match failure.exit {
            Exit::NO_SERVER => self.server.located(&failure),
            Exit::NOT_GOT => Failure::new(Exit(self.wanted.conflict_exit_code), failure.text),
            _ => failure,
        }
    }
}

/// Whether somebody has ended the wait, so that there is no place in line.
fn is_ended(reason: &str) -> bool {
    matches!(reason, "cancelled" | "superseded")
}

/// Somebody who locks with SET NX has the key: it is busy.
fn is_foreign(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// What stands on the screen while a wait goes on, if somebody looks.
struct Screen<'a> {
    server: &'a Server,
    key: &'a Name,
    link: Option<Link>,
    is_shown: bool,
}

impl Screen<'_> {
    async fn follow(&mut self, mut looks: watch::Receiver<Option<Delay>>) -> Infallible {
        while is_watched() && looks.changed().await.is_ok() {
            let delay = looks.borrow_and_update().clone();
            let text = match delay {
                Some(Delay::Trouble(error)) if is_foreign(&error) => {
                    format!("{} holds a value that is not a lock; trying again", self.key)
                }
                Some(Delay::Trouble(error)) => format!("{}; trying again", Failure::from(error).text),
                Some(delay) => {
                    // Who may not look waits all the same.
                    let hold = self.hold().await.ok().flatten();
                    delay_in_words(&delay, hold.as_ref())
                }
                None => continue,
            };
            live(&text);
            self.is_shown = true;
        }
        std::future::pending().await
    }

    async fn hold(&mut self) -> Outcome<Option<Fields>> {
        let link = match &mut self.link {
            Some(link) => link,
            None => self.link.insert(self.server.primary().await?),
        };
        let mut asking = cmd("LOCK.INFO");
        asking.arg(self.key);
        Ok(Fields::of(link.ask(&asking, LOOK).await?)?.maps("holds").into_iter().next())
    }
}

/// Before anything else is said.
impl Drop for Screen<'_> {
    fn drop(&mut self) {
        if self.is_shown {
            live("");
        }
    }
}

/// "3rd in line; held by web-7:812 for 12 s (note)"
fn delay_in_words(delay: &Delay, hold: Option<&Fields>) -> String {
    let Delay::Busy { reason, ahead, holder, cooldown } = delay else { return String::new() };
    let mut text = format!("{} in line", ordinal(ahead + 1));
    if let Some(cooldown) = cooldown {
        text.push_str(&format!("; free in {} ({reason})", for_people(ms(*cooldown) as i64)));
        return text;
    }
    let holder = hold.and_then(|hold| hold.shown("owner")).or_else(|| holder.as_deref().map(shown));
    let Some(holder) = holder else { return text };
    text.push_str(&format!("; held by {}", short(&holder)));
    if let Some(held) = hold.and_then(|hold| hold.number("held-ms")) {
        text.push_str(&format!(" for {}", for_people(held)));
    }
    match hold.and_then(|hold| hold.shown("note")) {
        Some(note) if !note.is_empty() => text.push_str(&format!(" ({note})")),
        _ => {}
    }
    text
}

fn ordinal(n: u64) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn map(fields: &[(&str, Value)]) -> Fields {
        let pair = |(name, value): &(&str, Value)| [Value::SimpleString((*name).to_owned()), value.clone()];
        Fields::of(Value::Array(fields.iter().flat_map(pair).collect())).unwrap()
    }

    #[test]
    fn a_delay_is_told_in_words() {
        let text = |text: &str| Value::SimpleString(text.to_owned());
        let hold = map(&[
            ("owner", text("web-7:812:0123456789abcdef")),
            ("held-ms", Value::Int(12_345)),
            ("note", text("nightly")),
        ]);
        let mut delay =
            Delay::Busy { reason: "queued".into(), ahead: 2, holder: Some("bob".into()), cooldown: None };
        assert_eq!(delay_in_words(&delay, Some(&hold)), "3rd in line; held by web-7:812 for 12 s (nightly)");
        assert_eq!(delay_in_words(&delay, None), "3rd in line; held by bob");
        let cooldown = Some(Duration::from_millis(5_500));
        delay = Delay::Busy { reason: "min-hold".into(), ahead: 0, holder: None, cooldown };
        assert_eq!(delay_in_words(&delay, None), "1st in line; free in 5 s (min-hold)");
    }

    #[test]
    fn places_in_line_are_said_as_people_say_them() {
        let said = [1, 2, 3, 4, 11, 12, 13, 21, 111, 1_002].map(ordinal).join(" ");
        assert_eq!(said, "1st 2nd 3rd 4th 11th 12th 13th 21st 111th 1002nd");
    }
}
