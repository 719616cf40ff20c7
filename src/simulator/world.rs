//! A deployment in one thread: a primary, its replica and a replica of that, clients, and messages that take their time. A list of events is
//! played, and at every moment the holds that clients believe in are compared with what the locks allow.

use std::collections::BTreeMap;

use super::server::{File, Line, Lines, Reply, Server};
use crate::primitive::codec::Source;
use crate::primitive::occupancy::Occupancy;
use crate::primitive::permits::ALL;
use crate::primitive::recovery::Length;
use crate::primitive::Permits;

/// How many clients there are. Each is one owner.
pub(super) const CLIENTS: usize = 4;

/// The locks: two that are taken alone or shared, and a semaphore of two permits.
pub(super) const KEYS: [&str; 3] = ["k", "m", "s"];

/// The locks of one request: one lock, or two together.
pub(super) const ASKED: [&[usize]; 4] = [&[0], &[1], &[2], &[0, 1]];

/// After so many µs a client gives a request up.
const PATIENCE_US: u64 = 60_000;

/// How far the clocks of servers are off.
const SKEWS_US: [i64; 4] = [0, 30_000, -40_000, 80_000];

/// The things that may happen in a run, and those that may not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// How long nothing is granted after a promotion.
    pub window: Length,
    /// The shortest and the longest lease that clients ask for.
    pub lease_ms: (u64, u64),
    /// How far a replica may lag behind the server that it follows, in µs.
    pub lag_us: u64,
    /// Which of the others does not hold.
    pub without: Option<Condition>,
}

/// The conditions of the promise, beside the lengths of leases and windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The old primary grants nothing after the promotion of its replica.
    OldOneEnds,
    /// Owners renew no hold that is over by their own clocks.
    OwnClocks,
    /// Nobody ends the holds of others.
    NothingBroken,
    /// The servers have heard of some lock when it begins.
    LocksKnown,
    /// No slot is moved away from a server whose window is open.
    SlotsStay,
    /// No pause of writes goes on when a server is promoted.
    WritesGoOn,
}

impl Conditions {
    pub(super) fn hold(self, condition: Condition) -> bool {
        self.without != Some(condition)
    }
}

/// The next thing to happen. Every event means something in every state, so that any of them can be left out of a run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// Time passes.
    Pass { us: u64 },
    /// A client goes on with locks: it asks for them, renews them or gives them back.
    Act { client: usize, asked: usize, choice: u32, lease_ms: u64, there_us: u64, back_us: u64 },
    /// The primary dies, with what has not been heard yet. So long after that the first or the second of the replicas is promoted.
    Fail { after_us: u64, heir: usize },
    /// The primary dies, and is started anew so long after that, with a file that lacks so many of the last lines.
    Restart { after_us: u64, cut: usize },
    /// The primary hands over to its replica when that has heard all of it.
    HandOver,
    /// The slot of all locks is moved to a server that has known nothing of them.
    Move,
    /// An operator has all servers write nothing for so long, or until one hands over.
    Pause { us: u64 },
    /// An operator ends the holds of a lock.
    Break { key: usize },
}

/// A hold that a client believes in.
#[derive(Clone, Copy, Debug)]
struct Belief {
    /// The locks that were granted together.
    keys: &'static [usize],
    fence: i64,
    permits: Permits,
    /// Counted from before its request was sent.
    until_us: u64,
    /// When the server said so.
    said_us: u64,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    since_us: u64,
}

#[derive(Debug)]
enum Message {
    Request {
        from: Sender,
        line: Line,
        back_us: u64,
        server: usize,
    },
    Reply {
        to: Sender,
        reply: Reply,
        line: Line,
        said_us: u64,
    },
    Stream {
        to: usize,
        lines: Lines,
    },
    Promotion,
    /// This server is there again.
    Start(usize),
}

/// A client's request, by which it knows the reply.
#[derive(Clone, Copy, Debug)]
struct Sender {
    client: usize,
    keys: &'static [usize],
    number: u64,
    sent_us: u64,
    permits: Permits,
    lease_ms: u64,
}

