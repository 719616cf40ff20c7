//! That core, model and replica agree, and that the invariants hold.

use super::super::model::class;
use super::*;

impl Pair {
    /// Core, model and replica agree, and the invariants hold.
    pub(super) fn check(&mut self) {
        let World { keyspace, manager, replica, .. } = &self.world;
        manager.check();
        keyspace.values().chain(replica.values()).for_each(Lock::check);
        let (mut indexed, mut tied) = (0, 0);
        for (key, expected) in self.model.holds.iter().enumerate() {
            let lock = keyspace.get(&key);
            let holds = lock.map_or(&[][..], Lock::holds);
            assert_eq!(holds.len(), expected.len(), "holds of {key}");
            for (hold, expected) in holds.iter().zip(expected) {
                let fence = *self.fences.entry(expected.grant).or_insert(hold.fence);
                assert_eq!(hold.fence, fence, "one fence for each grant");
                assert_eq!(seen(hold, manager, expected, &self.fences), *expected, "hold of {key}");
            }
            let queue = manager
                .waiters
                .iter(db_of(key), KEYS[key])
                .map(|(_, waiter)| waiter.request.owner.as_bytes());
            let waiting = self.model.queue(key).map(|waiter| OWNERS[waiter.owner]);
            assert!(queue.eq(waiting), "queue of {key}");
            let attached = manager.waiters.iter(db_of(key), KEYS[key]).map(|(id, waiter)| {
                let client = waiter.attached().map(|attached| attached.client);
                assert!(client.is_none_or(|client| client != id), "a client is not its ticket");
                (waiter.deadline, waiter.attached().map(|attached| (attached.until, attached.keep_ms)))
            });
            let expected = self.model.queue(key).map(|waiter| (waiter.deadline, waiter.attached));
            assert!(attached.eq(expected), "who is attached in the queue of {key}");
            let Some(lock) = lock else {
                assert!(!replica.contains_key(&key), "the replica has a lock that is free");
                continue;
            };
            assert!(!lock.is_free(), "a free lock has no key");
            assert!(
                lock.limit() < ALL || lock.occupancy().taken() <= u64::from(ALL),
                "I1, I9: never beside a writer"
            );
            assert_eq!(replica.get(&key).map(digest), Some(digest(lock)), "I14: the replica agrees");
            let cooldown = lock.cooldowns();
            let all = lock.holds().iter().chain(cooldown.iter().map(|cooldown| &cooldown.hold));
            for hold in all {
                indexed += 1;
                assert!(manager.leases.has(db_of(key), hold), "I7: the index knows the hold");
            }
            tied += lock
                .holds()
                .iter()
                .filter_map(crate::primitive::Hold::tie)
                .filter(|tie| !tie.is_orphaned())
                .count();
            let seen = cooldown.iter().map(|cooldown| {
                (
                    cooldown.hold.owner.as_bytes(),
                    cooldown.hold.fence,
                    cooldown.hold.permits,
                    cooldown.hold.deadline,
                    cooldown.why,
                )
            });
            let expected = self.model.cooldown[key].iter().map(|cooldown| {
                (
                    OWNERS[cooldown.owner],
                    self.fences[&cooldown.grant],
                    cooldown.permits,
                    cooldown.until,
                    cooldown.why,
                )
            });
            assert!(seen.eq(expected), "the cooldowns of {key}");
        }
        self.check_listed();
        self.check_ledger();
        watch::check(&self.world, &self.model, &self.fences);
        let fences: BTreeSet<Fence> = self.fences.values().copied().collect();
        assert_eq!(fences.len(), self.fences.len(), "I3: no fence twice");
        assert_eq!(manager.leases.len(), indexed, "nothing is left of holds that ended");
        assert_eq!(manager.ties.len(), tied, "nor of their ties");
        assert_eq!(manager.waiters.len(), self.model.waiters.len());
        let is_client = |waiter: &&Waiter| waiter.kind == WaiterKind::Client || waiter.attached.is_some();
        assert_eq!(manager.waiters.clients(), self.model.waiters.iter().filter(is_client).count());
    }
}

impl Pair {
    /// All that a request leaves behind, but for what only the next one needs.
    pub(crate) fn left_behind(&self) -> String {
        let World { keyspace, manager, .. } = &self.world;
        let manager::LockManager {
            stats, history, ledger, leases, fences, recovery, ties, provisional, ..
        } = manager;
        let stats: Vec<_> = stats.rows().collect();
        let times = [&history.waits, &history.holds, &history.delays];
        let times = times.map(|times| (times.count(), times.sum(), times.max(), times.powers()));
        let names: Vec<_> = leases.names().collect();
        let (longest, due) =
            (recovery.leases.longest(), (leases.next_deadline(), leases.ending(), leases.bytes()));
        format!(
            "{keyspace:?} {stats:?} {times:?} {ledger:?} {names:?} {due:?} {fences:?} {longest:?} {} {}",
            ties.len(),
            provisional.len()
        )
    }

