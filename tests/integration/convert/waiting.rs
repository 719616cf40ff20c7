//! Waiting for an upgrade: before all others, without letting go of the hold, and how such a wait ends otherwise. A grant
//! that nobody heard of leaves the owner with what it had.

use super::{ask, assert_shown, read};
use crate::onlookers::{user, RIGHT_TAKEN_AWAY};
use crate::steps::{
    acquire, assert_changes_nothing, assert_granted, assert_holds, assert_left, fence_of, granted, in_line,
    is_modern, queue, queue_up, release, set_string, transaction, waiting, words,
};
use crate::support::wait::wait_waiting;
use crate::support::{wait_until, Connection, Events, Server, Value};
use crate::traffic::{lock_stat, wait_quiet};

const UPGRADE: &str = "LOCK.CONVERT k ann EXCLUSIVE BLOCK 0";
const DEADLOCK: &str = "DEADLOCK this wait would never end: 'ben' waits for 'k' behind 'ann', \
                        'ann' waits for 'k' behind 'ben'; release what you hold and begin again";

/// Ann and Ben share `k`, and Ann waits to have it alone.
struct Scene {
    server: Server,
    /// Ann's fence as a reader, and Ben's.
    old: i64,
    ben: i64,
    ann: Connection,
    /// The id of Ann's client.
    id: String,
}

fn scene(line: &str) -> Scene {
    let server = Server::start();
    let (old, ben) = (read(&server, "ann"), read(&server, "ben"));
    let mut conn = server.connect();
    let id = conn.id().to_string();
    let ann = queue_up(&server, conn, &words(line));
    Scene { server, old, ben, ann, id }
}

fn reader_behind(server: &Server) -> Connection {
    in_line(server, "LOCK.ACQUIRE k cleo SHARED BLOCK 0")
}

/// The upgrade has come to nothing: Ann reads on under her old fence, and so do Ben and whoever came behind her.
fn assert_reads_on(server: &Server, old: i64, behind: &mut Connection) {
    fence_of(&behind.read());
    assert_shown(server, "shared", &["ann", "ben", "cleo"]);
    assert_left(&ask(server, &format!("LOCK.CHECK k ann FENCE {old}")), 60_000);
    wait_quiet(server);
}

#[test]
fn it_has_the_lock_alone_when_the_last_other_reader_has_left() {
    let server = Server::start();
    let old = read(&server, "ann");
    for reader in ["ben", "cleo", "dora"] {
        read(&server, reader);
    }
    let mut ann = in_line(&server, UPGRADE);
    for reader in ["cleo", "ben"] {
        release(&server, "k", reader);
        ann.expect_nothing_pending();
        // Meanwhile it reads as before.
        assert!(ask(&server, &format!("LOCK.CHECK k ann FENCE {old}")).int() > 0);
    }
    release(&server, "k", "dora");
    let new = assert_granted(&server, &mut ann, "k", "ann");
    assert!(new > old);
    assert_shown(&server, "exclusive", &["ann"]);
    assert_eq!(server.info_int("clients", "blocked_clients"), 0);
}

#[test]
fn it_comes_before_all_who_wait_already() {
    let server = Server::start();
    read(&server, "ann");
    read(&server, "ben");
    let mut wilma = in_line(&server, "LOCK.ACQUIRE k wilma BLOCK 0");
    let mut cleo = reader_behind(&server);
    let mut ann = in_line(&server, UPGRADE);
    assert_eq!(queue(&server, "k"), ["ann", "wilma", "cleo"]);
    let rows = ask(&server, "LOCK.WAITERS k");
    let first = &rows.items()[0];
    assert_eq!(first.field("mode"), &"exclusive");
    assert_eq!(first.field("blocked-by"), &Value::Array(vec![Value::bulk("ben")]));
    release(&server, "k", "ben");
    assert_granted(&server, &mut ann, "k", "ann");
    wilma.expect_nothing_pending();
    release(&server, "k", "ann");
    assert_granted(&server, &mut wilma, "k", "wilma");
    release(&server, "k", "wilma");
    assert_granted(&server, &mut cleo, "k", "cleo");
}

