//! Clients in programs of their own, which can be killed and stopped like real ones. Two ways to talk with them, line by
//! line. One client: it reads `acquire` and `release`, and writes `ready`, `held <fence or ->`, `released <1 or 0>`.
//! A crowd: it writes `ready`, reads `go`, writes `now <nanoseconds>`, works, reads `stop`, and writes for each
//! acquisition `<client> <asked> <granted> <releasing> <released>`, for who still waits `waiting <asked>`, then `end`.

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
pub(crate) enum Language {
    Python,
    Java,
    Go,
}

/// How to start the programs of other languages, as far as they are there.
#[derive(Clone, Default)]
pub(crate) struct Languages {
    pub python: Option<PathBuf>,
    pub java: Option<PathBuf>,
    pub go: Option<PathBuf>,
}

impl Languages {
    /// The program with the clients of this lock, without its words.
    pub(crate) fn command(&self, peer: Peer) -> Result<Command> {
        let Some(language) = peer.language() else {
            return Ok(Command::new(std::env::current_exe()?));
        };
        let missing = || format!("the client in {language:?} is not built");
        Ok(match language {
            Language::Python => {
                let mut command = Command::new(self.python.as_ref().with_context(missing)?);
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/locks.py"));
                command
            }
            Language::Java => {
                let mut command = Command::new("java");
                command.args(["-Xmx1g", "-cp"]).arg(self.java.as_ref().with_context(missing)?).arg("Locks");
                command
            }
            Language::Go => Command::new(self.go.as_ref().with_context(missing)?),
        })
    }
}

/// A program and the lines to and from it. It ends with this.
pub(crate) struct Talk {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    /// Starts it and waits for its `ready`.
    pub(crate) async fn start(mut command: Command, patience: Duration) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().context("starting a client")?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut talk = Self { child, input, output };
        let word = timeout(patience, talk.line()).await.context("the client does not get ready")??;
        ensure!(word == "ready", "the client said {word:?}");
        Ok(talk)
    }

    pub(crate) async fn line(&mut self) -> Result<String> {
        self.output.next_line().await?.context("the client has ended")
    }

    pub(crate) async fn say(&mut self, word: &str) -> Result<()> {
        Ok(self.input.write_all(format!("{word}\n").as_bytes()).await?)
    }

    pub(crate) async fn ask(&mut self, word: &str) -> Result<String> {
        self.say(word).await?;
        self.line().await
    }
}

/// One client.
pub(crate) struct Process {
    talk: Talk,
    sent: u64,
}

impl Process {
    pub(crate) async fn start(peer: Peer, terms: &Terms, languages: &Languages) -> Result<Self> {
        let mut command = languages.command(peer)?;
        command.arg("one").arg(peer.word()).arg(terms.lease.as_millis().to_string());
        command.arg(terms.poll.as_millis().to_string());
        command.arg(&terms.name).arg(&terms.owner).args(terms.ports.iter().map(u16::to_string));
        Ok(Self { talk: Talk::start(command, START_TIMEOUT).await?, sent: 0 })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.talk.child.id().context("the client has ended")?;
        Ok(kill(Pid::from_raw(pid as i32), signal)?)
    }
}

#[async_trait(?Send)]
impl Lock for Process {
    async fn acquire(&mut self) -> Result<Option<i64>> {
        self.sent += 1;
        let reply = self.talk.ask("acquire").await?;
        match reply.strip_prefix("held ") {
            Some(fence) => Ok(fence.parse().ok()),
            None => bail!("{reply}"),
        }
    }

    async fn release(&mut self) -> Result<bool> {
        self.sent += 1;
        let reply = self.talk.ask("release").await?;
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
pub(crate) async fn serve(words: &[String]) -> Result<()> {
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
