//! What the locks protect: a number in a server of its own, which knows nothing of locks but their fences.
//! Who shows a fence is refused when a newer one was shown before, by a reader or by a writer.

use crate::servers::{Kind, Servers};
use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::Script;

const FENCED: &str = "
local newest = tonumber(redis.call('hget', KEYS[1], 'fence') or 0)
if tonumber(ARGV[1]) < newest then return -1 end
redis.call('hset', KEYS[1], 'fence', ARGV[1])
if ARGV[2] then redis.call('hset', KEYS[1], 'number', ARGV[2]) end
return tonumber(redis.call('hget', KEYS[1], 'number') or 0)";

#[derive(Clone)]
pub(crate) struct Store {
    link: MultiplexedConnection,
}

impl Store {
    pub(crate) async fn connect(servers: &Servers) -> Result<Self> {
        let group = servers.group(Kind::Store).map_err(anyhow::Error::msg)?;
        let port = *group.ports().first().context("no port")?;
        let link = redis::Client::open(("127.0.0.1", port))?.get_multiplexed_async_connection().await?;
        Ok(Self { link })
    }

    pub(crate) async fn read(&self, name: &str, fence: Option<i64>) -> Result<i64> {
        match fence {
            Some(fence) => self.fenced(name, fence, None).await,
            None => self.number(name).await,
        }
    }

    /// False: there was a newer fence, and nothing was written.
    pub(crate) async fn write(&self, name: &str, number: i64, fence: Option<i64>) -> Result<bool> {
        if let Some(fence) = fence {
            return Ok(self.fenced(name, fence, Some(number)).await? >= 0);
        }
        let mut link = self.link.clone();
        redis::cmd("HSET").arg(name).arg("number").arg(number).exec_async(&mut link).await?;
        Ok(true)
    }

    pub(crate) async fn number(&self, name: &str) -> Result<i64> {
        let mut link = self.link.clone();
        let number: Option<i64> = redis::cmd("HGET").arg(name).arg("number").query_async(&mut link).await?;
        Ok(number.unwrap_or(0))
    }

    async fn fenced(&self, name: &str, fence: i64, number: Option<i64>) -> Result<i64> {
        let script = Script::new(FENCED);
        let mut call = script.key(name);
        call.arg(fence);
        if let Some(number) = number {
            call.arg(number);
        }
        Ok(call.invoke_async(&mut self.link.clone()).await?)
    }
}
