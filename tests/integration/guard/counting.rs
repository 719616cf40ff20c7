//! Why to guard writes: processes that count under a lock, each by reading a number and writing the next one, while
//! they are stopped past their leases again and again. Written without a guard, numbers get lost, as a stopped
//! process goes on where it was; with one, none.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::signal;
use crate::support::{Connection, Server, Value};

const CLIENTS: usize = 4;
/// Shorter than a stop, and longer than it takes to count one on.
const LEASE_MS: &str = "25";
const STOPPED_MS: u64 = 40;
/// Set for the processes that count: port, whether to guard, how many to count each.
const TASK: &str = "LOCK_COUNTING_TASK";

/// One of the processes. As a test of its own it has nothing to do.
#[test]
fn one_who_counts() {
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Vec<u64> = task.split(' ').map(|n| n.parse().unwrap()).collect();
    let [port, guarded, count] = task[..] else { panic!("{task:?}") };
    let mut conn = Connection::open(u16::try_from(port).unwrap()).unwrap();
    let owner = std::process::id().to_string();
    let mut written = 0;
    while written < count {
        let acquire = ["LOCK.ACQUIRE", "lock", &owner, "PX", LEASE_MS, "BLOCK", "0"];
        let Value::Int(fence) = conn.cmd(&acquire) else { continue };
        let number = match conn.cmd(&["GET", "number"]) {
            Value::Nil => 0,
            number => number.text().parse::<u64>().unwrap(),
        };
        let (fence, next) = (fence.to_string(), (number + 1).to_string());
        let reply = if guarded == 1 {
            conn.cmd(&["LOCK.GUARD", "lock", &owner, &fence, "SET", "number", &next])
        } else {
            conn.cmd(&["SET", "number", &next])
        };
        match reply {
            Value::Error(text) => assert!(text.starts_with("NOTHELD ") || text.starts_with("STALEFENCE ")),
            reply => {
                assert_eq!(reply, "OK");
                written += 1;
            }
        }
        conn.cmd(&["LOCK.RELEASE", "lock", &owner, "FENCE", &fence]);
    }
}

struct Crowd(Vec<Child>);

impl Crowd {
    fn start(server: &Server, guarded: bool, each: u64) -> Crowd {
        let task = format!("{} {} {each}", server.port(), u8::from(guarded));
        let child = |_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "guard::counting::one_who_counts"]).env(TASK, &task);
            command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
        };
        Crowd((0..CLIENTS).map(child).collect())
    }

    fn all_done(&mut self) -> bool {
        self.0.iter_mut().all(|child| child.try_wait().unwrap().is_some())
    }

    /// Stops one after the other for longer than its lease, until all are done; how often.
    fn disturb(&mut self, deadline: Duration) -> usize {
        let end = Instant::now() + deadline;
        let mut stops = 0;
        while !self.all_done() {
            assert!(Instant::now() < end, "not done in {deadline:?}");
            let which = stops % CLIENTS;
            if self.0[which].try_wait().unwrap().is_none() {
                signal(self.0[which].id(), "STOP");
                // The fault itself: it lasts longer than a lease.
                std::thread::sleep(Duration::from_millis(STOPPED_MS));
                signal(self.0[which].id(), "CONT");
            }
            stops += 1;
        }
        for child in &mut self.0 {
            let mut text = String::new();
            child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            assert!(child.wait().unwrap().success(), "{text}");
        }
        stops
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn number(server: &Server) -> u64 {
    server.cmd(&["GET", "number"]).text().parse().unwrap()
}

#[test]
fn unguarded_writes_get_lost() {
    const EACH: u64 = 2_500;
    for round in 1.. {
        let server = Server::start();
        let mut crowd = Crowd::start(&server, false, EACH);
        crowd.disturb(Duration::from_secs(120));
        let written = EACH * CLIENTS as u64;
        if number(&server) < written {
            return;
        }
        assert!(
            round < 10,
            "{round} rounds, and nothing was lost: the test cannot tell guarded writes from others"
        );
    }
}

#[test]
fn guarded_writes_do_not() {
    const EACH: u64 = 25_000;
    let server = Server::start();
    let mut crowd = Crowd::start(&server, true, EACH);
    let stops = crowd.disturb(Duration::from_secs(300));
    assert!(stops > 20, "{stops} stops");
    assert_eq!(number(&server), EACH * CLIENTS as u64, "of a hundred thousand none is lost");
}
