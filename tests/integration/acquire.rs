//! LOCK.ACQUIRE without waiting: the grant, the same owner again, the options, and every way to be told no. What a wait
//! is like stands in `blocking`.

use crate::steps::{
    assert_changes_nothing, assert_holds, assert_left, eval, fence_of, hold, holder, release, set_string,
    transaction, unix_us, wait_for_lock, words, wrong_arity, WRONGTYPE,
};
use crate::support::{wait_until, Server, Value};

#[test]
fn a_free_lock_is_granted_with_a_fence_made_of_the_time() {
    let server = Server::start();
    let before = unix_us();
    let fence = hold(&server, "k", "alice");
    assert!((before..=unix_us()).contains(&fence), "{fence}");
    assert_holds(&server, "k", "alice", fence);
}

#[test]
fn every_grant_has_a_higher_fence_whatever_the_key_and_the_owner() {
    let server = Server::start();
    let mut last = 0;
    for (key, owner) in [("a", "x"), ("b", "x"), ("c", "y")].into_iter().cycle().take(300) {
        let fence = hold(&server, key, owner);
        assert!(fence > last, "{fence} after {last}");
        release(&server, key, owner);
        last = fence;
    }
}

#[test]
fn a_held_lock_is_nil_and_stays_as_it_is() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        let mut conn = server.connect();
        conn.send(&words("LOCK.ACQUIRE k bob PX 5 NOTE mine"));
        conn.expect_bytes(b"$-1\r\n");
    });
    assert_holds(&server, "k", "alice", fence);
}

#[test]
fn the_same_owner_gets_the_same_fence_and_changes_nothing_by_asking_for_less() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        // The last one has another note too: the hold keeps the one it began with.
        for line in ["LOCK.ACQUIRE k alice PX 5", "LOCK.ACQUIRE k alice EX 1 BLOCK 0 NOTE other"] {
            assert_eq!(server.cmd(&words(line)), fence, "{line}");
        }
    });
    assert_left(&server.cmd(&words("LOCK.CHECK k alice")), 30_000);
}

#[test]
fn the_same_owner_raises_its_lease_and_never_cuts_it() {
    let server = Server::start();
    let fence = fence_of(&server.cmd(&words("LOCK.ACQUIRE k alice PX 40000")));
    let again = |options: &str, left_ms: i64| {
        assert_eq!(server.cmd(&words(&format!("LOCK.ACQUIRE k alice {options}"))), fence, "{options}");
        let left = server.cmd(&words("LOCK.CHECK k alice"));
        if left_ms < 0 {
            assert_eq!(left, left_ms, "{options}");
        } else {
            assert_left(&left, left_ms);
        }
    };
    again("PX 100", 40_000);
    // No time is the default lease of 30 s.
    again("", 40_000);
    again("PX 80000", 80_000);
    again("EX 120", 120_000);
    again("NOEXPIRE", -1);
    again("EX 120", -1);
}

#[test]
fn the_lease_is_what_was_asked_for() {
    let server = Server::start();
    let cases = [("", 30_000), ("PX 50000", 50_000), ("EX 70", 70_000), ("NOEXPIRE", -1)];
    for (at, (options, lease_ms)) in cases.into_iter().enumerate() {
        fence_of(&server.cmd(&words(&format!("LOCK.ACQUIRE k{at} alice {options}"))));
        let info = server.cmd(&["LOCK.INFO", &format!("k{at}")]);
        assert_eq!(info.field("holds").items()[0].field("lease-ms"), &lease_ms, "{options}");
        // The module keeps the time itself: the server has none on the key.
        assert_eq!(server.cmd(&["PTTL", &format!("k{at}")]), -1);
    }
}

#[test]
fn options_stand_in_any_order_and_case() {
    let server = Server::start();
    let fence = fence_of(&server.cmd(&words("lock.acquire k alice note text BlOcK 5 px 50000")));
    let again = format!("LOCK.ACQUIRE k alice withinfo FENCE {fence} block 0 Ex 60 NOTE other");
    assert_eq!(server.cmd(&words(&again)).field("result"), &fence);
    assert_left(&server.cmd(&words("LOCK.CHECK k alice")), 60_000);
}

