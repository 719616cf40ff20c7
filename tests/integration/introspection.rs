//! What the server itself tells about the module: COMMAND, TYPE and OBJECT, MEMORY, INFO, CONFIG.

use std::collections::BTreeMap;

use crate::steps::{
    acquire, ask, assert_granted, assert_left, fence_of, in_line, is_modern, queue_up, release,
    wait_for_lock, watch, words,
};
use crate::support::wait::wait_waiting;
use crate::support::{wait_until, Server, Setup, Stop, Value};

fn texts(list: &Value) -> Vec<String> {
    let mut texts: Vec<String> = list.items().iter().map(Value::text).collect();
    texts.sort_unstable();
    texts
}

#[test]
fn command_info_of_every_command() {
    let server = Server::start();
    // Name, words at least, flags, categories, whether there is a key and what is done with it.
    let expected = [
        (
            "lock.acquire",
            -3,
            "denyoom module write",
            "@blocking @lock @slow @write",
            Some("RW access update"),
        ),
        ("lock.release", -3, "fast module write", "@fast @lock @write", Some("RW access update")),
        ("lock.renew", -3, "fast module write", "@fast @lock @write", Some("RW access update")),
        ("lock.check", -3, "fast module readonly", "@fast @lock @read", Some("RO access")),
        ("lock.convert", -4, "module write", "@blocking @lock @slow @write", Some("RW access update")),
        ("lock.setlimit", 3, "module write", "@lock @slow @write", Some("RW access update")),
        ("lock.transfer", -4, "module write", "@lock @slow @write", Some("RW access update")),
        ("lock.cancel", 3, "fast module write", "@fast @lock @write", Some("RW access update")),
        (
            "lock.break",
            -2,
            "admin module write",
            "@admin @dangerous @lock @slow @write",
            Some("RW access update"),
        ),
        (
            "lock.steal",
            -3,
            "admin denyoom module write",
            "@admin @dangerous @lock @slow @write",
            Some("RW access update"),
        ),
        (
            "lock.guard",
            -5,
            "module movablekeys write",
            "@lock @slow @write",
            Some("RO access incomplete variable_flags"),
        ),
        ("lock.fence", -3, "denyoom fast module write", "@fast @lock @write", Some("RW access update")),
        ("lock.await", -3, "module readonly", "@blocking @lock @read @slow", Some("RO access")),
        ("lock.revoke", 2, "fast module write", "@fast @lock @write", Some("RW access update")),
        ("lock.info", 2, "module readonly", "@lock @read", Some("RO access")),
        ("lock.waiters", -2, "module readonly", "@lock @read @slow", Some("RO access")),
        ("lock.scan", -2, "module readonly", "@lock @read @slow", None),
        ("lock.stats", -1, "module readonly", "@lock @read @slow", None),
        ("lock.recovery", -1, "admin module", "@admin @dangerous @lock @slow", None),
        ("latch.set", -3, "denyoom fast module write", "@fast @lock @write", Some("RW access update")),
        ("latch.down", -2, "fast module write", "@fast @lock @write", Some("RW access update")),
        ("latch.await", -2, "module readonly", "@blocking @lock @read @slow", Some("RO access")),
        ("latch.info", 2, "module readonly", "@lock @read", Some("RO access")),
        ("lock.help", 1, "fast loading module readonly stale", "@fast @lock @read", None),
        ("lock._hold", -5, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._renew", -7, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._enter", 4, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._leave", 4, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._bounds", -7, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._cool", 10, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._free", 3, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._limit", 3, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._step", -5, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("lock._recovery", 5, "admin module write", "@admin @dangerous @write", None),
        ("latch._set", 5, "admin module write", "@admin @dangerous @write", Some("RW access update")),
        ("latch._down", -3, "admin module write", "@admin @dangerous @write", Some("RW access update")),
    ];
    for (name, arity, flags, categories, key) in expected {
        let reply = server.cmd(&["COMMAND", "INFO", name]);
        let info = reply.items()[0].items();
        assert_eq!(info[0], name);
        assert_eq!(info[1], arity, "{name}");
        assert_eq!(texts(&info[2]).join(" "), flags, "{name}");
        let place = i64::from(key.is_some());
        assert_eq!(info[3..6], [Value::Int(place), Value::Int(place), Value::Int(place)], "{name}");
        let categories = if is_modern(&server) { categories } else { "" };
        assert_eq!(texts(&info[6]).join(" "), categories, "{name}");
        let specs = info[8].items();
        assert_eq!(specs.len(), usize::from(key.is_some()), "{name}");
        if let (Some(access), [spec]) = (key, specs) {
            assert_eq!(
                spec.field("flags").items().iter().map(Value::text).collect::<Vec<_>>().join(" "),
                access
            );
            assert_eq!(spec.field("begin_search").field("spec").field("index"), &1);
            let range = spec.field("find_keys").field("spec");
            assert_eq!((range.field("lastkey"), range.field("keystep")), (&Value::Int(0), &Value::Int(1)));
        }
    }
    // Those with a number of keys: name, words at least, flags, categories, where the number stands.
    let numbered = [
        ("lock.macquire", -4, "denyoom", "@blocking @lock @slow @write", 2),
        ("lock.mrelease", -4, "", "@lock @slow @write", 2),
        ("lock.mrenew", -5, "", "@lock @slow @write", 3),
    ];
    for (name, arity, flag, categories, place) in numbered {
        let reply = server.cmd(&["COMMAND", "INFO", name]);
        let info = reply.items()[0].items();
        assert_eq!((&info[0], &info[1]), (&Value::bulk(name), &Value::Int(arity)));
        let flags = texts(&info[2]);
        let has = |flag: &str| flags.iter().any(|text| text == flag);
        assert!(has("write") && has("module") && !has("fast"), "{name}");
        assert_eq!(has("denyoom"), !flag.is_empty(), "{name}");
        let categories = if is_modern(&server) { categories } else { "" };
        assert_eq!(texts(&info[6]).join(" "), categories, "{name}");
        let [spec] = info[8].items() else { panic!("{name}: one list of keys") };
        assert_eq!(texts(spec.field("flags")).join(" "), "RW access update");
        assert_eq!(spec.field("begin_search").field("spec").field("index"), &place, "{name}");
        let numkeys = spec.field("find_keys").field("spec");
        assert_eq!((numkeys.field("keynumidx"), numkeys.field("firstkey")), (&Value::Int(0), &Value::Int(1)));
    }
    let all = ask(&server, "COMMAND LIST FILTERBY MODULE lock");
    let mut names: Vec<Value> = expected.map(|(name, ..)| Value::bulk(name)).to_vec();
    names.extend(numbered.map(|(name, ..)| Value::bulk(name)));
    assert_eq!(texts(&all), texts(&Value::Array(names)));
}

/// An argument of COMMAND DOCS as a line of a manual would have it.
fn syntax(arg: &Value) -> String {
    let value = match arg.field("type").text().as_str() {
        "pure-token" => String::new(),
        "oneof" => arg.field("arguments").items().iter().map(syntax).collect::<Vec<_>>().join(" | "),
        "block" => arg.field("arguments").items().iter().map(syntax).collect::<Vec<_>>().join(" "),
        _ => arg.field("name").text(),
    };
    let token = arg.get("token").map(Value::text).unwrap_or_default();
    let text = [token, value].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let has = |flag: &str| arg.get("flags").is_some_and(|flags| texts(flags).iter().any(|text| text == flag));
    let text = if has("multiple") { format!("{text} ...") } else { text };
    if has("optional") {
        format!("[{text}]")
    } else {
        text
    }
}

#[test]
fn command_docs_say_what_help_says() {
    let server = Server::start();
    let help: Vec<String> = server.cmd(&["LOCK.HELP"]).items().iter().map(Value::text).collect();
    for lines in help.chunks_exact(2) {
        let name = lines[0].split(' ').next().unwrap().to_lowercase();
        let reply = server.cmd(&["COMMAND", "DOCS", &name]);
        let docs = reply.field(&name);
        assert_eq!(docs.field("summary").text(), lines[1].trim_start());
        assert_eq!(docs.field("module"), &"lock");
        assert!(docs.field("complexity").text().starts_with("O("), "{name}");
        let args = docs.get("arguments").map(|args| args.items().iter().map(syntax).collect::<Vec<_>>());
        let line: Vec<String> = [name.to_uppercase()].into_iter().chain(args.unwrap_or_default()).collect();
        assert_eq!(line.join(" "), lines[0]);
    }
    let reply = ask(&server, "COMMAND DOCS lock.check");
    let key = &reply.field("lock.check").field("arguments").items()[0];
    assert_eq!(key.field("type"), &"key");
    assert_eq!(key.field("key_spec_index"), &0);
}

/// The words of an argument in a call, with values that are as good as any.
fn words_of(arg: &Value) -> Vec<String> {
    let parts = || arg.field("arguments").items().iter();
    let value = match arg.field("type").text().as_str() {
        "pure-token" => Vec::new(),
        "oneof" => parts().take(1).flat_map(words_of).collect(),
        "block" => parts().flat_map(words_of).collect(),
        "integer" => vec!["1".to_owned()],
        _ => vec!["x".to_owned()],
    };
    arg.get("token").map(Value::text).into_iter().chain(value).collect()
}

fn is_optional(arg: &Value) -> bool {
    arg.get("flags").is_some_and(|flags| texts(flags).iter().any(|flag| flag == "optional"))
}

/// The words that a call needs, with each choice where it has to make one.
fn forms(needed: &[&Value]) -> Vec<Vec<String>> {
    needed.iter().fold(vec![Vec::new()], |forms, arg| {
        let choices: Vec<Vec<String>> = match arg.field("type").text().as_str() {
            "oneof" => arg.field("arguments").items().iter().map(words_of).collect(),
            _ => vec![words_of(arg)],
        };
        let with = |form: &Vec<String>| {
            choices.iter().map(|choice| [&form[..], &choice[..]].concat()).collect::<Vec<_>>()
        };
        forms.iter().flat_map(with).collect()
    })
}

/// The options in an argument, each with its value.
fn options_of(arg: &Value) -> Vec<Vec<String>> {
    match arg.field("type").text().as_str() {
        "oneof" | "block" => arg.field("arguments").items().iter().flat_map(options_of).collect(),
        _ if arg.get("token").is_some() => vec![words_of(arg)],
        _ => Vec::new(),
    }
}

#[test]
fn every_option_that_is_documented_is_read_and_no_other() {
    let server = Server::start();
    let mut asked = 0;
    for name in texts(&ask(&server, "COMMAND LIST FILTERBY MODULE lock")) {
        if name.contains("._") {
            continue; // for the stream, whose words have places
        }
        let reply = server.cmd(&["COMMAND", "DOCS", &name]);
        let Some(args) = reply.field(&name).get("arguments").map(Value::items) else { continue };
        let (optional, needed): (Vec<&Value>, Vec<&Value>) = args.iter().partition(|arg| is_optional(arg));
        let options: Vec<Vec<String>> = optional.iter().flat_map(|arg| options_of(arg)).collect();
        for form in forms(&needed) {
            let call = [vec![name.clone()], form].concat();
            for option in [&[][..]].into_iter().chain(options.iter().map(Vec::as_slice)) {
                let reply = server.cmd(&[&call[..], option].concat());
                assert!(!is_unknown(&reply), "{call:?} {option:?}: {reply:?}");
                asked += 1;
            }
            if !options.is_empty() {
                let reply = server.cmd(&[&call[..], &["NOSUCHOPTION".to_owned()]].concat());
                assert!(is_unknown(&reply), "{call:?}: {reply:?}");
            }
        }
    }
    assert!(asked > 70, "{asked} options");
}

fn is_unknown(reply: &Value) -> bool {
    matches!(reply, Value::Error(text) if text.contains("unknown option"))
}

#[test]
fn a_lock_is_a_value_like_others() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_eq!(ask(&server, "TYPE k"), "redislock");
    assert_eq!(ask(&server, "EXISTS k"), 1);
    assert_eq!(ask(&server, "PTTL k"), -1);
    assert_eq!(ask(&server, "OBJECT ENCODING k"), "raw");
    assert_eq!(ask(&server, "OBJECT REFCOUNT k"), 1);
    let found = ask(&server, "SCAN 0 TYPE redislock COUNT 1000");
    assert_eq!(found.items()[1], Value::Array(vec![Value::bulk("k")]));
    for line in ["GET k", "LPUSH k x", "INCR k", "SADD k x", "GETSET k x"] {
        assert!(ask(&server, line).error().starts_with("WRONGTYPE "), "{line}");
    }
}

