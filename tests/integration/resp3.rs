//! The forms of replies in both protocols, byte by byte, for those who were answered at once and for those who waited.

use crate::steps::{acquire, assert_left, fence_of, is_modern, queue_up, release, words};
use crate::support::{Connection, Server, Value};

const REPORT: [&str; 8] = ["result", "fence", "lease-ms", "reason", "ago-ms", "holder", "holder-ms", "ahead"];

/// The names of a map, which must be one in this protocol.
pub(crate) fn names(reply: &Value, resp3: bool) -> Vec<String> {
    match reply {
        Value::Map(pairs) if resp3 => pairs.iter().map(|(name, _)| name.text()).collect(),
        Value::Array(items) if !resp3 => items.chunks_exact(2).map(|pair| pair[0].text()).collect(),
        other => panic!("not a map of this protocol: {other:?}"),
    }
}

/// Runs a test in each protocol, on a server of its own: a waiter whose connection was just closed is still in line,
/// and would be in the other's way.
fn both_protocols(test: impl Fn(&Server, &dyn Fn() -> Connection, bool)) {
    let server = Server::start();
    test(&server, &|| server.connect(), false);
    let server = Server::start();
    test(&server, &|| server.connect().hello3(), true);
}

#[test]
fn nothing_is_null() {
    both_protocols(|server, connect, resp3| {
        let null: &[u8] = if resp3 { b"_\r\n" } else { b"$-1\r\n" };
        acquire(server, "k alice");
        let mut conn = connect();
        for line in [
            "LOCK.ACQUIRE k bob",
            "LOCK.ACQUIRE k *",
            "LOCK.ACQUIRE k bob BLOCK 1",
            "LOCK.ACQUIRE k * BLOCK 1",
        ] {
            conn.send(&words(line));
            conn.expect_bytes(null);
        }
        assert_eq!(conn.cmd(&["PING"]), "PONG");
    });
}

#[test]
fn numbers_are_integers() {
    both_protocols(|_, connect, _| {
        let mut conn = connect();
        let fence = fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE")));
        conn.send(&words("LOCK.ACQUIRE k alice"));
        conn.expect_bytes(format!(":{fence}\r\n").as_bytes());
        conn.send_together(&[
            &words("LOCK.CHECK k alice"),
            &words("LOCK.RENEW k alice PX 50000"),
            &words("LOCK.CHECK k bob"),
            &words("LOCK.RELEASE k bob"),
            &words("LOCK.RELEASE k alice"),
        ]);
        conn.expect_bytes(b":-1\r\n:50000\r\n:0\r\n:0\r\n:1\r\n");
    });
}

#[test]
fn a_made_up_owner_is_an_array_with_the_fence() {
    both_protocols(|server, connect, _| {
        let mut conn = connect();
        let reply = conn.cmd(&words("LOCK.ACQUIRE k *"));
        assert!(matches!(reply.items(), [Value::Bulk(_), Value::Int(_)]), "{reply:?}");
        let owner = reply.items()[0].text();
        let mut waiter = queue_up(server, connect(), &words("LOCK.ACQUIRE k * BLOCK 0"));
        assert_eq!(conn.cmd(&["LOCK.RELEASE", "k", &owner]), 1);
        let reply = waiter.read();
        assert!(matches!(reply.items(), [Value::Bulk(_), Value::Int(_)]), "{reply:?}");
    });
}

#[test]
fn reports_are_maps() {
    both_protocols(|server, connect, resp3| {
        let mut conn = connect();
        for (line, reason) in [
            ("LOCK.ACQUIRE k alice WITHINFO", "granted"),
            ("LOCK.ACQUIRE k alice WITHINFO", "already-held"),
            ("LOCK.ACQUIRE k bob WITHINFO", "held"),
            ("LOCK.RENEW k alice WITHINFO", "renewed"),
            ("LOCK.CHECK k alice WITHINFO", "held"),
            ("LOCK.CHECK k bob WITHINFO", "not-held"),
            ("LOCK.RELEASE k alice WITHINFO", "released"),
        ] {
            let reply = conn.cmd(&words(line));
            assert_eq!(names(&reply, resp3), REPORT, "{line}");
            assert_eq!(reply.field("reason"), &reason, "{line}");
        }
        let made_up = conn.cmd(&words("LOCK.ACQUIRE k * WITHINFO"));
        let [Value::Bulk(_), report] = made_up.items() else { panic!("not owner and report: {made_up:?}") };
        assert_eq!(names(report, resp3), REPORT);
        // Without a grant there is no owner to tell.
        assert_eq!(names(&conn.cmd(&words("LOCK.ACQUIRE k * WITHINFO")), resp3), REPORT);
        assert_eq!(server.cmd(&["DEL", "k"]), 1);
    });
}

