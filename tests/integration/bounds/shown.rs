//! How bounds and cooldowns are shown: LOCK.INFO and WITHINFO in both protocols, events, counters.

use super::assert_lost;
use crate::operate::shown;
use crate::resp3::names;
use crate::steps::{acquire, ask, assert_left, fence_of, granted, release, wait_for_lock, words};
use crate::support::{wait_until, Connection, Events, Server, Value};
use crate::tied::kill;
use crate::traffic::lock_stat;

fn connections(server: &Server) -> [(bool, Connection); 2] {
    [(false, server.connect()), (true, server.connect().hello3())]
}

#[test]
fn info_shows_bounds_and_rests() {
    let server = Server::start();
    let mut conn = server.connect();
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k ann LIMIT 9 MAXHOLD 300000 MINHOLD 200000 TIED 100000")));
    acquire(&server, "k ben LIMIT 9 PERMITS 3 MINHOLD 200000");
    release(&server, "k", "ben");
    for (resp3, mut looker) in connections(&server) {
        let info = looker.cmd(&words("LOCK.INFO k"));
        assert_eq!(names(&info, resp3), ["mode", "limit", "holds", "waiting", "cooling"]);
        let [hold] = info.field("holds").items() else { panic!("{info:?}") };
        let all = names(hold, resp3);
        assert_eq!(
            all[all.len() - 5..],
            ["max-left-ms", "min-left-ms", "grace-ms", "client-id", "client-addr"]
        );
        assert_left(hold.field("max-left-ms"), 300_000);
        assert_left(hold.field("min-left-ms"), 200_000);
        assert_eq!((hold.field("grace-ms").int(), hold.field("client-id").int()), (100_000, conn.id()));
        let [rest] = info.field("cooling").items() else { panic!("{info:?}") };
        assert_eq!(names(rest, resp3), ["owner", "permits", "reason", "left-ms"]);
        assert_eq!((rest.field("owner").text(), rest.field("permits").int()), ("ben".into(), 3));
        assert_eq!(rest.field("reason"), &"min-hold");
        assert_left(rest.field("left-ms"), 200_000);
        // Somebody holds it, so that is what it is.
        assert_eq!((info.field("mode").text(), info.field("limit").int()), ("semaphore".into(), 9));
    }
    release(&server, "k", "ann");
    for (_, mut looker) in connections(&server) {
        let info = looker.cmd(&words("LOCK.INFO k"));
        assert_eq!((info.field("mode").text(), info.field("limit").int()), ("cooling".into(), 0));
        assert_eq!((info.field("holds").items().len(), info.field("cooling").items().len()), (0, 2));
    }
    ask(&server, "LOCK.BREAK k");
    assert_eq!(ask(&server, "LOCK.INFO k").field("mode"), &"free");
}

#[test]
fn withinfo_says_how_long_the_cooldown_is() {
    let server = Server::with(&["lock.lock-delay-ms 500000"]);
    acquire(&server, "k alice MINHOLD 600000");
    release(&server, "k", "alice");
    acquire(&server, "l alice");
    ask(&server, "LOCK.BREAK l");
    for (resp3, mut conn) in connections(&server) {
        for (line, reason, ms) in [
            ("LOCK.ACQUIRE k bob WITHINFO", "min-hold", 600_000),
            ("LOCK.MACQUIRE bob 1 k WITHINFO", "min-hold", 600_000),
            ("LOCK.ACQUIRE l bob WITHINFO", "lock-delay", 500_000),
            // The first that is in the way.
            ("LOCK.MACQUIRE bob 3 free l k WITHINFO", "lock-delay", 500_000),
        ] {
            let report = conn.cmd(&words(line));
            assert_eq!(
                names(&report, resp3),
                ["result", "fence", "lease-ms", "reason", "ago-ms", "holder", "holder-ms", "ahead"]
            );
            assert_eq!(report.field("reason"), &reason, "{line}");
            assert_left(report.field("lease-ms"), ms);
            for field in ["result", "fence", "ago-ms", "holder"] {
                assert_eq!(report.field(field), &Value::Nil, "{line}: {field}");
            }
        }
        // A wait that ends meanwhile ends as any wait does.
        let report = conn.cmd(&words("LOCK.ACQUIRE k bob BLOCK 20 WITHINFO"));
        assert_eq!(report.field("reason"), &"timeout");
    }
}

