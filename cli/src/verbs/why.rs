//! `why`: tells why an owner does not have a lock.

use std::collections::HashSet;

use clap::Args;
use redis::cmd;
use serde_json::json;

use crate::connect::{Server, REPLY};
use crate::exit::{Exit, Outcome};
use crate::locks::{self, left, Hold, Lock, Waiter};
use crate::name::Name;
use crate::print::{line, shown};
use crate::reply::{name, Fields};
use crate::time::for_people;
use crate::verbs::break_::describe;
use crate::waits::{Line, Waits};

/// How deep a chain is told.
const DEPTH: usize = 32;

/// Who is in its way, whom those wait for, and so on down to whoever waits for nothing.
#[derive(Args, Debug)]
pub(crate) struct Why {
    /// The lock
    key: Name,
    /// Who does not have it
    owner: Name,
    /// JSON instead of text
    #[arg(short = 'J', long)]
    json: bool,
}

impl Why {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let (key, owner) = (&*self.key, &*self.owner);
        let mut link = server.link().await?;
        let lock = locks::one(&mut link, key).await?;
        if let Some(hold) = lock.holds.iter().find(|hold| hold.owner == owner) {
            self.tell(
                json!({"state": "holds", "hold": hold.json()}),
                &format!("{} holds {}: {}", shown(owner), shown(key), hold_line(hold)),
            )?;
            return Ok(Exit::OK);
        }
        let waits = Waits::ask(server, None, usize::MAX).await?;
        let mine = waits.of(owner).any(|(line, ..)| line.lock.key == key);
        if !mine {
            // How an earlier hold ended may say it all. Who may not ask this is told the rest.
            let check = link.ask(cmd("LOCK.CHECK").arg(key).arg(owner).arg("WITHINFO"), REPLY).await;
            let known = check.ok().and_then(|reply| Fields::of(reply).ok()).unwrap_or_default();
            self.tell(
                json!({"state": "not in line", "lock": lock.json(), "reason": known.text("reason"),
                    "ago-ms": known.number("ago-ms")}),
                &absent(&lock, owner, &known),
            )?;
            return Ok(Exit::OK);
        }
        let roots = waits.roots(owner);
        let mut text = Vec::new();
        let tree = tell_waits(&waits, owner, Some(key), &mut vec![], &mut HashSet::new(), &mut text);
        for (root, key) in &roots {
            let hold =
                waits.0.get(key).and_then(|line| line.lock.holds.iter().find(|hold| hold.owner == *root));
            let how = hold.map(hold_line).unwrap_or_default();
            text.push(format!("in the end: {} has {} and waits for nothing: {how}", shown(root), shown(key)));
        }
        let roots: Vec<_> =
            roots.iter().map(|(owner, key)| json!({"owner": name(owner), "key": name(key)})).collect();
        self.tell(json!({"state": "waits", "waits": tree, "roots": roots}), &text.join("\n"))?;
        Ok(Exit::OK)
    }

    fn tell(&self, mut object: serde_json::Value, text: &str) -> Outcome<()> {
        if !self.json {
            return line(text);
        }
        if let Some(fields) = object.as_object_mut() {
            fields.insert("key".into(), self.key.json());
            fields.insert("owner".into(), self.owner.json());
        }
        line(&object.to_string())
    }
}

/// "for 12 s, 18 s left, from 10.0.0.7:4711: nightly run"
fn hold_line(hold: &Hold) -> String {
    let mut text = format!("for {}, {}", for_people(hold.held_ms), remains(hold.left_ms));
    if !hold.address().is_empty() {
        text.push_str(&format!(", from {}", shown(&hold.address())));
    }
    if !hold.note.is_empty() {
        text.push_str(&format!(": {}", shown(&hold.note)));
    }
    text
}

fn remains(ms: i64) -> String {
    if ms < 0 {
        "no expiry".to_owned()
    } else {
        format!("{} left", left(ms))
    }
}

