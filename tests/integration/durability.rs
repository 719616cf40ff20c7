//! What was acknowledged under `appendfsync always` is there after SIGKILL, and fences grow through every way of losing data.

use std::time::Duration;

use crate::steps::acquire;
use crate::support::{wait_until, Connection, Server, Stop, Value};
use crate::traffic::{lock_stat, try_cmd, wait_no_child};

/// What one client was told before the server was gone.
#[derive(Default)]
struct Witness {
    /// Locks that were granted, with their fences, and not asked back.
    held: Vec<(String, i64)>,
    /// Locks whose release was confirmed.
    freed: Vec<String>,
    last_fence: i64,
}

/// Takes one lock after the other and gives every second one back, until the server is gone. What was asked last and never
/// answered is nobody's knowledge.
fn witness(mut conn: Connection, name: &str) -> Witness {
    let mut seen = Witness::default();
    for n in 0.. {
        let key = format!("{name}-{n}");
        let Ok(reply) = try_cmd(&mut conn, &["LOCK.ACQUIRE", &key, "o", "NOEXPIRE"]) else { break };
        assert!(reply.int() > seen.last_fence, "{} after {}", reply.int(), seen.last_fence);
        seen.last_fence = reply.int();
        if n % 2 == 0 {
            seen.held.push((key, seen.last_fence));
            continue;
        }
        let Ok(reply) = try_cmd(&mut conn, &["LOCK.RELEASE", &key, "o"]) else { break };
        assert_eq!(reply, 1);
        seen.freed.push(key);
    }
    seen
}

/// The fence of the present hold, 0 if there is none.
fn held_fence(server: &Server, key: &str) -> i64 {
    let info = server.cmd(&["LOCK.INFO", key]);
    info.field("holds").items().first().map_or(0, |hold| hold.field("fence").int())
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_a_kill() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    let mut answers = 0;
    for round in 0..4 {
        let clients: Vec<_> = (0..8)
            .map(|n| {
                let (conn, name) = (server.connect(), format!("key-{round}-{n}"));
                std::thread::spawn(move || witness(conn, &name))
            })
            .collect();
        // The kill falls where it falls.
        wait_until("some locks to be granted", || lock_stat(&server, "granted") > 300 + 70 * round);
        if round == 2 {
            server.cmd(&["BGREWRITEAOF"]);
        }
        server.restart(Stop::Kill);
        let told: Vec<Witness> =
            clients.into_iter().map(|client| client.join().expect("a client failed")).collect();
        for (key, fence) in told.iter().flat_map(|seen| &seen.held) {
            assert_eq!(held_fence(&server, key), *fence, "{key}");
        }
        for key in told.iter().flat_map(|seen| &seen.freed) {
            assert_eq!(held_fence(&server, key), 0, "{key}");
        }
        let newest = told.iter().map(|seen| seen.last_fence).max().unwrap();
        assert!(acquire(&server, "next o NOEXPIRE") > newest);
        answers += told.iter().map(|seen| seen.held.len() + 2 * seen.freed.len()).sum::<usize>();
        server.cmd(&["FLUSHALL"]);
    }
    assert!(answers > 400, "only {answers} answers: this shows little");
    println!("{answers} answers were right");
}

#[test]
fn the_holder_of_a_contested_lock_is_the_last_that_was_told() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    for round in 0..3 {
        let clients: Vec<_> = (0..8)
            .map(|n| {
                let (mut conn, owner) = (server.connect(), format!("o{round}-{n}"));
                std::thread::spawn(move || {
                    // The newest fence this client was told, and whether the release after it was acknowledged.
                    let mut told = (0, true);
                    loop {
                        let take = ["LOCK.ACQUIRE", "k", &owner, "NOEXPIRE", "BLOCK", "0"];
                        let Ok(reply) = try_cmd(&mut conn, &take) else { return told };
                        told = (reply.int(), false);
                        let Ok(reply) = try_cmd(&mut conn, &["LOCK.RELEASE", "k", &owner]) else {
                            return told;
                        };
                        assert_eq!(reply, 1);
                        told.1 = true;
                    }
                })
            })
            .collect();
        wait_until("some hand-offs", || lock_stat(&server, "handed_off") > 50 + 30 * round);
        server.restart(Stop::Kill);
        let told: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("a client failed")).collect();
        let (newest, released) = told.into_iter().max().unwrap();
        assert!(newest > 0, "nobody got the lock");
        let held = held_fence(&server, "k");
        // A release or a grant whose answer was cut off may have been written; one that was answered has been.
        assert!(held == 0 || held > newest || (held == newest && !released), "{held}, {newest}, {released}");
        server.cmd(&["DEL", "k"]);
        assert!(acquire(&server, "k next") > newest.max(held));
        server.cmd(&["DEL", "k"]);
    }
}

/// Fences of one lock, each of which must be above all before it.
struct Fences<'a> {
    server: &'a mut Server,
    last: i64,
}

