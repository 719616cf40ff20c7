//! Many clients whose key sets overlap, at the same time: everyone gets on, nobody starves, nobody has what another has.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

use crate::steps::fence_of;
use crate::support::{Connection, Server, Value};
use crate::traffic::{lock_stat, wait_quiet, Dice};

/// Longer than the whole test may take.
const WAIT: [&str; 2] = ["BLOCK", "25000"];

/// What a lock protects: somebody is in, and the newest fence that came in.
#[derive(Default)]
struct Room {
    taken: AtomicBool,
    fence: AtomicI64,
}

impl Room {
    fn enter(&self, fence: i64) {
        assert!(!self.taken.swap(true, SeqCst), "somebody is in already");
        let before = self.fence.swap(fence, SeqCst);
        assert!(fence > before, "{fence} after {before}");
    }

    fn leave(&self) {
        assert!(self.taken.swap(false, SeqCst), "somebody was thrown out");
    }
}

/// `LOCK.MACQUIRE`, entering, leaving and `LOCK.MRELEASE`.
fn dine(conn: &mut Connection, owner: &str, rooms: &[Room], keys: &[usize]) {
    let names: Vec<String> = keys.iter().map(|key| format!("fork-{key}")).collect();
    let count = names.len().to_string();
    let mut command = vec!["LOCK.MACQUIRE", owner, &count];
    command.extend(names.iter().map(String::as_str));
    let release: Vec<&str> = [&["LOCK.MRELEASE"], &command[1..]].concat();
    command.extend(WAIT);
    let fence = fence_of(&conn.cmd(&command));
    keys.iter().for_each(|key| rooms[*key].enter(fence));
    keys.iter().for_each(|key| rooms[*key].leave());
    assert_eq!(conn.cmd(&release), names.len() as i64);
}

/// The same with LOCK.ACQUIRE and LOCK.RELEASE.
fn snack(conn: &mut Connection, owner: &str, rooms: &[Room], key: usize) {
    let name = format!("fork-{key}");
    let fence = fence_of(&conn.cmd(&[&["LOCK.ACQUIRE", &name, owner], &WAIT[..]].concat()));
    rooms[key].enter(fence);
    rooms[key].leave();
    assert_eq!(conn.cmd(&["LOCK.RELEASE", &name, owner]), 1);
}

fn rooms(count: usize) -> Vec<Room> {
    (0..count).map(|_| Room::default()).collect()
}

#[test]
fn the_philosophers_dine() {
    for count in [5, 10] {
        let server = Server::start();
        let rooms = rooms(count);
        std::thread::scope(|scope| {
            for seat in 0..count {
                let (mut conn, rooms) = (server.connect(), &rooms);
                let owner = format!("philosopher-{seat}");
                scope.spawn(move || {
                    // Left hand first, all of them: taken one by one this is the classical deadlock.
                    (0..200).for_each(|_| dine(&mut conn, &owner, rooms, &[seat, (seat + 1) % count]));
                });
            }
        });
        wait_quiet(&server);
        assert_eq!((lock_stat(&server, "held"), lock_stat(&server, "deadlocks")), (0, 0));
        assert_eq!(lock_stat(&server, "granted"), count as i64 * 200 * 2);
        assert!(lock_stat(&server, "handed_off") > 0, "nobody has ever waited");
    }
}

#[test]
fn random_sets_of_keys_never_get_stuck_and_never_meet() {
    const FORKS: usize = 6;
    let server = Server::start();
    let rooms = rooms(FORKS);
    std::thread::scope(|scope| {
        for client in 0..8_u64 {
            let (mut conn, rooms) = (server.connect(), &rooms);
            let owner = format!("client-{client}");
            scope.spawn(move || {
                let mut dice = Dice::new(client + 1);
                for _ in 0..200 {
                    let mut keys: Vec<usize> = (0..FORKS).collect();
                    // Some of them, in any order.
                    for at in 0..FORKS {
                        keys.swap(at, dice.roll(FORKS as u64) as usize);
                    }
                    keys.truncate(1 + dice.roll(4) as usize);
                    match dice.roll(4) {
                        0 => snack(&mut conn, &owner, rooms, keys[0]),
                        _ => dine(&mut conn, &owner, rooms, &keys),
                    }
                }
            });
        }
    });
    wait_quiet(&server);
    assert_eq!((lock_stat(&server, "held"), lock_stat(&server, "deadlocks")), (0, 0));
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
}

/// Each of the locks is wanted by two others all the time, so that the three are hardly ever free together by chance.
#[test]
fn traffic_on_the_single_keys_starves_nobody() {
    const MEALS: i64 = 50;
    let server = Server::start();
    let rooms = rooms(3);
    let (full, snacks) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (mut conn, rooms, full, snacks) = (server.connect(), &rooms, &full, &snacks);
            let owner = format!("single-{client}");
            scope.spawn(move || {
                while !full.load(SeqCst) {
                    snack(&mut conn, &owner, rooms, client % 3);
                    snacks.fetch_add(1, SeqCst);
                }
            });
        }
        let mut conn = server.connect();
        let meals = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..MEALS).for_each(|_| dine(&mut conn, "group", &rooms, &[0, 1, 2]));
        }));
        full.store(true, SeqCst);
        meals.expect("the group starves");
    });
    // While it waits each of the others comes in at most once, and once again before it asks anew.
    let snacks = snacks.load(SeqCst);
    println!("{snacks} snacks beside {MEALS} meals");
    assert!(snacks > 0, "there was no traffic");
    wait_quiet(&server);
}

#[test]
fn a_group_lets_in_nobody_who_came_later() {
    let server = Server::start();
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "a", "alice"]));
    let mut group = super::macquire_in_line(&server, "group 2 a b");
    // However often somebody tries, and though b is free all the time.
    for _ in 0..100 {
        assert_eq!(server.cmd(&["LOCK.ACQUIRE", "b", "later"]), Value::Nil);
    }
    let mut later = super::line_up(&server, server.connect(), "LOCK.ACQUIRE b later BLOCK 0");
    assert_eq!(server.cmd(&["LOCK.RELEASE", "a", "alice"]), 1);
    super::assert_all_granted(&server, &mut group, &["a", "b"], "group");
    later.expect_nothing_pending();
}
