//! The AOF and replicas may begin and cease to listen at any moment, also while clients are at full speed. Whoever listens
//! has the same locks in the end, and has never been sent a command that is not an effect.

use crate::backlog::{assert_only_effects, commands_in_backlog, commands_up_to_now, psync, read_snapshot};
use crate::steps::{acquire, acquire_by, digest};
use crate::support::aof::read_aof;
use crate::support::wait::wait_replica_in_sync;
use crate::support::{skip, wait_until, ReplicaStream, Server, Setup, Stop};
use crate::traffic::{follow, is_effect, replica_of, wait_no_child, Traffic};

/// So that a replica that was away for a second has not missed too much to go on.
const LONG_BACKLOG: &str = "repl-backlog-size 100mb";

fn aof_on(server: &Server) {
    assert_eq!(server.cmd(&["CONFIG", "SET", "appendonly", "yes"]), "OK");
    wait_no_child(server);
}

/// The AOF holds effects only, and says what the keyspace says.
fn assert_aof_is_true(server: &Server) {
    let odd: Vec<_> = read_aof(server).commands.into_iter().filter(|words| !is_effect(&words[0])).collect();
    assert!(odd.is_empty(), "{} commands in the AOF are not effects, such as {:?}", odd.len(), odd[0]);
    let before = digest(server);
    assert_eq!(server.cmd(&["DEBUG", "LOADAOF"]), "OK");
    assert_eq!(digest(server), before, "the AOF says something else than the keyspace");
}

fn assert_same_data(primary: &Server, replica: &Server) {
    wait_replica_in_sync(primary, replica);
    assert_eq!(digest(replica), digest(primary));
}

#[test]
fn the_aof_is_switched_on_and_off_during_traffic() {
    for preamble in ["yes", "no"] {
        let server = Server::with(&[&format!("aof-use-rdb-preamble {preamble}")]);
        for _ in 0..3 {
            let traffic = Traffic::start(&server, 2);
            traffic.go_on();
            aof_on(&server);
            traffic.go_on();
            traffic.stop();
            assert_aof_is_true(&server);
            assert_eq!(server.cmd(&["CONFIG", "SET", "appendonly", "no"]), "OK");
        }
    }
}

#[test]
fn the_aof_is_switched_on_while_a_snapshot_is_made() {
    let server = Server::start();
    for key in 0..50 {
        acquire(&server, &format!("key-{key} o NOEXPIRE"));
    }
    let traffic = Traffic::start(&server, 2);
    assert_eq!(server.cmd(&["CONFIG", "SET", "rdb-key-save-delay", "10000"]), "OK");
    server.cmd(&["BGSAVE"]);
    assert_eq!(server.cmd(&["CONFIG", "SET", "appendonly", "yes"]), "OK");
    assert_eq!(server.info_int("persistence", "aof_rewrite_scheduled"), 1, "the snapshot was too fast");
    assert_eq!(server.cmd(&["CONFIG", "SET", "rdb-key-save-delay", "0"]), "OK");
    wait_no_child(&server);
    traffic.go_on();
    traffic.stop();
    assert_aof_is_true(&server);
}

#[test]
fn the_aof_is_switched_on_while_a_rewrite_without_it_is_made() {
    let server = Server::start();
    for key in 0..50 {
        acquire(&server, &format!("key-{key} o NOEXPIRE"));
    }
    let traffic = Traffic::start(&server, 2);
    assert_eq!(server.cmd(&["CONFIG", "SET", "rdb-key-save-delay", "10000"]), "OK");
    server.cmd(&["BGREWRITEAOF"]);
    assert_eq!(server.cmd(&["CONFIG", "SET", "rdb-key-save-delay", "0"]), "OK");
    aof_on(&server);
    traffic.go_on();
    traffic.stop();
    assert_aof_is_true(&server);
}

