//! The cost of the module to those who have nothing to do with it: everybody, in each turn of the server's event loop,
//! while nobody uses locks or all of them are at rest; and those who take a lock while somebody waits for another one.

use crate::callgrind::{self, Counted, Counts};
use crate::report::{align_right, new_table, Aim, Report};
use crate::server::{info, lock_number, wait_for, Launch, Server};
use crate::setting::Setting;
use anyhow::{Context, Result};
use redis::{Connection, Value};
use std::time::Duration;

const TITLE: &str = "bystanders";

const UNUSED: &str = "a turn more, locks not used";
/// The module hears of nothing then; what is left is the server's noise.
const UNUSED_BUDGET: f64 = 20.0;

const AT_REST: &str = "a turn more, locks at rest";
/// Three listeners.
const AT_REST_BUDGET: f64 = 100.0;
/// Redis 7.0 takes 46 instructions a turn to look for listeners, and 32 for each.
const AT_REST_BUDGET_7_0: f64 = 150.0;

/// Of all that the server executes for a pair.
const PAIR: &str = "a pair more in the module, one waits elsewhere, %";
const PAIR_BUDGET: f64 = 1.0;

/// How often the loop turns in a round.
const TURNS: usize = 1_000;
const PAIRS: usize = 1_000;
const PIPELINE: usize = 20;
/// The function that reads and runs commands, which is no part of a turn: where one is found differs from start to
/// start.
const COMMANDS: &str = "processInputBuffer";
/// The least of so many: some turns are the server's own.
const ROUNDS: usize = 3;
const ANSWER: Duration = Duration::from_secs(60);

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<()> {
    let missing = if callgrind::is_there() { None } else { Some("no valgrind here") };
    if let Some(reason) = missing.or((!setting.has_module()).then_some("no module")) {
        report.skip(TITLE, UNUSED, Aim::AtMost(UNUSED_BUDGET), reason);
        report.skip(TITLE, AT_REST, Aim::AtMost(AT_REST_BUDGET), reason);
        report.skip(TITLE, PAIR, Aim::AtMost(PAIR_BUDGET), reason);
        return Ok(());
    }
    // The cron comes seldom.
    let ours = setting.server().with(&["--hz", "1", "--dynamic-hz", "no"]);
    let bare = Launch { modules: Vec::new(), ..ours.clone() };
    // For the sake of any module the server takes and gives back locks in each turn.
    let floor = setting.floor.clone().context("the least module was not built")?;
    let any = Launch { modules: vec![floor], ..bare.clone() };

    let without = Turned::of(&bare, |_| Ok(()))?;
    let any = Turned::of(&any, |_| Ok(()))?;
    let unused = Turned::of(&ours, |_| Ok(()))?;
    let at_rest = Turned::of(&ours, rest)?;
    let budget = if without.is_redis_7_0 { AT_REST_BUDGET_7_0 } else { AT_REST_BUDGET };
    let mut table = new_table([
        "a turn of the event loop",
        "instructions",
        "more than without",
        "more than any",
        "budget",
    ]);
    (1..5).for_each(|column| align_right(&mut table, column));
    for (name, turned, budget) in [
        ("without a module", &without, None),
        ("the least module, not used", &any, None),
        ("locks not used", &unused, Some(UNUSED_BUDGET)),
        ("locks at rest", &at_rest, Some(budget)),
    ] {
        let more = |than: &Turned| format!("{:.0}", turned.turn - than.turn);
        let budget = budget.map_or(String::new(), |budget| format!("{budget}"));
        table.add_row([name.to_owned(), format!("{:.0}", turned.turn), more(&without), more(&any), budget]);
    }
    println!("\n## {TITLE}\n\n{table}");
    report.check(TITLE, UNUSED, Aim::AtMost(UNUSED_BUDGET), &[unused.turn - any.turn]);
    report.check(TITLE, AT_REST, Aim::AtMost(budget), &[at_rest.turn - any.turn]);

    let mut counted = Counted::start(&ours)?;
    let alone = count(&mut counted, pairs)?;
    let _waiter = wait_elsewhere(counted.server())?;
    let beside = count(&mut counted, pairs)?;
    let own = |counts: &Counts| counts.within(setting.module_file()) as f64 / PAIRS as f64;
    let all = |counts: &Counts| counts.less_cron() as f64 / PAIRS as f64;
    // The server looks in vain for clients that it has blocked itself, while any are blocked by a module.
    let more = (own(&beside) - own(&alone)) / all(&alone) * 100.0;
    let mut table = new_table(["acquire, release", "in the module", "in all"]);
    (1..3).for_each(|column| align_right(&mut table, column));
    for (name, counts) in [("nobody waits", &alone), ("one waits for another lock", &beside)] {
        table.add_row([name.to_owned(), format!("{:.0}", own(counts)), format!("{:.0}", all(counts))]);
    }
    println!("\n{table}");
    report.check(TITLE, PAIR, Aim::AtMost(PAIR_BUDGET), &[more]);
    Ok(())
}

