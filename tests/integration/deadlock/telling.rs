//! What is told of who waits for whom: names in the refusal, names that are not for the caller, and the rows of
//! LOCK.WAITERS in each mode.

use super::{cycle, granted_all, wait};
use crate::group::line_up;
use crate::onlookers::user;
use crate::steps::{acquire, ask, fence_of, release, words};
use crate::support::{Connection, Server, Value};

#[test]
fn names_cannot_end_the_line_and_long_ones_are_cut() {
    let server = Server::start();
    let (odd, long_key, long_owner) = (&b"\r\n+OK'\\\xff"[..], "k".repeat(100), "o".repeat(200));
    assert!(server.cmd(&[&b"LOCK.ACQUIRE"[..], odd, b"a"]).int() > 0);
    fence_of(&server.cmd(&["LOCK.ACQUIRE", &long_key, &long_owner]));
    let mut waiter = server.connect();
    waiter.send(&[&b"LOCK.ACQUIRE"[..], odd, long_owner.as_bytes(), b"BLOCK", b"0"]);
    crate::support::wait_until("it to get in line", || crate::traffic::lock_stat(&server, "queued") == 1);
    let reply = server.cmd(&["LOCK.ACQUIRE", &long_key, "a", "BLOCK", "0"]);
    let (key, owner) = (format!("{}...", "k".repeat(64)), format!("{}...", "o".repeat(64)));
    assert_eq!(
        reply.error(),
        format!(
            "DEADLOCK this wait would never end: 'a' waits for '{key}' behind '{owner}', '{owner}' waits for \
             '\\x0d\\x0a+OK\\x27\\x5c\\xff' behind 'a'; release what you hold and begin again"
        )
    );
}

#[test]
fn a_long_cycle_is_cut() {
    for (owners, shown) in [(8, 8), (9, 8), (12, 8)] {
        let server = Server::start();
        for n in 0..owners {
            acquire(&server, &format!("k{n} o{n}"));
        }
        let lines: Vec<String> = (1..owners).map(|n| format!("LOCK.ACQUIRE k{} o{}", n, n - 1)).collect();
        let _waiters = wait(&server, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        // The last of them asks for the first lock, and so on round.
        let last = owners - 1;
        let who = |n: usize| (last + n) % owners;
        let links: Vec<String> = (0..shown)
            .map(|n| format!("'o{}' waits for 'k{}' behind 'o{}'", who(n), who(n + 1), who(n + 1)))
            .collect();
        let more =
            if owners > shown { format!(", and so on, {owners} owners in all") } else { String::new() };
        let text = format!(
            "DEADLOCK this wait would never end: {}{more}; release what you hold and begin again",
            links.join(", ")
        );
        let reply = ask(&server, &format!("LOCK.ACQUIRE k0 o{last} BLOCK 0"));
        assert_eq!(reply.error(), text);
    }
}

#[test]
fn the_shortest_of_two_cycles_is_told() {
    let server = Server::start();
    granted_all(
        &server,
        &["LOCK.ACQUIRE k1 a SHARED", "LOCK.ACQUIRE k2 b SHARED", "LOCK.ACQUIRE k2 c SHARED"],
    );
    granted_all(&server, &["LOCK.ACQUIRE k3 d"]);
    // b waits for d who waits for a; c waits for a.
    let _waiters = wait(&server, &["LOCK.ACQUIRE k3 b", "LOCK.ACQUIRE k1 d", "LOCK.ACQUIRE k1 c"]);
    let reply = ask(&server, "LOCK.ACQUIRE k2 a BLOCK 0");
    assert_eq!(reply, cycle(&["a", "k2", "c", "k1"]).as_str());
}

#[test]
fn names_of_locks_that_the_caller_may_not_read_are_kept_from_it() {
    assert_keeps_names(&Server::start());
    // The module finds out who asks by a command that may have been renamed away.
    assert_keeps_names(&Server::with(&["rename-command GET \"\""]));
}

fn assert_keeps_names(server: &Server) {
    granted_all(
        server,
        &[
            "LOCK.ACQUIRE mine:1 a",
            "LOCK.ACQUIRE mine:2 b",
            "LOCK.ACQUIRE other:1 c",
            "LOCK.ACQUIRE other:2 d",
        ],
    );
    let _waiters =
        wait(server, &["LOCK.ACQUIRE other:1 b", "LOCK.ACQUIRE other:2 c", "LOCK.ACQUIRE mine:1 d"]);
    let ask = words("LOCK.ACQUIRE mine:2 a BLOCK 0");
    // c is known only from locks that are not the caller's.
    let concealed = "DEADLOCK this wait would never end: 'a' waits for 'mine:2' behind 'b', \
                     'b' waits for '?' behind '?', '?' waits for '?' behind 'd', \
                     'd' waits for 'mine:1' behind 'a'; release what you hold and begin again";
    for rules in ["~mine:* +@all", "~mine:* %W~other:* +@all"] {
        assert_eq!(user(server, rules).cmd(&ask), concealed, "{rules}");
    }
    // One of the two locks is enough to know c from.
    let half = "DEADLOCK this wait would never end: 'a' waits for 'mine:2' behind 'b', \
                'b' waits for '?' behind 'c', 'c' waits for 'other:2' behind 'd', \
                'd' waits for 'mine:1' behind 'a'; release what you hold and begin again";
    assert_eq!(user(server, "~mine:* %R~other:2 +@all").cmd(&ask), half);
    let links = ["a", "mine:2", "b", "other:1", "c", "other:2", "d", "mine:1"];
    for rules in ["~mine:* %R~other:* +@all", "~* +@all"] {
        assert_eq!(user(server, rules).cmd(&ask), cycle(&links).as_str(), "{rules}");
    }
    let mut conn = user(server, "~mine:* +@all");
    assert_eq!(conn.cmd(&words("LOCK.MACQUIRE a 2 mine:3 mine:2 BLOCK 0")), concealed);
}

/// A row of LOCK.WAITERS: owner, mode, permits, keys, blocked-by, behind.
type Row = (String, String, i64, i64, Vec<String>, Vec<String>);

fn rows(server: &Server, key: &str) -> Vec<Row> {
    let names = |value: &Value| value.items().iter().map(Value::text).collect();
    let reply = server.cmd(&["LOCK.WAITERS", key]);
    let row = |row: &Value| {
        (
            row.field("owner").text(),
            row.field("mode").text(),
            row.field("permits").int(),
            row.field("keys").int(),
            names(row.field("blocked-by")),
            names(row.field("behind")),
        )
    };
    reply.items().iter().map(row).collect()
}

fn row(who: &str, mode: &str, permits: i64, keys: i64, blocked_by: &str, behind: &str) -> Row {
    let names = |line: &str| words(line).iter().map(|name| (*name).to_owned()).collect();
    (who.to_owned(), mode.to_owned(), permits, keys, names(blocked_by), names(behind))
}

#[test]
fn waiters_of_an_exclusive_lock() {
    let server = Server::start();
    acquire(&server, "k a");
    let _waiters = wait(&server, &["LOCK.ACQUIRE k b", "LOCK.ACQUIRE k c", "LOCK.ACQUIRE k d SHARED"]);
    let expected = [
        row("b", "exclusive", 1, 1, "a", ""),
        row("c", "exclusive", 1, 1, "a", "b"),
        row("d", "shared", 1, 1, "a", "b c"),
    ];
    assert_eq!(rows(&server, "k"), expected);
}

#[test]
fn waiters_of_a_shared_lock() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k r1 SHARED", "LOCK.ACQUIRE k r2 SHARED"]);
    let _waiters =
        wait(&server, &["LOCK.ACQUIRE k w", "LOCK.ACQUIRE k r3 SHARED", "LOCK.CONVERT k r2 EXCLUSIVE"]);
    // Who waits for an upgrade comes first, and its own hold is not in its way. A reader only waits for its turn.
    let expected = [
        row("r2", "exclusive", 1, 1, "r1", ""),
        row("w", "exclusive", 1, 1, "r1 r2", "r2"),
        row("r3", "shared", 1, 1, "", "r2 w"),
    ];
    assert_eq!(rows(&server, "k"), expected);
}

