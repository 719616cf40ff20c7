//! `graph`: draws who waits for whom.

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use crate::connect::Server;
use crate::exit::{Exit, Outcome};
use crate::locks::{left, word};
use crate::print::{line, shown};
use crate::time::for_people;
use crate::waits::Waits;

/// All locks that somebody waits for, their holders and those who wait, for `dot`: redis-lock graph | dot -Tsvg
#[derive(Args, Debug)]
pub(crate) struct Graph {
    /// Only names that match, as in KEYS
    pattern: Option<OsString>,
    /// Draw no more than so many of each line
    #[arg(long, value_name = "N", default_value_t = 50)]
    waiters: usize,
    /// JSON instead of DOT
    #[arg(short = 'J', long)]
    json: bool,
}

impl Graph {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let waits = Waits::ask(server, self.pattern.as_deref().map(word), self.waiters).await?;
        if self.json {
            let lines = waits.0.values().map(|line| {
                let mut object = line.lock.json();
                if let Some(fields) = object.as_object_mut() {
                    fields
                        .insert("waiters".into(), line.waiters.iter().map(|waiter| waiter.json()).collect());
                }
                object
            });
            line(&json!(lines.collect::<Vec<_>>()).to_string())?;
        } else {
            line(&dot(&waits))?;
        }
        Ok(Exit::OK)
    }
}

fn dot(waits: &Waits) -> String {
    let mut text = String::from("digraph locks {\n    rankdir=LR;\n");
    for wait in waits.0.values() {
        let lock = &wait.lock;
        let key = quoted("lock ", &lock.key);
        let label = label(&format!("{}\n{}", shown(&lock.key), lock.mode));
        text.push_str(&format!("    {key} [shape=box, label={label}];\n"));
        for hold in &lock.holds {
            let since = format!("held {}, left {}", for_people(hold.held_ms), left(hold.left_ms));
            text.push_str(&owner(&hold.owner));
            text.push_str(&format!(
                "    {key} -> {} [label={}];\n",
                quoted("owner ", &hold.owner),
                self::label(&since)
            ));
        }
        for (at, waiter) in wait.waiters.iter().enumerate() {
            let place = format!("{}. for {}", at + 1, for_people(waiter.waited_ms));
            text.push_str(&owner(&waiter.owner));
            let from = quoted("owner ", &waiter.owner);
            text.push_str(&format!("    {from} -> {key} [style=dashed, label={}];\n", self::label(&place)));
        }
        let more = usize::try_from(lock.waiting).unwrap_or(0).saturating_sub(wait.waiters.len());
        if more > 0 {
            let id = quoted("more ", &lock.key);
            text.push_str(&format!("    {id} [shape=plaintext, label=\"and {more} more\"];\n"));
            text.push_str(&format!("    {id} -> {key} [style=dashed];\n"));
        }
    }
    text.push('}');
    text
}

fn owner(owner: &[u8]) -> String {
    format!("    {} [label={}];\n", quoted("owner ", owner), label(&shown(owner)))
}

/// An id of DOT. A name of a lock is never that of an owner.
fn quoted(kind: &str, bytes: &[u8]) -> String {
    label(&format!("{kind}{}", shown(bytes)))
}

fn label(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
