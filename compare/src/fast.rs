//! Is it fast? Crowds of clients, each with a connection of its own, on free locks and on one lock.
//! Every peer runs once in each round, and a ratio is taken inside a round: the machine drifts and takes all along.

use crate::crowd::Crowd;
use crate::log::{Sample, Served};
use crate::servers::Group;
use anyhow::Result;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Whose locks a crowd asks for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Names {
    /// All ask for the same one.
    One,
    /// Each for one of its own.
    Own,
    /// Each for so many of its own, all in one go.
    Batch(usize),
}

impl Names {
    pub(crate) fn batch(self) -> usize {
        match self {
            Self::Batch(size) => size,
            _ => 1,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Work {
    pub clients: usize,
    pub names: Names,
    pub hold: Duration,
}

/// One round of one peer.
pub(crate) async fn measure(crowd: &mut Crowd, group: &Group, length: Duration) -> Result<Sample> {
    crowd.begin().await?;
    sleep(crowd.warm_up()).await;
    let before = (group.cpu(), crowd.counts_at_servers().then(|| group.requests()).transpose()?);
    let from = Instant::now();
    sleep(length).await;
    let to = Instant::now();
    let cpu = group.cpu() - before.0;
    let requests = match before.1 {
        Some(before) => Some(group.requests()? - before),
        None => None,
    };
    let window = crowd.nanos(from)..crowd.nanos(to);
    crowd.end().await?.sample(crowd.work, window, &Served { cpu, requests })
}
