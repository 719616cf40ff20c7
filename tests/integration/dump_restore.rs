//! DUMP and RESTORE: a lock survives the round trip, and no payload that is damaged, forged or foreign does any harm. The
//! checksum is switched off, so that every payload reaches the module.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::golden::{dump, restore, Golden, GoldenHold, EVERYTHING, NEVER};
use crate::steps::{acquire, digest, in_line, unix_us};
use crate::support::{wait_until, Server, Value};
use crate::traffic::{left, lock_stat};

/// All that INFO says of the module.
fn stats(server: &Server) -> BTreeMap<String, String> {
    server.info("modules").into_iter().filter(|(name, _)| name.starts_with("lock_")).collect()
}

/// The payload is refused with an error, and no trace of it is left.
fn assert_refused(server: &Server, payload: &[u8], what: &str) {
    let before = stats(server);
    let reply = restore(server, "k", payload);
    assert!(matches!(reply, Value::Error(_)), "{what}: {reply:?}");
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0, "{what}");
    assert_eq!(stats(server), before, "{what}");
}

/// If the payload was taken, the lock can be asked about, saved and loaded again, and goes without a trace.
fn assert_harmless(server: &Server, payload: &[u8], what: &str) {
    let before = stats(server);
    if restore(server, "k", payload) != "OK" {
        assert_eq!(stats(server), before, "{what}");
        return;
    }
    if server.cmd(&["TYPE", "k"]) == "redislock" {
        server.cmd(&["LOCK.INFO", "k"]).field("holds").items();
        server.cmd(&["LOCK.ACQUIRE", "k", "other"]);
        server.cmd(&["LOCK.RENEW", "k", "owner"]);
    }
    let reply = server.cmd(&["DEBUG", "RELOAD"]);
    assert_eq!(reply, "OK", "{what}: what was accepted cannot be loaded again");
    server.cmd(&["DEL", "k"]);
    assert_eq!(lock_stat(server, "lease_index_entries"), 0, "{what}");
    // A reload may leave it to another thread to free what was there before.
    wait_until(&format!("{what}: no lock to be left"), || lock_stat(server, "held") == 0);
}

#[test]
fn a_lock_survives_the_round_trip() {
    let server = Server::start();
    acquire(&server, "k o PX 600000 NOTE n");
    acquire(&server, "for-ever o NOEXPIRE");
    let before = digest(&server);
    for key in ["k", "for-ever"] {
        let payload = dump(&server, key);
        assert_eq!(server.cmd(&["DEL", key]), 1);
        assert_eq!(restore(&server, key, &payload), "OK");
    }
    assert_eq!(digest(&server), before);
    let left_ms = left(&server, "k", "o");
    assert!(left_ms > 590_000 && left_ms <= 600_000, "{left_ms}");
    assert_eq!(left(&server, "for-ever", "o"), -1);
    assert_eq!(server.cmd(&["PTTL", "k"]), -1);
}

#[test]
fn a_payload_put_together_by_the_book_is_accepted() {
    let server = Server::start();
    let golden = Golden::of(&server);
    assert_eq!(golden.restore(&server, "k"), "OK");
    let info = server.cmd(&["LOCK.INFO", "k"]);
    let hold = &info.field("holds").items()[0];
    assert_eq!(hold.field("owner"), &"owner");
    assert_eq!(hold.field("note"), &"note");
    assert_eq!(hold.field("fence").int() as u64, golden.holds[0].fence);
    assert_eq!(hold.field("lease-ms"), &600_000);
    assert_eq!(lock_stat(&server, "lease_index_entries"), 1);
}

#[test]
fn every_truncation_is_refused() {
    let server = Server::start();
    let golden = Golden::of(&server);
    let (body, inner) = (golden.body(), golden.inner());
    for length in 0..body.len() {
        // Version and checksum move up and may by chance be a proper end.
        assert_harmless(&server, &golden.seal(&body[..length]), &format!("body cut to {length} bytes"));
    }
    for length in 0..inner.len() {
        let framed = golden.seal(&golden.frame(&inner[..length]));
        assert_refused(&server, &framed, &format!("lock cut to {length} bytes"));
    }
    assert_eq!(
        golden.restore(&server, "k"),
        "OK",
        "the whole payload must pass, or the others prove nothing"
    );
}

