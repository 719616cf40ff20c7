//! A line to a server, which can withhold what is said on it: for a while, or, if it is cut then, for ever.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

pub(crate) struct Link {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    doors: Mutex<Doors>,
    have_changed: Condvar,
    ends: Mutex<Vec<TcpStream>>,
}

#[derive(Default)]
struct Doors {
    /// What comes from the server waits here.
    withholds: bool,
    /// What is told to the server does.
    withholds_answers: bool,
    is_over: bool,
}

#[derive(Clone, Copy)]
enum Way {
    FromServer,
    ToServer,
}

impl Link {
    /// A line to this port on loopback.
    pub(crate) fn to(upstream: u16) -> Result<Link> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((caller, _)) = listener.accept() {
                if shared.doors().is_over {
                    break;
                }
                let _ = shared.join(caller, upstream);
            }
        });
        Ok(Link { port, state })
    }

    /// Where the server is found through this.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing more comes from the server, and nobody notices.
    pub(crate) fn withhold(&self) {
        self.set(|doors| doors.withholds = true);
    }

    /// From now on nothing passes in either direction, and nobody notices.
    pub(crate) fn part(&self) {
        self.set(|doors| (doors.withholds, doors.withholds_answers) = (true, true));
    }

    /// What was withheld arrives, and all passes as before.
    pub(crate) fn heal(&self) {
        self.set(|doors| (doors.withholds, doors.withholds_answers) = (false, false));
    }

    /// Breaks the line for both, takes no new one, and what was withheld is lost.
    pub(crate) fn cut(&self) {
        self.set(|doors| doors.is_over = true);
        for end in self.state.ends.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
        // The thread that accepts is to see it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }

    fn set(&self, change: impl FnOnce(&mut Doors)) {
        change(&mut self.state.doors());
        self.state.have_changed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

impl State {
    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<State>, caller: TcpStream, upstream: u16) -> std::io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", upstream))?;
        let (up, down) =
            ((caller.try_clone()?, server.try_clone()?), (server.try_clone()?, caller.try_clone()?));
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).extend([caller, server]);
        let (above, below) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || above.carry(up.0, up.1, Way::ToServer));
        std::thread::spawn(move || below.carry(down.0, down.1, Way::FromServer));
        Ok(())
    }

    /// Carries bytes until either side is gone, and tells the other side then, as soon as it tells it anything.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let mut buffer = vec![0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !self.may_pass(way) || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // Over a line that is parted nobody hears that the other has hung up.
        self.may_pass(way);
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Waits until bytes may pass this way; whether there will ever be such a moment.
    fn may_pass(&self, way: Way) -> bool {
        let is_shut = |doors: &mut Doors| {
            let withholds = match way {
                Way::FromServer => doors.withholds,
                Way::ToServer => doors.withholds_answers,
            };
            withholds && !doors.is_over
        };
        let doors = self.have_changed.wait_while(self.doors(), is_shut);
        !doors.unwrap_or_else(PoisonError::into_inner).is_over
    }
}
