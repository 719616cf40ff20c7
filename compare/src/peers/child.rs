//! A client in a process of its own, which can be killed and stopped like a real one.
//! It reads `acquire` and `release`, and writes `ready`, `held <fence or ->`, `released <1 or 0>`, line by line.

use super::{Lock, Peer, Terms};
use anyhow::{bail, ensure, Context, Result};
use async_trait::async_trait;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{stdin, AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A Java program on a busy machine takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    Python,
    Java,
    Go,
}

/// How to start the programs of other languages, as far as they are there.
#[derive(Clone, Default)]
pub struct Languages {
    pub python: Option<PathBuf>,
    pub java: Option<PathBuf>,
    pub go: Option<PathBuf>,
}

impl Languages {
    fn command(&self, language: Language) -> Result<Command> {
        let missing = || format!("the client in {language:?} is not built");
        Ok(match language {
            Language::Python => {
                let mut command = Command::new(self.python.as_ref().with_context(missing)?);
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/locks.py"));
                command
            }
            Language::Java => {
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-cp"]).arg(self.java.as_ref().with_context(missing)?).arg("Locks");
                command
            }
            Language::Go => Command::new(self.go.as_ref().with_context(missing)?),
        })
    }
}

pub struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    sent: u64,
}

impl Process {
    pub async fn start(peer: Peer, terms: &Terms, languages: &Languages) -> Result<Self> {
        let mut command = match peer.language() {
            Some(language) => languages.command(language)?,
            None => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("child");
                command
            }
        };
        command
            .arg(peer.word())
            .arg(terms.lease.as_millis().to_string())
            .arg(terms.poll.as_millis().to_string());
        command.arg(&terms.name).arg(&terms.owner).args(terms.ports.iter().map(u16::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().context("starting a client")?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut process = Self { child, input, output, sent: 0 };
        let word =
            timeout(START_TIMEOUT, process.line()).await.context("the client does not get ready")??;
        ensure!(word == "ready", "the client said {word:?}");
        Ok(process)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().context("the client has ended")?;
        Ok(kill(Pid::from_raw(pid as i32), signal)?)
    }

    async fn line(&mut self) -> Result<String> {
        self.output.next_line().await?.context("the client has ended")
    }

    async fn ask(&mut self, word: &str) -> Result<String> {
        self.sent += 1;
        self.input.write_all(format!("{word}\n").as_bytes()).await?;
        self.line().await
    }
}

#[async_trait(?Send)]
impl Lock for Process {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        let reply = self.ask("acquire").await?;
        match reply.strip_prefix("held ") {
            Some(fence) => Ok(fence.parse().ok()),
            None => bail!("{reply}"),
        }
    }

    async fn release(&mut self) -> Result<bool> {
        let reply = self.ask("release").await?;
        match reply.strip_prefix("released ") {
            Some(given) => Ok(given == "1"),
            None => bail!("{reply}"),
        }
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    /// A process keeps the name that it was started with.
    fn rename(&mut self, _: &str) {}
}

/// The other side: one client of a lock of this program, on its standard input and output.
pub async fn serve(words: &[String]) -> Result<()> {
    let [peer, lease, poll, name, owner, ports @ ..] = words else { bail!("too few words") };
    let terms = Terms {
        ports: ports.iter().map(|port| port.parse()).collect::<Result<_, _>>()?,
        name: name.clone(),
        owner: owner.clone(),
        lease: Duration::from_millis(lease.parse()?),
        poll: Duration::from_millis(poll.parse()?),
    };
    let peer = Peer::from_word(peer).context("no such lock")?;
    let mut lock = peer.client(terms).await?;
    println!("ready");
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let reply = match line.as_str() {
            "acquire" => lock.acquire().await.map(|fence| match fence {
                Some(fence) => format!("held {fence}"),
                None => "held -".into(),
            }),
            _ => lock.release().await.map(|given| format!("released {}", u8::from(given))),
        };
        println!("{}", reply.unwrap_or_else(|error| format!("error {error:#}").replace('\n', " ")));
    }
    Ok(())
}
