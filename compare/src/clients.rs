//! With which client each lock was asked for, and of which version, as the lists of what is built say.

use crate::peers::Peer;
use anyhow::{Context, Result};

const RUST: &str = include_str!("../Cargo.lock");
const PYTHON: &str = include_str!("../clients/requirements.txt");
const JAVA: &str = include_str!("../clients/java/pom.xml");
const GO: &str = include_str!("../clients/go/go.mod");

/// Name and version.
pub(crate) fn of(peer: Peer) -> Result<String> {
    let (name, version) = match peer {
        Peer::RedisPy => ("redis-py", python("redis")),
        Peer::PythonRedisLock => ("python-redis-lock", python("python-redis-lock")),
        Peer::Kazoo => ("kazoo", python("kazoo")),
        Peer::RedissonLock | Peer::RedissonFair => ("Redisson", java("redisson")),
        Peer::Curator => ("Curator", java("curator-recipes")),
        Peer::Redsync => ("redsync", go("github.com/go-redsync/redsync/v4")),
        Peer::MariaTaught | Peer::MariaRow | Peer::MariaRowFast | Peer::MariaGetLock => {
            ("mysql_async (Rust)", rust("mysql_async"))
        }
        Peer::PgAdvisory | Peer::PgRow | Peer::PgRowFast => ("tokio-postgres (Rust)", rust("tokio-postgres")),
        Peer::ZooTaught | Peer::ZooRecipe | Peer::ZooRecipeFast => {
            ("zookeeper-client (Rust)", rust("zookeeper-client"))
        }
        Peer::Etcd | Peer::EtcdFast => ("etcd-client (Rust)", rust("etcd-client")),
        Peer::Module
        | Peer::ModuleValkey
        | Peer::ModuleSynced
        | Peer::RedisTaught
        | Peer::RedisSet
        | Peer::ValkeyDelifeq
        | Peer::Redlock => ("redis (Rust)", rust("redis")),
    };
    Ok(format!("{name} {}", version.with_context(|| format!("no version of {name}"))?))
}

fn rust(name: &str) -> Option<&'static str> {
    RUST.split_once(&format!("name = \"{name}\"\nversion = \""))?.1.split('"').next()
}

fn python(name: &str) -> Option<&'static str> {
    PYTHON.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("=="))
}

fn java(name: &str) -> Option<&'static str> {
    let rest = JAVA.split_once(&format!("<artifactId>{name}</artifactId>"))?.1;
    rest.split_once("<version>")?.1.split('<').next()
}

fn go(name: &str) -> Option<&'static str> {
    GO.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" v"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PEERS;

    #[test]
    fn each_client_has_a_version() {
        for peer in PEERS {
            let client = of(peer).unwrap();
            let version = client.rsplit(' ').next().unwrap_or_default();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{client}");
        }
    }
}
