//! The locks that are compared: what each is called, which servers it needs, and how a client of it is made.

pub(crate) mod child;
mod etcd;
mod mariadb;
mod postgres;
mod redis;
mod zookeeper;

use crate::servers::Kind;
use anyhow::Result;
use async_trait::async_trait;
use std::fmt;
use std::time::Duration;

/// What a client needs to know.
#[derive(Clone)]
pub(crate) struct Terms {
    pub ports: Vec<u16>,
    /// The lock's name.
    pub name: String,
    /// Another one for each client.
    pub owner: String,
    /// For locks that expire; the life of the session for those that end with one.
    pub lease: Duration,
    /// How long a client that was refused sleeps on average, where the lock knows nothing better.
    pub poll: Duration,
}

impl Terms {
    /// Not all at the same moment, or clients that began together ask together for ever.
    pub(crate) fn pause(&self) -> Duration {
        self.poll.mul_f64(rand::random_range(0.5..1.5))
    }
}

/// One client of one lock.
#[async_trait(?Send)]
pub(crate) trait Lock {
    /// Waits until this client has the lock. A lock that numbers its grants says the number.
    async fn acquire(&mut self) -> Result<Option<i64>>;
    /// False: it was not this client's any more, and the lock says so.
    async fn release(&mut self) -> Result<bool>;
    /// Requests sent so far.
    fn sent(&self) -> u64;
    /// From now on another lock.
    fn rename(&mut self, name: &str);

    /// Takes free locks and keeps them.
    async fn take_all(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            self.rename(name);
            self.acquire().await?;
        }
        Ok(())
    }

    /// Takes and gives back free locks, all in one go, where the client can.
    async fn pairs(&mut self, _: &[String]) -> Result<()> {
        anyhow::bail!("the client cannot send the next request before it has the reply")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Module,
    ModuleValkey,
    ModuleSynced,
    RedisTaught,
    RedisSet,
    ValkeyDelifeq,
    Redlock,
    RedisPy,
    PythonRedisLock,
    RedissonLock,
    RedissonFair,
    Redsync,
    MariaTaught,
    MariaRow,
    MariaRowFast,
    MariaGetLock,
    PgAdvisory,
    PgRow,
    PgRowFast,
    ZooTaught,
    ZooRecipe,
    ZooRecipeFast,
    Kazoo,
    Curator,
    Etcd,
    EtcdFast,
}

pub(crate) const PEERS: [Peer; 26] = [
    Peer::Module,
    Peer::ModuleValkey,
    Peer::ModuleSynced,
    Peer::RedisTaught,
    Peer::RedisSet,
    Peer::ValkeyDelifeq,
    Peer::Redlock,
    Peer::RedisPy,
    Peer::PythonRedisLock,
    Peer::RedissonLock,
    Peer::RedissonFair,
    Peer::Redsync,
    Peer::MariaTaught,
    Peer::MariaRow,
    Peer::MariaRowFast,
    Peer::MariaGetLock,
    Peer::PgAdvisory,
    Peer::PgRow,
    Peer::PgRowFast,
    Peer::ZooTaught,
    Peer::ZooRecipe,
    Peer::ZooRecipeFast,
    Peer::Kazoo,
    Peer::Curator,
    Peer::Etcd,
    Peer::EtcdFast,
];

/// How long a holder that says nothing keeps the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// As long as it asked for.
    Lease,
    /// As long as the server believes in its session.
    Session,
    /// As long as its connection is open.
    Connection,
    /// For ever.
    Endless,
}

