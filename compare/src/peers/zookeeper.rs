//! Locks in ZooKeeper: a node that is created and watched as it is taught, and the recipe of its documentation.

use super::{Lock, Terms};
use anyhow::{Context, Result};
use async_trait::async_trait;
use zookeeper_client::{Acls, Client, CreateMode, Error};

async fn connect(terms: &Terms) -> Result<Client> {
    let port = terms.ports.first().context("no port")?;
    let connector = Client::connector().with_session_timeout(terms.lease);
    Ok(connector.connect(&format!("127.0.0.1:{port}")).await?)
}

pub(super) struct Taught {
    link: Client,
    path: String,
    sent: u64,
}

impl Taught {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        Ok(Self { link: connect(&terms).await?, path: format!("/{}", terms.name), sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for Taught {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        loop {
            self.sent += 1;
            let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
            match self.link.create(&self.path, b"", &options).await {
                Ok(_) => return Ok(None),
                Err(Error::NodeExists) => {}
                Err(error) => return Err(error.into()),
            }
            self.sent += 1;
            let (there, watcher) = self.link.check_and_watch_stat(&self.path).await?;
            if there.is_some() {
                watcher.changed().await;
            }
        }
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        match self.link.delete(&self.path, None).await {
            Ok(()) => Ok(true),
            Err(Error::NoNode) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.path = format!("/{name}");
    }
}

/// Each client has an ephemeral node with a number, and watches the one before its own.
pub(super) struct Recipe {
    link: Client,
    folder: String,
    mine: String,
    sent: u64,
}

impl Recipe {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        let link = connect(&terms).await?;
        let folder = format!("/{}", terms.name);
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        link.mkdir(&folder, &options).await?;
        Ok(Self { link, folder, mine: String::new(), sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for Recipe {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        let prefix = format!("{}/lock-", self.folder);
        let (_, number) = self.link.create(&prefix, b"", &options).await?;
        let name = format!("lock-{number}");
        self.mine = format!("{}/{name}", self.folder);
        loop {
            self.sent += 1;
            let children = self.link.list_children(&self.folder).await?;
            anyhow::ensure!(children.contains(&name), "the node is gone, and the session with it");
            let Some(before) = children.into_iter().filter(|child| *child < name).max() else {
                return Ok(Some(number.into_i64()));
            };
            self.sent += 1;
            let path = format!("{}/{before}", self.folder);
            let (there, watcher) = self.link.check_and_watch_stat(&path).await?;
            if there.is_some() {
                watcher.changed().await;
            }
        }
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        match self.link.delete(&self.mine, None).await {
            Ok(()) => Ok(true),
            Err(Error::NoNode) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Each name has a folder of its own.
    async fn take_all(&mut self, names: &[String]) -> Result<()> {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        for name in names {
            self.rename(name);
            self.sent += 1;
            self.link.mkdir(&self.folder, &options).await?;
            self.acquire().await?;
        }
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.folder = format!("/{name}");
    }
}
