//! What a held lock costs in memory, next to a plain `SET key owner PX` with the same names and owners.

use super::holding::Kind;
use crate::report::{align_right, new_table, number, Aim, Report};
use crate::server::{info_number, wait_for};
use crate::setting::Setting;
use anyhow::Result;
use redis::Connection;
use std::thread;
use std::time::Duration;

const TITLE: &str = "1 M held locks";
const LOCKS: usize = 1_000_000;
/// Longer than the workload.
const LEASE_MS: u64 = 3_600_000;
/// The server moves the last entries of a growing hash table a little at a time, ten times a second.
const SETTLE: Duration = Duration::from_secs(30);
const SETTLE_STEP: Duration = Duration::from_millis(300);

struct Bytes {
    used: f64,
    resident: f64,
}

pub fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let server = setting.server().start()?;
    let mut control = server.control()?;
    let plain = per_lock(&mut control, Kind::PlainKey)?;
    let held = setting.has_module().then(|| per_lock(&mut control, Kind::Lock)).transpose()?;

    let mut table = new_table(["1 M of", "bytes each", "resident bytes each"]);
    (1..3).for_each(|column| align_right(&mut table, column));
    let rows = [(Kind::PlainKey, Some(&plain)), (Kind::Lock, held.as_ref())];
    for (kind, bytes) in rows.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?))) {
        table.add_row([kind.to_string(), number(bytes.used), number(bytes.resident)]);
    }
    println!("\n## {TITLE}\n\n{table}");
    let ratio: Vec<f64> = held.iter().map(|held| held.used / plain.used).collect();
    report.check(TITLE, &format!("bytes per lock / {}", Kind::PlainKey), Aim::AtMost(1.3), &ratio);
    Ok(())
}

fn per_lock(control: &mut Connection, kind: Kind) -> Result<Bytes> {
    redis::cmd("FLUSHALL").arg("SYNC").exec(control)?;
    let before = settled(control)?;
    kind.take(control, 0..LOCKS, |_| LEASE_MS)?;
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
