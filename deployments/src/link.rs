//! The line between a replica and whom it follows. It can withhold what is told to the replica, and lose it for ever.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

pub(crate) struct Link {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What comes from upstream is read and thrown away.
    withholds: AtomicBool,
    /// What comes from the replica is.
    withholds_answers: AtomicBool,
    is_over: AtomicBool,
    ends: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A line to this port on loopback.
    pub(crate) fn to(upstream: u16) -> Result<Link> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((replica, _)) = listener.accept() {
                if shared.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let _ = shared.join(replica, upstream);
            }
        });
        Ok(Link { port, state })
    }

    /// What the replica follows.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing more reaches the replica, which does not notice.
    pub(crate) fn withhold(&self) {
        self.state.withholds.store(true, Ordering::SeqCst);
    }

    /// From now on neither hears the other, and neither notices.
    pub(crate) fn part(&self) {
        self.withhold();
        self.state.withholds_answers.store(true, Ordering::SeqCst);
    }

    /// Breaks the line for both, and takes no new one.
    pub(crate) fn cut(&self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        for end in self.state.ends.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
        // The thread that accepts is to see it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

impl State {
    fn join(self: &Arc<State>, replica: TcpStream, upstream: u16) -> std::io::Result<()> {
        let primary = TcpStream::connect(("127.0.0.1", upstream))?;
        let (up, down) =
            ((replica.try_clone()?, primary.try_clone()?), (primary.try_clone()?, replica.try_clone()?));
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).extend([replica, primary]);
        let (above, below) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || carry(up.0, up.1, &above.withholds_answers));
        std::thread::spawn(move || carry(down.0, down.1, &below.withholds));
        Ok(())
    }
}

/// Carries bytes until either side is gone, and tells the other side then, if it still tells it anything.
fn carry(mut from: TcpStream, mut to: TcpStream, withholds: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !withholds.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Over a line that is cut nobody hears that the other has hung up.
    if !withholds.load(Ordering::SeqCst) {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
