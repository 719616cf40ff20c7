//! Every redis-cli transcript in the documentation is played against a real server and compared, so that no example can
//! rot; and the player itself is shown to notice what is wrong.

use std::path::{Path, PathBuf};

use crate::support::transcript::{find, Transcript};
use crate::support::Server;
use crate::support::Setup;

/// README.md and every page below docs/.
pub(crate) fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = pages_below(&root.join("docs"));
    paths.sort();
    paths.insert(0, root.join("README.md"));
    paths
}

fn pages_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("read docs/");
    let paths = entries.map(|entry| entry.expect("read docs/").path());
    let (dirs, mut pages): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.extend(dirs.iter().flat_map(|dir| pages_below(dir)));
    pages
}

fn transcripts_of(path: &Path) -> Result<Vec<Transcript>, String> {
    let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
    find(&name, &std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?)
}

#[test]
fn every_transcript_in_the_documentation_is_true() {
    let mut played = 0;
    let mut problems = Vec::new();
    for path in documents() {
        match transcripts_of(&path) {
            Err(problem) => problems.push(problem),
            Ok(transcripts) => {
                // A server for each: no example leans on what an earlier one left behind.
                problems.extend(transcripts.iter().filter_map(|one| one.play(&Server::start()).err()));
                played += transcripts.len();
            }
        }
    }
    println!("{played} transcripts played");
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Pages that show no session with a server, or show it by other means: as shell or as code.
const WITHOUT: [&str; 15] = [
    "docs/SUMMARY.md",
    "docs/cli.md",
    "docs/clients.md",
    "docs/cluster.md",
    "docs/commands/errors.md",
    "docs/commands/events.md",
    "docs/commands/internal.md",
    "docs/commands.md",
    "docs/comparison.md",
    "docs/cookbook.md",
    "docs/deployment.md",
    "docs/design.md",
    "docs/limits.md",
    "docs/monitoring.md",
    "docs/why.md",
];

#[test]
fn a_page_that_loses_its_transcripts_is_noticed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let without = documents().into_iter().filter(|page| transcripts_of(page).unwrap().is_empty());
    let names = without.map(|page| page.strip_prefix(root).unwrap().to_string_lossy().into_owned());
    assert_eq!(names.collect::<Vec<_>>(), WITHOUT);
}

/// Plays one made-up transcript on a server without the module.
fn play(body: &str) -> Result<(), String> {
    let transcripts = find("made-up.md", &format!("Text.\n\n```redis-cli\n{body}\n```\n"))?;
    assert_eq!(transcripts.len(), 1);
    transcripts[0].play(&Setup::plain().start())
}

#[test]
fn a_true_transcript_passes() {
    play("> SET k v\nOK\n> GET k\n\"v\"\n> RPUSH l a b\n(integer) <n>\n> LRANGE l 0 -1\n1) \"a\"\n2) \"b\"")
        .unwrap();
    play("127.0.0.1:6379> GET none\n(nil)").unwrap();
}

#[test]
fn a_wrong_reply_is_reported_with_its_place() {
    let problem = play("> SET k v\nOK\n> GET k\n\"w\"").unwrap_err();
    assert!(problem.starts_with("made-up.md:3 (line 6): expected"), "{problem}");
    assert!(problem.contains("\"v\"") && problem.contains("\"w\""), "{problem}");
}

#[test]
fn a_missing_or_additional_line_is_reported() {
    play("> RPUSH l a b\n(integer) 2\n> LRANGE l 0 -1\n1) \"a\"").unwrap_err();
    play("> SET k v\nOK\nOK").unwrap_err();
}

#[test]
fn a_remembered_value_can_be_typed_again() {
    play("> SET k 17\nOK\n> GET k\n\"<fence>\"\n> ECHO <fence>\n\"17\"").unwrap();
    let problem = play("> ECHO <fence>\n\"17\"").unwrap_err();
    assert!(problem.contains("nothing was seen yet that <fence> stands for"), "{problem}");
}

#[test]
fn clients_have_connections_of_their_own() {
    play("A> MULTI\nOK\nB> SET k v\nOK\nA> GET k\nQUEUED\nA> EXEC\n1) \"v\"").unwrap();
}

#[test]
fn a_waiting_client_is_answered_later() {
    play("A> BLPOP l 0\n...\nB> RPUSH l x\n(integer) 1\nA< 1) \"l\"\n2) \"x\"").unwrap();
    play("A> BLPOP l 0\n...\nB> BLPOP l 0\n...\nC> RPUSH l x y\n(integer) 2\nB<\n1) \"l\"\n2) \"y\"\nA<\n1) \"l\"\n2) \"x\"")
        .unwrap();
}

#[test]
fn a_waiting_client_must_be_answered_and_cannot_type() {
    let problem = play("A> BLPOP l 0\n...").unwrap_err();
    assert!(problem.contains("`A` still waits at the end"), "{problem}");
    let problem = play("A> BLPOP l 0\n...\nA> PING\nPONG").unwrap_err();
    assert!(problem.contains("`A` still waits and cannot type"), "{problem}");
    let problem = play("A> PING\n...").unwrap_err();
    assert!(problem.contains("`A` does not wait"), "{problem}");
    let problem = play("A> PING\nPONG\nA< PONG").unwrap_err();
    assert!(problem.contains("`A` waits for nothing"), "{problem}");
}

