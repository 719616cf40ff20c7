//! What one command does is bounded, whatever its data, and the rest goes on between the clients: who is let in, told or
//! looked at later, in which order, and what is refused because a value would get too large. How long commands take is
//! measured by `make bench ARGS=worst`.

use crate::steps::{
    acquire, ask, assert_changes_nothing, granted, observing, transaction, watch_from, words,
};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::lock_stat;

/// How many one command lets in. See `SERVED_PER_STEP` in `limits.rs`.
const AT_ONCE: i64 = 200;

/// A server on which the turn of a ticket does not end.
fn start() -> Server {
    let server = Server::start();
    assert_eq!(ask(&server, "CONFIG SET lock.claim-ms 86400000"), "OK");
    server
}

/// Sends all of these lines together, and reads the replies.
fn all(server: &Server, lines: impl IntoIterator<Item = String>) -> Vec<Value> {
    let lines: Vec<String> = lines.into_iter().collect();
    let mut replies = Vec::new();
    let mut conn = server.connect();
    for some in lines.chunks(1_000) {
        let commands: Vec<Vec<&str>> = some.iter().map(|line| words(line)).collect();
        conn.send_together(&commands.iter().map(Vec::as_slice).collect::<Vec<_>>());
        replies.extend(some.iter().map(|_| conn.read()));
    }
    replies
}

fn keys(count: usize) -> String {
    (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>().join(" ")
}

/// How many hold a lock, by what LOCK.INFO shows.
fn holders(info: &Value) -> i64 {
    info.get("holds").map_or(0, |holds| holds.items().len() as i64)
}

/// Runs the command, and counts the holders of `k0`, `k1` and so on before anything else runs.
fn holders_right_after(server: &Server, command: &str, locks: usize) -> i64 {
    let looks: Vec<String> = (0..locks).map(|n| format!("LOCK.INFO k{n}")).collect();
    let commands: Vec<Vec<&str>> =
        std::iter::once(command).chain(looks.iter().map(String::as_str)).map(words).collect();
    let replies = transaction(&mut server.connect(), &commands.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert!(replies[0].int() > 0, "{command}: {:?}", replies[0]);
    replies[1..].iter().map(holders).sum()
}

fn wait_for_tickets(server: &Server, left: i64) {
    wait_until("everybody to be let in", || lock_stat(server, "tickets") == left);
}

#[test]
fn a_higher_limit_lets_many_in_over_turns_in_their_order() {
    let server = start();
    acquire(&server, "k0 first LIMIT 1 NOEXPIRE");
    all(&server, (0..700).map(|n| format!("LOCK.ACQUIRE k0 o{n:03} LIMIT 1 QUEUE 600000")));
    // Each of those who come in has the new limit already, and so half of the work is to give it to them.
    let at_once = holders_right_after(&server, "LOCK.SETLIMIT k0 1000", 1) - 1;
    assert!((1..=AT_ONCE).contains(&at_once), "{at_once} were let in by one command");
    wait_for_tickets(&server, 0);
    let info = ask(&server, "LOCK.INFO k0");
    let rows = info.field("holds").items();
    let owners: Vec<String> = rows.iter().skip(1).map(|row| row.field("owner").text()).collect();
    assert_eq!(owners, (0..700).map(|n| format!("o{n:03}")).collect::<Vec<_>>());
    assert!(rows.windows(2).all(|pair| pair[0].field("fence").int() < pair[1].field("fence").int()));
    assert_eq!(info.field("limit"), &1_000);
}

#[test]
fn a_lower_limit_sends_many_away_over_turns() {
    let server = start();
    acquire(&server, "k0 first LIMIT 5 PERMITS 5 NOEXPIRE");
    all(
        &server,
        (0..700).map(|n| format!("LOCK.ACQUIRE k0 o{n} LIMIT 5 PERMITS {} QUEUE 600000", 1 + n % 2 * 4)),
    );
    assert_eq!(ask(&server, "LOCK.SETLIMIT k0 3"), 1);
    wait_for_tickets(&server, 350);
    // Who came in between is neither.
    assert_eq!(lock_stat(&server, "failed"), 350);
}

#[test]
fn many_locks_together_let_in_no_more_than_one_does() {
    let server = start();
    granted(&server, &format!("LOCK.MACQUIRE writer 64 {} NOEXPIRE", keys(64)));
    all(&server, (0..1_280).map(|n| format!("LOCK.ACQUIRE k{} r{n} SHARED QUEUE 600000", n % 64)));
    let at_once = holders_right_after(&server, &format!("LOCK.MRELEASE writer 64 {}", keys(64)), 64);
    assert!((1..=AT_ONCE).contains(&at_once), "{at_once} were let in by one command");
    wait_for_tickets(&server, 0);
    let all: i64 = (0..64).map(|n| holders(&ask(&server, &format!("LOCK.INFO k{n}")))).sum();
    assert_eq!(all, 1_280);
}

#[test]
fn those_who_wait_for_many_locks_are_let_in_over_turns_in_their_order() {
    let server = start();
    acquire(&server, "k0 writer NOEXPIRE");
    all(&server, (0..40).map(|n| format!("LOCK.MACQUIRE g{n:02} 64 {} SHARED QUEUE 600000", keys(64))));
    let at_once = holders_right_after(&server, "LOCK.RELEASE k0 writer", 64);
    // The last of them may be begun with little left.
    assert!((64..=AT_ONCE + 64).contains(&at_once), "{at_once} holds were made by one command");
    assert_eq!(at_once % 64, 0, "all or none");
    wait_for_tickets(&server, 0);
    for key in [0, 63] {
        let info = ask(&server, &format!("LOCK.INFO k{key}"));
        let owners: Vec<String> =
            info.field("holds").items().iter().map(|row| row.field("owner").text()).collect();
        assert_eq!(owners, (0..40).map(|n| format!("g{n:02}")).collect::<Vec<_>>());
    }
}

#[test]
fn who_leaves_many_queues_lets_those_behind_in_over_turns() {
    let server = start();
    acquire(&server, "k0 reader SHARED NOEXPIRE");
    assert_eq!(ask(&server, &format!("LOCK.MACQUIRE g 64 {} QUEUE 600000", keys(64))), Value::Nil);
    all(&server, (0..1_280).map(|n| format!("LOCK.ACQUIRE k{} r{n} SHARED QUEUE 600000", n % 64)));
    let at_once = holders_right_after(&server, "LOCK.CANCEL k0 g", 64) - 1;
    assert!((1..=AT_ONCE).contains(&at_once), "{at_once} were let in by one command");
    wait_for_tickets(&server, 0);
}

#[test]
fn very_many_leases_that_end_together_are_not_one_commands_work() {
    const TRY_AGAIN: &str =
        "TRYAGAIN more leases of these locks have run out at once than one command ends; ask again";
    let server = start();
    for command in ["LOCK.MACQUIRE w 20", "LOCK.MRELEASE w 20", "LOCK.MRENEW w 5000 20"] {
        all(&server, (0..2_000).map(|n| format!("LOCK.ACQUIRE k{} r{n} SHARED PX 3000", n % 20)));
        let command = format!("{command} {}", keys(20));
        // Nothing of ours runs while the server sleeps, nor before the second command.
        let mut conn = server.connect();
        conn.send_together(&[&words("DEBUG SLEEP 3.1"), &words(&command)]);
        assert_eq!(conn.read(), "OK");
        assert_eq!(conn.read(), TRY_AGAIN, "{command}");
        wait_until("the leases to be ended", || lock_stat(&server, "held") == 0);
    }
    granted(&server, &format!("LOCK.MACQUIRE w 20 {}", keys(20)));
    assert_eq!(lock_stat(&server, "expired"), 6_000);
}

#[test]
fn a_latch_has_no_more_ids_than_one_command_can_carry() {
    const IDS: usize = 10_000;
    const TEXT: &str =
        "LOCKLIMIT the latch knows 10000 ids already; count without one, or use a latch for each part";
    let server = start();
    assert_eq!(ask(&server, "LATCH.SET k 1000000"), 1);
    all(&server, (0..IDS).map(|n| format!("LATCH.DOWN k id-{n}")));
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LATCH.DOWN k one-more"), TEXT);
        assert_eq!(ask(&server, "LATCH.DOWN k id-7"), 990_000, "one that is there already is not one more");
    });
    assert_eq!(ask(&server, "LATCH.DOWN k"), 989_999);
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert_eq!(ask(&server, "LATCH.DOWN k one-more"), TEXT);
}

