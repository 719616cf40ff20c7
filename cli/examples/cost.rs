//! What locks and looking at them cost, on the server of `REDIS_URL`. Prints the middle of many, and fails if one is too dear.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use redis::Connection;

/// How often each is run.
const TURNS: usize = 200;
/// What `run` may add to a command, and how long all calls of a LOCK.SCAN of a few locks may take.
const ADDED: Duration = Duration::from_millis(10);
const SCANNED: Duration = Duration::from_millis(5);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // What others do at the same time counts in.
    println!("load of this machine: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    match run().and_then(|run| Ok([run, scan()?])) {
        Ok(good) if good.iter().all(|is_good| *is_good) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What `redis-lock run` adds to a command: both timed in turn.
fn run() -> Outcome<bool> {
    let me = std::env::current_exe()?;
    let folder = me.parent().and_then(|examples| examples.parent()).ok_or("not where it was built")?;
    let time = |command: &mut Command| -> Outcome<Duration> {
        let start = Instant::now();
        let status = command.stdin(Stdio::null()).status()?;
        if status.success() {
            Ok(start.elapsed())
        } else {
            Err("a command has failed".into())
        }
    };
    let (mut alone, mut locked) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        alone.push(time(&mut Command::new("true"))?);
        locked.push(time(Command::new(folder.join("redis-lock")).args(["run", "cost", "true"]))?);
    }
    let added = say("redis-lock run x true", locked).saturating_sub(say("true", alone));
    println!("run adds {added:.2?} to a command, of {ADDED:?} that it may");
    Ok(added <= ADDED)
}

/// All calls that list ten locks among a million other keys, while between two calls others come and go. Each of the ten must
/// be found every time.
fn scan() -> Outcome<bool> {
    let mut connection = redis::Client::open(std::env::var("REDIS_URL")?)?.get_connection()?;
    let ask = |connection: &mut Connection, words: &str| {
        let mut words = words.split(' ');
        redis::cmd(words.next().unwrap_or_default())
            .arg(words.collect::<Vec<_>>())
            .query::<redis::Value>(connection)
    };
    ask(&mut connection, "DEBUG POPULATE 1000000 other")?;
    for n in 0..10 {
        ask(&mut connection, &format!("LOCK.ACQUIRE stays:{n} alice PX 3600000"))?;
    }
    let (mut times, mut calls) = (Vec::new(), 0);
    for turn in 0..TURNS {
        let (mut found, mut cursor, mut took) = (0, "0".to_owned(), Duration::ZERO);
        loop {
            let mut request = redis::cmd("LOCK.SCAN");
            request.arg(&cursor).arg("COUNT").arg(5);
            let start = Instant::now();
            let (next, names): (String, Vec<String>) = request.query(&mut connection)?;
            took += start.elapsed();
            calls += 1;
            found += names.iter().filter(|name| name.starts_with("stays:")).count();
            if next == "0" {
                break;
            }
            cursor = next;
            for n in 0..10 {
                ask(&mut connection, &format!("LOCK.ACQUIRE comes:{turn}:{cursor}:{n} bob PX 50"))?;
                ask(&mut connection, &format!("SET other:{n} {turn}"))?;
            }
        }
        if found != 10 {
            return Err(format!("{found} of 10 locks were found").into());
        }
        times.push(took);
    }
    let middle = say("LOCK.SCAN of 10 locks", times);
    println!(
        "they are listed among 1,000,000 keys in {middle:.2?}, of {SCANNED:?}, by {} calls each",
        calls / TURNS
    );
    Ok(middle <= SCANNED)
}

/// Prints how long something takes. Returns the middle.
fn say(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{name:<24} half within {:>8.2?}, 95 % within {:>8.2?}", at(50), at(95));
    at(50)
}
