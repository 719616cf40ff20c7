//! Servers of their own for tests, and the program beside them.

pub(crate) mod screen;

use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use testbed::Setup;

pub(crate) use testbed::wait::{wait_until as until, DEADLINE as PATIENCE};
pub(crate) use testbed::{free_port, skip, Stop};

/// A directory that goes with the value.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("redis-lock-cli-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What a file says, once it says something.
    #[track_caller]
    pub(crate) fn said(&self, name: &str) -> String {
        let path = self.path(name);
        until(&format!("{name} is written"), || {
            std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
        });
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that ends with the value, and what tests ask it and have the program do there.
pub(crate) struct Server {
    pub port: u16,
    server: testbed::Server,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// A server with the module and these options.
    pub(crate) fn with(options: &[&str]) -> Self {
        let setup = Setup::bare(testbed::binary()).module(&testbed::module());
        setup.words(&["--save", ""]).words(options).start().into()
    }

    /// A replica with these options, once it follows.
    #[track_caller]
    pub(crate) fn replica_of(primary: &Self, options: &[&str]) -> Self {
        let port = primary.port.to_string();
        let replica = Self::with(&[options, &["--replicaof", "127.0.0.1", &port]].concat());
        until("the replica follows", || {
            replica.ask::<String>("INFO replication").contains("master_link_status:up")
        });
        replica
    }

    /// A Sentinel with these lines of configuration.
    pub(crate) fn sentinel(lines: &[&str]) -> Self {
        Setup::sentinel(lines).start().into()
    }

    /// A server without anything.
    pub(crate) fn bare(options: &[&str]) -> Self {
        Setup::bare(testbed::binary()).words(options).start().into()
    }

    /// Returns `None` if the server does not want to start with these options.
    pub(crate) fn try_bare(options: &[&str]) -> Option<Self> {
        Setup::bare(testbed::binary()).words(options).try_start().ok().map(Self::from)
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends words with a space between each two.
    #[track_caller]
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &str) -> T {
        self.ask_words(&words.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn try_ask<T: redis::FromRedisValue>(&self, words: &str) -> redis::RedisResult<T> {
        let words: Vec<&str> = words.split(' ').collect();
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.client().get_connection()?)
    }

    #[track_caller]
    pub(crate) fn ask_words<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut request = redis::cmd(words[0]);
        request.arg(&words[1..]);
        request.query(&mut self.client().get_connection().unwrap()).unwrap()
    }

    /// A field of LOCK.INFO.
    pub(crate) fn mode(&self, key: &str) -> String {
        let info: Vec<redis::Value> = self.ask(&format!("LOCK.INFO {key}"));
        redis::from_redis_value(info[1].clone()).unwrap()
    }

    /// How often holds were renewed.
    pub(crate) fn renewed(&self) -> u64 {
        let stats: String = self.ask("INFO lock_stats");
        let figure = stats.lines().find_map(|line| line.strip_prefix("lock_renewed:"));
        figure.unwrap().parse().unwrap()
    }

    pub(crate) fn is_held(&self, key: &str) -> bool {
        !matches!(self.mode(key).as_str(), "free" | "cooling")
    }

    pub(crate) fn waiting(&self, key: &str) -> usize {
        self.ask::<Vec<redis::Value>>(&format!("LOCK.WAITERS {key}")).len()
    }

    /// The program with these words, its input closed and its output caught.
    pub(crate) fn tool(&self, words: &[&str]) -> Command {
        let mut command = tool();
        command.env("REDIS_URL", self.url()).args(words);
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.tool(words).output().unwrap()
    }

    pub(crate) fn start(&self, words: &[&str]) -> Tool {
        Tool(self.tool(words).spawn().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.server.stop(Stop::Kill);
    }
}

impl From<testbed::Server> for Server {
    fn from(server: testbed::Server) -> Self {
        Self { port: server.port(), server }
    }
}

impl Deref for Server {
    type Target = testbed::Server;

    fn deref(&self) -> &testbed::Server {
        &self.server
    }
}

pub(crate) fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redis-lock"));
    command.env_remove("REDIS_URL").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program while it runs.
pub(crate) struct Tool(pub Child);

impl Tool {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Output {
        until("the program ends", || self.0.try_wait().unwrap().is_some());
        let mut output = Output { status: self.0.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        self.0.stdout.take().unwrap().read_to_end(&mut output.stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_end(&mut output.stderr).unwrap();
        output
    }

    /// Its guard.
    pub(crate) fn guard(&self) -> Option<Pid> {
        children(self.pid()).into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| words.contains("__guard"))
        })
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn children(of: Pid) -> Vec<Pid> {
    let path = format!("/proc/{of}/task/{of}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// Whether nobody is left at work in a group of processes. Who has ended and was not asked for its code yet does not count.
pub(crate) fn is_gone(group: Pid) -> bool {
    let works = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, _parent, its_group) = (fields.next()?, fields.next()?, fields.next()?);
        (state != "Z" && its_group == group.to_string()).then_some(())
    };
    std::fs::read_dir("/proc").unwrap().flatten().find_map(works).is_none()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A script that a test can run.
pub(crate) fn script(path: &Path, lines: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, lines).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Three nodes, with a third of the slots each.
pub(crate) fn cluster() -> [Server; 3] {
    let nodes = [(); 3].map(|()| {
        let bus = free_port().to_string();
        Server::with(&["--cluster-enabled", "yes", "--cluster-port", &bus])
    });
    for (node, slots) in nodes.iter().zip(["0 5461", "5462 10922", "10923 16383"]) {
        let _: String = node.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        if node.port != nodes[0].port {
            let bus: Vec<String> = node.ask("CONFIG GET cluster-port");
            let _: String = nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.port, bus[1]));
        }
    }
    for node in &nodes {
        until("the cluster is whole", || {
            node.ask::<String>("CLUSTER INFO").contains("cluster_state:ok")
                && node.ask::<Vec<redis::Value>>("CLUSTER SLOTS").len() == 3
        });
    }
    nodes
}

/// A key in the slots of the first node of [`cluster`].
pub(crate) const OF_THE_FIRST: &str = "b";

/// A replica of the first node of a cluster.
pub(crate) fn in_reserve(nodes: &[Server; 3]) -> Server {
    let bus = free_port().to_string();
    let replica = Server::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    let _: String = nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", replica.port));
    let first: String = nodes[0].ask("CLUSTER MYID");
    until("it is the replica of the first", || {
        replica.try_ask::<String>(&format!("CLUSTER REPLICATE {first}")).is_ok()
    });
    until("it follows", || replica.ask::<String>("INFO replication").contains("master_link_status:up"));
    let me: String = replica.ask("CLUSTER MYID");
    for node in nodes {
        until("all know it", || {
            let known: String = node.ask("CLUSTER NODES");
            known.lines().any(|line| line.starts_with(&me) && line.contains(&format!("slave {first}")))
        });
    }
    replica
}

/// Makes it a primary in place of its own, who agrees.
pub(crate) fn take_over(replica: &Server) {
    let _: String = replica.ask("CLUSTER FAILOVER");
    until("it is a primary", || replica.ask::<String>("INFO replication").contains("role:master"));
}
