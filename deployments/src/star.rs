//! A primary and replicas that follow it without anything in between, so that a server can hand over to one by itself.

use anyhow::Result;

use crate::net::Net;
use crate::node::{wait_for, Node, Programs};

pub(crate) struct Star {
    pub(crate) nodes: Vec<Node>,
    /// The place of the primary among them, and on the net.
    pub(crate) primary: usize,
    /// After the nodes, which are ended first.
    pub(crate) net: Net,
}

impl Star {
    pub(crate) fn start(programs: &Programs, count: usize, lines: &[&str]) -> Result<Star> {
        Star::start_on(Net::Whole, programs, count, lines)
    }

    pub(crate) fn start_on(mut net: Net, programs: &Programs, count: usize, lines: &[&str]) -> Result<Star> {
        let mut nodes = vec![Node::start_at(net.seat()?, programs, lines)?];
        let follow = format!("replicaof {}", nodes[0].host_and_port());
        while nodes.len() < count {
            nodes.push(Node::start_at(net.seat()?, programs, &[lines, &[&follow]].concat())?);
        }
        let star = Star { nodes, primary: 0, net };
        star.wait_linked()?;
        Ok(star)
    }

    pub(crate) fn primary(&self) -> &Node {
        &self.nodes[self.primary]
    }

    fn replicas(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.address() != self.primary().address())
    }

    /// Until all replicas hear, and the primary knows them.
    pub(crate) fn wait_linked(&self) -> Result<()> {
        wait_for("the replicas to hear", || {
            self.replicas().all(|node| node.info("master_link_status") == "up")
                && self.primary().info_int("connected_slaves") == self.nodes.len() as i64 - 1
        })
    }

    /// Has the primary hand over to this one by FAILOVER, and waits until both have done so.
    pub(crate) fn hand_over(&mut self, to: usize) -> Result<()> {
        self.primary().order(&format!("FAILOVER TO {}", self.nodes[to].host_and_port()))?;
        wait_for("the handover", || {
            self.nodes[to].info("role") == "master" && self.primary().info("role") == "slave"
        })?;
        self.primary = to;
        Ok(())
    }

    /// Has all others follow the primary.
    pub(crate) fn gather(&self) -> Result<()> {
        for node in self.replicas() {
            node.order(&format!("REPLICAOF {}", self.primary().host_and_port()))?;
        }
        self.wait_linked()
    }
}