#[test]
fn a_star_lets_the_server_name_the_owner() {
    let server = Server::start();
    let grant = |key: &str| {
        let reply = server.cmd(&["LOCK.ACQUIRE", key, "*"]);
        let [Value::Bulk(owner), fence] = reply.items() else { panic!("not owner and fence: {reply:?}") };
        let owner = String::from_utf8(owner.clone()).unwrap();
        assert!(owner.len() == 32 && owner.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{owner}");
        assert_holds(&server, key, &owner, fence_of(fence));
        owner
    };
    let (one, two) = (grant("k"), grant("l"));
    assert_ne!(one, two);
    // The made-up name is an owner like any other; the star is nobody.
    assert_eq!(server.cmd(&words("LOCK.RELEASE k *")), 0);
    assert_eq!(server.cmd(&words("LOCK.ACQUIRE k *")), Value::Nil);
    release(&server, "k", &one);
}

#[test]
fn a_fence_only_confirms_the_hold_that_it_names() {
    let server = Server::start();
    let fence = hold(&server, "k", "alice");
    assert_changes_nothing(&server, || {
        let ask = |line: String| server.cmd(&words(&line));
        assert_eq!(ask(format!("LOCK.ACQUIRE k alice PX 1 FENCE {fence}")), fence);
        // Another fence, another owner, a free lock; with and without a readiness to wait.
        for end in ["", " BLOCK 0"] {
            assert_eq!(ask(format!("LOCK.ACQUIRE k alice PX 90000 FENCE {}{end}", fence - 1)), Value::Nil);
            assert_eq!(ask(format!("LOCK.ACQUIRE k bob FENCE {fence}{end}")), Value::Nil);
            assert_eq!(ask(format!("LOCK.ACQUIRE free alice FENCE {fence}{end}")), Value::Nil);
        }
    });
    assert_eq!(server.cmd(&words(&format!("LOCK.ACQUIRE k alice PX 90000 FENCE {fence}"))), fence);
    assert_left(&server.cmd(&words("LOCK.CHECK k alice")), 90_000);
    release(&server, "k", "alice");
    assert_eq!(server.cmd(&words(&format!("LOCK.ACQUIRE k alice FENCE {fence}"))), Value::Nil);
    assert_eq!(holder(&server, "k"), None);
}

#[test]
fn withinfo_tells_the_reason() {
    let server = Server::start();
    let ask = |line: &str| server.cmd(&words(line));

    let granted = ask("LOCK.ACQUIRE k alice PX 50000 WITHINFO");
    let names: Vec<String> = granted.items().chunks(2).map(|pair| pair[0].text()).collect();
    assert_eq!(names, ["result", "fence", "lease-ms", "reason", "ago-ms", "holder", "holder-ms", "ahead"]);
    let fence = fence_of(granted.field("result"));
    assert_eq!(granted.field("fence"), &fence);
    assert_left(granted.field("lease-ms"), 50_000);
    assert_eq!(granted.field("reason"), &"granted");
    assert_eq!(granted.field("ago-ms"), &Value::Nil);
    assert_eq!(granted.field("holder"), &Value::Nil);

    let again = ask("LOCK.ACQUIRE k alice NOEXPIRE WITHINFO");
    assert_eq!(again.field("result"), &fence);
    assert_eq!(again.field("lease-ms"), &-1);
    assert_eq!(again.field("reason"), &"already-held");

    let busy = ask("LOCK.ACQUIRE k bob WITHINFO");
    assert_eq!(busy.field("result"), &Value::Nil);
    assert_eq!(busy.field("fence"), &Value::Nil);
    assert_eq!(busy.field("lease-ms"), &Value::Nil);
    assert_eq!(busy.field("reason"), &"held");
    assert_eq!(busy.field("holder"), &"alice");

    let other_fence = ask("LOCK.ACQUIRE k alice FENCE 7 WITHINFO");
    assert_eq!(other_fence.field("result"), &Value::Nil);
    assert_eq!(other_fence.field("reason"), &"other-fence");

    let made_up = ask("LOCK.ACQUIRE l * WITHINFO");
    let [owner, report] = made_up.items() else { panic!("not owner and report: {made_up:?}") };
    assert_holds(&server, "l", &owner.text(), fence_of(report.field("result")));
    assert_eq!(ask("LOCK.ACQUIRE l * WITHINFO").field("holder"), &owner.text().as_str());
}

#[test]
fn a_note_is_kept_for_people() {
    let server = Server::start();
    let note_of = |key: &str| server.cmd(&["LOCK.INFO", key]).field("holds").items()[0].field("note").clone();
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "k", "alice", "NOTE", "nightly build, 7"]));
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "l", "alice", "NOTE", ""]));
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "m", "alice"]));
    assert_eq!(note_of("k"), "nightly build, 7");
    assert_eq!(note_of("l"), "");
    assert_eq!(note_of("m"), "");
}

