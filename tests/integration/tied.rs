//! TIED: a hold ends when its connection does, after the grace, unless its owner came back in time. Here the connection and
//! all that can befall it; those who wait, copies, failover, refusals and crowds have a file each.

mod copies;
mod crowds;
mod failover;
mod refusals;
mod waiting;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::operate::shown;
use crate::steps::{
    acquire, ask, assert_granted, assert_left, fence_of, holder, holder_seen_by, transaction, wait_for_lock,
    words,
};
use crate::support::wait::let_pass;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{at_once, left, lock_stat};

/// A grace that no test outlasts: what ends sooner was ended by something else.
const LONG: &str = "TIED 600000";

/// A new connection that has run this line and was given a fence for it.
fn tied(server: &Server, line: &str) -> Connection {
    let mut conn = server.connect();
    fence_of(&conn.cmd(&words(line)));
    conn
}

/// Closes a connection, and goes on when the server and the module have noticed. A lock that the same connection has by a
/// tie without grace tells.
pub(crate) fn close(server: &Server, mut conn: Connection) {
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE the-end the-end TIED 0")));
    drop(conn);
    wait_until("the server to notice", || holder(server, "the-end").is_none());
}

pub(crate) fn kill(server: &Server, conn: &mut Connection) {
    let id = conn.id().to_string();
    assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", &id]), 1);
}

/// Nobody holds `k`, and nothing of the hold is left.
fn wait_gone(server: &Server) {
    wait_until("the hold to end", || ask(server, "EXISTS k") == 0);
    assert_eq!((lock_stat(server, "tied"), lock_stat(server, "lease_index_entries")), (0, 0));
}