#[test]
fn no_reader_comes_in_meanwhile() {
    let Scene { server, mut ann, .. } = scene(UPGRADE);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k dora SHARED"), Value::Nil);
    let mut cleo = reader_behind(&server);
    // Whoever reads already may ask again.
    acquire(&server, "k ben SHARED REENTRANT again");
    assert_eq!(ask(&server, "LOCK.RELEASE k ben ALL"), 1);
    let fence = assert_granted(&server, &mut ann, "k", "ann");
    cleo.expect_nothing_pending();
    assert_eq!(ask(&server, "LOCK.CONVERT k ann SHARED"), fence);
    fence_of(&cleo.read());
    assert_shown(&server, "shared", &["ann", "cleo"]);
}

#[test]
fn the_end_of_the_others_lease_lets_it_through() {
    let Scene { server, mut ann, .. } = scene("LOCK.CONVERT k ann EXCLUSIVE BLOCK 0 WITHINFO");
    assert_eq!(ask(&server, "LOCK.RENEW k ben PX 200"), 200);
    let report = ann.read();
    let fence = fence_of(report.field("result"));
    assert_eq!(
        (report.field("fence"), report.field("reason").text().as_str()),
        (&Value::Int(fence), "granted")
    );
    assert_left(report.field("lease-ms"), 60_000);
    assert_holds(&server, "k", "ann", fence);
}

#[test]
fn the_lease_runs_on_and_can_be_renewed_meanwhile() {
    let Scene { server, old, mut ann, .. } = scene(UPGRADE);
    assert_eq!(ask(&server, &format!("LOCK.RENEW k ann PX 90000 FENCE {old}")), 90_000);
    release(&server, "k", "ben");
    assert_granted(&server, &mut ann, "k", "ann");
    assert_left(&ask(&server, "LOCK.CHECK k ann"), 90_000);
    assert_eq!(ask(&server, "LOCK.INFO k").field("holds").items()[0].field("lease-ms"), &90_000);
}

#[test]
fn a_wait_that_is_over_leaves_the_reader_and_lets_others_in() {
    let Scene { server, old, mut ann, .. } = scene("LOCK.CONVERT k ann EXCLUSIVE BLOCK 300 WITHINFO");
    let mut cleo = reader_behind(&server);
    let report = ann.read();
    assert_eq!((report.field("result"), report.field("reason").text().as_str()), (&Value::Nil, "timeout"));
    assert_reads_on(&server, old, &mut cleo);
}

#[test]
fn a_client_that_is_gone_while_it_waits_leaves_the_reader() {
    let kill = |scene: &Scene| assert_eq!(ask(&scene.server, &format!("CLIENT KILL ID {}", scene.id)), 1);
    for is_killed in [true, false] {
        let scene = scene(UPGRADE);
        let mut cleo = reader_behind(&scene.server);
        if is_killed {
            kill(&scene);
        }
        let Scene { server, old, ann, .. } = scene;
        drop(ann);
        assert_reads_on(&server, old, &mut cleo);
    }
}

#[test]
fn unblocked_it_is_nil_an_error_or_not_done() {
    for (how, told) in
        [("", None), ("TIMEOUT", None), ("ERROR", Some("UNBLOCKED client unblocked via CLIENT UNBLOCK"))]
    {
        let Scene { server, old, mut ann, id, .. } = scene(UPGRADE);
        let mut cleo = reader_behind(&server);
        let done = ask(&server, &format!("CLIENT UNBLOCK {id} {how}")).int();
        assert_eq!(done, i64::from(is_modern(&server)));
        if done == 0 {
            release(&server, "k", "ben");
            assert_granted(&server, &mut ann, "k", "ann");
            continue;
        }
        let reply = ann.read();
        assert!(told.map_or(reply == Value::Nil, |text| reply == text), "{how}: {reply:?}");
        assert_reads_on(&server, old, &mut cleo);
    }
}

