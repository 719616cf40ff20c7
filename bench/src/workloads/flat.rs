//! Acquire and release at full speed for a long time: every lease is released long before it would end,
//! so nothing may stay behind. Something that stays behind for each pair is seen here as a slope.

use super::uncontended::{Bed, Shape};
use crate::peers::Peer;
use crate::report::{align_right, new_table, Aim, Report};
use crate::server::{info, lock_number};
use crate::setting::Setting;
use anyhow::{Context, Result};
use redis::Connection;
use std::time::{Duration, Instant};
use testbed::stats::number;

const TITLE: &str = "acquire/release at full speed, 30 s leases";
const SHAPE: Shape = Shape { clients: 50, pipeline: 32 };
const EVERY: Duration = Duration::from_secs(10);
/// Growth that can be the server's own. One byte left by each pair would be a hundred times as much.
const NOISE_BYTES: f64 = 256.0 * 1024.0;

struct Reading {
    after: Duration,
    pairs: u64,
    used: f64,
    held: Option<u64>,
    index_entries: Option<u64>,
}

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    if !setting.has_module() {
        report.skip(TITLE, "bytes grown", Aim::AtMost(NOISE_BYTES), "no module");
        return Ok(());
    }
    let server = setting.server().start()?;
    let mut control = server.control()?;
    let mut bed = Bed::new(&server, SHAPE)?;
    // Buffers, tables and the allocator's caches reach their size before the first reading.
    bed.sample(Peer::Lock, EVERY.min(setting.flat / 4))?;

    let start = Instant::now();
    let mut readings = vec![read(&mut control, Duration::ZERO, 0)?];
    let mut pairs = 0;
    while start.elapsed() < setting.flat {
        let left = setting.flat.saturating_sub(start.elapsed());
        pairs += bed.sample(Peer::Lock, EVERY.min(left))?.done;
        readings.push(read(&mut control, start.elapsed(), pairs)?);
    }
    print(&readings);

    let (first, last) = (&readings[0], &readings[readings.len() - 1]);
    let grown = last.used - first.used;
    report.check(TITLE, "bytes grown", Aim::AtMost(NOISE_BYTES), &[grown]);
    report.check(TITLE, "bytes grown per pair", Aim::None, &[grown / pairs.max(1) as f64]);
    for (metric, left) in
        [("locks held at the end", last.held), ("lease index entries at the end", last.index_entries)]
    {
        match left {
            Some(left) => report.check(TITLE, metric, Aim::Exactly(0.0), &[left as f64]),
            None => report.skip(TITLE, metric, Aim::Exactly(0.0), "not in INFO"),
        }
    }
    Ok(())
}

fn read(control: &mut Connection, after: Duration, pairs: u64) -> Result<Reading> {
    let memory = info(control, "memory")?;
    let number =
        |field: &str| memory.get::<f64>(field).with_context(|| format!("INFO memory has no {field}"));
    Ok(Reading {
        after,
        pairs,
        // The server resizes clients' buffers as it sees fit; they are not the locks'.
        used: number("used_memory")? - number("mem_clients_normal")?,
        held: lock_number(control, "lock_held"),
        index_entries: lock_number(control, "lock_lease_index_entries"),
    })
}

fn print(readings: &[Reading]) {
    let mut table =
        new_table(["after s", "pairs", "used memory less clients", "held", "lease index entries"]);
    (0..5).for_each(|column| align_right(&mut table, column));
    let count = |value: Option<u64>| value.map_or("-".to_string(), |value| value.to_string());
    for reading in readings {
        table.add_row([
            number(reading.after.as_secs_f64()),
            number(reading.pairs as f64),
            format!("{:.0}", reading.used),
            count(reading.held),
            count(reading.index_entries),
        ]);
    }
    println!("\n## {TITLE}\n\n{table}");
}
