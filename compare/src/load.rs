//! What else runs on the machine: rates that were measured beside it are not to be trusted, and the document says so.

use anyhow::{Context, Result};
use std::fs;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Above this load the rates are not those of an idle machine.
pub(crate) const BUSY: f64 = 1.0;
const LOOK: Duration = Duration::from_secs(1);

/// Waits for what ran before, as the compiler, to be forgotten. The load then, over the last minute: how many processes run,
/// or want to.
pub(crate) async fn when_quiet(longest: Duration) -> Result<f64> {
    let began = Instant::now();
    let mut told = false;
    loop {
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().context("no load")?.parse()?;
        if load <= BUSY || began.elapsed() >= longest {
            return Ok(load);
        }
        if !told {
            eprintln!("waiting up to {} s for the machine to become quiet", longest.as_secs());
            told = true;
        }
        sleep(LOOK).await;
    }
}
