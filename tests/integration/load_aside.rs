//! A replica that loads what its primary sends beside the data that it serves (`repl-diskless-load swapdb`): meanwhile it
//! answers from the old ones, with their indexes, and a load that fails leaves all as it was.

use std::sync::mpsc::channel;

use crate::broken_sync::{no_history, play_primary, snapshot_of};
use crate::steps::{acquire, acquire_by, digest};
use crate::support::wait::{wait_replica_in_sync, DEADLINE};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{follow, left, lock_stat, replica_of, wait_same_data};

/// How many locks make a snapshot that takes a while to load.
const MANY: i64 = 800;

fn primary() -> Server {
    Server::with(&["repl-diskless-sync yes", "repl-backlog-size 16kb", "rdbcompression no"])
}

fn replica() -> Server {
    Server::with(&[
        "repl-diskless-load swapdb",
        "repl-timeout 5",
        // How much is loaded until clients are heard again.
        "loading-process-events-interval-bytes 1024",
    ])
}

/// Leases, ties and values, as the module counts them.
fn indexes(server: &Server) -> [i64; 4] {
    ["lease_index_entries", "tied", "held", "latches"].map(|name| lock_stat(server, name))
}

/// Locks of all kinds in two databases, one of them tied to the connection that is replied.
fn fill(server: &Server) -> Connection {
    let mut conn = server.connect();
    for n in 0..MANY {
        acquire_by(&mut conn, &format!("lock-{n} o PX 600000 NOTE {}", "n".repeat(250)));
    }
    acquire_by(&mut conn, "kept o NOEXPIRE");
    acquire_by(&mut conn, "old o NOEXPIRE");
    acquire_by(&mut conn, "tied o NOEXPIRE TIED 0");
    acquire_by(&mut server.connect().select(3), "third o PX 600000");
    assert_eq!(conn.cmd(&["LATCH.SET", "latch", "2"]), 1);
    conn
}

/// Lets a replica fall so far behind that its primary, whose history it has, must send everything, slowly.
pub(crate) fn fall_behind(primary: &Server, replica: &Server, meanwhile: impl FnOnce()) {
    replica.signal("STOP");
    primary.cmd(&["CLIENT", "KILL", "TYPE", "replica"]);
    wait_until("the link to be cut", || primary.info_int("replication", "connected_slaves") == 0);
    meanwhile();
    for _ in 0..40 {
        assert_eq!(primary.cmd(&["SET", "filler", &"f".repeat(1_000)]), "OK");
    }
    assert_eq!(primary.cmd(&["CONFIG", "SET", "rdb-key-save-delay", "4000"]), "OK");
    replica.signal("CONT");
}

pub(crate) fn is_serving_while_it_loads(replica: &Server) -> bool {
    let info = replica.info("persistence");
    info["async_loading"] == "1"
        && info.get("loading_loaded_bytes").is_some_and(|bytes| bytes.parse::<i64>().unwrap() > 60_000)
}

