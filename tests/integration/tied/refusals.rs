//! Where there is no connection to tie a hold to, and words that make no sense: refused, without a trace.

use super::{tied, wait_gone};
use crate::operate::shown;
use crate::other_module::{run, with_caller};
use crate::steps::{acquire, ask, assert_changes_nothing, eval, fence_of, transaction, watch_from, words};
use crate::support::{wait_until, Server};
use crate::traffic::lock_stat;

const NOTIE: &str =
    "NOTIE a script, LOCK.GUARD or a module has no connection to tie a hold to; send the command by itself";

/// Everything that can ask for a tie.
const TYING: [&str; 4] = [
    "LOCK.ACQUIRE free alice TIED 5",
    "LOCK.ACQUIRE k alice TIED 5",
    "LOCK.RENEW k alice TIED 5",
    "LOCK.MACQUIRE alice 2 free other TIED 5",
];

#[test]
fn a_script_has_no_connection() {
    let server = Server::start();
    acquire(&server, "k alice");
    let library = "#!lua name=ties\nredis.register_function('tie', function(keys, args) \
                   return redis.call('LOCK.RENEW', keys[1], 'alice', 'TIED', '5') end)";
    assert_eq!(server.cmd(&["FUNCTION", "LOAD", library]), "ties");
    assert_changes_nothing(&server, || {
        for line in TYING {
            let call = format!("'{}'", line.replace(' ', "', '"));
            let reply = eval(&server, &format!("return redis.pcall({call})"), &["k", "free", "other"]);
            assert_eq!(reply.error(), NOTIE, "{line}");
            let reply = eval(&server, &format!("return redis.call({call})"), &["k", "free", "other"]);
            assert!(reply.error().starts_with("NOTIE "), "{line}: {reply:?}");
        }
        assert!(ask(&server, "FCALL tie 1 k").error().starts_with("NOTIE "));
    });
    assert_eq!((shown(&server, "grace-ms").int(), lock_stat(&server, "tied")), (-1, 0));
    // In a transaction too, where the script's caller has one.
    let script = "return redis.pcall('LOCK.RENEW', KEYS[1], 'alice', 'TIED', '5')";
    let replies = transaction(&mut server.connect(), &[&["EVAL", script, "1", "k"]]);
    assert_eq!(replies[0].error(), NOTIE);
    // What is tied already may be renewed there.
    let _conn = tied(&server, "LOCK.ACQUIRE l alice TIED 5");
    assert_eq!(
        eval(&server, "return redis.call('LOCK.RENEW', KEYS[1], 'alice', 'PX', '5000')", &["l"]),
        5000
    );
}

#[test]
fn a_guarded_command_has_no_connection() {
    let server = Server::start();
    acquire(&server, "k alice");
    assert_changes_nothing(&server, || {
        for line in &TYING[1..3] {
            let guarded = format!("LOCK.GUARD k alice * {line}");
            assert_eq!(ask(&server, &guarded).error(), NOTIE, "{line}");
            let replies = transaction(&mut server.connect(), &[&words(&guarded)]);
            assert_eq!(replies[0].error(), NOTIE, "{line}");
        }
    });
}

#[test]
fn another_module_has_no_connection() {
    let Some(server) = with_caller("ties asked for by another module") else { return };
    acquire(&server, "k alice");
    assert_changes_nothing(&server, || {
        for format in ["!v", "!Cv"] {
            for line in TYING {
                assert_eq!(run(&server, format, line).error(), NOTIE, "{format} {line}");
            }
        }
    });
}

#[test]
fn a_transaction_has_the_connection_that_sent_it() {
    let server = Server::start();
    let mut conn = server.connect();
    let replies = transaction(
        &mut conn,
        &[
            &words("LOCK.ACQUIRE k alice NOEXPIRE TIED 0"),
            &words("LOCK.ACQUIRE l alice"),
            &words("LOCK.RENEW l alice NOEXPIRE TIED 0"),
        ],
    );
    assert!(fence_of(&replies[0]) > 0 && replies[2] == -1, "{replies:?}");
    assert_eq!((shown(&server, "client-id").int(), lock_stat(&server, "tied")), (conn.id(), 2));
    drop(conn);
    wait_gone(&server);
    assert_eq!(ask(&server, "EXISTS l"), 0);
}

#[test]
fn an_owner_that_the_server_made_up() {
    let server = Server::start();
    let mut conn = server.connect();
    let reply = conn.cmd(&words("LOCK.ACQUIRE k * NOEXPIRE TIED 0"));
    assert_eq!(shown(&server, "owner"), reply.items()[0]);
    assert_eq!(shown(&server, "client-id"), conn.id());
    drop(conn);
    wait_gone(&server);
}

