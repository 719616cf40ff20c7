//! From the wish for a lock to its hold: one try, or a place in line and slices of waiting in it.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use redis::{cmd, Cmd, RedisError, Value};
use tokio::time::sleep;

use crate::connect::{is_broken, is_passing, Link, Server, REPLY};
use crate::exit::{Exit, Failure, Outcome};
use crate::keep::Hold;
use crate::locks::word;
use crate::name::Name;
use crate::print::complain;
use crate::reply::Fields;
use crate::signals::Signals;
use crate::time::{for_people, ms, some_span, span, Moment};

/// How long one request waits in the server: shorter than what any proxy gives an idle connection.
const SLICE: Duration = Duration::from_secs(1);
/// How long a place in line outlives the last request for it.
const TICKET: Duration = Duration::from_secs(5);
/// How long a wait goes on without a good reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to pause where there is no line to stand in, or no server for the moment.
const PAUSE: Duration = Duration::from_millis(200);

/// How a lock is held; by one alone if nothing is said.
#[derive(Args, Clone, Debug)]
pub struct Mode {
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
    pub fn words(&self) -> Vec<String> {
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
pub struct Wanted {
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

/// Why there is no lock yet, for whoever watches the wait.
struct Delay {
    reason: String,
    /// How many come before us.
    ahead: i64,
    holder: Option<String>,
    /// How long nobody gets it, where it is in cooldown.
    cooldown_ms: Option<i64>,
}

/// Waits for what is wanted, until a signal. The hold comes with the connection that it may be tied to.
pub async fn acquire(
    server: &Server,
    wanted: &Wanted,
    tied: Option<Duration>,
    owner: Name,
    signals: &mut Signals,
) -> Outcome<(Hold, Link)> {
    let mut wait = Wait::new(server, wanted, tied, owner).await?;
    let mut watch = Watch { server, key: &wanted.key, link: None, is_shown: false };
    let end = tokio::select! {
        signal = signals.ending() => Err(signal),
        end = wait.stand(&mut watch) => Ok(end),
    };
    drop(watch);
    match end {
        Ok(hold) => Ok((hold?, wait.link)),
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
    link: Link,
}

/// What one request has come to.
enum Answer {
    Got(Hold),
    Not(Delay),
}

impl<'a> Wait<'a> {
    /// Connects. A server that is not there now is a failure, and no reason to wait.
    async fn new(
        server: &'a Server,
        wanted: &'a Wanted,
        tied: Option<Duration>,
        owner: Name,
    ) -> Outcome<Self> {
        let keys = std::iter::once(&wanted.key).chain(&wanted.more).cloned().collect();
        let owner = wanted.owner.clone().unwrap_or(owner);
        let link = server.link().await?;
        Ok(Self { server, wanted, tied, keys, owner, link })
    }

    /// Waits for the lock, and shows each delay.
    async fn stand(&mut self, watch: &mut Watch<'_>) -> Outcome<Hold> {
        let is_try = self.wanted.nonblock || self.wanted.wait == Some(Duration::ZERO);
        let end = self.wanted.wait.map(|wait| Moment::now().after(wait));
        let left = || end.map_or(SLICE, |end| end.left().min(SLICE));
        // The first request takes a place in line, and tells at once where that is.
        let mut slice = Duration::ZERO;
        let mut last_good = Moment::now();
        // Why the last request had no reply.
        let mut trouble;
        // What else than a lock that is held is in the way.
        let mut obstacle;
        // Whether the server may know of us.
        let mut is_known = false;
        loop {
            (trouble, obstacle) = (None, None);
            match self.once(slice, is_try).await {
                Ok(Answer::Got(hold)) => return Ok(hold),
                Ok(Answer::Not(delay)) if is_try => return Err(self.not_got(&delay)),
                Ok(Answer::Not(delay)) if matches!(delay.reason.as_str(), "cancelled" | "superseded") => {
                    return Err(self.not_got(&delay));
                }
                Ok(Answer::Not(delay)) => {
                    is_known = true;
                    last_good = Moment::now();
                    watch.show(&delay).await;
                }
                // RECOVERING: after a failover it is ours, or was, and that is known when the recovery window is over.
                // NOREPLICAS: before, as no replica follows the new primary yet.
                Err(error)
                    if matches!(error.code(), Some("QUEUEFULL" | "RECOVERING" | "NOREPLICAS"))
                        || is_foreign(&error) =>
                {
                    if is_try {
                        return Err(self.refused(error));
                    }
                    is_known |= error.code() == Some("RECOVERING");
                    last_good = Moment::now();
                    watch.say(&self.in_the_way(&error));
                    obstacle = Some(error);
                    sleep(PAUSE.min(left())).await;
                }
                Err(error) if is_passing(&error) && Moment::now() < last_good.after(PATIENCE) => {
                    if is_broken(&error) {
                        watch.say(&format!("no server: {error}"));
                    }
                    is_known |= is_broken(&error);
                    trouble = Some(error);
                    sleep(PAUSE.min(left())).await;
                }
                Err(error) => {
                    watch.hide();
                    if is_known || is_broken(&error) {
                        self.cancel().await;
                    }
                    return Err(self.refused(error));
                }
            }
            slice = left();
            if slice.is_zero() {
                watch.hide();
                if is_known {
                    self.cancel().await;
                }
                if let Some(error) = trouble {
                    return Err(self.refused(error));
                }
                let key = &self.wanted.key;
                let text = match obstacle {
                    Some(error) if is_foreign(&error) => {
                        format!("{key} was not free in time: it holds a value that is not a lock")
                    }
                    Some(error) => self.in_the_way(&error),
                    None => format!("{key} was not free in time"),
                };
                return Err(Failure::new(Exit(self.wanted.conflict_exit_code), text));
            }
        }
    }

    /// Gives back what the server may have given, and the place in line; over another connection, as ours may be waiting.
    async fn cancel(&mut self) {
        match self.try_cancel().await {
            Ok(_) => {}
            // There is no server that has the place.
            Err(error) if error.is_connection_refusal() => {}
            Err(error) => {
                let Failure { text, .. } = Failure::from(error);
                let stays = for_people(i64::try_from(ms(TICKET)).unwrap_or(i64::MAX));
                complain(&format!("the place in line for {} stays for {stays}: {text}", self.wanted.key));
            }
        }
    }

    async fn try_cancel(&mut self) -> Result<Value, RedisError> {
        let mut request;
        if let [key] = self.keys.as_slice() {
            request = cmd("LOCK.RELEASE");
            request.arg(key).arg(&self.owner);
        } else {
            request = cmd("LOCK.MRELEASE");
            request.arg(&self.owner).arg(self.keys.len()).arg(&self.keys);
        }
        request.arg("CANCEL");
        self.link = self.server.primary().await?;
        self.link.ask_again(&request).await
    }

    async fn once(&mut self, slice: Duration, is_try: bool) -> Result<Answer, RedisError> {
        let sent = Moment::now();
        let fields = self.link.ask(&self.request(slice, is_try), REPLY + slice).await?;
        let fields = Fields::of(fields).unwrap_or_default();
        let reason = fields.text("reason").unwrap_or_default();
        let Some(fence) = fields.number("result") else {
            return Ok(Answer::Not(Delay {
                ahead: fields.number("ahead").unwrap_or(0),
                holder: fields.shown("holder"),
                cooldown_ms: fields
                    .number("lease-ms")
                    .filter(|_| matches!(&*reason, "min-hold" | "lock-delay")),
                reason,
            }));
        };
        let left = fields.number("lease-ms").and_then(|left| u64::try_from(left).ok()).unwrap_or(0);
        let mut hold = Hold {
            keys: self.keys.clone(),
            owner: self.owner.clone(),
            fence,
            mode: self.wanted.mode.words(),
            lease: self.wanted.lease,
            tied: self.tied,
            until: sent,
            is_capped: false,
        };
        hold.has(Duration::from_millis(left), sent);
        if slice.is_zero() && reason == "granted" {
            return Ok(Answer::Got(hold));
        }
        // What came by waiting is claimed before anybody is told. Too late is a new wait.
        match hold.renew(&mut self.link, REPLY).await? {
            None => Ok(Answer::Got(hold)),
            Some(reason) => Ok(Answer::Not(Delay { reason, ahead: 0, holder: None, cooldown_ms: None })),
        }
    }

    fn request(&self, slice: Duration, is_try: bool) -> Cmd {
        let wanted = self.wanted;
        let mut request;
        if let [key] = self.keys.as_slice() {
            request = cmd("LOCK.ACQUIRE");
            request.arg(key).arg(&self.owner);
        } else {
            request = cmd("LOCK.MACQUIRE");
            request.arg(&self.owner).arg(self.keys.len()).arg(&self.keys);
        }
        request.arg("PX").arg(ms(wanted.lease)).arg(wanted.mode.words());
        for (word, time) in [("TIED", self.tied), ("MINHOLD", wanted.min_hold), ("MAXHOLD", wanted.max_hold)]
        {
            if let Some(time) = time {
                request.arg(word).arg(ms(time));
            }
        }
        if let Some(note) = &wanted.note {
            request.arg("NOTE").arg(word(note));
        }
        if !slice.is_zero() {
            request.arg("BLOCK").arg(ms(slice).max(1));
        }
        if !is_try {
            request.arg("QUEUE").arg(ms(TICKET));
        }
        request.arg("WITHINFO");
        request
    }

    fn not_got(&self, delay: &Delay) -> Failure {
        let key = &self.wanted.key;
        let text = match (delay.reason.as_str(), &delay.holder) {
            ("held", Some(holder)) => format!("{key} is held by {}", crate::owner::short(holder)),
            ("superseded", _) => format!("another process waits for {key} under the same owner"),
            ("cancelled", _) => format!("the wait for {key} was cancelled"),
            (reason, _) => format!("{key} is not free: {reason}"),
        };
        Failure::new(Exit(self.wanted.conflict_exit_code), text)
    }

    /// For people: why there is no line to stand in.
    fn in_the_way(&self, error: &RedisError) -> String {
        if is_foreign(error) {
            return format!("{} holds a value that is not a lock", self.wanted.key);
        }
        Failure::from(error.clone()).text
    }

    fn refused(&self, error: RedisError) -> Failure {
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
        let is_busy = is_foreign(&error);
        let failure = Failure::from(error).naming(&OPTIONS);
        match failure.exit {
            _ if is_busy => Failure::new(Exit(self.wanted.conflict_exit_code), failure.text),
            Exit::NO_SERVER => self.server.located(failure),
            Exit::NOT_GOT => Failure::new(Exit(self.wanted.conflict_exit_code), failure.text),
            _ => failure,
        }
    }
}

/// Somebody who locks with SET NX has the key: it is busy.
fn is_foreign(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// What stands on the screen while a wait goes on, if somebody looks.
struct Watch<'a> {
    server: &'a Server,
    key: &'a Name,
    link: Option<Link>,
    is_shown: bool,
}

impl Watch<'_> {
    async fn show(&mut self, delay: &Delay) {
        if !crate::print::is_watched() {
            return;
        }
        // Who may not look waits all the same.
        let hold = self.hold().await.ok().flatten();
        crate::print::live(&delay_in_words(delay, hold.as_ref()));
        self.is_shown = true;
    }

    /// There is no place in line to tell of.
    fn say(&mut self, trouble: &str) {
        if crate::print::is_watched() {
            crate::print::live(&format!("{trouble}; trying again"));
            self.is_shown = true;
        }
    }

    /// Before anything else is said.
    fn hide(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            crate::print::live("");
        }
    }

    async fn hold(&mut self) -> Outcome<Option<Fields>> {
        let link = match &mut self.link {
            Some(link) => link,
            None => self.link.insert(self.server.primary().await?),
        };
        let mut asking = cmd("LOCK.INFO");
        asking.arg(self.key);
        Ok(Fields::of(link.ask(&asking, SLICE).await?)?.maps("holds").into_iter().next())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.hide();
    }
}

/// "3rd in line; held by web-7:812 for 12 s (note)"
fn delay_in_words(delay: &Delay, hold: Option<&Fields>) -> String {
    let mut text = format!("{} in line", ordinal(delay.ahead + 1));
    if let Some(cooldown) = delay.cooldown_ms {
        text.push_str(&format!("; free in {} ({})", for_people(cooldown), delay.reason));
        return text;
    }
    let holder = hold.and_then(|hold| hold.shown("owner")).or_else(|| delay.holder.clone());
    let Some(holder) = holder else { return text };
    text.push_str(&format!("; held by {}", crate::owner::short(&holder)));
    if let Some(held) = hold.and_then(|hold| hold.number("held-ms")) {
        text.push_str(&format!(" for {}", for_people(held)));
    }
    match hold.and_then(|hold| hold.shown("note")) {
        Some(note) if !note.is_empty() => text.push_str(&format!(" ({note})")),
        _ => {}
    }
    text
}

fn ordinal(n: i64) -> String {
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
            Delay { reason: "queued".into(), ahead: 2, holder: Some("bob".into()), cooldown_ms: None };
        assert_eq!(delay_in_words(&delay, Some(&hold)), "3rd in line; held by web-7:812 for 12 s (nightly)");
        assert_eq!(delay_in_words(&delay, None), "3rd in line; held by bob");
        delay = Delay { reason: "min-hold".into(), ahead: 0, holder: None, cooldown_ms: Some(5_500) };
        assert_eq!(delay_in_words(&delay, None), "1st in line; free in 5 s (min-hold)");
    }

    #[test]
    fn places_in_line_are_said_as_people_say_them() {
        let said = [1, 2, 3, 4, 11, 12, 13, 21, 111, 1_002].map(ordinal).join(" ");
        assert_eq!(said, "1st 2nd 3rd 4th 11th 12th 13th 21st 111th 1002nd");
    }
}
