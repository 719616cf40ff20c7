//! What is it for? The features of the locks that are compared, each of ours with the test that proves it.

use anyhow::{ensure, Result};
use std::fmt::Write;
use std::path::Path;

const PEERS: [&str; 9] = [
    "Redisson",
    "Curator",
    "etcd",
    "PostgreSQL",
    "MySQL, MariaDB",
    "redis-py",
    "python-redis-lock",
    "redsync",
    "SET NX and a script",
];

/// Where the tests of this module are, seen from the repository.
const TESTS: &str = "tests/integration";

/// A feature: ours (`y` yes, `p` in part, `-` no), the test of it, and the peers in their order.
type Row = (&'static str, char, &'static str, &'static str);

const ROWS: [Row; 35] = [
    ("Exclusive lock", 'y', "acquire", "yyyyyyyyp"),
    ("Try without a wait", 'y', "acquire", "yypyyyyyy"),
    ("Wait with a limit", 'y', "blocking", "yyypyyyp-"),
    ("The server lets clients wait: no poll, no lost wake-up", 'y', "blocking", "ppyyy-p--"),
    ("First come, first served", 'y', "blocking", "pyyyp----"),
    ("Priorities in the queue", '-', "", "---------"),
    ("A dead waiter leaves at once", 'y', "blocking/clients", "-ppyy----"),
    ("Re-entry", 'y', "reentrant", "yypyy----"),
    ("Asking again after a lost reply", 'y', "acquire", "-py-----p"),
    ("Readers and writers", 'y', "modes", "yypy-----"),
    ("From writer to reader", 'y', "convert", "yy-p-----"),
    ("From reader to writer", 'y', "convert/waiting", "---p-----"),
    ("Semaphore", 'y', "modes", "yy-------"),
    ("Permits of the dead come back", 'y', "incidents/semaphores", "py-------"),
    ("Latch or barrier", 'y', "latch", "yyp------"),
    ("Several locks, all or none", 'y', "group", "ppp------"),
    ("Deadlocks are found", 'y', "deadlock", "---yy----"),
    ("A lease for each hold", 'y', "expiry", "ypy--yyyy"),
    ("Renewal without the client's doing", '-', "", "yyyyy-y--"),
    ("Free within a second of a client's death", 'y', "tied", "---yy----"),
    ("The holder is told of a loss", 'p', "observe", "-pypp-p--"),
    ("Fencing token", 'y', "golden", "ppy------"),
    ("Guarded write in the same store", 'y', "guard", "-pyyp----"),
    ("A write without the lock is refused by itself", '-', "", "---------"),
    ("A rest after failure", 'y', "bounds/resting", "---------"),
    ("Shortest hold", 'y', "bounds", "---------"),
    ("Longest hold", 'y', "bounds", "---------"),
    ("Handing a hold to another owner", 'y', "operate", "--p--ppy-"),
    ("Breaking a hold", 'y', "operate", "ypppp-y--"),
    ("Asking the holder to let go", 'y', "observe/wanted", "-y-------"),
    ("A note on the lock", 'y', "inspect", "-yp-----p"),
    ("Who holds it", 'y', "inspect", "pyyyy-y-y"),
    ("Who waits, and for whom", 'y', "deadlock/telling", "pyyyy----"),
    ("Two holders impossible when a server fails", '-', "", "pyy----p-"),
    ("Nothing stays behind for a name", 'y', "memory", "ypyyyyyyy"),
];

/// The table, with links as seen from `docs/`. A test that is not there is an error.
pub fn table(repository: &Path) -> Result<String> {
    let mut out = format!("| Feature | this module | {} |\n|---|---|", PEERS.join(" | "));
    out.push_str(&"---|".repeat(PEERS.len()));
    out.push('\n');
    for (feature, ours, test, theirs) in ROWS {
        ensure!(theirs.len() == PEERS.len(), "{feature}: {} peers", theirs.len());
        let ours = if test.is_empty() {
            word(ours).to_string()
        } else {
            let path = format!("{TESTS}/{test}.rs");
            ensure!(repository.join(&path).exists(), "{feature}: there is no {path}");
            format!("[{}](../{path})", word(ours))
        };
        let theirs: Vec<_> = theirs.chars().map(word).collect();
        writeln!(out, "| {feature} | {ours} | {} |", theirs.join(" | "))?;
    }
    Ok(out)
}

fn word(mark: char) -> &'static str {
    match mark {
        'y' => "yes",
        'p' => "in part",
        _ => "–",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_ours_has_a_test_that_is_there() {
        table(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
        assert!(ROWS.iter().all(|(_, ours, test, _)| (*ours == '-') == test.is_empty()));
    }
}
