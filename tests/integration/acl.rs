//! Who may do what: the keys that a command declares, the rights that it needs, the commands that are not for clients.

use crate::onlookers::{is_allowed, is_allowed_on, user, RIGHT_TAKEN_AWAY};
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_granted, digest, fence_of, holder, is_modern, queue_up,
    release, wait_for_lock, words, wrong_arity,
};
use crate::support::wait::wait_waiting;
use crate::support::{skip, wait_until, Server, Value};

/// Each command for clients, with enough words to be run: those that change the lock `k`, those that read it, those that
/// have no key. None of them does anything to a lock that bob holds.
const WRITERS: [&str; 16] = [
    "LOCK.ACQUIRE k alice",
    "LOCK.RELEASE k alice",
    "LOCK.RENEW k alice",
    "LOCK.MACQUIRE alice 1 k",
    "LOCK.MRELEASE alice 1 k",
    "LOCK.MRENEW alice 5000 1 k",
    "LOCK.CONVERT k alice SHARED",
    "LOCK.SETLIMIT k 2",
    "LOCK.TRANSFER k alice carol",
    "LOCK.CANCEL k alice",
    "LOCK.BREAK k OWNER alice",
    // Not a lease: it is refused as such once the rights are found to be there.
    "LOCK.STEAL k alice PX 0",
    // A lock is no register.
    "LOCK.FENCE k 7",
    "LOCK.REVOKE k",
    "LATCH.SET k 3",
    "LATCH.DOWN k alice",
];
/// What GUARD runs takes rights of its own; PING takes none.
const READERS: [&str; 7] = [
    "LOCK.CHECK k alice",
    "LOCK.INFO k",
    "LOCK.WAITERS k",
    "LOCK.AWAIT k FREE",
    "LOCK.GUARD k alice 7 PING",
    "LATCH.AWAIT k",
    "LATCH.INFO k",
];
const KEYLESS: [&str; 4] = ["LOCK.HELP", "LOCK.SCAN 0", "LOCK.STATS", "LOCK.RECOVERY"];

fn for_clients() -> impl Iterator<Item = &'static str> {
    WRITERS.into_iter().chain(READERS).chain(KEYLESS)
}

/// The name of a command as the server tells it.
fn name_of(line: &str) -> String {
    words(line)[0].to_lowercase()
}

fn sorted_names(reply: &Value) -> Vec<String> {
    let mut names: Vec<String> = reply.items().iter().map(Value::text).collect();
    names.sort_unstable();
    names
}

#[test]
fn no_command_is_left_out_here() {
    let server = Server::start();
    let mut named: Vec<String> = for_clients().map(name_of).collect();
    named.extend(internal_commands(7).iter().map(|line| name_of(line)));
    named.push("lock._recovery".to_owned());
    named.sort_unstable();
    named.dedup();
    assert_eq!(named, sorted_names(&ask(&server, "COMMAND LIST FILTERBY MODULE lock")));
}

#[test]
fn every_command_declares_its_key() {
    let server = Server::start();
    let declared = |line: &str, flags: &[&str]| {
        let keys = ask(&server, &format!("COMMAND GETKEYS {line}"));
        assert_eq!(keys, Value::Array(vec![Value::bulk("k")]), "{line}");
        let with_flags = ask(&server, &format!("COMMAND GETKEYSANDFLAGS {line}"));
        let [key] = with_flags.items() else { panic!("{line}: {with_flags:?}") };
        assert_eq!(key.items()[0], "k");
        assert_eq!(key.items()[1].items().iter().map(Value::text).collect::<Vec<_>>(), flags, "{line}");
    };
    // Options that look like keys are none, and a key that looks like an option is one.
    for line in WRITERS.into_iter().chain(["LOCK.ACQUIRE k alice PX 5 BLOCK 0 FENCE 7 NOTE l WITHINFO"]) {
        declared(line, &["RW", "access", "update"]);
    }
    for line in READERS.into_iter().chain(["LOCK.CHECK k l FENCE 7 WITHINFO", "LOCK.WAITERS k COUNT 5"]) {
        declared(line, &["RO", "access"]);
    }
    for line in [
        "LOCK._HOLD k alice 7 1 1 -1 -1 -1",
        "LOCK._RENEW k 7 1 -1 -1 -1 l",
        "LOCK._ENTER k 7 l",
        "LOCK._LEAVE k 7 l",
        "LOCK._FREE k 7",
        "LOCK._LIMIT k 5",
        "LOCK._STEP k FREE 1 7",
        "LATCH._SET k 3 3 -1",
        "LATCH._DOWN k 2 l",
    ] {
        declared(line, &["RW", "access", "update"]);
    }
    assert_eq!(ask(&server, "COMMAND GETKEYS LOCK.INFO PX"), Value::Array(vec![Value::bulk("PX")]));
    assert!(matches!(ask(&server, "COMMAND GETKEYS LOCK.HELP"), Value::Error(_)));
}

