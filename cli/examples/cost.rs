//! What `redis-lock run` adds to a command: both timed in turn, on the server of `REDIS_URL`. Prints the middle of many.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How often each is run.
const TURNS: usize = 200;
/// What it may add.
const LIMIT: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let Some(tool) =
        std::env::current_exe().ok().and_then(|me| Some(me.parent()?.parent()?.join("redis-lock")))
    else {
        eprintln!("cost: the program is not where it was built");
        return ExitCode::FAILURE;
    };
    let time = |command: &mut Command| {
        let start = Instant::now();
        let is_good = command.stdin(Stdio::null()).status().is_ok_and(|status| status.success());
        is_good.then(|| start.elapsed())
    };
    let (mut alone, mut locked) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (Some(first), Some(second)) =
            (time(&mut Command::new("true")), time(Command::new(&tool).args(["run", "cost", "true"])))
        else {
            eprintln!("cost: a command has failed");
            return ExitCode::FAILURE;
        };
        alone.push(first);
        locked.push(second);
    }
    let say = |name: &str, times: &mut Vec<Duration>| {
        times.sort_unstable();
        let at = |part: usize| times.get(TURNS * part / 100).copied().unwrap_or_default();
        println!("{name:<24} half within {:>6.2?}, 95 % within {:>6.2?}", at(50), at(95));
        at(50)
    };
    let added = say("redis-lock run x true", &mut locked).saturating_sub(say("true", &mut alone));
    println!("run adds {added:.2?} to a command, of {LIMIT:?} that it may");
    if added > LIMIT { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
