//! J1, J2, K3. Names: of owners, which must be told apart and cannot be met by chance; and of locks, of which none stands for another.

use std::collections::HashSet;

use crate::steps::acquire;
use crate::support::resp::encode;
use crate::support::{wait_until, Connection, Server, Stop, Value};
use crate::traffic::lock_stat;

/// A lock was released by another thread than had taken it, where the token was not known; the message said that the lock was
/// not locked, or was owned by somebody else, and neither was true. Here the owner is a name that the program chooses and may
/// use from any thread and connection; and the reason for a 0 is a word of its own for each case, of which nobody but the
/// owner learns what became of its hold.
#[test]
fn j1_each_reason_has_its_word_and_is_told_to_the_owner() {
    let server = Server::start();
    let said = |key: &str, owner: &str, fence: i64| {
        let fence = fence.to_string();
        let report = server.connect().cmd(&["LOCK.RELEASE", key, owner, "FENCE", &fence, "WITHINFO"]);
        (report.field("reason").text(), report.field("fence") != &Value::Nil)
    };
    let said_nothing = || ("not-held".to_owned(), false);

    let fence = acquire(&server, "held alice");
    assert_eq!(said("held", "bob", fence), said_nothing());
    assert_eq!(said("held", "alice", fence + 1).0, "other-fence");
    let elsewhere = std::thread::scope(|scope| scope.spawn(|| said("held", "alice", fence)).join());
    assert_eq!(elsewhere.expect("another thread"), ("released".to_owned(), true));
    assert_eq!(
        said("held", "alice", fence),
        ("released".to_owned(), true),
        "what was given back is not lost"
    );

    let expired = acquire(&server, "expired alice PX 1");
    wait_until("the lease to end", || server.cmd(&["EXISTS", "expired"]) == 0);
    let deleted = acquire(&server, "deleted alice");
    assert_eq!(server.cmd(&["DEL", "deleted"]), 1);
    let broken = acquire(&server, "broken alice");
    assert_eq!(server.cmd(&["LOCK.BREAK", "broken"]), 1);
    for (key, fence) in [("expired", expired), ("deleted", deleted), ("broken", broken)] {
        assert_eq!(said(key, "alice", fence), (key.to_owned(), true));
        assert_eq!(said(key, "bob", fence), said_nothing(), "{key}");
        assert_eq!(said(key, "alic", fence), said_nothing(), "{key}");
    }
}

/// So many locks, each under a name that the server makes for its owner; the names.
fn made_up_owners(conn: &mut Connection, prefix: &str, count: usize) -> Vec<u128> {
    const PACKET: usize = 500;
    let mut owners = Vec::new();
    for first in (0..count).step_by(PACKET) {
        let keys = (first..first + PACKET).map(|n| format!("{prefix}{n}"));
        conn.send_bytes(&keys.flat_map(|key| encode(&["LOCK.ACQUIRE", &key, "*"])).collect::<Vec<_>>());
        for _ in 0..PACKET {
            let name = conn.read().items()[0].text();
            assert_eq!(name.len(), 32, "{name}");
            owners.push(u128::from_str_radix(&name, 16).expect("hexadecimal digits"));
        }
    }
    owners
}

/// Tokens were made of a weak source: two processes had the same, and each could release the lock of the other. Here the
/// names that the server makes have 128 random bits: among hundreds of thousands, from servers that were started at once and
/// again, none comes twice, and no bit leans to a side. Whoever chooses the name itself has to see to it; a name is no
/// password.
#[test]
fn j2_no_name_is_made_twice() {
    const NAMES: usize = 100_000;
    let mut servers = [Server::start(), Server::start()];
    let mut names = Vec::new();
    for _ in 0..2 {
        for server in &mut servers {
            names.extend(made_up_owners(&mut server.connect(), "k", NAMES));
            server.restart(Stop::Kill);
        }
    }
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), 4 * NAMES);
    for bit in 0..128 {
        let ones = names.iter().filter(|name| (*name >> bit) & 1 == 1).count();
        // Ten times as far off as chance would have it in two of three cases.
        let off = ones.abs_diff(2 * NAMES);
        assert!(off < 3_200, "bit {bit} is set in {ones} of {} names", 4 * NAMES);
    }
}

/// A table of locks forgot those that had not been used for long, while they were held; or had one place for two names. Here
/// each name is a lock of its own, be they ever so alike or so many, and none is forgotten.
#[test]
fn k3_a_million_locks_are_a_million_locks() {
    const LOCKS: usize = 1_000_000;
    const PACKET: usize = 1_000;
    let server = Server::start();
    let mut conn = server.connect();
    // Alike: the same digits in other places, with and without a zero byte, a space, a letter in the other case.
    let name = |n: usize| -> Vec<u8> {
        let digits = n / 4;
        match n % 4 {
            0 => format!("k{digits}"),
            1 => format!("K{digits}"),
            2 => format!("k{digits}\0"),
            _ => format!("{digits} k"),
        }
        .into_bytes()
    };
    // Sends a command for each of these locks; what it replies.
    let mut for_each = |locks: &mut dyn Iterator<Item = usize>, command: &dyn Fn(usize) -> Vec<Vec<u8>>| {
        let mut replies = Vec::new();
        loop {
            let packet: Vec<usize> = (&mut *locks).take(PACKET).collect();
            if packet.is_empty() {
                return replies;
            }
            conn.send_bytes(&packet.iter().flat_map(|&n| encode(&command(n))).collect::<Vec<_>>());
            replies.extend(packet.iter().map(|_| conn.read().int()));
        }
    };
    let about = |verb: &str, n: usize, more: &[&str]| -> Vec<Vec<u8>> {
        let mut command = vec![verb.as_bytes().to_vec(), name(n), b"o".to_vec()];
        command.extend(more.iter().map(|word| word.as_bytes().to_vec()));
        command
    };
    let fences = for_each(&mut (0..LOCKS), &|n| about("LOCK.ACQUIRE", n, &["NOEXPIRE"]));
    println!("{LOCKS} locks: {} bytes", server.info_int("memory", "used_memory"));
    assert!(fences.is_sorted_by(|one, next| one < next), "each lock has a fence of its own");
    assert_eq!(lock_stat(&server, "held"), LOCKS as i64);
    let release = |n| about("LOCK.RELEASE", n, &["FENCE", &fences[n].to_string()]);
    let released = for_each(&mut (0..LOCKS).filter(|n| n % 3 == 0), &release);
    assert!(released.iter().all(|reply| *reply == 1));
    let held = for_each(&mut (0..LOCKS), &|n| about("LOCK.CHECK", n, &["FENCE", &fences[n].to_string()]));
    let expected = (0..LOCKS).map(|n| if n % 3 == 0 { 0 } else { -1 });
    assert!(expected.eq(held), "those that were released, and no others, are free");
    let released = for_each(&mut (0..LOCKS).filter(|n| n % 3 > 0), &release);
    assert!(released.iter().all(|reply| *reply == 1));
    assert_eq!(server.cmd(&["DBSIZE"]), 0);
}
