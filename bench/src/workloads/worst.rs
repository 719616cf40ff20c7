//! The longest that one command can keep every other client waiting, whatever its data: each command on the worst data
//! that the limits allow. The figure is the longest turn of the event loop, from waking to going to sleep, among the
//! turn of the command and those that follow from it; a turn in which the module's timer fires counts a millisecond
//! more, as such a run goes by the clock. The budget is held in instructions, which do not depend on what else the
//! machine does; the time is shown beside them.

use crate::callgrind::{self, Counted};
use crate::report::{align_right, new_table, Aim, Report};
use crate::server::{info, info_number, wait_for, Launch, Server};
use crate::setting::Setting;
use anyhow::{ensure, Context, Result};
use redis::{Connection, Value};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use testbed::stats::number;

const TITLE: &str = "worst cases";
/// Five milliseconds, at the four million instructions a millisecond that the dearest of these commands was measured at.
const BUDGET: f64 = 20_000_000.0;
/// The most that the timer's run may take by the clock, in instructions. Under callgrind the clock is some fifty times
/// as fast as the server, so that such a run ends after one item of its work.
const TIMER: f64 = 4_000_000.0;
/// The function that every server calls when its event loop wakes.
const TURN: &str = "afterSleep";
/// The function that it calls when the timer of a module is due.
const FIRES: &str = "moduleTimerHandler";
/// How long the turns that follow are counted. Turn after turn they do the same kind of work.
const FOLLOW: Duration = Duration::from_millis(400);
const PIPELINE: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// As many as the server takes by default, less some that the commands make.
const TICKETS: usize = 199_000;
/// As many as may wait with the server's own `maxclients`, less some that the commands make.
const CLIENTS: usize = 8_900;

