//! What a primary keeps for replicas that come back: asks for it as such a replica would, and reads it. Holds no test.

use std::io::{BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::support::resp::decode;
use crate::support::stream::{words, Words};
use crate::support::{Connection, Server};
use crate::traffic::is_effect;

/// A connection that asks for the stream as a replica would, and what the primary answers to that.
pub(crate) fn psync(server: &Server, id: &str, from: i64) -> (Connection, String) {
    let mut conn = server.connect();
    conn.send(&["PSYNC", id, &from.to_string()]);
    let mut line = String::new();
    while line.trim().is_empty() {
        line.clear();
        conn.raw().read_line(&mut line).expect("an answer to PSYNC");
    }
    (conn, line.trim().to_owned())
}

/// Reads the snapshot that comes before the stream.
pub(crate) fn read_snapshot(conn: &mut Connection) -> Vec<u8> {
    let mut line = String::new();
    while line.trim().is_empty() {
        line.clear();
        conn.raw().read_line(&mut line).expect("the head of a snapshot");
    }
    let length: usize = line.trim()[1..].parse().expect("the length of a snapshot");
    let mut snapshot = vec![0; length];
    conn.raw().read_exact(&mut snapshot).expect("a whole snapshot");
    snapshot
}

/// All commands of the stream up to a mark that is put there now.
pub(crate) fn commands_up_to_now(conn: &mut Connection, server: &Server) -> Vec<String> {
    whole_commands_up_to_now(conn, server).into_iter().map(|words| words[0].clone()).collect()
}

/// The same with all of their words.
fn whole_commands_up_to_now(conn: &mut Connection, server: &Server) -> Vec<Words> {
    static MARKS: AtomicU64 = AtomicU64::new(0);
    let mark = MARKS.fetch_add(1, Relaxed).to_string();
    server.cmd(&["PUBLISH", "mark", &mark]);
    let mut commands = Vec::new();
    loop {
        if let Some(b'\n') = conn.raw().fill_buf().expect("the stream goes on").first() {
            conn.raw().consume(1);
        } else {
            let words = words(&decode(conn.raw()).expect("a command in the stream"));
            if words[0].eq_ignore_ascii_case("PUBLISH") {
                if words[2] == mark {
                    return commands;
                }
                // Of somebody who looked before.
                continue;
            }
            commands.push(words);
        }
    }
}

/// No command but effects and what keeps the link alive.
pub(crate) fn assert_only_effects(names: &[String]) {
    let odd: Vec<_> =
        names.iter().filter(|name| !is_effect(name) && !name.eq_ignore_ascii_case("PING")).collect();
    assert!(
        odd.is_empty(),
        "{} of {} commands are not effects, such as {:?}",
        odd.len(),
        names.len(),
        odd[0]
    );
}

/// The commands in the backlog, from its first byte to this moment.
pub(crate) fn commands_in_backlog(server: &Server) -> Vec<String> {
    let first = server.info_int("replication", "repl_backlog_first_byte_offset");
    commands_since(server, first).into_iter().map(|words| words[0].clone()).collect()
}

/// The commands in the backlog from this offset on, to this moment.
pub(crate) fn commands_since(server: &Server, offset: i64) -> Vec<Words> {
    let (mut conn, answer) = psync(server, &server.info("replication")["master_replid"], offset);
    assert!(answer.starts_with("+CONTINUE"), "{answer}");
    whole_commands_up_to_now(&mut conn, server)
}
