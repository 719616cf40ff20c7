//! What the append-only file says, word for word. Reads the files of a server's AOF directory; never writes them.

use std::io::{BufRead, BufReader};
use std::path::Path;

use super::resp::decode;
use super::stream::{words, Words};
use super::Server;

/// The parts of an AOF, in the order in which the server loads them.
#[derive(Debug, PartialEq)]
pub(crate) struct Aof {
    pub(crate) base: Base,
    /// All commands since the base was made, over all incremental files. SELECT is left out.
    pub(crate) commands: Vec<Words>,
}

/// What the last rewrite left.
#[derive(Debug, PartialEq)]
pub(crate) enum Base {
    None,
    /// `aof-use-rdb-preamble yes`: a snapshot, which this file cannot read.
    Snapshot,
    /// `aof-use-rdb-preamble no`: commands. SELECT is left out.
    Commands(Vec<Words>),
}

/// Reads the AOF of a server, running or stopped. The server writes it before it replies, so what a reply has
/// acknowledged is there.
pub(crate) fn read_aof(server: &Server) -> Aof {
    let dir = server.dir().join("appendonlydir");
    let manifest =
        std::fs::read_to_string(dir.join("appendonly.aof.manifest")).expect("read the AOF manifest");
    let mut aof = Aof { base: Base::None, commands: Vec::new() };
    for line in manifest.lines() {
        // file <name> seq <number> type <b|i|h>
        let fields: Vec<&str> = line.split(' ').collect();
        let (name, kind) = (fields[1], fields[5]);
        match kind {
            "b" if name.ends_with(".rdb") => aof.base = Base::Snapshot,
            "b" => aof.base = Base::Commands(read_commands(&dir.join(name))),
            "i" => aof.commands.extend(read_commands(&dir.join(name))),
            // History: replaced already and about to be deleted.
            _ => {}
        }
    }
    aof
}

fn read_commands(path: &Path) -> Vec<Words> {
    let mut input = BufReader::new(std::fs::File::open(path).expect("open an AOF file"));
    let mut commands = Vec::new();
    loop {
        match input.fill_buf().expect("read an AOF file").first() {
            None => return commands,
            // An annotation, such as a time stamp.
            Some(b'#') => {
                input.skip_until(b'\n').expect("read an AOF file");
            }
            Some(_) => {
                let command = words(&decode(&mut input).expect("a whole command in the AOF"));
                if !command[0].eq_ignore_ascii_case("SELECT") {
                    commands.push(command);
                }
            }
        }
    }
}
