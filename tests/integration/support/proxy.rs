//! A bad line between a client and a server: it can lose what either says from any byte on, and break. Knows nothing of what
//! the bytes mean.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::resp::Connection;
use super::wait::wait_until;
use super::Server;

/// A port on loopback, behind which is the server.
pub(crate) struct Proxy {
    port: u16,
    line: Arc<Line>,
}

/// What all connections through one proxy share.
struct Line {
    /// How many more bytes get through, from the client and from the server. The rest is lost.
    requests: AtomicUsize,
    replies: AtomicUsize,
    ends: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn to(server: &Server) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port for the proxy");
        let port = listener.local_addr().expect("its address").port();
        let line = Arc::new(Line {
            requests: AtomicUsize::new(usize::MAX),
            replies: AtomicUsize::new(usize::MAX),
            ends: Mutex::default(),
        });
        let (server, shared) = (server.port(), Arc::clone(&line));
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                shared.join(client, server);
            }
        });
        Proxy { port, line }
    }

    /// A connection to the server through here.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.port).expect("connect to the proxy")
    }

    /// From now on so many bytes get through to the server.
    pub(crate) fn pass_requests(&self, bytes: usize) {
        self.line.requests.store(bytes, Ordering::SeqCst);
    }

    /// From now on so many bytes get through to the client.
    pub(crate) fn pass_replies(&self, bytes: usize) {
        self.line.replies.store(bytes, Ordering::SeqCst);
    }

    /// Until all that may get through has done so.
    pub(crate) fn wait_used_up(&self) {
        let is_used_up = |room: &AtomicUsize| [0, usize::MAX].contains(&room.load(Ordering::SeqCst));
        wait_until("the last byte to pass the proxy", || {
            is_used_up(&self.line.requests) && is_used_up(&self.line.replies)
        });
    }

    /// Breaks all connections, for both sides. New ones lose nothing.
    pub(crate) fn cut(&self) {
        for end in self.line.ends.lock().expect("the ends of the line").drain(..) {
            // It may have been closed from the other side.
            let _ = end.shutdown(Shutdown::Both);
        }
        self.pass_requests(usize::MAX);
        self.pass_replies(usize::MAX);
    }
}

impl Line {
    fn join(self: &Arc<Line>, client: TcpStream, server: TcpStream) {
        let copy = |end: &TcpStream| end.try_clone().expect("share a connection");
        let (from_client, to_client) = (copy(&client), copy(&client));
        let (from_server, to_server) = (copy(&server), copy(&server));
        self.ends.lock().expect("the ends of the line").extend([client, server]);
        let (requests, replies) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || carry(from_client, to_server, &requests.requests));
        std::thread::spawn(move || carry(from_server, to_client, &replies.replies));
    }
}

/// Carries bytes until either side is gone, and tells the other side then.
fn carry(mut from: TcpStream, mut to: TcpStream, room: &AtomicUsize) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let spend = |room: usize| Some(if room == usize::MAX { room } else { room.saturating_sub(count) });
        let room = room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).unwrap_or_default();
        if to.write_all(&buffer[..count.min(room)]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