/// The commands that are sent before the first counted one; they are not counted. `<n>` stands for a number, `<long>`
/// for an owner's name of the greatest length that ends with it, `<note>` for a note and `<id>` for an id of the
/// greatest length.
enum Build {
    /// One client sends the line so many times.
    Sent(usize, &'static str),
    /// So many clients send it, and are kept waiting.
    Waiting(usize, &'static str),
}

use Build::{Sent, Waiting};

/// A stage of data, and the commands that are looked at on it, one after the other. Of several with `;` between them all are
/// sent together, and the last is meant.
struct Stage {
    build: &'static [Build],
    commands: &'static [&'static str],
}

const STAGES: [Stage; 13] = [
    // One queue.
    Stage {
        build: &[
            Sent(1, "LOCK.ACQUIRE key first LIMIT 7 PERMITS 7 NOEXPIRE"),
            Sent(TICKETS, "LOCK.ACQUIRE key <long> LIMIT 7 NOEXPIRE QUEUE 3600000"),
        ],
        commands: &[
            "LOCK.WAITERS key COUNT 10000",
            "LOCK.WAITERS key COUNT 10000 AFTER <long=100000>",
            "LOCK.INFO key",
            "LOCK.ACQUIRE key <long=100000> LIMIT 7 NOEXPIRE QUEUE 3600000",
            "LOCK.ACQUIRE key <long=100000> LIMIT 7 NOEXPIRE QUEUE 3600000 BLOCK 1",
            "LOCK.SETLIMIT key 5",
            "LOCK.CANCEL key <long=100000>",
            "LOCK.RELEASE key first CANCEL",
            "LOCK.SETLIMIT key 1000",
        ],
    },
    // One owner that waits everywhere.
    Stage {
        build: &[
            Sent(TICKETS, "LOCK.ACQUIRE key:<n> other NOEXPIRE"),
            Sent(TICKETS, "LOCK.ACQUIRE key:<n> owner QUEUE 3600000"),
            Sent(1, "LOCK.ACQUIRE key giver NOEXPIRE"),
            Sent(1, "LOCK.ACQUIRE held owner NOEXPIRE"),
        ],
        commands: &[
            "LOCK.TRANSFER key giver owner",
            "LOCK.SCAN 0 COUNT 1000 OWNER owner CONTENDED",
            "LOCK.SCAN 0 COUNT 1000 MATCH *k*e*y*:*:*",
            "LOCK.ACQUIRE held another QUEUE 3600000",
            "INFO everything",
            "LOCK.STATS",
            "LOCK.STATS RESET",
            "LOCK.RECOVERY",
            "SWAPDB 0 1",
            "LOCK.STEAL key:7 thief",
            "FLUSHALL ASYNC",
        ],
    },
    // Many holders of one lock.
    Stage {
        build: &[Sent(1_000, "LOCK.ACQUIRE key <long> SHARED NOEXPIRE NOTE <note>")],
        commands: &[
            "LOCK.INFO key",
            "LOCK.WAITERS key COUNT 10000",
            "LOCK.ACQUIRE key next",
            "LOCK.ACQUIRE key <long=999> SHARED",
            "LOCK.CHECK key <long=999>",
            "LOCK.RENEW key <long=999> PX 60000 WITHINFO",
            "LOCK.GUARD key <long=998> * SET data value",
            "LOCK.AWAIT key FREE BLOCK 1",
            "LOCK.REVOKE key",
            "LOCK.CONVERT key <long=998> EXCLUSIVE QUEUE 3600000",
            "LOCK.RELEASE key <long=998> AFTER 1000 CANCEL",
            "LOCK.TRANSFER key <long=997> another",
            "DUMP key",
            "COPY key copy",
            "LOCK.STEAL copy thief",
            "LOCK.BREAK key",
        ],
    },
    // Many who wait to share a lock, as tickets and as clients.
    Stage {
        build: &[
            Sent(1, "CONFIG SET lock.claim-ms 3600000"),
            Sent(1, "LOCK.ACQUIRE one <long> NOEXPIRE"),
            Sent(1_000, "LOCK.ACQUIRE one reader-<long> SHARED QUEUE 3600000 NOTIFY channel"),
            Sent(1, "LOCK.ACQUIRE two <long> NOEXPIRE"),
            Sent(1_000, "LOCK.ACQUIRE two reader-<n> SHARED QUEUE 3600000"),
            Sent(1, "LOCK.ACQUIRE some <long> NOEXPIRE LIMIT 1000 PERMITS 1000"),
            Sent(1_000, "LOCK.ACQUIRE some reader-<n> LIMIT 1000 QUEUE 3600000"),
            Sent(1, "LOCK.ACQUIRE three <long> NOEXPIRE"),
            Waiting(CLIENTS, "LOCK.ACQUIRE three reader-<n> SHARED BLOCK 0"),
        ],
        commands: &[
            "LOCK.RELEASE one <long>",
            "LOCK.CONVERT two <long> SHARED",
            "LOCK.RELEASE some <long> PERMITS 999",
            "LOCK.BREAK three",
        ],
    },
    // Leases that have run out, and nobody has ended them yet.
    Stage {
        build: &[Sent(1_000, "LOCK.ACQUIRE key reader-<n> SHARED PX 1000")],
        commands: &["DEBUG SLEEP 1.1; LOCK.ACQUIRE key next"],
    },
    Stage {
        build: &[Sent(4_000, "LOCK.ACQUIRE key:<n%4> reader-<n> SHARED PX 4000")],
        commands: &["DEBUG SLEEP 4.1; LOCK.MACQUIRE owner 4 key:3 key:2 key:1 key:0"],
    },
    // As many ids as there may be.
    Stage {
        build: &[Sent(10_000, "LOCK.ACQUIRE key <n/250> SHARED NOEXPIRE REENTRANT <id>")],
        commands: &[
            "LOCK.INFO key",
            "LOCK.ACQUIRE key 39 SHARED REENTRANT one-more",
            "LOCK.RENEW key 39 PX 60000",
            "LOCK.RELEASE key 39 REENTRANT <id=9999>",
            "DUMP key",
            "COPY key copy",
            "LOCK.RELEASE key 39 ALL",
            "LOCK.BREAK key",
            "DEL copy",
        ],
    },
    Stage {
        build: &[Sent(1, "LATCH.SET key 1000000"), Sent(10_000, "LATCH.DOWN key <id>")],
        commands: &[
            "LATCH.DOWN key one-more",
            "LATCH.DOWN key",
            "LATCH.SET key 1000000",
            "LATCH.INFO key",
            "LATCH.AWAIT key BLOCK 1",
            "DUMP key",
            "COPY key copy",
            "DEL key",
        ],
    },
    // Many who watch: one key, and a key each.
    Stage {
        build: &[Sent(1, "LATCH.SET key 1"), Waiting(CLIENTS, "LATCH.AWAIT key BLOCK 0")],
        commands: &["LATCH.DOWN key"],
    },
    Stage {
        build: &[
            Sent(CLIENTS, "LOCK.ACQUIRE key:<n> other NOEXPIRE"),
            Waiting(CLIENTS, "LOCK.AWAIT key:<n> FREE BLOCK 0"),
        ],
        commands: &["SWAPDB 0 1", "FLUSHALL ASYNC"],
    },
    // Many who wait for many locks together.
    Stage {
        build: &[
            Sent(1, "LOCK.MACQUIRE first 64 <keys> NOEXPIRE"),
            Sent(1_000, "LOCK.MACQUIRE owner-<n> 64 <keys> SHARED QUEUE 3600000"),
        ],
        commands: &[
            "LOCK.MACQUIRE another 64 <keys> QUEUE 3600000",
            "LOCK.MACQUIRE another 64 <keys> QUEUE 3600000 BLOCK 1",
            "LOCK.MRENEW first 5000000 64 <keys>",
            "LOCK.MRELEASE first 64 <keys> CANCEL",
        ],
    },
    // Many who wait at many locks, behind one who waits for all of them.
    Stage {
        build: &[
            Sent(1, "LOCK.ACQUIRE key:0 first SHARED NOEXPIRE"),
            Sent(1, "LOCK.MACQUIRE all 64 <keys> QUEUE 3600000"),
            Sent(19_200, "LOCK.ACQUIRE key:<n%64> reader-<n> SHARED QUEUE 3600000"),
        ],
        commands: &["LOCK.CANCEL key:0 all"],
    },
    // Many holders of many locks.
    Stage {
        build: &[
            Sent(64_000, "LOCK.ACQUIRE key:<n%64> reader-<n/64> SHARED NOEXPIRE"),
            Sent(1, "SETRANGE text 209715199 x"),
        ],
        commands: &[
            "LOCK.SCAN 0 COUNT 1000 OWNER nobody",
            "LOCK.MACQUIRE another 64 <keys>",
            "LOCK.MACQUIRE reader-999 64 <keys> SHARED",
            "LOCK.MRENEW reader-999 5000 64 <keys>",
            "LOCK.MRELEASE reader-998 64 <keys>",
            "LOCK.FENCE text 7",
            "LOCK.FENCE register 7 EX 60",
            "LOCK.HELP",
        ],
    },
];

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    if !setting.has_module() {
        report.skip(TITLE, "", Aim::AtMost(BUDGET), "no module");
        return Ok(());
    }
    let launch = setting.server().with(&["--enable-debug-command", "yes"]);
    ensure_complete(&launch)?;
    ensure!(callgrind::is_there() || !setting.counts_only, "no valgrind here to count with");
    let mut table = new_table(["command", "ms", "instructions of the longest turn", "turns"]);
    (1..4).for_each(|column| align_right(&mut table, column));
    let (mut most, mut longest) = ((0.0, ""), (0.0, ""));
    for stage in &STAGES {
        let times = if setting.counts_only { Vec::new() } else { times(&launch, stage)? };
        let counts = if callgrind::is_there() { counts(&launch, stage)? } else { Vec::new() };
        for (at, command) in stage.commands.iter().enumerate() {
            let (ms, count) = (times.get(at), counts.get(at));
            table.add_row([
                (*command).to_owned(),
                ms.map_or_else(String::new, |ms| format!("{ms:.2}")),
                count.map_or_else(String::new, |(longest, _)| number(*longest)),
                count.map_or_else(String::new, |(_, turns)| turns.to_string()),
            ]);
            match count {
                Some((longest, _)) => report.check(TITLE, command, Aim::AtMost(BUDGET), &[*longest]),
                None => report.skip(TITLE, command, Aim::AtMost(BUDGET), "no valgrind here"),
            }
            let count = count.map_or(0.0, |(longest, _)| *longest);
            if count > most.0 {
                most = (count, command);
            }
            if *ms.unwrap_or(&0.0) > longest.0 {
                longest = (*ms.unwrap_or(&0.0), command);
            }
        }
    }
    println!("\n## {TITLE}\n\n{table}\n");
    println!("The longest turn: {} instructions, {}", number(most.0), most.1);
    println!("The longest command by the clock: {:.2} ms, {}", longest.0, longest.1);
    Ok(())
}