    /// The list of locks has each that is held, that cools or that somebody waits for, once.
    fn check_listed(&self) {
        let World { keyspace, manager, .. } = &self.world;
        for db in 0..DATABASES {
            let (mut listed, mut next) = (Vec::new(), Some(0));
            while let Some(from) = next {
                let stretch = manager.stretch(db, from);
                assert!(stretch.next.is_none_or(|next| next > from), "the list goes on");
                listed.extend(stretch.names);
                next = stretch.next;
            }
            listed.sort_unstable();
            let is_there = |key: &usize| {
                db_of(*key) == db && (keyspace.contains_key(key) || self.model.queue(*key).next().is_some())
            };
            let mut expected: Vec<&[u8]> = (0..KEYS.len()).filter(is_there).map(|key| KEYS[key]).collect();
            expected.sort_unstable();
            assert_eq!(listed, expected, "the list of locks");
        }
    }

    /// The memory of holds that have ended is true.
    fn check_ledger(&self) {
        let ledger = &self.world.manager.ledger;
        let pairs = (0..KEYS.len()).flat_map(|key| (0..OWNERS.len()).map(move |owner| (key, owner)));
        for (key, owner) in pairs {
            let of = Named { db: db_of(key), key: KEYS[key], owner: OWNERS[owner] };
            let past = self.model.past.get(&(key, owner)).copied();
            for grant in [None, past].into_iter().take(if past.is_some() { 2 } else { 1 }) {
                let expected = self.model.end_of(key, owner, grant);
                let expected = expected.map(|(grant, how)| (self.fences[&grant], how));
                let found = ledger.find(of, grant.map(|grant| self.fences[&grant]));
                assert_eq!(found.map(|ended| (ended.fence, class(ended.how))), expected, "{of:?} {grant:?}");
            }
        }
    }
}

/// The facts that two servers agree on.
fn digest(lock: &Lock) -> Vec<String> {
    let part = |hold: &crate::primitive::Hold| {
        let crate::primitive::Hold { owner, fence, permits, lease, extra, .. } = hold;
        let extra = extra.as_ref().map(|extra| (&extra.note, extra.keys, &extra.entries));
        let tie = hold.tie().map(|tie| (tie.node, tie.client, tie.grace));
        let capped = hold.bounds().is_some_and(|bounds| bounds.cap != Moment::NEVER);
        let extra =
            extra.filter(|(note, keys, entries)| !note.is_empty() || *keys > 1 || !entries.is_plain());
        format!("{owner:?} {fence:?} {permits:?} {lease:?} {extra:?} {tie:?} {capped}")
    };
    let cooldown = lock.cooldowns().iter().map(|cooldown| (&cooldown.hold, cooldown.why));
    let cooldown = cooldown.map(|(hold, why)| format!("{} {why:?}", part(hold)));
    lock.holds().iter().map(part).chain(cooldown).collect()
}

/// A hold of the core in the model's words.
fn seen(
    hold: &crate::primitive::Hold,
    manager: &manager::LockManager,
    expected: &Hold,
    fences: &BTreeMap<usize, Fence>,
) -> Hold {
    let entries = (0..ENTRIES.len()).filter(|entry| hold.entries().has(ENTRIES[*entry])).collect();
    let rollback = manager.provisional.get(&hold.fence).map(|grant| match &grant.rollback {
        manager::Rollback::EndHold { .. } => Rollback::EndHold,
        manager::Rollback::Downgrade(old) => {
            let grant = fences.iter().find(|(_, fence)| *fence == old).map(|(grant, _)| *grant);
            Rollback::Downgrade { grant: grant.unwrap() }
        }
    });
    Hold {
        owner: OWNERS.iter().position(|owner| *owner == hold.owner.as_bytes()).unwrap(),
        grant: expected.grant,
        permits: hold.permits,
        lease: hold.lease,
        deadline: hold.deadline,
        keys: hold.keys() as usize,
        entries,
        bounds: hold.bounds().copied().unwrap_or_default(),
        is_wanted: hold.revoke_requested(),
        is_unclaimed: hold.is_unclaimed(),
        provisional: rollback,
    }
}
