//! What replicas and files are told of a window and of what comes back in it, so that it goes on on the next server.

use std::sync::mpsc::channel;

use super::{failover, fence_of_known, wait_primary, LONG};
use crate::backlog::commands_since;
use crate::broken_sync::{play_primary, snapshot_of};
use crate::steps::{acquire, ask, digest};
use crate::support::stream::step;
use crate::support::wait::{wait_replica_in_sync, DEADLINE};
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Stop, Value};
use crate::traffic::{follow, left, lock_stat, wait_no_child, wait_same_data, ALL};

#[test]
fn what_comes_back_is_told_and_kept() {
    let (old, mut new) = failover(&format!("appendonly yes\n{LONG}"));
    let fence = acquire(&old, "k alice SHARED").to_string();
    let lost = acquire(&old, "l alice").to_string();
    let mut stream = ReplicaStream::attach(&new);
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice PX 60000 FENCE {fence} SHARED")), 60_000);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE l alice FENCE {lost}")), 1);
    let mut told = stream.collect(&new);
    // That of the window is told again after each fork.
    told.retain(|words| words[0] != "LOCK._RECOVERY");
    assert_stream(
        &told,
        &[
            &step(&[
                &["LOCK._HOLD", "k", "alice", &fence, ALL, "1", "60000", "60000", "<ms>"],
                &["LOCK._RENEW", "k", &fence, "1", "60000", "60000", "<ms>"],
            ]),
            &["LOCK._FREE", "l", &lost],
        ],
    );
    let before = digest(&new);
    assert_eq!(ask(&new, "DEBUG RELOAD"), "OK");
    assert_eq!(digest(&new), before);
    new.restart(Stop::Kill);
    assert_eq!(digest(&new), before);
    assert_eq!(ask(&new, "EXISTS l"), 0);
}

#[test]
fn replicas_and_files_are_told_when_a_window_opens_and_closes() {
    let (old, new) = (Server::start(), Server::with(&[LONG]));
    follow(&new, &old);
    let known = acquire(&old, "known o PX 60000").to_string();
    wait_replica_in_sync(&old, &new);
    let offset = new.info_int("replication", "master_repl_offset") + 1;
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    let told = || {
        let commands = commands_since(&new, offset);
        commands.into_iter().filter(|words| words[0] == "LOCK._RECOVERY").collect::<Vec<_>>()
    };
    wait_until("the word of it", || !told().is_empty());
    assert!(ask(&new, "LOCK.RECOVERY END").int() > 0);
    wait_until("the word of its end", || told().len() > 1);
    let opened = ["LOCK._RECOVERY", &known, "<fence>", "<ms>", "<ms-2>"];
    assert_stream(&told(), &[&opened, &["LOCK._RECOVERY", "0", "0", "-1", "-1"]]);
}

/// A server that was promoted while the old one went on, and its replica; and the fence of a hold that neither has heard of,
/// though both know of a newer one.
fn failover_with_replica(window: &str) -> (Server, Server, i64) {
    let (old, new, replica) = (Server::start(), Server::with(&[window]), Server::with(&[window]));
    follow(&new, &old);
    follow(&replica, &new);
    acquire(&old, "known o PX 60000");
    wait_until("the lock to arrive", || replica.cmd(&["EXISTS", "known"]) == 1);
    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    let lost = acquire(&old, "k alice PX 60000");
    let newer = acquire(&old, "newer o PX 60000");
    assert_eq!(ask(&new, &format!("LOCK.RENEW newer o PX 60000 FENCE {newer}")), 60_000);
    wait_until("it to arrive", || replica.cmd(&["EXISTS", "newer"]) == 1);
    (new, replica, lost)
}

/// The window of another server goes on here, and alice comes back in it.
fn assert_goes_on(server: &Server, lost: i64) {
    assert!(ask(server, "LOCK.RECOVERY").int() > 80_000);
    assert_eq!(ask(server, "LOCK.ACQUIRE k bob"), Value::Nil);
    assert_eq!(ask(server, &format!("LOCK.RENEW k alice PX 60000 FENCE {lost}")), 60_000);
    assert!(server.log().contains("lock: event=recovery-goes-on ms="));
    assert!(ask(server, "LOCK.RECOVERY END").int() > 0);
    assert!(acquire(server, "free bob") > lost);
}