/// Fails if a command of the module is not looked at. Internal ones do what a command has done on the primary.
fn ensure_complete(launch: &Launch) -> Result<()> {
    let server = launch.start()?;
    let list = ["LIST", "FILTERBY", "MODULE", "lock"];
    let names: Vec<String> = redis::cmd("COMMAND").arg(&list).query(&mut server.control()?)?;
    ensure!(!names.is_empty(), "the server names no commands of the module");
    let looked_at: Vec<String> =
        STAGES.iter().flat_map(|stage| stage.commands).map(|command| name(command).to_lowercase()).collect();
    let public = names.iter().map(|name| name.to_lowercase()).filter(|name| !name.contains("._"));
    let missing: Vec<String> = public.filter(|name| !looked_at.contains(name)).collect();
    ensure!(missing.is_empty(), "no worst case of {}", missing.join(", "));
    Ok(())
}

/// The command that is meant.
fn name(commands: &str) -> &str {
    commands.rsplit("; ").next().and_then(|command| command.split(' ').next()).unwrap_or_default()
}

/// How long each command of a stage takes, in ms, as the server counts.
fn times(launch: &Launch, stage: &Stage) -> Result<Vec<f64>> {
    let server = launch.start()?;
    let mut control = server.control()?;
    let _waiting = build(&server, stage)?;
    let mut times = Vec::new();
    for command in stage.commands {
        redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut control)?;
        send(&mut control, command)?;
        let name = name(command);
        let stats = info(&mut control, "commandstats")?;
        let field = |name: String| stats.get::<String>(&format!("cmdstat_{name}"));
        let stat = field(name.to_owned()).or_else(|| field(name.to_lowercase())).context("no statistics")?;
        let us = stat.split(',').find_map(|pair| pair.strip_prefix("usec=")?.parse::<f64>().ok());
        times.push(us.context("no time")? / 1_000.0);
    }
    Ok(times)
}

