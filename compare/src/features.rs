//! What is it for? The features of the locks that are compared, each of ours with the test that proves it.

use anyhow::{ensure, Context, Result};
use std::fmt::Write;
use std::fs;
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

/// A feature: ours (`y` yes, `p` in part, `-` no), the test of it as file and function, and the peers in their order.
type Row = (&'static str, char, &'static str, &'static str);

const ROWS: [Row; 35] = [
    ("Exclusive lock", 'y', "acquire::a_held_lock_is_nil_and_stays_as_it_is", "yyyyyyyyp"),
    ("Try without a wait", 'y', "acquire::a_try_never_overtakes_a_waiter", "yypyyyyyy"),
    ("Wait with a limit", 'y', "blocking::waits_end_on_time", "yyypyyyp-"),
    (
        "The server lets clients wait: no poll, no lost wake-up",
        'y',
        "blocking::one_wakes_and_all_others_sleep_on",
        "ppyyy-p--",
    ),
    ("First come, first served", 'y', "blocking::first_come_first_served_one_at_a_time", "pyyyp----"),
    ("Priorities in the queue", '-', "", "---------"),
    (
        "A dead waiter leaves at once",
        'y',
        "blocking/clients::a_killed_waiter_leaves_its_queue_at_once",
        "-ppyy----",
    ),
    ("Re-entry", 'y', "reentrant::the_hold_ends_with_the_last_id_in_any_order", "yypyy----"),
    (
        "Asking again after a lost reply",
        'y',
        "acquire::the_same_owner_gets_the_same_fence_and_changes_nothing_by_asking_for_less",
        "-py-----p",
    ),
    ("Readers and writers", 'y', "modes::readers_share_and_a_writer_has_it_alone", "yypy-----"),
    ("From writer to reader", 'y', "convert::a_writer_shares_at_once_and_keeps_its_fence", "yy-p-----"),
    (
        "From reader to writer",
        'y',
        "convert/waiting::it_has_the_lock_alone_when_the_last_other_reader_has_left",
        "---p-----",
    ),
    ("Semaphore", 'y', "modes::a_semaphore_gives_no_more_than_it_has", "yy-------"),
    (
        "Permits of the dead come back",
        'y',
        "incidents/semaphores::i3_permits_of_the_dead_come_back_with_their_leases",
        "py-------",
    ),
    ("Latch or barrier", 'y', "latch::each_count_replies_what_is_left_down_to_nothing", "yyp------"),
    ("Several locks, all or none", 'y', "group::all_or_none_under_one_fence", "ppp------"),
    ("Deadlocks are found", 'y', "deadlock::three_owners", "---yy----"),
    ("A lease for each hold", 'y', "modes::each_reader_has_its_own_lease", "ypy--yyyy"),
    ("Renewal without the client's doing", '-', "", "yyyyy-y--"),
    (
        "Free within a second of a client's death",
        'y',
        "tied::a_hold_ends_with_its_connection_however_that_ends",
        "---yy----",
    ),
    (
        "The holder is told of a loss",
        'p',
        "observe/wanted::a_holder_learns_that_its_hold_has_ended",
        "-pypp-p--",
    ),
    ("A fence for each grant", 'y', "durability::fences_grow_whatever_becomes_of_the_key", "ppy------"),
    ("Guarded write in the same store", 'y', "guard::nobody_else_gets_anything_done", "-pyyp----"),
    ("A write without the lock is refused by itself", '-', "", "---------"),
    (
        "A cooldown after failure",
        'y',
        "bounds/cooldown::a_lock_has_a_cooldown_after_ends_that_the_owner_may_not_know_of",
        "---------",
    ),
    ("Shortest hold", 'y', "bounds/cooldown::nobody_gets_a_lock_in_cooldown", "---------"),
    ("Longest hold", 'y', "bounds::maxhold_ends_what_is_renewed", "---------"),
    ("Handing a hold to another owner", 'y', "operate::a_transfer_hands_over_under_a_new_fence", "--p--ppy-"),
    ("Breaking a hold", 'y', "operate::a_break_ends_all_holds_or_those_of_one_owner", "ypppp-y--"),
    ("Asking the holder to let go", 'y', "observe/wanted::holders_are_asked", "-y-------"),
    ("A note on the lock", 'y', "acquire::a_note_is_kept_for_people", "-yp-----p"),
    ("Who holds it", 'y', "inspect::a_held_lock", "pyyyy-y-y"),
    ("Who waits, and for whom", 'y', "deadlock/telling::waiters_of_an_exclusive_lock", "pyyyy----"),
    (
        "Two holders impossible when a server fails",
        'p',
        "recovery::a_hold_that_was_lost_comes_back_and_nobody_else_has_it",
        "pyy----p-",
    ),
    (
        "Nothing stays behind for a name",
        'y',
        "memory::a_hundred_thousand_locks_that_came_and_went_leave_nothing",
        "ypyyyyyyy",
    ),
];

/// The table, with links as seen from `docs/`. A test that is not there is an error.
pub(crate) fn table(repository: &Path) -> Result<String> {
    let mut out = format!("| Feature | this module | {} |\n|---|---|", PEERS.join(" | "));
    out.push_str(&"---|".repeat(PEERS.len()));
    out.push('\n');
    for (feature, ours, test, theirs) in ROWS {
        ensure!(theirs.len() == PEERS.len(), "{feature}: {} peers", theirs.len());
        let ours = if test.is_empty() {
            word(ours).to_string()
        } else {
            let (file, function) = test.split_once("::").context("a test without its file")?;
            let path = format!("{TESTS}/{file}.rs");
            let source = fs::read_to_string(repository.join(&path)).with_context(|| path.clone())?;
            ensure!(source.contains(&format!("fn {function}()")), "{feature}: there is no {test}");
            format!("[{}](../{path} \"{function}\")", word(ours))
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
