//! A second process that ends the command of `run` when the first one cannot: it is killed, stopped, or too slow. It is told
//! when, over a pipe; when the pipe closes without a word, it ends the command at once.

use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fencelock::Moment;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{killpg, SigSet, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;

use crate::child::unstopped;
use crate::exit::{Exit, Failure, OrSystem, Outcome};

/// The word on the command line that makes a process a guard.
pub(crate) const WORD: &str = "__guard";
/// What is said when there is nothing to guard any more.
const DONE: &[u8] = b"done";
/// Far away, for a command that may live on whatever happens to the lock.
const NEVER: Moment = Moment(u64::MAX / 2_000_000);

/// When the command is to be asked to end, and when it is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub term: Moment,
    pub kill: Moment,
}

impl Order {
    pub(crate) const NONE: Self = Self { term: NEVER, kill: NEVER };
}

/// The guard as its ward sees it.
pub(crate) struct Guard {
    process: Child,
    pipe: PipeWriter,
    group: Pid,
    order: Order,
}

impl Guard {
    pub(crate) fn start() -> Outcome<Self> {
        let (group, order) = (Pid::from_raw(0), Order::NONE);
        let (process, pipe) = spawn(group, order)?;
        Ok(Self { process, pipe, group, order })
    }

    /// From now on it watches over this group of processes.
    pub(crate) fn watch(&mut self, group: Pid, order: Order) {
        self.group = group;
        self.say(order);
    }

    pub(crate) fn say(&mut self, order: Order) {
        self.order = order;
        // If it is gone we are told by a signal, and start another.
        let _ = self.pipe.write_all(&line(self.group, order));
    }

    /// Starts another one if this one has ended.
    pub(crate) fn look(&mut self) -> Outcome<()> {
        if !matches!(self.process.try_wait(), Ok(None)) {
            (self.process, self.pipe) = spawn(self.group, self.order)?;
        }
        Ok(())
    }

    /// Whether it has asked the command to end by now.
    pub(crate) fn has_ended_it(&self) -> bool {
        self.order.term.left().is_zero()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.pipe.write_all(DONE);
    }
}

/// Starts a guard whose first order waits for it.
fn spawn(group: Pid, order: Order) -> Outcome<(Child, PipeWriter)> {
    let (reader, mut pipe) = std::io::pipe().or_system("make a pipe")?;
    pipe.write_all(&line(group, order)).or_system("write into a pipe")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("redis-lock").arg(WORD);
    // In a group of its own no key of a terminal reaches it.
    command.process_group(0).stdin(reader).stdout(Stdio::null()).stderr(Stdio::null());
    let process = unstopped(|| command.current_dir("/").spawn()).or_system("start the guard")?;
    Ok((process, pipe))
}

fn line(group: Pid, order: Order) -> Vec<u8> {
    format!("{group} {} {}\n", order.term.0, order.kill.0).into_bytes()
}

/// What the guard does.
pub(crate) fn run() -> Outcome<Exit> {
    SigSet::all().thread_block().or_system("block signals")?;
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::empty()).or_system("set a timer")?;
    // Not by the buffer of standard input: what lies there no poll knows of.
    let mut pipe = File::from(std::io::stdin().as_fd().try_clone_to_owned().or_system("read orders")?);
    let mut group = None;
    let mut order = Order::NONE;
    let mut has_termed = false;
    let mut rest = Vec::new();
    loop {
        if let Some(group) = group {
            let now = Moment::now();
            if order.kill <= now {
                end(group, Signal::SIGKILL);
                order.kill = NEVER;
            } else if order.term <= now && !has_termed {
                end(group, Signal::SIGTERM);
                has_termed = true;
            }
        }
        let next = if has_termed { order.kill } else { order.term.min(order.kill) };
        let at = Expiration::OneShot(TimeSpec::from_duration(Duration::from_millis(next.0)));
        timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).or_system("set a timer")?;
        let mut fds =
            [PollFd::new(pipe.as_fd(), PollFlags::POLLIN), PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err() || fds.first().is_none_or(|fd| fd.any() != Some(true)) {
            continue;
        }
        let mut bytes = [0; 256];
        match pipe.read(&mut bytes) {
            Ok(0) | Err(_) => {
                if rest != DONE {
                    group.into_iter().for_each(|group| end(group, Signal::SIGKILL));
                }
                return Ok(Exit::OK);
            }
            Ok(count) => rest.extend(bytes.iter().take(count)),
        }
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=at).collect();
            (group, order) = read(&line)?;
            has_termed = false;
        }
    }
}

fn read(line: &[u8]) -> Outcome<(Option<Pid>, Order)> {
    let wrong = || Failure::usage("the guard is not for people");
    let numbers: Vec<u64> = std::str::from_utf8(line)
        .map_err(|_| wrong())?
        .split_ascii_whitespace()
        .map(|number| number.parse().map_err(|_| wrong()))
        .collect::<Outcome<_>>()?;
    let &[group, term, kill] = numbers.as_slice() else { return Err(wrong()) };
    // The group 0 would be our own.
    let group = i32::try_from(group).ok().filter(|group| *group > 1).map(Pid::from_raw);
    Ok((group, Order { term: Moment(term), kill: Moment(kill) }))
}

/// Sends a signal to all of them. One that is stopped goes on, to hear of it.
pub(crate) fn end(group: Pid, signal: Signal) {
    let _ = killpg(group, signal);
    let _ = killpg(group, Signal::SIGCONT);
}