#[test]
fn looking_does_not_make_a_lock_look_used() {
    let server = Server::start();
    acquire(&server, "k alice");
    wait_until("the key to lie idle", || ask(&server, "OBJECT IDLETIME k").int() >= 1);
    ask(&server, "TYPE k");
    assert!(ask(&server, "OBJECT IDLETIME k").int() >= 1);
}

#[test]
fn memory_usage_counts_owner_and_note() {
    let server = Server::start();
    let usage = |key: &str| server.cmd(&["MEMORY", "USAGE", key]).int();
    let (long, longest) = ("x".repeat(100), "x".repeat(256));
    acquire(&server, "k1 a");
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "k2", &long]));
    fence_of(&server.cmd(&["LOCK.ACQUIRE", "k3", &longest, "NOTE", &longest]));
    let (small, medium, large) = (usage("k1"), usage("k2"), usage("k3"));
    assert!((40..300).contains(&small), "{small}");
    assert!((small + 90..small + 200).contains(&medium), "{medium} beside {small}");
    assert!((small + 500..small + 700).contains(&large), "{large} beside {small}");
}

/// Both sections of INFO as numbers, without the prefix.
fn numbers(server: &Server) -> BTreeMap<String, i64> {
    let sections = [server.info("lock_state"), server.info("lock_stats")];
    let fields = sections.into_iter().flatten();
    fields
        .map(|(name, value)| (name.strip_prefix("lock_").unwrap().to_owned(), value.parse().unwrap()))
        .collect()
}