/// A way for a hold of `alice` on `k` to end, with its fence, and what it is called.
type End = (fn(&Server) -> i64, &'static str);

const ENDS: [End; 2] = [
    (
        |server| {
            let mut conn = server.connect();
            let fence = fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE TIED 0")));
            kill(server, &mut conn);
            fence
        },
        "connection-closed",
    ),
    (|server| acquire(server, "k alice NOEXPIRE MAXHOLD 20"), "max-hold"),
];

#[test]
fn who_is_late_is_told_what_ended_the_hold() {
    let server = Server::start();
    for (end, reason) in ENDS {
        let fence = end(&server);
        wait_until(reason, || ask(&server, "EXISTS k") == 0);
        for (resp3, mut conn) in connections(&server) {
            for late in [
                "LOCK.RELEASE k alice".to_owned(),
                "LOCK.RELEASE k alice ALL".to_owned(),
                format!("LOCK.RELEASE k alice FENCE {fence}"),
                "LOCK.RENEW k alice PX 5000".to_owned(),
                "LOCK.RENEW k alice TIED 5000".to_owned(),
                "LOCK.CHECK k alice".to_owned(),
                "LOCK.CONVERT k alice SHARED".to_owned(),
                format!("LOCK.ACQUIRE k alice FENCE {fence}"),
            ] {
                let report = conn.cmd(&words(&format!("{late} WITHINFO")));
                assert_eq!(names(&report, resp3).len(), 8, "{late}");
                assert!(matches!(report.field("result"), Value::Nil | Value::Int(0)), "{late}: {report:?}");
                assert_eq!(report.field("reason"), &reason, "{late}");
                assert_eq!(
                    (report.field("fence").int(), report.field("lease-ms")),
                    (fence, &Value::Nil),
                    "{late}"
                );
                assert!((0..60_000).contains(&report.field("ago-ms").int()), "{late}: {report:?}");
                assert_eq!(report.field("holder"), &Value::Nil, "{late}");
            }
        }
    }
}

#[test]
fn renewals_report_the_cap() {
    let server = Server::start();
    acquire(&server, "k alice NOEXPIRE MAXHOLD 300000");
    for line in
        ["LOCK.RENEW k alice WITHINFO", "LOCK.CHECK k alice WITHINFO", "LOCK.ACQUIRE k alice WITHINFO"]
    {
        assert_left(ask(&server, line).field("lease-ms"), 300_000);
    }
    assert_left(&ask(&server, "LOCK.MRENEW alice 600000 1 k").items()[0], 300_000);
    assert_eq!(shown(&server, "lease-ms"), 600_000, "what was asked for is kept");
    assert_left(&shown(&server, "left-ms"), 300_000);
}

#[test]
fn what_is_published() {
    let server = Server::start();
    let mut events = Events::listen_to(&server, "Kd");
    let mut assert_heard = |expected: &[&str]| {
        let heard: Vec<String> = expected.iter().map(|_| events.next()).collect();
        let expected: Vec<String> = expected.iter().map(|event| format!("k lock.{event}")).collect();
        assert_eq!(heard, expected);
        assert!(events.heard().is_empty());
    };
    acquire(&server, "k alice MINHOLD 200");
    release(&server, "k", "alice");
    assert_heard(&["acquired", "released", "cooled"]);
    acquire(&server, "k alice NOEXPIRE MAXHOLD 20");
    assert_heard(&["acquired", "expired"]);
    let mut conn = server.connect();
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE TIED 20")));
    let _next = wait_for_lock(&server, "k", "bob");
    kill(&server, &mut conn);
    // The grace that begins is no event.
    assert_heard(&["acquired", "waiting", "expired", "acquired"]);
    release(&server, "k", "bob");
    acquire(&server, "k alice MINHOLD 600000");
    release(&server, "k", "alice");
    let _next = wait_for_lock(&server, "k", "carol");
    ask(&server, "LOCK.BREAK k");
    assert_heard(&["released", "acquired", "released", "waiting", "cooled", "acquired"]);
    release(&server, "k", "carol");
    acquire(&server, "k alice MINHOLD 600000");
    release(&server, "k", "alice");
    granted(&server, "LOCK.STEAL k eve");
    assert_heard(&["released", "acquired", "released", "cooled", "acquired"]);
}

#[test]
fn everything_is_counted_once() {
    let server = Server::with(&["lock.lock-delay-ms 600000"]);
    let counted = || {
        ["granted", "released", "expired", "closed", "broken", "undone", "vanished"]
            .map(|name| lock_stat(&server, name))
    };
    acquire(&server, "k alice MINHOLD 600000");
    release(&server, "k", "alice");
    assert_eq!(counted(), [1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(
        (lock_stat(&server, "held"), lock_stat(&server, "lease_index_entries")),
        (1, 1),
        "a lock in cooldown"
    );
    ask(&server, "LOCK.BREAK k");
    assert_eq!(counted(), [1, 1, 0, 0, 0, 0, 0], "nobody's hold was broken");
    acquire(&server, "k alice NOEXPIRE MAXHOLD 20");
    wait_until("the cap", || lock_stat(&server, "expired") == 1);
    ask(&server, "DEL k");
    assert_eq!(counted(), [2, 1, 1, 0, 0, 0, 0], "nobody's hold has vanished");
    let mut conn = server.connect();
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE TIED 0")));
    assert_eq!(lock_stat(&server, "tied"), 1);
    kill(&server, &mut conn);
    wait_until("the end", || lock_stat(&server, "closed") == 1);
    granted(&server, "LOCK.STEAL k eve");
    assert_eq!(counted(), [4, 1, 1, 1, 0, 0, 0]);
    ask(&server, "LOCK.BREAK k");
    assert_eq!(counted(), [4, 1, 1, 1, 1, 0, 0]);
    ask(&server, "LOCK.BREAK k");
    let left = ["held", "lease_index_entries", "tied"].map(|name| lock_stat(&server, name));
    assert_eq!(left, [0, 0, 0]);
    assert_lost(&server, "eve", "broken");
}

#[test]
fn memory_usage_has_what_bounds_a_hold() {
    let server = Server::start();
    let usage = || ask(&server, "MEMORY USAGE k").int();
    acquire(&server, "k alice");
    let plain = usage();
    ask(&server, "DEL k");
    acquire(&server, "k alice MINHOLD 600000");
    let bounded = usage();
    assert!(bounded >= plain + 100, "{bounded} bytes with bounds, {plain} without");
    release(&server, "k", "alice");
    assert!(usage() >= plain, "{} bytes in cooldown, {plain} while it was held", usage());
}