#[test]
fn a_key_that_is_not_the_users_is_refused() {
    let server = Server::start();
    acquire(&server, "k bob");
    acquire(&server, "mine:k bob");
    let mut conn = user(&server, "~mine:* +@all");
    assert_changes_nothing(&server, || {
        for line in WRITERS.iter().chain(&READERS) {
            assert!(!is_allowed_on(&server, &mut conn, line), "{line}");
            assert!(is_allowed_on(&server, &mut conn, &line.replacen(" k", " mine:k", 1)), "{line}");
        }
        let waiting = conn.cmd(&words("LOCK.ACQUIRE k alice BLOCK 0"));
        assert!(waiting.error().starts_with("NOPERM "), "nobody waits for what it may not have");
        // A script is no way round.
        let script = "return redis.pcall('LOCK.CHECK', 'k', 'bob')";
        assert!(matches!(conn.cmd(&["EVAL", script, "0"]), Value::Error(_)));
    });
    assert!(is_allowed_on(&server, &mut conn, "LOCK.HELP"));
}

#[test]
fn a_key_that_may_only_be_read_or_only_be_written() {
    let server = Server::start();
    acquire(&server, "k bob");
    let mut reads = user(&server, "%R~k +@all");
    assert!(READERS.iter().all(|line| is_allowed_on(&server, &mut reads, line)));
    assert!(!WRITERS.iter().any(|line| is_allowed_on(&server, &mut reads, line)));
    // A fence or a 0 tells what is there, so writing takes the right to read.
    let mut writes = user(&server, "%W~k +@all");
    assert!(!READERS.iter().chain(&WRITERS).any(|line| is_allowed_on(&server, &mut writes, line)));
    let mut both = user(&server, "%R~k %W~k +@all");
    assert!(READERS.iter().chain(&WRITERS).all(|line| is_allowed_on(&server, &mut both, line)));
}

#[test]
fn commands_can_be_given_by_name() {
    let server = Server::start();
    acquire(&server, "k bob");
    for given in for_clients() {
        let name = name_of(given);
        let mut only = user(&server, &format!("~* +{name}"));
        for line in for_clients().chain(["DEL k"]) {
            assert_eq!(is_allowed_on(&server, &mut only, line), line == given, "+{name}: {line}");
        }
        assert!(!is_allowed(&server, &format!("~* +@all -{name}"), given), "-{name}");
    }
}

#[test]
fn commands_can_be_given_by_category() {
    let server = Server::start();
    if !is_modern(&server) {
        return skip("commands_can_be_given_by_category", "this server lets no module make categories");
    }
    let mut public: Vec<String> = for_clients().map(name_of).collect();
    public.sort_unstable();
    let listed = sorted_names(&ask(&server, "ACL CAT lock"));
    assert_eq!(listed, public, "the internal commands are not among them");

    acquire(&server, "k bob");
    let mut all = user(&server, "~* +@lock +ping");
    assert!(for_clients().all(|line| is_allowed_on(&server, &mut all, line)));
    assert!(!is_allowed_on(&server, &mut all, "LOCK._FREE k 7"));
    let mut none = user(&server, "~* +@all -@lock");
    assert!(!for_clients().any(|line| is_allowed_on(&server, &mut none, line)));
    // What GUARD runs may be a write.
    let mut reads = user(&server, "~* +@read +ping");
    for line in READERS {
        assert_eq!(is_allowed_on(&server, &mut reads, line), !line.starts_with("LOCK.GUARD"), "{line}");
    }
    assert!(!WRITERS.iter().any(|line| is_allowed_on(&server, &mut reads, line)));
    let mut hasty = user(&server, "~* +@all -@blocking");
    for line in for_clients() {
        let waiting = ["lock.acquire", "lock.await", "lock.convert", "lock.macquire", "latch.await"];
        let may_wait = waiting.contains(&name_of(line).as_str());
        assert_eq!(is_allowed_on(&server, &mut hasty, line), !may_wait, "{line}");
    }
}