#[test]
fn every_flipped_bit_is_harmless() {
    let server = Server::start();
    // The server's own types are to look closely where they can be told to, for a flip may name one of them.
    server.cmd(&["CONFIG", "SET", "sanitize-dump-payload", "yes"]);
    let golden = Golden::of(&server);
    let body = golden.body();
    let mut accepted = 0;
    for at in 0..body.len() {
        for bit in 0..8 {
            let mut flipped = body.clone();
            flipped[at] ^= 1 << bit;
            let before = lock_stat(&server, "granted");
            assert_harmless(&server, &golden.seal(&flipped), &format!("bit {bit} of byte {at}"));
            accepted += i64::from(lock_stat(&server, "granted") > before);
        }
    }
    println!("{} flips, of which {accepted} left a lock that could be taken", body.len() * 8);
    let whole = golden.seal(&body);
    for at in body.len()..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert_harmless(&server, &flipped, &format!("bit {bit} of byte {at}"));
        }
    }
}

/// One exclusive hold that cools.
fn rest(ms: u64, why: u8) -> Vec<u8> {
    let mut out = 1_u32.to_le_bytes().to_vec();
    out.extend(7_u64.to_le_bytes());
    out.extend(EVERYTHING.to_le_bytes());
    out.extend(ms.to_le_bytes());
    out.extend(if ms == NEVER { NEVER } else { ms * 1000 }.to_le_bytes());
    out.extend([1, 0, b'o', why]);
    out
}

#[test]
fn fields_that_cannot_be_true_are_refused() {
    let server = Server::start();
    let golden = Golden::of(&server);
    let second = |change: fn(&mut GoldenHold)| {
        golden.with(|golden| {
            golden.limit = 5;
            golden.holds[0].permits = 2;
            let mut other = golden.holds[0].clone();
            other.owner = b"other".to_vec();
            other.fence -= 1;
            change(&mut other);
            golden.holds.push(other);
        })
    };
    let bad = [
        ("format 0", golden.with(|golden| golden.format = 0)),
        ("format 5", golden.with(|golden| golden.format = 5)),
        ("format 255", golden.with(|golden| golden.format = 255)),
        ("no holds", golden.with(|golden| golden.holds.clear())),
        ("a hold more than there is", golden.with(|golden| golden.count = Some(2))),
        ("a hold less than there is", golden.with(|golden| golden.count = Some(0))),
        ("four billion holds", golden.with(|golden| golden.count = Some(u32::MAX))),
        ("a million holds", golden.with(|golden| golden.count = Some(1_000_000))),
        ("limit 0", golden.with(|golden| golden.limit = 0)),
        ("a limit below the permits", golden.with(|golden| golden.limit = 5)),
        ("no permits", golden.with_hold(|hold| hold.permits = 0)),
        ("fence 0", golden.with_hold(|hold| hold.fence = 0)),
        ("fence 2^53", golden.with_hold(|hold| hold.fence = 1 << 53)),
        ("fence 2^64-1", golden.with_hold(|hold| hold.fence = u64::MAX)),
        ("lease 2^63", golden.with_hold(|hold| hold.lease_ms = 1 << 63)),
        ("a lease, but no end", golden.with_hold(|hold| hold.left_us = NEVER)),
        ("no owner", golden.with_hold(|hold| hold.owner.clear())),
        ("a long owner", golden.with_hold(|hold| hold.owner = vec![b'o'; 257])),
        ("a long note", golden.with_hold(|hold| hold.note = vec![b'n'; 257])),
        ("an endless owner", golden.with_hold(|hold| hold.owner = vec![b'o'; 65_535])),
        ("the same owner twice", second(|hold| hold.owner = b"owner".to_vec())),
        ("more permits than there can be", second(|hold| hold.permits = 1_000_001)),
        ("a reader beside a writer", {
            second(|hold| hold.permits = 1).with(|golden| {
                golden.limit = EVERYTHING;
                golden.holds[0].permits = EVERYTHING;
            })
        }),
        ("none together", golden.with_hold(|hold| hold.keys = 0)),
        ("too many together", golden.with_hold(|hold| hold.keys = 65)),
        ("a long id", golden.with_hold(|hold| hold.ids = vec![vec![b'x'; 65]])),
        ("an empty id alone", golden.with_hold(|hold| hold.ids = vec![Vec::new()])),
        ("ids out of order", golden.with_hold(|hold| hold.ids = vec![b"b".to_vec(), b"a".to_vec()])),
        ("an id twice", golden.with_hold(|hold| hold.ids = vec![b"a".to_vec(), b"a".to_vec()])),
        ("an unknown bound", golden.with_hold(|hold| hold.bounds = vec![8])),
        ("a cap without its time", golden.with_hold(|hold| hold.bounds = vec![1])),
        ("a tie without its grace", golden.with_hold(|hold| hold.bounds = [&[4][..], &[0; 16]].concat())),
        ("a grace without end", {
            golden.with_hold(|hold| hold.bounds = [&[4][..], &[0; 16], &[0xff; 4]].concat())
        }),
        ("a rest that is not there", golden.with(|golden| golden.cooling[0] = 1)),
        ("four billion rests", golden.with(|golden| golden.cooling = vec![0xff; 4])),
        ("a rest for no reason", golden.with(|golden| golden.cooling = rest(500, 2))),
        ("a rest without end", golden.with(|golden| golden.cooling = rest(u64::MAX, 0))),
        ("a rest beside a writer", golden.with(|golden| golden.cooling = rest(500, 0))),
        (
            "too many ids",
            golden.with_hold(|hold| hold.ids = (0..257_u16).map(|n| n.to_be_bytes().to_vec()).collect()),
        ),
    ];
    for (what, payload) in &bad {
        assert_refused(&server, &payload.seal(&payload.body()), what);
    }
    // The same without the writer is a lock that rests.
    let resting = golden.with(|golden| (golden.holds, golden.cooling) = (Vec::new(), rest(500_000, 1)));
    assert_eq!(resting.restore(&server, "resting"), "OK");
    assert_eq!(server.cmd(&["LOCK.INFO", "resting"]).field("mode"), &"cooling");
    assert_eq!(server.cmd(&["DEL", "resting"]), 1);
    let trailing = golden.frame(&[golden.inner(), vec![0]].concat());
    assert_refused(&server, &golden.seal(&trailing), "a byte too many");
    assert_eq!(golden.restore(&server, "k"), "OK", "the untouched payload must pass");
}

