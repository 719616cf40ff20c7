//! Locks in MariaDB: a column set to 1 as it is taught, a row with owner and expiry, and GET_LOCK.

use super::{Lock, Terms};
use anyhow::{ensure, Context, Result};
use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Value};
use tokio::time::sleep;

/// Names of rows are bound to be there before anybody locks them.
async fn connect(terms: &Terms) -> Result<Conn> {
    let port = *terms.ports.first().context("no port")?;
    let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).user(Some("root"));
    let mut link = Conn::new(options.prefer_socket(false)).await?;
    link.query_drop("CREATE DATABASE IF NOT EXISTS compare").await?;
    link.query_drop("USE compare").await?;
    link.query_drop(
        "CREATE TABLE IF NOT EXISTS locks (name VARCHAR(64) PRIMARY KEY, value INT NOT NULL DEFAULT 0,
         owner VARCHAR(64), until DATETIME(6)) ENGINE=InnoDB",
    )
    .await?;
    link.exec_drop("INSERT IGNORE INTO locks (name) VALUES (?)", (&terms.name,)).await?;
    Ok(link)
}

pub(super) struct Taught {
    link: Conn,
    terms: Terms,
    sent: u64,
}

impl Taught {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        Ok(Self { link: connect(&terms).await?, terms, sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for Taught {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        self.link.exec_drop("UPDATE locks SET value=1 WHERE name=?", (&self.terms.name,)).await?;
        Ok(None)
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        self.link.exec_drop("UPDATE locks SET value=0 WHERE name=?", (&self.terms.name,)).await?;
        Ok(true)
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}

pub(super) struct Row {
    link: Conn,
    terms: Terms,
    sent: u64,
}

impl Row {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        Ok(Self { link: connect(&terms).await?, terms, sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for Row {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        loop {
            self.sent += 1;
            let lease = self.terms.lease.as_micros() as u64;
            self.link
                .exec_drop(
                    "UPDATE locks SET owner=?, until=NOW(6) + INTERVAL ? MICROSECOND
                     WHERE name=? AND (owner IS NULL OR until < NOW(6))",
                    (&self.terms.owner, lease, &self.terms.name),
                )
                .await?;
            if self.link.affected_rows() == 1 {
                return Ok(None);
            }
            sleep(self.terms.pause()).await;
        }
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        let words = (&self.terms.name, &self.terms.owner);
        self.link.exec_drop("UPDATE locks SET owner=NULL WHERE name=? AND owner=?", words).await?;
        Ok(self.link.affected_rows() == 1)
    }

    /// Rows that are not there yet come with their owner.
    async fn take_all(&mut self, names: &[String]) -> Result<()> {
        let rows = vec!["(?, ?, NOW(6) + INTERVAL ? MICROSECOND)"; names.len()].join(", ");
        let lease = self.terms.lease.as_micros() as u64;
        let words = names.iter().flat_map(|name| [name.into(), (&self.terms.owner).into(), lease.into()]);
        let words: Vec<Value> = words.collect();
        self.sent += 1;
        self.link.exec_drop(format!("INSERT INTO locks (name, owner, until) VALUES {rows}"), words).await?;
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}

pub(super) struct GetLock {
    link: Conn,
    terms: Terms,
    sent: u64,
}

impl GetLock {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        Ok(Self { link: connect(&terms).await?, terms, sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for GetLock {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        let got: Option<Option<i64>> =
            self.link.exec_first("SELECT GET_LOCK(?, 86400)", (&self.terms.name,)).await?;
        ensure!(got.flatten() == Some(1), "GET_LOCK: {got:?}");
        Ok(None)
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        let gave: Option<Option<i64>> =
            self.link.exec_first("SELECT RELEASE_LOCK(?)", (&self.terms.name,)).await?;
        Ok(gave.flatten() == Some(1))
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}
