//! F1–F4. Replies that get lost on the way, and clients that ask again without knowing what has become of the first time.

use crate::steps::{
    acquire, ask, assert_granted, assert_holds, assert_left, fence_of, granted, holder, queue_up, release,
    wait_for_lock, waiting, words,
};
use crate::support::resp::encode;
use crate::support::{wait_until, Connection, Proxy, Server, Value};
use crate::traffic::lock_stat;

/// Sends a command of which so many bytes of the reply come through, until `done`; then the line breaks.
fn lose_the_reply(proxy: &Proxy, mut conn: Connection, bytes: usize, line: &str, done: impl FnMut() -> bool) {
    proxy.pass_replies(bytes);
    conn.send(&words(line));
    wait_until(&format!("`{line}` to be done"), done);
    proxy.wait_used_up();
    proxy.cut();
    conn.expect_closed();
}

/// A request timed out on the client, but had been done: the lock was held by nobody for as long as its lease was, and the
/// client that tried again was kept out by itself. Here the owner tells the server who asks: wherever in the reply the line
/// breaks, the same request again is answered with the same grant, whether it waits or not.
#[test]
fn f1_f4_a_grant_whose_reply_was_lost_is_told_again() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    // `:` and sixteen digits; with the last byte of the line nothing is lost.
    for bytes in 0..18 {
        let key = format!("k{bytes}");
        let line = format!("LOCK.ACQUIRE {key} alice PX 600000");
        let held = || holder(&server, &key).is_some();
        lose_the_reply(&proxy, proxy.connect(), bytes, &line, held);
        let info = server.cmd(&["LOCK.INFO", &key]);
        let fence = info.field("holds").items()[0].field("fence").int();
        for again in [&line, &format!("{line} BLOCK 0")] {
            assert_eq!(proxy.connect().cmd(&words(again)), fence, "{again}");
        }
        assert_holds(&server, &key, "alice", fence);
        release(&server, &key, "alice");
        assert_eq!(holder(&server, &key), None, "she was in once");
    }
    assert_eq!(lock_stat(&server, "granted"), 18);
}

/// The same for several locks at once.
#[test]
fn f1_a_grant_of_several_locks_is_told_again() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let line = "LOCK.MACQUIRE alice 3 a b c PX 600000";
    lose_the_reply(&proxy, proxy.connect(), 0, line, || holder(&server, "c").is_some());
    let fence = granted(&server, line);
    for key in ["a", "b", "c"] {
        assert_holds(&server, key, "alice", fence);
    }
    assert_eq!(ask(&server, "LOCK.MRELEASE alice 3 a b c"), 3);
    assert_eq!(lock_stat(&server, "granted"), 3);
}

/// The same for a grant after a wait: the reply goes out and does not arrive, and the connection breaks only later.
#[test]
fn f1_a_grant_after_a_wait_is_told_again() {
    let server = Server::start();
    acquire(&server, "k bob");
    let proxy = Proxy::to(&server);
    let line = "LOCK.ACQUIRE k alice PX 600000 BLOCK 0";
    let mut lost = queue_up(&server, proxy.connect(), &words(line));
    proxy.pass_replies(0);
    release(&server, "k", "bob");
    wait_until("the grant to be sent", || {
        holder(&server, "k").as_deref() == Some("alice") && lock_stat(&server, "provisional") == 0
    });
    proxy.cut();
    lost.expect_closed();
    let fence = fence_of(&proxy.connect().cmd(&words(line)));
    assert_holds(&server, "k", "alice", fence);
    assert_eq!((lock_stat(&server, "granted"), waiting(&server, "k")), (2, 0));
}

/// The lock was taken by one command and given its time to live by another; a client that died in between left a lock for
/// ever. Here a request is one command: wherever it breaks off there is no lock at all, and when it is whole the lock has
/// its lease, asked for or not.
#[test]
fn f2_no_lock_is_without_an_end_by_accident() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    for (line, lease_ms) in [("LOCK.ACQUIRE k alice PX 600000", 600_000), ("LOCK.ACQUIRE k alice", 30_000)] {
        let request = encode(&words(line));
        for bytes in 0..request.len() {
            let mut conn = proxy.connect();
            let id = conn.id();
            proxy.pass_requests(bytes);
            conn.send_bytes(&request);
            proxy.wait_used_up();
            proxy.cut();
            conn.expect_closed();
            wait_until("the server to notice", || {
                server.cmd(&["CLIENT", "LIST", "ID", &id.to_string()]) == ""
            });
            assert_eq!(server.cmd(&["EXISTS", "k"]), 0, "after {bytes} bytes of `{line}`");
        }
        let mut conn = proxy.connect();
        proxy.pass_replies(0);
        conn.send_bytes(&request);
        wait_until("the lock to be held", || holder(&server, "k").is_some());
        proxy.cut();
        assert_left(&ask(&server, "LOCK.CHECK k alice"), lease_ms);
        release(&server, "k", "alice");
    }
    // Without an end only for those who say so.
    acquire(&server, "k alice NOEXPIRE");
    assert_eq!(ask(&server, "LOCK.CHECK k alice"), -1);
}

/// A release was done, but its reply was lost; the client had forgotten the lock before it asked, or asked again and freed
/// the lock of somebody else. Here the same release again has the reply that was lost, whoever has the lock by then, and
/// harms nobody.
#[test]
fn f3_a_release_whose_reply_was_lost_can_be_sent_again() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    // ":1" and the end of the line.
    for bytes in 0..4 {
        let old = acquire(&server, "k alice");
        let line = format!("LOCK.RELEASE k alice FENCE {old}");
        let gone = || server.cmd(&["EXISTS", "k"]) == 0;
        lose_the_reply(&proxy, proxy.connect(), bytes, &line, gone);
        let mut back = proxy.connect();
        assert_eq!(back.cmd(&words(&line)), 1, "it is free already");
        for next in ["bob", "alice"] {
            let fence = acquire(&server, &format!("k {next}"));
            assert_eq!(back.cmd(&words(&line)), 1, "{next} has it");
            assert_holds(&server, "k", next, fence);
            release(&server, "k", next);
        }
    }
    // Where the request was lost the second one does it.
    let fence = acquire(&server, "k alice");
    let line = format!("LOCK.RELEASE k alice FENCE {fence}");
    let mut conn = proxy.connect();
    proxy.pass_requests(words(&line).len());
    conn.send(&words(&line));
    proxy.wait_used_up();
    proxy.cut();
    conn.expect_closed();
    assert_holds(&server, "k", "alice", fence);
    assert_eq!(proxy.connect().cmd(&words(&line)), 1);
}

/// The same at a hand-over: the one who waits gets the lock once, however often the release is sent.
#[test]
fn f3_a_repeated_release_takes_nothing_from_the_next() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let fence = acquire(&server, "k alice");
    let mut bob = wait_for_lock(&server, "k", "bob");
    let line = format!("LOCK.RELEASE k alice FENCE {fence}");
    lose_the_reply(&proxy, proxy.connect(), 0, &line, || holder(&server, "k").as_deref() == Some("bob"));
    for (again, reply) in [(&*line, 1), ("LOCK.RELEASE k alice", 0)] {
        assert_eq!(proxy.connect().cmd(&words(again)), reply);
    }
    assert_granted(&server, &mut bob, "k", "bob");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k alice"), Value::Nil);
}
