//! The memory of a held lock, next to a plain `SET key owner PX` with the same names and owners.

use super::holding::{Kind, Names};
use crate::report::{align_right, new_table, Aim, Report};
use crate::server::{info_number, wait_for};
use crate::setting::Setting;
use anyhow::Result;
use redis::Connection;
use std::thread;
use std::time::Duration;
use testbed::stats::number;

const TITLE: &str = "held locks";
/// Tables of the server grow to powers of two: these fill them.
const LOCKS: usize = 250_000;
/// Bytes of a key and of an owner, and most bytes of ours for one of theirs.
const SIZES: [(usize, usize, f64); 2] = [(12, 32, 1.2), (17, 48, 1.3)];
/// Longer than the workload.
const LEASE_MS: u64 = 3_600_000;
/// The server moves the last entries of a growing hash table a little at a time, ten times a second.
const SETTLE: Duration = Duration::from_secs(30);
const SETTLE_STEP: Duration = Duration::from_millis(300);

struct Bytes {
    used: f64,
    resident: f64,
}

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut table = new_table(["server", "key, owner", "held by", "bytes each", "resident bytes each"]);
    (3..5).for_each(|column| align_right(&mut table, column));
    for launch in [Some(setting.server()), setting.valkey.as_ref()].into_iter().flatten() {
        let server = launch.start()?;
        let (name, mut control) = (server.name()?, server.control()?);
        for (key, owner, most) in SIZES {
            let mut each = |kind: Kind| -> Result<Bytes> {
                let bytes = per_lock(&mut control, Names { key, owner }, kind)?;
                let sizes = format!("{key}, {owner}");
                let row = [name.clone(), sizes, kind.to_string(), number(bytes.used), number(bytes.resident)];
                table.add_row(row);
                Ok(bytes)
            };
            let plain = each(Kind::PlainKey)?;
            let held = setting.has_module().then(|| each(Kind::Lock)).transpose()?;
            let ratio: Vec<f64> = held.iter().map(|held| held.used / plain.used).collect();
            let metric = format!("bytes per lock / {}, {name}, key {key}, owner {owner}", Kind::PlainKey);
            report.check(TITLE, &metric, Aim::AtMost(most), &ratio);
        }
    }
    println!("\n## {LOCKS} {TITLE}\n\n{table}");
    Ok(())
}

fn per_lock(control: &mut Connection, names: Names, kind: Kind) -> Result<Bytes> {
    redis::cmd("FLUSHALL").arg("SYNC").exec(control)?;
    let before = settled(control)?;
    kind.take(control, names, 0..LOCKS, |_| LEASE_MS)?;
    let after = settled(control)?;
    let each = |before: u64, after: u64| (after as f64 - before as f64) / LOCKS as f64;
    Ok(Bytes { used: each(before.0, after.0), resident: each(before.1, after.1) })
}

/// Used and resident memory, once the server has stopped moving things about.
fn settled(control: &mut Connection) -> Result<(u64, u64)> {
    let mut last = 0;
    wait_for("memory to settle", SETTLE, || {
        thread::sleep(SETTLE_STEP);
        let used = info_number(control, "memory", "used_memory")?;
        // One INFO differs from the next by its own buffers.
        let still = used.abs_diff(last) < 4096;
        last = used;
        Ok(still)
    })?;
    Ok((last, info_number(control, "memory", "used_memory_rss")?))
}