/// The outcome of a run.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub failovers: u64,
    pub grants: u64,
    /// Holds that a new primary did not know and took back in.
    pub reinstated: u64,
    /// Holds that ended because such a one had come after them.
    pub displaced: u64,
    /// Holds that were renewed, and such that were refused to their owners though their leases went on.
    pub renewed: u64,
    pub refused: u64,
    /// The fault that was found, if there was one.
    pub violation: Option<String>,
    /// The events of the run, a line each; empty unless it was asked for.
    pub story: Vec<String>,
}

pub(super) struct World {
    conditions: Conditions,
    now_us: u64,
    servers: Vec<Server>,
    /// `None` between a primary's death and the promotion of its replica.
    primary: Option<usize>,
    /// The server that goes on as a primary though it is none any more.
    split: Option<usize>,
    /// The first follows the primary, the second follows the first.
    replicas: [usize; 2],
    /// When what was told last arrives at each of them.
    links_us: [u64; 2],
    /// Which of them is promoted next.
    heir: usize,
    /// Until then nothing is written.
    paused_until_us: u64,
    /// That of the primary.
    file: File,
    /// On their way: when each arrives, and its number.
    messages: BTreeMap<(u64, u64), Message>,
    sent: u64,
    pending: [[Option<Pending>; KEYS.len()]; CLIENTS],
    beliefs: [[Option<Belief>; KEYS.len()]; CLIENTS],
    newest: BTreeMap<Vec<u8>, u64>,
    /// When an operator last ended the holds of a lock.
    broken_us: [u64; KEYS.len()],
    tells: bool,
    outcome: Outcome,
    requests: u64,
}

impl World {
    /// A primary with its replicas, and nobody has any lock.
    pub(super) fn new(conditions: Conditions, tells: bool) -> Self {
        let mut primary = Server::new('A', 0, 0);
        if conditions.hold(Condition::LocksKnown) {
            primary.know_of_a_lock();
        }
        let replica = Server::synced('B', 30_000, &primary);
        let second = Server::synced('C', -40_000, &replica);
        let file = File { base: primary.save(), lines: Vec::new() };
        Self {
            conditions,
            now_us: 0,
            servers: vec![primary, replica, second],
            primary: Some(0),
            split: None,
            replicas: [1, 2],
            links_us: [0; 2],
            heir: 0,
            paused_until_us: 0,
            file,
            messages: BTreeMap::new(),
            sent: 0,
            pending: Default::default(),
            beliefs: Default::default(),
            newest: BTreeMap::new(),
            broken_us: Default::default(),
            tells,
            outcome: Outcome::default(),
            requests: 0,
        }
    }

    /// Plays the events, up to the first that lets something go wrong.
    pub(super) fn play(mut self, events: &[Event]) -> Outcome {
        for event in events {
            match *event {
                Event::Pass { us } => self.pass(us),
                Event::Act { .. } => self.act(*event),
                Event::Fail { after_us, heir } => self.fail(after_us, heir),
                Event::Restart { after_us, cut } => self.restart(after_us, cut),
                Event::HandOver => self.hand_over(),
                Event::Move => self.move_slot(),
                Event::Pause { us } => {
                    self.tell(|_| format!("CLIENT PAUSE {} WRITE on all servers", us / 1000));
                    self.paused_until_us = self.paused_until_us.max(self.now_us + us);
                }
                Event::Break { key } => self.break_holds(key),
            }
            if self.outcome.violation.is_some() {
                return self.outcome;
            }
        }
        // Every owner lets its lock go by the end of the lease, and nobody waits for one that is free.
        self.pass(4_000_000);
        for server in &self.servers {
            self.outcome.reinstated += server.manager.stats.reinstated.get();
            self.outcome.displaced += server.manager.stats.displaced.get();
        }
        if let Some(key) = self.primary.and_then(|at| self.servers[at].stuck()) {
            self.wrong(&format!("somebody waits for {key}, which is free"));
        }
        self.outcome
    }

    fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.tells {
            let line = format!("{:5}.{:03} ms  {}", self.now_us / 1000, self.now_us % 1000, what(self));
            self.outcome.story.push(line);
        }
    }

    fn wrong(&mut self, what: &str) {
        self.tell(|_| format!("WRONG: {what}"));
        self.outcome.violation.get_or_insert(what.to_owned());
    }

    fn send(&mut self, at_us: u64, message: Message) {
        self.sent += 1;
        self.messages.insert((at_us, self.sent), message);
    }

    fn pass(&mut self, us: u64) {
        let end = self.now_us + us;
        while let Some(next) = self.messages.first_entry().filter(|next| next.key().0 <= end) {
            let ((at, _), message) = next.remove_entry();
            self.advance(at);
            self.receive(message);
            if self.outcome.violation.is_some() {
                return;
            }
        }
        self.advance(end);
    }

    fn advance(&mut self, now_us: u64) {
        self.now_us = now_us;
        for at in [self.primary, self.split].into_iter().flatten() {
            self.run_due(at);
        }
        for at in self.replicas {
            self.servers[at].wait_until(now_us, false);
        }
    }

    fn is_paused(&self) -> bool {
        self.now_us < self.paused_until_us
    }

    /// Does what is due on a primary.
    fn run_due(&mut self, at: usize) {
        let may_write = !self.is_paused();
        self.servers[at].wait_until(self.now_us, may_write);
        self.spread(at);
    }

    /// Sends what a server has told to its replica, and notes what it has granted.
    fn spread(&mut self, at: usize) {
        let told = std::mem::take(&mut self.servers[at].told);
        for (key, fence) in std::mem::take(&mut self.servers[at].granted) {
            self.outcome.grants += 1;
            let newest = self.newest.insert(key, fence);
            if newest >= Some(fence) && self.split.is_none() {
                self.wrong(&format!("fence {fence} after {newest:?}"));
            }
        }
        if Some(at) != self.primary {
            return;
        }
        for lines in told {
            self.file.lines.push(lines.clone());
            self.stream(0, lines);
        }
    }

    /// Sends a step of the stream to the first or the second of the replicas.
    fn stream(&mut self, to: usize, lines: Lines) {
        // Each message is as late as chance has it, and none overtakes another.
        let lag = self.conditions.lag_us * (self.sent * 7_919 % 101) / 100;
        let at = self.links_us[to].max(self.now_us + lag);
        self.links_us[to] = at;
        self.send(at, Message::Stream { to, lines });
    }

    fn act(&mut self, event: Event) {
        let Event::Act { client, asked, choice, lease_ms, there_us, back_us } = event else { return };
        let now = self.now_us;
        let may_be_late = !self.conditions.hold(Condition::OwnClocks) && choice % 2 == 0;
        let is_believed = |belief: &Belief| belief.until_us > now || may_be_late;
        let belief = ASKED[asked].iter().find_map(|key| self.beliefs[client][*key].filter(is_believed));
        // Of what came together nothing is renewed or given back alone.
        let keys = belief.map_or(ASKED[asked], |belief| belief.keys);
        let waits_for = |key: &usize| {
            self.pending[client][*key].is_some_and(|pending| pending.since_us + PATIENCE_US > now)
        };
        if keys.iter().any(waits_for) {
            return;
        }
        // While there are two, half of the clients talk to each.
        let server = match self.split {
            Some(old) if client < CLIENTS / 2 => Some(old),
            _ => self.primary,
        };
        let Some(server) = server else { return };
        let permits = belief.map_or_else(|| wanted(keys, choice), |belief| belief.permits);
        let name = client_name(client);
        let words = match belief {
            Some(Belief { fence, permits, .. }) if keys == [0] && choice % 8 < 3 => {
                let is_alone = permits == Permits::EXCLUSIVE;
                if let Some(belief) = self.beliefs[client][0].as_mut().filter(|_| is_alone) {
                    // From the moment in which it lets others in.
                    belief.permits = Permits::SHARED;
                }
                let mode = if is_alone { "SHARED" } else { "EXCLUSIVE" };
                format!("LOCK.CONVERT {} {name} {mode} FENCE {fence}", KEYS[0])
            }
            Some(Belief { fence, .. }) if choice % 16 == 6 => {
                format!("{} PX {lease_ms} FENCE {fence}{}", acquire(keys, name), mode(permits))
            }
            Some(Belief { fence, .. }) if choice % 4 < 3 => {
                format!("{} FENCE {fence}{}", renew(keys, name, lease_ms), mode(permits))
            }
            Some(Belief { fence, .. }) => {
                keys.iter().for_each(|key| self.beliefs[client][*key] = None);
                format!("{} FENCE {fence}", release(keys, name))
            }
            None => {
                let wait = if choice % 3 == 0 { " QUEUE 500" } else { "" };
                format!("{} PX {lease_ms}{wait}{}", acquire(keys, name), mode(permits))
            }
        };
        self.requests += 1;
        let from = Sender { client, keys, number: self.requests, sent_us: now, permits, lease_ms };
        let pending = Pending { number: self.requests, since_us: now };
        keys.iter().for_each(|key| self.pending[client][*key] = Some(pending));
        let line: Line = words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        self.send(now + there_us, Message::Request { from, line, back_us, server });
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Request { from, line, back_us, server } => {
                if Some(server) != self.primary && Some(server) != self.split {
                    return;
                }
                if self.is_paused() {
                    return self.send(self.paused_until_us, Message::Request { from, line, back_us, server });
                }
                let reply = self.servers[server].execute(&line);
                self.tell(|world| {
                    let (name, text) = (world.servers[server].name, text(&line));
                    format!("{name} {text} -> {reply:?}")
                });
                self.spread(server);
                self.send(
                    self.now_us + back_us,
                    Message::Reply { to: from, reply, line, said_us: self.now_us },
                );
            }
            Message::Reply { to, reply, line, said_us } => self.hear(to, &reply, &line, said_us),
            Message::Stream { to, lines } => {
                let at = self.replicas[to];
                self.tell(|world| {
                    let lines: Vec<String> = lines.iter().map(text).collect();
                    format!("{} hears {}", world.servers[at].name, lines.join(" and "))
                });
                self.servers[at].apply(&lines, Source::Primary);
                if to == 0 {
                    self.stream(1, lines);
                }
            }
            Message::Promotion => {
                self.outcome.failovers += 1;
                self.promote(self.replicas[self.heir], |server, window| server.promote(window));
            }
            Message::Start(old) => {
                self.outcome.failovers += 1;
                // Nobody tells it of a pause.
                self.paused_until_us = 0;
                let server = self.servers[old].restarted(self.now_us, &self.file);
                self.servers.push(server);
                self.promote(self.servers.len() - 1, |server, window| server.promote(window));
            }
        }
    }

    /// A client hears the reply to its request, if it still waits for it.
    fn hear(&mut self, to: Sender, reply: &Reply, line: &Line, said_us: u64) {
        let Sender { client, keys, number, sent_us, permits, lease_ms } = to;
        let is_awaited =
            |key: &usize| self.pending[client][*key].is_some_and(|pending| pending.number == number);
        if !keys.iter().all(is_awaited) {
            return;
        }
        let until_us = sent_us + lease_ms * 1000;
        let names_fence = line.iter().any(|word| word == b"FENCE");
        for key in keys {
            self.pending[client][*key] = None;
            let belief = &mut self.beliefs[client][*key];
            match (line[0].as_slice(), reply) {
                (b"LOCK.ACQUIRE" | b"LOCK.MACQUIRE", Ok(Some(fence))) => {
                    *belief = Some(Belief { keys, fence: *fence, permits, until_us, said_us });
                }
                (b"LOCK.ACQUIRE" | b"LOCK.MACQUIRE", Ok(None)) if names_fence => *belief = None,
                (b"LOCK.RENEW" | b"LOCK.MRENEW", Ok(Some(left))) if *left != 0 => {
                    self.outcome.renewed += 1;
                    if let Some(belief) = belief {
                        (belief.until_us, belief.said_us) = (until_us, said_us);
                    }
                }
                (b"LOCK.RENEW" | b"LOCK.MRENEW", Ok(_)) => {
                    let is_live = belief.take().is_some_and(|belief| belief.until_us > self.now_us);
                    self.outcome.refused += u64::from(is_live);
                }
                (b"LOCK.CONVERT", Ok(Some(fence))) if line[3] == b"EXCLUSIVE" => {
                    // Its lease goes on as it was.
                    if let Some(belief) = belief {
                        (belief.fence, belief.permits) = (*fence, Permits::EXCLUSIVE);
                    }
                }
                // Refused: it knows nothing new.
                _ => {}
            }
        }
        keys.iter().for_each(|key| self.check(*key));
    }

    /// The holds that clients believe in must be such that a lock can have them.
    fn check(&mut self, key: usize) {
        let mut occupancy = Occupancy::default();
        let now = self.now_us;
        let broken_us = self.broken_us[key];
        let of_key = |beliefs: &[Option<Belief>; KEYS.len()]| {
            // That the holder of a broken lock believes in it until it asks is no fault of a failover.
            beliefs[key].filter(|belief| belief.until_us > now && belief.said_us >= broken_us)
        };
        let beliefs: Vec<_> = self.beliefs.iter().map(of_key).collect();
        let is_right = beliefs.iter().flatten().all(|belief| {
            let fits = occupancy.fits(belief.permits);
            occupancy.add(belief.permits);
            fits
        });
        if is_right {
            return;
        }
        let believers = beliefs.iter().enumerate();
        let names: Vec<String> = believers
            .filter_map(|(client, belief)| {
                Some(format!("{} (fence {})", client_name(client), (*belief)?.fence))
            })
            .collect();
        self.wrong(&format!("{} hold {} at one time", names.join(" and "), KEYS[key]));
    }

    fn fail(&mut self, after_us: u64, heir: usize) {
        let Some(old) = self.primary.take() else { return };
        self.heir = heir;
        self.tell(|world| format!("{} dies", world.servers[old].name));
        let goes_on = !self.conditions.hold(Condition::OldOneEnds);
        self.split = goes_on.then_some(old);
        self.lose_messages(goes_on);
        self.send(self.now_us + after_us, Message::Promotion);
    }

    /// Messages that a server told before it went, and that nobody has heard, are lost; so are requests to it, unless
    /// it goes on.
    fn lose_messages(&mut self, goes_on: bool) {
        self.messages.retain(|_, message| match message {
            // The replica goes on telling its own.
            Message::Stream { to, .. } => *to > 0,
            Message::Request { .. } => goes_on,
            _ => true,
        });
    }

    fn restart(&mut self, after_us: u64, cut: usize) {
        let Some(old) = self.primary.take() else { return };
        self.split = None;
        self.tell(|world| format!("{} dies, and {cut} lines of its file are lost", world.servers[old].name));
        self.lose_messages(false);
        self.file.lines.truncate(self.file.lines.len().saturating_sub(cut));
        self.send(self.now_us + after_us, Message::Start(old));
    }

    fn hand_over(&mut self) {
        let Some(old) = self.primary.take() else { return };
        self.tell(|world| format!("{} hands over", world.servers[old].name));
        // Its clients have to ask again, and nothing that it has told is lost.
        let all = std::mem::take(&mut self.messages);
        for (at, message) in all {
            match message {
                Message::Stream { to: 0, .. } => self.receive(message),
                Message::Request { server, .. } if server == old => {}
                _ => _ = self.messages.insert(at, message),
            }
        }
        self.paused_until_us = 0;
        self.promote(self.replicas[0], |server, _| server.succeed());
    }

    fn move_slot(&mut self) {
        let Some(old) = self.primary else { return };
        if self.servers[old].manager.recovery.is_open() && self.conditions.hold(Condition::SlotsStay) {
            return;
        }
        self.tell(|world| format!("{}'s slot is moved away", world.servers[old].name));
        self.lose_messages(false);
        // Fences go by clocks, and none may be behind by more than a move takes: here it takes no time.
        let server = Server::moved_to(self.next_name(), SKEWS_US[3], &self.servers[old]);
        self.servers.push(server);
        self.promote(self.servers.len() - 1, |_, _| {});
    }

    /// This server is the primary from now on, and others its replicas.
    fn promote(&mut self, new: usize, take_over: impl FnOnce(&mut Server, Length)) {
        if self.conditions.hold(Condition::WritesGoOn) {
            self.paused_until_us = 0;
        }
        self.primary = Some(new);
        self.file = File { base: self.servers[new].save(), lines: Vec::new() };
        take_over(&mut self.servers[new], self.conditions.window);
        self.tell(|world| format!("{} is the primary", world.servers[new].name));
        // A replica of it goes on with its stream; all others are filled anew, and what is under way to those before is lost.
        let goes_on = new == self.replicas[0];
        for (at, message) in std::mem::take(&mut self.messages) {
            let message = match message {
                Message::Stream { to: 1, lines } if goes_on => Message::Stream { to: 0, lines },
                Message::Stream { .. } => continue,
                other => other,
            };
            self.messages.insert(at, message);
        }
        let now = self.now_us;
        let (first, link_us) =
            if goes_on { (self.replicas[1], self.links_us[1]) } else { (self.replica_of(new), now) };
        self.replicas = [first, self.replica_of(first)];
        self.links_us = [link_us, now];
        self.run_due(new);
    }

    /// One more server, with all that this one knows.
    fn replica_of(&mut self, primary: usize) -> usize {
        let number = self.servers.len();
        let skew_us = SKEWS_US[number % SKEWS_US.len()];
        self.servers.push(Server::synced(self.next_name(), skew_us, &self.servers[primary]));
        number
    }

    fn next_name(&self) -> char {
        char::from(b'A' + (self.servers.len() % 26) as u8)
    }

    fn break_holds(&mut self, key: usize) {
        let Some(primary) = self.primary.filter(|_| !self.is_paused()) else { return };
        let line: Line = vec![b"LOCK.BREAK".to_vec(), KEYS[key].as_bytes().to_vec()];
        let reply = self.servers[primary].execute(&line);
        self.tell(|world| format!("{} {} -> {reply:?}", world.servers[primary].name, text(&line)));
        self.broken_us[key] = self.now_us;
        self.spread(primary);
    }
}