#[test]
fn when_its_own_hold_ends_the_wait_ends_with_it() {
    for (line, ben_stays) in [
        ("LOCK.RELEASE k ann", true),
        ("LOCK.RELEASE k ann ALL", true),
        ("LOCK.RENEW k ann PX 1", true),
        ("DEL k", false),
        ("UNLINK k", false),
        ("FLUSHALL", false),
        ("RENAME k elsewhere", false),
        ("MOVE k 5", false),
    ] {
        let Scene { server, mut ann, .. } = scene("LOCK.CONVERT k ann EXCLUSIVE BLOCK 0 WITHINFO");
        let mut cleo = reader_behind(&server);
        assert!(!matches!(ask(&server, line), Value::Error(_)), "{line}");
        let report = ann.read();
        assert_eq!(report.field("result"), &Value::Nil, "{line}");
        assert_eq!(
            (report.field("reason"), report.field("fence")),
            (&Value::bulk("hold-ended"), &Value::Nil),
            "{line}"
        );
        fence_of(&cleo.read());
        assert_shown(&server, "shared", if ben_stays { &["ben", "cleo"] } else { &["cleo"] });
        wait_quiet(&server);
    }
}

#[test]
fn another_hold_of_the_same_owner_is_not_the_one_that_waited() {
    let Scene { server, mut ann, .. } = scene(UPGRADE);
    let mut conn = server.connect();
    conn.send_together(&[
        &words("LOCK.RELEASE k ann"),
        &words("LOCK.ACQUIRE k ann SHARED"),
        &words("LOCK.RELEASE k ben"),
    ]);
    assert_eq!(conn.read(), 1);
    fence_of(&conn.read());
    assert_eq!(conn.read(), 1);
    assert_eq!(ann.read(), Value::Nil);
    assert_shown(&server, "shared", &["ann"]);
}

#[test]
fn part_of_a_reentrant_hold_may_go_meanwhile() {
    let Scene { server, old, mut ann, .. } = scene(UPGRADE);
    assert_eq!(ask(&server, "LOCK.ACQUIRE k ann SHARED REENTRANT inner"), old);
    release(&server, "k", "ann");
    ann.expect_nothing_pending();
    release(&server, "k", "ben");
    let fence = assert_granted(&server, &mut ann, "k", "ann");
    assert_eq!(ask(&server, &format!("LOCK.RELEASE k ann FENCE {fence} REENTRANT inner")), 1);
    assert_eq!(ask(&server, "EXISTS k"), 0);
}

#[test]
fn an_overwritten_key_ends_the_wait_with_an_error() {
    let Scene { server, mut ann, .. } = scene(UPGRADE);
    let mut cleo = reader_behind(&server);
    set_string(&server, "k");
    for waiter in [&mut ann, &mut cleo] {
        assert_eq!(waiter.read(), "WRONGTYPE the key was overwritten with a value that is not a lock");
    }
    assert_eq!(ask(&server, "GET k"), "text");
    wait_quiet(&server);
}

#[test]
fn a_reload_keeps_the_wait() {
    let Scene { server, old, mut ann, .. } = scene(UPGRADE);
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    ann.expect_nothing_pending();
    assert!(ask(&server, &format!("LOCK.CHECK k ann FENCE {old}")).int() > 0);
    release(&server, "k", "ben");
    assert!(assert_granted(&server, &mut ann, "k", "ann") > old);
}

#[test]
fn the_second_reader_that_wants_to_write_is_refused_searching_or_not() {
    for detection in ["yes", "no"] {
        let Scene { server, ben, mut ann, .. } = scene(UPGRADE);
        assert_eq!(ask(&server, &format!("CONFIG SET lock.deadlock-detection {detection}")), "OK");
        let before = lock_stat(&server, "deadlocks");
        assert_changes_nothing(&server, || {
            for end in ["BLOCK 0", "BLOCK 5 WITHINFO", &format!("BLOCK 0 FENCE {ben}")] {
                assert_eq!(
                    ask(&server, &format!("LOCK.CONVERT k ben EXCLUSIVE {end}")),
                    DEADLOCK,
                    "{detection}"
                );
            }
            assert_eq!(ask(&server, "LOCK.CONVERT k ben EXCLUSIVE"), Value::Nil, "a try never waits");
        });
        assert_eq!(lock_stat(&server, "deadlocks"), before + 3);
        assert_eq!(queue(&server, "k"), ["ann"]);
        ann.expect_nothing_pending();
        release(&server, "k", "ben");
        assert_granted(&server, &mut ann, "k", "ann");
    }
}

