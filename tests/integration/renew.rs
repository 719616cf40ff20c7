//! LOCK.RENEW: it sets the lease of a hold and never makes one. Here from when the time counts; all else is
//! `tests/cases/renew.md`.

use crate::steps::{ask, assert_left};
use crate::support::{wait_until, Server};

#[test]
fn the_time_counts_from_the_renewal() {
    let server = Server::start();
    ask(&server, "LOCK.ACQUIRE k alice PX 30000");
    wait_until("a part of the lease to pass", || ask(&server, "LOCK.CHECK k alice").int() <= 29_990);
    // It sets and never adds: together with what was left it would be nearly 60 s.
    assert_eq!(ask(&server, "LOCK.RENEW k alice PX 30000"), 30_000);
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 30_000);
}
