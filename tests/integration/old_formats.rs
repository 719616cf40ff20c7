//! Files of earlier formats, as the module of that time wrote them. `fixtures/format-N` has an RDB file and an AOF,
//! each with the same locks: an exclusive one with a note, one with two readers, a semaphore; none of them expires.

use std::path::{Path, PathBuf};

use crate::golden::{dump, Golden, OLD_FORMAT};
use crate::steps::{digest, fence_of};
use crate::support::server::Setup;
use crate::support::{Server, Value};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/fixtures/format-1").join(name)
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
    let server = Setup::new().file(&fixture("dump.rdb"), "dump.rdb").start();
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
    let conf = ["appendonly yes", "appendfilename appendonly.aof"];
    let server = Setup::new().conf(&conf).file(&fixture("appendonly.aof"), "appendonly.aof").start();
    assert_locks(&server);
}

#[test]
fn a_payload_of_the_first_format_is_restored_and_dumped_in_the_present_one() {
    let server = Server::start();
    let golden = Golden::of(&server);
    let old = golden.with(|golden| golden.format = OLD_FORMAT);
    assert_eq!(old.restore(&server, "old"), "OK");
    assert_eq!(golden.restore(&server, "new"), "OK");
    let hold = |key: &str| server.cmd(&["LOCK.INFO", key]).field("holds").items()[0].clone();
    for field in ["owner", "fence", "permits", "entries", "keys", "lease-ms", "note"] {
        assert_eq!(hold("old").field(field), hold("new").field(field), "{field}");
    }
    assert_eq!(dump(&server, "old").len(), dump(&server, "new").len());
}
