//! A full sync that breaks off: wherever the stream ends, the replica lives on, keeps nothing half read, and takes the next
//! one. The primary is played by the test, which can stop at any byte.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{channel, Sender};
use std::time::Duration;

use crate::backlog::{psync, read_snapshot};
use crate::steps::{acquire, acquire_by};
use crate::support::resp::{decode, Value};
use crate::support::wait::{let_pass, wait_replica_in_sync, DEADLINE};
use crate::support::{wait_until, Server};
use crate::traffic::{follow, lock_stat, replica_of, wait_same_data};

/// A snapshot as a primary sends it.
pub(crate) fn snapshot_of(server: &Server) -> Vec<u8> {
    let (mut conn, answer) = psync(server, "?", -1);
    assert!(answer.starts_with("+FULLRESYNC "), "{answer}");
    read_snapshot(&mut conn)
}

/// Speaks with a replica up to its request for a sync, sends the bytes and hangs up.
fn serve_once(link: TcpStream, snapshot: &[u8], mark: &str) -> std::io::Result<()> {
    link.set_read_timeout(Some(DEADLINE))?;
    let mut input = BufReader::new(link.try_clone()?);
    let mut output = link;
    loop {
        let Value::Array(words) = decode(&mut input)? else { continue };
        match words[0].text().to_uppercase().as_str() {
            "PING" => output.write_all(b"+PONG\r\n")?,
            "PSYNC" => break,
            _ => output.write_all(b"+OK\r\n")?,
        }
    }
    output.write_all(format!("+FULLRESYNC {mark} 0\r\n$EOF:{mark}\r\n").as_bytes())?;
    output.write_all(snapshot)
}

/// A history that no server has.
pub(crate) fn no_history() -> String {
    "m".repeat(40)
}

/// A primary with this history that sends each replica that comes the next of these snapshots and tells when it has hung
/// up.
pub(crate) fn play_primary(history: String, snapshots: Vec<Vec<u8>>, sent: Sender<()>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port for the played primary");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for snapshot in snapshots {
            // A replica that gives up too early comes again.
            while serve_once(listener.accept().expect("a replica").0, &snapshot, &history).is_err() {}
            if sent.send(()).is_err() {
                return;
            }
        }
    });
    port
}

#[test]
fn a_stream_that_ends_at_any_byte_leaves_the_replica_alive_and_empty() {
    let source = Server::with(&["rdbcompression no"]);
    acquire(&source, "k owner PX 600000 NOTE note");
    acquire(&source, "l owner NOEXPIRE");
    let whole = snapshot_of(&source);
    // What comes before the locks is the server's own; from there on, at every byte.
    let start = whole.windows(9).position(|bytes| bytes == b"repl-offs").expect("the snapshot's head");
    let cuts: Vec<Vec<u8>> = (start..whole.len()).map(|end| whole[..end].to_vec()).collect();
    let count = cuts.len();
    let replica = Server::with(&["repl-diskless-load on-empty-db", "repl-timeout 2"]);
    let failed_loads = || replica.log().matches("Failed trying to load the ").count();
    for cut in cuts {
        // One primary for each cut: the replica comes again at once, and must not be given the next one then.
        let (sent, hung_up) = channel();
        let port = play_primary(no_history(), vec![cut], sent).to_string();
        let before = failed_loads();
        assert_eq!(replica.cmd(&["REPLICAOF", "127.0.0.1", &port]), "OK");
        hung_up.recv_timeout(DEADLINE).expect("the replica did not ask for a sync");
        wait_until("the replica to find the end of the stream", || failed_loads() > before);
        assert_eq!(replica.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
        assert_eq!(replica.cmd(&["DBSIZE"]), 0);
        assert_eq!(lock_stat(&replica, "lease_index_entries"), 0);
    }
    let end = count as i64;
    println!("{end} streams were cut");
    assert!(end > 50);
    follow(&replica, &source);
    wait_same_data(&replica, &source);
    assert_eq!(lock_stat(&replica, "lease_index_entries"), 1);
    wait_until("what was half read to be freed", || lock_stat(&replica, "held") == 2);
}

#[test]
fn links_that_are_cut_while_thousands_of_locks_are_sent_do_no_harm() {
    let conf = ["repl-diskless-sync yes", "repl-diskless-load on-empty-db", "rdb-key-save-delay 200"];
    let (primary, replica) = (Server::with(&conf), Server::with(&conf));
    let mut conn = primary.connect();
    let note = "n".repeat(250);
    for n in 0..2000 {
        acquire_by(&mut conn, &format!("lock-{n} o PX 600000 NOTE {note}"));
    }
    replica_of(&replica, &primary);
    for cut in 1..=4 {
        wait_until("a snapshot to be sent", || {
            primary.info_int("persistence", "rdb_bgsave_in_progress") == 1
        });
        let_pass(Duration::from_millis(70 * cut));
        primary.cmd(&["CLIENT", "KILL", "TYPE", "replica"]);
        assert!(lock_stat(&replica, "held") <= 2000);
    }
    assert_eq!(primary.cmd(&["CONFIG", "SET", "rdb-key-save-delay", "0"]), "OK");
    wait_replica_in_sync(&primary, &replica);
    wait_same_data(&replica, &primary);
    assert_eq!(lock_stat(&replica, "lease_index_entries"), 2000);
}
