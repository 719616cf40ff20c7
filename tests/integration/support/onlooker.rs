//! What others notice of that which is done in a transcript: replicas, who listens to events, who watches a key, who looks at
//! a lock.

use super::events::Events;
use super::stream::{ReplicaStream, Words};
use super::{Connection, Server, Value};

/// What is shown where nothing was noticed.
const NOTHING: &str = "(nothing)";

pub(crate) enum Onlooker {
    /// A replica, and what the data were when it was asked last.
    Replica(ReplicaStream, String),
    Listener(Events),
    /// A client that watches `k`.
    Watcher(Connection),
    /// Who looks who holds the lock `k` and who waits for it.
    Looker(Connection),
}

impl Onlooker {
    /// The one of this name, if it is kept for one. It notices what happens from here on.
    pub(crate) fn of(name: &str, server: &Server) -> Option<Onlooker> {
        match name {
            "stream" => Some(Onlooker::Replica(ReplicaStream::attach(server), data_of(server))),
            "events" => Some(Onlooker::Listener(Events::listen(server))),
            "watch" => Some(Onlooker::Watcher(watch(server.connect()))),
            "lock" => Some(Onlooker::Looker(server.connect())),
            _ => None,
        }
    }

    /// What it has noticed since it was asked last, line by line. An error where data have changed and replicas know nothing
    /// of it.
    pub(crate) fn since_last(&mut self, server: &Server) -> Result<Vec<String>, &'static str> {
        let noticed = match self {
            Onlooker::Replica(stream, data) => {
                let told: Vec<String> = stream.collect(server).iter().map(line_of).collect();
                let before = std::mem::replace(data, data_of(server));
                if told.is_empty() && before != *data {
                    return Err("the data have changed, and replicas were told nothing");
                }
                told
            }
            Onlooker::Listener(events) => events.heard(),
            Onlooker::Watcher(conn) => {
                assert_eq!(conn.cmd(&["MULTI"]), "OK");
                let is_stopped = conn.cmd(&["EXEC"]) == Value::NilArray;
                assert_eq!(conn.cmd(&["WATCH", "k"]), "OK");
                is_stopped.then(|| "k".to_owned()).into_iter().collect()
            }
            Onlooker::Looker(conn) => vec![state_of_lock(conn)],
        };
        Ok(if noticed.is_empty() { vec![NOTHING.to_owned()] } else { noticed })
    }
}

fn watch(mut conn: Connection) -> Connection {
    assert_eq!(conn.cmd(&["WATCH", "k"]), "OK");
    conn
}

/// How `k` is in use, by whom in the order of their grants, and who waits in the order of their turns.
fn state_of_lock(conn: &mut Connection) -> String {
    let (info, waiters) = (conn.cmd(&["LOCK.INFO", "k"]), conn.cmd(&["LOCK.WAITERS", "k"]));
    let mode = info.field("mode").text();
    let is_semaphore = mode == "semaphore";
    let mode = if is_semaphore { format!("{mode} of {}", info.field("limit").int()) } else { mode };
    let hold = |hold: &Value| {
        let (owner, permits) = (hold.field("owner").text(), hold.field("permits").int());
        if is_semaphore {
            format!("{owner} {permits}")
        } else {
            owner
        }
    };
    let holds = info.field("holds").items().iter().map(hold).collect::<Vec<_>>().join(", ");
    let waiters = waiters.items().iter().map(|row| row.field("owner").text()).collect::<Vec<_>>().join(", ");
    let holds = if holds.is_empty() { holds } else { format!(": {holds}") };
    let waiters = if waiters.is_empty() { waiters } else { format!("; waiting: {waiters}") };
    format!("{mode}{holds}{waiters}")
}

fn data_of(server: &Server) -> String {
    server.cmd(&["DEBUG", "DIGEST"]).text()
}

/// A command on one line, as it could be typed.
fn line_of(words: &Words) -> String {
    let quoted = |word: &String| {
        let is_plain = !word.is_empty() && !word.contains(' ');
        if is_plain {
            word.clone()
        } else {
            format!("\"{word}\"")
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}
