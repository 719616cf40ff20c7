//! `break`, `steal`, `cancel`: what they do to others, and that they ask before.

use crate::looking::{prints, scene};
use crate::support::screen::Screen;
use crate::support::{text, until, Server};

#[test]
fn break_ends_holds_and_says_how_many() {
    let server = Server::new();
    let _line = scene(&server);
    assert_eq!(prints(&server, &["break", "door", "--owner", "carol", "--yes"], 1), "door: 0 holds ended\n");
    let words = ["break", "door", "--yes", "--reason", "host db3 is gone"];
    assert_eq!(prints(&server, &words, 0), "door: 1 hold ended\n");
    assert!(prints(&server, &["info", "door"], 0).contains("bob"));
    let log = server.log();
    assert!(log.contains("event=break") && log.contains("reason='host db3 is gone'"), "{log}");
    let stats: Vec<redis::Value> = server.ask("LOCK.STATS");
    assert!(format!("{stats:?}").contains("broken"));
}

#[test]
fn nothing_is_done_unasked_where_there_is_no_terminal() {
    let server = Server::new();
    let _line = scene(&server);
    for words in [&["break", "door"][..], &["steal", "door"], &["cancel", "door", "bob"]] {
        let output = server.run(words);
        assert_eq!(output.status.code(), Some(64), "{words:?}");
        assert!(text(&output.stderr).contains("--yes"), "{words:?}: {}", text(&output.stderr));
    }
    let said = prints(&server, &["info", "door"], 0);
    assert!(said.contains("alice") && said.contains("bob"), "{said}");
    assert!(prints(&server, &["break", "nothing"], 1).contains("nothing to end"));
    assert!(prints(&server, &["cancel", "door", "zed"], 1).contains("zed does not wait for it"));
}

#[test]
fn on_a_terminal_the_user_decides() {
    let server = Server::new();
    let _line = scene(&server);
    let mut no = Screen::tool(&server, (20, 100), &["break", "door"]);
    let shown = no.says("End the hold of alice? [y/N]");
    assert!(shown.contains("alice for ") && shown.contains("nightly"), "{shown}");
    no.press("n\r");
    assert_eq!(no.end(), 1);
    assert!(prints(&server, &["ls", "--owner", "alice", "door"], 0).contains("alice"));

    let _: i64 = server.ask("LOCK.ACQUIRE pool zoe LIMIT 3 PERMITS 2");
    let mut permits = Screen::tool(&server, (20, 100), &["break", "pool"]);
    permits.says("End the holds of eve (1 permit), zoe (2 permits)? [y/N]");
    permits.press("n\r");
    assert_eq!(permits.end(), 1);

    // What was shown is what ends: the hold of whoever came meanwhile stays.
    let mut late = Screen::tool(&server, (20, 100), &["break", "door"]);
    late.says("[y/N]");
    let _: i64 = server.ask("LOCK.RELEASE door alice");
    until("bob has it", || server.waiting("door") == 1);
    late.press("y\r");
    assert_eq!(late.end(), 1);
    assert!(prints(&server, &["info", "door"], 0).contains("bob"));

    let mut yes = Screen::tool(&server, (20, 100), &["cancel", "door", "carol"]);
    yes.says("End the wait of carol? [y/N]");
    yes.press("y\r");
    assert_eq!(yes.end(), 0);
    assert_eq!(server.waiting("door"), 0);
}

#[test]
fn steal_takes_it_before_all_who_wait() {
    let server = Server::new();
    let _line = scene(&server);
    let said = prints(
        &server,
        &["steal", "door", "--yes", "--owner", "op", "--lease", "1h", "--reason", "ticket 7"],
        0,
    );
    let (fence, owner) = said.trim().split_once(' ').unwrap();
    assert_eq!(owner, "op");
    let info = prints(&server, &["info", "door"], 0);
    assert!(info.contains(fence) && info.contains("ticket 7") && info.contains("59 min"), "{info}");
    assert_eq!(server.waiting("door"), 2);
    assert_eq!(server.run(&["release", "door", "op"]).status.code(), Some(0));
    let told: serde_json::Value =
        serde_json::from_str(&prints(&server, &["steal", "new", "-y", "-J"], 0)).unwrap();
    assert_eq!(told["keys"][0], "new");
    assert!(told["fence"].as_i64().unwrap() > 0);
}

#[test]
fn cancel_ends_a_wait_and_no_hold() {
    let server = Server::new();
    let _line = scene(&server);
    assert_eq!(prints(&server, &["cancel", "door", "bob", "-y"], 0), "door: the wait of bob has ended\n");
    assert_eq!(server.waiting("door"), 1);
    assert_eq!(prints(&server, &["cancel", "door", "alice", "-y"], 1), "door: alice does not wait for it\n");
    assert!(server.is_held("door"));
}
