//! What files and replicas have of re-entry: the same data everywhere, and no more to tell with more ids.

use super::{ask, enter, entries, leave, IDS_MAX, ID_BYTES_MAX, TAKEN_WITH_IDS};
use crate::round_trips::assert_round_trips;
use crate::steps::{acquire, assert_holds, digest, release};
use crate::support::aof::read_aof;
use crate::support::stream::Words;
use crate::support::{wait_until, ReplicaStream, Server, Stop};
use crate::traffic::{follow, wait_same_data};

/// Bytes that commands take in the stream.
fn stream_bytes(told: &[Words]) -> usize {
    let word = |word: &String| format!("${}\r\n", word.len()).len() + word.len() + 2;
    let command =
        |words: &Words| format!("*{}\r\n", words.len()).len() + words.iter().map(word).sum::<usize>();
    told.iter().map(command).sum()
}

#[test]
fn what_is_told_of_a_hold_does_not_grow_with_its_ids() {
    let mut server = Server::with(&["appendonly yes", "appendfsync always"]);
    acquire(&server, "k alice NOEXPIRE");
    let mut stream = ReplicaStream::attach(&server);
    let mut told = |line: &str| {
        ask(&server, line);
        let told = stream.collect(&server);
        assert_eq!(told.len(), 1, "{line}: {told:?}");
        stream_bytes(&told)
    };
    // The empty id is the first one.
    let ids: Vec<String> = (1..IDS_MAX).map(|n| format!("{n:0>ID_BYTES_MAX$}")).collect();
    for id in &ids {
        let bytes = told(&format!("LOCK.ACQUIRE k alice REENTRANT {id}"));
        assert!(bytes < 150, "{bytes} bytes for one id");
    }
    for line in [
        "LOCK.RENEW k alice PX 60000",
        "LOCK.ACQUIRE k alice PX 90000",
        "LOCK.RENEW k alice NOEXPIRE NOTE why",
    ] {
        let bytes = told(line);
        assert!(bytes < 300, "{bytes} bytes for {line}");
    }
    for id in &ids[..100] {
        let bytes = told(&format!("LOCK.RELEASE k alice REENTRANT {id}"));
        assert!(bytes < 150, "{bytes} bytes for one id");
    }
    let (before, told) = (digest(&server), read_aof(&server).commands.len());
    assert_eq!(told, 1 + 255 + 3 + 100);
    server.restart(Stop::Kill);
    assert_eq!(digest(&server), before);
    assert_eq!(entries(&server), 156);
}

#[test]
fn a_replica_has_the_same_and_lets_nobody_in_or_out() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let fence = enter(&primary, "one");
    acquire(&primary, "k alice");
    enter(&primary, "two");
    assert_eq!(leave(&primary, "one"), 1);
    wait_same_data(&replica, &primary);
    assert_eq!(entries(&replica), 2);
    for line in [
        "LOCK.ACQUIRE k alice REENTRANT three",
        "LOCK.RELEASE k alice REENTRANT two",
        "LOCK.RELEASE k alice ALL",
        "LOCK.RELEASE free alice ALL",
    ] {
        assert!(ask(&replica, line).error().starts_with("READONLY "), "{line}");
    }
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    assert_eq!(leave(&replica, "one"), 0);
    assert_eq!(leave(&replica, "two"), 1);
    assert_holds(&replica, "k", "alice", fence);
    release(&replica, "k", "alice");
    assert_eq!(ask(&replica, "EXISTS k"), 0);
}

#[test]
fn ids_survive_every_round_trip() {
    let prepare = |server: &Server| {
        acquire(server, "k alice NOEXPIRE NOTE why");
        enter(server, "one");
        enter(server, &"x".repeat(ID_BYTES_MAX));
        for owner in ["alice", "bob"] {
            acquire(server, &format!("rw {owner} SHARED PX 600000 REENTRANT {owner}"));
        }
        // Back to the plain entry alone.
        acquire(server, "plain alice NOEXPIRE");
        acquire(server, "plain alice REENTRANT gone");
        assert_eq!(ask(server, "LOCK.RELEASE plain alice REENTRANT gone"), 1);
    };
    assert_round_trips(&["k", "rw", "plain"], prepare, |server, what| {
        assert_eq!(leave(server, "gone"), 0, "{what}");
        release(server, "k", "alice");
        assert_eq!(ask(server, "LOCK.RELEASE k alice"), TAKEN_WITH_IDS, "{what}");
        assert_eq!((leave(server, "one"), leave(server, &"x".repeat(ID_BYTES_MAX))), (1, 1), "{what}");
        for owner in ["alice", "bob"] {
            assert_eq!(ask(server, &format!("LOCK.RELEASE rw {owner}")), TAKEN_WITH_IDS, "{what}");
            assert_eq!(ask(server, &format!("LOCK.RELEASE rw {owner} REENTRANT {owner}")), 1, "{what}");
        }
        release(server, "plain", "alice");
        wait_until("the locks to be gone", || ask(server, "DBSIZE") == 0);
    });
}
