//! One thread, many connections: sends what a script says and hands it every reply.
//! The driver knows sockets and time; what the load is, and what counts, is the script's business.

use anyhow::{bail, ensure, Context, Result};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use testbed::scan::{scan, Reply};

/// Larger than any burst of replies to one client, so one read usually empties a socket.
const INPUT_BYTES: usize = 64 * 1024;
const EVENTS: usize = 1024;
/// A server that says nothing for so long, with requests open, is stuck.
const SILENCE: Duration = Duration::from_secs(10);
/// All requests that are open when an interval ends must be answered within this.
const DRAIN: Duration = Duration::from_secs(30);

/// When a reply was read. Replies of one turn were readable before anything was sent in that turn.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub now: Instant,
    pub turn: u64,
}

/// The next action of a client after a reply.
pub(crate) enum Next<'a> {
    /// More replies are due.
    Wait,
    Send(&'a [u8]),
    /// Send what `last` says, after everything else that this turn sends.
    SendLast,
    /// This client is done.
    Rest,
}

/// The part that the clients play.
pub(crate) trait Script {
    /// The first bytes of a client.
    fn begin(&mut self, client: usize, now: Instant) -> &[u8];
    fn reply(&mut self, client: usize, reply: &Reply<'_>, at: At) -> Result<Next<'_>>;
    /// The bytes of a client that asked to send last.
    fn last(&mut self, _client: usize, _now: Instant) -> &[u8] {
        &[]
    }
    /// A client that sends although nothing was said to it: a listener heard something, or the time has come.
    fn wake(&mut self, _now: Instant) -> Option<(usize, &[u8])> {
        None
    }
    /// When `wake` is to be asked even if nothing is heard until then.
    fn alarm(&self) -> Option<Instant> {
        None
    }
    /// From now on replies count (or no longer).
    fn count(&mut self, on: bool);
    /// Finish what is open, then rest.
    fn finish(&mut self);
}

pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    /// The clients, then the listeners.
    clients: Vec<Client>,
    listeners: usize,
    input: Vec<u8>,
    /// Clients that have something open.
    active: usize,
    /// Clients that send at the end of this turn.
    last: Vec<usize>,
    turn: u64,
}

/// How a client stands after its replies were served.
enum After {
    Open,
    Last,
    AtRest,
}

struct Client {
    stream: TcpStream,
    /// The start of a reply whose end has not come yet.
    rest: Vec<u8>,
}

