//! What a primary keeps for replicas that come back: asks for it as such a replica would, and reads it. Holds no test.

use std::io::{BufRead, Read};

use crate::support::resp::decode;
use crate::support::stream::words;
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
    server.cmd(&["PUBLISH", "mark", "here"]);
    let mut names = Vec::new();
    loop {
        if let Some(b'\n') = conn.raw().fill_buf().expect("the stream goes on").first() {
            conn.raw().consume(1);
        } else {
            let words = words(&decode(conn.raw()).expect("a command in the stream"));
            if words[0].eq_ignore_ascii_case("PUBLISH") {
                return names;
            }
            names.push(words[0].clone());
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
    let info = server.info("replication");
    let first = info["repl_backlog_first_byte_offset"].parse().expect("the offset of the first byte");
    let (mut conn, answer) = psync(server, &info["master_replid"], first);
    assert!(answer.starts_with("+CONTINUE"), "{answer}");
    commands_up_to_now(&mut conn, server)
}