#[test]
fn a_circle_over_another_lock_is_found_where_circles_are_searched() {
    let server = Server::start();
    read(&server, "ann");
    read(&server, "ben");
    acquire(&server, "other ann");
    let mut ben = in_line(&server, "LOCK.ACQUIRE other ben BLOCK 0");
    let text = "DEADLOCK this wait would never end: 'ann' waits for 'k' behind 'ben', \
                'ben' waits for 'other' behind 'ann'; release what you hold and begin again";
    assert_changes_nothing(&server, || assert_eq!(ask(&server, UPGRADE), text));
    assert_eq!(ask(&server, "CONFIG SET lock.deadlock-detection no"), "OK");
    let mut ann = in_line(&server, UPGRADE);
    release(&server, "other", "ann");
    assert_granted(&server, &mut ben, "other", "ben");
    release(&server, "k", "ben");
    assert_granted(&server, &mut ann, "k", "ann");
}

#[test]
fn the_same_owner_elsewhere_takes_the_wait_over() {
    let Scene { server, mut ann, .. } = scene("LOCK.CONVERT k ann EXCLUSIVE BLOCK 0 WITHINFO");
    let mut newer = server.connect();
    newer.send(&words(UPGRADE));
    let report = ann.read();
    assert_eq!((report.field("result"), report.field("reason").text().as_str()), (&Value::Nil, "superseded"));
    assert_eq!(queue(&server, "k"), ["ann"]);
    release(&server, "k", "ben");
    assert_granted(&server, &mut newer, "k", "ann");
}

#[test]
fn what_the_owner_asks_beside_its_wait_leaves_it_alone() {
    let Scene { server, old, mut ann, .. } = scene(UPGRADE);
    assert_changes_nothing(&server, || {
        assert_eq!(ask(&server, "LOCK.CONVERT k ann EXCLUSIVE"), Value::Nil);
        assert_eq!(ask(&server, "LOCK.CONVERT k ann SHARED"), old);
    });
    assert_eq!(queue(&server, "k"), ["ann"]);
    release(&server, "k", "ben");
    assert_granted(&server, &mut ann, "k", "ann");
}

#[test]
fn there_must_be_room_in_the_line() {
    let server = Server::start();
    read(&server, "ann");
    read(&server, "ben");
    let _wilma = in_line(&server, "LOCK.ACQUIRE k wilma BLOCK 0");
    assert_eq!(ask(&server, "CONFIG SET lock.max-waiters-per-key 1"), "OK");
    let full = "QUEUEFULL 1 clients wait for this key; raise lock.max-waiters-per-key or try later";
    assert_changes_nothing(&server, || assert_eq!(ask(&server, UPGRADE), full));
    assert_eq!(queue(&server, "k"), ["wilma"]);
}

/// Ben leaves and Ann's client is killed in one step; between the two, `between` is done. Ann's client must not have heard.
fn grant_and_kill(scene: &mut Scene, between: &[&str]) -> Vec<Value> {
    let kill = format!("CLIENT KILL ID {}", scene.id);
    let mut lines = vec![words("LOCK.RELEASE k ben")];
    lines.extend(between.iter().map(|line| words(line)));
    lines.push(words(&kill));
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    let replies = transaction(&mut scene.server.connect(), &lines);
    assert_eq!((&replies[0], &replies[replies.len() - 1]), (&Value::Int(1), &Value::Int(1)));
    scene.ann.expect_closed();
    replies
}

#[test]
fn an_upgrade_that_nobody_heard_of_is_taken_back_to_the_old_fence() {
    let mut scene = scene(UPGRADE);
    let mut cleo = reader_behind(&scene.server);
    let mut events = Events::listen(&scene.server);
    let replies = grant_and_kill(&mut scene, &["LOCK.INFO k"]);
    let Scene { server, old, .. } = &scene;
    let meanwhile = replies[1].field("holds").items()[0].field("fence").int();
    assert!(meanwhile > *old, "it was granted: {replies:?}");
    let third = fence_of(&cleo.read());
    assert!(third > meanwhile);
    assert_shown(server, "shared", &["ann", "cleo"]);
    assert_left(&ask(server, &format!("LOCK.CHECK k ann FENCE {old}")), 60_000);
    assert_eq!(ask(server, &format!("LOCK.CHECK k ann FENCE {meanwhile}")), 0);
    assert_eq!(
        events.heard(),
        ["k lock.released", "k lock.acquired", "k lock.downgraded", "k lock.acquired"]
    );
    assert_eq!(lock_stat(server, "undone"), 1);
    wait_quiet(server);
    // It is a hold like any other: it can be renewed, upgraded again, and its lease ends.
    release(server, "k", "cleo");
    assert!(granted(server, "LOCK.CONVERT k ann EXCLUSIVE") > third);
    assert_eq!(ask(server, "LOCK.RENEW k ann PX 100"), 100);
    wait_until("its lease to end", || ask(server, "EXISTS k") == 0);
}

