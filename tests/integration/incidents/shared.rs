//! Readers and writers: the life of one reader is nothing to the others, and one name is one lock.

use std::time::Duration;

use super::holds::Holds;
use crate::steps::{acquire, ask, assert_changes_nothing, fence_of, release, set_string, words, WRONGTYPE};
use crate::support::{wait_until, Server, Value};
use crate::traffic::{lock_stat, Dice};

/// Readers of one lock shared one time to live. A reader with a short lease cut that of a reader with a long one, whose
/// work a writer then ran into; or a long one kept the lock for readers who had crashed. Here each reader ends when its
/// own lease does, whatever the others ask for, renew and give back meanwhile.
#[test]
fn h1_each_reader_ends_on_its_own_time() {
    const READERS: u64 = 6;
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
    let server = Server::start();
    let mut lock = Holds::new(server.connect(), "k");
    let mut dice = Dice::new(1);
    let mut step = || {
        let reader = format!("reader-{}", dice.roll(READERS));
        let lease = match dice.roll(4) {
            0 => LONGEST,
            1 => Duration::from_millis(1_000 + dice.roll(60_000)),
            _ => Duration::from_millis(1 + dice.roll(10)),
        };
        match dice.roll(8) {
            0 | 1 => lock.acquire(&reader, lease, 1, i64::MAX, &["SHARED"]),
            2 => lock.renew(&reader, None),
            3..6 => lock.renew(&reader, Some(lease)),
            _ => {
                lock.release(&reader);
            }
        }
        lock.check();
    };
    wait_until("hundreds of readers to end by themselves", || {
        (0..50).for_each(|_| step());
        lock_stat(&server, "expired") > 200
    });
    for n in 0..READERS {
        lock.release(&format!("reader-{n}"));
    }
    assert_eq!((lock.check(), server.cmd(&["DBSIZE"]).int()), (0, 0));
    assert_eq!(lock_stat(&server, "lease_index_entries"), 0);
}

/// A plain lock and a read lock were two things that lay under one name without knowing of each other, and both were held.
/// Here a name is one lock: whatever it is held as, a request of another kind gets nothing, waits or is refused; and a name
/// with other data is no lock at all.
#[test]
fn h3_one_name_is_never_held_in_two_ways() {
    let server = Server::start();
    let modes = [
        ("exclusive", ""),
        ("shared", "SHARED"),
        ("semaphore", "LIMIT 3"),
        ("semaphore", "LIMIT 1000000 PERMITS 1"),
    ];
    for (mode, kind) in modes {
        acquire(&server, &format!("k first PX 60000 {kind}"));
        for (_, other) in modes.iter().filter(|(_, other)| *other != kind) {
            assert_changes_nothing(&server, || {
                for owner in ["second", "first"] {
                    let reply = ask(&server, &format!("LOCK.ACQUIRE k {owner} {other}"));
                    let is_refused = matches!(&reply, Value::Error(text) if text.starts_with("LOCK"));
                    assert!(reply == Value::Nil || is_refused, "{owner}, {kind} and {other}: {reply:?}");
                }
            });
            let info = server.cmd(&["LOCK.INFO", "k"]);
            assert_eq!((info.field("mode").text().as_str(), info.field("holds").items().len()), (mode, 1));
        }
        release(&server, "k", "first");
    }
    // Nor beside data of another type, whichever was there first.
    set_string(&server, "text");
    acquire(&server, "k first SHARED PX 60000");
    assert_changes_nothing(&server, || {
        for (_, kind) in modes {
            assert_eq!(ask(&server, &format!("LOCK.ACQUIRE text first BLOCK 0 {kind}")), WRONGTYPE);
        }
        assert!(ask(&server, "APPEND k more").error().starts_with("WRONGTYPE "));
        assert_eq!(ask(&server, "SETNX k text"), 0);
    });
    // Two who ask in one packet for the same free name, each in its own way: one of them has it.
    for (_, kind) in modes {
        for (_, other) in modes.iter().filter(|(_, other)| *other != kind) {
            let (one, two) =
                (format!("LOCK.ACQUIRE new one {kind} PX 60000"), format!("LOCK.ACQUIRE new two {other}"));
            let mut conn = server.connect();
            conn.send_together(&[&words(&one), &words(&two)]);
            fence_of(&conn.read());
            assert!(!matches!(conn.read(), Value::Int(_)), "{kind} and {other}");
            release(&server, "new", "one");
        }
    }
    assert_eq!(lock_stat(&server, "held"), 1, "k is, and nothing else");
}
