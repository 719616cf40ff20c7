//! What replicas and files are told of re-entry: the hold with all its ids, word for word, and the same data everywhere.

use super::{ask, enter, entries, leave, ID_BYTES_MAX, TAKEN_WITH_IDS};
use crate::round_trips::assert_round_trips;
use crate::steps::{assert_holds, fence_of, hold, release};
use crate::support::{assert_stream, wait_until, ReplicaStream, Server};
use crate::traffic::{follow, wait_same_data, ALL};

#[test]
fn each_change_states_the_hold_with_its_ids() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    for line in [
        "LOCK.ACQUIRE k alice NOEXPIRE",
        "LOCK.ACQUIRE k alice REENTRANT two",
        "LOCK.ACQUIRE k alice REENTRANT two",
        "LOCK.ACQUIRE k alice REENTRANT one",
        "LOCK.RELEASE k alice REENTRANT three",
        "LOCK.RELEASE k alice",
        "LOCK.RELEASE k alice",
        "LOCK.RELEASE k alice REENTRANT two",
        "LOCK.RELEASE k alice REENTRANT one",
        "LOCK.ACQUIRE l alice REENTRANT one NOTE why PX 5000",
        "LOCK.ACQUIRE l alice REENTRANT two PX 60000",
        "LOCK.RELEASE l alice ALL",
    ] {
        ask(&server, line);
    }
    assert_stream(
        &stream.collect(&server),
        &[
            &["LOCK._HOLD", "k", "alice", "<fence>", ALL, ALL, "-1", "-1", "-1"],
            &["LOCK._HOLD", "k", "alice", "<fence>", ALL, ALL, "-1", "-1", "-1", "", "1", "", "two"],
            &["LOCK._HOLD", "k", "alice", "<fence>", ALL, ALL, "-1", "-1", "-1", "", "1", "", "one", "two"],
            &["LOCK._HOLD", "k", "alice", "<fence>", ALL, ALL, "-1", "-1", "-1", "", "1", "one", "two"],
            &["LOCK._HOLD", "k", "alice", "<fence>", ALL, ALL, "-1", "-1", "-1", "", "1", "one"],
            &["LOCK._FREE", "k", "<fence>"],
            &["LOCK._HOLD", "l", "alice", "<fence-2>", ALL, ALL, "5000", "5000", "<ms>", "why", "1", "one"],
            // The id and the lease together.
            &[
                "LOCK._HOLD",
                "l",
                "alice",
                "<fence-2>",
                ALL,
                ALL,
                "60000",
                "60000",
                "<ms>",
                "why",
                "1",
                "one",
                "two",
            ],
            &["LOCK._FREE", "l", "<fence-2>"],
        ],
    );
}

#[test]
fn a_replica_has_the_same_and_lets_nobody_in_or_out() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let fence = enter(&primary, "one");
    hold(&primary, "k", "alice");
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
        fence_of(&ask(server, "LOCK.ACQUIRE k alice NOEXPIRE NOTE why"));
        enter(server, "one");
        enter(server, &"x".repeat(ID_BYTES_MAX));
        for owner in ["alice", "bob"] {
            fence_of(&ask(server, &format!("LOCK.ACQUIRE rw {owner} SHARED PX 600000 REENTRANT {owner}")));
        }
        // Back to the plain entry alone.
        fence_of(&ask(server, "LOCK.ACQUIRE plain alice NOEXPIRE"));
        fence_of(&ask(server, "LOCK.ACQUIRE plain alice REENTRANT gone"));
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
