//! Calls that come from another module in the same server: they cannot wait, and may have no user.

use crate::steps::{acquire, ask, assert_holds, fence_of, holder, is_modern, wait_for_lock, words};
use crate::support::compile::shared_object;
use crate::support::{assert_stream, ReplicaStream, Server, Setup, Value};
use crate::traffic::follow;

/// A server with a module that runs what it is told to run; nothing, said aloud, where that cannot be built.
pub(crate) fn with_caller(case: &str) -> Option<Server> {
    let dir = tempfile::Builder::new().prefix("lock-caller-").tempdir().expect("a directory");
    let caller = shared_object(case, "caller/caller.c", dir.path())?;
    Some(Setup::new().conf(&[format!("loadmodule {}", caller.display())]).start())
}

/// What another module gets when it runs a command on its own account, or, with `C`, as the user who called it.
pub(crate) fn run(server: &Server, format: &str, line: &str) -> Value {
    ask(server, &format!("CALLER.RUN {format} {line}"))
}

#[test]
fn it_can_hold_locks_and_never_waits() {
    let Some(server) = with_caller("calls of another module") else { return };
    let mut stream = ReplicaStream::attach(&server);
    let fence = fence_of(&run(&server, "!v", "LOCK.ACQUIRE k module NOEXPIRE"));
    assert_holds(&server, "k", "module", fence);
    for format in ["!v", "!Cv"] {
        assert_eq!(run(&server, format, "LOCK.ACQUIRE k other BLOCK 0"), Value::Nil);
        assert_eq!(run(&server, format, "LOCK.MACQUIRE other 2 k l BLOCK 0"), Value::Nil);
    }
    let mut waiter = wait_for_lock(&server, "k", "bob");
    assert_eq!(run(&server, "!v", "LOCK.RELEASE k module"), 1);
    let next = fence_of(&waiter.read());
    // There is nobody with whose rights to run it.
    assert!(run(&server, "!v", &format!("LOCK.GUARD k bob {next} PING")).error().contains("no user"));
    assert_eq!(run(&server, "!Cv", &format!("LOCK.GUARD k bob {next} PING")), "PONG");
    let seen: Vec<String> = stream.collect(&server).into_iter().map(|words| words[0].clone()).collect();
    assert_eq!(seen, ["LOCK._HOLD", "LOCK._STEP"]);
}

#[test]
fn it_need_not_be_anybody() {
    let Some(server) = with_caller("calls without a user") else { return };
    acquire(&server, "k alice");
    acquire(&server, "l bob");
    let _waits = wait_for_lock(&server, "l", "alice");
    // These say who did it, or what a user may see.
    assert_eq!(run(&server, "!v", "LOCK.BREAK k REASON cleanup"), 1);
    fence_of(&run(&server, "!v", "LOCK.STEAL k bob"));
    assert_eq!(holder(&server, "k").as_deref(), Some("bob"));
    fence_of(&run(&server, "!Cv", "LOCK.STEAL k carol"));
    acquire(&server, "m bob");
    let refused = run(&server, "!v", "LOCK.TRANSFER m bob alice");
    assert!(matches!(refused, Value::Int(_)), "{refused:?}");
    let log = server.log();
    let told: Vec<&str> = log.lines().filter_map(|line| Some(&line[line.find("lock: event=")?..])).collect();
    let [broke, stole, as_user] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(*broke, "lock: event=break user='?' key='k' reason='cleanup' holds=1 from='alice'");
    assert!(stole.starts_with("lock: event=steal user='?' key='k' owner='bob' fence="), "{stole}");
    assert!(
        as_user.starts_with("lock: event=steal user='default' key='k' owner='carol' fence="),
        "{as_user}"
    );
}

#[test]
fn its_registers_are_those_of_clients() {
    let Some(server) = with_caller("registers of another module") else { return };
    let mut stream = ReplicaStream::attach(&server);
    assert_eq!(run(&server, "!v", "LOCK.FENCE k 7"), 1);
    assert_eq!(run(&server, "!v", "LOCK.FENCE k 6"), 0);
    assert_stream(&stream.collect(&server), &[&["SET", "k", "7", "KEEPTTL"]]);
    assert_eq!(ask(&server, "LOCK.FENCE k 6"), 0);
}

/// docs/design.md: why no grant waits for replicas. A module that asks WAIT is told that a replica has everything which does not
/// even run; a client is told how it is.
#[test]
fn wait_tells_a_module_what_is_not_so() {
    let Some(server) = with_caller("WAIT of another module") else { return };
    let replica = Server::start();
    follow(&replica, &server);
    replica.signal("STOP");
    let mut conn = server.connect();
    fence_of(&conn.cmd(&words("LOCK.ACQUIRE k alice NOEXPIRE")));
    assert_eq!(conn.cmd(&words("WAIT 1 100")), 0);
    fence_of(&run(&server, "!v", "LOCK.ACQUIRE l alice NOEXPIRE"));
    let formats: &[&str] = if is_modern(&server) { &["v", "Kv"] } else { &["v"] };
    for format in formats {
        assert_eq!(run(&server, format, "WAIT 1 100"), 1, "{format}");
    }
    replica.signal("CONT");
}
