//! LOCK.CHECK: whether an owner holds a lock, without touching it. Here how it counts down; all else is `tests/cases/check.md`.

use crate::steps::{ask, transaction, words};
use crate::support::{wait_until, Server};

#[test]
fn it_counts_down_and_rounds_up() {
    let server = Server::start();
    ask(&server, "LOCK.ACQUIRE k alice PX 50000");
    let first = ask(&server, "LOCK.CHECK k alice").int();
    wait_until("time to pass", || ask(&server, "LOCK.CHECK k alice").int() < first);
    // Rounded down, the last millisecond of a hold would read 0, as if it were over.
    let mut conn = server.connect();
    wait_until("a hold in its last millisecond", || {
        let replies = transaction(
            &mut conn,
            &[&words("LOCK.ACQUIRE last alice PX 1"), &words("LOCK.CHECK last alice")],
        );
        replies[1] == 1
    });
}