impl Driver {
    pub(crate) fn connect(addr: SocketAddr, clients: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let clients = (0..clients)
            .map(|index| {
                let stream = connect(addr).with_context(|| format!("connection {index}"))?;
                Client::new(stream, index, &poll)
            })
            .collect::<Result<_>>()?;
        let input = vec![0; INPUT_BYTES];
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            clients,
            listeners: 0,
            input,
            active: 0,
            last: Vec::new(),
            turn: 0,
        })
    }

    /// Opens one more connection that says `request`, sees the reply, and from then on only listens. All that it hears
    /// goes to the script under a number that follows the clients'. Nobody waits for it.
    pub(crate) fn listen(&mut self, addr: SocketAddr, request: &[u8]) -> Result<()> {
        let mut stream = connect(addr).context("a listener's connection")?;
        stream.write_all(request)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut reply = Vec::new();
        while scan(&reply)?.is_none() {
            let read = stream.read(&mut self.input).context("the reply to a listener")?;
            ensure!(read > 0, "the server closed a listener's connection");
            reply.extend_from_slice(&self.input[..read]);
        }
        self.clients.push(Client::new(stream, self.clients.len(), &self.poll)?);
        self.listeners += 1;
        Ok(())
    }

    /// How many clients, without the listeners.
    pub(crate) fn len(&self) -> usize {
        self.clients.len() - self.listeners
    }

    /// Every client begins, in order from `first`.
    pub(crate) fn begin(&mut self, script: &mut impl Script, first: usize) -> Result<()> {
        let count = self.len();
        for client in (first..first + count).map(|index| index % count) {
            self.begin_one(script, client)?;
        }
        Ok(())
    }

    pub(crate) fn begin_one(&mut self, script: &mut impl Script, client: usize) -> Result<()> {
        self.active += 1;
        send(&mut self.clients[client].stream, script.begin(client, Instant::now()))
    }

    /// Serves replies until `until`, or until every client rests.
    pub(crate) fn pump(&mut self, script: &mut impl Script, until: Instant) -> Result<()> {
        let mut heard = Instant::now();
        while self.active > 0 {
            let now = Instant::now();
            if now >= until {
                break;
            }
            ensure!(now - heard < SILENCE, "no reply for {SILENCE:?}, {} clients wait", self.active);
            let alarm = script.alarm().map_or(until, |alarm| alarm.min(until));
            match self.poll.poll(&mut self.events, Some(alarm.saturating_duration_since(now).min(SILENCE))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            self.turn += 1;
            if !self.events.is_empty() {
                heard = now;
            }
            self.take_turn(script)?;
        }
        Ok(())
    }

    fn take_turn(&mut self, script: &mut impl Script) -> Result<()> {
        let now = Instant::now();
        wake(&mut self.clients, script, now)?;
        for event in &self.events {
            let index = event.token().0;
            let client = &mut self.clients[index];
            match client.receive(index, &mut self.input, self.turn, script)? {
                After::Open => {}
                After::Last => self.last.push(index),
                After::AtRest => self.active -= 1,
            }
            wake(&mut self.clients, script, now)?;
        }
        for index in self.last.drain(..) {
            send(&mut self.clients[index].stream, script.last(index, Instant::now()))?;
        }
        Ok(())
    }

    /// Lets every client finish what it has open.
    pub(crate) fn drain(&mut self, script: &mut impl Script) -> Result<()> {
        script.finish();
        self.pump(script, Instant::now() + DRAIN)?;
        ensure!(self.active == 0, "{} clients still wait {DRAIN:?} after the end", self.active);
        Ok(())
    }
}

impl Client {
    fn new(stream: std::net::TcpStream, index: usize, poll: &Poll) -> Result<Self> {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        Ok(Self { stream, rest: Vec::new() })
    }

    /// Reads all there is and serves it.
    fn receive(
        &mut self,
        index: usize,
        input: &mut [u8],
        turn: u64,
        script: &mut impl Script,
    ) -> Result<After> {
        let mut after = After::Open;
        loop {
            let kept = self.rest.len();
            input[..kept].copy_from_slice(&self.rest);
            self.rest.clear();
            let filled = match self.stream.read(&mut input[kept..]) {
                Ok(0) => bail!("the server closed connection {index}"),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => kept,
                Err(error) => return Err(error.into()),
            };
            let at = At { now: Instant::now(), turn };
            let mut from = 0;
            while let Some((reply, len)) = scan(&input[from..filled])? {
                from += len;
                if let Reply::Error(text) = reply {
                    bail!("connection {index} got an error: {}", String::from_utf8_lossy(text));
                }
                match script.reply(index, &reply, at)? {
                    Next::Wait => {}
                    Next::Send(bytes) => send(&mut self.stream, bytes)?,
                    Next::SendLast => after = After::Last,
                    Next::Rest => after = After::AtRest,
                }
            }
            self.rest.extend_from_slice(&input[from..filled]);
            // A short read has emptied the socket, and new bytes make a new event.
            if filled < input.len() {
                return Ok(after);
            }
        }
    }
}

fn connect(addr: SocketAddr) -> Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends for everybody who was woken.
fn wake(clients: &mut [Client], script: &mut impl Script, now: Instant) -> Result<()> {
    while let Some((client, bytes)) = script.wake(now) {
        send(&mut clients[client].stream, bytes)?;
    }
    Ok(())
}

/// A request is far smaller than a socket buffer, and that is empty: nothing is open when we send.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let sent = stream.write(bytes).context("sending")?;
    ensure!(sent == bytes.len(), "a request did not fit into the socket buffer");
    Ok(())
}
