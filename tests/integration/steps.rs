//! The steps that tests of the lock commands are made of: hold a lock, wait for one, see that nothing has changed. Knows
//! the commands' words and replies; what is right or wrong is for the tests to say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::wait::{wait_waiting_on, DEADLINE};
use crate::support::{assert_stream, wait_until, Connection, ReplicaStream, Server, Value};

/// The words of a command without odd bytes.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Runs a command without odd bytes.
pub(crate) fn ask(server: &Server, line: &str) -> Value {
    server.cmd(&words(line))
}

/// Runs a command that must reply a fence.
pub(crate) fn granted(server: &Server, line: &str) -> i64 {
    fence_of(&ask(server, line))
}

/// `LOCK.ACQUIRE` with these words, which must take the lock; the fence.
pub(crate) fn acquire(server: &Server, line: &str) -> i64 {
    acquire_by(&mut server.connect(), line)
}

/// The same on this connection.
pub(crate) fn acquire_by(conn: &mut Connection, line: &str) -> i64 {
    match conn.cmd(&words(&format!("LOCK.ACQUIRE {line}"))) {
        Value::Int(fence) if fence > 0 => fence,
        other => panic!("LOCK.ACQUIRE {line}: {other:?}"),
    }
}

/// Gives a held lock back.
pub(crate) fn release(server: &Server, key: &str, owner: &str) {
    assert_eq!(server.cmd(&["LOCK.RELEASE", key, owner]), 1, "{owner} does not hold {key}");
}

/// The fence that a grant was answered with.
pub(crate) fn fence_of(reply: &Value) -> i64 {
    let fence = reply.int();
    assert!(fence > 0, "a fence must be above zero: {fence}");
    fence
}

/// A new connection that waits for ever.
pub(crate) fn wait_for_lock(server: &Server, key: &str, owner: &str) -> Connection {
    queue_up(server, server.connect(), &["LOCK.ACQUIRE", key, owner, "BLOCK", "0"])
}

/// A new connection whose command, about one key, has got in line for it.
pub(crate) fn in_line(server: &Server, line: &str) -> Connection {
    queue_up(server, server.connect(), &words(line))
}

/// Sends a command that will wait, and goes on when its key's queue in the first database has grown.
pub(crate) fn queue_up(server: &Server, conn: Connection, command: &[&str]) -> Connection {
    queue_up_beside(&mut server.connect(), conn, command)
}

/// The same in the database that `looker` has selected.
pub(crate) fn queue_up_beside(looker: &mut Connection, mut conn: Connection, command: &[&str]) -> Connection {
    let before = looker.cmd(&["LOCK.INFO", command[1]]).field("waiting").int();
    conn.send(command);
    wait_waiting_on(looker, command[1], before + 1);
    conn
}

/// A new connection that waits by this `LOCK.AWAIT` for what is not so yet, and goes on when it watches.
pub(crate) fn watch(server: &Server, line: &str) -> Connection {
    watch_from(server, server.connect(), line)
}

/// The same on this connection.
pub(crate) fn watch_from(server: &Server, mut conn: Connection, line: &str) -> Connection {
    let before = observing(server);
    conn.send(&words(line));
    wait_until(&format!("`{line}` to watch"), || observing(server) == before + 1);
    conn
}

/// How many watch in the whole server.
pub(crate) fn observing(server: &Server) -> i64 {
    server.info_int("lock_state", "lock_observing")
}

/// Who holds the lock in the first database.
pub(crate) fn holder(server: &Server, key: &str) -> Option<String> {
    holder_seen_by(&mut server.connect(), key)
}

/// Who holds the lock in the database that `looker` has selected.
pub(crate) fn holder_seen_by(looker: &mut Connection, key: &str) -> Option<String> {
    let info = looker.cmd(&["LOCK.INFO", key]);
    info.field("holds").items().first().map(|hold| hold.field("owner").text())
}

/// How many wait for the lock in the first database.
pub(crate) fn waiting(server: &Server, key: &str) -> i64 {
    server.cmd(&["LOCK.INFO", key]).field("waiting").int()
}

/// The names in the queue, the next one first.
pub(crate) fn queue(server: &Server, key: &str) -> Vec<String> {
    let rows = server.cmd(&["LOCK.WAITERS", key]);
    rows.items().iter().map(|row| row.field("owner").text()).collect()
}

/// The waiter has its grant: what it was told is what the lock says. Replies the fence.
pub(crate) fn assert_granted(server: &Server, waiter: &mut Connection, key: &str, owner: &str) -> i64 {
    let fence = fence_of(&waiter.read());
    assert_holds(server, key, owner, fence);
    fence
}

