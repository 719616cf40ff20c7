//! Who waits for whom: all lines of all locks at one moment, as a graph.

use std::collections::{BTreeMap, HashSet};

use redis::RedisError;

use crate::connect::Server;
use crate::exit::{Failure, Outcome};
use crate::locks::{self, Filter, Lock, Waiter};

/// A lock, and those who wait for it, the next one first.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub lock: Lock,
    pub waiters: Vec<Waiter>,
}

/// All locks that somebody waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(pub BTreeMap<Vec<u8>, Line>);

impl Waits {
    /// Asks all nodes. Of each line so many are looked at.
    pub(crate) async fn ask(server: &Server, pattern: Option<Vec<u8>>, most: usize) -> Outcome<Self> {
        let mut waits = Self::default();
        let filter = Filter { pattern, owner: None, contended: true };
        for mut node in server.nodes().await? {
            let names = locks::names(&mut node, &filter).await?;
            for lock in locks::read(&mut node, &names).await? {
                let waiters = match locks::line(&mut node, &lock.key, most).await {
                    Ok(waiters) => waiters,
                    Err(error) if is_gone(&error) => continue,
                    Err(error) => return Err(Failure::from(error)),
                };
                waits.0.insert(lock.key.clone(), Line { lock, waiters });
            }
        }
        Ok(waits)
    }

    /// All waits of an owner.
    pub(crate) fn of<'a>(&'a self, owner: &'a [u8]) -> impl Iterator<Item = (&'a Line, usize, &'a Waiter)> {
        self.0.values().flat_map(move |line| {
            let waiters = line.waiters.iter().enumerate();
            waiters
                .filter(move |(_, waiter)| waiter.owner == owner)
                .map(move |(at, waiter)| (line, at, waiter))
        })
    }

    /// Whom these owners wait for in the end: those that hold something in the way and wait for nothing themselves.
    /// Empty if they wait for each other in a circle.
    pub(crate) fn roots(&self, owner: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut roots, mut seen, mut next) = (Vec::new(), HashSet::new(), vec![owner.to_vec()]);
        while let Some(owner) = next.pop() {
            if !seen.insert(owner.clone()) {
                continue;
            }
            for (line, _, waiter) in self.of(&owner) {
                for holder in &waiter.blocked_by {
                    let root = (holder.clone(), line.lock.key.clone());
                    if self.of(holder).next().is_none() && !roots.contains(&root) {
                        roots.push(root);
                    }
                }
                next.extend(waiter.blocked_by.iter().chain(&waiter.behind).cloned());
            }
        }
        roots
    }
}

/// The key is no lock any more.
fn is_gone(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}
