//! Clients that were refused and sleep until a message says that the lock may be free, or until the lease of its holder
//! is over: the waking of a client library that locks with scripts and PUBLISH. Knows who sleeps in which group and who
//! is woken, and nothing of sockets, scripts or locks.

use std::collections::VecDeque;
use std::time::Instant;

/// How many of a group's sleepers a message wakes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wakes {
    One,
    All,
}

/// A group are those who share a subscription: the clients of one process that listen to one channel.
pub(super) struct Sleepers {
    /// The group of each client.
    members: Vec<usize>,
    groups: Vec<Group>,
    woken: VecDeque<usize>,
    /// No lease is over before this.
    alarm: Option<Instant>,
}

#[derive(Default)]
struct Group {
    asleep: VecDeque<Sleeper>,
    /// Tries that are open.
    asking: usize,
    /// Messages that found nobody asleep while tries were open. Such a try may be refused for what is over by now,
    /// so a refusal takes one of these and is tried again.
    unheard: usize,
}

struct Sleeper {
    client: usize,
    until: Instant,
}

impl Sleepers {
    /// Takes the group of each client.
    pub(super) fn new(members: Vec<usize>) -> Self {
        let groups = members.iter().max().map_or(0, |last| last + 1);
        Self {
            members,
            groups: (0..groups).map(|_| Group::default()).collect(),
            woken: VecDeque::new(),
            alarm: None,
        }
    }

    pub(super) fn asks(&mut self, client: usize) {
        self.of(client).asking += 1;
    }

    pub(super) fn granted(&mut self, client: usize) {
        self.of(client).answered();
    }

    /// Whether the client shall try again at once. Otherwise it sleeps, at most until the time given.
    pub(super) fn refused(&mut self, client: usize, until: Instant) -> bool {
        let group = self.of(client);
        let again = group.unheard > 0;
        group.unheard -= usize::from(again);
        group.answered();
        if !again {
            group.asleep.push_back(Sleeper { client, until });
            self.alarm = Some(self.alarm.map_or(until, |alarm| alarm.min(until)));
        }
        again
    }

    pub(super) fn message(&mut self, group: usize, wakes: Wakes) {
        let group = &mut self.groups[group];
        match wakes {
            Wakes::All => {
                self.woken.extend(group.asleep.drain(..).map(|sleeper| sleeper.client));
                group.unheard = group.asking;
            }
            Wakes::One => match group.asleep.pop_front() {
                Some(sleeper) => self.woken.push_back(sleeper.client),
                None => group.unheard = group.asking.min(group.unheard + 1),
            },
        }
    }

    pub(super) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// The next client that is to try again.
    pub(super) fn woken(&mut self, now: Instant) -> Option<usize> {
        if self.alarm.is_some_and(|alarm| alarm <= now) {
            self.ring(now);
        }
        self.woken.pop_front()
    }

    /// Wakes everybody whose lease is over, and finds the next alarm.
    fn ring(&mut self, now: Instant) {
        for group in &mut self.groups {
            let due = group.asleep.iter().filter(|sleeper| sleeper.until <= now);
            self.woken.extend(due.map(|sleeper| sleeper.client));
            group.asleep.retain(|sleeper| sleeper.until > now);
        }
        let asleep = self.groups.iter().flat_map(|group| &group.asleep);
        self.alarm = asleep.map(|sleeper| sleeper.until).min();
    }

    fn of(&mut self, client: usize) -> &mut Group {
        &mut self.groups[self.members[client]]
    }
}

impl Group {
    fn answered(&mut self) {
        self.asking -= 1;
        self.unheard = self.unheard.min(self.asking);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Three clients of one group, all refused, and when the first of them is over.
    fn three() -> (Sleepers, Instant) {
        let (mut sleepers, over) = (Sleepers::new(vec![0; 3]), Instant::now() + Duration::from_secs(30));
        for client in 0..3 {
            sleepers.asks(client);
            assert!(!sleepers.refused(client, over + Duration::from_secs(client as u64)));
        }
        (sleepers, over)
    }

    fn woken(sleepers: &mut Sleepers, now: Instant) -> Vec<usize> {
        std::iter::from_fn(|| sleepers.woken(now)).collect()
    }

    #[test]
    fn a_message_wakes_the_first_or_all() {
        let (mut sleepers, over) = three();
        let early = over - Duration::from_secs(1);
        assert!(woken(&mut sleepers, early).is_empty());
        sleepers.message(0, Wakes::One);
        assert_eq!(woken(&mut sleepers, early), [0]);
        sleepers.message(0, Wakes::All);
        assert_eq!(woken(&mut sleepers, early), [1, 2]);
    }

    #[test]
    fn the_end_of_a_lease_wakes_without_a_message() {
        let (mut sleepers, over) = three();
        assert_eq!(sleepers.alarm(), Some(over));
        assert_eq!(woken(&mut sleepers, over), [0]);
        assert_eq!(woken(&mut sleepers, over + Duration::from_secs(5)), [1, 2]);
        assert_eq!(sleepers.alarm(), None);
    }

    #[test]
    fn a_refusal_that_a_message_overtook_is_tried_again_once() {
        let (mut sleepers, over) = (Sleepers::new(vec![0, 1]), Instant::now());
        sleepers.asks(0);
        sleepers.asks(1);
        sleepers.message(0, Wakes::One);
        sleepers.message(0, Wakes::One);
        assert!(!sleepers.refused(1, over), "the other group heard nothing");
        assert!(sleepers.refused(0, over));
        sleepers.asks(0);
        assert!(!sleepers.refused(0, over));
    }

    #[test]
    fn a_message_that_came_before_the_try_does_not_count() {
        let (mut sleepers, over) = (Sleepers::new(vec![0]), Instant::now());
        sleepers.message(0, Wakes::All);
        sleepers.asks(0);
        assert!(!sleepers.refused(0, over));
        sleepers.message(0, Wakes::One);
        sleepers.asks(0);
        sleepers.message(0, Wakes::One);
        sleepers.granted(0);
        sleepers.asks(0);
        assert!(!sleepers.refused(0, over));
    }
}
