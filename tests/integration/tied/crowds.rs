//! A thousand connections that end at once, each with a lock that somebody waits for: all is handed over within a second,
//! nothing is left behind, and the server does not stand still for it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::steps::{ask, fence_of, words};
use crate::support::aof::read_aof;
use crate::support::stream::apart;
use crate::support::wait::wait_replica_in_sync;
use crate::support::{wait_until, Connection, ReplicaStream, Server};
use crate::traffic::{follow, is_effect, lock_stat, wait_quiet, wait_same_data};

const CLIENTS: usize = 1_000;

/// How many more locks each of them has where nobody waits.
const MORE: usize = 9;

/// How long the server may work for all of it.
const IN_TIME: Duration = Duration::from_secs(1);

/// How long the server may work for the module before it looks at anybody else.
const PIECE: Duration = Duration::from_millis(2);

/// A server with room for all, and a user for those who will be killed.
fn with_room(conf: &[&str]) -> Server {
    let room = format!("maxclients {}", 2 * CLIENTS + 100);
    let server = Server::with(&[&[room.as_str()], conf].concat());
    assert_eq!(ask(&server, "ACL SETUSER doomed on nopass ~* +@all"), "OK");
    server
}

/// Connections of that user, each with a lock; with these words at the end of the request.
fn holders(server: &Server, bounds: &str) -> Vec<Connection> {
    let hold = |n| {
        let mut conn = server.connect();
        assert_eq!(conn.cmd(&words("AUTH doomed x")), "OK");
        fence_of(&conn.cmd(&words(&format!("LOCK.ACQUIRE lock-{n} holder-{n} NOEXPIRE {bounds}"))));
        conn
    };
    (0..CLIENTS).map(hold).collect()
}

/// One for each lock who waits for it.
fn waiters(server: &Server) -> Vec<Connection> {
    let wait = |n| {
        let mut conn = server.connect();
        conn.send(&words(&format!("LOCK.ACQUIRE lock-{n} waiter-{n} NOEXPIRE BLOCK 0")));
        conn
    };
    let waiters = (0..CLIENTS).map(wait).collect();
    wait_until("all of them to be in line", || lock_stat(server, "waiting") == CLIENTS as i64);
    waiters
}

/// Ends all connections of the holders.
type Kill = fn(&Server, Vec<Connection>);

const KILLS: [(&str, Kill); 2] = [
    ("killed by one command", |server, _holders| {
        assert_eq!(ask(server, "CLIENT KILL USER doomed"), CLIENTS as i64);
    }),
    ("closed all at once", |server, holders| {
        // The server finds all of it in one turn of its loop.
        server.signal("STOP");
        drop(holders);
        server.signal("CONT");
    }),
];

#[test]
fn all_is_handed_over_in_time() {
    for (how, kill) in KILLS {
        let server = with_room(&["appendonly yes", "appendfsync no"]);
        let replica = with_room(&[]);
        follow(&replica, &server);
        let doomed = holders(&server, "TIED 0");
        let mut waiters = waiters(&server);
        assert_eq!(lock_stat(&server, "tied"), CLIENTS as i64);
        let mut stream = ReplicaStream::attach(&server);
        let (start, before) = (Instant::now(), work_of(&server));
        kill(&server, doomed);
        let fences: Vec<i64> = waiters.iter_mut().map(|waiter| fence_of(&waiter.read())).collect();
        let (span, work) = (start.elapsed(), work_of(&server).checked_sub(before).unwrap());
        println!("{how}: all handed over in {span:?}, with {work:?} of work");
        assert!(work < IN_TIME, "{how}: {work:?}");
        wait_quiet(&server);
        assert_eq!((lock_stat(&server, "closed"), lock_stat(&server, "undone")), (CLIENTS as i64, 0));
        assert_eq!((lock_stat(&server, "tied"), lock_stat(&server, "lease_index_entries")), (0, 0));

        // One end and one grant for each, in one piece, and nothing else.
        let told = apart(&stream.collect(&server));
        let count = |name: &str| told.iter().filter(|words| words[0] == name).count();
        assert_eq!((count("LOCK._FREE"), count("LOCK._HOLD"), count("LOCK._BOUNDS")), (CLIENTS, CLIENTS, 0));
        assert!(told.iter().all(|words| is_effect(&words[0])));
        assert!(read_aof(&server).commands.iter().all(|words| is_effect(&words[0])));
        wait_replica_in_sync(&server, &replica);
        wait_same_data(&server, &replica);
        for (n, fence) in fences.iter().enumerate().step_by(97) {
            let check = format!("LOCK.CHECK lock-{n} waiter-{n} FENCE {fence}");
            assert_eq!(ask(&server, &check), -1, "{how}: lock {n}");
        }
        assert_eq!(ask(&server, "FLUSHALL"), "OK");
    }
}