#[test]
fn a_waiting_client_can_be_seen_to_wait_on() {
    let push = "A> BLPOP l 0\n...\nB> BLPOP l 0\n...\nC> RPUSH l x\n(integer) 1";
    play(&format!(
        "{push}\nB< ...\nA<\n1) \"l\"\n2) \"x\"\nB< ...\nC> RPUSH l y\n(integer) 1\nB<\n1) \"l\"\n2) \"y\""
    ))
    .unwrap();
    let problem = play(&format!("{push}\nA< ...")).unwrap_err();
    assert!(problem.contains("`A` does not wait"), "{problem}");
}

#[test]
fn lines_that_do_not_matter_can_be_left_out() {
    let list = "> RPUSH l a b c d\n(integer) 4\n> LRANGE l 0 -1";
    for shown in ["<lines>", "<lines>\n2) \"b\"\n<lines>\n4) \"d\"", "1) \"a\"\n<lines>\n2) \"b\"\n<lines>"] {
        play(&format!("{list}\n{shown}")).unwrap();
    }
    for shown in ["<lines>\n5) \"e\"", "<lines>\n3) \"c\"", "1) \"a\"\n2) \"b\"\n4) \"d\"\n<lines>"] {
        play(&format!("{list}\n{shown}")).unwrap_err();
    }
}

#[test]
fn a_block_may_be_played_in_resp3() {
    let markdown = "```redis-cli -3\n> HSET h f v\n(integer) 1\n> HGETALL h\n1# \"f\" => \"v\"\n```";
    find("made-up.md", markdown).unwrap()[0].play(&Setup::plain().start()).unwrap();
}

#[test]
fn replicas_are_told_what_is_shown_and_nothing_stands_for_the_same_data() {
    let set = "> SET k v\nOK";
    play(&format!("{set}\nstream< SET k v\n> GET k\n\"v\"\nstream< (nothing)")).unwrap();
    play(&format!("{set}\nstream< (nothing)")).unwrap_err();
    let problem = play("> DEBUG POPULATE 1\nOK\nstream< (nothing)").unwrap_err();
    assert!(problem.contains("the data have changed, and replicas were told nothing"), "{problem}");
}

#[test]
fn events_are_shown_since_they_were_shown_last() {
    play("> SET k v\nOK\n> DEL k\n(integer) 1\nevents<\nk set\nk del\n> GET k\n(nil)\nevents< (nothing)")
        .unwrap();
    play("> SELECT 5\nOK\n> SET k v\nOK\nevents< __keyspace@5__:k set").unwrap();
    play("> SET k v\nOK\nevents< (nothing)").unwrap_err();
}

#[test]
fn who_watches_k_sees_it_change() {
    play("> GET k\n(nil)\nwatch< (nothing)\n> SET k v\nOK\nwatch< k\n> SET l v\nOK\nwatch< (nothing)")
        .unwrap();
    play("> SET k v\nOK\nwatch< (nothing)").unwrap_err();
}

#[test]
fn a_lock_is_shown_on_one_line() {
    let play =
        |body: &str| find("made-up.md", &format!("```redis-cli\n{body}\n```"))?[0].play(&Server::start());
    let (read, fence) = ("LOCK.ACQUIRE k", "(integer) <fence-");
    play(&format!(
        "lock< free\n> {read} ann SHARED\n{fence}1>\n> {read} ben SHARED\n{fence}2>\nlock< shared: ann, ben\n\
         w> {read} wilma BLOCK 0\n...\nx> {read} xeno BLOCK 0\n...\n\
         lock< shared: ann, ben; waiting: wilma, xeno\n\
         > DEL k\n(integer) 1\nw< {fence}3>\nlock< exclusive: wilma; waiting: xeno\n\
         > DEL k\n(integer) 1\nx< {fence}4>\n> DEL k\n(integer) 1\n\
         > {read} ann LIMIT 3 PERMITS 2\n{fence}5>\nlock< semaphore of 3: ann 2"
    ))
    .unwrap();
    play(&format!("> {read} ann\n{fence}1>\nlock< exclusive: ben")).unwrap_err();
}

#[test]
fn the_time_of_a_slow_command_is_no_part_of_its_reply() {
    // redis-cli tells the time of whatever takes half a second or more.
    play("> BLPOP none 0.6\n(nil)").unwrap();
}

#[test]
fn what_cannot_be_played_is_refused() {
    let problem = |markdown: &str| find("bad.md", markdown).unwrap_err();
    assert!(problem("```redis-cli\n> PING\nPONG\n").contains("not closed"));
    assert!(problem("```redis-cli\n> PING\n```").contains("no reply is shown"));
    assert!(problem("```redis-cli\nPONG\n```").contains("a reply before any command"));
    assert!(problem("```redis-cli\n```").contains("an empty transcript"));
    assert!(problem("```\n> PING\nPONG\n```").contains("not tagged"));
    assert!(problem("```text\n127.0.0.1:6379> PING\nPONG\n```").contains("bad.md:2"));
}

#[test]
fn other_code_blocks_are_left_alone() {
    assert_eq!(find("good.md", "```sh\nmake run > log\necho a -> b\n```\n\n> a quotation\n"), Ok(Vec::new()));
}

#[test]
fn a_block_in_a_list_is_found() {
    assert_eq!(find("good.md", "- item\n\n  ```redis-cli\n  > PING\n  PONG\n  ```\n").unwrap().len(), 1);
}
