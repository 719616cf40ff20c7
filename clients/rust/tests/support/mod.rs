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

pub(crate) fn until(what: &str, seconds: f64, mut check: impl FnMut() -> bool) {
    let so = poll(Duration::from_secs_f64(seconds), || check().then_some(()));
    assert!(so.is_some(), "not so after {seconds} s: {what}");
}

pub(crate) struct Server {
    process: testbed::Server,
    pub port: u16,
    connection: Mutex<redis::Connection>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&["--save", ""])
    }

    /// A server with these options, or a Sentinel with these lines of configuration.
    pub(crate) fn with(options: &[&str]) -> Self {
        let process = match options {
            ["--sentinel", lines @ ..] => Setup::sentinel(lines),
            _ => Setup::bare(testbed::binary()).module(&testbed::module()).words(options),
        }
        .start();
        let port = process.port();
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let connection = Mutex::new(client.get_connection().unwrap());
        Self { process, port, connection }
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.process.dir()
    }

    pub(crate) fn cmd(&self, words: &[String]) -> Result<Value, redis::RedisError> {
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

    pub(crate) fn ask(&self, line: &str) -> Value {
        self.cmd(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    fn field(&self, key: &str, at: usize) -> Value {
        let Value::Array(mut fields) = self.ask(&format!("LOCK.INFO {key}")) else { panic!("no map") };
        fields.swap_remove(at)
    }

    pub(crate) fn kill(&mut self) {
        self.process.stop(Stop::Kill);
    }

    /// A number from INFO, or 0.
    pub(crate) fn figure(&self, section: &str, name: &str) -> u64 {
        let info: String = redis::from_redis_value(self.ask(&format!("INFO {section}"))).unwrap();
        let rest = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        rest.split(',').next().unwrap().parse().unwrap()
    }

    pub(crate) fn waiting(&self, key: &str) -> i64 {
        redis::from_redis_value(self.field(key, 7)).unwrap()
    }

    pub(crate) fn holders(&self, key: &str) -> i64 {
        let Value::Array(holds) = self.field(key, 5) else { panic!("no holds") };
        holds.len() as i64
    }

    /// A turn waits for a slow machine: the order does not depend on its speed.
    pub(crate) fn patient(&self) {
        self.ask("CONFIG SET lock.claim-ms 20000");
    }

    /// Waits until this hold has got a new lease.
    pub(crate) fn sees_renewal(&self, key: &str, owner: &[u8]) {
        let owner = String::from_utf8_lossy(owner);
        let left = || redis::from_redis_value::<i64>(self.ask(&format!("LOCK.CHECK {key} {owner}"))).unwrap();
        let mut before = left();
        until("it is renewed", 20.0, || {
            let now = left();
            now > std::mem::replace(&mut before, now)
        });
    }

    pub(crate) fn blocked(&self) -> i64 {
        let info: String = redis::from_redis_value(self.ask("INFO clients")).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).unwrap();
        line.parse().unwrap()
    }

    pub(crate) fn is_idle(&self, key: &str) -> bool {
        self.holders(key) == 0 && self.waiting(key) == 0
    }
}

/// The hostile proxy of the conformance kit.
pub(crate) struct Proxy {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub port: u16,
}

impl Proxy {
    pub(crate) fn start(server: &Server) -> Self {
        let mut process = Command::new("python3")
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/proxy.py"), &server.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut proxy = Self { process, input, output, port: 0 };
        proxy.port = proxy.line().parse().unwrap();
        proxy
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_ref().unwrap(), "{line}").unwrap();
        assert_eq!(self.line(), "ok", "{line}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.input = None; // its end
        let _ = self.process.wait();
    }
}