#[test]
fn a_planned_handover_while_a_window_is_open_hands_over_the_window() {
    let (new, replica, lost) = failover_with_replica(LONG);
    wait_until("the window to be known", || ask(&replica, "LOCK.RECOVERY").int() > 0);
    assert!(ask(&replica, "LOCK.RECOVERY END").error().starts_with("READONLY "));
    assert_eq!(ask(&new, "FAILOVER"), "OK");
    wait_primary(&replica);
    assert!(replica.log().contains("lock: event=handover;"));
    assert_goes_on(&replica, lost);
    // The one before follows it, and knows by now that it is over.
    wait_same_data(&replica, &new);
    wait_until("the end to be known", || ask(&new, "LOCK.RECOVERY") == 0);
}

#[test]
fn a_replica_that_comes_while_a_window_is_open_knows_of_it() {
    let (old, new) = failover(LONG);
    let lost = acquire(&old, "k alice PX 60000");
    let given_back = ["first", "second"].map(|owner| {
        let fence = acquire(&old, &format!("back {owner}"));
        assert_eq!(ask(&old, &format!("LOCK.RELEASE back {owner}")), 1);
        fence
    });
    assert_eq!(ask(&new, &format!("LOCK.RENEW back second FENCE {}", given_back[1])), 30_000);
    assert_eq!(ask(&new, &format!("LOCK.RELEASE back second FENCE {}", given_back[1])), 1);
    let replica = Server::with(&[LONG]);
    follow(&replica, &new);
    assert_eq!(ask(&new, "FAILOVER"), "OK");
    wait_primary(&replica);
    assert_eq!(ask(&replica, &format!("LOCK.RENEW back first FENCE {}", given_back[0])), 0, "it is over");
    assert_goes_on(&replica, lost);
}

#[test]
fn what_was_kept_away_stays_away_after_a_handover() {
    let (old, new) = failover(LONG);
    let replica = Server::with(&[LONG]);
    follow(&replica, &new);
    let [broken, shared, released] = ["b o", "s o SHARED", "r o"].map(|words| acquire(&old, words));
    assert_eq!((ask(&new, "LOCK.BREAK b"), ask(&new, "LOCK.BREAK s")), (Value::Int(0), Value::Int(0)));
    assert_eq!(ask(&new, &format!("LOCK.RELEASE r o FENCE {released}")), 1);
    assert_eq!(ask(&new, "FAILOVER"), "OK");
    wait_primary(&replica);
    assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    for line in
        [format!("b o FENCE {broken}"), format!("s o FENCE {shared} SHARED"), format!("r o FENCE {released}")]
    {
        assert_eq!(ask(&replica, &format!("LOCK.RENEW {line}")), 0, "{line}");
    }
}

#[test]
fn a_start_while_a_window_is_open_goes_on_with_it() {
    let (old, mut new) = failover(&format!("{LONG}\nappendonly yes\nappendfsync always"));
    // The file of a replica is whole when it has been written anew.
    wait_no_child(&new);
    let lost = acquire(&old, "k alice PX 60000");
    let has_word = || {
        let files = std::fs::read_dir(new.dir().join("appendonlydir")).expect("the files");
        let mut files = files.map(|file| std::fs::read(file.expect("a file").path()).expect("its bytes"));
        files.any(|bytes| bytes.windows(14).any(|word| word == b"LOCK._RECOVERY"))
    };
    wait_until("the word of it to be in the file", has_word);
    new.restart(Stop::Kill);
    assert_goes_on(&new, lost);
}

#[test]
fn a_file_tells_of_the_window_in_which_it_was_saved() {
    let (old, mut new) = failover(LONG);
    let lost = acquire(&old, "k alice PX 60000");
    let left = ask(&new, "LOCK.RECOVERY").int();
    assert_eq!(ask(&new, "DEBUG RELOAD"), "OK");
    // Times in a file go by the wall clock, which is not the one that counts here.
    assert!((80_000..left + 1_000).contains(&ask(&new, "LOCK.RECOVERY").int()));
    // A start opens one by itself, and takes all fences up to the newest in the file for known.
    let newer = acquire(&old, "newer o PX 60000");
    assert_eq!(ask(&new, &format!("LOCK.RENEW newer o PX 60000 FENCE {newer}")), 60_000);
    assert_eq!(ask(&new, "SAVE"), "OK");
    new.restart(Stop::Kill);
    assert!(new.log().contains("lock: event=recovery-began why=start "));
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice PX 60000 FENCE {lost}")), 60_000);
}

