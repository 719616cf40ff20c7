//! LOCK.INFO, LOCK.WAITERS and LOCK.HELP: what an operator sees. They read and change nothing.

use crate::group::line_up;
use crate::steps::{
    acquire, ask, assert_changes_nothing, assert_left, eval, in_line, queue, release, set_string,
    transaction, wait_for_lock, words, WRONGTYPE,
};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::lock_stat;

#[test]
fn a_free_lock() {
    let server = Server::start();
    let info = ask(&server, "LOCK.INFO k");
    assert_eq!(info.field("mode"), &"free");
    assert_eq!(info.field("limit"), &0);
    assert_eq!(info.field("holds"), &Value::Array(vec![]));
    assert_eq!(info.field("waiting"), &0);
    assert_eq!(ask(&server, "LOCK.WAITERS k"), Value::Array(vec![]));
    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
}

#[test]
fn a_free_lock_that_is_kept_for_others_is_shown_as_the_queue_it_is() {
    let server = Server::start();
    acquire(&server, "l holder");
    let _both = line_up(&server, server.connect(), "LOCK.MACQUIRE both 2 k l BLOCK 0");
    let _client = wait_for_lock(&server, "k", "client");
    assert_eq!(ask(&server, "LOCK.ACQUIRE k ticket QUEUE 60000"), Value::Nil);

    assert_eq!(server.cmd(&["EXISTS", "k"]), 0);
    let [free, held] = ["k", "l"].map(|key| server.cmd(&["LOCK.INFO", key]));
    assert_eq!((free.field("mode"), free.field("waiting")), (&Value::bulk("free"), &Value::Int(3)));
    assert_eq!((held.field("mode"), held.field("waiting")), (&Value::bulk("exclusive"), &Value::Int(1)));
    assert_eq!((lock_stat(&server, "queues"), lock_stat(&server, "longest_queue")), (2, 3));
    assert_eq!(ask(&server, "LOCK.WAITERS k").items().len(), 3);

    release(&server, "l", "holder");
    wait_until("the two locks to be granted", || lock_stat(&server, "queues") == 1);
    let taken = ask(&server, "LOCK.INFO k");
    assert_eq!((taken.field("mode"), taken.field("waiting")), (&Value::bulk("exclusive"), &Value::Int(2)));
    assert_eq!(lock_stat(&server, "longest_queue"), 2);
}

#[test]
fn a_held_lock() {
    let server = Server::start();
    let fence = ask(&server, "LOCK.ACQUIRE k alice PX 50000 NOTE nightly").int();
    let _waiters = ["bob", "carol"].map(|name| wait_for_lock(&server, "k", name));
    let info = ask(&server, "LOCK.INFO k");
    assert_eq!(info.field("mode"), &"exclusive");
    assert_eq!(info.field("limit"), &1);
    assert_eq!(info.field("waiting"), &2);
    let [held] = info.field("holds").items() else { panic!("not one hold: {info:?}") };
    assert_eq!(held.field("owner"), &"alice");
    assert_eq!(held.field("fence"), &fence);
    assert_eq!(held.field("permits"), &1);
    assert_eq!(held.field("lease-ms"), &50_000);
    assert_left(held.field("left-ms"), 50_000);
    assert_eq!(held.field("note"), &"nightly");

    ask(&server, "LOCK.ACQUIRE l alice NOEXPIRE");
    let info = ask(&server, "LOCK.INFO l");
    assert_eq!(info.field("holds").items()[0].field("lease-ms"), &-1);
    assert_eq!(info.field("holds").items()[0].field("left-ms"), &-1);
}

#[test]
fn a_queue_the_next_one_first() {
    let server = Server::start();
    acquire(&server, "k alice");
    let _bob = in_line(&server, "LOCK.ACQUIRE k bob BLOCK 50000 NOTE import");
    let _carol = wait_for_lock(&server, "k", "carol");
    let rows = ask(&server, "LOCK.WAITERS k");
    let [bob, carol] = rows.items() else { panic!("not two rows: {rows:?}") };
    assert_eq!(bob.field("owner"), &"bob");
    assert_eq!(bob.field("mode"), &"exclusive");
    assert_eq!(bob.field("permits"), &1);
    assert_eq!(bob.field("note"), &"import");
    assert_left(bob.field("left-ms"), 50_000);
    assert_eq!(carol.field("owner"), &"carol");
    assert_eq!(carol.field("note"), &"");
    assert_eq!(carol.field("left-ms"), &-1);
    let waited = |row: usize, rows: &Value| rows.items()[row].field("waited-ms").int();
    assert!(waited(0, &rows) >= waited(1, &rows), "who came first has waited longer");
    wait_until("more time to be shown", || waited(1, &ask(&server, "LOCK.WAITERS k")) > waited(1, &rows));
}

#[test]
fn as_many_rows_as_asked_for() {
    let server = Server::start();
    acquire(&server, "k alice");
    let names: Vec<String> = (0..105).map(|n| format!("owner-{n}")).collect();
    let _waiters: Vec<Connection> = names.iter().map(|name| wait_for_lock(&server, "k", name)).collect();
    assert_eq!(queue(&server, "k"), names[..100], "a hundred when nothing is said");
    for count in [1, 7, 105, 10_000] {
        let rows = server.cmd(&["LOCK.WAITERS", "k", "count", &count.to_string()]);
        let owners: Vec<String> = rows.items().iter().map(|row| row.field("owner").text()).collect();
        assert_eq!(owners, names[..count.min(105)]);
    }
}