impl Peer {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Module => Kind::Module,
            Self::ModuleValkey => Kind::ModuleValkey,
            Self::ModuleSynced => Kind::ModuleSynced,
            Self::ValkeyDelifeq => Kind::Valkey,
            Self::MariaRowFast => Kind::MariaDbFast,
            Self::PgRowFast => Kind::PostgresFast,
            Self::ZooRecipeFast => Kind::ZooKeeperFast,
            Self::EtcdFast => Kind::EtcdFast,
            Self::RedisTaught
            | Self::RedisSet
            | Self::RedisPy
            | Self::PythonRedisLock
            | Self::RedissonLock
            | Self::RedissonFair => Kind::Redis,
            Self::Redlock | Self::Redsync => Kind::Redlock,
            Self::MariaTaught | Self::MariaRow | Self::MariaGetLock => Kind::MariaDb,
            Self::PgAdvisory | Self::PgRow => Kind::Postgres,
            Self::ZooTaught | Self::ZooRecipe | Self::Kazoo | Self::Curator => Kind::ZooKeeper,
            Self::Etcd => Kind::Etcd,
        }
    }

    pub(crate) fn life(self) -> Life {
        match self {
            Self::MariaTaught | Self::ZooTaught => Life::Endless,
            Self::MariaGetLock | Self::PgAdvisory | Self::PgRow | Self::PgRowFast => Life::Connection,
            Self::ZooRecipe
            | Self::ZooRecipeFast
            | Self::Kazoo
            | Self::Curator
            | Self::Etcd
            | Self::EtcdFast => Life::Session,
            _ => Life::Lease,
        }
    }

    /// Whether a refused client sleeps and asks again.
    pub(crate) fn polls(self) -> bool {
        matches!(
            self,
            Self::RedisTaught
                | Self::RedisSet
                | Self::ValkeyDelifeq
                | Self::Redlock
                | Self::MariaRow
                | Self::MariaRowFast
        )
    }

    /// Whether its client can send many requests before the first reply, on one connection.
    pub(crate) fn pipelines(self) -> bool {
        matches!(
            self,
            Self::Module
                | Self::ModuleValkey
                | Self::ModuleSynced
                | Self::RedisSet
                | Self::ValkeyDelifeq
                | Self::PgAdvisory
        )
    }

    /// This module, on whatever server.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Module | Self::ModuleValkey | Self::ModuleSynced)
    }

    /// What lets two in at once, or stays locked for ever: shown, but no measure for a lock.
    pub(crate) fn is_as_taught(self) -> bool {
        matches!(self, Self::RedisTaught | Self::MariaTaught | Self::ZooTaught)
    }

    /// The same lock on a server with other settings: as right as that, and only as fast as its settings.
    pub(crate) fn only_faster(self) -> bool {
        matches!(
            self,
            Self::ModuleSynced | Self::MariaRowFast | Self::PgRowFast | Self::ZooRecipeFast | Self::EtcdFast
        )
    }

    /// The language whose program runs it; none for those in this program.
    pub(crate) fn language(self) -> Option<child::Language> {
        use child::Language::{Go, Java, Python};
        match self {
            Self::RedisPy | Self::PythonRedisLock | Self::Kazoo => Some(Python),
            Self::RedissonLock | Self::RedissonFair | Self::Curator => Some(Java),
            Self::Redsync => Some(Go),
            _ => None,
        }
    }

    /// The word for it on a command line.
    pub(crate) fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        PEERS.into_iter().find(|peer| peer.word() == word)
    }

    /// A client in this process.
    pub(crate) async fn client(self, terms: Terms) -> Result<Box<dyn Lock>> {
        Ok(match self {
            Self::Module | Self::ModuleValkey | Self::ModuleSynced => {
                Box::new(redis::Module::connect(terms).await?)
            }
            Self::RedisTaught => Box::new(redis::Taught::connect(terms).await?),
            Self::RedisSet => Box::new(redis::Set::connect(terms, redis::Give::Script).await?),
            Self::ValkeyDelifeq => Box::new(redis::Set::connect(terms, redis::Give::Delifeq).await?),
            Self::Redlock => Box::new(redis::Redlock::connect(terms).await?),
            Self::MariaTaught => Box::new(mariadb::Taught::connect(terms).await?),
            Self::MariaRow | Self::MariaRowFast => Box::new(mariadb::Row::connect(terms).await?),
            Self::MariaGetLock => Box::new(mariadb::GetLock::connect(terms).await?),
            Self::PgAdvisory => Box::new(postgres::Advisory::connect(terms).await?),
            Self::PgRow | Self::PgRowFast => Box::new(postgres::Row::connect(terms).await?),
            Self::ZooTaught => Box::new(zookeeper::Taught::connect(terms).await?),
            Self::ZooRecipe | Self::ZooRecipeFast => Box::new(zookeeper::Recipe::connect(terms).await?),
            Self::Etcd | Self::EtcdFast => Box::new(etcd::Etcd::connect(terms).await?),
            _ => anyhow::bail!("{self} runs in a program of its own"),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "this module",
            Self::ModuleValkey => "this module on Valkey",
            Self::ModuleSynced => "this module, each write synced to disk",
            Self::RedisTaught => "Redis as taught: GET, SET EX, DEL",
            Self::RedisSet => "Redis: SET NX PX, compare and delete",
            Self::ValkeyDelifeq => "Valkey: SET NX PX, DELIFEQ",
            Self::Redlock => "Redlock over 3 servers",
            Self::RedisPy => "redis-py Lock",
            Self::PythonRedisLock => "python-redis-lock",
            Self::RedissonLock => "Redisson RLock",
            Self::RedissonFair => "Redisson RFairLock",
            Self::Redsync => "redsync over 3 servers",
            Self::MariaTaught => "database as taught: UPDATE value=1",
            Self::MariaRow => "MariaDB: UPDATE with owner and expiry",
            Self::MariaRowFast => "MariaDB: the same, not synced",
            Self::MariaGetLock => "MariaDB GET_LOCK",
            Self::PgAdvisory => "PostgreSQL advisory lock",
            Self::PgRow => "PostgreSQL row lock",
            Self::PgRowFast => "PostgreSQL row lock, not synced",
            Self::ZooTaught => "ZooKeeper as taught: create, watch",
            Self::ZooRecipe => "ZooKeeper recipe (Rust)",
            Self::ZooRecipeFast => "ZooKeeper recipe (Rust), not synced",
            Self::Kazoo => "ZooKeeper: kazoo Lock",
            Self::Curator => "ZooKeeper: Curator InterProcessMutex",
            Self::Etcd => "etcd v3lock",
            Self::EtcdFast => "etcd v3lock, not synced",
        })
    }
}
