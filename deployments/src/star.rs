//! A primary and replicas that follow it without anything in between, so that a server can hand over to one by itself.

use anyhow::Result;

use crate::node::{wait_for, Node, Programs};

pub(crate) struct Star {
    pub(crate) nodes: Vec<Node>,
    /// The place of the primary among them.
    pub(crate) primary: usize,
}

impl Star {
    pub(crate) fn start(programs: &Programs, count: usize, lines: &[&str]) -> Result<Star> {
        let mut nodes = vec![Node::start(programs, lines)?];
        let follow = format!("replicaof 127.0.0.1 {}", nodes[0].port());
        while nodes.len() < count {
            nodes.push(Node::start(programs, &[lines, &[&follow]].concat())?);
        }
        let star = Star { nodes, primary: 0 };
        star.wait_linked()?;
        Ok(star)
    }

    pub(crate) fn primary(&self) -> &Node {
        &self.nodes[self.primary]
    }

    fn replicas(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.port() != self.primary().port())
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
        self.primary().order(&format!("FAILOVER TO 127.0.0.1 {}", self.nodes[to].port()))?;
        wait_for("the handover", || {
            self.nodes[to].info("role") == "master" && self.primary().info("role") == "slave"
        })?;
        self.primary = to;
        Ok(())
    }

    /// Has all others follow the primary.
    pub(crate) fn gather(&self) -> Result<()> {
        for node in self.replicas() {
            node.order(&format!("REPLICAOF 127.0.0.1 {}", self.primary().port()))?;
        }
        self.wait_linked()
    }
}
