//! Clients of one lock that goes round among them: one lets go and gets in line again, the next one is told.

use crate::peers::{owner, Pair, Peer};
use crate::server::Server;
use anyhow::{ensure, Result};
use redis::{Connection, Value};

/// The first has the lock, and the others wait for it in their order.
pub(super) struct Ring(Vec<(Connection, Pair)>);

impl Ring {
    pub(super) fn gather(server: &Server, peer: Peer, clients: usize) -> Result<Self> {
        let mut control = server.control()?;
        let key = peer.contended_key(0);
        if peer == Peer::Blpop {
            redis::cmd("RPUSH").arg(&key).arg("token").exec(&mut control)?;
        }
        let mut ring = Vec::with_capacity(clients);
        for n in 0..clients {
            let (mut client, pair) = (server.control()?, peer.waiting_pair(&key, &owner(n)));
            client.send_packed_command(&pair.acquire)?;
            if n == 0 {
                client.recv_response()?;
            }
            // The server reads what came first in the same turn at the latest, and replies at the turn's end.
            redis::cmd("PING").exec(&mut control)?;
            ring.push((client, pair));
        }
        Ok(Self(ring))
    }

    /// So many hand-offs; whole rounds, so that the first has the lock again.
    pub(super) fn turn(&mut self, hand_offs: usize) -> Result<()> {
        let clients = self.0.len();
        ensure!(hand_offs.is_multiple_of(clients), "{hand_offs} are no rounds of {clients}");
        for turn in 0..hand_offs {
            let (holder, pair) = &mut self.0[turn % clients];
            holder.send_packed_command(&[&pair.release[..], &pair.acquire[..]].concat())?;
            ensure!(holder.recv_response()? == Value::Int(1), "the holder releases");
            let (next, _) = &mut self.0[(turn + 1) % clients];
            ensure!(next.recv_response()? != Value::Nil, "the next one is told");
        }
        Ok(())
    }
}