#[test]
fn fields_at_their_limits_are_accepted_and_can_be_loaded_again() {
    let server = Server::start();
    let golden = Golden::of(&server);
    let odd = [
        ("saved at the beginning of time", golden.with(|golden| golden.saved_us = 0)),
        ("saved at the end of time", golden.with(|golden| golden.saved_us = u64::MAX)),
        ("saved tomorrow", golden.with(|golden| golden.saved_us = unix_us() as u64 + 86_400_000_000)),
        ("lease 2^63-1", golden.with_hold(|hold| hold.lease_ms = i64::MAX as u64)),
        ("lease and rest 2^63-1", {
            golden.with_hold(|hold| (hold.lease_ms, hold.left_us) = (i64::MAX as u64, i64::MAX as u64))
        }),
        ("rest 2^64-2", golden.with_hold(|hold| hold.left_us = u64::MAX - 1)),
        ("lease 0", golden.with_hold(|hold| hold.lease_ms = 0)),
        ("nothing left", golden.with_hold(|hold| hold.left_us = 0)),
        ("a long owner", golden.with_hold(|hold| hold.owner = vec![0xff; 256])),
        ("a long note", golden.with_hold(|hold| hold.note = vec![0; 256])),
        ("fence 1", golden.with_hold(|hold| hold.fence = 1)),
        ("64 together", golden.with_hold(|hold| hold.keys = 64)),
        (
            "256 ids",
            golden.with_hold(|hold| hold.ids = (0..256_u16).map(|n| n.to_be_bytes().to_vec()).collect()),
        ),
        ("a long id beside none", golden.with_hold(|hold| hold.ids = vec![Vec::new(), vec![b'x'; 64]])),
        (
            "a limit that was lowered",
            golden.with(|golden| {
                golden.limit = 1;
                golden.holds[0].permits = 1_000_000;
            }),
        ),
    ];
    for (what, payload) in &odd {
        assert_harmless(&server, &payload.seal(&payload.body()), what);
    }
    // Never more than the lease, whatever the payload says is left of it.
    let longer = golden.with_hold(|hold| (hold.lease_ms, hold.left_us) = (40_000, 80_000_000));
    assert_eq!(longer.restore(&server, "k"), "OK");
    assert!((1..=40_000).contains(&left(&server, "k", "owner")));
}

