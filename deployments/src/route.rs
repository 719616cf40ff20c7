//! Whom a client asks: the one primary, or in a cluster the node of the key, as MOVED tells.

use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::conn::{Conn, Reply};

/// Between two tries where a server tells that it cannot serve just now.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Shared by all clients that go the same way.
pub(crate) struct Route {
    primary: AtomicU16,
    cluster: Option<Cluster>,
}

struct Cluster {
    nodes: Vec<u16>,
    next: AtomicUsize,
    by_key: Mutex<HashMap<String, u16>>,
}

impl Route {
    pub(crate) fn to(primary: u16) -> Route {
        Route { primary: AtomicU16::new(primary), cluster: None }
    }

    pub(crate) fn cluster(nodes: Vec<u16>) -> Route {
        let cluster = Cluster { nodes, next: AtomicUsize::new(0), by_key: Mutex::default() };
        Route { primary: AtomicU16::new(0), cluster: Some(cluster) }
    }

    /// From now on the clients go there.
    pub(crate) fn move_to(&self, primary: u16) {
        self.primary.store(primary, Ordering::SeqCst);
    }

    fn port(&self, key: &str) -> u16 {
        let Some(cluster) = &self.cluster else { return self.primary.load(Ordering::SeqCst) };
        let known = cluster.by_key.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        known.unwrap_or_else(|| {
            cluster.nodes[cluster.next.fetch_add(1, Ordering::Relaxed) % cluster.nodes.len()]
        })
    }

    fn learn(&self, key: &str, port: Option<u16>) {
        let Some(cluster) = &self.cluster else { return };
        let mut by_key = cluster.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        match port {
            Some(port) => drop(by_key.insert(key.to_owned(), port)),
            None => drop(by_key.remove(key)),
        }
    }
}

/// One client's connections.
pub(crate) struct Client<'a> {
    route: &'a Route,
    conns: HashMap<u16, Conn>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(route: &'a Route) -> Client<'a> {
        Client { route, conns: HashMap::new() }
    }

    /// Asks the node of the key, and goes where MOVED and ASK say.
    pub(crate) fn ask(&mut self, key: &str, line: &str, wait: Duration) -> Reply {
        let words: Vec<&str> = line.split(' ').collect();
        let mut port = self.route.port(key);
        for _ in 0..8 {
            let reply = self.ask_port(port, &words, wait);
            match &reply {
                Reply::Refused(code, text) if code == "MOVED" => {
                    port = port_in(text).unwrap_or(port);
                    self.route.learn(key, Some(port));
                }
                Reply::Refused(code, text) if code == "ASK" => {
                    let there = port_in(text).unwrap_or(port);
                    self.ask_port(there, &["ASKING"], wait);
                    return self.ask_port(there, &words, wait);
                }
                Reply::Unknown => {
                    self.route.learn(key, None);
                    return reply;
                }
                _ => return reply,
            }
        }
        Reply::Unknown
    }

    fn ask_port(&mut self, port: u16, words: &[&str], wait: Duration) -> Reply {
        let conn = match self.conns.entry(port) {
            Entry::Occupied(conn) => conn.into_mut(),
            Entry::Vacant(place) => match Conn::open(port) {
                Ok(conn) => place.insert(conn),
                Err(_) => return Reply::Unknown,
            },
        };
        let reply = conn.ask(words, wait);
        if reply == Reply::Unknown || matches!(&reply, Reply::Refused(code, _) if code == "UNBLOCKED") {
            self.conns.remove(&port);
        }
        reply
    }
}

/// Of `3999 127.0.0.1:6381`.
fn port_in(text: &str) -> Option<u16> {
    text.rsplit(':').next()?.trim().parse().ok()
}
