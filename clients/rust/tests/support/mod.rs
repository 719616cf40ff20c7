#![allow(dead_code, reason = "each file of tests uses a part of it")]
//! A server with the module, a hostile proxy before it, and waiting for what must become true.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use redis::Value;
use testbed::wait::poll;
use testbed::{Setup, Stop};

pub fn until(what: &str, seconds: f64, mut check: impl FnMut() -> bool) {
    let so = poll(Duration::from_secs_f64(seconds), || check().then_some(()));
    assert!(so.is_some(), "not so after {seconds} s: {what}");
}

pub struct Server {
    /// None, if somebody else has started it.
    process: Option<testbed::Server>,
    pub port: u16,
    connection: Mutex<redis::Connection>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&["--save", ""])
    }

    /// A server with these options, or a Sentinel with these lines of configuration.
    pub fn with(options: &[&str]) -> Self {
        let process = match options {
            ["--sentinel", lines @ ..] => Setup::sentinel(lines),
            _ => Setup::bare(testbed::binary()).module(&testbed::module()).words(options),
        }
        .start();
        let at = Self::at(process.port());
        Self { process: Some(process), ..at }
    }

    pub fn at(port: u16) -> Self {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let connection = Mutex::new(client.get_connection().unwrap());
        Self { process: None, port, connection }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.process.as_ref().unwrap().dir()
    }

    pub fn cmd(&self, words: &[String]) -> Result<Value, redis::RedisError> {
        let mut request = redis::cmd(&words[0]);
        request.arg(&words[1..]);
        let mut connection = self.connection.lock().unwrap();
        match request.query(&mut *connection) {
            // Sentinels cut all connections of a server that gets another role.
            Err(error) if error.is_io_error() => {
                *connection =
                    redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?.get_connection()?;
                request.query(&mut *connection)
            }
            reply => reply,
        }
    }

    pub fn ask(&self, line: &str) -> Value {
        self.cmd(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    fn field(&self, key: &str, at: usize) -> Value {
        let Value::Array(mut fields) = self.ask(&format!("LOCK.INFO {key}")) else { panic!("no map") };
        fields.swap_remove(at)
    }

    pub fn text(&self, line: &str) -> String {
        redis::from_redis_value(self.ask(line)).unwrap()
    }

    /// Begins anew, with what is in its append-only file.
    pub fn restart(&self) {
        let _ = self.cmd(&["DEBUG".to_owned(), "RESTART".to_owned()]);
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        until("the server answers again", 20.0, || {
            client.get_connection().map(|connection| *self.connection.lock().unwrap() = connection).is_ok()
        });
    }

    pub fn kill(&mut self) {
        self.process.as_mut().unwrap().stop(Stop::Kill);
    }

    /// A number from INFO, or 0.
    pub fn figure(&self, section: &str, name: &str) -> u64 {
        let info = self.text(&format!("INFO {section}"));
        let rest = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        rest.split(',').next().unwrap().parse().unwrap()
    }

    pub fn waiting(&self, key: &str) -> i64 {
        redis::from_redis_value(self.field(key, 7)).unwrap()
    }

    pub fn holders(&self, key: &str) -> i64 {
        let Value::Array(holds) = self.field(key, 5) else { panic!("no holds") };
        holds.len() as i64
    }

    /// A turn waits for a slow machine: the order does not depend on its speed.
    pub fn patient(&self) {
        self.ask("CONFIG SET lock.claim-ms 20000");
    }

    /// Waits until this hold has got a new lease.
    pub fn sees_renewal(&self, key: &str, owner: &[u8]) {
        let owner = String::from_utf8_lossy(owner);
        let left = || redis::from_redis_value::<i64>(self.ask(&format!("LOCK.CHECK {key} {owner}"))).unwrap();
        let mut before = left();
        until("it is renewed", 20.0, || {
            let now = left();
            now > std::mem::replace(&mut before, now)
        });
    }

    pub fn mode(&self, key: &str) -> String {
        redis::from_redis_value(self.field(key, 1)).unwrap()
    }

    pub fn blocked(&self) -> i64 {
        let info: String = redis::from_redis_value(self.ask("INFO clients")).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
        line.parse().unwrap()
    }

    pub fn is_idle(&self, key: &str) -> bool {
        self.holders(key) == 0 && self.waiting(key) == 0
    }
}

/// A program of the conformance kit, which answers each line with a line.
struct Script {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    fn start(name: &str, arg: &str) -> Self {
        let mut process = Command::new("python3")
            .args([&format!("{}/../conformance/{name}", env!("CARGO_MANIFEST_DIR")), arg])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take(), process.stdout.take().unwrap());
        Self { process, input, output: BufReader::new(output) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, line: &str) -> String {
        writeln!(self.input.as_ref().unwrap(), "{line}").unwrap();
        self.line()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.input = None; // its end
        let _ = self.process.wait();
    }
}

pub struct Proxy {
    script: Script,
    pub port: u16,
}

impl Proxy {
    pub fn start(server: &Server) -> Self {
        let mut script = Script::start("proxy.py", &server.port.to_string());
        let port = script.line().parse().unwrap();
        Self { script, port }
    }

    pub fn tell(&mut self, line: &str) {
        assert_eq!(self.script.tell(line), "ok", "{line}");
    }
}

/// Servers of clients/conformance/deploy.py. The test's own looks go to the one that has the keys.
pub struct Deployed {
    script: Script,
    pub told: serde_json::Value,
}

impl Deployed {
    /// Returns why there are none, if this server cannot.
    pub fn start(kind: &str) -> Result<Self, String> {
        let mut script = Script::start("deploy.py", kind);
        let line = script.line();
        serde_json::from_str(&line).map(|told| Self { script, told }).map_err(|_| line)
    }

    pub fn number(&self, name: &str) -> u16 {
        self.told[name].as_u64().unwrap() as u16
    }

    pub fn failover(&mut self) -> Server {
        Server::at(self.script.tell("failover").parse().unwrap())
    }
}
