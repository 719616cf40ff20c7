//! One hold from its request to its end, by the rules that a careful client keeps: it counts its lease from before it asked,
//! claims what it was granted after a wait, renews with its fence and its mode, and stops believing when its clock says so.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::RngExt;

use crate::conn::{Reply, PATIENCE};
use crate::history::{End, Span};
use crate::load::World;
use crate::locks::{Mode, Want};
use crate::route::{Client, Tie, PAUSE};

/// How a client comes by a lock that is not free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    /// It asks again and again.
    Try,
    /// It waits on its connection, in slices.
    Wait,
    /// It asks what has become of its ticket.
    Ticket,
    /// It asks again and again, and the hold ends with its connection.
    Tied,
}

/// How long a tied hold outlasts its connection. Another server that takes over knows no connection, so this is also for how
/// long a tied hold is believed in after the last word of its server.
const GRACE: Duration = Duration::from_millis(500);

/// Each look at the own clock while a lock is held.
const TICK: Duration = Duration::from_millis(50);

pub(crate) struct Owner<'a> {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) client: Client<'a>,
    pub(crate) world: &'a World,
    pub(crate) rng: StdRng,
    pub(crate) spans: Vec<Span>,
}

struct Belief {
    fence: i64,
    start: Instant,
    until: Instant,
    /// From one word of the server to the end of it, if there is no other.
    lasts: Duration,
    /// The connection that it is tied to.
    tie: Option<Tie>,
}

impl Owner<'_> {
    /// Takes the lock, keeps it for so long, and gives it back. Returns at once when the load is to end.
    pub(crate) fn hold_once(&mut self, want: &Want, how: How, keep: Duration) {
        let Some(mut belief) = self.acquire(want, how) else { return };
        if keep > self.world.lease {
            self.world.long_holds.fetch_add(1, Ordering::Relaxed);
        }
        let (end, how) = self.keep(want, &mut belief, keep);
        for lock in &want.locks {
            let micros = |at: Instant| at.duration_since(self.world.epoch).as_micros() as u64;
            self.spans.push(Span {
                lock: *lock,
                owner: self.id,
                mode: want.mode,
                fence: belief.fence,
                start: micros(belief.start),
                end: micros(end),
                how,
            });
        }
        // Now and then a tied hold is left to its end.
        if belief.tie.is_some() && self.rng.random_bool(0.3) {
            self.client.hang_up();
        } else {
            self.give_back(want, &belief);
        }
    }

    /// Asks until somebody answers, for as long as the hold can last on a server.
    fn give_back(&mut self, want: &Want, belief: &Belief) {
        let line = want.release(&self.name, Some(belief.fence));
        while self.ask(want, &line, PATIENCE).int().is_none() && Instant::now() < belief.until {
            std::thread::sleep(PAUSE);
        }
    }

    fn ask(&mut self, want: &Want, line: &str, wait: Duration) -> Reply {
        self.world.requests.fetch_add(1, Ordering::Relaxed);
        let reply = self.client.ask(&want.key(), line, wait);
        if let Reply::Refused(code, text) = &reply {
            self.world.count_refusal(code, text);
        }
        reply
    }

    fn acquire(&mut self, want: &Want, how: How) -> Option<Belief> {
        let lease = self.world.lease;
        let (more, wait) = match how {
            How::Try => (String::new(), Duration::ZERO),
            How::Wait => (" BLOCK 1000 QUEUE 3000".to_owned(), Duration::from_secs(1)),
            How::Ticket => (" QUEUE 3000".to_owned(), Duration::ZERO),
            How::Tied => (format!(" TIED {}", GRACE.as_millis()), Duration::ZERO),
        };
        let lasts = if how == How::Tied { GRACE.min(lease) } else { lease };
        let line = want.acquire(&self.name, lease.as_millis() as u64, &more);
        while !self.world.is_over() {
            let asked = Instant::now();
            let reply = self.ask(want, &line, wait + PATIENCE);
            if let Some(fence) = reply.int() {
                // Nobody knows when a grant after a wait began.
                let from = if how == How::Wait { self.claim(want, fence) } else { Some(asked) };
                let (start, until) = (Instant::now(), from.unwrap_or(asked) + lasts);
                if from.is_some() && start < until {
                    let tie = (how == How::Tied).then(|| self.client.tie());
                    return Some(Belief { fence, start, until, lasts, tie });
                }
            }
            if wait.is_zero() || reply != Reply::Nil {
                std::thread::sleep(Duration::from_millis(self.rng.random_range(10..40)));
            }
        }
        self.ask(want, &want.release(&self.name, None), PATIENCE);
        None
    }

    /// From when on the lease lasts of a grant that came by waiting, if it can be claimed.
    fn claim(&mut self, want: &Want, fence: i64) -> Option<Instant> {
        let asked = Instant::now();
        (self.renew(want, fence, self.world.lease / 4) == Some(true)).then_some(asked)
    }

    /// Whether the server says that the hold goes on; `None` if it says nothing.
    fn renew(&mut self, want: &Want, fence: i64, wait: Duration) -> Option<bool> {
        let line = want.renew(&self.name, self.world.lease.as_millis() as u64, fence);
        match self.ask(want, &line, PATIENCE.min(wait)) {
            Reply::Int(left) => Some(left != 0),
            Reply::List(left) => Some(left.iter().all(|left| *left != Reply::Int(0))),
            _ => None,
        }
    }

    /// Whether it is tied to a connection that is gone.
    fn is_cut(&self, belief: &Belief) -> bool {
        belief.tie.is_some_and(|tie| self.client.is_cut(tie))
    }

    /// Until when it was held, and why no longer. Who is tied asks nothing over another connection, and takes its hold for lost
    /// with the one it has.
    fn keep(&mut self, want: &Want, belief: &mut Belief, keep: Duration) -> (Instant, End) {
        let lasts = belief.lasts;
        let in_silence = if belief.tie.is_some() { End::Cut } else { End::Expired };
        let give_back = belief.start + keep;
        let mut renewal = belief.until - lasts + lasts / 3;
        loop {
            if self.is_cut(belief) {
                return (Instant::now().min(belief.until), End::Cut);
            }
            if want.mode == Mode::Exclusive {
                want.locks.iter().for_each(|lock| self.world.store.write(*lock, belief.fence, belief.until));
            }
            let now = Instant::now();
            if now >= belief.until {
                return (belief.until, in_silence);
            }
            if now >= give_back || self.world.is_over() {
                return (now, End::Released);
            }
            if now >= renewal {
                let answer = self.renew(want, belief.fence, lasts / 4);
                let heard = Instant::now();
                match answer {
                    _ if heard >= belief.until => return (belief.until, in_silence),
                    // Whatever another server says of it.
                    _ if self.is_cut(belief) => return (heard, End::Cut),
                    Some(true) => {
                        belief.until = now + lasts;
                        renewal = now + lasts / 3;
                    }
                    Some(false) => return (heard, End::Refused),
                    None => renewal = heard + PAUSE,
                }
            }
            let next = [give_back, belief.until, renewal].into_iter().min().unwrap_or(now);
            std::thread::sleep(next.saturating_duration_since(Instant::now()).min(TICK));
        }
    }
}