#[test]
fn a_fence_beyond_the_next_day_is_refused_unless_the_operator_allows_it() {
    let server = Server::start();
    let golden = Golden::of(&server);
    let beyond = golden.with_fence_ahead(Duration::from_secs(25 * 3600));
    assert_refused(&server, &beyond.seal(&beyond.body()), "a fence far ahead");
    let within = golden.with_fence_ahead(Duration::from_secs(23 * 3600));
    assert_eq!(within.restore(&server, "k"), "OK");
    assert!(acquire(&server, "l o") as u64 > within.holds[0].fence);
    // A server whose clock was wrong by more can still give its locks away, when the operator says so.
    assert!(server.log().contains("lies further ahead than lock.max-fence-ahead-ms"));
    assert_eq!(server.cmd(&["CONFIG", "SET", "lock.max-fence-ahead-ms", "90000000"]), "OK");
    assert_eq!(beyond.restore(&server, "far"), "OK");
    assert!(acquire(&server, "m o") as u64 > beyond.holds[0].fence);
    assert_eq!(server.cmd(&["CONFIG", "SET", "lock.max-fence-ahead-ms", "0"]), "OK");
    let now = golden.with_fence_ahead(Duration::from_secs(60));
    assert_eq!(now.restore(&server, "fresh").error(), "ERR Bad data format");
}

#[test]
fn a_lock_with_a_broken_frame_leaves_nothing_behind() {
    let server = Server::start();
    let golden = Golden::of(&server);
    let mut broken = golden.body();
    *broken.last_mut().unwrap() = 1;
    for _ in 0..100 {
        assert_refused(&server, &golden.seal(&broken), "a lock without an end");
    }
    let mut strange = golden.clone();
    // Another name of nine characters in the same encoding.
    strange.head[3] ^= 1;
    assert_refused(&server, &strange.seal(&strange.body()), "a type of another module");
}

#[test]
fn a_payload_with_many_holds_does_not_stall_the_server() {
    let server = Server::start();
    let golden = Golden::of(&server);
    let many = golden.with(|golden| {
        golden.limit = EVERYTHING - 1;
        let mut hold = golden.holds[0].clone();
        hold.permits = 1;
        let holds = (0..100_000_u32).map(|n| {
            let mut hold = hold.clone();
            hold.owner = n.to_le_bytes().to_vec();
            hold.fence -= u64::from(n);
            hold
        });
        golden.holds = holds.collect();
    });
    let start = Instant::now();
    let mut conn = server.connect();
    conn.send(&[&b"RESTORE"[..], &b"k"[..], b"0", &many.seal(&many.body())]);
    assert!(conn.try_read().is_ok(), "no answer after {:?}", start.elapsed());
    server.cmd(&["DEL", "k"]);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "the server stood still for {took:?}");
    assert_eq!((lock_stat(&server, "held"), lock_stat(&server, "lease_index_entries")), (0, 0));
}

#[test]
fn a_lock_cannot_be_copied() {
    let server = Server::start();
    acquire(&server, "k o");
    let before = digest(&server);
    for words in [&["COPY", "k", "l"][..], &["COPY", "k", "k", "DB", "5"], &["COPY", "k", "l", "REPLACE"]] {
        server.cmd(words).error();
    }
    assert_eq!(digest(&server), before);
    assert_eq!(server.cmd(&["EXISTS", "l"]), 0);
}

#[test]
fn a_restore_over_a_lock_leaves_its_queue_in_order() {
    let server = Server::start();
    acquire(&server, "k old NOEXPIRE");
    let payload = dump(&server, "k");
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "old"]), 1);
    acquire(&server, "k new NOEXPIRE");
    let mut first = in_line(&server, "LOCK.ACQUIRE k first BLOCK 0");
    let over: [&[u8]; 5] = [b"RESTORE", b"k", b"0", &payload, b"REPLACE"];
    assert_eq!(server.cmd(&over), "OK");
    // The lock is held, now by somebody else: nobody is granted anything.
    assert_eq!(left(&server, "k", "old"), -1);
    assert_eq!(server.cmd(&["LOCK.INFO", "k"]).field("waiting"), &1);
    first.expect_nothing_pending();
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "old"]), 1);
    assert!(first.read().int() > 0);
}
