//! Locks in Redis: this module, GET and SET as they are taught, SET NX with a script, and that on three servers.

use super::{Lock, Terms};
use anyhow::{Context, Result};
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{cmd, AsyncConnectionConfig, Cmd, IntoConnectionInfo, Pipeline, Script};
use std::time::Instant;
use tokio::time::sleep;

const COMPARE_AND_DELETE: &str =
    "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) end return 0";

/// Of the lease, for clocks that run at different speeds.
const DRIFT: f64 = 0.01;

/// One connection for each client, as clients on different machines have it.
async fn connect(port: u16) -> Result<MultiplexedConnection> {
    // As the other clients here do by themselves: small requests go out at once.
    let tcp = TcpSettings::default().set_nodelay(true);
    let client = redis::Client::open(("127.0.0.1", port).into_connection_info()?.set_tcp_settings(tcp))?;
    // A wait in the server may take as long as it takes.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

fn only(ports: &[u16]) -> Result<u16> {
    ports.first().copied().context("no port")
}

pub(super) struct Module {
    link: MultiplexedConnection,
    terms: Terms,
    sent: u64,
}

impl Module {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        Ok(Self { link: connect(only(&terms.ports)?).await?, terms, sent: 0 })
    }
}

impl Module {
    fn ask(&self, name: &str) -> Cmd {
        let mut ask = cmd("LOCK.ACQUIRE");
        ask.arg(name).arg(&self.terms.owner).arg("PX").arg(self.terms.lease.as_millis() as u64);
        ask
    }

    fn give(&self, name: &str) -> Cmd {
        let mut give = cmd("LOCK.RELEASE");
        give.arg(name).arg(&self.terms.owner);
        give
    }
}

/// Sends the commands for all these names in one go; how many they were.
async fn run(
    mut link: MultiplexedConnection,
    names: &[String],
    commands: impl Fn(&str) -> Vec<Cmd>,
) -> Result<u64> {
    let mut batch = Pipeline::new();
    for command in names.iter().flat_map(|name| commands(name)) {
        batch.add_command(command);
    }
    batch.exec_async(&mut link).await?;
    Ok(batch.len() as u64)
}

#[async_trait(?Send)]
impl Lock for Module {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        let mut ask = self.ask(&self.terms.name);
        Ok(Some(ask.arg("BLOCK").arg(0).query_async(&mut self.link).await?))
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        Ok(self.give(&self.terms.name).query_async(&mut self.link).await?)
    }

    async fn take_all(&mut self, names: &[String]) -> Result<()> {
        self.sent += run(self.link.clone(), names, |name| vec![self.ask(name)]).await?;
        Ok(())
    }

    async fn pairs(&mut self, names: &[String]) -> Result<()> {
        let both = |name: &str| vec![self.ask(name), self.give(name)];
        self.sent += run(self.link.clone(), names, both).await?;
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}

pub(super) struct Taught {
    link: MultiplexedConnection,
    terms: Terms,
    sent: u64,
}