#[test]
fn the_aof_begins_between_two_commands_of_one_packet() {
    let on = &["CONFIG", "SET", "appendonly", "yes"];
    let ways: [&[&[&str]]; 3] = [
        &[&["LOCK.ACQUIRE", "a", "o"], on, &["LOCK.ACQUIRE", "b", "o"], &["LOCK.RELEASE", "a", "o"]],
        &[
            &["MULTI"],
            &["LOCK.ACQUIRE", "a", "o"],
            on,
            &["LOCK.ACQUIRE", "b", "o"],
            &["LOCK.RELEASE", "a", "o"],
            &["EXEC"],
        ],
        &[
            &["LOCK.ACQUIRE", "a", "o"],
            on,
            &[
                "EVAL",
                "redis.call('LOCK.ACQUIRE','b','o') return redis.call('LOCK.RELEASE','a','o')",
                "2",
                "a",
                "b",
            ],
        ],
    ];
    for commands in ways {
        let server = Server::start();
        let mut conn = server.connect();
        conn.send_together(commands);
        for command in commands {
            let reply = conn.read();
            assert!(!matches!(reply, crate::support::Value::Error(_)), "{command:?}: {reply:?}");
        }
        assert_eq!(server.cmd(&["EXISTS", "a", "b"]), 1);
        wait_no_child(&server);
        acquire(&server, "c o");
        assert_aof_is_true(&server);
    }
}

#[test]
fn rewrites_during_traffic_lose_and_double_nothing() {
    for preamble in ["yes", "no"] {
        let server = Server::with(&["appendonly yes", &format!("aof-use-rdb-preamble {preamble}")]);
        let traffic = Traffic::start(&server, 2);
        for _ in 0..3 {
            traffic.go_on();
            server.cmd(&["BGREWRITEAOF"]);
            wait_no_child(&server);
        }
        traffic.stop();
        assert_aof_is_true(&server);
    }
}

/// The ways in which a replica gets its first snapshot, as configuration of both servers.
fn ways_to_sync() -> Vec<Vec<&'static str>> {
    let server = Setup::plain().start();
    let mut ways = vec![
        vec!["repl-diskless-sync no"],
        vec!["repl-diskless-sync yes", "repl-diskless-sync-delay 0"],
        vec!["repl-diskless-sync yes", "repl-diskless-sync-delay 1"],
        vec!["repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-diskless-load swapdb"],
        vec!["repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-diskless-load on-empty-db"],
    ];
    let two_channels =
        if server.is_valkey() { "dual-channel-replication-enabled yes" } else { "repl-rdb-channel yes" };
    if server.is_valkey() || server.version() >= (8, 0, 0) {
        for load in ["repl-diskless-load disabled", "repl-diskless-load swapdb"] {
            ways.push(vec!["repl-diskless-sync yes", "repl-diskless-sync-delay 0", two_channels, load]);
        }
    } else {
        skip("a sync over two channels", "this server has none");
    }
    ways
}

#[test]
fn a_replica_attaches_during_traffic_in_every_way() {
    for way in ways_to_sync() {
        let (primary, replica) = (Server::with(&way), Server::with(&way));
        let traffic = Traffic::start(&primary, 2);
        traffic.go_on();
        replica_of(&replica, &primary);
        wait_until("the replica to be online", || {
            primary.info("replication").get("slave0").is_some_and(|line| line.contains("state=online"))
        });
        traffic.go_on();
        traffic.stop();
        assert_same_data(&primary, &replica);
        // A server that will not load as it is told says so and takes another way.
        assert!(!replica.log().contains("Skipping diskless-load"), "{way:?}");
    }
}

#[test]
fn a_replica_comes_and_goes_during_traffic() {
    let (primary, replica) = (Server::with(&[LONG_BACKLOG]), Server::with(&["appendonly yes"]));
    let traffic = Traffic::start(&primary, 2);
    follow_during_traffic(&replica, &primary);
    for cut in 1..=2 {
        // The link is cut, and the replica goes on where it was.
        primary.cmd(&["CLIENT", "KILL", "TYPE", "replica"]);
        wait_until("a partial resync", || primary.info_int("stats", "sync_partial_ok") == cut);
        traffic.go_on();
        // The replica leaves, has a history of its own, and starts over.
        assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
        traffic.go_on();
        follow_during_traffic(&replica, &primary);
    }
    traffic.stop();
    assert_same_data(&primary, &replica);
    wait_no_child(&replica);
    assert_aof_is_true(&replica);
}

