//! When the module does not load, and that the log says why.

use crate::support::server::Setup;
use crate::support::{skip, Value};
use crate::traffic::acquire_on;

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
    acquire_on(&server, &["k", "o", "PX", "50"]);
    crate::support::wait_until("the lease to be over", || server.cmd(&["EXISTS", "k"]) == 0);
}
