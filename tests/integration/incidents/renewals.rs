//! C1, C2. Renewals that come after the release: whatever the order, what was given back stays given back, and its fence is good for
//! nothing any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Barrier;

use crate::steps::{acquire, acquire_by, ask, assert_changes_nothing, fence_of, release, words};
use crate::support::{wait_until, Server, Value};
use crate::traffic::lock_stat;

/// All that keeps a hold alive, with `FENCE` in place of the fence.
const RENEWALS: [&str; 5] = [
    "LOCK.RENEW k alice",
    "LOCK.RENEW k alice PX 60000 FENCE fence",
    "LOCK.RENEW k alice EX 60 WITHINFO",
    "LOCK.ACQUIRE k alice PX 60000 FENCE fence",
    "LOCK.MRENEW alice 60000 1 k",
];

/// Whether a reply to one of them says that there is a hold.
fn is_alive(reply: &Value) -> bool {
    match reply {
        Value::Nil => false,
        Value::Int(left_or_fence) => *left_or_fence > 0,
        Value::Array(lefts) if lefts.len() == 1 => lefts[0].int() > 0,
        report => report.field("result").int() > 0,
    }
}

/// A renewal was on its way when the lock was released. It came second, and the lock was renewed for ever by a client that no
/// longer knew of it. Here a renewal only ever finds a hold or does not: in every order, before the release it is told what
/// is left and after it nothing, and no key comes back.
#[test]
fn c1_no_renewal_brings_back_what_was_released() {
    let server = Server::start();
    let mut conn = server.connect();
    for first in 0..RENEWALS.len() {
        for before in 0..=RENEWALS.len() {
            let fence = acquire(&server, "k alice").to_string();
            let mut lines: Vec<String> = RENEWALS.iter().map(|line| line.replace("fence", &fence)).collect();
            lines.rotate_left(first);
            lines.insert(before, "LOCK.RELEASE k alice".to_owned());
            let packet: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
            conn.send_together(&packet.iter().map(Vec::as_slice).collect::<Vec<_>>());
            for (n, line) in lines.iter().enumerate() {
                let reply = conn.read();
                if n == before {
                    assert_eq!(reply, 1, "{lines:?}");
                } else {
                    assert_eq!(is_alive(&reply), n < before, "{line}: {reply:?} in {lines:?}");
                }
            }
            assert_eq!(server.cmd(&["EXISTS", "k"]), 0, "{lines:?}");
            assert_eq!(lock_stat(&server, "lease_index_entries"), 0, "{lines:?}");
        }
    }
}

/// The same with two connections, one of which renews without a break and knows nothing of the other's releases.
#[test]
fn c1_a_watchdog_that_never_stops_keeps_nothing_alive() {
    const ROUNDS: usize = 300;
    let server = Server::start();
    let (mut watchdog, mut holder) = (server.connect(), server.connect());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the holder to be done", || {
                (0..100).for_each(|_| drop(watchdog.cmd(&words("LOCK.RENEW k alice PX 600000"))));
                is_done.load(Ordering::Relaxed)
            });
        });
        for round in 0..ROUNDS {
            acquire_by(&mut holder, "k alice PX 60000");
            wait_until("the watchdog to find it", || holder.cmd(&words("LOCK.CHECK k alice")).int() > 60_000);
            assert_eq!(holder.cmd(&words("LOCK.RELEASE k alice")), 1);
            // It goes on and finds nothing.
            (0..10).for_each(|_| assert_eq!(holder.cmd(&["EXISTS", "k"]), 0, "round {round}"));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!((lock_stat(&server, "held"), lock_stat(&server, "lease_index_entries")), (0, 0));
}

/// A program read from its own memory that it had the lock, which another of its threads had given back; a flag said "held"
/// although nothing was. What a program remembers is its own. Here a fence is good until the release and never again, even
/// when the same owner has the lock anew: whoever asks with the fence it remembers is told.
#[test]
fn c2_a_fence_is_good_for_nothing_after_its_release() {
    let server = Server::start();
    for next in ["nobody", "bob", "alice"] {
        let old = acquire(&server, "k alice");
        release(&server, "k", "alice");
        if next != "nobody" {
            acquire(&server, &format!("k {next}"));
        }
        assert_changes_nothing(&server, || {
            for line in [
                "LOCK.CHECK k alice",
                "LOCK.RENEW k alice",
                "LOCK.RENEW k alice PX 5",
                "LOCK.RELEASE k alice",
            ] {
                assert_eq!(ask(&server, &format!("{line} FENCE {old}")), 0, "{line}, held by {next}");
            }
            for line in ["LOCK.ACQUIRE k alice", "LOCK.MACQUIRE alice 1 k"] {
                let line = format!("{line} FENCE {old}");
                assert_eq!(ask(&server, &line), Value::Nil, "{line}, held by {next}");
            }
            let reply = ask(&server, &format!("LOCK.GUARD k alice {old} SET written yes"));
            let code = if next == "alice" { "STALEFENCE " } else { "NOTHELD " };
            assert!(reply.error().starts_with(code), "{reply:?}, held by {next}");
        });
        if next != "nobody" {
            release(&server, "k", next);
        }
    }
}

/// The same while it happens: one connection asks with the fence as fast as it can, another gives the lock back. From some
/// moment on the answer is no, and it never turns into yes again.
#[test]
fn c2_once_told_no_the_answer_stays_no() {
    const ROUNDS: usize = 200;
    let server = Server::start();
    let (mut asker, mut holder) = (server.connect(), server.connect());
    for _ in 0..ROUNDS {
        let fence = fence_of(&holder.cmd(&words("LOCK.ACQUIRE k alice"))).to_string();
        let ask = ["LOCK.CHECK", "k", "alice", "FENCE", &fence];
        let heard_yes = Barrier::new(2);
        let answers: Vec<bool> = std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                assert!(asker.cmd(&ask).int() > 0);
                heard_yes.wait();
                let ask_again = std::iter::repeat_with(|| asker.cmd(&ask).int() > 0);
                // Some more after the first no.
                let mut noes = 0;
                ask_again
                    .take_while(|yes| {
                        noes += usize::from(!yes);
                        noes < 20
                    })
                    .collect()
            });
            heard_yes.wait();
            assert_eq!(holder.cmd(&words("LOCK.RELEASE k alice")), 1);
            // Held again, under another fence.
            fence_of(&holder.cmd(&words("LOCK.ACQUIRE k alice")));
            asked.join().expect("the one who asks")
        });
        assert!(answers.is_sorted_by(|earlier, later| *earlier || !later), "{answers:?}");
        release(&server, "k", "alice");
    }
}
