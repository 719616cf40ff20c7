//! Three primaries with a third of the slots each, and a replica for each.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};

use crate::conn::Reply;
use crate::net::Net;
use crate::node::{wait_for, Node, Programs};

const SLOTS: usize = 16_384;
const SHARDS: usize = 3;

/// After so long a node that is silent is taken for dead.
pub(crate) const NODE_TIMEOUT_MS: u32 = 2000;

pub(crate) struct Cluster {
    /// The primaries first, and then the replica of each; each in its place on the net.
    pub(crate) nodes: Vec<Node>,
    /// After the nodes, which are ended first.
    pub(crate) net: Net,
}

impl Cluster {
    pub(crate) fn start(programs: &Programs, lines: &[&str]) -> Result<Cluster> {
        Cluster::start_on(Net::Whole, programs, lines)
    }

    pub(crate) fn start_on(mut net: Net, programs: &Programs, lines: &[&str]) -> Result<Cluster> {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..SHARDS * 2 {
            buses.push(testbed::free_port());
            let timeout = format!("cluster-node-timeout {NODE_TIMEOUT_MS}");
            let bus = format!("cluster-port {}", buses.last().context("a port")?);
            let own = ["cluster-enabled yes", &timeout, "cluster-replica-validity-factor 0", &bus];
            nodes.push(Node::start_at(net.seat()?, programs, &[&own, lines].concat())?);
        }
        let cluster = Cluster { nodes, net };
        let first = cluster.nodes[0].host_and_port();
        for (number, node) in cluster.nodes.iter().enumerate() {
            if number < SHARDS {
                let (from, to) = (SLOTS * number / SHARDS, SLOTS * (number + 1) / SHARDS - 1);
                node.order(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"))?;
                node.order(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1))?;
            }
            if number > 0 {
                node.order(&format!("CLUSTER MEET {first} {}", buses[0]))?;
            }
        }
        for number in SHARDS..SHARDS * 2 {
            let primary = cluster.id(number - SHARDS);
            cluster.nodes[number].order(&format!("CLUSTER REPLICATE {primary}"))?;
        }
        cluster.wait_well()?;
        Ok(cluster)
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    pub(crate) fn id(&self, node: usize) -> String {
        self.nodes[node].ask("CLUSTER MYID").text().to_owned()
    }

    /// Until all nodes say that all is well, each third has a replica that hears, and all agree.
    pub(crate) fn wait_well(&self) -> Result<()> {
        wait_for("the cluster to be well", || {
            let is_well = |node: &Node| {
                let info = node.ask("CLUSTER INFO");
                let has = |line: &str| info.text().lines().any(|found| found == line);
                has("cluster_state:ok")
                    && has("cluster_known_nodes:6")
                    && (node.info("role") == "slave" && node.info("master_link_status") == "up"
                        || node.info_int("connected_slaves") >= 1)
            };
            self.nodes.iter().all(is_well) && self.primaries().len() == SHARDS
        })
    }

    /// The places of those that are primaries now.
    pub(crate) fn primaries(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|place| self.nodes[*place].info("role") == "master").collect()
    }

    /// The primary that has the slot of this key.
    pub(crate) fn owner(&self, key: &str) -> Option<usize> {
        let question = format!("LOCK.CHECK {key} nobody");
        self.primaries().into_iter().find(|place| self.nodes[*place].ask(&question).int().is_some())
    }

    /// The replica of this primary.
    pub(crate) fn replica_of(&self, primary: usize) -> Option<usize> {
        let port = self.nodes[primary].port().to_string();
        (0..self.nodes.len()).find(|place| self.nodes[*place].info("master_port") == port)
    }

    /// Moves the slot of this key to another primary: at once where the server can, otherwise key by key, as redis-cli does.
    pub(crate) fn migrate(&self, key: &str, from: usize, to: usize) -> Result<()> {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let slot = source.ask(&format!("CLUSTER KEYSLOT {key}")).int().context("no slot")?;
        if source.info("valkey_version").is_empty() {
            target.order(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.id(from)))?;
            source.order(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.id(to)))?;
            while let Reply::List(keys) = source.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100")) {
                if keys.is_empty() {
                    break;
                }
                let keys: Vec<&str> = keys.iter().map(Reply::text).collect();
                source.ask(&format!("MIGRATE {}  0 5000 KEYS {}", target.host_and_port(), keys.join(" ")));
            }
            target.order(&format!("CLUSTER SETSLOT {slot} NODE {}", self.id(to)))?;
            source.order(&format!("CLUSTER SETSLOT {slot} NODE {}", self.id(to)))?;
        } else {
            source.order(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", self.id(to)))?;
        }
        wait_for("the slot to move", || self.owner(key) == Some(to))
    }

    /// Has redis-cli move so many slots.
    pub(crate) fn reshard(&self, from: usize, to: usize, slots: u32) -> Result<()> {
        let status = Command::new("redis-cli")
            .args(["--cluster", "reshard", &self.nodes[from].address().to_string()])
            .args(["--cluster-from", &self.id(from), "--cluster-to", &self.id(to)])
            .args(["--cluster-slots", &slots.to_string(), "--cluster-yes"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot run redis-cli")?;
        ensure!(status.success(), "redis-cli could not move the slots");
        Ok(())
    }
}
