//! The cost of each command in instructions, whatever else the machine does: the module's own, and the server's with
//! it. The budgets lie a few percent above what the code executes now, so that a dearer path shows at once; they say
//! nothing of time.

use super::ring::Ring;
use crate::callgrind::{self, Counted, Counts};
use crate::peers::Peer;
use crate::report::{align_right, new_table, Aim, Report};
use crate::setting::Setting;
use anyhow::{ensure, Result};
use redis::{Connection, Value};
use testbed::stats::number;

const TITLE: &str = "instructions";
const TIMES: usize = 10_000;
const PIPELINE: usize = 32;
const OWNER: &str = "owner-0123456789-0123456789-0123";

/// Some commands about one key: `<key>` and `<owner>` stand for the two. Leases are
/// longer than the workload.
struct Case {
    title: &'static str,
    /// The command that is sent to every key before, uncounted.
    first: &'static str,
    counted: &'static str,
    /// Most instructions in the module's own code, for all that is counted: what was measured last, and a fiftieth more.
    budget: f64,
}

const CASES: [Case; 9] = [
    Case {
        title: "acquire, release",
        first: "",
        counted: "LOCK.ACQUIRE <key> <owner> PX 3600000; LOCK.RELEASE <key> <owner>",
        budget: 1_430.0,
    },
    Case {
        title: "acquire shared, release",
        first: "",
        counted: "LOCK.ACQUIRE <key> <owner> PX 3600000 SHARED; LOCK.RELEASE <key> <owner>",
        budget: 3_940.0,
    },
    Case {
        title: "macquire 1 shared, mrelease",
        first: "",
        counted: "LOCK.MACQUIRE <owner> 1 <key> PX 3600000 SHARED; LOCK.MRELEASE <owner> 1 <key>",
        budget: 5_940.0,
    },
    Case {
        title: "acquire 2 of 8 permits, release",
        first: "",
        counted: "LOCK.ACQUIRE <key> <owner> PX 3600000 LIMIT 8 PERMITS 2; LOCK.RELEASE <key> <owner>",
        budget: 4_300.0,
    },
    Case {
        title: "acquire tied, release",
        first: "",
        counted: "LOCK.ACQUIRE <key> <owner> PX 3600000 TIED 0; LOCK.RELEASE <key> <owner>",
        budget: 5_020.0,
    },
    Case {
        title: "renew",
        first: "LOCK.ACQUIRE <key> <owner> PX 3600000",
        counted: "LOCK.RENEW <key> <owner> PX 3600000",
        budget: 1_465.0,
    },
    Case {
        title: "check",
        first: "LOCK.ACQUIRE <key> <owner> PX 3600000",
        counted: "LOCK.CHECK <key> <owner>",
        budget: 316.0,
    },
    Case {
        title: "refused acquire",
        first: "LOCK.ACQUIRE <key> other PX 3600000",
        counted: "LOCK.ACQUIRE <key> <owner> PX 3600000",
        budget: 381.0,
    },
    Case {
        title: "guarded SET",
        first: "LOCK.ACQUIRE <key> <owner> PX 3600000",
        counted: "LOCK.GUARD <key> <owner> * SET data:<key> value",
        budget: 729.0,
    },
];

/// A hand-off: one client releases and gets in line again, the next one is told.
const HAND_OFF: &str = "hand-off among 16 clients: in the module";
const HAND_OFF_BUDGET: f64 = 10_950.0;
/// The cost of LOCK.STATS: the share of these source files in all that the server executes, %.
const STATS: [&str; 2] =
    ["acquire, release: % for LOCK.STATS", "hand-off among 16 clients: % for LOCK.STATS"];