#[test]
fn under_several_ids_and_with_others() {
    let server = Server::start();
    let mut conn = tied(&server, "LOCK.ACQUIRE k alice NOEXPIRE REENTRANT one TIED 600000");
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE REENTRANT two TIED 0")));
    assert_eq!(
        (shown(&server, "entries").int(), shown(&server, "grace-ms").int()),
        (2, 0),
        "the last one counts"
    );
    drop(conn);
    wait_gone(&server);

    let ann = tied(&server, "LOCK.ACQUIRE k ann SHARED NOEXPIRE TIED 0");
    let _ben = tied(&server, "LOCK.ACQUIRE k ben SHARED NOEXPIRE TIED 0");
    acquire(&server, "k cleo SHARED NOEXPIRE");
    super::close(&server, ann);
    let owners = || {
        let info = ask(&server, "LOCK.INFO k");
        info.field("holds").items().iter().map(|hold| hold.field("owner").text()).collect::<Vec<_>>()
    };
    assert_eq!(owners(), ["ben", "cleo"]);
}

#[test]
fn every_word_that_makes_no_sense() {
    let server = Server::start();
    acquire(&server, "k alice");
    let grace = "BADARG TIED must be a whole number from 0 to 604800000".to_owned();
    let twice = "BADARG TIED is given twice, or beside an option that excludes it".to_owned();
    let no_value = "BADARG TIED needs a value".to_owned();
    let unknown = "BADARG unknown option 'TIED'; see LOCK.HELP".to_owned();
    assert_changes_nothing(&server, || {
        for command in ["LOCK.ACQUIRE free bob", "LOCK.RENEW k alice", "LOCK.MACQUIRE bob 1 free"] {
            for (rest, text) in [
                ("TIED", &no_value),
                ("TIED -1", &grace),
                ("TIED 1.5", &grace),
                ("TIED soon", &grace),
                ("TIED 604800001", &grace),
                ("TIED 18446744073709551616", &grace),
                ("TIED 5 TIED 5", &twice),
            ] {
                let line = format!("{command} {rest}");
                assert_eq!(ask(&server, &line), text.as_str(), "{line}");
            }
        }
        for command in [
            "LOCK.RELEASE k alice",
            "LOCK.CHECK k alice",
            "LOCK.TRANSFER k alice bob",
            "LOCK.STEAL k bob",
            "LOCK.CONVERT k alice SHARED",
            "LOCK.MRENEW alice 5000 1 k",
            "LOCK.MRELEASE alice 1 k",
            "LOCK.BREAK k",
        ] {
            let line = format!("{command} TIED 5");
            assert_eq!(ask(&server, &line), unknown.as_str(), "{line}");
        }
    });
    // The longest grace, and the one that follows the setting.
    let _conn = tied(&server, "LOCK.ACQUIRE free bob TIED 604800000");
    assert_eq!(ask(&server, "CONFIG SET lock.max-lease-ms 1000"), "OK");
    assert!(ask(&server, "LOCK.RENEW k alice TIED 1001").error().ends_with("from 0 to 1000"));
}

#[test]
fn a_server_that_closes_idle_connections_is_warned_of_once() {
    let server = Server::start();
    let warned = |seconds: u32| {
        let _conn = tied(&server, "LOCK.ACQUIRE k alice TIED 0");
        let warning = format!("closes connections that are idle for {seconds} s (timeout)");
        server.log().matches(&warning).count()
    };
    let timeout = |seconds: u32| assert_eq!(ask(&server, &format!("CONFIG SET timeout {seconds}")), "OK");
    assert_eq!(warned(0), 0);
    timeout(1000);
    assert_eq!(server.log().matches("closes connections").count(), 0, "nobody is tied");
    assert_eq!([warned(1000), warned(1000)], [1, 1]);
    assert_eq!(ask(&server, "CONFIG SET lock.claim-ms 500"), "OK");
    assert_eq!(warned(1000), 1, "something else was set");
    timeout(2000);
    assert_eq!((warned(2000), warned(1000)), (1, 1));
    timeout(0);
    assert_eq!(warned(0), 0);
    timeout(2000);
    assert_eq!(warned(2000), 2);
}

#[test]
fn a_connection_that_waits_is_not_idle() {
    let server = Server::start();
    let waiting = tied(&server, "LOCK.ACQUIRE waits alice TIED 0");
    let _waiting = watch_from(&server, waiting, "LOCK.AWAIT waits alice WANTED BLOCK 0");
    let _idle = tied(&server, "LOCK.ACQUIRE idle bob TIED 0");
    assert_eq!(ask(&server, "CONFIG SET timeout 1"), "OK");
    // Whoever looks must not be idle for too long itself.
    let is_held = |key: &str| server.connect().cmd(&["EXISTS", key]) == 1;
    wait_until("the idle one to be closed", || !is_held("idle"));
    assert!(is_held("waits"));
}
