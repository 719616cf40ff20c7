//! Three Sentinels that watch a primary and its replicas, and promote one of them by themselves or when they are told to.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::conn::Reply;
use crate::node::{wait_for, Node, Programs};
use crate::star::Star;

pub(crate) struct Sentinels(Vec<Node>);

impl Sentinels {
    /// `down_after_ms`: for how long a primary must be silent until it is given up.
    pub(crate) fn start(programs: &Programs, star: &mut Star, down_after_ms: u32) -> Result<Sentinels> {
        let lines = [
            format!("sentinel monitor locks {} 2", star.primary().host_and_port()),
            format!("sentinel down-after-milliseconds locks {down_after_ms}"),
            "sentinel failover-timeout locks 6000".to_owned(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let start = |_| Node::start_as(star.net.seat()?, programs, &lines, &["--sentinel"]);
        Ok(Sentinels((0..3).map(start).collect::<Result<_>>()?))
    }

    pub(crate) fn wait_know_all(&self, star: &Star) -> Result<()> {
        wait_for("the Sentinels to know all", || self.0.iter().all(|sentinel| knows_all(sentinel, star)))
    }

    pub(crate) fn fail_over(&self) -> Result<()> {
        self.0[0].order("SENTINEL FAILOVER locks")
    }

    /// Until another server is the primary, says the Sentinel and says that server.
    pub(crate) fn wait_promotion(&self, star: &mut Star) -> Result<()> {
        let before = star.primary().peers();
        let named = || address_in(&self.0[0].ask("SENTINEL GET-MASTER-ADDR-BY-NAME locks"));
        wait_for("another primary", || named().is_some_and(|address| address != before))?;
        let address = named().context("no primary")?;
        let place = star.nodes.iter().position(|node| node.peers() == address);
        star.primary = place.context("a strange primary")?;
        wait_for("its promotion", || star.primary().info("role") == "master")
    }
}

fn address_in(reply: &Reply) -> Option<SocketAddr> {
    let Reply::List(words) = reply else { return None };
    format!("{}:{}", words.first()?.text(), words.get(1)?.text()).parse().ok()
}

fn knows_all(sentinel: &Node, star: &Star) -> bool {
    let Reply::List(words) = sentinel.ask("SENTINEL MASTER locks") else { return false };
    let field = |name: &str| {
        let pair = words.chunks_exact(2).find(|pair| pair[0].text() == name);
        pair.map(|pair| pair[1].text().to_owned()).unwrap_or_default()
    };
    format!("{} {}", field("ip"), field("port")) == star.primary().host_and_port()
        && field("flags") == "master"
        && field("num-other-sentinels") == "2"
        && field("num-slaves") == "2"
}