#[track_caller]
fn assert_numbers(server: &Server, expected: &[(&str, i64)]) {
    let mut got = numbers(server);
    got.remove("last_fence");
    got.remove("max_waiters");
    // `at_rest` looks at this.
    got.remove("server_events");
    // `memory/budget` looks at these.
    got.retain(|name, _| !name.ends_with("_bytes"));
    let mut wanted: BTreeMap<String, i64> = got.keys().map(|name| (name.clone(), 0)).collect();
    wanted.extend(expected.iter().map(|(name, n)| ((*name).to_owned(), *n)));
    assert_eq!(got, wanted);
}

#[test]
fn info_counts_exactly() {
    let server = Server::start();
    assert_eq!(numbers(&server).len(), 45, "fields that this test knows");
    assert_numbers(&server, &[]);

    // Two grants, a renewal, a raise, and everything that is nothing.
    let fence = acquire(&server, "k alice");
    assert_eq!(numbers(&server)["last_fence"], fence);
    acquire(&server, "l alice");
    ask(&server, "LOCK.RENEW k alice PX 50000");
    ask(&server, "LOCK.ACQUIRE k alice PX 60000");
    for line in
        ["LOCK.RENEW k bob", "LOCK.RELEASE k bob", "LOCK.ACQUIRE k bob", "LOCK.CHECK k alice", "LOCK.HELP"]
    {
        ask(&server, line);
    }
    let mut now = vec![("held", 2), ("lease_index_entries", 2), ("granted", 2), ("renewed", 1)];
    assert_numbers(&server, &now);

    // Refusals of this module; the server's own are its own.
    set_and_refuse(&server);
    now.push(("refused", 3));
    assert_numbers(&server, &now);

    // Three queue for k, one for l.
    let mut bob = wait_for_lock(&server, "k", "bob");
    let carol = wait_for_lock(&server, "k", "carol");
    let mut dave = in_line(&server, "LOCK.ACQUIRE k dave BLOCK 800");
    let mut elsewhere = wait_for_lock(&server, "l", "bob");
    now.extend([("waiting", 4), ("queues", 2), ("longest_queue", 3), ("queued", 4)]);
    assert_numbers(&server, &now);

    // One times out, one hangs up, one is replaced.
    assert_eq!(dave.read(), Value::Nil);
    drop(carol);
    wait_waiting(&server, "k", 1);
    let mut again = server.connect();
    again.send(&words("LOCK.ACQUIRE k bob BLOCK 0 PX 500"));
    assert_eq!(bob.read(), Value::Nil);
    now.extend([("waiting", 2), ("longest_queue", 1)]);
    now.extend([("queued", 5), ("timed_out", 1), ("superseded", 1), ("abandoned", 1)]);
    assert_numbers(&server, &now);

    // A hand-off by release, one by deletion, the end of a lease.
    release(&server, "k", "alice");
    assert_granted(&server, &mut again, "k", "bob");
    assert_eq!(ask(&server, "DEL l"), 1);
    assert_granted(&server, &mut elsewhere, "l", "bob");
    wait_until("the lease to end", || ask(&server, "EXISTS k") == 0);
    now.extend([("waiting", 0), ("queues", 0), ("longest_queue", 0)]);
    now.extend([("granted", 4), ("handed_off", 2), ("released", 1), ("vanished", 1), ("expired", 1)]);
    now.extend([("untouched", 1)]);
    now.extend([("held", 1), ("lease_index_entries", 1)]);
    assert_numbers(&server, &now);

    // A grant to a client that is killed in the same moment.
    let mut doomed = server.connect();
    let id = doomed.id().to_string();
    let mut doomed = queue_up(&server, doomed, &words("LOCK.ACQUIRE l carol BLOCK 0"));
    let mut conn = server.connect();
    conn.send_together(&[&words("LOCK.RELEASE l bob"), &["CLIENT", "KILL", "ID", &id]]);
    doomed.expect_closed();
    wait_until("the grant to be taken back", || ask(&server, "EXISTS l") == 0);
    now.extend([("queued", 6), ("granted", 5), ("handed_off", 3), ("released", 2), ("undone", 1)]);
    now.extend([("held", 0), ("lease_index_entries", 0)]);
    assert_numbers(&server, &now);

    // One who only watches, and is told.
    acquire(&server, "k alice");
    let mut observer = watch(&server, "LOCK.AWAIT k FREE BLOCK 0");
    now.extend([("held", 1), ("lease_index_entries", 1), ("granted", 6)]);
    now.push(("observing", 1));
    assert_numbers(&server, &now);
    release(&server, "k", "alice");
    assert_eq!(observer.read(), 1);
    now.extend([("held", 0), ("lease_index_entries", 0), ("released", 3)]);
    now.extend([("observing", 0), ("observed", 1)]);
    assert_numbers(&server, &now);
}