#[test]
fn a_second_failover_covers_the_window_of_the_first() {
    let (_new, replica, lost) = failover_with_replica(LONG);
    wait_until("the window to be known", || ask(&replica, "LOCK.RECOVERY").int() > 0);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&replica, &format!("LOCK.RENEW k alice PX 60000 FENCE {lost}")), 60_000);
}

#[test]
fn a_replica_that_hears_no_more_shows_no_window_that_is_over() {
    let (_old, mut new) = failover("lock.recovery-window-ms 3000");
    let replica = Server::start();
    follow(&replica, &new);
    assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    new.stop(Stop::Kill);
    wait_until("the window to be over", || ask(&replica, "LOCK.RECOVERY") == 0);
}

#[test]
fn an_aof_that_is_written_anew_as_commands_tells_of_the_window() {
    let aof = "appendonly yes\nappendfsync always\naof-use-rdb-preamble no\nauto-aof-rewrite-percentage 0";
    let (old, mut new) = failover(&format!("{LONG}\n{aof}"));
    wait_no_child(&new);
    let lost = acquire(&old, "k alice PX 60000");
    assert!(!ask(&new, "BGREWRITEAOF").text().is_empty());
    wait_until("it to begin", || new.info_int("persistence", "aof_rewrites") > 0);
    wait_no_child(&new);
    new.restart(Stop::Kill);
    assert_goes_on(&new, lost);
}

#[test]
fn a_load_aside_that_fails_leaves_the_window_open() {
    let (old, new) = failover(LONG);
    let replica = Server::with(&["repl-diskless-load swapdb", "repl-timeout 2"]);
    follow(&replica, &new);
    assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    let mut without_window = snapshot_of(&old);
    without_window.truncate(without_window.len() - 8);
    let failed = || replica.log().matches("Failed trying to load the ").count();
    for snapshot in [b"REDIS0010".to_vec(), without_window] {
        let (before, (sent, hung_up)) = (failed(), channel());
        let history = new.info("replication")["master_replid"].clone();
        let port = play_primary(history, vec![snapshot], sent).to_string();
        assert_eq!(ask(&replica, &format!("REPLICAOF 127.0.0.1 {port}")), "OK");
        hung_up.recv_timeout(DEADLINE).expect("the replica did not ask for a sync");
        wait_until("the replica to find the end of the stream", || failed() > before);
        assert!(ask(&replica, "LOCK.RECOVERY").int() > 0);
    }
}

/// The fences of what was loaded and thrown away tell nothing of what this server has never served.
#[test]
fn a_hold_that_was_seen_in_a_load_aside_that_failed_comes_back() {
    let (old, new) = (Server::start(), Server::with(&[LONG, "repl-diskless-load swapdb", "repl-timeout 2"]));
    follow(&new, &old);
    acquire(&old, "known o PX 60000");
    wait_replica_in_sync(&old, &new);
    assert_eq!(ask(&new, "REPLICAOF 127.0.0.1 1"), "OK");
    let fence = acquire(&old, "k alice PX 60000");

    let mut snapshot = snapshot_of(&old);
    snapshot.truncate(snapshot.len() - 8);
    let (sent, hung_up) = channel();
    let history = old.info("replication")["master_replid"].clone();
    let port = play_primary(history, vec![snapshot], sent).to_string();
    assert_eq!(ask(&new, &format!("REPLICAOF 127.0.0.1 {port}")), "OK");
    hung_up.recv_timeout(DEADLINE).expect("the replica did not ask for a sync");
    wait_until("the replica to find the end of the stream", || {
        new.log().contains("Discarding temporary DB in background")
    });
    assert_eq!((left(&new, "k", "alice"), lock_stat(&new, "last_fence")), (0, fence_of_known(&new)));

    assert_eq!(ask(&new, "REPLICAOF NO ONE"), "OK");
    assert_eq!(ask(&new, &format!("LOCK.RENEW k alice PX 50000 FENCE {fence}")), 50_000);
}