/// What may be said with the internal commands about a lock that alice holds.
fn internal_commands(fence: i64) -> [String; 12] {
    [
        "LOCK._HOLD k mallory 7 4294967295 4294967295 -1 -1 -1".to_owned(),
        "LOCK._HOLD free mallory 7 60000 4102444800000".to_owned(),
        format!("LOCK._RENEW k {fence} 1 60000 60000 4102444800000"),
        format!("LOCK._ENTER k {fence} mallory"),
        format!("LOCK._LEAVE k {fence} mallory"),
        format!("LOCK._FREE k {fence}"),
        "LOCK._LIMIT k 5".to_owned(),
        format!("LOCK._STEP k FREE 1 {fence} HOLD 7 mallory 7 4294967295 4294967295 -1 -1 -1"),
        "LATCH._SET free 3 0 -1".to_owned(),
        "LATCH._DOWN k 0 mallory".to_owned(),
        format!("LOCK._BOUNDS k {fence} 10 4102444800000 -1 -1"),
        format!("LOCK._COOL k alice {fence} 4294967295 4294967295 500 500 4102444800000 0"),
    ]
}

#[test]
fn internal_commands_are_not_for_applications() {
    let server = Server::start();
    let fence = acquire(&server, "k alice");
    let modern = is_modern(&server);
    // Where there are categories, the usual rule for applications keeps them out; elsewhere nobody gets in.
    let mut conn = if modern { user(&server, "~* +@all -@dangerous") } else { server.connect() };
    assert_changes_nothing(&server, || {
        for line in internal_commands(fence) {
            if modern {
                assert!(!is_allowed_on(&server, &mut conn, &line), "{line}");
            } else {
                let text = "NOPERM internal commands are for the replication stream and the AOF; \
                            LOCK.HELP lists those for clients";
                assert_eq!(conn.cmd(&words(&line)), text, "{line}");
            }
            let mut script = vec!["EVAL", "return redis.pcall(unpack(ARGV))", "0"];
            script.extend(words(&line));
            assert!(matches!(conn.cmd(&script), Value::Error(_)), "{line}");
        }
        // This one is not even for those who may use the others: no slot needs it.
        assert!(ask(&server, "LOCK._RECOVERY 1 2 60000 4102444800000").error().starts_with("NOPERM "));
        assert!(ask(&server, "LOCK._RECOVERY 1 2 -1 60000").error().starts_with("BADARG "));
        for line in [
            "LOCK._HOLD k alice 7",
            "LOCK._FREE k",
            "LOCK._FREE k 7 7",
            "LOCK._LIMIT k",
            "LOCK._RECOVERY 1 2 3",
        ] {
            let reply = ask(&server, line);
            assert!(reply == wrong_arity(&name_of(line)).as_str(), "{line}: {reply:?}");
        }
    });
    assert_eq!(holder(&server, "k").as_deref(), Some("alice"));
}

