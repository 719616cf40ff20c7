//! The end of an AOF that a crash has cut off inside a hand-off. Redis 7 and 8 go on writing behind an open MULTI then, and
//! drop at the next start all that came after it. So a hand-off is one command, and nothing that is acknowledged after the
//! crash is lost, wherever the file was cut.

use std::path::PathBuf;

use crate::steps::{acquire, ask, fence_of, granted, in_line, release};
use crate::support::aof::read_aof;
use crate::support::{Connection, Server, Stop};
use crate::traffic::left;

const AOF: [&str; 4] = ["appendonly yes", "appendfsync always", "aof-use-rdb-preamble no", "save \"\""];

/// The file that the server appends to.
fn increment(server: &Server) -> PathBuf {
    server.dir().join("appendonlydir/appendonly.aof.1.incr.aof")
}

/// Locks that are held, and for which somebody waits; the connections of those.
fn held_and_wanted(server: &Server) -> Vec<Connection> {
    for line in ["desk frank NOEXPIRE", "seats carol LIMIT 3 PERMITS 3 NOEXPIRE", "door alice NOEXPIRE"] {
        acquire(server, line);
    }
    let lines = [
        "seats dora LIMIT 3 PX 600000 MAXHOLD 700000 MINHOLD 5 NOTE n BLOCK 0",
        "seats erin LIMIT 3 PERMITS 2 NOEXPIRE BLOCK 0",
        "door bob PX 600000 BLOCK 0",
    ];
    lines.map(|line| in_line(server, &format!("LOCK.ACQUIRE {line}"))).into()
}

/// What the AOF is after some hand-offs: one by a transfer, one to two waiters of which one has bounds, and the plain one.
/// Where each of these begins, and the file.
fn hand_over() -> (Vec<usize>, Vec<u8>) {
    let server = Server::with(&AOF);
    let aof = || std::fs::read(increment(&server)).expect("read the AOF");
    let mut waiters = held_and_wanted(&server);
    let mut starts = vec![aof().len()];
    granted(&server, "LOCK.TRANSFER desk frank grace");
    starts.push(aof().len());
    release(&server, "seats", "carol");
    starts.push(aof().len());
    release(&server, "door", "alice");
    waiters.iter_mut().for_each(|waiter| {
        fence_of(&waiter.read());
    });
    let commands = read_aof(&server).commands;
    assert!(commands.iter().all(|words| words[0] != "MULTI"), "{commands:?}");
    (starts, aof())
}

/// Cuts in each of these spans: near the start, in the middle, near the end.
fn some_cuts(ends: &[usize]) -> impl Iterator<Item = usize> + '_ {
    ends.windows(2).flat_map(|ends| {
        let (start, end) = (ends[0], ends[1]);
        [start + 2, start + 40, usize::midpoint(start, end), end - 3]
    })
}

/// Starts with these bytes as the AOF, has work acknowledged, and loads `again`: nothing of the work is lost.
fn assert_work_is_kept(server: &mut Server, bytes: &[u8], again: impl Fn(&mut Server)) {
    let len = bytes.len();
    server.stop(Stop::Kill);
    std::fs::write(increment(server), bytes).expect("write the AOF");
    server.start_again();
    let fence = acquire(server, "later o NOEXPIRE");
    for id in ["x", "y"] {
        assert_eq!(ask(server, &format!("LOCK.ACQUIRE later o REENTRANT {id}")), fence);
    }
    assert_eq!(ask(server, "LOCK.RENEW later o NOEXPIRE NOTE renewed"), -1);
    assert_eq!(ask(server, "LOCK.RELEASE later o REENTRANT x"), 1);
    let holds_door = |server: &Server| ["alice", "bob"].map(|owner| left(server, "door", owner) != 0);
    let before = holds_door(server);
    assert!(before == [true, false] || before == [false, true], "cut at {len}: {before:?}");
    release(server, "door", if before[0] { "alice" } else { "bob" });
    ask(server, "SET other data");
    again(server);
    let shown = ask(server, "LOCK.INFO later");
    let hold = &shown.field("holds").items()[0];
    let number = |field| hold.field(field).int();
    assert_eq!((number("fence"), number("entries")), (fence, 2), "cut at {len}");
    assert_eq!(hold.field("note"), &"renewed", "cut at {len}");
    assert_eq!(ask(server, "GET other"), "data", "cut at {len}");
    assert_eq!(holds_door(server), [false, false], "cut at {len}");
}

#[test]
fn work_after_a_cut_anywhere_in_a_hand_off_is_kept() {
    let (starts, whole) = hand_over();
    let every_byte = starts[2]..=whole.len();
    let cuts: Vec<usize> = every_byte.chain(some_cuts(&starts)).collect();
    std::thread::scope(|scope| {
        for cuts in cuts.chunks(cuts.len().div_ceil(4)) {
            let whole = &whole;
            scope.spawn(move || {
                let mut server = Server::with(&AOF);
                let reload = |server: &mut Server| assert_eq!(ask(server, "DEBUG LOADAOF"), "OK");
                cuts.iter().for_each(|len| assert_work_is_kept(&mut server, &whole[..*len], reload));
            });
        }
    });
}

/// The same with another start of the process, as after a second crash.
#[test]
fn work_after_a_cut_is_kept_by_the_next_start() {
    let (starts, whole) = hand_over();
    let ends: Vec<usize> = starts.iter().copied().chain([whole.len()]).collect();
    let mut server = Server::with(&AOF);
    for len in some_cuts(&ends).chain([whole.len()]) {
        assert_work_is_kept(&mut server, &whole[..len], |server| server.restart(Stop::Kill));
    }
}
