//! Locks in PostgreSQL: an advisory lock of the session, and a row locked by an open transaction.

use super::{Lock, Terms};
use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

async fn connect(terms: &Terms) -> Result<Client> {
    let port = terms.ports.first().context("no port")?;
    let words = format!("host=127.0.0.1 port={port} user=postgres");
    let (client, connection) = tokio_postgres::connect(&words, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(super) struct Advisory {
    link: Client,
    terms: Terms,
    lock: Statement,
    unlock: Statement,
    sent: u64,
}

impl Advisory {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        let link = connect(&terms).await?;
        let lock = link.prepare("SELECT pg_advisory_lock(hashtextextended($1::text, 0))").await?;
        let unlock = link.prepare("SELECT pg_advisory_unlock(hashtextextended($1::text, 0))").await?;
        Ok(Self { link, terms, lock, unlock, sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for Advisory {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        self.link.query_one(&self.lock, &[&self.terms.name]).await?;
        Ok(None)
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        Ok(self.link.query_one(&self.unlock, &[&self.terms.name]).await?.get(0))
    }

    async fn take_all(&mut self, names: &[String]) -> Result<()> {
        self.sent += names.len() as u64;
        let words: Vec<[&(dyn ToSql + Sync); 1]> = names.iter().map(|name| [name as _]).collect();
        // Sent as they are polled for the first time, in this order.
        try_join_all(words.iter().map(|word| self.link.query_one(&self.lock, word))).await?;
        Ok(())
    }

    async fn pairs(&mut self, names: &[String]) -> Result<()> {
        self.sent += 2 * names.len() as u64;
        let words: Vec<[&(dyn ToSql + Sync); 1]> = names.iter().map(|name| [name as _]).collect();
        let both = words.iter().flat_map(|word| [(&self.lock, word), (&self.unlock, word)]);
        try_join_all(both.map(|(statement, word)| self.link.query_one(statement, word))).await?;
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}

pub(super) struct Row {
    link: Client,
    terms: Terms,
    sent: u64,
}

impl Row {
    pub(super) async fn connect(terms: Terms) -> Result<Self> {
        let link = connect(&terms).await?;
        // Many clients come at once, and IF NOT EXISTS alone lets two of them try.
        let make = "BEGIN; SELECT pg_advisory_xact_lock(0);
             CREATE TABLE IF NOT EXISTS locks (name TEXT PRIMARY KEY); COMMIT";
        link.batch_execute(make).await?;
        link.execute("INSERT INTO locks VALUES ($1) ON CONFLICT DO NOTHING", &[&terms.name]).await?;
        Ok(Self { link, terms, sent: 0 })
    }
}

#[async_trait(?Send)]
impl Lock for Row {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        // One message for both statements; names here are made of letters and digits.
        let words = format!("BEGIN; SELECT 1 FROM locks WHERE name='{}' FOR UPDATE", self.terms.name);
        self.link.batch_execute(&words).await?;
        Ok(None)
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        self.link.batch_execute("COMMIT").await?;
        Ok(true)
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn rename(&mut self, name: &str) {
        self.terms.name = name.into();
    }
}
