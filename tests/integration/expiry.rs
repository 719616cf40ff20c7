//! The end of a lease: when it comes, what it does, and that a hold is over then, whether anybody has noticed or not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::steps::{
    acquire, ask, assert_granted, assert_holds, assert_punctual, fence_of, holder, in_line, release,
    transaction, wait_for_lock, words,
};
use crate::support::{wait_until, Connection, Server, Value};

/// Nothing is left of any lease.
fn wait_until_all_is_over(server: &Server) {
    wait_until("all leases to end", || server.info_int("lock_state", "lock_held") == 0);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
    assert_eq!(server.info_int("lock_state", "lock_lease_index_entries"), 0);
}

#[test]
fn the_key_goes_when_the_lease_ends() {
    let server = Server::start();
    acquire(&server, "k alice PX 30");
    wait_until_all_is_over(&server);
    assert_eq!(ask(&server, "LOCK.CHECK k alice"), 0);
    assert_eq!(ask(&server, "LOCK.RELEASE k alice"), 0);
    assert_eq!(server.info_int("lock_stats", "lock_expired"), 1);
    acquire(&server, "k bob");
}

/// One connection that hears the end of every lease.
fn listen(server: &Server) -> Connection {
    assert_eq!(ask(server, "CONFIG SET notify-keyspace-events Ed"), "OK");
    let mut conn = server.connect();
    conn.cmd(&words("SUBSCRIBE __keyevent@0__:lock.expired"));
    conn
}

#[test]
fn leases_end_on_time() {
    let server = Server::start();
    let mut events = listen(&server);
    let mut conn = server.connect();
    assert_punctual(&server, || {
        let mut due = HashMap::new();
        for n in 0..120 {
            let (key, lease) = (format!("k{n}"), Duration::from_millis(100 + 4 * n));
            let earliest = Instant::now() + lease;
            let ms = lease.as_millis().to_string();
            fence_of(&conn.cmd(&["LOCK.ACQUIRE", &key, "alice", "PX", &ms]));
            due.insert(key, (earliest, Instant::now() + lease));
        }
        let mut ended = || {
            let message = events.read();
            let heard = Instant::now();
            let (earliest, latest) = due[&message.items()[2].text()];
            (heard >= earliest).then(|| heard.saturating_duration_since(latest))
        };
        (0..120).map(|_| ended()).collect()
    });
}

#[test]
fn the_next_one_has_it_on_time() {
    let server = Server::start();
    assert_punctual(&server, || {
        const FIRST_LEASE: Duration = Duration::from_millis(500);
        const LEASE: Duration = Duration::from_millis(10);
        let begin = Instant::now();
        acquire(&server, "k first PX 500");
        let mut chain: Vec<Connection> = (0..110).map(|_| server.connect()).collect();
        for (n, conn) in chain.iter_mut().enumerate() {
            conn.send(&["LOCK.ACQUIRE", "k", &format!("owner-{n}"), "PX", "10", "BLOCK", "0"]);
        }
        let mut last = None;
        let mut late = Vec::new();
        for (n, conn) in (0..).zip(&mut chain) {
            fence_of(&conn.read());
            let now = Instant::now();
            assert!(now >= begin + FIRST_LEASE + LEASE * n, "grant {n} came early");
            late.extend(last.map(|last: Instant| Some((now - last).saturating_sub(LEASE))));
            last = Some(now);
        }
        wait_until_all_is_over(&server);
        late
    });
}

#[test]
fn renewed_in_time_it_goes_on() {
    let server = Server::start();
    let fence = acquire(&server, "k alice PX 1000");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    // Well beyond the first lease, a renewal whenever a tenth of it is over.
    let start = Instant::now();
    let mut renewed = start;
    while start.elapsed() < Duration::from_millis(1_600) {
        wait_until("a part of the lease to pass", || ask(&server, "LOCK.CHECK k alice").int() <= 900);
        let left = ask(&server, "LOCK.RENEW k alice");
        assert_eq!(left, 1_000, "it was renewed {:?} ago", renewed.elapsed());
        renewed = Instant::now();
        waiter.expect_nothing_pending();
    }
    assert_holds(&server, "k", "alice", fence);
    // And the last one ends like the first would have.
    assert_granted(&server, &mut waiter, "k", "bob");
    assert_eq!(ask(&server, "LOCK.RENEW k alice"), 0);
}

#[test]
fn a_lease_that_is_cut_ends_then_and_one_that_is_raised_does_not() {
    let server = Server::start();
    let mut conn = server.connect();
    conn.send_together(&[
        &words("LOCK.ACQUIRE raised alice PX 100"),
        &words("LOCK.ACQUIRE raised alice PX 60000"),
        &words("LOCK.ACQUIRE endless alice PX 100"),
        &words("LOCK.RENEW endless alice NOEXPIRE"),
        &words("LOCK.ACQUIRE cut alice PX 60000"),
    ]);
    let raised = fence_of(&conn.read());
    assert_eq!(conn.read(), raised);
    let endless = fence_of(&conn.read());
    assert_eq!(conn.read(), -1);
    fence_of(&conn.read());
    let mut waiter = wait_for_lock(&server, "cut", "bob");
    let mut behind = wait_for_lock(&server, "raised", "bob");
    assert_eq!(ask(&server, "LOCK.RENEW cut alice PX 150"), 150);
    // When the cut one has ended, so would the others have.
    assert_granted(&server, &mut waiter, "cut", "bob");
    behind.expect_nothing_pending();
    assert_holds(&server, "raised", "alice", raised);
    assert_holds(&server, "endless", "alice", endless);
}

