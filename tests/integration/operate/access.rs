//! Who may overrule others, and what the log says of it: the line is written for every break and every theft, with the name
//! of the user, and nobody's bytes can end it.

use super::ask;
use crate::onlookers::{assert_writes_k, is_allowed, user, RIGHT_TAKEN_AWAY};
use crate::steps::{
    acquire, assert_changes_nothing, assert_granted, assert_holds, fence_of, granted, is_modern, queue_up,
    release, wait_for_lock, words,
};
use crate::support::{Server, Value};

/// The lines of the log about breaks and thefts, without what stands before `lock:`.
fn logged(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| line.find("lock: event=").map(|at| line[at..].to_owned()));
    lines.collect()
}

#[test]
fn the_key_is_declared_and_the_right_to_it_is_needed() {
    let server = Server::start();
    acquire(&server, "k bob");
    for line in
        ["LOCK.TRANSFER k nobody eve", "LOCK.CANCEL k bob", "LOCK.BREAK k OWNER nobody", "LOCK.STEAL k eve"]
    {
        assert_writes_k(&server, line);
    }
}

#[test]
fn breaking_and_stealing_are_for_administrators() {
    let server = Server::start();
    acquire(&server, "k alice");
    let overrule = ["LOCK.BREAK k", "LOCK.STEAL k eve"];
    if is_modern(&server) {
        for rules in ["~* +@all -@dangerous", "~* +@all -@admin", "~* +@write", "~* +@all -@lock"] {
            let expected = rules == "~* +@write";
            for line in overrule {
                assert_eq!(is_allowed(&server, rules, line), expected, "{rules}: {line}");
            }
        }
        for line in ["LOCK.TRANSFER k alice bob", "LOCK.CANCEL k bob"] {
            assert!(is_allowed(&server, "~* +@all -@dangerous -@admin", line), "{line}");
        }
    }
    // By name it works everywhere; the rest of the module stays open.
    let rules = "~* +@all -lock.break -lock.steal";
    for line in overrule {
        assert!(!is_allowed(&server, rules, line), "{line}");
    }
    assert!(is_allowed(&server, rules, "LOCK.RELEASE k alice"));
    let mut app = user(&server, rules);
    let fence = acquire(&server, "l alice");
    assert_changes_nothing(&server, || {
        for line in ["LOCK.BREAK l", "LOCK.STEAL l eve"] {
            let call = format!("return redis.call('{}')", line.replace(' ', "', '"));
            assert!(app.cmd(&words(line)).error().starts_with("NOPERM "), "{line}");
            // In a script the server puts it in other words.
            assert!(matches!(app.cmd(&["EVAL", &call, "1", "l"]), Value::Error(_)), "{line}");
        }
    });
    assert_eq!(acquire(&server, "l alice"), fence);
}

#[test]
fn a_lock_is_given_to_an_owner_whose_waiting_client_has_lost_the_right() {
    for line in ["LOCK.TRANSFER k alice bob", "LOCK.STEAL k bob"] {
        let server = Server::start();
        acquire(&server, "k alice");
        let mut barred = queue_up(&server, user(&server, "~* +@all"), &words("LOCK.ACQUIRE k bob BLOCK 0"));
        let mut carol = wait_for_lock(&server, "k", "carol");
        assert_eq!(ask(&server, "ACL SETUSER temp resetkeys"), "OK");
        let fence = granted(&server, line);
        assert_eq!(barred.read(), RIGHT_TAKEN_AWAY, "{line}");
        assert_holds(&server, "k", "bob", fence);
        carol.expect_nothing_pending();
        release(&server, "k", "bob");
        assert_granted(&server, &mut carol, "k", "carol");
    }
}

#[test]
fn a_transfer_that_is_refused_leaves_the_right_of_others_to_wait() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut barred = queue_up(&server, user(&server, "~* +@all"), &words("LOCK.ACQUIRE k bob BLOCK 0"));
    assert_eq!(ask(&server, "ACL SETUSER temp resetkeys"), "OK");
    assert_eq!(ask(&server, "LOCK.TRANSFER k nobody bob"), Value::Nil, "nobody has it to give");
    barred.expect_nothing_pending();
    assert_eq!(ask(&server, "ACL SETUSER temp allkeys"), "OK");
    release(&server, "k", "alice");
    assert_granted(&server, &mut barred, "k", "bob");
}

