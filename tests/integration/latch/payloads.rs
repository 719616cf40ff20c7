//! DUMP and RESTORE of a latch: no payload that is damaged or forged does any harm. The checksum is switched off, so that
//! every payload reaches the module.

use super::set;
use crate::golden::{dump, restore, Golden};
use crate::steps::ask;
use crate::support::{wait_until, Server, Value};
use crate::traffic::lock_stat;

/// The module's bytes of a latch, field by field.
fn latch(size: u32, left: u32, count: u32, ids: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![1];
    [size, left, count].iter().for_each(|n| out.extend(n.to_le_bytes()));
    for id in ids {
        out.extend((id.len() as u16).to_le_bytes());
        out.extend(*id);
    }
    out
}

/// A frame of this server for a latch.
fn golden(server: &Server) -> Golden {
    let golden = Golden::of(server);
    set(server, "golden 3");
    ask(server, "LATCH.DOWN golden a");
    let payload = dump(server, "golden");
    assert_eq!(ask(server, "DEL golden"), 1);
    let golden = golden.with(|golden| golden.head = payload[..10].to_vec());
    let inner = latch(3, 2, 1, &[b"a"]);
    assert_eq!(golden.frame(&inner), payload[..payload.len() - 10], "what was put together by the book");
    golden
}

/// If the payload was taken, the latch can be asked about, counted, saved and loaded again.
fn assert_harmless(server: &Server, payload: &[u8], what: &str) {
    if restore(server, "k", payload) == "OK" {
        if ask(server, "TYPE k") == "locklatch" {
            ask(server, "LATCH.INFO k").field("ids").items();
            ask(server, "LATCH.DOWN k other");
        }
        assert_eq!(ask(server, "DEBUG RELOAD"), "OK", "{what}: what was accepted cannot be loaded again");
        ask(server, "DEL k");
    }
    wait_until(&format!("{what}: no latch to be left"), || lock_stat(server, "latches") == 0);
}

#[test]
fn what_is_cut_off_or_flipped_is_harmless() {
    let server = Server::start();
    // The server's own types are to look closely where they can be told to, for a flip may name one of them.
    server.cmd(&["CONFIG", "SET", "sanitize-dump-payload", "yes"]);
    let golden = golden(&server);
    let inner = latch(3, 1, 2, &[b"a", b"b"]);
    for length in 0..inner.len() {
        let reply = restore(&server, "k", &golden.seal(&golden.frame(&inner[..length])));
        assert!(matches!(reply, Value::Error(_)), "cut to {length} bytes: {reply:?}");
    }
    let body = golden.frame(&inner);
    for at in 0..body.len() {
        for bit in 0..8 {
            let mut flipped = body.clone();
            flipped[at] ^= 1 << bit;
            assert_harmless(&server, &golden.seal(&flipped), &format!("bit {bit} of byte {at}"));
        }
    }
    assert_eq!(restore(&server, "k", &golden.seal(&body)), "OK", "the whole payload must pass");
}

#[test]
fn fields_that_cannot_be_true_are_refused() {
    let server = Server::start();
    let golden = golden(&server);
    let long = [b'i'; 65];
    for (what, inner) in [
        ("nothing to count", latch(0, 0, 0, &[])),
        ("too much to count", latch(1_000_001, 0, 0, &[])),
        ("more left than there was", latch(3, 4, 0, &[])),
        ("more ids than were counted", latch(3, 2, 2, &[b"a", b"b"])),
        ("an id twice", latch(3, 1, 2, &[b"a", b"a"])),
        ("ids out of order", latch(3, 1, 2, &[b"b", b"a"])),
        ("an empty id", latch(3, 1, 1, &[b""])),
        ("a long id", latch(3, 1, 1, &[&long])),
        ("a million ids without bytes", latch(1_000_000, 0, 1_000_000, &[])),
        ("a byte too many", [latch(3, 1, 1, &[b"a"]), vec![0]].concat()),
        ("another version", [&[2], &latch(3, 3, 0, &[])[1..]].concat()),
    ] {
        let reply = restore(&server, "k", &golden.seal(&golden.frame(&inner)));
        assert!(matches!(reply, Value::Error(_)), "{what}: {reply:?}");
        assert_eq!(lock_stat(&server, "latches"), 0, "{what}");
    }
    for (what, inner) in [
        ("the longest id", latch(1, 0, 1, &[&long[..64]])),
        ("counted without ids", latch(1_000_000, 0, 0, &[])),
    ] {
        let reply = restore(&server, "k", &golden.seal(&golden.frame(&inner)));
        assert_eq!(reply, "OK", "{what}");
        assert_eq!(ask(&server, "DEBUG RELOAD"), "OK", "{what}");
        assert_eq!(ask(&server, "DEL k"), 1);
    }
}
