//! What one lock must look like, going by nothing but the replies that its users got. Every reply leaves a span of time in
//! which the server must have done its step, so each hold is known to end between two moments. Holds no test; what does
//! not agree with the replies it states by a panic.

use std::time::{Duration, Instant};

use crate::support::{Connection, Value};

/// What two readings of time may differ by in any case.
const SLACK: Duration = Duration::from_millis(2);

/// A server that counts the ticks of its processor may run this part of the time too fast or too slow.
const DRIFT: u32 = 200;

/// A hold as its owner knows it.
struct Hold {
    owner: String,
    fence: i64,
    permits: i64,
    /// The longest lease since the last renewal: the one that a renewal without a time repeats.
    lease: Duration,
    /// When the lease was given, at the earliest.
    since: Instant,
    /// The hold surely stands before the first and is surely over after the second.
    earliest: Instant,
    latest: Instant,
}

/// A reply and when the server must have made it.
struct Told {
    reply: Value,
    from: Instant,
    to: Instant,
}

impl Told {
    fn surely_live(&self, hold: &Hold) -> bool {
        self.to + self.slack(hold) < hold.earliest
    }

    fn surely_over(&self, hold: &Hold) -> bool {
        self.from > hold.latest + self.slack(hold)
    }

    fn slack(&self, hold: &Hold) -> Duration {
        SLACK + self.to.duration_since(hold.since) / DRIFT
    }
}

/// One lock, all of whose users are one connection.
pub(super) struct Holds {
    conn: Connection,
    key: &'static str,
    holds: Vec<Hold>,
    last_fence: i64,
}

impl Holds {
    pub(super) fn new(conn: Connection, key: &'static str) -> Holds {
        Holds { conn, key, holds: Vec::new(), last_fence: 0 }
    }

    fn tell(&mut self, words: &[&str]) -> Told {
        let from = Instant::now();
        let reply = self.conn.cmd(words);
        Told { reply, from, to: Instant::now() }
    }

    fn take(&mut self, owner: &str) -> Option<Hold> {
        let at = self.holds.iter().position(|hold| hold.owner == owner)?;
        Some(self.holds.remove(at))
    }

    /// Permits of all holds of which this is so.
    fn permits(&self, of: impl Fn(&&Hold) -> bool) -> i64 {
        self.holds.iter().filter(of).map(|hold| hold.permits).sum()
    }

    /// Asks for `permits`, with words that say of what kind; nobody waits. There must be room for a new hold whenever
    /// there is, and only then. A hold that stands is raised.
    pub(super) fn acquire(&mut self, owner: &str, lease: Duration, permits: i64, room: i64, kind: &[&str]) {
        let ms = lease.as_millis().to_string();
        let told = self.tell(&[&["LOCK.ACQUIRE", self.key, owner, "PX", &ms], kind].concat());
        let earlier = self.take(owner);
        let (earliest, latest) = (told.from + lease, told.to + lease);
        if let Some(hold) = earlier.filter(|hold| told.reply == hold.fence || told.surely_live(hold)) {
            assert_eq!(told.reply, hold.fence, "{owner} has it already");
            assert!(!told.surely_over(&hold), "{owner} got a fence that was over");
            let (earliest, latest) = (hold.earliest.max(earliest), hold.latest.max(latest));
            self.holds.push(Hold { lease: hold.lease.max(lease), earliest, latest, ..hold });
            return;
        }
        if told.reply == Value::Nil {
            let most = self.permits(|hold| !told.surely_over(hold));
            assert!(most + permits > room, "{owner} got none of {room}, and at most {most} are taken");
            return;
        }
        let (fence, least) = (told.reply.int(), self.permits(|hold| told.surely_live(hold)));
        assert!(least + permits <= room, "{owner} got {permits} of {room}, and {least} are taken");
        assert!(fence > self.last_fence, "{fence} after {}", self.last_fence);
        self.last_fence = fence;
        self.holds.push(Hold {
            owner: owner.to_owned(),
            fence,
            permits,
            lease,
            since: told.from,
            earliest,
            latest,
        });
    }

    /// Renews with a lease, or with the one that there is.
    pub(super) fn renew(&mut self, owner: &str, lease: Option<Duration>) {
        let ms = lease.unwrap_or_default().as_millis().to_string();
        let words = ["LOCK.RENEW", self.key, owner, "PX", &ms];
        let told = self.tell(if lease.is_some() { &words } else { &words[..3] });
        let hold = self.take(owner);
        if told.reply == 0 {
            assert!(hold.is_none_or(|hold| !told.surely_live(&hold)), "{owner} could not renew what it has");
            return;
        }
        let hold = hold.filter(|hold| !told.surely_over(hold));
        let hold = hold.unwrap_or_else(|| panic!("{owner} renewed what it has not: {:?}", told.reply));
        let lease = lease.unwrap_or(hold.lease);
        assert_eq!(told.reply, lease.as_millis() as i64);
        let (earliest, latest) = (told.from + lease, told.to + lease);
        self.holds.push(Hold { lease, since: told.from, earliest, latest, ..hold });
    }

    /// Gives back what the owner has; whether there was something.
    pub(super) fn release(&mut self, owner: &str) -> bool {
        let told = self.tell(&["LOCK.RELEASE", self.key, owner]);
        let hold = self.take(owner);
        let released = told.reply == 1;
        if released {
            assert!(hold.is_some_and(|hold| !told.surely_over(&hold)), "{owner} released what was over");
        } else {
            assert_eq!(told.reply, 0);
            assert!(
                hold.is_none_or(|hold| !told.surely_live(&hold)),
                "{owner} could not release what it has"
            );
        }
        released
    }

    /// Compares what the server shows with what it must be. Replies how many permits are taken.
    pub(super) fn check(&mut self) -> i64 {
        let told = self.tell(&["LOCK.INFO", self.key]);
        let shown = told.reply.field("holds").items();
        for row in shown {
            let (owner, fence) = (row.field("owner").text(), row.field("fence").int());
            let known = self.holds.iter().find(|hold| hold.owner == owner && hold.fence == fence);
            let hold = known.unwrap_or_else(|| panic!("{owner} is said to hold {} with {fence}", self.key));
            assert_eq!(row.field("permits"), &Value::Int(hold.permits), "{owner}");
            // What is left is rounded up to a millisecond.
            let left = Duration::from_millis(row.field("left-ms").int() as u64);
            let least = hold.earliest.saturating_duration_since(told.to + told.slack(hold));
            let most = (hold.latest + told.slack(hold)).saturating_duration_since(told.from)
                + Duration::from_millis(1);
            assert!(least <= left && left <= most, "{owner}: {left:?}, not {least:?} to {most:?}");
        }
        // Whoever is not shown is gone for good.
        self.holds.retain(|hold| {
            let is_shown = shown.iter().any(|row| row.field("fence") == &Value::Int(hold.fence));
            assert!(is_shown || !told.surely_live(hold), "the hold of {} is gone too early", hold.owner);
            is_shown
        });
        self.permits(|_| true)
    }
}