#[test]
fn an_administrator_cannot_say_what_cannot_be() {
    let server = Server::start();
    if !is_modern(&server) {
        return skip("an_administrator_cannot_say_what_cannot_be", "nobody may use internal commands here");
    }
    let fence = acquire(&server, "k alice");
    let before = digest(&server);
    let bad = "BADARG the effect has a field that cannot be true; nothing was changed";
    let ahead = fence + 25 * 3_600_000_000;
    for (line, text) in [
        ("LOCK._HOLD k bob 7 1 1 1 1".to_owned(), bad),
        ("LOCK._HOLD k bob 7 -1 5000".to_owned(), bad),
        ("LOCK._HOLD k bob 0 1 1 -1 -1 -1".to_owned(), bad),
        ("LOCK._HOLD k bob 9007199254740992 1 1 -1 -1 -1".to_owned(), bad),
        (format!("LOCK._HOLD k bob {ahead} 1 1 -1 -1 -1"), bad),
        ("LOCK._HOLD k bob 7 0 0 -1 -1 -1".to_owned(), bad),
        ("LOCK._HOLD k bob 7 1 1000001 -1 -1 -1".to_owned(), bad),
        ("LOCK._HOLD k bob 7 4294967296 1 -1 -1 -1".to_owned(), bad),
        ("LOCK._HOLD k bob 7 1 1 -2 -1 -1".to_owned(), bad),
        ("LOCK._HOLD k bob 7 1 1 1000 -1 -1".to_owned(), bad),
        ("LOCK._HOLD k bob 7 1 1 +5 5 5".to_owned(), bad),
        ("LOCK._HOLD k bob seven 1 1 -1 -1 -1".to_owned(), bad),
        ("LOCK._HOLD k bob 7 1 1 -1 -1 -1 note more".to_owned(), bad),
        (format!("LOCK._RENEW k {fence} 0 -1 -1 -1"), bad),
        (format!("LOCK._RENEW k {fence} 4294967296 -1 -1 -1"), bad),
        (format!("LOCK._RENEW k {fence} 1 1000 -1 -1"), bad),
        ("LOCK._RENEW k 0 1 -1 -1 -1".to_owned(), bad),
        (format!("LOCK._ENTER k {fence} {}", "x".repeat(65)), bad),
        (format!("LOCK._STEP k ENTER 2 {fence} id LEAVE 1 {fence}"), &wrong_arity("lock._step")),
        ("LOCK._FREE k 7 8".to_owned(), &wrong_arity("lock._free")),
        ("LOCK._FREE k 0".to_owned(), bad),
        ("LOCK._FREE k -7".to_owned(), bad),
        ("LOCK._FREE k x".to_owned(), bad),
        (format!("LOCK._STEP k FREE 1 {fence} HOLD 7 bob {ahead} 1 1 -1 -1 -1"), bad),
        (format!("LOCK._STEP k FREE 1 {fence} FREE 1 0"), bad),
        (format!("LOCK._STEP k FREE 1 {fence} LATCH 1 0"), bad),
        (format!("LOCK._STEP k FREE 2 {fence}"), bad),
    ] {
        assert_eq!(ask(&server, &line), text, "{line}");
        assert_eq!(digest(&server), before, "{line}");
    }
    for line in ["LOCK._FREE k 7", "LOCK._RENEW k 7 1 -1 -1 -1", "LOCK._ENTER k 7 id", "LOCK._LEAVE k 7 id"] {
        assert_eq!(ask(&server, line), 0, "there is no such hold: {line}");
    }
    // It has no such id, and its last id ends with the hold.
    for id in ["id", ""] {
        assert_eq!(server.cmd(&["LOCK._LEAVE", "k", &fence.to_string(), id]), 0, "{id:?}");
    }
    assert_eq!(digest(&server), before);
    assert!(acquire(&server, "l alice") < ahead, "no fence was pushed ahead");
}

#[test]
fn an_unknown_client_gets_no_lock() {
    let server = Server::start();
    assert_eq!(ask(&server, "CONFIG SET requirepass secret"), "OK");
    let mut conn = server.connect();
    for line in for_clients().chain(["LOCK._FREE k 7"]) {
        assert!(conn.cmd(&words(line)).error().starts_with("NOAUTH "), "{line}");
    }
    assert_eq!(conn.cmd(&words("AUTH secret")), "OK");
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice")));
}

