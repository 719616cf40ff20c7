//! Tickets of users whose rights are taken away: their turn passes at once.

use crate::onlookers::{user, RIGHT_TAKEN_AWAY};
use crate::steps::{
    acquire, ask, assert_granted, eval, fence_of, in_line, queue_up, release, wait_for_lock, waiting, words,
};
use crate::support::{Connection, Server, Value};

/// A server where what is given to a ticket stays unclaimed for longer than any test.
fn patient_server() -> Server {
    Server::with(&["lock.claim-ms 86400000"])
}

fn ticket(conn: &mut Connection, line: &str) {
    assert_eq!(conn.cmd(&words(line)), Value::Nil, "{line}");
}

#[test]
fn the_turn_of_a_user_without_the_right_goes_to_the_next() {
    for change in ["ACL SETUSER temp resetkeys", "ACL SETUSER temp resetkeys %R~k", "ACL DELUSER temp"] {
        let server = patient_server();
        acquire(&server, "k alice");
        ticket(&mut user(&server, "~* +@all"), "LOCK.ACQUIRE k bob NOEXPIRE QUEUE 60000");
        let mut carol = wait_for_lock(&server, "k", "carol");
        assert!(!matches!(ask(&server, change), Value::Error(_)));
        release(&server, "k", "alice");
        assert_granted(&server, &mut carol, "k", "carol");
        assert_eq!(waiting(&server, "k"), 0, "{change}");
    }
}

#[test]
fn so_does_the_turn_for_several_locks() {
    let server = patient_server();
    acquire(&server, "a alice");
    ticket(&mut user(&server, "~* +@all"), "LOCK.MACQUIRE bob 2 a b NOEXPIRE QUEUE 60000");
    let mut on_a = wait_for_lock(&server, "a", "on-a");
    let mut on_b = wait_for_lock(&server, "b", "on-b");
    assert_eq!(ask(&server, "ACL SETUSER temp resetkeys ~a"), "OK");
    release(&server, "a", "alice");
    assert_granted(&server, &mut on_a, "a", "on-a");
    assert_granted(&server, &mut on_b, "b", "on-b");
}

#[test]
fn so_does_the_turn_of_an_upgrade() {
    let server = patient_server();
    for owner in ["alice", "bob"] {
        acquire(&server, &format!("k {owner} NOEXPIRE SHARED"));
    }
    ticket(&mut user(&server, "~* +@all"), "LOCK.CONVERT k bob EXCLUSIVE QUEUE 60000");
    let mut carol = in_line(&server, "LOCK.ACQUIRE k carol SHARED BLOCK 0");
    assert_eq!(ask(&server, "ACL SETUSER temp resetkeys"), "OK");
    release(&server, "k", "alice");
    assert_granted_beside(&server, &mut carol);
}

/// Carol shares the lock with bob, who has not got it alone.
fn assert_granted_beside(server: &Server, carol: &mut Connection) {
    fence_of(&carol.read());
    assert_eq!(ask(server, "LOCK.INFO k").field("mode"), &"shared");
    assert_eq!(ask(server, "LOCK.INFO k").field("holds").items().len(), 2);
}

#[test]
fn a_client_that_waits_for_the_turn_is_told() {
    let server = patient_server();
    acquire(&server, "k alice");
    let conn = user(&server, "~* +@all");
    let mut barred = queue_up(&server, conn, &words("LOCK.ACQUIRE k bob NOEXPIRE BLOCK 60000 QUEUE 60000"));
    let mut carol = wait_for_lock(&server, "k", "carol");
    assert_eq!(ask(&server, "ACL SETUSER temp resetkeys"), "OK");
    release(&server, "k", "alice");
    assert_eq!(barred.read(), RIGHT_TAKEN_AWAY);
    assert_granted(&server, &mut carol, "k", "carol");
}

#[test]
fn whoever_asked_last_counts_and_others_keep_their_turn() {
    let server = patient_server();
    acquire(&server, "k alice");
    ticket(&mut user(&server, "~* +@all"), "LOCK.ACQUIRE k bob NOEXPIRE QUEUE 60000");
    ticket(&mut server.connect(), "LOCK.ACQUIRE k bob NOEXPIRE QUEUE 60000");
    assert_eq!(ask(&server, "ACL DELUSER temp"), 1);
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'carol', 'QUEUE', '60000')";
    assert_eq!(eval(&server, script, &["k"]), Value::Nil);
    for next in ["bob", "carol"] {
        release(&server, "k", if next == "bob" { "alice" } else { "bob" });
        acquire(&server, &format!("k {next} QUEUE 60000"));
    }
}