#[test]
fn reports_to_those_who_waited() {
    both_protocols(|server, connect, resp3| {
        let told = |conn: &mut Connection, reason: &str| {
            let reply = conn.read();
            assert_eq!(names(&reply, resp3), REPORT, "{reason}");
            assert_eq!(reply.field("reason"), &reason);
            reply
        };
        let wait = |line: &str| queue_up(server, connect(), &words(line));
        acquire(server, "k alice");

        let mut timed_out = connect();
        timed_out.send(&words("LOCK.ACQUIRE k bob BLOCK 30 WITHINFO"));
        let report = told(&mut timed_out, "timeout");
        assert_eq!(report.field("result"), &Value::Nil);
        assert_eq!(report.field("holder"), &"alice");

        let mut older = wait("LOCK.ACQUIRE k bob BLOCK 0 WITHINFO");
        let mut newer = connect();
        newer.send(&words("LOCK.ACQUIRE k bob PX 50000 BLOCK 0 WITHINFO"));
        assert_eq!(told(&mut older, "superseded").field("result"), &Value::Nil);

        let mut star = wait("LOCK.ACQUIRE k * BLOCK 0 WITHINFO");
        release(server, "k", "alice");
        let report = told(&mut newer, "granted");
        let fence = fence_of(report.field("result"));
        assert_eq!(report.field("fence"), &fence);
        assert_left(report.field("lease-ms"), 50_000);
        assert_eq!(report.field("holder"), &Value::Nil);

        release(server, "k", "bob");
        let reply = star.read();
        let [owner, report] = reply.items() else { panic!("not owner and report: {reply:?}") };
        assert_eq!(names(report, resp3), REPORT);
        release(server, "k", &owner.text());
    });
}

#[test]
fn a_report_to_one_who_was_unblocked() {
    both_protocols(|server, connect, resp3| {
        if !is_modern(server) {
            return crate::support::skip(
                "a report to one who was unblocked",
                "CLIENT UNBLOCK replies 0 here",
            );
        }
        acquire(server, "k alice");
        let mut conn = connect();
        let id = conn.id().to_string();
        let mut conn = queue_up(server, conn, &words("LOCK.ACQUIRE k bob BLOCK 0 WITHINFO"));
        assert_eq!(server.cmd(&["CLIENT", "UNBLOCK", &id, "TIMEOUT"]), 1);
        let report = conn.read();
        assert_eq!(names(&report, resp3), REPORT);
        assert_eq!(report.field("result"), &Value::Nil);
        assert_eq!(report.field("reason"), &"timeout");
        assert_eq!(report.field("holder"), &"alice");
    });
}

#[test]
fn a_lock_is_shown_as_a_map() {
    both_protocols(|server, connect, resp3| {
        acquire(server, "k alice");
        let _waiter = queue_up(server, connect(), &words("LOCK.ACQUIRE k bob BLOCK 0"));
        let mut conn = connect();
        let info = conn.cmd(&words("LOCK.INFO k"));
        assert_eq!(names(&info, resp3), ["mode", "limit", "holds", "waiting", "cooling"]);
        let Value::Array(holds) = info.field("holds") else { panic!("no array of holds: {info:?}") };
        let fields = [
            "owner",
            "fence",
            "permits",
            "entries",
            "keys",
            "lease-ms",
            "left-ms",
            "held-ms",
            "note",
            "max-left-ms",
            "min-left-ms",
            "grace-ms",
            "client-id",
            "client-addr",
        ];
        assert_eq!(names(&holds[0], resp3), fields);
        let Value::Array(waiters) = conn.cmd(&words("LOCK.WAITERS k")) else { panic!("no array of waiters") };
        let fields = [
            "owner",
            "kind",
            "mode",
            "permits",
            "keys",
            "waited-ms",
            "left-ms",
            "blocked-by",
            "behind",
            "note",
        ];
        assert_eq!(names(&waiters[0], resp3), fields);
        assert_eq!(
            names(&conn.cmd(&words("LOCK.INFO free")), resp3),
            ["mode", "limit", "holds", "waiting", "cooling"]
        );
    });
}

#[test]
fn a_waiter_is_answered_in_the_protocol_it_speaks() {
    let server = Server::start();
    acquire(&server, "k alice");
    let (mut two, mut three) = (server.connect(), server.connect().hello3());
    two.send(&words("LOCK.ACQUIRE k bob BLOCK 40"));
    three.send(&words("LOCK.ACQUIRE k carol BLOCK 40"));
    three.expect_bytes(b"_\r\n");
    two.expect_bytes(b"$-1\r\n");
    // Back to the older one, for the same connection.
    three.cmd(&["HELLO", "2"]);
    three.send(&words("LOCK.ACQUIRE k carol BLOCK 40"));
    three.expect_bytes(b"$-1\r\n");
}