/// Three requests that the module refuses, and two that the server does.
fn set_and_refuse(server: &Server) {
    assert_eq!(ask(server, "CONFIG SET lock.max-waiters 0"), "OK");
    for line in [
        "LOCK.ACQUIRE k bob BLOCK 0",
        "LOCK.ACQUIRE k bob PX 0",
        "LOCK.CHECK k bob NX",
        "LOCK.CHECK k",
        "LOCK.NO k",
    ] {
        assert!(matches!(ask(server, line), Value::Error(_)), "{line}");
    }
    assert_eq!(ask(server, "CONFIG SET lock.max-waiters 100000"), "OK");
}

#[test]
fn a_setting_takes_nothing_but_what_it_is_for() {
    let server = Setup::new().with_defaults().start();
    let set = |name: &str, value: &str| server.cmd(&["CONFIG", "SET", name, value]);
    let all = ask(&server, "CONFIG GET lock.*");
    assert!(!all.items().is_empty());
    for pair in all.items().chunks_exact(2) {
        let (name, value) = (pair[0].text(), pair[1].text());
        let beyond = [i64::MIN, i64::MAX].map(|n| n.to_string());
        let words = ["", "many", "1.5", "0x10", "1e3"];
        for bad in words.into_iter().chain(beyond.iter().map(String::as_str)) {
            assert!(matches!(set(&name, bad), Value::Error(_)), "{name} {bad}");
            assert_eq!(server.config(&name), value, "{name} {bad}");
        }
    }
    for switch in ["lock.events", "lock.deadlock-detection"] {
        assert_eq!(server.config(switch), "yes");
        assert_eq!(set(switch, "no"), "OK");
        assert_eq!(server.config(switch), "no");
    }
}