#[test]
fn a_try_never_overtakes_a_waiter() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.RELEASE k alice"), &words("LOCK.ACQUIRE k carol")]);
    assert_eq!(conn.read(), 1);
    assert_eq!(conn.read(), Value::Nil);
    let fence = fence_of(&waiter.read());
    assert_holds(&server, "k", "bob", fence);
}

#[test]
fn another_type_is_refused() {
    let server = Server::start();
    set_string(&server, "k");
    assert_changes_nothing(&server, || {
        for options in ["", " BLOCK 0", " FENCE 7 WITHINFO"] {
            assert_eq!(server.cmd(&words(&format!("LOCK.ACQUIRE k alice{options}"))), WRONGTYPE);
        }
        assert_eq!(server.cmd(&words("LOCK.ACQUIRE k *")), WRONGTYPE);
    });
}

#[test]
fn another_value_whose_time_is_up_is_no_longer_there() {
    let server = Server::start();
    // The server keeps it until somebody comes for it.
    assert_eq!(server.cmd(&words("DEBUG SET-ACTIVE-EXPIRE 0")), "OK");
    for line in ["LOCK.CHECK k alice", "LOCK.RELEASE k alice", "LOCK.RENEW k alice"] {
        assert_eq!(server.cmd(&words("SET k text PX 1")), "OK");
        wait_until("the string to be too old", || server.cmd(&words(line)) == 0);
    }
    assert_eq!(server.cmd(&words("SET k text PX 1")), "OK");
    let granted = || matches!(server.cmd(&words("LOCK.ACQUIRE k alice")), Value::Int(_));
    wait_until("the string to be too old", granted);
    assert_eq!(server.cmd(&["PTTL", "k"]), -1);
    release(&server, "k", "alice");
}

#[test]
fn too_few_words_are_refused() {
    let server = Server::start();
    assert_changes_nothing(&server, || {
        for line in ["LOCK.ACQUIRE", "LOCK.ACQUIRE k"] {
            assert_eq!(server.cmd(&words(line)), wrong_arity("lock.acquire").as_str());
        }
    });
}

#[test]
fn in_a_transaction_a_wait_is_a_try() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let replies = transaction(
        &mut server.connect(),
        &[&words("LOCK.ACQUIRE k bob BLOCK 0"), &words("LOCK.ACQUIRE free bob BLOCK 0"), &["PING"]],
    );
    assert_eq!(replies[0], Value::Nil);
    assert_holds(&server, "free", "bob", fence_of(&replies[1]));
    assert_eq!(replies[2], "PONG");
    assert_eq!(server.info_int("clients", "blocked_clients"), 0);
}

#[test]
fn in_a_script_a_wait_is_a_try() {
    let server = Server::start();
    hold(&server, "k", "alice");
    let script = "return redis.call('LOCK.ACQUIRE', KEYS[1], 'bob', 'BLOCK', '0')";
    assert_eq!(eval(&server, script, &["k"]), Value::Nil);
    let fence = fence_of(&eval(&server, script, &["free"]));
    assert_holds(&server, "free", "bob", fence);
    assert_eq!(server.info_int("clients", "blocked_clients"), 0);
}
