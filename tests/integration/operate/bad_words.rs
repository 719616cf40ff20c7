//! Words that these commands refuse: lengths, and that none is written down. The other refusals are `tests/cases/operate.md`.

use super::ask;
use crate::steps::{acquire, assert_changes_nothing};
use crate::support::{Server, Value};

#[test]
fn what_was_refused_is_not_written_down() {
    let server = Server::start();
    acquire(&server, "k alice");
    for line in
        ["LOCK.TRANSFER k alice eve NX", "LOCK.CANCEL k", "LOCK.BREAK k alice", "LOCK.STEAL k eve PX 0"]
    {
        assert!(matches!(ask(&server, line), Value::Error(_)), "{line}");
    }
    assert!(!server.log().contains("lock: event="));
}

#[test]
fn lengths_at_the_limit_and_one_beyond() {
    let server = Server::start();
    acquire(&server, "k alice");
    let longest = |n: usize| vec![b'x'; n];
    let (key, owner) = (longest(1025), longest(257));
    let bad_owner = "BADARG the owner must have 1 to 256 bytes";
    let bad_note = "BADARG the note must have at most 256 bytes";
    let cases: [(&[&[u8]], &str); 9] = [
        (&[b"LOCK.TRANSFER", b"k", b"alice", &owner], bad_owner),
        (&[b"LOCK.TRANSFER", b"k", b"alice", b""], bad_owner),
        (&[b"LOCK.TRANSFER", b"k", &owner, b"alice"], bad_owner),
        (&[b"LOCK.CANCEL", b"k", &owner], bad_owner),
        (&[b"LOCK.BREAK", b"k", b"OWNER", b""], bad_owner),
        (&[b"LOCK.BREAK", b"k", b"REASON", &owner], bad_note),
        (&[b"LOCK.STEAL", b"k", b""], bad_owner),
        (&[b"LOCK.STEAL", b"k", b"eve", b"NOTE", &owner], bad_note),
        (&[b"LOCK.STEAL", &key, b"eve"], "BADARG the key must have at most 1024 bytes"),
    ];
    assert_changes_nothing(&server, || {
        for (request, text) in cases {
            assert_eq!(server.cmd(request), text, "{:?}", request[0].escape_ascii().to_string());
        }
    });
    let (key, owner) = (longest(1024), longest(256));
    assert!(server.cmd(&[&b"LOCK.STEAL"[..], &key[..], b"eve", b"NOTE", &owner]).int() > 0);
    assert!(server.cmd(&[&b"LOCK.TRANSFER"[..], &key[..], b"eve", &owner]).int() > 0);
    assert_eq!(server.cmd(&[&b"LOCK.BREAK"[..], &key[..], b"OWNER", &owner, b"REASON", &owner]), 1);
}
