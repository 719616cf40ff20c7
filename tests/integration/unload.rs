//! A module with a data type stays until the server ends: it can be neither unloaded nor loaded a second time, and trying to
//! changes nothing.

use crate::steps::{acquire, digest, in_line};
use crate::support::{Server, Value};
use crate::traffic::left;

/// How often the module is loaded. Some servers bring modules of their own.
fn loaded(server: &Server) -> usize {
    let list = server.cmd(&["MODULE", "LIST"]);
    list.items().iter().filter(|module| *module.field("name") == "lock").count()
}

#[test]
fn it_cannot_be_unloaded_idle_or_busy() {
    let server = Server::start();
    let unload = || {
        let reply = server.cmd(&["MODULE", "UNLOAD", "lock"]);
        let text = reply.error();
        assert!(text.starts_with("ERR ") && text.contains("data types"), "{text}");
        assert_eq!(loaded(&server), 1);
    };
    unload();
    acquire(&server, "k o NOEXPIRE");
    unload();
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    unload();
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    assert!(next.read().int() > 0);
    unload();
}

#[test]
fn it_cannot_be_loaded_twice_from_the_same_file_or_from_another() {
    let server = Server::start();
    let path = std::env::var("MODULE_PATH").unwrap();
    let copy = server.dir().join("copy.so").display().to_string();
    std::fs::copy(&path, &copy).unwrap();
    acquire(&server, "k o NOEXPIRE");
    let mut next = in_line(&server, "LOCK.ACQUIRE k next BLOCK 0");
    let before = digest(&server);
    for path in [&path, &copy] {
        for command in
            [&["MODULE", "LOAD", path][..], &["MODULE", "LOADEX", path, "CONFIG", "lock.max-waiters", "3"]]
        {
            assert!(matches!(server.cmd(command), Value::Error(_)), "{command:?}");
            assert_eq!(loaded(&server), 1);
        }
    }
    assert_eq!(server.config("lock.max-waiters"), "100000");
    assert_eq!(server.cmd(&["DEBUG", "RELOAD"]), "OK");
    assert_eq!(digest(&server), before);
    assert_eq!(left(&server, "k", "o"), -1);
    assert_eq!(server.cmd(&["LOCK.RELEASE", "k", "o"]), 1);
    assert!(next.read().int() > 0);
}
