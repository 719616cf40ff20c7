//! The ground all workloads stand on: which servers, which modules, where they run; printed before the first number.

use crate::options::Options;
use crate::peers::Peer;
use crate::placement::Placement;
use crate::rounds::Plan;
use crate::server::{info, Launch};
use anyhow::{Context, Result};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Enough for the longest queue, with room to spare.
const OPEN_FILES: u64 = 16_384;

pub(crate) struct Setting {
    pub plan: Plan,
    pub flat: Duration,
    pub floor: Option<PathBuf>,
    /// Only what has a budget is wanted.
    pub gate: bool,
    pub counts_only: bool,
    pub valkey: Option<Launch>,
    /// How many connections a workload may open, and a server may take.
    pub open_files: u64,
    server: Launch,
    module: Option<PathBuf>,
}

impl Setting {
    pub(crate) fn prepare(options: &Options) -> Result<Self> {
        let module = options.module.clone().filter(|_| !options.peers_only);
        // The server would look for a relative path in its own directory.
        let module = module
            .map(|path| path.canonicalize().with_context(|| format!("no module at {}", path.display())))
            .transpose()?;
        let placement = Placement::choose()?;
        placement.take_driver_cpu()?;
        let open_files = raise_open_files()?;
        let launch = |binary: &Path| Launch {
            binary: binary.to_path_buf(),
            modules: module.iter().cloned().collect(),
            options: Vec::new(),
            under: Vec::new(),
            placement,
        };
        let setting = Self {
            plan: options.plan(),
            flat: options.flat(),
            floor: options.floor(),
            gate: options.gate,
            counts_only: options.counts_only,
            valkey: options.valkey.as_deref().map(launch),
            open_files,
            server: launch(&options.server),
            module: module.clone(),
        };
        setting.print(placement)?;
        Ok(setting)
    }

    /// The server under test with the module, ready to be started.
    pub(crate) fn server(&self) -> &Launch {
        &self.server
    }

    /// Drops the module's own peer when it is not loaded.
    pub(crate) fn present(&self, peers: &[Peer]) -> Vec<Peer> {
        peers.iter().copied().filter(|peer| *peer != Peer::Lock || self.has_module()).collect()
    }

    pub(crate) fn has_module(&self) -> bool {
        self.module.is_some()
    }

    /// The path of the module's file; empty without a module.
    pub(crate) fn module_file(&self) -> &str {
        self.module.as_deref().and_then(Path::to_str).unwrap_or_default()
    }

    fn print(&self, placement: Placement) -> Result<()> {
        println!("# Lock benchmark\n");
        println!("- CPU: {}", cpu_model());
        println!("- kernel: {}", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim());
        println!("- placement: {placement}");
        for launch in [Some(&self.server), self.valkey.as_ref()].into_iter().flatten() {
            println!("- server: {}", version(launch)?);
        }
        println!("- settings: loopback TCP, save \"\", appendonly no unless the row says so");
        match &self.module {
            Some(path) => println!("- module: {} bytes", fs::metadata(path)?.len()),
            None => println!("- module: not loaded, peers only"),
        }
        let Plan { rounds, interval } = self.plan;
        println!("- rounds: {rounds} of {interval:?} per peer; ratios are taken inside a round, the median decides");
        Ok(())
    }
}

/// Asks a server of this kind itself; that it starts with the module is checked on the way.
fn version(launch: &Launch) -> Result<String> {
    let server = launch.start()?;
    let memory: Option<String> = info(&mut server.control()?, "memory")?.get("mem_allocator");
    Ok(format!("{}, allocator {}", server.name()?, memory.unwrap_or_default()))
}

/// Ten thousand connections need as many files here, and the servers inherit the limit.
fn raise_open_files() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Only root may go above the hard limit; others take what there is.
    if hard < OPEN_FILES && setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).is_ok() {
        return Ok(OPEN_FILES);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
    Ok(hard)
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} x {}", model.map_or("unknown", |(_, name)| name.trim()))
}