/// A way for a connection to end.
type Way = (&'static str, fn(&Server, Connection));

const WAYS: [Way; 9] = [
    ("it closes", |_, conn| drop(conn)),
    ("it says QUIT", |_, mut conn| {
        assert_eq!(conn.cmd(&["QUIT"]), "OK");
        conn.expect_closed();
    }),
    ("it is killed", |server, mut conn| kill(server, &mut conn)),
    ("it is killed in a transaction", |server, mut conn| {
        let id = conn.id().to_string();
        let replies = transaction(
            &mut server.connect(),
            &[&["SET", "l", "1"], &["CLIENT", "KILL", "ID", &id], &["SET", "l", "2"]],
        );
        assert_eq!(replies[1], 1);
    }),
    ("it kills itself in a transaction", |_, mut conn| {
        let id = conn.id().to_string();
        let kill = ["CLIENT", "KILL", "ID", &id, "SKIPME", "no"];
        conn.send_together(&[&["MULTI"], &kill, &words("LOCK.RENEW k alice TIED 0"), &["EXEC"]]);
        // Some servers still send the replies.
        while conn.try_read().is_ok() {}
    }),
    ("it closes in a transaction", |_, mut conn| {
        assert_eq!(conn.cmd(&["MULTI"]), "OK");
        assert_eq!(conn.cmd(&words("LOCK.RENEW k alice NOEXPIRE")), "QUEUED");
    }),
    ("it closes in another database", |_, conn| drop(conn.select(5))),
    ("it sends nonsense", |_, mut conn| {
        conn.send_bytes(b"*1\r\n!\r\n");
        assert!(conn.read().error().contains("Protocol error"));
        conn.expect_closed();
    }),
    ("it does not read what it is sent", |server, mut conn| {
        let limit = ["CONFIG", "SET", "client-output-buffer-limit", "normal 100000 0 0"];
        assert_eq!(server.cmd(&limit), "OK");
        let text = "x".repeat(1_000);
        server.cmd(&[&["RPUSH", "large"][..], &[text.as_str(); 1_000]].concat());
        conn.send(&words("LRANGE large 0 -1"));
        wait_until("the server to close it", || lock_stat(server, "closed") == 1);
    }),
];

#[test]
fn a_hold_ends_with_its_connection_however_that_ends() {
    for (way, end) in WAYS {
        let server = Server::start();
        let conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
        let mut next = wait_for_lock(&server, "k", "bob");
        end(&server, conn);
        println!("{way}");
        assert_granted(&server, &mut next, "k", "bob");
        assert_eq!(lock_stat(&server, "closed"), 1, "{way}");
        assert_eq!(lock_stat(&server, "tied"), 0, "{way}");
    }
}

#[test]
fn what_a_connection_does_leaves_the_tie_alone() {
    let server = Server::start();
    ask(&server, "ACL SETUSER guest on nopass -@all +auth +reset +client +multi +discard");
    for line in [
        "SELECT 5",
        "AUTH guest x",
        "HELLO 3",
        "CLIENT SETNAME other",
        "CLIENT REPLY ON",
        "MULTI",
        "SUBSCRIBE news",
        "RESET",
    ] {
        let mut conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
        let id = conn.id();
        let reply = conn.cmd(&words(line));
        assert!(!matches!(reply, Value::Error(_)), "{line}: {reply:?}");
        // Another connection that closes is none of its business.
        close(&server, server.connect());
        assert_eq!(shown(&server, "client-id"), id, "{line}");
        assert_eq!(left(&server, "k", "alice"), -1, "{line}");
        drop(conn);
        wait_gone(&server);
    }
}

#[test]
fn closed_in_the_packet_of_the_grant() {
    let server = Server::start();
    for n in 1..=20 {
        let mut conn = server.connect();
        conn.send_together(&[&words("LOCK.ACQUIRE k alice NOEXPIRE TIED 0"), &["QUIT"]]);
        drop(conn);
        wait_until("the grant to be over", || lock_stat(&server, "closed") == n);
        wait_gone(&server);
    }
}

#[test]
fn a_local_socket_is_a_connection_too() {
    let server = Server::with(&["unixsocket lock.sock"]);
    let mut conn = UnixStream::connect(server.dir().join("lock.sock")).expect("a local connection");
    conn.write_all(b"LOCK.ACQUIRE k alice NOEXPIRE TIED 0\r\n").unwrap();
    wait_until("the grant", || lock_stat(&server, "tied") == 1);
    drop(conn);
    wait_gone(&server);
    assert_eq!(lock_stat(&server, "closed"), 1);
}

#[test]
fn the_grace_begins_when_the_connection_is_gone() {
    let server = Server::start();
    let conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 500");
    let mut next = wait_for_lock(&server, "k", "bob");
    let start = Instant::now();
    drop(conn);
    wait_until("the server to notice", || shown(&server, "client-id") == 0);
    // Nothing of it is over, or it has not begun.
    let left_ms = left(&server, "k", "alice");
    assert!((1..=500).contains(&left_ms), "{left_ms}");
    assert_eq!((shown(&server, "grace-ms").int(), lock_stat(&server, "tied")), (500, 0));
    assert_granted(&server, &mut next, "k", "bob");
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(lock_stat(&server, "closed"), 1);
}

#[test]
fn the_lease_still_counts() {
    let server = Server::start();
    let conn = tied(&server, &format!("LOCK.ACQUIRE k alice PX 50 {LONG}"));
    wait_gone(&server);
    let conn = (conn, tied(&server, &format!("LOCK.ACQUIRE k alice PX 300 {LONG}")));
    close(&server, conn.1);
    wait_gone(&server);
    assert_eq!((lock_stat(&server, "expired"), lock_stat(&server, "closed")), (2, 1), "the-end is one");
}

#[test]
fn whoever_comes_back_in_time_keeps_it() {
    for line in [
        "LOCK.RENEW k alice TIED 0",
        "LOCK.RENEW k alice EX 60 TIED 0",
        "LOCK.ACQUIRE k alice PX 60000 TIED 0",
        "LOCK.MACQUIRE alice 1 k PX 60000 TIED 0",
    ] {
        let server = Server::start();
        let conn = tied(&server, "LOCK.ACQUIRE k alice PX 60000 TIED 20000");
        let fence = shown(&server, "fence").int();
        close(&server, conn);
        assert_left(&Value::Int(left(&server, "k", "alice")), 20_000);
        let mut back = server.connect();
        assert!(back.cmd(&words(line)).int() > 0, "{line}");
        assert_eq!(shown(&server, "fence"), fence, "{line}");
        assert_eq!(
            (shown(&server, "client-id"), shown(&server, "grace-ms").int()),
            (Value::Int(back.id()), 0)
        );
        assert_left(&shown(&server, "left-ms"), 60_000);
        assert!(left(&server, "k", "alice") > 20_000, "{line}: the lease is what bounds it again");
        drop(back);
        wait_gone(&server);
    }
}

#[test]
fn the_connection_before_means_nothing_any_more() {
    let server = Server::start();
    let old = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
    let mut new = server.connect();
    assert_eq!(new.cmd(&words("LOCK.RENEW k alice TIED 0")), -1);
    close(&server, old);
    assert_eq!(left(&server, "k", "alice"), -1);
    assert_eq!(shown(&server, "client-id"), new.id());
    drop(new);
    wait_gone(&server);
}

#[test]
fn a_renewal_without_a_tie_leaves_the_tie_as_it_is() {
    let server = Server::start();
    let mut conn = tied(&server, "LOCK.ACQUIRE k alice PX 60000 TIED 20000");
    let id = conn.id();
    for line in
        ["LOCK.RENEW k alice PX 50000", "LOCK.ACQUIRE k alice PX 70000", "LOCK.RENEW k alice NOEXPIRE"]
    {
        ask(&server, line);
        assert_eq!(
            (shown(&server, "client-id").int(), shown(&server, "grace-ms").int()),
            (id, 20_000),
            "{line}"
        );
    }
    close(&server, conn);
    // In the grace no renewal takes it further, as who renews need not be who was tied.
    for line in ["LOCK.RENEW k alice PX 50000", "LOCK.RENEW k alice NOEXPIRE", "LOCK.MRENEW alice 50000 1 k"]
    {
        let reply = ask(&server, line);
        let left_ms = if line.starts_with("LOCK.M") { reply.items()[0].int() } else { reply.int() };
        assert!((1..=20_000).contains(&left_ms), "{line}: {left_ms}");
        assert_eq!(shown(&server, "client-id"), 0, "{line}");
    }
    acquire(&server, "k alice PX 50000");
    assert!(left(&server, "k", "alice") <= 20_000);
    assert_eq!(ask(&server, "LOCK.RENEW k alice PX 100"), 100, "it can be cut short");
    wait_gone(&server);
}

#[test]
fn a_hold_can_be_tied_when_it_is_renewed() {
    let server = Server::start();
    let mut conn = server.connect();
    for line in ["LOCK.RENEW k alice PX 50000 TIED 0", "LOCK.ACQUIRE k alice PX 50000 TIED 0"] {
        acquire(&server, "k alice NOTE plain");
        assert_eq!(shown(&server, "grace-ms"), -1);
        assert!(conn.cmd(&words(line)).int() > 0);
        assert_eq!(
            (shown(&server, "client-id").int(), shown(&server, "note").text()),
            (conn.id(), "plain".into())
        );
        drop(std::mem::replace(&mut conn, server.connect()));
        wait_gone(&server);
    }
    // Nobody is tied by what was refused.
    acquire(&server, "k alice");
    assert_eq!(conn.cmd(&words("LOCK.RENEW k alice FENCE 7 TIED 0")), 0);
    assert_eq!(conn.cmd(&words("LOCK.ACQUIRE k alice FENCE 7 TIED 0")), Value::Nil);
    assert!(conn.cmd(&words("LOCK.ACQUIRE k alice SHARED TIED 0")).error().starts_with("LOCKMODE "));
    assert_eq!(conn.cmd(&words("LOCK.ACQUIRE k bob TIED 0")), Value::Nil);
    assert_eq!((shown(&server, "grace-ms").int(), lock_stat(&server, "tied")), (-1, 0));
}

#[test]
fn one_connection_with_many_holds() {
    const LOCKS: usize = 5_000;
    let server = Server::start();
    let mut conn = server.connect();
    for db in ["0", "5"] {
        let lines: Vec<String> =
            (0..LOCKS).map(|n| format!("LOCK.ACQUIRE lock-{n} alice NOEXPIRE TIED 0")).collect();
        let commands: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
        let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
        assert_eq!(conn.cmd(&["SELECT", db]), "OK");
        conn.send_together(&commands);
        commands.iter().for_each(|_| assert!(fence_of(&conn.read()) > 0));
    }
    let mut other = tied(&server, "LOCK.ACQUIRE other bob TIED 0").select(5);
    let held = 2 * LOCKS as i64 + 1;
    assert_eq!((lock_stat(&server, "tied"), lock_stat(&server, "held")), (held, held));
    drop(conn);
    wait_until("all holds to end", || lock_stat(&server, "held") == 1);
    assert_eq!((lock_stat(&server, "tied"), lock_stat(&server, "closed")), (1, held - 1));
    assert_eq!(holder_seen_by(&mut other, "lock-7"), None);
    assert_eq!(holder(&server, "other").as_deref(), Some("bob"));
}

#[test]
fn nothing_ends_while_writes_are_paused() {
    let server = Server::start();
    let mut killed = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
    let closes = tied(&server, "LOCK.ACQUIRE l alice NOEXPIRE TIED 100");
    let mut next = wait_for_lock(&server, "k", "bob");
    assert_eq!(ask(&server, "CLIENT PAUSE 20000 WRITE"), "OK");
    let offset = || server.info_int("replication", "master_repl_offset");
    let before = offset();
    kill(&server, &mut killed);
    drop(closes);
    let_pass(Duration::from_millis(300));
    assert_eq!((holder(&server, "k").as_deref(), left(&server, "l", "alice")), (Some("alice"), -1));
    next.expect_nothing_pending();
    assert_eq!(offset(), before, "something was sent during the pause");
    assert_eq!(ask(&server, "CLIENT UNPAUSE"), "OK");
    assert_granted(&server, &mut next, "k", "bob");
    wait_until("the other grace to be over", || lock_stat(&server, "closed") == 2);
    assert_eq!(holder(&server, "l"), None);
}

#[test]
fn nothing_ends_while_everything_is_paused() {
    let server = Server::start();
    let conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
    let mut next = wait_for_lock(&server, "k", "bob");
    let start = Instant::now();
    at_once(&server, &[&words("CLIENT PAUSE 800 ALL")]);
    drop(conn);
    fence_of(&next.read());
    assert!(start.elapsed() >= Duration::from_millis(790), "served during the pause");
    assert_eq!(lock_stat(&server, "closed"), 1);
}

#[test]
fn a_lock_that_moves_takes_its_tie_along() {
    // In one packet with the end of the connection, which is then noticed under the old name only.
    for (move_it, db, key) in [
        ("RENAME k other", 0, "other"),
        ("MOVE k 5", 5, "k"),
        ("SWAPDB 0 5", 5, "k"),
        ("COPY k other", 0, "k"),
    ] {
        let server = Server::start();
        let mut conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
        let id = conn.id().to_string();
        at_once(&server, &[&["CLIENT", "KILL", "ID", &id], &words(move_it)]);
        let mut looker = server.connect().select(db);
        wait_until(&format!("{move_it}: the hold to end"), || holder_seen_by(&mut looker, key).is_none());

        tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
        let mut conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE TIED 0");
        ask(&server, move_it);
        let shown = looker.cmd(&["LOCK.INFO", key]);
        assert_eq!(shown.field("holds").items()[0].field("client-id"), &conn.id(), "{move_it}");
        drop(conn);
        wait_until(&format!("{move_it}: the hold to end"), || holder_seen_by(&mut looker, key).is_none());
        assert_eq!(lock_stat(&server, "tied"), 0);
    }
}

#[test]
fn a_key_that_is_gone_is_no_longer_tied() {
    let server = Server::start();
    let mut conn = server.connect();
    for line in [
        "DEL k",
        "SET k text",
        "FLUSHALL",
        "FLUSHDB ASYNC",
        "UNLINK k",
        "LOCK.RELEASE k alice",
        "LOCK.BREAK k",
    ] {
        fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice TIED 0")));
        assert_eq!(lock_stat(&server, "tied"), 1);
        ask(&server, line);
        wait_until(&format!("{line}: no tie to be left"), || lock_stat(&server, "tied") == 0);
        ask(&server, "DEL k");
    }
    // Somebody else's hold under the same name is not the one that was tied.
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice TIED 0")));
    ask(&server, "DEL k");
    let fence = acquire(&server, "k alice");
    close(&server, conn);
    assert_eq!(shown(&server, "fence"), fence);
}