fn absent(lock: &Lock, owner: &[u8], known: &Fields) -> String {
    let mut text = format!("{} neither holds {} nor waits for it", shown(owner), shown(&lock.key));
    let reason = known.text("reason").unwrap_or_default();
    if let Some(ago) = known.number("ago-ms") {
        text.push_str(&format!("; its hold ended {} ago: {reason}", for_people(ago)));
    }
    match lock.holds.as_slice() {
        [] if lock.mode == "cooling" => {
            let cooldowns: Vec<_> = lock.cooldown().collect();
            text.push_str(&format!("; the lock is in cooldown for {}", cooldowns.join(", ")));
        }
        [] => text.push_str("; the lock is free"),
        holds => {
            let holds: Vec<_> =
                holds.iter().map(|hold| describe(&hold.owner, hold.held_ms, &hold.note)).collect();
            text.push_str(&format!("; it is held by {}", holds.join(", ")));
        }
    }
    text
}

/// Tells what an owner waits for, the asked lock alone at first, and what each in its way waits for. Of each owner once:
/// where the same ones wait for several locks, the ways from one to another are too many to tell.
fn tell_waits(
    waits: &Waits,
    owner: &[u8],
    only: Option<&[u8]>,
    path: &mut Vec<Vec<u8>>,
    told_of: &mut HashSet<Vec<u8>>,
    text: &mut Vec<String>,
) -> serde_json::Value {
    let indent = "  ".repeat(path.len());
    if path.iter().any(|before| before == owner) {
        text.push(format!("{indent}{} waits in a circle", shown(owner)));
        return json!("circle");
    }
    if path.len() >= DEPTH {
        text.push(format!("{indent}and so on"));
        return json!("and so on");
    }
    if waits.of(owner).next().is_some() && !told_of.insert(owner.to_vec()) {
        text.push(format!("{indent}{} waits as told above", shown(owner)));
        return json!("told above");
    }
    path.push(owner.to_vec());
    let mut told = Vec::new();
    for (line, at, waiter) in waits.of(owner) {
        // One that waits for several locks together may have nobody in its way here.
        if only.is_some_and(|key| key != line.lock.key) && waiter.keys == 1 {
            continue;
        }
        text.push(format!("{indent}{}", wait_line(line, at, waiter)));
        let mut blocked_by = Vec::new();
        for holder in &waiter.blocked_by {
            let hold = line.lock.holds.iter().find(|hold| hold.owner == *holder);
            text.push(format!(
                "{indent}  held by {} {}",
                shown(holder),
                hold.map(hold_line).unwrap_or_default()
            ));
            let mut object = hold.map_or_else(|| json!({"owner": name(holder)}), Hold::json);
            let next = tell_waits(waits, holder, None, path, told_of, text);
            if let Some(fields) = object.as_object_mut() {
                fields.insert("waits".into(), next);
            }
            blocked_by.push(object);
        }
        // Those before it in this line have the same in their way; what else they wait for may hold it up as well.
        let mut behind = Vec::new();
        for before in waiter.behind.iter().rev() {
            text.push(format!("{indent}  behind {}", shown(before)));
            let is_told =
                path.contains(before) || waits.of(before).all(|(other, ..)| other.lock.key == line.lock.key);
            let next = if is_told { json!([]) } else { tell_waits(waits, before, None, path, told_of, text) };
            behind.push(json!({"owner": name(before), "waits": next}));
        }
        told.push(json!({
            "key": name(&line.lock.key),
            "place": at + 1,
            "waited-ms": waiter.waited_ms,
            "left-ms": waiter.left_ms,
            "blocked-by": blocked_by,
            "behind": behind,
        }));
    }
    path.pop();
    told.into()
}

/// "bob waits for door for 5 s, 2nd in line"
fn wait_line(line: &Line, at: usize, waiter: &Waiter) -> String {
    let note = if waiter.note.is_empty() { String::new() } else { format!(": {}", shown(&waiter.note)) };
    format!(
        "{} waits for {} ({}) for {}, place {} in line{note}",
        shown(&waiter.owner),
        shown(&line.lock.key),
        waiter.mode,
        for_people(waiter.waited_ms),
        at + 1
    )
}