#[test]
fn settings_work_from_then_on() {
    let server = Server::start();
    acquire(&server, "before alice");
    assert_eq!(ask(&server, "CONFIG SET lock.default-lease-ms 70000"), "OK");
    assert_left(&ask(&server, "LOCK.CHECK before alice"), 30_000);
    acquire(&server, "k alice");
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 70_000);
    // The longest lease is stronger than the default one, and cuts nothing that was given.
    assert_eq!(ask(&server, "CONFIG SET lock.max-lease-ms 5000"), "OK");
    acquire(&server, "l alice");
    assert_left(&ask(&server, "LOCK.CHECK l alice"), 5_000);
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 70_000);
    assert_eq!(
        ask(&server, "LOCK.ACQUIRE m alice PX 5001"),
        "BADARG PX must be a whole number from 1 to 5000"
    );
    assert_eq!(ask(&server, "LOCK.RENEW l alice EX 6"), "BADARG EX must be a whole number from 1 to 5");
    assert_eq!(ask(&server, "LOCK.RENEW l alice EX 5"), 5_000);
    assert_eq!(ask(&server, "LOCK.RENEW l alice NOEXPIRE"), -1, "without expiry is another thing");
    assert_eq!(ask(&server, "CONFIG SET lock.max-wait-ms 20"), "OK");
    assert_eq!(
        ask(&server, "LOCK.ACQUIRE k bob BLOCK 21"),
        "BADARG BLOCK must be a whole number from 0 to 20"
    );
    assert_eq!(server.connect().cmd(&words("LOCK.ACQUIRE k bob BLOCK 20")), Value::Nil);
    let _for_ever = wait_for_lock(&server, "k", "bob");
}