#[test]
fn at_its_deadline_a_hold_is_over_though_nobody_could_notice() {
    let server = Server::start();
    // Inside a transaction no timer runs.
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.ACQUIRE k alice PX 20"),
            &words("LOCK.ACQUIRE l alice PX 20"),
            &words("LOCK.ACQUIRE m alice PX 20"),
            &words("DEBUG SLEEP 0.03"),
            &words("EXISTS k"),
            &words("LOCK.CHECK k alice"),
            &words("LOCK.INFO k"),
            &words("LOCK.RENEW k alice PX 60000"),
            &words("LOCK.RELEASE l alice"),
            &words("LOCK.ACQUIRE m bob"),
            &words("LOCK.CHECK m alice"),
            &words("LOCK.ACQUIRE m alice"),
        ],
    );
    assert_eq!(replies[4], 1, "the key is still there");
    assert_eq!(replies[5], 0);
    assert_eq!(replies[6].field("mode"), &"free");
    assert_eq!(replies[6].field("holds"), &Value::Array(vec![]));
    assert_eq!(replies[7], 0, "too late");
    assert_eq!(replies[8], 0);
    assert_holds(&server, "m", "bob", fence_of(&replies[9]));
    assert_eq!(replies[10], 0);
    assert_eq!(replies[11], Value::Nil);
    assert_eq!(ask(&server, "LOCK.CHECK k alice WITHINFO").field("reason"), &"expired");
}

#[test]
fn who_waits_is_served_first_when_a_lease_ends_unnoticed() {
    let server = Server::start();
    acquire(&server, "k alice PX 400");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("DEBUG SLEEP 0.42"),
            &words("LOCK.ACQUIRE k carol"),
            &words("LOCK.ACQUIRE k alice PX 60000"),
        ],
    );
    assert_eq!(replies[1..], [Value::Nil, Value::Nil]);
    assert_granted(&server, &mut waiter, "k", "bob");
}

#[test]
fn a_wait_that_ended_unnoticed_gets_nothing() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut late = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 400");
    let mut patient = wait_for_lock(&server, "k", "carol");
    // The wait is over while the server is busy; the release finds it still in line.
    let replies =
        transaction(&mut server.connect(), &[&words("DEBUG SLEEP 0.42"), &words("LOCK.RELEASE k alice")]);
    assert_eq!(replies[1], 1);
    assert_eq!(late.read(), Value::Nil);
    assert_granted(&server, &mut patient, "k", "carol");
}

#[test]
fn without_expiry_only_a_release_ends_it() {
    let server = Server::start();
    let fence = acquire(&server, "k alice NOEXPIRE");
    assert_eq!(
        server.info_int("lock_state", "lock_lease_index_entries"),
        0,
        "there is nothing to look after"
    );
    acquire(&server, "other alice PX 50");
    wait_until("the other lease to end", || holder(&server, "other").is_none());
    assert_holds(&server, "k", "alice", fence);
    release(&server, "k", "alice");
}

#[test]
fn thousands_of_leases_end_and_leave_nothing() {
    const N: usize = 6_000;
    let server = Server::start();
    let mut conn = server.connect();
    let commands: Vec<[String; 5]> = (0..N)
        .map(|n| {
            let ms = 1_000 + (n * 7) % 500;
            ["LOCK.ACQUIRE".into(), format!("k{n}"), "alice".into(), "PX".into(), ms.to_string()]
        })
        .collect();
    let lines: Vec<Vec<&str>> =
        commands.iter().map(|command| command.iter().map(String::as_str).collect()).collect();
    conn.send_together(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for _ in 0..N {
        fence_of(&conn.read());
    }
    // A third is given back, a third renewed, so that the ends of these are not where they were.
    for n in (0..N).step_by(3) {
        conn.send(&["LOCK.RELEASE", &format!("k{n}"), "alice"]);
        conn.send(&["LOCK.RENEW", &format!("k{}", n + 1), "alice", "PX", "1700"]);
    }
    let mut found = [0, 0];
    for n in 0..2 * N / 3 {
        found[n % 2] += usize::from(conn.read() != 0);
    }
    assert_eq!(found, [N / 3, N / 3], "all of them were in time");
    wait_until_all_is_over(&server);
    assert_eq!(server.info_int("lock_stats", "lock_released"), (N / 3) as i64);
    assert_eq!(server.info_int("lock_stats", "lock_expired"), (N - N / 3) as i64);
}

#[test]
fn what_is_acquired_and_released_leaves_no_lease_behind() {
    let server = Server::start();
    let mut conn = server.connect();
    let (acquire, release) = (words("LOCK.ACQUIRE k alice"), words("LOCK.RELEASE k alice"));
    for _ in 0..40 {
        conn.send_together(&[[&acquire[..], &release[..]]; 100].concat());
        for _ in 0..100 {
            fence_of(&conn.read());
            assert_eq!(conn.read(), 1);
        }
    }
    assert_eq!(server.info_int("lock_state", "lock_lease_index_entries"), 0);
}
