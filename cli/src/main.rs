//! `redis-lock`: locks of a Redis or Valkey server, for shells and for people.

mod args;
mod child;
mod confirm;
mod connect;
mod diagnosis;
mod exit;
mod guard;
mod keep;
mod locks;
mod lookout;
mod metrics;
mod name;
mod owner;
mod print;
mod reply;
mod signals;
mod time;
mod verbs;
mod view;
mod wait;
mod waits;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let outcome = match words.next() {
        Some(word) if word == child::WORD => child::run(words),
        Some(word) if word == guard::WORD => guard::run(),
        _ => args::parse().and_then(verbs::run),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.text.is_empty() {
                print::complain(&failure.text);
            }
            failure.exit.into()
        }
    }
}
