//! A grant of several locks whose client was gone before it could read of it: all of them go back in one step, to those
//! who are next. A client that was there keeps them.

use super::{assert_all_granted, give_back, line_up, macquire, macquire_in_line};
use crate::steps::{acquire, assert_granted, fence_of, holder, release, transaction, wait_for_lock, words};
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{lock_stat, wait_quiet};

/// Alice holds `a`, and a client that is about to vanish waits for `a`, `b` and `c`; others wait behind it.
struct Scene {
    server: Server,
    doomed: Connection,
    id: String,
    on_b: Connection,
    group: Connection,
}

fn scene() -> Scene {
    let server = Server::start();
    acquire(&server, "a alice");
    let mut conn = server.connect();
    let id = conn.id().to_string();
    let doomed = line_up(&server, conn, "LOCK.MACQUIRE doomed 3 a b c NOEXPIRE BLOCK 0");
    let on_b = wait_for_lock(&server, "b", "on-b");
    let group = macquire_in_line(&server, "group 2 a c");
    Scene { server, doomed, id, on_b, group }
}

/// Runs the lines in one packet, or in one transaction; none may fail.
fn run(server: &Server, lines: &[String], in_transaction: bool) {
    let commands: Vec<Vec<&str>> = lines.iter().map(|line| words(line)).collect();
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    let mut conn = server.connect();
    let replies = if in_transaction {
        transaction(&mut conn, &commands)
    } else {
        conn.send_together(&commands);
        commands.iter().map(|_| conn.read()).collect()
    };
    assert!(!replies.iter().any(|reply| matches!(reply, Value::Error(_))), "{lines:?}: {replies:?}");
}

#[test]
fn a_grant_that_was_never_read_goes_back_as_a_whole() {
    for in_transaction in [false, true] {
        let Scene { server, mut doomed, id, mut on_b, mut group } = scene();
        run(&server, &["LOCK.RELEASE a alice".into(), format!("CLIENT KILL ID {id}")], in_transaction);
        if let Ok(reply) = doomed.try_read() {
            // The server may also have sent the reply before it closed the connection, and then the grant stands.
            fence_of(&reply);
            assert_eq!(give_back(&server, "doomed 3 a b c"), 3);
        }
        assert_granted(&server, &mut on_b, "b", "on-b");
        assert_all_granted(&server, &mut group, &["a", "c"], "group");
        wait_quiet(&server);
    }
}

#[test]
fn one_of_its_keys_may_be_gone_by_then() {
    // What else happens in the same breath, and who has `a` in the end.
    for (between, holder_of_a) in [
        ("DEL a", Some("group")),
        ("UNLINK b", Some("group")),
        ("RENAME c elsewhere", Some("group")),
        ("LOCK.INFO b", Some("group")),
    ] {
        let Scene { server, doomed: _doomed, id, mut on_b, mut group } = scene();
        let lines = ["LOCK.RELEASE a alice".into(), between.into(), format!("CLIENT KILL ID {id}")];
        run(&server, &lines, true);
        assert_granted(&server, &mut on_b, "b", "on-b");
        assert_all_granted(&server, &mut group, &["a", "c"], "group");
        assert_eq!(holder(&server, "a").as_deref(), holder_of_a, "{between}");
    }
}

#[test]
fn one_of_its_keys_may_be_overwritten_by_then() {
    let Scene { server, doomed: _doomed, id, mut on_b, mut group } = scene();
    let lines = ["LOCK.RELEASE a alice".into(), "SET a text".into(), format!("CLIENT KILL ID {id}")];
    run(&server, &lines, true);
    // Nobody knows of the holds of `b` and `c`, and they have no lease that could end them.
    assert_granted(&server, &mut on_b, "b", "on-b");
    assert!(group.read().error().starts_with("WRONGTYPE "));
    assert_eq!(holder(&server, "c"), None);
    assert_eq!(server.cmd(&["GET", "a"]), "text");
    wait_quiet(&server);
}

#[test]
fn an_owner_that_was_heard_of_keeps_what_it_has() {
    for line in
        ["LOCK.RENEW b doomed PX 60000", "LOCK.MRENEW doomed 60000 2 c a", "LOCK.MACQUIRE doomed 3 c b a"]
    {
        let Scene { server, doomed: _doomed, id, on_b: _on_b, group: _group } = scene();
        run(&server, &["LOCK.RELEASE a alice".into(), line.into(), format!("CLIENT KILL ID {id}")], true);
        wait_quiet_but_for(&server, 2);
        for key in ["a", "b", "c"] {
            assert_eq!(holder(&server, key).as_deref(), Some("doomed"), "{line}");
        }
        assert_eq!(lock_stat(&server, "undone"), 0, "{line}");
    }
}

/// No grant is in doubt, and so many still wait.
fn wait_quiet_but_for(server: &Server, waiting: i64) {
    wait_until("all grants to be settled", || {
        lock_stat(server, "provisional") == 0 && lock_stat(server, "waiting") == waiting
    });
    // Another turn of the loop, in which what was found would be done.
    assert_eq!(server.connect().cmd(&words("LOCK.ACQUIRE a nobody BLOCK 30")), Value::Nil);
}

#[test]
fn who_hangs_up_after_the_grant_keeps_it() {
    let server = Server::start();
    acquire(&server, "a alice");
    let mut waiter = macquire_in_line(&server, "w 2 a b NOEXPIRE");
    release(&server, "a", "alice");
    let fence = assert_all_granted(&server, &mut waiter, &["a", "b"], "w");
    drop(waiter);
    wait_until("the client to be gone", || server.info_int("clients", "connected_clients") == 1);
    wait_quiet_but_for(&server, 0);
    assert_eq!(macquire(&server, "w 2 b a"), fence);
    assert_eq!(lock_stat(&server, "undone"), 0);
}

#[test]
fn a_storm_of_kills_with_the_grant() {
    let server = Server::start();
    fence_of(&macquire(&server, "alice 3 a b c"));
    let mut waiters: Vec<(Connection, String, String)> = (0..40)
        .map(|n| {
            let (mut conn, owner) = (server.connect(), format!("owner-{n}"));
            let id = conn.id().to_string();
            let keys = ["2 a b", "2 b c", "2 c a", "3 a b c"][n % 4];
            let conn = line_up(&server, conn, &format!("LOCK.MACQUIRE {owner} {keys} BLOCK 0"));
            (conn, id, owner)
        })
        .collect();
    let mut lines = vec!["LOCK.MRELEASE alice 3 a b c".to_owned()];
    lines.extend(waiters[..30].iter().map(|(_, id, _)| format!("CLIENT KILL ID {id}")));
    run(&server, &lines, false);
    for (n, (waiter, _, owner)) in waiters.iter_mut().enumerate().skip(30) {
        fence_of(&waiter.read());
        let keys = ["2 a b", "2 b c", "2 c a", "3 a b c"][n % 4];
        assert_eq!(give_back(&server, &format!("{owner} {keys}")), keys[..1].parse::<i64>().unwrap());
    }
    wait_quiet(&server);
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
}
