//! When the module does not load, and that the log says why.

use std::os::unix::fs::PermissionsExt;

use crate::steps::{acquire, in_line};
use crate::support::compile::shared_object;
use crate::support::{skip, wait_until, Server, Setup, Value};
use crate::traffic::{lock_stat, wait_quiet};

#[test]
fn on_a_server_that_is_too_old() {
    skip(
        "the refusal to load on a server that is too old",
        "all servers that can be had here are new enough",
    );
}

#[test]
fn a_setting_that_cannot_be_is_refused_by_name_and_the_server_does_not_start() {
    for line in [
        "lock.max-lease-ms 0",
        "lock.default-lease-ms soon",
        "lock.max-wait-ms -1",
        "lock.max-waiters -1",
        "lock.max-waiters-per-key 99999999999999999999",
        "lock.events maybe",
    ] {
        let Err(log) = Setup::new().conf(&[line]).try_start() else { panic!("it started with `{line}`") };
        let name = line.split(' ').next().unwrap();
        assert!(log.contains(name), "`{line}` is not named:\n{log}");
    }
    // Redis 7.0 does not say which one it is.
    assert!(Setup::new().conf(&["lock.no-such-setting 1"]).try_start().is_err());
}

#[test]
fn it_loads_into_a_running_server_with_settings_or_not_at_all() {
    let server = Setup::plain().start();
    let path = std::env::var("MODULE_PATH").unwrap();
    let refused = server.cmd(&["MODULE", "LOADEX", &path, "CONFIG", "lock.max-waiters", "-1"]);
    assert!(matches!(refused, Value::Error(_)), "{refused:?}");
    assert_eq!(server.cmd(&["CONFIG", "GET", "lock.*"]), Value::Array(vec![]));
    assert!(server.cmd(&["LOCK.ACQUIRE", "k", "o"]).error().starts_with("ERR unknown command"));

    assert_eq!(server.cmd(&["MODULE", "LOADEX", &path, "CONFIG", "lock.max-waiters", "3"]), "OK");
    assert_eq!(server.config("lock.max-waiters"), "3");
    acquire(&server, "k o PX 50");
    wait_until("the lease to be over", || server.cmd(&["EXISTS", "k"]) == 0);
}

/// What went wrong with the load before the right one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    Value,
    Name,
    Words,
    NoFile,
    NotExecutable,
    NotAModule,
    CommandTaken,
}

/// Loads the module in a way that fails, and takes away what was in its way.
fn fail_to_load(server: &Server, path: &str, cause: Cause) {
    let dir = server.dir();
    let file = |name: &str| dir.join(name).display().to_string();
    let load = |words: &[&str]| {
        let reply = server.cmd(&[&["MODULE"], words].concat());
        assert_eq!(reply, "ERR Error loading the extension. Please check the server logs.", "{words:?}");
    };
    match cause {
        Cause::Value => {
            load(&["LOADEX", path, "CONFIG", "lock.max-tickets", "5", "CONFIG", "lock.max-waiters", "-1"]);
        }
        Cause::Name => {
            load(&["LOADEX", path, "CONFIG", "lock.max-tickets", "5", "CONFIG", "lock.nosuch", "1"]);
        }
        Cause::Words => load(&["LOAD", path, "lock.max-tickets", "5"]),
        Cause::NoFile => load(&["LOAD", &file("nothing.so")]),
        Cause::NotExecutable => {
            let copy = file("copy.so");
            std::fs::copy(path, &copy).unwrap();
            std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o644)).unwrap();
            load(&["LOAD", &copy]);
        }
        Cause::NotAModule => {
            let text = file("text.so");
            std::fs::write(&text, "text").unwrap();
            std::fs::set_permissions(&text, PermissionsExt::from_mode(0o755)).unwrap();
            load(&["LOAD", &text]);
        }
        Cause::CommandTaken => {
            let Some(other) = shared_object("a command whose name is taken", "caller/caller.c", dir) else {
                return;
            };
            let other = other.display().to_string();
            assert_eq!(server.cmd(&["MODULE", "LOAD", &other, "lock.renew"]), "OK");
            load(&["LOAD", path]);
            assert_eq!(server.cmd(&["MODULE", "UNLOAD", "caller"]), "OK");
        }
    }
}

/// Locks wait, end, are saved and loaded; and whoever is told of a client or a flush is still there.
fn assert_works(server: &Server) {
    let fence = acquire(server, "k o NOEXPIRE");
    acquire(server, "short o PX 50");
    wait_until("a lease to end", || server.cmd(&["EXISTS", "short"]) == 0);
    let mut next = in_line(server, "LOCK.ACQUIRE k next BLOCK 0");
    drop(in_line(server, "LOCK.ACQUIRE k gone BLOCK 0"));
    assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    assert!(next.read().int() > fence);
    wait_quiet(server);
    assert_eq!(server.cmd(&["FLUSHALL"]), "OK");
    assert_eq!(lock_stat(server, "lease_index_entries"), 0);
    acquire(server, "k o");
}

#[test]
fn a_load_that_failed_is_no_hindrance_to_one_that_is_right() {
    let path = std::env::var("MODULE_PATH").unwrap();
    for cause in [
        Cause::Value,
        Cause::Name,
        Cause::Words,
        Cause::NoFile,
        Cause::NotExecutable,
        Cause::NotAModule,
        Cause::CommandTaken,
    ] {
        let server = Setup::plain().start();
        if cause == Cause::Name && server.is_valkey() {
            skip(
                "a load with a name that is no setting",
                "Valkey 9.1 ends when a module with a data type is loaded so",
            );
            continue;
        }
        let has_categories = server.version() >= (7, 4, 0);
        // Twice: what the first one leaves behind must not hinder another one to fail as it did.
        for _ in 0..2 {
            fail_to_load(&server, &path, cause);
        }
        let load = server.cmd(&["MODULE", "LOADEX", &path, "CONFIG", "lock.max-waiters", "3"]);
        if cause == Cause::Name && !has_categories {
            // Redis 7.0 replies an error and keeps the module, with the settings that it knows.
            assert!(matches!(load, Value::Error(_)));
            assert_eq!(server.config("lock.max-tickets"), "5");
            assert_eq!(server.cmd(&["CONFIG", "SET", "lock.max-waiters", "3"]), "OK");
        } else {
            assert_eq!(load, "OK", "after {cause:?}");
            assert_eq!(server.config("lock.max-tickets"), "200000");
        }
        assert_eq!(server.config("lock.max-waiters"), "3");
        if has_categories {
            let in_it = server.cmd(&["ACL", "CAT", "lock"]);
            assert!(in_it.items().iter().any(|name| *name == "lock.acquire"), "{in_it:?}");
            assert_eq!(server.cmd(&["ACL", "SETUSER", "app", "on", "nopass", "~*", "+@lock"]), "OK");
            assert!(server.cmd(&["ACL", "DRYRUN", "app", "LOCK.ACQUIRE", "k", "o"]) == "OK");
        }
        assert_works(&server);
    }
}