/// How many instructions the longest turn of each command of a stage takes, and how many turns there were.
fn counts(launch: &Launch, stage: &Stage) -> Result<Vec<(f64, usize)>> {
    let mut counted = Counted::start_by_turns(launch, TURN)?;
    let mut control = counted.server().control()?;
    let _waiting = build(counted.server(), stage)?;
    let mut counts = Vec::new();
    for command in stage.commands {
        let turns = counted.turns(|| {
            send(&mut control, command)?;
            thread::sleep(FOLLOW);
            Ok(())
        })?;
        ensure!(turns.len() > 1, "the server's event loop has turns");
        let longest =
            turns.iter().map(|turn| turn.total() as f64 + if turn.has(FIRES) { TIMER } else { 0.0 });
        counts.push((longest.fold(0.0, f64::max), turns.len()));
    }
    Ok(counts)
}

/// The clients that are kept waiting.
fn build(server: &Server, stage: &Stage) -> Result<Vec<TcpStream>> {
    let mut control = server.control()?;
    let mut waiting = Vec::new();
    // The worst case is what an operator can allow.
    redis::cmd("CONFIG").arg("SET").arg("lock.max-waiters-per-key").arg(1_000_000).exec(&mut control)?;
    for part in stage.build {
        match part {
            Sent(times, line) => {
                for batch in (0..*times).collect::<Vec<_>>().chunks(PIPELINE) {
                    let mut pipe = redis::pipe();
                    for n in batch {
                        pipe.add_command(command(line, *n)).ignore();
                    }
                    pipe.exec(&mut control).with_context(|| format!("building: {line}"))?;
                }
            }
            Waiting(clients, line) => {
                for n in 0..*clients {
                    let mut client = TcpStream::connect(server.addr())?;
                    client.write_all(&command(line, n).get_packed_command())?;
                    waiting.push(client);
                }
                wait_for("the clients to be kept waiting", PATIENCE, || {
                    Ok(info_number(&mut control, "clients", "blocked_clients")? == waiting.len() as u64)
                })?;
            }
        }
    }
    Ok(waiting)
}