/// The cost of a turn of the loop on one server, without the command that is served in it.
struct Turned {
    turn: f64,
    is_redis_7_0: bool,
}

impl Turned {
    fn of(launch: &Launch, first: impl Fn(&Server) -> Result<()>) -> Result<Self> {
        let mut least: Option<Self> = None;
        for _ in 0..ROUNDS {
            let mut counted = Counted::start(launch)?;
            let mut control = counted.server().control()?;
            redis::cmd("SET").arg("a").arg("key").exec(&mut control)?;
            first(counted.server())?;
            let counts = count(&mut counted, pings)?;
            let turn = (counts.less_cron() - counts.of(COMMANDS).1) as f64 / TURNS as f64;
            let about = info(&mut control, "server")?;
            let is =
                |name: &str, start: &str| about.get::<String>(name).is_some_and(|it| it.starts_with(start));
            let is_redis_7_0 = is("redis_version", "7.0.") && !is("server_name", "valkey");
            if least.as_ref().is_none_or(|least| turn < least.turn) {
                least = Some(Self { turn, is_redis_7_0 });
            }
        }
        least.context("a round")
    }
}

/// The instructions that `work` makes the server execute, the second time.
fn count(counted: &mut Counted, work: impl Fn(&mut Connection) -> Result<()>) -> Result<Counts> {
    let mut control = counted.server().control()?;
    work(&mut control)?;
    counted.count(|| work(&mut control))
}

/// A turn for each.
fn pings(control: &mut Connection) -> Result<()> {
    (0..TURNS).try_for_each(|_| Ok(redis::cmd("PING").exec(control)?))
}

fn pairs(control: &mut Connection) -> Result<()> {
    for batch in (0..PAIRS).collect::<Vec<_>>().chunks(PIPELINE) {
        let mut pipe = redis::pipe();
        for n in batch {
            let key = format!("key:{n:06}");
            pipe.cmd("LOCK.ACQUIRE").arg(&key).arg("owner").arg("PX").arg(3_600_000);
            pipe.cmd("LOCK.RELEASE").arg(&key).arg("owner");
        }
        pipe.query::<Vec<Value>>(control)?;
    }
    Ok(())
}

/// Locks have been used: one is held, for an hour yet, and nobody waits.
fn rest(server: &Server) -> Result<()> {
    let mut control = server.control()?;
    for owner in ["first", "second"] {
        redis::cmd("LOCK.ACQUIRE").arg("k").arg(owner).arg("PX").arg(3_600_000).exec(&mut control)?;
        if owner == "first" {
            redis::cmd("LOCK.RELEASE").arg("k").arg(owner).exec(&mut control)?;
        }
    }
    wait_for("the locks to be at rest", ANSWER, || {
        Ok(lock_number(&mut control, "lock_server_events").is_some_and(|events| events < 9))
    })
}

/// A client that waits for a lock of its own.
fn wait_elsewhere(server: &Server) -> Result<Connection> {
    let mut control = server.control()?;
    redis::cmd("LOCK.ACQUIRE").arg("elsewhere").arg("owner").arg("NOEXPIRE").exec(&mut control)?;
    let mut waiter = server.control()?;
    let words = testbed::resp::encode(&["LOCK.ACQUIRE", "elsewhere", "waiter", "BLOCK", "0"]);
    waiter.send_packed_command(&words)?;
    wait_for("a client in line", ANSWER, || Ok(lock_number(&mut control, "lock_waiting") == Some(1)))?;
    Ok(waiter)
}
