//! LOCK.RENEW: it sets the lease of a hold and never makes one. Here from when the time counts; all else is
//! `tests/cases/renew.md`.

use crate::steps::{assert_left, words};
use crate::support::{wait_until, Server};

#[test]
fn the_time_counts_from_the_renewal() {
    let server = Server::start();
    server.cmd(&words("LOCK.ACQUIRE k alice PX 30000"));
    wait_until("a part of the lease to pass", || server.cmd(&words("LOCK.CHECK k alice")).int() <= 29_990);
    // It sets and never adds: together with what was left it would be nearly 60 s.
    assert_eq!(server.cmd(&words("LOCK.RENEW k alice PX 30000")), 30_000);
    assert_left(&server.cmd(&words("LOCK.CHECK k alice")), 30_000);
}
