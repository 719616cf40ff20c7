//! K1, K2. Errors that were taken for a yes, and cleaners that took locks from the living: only a grant is a grant, and only a
//! lease, a release or an operator ends it.

use crate::steps::{acquire_by, ask, words, WRONGTYPE};
use crate::support::cli::Cli;
use crate::support::{wait_until, Connection, Server, Value};
use crate::traffic::{lock_stat, wait_no_child};

/// `worker` has not got `k`, and does not wait for it.
fn assert_has_nothing(server: &Server, why: &str) {
    let left = ask(server, "LOCK.CHECK k worker");
    assert!(left == 0 || left == WRONGTYPE, "{why}: {left:?}");
    assert_eq!(lock_stat(server, "waiting"), 0, "{why}");
}

/// The request fails with this code, whether it may wait or not, and whichever command makes it.
fn assert_fails(server: &Server, conn: &mut Connection, code: &str, options: &str) {
    for line in [
        format!("LOCK.ACQUIRE k worker {options}"),
        format!("LOCK.ACQUIRE k worker {options} BLOCK 50"),
        format!("LOCK.MACQUIRE worker 2 j k {options}"),
    ] {
        let reply = conn.cmd(&words(&line));
        let is_refused = matches!(&reply, Value::Error(text) if text.starts_with(code));
        assert!(is_refused, "{line} is not refused with {code}: {reply:?}");
        assert_has_nothing(server, &line);
    }
}

/// An error of the connection, or a lease of zero, was taken for a yes, and all processes did at once what one of them was to
/// do. What a client makes of an error is the client's; here a yes is a number above zero and nothing else is, each refusal
/// is an error with a code, and after an error the one who asked has nothing: no lock, no place in line.
#[test]
fn k1_an_error_is_never_a_yes() {
    let refused = |code: &str, options: &str, before: &str| {
        let server = Server::start();
        let reply = ask(&server, before);
        assert!(!matches!(reply, Value::Error(_)), "{before}: {reply:?}");
        assert_fails(&server, &mut server.connect(), code, options);
    };
    for options in ["PX 0", "EX 0", "PX -1", "PX 1.5", "PX", "BLOCK", "BLOCK -1", "XX", "NOEXPIRE PX 5"] {
        refused("BADARG ", options, "PING");
    }
    refused("WRONGTYPE ", "", "SET k text");
    refused("LOCKMODE ", "SHARED", "LOCK.ACQUIRE k other LIMIT 3");
    refused("LOCKLIMIT ", "LIMIT 2", "LOCK.ACQUIRE k other LIMIT 3");
    refused("OOM ", "", "CONFIG SET maxmemory 1");
    refused("NOREPLICAS ", "", "CONFIG SET min-replicas-to-write 1");
    refused("READONLY ", "", "REPLICAOF 127.0.0.1 1");
    refused("NOAUTH ", "", "CONFIG SET requirepass secret");
    refused("NOPERM ", "", "ACL SETUSER default -lock.acquire -lock.macquire");
}

/// A cleaner looked for locks whose holders seemed to be dead, and took them from the living, or left those of the dead.
/// Here nobody guesses who lives: a hold ends with its lease and stays until then, though its holder is killed, silent for
/// long, or cut off, and whatever the server does meanwhile.
#[test]
fn k2_nobody_guesses_who_lives() {
    let server = Server::with(&["hz 500", "appendonly yes"]);
    let mut process = Cli::start(server.port());
    for line in ["LOCK.ACQUIRE for-ever dead NOEXPIRE", "LOCK.ACQUIRE leased dead PX 600000"] {
        process.send(line);
        assert!(process.answer().expect("an answer")[0].starts_with("(integer) "), "{line}");
    }
    drop(process);
    let mut idle = server.connect();
    acquire_by(&mut idle, "idle silent NOEXPIRE");
    let fences = || {
        ["for-ever", "leased", "idle"].map(|key| {
            let info = server.cmd(&["LOCK.INFO", key]);
            info.field("holds").items()[0].field("fence").int()
        })
    };
    let before = fences();

    for n in 0..2_000 {
        acquire_by(&mut idle, &format!("other-{n} o PX 20"));
    }
    wait_until("the leases of others to end", || lock_stat(&server, "expired") == 2_000);
    assert_eq!(ask(&server, "CLIENT KILL TYPE normal SKIPME yes").int(), 1);
    idle.expect_closed();
    assert_eq!(ask(&server, "DEBUG RELOAD"), "OK");
    assert!(!matches!(ask(&server, "BGREWRITEAOF"), Value::Error(_)));
    wait_no_child(&server);
    assert_eq!(fences(), before);
    assert_eq!(server.cmd(&["DBSIZE"]), 3);
    // The dead one's lease is as long as it was asked for, and no longer.
    assert_eq!(ask(&server, "LOCK.RENEW leased dead PX 20"), 20);
    wait_until("the lease of the dead to end", || server.cmd(&["EXISTS", "leased"]) == 0);
}
