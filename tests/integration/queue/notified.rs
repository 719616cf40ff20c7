//! QUEUE … NOTIFY: one message to one channel when the turn of a ticket comes.

use super::{claim, let_claims_take, tickets};
use crate::steps::{acquire, ask, assert_changes_nothing, release, words};
use crate::support::{Connection, Server, Value};

/// A connection that listens to a channel.
fn listen(server: &Server, channel: &str) -> Connection {
    let mut conn = server.connect();
    assert_eq!(conn.cmd(&["SUBSCRIBE", channel]).items()[0], Value::bulk("subscribe"));
    conn
}

/// The next message.
fn message(conn: &mut Connection) -> String {
    let told = conn.read();
    assert_eq!(told.items()[0], Value::bulk("message"), "{told:?}");
    told.items()[2].text()
}

#[test]
fn a_turn_is_told_once_and_to_its_channel_alone() {
    let server = Server::start();
    let_claims_take(&server, 60_000);
    let (mut mine, mut other) = (listen(&server, "mine"), listen(&server, "other"));
    acquire(&server, "k alice");
    for _ in 0..2 {
        assert_eq!(ask(&server, "LOCK.ACQUIRE k bob QUEUE 60000 NOTIFY mine"), Value::Nil);
    }
    for n in 0..1_000 {
        assert_eq!(ask(&server, &format!("LOCK.ACQUIRE k o{n} QUEUE 60000 NOTIFY other")), Value::Nil);
    }
    mine.expect_nothing_pending();
    release(&server, "k", "alice");
    let told = message(&mut mine);
    let fence = claim(&server, "k", "bob");
    assert_eq!(told, format!("{fence} 3 bob k"));
    mine.expect_nothing_pending();
    other.expect_nothing_pending();
    assert_eq!(tickets(&server), 1_000);
}

#[test]
fn any_bytes_can_be_told_apart() {
    let server = Server::start();
    let mut mine = listen(&server, "mine");
    let (key, owner) = (&b"a key\r\n\xff"[..], &b"an owner \x00"[..]);
    assert!(server.cmd(&[&b"LOCK.ACQUIRE"[..], key, b"alice"]).int() > 0);
    let ticket = [&b"LOCK.ACQUIRE"[..], key, owner, b"QUEUE", b"60000", b"NOTIFY", b"mine"];
    assert_eq!(server.cmd(&ticket), Value::Nil);
    assert_eq!(server.cmd(&[&b"LOCK.RELEASE"[..], key, b"alice"]), 1);
    let fence = server.cmd(&ticket).int();
    let expected = [format!("{fence} 10 ").as_bytes(), owner, b" ", key].concat();
    assert_eq!(mine.read().items()[2], Value::bulk(expected));
}

#[test]
fn a_client_at_a_ticket_several_locks_and_an_upgrade_are_told_too() {
    let server = Server::start();
    let mut mine = listen(&server, "mine");
    acquire(&server, "k alice");
    let mut bob = server.connect();
    bob.send(&words("LOCK.ACQUIRE k bob BLOCK 1 QUEUE 60000 NOTIFY mine"));
    assert_eq!(bob.read(), Value::Nil);
    assert_eq!(ask(&server, "LOCK.MACQUIRE carol 2 l k QUEUE 60000 NOTIFY mine"), Value::Nil);
    release(&server, "k", "alice");
    assert!(message(&mut mine).ends_with(" 3 bob k"));
    let fence = claim(&server, "k", "bob");
    release(&server, "k", "bob");
    let told = message(&mut mine);
    assert!(told.ends_with(" 5 carol k"), "the first of them by name: {told}");
    assert!(told.split(' ').next().unwrap().parse::<i64>().unwrap() > fence);
    assert_eq!(ask(&server, "LOCK.RELEASE k carol"), 1);
    for owner in ["dora", "erin"] {
        acquire(&server, &format!("up {owner} SHARED"));
    }
    assert_eq!(ask(&server, "LOCK.CONVERT up erin EXCLUSIVE QUEUE 60000 NOTIFY mine"), Value::Nil);
    release(&server, "up", "dora");
    assert!(message(&mut mine).ends_with(" 4 erin up"));
}

#[test]
fn the_newest_request_says_who_is_told() {
    let server = Server::start();
    let (mut mine, mut other) = (listen(&server, "mine"), listen(&server, "other"));
    acquire(&server, "k alice");
    acquire(&server, "l alice");
    for line in ["k bob QUEUE 60000 NOTIFY mine", "k bob QUEUE 60000 NOTIFY other"] {
        assert_eq!(ask(&server, &format!("LOCK.ACQUIRE {line}")), Value::Nil);
    }
    for line in ["l bob QUEUE 60000 NOTIFY mine", "l bob QUEUE 60000"] {
        assert_eq!(ask(&server, &format!("LOCK.ACQUIRE {line}")), Value::Nil);
    }
    release(&server, "k", "alice");
    release(&server, "l", "alice");
    assert!(message(&mut other).ends_with(" 3 bob k"));
    mine.expect_nothing_pending();
    other.expect_nothing_pending();
}

#[test]
fn who_may_not_publish_there_gets_no_ticket() {
    let server = Server::start();
    acquire(&server, "k alice");
    let denied =
        "NOPERM this user may not publish to the channel of NOTIFY; choose another, or ask an administrator";
    assert_eq!(ask(&server, "ACL SETUSER bob on >secret ~* +@all resetchannels &turns:bob"), "OK");
    let mut bob = server.connect();
    assert_eq!(bob.cmd(&["AUTH", "bob", "secret"]), "OK");
    assert_changes_nothing(&server, || {
        for line in [
            "LOCK.ACQUIRE k bob QUEUE 60000 NOTIFY turns:carol",
            "LOCK.MACQUIRE bob 2 k l QUEUE 60000 NOTIFY turns:carol",
            "LOCK.CONVERT k alice SHARED QUEUE 60000 NOTIFY turns:carol",
        ] {
            assert_eq!(bob.cmd(&words(line)), denied, "{line}");
        }
    });
    assert_eq!(tickets(&server), 0);
    assert_eq!(bob.cmd(&words("LOCK.ACQUIRE k bob QUEUE 60000 NOTIFY turns:bob")), Value::Nil);
}

#[test]
fn bad_words_change_nothing() {
    let server = Server::start();
    acquire(&server, "k alice");
    let long = "x".repeat(1025);
    let alone = "BADARG NOTIFY goes with QUEUE; a client that waits by BLOCK alone is told by its reply";
    let length = "BADARG the channel of NOTIFY must have 1 to 1024 bytes";
    assert_changes_nothing(&server, || {
        for (words, error) in [
            (&["NOTIFY", "c"][..], alone),
            (&["BLOCK", "5", "NOTIFY", "c"], alone),
            (&["QUEUE", "5", "NOTIFY"], "BADARG NOTIFY needs a value"),
            (&["QUEUE", "5", "NOTIFY", ""], length),
            (&["QUEUE", "5", "NOTIFY", &long], length),
            (
                &["QUEUE", "5", "NOTIFY", "c", "NOTIFY", "c"],
                "BADARG NOTIFY is given twice, or beside an option that excludes it",
            ),
        ] {
            for command in [
                &["LOCK.ACQUIRE", "k", "bob"][..],
                &["LOCK.MACQUIRE", "bob", "2", "k", "l"],
                &["LOCK.CONVERT", "k", "alice", "SHARED"],
            ] {
                let line: Vec<&str> = command.iter().chain(words).copied().collect();
                assert_eq!(server.cmd(&line), error, "{line:?}");
            }
        }
    });
}
