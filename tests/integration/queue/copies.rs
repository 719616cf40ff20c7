//! What replicas, the AOF and files know: a turn is a hold like any other, with a short lease at first; places are known to
//! nobody.

use super::{claim, get_ticket, let_claims_take, tickets};
use crate::steps::{acquire, ask, assert_left, digest, fence_of, holder, release};
use crate::support::stream::step;
use crate::support::wait::wait_replica_in_sync;
use crate::support::{assert_stream, wait_until, ReplicaStream, Server, Stop, Value};
use crate::traffic::{follow, lock_stat, wait_same_data, ALL};

#[test]
fn the_stream_has_the_turn_and_the_claim() {
    let server = Server::start();
    let_claims_take(&server, 5_000);
    let held = acquire(&server, "k alice").to_string();
    let mut stream = ReplicaStream::attach(&server);
    let poll = || ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000 PX 90000 NOTE n");
    for _ in 0..2 {
        assert_eq!(poll(), Value::Nil);
    }
    assert_stream(&stream.collect(&server), &[]);

    release(&server, "k", "alice");
    let turn = assert_stream(
        &stream.collect(&server),
        &[&step(&[
            &["LOCK._FREE", "k", &held],
            &["LOCK._HOLD", "k", "bob", "<fence>", ALL, ALL, "90000", "5000", "<ms>", "n"],
        ])],
    );
    let fence = fence_of(&poll()).to_string();
    assert_eq!(turn["fence"], fence);
    assert_stream(
        &stream.collect(&server),
        &[&["LOCK._RENEW", "k", &fence, ALL, "90000", "90000", "<ms>", "n"]],
    );
    assert_eq!(fence_of(&poll()).to_string(), fence);
    assert_eq!(ask(&server, "LOCK.CANCEL k bob"), 0);
}

#[test]
fn the_stream_has_the_end_of_what_nobody_claims() {
    let server = Server::start();
    let_claims_take(&server, 1);
    let held = acquire(&server, "k alice").to_string();
    get_ticket(&server, "k", "bob");
    let mut stream = ReplicaStream::attach(&server);
    release(&server, "k", "alice");
    wait_until("the key to be gone", || ask(&server, "EXISTS k") == 0);
    assert_stream(
        &stream.collect(&server),
        &[
            &step(&[
                &["LOCK._FREE", "k", &held],
                &["LOCK._HOLD", "k", "bob", "<fence>", ALL, ALL, "30000", "1", "<ms>"],
            ]),
            &["LOCK._FREE", "k", "<fence>"],
        ],
    );
}

#[test]
fn a_turn_outlives_a_restart_and_a_place_does_not() {
    for conf in [&["appendonly yes", "appendfsync always"][..], &["appendonly no"]] {
        let mut server = Server::with(conf);
        acquire(&server, "k alice");
        acquire(&server, "l alice");
        let_claims_take(&server, 20_000);
        assert_eq!(ask(&server, "LOCK.ACQUIRE k bob NOEXPIRE QUEUE 60000"), Value::Nil);
        get_ticket(&server, "k", "carol");
        get_ticket(&server, "l", "bob");
        release(&server, "k", "alice");
        let before = digest(&server);
        assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
        assert_eq!((digest(&server), tickets(&server)), (before.clone(), 2));
        server.restart(Stop::Save);
        assert_eq!((digest(&server), tickets(&server)), (before, 0), "{conf:?}");
        assert_left(&ask(&server, "LOCK.CHECK k bob"), 20_000);
        claim(&server, "k", "bob");
        assert_left(&ask(&server, "LOCK.CHECK k bob"), 30_000);
        get_ticket(&server, "k", "carol");
        release(&server, "k", "bob");
        claim(&server, "k", "carol");
    }
}

#[test]
fn a_promoted_replica_honours_a_turn_and_knows_no_places() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let_claims_take(&primary, 60_000);
    acquire(&primary, "k alice");
    get_ticket(&primary, "k", "bob");
    get_ticket(&primary, "k", "carol");
    let refused = ask(&replica, "LOCK.ACQUIRE k bob QUEUE 60000");
    assert!(refused.error().starts_with("READONLY "), "{refused:?}");
    release(&primary, "k", "alice");
    wait_replica_in_sync(&primary, &replica);
    wait_same_data(&primary, &replica);
    assert_eq!((holder(&replica, "k").as_deref(), tickets(&replica)), (Some("bob"), 0));

    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    claim(&replica, "k", "bob");
    get_ticket(&replica, "k", "carol");
    release(&replica, "k", "bob");
    claim(&replica, "k", "carol");

    follow(&primary, &replica);
    assert_eq!(tickets(&primary), 0, "a replica keeps no line");
}

#[test]
fn a_promoted_replica_ends_what_nobody_claims() {
    let (primary, replica) = (Server::start(), Server::start());
    follow(&replica, &primary);
    let_claims_take(&primary, 500);
    acquire(&primary, "k alice");
    get_ticket(&primary, "k", "bob");
    release(&primary, "k", "alice");
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(ask(&replica, "REPLICAOF NO ONE"), "OK");
    wait_until("the lock to be free", || ask(&replica, "EXISTS k") == 0);
    assert_eq!(lock_stat(&replica, "granted"), 0);
}
