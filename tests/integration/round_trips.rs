//! Every way in which locks are stored and come back, or are known elsewhere: files, payloads, replicas. Holds no test; the
//! locks are the tests' own.

use crate::golden::{dump, restore};
use crate::steps::digest;
use crate::support::{Server, Stop, Value};
use crate::traffic::{follow, wait_no_child, wait_same_data};

/// Makes locks or latches with `prepare`, on a server for each way there is, and sees that they are the same after it. Then `check`
/// may ask the server what no digest says, and change what it likes.
pub(crate) fn assert_round_trips(keys: &[&str], prepare: impl Fn(&Server), check: impl Fn(&Server, &str)) {
    let prepared = |conf: &[&str]| {
        let server = Server::with(conf);
        prepare(&server);
        let before = seen(&server, keys);
        (server, before)
    };
    for preamble in ["yes", "no"] {
        let conf = ["appendonly yes", "appendfsync always", &format!("aof-use-rdb-preamble {preamble}")]
            .map(str::to_owned);
        let conf: Vec<&str> = conf.iter().map(String::as_str).collect();
        let (mut server, before) = prepared(&conf);
        server.restart(Stop::Kill);
        assert_eq!(seen(&server, keys), before, "from the commands of the AOF");
        assert!(!matches!(server.cmd(&["BGREWRITEAOF"]), Value::Error(_)));
        wait_no_child(&server);
        server.restart(Stop::Kill);
        assert_eq!(seen(&server, keys), before, "from a rewritten AOF, preamble {preamble}");
        check(&server, &format!("AOF, preamble {preamble}"));
    }

    let (mut server, before) = prepared(&["appendonly no"]);
    assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(seen(&server, keys), before, "reloaded");
    server.restart(Stop::Save);
    assert_eq!(seen(&server, keys), before, "from a snapshot");
    check(&server, "snapshot");

    let (server, before) = prepared(&["appendonly no"]);
    for key in keys {
        let payload = dump(&server, key);
        assert_eq!(server.cmd(&["DEL", key]), 1);
        assert_eq!(restore(&server, key, &payload), "OK");
    }
    assert_eq!(seen(&server, keys), before, "dumped and restored");
    check(&server, "RESTORE");

    // One replica from the start, and one that is told of the locks by a full sync.
    let (primary, early, late) = (Server::start(), Server::start(), Server::start());
    follow(&early, &primary);
    prepare(&primary);
    follow(&late, &primary);
    for replica in [early, late] {
        wait_same_data(&replica, &primary);
        assert_eq!(seen(&replica, keys), seen(&primary, keys));
        assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
        check(&replica, "promoted");
    }
}

/// The digest of the data, and all that INFO shows of the locks and latches but the time.
fn seen(server: &Server, keys: &[&str]) -> (String, Vec<String>) {
    let info = |key: &&str| {
        if server.cmd(&["TYPE", key]) == "locklatch" {
            return format!("{key} {:?}", server.cmd(&["LATCH.INFO", key]));
        }
        let info = server.cmd(&["LOCK.INFO", key]);
        let holds = info.field("holds").items().iter().map(|hold| {
            let fields = ["owner", "fence", "permits", "entries", "keys", "lease-ms", "note"];
            fields.map(|field| format!("{:?}", hold.field(field))).join(" ")
        });
        let holds: Vec<String> = holds.collect();
        format!("{key} {:?} {:?} {holds:?}", info.field("mode"), info.field("limit"))
    };
    (digest(server), keys.iter().map(info).collect())
}
