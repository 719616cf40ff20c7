//! What replicas and files have when a hold changes hands: the same data everywhere.

use super::{ask, owners};
use crate::steps::{acquire, assert_holds, digest};
use crate::support::aof::read_aof;
use crate::support::{wait_until, Server, Stop};
use crate::traffic::{follow, is_effect, wait_no_child, wait_same_data};

/// Brings locks into every state that these commands leave.
fn change_hands(server: &Server) {
    for line in [
        "LOCK.ACQUIRE t alice PX 60000 NOTE why",
        "LOCK.TRANSFER t alice bob",
        "LOCK.ACQUIRE k ann SHARED",
        "LOCK.ACQUIRE k ben SHARED NOEXPIRE",
        "LOCK.ACQUIRE k cleo SHARED REENTRANT one",
        "LOCK.TRANSFER k ann dora EX 90",
        "LOCK.BREAK k OWNER ben",
        "LOCK.ACQUIRE s ann LIMIT 3 PERMITS 2",
        "LOCK.STEAL s eve NOEXPIRE NOTE mine",
        "LOCK.MACQUIRE ann 2 m n",
        "LOCK.TRANSFER n ann ben NOEXPIRE",
        "LOCK.ACQUIRE b ann",
        "LOCK.BREAK b",
    ] {
        assert!(ask(server, line).int() > 0, "{line}");
    }
}

#[test]
fn a_replica_has_the_same_data() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    change_hands(&primary);
    wait_same_data(&primary, &replica);
    assert_eq!(owners(&replica), ["cleo", "dora"]);
    assert_eq!(ask(&replica, "EXISTS b"), 0);
}

#[test]
fn files_have_the_same_data() {
    for conf in [
        &["appendonly no"][..],
        &["appendonly yes", "appendfsync always"],
        &["appendonly yes", "aof-use-rdb-preamble no"],
    ] {
        let mut server = Server::with(conf);
        change_hands(&server);
        let before = digest(&server);
        assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
        assert_eq!(digest(&server), before, "{conf:?}: reloaded");
        if conf[0] == "appendonly yes" {
            let told = read_aof(&server).commands;
            assert!(told.iter().all(|words| is_effect(&words[0])), "{told:?}");
            server.restart(Stop::Kill);
            assert_eq!(digest(&server), before, "{conf:?}: from the AOF");
            ask(&server, "BGREWRITEAOF");
            wait_no_child(&server);
        }
        server.restart(Stop::Save);
        assert_eq!(digest(&server), before, "{conf:?}: restarted");
        assert_eq!(owners(&server), ["cleo", "dora"]);
    }
}

#[test]
fn a_replica_takes_no_orders() {
    let (primary, replica) = (Server::start(), Server::start());
    let fence = acquire(&primary, "k alice");
    follow(&replica, &primary);
    for writable in ["yes", "no"] {
        assert_eq!(replica.cmd(&["CONFIG", "SET", "replica-read-only", writable]), "OK");
        for line in ["LOCK.TRANSFER k alice bob", "LOCK.CANCEL k bob", "LOCK.BREAK k", "LOCK.STEAL k eve"] {
            assert!(ask(&replica, line).error().starts_with("READONLY "), "{line}");
        }
    }
    wait_until("the replica to be as it was", || digest(&replica) == digest(&primary));
    assert_holds(&primary, "k", "alice", fence);
}