#[test]
fn the_ledger_of_losses_has_an_end() {
    let server = Server::start();
    let reason = |key: &str| server.cmd(&["LOCK.CHECK", key, "alice", "WITHINFO"]).field("reason").text();
    assert_eq!(ask(&server, "CONFIG SET lock.loss-ledger-size 2"), "OK");
    for key in ["a", "b", "c"] {
        acquire(&server, &format!("{key} alice"));
        assert_eq!(server.cmd(&["DEL", key]), 1);
    }
    assert_eq!(["a", "b", "c"].map(reason), ["not-held", "deleted", "deleted"]);
    assert_eq!(ask(&server, "CONFIG SET lock.loss-ledger-size 0"), "OK");
    assert_eq!(reason("c"), "not-held");
    acquire(&server, "d alice");
    assert_eq!(server.cmd(&["DEL", "d"]), 1);
    assert_eq!(reason("d"), "not-held");
}

#[test]
fn settings_come_from_the_file_and_go_back_into_it() {
    let mut server = Server::with(&["lock.max-waiters 7", "lock.events no", "lock.default-lease-ms 40000"]);
    assert_eq!(server.config("lock.max-waiters"), "7");
    assert_eq!(server.config("lock.events"), "no");
    acquire(&server, "k alice");
    assert_left(&ask(&server, "LOCK.CHECK k alice"), 40_000);
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters 8"), "OK");
    assert_eq!(ask(&server, "CONFIG REWRITE"), "OK");
    server.restart(Stop::Kill);
    assert_eq!(server.config("lock.max-waiters"), "8");
    assert_eq!(server.config("lock.events"), "no");
    assert_eq!(server.config("lock.default-lease-ms"), "40000");
}

#[test]
fn a_wrong_setting_in_the_file_stops_the_start() {
    for line in ["lock.max-waiters -1", "lock.default-lease-ms 0", "lock.no-such-setting 1"] {
        let started = Setup::new().conf(&[line]).try_start();
        assert!(started.is_err(), "{line}");
    }
}