#[test]
fn holders_and_waiters_who_end_together_leave_nothing() {
    let server = with_room(&[]);
    let _doomed = holders(&server, "TIED 0");
    let _waiters = waiters(&server);
    assert_eq!(ask(&server, "CLIENT KILL TYPE normal SKIPME yes"), 2 * CLIENTS as i64);
    wait_until("all locks to be free", || lock_stat(&server, "held") == 0);
    wait_quiet(&server);
    assert_eq!((lock_stat(&server, "tied"), lock_stat(&server, "lease_index_entries")), (0, 0));
    assert_eq!(lock_stat(&server, "closed"), CLIENTS as i64);
}

/// What the server's main thread has worked so far. Unlike the clock it does not count what others do on a busy machine.
fn work_of(server: &Server) -> Duration {
    let pid = server.pid();
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).expect("the thread's times");
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
}

/// The longest pieces of work between the answers to two PINGs, from the kill until everything is done; the longest first.
fn pieces_of_work(server: &Server, kill: impl FnOnce(), is_done: impl FnMut() -> bool) -> Vec<Duration> {
    let (mut conn, begun, over) = (server.connect(), AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let (mut pieces, mut before) = (Vec::new(), work_of(server));
            wait_until("everything to be done", || {
                // Many without a pause, so that there is nearly always one for the server to answer.
                for _ in 0..100 {
                    assert_eq!(conn.cmd(&["PING"]), "PONG");
                    let now = work_of(server);
                    pieces.push(now.checked_sub(before).unwrap());
                    before = now;
                    begun.store(true, Relaxed);
                }
                over.load(Relaxed)
            });
            pieces.sort_unstable_by(|one, other| other.cmp(one));
            pieces.truncate(5);
            pieces
        });
        wait_until("the pings to begin", || begun.load(Relaxed));
        kill();
        wait_until("everything to be done", is_done);
        over.store(true, Relaxed);
        pings.join().expect("the pings")
    })
}

/// To close a thousand connections with one command takes the server some time of its own, in one piece. What the module
/// does for all that was tied comes after it, and in small pieces, the replies to those who waited for it included.
#[test]
fn the_server_does_not_stand_still() {
    let server = with_room(&[]);
    let mut rounds = Vec::new();
    // Whoever looks on can miss a turn, and takes two pieces for one; and the best of a few rounds counts.
    let is_smooth = (0..8_usize).any(|round| {
        let mut doomed = holders(&server, "TIED 0");
        for (n, conn) in doomed.iter_mut().enumerate() {
            let more: String = (0..MORE).map(|key| format!(" more-{n}-{key}")).collect();
            fence_of(&conn.cmd(&words(&format!("LOCK.MACQUIRE holder-{n} {MORE}{more} NOEXPIRE TIED 0"))));
        }
        let _waiters = waiters(&server);
        let kill = || assert_eq!(ask(&server, "CLIENT KILL USER doomed"), CLIENTS as i64);
        let is_done = || lock_stat(&server, "closed") == ((round + 1) * (CLIENTS + MORE * CLIENTS)) as i64;
        let pieces = pieces_of_work(&server, kill, is_done);
        let is_smooth = pieces[1] <= 2 * PIECE;
        rounds.push(pieces);
        assert_eq!(ask(&server, "FLUSHALL"), "OK");
        is_smooth
    });
    println!("the longest pieces of work: {rounds:?}");
    assert!(is_smooth, "the longest pieces of work, the first of which is the kill itself: {rounds:?}");
}
