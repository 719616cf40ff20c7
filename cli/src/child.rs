//! The command of `run`: its process, its group, and the terminal that it may need.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{killpg, raise, SigSet, SigmaskHow, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{getpgrp, getppid, tcgetpgrp, tcsetpgrp, Pid};

use crate::exit::{Exit, Failure, OrSystem, Outcome};
use crate::print::complain;

/// The word on the command line that makes a process become the command.
pub(crate) const WORD: &str = "__exec";

const TERMINAL: &str = "/dev/tty";

/// A process that leads a group of its own.
pub(crate) struct Child {
    pid: Pid,
    end: Option<Exit>,
    /// It has been given the terminal.
    has_terminal: bool,
}

impl Child {
    /// Makes the process, which waits for [`Child::go`]. The kernel kills it when this thread ends, in whatever way.
    pub(crate) fn start(command: &[OsString], environment: &[(&str, OsString)]) -> Outcome<Self> {
        let mut process = Command::new("/proc/self/exe");
        process.arg0("redis-lock").arg(WORD).arg(std::process::id().to_string()).args(command);
        process.envs(environment.iter().map(|(name, value)| (name, value)));
        let process = unstopped(|| process.process_group(0).spawn()).or_system("start a process")?;
        let pid = i32::try_from(process.id()).or_system("know the process by its number")?;
        let mut child = Self { pid: Pid::from_raw(pid), end: None, has_terminal: false };
        // It stops itself when all is ready, and may be ended by a key before.
        child.end = Self::ended_by(waitpid(child.pid, Some(WaitPidFlag::WUNTRACED)));
        Ok(child)
    }

    /// The command begins.
    pub(crate) fn go(&self) {
        self.signal(Signal::SIGCONT);
    }

    pub(crate) fn group(&self) -> Pid {
        self.pid
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = killpg(self.pid, signal);
    }

    /// Looks what has become of it. Returns its exit code once it has ended.
    pub(crate) fn look(&mut self) -> Option<Exit> {
        while self.end.is_none() {
            let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED));
            match status {
                Ok(WaitStatus::Stopped(_, signal)) => self.has_stopped(signal),
                Ok(WaitStatus::StillAlive) => break,
                status => self.end = Self::ended_by(status),
            }
        }
        self.end
    }

    fn ended_by(status: nix::Result<WaitStatus>) -> Option<Exit> {
        match status {
            Ok(WaitStatus::Exited(_, code)) => Some(Exit(u8::try_from(code).unwrap_or(u8::MAX))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Exit::by_signal(signal as i32)),
            Ok(_) => None,
            Err(_) => Some(Exit::SYSTEM),
        }
    }

    /// It wants the terminal, or somebody wants it to stop: then we stop too, as the shell looks at us.
    fn has_stopped(&mut self, signal: Signal) {
        match signal {
            Signal::SIGTTIN | Signal::SIGTTOU if is_in_front() => self.has_terminal = true,
            Signal::SIGTTIN | Signal::SIGTTOU | Signal::SIGTSTP => {
                self.take_terminal();
                let _ = raise(Signal::SIGSTOP);
                // Here we go on, when the shell says so.
                self.has_terminal = (self.has_terminal || signal != Signal::SIGTSTP) && is_in_front();
            }
            // Somebody looks at it with a debugger, perhaps.
            _ => return,
        }
        if self.has_terminal {
            give_terminal(self.pid);
        }
        self.signal(Signal::SIGCONT);
    }

    fn take_terminal(&self) {
        if self.has_terminal {
            give_terminal(getpgrp());
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.signal(Signal::SIGKILL);
        }
        self.take_terminal();
    }
}

/// Starts a process while Ctrl-Z is deaf. One that is stopped before it is the new program would keep us waiting for ever.
/// The new program hears of it, when it lets itself hear.
pub(crate) fn unstopped<T>(start: impl FnOnce() -> T) -> T {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    let before = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let started = start();
    let _ = before.and_then(|before| before.thread_set_mask());
    started
}

/// Whether keys typed on the terminal come to our group.
fn is_in_front() -> bool {
    File::open(TERMINAL).is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

fn give_terminal(group: Pid) {
    let Ok(terminal) = File::open(TERMINAL) else { return };
    // It may not be ours at this moment, and the kernel would stop us for it.
    let mut told = SigSet::empty();
    told.add(Signal::SIGTTOU);
    let Ok(before) = told.thread_swap_mask(SigmaskHow::SIG_BLOCK) else { return };
    let _ = tcsetpgrp(terminal, group);
    let _ = before.thread_set_mask();
}

/// What the process does before it is the command.
pub(crate) fn run(mut words: impl Iterator<Item = OsString>) -> Outcome<Exit> {
    let wrong = || Failure::usage("this word is not for people");
    let parent = words.next().and_then(|word| word.to_str()?.parse().ok()).ok_or_else(wrong)?;
    let program = words.next().ok_or_else(wrong)?;
    prctl::set_pdeathsig(Signal::SIGKILL).or_system("be ended with our parent")?;
    if getppid() != Pid::from_raw(parent) {
        // It has ended before the kernel knew that this is of interest.
        return Ok(Exit::by_signal(Signal::SIGKILL as i32));
    }
    // Until the guard knows of us.
    raise(Signal::SIGSTOP).or_system("wait for the start")?;
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    stop.thread_unblock().or_system("unblock signals")?;
    let error = Command::new(&program).args(words).exec();
    complain(&format!("cannot run {}: {error}", program.to_string_lossy()));
    Ok(if error.kind() == std::io::ErrorKind::NotFound { Exit::NOT_FOUND } else { Exit::CANNOT_RUN })
}
