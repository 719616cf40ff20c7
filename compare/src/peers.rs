//! The locks that are compared: what each is called, which servers it needs, and how a client of it is made.

pub mod child;
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
pub struct Terms {
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
    pub fn pause(&self) -> Duration {
        self.poll.mul_f64(rand::random_range(0.5..1.5))
    }
}

/// One client of one lock.
#[async_trait(?Send)]
pub trait Lock {
    /// Waits until this client has the lock. A lock that numbers its grants says the number.
    async fn acquire(&mut self) -> Result<Option<i64>>;
    /// False: it was not this client's any more, and the lock says so.
    async fn release(&mut self) -> Result<bool>;
    /// Requests sent so far.
    fn sent(&self) -> u64;
    /// From now on another lock.
    fn rename(&mut self, name: &str);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    Module,
    RedisTaught,
    RedisSet,
    Redlock,
    RedisPy,
    PythonRedisLock,
    RedissonLock,
    RedissonFair,
    Redsync,
    MariaTaught,
    MariaRow,
    MariaGetLock,
    PgAdvisory,
    PgRow,
    ZooTaught,
    ZooRecipe,
    Kazoo,
    Curator,
    Etcd,
}

pub const PEERS: [Peer; 19] = [
    Peer::Module,
    Peer::RedisTaught,
    Peer::RedisSet,
    Peer::Redlock,
    Peer::RedisPy,
    Peer::PythonRedisLock,
    Peer::RedissonLock,
    Peer::RedissonFair,
    Peer::Redsync,
    Peer::MariaTaught,
    Peer::MariaRow,
    Peer::MariaGetLock,
    Peer::PgAdvisory,
    Peer::PgRow,
    Peer::ZooTaught,
    Peer::ZooRecipe,
    Peer::Kazoo,
    Peer::Curator,
    Peer::Etcd,
];

/// How long a holder that says nothing keeps the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Life {
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
    pub fn kind(self) -> Kind {
        match self {
            Self::Module => Kind::Module,
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

    pub fn life(self) -> Life {
        match self {
            Self::MariaTaught | Self::ZooTaught => Life::Endless,
            Self::MariaGetLock | Self::PgAdvisory | Self::PgRow => Life::Connection,
            Self::ZooRecipe | Self::Kazoo | Self::Curator | Self::Etcd => Life::Session,
            _ => Life::Lease,
        }
    }

    /// Whether a refused client sleeps and asks again.
    pub fn polls(self) -> bool {
        matches!(self, Self::RedisTaught | Self::RedisSet | Self::Redlock | Self::MariaRow)
    }

    /// The language whose program runs it; none for those in this program.
    pub fn language(self) -> Option<child::Language> {
        use child::Language::{Go, Java, Python};
        match self {
            Self::RedisPy | Self::PythonRedisLock | Self::Kazoo => Some(Python),
            Self::RedissonLock | Self::RedissonFair | Self::Curator => Some(Java),
            Self::Redsync => Some(Go),
            _ => None,
        }
    }

    /// The word for it on a command line.
    pub fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    pub fn from_word(word: &str) -> Option<Self> {
        PEERS.into_iter().find(|peer| peer.word() == word)
    }

    /// A client in this process.
    pub async fn client(self, terms: Terms) -> Result<Box<dyn Lock>> {
        Ok(match self {
            Self::Module => Box::new(redis::Module::connect(terms).await?),
            Self::RedisTaught => Box::new(redis::Taught::connect(terms).await?),
            Self::RedisSet => Box::new(redis::Set::connect(terms).await?),
            Self::Redlock => Box::new(redis::Redlock::connect(terms).await?),
            Self::MariaTaught => Box::new(mariadb::Taught::connect(terms).await?),
            Self::MariaRow => Box::new(mariadb::Row::connect(terms).await?),
            Self::MariaGetLock => Box::new(mariadb::GetLock::connect(terms).await?),
            Self::PgAdvisory => Box::new(postgres::Advisory::connect(terms).await?),
            Self::PgRow => Box::new(postgres::Row::connect(terms).await?),
            Self::ZooTaught => Box::new(zookeeper::Taught::connect(terms).await?),
            Self::ZooRecipe => Box::new(zookeeper::Recipe::connect(terms).await?),
            Self::Etcd => Box::new(etcd::Etcd::connect(terms).await?),
            _ => anyhow::bail!("{self} runs in a program of its own"),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "this module",
            Self::RedisTaught => "Redis as taught: GET, SET EX, DEL",
            Self::RedisSet => "Redis: SET NX PX, compare and delete",
            Self::Redlock => "Redlock over 3 servers",
            Self::RedisPy => "redis-py Lock",
            Self::PythonRedisLock => "python-redis-lock",
            Self::RedissonLock => "Redisson RLock",
            Self::RedissonFair => "Redisson RFairLock",
            Self::Redsync => "redsync over 3 servers",
            Self::MariaTaught => "database as taught: UPDATE value=1",
            Self::MariaRow => "MariaDB: UPDATE with owner and expiry",
            Self::MariaGetLock => "MariaDB GET_LOCK",
            Self::PgAdvisory => "PostgreSQL advisory lock",
            Self::PgRow => "PostgreSQL row lock",
            Self::ZooTaught => "ZooKeeper as taught: create, watch",
            Self::ZooRecipe => "ZooKeeper recipe (Rust)",
            Self::Kazoo => "ZooKeeper: kazoo Lock",
            Self::Curator => "ZooKeeper: Curator InterProcessMutex",
            Self::Etcd => "etcd v3lock",
        })
    }
}
