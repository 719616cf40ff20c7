//! Whom a client asks: the one primary, or in a cluster the node of the key, as MOVED tells.

use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::conn::{Conn, Reply};

/// Between two tries where a server tells that it cannot serve just now.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Shared by all clients that go the same way.
pub(crate) enum Route {
    One(Mutex<SocketAddr>),
    Cluster {
        nodes: Vec<SocketAddr>,
        next: AtomicUsize,
        by_key: Mutex<HashMap<String, SocketAddr>>,
        /// Nobody who goes this way reaches this one.
        avoided: Mutex<Option<SocketAddr>>,
    },
}

impl Route {
    pub(crate) fn to(primary: SocketAddr) -> Route {
        Route::One(Mutex::new(primary))
    }

    pub(crate) fn cluster(nodes: Vec<SocketAddr>) -> Route {
        Route::Cluster {
            nodes,
            next: AtomicUsize::new(0),
            by_key: Mutex::default(),
            avoided: Mutex::default(),
        }
    }

    /// From now on the clients go there.
    pub(crate) fn move_to(&self, primary: SocketAddr) {
        if let Route::One(one) = self {
            *one.lock().unwrap_or_else(PoisonError::into_inner) = primary;
        }
    }

    /// From now on the clients do not reach this node of a cluster.
    pub(crate) fn avoid(&self, node: Option<SocketAddr>) {
        if let Route::Cluster { avoided, .. } = self {
            *avoided.lock().unwrap_or_else(PoisonError::into_inner) = node;
        }
    }

    fn address(&self, key: &str) -> SocketAddr {
        match self {
            Route::One(primary) => *primary.lock().unwrap_or_else(PoisonError::into_inner),
            Route::Cluster { nodes, next, by_key, avoided } => {
                let avoided = *avoided.lock().unwrap_or_else(PoisonError::into_inner);
                let known = by_key.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
                let is_reached = |node: &SocketAddr| avoided != Some(*node);
                let another = || {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    nodes.iter().copied().cycle().skip(at % nodes.len()).take(nodes.len()).find(is_reached)
                };
                known.filter(is_reached).or_else(another).unwrap_or(nodes[0])
            }
        }
    }

    fn learn(&self, key: &str, address: Option<SocketAddr>) {
        let Route::Cluster { by_key, .. } = self else { return };
        let mut by_key = by_key.lock().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => drop(by_key.insert(key.to_owned(), address)),
            None => drop(by_key.remove(key)),
        }
    }
}

/// One client's connections.
pub(crate) struct Client<'a> {
    route: &'a Route,
    conns: HashMap<SocketAddr, Conn>,
    opened: u32,
    /// Whom it asked last.
    last: Option<SocketAddr>,
}

/// A connection: to whom, and how many had been opened by then.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Tie(Option<SocketAddr>, u32);

impl<'a> Client<'a> {
    pub(crate) fn new(route: &'a Route) -> Client<'a> {
        Client { route, conns: HashMap::new(), opened: 0, last: None }
    }

    /// Asks the node of the key, and goes where MOVED and ASK say.
    pub(crate) fn ask(&mut self, key: &str, line: &str, wait: Duration) -> Reply {
        let words: Vec<&str> = line.split(' ').collect();
        let mut address = self.route.address(key);
        for _ in 0..8 {
            let reply = self.ask_at(address, &words, wait);
            match &reply {
                Reply::Refused(code, text) if code == "MOVED" => {
                    let there = address_in(text).unwrap_or(address);
                    self.route.learn(key, Some(there));
                    if self.route.address(key) != there {
                        return Reply::Unknown;
                    }
                    address = there;
                }
                Reply::Refused(code, text) if code == "ASK" => {
                    let there = address_in(text).unwrap_or(address);
                    self.ask_at(there, &["ASKING"], wait);
                    return self.ask_at(there, &words, wait);
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

    /// The connection over which it asked last.
    pub(crate) fn tie(&self) -> Tie {
        Tie(self.last, self.opened)
    }

    /// Whether this connection is gone, or another one was asked since.
    pub(crate) fn is_cut(&self, tie: Tie) -> bool {
        let conn = tie.0.and_then(|address| self.conns.get(&address));
        self.tie() != tie || conn.is_none_or(Conn::is_gone)
    }

    /// Closes all connections.
    pub(crate) fn hang_up(&mut self) {
        self.conns.clear();
    }

    fn ask_at(&mut self, address: SocketAddr, words: &[&str], wait: Duration) -> Reply {
        self.last = Some(address);
        let conn = match self.conns.entry(address) {
            Entry::Occupied(conn) => conn.into_mut(),
            Entry::Vacant(place) => match Conn::open(address) {
                Ok(conn) => {
                    self.opened += 1;
                    place.insert(conn)
                }
                Err(_) => return Reply::Unknown,
            },
        };
        let reply = conn.ask(words, wait);
        if reply == Reply::Unknown || matches!(&reply, Reply::Refused(code, _) if code == "UNBLOCKED") {
            self.conns.remove(&address);
        }
        reply
    }
}

/// Of `3999 127.0.0.1:6381`.
fn address_in(text: &str) -> Option<SocketAddr> {
    text.rsplit(' ').next()?.trim().parse().ok()
}