/// The owner holds the lock with this fence.
pub(crate) fn assert_holds(server: &Server, key: &str, owner: &str, fence: i64) {
    assert_eq!(holder(server, key).as_deref(), Some(owner), "who holds {key}");
    let left = server.cmd(&["LOCK.CHECK", key, owner, "FENCE", &fence.to_string()]);
    assert!(left.int() != 0, "{owner} does not hold {key} with the fence {fence}");
}

/// What the server's data are, in one word.
pub(crate) fn digest(server: &Server) -> String {
    server.cmd(&["DEBUG", "DIGEST"]).text()
}

/// Sees to it that what is done meanwhile neither changes the data nor reaches a replica.
pub(crate) fn assert_changes_nothing(server: &Server, what: impl FnOnce()) {
    let mut stream = ReplicaStream::attach(server);
    let before = digest(server);
    what();
    assert_eq!(digest(server), before, "the data have changed");
    assert_stream(&stream.collect(server), &[]);
}

/// The results of a transaction of these commands.
pub(crate) fn transaction(conn: &mut Connection, commands: &[&[&str]]) -> Vec<Value> {
    assert_eq!(conn.cmd(&["MULTI"]), "OK");
    for command in commands {
        assert_eq!(conn.cmd(command), "QUEUED");
    }
    conn.cmd(&["EXEC"]).items().to_vec()
}

/// Runs a script with these keys and no other arguments.
pub(crate) fn eval(server: &Server, script: &str, keys: &[&str]) -> Value {
    let count = keys.len().to_string();
    let mut command = vec!["EVAL", script, &count];
    command.extend(keys);
    server.cmd(&command)
}

/// Makes a string of the key.
pub(crate) fn set_string(server: &Server, key: &str) {
    assert_eq!(server.cmd(&["SET", key, "text"]), "OK");
}

/// The wall clock in microseconds since 1970.
pub(crate) fn unix_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// What is left of a lease that was given at most as long ago as a slow test may take.
#[track_caller]
pub(crate) fn assert_left(reply: &Value, lease_ms: i64) {
    let left = reply.int();
    let slack_ms = DEADLINE.as_millis() as i64;
    assert!(left <= lease_ms && left > lease_ms - slack_ms, "{left} ms are left of {lease_ms}");
}

/// What a value of another type is answered with.
pub(crate) const WRONGTYPE: &str = "WRONGTYPE the key holds a value that is not a lock; use another key";

/// What too few or too many words are answered with.
pub(crate) fn wrong_arity(command: &str) -> String {
    format!("ERR wrong number of arguments for '{command}' command")
}

/// Whether the server lets a wait end by CLIENT UNBLOCK without the risk of losing a grant: Redis 7.4, Valkey 8. The same
/// versions let modules make ACL categories.
pub(crate) fn is_modern(server: &Server) -> bool {
    let (major, minor, _) = server.version();
    (major, minor) >= if server.is_valkey() { (8, 0) } else { (7, 4) }
}

/// Something that must happen on time is never early, and at most 10 ms late in 99 of 100 cases. `round` measures a
/// hundred cases or more: how late each was, or nothing for one that came early.
///
/// On a busy machine everybody gets a turn late, so the longest PING of the same time is allowed for, and the best of a
/// few rounds counts.
pub(crate) fn assert_punctual(server: &Server, mut round: impl FnMut() -> Vec<Option<Duration>>) {
    let mut tries = Vec::new();
    for _ in 0..5 {
        let (late, pings) = beside_pings(server, &mut round);
        assert!(late.len() >= 100, "too few to speak of 99 of 100");
        let late = p99(late.into_iter().map(|late| late.expect("it came early")).collect());
        let ping = pings.into_iter().max().unwrap_or_default();
        if late <= Duration::from_millis(10) + ping {
            return;
        }
        tries.push((late, ping));
    }
    panic!("99 of 100 were at most this late, and such pings took this long, in several rounds: {tries:?}");
}

/// What `work` comes to, and what pings take meanwhile.
fn beside_pings<T>(server: &Server, work: impl FnOnce() -> T) -> (T, Vec<Duration>) {
    let mut conn = server.connect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut pings = Vec::new();
            wait_until("the measured work to be done", || {
                let start = Instant::now();
                assert_eq!(conn.cmd(&["PING"]), "PONG");
                pings.push(start.elapsed());
                done.load(Ordering::Relaxed)
            });
            pings
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, pings.join().expect("the pings"))
    })
}

/// The longest of the shortest 99 of 100.
fn p99(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[(spans.len() * 99).div_ceil(100) - 1]
}
