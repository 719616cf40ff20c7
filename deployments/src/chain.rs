//! A primary, its replica, and the replica's replica: whoever dies at the head, the next one takes over, and a new one is
//! added at the tail.

use std::collections::VecDeque;

use anyhow::{ensure, Context, Result};

use crate::link::Link;
use crate::node::{wait_for, Node, Programs};

pub(crate) struct Chain {
    programs: Programs,
    lines: Vec<String>,
    /// The primary first. Each but the first hears of the one before it over its link.
    nodes: VecDeque<(Node, Option<Link>)>,
}

impl Chain {
    pub(crate) fn start(programs: &Programs, length: usize, lines: &[&str]) -> Result<Chain> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut chain = Chain { programs: programs.clone(), lines, nodes: VecDeque::new() };
        while chain.nodes.len() < length {
            chain.extend()?;
        }
        Ok(chain)
    }

    /// Adds one at the tail, and waits until it hears.
    pub(crate) fn extend(&mut self) -> Result<()> {
        let link = self.nodes.back().map(|(last, _)| Link::to(last.port())).transpose()?;
        let follow = link.as_ref().map(|link| format!("replicaof 127.0.0.1 {}", link.port()));
        let lines = self.lines.iter().map(String::as_str).chain(follow.as_deref());
        let node = Node::start(&self.programs, &lines.collect::<Vec<_>>())?;
        self.nodes.push_back((node, link));
        self.wait_linked()
    }

    /// Until each replica hears.
    pub(crate) fn wait_linked(&self) -> Result<()> {
        let replicas = || self.nodes.iter().skip(1);
        wait_for("the replicas to hear", || {
            replicas().all(|(node, _)| node.info("master_link_status") == "up")
        })
    }

    pub(crate) fn primary(&self) -> &Node {
        &self.nodes[0].0
    }

    /// From now on the first replica hears nothing more.
    pub(crate) fn withhold(&self) -> Result<()> {
        self.nodes[1].1.as_ref().context("a replica without a link")?.withhold();
        Ok(())
    }

    /// Ends the primary, and what was withheld is lost.
    pub(crate) fn kill_primary(&mut self) -> Result<()> {
        let (mut node, _) = self.take_primary()?;
        node.kill();
        self.cut();
        Ok(())
    }

    /// Takes the primary out of the chain as it is. Its replica is told of nothing until the link is cut.
    pub(crate) fn take_primary(&mut self) -> Result<(Node, Option<Link>)> {
        ensure!(self.nodes.len() > 1, "nobody would be left");
        self.nodes.pop_front().context("no primary")
    }

    /// Cuts the link of the one that is the first now, for ever.
    pub(crate) fn cut(&mut self) {
        drop(self.nodes[0].1.take());
    }

    /// Makes the first one a primary.
    pub(crate) fn promote(&self) -> Result<()> {
        self.primary().order("REPLICAOF NO ONE")
    }
}