#[test]
fn a_user_that_is_deleted_does_not_wait_on() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut doomed = queue_up(&server, user(&server, "~* +@all"), &words("LOCK.ACQUIRE k bob BLOCK 0"));
    let mut carol = wait_for_lock(&server, "k", "carol");
    let mut admin = server.connect();
    // In one packet with the grant, and still too late for the grant to count.
    admin.send_together(&[&words("LOCK.RELEASE k alice"), &words("ACL DELUSER temp")]);
    assert_eq!(admin.read(), 1);
    assert_eq!(admin.read(), 1);
    doomed.expect_closed();
    assert_granted(&server, &mut carol, "k", "carol");
}

#[test]
fn a_user_that_may_no_longer_does_not_get_the_lock() {
    let server = Server::start();
    for change in ["-lock.acquire", "resetkeys", "resetkeys %R~k", "nocommands"] {
        // At a release, with somebody behind.
        acquire(&server, "k alice");
        let conn = user(&server, "~* +@all");
        let mut barred = queue_up(&server, conn, &words("LOCK.ACQUIRE k bob BLOCK 0"));
        let mut carol = wait_for_lock(&server, "k", "carol");
        assert_eq!(ask(&server, &format!("ACL SETUSER temp {change}")), "OK");
        barred.expect_nothing_pending();
        release(&server, "k", "alice");
        assert_granted(&server, &mut carol, "k", "carol");
        assert_eq!(barred.read(), RIGHT_TAKEN_AWAY, "{change}");
        release(&server, "k", "carol");

        // At the end of a lease, with nobody else.
        acquire(&server, "k alice PX 400");
        let conn = user(&server, "~* +@all");
        let command = words("LOCK.ACQUIRE k * BLOCK 0 WITHINFO");
        let mut barred = queue_up(&server, conn, &command);
        assert_eq!(ask(&server, &format!("ACL SETUSER temp {change}")), "OK");
        assert_eq!(barred.read(), RIGHT_TAKEN_AWAY, "{change}");
        wait_until("the grant to be taken back", || server.cmd(&["EXISTS", "k"]) == 0);
    }
    assert_eq!(server.info_int("lock_state", "lock_waiting"), 0);
}

#[test]
fn a_user_that_may_no_longer_is_not_told_who_has_the_lock() {
    let server = Server::start();
    acquire(&server, "k alice");
    for (rules, change, holder) in [
        ("~* +@all", "resetkeys ~k", Value::bulk("alice")),
        ("~* +@all", "resetkeys", Value::Nil),
        ("~* +@all", "resetkeys %W~k", Value::Nil),
    ] {
        for line in ["LOCK.ACQUIRE k bob BLOCK 400 WITHINFO", "LOCK.MACQUIRE bob 1 k BLOCK 400 WITHINFO"] {
            let mut conn = user(&server, rules);
            conn.send(&words(line));
            wait_waiting(&server, "k", 1);
            assert_eq!(ask(&server, &format!("ACL SETUSER temp {change}")), "OK");
            let told = conn.read();
            assert_eq!(told.field("reason"), &"timeout", "{line}");
            assert_eq!(told.field("holder"), &holder, "{line}, {change}");
        }
    }
}

#[test]
fn a_user_that_may_still_gets_the_lock() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = queue_up(&server, user(&server, "~* +@all"), &words("LOCK.ACQUIRE k bob BLOCK 0"));
    // Other rights have gone, and these went and came back.
    for change in ["resetkeys", "~k*", "nocommands", "+lock.acquire"] {
        assert_eq!(server.cmd(&["ACL", "SETUSER", "temp", change]), "OK");
    }
    release(&server, "k", "alice");
    assert_granted(&server, &mut waiter, "k", "bob");
}

#[test]
fn a_user_that_is_cut_off_does_not_wait_on() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = queue_up(&server, user(&server, "~* +@all"), &words("LOCK.ACQUIRE k bob BLOCK 0"));
    assert_eq!(ask(&server, "CLIENT KILL USER temp"), 1);
    waiter.expect_closed();
    release(&server, "k", "alice");
    assert_eq!(holder(&server, "k"), None);
}