fn send(control: &mut Connection, commands: &str) -> Result<()> {
    let reply = redis::cmd("ECHO").arg("ready").query::<String>(control)?;
    ensure!(reply == "ready", "the server is ready");
    let mut pipe = redis::pipe();
    commands.split("; ").for_each(|line| {
        pipe.add_command(command(line, 0));
    });
    // An error is a reply as well: it took what it took.
    let _replies: Option<Value> = pipe.query(control).ok();
    Ok(())
}

/// The words of a line.
fn command(line: &str, n: usize) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in line.split(' ') {
        if word == "<keys>" {
            (0..64).for_each(|key| {
                command.arg(format!("key:{key}"));
            });
            continue;
        }
        command.arg(match word.strip_suffix('>').and_then(|word| word.split_once('<')) {
            None => word.to_owned(),
            Some((before, what)) => before.to_owned() + &stand_in(what, n, before.len()),
        });
    }
    command
}

/// The text that `<what>` stands for, behind so many other bytes.
fn stand_in(what: &str, n: usize, behind: usize) -> String {
    let (what, n) = match what.split_once('=') {
        Some((what, number)) => (what, number.parse().unwrap_or(n)),
        None => (what, n),
    };
    let (owner, id) = (256 - behind, 64);
    match what.split_once(['%', '/']) {
        Some((_, by)) if what.contains('%') => (n % by.parse().unwrap_or(1)).to_string(),
        Some((_, by)) => (n / by.parse().unwrap_or(1)).to_string(),
        None if what == "long" => format!("{n:0>owner$}"),
        None if what == "id" => format!("{n:0>id$}"),
        None if what == "note" => "x".repeat(256),
        None => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_others() {
        let words = |line: &str, n| {
            let command = command(line, n);
            let words = command.args_iter().map(|word| match word {
                redis::Arg::Simple(word) => String::from_utf8_lossy(word).into_owned(),
                _ => String::new(),
            });
            words.collect::<Vec<_>>()
        };
        assert_eq!(words("SET key:<n%4> r<n/64> <n>", 70), ["SET", "key:2", "r1", "70"]);
        let long = &words("LOCK.CHECK key r-<long=7>", 0)[2];
        assert!(long.len() == 256 && long.starts_with("r-0") && long.ends_with("07"));
        assert_eq!(words("LOCK.MRELEASE o 64 <keys>", 0).len(), 67);
        assert_eq!(name("DEBUG SLEEP 1; LOCK.ACQUIRE key next"), "LOCK.ACQUIRE");
    }
}
