//! The harness tried on itself, on a server without the module: a test that passes because its tools are blind is worse
//! than none.

use crate::support::aof::{read_aof, Base};
use crate::support::cli::Cli;
use crate::support::wait::{wait_blocked_clients, wait_replica_in_sync};
use crate::support::{assert_stream, ReplicaStream, Stop, Value};
use crate::support::{free_port, Setup};

#[test]
fn servers_have_their_own_port_directory_and_process() {
    let (one, two) = (Setup::plain().start(), Setup::plain().start());
    assert_ne!(one.port(), two.port());
    assert_ne!(one.dir(), two.dir());
    assert_ne!(one.pid(), two.pid());
    assert_eq!(one.cmd(&["SET", "k", "v"]), "OK");
    assert_eq!(two.cmd(&["GET", "k"]), Value::Nil);
}

#[test]
fn a_taken_port_is_replaced_by_another() {
    let mut server = Setup::plain().start();
    let old = server.port();
    server.stop(Stop::Kill);
    let _squatter = std::net::TcpListener::bind(("127.0.0.1", old)).unwrap();
    server.start_again();
    assert_ne!(server.port(), old);
    assert_eq!(server.cmd(&["PING"]), "PONG");
}

#[test]
fn free_ports_differ_from_call_to_call() {
    let mut ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50);
}

#[test]
fn a_refused_configuration_comes_back_as_the_log() {
    let Err(log) = Setup::plain().conf(&["no-such-directive 1"]).try_start() else { panic!("it started") };
    assert!(log.contains("no-such-directive"), "{log}");
}

#[test]
fn a_restart_keeps_the_directory() {
    let mut server = Setup::plain().conf(&["appendonly yes", "appendfsync always"]).start();
    assert_eq!(server.cmd(&["SET", "k", "v"]), "OK");
    server.restart(Stop::Kill);
    assert_eq!(server.cmd(&["GET", "k"]), "v");
}

#[test]
fn a_restart_keeps_a_rewritten_configuration() {
    let mut server = Setup::plain().start();
    assert_eq!(server.cmd(&["CONFIG", "SET", "hz", "37"]), "OK");
    assert_eq!(server.cmd(&["CONFIG", "REWRITE"]), "OK");
    server.restart(Stop::Kill);
    assert_eq!(server.config("hz"), "37");
}

#[test]
fn an_rdb_file_can_be_given_to_another_server() {
    let mut one = Setup::plain().start();
    assert_eq!(one.cmd(&["SET", "k", "v"]), "OK");
    one.stop(Stop::Save);
    let two = Setup::plain().file(&one.dir().join("dump.rdb"), "dump.rdb").start();
    assert_eq!(two.cmd(&["GET", "k"]), "v");
}

#[test]
fn the_environment_reaches_the_server() {
    let server = Setup::plain().env("LD_PRELOAD", "no-such-shim.so").start();
    // The dynamic linker complains about what it cannot find, and starts the program all the same.
    assert!(server.log().contains("no-such-shim.so"), "{}", server.log());
}

#[test]
fn the_version_is_the_servers_own() {
    let server = Setup::plain().start();
    let version = server.version();
    assert!(version >= (7, 0, 12), "{version:?}");
    assert_eq!(server.is_valkey(), server.info("server").contains_key("valkey_version"));
}

#[test]
fn replies_keep_their_types_in_resp2_and_resp3() {
    let server = Setup::plain().start();
    let mut conn = server.connect();
    assert_eq!(conn.cmd(&["GET", "none"]), Value::Nil);
    conn.send(&["GET", "none"]);
    conn.expect_bytes(b"$-1\r\n");
    assert_eq!(conn.cmd(&["BLPOP", "none", "0.001"]), Value::NilArray);
    assert_eq!(conn.cmd(&["HSET", "h", "f", "v"]), 1);
    assert_eq!(conn.cmd(&["HGETALL", "h"]), Value::Array(vec![Value::bulk("f"), Value::bulk("v")]));
    assert_eq!(conn.cmd(&["HGETALL", "h"]).field("f"), &"v");
    assert_eq!(conn.cmd(&["NOPE"]).error().split(' ').next(), Some("ERR"));

    let mut conn = server.connect().hello3();
    assert_eq!(conn.cmd(&["GET", "none"]), Value::Nil);
    conn.send(&["GET", "none"]);
    conn.expect_bytes(b"_\r\n");
    assert_eq!(conn.cmd(&["HGETALL", "h"]), Value::Map(vec![(Value::bulk("f"), Value::bulk("v"))]));
    assert_eq!(conn.cmd(&["HGETALL", "h"]).field("f"), &"v");
}

#[test]
fn commands_sent_together_are_answered_in_order() {
    let server = Setup::plain().start();
    let mut conn = server.connect();
    conn.send_together(&[&["SET", "k", "1"], &["INCR", "k"], &["GET", "k"]]);
    assert_eq!(conn.read(), "OK");
    assert_eq!(conn.read(), 2);
    assert_eq!(conn.read(), "2");
    conn.expect_nothing_pending();
}

