//! One real server per value, on the server's CPU.
//! Set-up and questions go over an ordinary client; the measured load never does.

use crate::placement::Placement;
use anyhow::{anyhow, Context, Result};
use redis::{Connection, InfoDict};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;
use testbed::wait::poll;
use testbed::Setup;

/// Under valgrind on a busy machine a start takes many seconds; this only ends a run that would hang.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A busy server may take long over one INFO; a dead one must not hang the run.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The words that every server of a run is started with.
#[derive(Clone)]
pub(crate) struct Launch {
    pub binary: PathBuf,
    pub modules: Vec<PathBuf>,
    /// Extra `--option value` words.
    pub options: Vec<String>,
    /// A program that runs the server, with its own words; none for the server itself.
    pub under: Vec<String>,
    pub placement: Placement,
}

pub(crate) struct Server(testbed::Server);

impl Launch {
    pub(crate) fn with(&self, options: &[&str]) -> Self {
        let mut launch = self.clone();
        launch.options.extend(options.iter().map(|word| (*word).to_string()));
        launch
    }

    /// The same server, run by another program.
    pub(crate) fn under(&self, words: &[&str]) -> Self {
        let mut launch = self.clone();
        launch.under = words.iter().map(|word| (*word).to_string()).collect();
        launch
    }

    pub(crate) fn start(&self) -> Result<Server> {
        let placement = self.placement;
        let mut setup = Setup::bare(&self.binary)
            .conf(&["save \"\"", "appendonly no"])
            .words(&self.options)
            .under(&self.under)
            .patience(START_TIMEOUT)
            .spawned_by(move |command| placement.on_server_cpu(|| command.spawn()));
        for module in &self.modules {
            setup = setup.module(module);
        }
        let server = setup.try_start();
        Ok(Server(server.map_err(|log| anyhow!("the server did not start; its log:\n{log}"))?))
    }
}

impl Server {
    pub(crate) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// A connection for set-up and questions.
    pub(crate) fn control(&self) -> Result<Connection> {
        let client = redis::Client::open((Ipv4Addr::LOCALHOST.to_string(), self.port()))?;
        let control = client.get_connection_with_timeout(ANSWER_TIMEOUT)?;
        control.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(control)
    }

    /// Its name, with its version.
    pub(crate) fn name(&self) -> Result<String> {
        let about = info(&mut self.control()?, "server")?;
        let field = |name: &str| about.get::<String>(name);
        Ok(match field("valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field("redis_version").context("no version in INFO")?),
        })
    }
}

impl Deref for Server {
    type Target = testbed::Server;

    fn deref(&self) -> &testbed::Server {
        &self.0
    }
}

/// One INFO section.
pub(crate) fn info(control: &mut Connection, section: &str) -> Result<InfoDict> {
    Ok(redis::cmd("INFO").arg(section).query(control)?)
}

/// One number of an INFO section.
pub(crate) fn info_number(control: &mut Connection, section: &str, field: &str) -> Result<u64> {
    info(control, section)?.get(field).with_context(|| format!("INFO {section} has no number {field}"))
}

/// A number of the module's own INFO section, if this build of the module shows it.
pub(crate) fn lock_number(control: &mut Connection, field: &str) -> Option<u64> {
    // `everything` is the one selector that includes module sections on every server.
    info(control, "everything").ok()?.get(field)
}

/// How often a command was called since the last `CONFIG RESETSTAT`.
pub(crate) fn calls(control: &mut Connection, command: &str) -> Result<u64> {
    let stats: Option<String> = info(control, "commandstats")?.get(&format!("cmdstat_{command}"));
    let calls = stats.as_deref().and_then(|s| s.strip_prefix("calls=")?.split(',').next()?.parse().ok());
    Ok(calls.unwrap_or(0))
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let look = || condition().map(|is_so| is_so.then_some(())).transpose();
    poll(within, look).with_context(|| format!("gave up waiting for {what}"))?
}
