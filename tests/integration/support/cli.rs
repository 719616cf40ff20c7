//! A running `redis-cli`, fed line by line as a person would, for text that must look as it does in a terminal.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};

use super::process::signal;
use super::wait::DEADLINE;

/// A line that redis-cli refuses by itself, without asking the server, and what it prints then. Sent after each command,
/// it marks where the answer ends, in every state the connection may be in (MULTI, RESP3, blocked).
const REFUSED_LINE: &str = "\"";
const REFUSAL: &str = "Invalid argument(s)";

/// One redis-cli process: one connection that keeps its state from command to command.
pub(crate) struct Cli {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Vec<String>>,
    /// An answer that was looked at before it was asked for.
    early: Option<Vec<String>>,
}

impl Cli {
    pub(crate) fn start(port: u16) -> Cli {
        Cli::with(port, &[])
    }

    /// One with these options.
    pub(crate) fn with(port: u16, options: &[&str]) -> Cli {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut child = Command::new("redis-cli")
            .args(["--no-raw", "-p", &port.to_string()])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(writer.try_clone().expect("share the pipe"))
            .stderr(writer)
            .spawn()
            .expect("run redis-cli");
        let stdin = child.stdin.take().expect("redis-cli's input");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut answer = Vec::new();
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if line != REFUSAL {
                    answer.push(line.trim_end().to_owned());
                } else if sender.send(std::mem::take(&mut answer)).is_err() {
                    break;
                }
            }
        });
        Cli { child, stdin, answers, early: None }
    }

    /// Types one line and does not wait for the answer.
    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.stdin, "{line}\n{REFUSED_LINE}").expect("redis-cli has ended");
    }

    /// Sends the process a signal by name, such as `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Whether an answer is there already.
    pub(crate) fn has_answered(&mut self) -> bool {
        self.early = self.early.take().or_else(|| self.answers.try_recv().ok());
        self.early.is_some()
    }

    /// The next answer, line by line. `Err` tells why there is none.
    pub(crate) fn answer(&mut self) -> Result<Vec<String>, &'static str> {
        if let Some(answer) = self.early.take() {
            return Ok(answer);
        }
        self.answers.recv_timeout(DEADLINE).map_err(|error| match error {
            RecvTimeoutError::Timeout => "no answer",
            RecvTimeoutError::Disconnected => "redis-cli has ended",
        })
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
