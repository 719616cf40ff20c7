//! The lock service of etcd: a lease that is kept alive, and a call that waits in the server.

use super::{Lock, Terms};
use anyhow::{Context, Result};
use async_trait::async_trait;
use etcd_client::{Client, LockOptions};
use std::time::Duration;
use tokio::task::JoinHandle;

pub(super) struct Etcd {
    link: Client,
    terms: Terms,
    lease: i64,
    key: Vec<u8>,
    sent: u64,
    renewals: JoinHandle<()>,
}

impl Etcd {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        let port = terms.ports.first().context("no port")?;
        let mut link = Client::connect([format!("127.0.0.1:{port}")], None).await?;
        let seconds = terms.lease.as_secs().max(1) as i64;
        let lease = link.lease_grant(seconds, None).await?.id();
        let (mut keeper, mut replies) = link.lease_keep_alive(lease).await?;
        let pause = Duration::from_secs(seconds as u64) / 3;
        let renewals = tokio::spawn(async move {
            while keeper.keep_alive().await.is_ok() && matches!(replies.message().await, Ok(Some(_))) {
                tokio::time::sleep(pause).await;
            }
        });
        Ok(Self { link, terms, lease, key: Vec::new(), sent: 0, renewals })
    }
}

#[async_trait(?Send)]
impl Lock for Etcd {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        let options = LockOptions::new().with_lease(self.lease);
        let reply = self.link.lock(self.terms.name.as_str(), Some(options)).await?;
        self.key = reply.key().to_vec();
        Ok(reply.header().map(|header| header.revision()))
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        // The reply is the same whether the key was there or not.
        self.link.unlock(self.key.clone()).await?;
        Ok(true)
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.renewals.abort();
    }
}