#[test]
fn a_blocked_command_has_nothing_pending_until_it_is_served() {
    let server = Setup::plain().start();
    let mut blocked = server.connect();
    blocked.send(&["BLPOP", "list", "0"]);
    wait_blocked_clients(&server, 1);
    blocked.expect_nothing_pending();
    assert_eq!(server.cmd(&["RPUSH", "list", "x"]), 1);
    assert_eq!(blocked.read(), Value::Array(vec![Value::bulk("list"), Value::bulk("x")]));
}

#[test]
#[should_panic(expected = "a reply came that must not come yet")]
fn an_early_reply_is_noticed() {
    let server = Setup::plain().start();
    let mut blocked = server.connect();
    blocked.send(&["BLPOP", "list", "0"]);
    wait_blocked_clients(&server, 1);
    assert_eq!(server.cmd(&["RPUSH", "list", "x"]), 1);
    assert_eq!(server.cmd(&["PING"]), "PONG");
    blocked.expect_nothing_pending();
}

#[test]
fn a_closed_connection_is_noticed() {
    let server = Setup::plain().start();
    let mut conn = server.connect();
    let id = conn.id().to_string();
    assert_eq!(server.cmd(&["CLIENT", "KILL", "ID", &id]), 1);
    conn.expect_closed();
}

#[test]
fn the_replication_stream_holds_the_writes_and_nothing_else() {
    let server = Setup::plain().start();
    assert_eq!(server.cmd(&["SET", "before", "1"]), "OK");
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(server.cmd(&["SET", "k", "17"]), "OK");
    assert_eq!(server.cmd(&["GET", "k"]), "17");
    let bindings = assert_stream(&stream.collect(&server), &[&["SET", "k", "<fence>"]]);
    assert_eq!(bindings["fence"], "17");
    assert_stream(&stream.collect(&server), &[]);

    let mut conn = server.connect().select(5);
    conn.send_together(&[&["MULTI"], &["DEL", "none"], &["INCR", "a"], &["INCR", "b"], &["EXEC"]]);
    for _ in 0..5 {
        conn.read();
    }
    let got = stream.collect(&server);
    assert_stream(&got, &[&["MULTI"], &["INCR", "a"], &["INCR", "b"], &["EXEC"]]);
}

#[test]
fn the_stream_shows_the_database_when_asked() {
    let server = Setup::plain().start();
    let mut stream = ReplicaStream::attach(&server).with_select();
    assert_eq!(server.connect().select(5).cmd(&["SET", "k", "v"]), "OK");
    let got = stream.collect(&server);
    assert_eq!(got[..2], [vec!["SELECT", "5"], vec!["SET", "k", "v"]]);
}

#[test]
#[should_panic(expected = "but these came:\n  SET k v")]
fn an_unexpected_command_in_the_stream_is_noticed() {
    let server = Setup::plain().start();
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(server.cmd(&["SET", "k", "v"]), "OK");
    assert_stream(&stream.collect(&server), &[]);
}

#[test]
fn the_aof_is_read_with_and_without_a_preamble() {
    for preamble in ["yes", "no"] {
        let server =
            Setup::plain().conf(&["appendonly yes", &format!("aof-use-rdb-preamble {preamble}")]).start();
        assert_eq!(server.cmd(&["SET", "old", "1"]), "OK");
        server.cmd(&["BGREWRITEAOF"]);
        crate::support::wait_until("the rewrite to end", || {
            server.info_int("persistence", "aof_rewrite_in_progress") == 0
                && server.info_int("persistence", "aof_rewrite_scheduled") == 0
        });
        assert_eq!(server.cmd(&["SET", "new", "2"]), "OK");
        let aof = read_aof(&server);
        assert_stream(&aof.commands, &[&["SET", "new", "2"]]);
        match aof.base {
            Base::Snapshot => assert_eq!(preamble, "yes"),
            Base::Commands(commands) => {
                assert_eq!(preamble, "no");
                assert_stream(&commands, &[&["SET", "old", "1"]]);
            }
            Base::None => panic!("no base after a rewrite"),
        }
    }
}

#[test]
fn a_replica_catches_up() {
    let (primary, replica) = (Setup::plain().start(), Setup::plain().start());
    assert_eq!(primary.cmd(&["SET", "k", "v"]), "OK");
    assert_eq!(replica.cmd(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(replica.cmd(&["GET", "k"]), "v");
    assert_eq!(primary.cmd(&["SET", "k", "w"]), "OK");
    wait_replica_in_sync(&primary, &replica);
    assert_eq!(replica.cmd(&["GET", "k"]), "w");
}

#[test]
fn redis_cli_answers_as_in_a_terminal() {
    let server = Setup::plain().start();
    let mut cli = Cli::start(server.port());
    let mut ask = |line: &str| {
        cli.send(line);
        cli.answer().unwrap()
    };
    assert_eq!(ask("SET k \"a b\""), ["OK"]);
    assert_eq!(ask("GET k"), ["\"a b\""]);
    assert_eq!(ask("GET none"), ["(nil)"]);
    assert_eq!(ask("RPUSH l x y"), ["(integer) 2"]);
    assert_eq!(ask("LRANGE l 0 -1"), ["1) \"x\"", "2) \"y\""]);
    // The connection keeps its state, and the mark at the end of an answer does not disturb a transaction.
    assert_eq!(ask("MULTI"), ["OK"]);
    assert_eq!(ask("INCR n"), ["QUEUED"]);
    assert_eq!(ask("EXEC"), ["1) (integer) 1"]);
}
