//! Files of earlier formats, as the module of that time wrote them. `fixtures/format-N` has an RDB file and an AOF,
//! each with the same locks, none of which expires. Format 1: an exclusive one with a note, one with two readers, a
//! semaphore. Format 2: one that was entered under two ids, two that were taken together, and a semaphore whose limit was
//! lowered. Format 3: an exclusive one with a note that was handed over, a semaphore that was handed to two, one that was
//! entered under two ids, and one that was given to another owner. Format 4, whose RDB file has the form of today: an exclusive
//! one that was renewed with a note, a semaphore given back in part, one that was entered under four ids and left under two,
//! and one with bounds that are over.

use std::path::{Path, PathBuf};

use crate::golden::{dump, Golden, FORMAT};
use crate::steps::{digest, fence_of};
use crate::support::{wait_until, Server, Setup, Value};

fn fixture(format: u8, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/fixtures");
    root.join(format!("format-{format}")).join(name)
}

const AOF: [&str; 2] = ["appendonly yes", "appendfilename appendonly.aof"];

/// Owner, fence, permits, ids, and locks taken together.
type Hold = (String, i64, i64, i64, i64);

/// Mode and limit of a lock, and its holds.
fn shown(server: &Server, key: &str) -> (String, i64, Vec<Hold>) {
    let info = server.cmd(&["LOCK.INFO", key]);
    let hold = |hold: &Value| {
        let number = |field: &str| hold.field(field).int();
        assert_eq!(number("lease-ms"), -1);
        assert_eq!((number("max-left-ms"), number("min-left-ms"), number("grace-ms")), (-1, 0, -1));
        let owner = hold.field("owner").text();
        (owner, number("fence"), number("permits"), number("entries"), number("keys"))
    };
    let holds = info.field("holds").items().iter().map(hold).collect();
    (info.field("mode").text(), info.field("limit").int(), holds)
}

/// What stands in both files of format 2.
fn assert_locks_of_format_2(server: &Server) {
    let own = str::to_owned;
    let alice = (own("alice"), 1_795_402_273_379_425, 1, 2, 1);
    let bob = (own("bob"), 1_795_402_273_474_374, 1, 1, 2);
    let dave = (own("dave"), 1_795_402_273_493_788, 3, 1, 1);
    assert_eq!(shown(server, "mutex"), (own("exclusive"), 1, vec![alice]));
    assert_eq!(shown(server, "left"), (own("shared"), -1, vec![bob.clone()]));
    assert_eq!(shown(server, "right"), (own("shared"), -1, vec![bob]));
    assert_eq!(shown(server, "permits"), (own("semaphore"), 2, vec![dave]));
    assert_eq!(server.cmd(&["DBSIZE"]), 4);
}

#[test]
fn files_of_the_second_format_are_loaded_and_saved_in_the_present_one() {
    let from_rdb = Setup::new().file(&fixture(2, "dump.rdb"), "dump.rdb").start();
    let from_aof = Setup::new().conf(&AOF).file(&fixture(2, "appendonly.aof"), "appendonly.aof").start();
    for server in [&from_rdb, &from_aof] {
        assert_locks_of_format_2(server);
        let before = digest(server);
        assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
        assert_eq!(digest(server), before);
        assert_locks_of_format_2(server);
    }
    assert_eq!(digest(&from_rdb), digest(&from_aof));
}

/// What stands in both files of format 3.
fn assert_locks_of_format_3(server: &Server) {
    let own = str::to_owned;
    let bob = (own("bob"), 1_795_860_761_413_613, 1, 1, 1);
    let dave = (own("dave"), 1_795_860_761_643_245, 1, 1, 1);
    let erin = (own("erin"), 1_795_860_761_643_246, 2, 1, 1);
    let frank = (own("frank"), 1_795_860_761_650_081, 1, 2, 1);
    let heidi = (own("heidi"), 1_795_860_761_739_831, 1, 1, 1);
    assert_eq!(shown(server, "mutex"), (own("exclusive"), 1, vec![bob]));
    assert_eq!(shown(server, "permits"), (own("semaphore"), 3, vec![dave, erin]));
    assert_eq!(shown(server, "again"), (own("exclusive"), 1, vec![frank]));
    assert_eq!(shown(server, "given"), (own("exclusive"), 1, vec![heidi]));
    assert_eq!(server.cmd(&["DBSIZE"]), 4);
}

#[test]
fn files_of_the_third_format_are_loaded_and_saved_in_the_present_one() {
    let from_rdb = Setup::new().file(&fixture(3, "dump.rdb"), "dump.rdb").start();
    let from_aof = Setup::new().conf(&AOF).file(&fixture(3, "appendonly.aof"), "appendonly.aof").start();
    for server in [&from_rdb, &from_aof] {
        assert_locks_of_format_3(server);
        let before = digest(server);
        assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
        assert_eq!(digest(server), before);
        assert_locks_of_format_3(server);
    }
    assert_eq!(digest(&from_rdb), digest(&from_aof));
}

