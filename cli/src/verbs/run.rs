//! `run`: a command, and a lock for as long as it runs.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};
use fencelock::Moment;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::time::timeout;

use crate::child::Child;
use crate::connect::Server;
use crate::exit::{Exit, Outcome};
use crate::guard::{Guard, Order};
use crate::keep::{deadline_unix_ms, Held, RELEASE};
use crate::owner;
use crate::print::complain;
use crate::signals::Signals;
use crate::time::{some_span, span};
use crate::wait::{acquire, Wanted};

/// Those that we hear: of the command, and for it.
const SIGNALS: [Signal; 10] = [
    Signal::SIGCHLD,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    wanted: Wanted,
    /// The hold ends so long after the connection of this program does
    #[arg(long, value_name = "TIME", value_parser = some_span)]
    tied: Option<Duration>,
    /// How long the command has from SIGTERM to SIGKILL; at most a third of the lease and of --max-hold where these end
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5s")]
    kill_after: Duration,
    /// What the loss of the lock means for the command
    #[arg(long, value_enum, default_value_t = OnLost::Signal)]
    on_lost: OnLost,
    /// A line for sh in place of a command
    #[arg(short = 'c', long = "command", value_name = "LINE", conflicts_with = "words")]
    line: Option<OsString>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required_unless_present = "line", value_name = "COMMAND")]
    words: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnLost {
    /// It is ended: SIGTERM, and SIGKILL after a while
    Signal,
    /// Nothing: it goes on without the lock
    Ignore,
}

impl Run {
    pub(crate) async fn run(mut self, server: &Server) -> Outcome<Exit> {
        if let Some(line) = self.line.take() {
            self.words = vec!["sh".into(), "-c".into(), line];
        }
        let mut signals = Signals::listen(&SIGNALS)?;
        // It starts while we connect.
        let mut guard = Guard::start()?;
        let owner = owner::name_for(Pid::this()).into();
        let mut held = acquire(server, &self.wanted, self.tied, owner, &mut signals).await?;
        let environment = [
            ("LOCK_KEY", self.wanted.key.as_word().to_owned()),
            ("LOCK_OWNER", held.grant.owner.as_word().to_owned()),
            ("LOCK_FENCE", held.grant.fence.to_string().into()),
            ("LOCK_DEADLINE", deadline_unix_ms(held.until()).to_string().into()),
        ];
        let mut child = match Child::start(&self.words, &environment) {
            Ok(child) => child,
            Err(failure) => {
                let _ = held.release().await;
                return Err(failure);
            }
        };
        guard.watch(child.group(), self.order(held.until()));
        child.go();

        let mut lost = None;
        let exit = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::SIGCHLD => {
                        if let Some(exit) = child.look() {
                            break exit;
                        }
                        guard.look()?;
                    }
                    signal => child.signal(signal),
                },
                news = held.news(server), if lost.is_none() => match &news {
                    None => guard.say(self.order(held.until())),
                    Some(reason) => {
                        self.tell_loss(reason);
                        guard.say(self.order_of_loss(held.until()));
                        lost = news;
                    }
                },
            }
        };

        if lost.is_some() {
            held.give_up().await;
        } else {
            lost = self.end(held, guard.has_ended_it()).await;
            lost.iter().for_each(|reason| self.tell_loss(reason));
        }
        Ok(if lost.is_some() && self.on_lost == OnLost::Signal { Exit::LOST } else { exit })
    }

    /// The command is gone before the lease is over, whether we can renew it, or are there at all, or not.
    fn order(&self, until: Moment) -> Order {
        match self.on_lost {
            OnLost::Signal => {
                let lease = self.wanted.lease;
                let longest = self.wanted.max_hold.map_or(lease, |max| max.min(lease));
                let grace = self.kill_after.min(longest / 3);
                Order { term: until.before(grace), kill: until }
            }
            OnLost::Ignore => Order::NONE,
        }
    }

    /// Never later than it was to be.
    fn order_of_loss(&self, until: Moment) -> Order {
        match self.on_lost {
            OnLost::Signal => {
                let now = Moment::now();
                Order { term: now, kill: until.min(now.after(self.kill_after)) }
            }
            OnLost::Ignore => Order::NONE,
        }
    }

    /// Gives the lock back after the command. Returns why it was lost, or `None` if it was held to the end.
    async fn end(&self, held: Held, was_ended: bool) -> Option<String> {
        let (until, capped) = (held.until(), held.is_capped());
        match timeout(RELEASE, held.release()).await {
            Ok(Ok(lost @ Some(_))) => return lost,
            Ok(Ok(None)) => {}
            _ if until.left().is_zero() => return Some("lease-over".to_owned()),
            _ if was_ended => {}
            _ => complain(&format!("{} could not be given back; its lease ends it", self.wanted.key)),
        }
        was_ended.then(|| if capped { "max-hold" } else { "lease-over" }.to_owned())
    }

    fn tell_loss(&self, reason: &str) {
        complain(&format!("lost the lock {}: {reason}", self.wanted.key));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Verb};

    #[test]
    fn the_loss_never_puts_off_the_end() {
        let words = ["redis-lock", "run", "--kill-after", "5s", "door", "true"];
        let Verb::Run(run) = Cli::try_parse_from(words).unwrap().verb else { panic!("it is run") };
        let soon = Moment::now().after(Duration::from_millis(100));
        assert_eq!(run.order_of_loss(soon).kill, soon);
        let late = Moment::now().after(Duration::from_secs(60));
        assert!(run.order_of_loss(late).kill < late);
    }
}
