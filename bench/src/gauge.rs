//! The CPU time that was used between two moments, and by whom: the server, this driver, and everybody else.

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, ClockId};
use nix::unistd::Pid;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// `/proc/stat` counts in this unit on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// One busy tick in this window is a tenth of a CPU.
const QUIET_WINDOW: Duration = Duration::from_millis(100);

/// Reads the CPU clock of one server process (exact, all its threads) and of this process.
pub(crate) struct Gauge {
    server: ClockId,
}

#[derive(Clone, Copy)]
pub(crate) struct Reading {
    at: Instant,
    server: Duration,
    driver: Duration,
    machine: Duration,
}

/// The cost of an interval.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub wall: Duration,
    pub server: Duration,
    pub driver: Duration,
    /// Busy time of all CPUs that is neither server nor driver, steal included; ±1 tick per CPU.
    pub foreign: Duration,
}

impl Gauge {
    pub(crate) fn new(server_pid: u32) -> Result<Self> {
        let server =
            clock_getcpuclockid(Pid::from_raw(server_pid as i32)).context("CPU clock of the server")?;
        Ok(Self { server })
    }

    pub(crate) fn read(&self) -> Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            server: self.server.now()?.into(),
            driver: ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into(),
            machine: busy()?,
        })
    }

    pub(crate) fn since(&self, from: Reading) -> Result<Used> {
        let to = self.read()?;
        let (server, driver) = (to.server - from.server, to.driver - from.driver);
        let machine = to.machine.saturating_sub(from.machine);
        Ok(Used { wall: to.at - from.at, server, driver, foreign: machine.saturating_sub(server + driver) })
    }
}

impl Used {
    /// Share of one CPU.
    pub(crate) fn share(&self, of: Duration) -> f64 {
        of.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Waits until the machine is nearly idle, which needs servers and driver to be at rest; at most for `patience`.
pub(crate) fn wait_until_quiet(patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let before = busy()?;
        thread::sleep(QUIET_WINDOW);
        if busy()? - before <= TICK || Instant::now() >= deadline {
            return Ok(());
        }
    }
}

/// Busy time of all CPUs since boot.
fn busy() -> Result<Duration> {
    const IDLE: usize = 3;
    const IOWAIT: usize = 4;
    /// user nice system idle iowait irq softirq steal; guest time is part of user.
    const FIELDS: usize = 8;
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let first = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: u64 = first
        .split_whitespace()
        .skip(1)
        .take(FIELDS)
        .enumerate()
        .filter(|(field, _)| *field != IDLE && *field != IOWAIT)
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    Ok(TICK * ticks as u32)
}
