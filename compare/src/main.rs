//! Sets the lock module beside the locks that people use today, on real servers that it starts itself, and writes
//! what came out: is it right, is it fast, what is it for.
//! Layout: `servers` starts them, `peers` are the locks and `clients` their libraries; `right`, `fast` and `growth` measure,
//! with a `crowd` and its `log`, or a `store`, on a machine of which `load` says how quiet it is; `series` says what is run
//! in which order; `aims` judges, `features` lists, `plot` draws, `document` writes.

mod aims;
mod clients;
mod crowd;
mod document;
mod fast;
mod features;
mod growth;
mod load;
mod log;
mod peers;
mod plot;
mod right;
mod series;
mod servers;
mod store;

use anyhow::{bail, Context, Result};
use clap::Parser;
use document::Document;
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use peers::child::{serve, Languages};
use peers::{Peer, PEERS};
use series::Fast;
use servers::{Kind, Programs, Servers};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// A thousand clients, in here and in the server.
const OPEN_FILES: u64 = 16_384;

#[derive(Parser)]
struct Options {
    /// Short runs
    #[arg(long)]
    quick: bool,
    /// Only these peers, by their words
    #[arg(long)]
    only: Vec<String>,
    /// Where to write the document; its plots go beside it [default: print it]
    #[arg(long)]
    write: Option<PathBuf>,
    /// Only draw the plots of this document again, beside it, from its tables
    #[arg(long)]
    redraw: Option<PathBuf>,
    /// The lock module
    #[arg(long, env = "MODULE_PATH")]
    module: PathBuf,
    #[arg(long, env = "SERVER_BIN", default_value = "redis-server")]
    server: PathBuf,
    #[arg(long, env = "VALKEY_BIN", default_value = "valkey-server")]
    valkey: PathBuf,
    #[arg(long, env = "ETCD_BIN", default_value = "etcd")]
    etcd: PathBuf,
    /// A Python with redis, python-redis-lock and kazoo
    #[arg(long, env = "COMPARE_PYTHON")]
    python: Option<PathBuf>,
    /// A class path with the client in Java
    #[arg(long, env = "COMPARE_JAVA")]
    java: Option<PathBuf>,
    /// The client in Go
    #[arg(long, env = "COMPARE_GO")]
    go: Option<PathBuf>,
}

fn main() -> Result<()> {
    // One thread: a client is then never the reason why two servers' figures differ.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let words: Vec<String> = std::env::args().collect();
    if let [_, child, rest @ ..] = words.as_slice()
        && child == "one"
    {
        return runtime.block_on(LocalSet::new().run_until(serve(rest)));
    }
    let options = Options::parse();
    if let Some(path) = &options.redraw {
        let folder = path.parent().context("a document without a folder")?;
        return plot::write(&folder.join("comparison"), &std::fs::read_to_string(path)?);
    }
    runtime.block_on(LocalSet::new().run_until(compare(&options)))
}

async fn compare(options: &Options) -> Result<()> {
    raise_open_files()?;
    // First what needs no server: a link that leads nowhere is told at once.
    let features = features::table(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")))?;
    let module = options
        .module
        .canonicalize()
        .with_context(|| format!("no module at {}", options.module.display()))?;
    let programs = Programs {
        module,
        redis: options.server.clone(),
        valkey: options.valkey.clone(),
        etcd: options.etcd.clone(),
    };
    let languages =
        Languages { python: options.python.clone(), java: options.java.clone(), go: options.go.clone() };
    let peers = chosen(&options.only)?;
    let plan = series::Plan::new(options.quick);
    let load = load::when_quiet(plan.quiet).await?;
    let began = Instant::now();
    let growth = series::growth(&peers, &plan, &programs).await;
    let servers =
        Servers::start(&programs, |kind| kind == Kind::Store || peers.iter().any(|peer| peer.kind() == kind));
    let right = series::right(&peers, &plan, &servers, &languages).await?;
    let series = series::fast(&peers, &plan, &servers, &languages).await?;
    let fast = Fast { series, growth };
    let document = Document {
        quick: options.quick,
        plots: options.write.is_some(),
        plan: &plan,
        servers: &servers,
        right: &right,
        fast: &fast,
        load,
        features: &features,
    };
    let text = document.text(began.elapsed())?;
    match &options.write {
        None => print!("{text}"),
        Some(path) => {
            let folder = path.parent().context("a document without a folder")?;
            plot::write(&folder.join("comparison"), &text)?;
            std::fs::write(path, text)?;
        }
    }
    Ok(())
}

/// This module is always there: the ratios need it.
fn chosen(words: &[String]) -> Result<Vec<Peer>> {
    for word in words {
        if Peer::from_word(word).is_none() {
            bail!("no peer {word:?}; there are {}", PEERS.map(Peer::word).join(" "));
        }
    }
    let wanted = |peer: &Peer| *peer == Peer::Module || words.is_empty() || words.contains(&peer.word());
    Ok(PEERS.into_iter().filter(wanted).collect())
}

fn raise_open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.max(OPEN_FILES.min(hard)), hard)?)
}