impl Fences<'_> {
    /// Takes the lock afresh and leaves it held.
    fn grow(&mut self, after: &str) {
        self.server.cmd(&["DEL", "k"]);
        let fence = acquire(self.server, "k o NOEXPIRE");
        assert!(fence > self.last, "after {after}: {fence}, but {} was given before", self.last);
        self.last = fence;
    }

    /// The same, and the lock is free afterwards.
    fn grow_and_release(&mut self, after: &str) {
        self.grow(after);
        assert_eq!(self.server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    }
}

/// Every way in which a lock's key can go, with data that are still there.
const WAYS_TO_GO: &[&[&str]] = &[
    &["DEL", "k"],
    &["UNLINK", "k"],
    &["SET", "k", "v"],
    &["RENAME", "k", "l"],
    &["MOVE", "k", "5"],
    &["SWAPDB", "0", "5"],
    &["FLUSHDB"],
    &["FLUSHALL", "ASYNC"],
    &["DEBUG", "RELOAD"],
    &["DEBUG", "LOADAOF"],
];

/// Takes the sequence half an hour ahead of the clock: only what the server remembers can keep it growing then.
fn run_ahead(server: &Server) -> i64 {
    let ahead = crate::golden::Golden::of(server).with_fence_ahead(Duration::from_secs(1800));
    assert_eq!(ahead.restore(server, "ahead"), "OK");
    assert_eq!(server.cmd(&["DEL", "ahead"]), 1);
    acquire(server, "k o NOEXPIRE")
}

#[test]
fn fences_grow_whatever_becomes_of_the_key() {
    let mut server = Server::with(&["appendonly yes"]);
    let last = run_ahead(&server);
    let mut fences = Fences { server: &mut server, last };
    for way in WAYS_TO_GO {
        fences.grow("a grant");
        fences.server.cmd(way);
        fences.grow(&way.join(" "));
        fences.grow_and_release("a grant");
        fences.server.cmd(way);
        fences.grow(&way.join(" "));
    }
}

#[test]
fn fences_grow_over_restarts_though_the_clock_is_behind() {
    for conf in [
        &["appendonly no", "save 3600 1"][..],
        &["appendonly yes", "appendfsync always"],
        &["appendonly yes", "appendfsync always", "aof-use-rdb-preamble no"],
    ] {
        let mut server = Server::with(conf);
        let last = run_ahead(&server);
        let mut fences = Fences { server: &mut server, last };
        for _ in 0..2 {
            fences.grow("a grant");
            fences.server.restart(Stop::Save);
            fences.grow_and_release("a restart with a held lock");
            fences.server.restart(Stop::Save);
            fences.grow("a restart without a lock");
            if conf[0] == "appendonly yes" {
                fences.server.restart(Stop::Kill);
                fences.grow_and_release("a kill with a held lock");
                fences.server.restart(Stop::Kill);
                fences.grow("a kill without a lock");
            }
        }
    }
}

#[test]
fn fences_grow_over_a_rewrite_with_a_preamble_though_no_lock_is_left() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    let last = run_ahead(&server);
    let mut fences = Fences { server: &mut server, last };
    fences.grow_and_release("a grant");
    fences.server.cmd(&["BGREWRITEAOF"]);
    wait_no_child(fences.server);
    fences.server.restart(Stop::Kill);
    fences.grow("a rewrite");
}

#[test]
fn fences_grow_though_the_end_of_the_aof_is_lost() {
    let mut server = Server::with(&["appendonly yes", "appendfsync no"]);
    let mut last = 0;
    for round in 0..3 {
        for n in 0..50 {
            last = acquire(&server, &format!("key-{round}-{n} o"));
        }
        server.stop(Stop::Kill);
        let dir = server.dir().join("appendonlydir");
        let newest = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let path = newest.filter(|path| path.to_string_lossy().contains(".incr.")).max().unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        // In the middle of a command, as a power loss does it.
        file.set_len(length / 2 + round).unwrap();
        server.start_again();
        assert!(lock_stat(&server, "held") > 0, "nothing is left");
        let lost = format!("key-{round}-49");
        assert_eq!(server.cmd(&["EXISTS", &lost]), 0, "nothing was lost");
        assert!(acquire(&server, &format!("{lost} p")) > last);
    }
}

#[test]
fn fences_grow_when_everything_is_lost() {
    let mut server = Server::start();
    let fence = acquire(&server, "k o");
    server.restart(Stop::Kill);
    assert!(acquire(&server, "k o") > fence);
}

#[test]
fn an_old_dump_does_not_set_fences_back() {
    let server = Server::start();
    let fence = acquire(&server, "k o NOEXPIRE");
    let old = server.cmd(&["DUMP", "k"]);
    let Value::Bulk(old) = old else { panic!("{old:?}") };
    let mut last = fence;
    for _ in 0..3 {
        server.cmd(&["DEL", "k"]);
        let next = acquire(&server, "k o");
        assert!(next > last);
        last = next;
        let restore: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &old, b"REPLACE"];
        assert_eq!(server.cmd(&restore), "OK");
        // The old hold is back with its old fence: whoever keeps the newest fence can tell.
        assert_eq!(held_fence(&server, "k"), fence);
        assert!(acquire(&server, "l o") > last);
        last = acquire(&server, "l2 o");
        server.cmd(&["DEL", "l", "l2"]);
    }
}