const STATS_SOURCES: [&str; 3] = ["primitive/histogram.rs", "primitive/history.rs", "primitive/contended.rs"];
const STATS_BUDGET: f64 = 3.0;
const CLIENTS: usize = 16;
const HAND_OFFS: usize = 4_000;

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let metric = |case: &Case| format!("{}: in the module", case.title);
    let missing = if callgrind::is_there() { None } else { Some("no valgrind here") };
    let missing = missing.or((!setting.has_module()).then_some("no module"));
    if let Some(reason) = missing {
        CASES.iter().for_each(|case| report.skip(TITLE, &metric(case), Aim::AtMost(case.budget), reason));
        report.skip(TITLE, HAND_OFF, Aim::AtMost(HAND_OFF_BUDGET), reason);
        STATS.iter().for_each(|metric| report.skip(TITLE, metric, Aim::AtMost(STATS_BUDGET), reason));
        return Ok(());
    }
    let mut counted = Counted::start(setting.server())?;
    let mut control = counted.server().control()?;
    // Pages are touched and tables grown before the first count.
    repeat(&mut control, CASES[0].counted)?;
    let idle = counted.count(|| repeat(&mut control, "PING"))?.total() as f64 / TIMES as f64;

    let mut stats = Vec::new();
    let mut table = new_table(["instructions of", "in the module", "in all", "above as many PINGs"]);
    (1..4).for_each(|column| align_right(&mut table, column));
    for case in &CASES {
        redis::cmd("FLUSHALL").arg("SYNC").exec(&mut control)?;
        repeat(&mut control, case.first)?;
        let counts = counted.count(|| repeat(&mut control, case.counted))?;
        stats.push(share_of_stats(&counts));
        let (own, all) = (counts.within(setting.module_file()), counts.total());
        let (own, all) = (own as f64 / TIMES as f64, all as f64 / TIMES as f64);
        let pings = idle * commands(case.counted).count() as f64;
        table.add_row([case.title.to_owned(), number(own), number(all), number(all - pings)]);
        report.check(TITLE, &metric(case), Aim::AtMost(case.budget), &[own]);
    }
    let mut ring = Ring::gather(counted.server(), Peer::Lock, CLIENTS)?;
    ring.turn(HAND_OFFS)?;
    let counts = counted.count(|| ring.turn(HAND_OFFS))?;
    let own = counts.within(setting.module_file()) as f64 / HAND_OFFS as f64;
    let all = counts.total() as f64 / HAND_OFFS as f64;
    table.add_row(["hand-off".to_owned(), number(own), number(all), String::new()]);
    report.check(TITLE, HAND_OFF, Aim::AtMost(HAND_OFF_BUDGET), &[own]);
    for (metric, share) in STATS.iter().zip([stats[0], share_of_stats(&counts)]) {
        ensure!(share > 0.0, "the module has no debug symbols, so nothing can be told of {metric}");
        report.check(TITLE, metric, Aim::AtMost(STATS_BUDGET), &[share]);
    }
    println!("\n## {TITLE}, each on {TIMES} keys, pipeline {PIPELINE}\n\n{table}");
    Ok(())
}

fn share_of_stats(counts: &Counts) -> f64 {
    100.0 * counts.of_sources(&STATS_SOURCES) as f64 / counts.total() as f64
}

/// Sends the commands for one key after the other.
fn repeat(control: &mut Connection, script: &str) -> Result<()> {
    let commands: Vec<Vec<&str>> = commands(script).collect();
    if commands.is_empty() {
        return Ok(());
    }
    for batch in (0..TIMES).collect::<Vec<_>>().chunks(PIPELINE) {
        let mut pipe = redis::pipe();
        for n in batch {
            let key = format!("key:{n:06}");
            for words in &commands {
                let mut command = redis::Cmd::new();
                for word in words {
                    command.arg(word.replace("<key>", &key).replace("<owner>", OWNER));
                }
                pipe.add_command(command);
            }
        }
        let replies: Vec<Value> = pipe.query(control)?;
        ensure!(replies.len() == batch.len() * commands.len(), "a reply for each command");
    }
    Ok(())
}

fn commands(script: &str) -> impl Iterator<Item = Vec<&str>> {
    script
        .split(';')
        .map(|command| command.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
}