#[test]
fn a_reply_ends_after_so_many_bytes_and_the_next_one_goes_on() {
    let server = Server::start();
    acquire(&server, "k alice");
    let names: Vec<String> = (0..300).map(|n| format!("{n:0256}")).collect();
    for name in &names {
        server.cmd(&["LOCK.ACQUIRE", "k", name, "QUEUE", "60000"]);
    }
    let (mut seen, mut pages) = (Vec::new(), 0);
    while seen.len() < names.len() {
        let mut words = vec!["LOCK.WAITERS", "k", "COUNT", "10000"];
        words.extend(seen.last().iter().flat_map(|last: &&String| ["AFTER", last.as_str()]));
        let rows = server.cmd(&words);
        let nearest = rows.items()[0].field("behind").items();
        let before: Vec<&String> = seen.iter().skip(seen.len().saturating_sub(16)).collect();
        assert!(
            nearest.iter().map(Value::text).eq(before.into_iter().cloned()),
            "the nearest of the page before"
        );
        assert!(rows.items().len() < 80, "a reply of more than 256 KB");
        seen.extend(rows.items().iter().map(|row| row.field("owner").text()));
        pages += 1;
    }
    assert_eq!(seen, names);
    assert!(pages > 4, "{pages}");
    let last = names.last().unwrap();
    assert_eq!(server.cmd(&["LOCK.WAITERS", "k", "AFTER", last]), Value::Array(vec![]));
    let nobody = server.cmd(&["LOCK.WAITERS", "k", "COUNT", "1", "AFTER", "nobody"]);
    assert_eq!(nobody.items()[0].field("owner").text(), names[0]);
}

#[test]
fn looking_changes_nothing() {
    let server = Server::start();
    acquire(&server, "k alice");
    let mut waiter = wait_for_lock(&server, "k", "bob");
    assert_changes_nothing(&server, || {
        for line in ["LOCK.INFO k", "LOCK.INFO free", "LOCK.WAITERS k", "LOCK.WAITERS free", "LOCK.HELP"] {
            assert!(matches!(ask(&server, line), Value::Array(_)), "{line}");
        }
    });
    waiter.expect_nothing_pending();
    release(&server, "k", "alice");
    waiter.read();
}

#[test]
fn another_type_is_refused() {
    let server = Server::start();
    set_string(&server, "k");
    assert_eq!(ask(&server, "LOCK.INFO k"), WRONGTYPE);
    assert_eq!(ask(&server, "LOCK.WAITERS k"), WRONGTYPE);
    assert_eq!(ask(&server, "LOCK.WAITERS k COUNT 5"), WRONGTYPE);
}

#[test]
fn in_a_transaction_and_in_a_script() {
    let server = Server::start();
    acquire(&server, "k alice");
    let _waiter = wait_for_lock(&server, "k", "bob");
    let replies = transaction(
        &mut server.connect(),
        &[
            &words("LOCK.INFO k"),
            &words("LOCK.WAITERS k"),
            &words("LOCK.RELEASE k alice"),
            &words("LOCK.INFO k"),
        ],
    );
    assert_eq!(replies[0].field("holds").items()[0].field("owner"), &"alice");
    assert_eq!(replies[1].items()[0].field("owner"), &"bob");
    assert_eq!(replies[3].field("holds").items()[0].field("owner"), &"bob");
    assert_eq!(replies[3].field("waiting"), &0);
    // A map is a list of names and values in a script: mode, limit, holds, waiting.
    let script = "
        local info = redis.call('LOCK.INFO', KEYS[1])
        return {info[1], info[2], info[6][1][2], info[8], #redis.call('LOCK.WAITERS', KEYS[1])}";
    let shown =
        ["mode", "exclusive", "bob"].map(Value::bulk).into_iter().chain([Value::Int(0), Value::Int(0)]);
    assert_eq!(eval(&server, script, &["k"]), Value::Array(shown.collect()));
}

#[test]
fn help_has_two_lines_for_each_command() {
    let server = Server::start();
    let lines: Vec<String> = server.cmd(&["LOCK.HELP"]).items().iter().map(Value::text).collect();
    let commands: Vec<&str> = lines.iter().step_by(2).map(|line| line.split(' ').next().unwrap()).collect();
    let expected = [
        "LOCK.ACQUIRE",
        "LOCK.RELEASE",
        "LOCK.RENEW",
        "LOCK.CHECK",
        "LOCK.CONVERT",
        "LOCK.SETLIMIT",
        "LOCK.MACQUIRE",
        "LOCK.MRELEASE",
        "LOCK.MRENEW",
        "LOCK.GUARD",
        "LOCK.FENCE",
        "LOCK.TRANSFER",
        "LOCK.CANCEL",
        "LOCK.BREAK",
        "LOCK.STEAL",
        "LOCK.AWAIT",
        "LOCK.REVOKE",
        "LOCK.INFO",
        "LOCK.WAITERS",
        "LOCK.SCAN",
        "LOCK.STATS",
        "LOCK.RECOVERY",
        "LATCH.SET",
        "LATCH.DOWN",
        "LATCH.AWAIT",
        "LATCH.INFO",
        "LOCK.HELP",
    ];
    assert_eq!(commands, expected);
    for sentence in lines.iter().skip(1).step_by(2) {
        assert!(sentence.starts_with("    ") && sentence.ends_with('.'), "{sentence}");
    }
}
