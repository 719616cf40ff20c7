//! `run` on a terminal: the line that is shown while it waits, keys, and the shell's jobs.

use portable_pty::CommandBuilder;

use crate::support::screen::Screen;
use crate::support::{text, until, Server};

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";

fn held_with_line(server: &Server) {
    let _: i64 = server.ask("LOCK.ACQUIRE door web-7:812:0123456789abcdef PX 600000 NOTE nightly");
    for owner in ["ann", "ben"] {
        let _: redis::Value = server.ask(&format!("LOCK.ACQUIRE door {owner} QUEUE 600000"));
    }
}

#[test]
fn who_waits_sees_the_place_the_holder_and_since_when() {
    let server = Server::new();
    held_with_line(&server);
    let mut screen = Screen::tool(&server, (6, 80), &["run", "door", "echo", "mine"]);
    let shown = screen.shows("the line, after a second", |text| {
        text.contains("3rd in line; held by web-7:812 for 1 s (nightly)")
            || text.contains("3rd in line; held by web-7:812 for 2 s (nightly)")
    });
    println!("{shown}");
    assert_eq!(shown.trim().lines().count(), 1, "{shown}");
    for owner in ["ann", "ben"] {
        let _: i64 = server.ask(&format!("LOCK.RELEASE door {owner} CANCEL"));
    }
    screen.says("1st in line");
    let _: i64 = server.ask("LOCK.BREAK door");
    assert_eq!(screen.end(), 0);
    let left = screen.says("mine");
    assert_eq!(left.trim(), "mine", "the line is gone");
}

#[test]
fn the_line_stays_one_line_on_a_narrow_screen() {
    let server = Server::new();
    held_with_line(&server);
    let mut screen = Screen::tool(&server, (5, 44), &["run", "door", "true"]);
    screen.says("3rd in line");
    let first = screen.text();
    let shown = screen.shows("another line", |text| text != first);
    println!("{shown}");
    assert_eq!(shown.trim().lines().count(), 1, "{shown}");
    screen.press(CTRL_C);
    assert_eq!(screen.end(), 130);
    until("the place is given up", || server.waiting("door") == 2);
    screen.says("ended by SIGINT");
    assert!(!screen.text().contains("in line"), "{}", screen.text());
}

#[test]
fn who_waits_sees_that_the_server_is_gone() {
    let mut server = Server::new();
    held_with_line(&server);
    let mut screen = Screen::tool(&server, (6, 100), &["run", "door", "true"]);
    screen.says("3rd in line");
    server.kill();
    let shown = screen.shows("the server is gone", |text| text.contains("no server: "));
    assert!(shown.contains("; trying again") && !shown.contains("in line"), "{shown}");
    assert_eq!(shown.trim().lines().count(), 1, "{shown}");
    screen.press(CTRL_C);
    assert_eq!(screen.end(), 130);
}

#[test]
fn who_waits_sees_that_other_data_is_in_the_way() {
    let server = Server::new();
    let _: String = server.ask("SET door x");
    let mut screen = Screen::tool(&server, (6, 100), &["run", "door", "echo", "mine"]);
    screen.says("door holds a value that is not a lock; trying again");
    let _: i64 = server.ask("DEL door");
    assert_eq!(screen.end(), 0);
    assert_eq!(screen.says("mine").trim(), "mine", "the line is gone");
}

#[test]
fn what_the_lock_says_cannot_steer_the_terminal() {
    let server = Server::new();
    let _: i64 = server.ask_words(&["LOCK.ACQUIRE", "door", "al\x1b[2Jice", "NOTE", "a\r\nb"]);
    let mut screen = Screen::tool(&server, (5, 90), &["run", "door", "true"]);
    let shown = screen.says(r"held by al\x1b[2Jice for");
    assert!(shown.contains(r"(a\r\nb)"), "{shown}");
    screen.press(CTRL_C);
    assert_eq!(screen.end(), 130);
}

#[test]
fn nothing_is_shown_where_nobody_looks() {
    let server = Server::new();
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    let output = server.run(&["run", "-w", "100ms", "door", "true"]);
    assert_eq!(text(&output.stderr), "redis-lock: door was not free in time\n");
}

#[test]
fn a_command_reads_from_the_terminal() {
    let server = Server::new();
    let mut screen = Screen::tool(
        &server,
        (8, 80),
        &["run", "door", "-c", "echo ready; read word; echo got $word; read word"],
    );
    screen.says("ready");
    screen.press("hello\r");
    screen.says("got hello");
    screen.press(CTRL_C);
    assert_eq!(screen.end(), 130);
    assert!(!server.is_held("door"));
}

#[test]
fn a_key_ends_a_command_that_reads_nothing() {
    let server = Server::new();
    let mut screen = Screen::tool(&server, (8, 80), &["run", "door", "-c", "echo ready; exec sleep 600"]);
    screen.says("ready");
    screen.press(CTRL_C);
    assert_eq!(screen.end(), 130);
}

#[test]
fn a_shell_stops_it_and_brings_it_back() {
    let server = Server::new();
    let mut shell = CommandBuilder::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    shell.env("PS1", "> ");
    shell.env("TOOL", env!("CARGO_BIN_EXE_redis-lock"));
    let mut screen = Screen::start(&server, (20, 80), shell);
    screen.says(">");

    // One that has the terminal.
    screen.press("$TOOL run door cat\r");
    until("it runs", || server.is_held("door"));
    screen.press("one\r");
    screen.shows("the echo of cat", |text| text.matches("\none").count() == 2);
    screen.press(CTRL_Z);
    screen.says("Stopped");
    screen.press("echo I am the shell | tr a-z A-Z\r");
    screen.says("I AM THE SHELL");
    screen.press("fg\r");
    screen.shows("it is in front", |text| text.matches("run door cat").count() >= 3);
    screen.press("two\r");
    screen.shows("the echo of cat", |text| text.matches("\ntwo").count() == 2);
    screen.press(CTRL_D);
    screen.press("echo code $?\r");
    screen.says("code 0");
    assert!(!server.is_held("door"));

    // One that still waits.
    let _: i64 = server.ask("LOCK.ACQUIRE door alice");
    screen.press("clear; $TOOL run door echo mine\r");
    screen.says("1st in line");
    screen.press(CTRL_Z);
    screen.says("Stopped");
    let _: i64 = server.ask("LOCK.RELEASE door alice");
    screen.press("fg\r");
    screen.shows("the shell again", |text| text.ends_with("\nmine\n>") || text.ends_with("\nmine\n> "));

    // One that has not.
    screen.press("clear; $TOOL run door sleep 600\r");
    until("it runs", || server.is_held("door"));
    screen.press(CTRL_Z);
    screen.says("Stopped");
    screen.press("fg\r");
    screen.shows("it is in front", |text| text.matches("sleep 600").count() >= 2);
    screen.press(CTRL_C);
    screen.press("echo code $?\r");
    println!("{}", screen.says("code 130"));
    screen.press("exit\r");
    screen.end();
}