#[test]
fn the_log_says_who_did_what_to_which_lock() {
    let server = Server::start();
    assert_eq!(ask(&server, "LOCK.BREAK k"), 0);
    assert!(logged(&server).is_empty(), "nothing was broken");
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "LOCK.BREAK k OWNER bob"), 0);
    let first = fence_of(&server.cmd(&["LOCK.STEAL", "k", "eve", "NOTE", "ticket 7"]));
    let mut admin = user(&server, "~* +@all");
    assert_eq!(admin.cmd(&["LOCK.BREAK", "k", "REASON", "host db3 is gone"]), 1);
    // In scripts and transactions too, under the name of who runs them.
    assert_eq!(admin.cmd(&words("MULTI")), "OK");
    admin.cmd(&words("LOCK.STEAL k eve"));
    let second = fence_of(&admin.cmd(&words("EXEC")).items()[0]);
    assert_eq!(admin.cmd(&["EVAL", "return redis.call('LOCK.BREAK', KEYS[1])", "1", "k"]), 1);
    acquire(&server, "k ann SHARED");
    acquire(&server, "k ben SHARED");
    assert_eq!(ask(&server, "LOCK.BREAK k"), 2);
    let third = granted(&server, "LOCK.STEAL k eve");
    assert_eq!(ask(&server, "LOCK.RELEASE k eve"), 1);
    // Of many the first ones.
    for n in 0..9 {
        acquire(&server, &format!("k o{n} SHARED"));
    }
    let fourth = granted(&server, "LOCK.STEAL k eve");
    // What is not done to others is not written down.
    granted(&server, "LOCK.TRANSFER k eve bob");
    assert_eq!(ask(&server, "LOCK.CANCEL k bob"), 0);
    assert_eq!(
        logged(&server),
        [
            format!("lock: event=steal user='default' key='k' owner='eve' fence={first} note='ticket 7' holds=1 from='alice'"),
            "lock: event=break user='temp' key='k' reason='host db3 is gone' holds=1 from='eve'".to_owned(),
            format!("lock: event=steal user='temp' key='k' owner='eve' fence={second} note='' holds=0 from=''"),
            "lock: event=break user='temp' key='k' reason='' holds=1 from='eve'".to_owned(),
            "lock: event=break user='default' key='k' reason='' holds=2 from='ann','ben'".to_owned(),
            format!("lock: event=steal user='default' key='k' owner='eve' fence={third} note='' holds=0 from=''"),
            format!(
                "lock: event=steal user='default' key='k' owner='eve' fence={fourth} note='' holds=9 \
                 from='o0','o1','o2','o3','o4','o5','o6','o7',..."
            ),
        ]
    );
}

#[test]
fn nobodys_bytes_end_a_line_of_the_log() {
    let server = Server::start();
    let odd: &[u8] = b"a\r\nlock: user 'x'\0\xff\\";
    let shown = r"'a\x0d\x0alock: user \x27x\x27\x00\xff\x5c'";
    let fence = fence_of(&server.cmd(&[&b"LOCK.STEAL"[..], odd, odd]));
    assert_eq!(server.cmd(&[&b"LOCK.BREAK"[..], odd, b"REASON", odd]), 1);
    let long = "x".repeat(256);
    assert!(server.cmd(&["LOCK.STEAL", "k", &long]).int() > 0);
    let logged = logged(&server);
    assert_eq!(
        logged[0],
        format!("lock: event=steal user='default' key={shown} owner={shown} fence={fence} note='' holds=0 from=''")
    );
    assert_eq!(
        logged[1],
        format!("lock: event=break user='default' key={shown} reason={shown} holds=1 from={shown}")
    );
    assert!(logged[2].contains(&format!("owner='{}...' fence=", "x".repeat(64))), "{}", logged[2]);
    assert_eq!(logged.len(), 3);
}
