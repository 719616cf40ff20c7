//! Signals to this program, one after the other.

use nix::sys::signal::{raise, Signal};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::mpsc;

use crate::exit::{OrSystem, Outcome};

/// Those that end a wait or a hold.
pub(crate) const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

pub(crate) struct Signals(mpsc::UnboundedReceiver<Signal>);

impl Signals {
    /// Listens to these. One that our parent had us ignore, as nohup does, stays ignored.
    pub(crate) fn listen(to: &[Signal]) -> Outcome<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let ignored = ignored();
        for signal_ in to.iter().copied().filter(|signal| ignored & (1 << (*signal as u32 - 1)) == 0) {
            let mut stream = signal(SignalKind::from_raw(signal_ as i32)).or_system("listen to signals")?;
            let sender = sender.clone();
            tokio::spawn(
                async move { while stream.recv().await.is_some() && sender.send(signal_).is_ok() {} },
            );
        }
        // Without any it must not end.
        tokio::spawn(async move { sender.closed().await });
        Ok(Self(receiver))
    }

    pub(crate) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// The next of those that end a wait or a hold.
    pub(crate) async fn ending(&mut self) -> Signal {
        loop {
            match self.next().await {
                signal if ENDING.contains(&signal) => return signal,
                // There is nobody else to stop yet, so do what this signal does to those that do not listen.
                Signal::SIGTSTP => drop(raise(Signal::SIGSTOP)),
                _ => {}
            }
        }
    }
}

/// The set of signals that this process ignores, as the kernel tells it.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}
