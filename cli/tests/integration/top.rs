//! `top` on a terminal: what a person sees, and what keys do.

use crate::looking::scene;
use crate::support::screen::Screen;
use crate::support::{cluster, in_reserve, take_over, text, until, Server, OF_THE_FIRST};

#[test]
fn the_screen_shows_the_longest_line_first_and_keys_act_on_it() {
    let server = Server::new();
    let _line = scene(&server);
    let mut screen = Screen::tool(&server, (20, 110), &["top", "--every", "50ms"]);
    let shown = screen.says("carol for");
    println!("{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("3 locks, 2 contended, 3 wait"), "{shown}");
    assert!(lines[1].starts_with("WAITING  KEY") && lines[2].trim_start().starts_with("2  door"), "{shown}");
    assert!(lines[3].trim_start().starts_with("1  window") && lines[4].contains("pool"), "{shown}");
    assert!(
        shown.contains("held by alice for") && shown.contains("  1. bob for") && shown.contains("q quit")
    );
    assert!(shown.contains("nightly \\x1b[31mrun"), "{shown}");

    screen.press("b");
    println!("{}", screen.says("end the hold of alice of door? Enter does it, Esc does not. Reason: _"));
    screen.press("host gone\r");
    screen.says("door: 1 hold ended");
    screen.says("held by bob for");
    let log = server.log();
    assert!(log.contains("reason='host gone'"), "{log}");

    // The wait of carol, who is the first in line by now.
    screen.says("  1. carol for");
    screen.press("c");
    screen.says("end a wait for door; whose: carol_");
    screen.press("\r");
    screen.says("door: the wait of carol has ended");
    until("nobody waits for it", || server.waiting("door") == 0);

    screen.press("p");
    screen.says("[paused]");
    let _: i64 = server.ask("LOCK.ACQUIRE new zed");
    screen.press("p");
    screen.says("zed");
    screen.press("/win\r");
    screen.shows("only what fits the filter", |text| text.contains("1 locks") && text.contains("filter win"));
    screen.press("q");
    assert_eq!(screen.end(), 0);
    screen.shows("the screen as it was before", |text| !text.contains("window"));
}

/// The words of a picture but for numbers, which differ each time, with their units.
fn words(picture: &str) -> Vec<String> {
    let words = picture.split_whitespace().map(|word| word.trim_end_matches(',').to_owned());
    words.filter(|word| !["ms", "s", "min"].contains(&&**word) && word.parse::<u64>().is_err()).collect()
}

#[test]
fn the_picture_of_the_page_is_the_screen() {
    let server = Server::new();
    let _: i64 = server.ask_words(&["LOCK.ACQUIRE", "door", "alice", "PX", "600000", "NOTE", "nightly run"]);
    let _: i64 = server.ask("LOCK.ACQUIRE window dave NOEXPIRE");
    let _: i64 = server.ask("LOCK.ACQUIRE pool eve LIMIT 3");
    for (key, owner) in [("door", "bob"), ("door", "carol"), ("window", "alice")] {
        let _: Option<i64> = server.ask(&format!("LOCK.ACQUIRE {key} {owner} QUEUE 600000"));
    }
    let screen = Screen::tool(&server, (14, 92), &["top", "--every", "50ms"]);
    let shown =
        screen.shows("a whole picture", |text| text.contains("2. carol") && text.contains("arrows choose"));
    println!("{shown}");
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, after) = page.split_once("\n## top\n").unwrap();
    let (_, picture) = after.split_once("```text\n").unwrap();
    let (picture, _) = picture.split_once("\n```").unwrap();
    let here = format!("127.0.0.1:{}:", server.port);
    assert_eq!(words(picture), words(&shown.replace(&here, "127.0.0.1:6379:")), "{shown}");
}

#[test]
fn very_many_locks() {
    let server = Server::new();
    let script = "for i = 1, 10000 do redis.call('LOCK.ACQUIRE', string.format('k%05d', i), 'o' .. i) end";
    let _: Option<i64> = server.ask_words(&["EVAL", script, "0"]);
    let mut screen = Screen::tool(&server, (20, 80), &["top", "--every", "50ms"]);
    screen.says("10000 locks");
    screen.shows("those in sight in full", |text| text.contains("o10 "));
    screen.press("\x1b[F");
    screen.shows("the last", |text| text.contains("k10000") && text.contains("o10000"));
    screen.press("q");
    assert_eq!(screen.end(), 0);
}

#[test]
fn top_shows_when_the_server_is_gone_and_when_it_is_back() {
    let mut server = Server::new();
    let _line = scene(&server);
    let mut screen = Screen::tool(&server, (20, 110), &["top", "--every", "50ms"]);
    screen.says("carol for");
    server.kill();
    let shown = screen.says("old figures: ");
    assert!(shown.contains("door"), "{shown}");
    screen.press("q");
    assert_eq!(screen.end(), 0);
}

#[test]
fn top_goes_along_when_a_cluster_has_another_primary() {
    let nodes = cluster();
    let replica = in_reserve(&nodes);
    let _: i64 = nodes[0].ask(&format!("LOCK.ACQUIRE {OF_THE_FIRST} alice PX 600000"));
    // The longest line, which is looked at, is elsewhere.
    for words in ["c zed PX 600000", "c bob QUEUE 600000", "c carol QUEUE 600000"] {
        let _: Option<i64> = nodes[1].ask(&format!("LOCK.ACQUIRE {words}"));
    }
    let mut screen = Screen::tool(&nodes[1], (20, 110), &["top", "--every", "50ms"]);
    screen.says("held by zed");
    until("the replica has the lock", || replica.ask::<i64>("DBSIZE") == 1);
    take_over(&replica);
    let wait = format!("LOCK.ACQUIRE {OF_THE_FIRST} bob QUEUE 600000");
    until("the new one gives places in line", || replica.try_ask::<Option<i64>>(&wait).is_ok());
    screen.says("2 contended, 3 wait");
    screen.press("q");
    assert_eq!(screen.end(), 0);
}

#[test]
fn top_needs_a_terminal() {
    let output = Server::new().run(&["top"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("needs a terminal"), "{}", text(&output.stderr));
}