#[test]
fn a_lock_has_no_more_ids_than_one_command_can_carry() {
    const TEXT: &str =
        "LOCKLIMIT the owners of the lock are in under 10000 ids already; release some of them first";
    let server = start();
    all(
        &server,
        (0..10_000).map(|n| format!("LOCK.ACQUIRE k o{} SHARED NOEXPIRE REENTRANT id-{n}", n / 250)),
    );
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.ACQUIRE k o39 SHARED REENTRANT one-more"), TEXT);
        assert_eq!(ask(&server, "LOCK.ACQUIRE k o39 SHARED REENTRANT one-more BLOCK 0"), TEXT);
    });
    acquire(&server, "k o39 SHARED REENTRANT id-9999");
    assert_eq!(ask(&server, "LOCK.RELEASE k o0 REENTRANT id-1"), 1);
    acquire(&server, "k o39 SHARED REENTRANT one-more");
    // A further owner is one more hold, and their number has a bound of its own.
    acquire(&server, "k other SHARED REENTRANT x");
}

#[test]
fn a_flush_and_a_swap_let_all_in_who_wait_anywhere() {
    let server = start();
    for (command, kept) in [("FLUSHALL", 0), ("SWAPDB 0 1", 500)] {
        all(&server, (0..500).map(|n| format!("LOCK.ACQUIRE k{n} old NOEXPIRE")));
        all(&server, (0..500).map(|n| format!("LOCK.ACQUIRE k{n} new NOEXPIRE QUEUE 600000")));
        assert_eq!(ask(&server, command), "OK");
        wait_for_tickets(&server, 0);
        // Valkey frees what was flushed on another thread.
        wait_until("the rest to be gone", || lock_stat(&server, "held") == 500 + kept);
        (0..500).for_each(|n| assert_eq!(ask(&server, &format!("LOCK.CHECK k{n} old")), 0));
        (0..500).for_each(|n| assert_eq!(ask(&server, &format!("LOCK.RELEASE k{n} new")), 1));
    }
}

#[test]
fn a_flush_and_a_swap_are_told_to_all_who_watch_anything() {
    let server = start();
    for command in ["FLUSHALL", "SWAPDB 0 1"] {
        all(&server, (0..230).map(|n| format!("LOCK.ACQUIRE k{n} old NOEXPIRE")));
        let mut watching: Vec<Connection> = (0..230)
            .map(|n| watch_from(&server, server.connect(), &format!("LOCK.AWAIT k{n} FREE BLOCK 0")))
            .collect();
        assert_eq!(ask(&server, command), "OK");
        wait_until("everybody to be told", || observing(&server) == 0);
        watching.iter_mut().for_each(|conn| assert_eq!(conn.read(), 1));
    }
}