#[test]
fn reads_go_on_from_the_old_data_and_their_index_until_the_new_ones_are_there() {
    let (primary, replica) = (primary(), replica());
    let mut conn = fill(&primary);
    follow(&replica, &primary);
    wait_same_data(&primary, &replica);
    let before = indexes(&replica);
    assert_eq!(before, [MANY + 1, 1, MANY + 4, 1]);
    let mut watcher = replica.connect();
    watcher.send(&["LOCK.AWAIT", "old", "FREE", "BLOCK", "0"]);
    wait_until("it to watch", || lock_stat(&replica, "observing") == 1);

    fall_behind(&primary, &replica, || {
        assert_eq!(conn.cmd(&["LOCK.RELEASE", "old", "o"]), 1);
        acquire_by(&mut conn, "new o NOEXPIRE");
        acquire_by(&mut conn, "another o PX 600000");
        acquire_by(&mut primary.connect().select(3), "short o PX 6000");
    });
    wait_until("the replica to load and to serve", || is_serving_while_it_loads(&replica));
    assert_eq!(left(&replica, "old", "o"), -1);
    assert_eq!(left(&replica, "kept", "o"), -1);
    assert_eq!(left(&replica, "new", "o"), 0);
    assert!(left(&replica, "lock-1", "o") > 0);
    assert_eq!(replica.cmd(&["LOCK.INFO", "new"]).field("holds"), &Value::Array(vec![]));
    assert_eq!(replica.cmd(&["LATCH.INFO", "latch"]).field("left"), &2);
    assert_eq!(replica.connect().cmd(&["LOCK.AWAIT", "kept", "FREE"]), Value::Nil);
    assert!(replica.cmd(&["LOCK.RELEASE", "kept", "o"]).error().starts_with("READONLY "));
    assert_eq!(indexes(&replica), before);
    assert!(is_serving_while_it_loads(&replica), "all of this while it loads");

    wait_replica_in_sync(&primary, &replica);
    wait_same_data(&primary, &replica);
    assert_eq!(watcher.read(), 1);
    assert_eq!(left(&replica, "old", "o"), 0);
    assert_eq!(left(&replica, "new", "o"), -1);
    wait_until("the old data to be freed", || indexes(&replica) == [MANY + 3, 1, MANY + 6, 1]);
    assert!(replica.log().contains("Swapping active DB with loaded DB"));

    // What was loaded aside ends in its time, in its database, and so does a hold whose connection is elsewhere.
    assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
    let mut third = replica.connect().select(3);
    wait_until("the short lease to end", || third.cmd(&["EXISTS", "short"]) == 0);
    wait_until("the tie to end", || replica.cmd(&["EXISTS", "tied"]) == 0);
    assert_eq!(indexes(&replica), [MANY + 2, 0, MANY + 4, 1]);
    assert_eq!(replica.cmd(&["LOCK.RELEASE", "another", "o"]), 1);
    assert_eq!(indexes(&replica), [MANY + 1, 0, MANY + 3, 1]);
}

#[test]
fn a_load_that_fails_leaves_all_as_it_was() {
    let (primary, other) = (primary(), primary());
    let _conn = fill(&primary);
    acquire(&other, "foreign x PX 600000 NOTE note");
    let mut conn = other.connect();
    acquire_by(&mut conn, "kept x PX 700000");
    acquire_by(&mut conn, "tied x PX 700000 TIED 500");
    acquire_by(&mut other.connect().select(3), "third x PX 5");
    let whole = snapshot_of(&other);
    let start = whole.windows(9).position(|bytes| bytes == b"repl-offs").expect("the snapshot's head");
    let step = (whole.len() - start) / 5;
    let cuts = |from: usize| (from..=whole.len()).step_by(step).map(|end| whole[..end].to_vec());

    let replica = replica();
    follow(&replica, &primary);
    wait_same_data(&primary, &replica);
    acquire(&primary, "short o PX 15000");
    wait_replica_in_sync(&primary, &replica);
    let (before, data) = (indexes(&replica), digest(&replica));
    let same_history = primary.info("replication")["master_replid"].clone();
    for history in [same_history, no_history()] {
        let snapshots: Vec<_> = cuts(start).collect();
        let (count, (sent, hung_up)) = (snapshots.len(), channel());
        let port = play_primary(history, snapshots, sent).to_string();
        assert_eq!(replica.cmd(&["REPLICAOF", "127.0.0.1", &port]), "OK");
        for _ in 0..count {
            hung_up.recv_timeout(DEADLINE).expect("the replica did not ask for a sync");
            wait_until("the replica to notice", || {
                let info = replica.info("replication");
                info["master_link_status"] == "down" && info["master_sync_in_progress"] == "0"
            });
            assert_eq!(left(&replica, "kept", "o"), -1);
            assert_eq!(digest(&replica), data);
            wait_until("what was half read to be freed", || indexes(&replica) == before);
        }
    }
    let log = replica.log();
    assert!(log.matches("Discarding temporary DB in background").count() >= 8, "it loaded aside");
    assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
    wait_until("the tie to end", || replica.cmd(&["EXISTS", "tied"]) == 0);
    wait_until("the short lease to end", || replica.cmd(&["EXISTS", "short"]) == 0);
    assert_eq!(replica.cmd(&["LOCK.RELEASE", "lock-0", "o"]), 1);
    assert_eq!(indexes(&replica), [MANY, 0, MANY + 2, 1]);
    replica_of(&replica, &primary);
    wait_replica_in_sync(&primary, &replica);
    wait_same_data(&primary, &replica);
}