fn follow_during_traffic(replica: &Server, primary: &Server) {
    replica_of(replica, primary);
    // One that is cut before both ends know of it goes on with a full sync.
    wait_until("the link to be up", || {
        let online =
            primary.info("replication").get("slave0").is_some_and(|line| line.contains("state=online"));
        online && replica.info("replication")["master_link_status"] == "up"
    });
}

#[test]
fn a_backlog_without_replicas_holds_effects_only() {
    let server = Server::with(&[LONG_BACKLOG]);
    let (mut conn, answer) = psync(&server, "?", -1);
    let [_, id, offset] = answer.split(' ').collect::<Vec<_>>()[..] else { panic!("{answer}") };
    read_snapshot(&mut conn);
    drop(conn);
    wait_until("the replica to be gone", || server.info_int("replication", "connected_slaves") == 0);
    let traffic = Traffic::start(&server, 2);
    traffic.go_on();
    traffic.stop();

    let (mut conn, answer) = psync(&server, id, offset.parse::<i64>().unwrap() + 1);
    assert!(answer.starts_with("+CONTINUE"), "{answer}");
    let names = commands_up_to_now(&mut conn, &server);
    assert!(names.len() > 100);
    assert_only_effects(&names);
}

#[test]
fn a_backlog_that_was_given_up_comes_back() {
    let (server, replica) = (Server::with(&["repl-backlog-ttl 1"]), Server::start());
    follow(&replica, &server);
    assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
    let traffic = Traffic::start(&server, 2);
    wait_until("the backlog to be given up", || server.info_int("replication", "repl_backlog_active") == 0);
    traffic.go_on();
    follow_during_traffic(&replica, &server);
    traffic.go_on();
    traffic.stop();
    assert_same_data(&server, &replica);
}

#[test]
fn nothing_but_effects_gets_into_the_backlog_while_a_replica_waits_for_its_snapshot() {
    // The snapshot is put off, so no child process is born when the replica asks: only the replica itself can be noticed.
    let server = Server::with(&["repl-diskless-sync yes", "repl-diskless-sync-delay 2", LONG_BACKLOG]);
    let mut replica = server.connect();
    let mut conn = server.connect();
    assert_eq!(replica.cmd(&["REPLCONF", "capa", "eof"]), "OK");
    // Nobody listens yet, which the module has just learnt.
    acquire_by(&mut conn, "before o");
    replica.send(&["PSYNC", "?", "-1"]);
    for n in 0..100 {
        acquire_by(&mut conn, &format!("after-{n} o"));
    }
    wait_until("the replica to be seen", || server.info_int("replication", "connected_slaves") == 1);
    let traffic = Traffic::start(&server, 2);
    traffic.go_on();
    traffic.stop();
    let names = commands_in_backlog(&server);
    assert!(names.len() > 100);
    assert_only_effects(&names);
}

#[test]
fn a_replica_goes_on_after_the_primary_was_restarted() {
    let (mut primary, replica) = (Server::with(&[LONG_BACKLOG, "shutdown-timeout 1"]), Server::start());
    follow(&replica, &primary);
    acquire(&primary, "k o NOEXPIRE");
    primary.restart(Stop::Save);
    // The clients are back before the replica is.
    let traffic = Traffic::start(&primary, 2);
    wait_until("the replica to be back", || primary.info_int("replication", "connected_slaves") == 1);
    traffic.go_on();
    traffic.stop();
    assert_same_data(&primary, &replica);
    assert_eq!(primary.info_int("stats", "sync_partial_ok"), 1, "the restart cost a full resync");
}

#[test]
fn a_stream_that_is_read_from_the_first_moment_holds_effects_only() {
    for _ in 0..5 {
        let server = Server::start();
        let traffic = Traffic::start(&server, 2);
        let mut stream = ReplicaStream::attach(&server);
        traffic.go_on();
        traffic.stop();
        let names: Vec<String> =
            stream.collect(&server).into_iter().map(|mut words| words.remove(0)).collect();
        assert!(names.len() > 20);
        assert_only_effects(&names);
    }
}
