//! Clients that all want one lock, each in its own mode; they hold it for no time and come back at once.
//! The same for every peer, but for what a refused client does: ours waits in the server and is never refused,
//! that of a script sleeps until it is woken. Fails when somebody is inside who must not be.

use super::inside::{Inside, Role};
use super::lua::{set_clock, Commands, WAKE_ALL};
use super::sleepers::{Sleepers, Wakes};
use crate::driver::{At, Driver, Next, Script};
use crate::gauge::Gauge;
use crate::rounds::{interval, latencies, record, Sample, Share};
use anyhow::{bail, ensure, Result};
use hdrhistogram::Histogram;
use std::mem;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::scan::Reply;

pub(super) struct Crowd {
    clients: Vec<Client>,
    /// Nobody sleeps where the server keeps the line.
    sleepers: Option<Sleepers>,
    inside: Inside,
    counting: bool,
    finishing: bool,
    done: u64,
    latency: Histogram<u64>,
    pub books: Books,
}

/// Everything since the start, warm-up and drain included.
#[derive(Default)]
pub(super) struct Books {
    pub sent: u64,
    pub refused: u64,
    pub messages: u64,
    pub acquired: u64,
}

struct Client {
    role: Role,
    commands: Commands,
    state: State,
    /// When it first asked for the hold that it has or wants.
    asked: Instant,
    share: Share,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Resting,
    Asking,
    Asleep,
    Holding,
    Releasing,
}

impl Crowd {
    pub(super) fn new(clients: impl Iterator<Item = (Role, Commands)>, sleepers: Option<Sleepers>) -> Self {
        let client = |(role, commands)| Client {
            role,
            commands,
            state: State::Resting,
            asked: Instant::now(),
            share: Share::default(),
        };
        Self {
            clients: clients.map(client).collect(),
            sleepers,
            inside: Inside::default(),
            counting: false,
            finishing: false,
            done: 0,
            latency: latencies(),
            books: Books::default(),
        }
    }

    /// Runs for one interval. The latency is that from first asking to the grant.
    pub(super) fn sample(&mut self, driver: &mut Driver, gauge: &Gauge, length: Duration) -> Result<Sample> {
        self.finishing = false;
        let used = interval(driver, self, 0, gauge, length)?;
        let shares: Vec<_> = self.clients.iter_mut().map(|client| mem::take(&mut client.share)).collect();
        Ok(Sample {
            done: mem::take(&mut self.done),
            acquired: shares.iter().map(|share| share.acquired).sum(),
            latency: mem::replace(&mut self.latency, latencies()),
            used,
            shares,
        })
    }

    /// The largest number that were ever inside together.
    pub(super) fn most_inside(&self) -> usize {
        self.inside.most
    }

    /// The bytes of one try.
    fn ask(&mut self, index: usize, again: bool) -> &[u8] {
        let client = &mut self.clients[index];
        client.state = State::Asking;
        self.books.sent += 1;
        if let Some(sleepers) = &mut self.sleepers {
            sleepers.asks(index);
        }
        if let Some(at) = client.commands.clock {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            set_clock(&mut client.commands.pair.acquire, at, now.as_millis() as u64);
        }
        match &client.commands.again {
            Some(other) if again => other,
            _ => &client.commands.pair.acquire,
        }
    }

    fn answered(&mut self, index: usize, reply: &Reply<'_>, at: At) -> Result<Next<'_>> {
        let role = self.clients[index].role;
        match (&mut self.sleepers, reply) {
            (None, Reply::Int(fence)) => self.inside.fence(role, *fence)?,
            (Some(sleepers), Reply::Nil) => sleepers.granted(index),
            (Some(sleepers), Reply::Int(left)) => {
                self.books.refused += 1;
                if sleepers.refused(index, at.now + Duration::from_millis((*left).max(1) as u64)) {
                    return Ok(Next::Send(self.ask(index, true)));
                }
                self.clients[index].state = State::Asleep;
                return Ok(Next::Wait);
            }
            _ => bail!("client {index} asked and got {reply:?}"),
        }
        self.granted(index, at)
    }

    fn granted(&mut self, index: usize, at: At) -> Result<Next<'_>> {
        let client = &mut self.clients[index];
        self.inside.enter(client.role)?;
        client.state = State::Holding;
        self.books.acquired += 1;
        let waited = at.now - client.asked;
        if self.counting {
            client.share.acquired += 1;
            record(&mut self.latency, waited);
        }
        // A client that starves in the interval gets the lock only when the others have gone.
        if self.counting || self.finishing {
            client.share.longest_wait = client.share.longest_wait.max(waited);
        }
        // Grants that are read in one turn were made before anything of that turn is sent; releases go out last, so
        // that all who were inside together are seen together.
        Ok(Next::SendLast)
    }
}

impl Script for Crowd {
    fn begin(&mut self, index: usize, now: Instant) -> &[u8] {
        self.clients[index].asked = now;
        self.ask(index, false)
    }

    fn reply(&mut self, index: usize, reply: &Reply<'_>, at: At) -> Result<Next<'_>> {
        if let (Some(sleepers), Reply::Message(payload)) = (&mut self.sleepers, reply) {
            self.books.messages += 1;
            let wakes = if *payload == WAKE_ALL { Wakes::All } else { Wakes::One };
            sleepers.message(index - self.clients.len(), wakes);
            return Ok(Next::Wait);
        }
        match self.clients[index].state {
            State::Asking => self.answered(index, reply, at),
            State::Releasing => {
                ensure!(*reply == Reply::Int(1), "release by the holder replied {reply:?}");
                self.done += u64::from(self.counting);
                if self.finishing {
                    self.clients[index].state = State::Resting;
                    return Ok(Next::Rest);
                }
                Ok(Next::Send(self.begin(index, at.now)))
            }
            state => bail!("client {index} is {state:?} and got {reply:?}"),
        }
    }

    fn last(&mut self, index: usize, _now: Instant) -> &[u8] {
        let client = &mut self.clients[index];
        self.inside.leave(client.role);
        client.state = State::Releasing;
        self.books.sent += 1;
        &client.commands.pair.release
    }

    fn wake(&mut self, now: Instant) -> Option<(usize, &[u8])> {
        let client = self.sleepers.as_mut()?.woken(now)?;
        Some((client, self.ask(client, true)))
    }

    fn alarm(&self) -> Option<Instant> {
        self.sleepers.as_ref()?.alarm()
    }

    fn count(&mut self, on: bool) {
        self.counting = on;
    }

    fn finish(&mut self) {
        self.finishing = true;
    }
}
