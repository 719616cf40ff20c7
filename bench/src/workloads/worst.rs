//! The longest that one command can keep every other client waiting, whatever its data: each command on the worst data that
//! the limits allow. The budget is held in instructions, which do not depend on what else the machine does; the time is shown
//! beside them.

use crate::callgrind::{self, Counted};
use crate::report::{align_right, new_table, number, Aim, Report};
use crate::server::{info, Server};
use crate::setting::Setting;
use anyhow::{ensure, Context, Result};
use redis::{Connection, Value};

const TITLE: &str = "worst cases";
/// Five milliseconds, at the four million instructions a millisecond that the dearest of these commands was measured at.
const BUDGET: f64 = 20_000_000.0;
const PIPELINE: usize = 1_000;
/// Enough that a walk over all of them breaks the budget; under callgrind they take a while to make.
const TICKETS: usize = 50_000;

/// A stage of data, and the commands that are looked at on it, one after the other. `<n>` stands for a number, `<long>` for
/// an owner's name of the greatest length that ends with it.
struct Stage {
    /// What is done before, each so many times; nothing of it is counted.
    build: &'static [(usize, &'static str)],
    commands: &'static [&'static str],
}

const STAGES: [Stage; 7] = [
    Stage {
        build: &[
            (1, "LOCK.ACQUIRE key first LIMIT 7 PERMITS 7 NOEXPIRE"),
            (TICKETS - 1_000, "LOCK.ACQUIRE key <long> LIMIT 7 NOEXPIRE QUEUE 3600000"),
        ],
        commands: &[
            "LOCK.WAITERS key COUNT 10000",
            "LOCK.INFO key",
            "LOCK.SETLIMIT key 5",
            "LOCK.CANCEL key last",
        ],
    },
    Stage {
        build: &[
            (TICKETS, "LOCK.ACQUIRE key:<n> other NOEXPIRE"),
            (TICKETS, "LOCK.ACQUIRE key:<n> owner QUEUE 3600000"),
            (1, "LOCK.ACQUIRE key giver NOEXPIRE"),
        ],
        commands: &["LOCK.TRANSFER key giver owner", "INFO everything", "SWAPDB 0 1", "LOCK.STEAL key thief"],
    },
    Stage {
        build: &[
            (1_000, "LOCK.ACQUIRE key <long> SHARED NOEXPIRE"),
            (1, "LOCK.ACQUIRE key writer NOEXPIRE QUEUE 3600000"),
            (1_000, "LOCK.ACQUIRE key reader-<n> SHARED QUEUE 3600000"),
        ],
        commands: &["LOCK.INFO key", "LOCK.BREAK key", "LOCK.RELEASE key writer"],
    },
    Stage { build: &[(1_000, "LOCK.ACQUIRE key <long> SHARED PX 1")], commands: &["LOCK.ACQUIRE key next"] },
    Stage { build: &[(1, "SETRANGE key 209715199 x")], commands: &["LOCK.FENCE key 7"] },
    Stage {
        build: &[(1, "LATCH.SET key 1000000"), (20_000, "LATCH.DOWN key <id>")],
        commands: &["LATCH.DOWN key one-more", "LATCH.INFO key", "DUMP key", "DEL key"],
    },
    Stage {
        build: &[
            (1, "LOCK.MACQUIRE first 64 <keys> NOEXPIRE"),
            (500, "LOCK.MACQUIRE owner-<n> 64 <keys> QUEUE 3600000"),
        ],
        commands: &[
            "LOCK.MACQUIRE another 64 <keys> QUEUE 3600000",
            "LOCK.MRENEW first 64 <keys> PX 5000",
            "LOCK.MRELEASE first 64 <keys>",
        ],
    },
];

pub fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    if !setting.has_module() {
        report.skip(TITLE, "", Aim::AtMost(BUDGET), "no module");
        return Ok(());
    }
    let mut table = new_table(["command", "ms", "instructions"]);
    (1..3).for_each(|column| align_right(&mut table, column));
    let mut longest = (0.0, "");
    for stage in &STAGES {
        let times = times(&setting.server().start()?, stage)?;
        let counts = if callgrind::is_there() { Some(counts(setting, stage)?) } else { None };
        for (at, (command, ms)) in stage.commands.iter().zip(&times).enumerate() {
            let count = counts.as_ref().and_then(|counts| counts.get(at)).copied();
            table.add_row([
                (*command).to_owned(),
                format!("{ms:.2}"),
                count.map_or_else(String::new, number),
            ]);
            match count {
                Some(count) => report.check(TITLE, command, Aim::AtMost(BUDGET), &[count]),
                None => report.skip(TITLE, command, Aim::AtMost(BUDGET), "no valgrind here"),
            }
            if *ms > longest.0 {
                longest = (*ms, command);
            }
        }
    }
    println!("\n## {TITLE}\n\n{table}\n\nThe longest: {:.2} ms, {}", longest.0, longest.1);
    Ok(())
}

/// How long each command of a stage takes, in ms, as the server counts.
fn times(server: &Server, stage: &Stage) -> Result<Vec<f64>> {
    let mut control = server.control()?;
    build(&mut control, stage)?;
    let mut times = Vec::new();
    for command in stage.commands {
        redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut control)?;
        send(&mut control, command)?;
        let name = command.split(' ').next().unwrap_or_default();
        let stats = info(&mut control, "commandstats")?;
        let field = |name: String| stats.get::<String>(&format!("cmdstat_{name}"));
        let stat = field(name.to_owned()).or_else(|| field(name.to_lowercase())).context("no statistics")?;
        let us = stat.split(',').find_map(|pair| pair.strip_prefix("usec=")?.parse::<f64>().ok());
        times.push(us.context("no time")? / 1_000.0);
    }
    Ok(times)
}

/// How many instructions the server executes for each command of a stage.
fn counts(setting: &Setting, stage: &Stage) -> Result<Vec<f64>> {
    let mut counted = Counted::start(setting.server())?;
    let mut control = counted.server().control()?;
    build(&mut control, stage)?;
    let count = |command: &&str| Ok(counted.count(|| send(&mut control, command))?.total() as f64);
    stage.commands.iter().map(count).collect()
}

fn build(control: &mut Connection, stage: &Stage) -> Result<()> {
    // The worst case is what an operator can allow.
    redis::cmd("CONFIG").arg("SET").arg("lock.max-waiters-per-key").arg(1_000_000).exec(control)?;
    for (times, line) in stage.build {
        for batch in (0..*times).collect::<Vec<_>>().chunks(PIPELINE) {
            let mut pipe = redis::pipe();
            for n in batch {
                pipe.add_command(command(line, *n)).ignore();
            }
            pipe.exec(control).with_context(|| format!("building: {line}"))?;
        }
    }
    Ok(())
}

fn send(control: &mut Connection, line: &str) -> Result<()> {
    let reply = redis::cmd("ECHO").arg("ready").query::<String>(control)?;
    ensure!(reply == "ready", "the server is ready");
    // An error is a reply as well: it took what it took.
    let _reply: Option<Value> = command(line, 0).query(control).ok();
    Ok(())
}

/// The words of a line.
fn command(line: &str, n: usize) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in line.split(' ') {
        match word {
            "<keys>" => (0..64).for_each(|key| {
                command.arg(format!("key:{key}"));
            }),
            "<long>" => {
                command.arg(format!("{n:0>256}"));
            }
            "<id>" => {
                command.arg(format!("{n:0>64}"));
            }
            word => {
                command.arg(word.replace("<n>", &n.to_string()));
            }
        }
    }
    command
}
