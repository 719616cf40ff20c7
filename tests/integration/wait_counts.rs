//! INFO's account of the queue: each wait that began is counted once when it is over, whatever ended it.

use crate::steps::{ask, in_line, is_modern, words};
use crate::support::{skip, wait_until, Server, Value};
use crate::traffic::lock_stat;

/// Where a wait that has begun can be found.
const PLACES: [&str; 7] =
    ["waiting", "handed_off", "timed_out", "superseded", "cancelled", "abandoned", "failed"];

/// A way for a wait to end: what is so before, the command that waits, what ends it, and where it is counted. `id` stands
/// for the waiting client.
struct Way {
    before: &'static [&'static str],
    waits: &'static str,
    ends: &'static str,
    counted: &'static str,
}

const HELD: &[&str] = &["LOCK.ACQUIRE k alice"];
const WAITS: &str = "LOCK.ACQUIRE k bob BLOCK 0";
const BY_ITSELF: &str = "PING";

const TICKET: &str = "LOCK.ACQUIRE k bob QUEUE 60000";

const WAYS: [Way; 21] = [
    Way { before: HELD, waits: WAITS, ends: "LOCK.RELEASE k alice", counted: "handed_off" },
    Way { before: HELD, waits: WAITS, ends: "LOCK.TRANSFER k alice bob", counted: "handed_off" },
    Way {
        before: HELD,
        waits: "LOCK.ACQUIRE k bob SHARED BLOCK 0",
        ends: "LOCK.STEAL k bob",
        counted: "superseded",
    },
    Way { before: HELD, waits: "LOCK.ACQUIRE k bob BLOCK 20", ends: BY_ITSELF, counted: "timed_out" },
    Way {
        before: HELD,
        waits: "LOCK.ACQUIRE k bob BLOCK 0",
        ends: "CLIENT UNBLOCK id TIMEOUT",
        counted: "timed_out",
    },
    Way {
        before: HELD,
        waits: "LOCK.ACQUIRE k bob BLOCK 0",
        ends: "CLIENT UNBLOCK id ERROR",
        counted: "abandoned",
    },
    Way { before: HELD, waits: WAITS, ends: "CLIENT KILL ID id", counted: "abandoned" },
    Way { before: HELD, waits: WAITS, ends: "LOCK.CANCEL k bob", counted: "cancelled" },
    Way { before: HELD, waits: WAITS, ends: "SET k text", counted: "failed" },
    Way {
        before: &["LOCK.ACQUIRE k bob SHARED", "LOCK.ACQUIRE k alice SHARED"],
        waits: "LOCK.CONVERT k bob EXCLUSIVE BLOCK 0",
        ends: "LOCK.RELEASE k bob",
        counted: "failed",
    },
    Way {
        before: &["LOCK.ACQUIRE k bob SHARED", "LOCK.ACQUIRE k alice SHARED"],
        waits: "LOCK.CONVERT k bob EXCLUSIVE BLOCK 0",
        ends: "LOCK.RELEASE k alice",
        counted: "handed_off",
    },
    Way {
        before: &["LOCK.ACQUIRE k alice LIMIT 3"],
        waits: "LOCK.ACQUIRE k bob LIMIT 3 PERMITS 3 BLOCK 0",
        ends: "LOCK.SETLIMIT k 2",
        counted: "failed",
    },
    Way {
        before: HELD,
        waits: "LOCK.MACQUIRE bob 2 k l BLOCK 0",
        ends: "LOCK.RELEASE k alice",
        counted: "handed_off",
    },
    Way { before: HELD, waits: "LOCK.MACQUIRE bob 2 k l BLOCK 20", ends: BY_ITSELF, counted: "timed_out" },
    Way {
        before: HELD,
        waits: "LOCK.MACQUIRE bob 2 k l BLOCK 0",
        ends: "CLIENT KILL ID id",
        counted: "abandoned",
    },
    Way { before: HELD, waits: TICKET, ends: "LOCK.RELEASE k alice", counted: "handed_off" },
    Way { before: HELD, waits: TICKET, ends: "LOCK.TRANSFER k alice bob", counted: "handed_off" },
    Way { before: HELD, waits: TICKET, ends: "LOCK.STEAL k bob", counted: "handed_off" },
    Way { before: HELD, waits: "LOCK.ACQUIRE k bob QUEUE 20", ends: BY_ITSELF, counted: "timed_out" },
    Way { before: HELD, waits: TICKET, ends: "LOCK.CANCEL k bob", counted: "cancelled" },
    Way { before: HELD, waits: TICKET, ends: "SET k text", counted: "failed" },
];

/// How many waits are to be found in each place, those that are somewhere.
fn found(server: &Server) -> Vec<(&'static str, i64)> {
    let all = PLACES.map(|place| (place, lock_stat(server, place)));
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn each_end_of_a_wait_is_counted_in_one_place() {
    for way in WAYS {
        let server = Server::start();
        if way.ends.starts_with("CLIENT UNBLOCK") && !is_modern(&server) {
            skip(way.ends, "this server does not unblock clients of modules");
            continue;
        }
        for line in way.before {
            let reply = ask(&server, line);
            assert!(matches!(reply, Value::Int(_)), "{line}: {reply:?}");
        }
        let mut waiter = server.connect();
        let id = waiter.id().to_string();
        waiter.send(&words(way.waits));
        wait_until("the wait to begin", || lock_stat(&server, "queued") == 1);
        let ends = words(way.ends).into_iter().map(|word| if word == "id" { &id } else { word });
        let reply = server.cmd(&ends.collect::<Vec<_>>());
        assert!(!matches!(reply, Value::Error(_)), "{}: {reply:?}", way.ends);
        wait_until("the wait to end", || lock_stat(&server, "waiting") == 0);
        assert_eq!(found(&server), [(way.counted, 1)], "{}, {}", way.waits, way.ends);
    }
}

#[test]
fn a_wait_whose_place_is_taken_over_is_counted_and_the_new_one_too() {
    let server = Server::start();
    ask(&server, HELD[0]);
    let mut earlier = in_line(&server, WAITS);
    let mut later = server.connect();
    later.send(&words(WAITS));
    assert_eq!(earlier.read(), Value::Nil);
    assert_eq!(found(&server), [("waiting", 1), ("superseded", 1)]);
    assert_eq!(lock_stat(&server, "queued"), 2);
}

#[test]
fn whoever_waits_when_the_server_becomes_a_replica_is_counted() {
    let (server, primary) = (Server::start(), Server::start());
    ask(&server, HELD[0]);
    let _waiters: Vec<_> = ["bob", "carol", "dave"]
        .map(|owner| in_line(&server, &format!("LOCK.ACQUIRE k {owner} BLOCK 0")))
        .into();
    assert_eq!(server.cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
    wait_until("the waits to end", || lock_stat(&server, "waiting") == 0);
    // Which of the two depends on who sends them away first, the server or the module.
    assert_eq!(lock_stat(&server, "abandoned") + lock_stat(&server, "failed"), 3);
    assert_eq!(lock_stat(&server, "queued"), 3);
}