impl Taught {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        Ok(Self { link: connect(only(&terms.ports)?).await?, terms, sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for Taught {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        loop {
            self.sent += 1;
            let held: Option<String> = cmd("GET").arg(&self.terms.name).query_async(&mut self.link).await?;
            if held.is_none() {
                self.sent += 1;
                let mut set = cmd("SET");
                set.arg(&self.terms.name).arg("1").arg("PX").arg(self.terms.lease.as_millis() as u64);
                set.exec_async(&mut self.link).await?;
                return Ok(None);
            }
            sleep(self.terms.pause()).await;
        }
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        cmd("DEL").arg(&self.terms.name).exec_async(&mut self.link).await?;
        // Nobody can tell whose it was.
        Ok(true)
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}

/// How a value is compared and deleted.
pub(super) enum Give {
    Script,
    /// Valkey 9 has a command for it.
    Delifeq,
}

pub(super) struct Set {
    link: MultiplexedConnection,
    terms: Terms,
    script: Script,
    give: Give,
    sent: u64,
}

impl Set {
    pub(super) async fn connect(terms: Terms, give: Give) -> Result<Self> {
        let mut link = connect(only(&terms.ports)?).await?;
        let script = Script::new(COMPARE_AND_DELETE);
        // The script is then called by its hash.
        script.load_async(&mut link).await?;
        Ok(Self { link, terms, script, give, sent: 0 })
    }

    fn take_command(&self, name: &str) -> Cmd {
        let mut set = cmd("SET");
        set.arg(name).arg(&self.terms.owner).arg("NX").arg("PX").arg(self.terms.lease.as_millis() as u64);
        set
    }

    fn give_command(&self, name: &str) -> Cmd {
        let mut give = match self.give {
            Give::Script => {
                let mut call = cmd("EVALSHA");
                call.arg(self.script.get_hash()).arg(1);
                call
            }
            Give::Delifeq => cmd("DELIFEQ"),
        };
        give.arg(name).arg(&self.terms.owner);
        give
    }

    async fn take(&mut self) -> Result<bool> {
        self.sent += 1;
        let reply: Option<String> = self.take_command(&self.terms.name).query_async(&mut self.link).await?;
        Ok(reply.is_some())
    }

    async fn give(&mut self) -> Result<bool> {
        self.sent += 1;
        Ok(self.give_command(&self.terms.name).query_async(&mut self.link).await?)
    }
}

#[async_trait(?Send)]
impl Lock for Set {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        while !self.take().await? {
            sleep(self.terms.pause()).await;
        }
        Ok(None)
    }

    async fn release(&mut self) -> Result<bool> {
        self.give().await
    }

    async fn take_all(&mut self, names: &[String]) -> Result<()> {
        self.sent += run(self.link.clone(), names, |name| vec![self.take_command(name)]).await?;
        Ok(())
    }

    async fn pairs(&mut self, names: &[String]) -> Result<()> {
        let both = |name: &str| vec![self.take_command(name), self.give_command(name)];
        self.sent += run(self.link.clone(), names, both).await?;
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}

/// The algorithm of the Redis documentation: a majority, in less time than the lease.
pub(super) struct Redlock {
    nodes: [Set; 3],
    terms: Terms,
}

impl Redlock {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        let node = |at: usize| {
            let ports = terms.ports.get(at).copied().into_iter().collect();
            Set::connect(Terms { ports, ..terms.clone() }, Give::Script)
        };
        let nodes = [node(0).await?, node(1).await?, node(2).await?];
        Ok(Self { nodes, terms })
    }

    async fn give(&mut self) -> Result<usize> {
        let [a, b, c] = &mut self.nodes;
        let (a, b, c) = tokio::join!(a.give(), b.give(), c.give());
        Ok([a?, b?, c?].into_iter().filter(|given| *given).count())
    }
}

#[async_trait(?Send)]
impl Lock for Redlock {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        loop {
            let asked = Instant::now();
            let [a, b, c] = &mut self.nodes;
            let (a, b, c) = tokio::join!(a.take(), b.take(), c.take());
            let got = [a?, b?, c?].into_iter().filter(|got| *got).count();
            if got >= 2 && asked.elapsed() < self.terms.lease.mul_f64(1.0 - DRIFT) {
                return Ok(None);
            }
            self.give().await?;
            sleep(self.terms.pause()).await;
        }
    }

    async fn release(&mut self) -> Result<bool> {
        Ok(self.give().await? >= 2)
    }

    async fn take_all(&mut self, names: &[String]) -> Result<()> {
        let [a, b, c] = &mut self.nodes;
        tokio::try_join!(a.take_all(names), b.take_all(names), c.take_all(names)).map(drop)
    }

    fn sent(&self) -> u64 {
        self.nodes.iter().map(|node| node.sent).sum()
    }

    fn rename(&mut self, name: &str) {
        for node in &mut self.nodes {
            node.rename(name);
        }
    }
}