fn client_name(client: usize) -> char {
    char::from(b'w' + client as u8)
}

/// How a client wants these locks.
fn wanted(keys: &[usize], choice: u32) -> Permits {
    match (keys, choice / 4 % 3) {
        ([2], 0) => Permits { limit: 2, count: 2 },
        ([2], _) => Permits { limit: 2, count: 1 },
        (_, 0) => Permits::SHARED,
        _ => Permits::EXCLUSIVE,
    }
}

fn acquire(keys: &[usize], owner: char) -> String {
    match keys {
        [key] => format!("LOCK.ACQUIRE {} {owner}", KEYS[*key]),
        _ => format!("LOCK.MACQUIRE {owner} {}", names(keys)),
    }
}

fn renew(keys: &[usize], owner: char, lease_ms: u64) -> String {
    match keys {
        [key] => format!("LOCK.RENEW {} {owner} PX {lease_ms}", KEYS[*key]),
        _ => format!("LOCK.MRENEW {owner} {lease_ms} {}", names(keys)),
    }
}

fn release(keys: &[usize], owner: char) -> String {
    match keys {
        [key] => format!("LOCK.RELEASE {} {owner}", KEYS[*key]),
        _ => format!("LOCK.MRELEASE {owner} {}", names(keys)),
    }
}

/// How many they are, and which.
fn names(keys: &[usize]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| KEYS[*key]).collect();
    format!("{} {}", names.len(), names.join(" "))
}

/// The words that ask for it so.
fn mode(permits: Permits) -> String {
    match permits {
        Permits::EXCLUSIVE => String::new(),
        Permits { limit: ALL, .. } => " SHARED".to_owned(),
        Permits { limit, count } => format!(" LIMIT {limit} PERMITS {count}"),
    }
}

fn text(line: &Line) -> String {
    let words: Vec<String> = line.iter().map(|word| word.escape_ascii().to_string()).collect();
    words.join(" ")
}