#[test]
fn waiters_of_a_semaphore() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k a LIMIT 5 PERMITS 2", "LOCK.ACQUIRE k b LIMIT 5 PERMITS 1"]);
    let _waiters =
        wait(&server, &["LOCK.ACQUIRE k large LIMIT 5 PERMITS 4", "LOCK.ACQUIRE k small LIMIT 5 PERMITS 2"]);
    let expected = [
        row("large", "semaphore", 4, 1, "a b", ""),
        // There is room for it, but not its turn.
        row("small", "semaphore", 2, 1, "", "large"),
    ];
    assert_eq!(rows(&server, "k"), expected);
}

#[test]
fn waiters_for_several_locks() {
    let server = Server::start();
    granted_all(&server, &["LOCK.ACQUIRE k1 a", "LOCK.ACQUIRE k2 b"]);
    let _waiters =
        wait(&server, &["LOCK.MACQUIRE w 3 k1 k2 free", "LOCK.ACQUIRE k2 c", "LOCK.MACQUIRE v 2 free k2"]);
    assert_eq!(rows(&server, "k1"), [row("w", "exclusive", 1, 3, "a", "")]);
    let on_k2 = [
        row("w", "exclusive", 1, 3, "b", ""),
        row("c", "exclusive", 1, 1, "b", "w"),
        row("v", "exclusive", 1, 2, "b", "w c"),
    ];
    assert_eq!(rows(&server, "k2"), on_k2);
    // Nobody has it.
    assert_eq!(
        rows(&server, "free"),
        [row("w", "exclusive", 1, 3, "", ""), row("v", "exclusive", 1, 2, "", "w")]
    );
    release(&server, "k1", "a");
    assert_eq!(rows(&server, "k1"), [row("w", "exclusive", 1, 3, "", "")]);
}

#[test]
fn no_more_than_sixteen_names_and_of_those_before_it_the_nearest() {
    let server = Server::start();
    (0..20).for_each(|n| granted_all(&server, &[&format!("LOCK.ACQUIRE k r{n} SHARED")]));
    let _waiters: Vec<Connection> = (0..20)
        .map(|n| line_up(&server, server.connect(), &format!("LOCK.ACQUIRE k w{n} BLOCK 0")))
        .collect();
    let names = |prefix: &str, range: std::ops::Range<usize>| -> Vec<String> {
        range.map(|n| format!("{prefix}{n}")).collect()
    };
    let rows = rows(&server, "k");
    assert_eq!(rows.len(), 20);
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row.4, names("r", 0..16));
        assert_eq!(row.5, names("w", at.saturating_sub(16)..at), "the nearest last");
    }
}