#[test]
fn an_upgrade_that_its_owner_knows_of_stays() {
    for line in ["LOCK.CONVERT k ann EXCLUSIVE", "LOCK.ACQUIRE k ann", "LOCK.RENEW k ann"] {
        let mut scene = scene(UPGRADE);
        let replies = grant_and_kill(&mut scene, &[line]);
        let Scene { server, old, .. } = &scene;
        assert!(!matches!(replies[1], Value::Nil | Value::Error(_)), "{line}: {replies:?}");
        wait_quiet(server);
        assert_shown(server, "exclusive", &["ann"]);
        assert_eq!(ask(server, &format!("LOCK.CHECK k ann FENCE {old}")), 0, "{line}");
        assert_eq!(lock_stat(server, "undone"), 0, "{line}");
    }
}

#[test]
fn an_upgrade_that_is_gone_before_it_is_taken_back() {
    for (line, shown) in [
        ("LOCK.RELEASE k ann", &["cleo"][..]),
        ("DEL k", &["cleo"]),
        ("RENAME k elsewhere", &["cleo"]),
        ("LOCK.CONVERT k ann SHARED", &["ann", "cleo"]),
    ] {
        let mut scene = scene(UPGRADE);
        let mut cleo = reader_behind(&scene.server);
        grant_and_kill(&mut scene, &[line]);
        fence_of(&cleo.read());
        wait_quiet(&scene.server);
        assert_shown(&scene.server, "shared", shown);
        assert_eq!(lock_stat(&scene.server, "undone"), 0, "{line}");
    }
}

#[test]
fn killed_and_unblocked_in_one_step_with_the_grant_time_and_again() {
    for how in ["KILL ID", "UNBLOCK"] {
        for _ in 0..15 {
            let Scene { server, old, mut ann, id, .. } = scene(UPGRADE);
            let line = format!("CLIENT {how} {id}");
            let mut conn = server.connect();
            conn.send_together(&[&words("LOCK.RELEASE k ben"), &words(&line)]);
            assert_eq!(conn.read(), 1);
            conn.read();
            let heard = ann.try_read();
            wait_quiet(&server);
            // What it was told is what the lock says.
            match heard {
                Ok(Value::Int(fence)) => {
                    assert_shown(&server, "exclusive", &["ann"]);
                    assert_holds(&server, "k", "ann", fence);
                }
                Ok(Value::Nil) | Err(_) => {
                    assert_shown(&server, "shared", &["ann"]);
                    assert_holds(&server, "k", "ann", old);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn who_may_no_longer_convert_reads_on() {
    let server = Server::start();
    for change in ["-lock.convert", "resetkeys", "resetkeys %R~k", "nocommands"] {
        let (old, _) = (read(&server, "ann"), read(&server, "ben"));
        let mut ann = queue_up(&server, user(&server, "~* +@all"), &words(UPGRADE));
        let mut cleo = reader_behind(&server);
        assert_eq!(ask(&server, &format!("ACL SETUSER temp {change}")), "OK");
        ann.expect_nothing_pending();
        release(&server, "k", "ben");
        assert_eq!(ann.read(), RIGHT_TAKEN_AWAY, "{change}");
        fence_of(&cleo.read());
        assert_shown(&server, "shared", &["ann", "cleo"]);
        assert_holds(&server, "k", "ann", old);
        release(&server, "k", "ann");
        release(&server, "k", "cleo");
        wait_waiting(&server, "k", 0);
    }
    assert_eq!(waiting(&server, "k"), 0);
}