#[test]
fn files_of_the_fourth_format_are_loaded() {
    let from_rdb = Setup::new().file(&fixture(4, "dump.rdb"), "dump.rdb").start();
    let from_aof = Setup::new().conf(&AOF).file(&fixture(4, "appendonly.aof"), "appendonly.aof").start();
    let own = str::to_owned;
    for server in [&from_rdb, &from_aof] {
        for (key, mode, limit, owner, fence, permits, ids) in [
            ("mutex", "exclusive", 1, "alice", 1_795_873_243_238_974, 1, 1),
            ("seats", "semaphore", 5, "bob", 1_795_873_243_440_530, 3, 1),
            ("again", "exclusive", 1, "carol", 1_795_873_243_615_493, 1, 2),
            ("bound", "exclusive", 1, "dave", 1_795_873_243_978_457, 1, 1),
        ] {
            let hold = (own(owner), fence, permits, ids, 1);
            assert_eq!(shown(server, key), (own(mode), limit, vec![hold]), "{key}");
        }
        let mutex = server.cmd(&["LOCK.INFO", "mutex"]);
        assert_eq!(mutex.field("holds").items()[0].field("note"), &"written by the fourth format");
        assert_eq!(server.cmd(&["DBSIZE"]), 4);
    }
    assert_eq!(digest(&from_rdb), digest(&from_aof));
    for id in ["one", "three"] {
        assert_eq!(from_aof.cmd(&["LOCK.RELEASE", "again", "carol", "REENTRANT", id]), 1, "{id}");
    }
    assert_eq!(from_aof.cmd(&["EXISTS", "again"]), 0);
}

#[test]
fn locks_that_effects_could_make_once_do_not_keep_the_server_from_starting() {
    let server = Setup::new().file(&fixture(3, "unsound.rdb"), "dump.rdb").start();
    let own = str::to_owned;
    let alice = |permits| (own("alice"), 1_795_860_761_312_795, permits, 1, 1);
    for (key, mode, limit, hold) in [
        ("good", "exclusive", 1, alice(1)),
        // A rest beside a writer, and one with another limit.
        ("writer\n", "exclusive", 1, alice(1)),
        ("seats", "semaphore", 5, alice(2)),
        // No lease and no bounds, but an end.
        ("unbound", "exclusive", 1, alice(1)),
    ] {
        assert_eq!(shown(&server, key), (own(mode), limit, vec![hold]), "{key}");
    }
    // More permits than a semaphore can have: nothing is left of it.
    wait_until("what is left of the fifth to go", || server.cmd(&["DBSIZE"]) == 4);
    let log = server.log();
    for line in [
        r"'writer\x0a' was loaded without 1",
        "'seats' was loaded without 1",
        "'lowered' was loaded without 1",
    ] {
        assert!(log.contains(&format!("lock: the value of key {line} of its holds")), "{line}");
    }
    let before = digest(&server);
    assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(digest(&server), before);
}

/// What stands in both files of format 1.
fn assert_locks(server: &Server) {
    let holds = |key: &str| {
        let info = server.cmd(&["LOCK.INFO", key]);
        let hold = |hold: &Value| {
            let number = |field: &str| hold.field(field).int();
            (hold.field("owner").text(), number("fence"), number("permits"), number("lease-ms"))
        };
        let holds: Vec<_> = info.field("holds").items().iter().map(hold).collect();
        (info.field("mode").text(), info.field("limit").int(), holds)
    };
    let owner = |name: &str| name.to_owned();
    assert_eq!(holds("mutex"), (owner("exclusive"), 1, vec![(owner("alice"), 1_795_384_901_026_657, 1, -1)]));
    let readers =
        vec![(owner("bob"), 1_795_384_901_034_473, 1, -1), (owner("carol"), 1_795_384_901_045_738, 1, -1)];
    assert_eq!(holds("readers"), (owner("shared"), -1, readers));
    assert_eq!(
        holds("permits"),
        (owner("semaphore"), 5, vec![(owner("dave"), 1_795_384_901_054_602, 3, -1)])
    );
    let info = server.cmd(&["LOCK.INFO", "mutex"]);
    let hold = &info.field("holds").items()[0];
    assert_eq!(hold.field("note"), &"written by the first format");
    // What the first format did not know.
    assert_eq!((hold.field("entries"), hold.field("keys")), (&Value::Int(1), &Value::Int(1)));
    assert_eq!(server.cmd(&["DBSIZE"]), 3);
}

#[test]
fn an_rdb_file_of_the_first_format_is_loaded_and_saved_in_the_present_one() {
    let server = Setup::new().file(&fixture(1, "dump.rdb"), "dump.rdb").start();
    assert_locks(&server);
    let before = digest(&server);
    assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(digest(&server), before);
    assert_locks(&server);
    // It goes on where it was, and every new fence is newer.
    assert_eq!(server.cmd(&["LOCK.RELEASE", "mutex", "alice"]), 1);
    assert!(fence_of(&server.cmd(&["LOCK.ACQUIRE", "mutex", "bob"])) > 1_795_384_901_054_602);
}

#[test]
fn an_aof_of_the_first_format_is_loaded() {
    let server = Setup::new().conf(&AOF).file(&fixture(1, "appendonly.aof"), "appendonly.aof").start();
    assert_locks(&server);
}

#[test]
fn payloads_of_earlier_formats_are_restored_and_dumped_in_the_present_one() {
    let server = Server::start();
    let golden = Golden::of(&server);
    assert_eq!(golden.restore(&server, "new"), "OK");
    for format in 1..FORMAT {
        let old = golden.with(|golden| golden.format = format);
        assert_eq!(old.restore(&server, "old"), "OK");
        let hold = |key: &str| server.cmd(&["LOCK.INFO", key]).field("holds").items()[0].clone();
        for field in ["owner", "fence", "permits", "entries", "keys", "lease-ms", "note"] {
            assert_eq!(hold("old").field(field), hold("new").field(field), "{field} of format {format}");
        }
        assert_eq!(dump(&server, "old").len(), dump(&server, "new").len());
        assert_eq!(server.cmd(&["DEL", "old"]), 1);
    }
}
