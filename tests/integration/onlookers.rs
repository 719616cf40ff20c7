//! What others notice of a change to a lock: WATCH, the server's word on who may ask. Holds no test; what is to be noticed is
//! for the tests to say.

use crate::steps::{ask, is_modern, words};
use crate::support::{Connection, Server, Value};

/// Whether a transaction of a client that watches `k` goes through after `change`.
pub(crate) fn goes_through<T>(server: &Server, change: impl FnOnce() -> T) -> bool {
    let mut watcher = server.connect();
    assert_eq!(watcher.cmd(&["WATCH", "k"]), "OK");
    change();
    assert_eq!(watcher.cmd(&["MULTI"]), "OK");
    assert_eq!(watcher.cmd(&["PING"]), "QUEUED");
    match watcher.cmd(&["EXEC"]) {
        Value::Array(_) => true,
        Value::NilArray => false,
        other => panic!("{other:?}"),
    }
}

/// What somebody is told who has lost, while waiting, a right that the command needs.
pub(crate) const RIGHT_TAKEN_AWAY: &str =
    "NOPERM the right to this key was taken away while waiting; ask an administrator";

/// A connection of a user with these rules and nothing else.
pub(crate) fn user(server: &Server, rules: &str) -> Connection {
    assert_eq!(ask(server, &format!("ACL SETUSER temp reset on nopass {rules}")), "OK");
    let mut conn = server.connect();
    assert_eq!(conn.cmd(&words("AUTH temp x")), "OK");
    conn
}

/// Whether a user with these rules may run the command.
pub(crate) fn is_allowed(server: &Server, rules: &str, line: &str) -> bool {
    is_allowed_on(server, &mut user(server, rules), line)
}

/// The same for a connection of that user; what the server says beforehand and what it does must be the same.
pub(crate) fn is_allowed_on(server: &Server, conn: &mut Connection, line: &str) -> bool {
    let dry_run = ask(server, &format!("ACL DRYRUN temp {line}"));
    let reply = conn.cmd(&words(line));
    let refused = matches!(&reply, Value::Error(text) if text.starts_with("NOPERM "));
    assert_eq!(dry_run == "OK", !refused, "{line}: {dry_run:?} before, {reply:?} then");
    !refused
}

/// The command reads and changes `k`, and takes the rights to both; its name alone gives the right to run it, and so do
/// its categories where modules have any.
pub(crate) fn assert_writes_k(server: &Server, line: &str) {
    let keys = ask(server, &format!("COMMAND GETKEYSANDFLAGS {line}"));
    let [key] = keys.items() else { panic!("{line}: {keys:?}") };
    let [name, flags] = key.items() else { panic!("{line}: {keys:?}") };
    assert_eq!(name, &"k");
    assert_eq!(
        flags.items().iter().map(Value::text).collect::<Vec<_>>(),
        ["RW", "access", "update"],
        "{line}"
    );
    let name = line.split(' ').next().unwrap().to_lowercase();
    for (rules, allowed) in [
        (format!("~k +{name}"), true),
        (format!("%R~k %W~k +{name}"), true),
        (format!("%R~k +{name}"), false),
        (format!("%W~k +{name}"), false),
        (format!("~other +{name}"), false),
        (format!("~* +@all -{name}"), false),
    ] {
        assert_eq!(is_allowed(server, &rules, line), allowed, "{rules}: {line}");
    }
    if is_modern(server) {
        for category in ["lock", "write"] {
            assert!(is_allowed(server, &format!("~k +@{category}"), line), "{line}");
            assert!(!is_allowed(server, &format!("~* +@all -@{category}"), line), "{line}");
        }
    }
}
