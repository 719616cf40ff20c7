//! `break`: ends holds of others.

use std::ffi::OsString;

use clap::Args;
use redis::{cmd, RedisError, Value};

use crate::confirm::confirmed;
use crate::connect::{Link, Server, REPLY};
use crate::exit::{Exit, Failure, Outcome};
use crate::locks::{self, word, Hold, Lock};
use crate::name::Name;
use crate::print::{line, shown};
use crate::time::for_people;
use crate::verbs::info::headline;

/// The next in line has the lock at once. A holder that is still at work does not stop by itself: see that it is dead.
#[derive(Args, Debug)]
pub(crate) struct Break {
    /// The lock
    key: Name,
    /// End the hold of this owner alone
    #[arg(long, value_name = "OWNER")]
    owner: Option<Name>,
    /// What the log of the server shall say
    #[arg(long, value_name = "TEXT")]
    reason: Option<OsString>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Break {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let key = &self.key;
        let mut link = server.link().await?;
        let mut owner = self.owner.map(|owner| owner.to_vec());
        if !self.yes {
            let lock = seen(&mut link, key).await?;
            if lock.holds.is_empty() {
                line(&format!("{}: nothing to end", headline(&lock)))?;
                return Ok(Exit::FAULT);
            }
            line(&headline(&lock))?;
            for hold in &lock.holds {
                line(&format!("  {}", describe(&hold.owner, hold.held_ms, &hold.note)))?;
            }
            // What the user was shown is what ends, and not the hold of whoever comes next.
            if let (None, [only]) = (&owner, lock.holds.as_slice()) {
                owner = Some(only.owner.clone());
            }
            let ending =
                lock.holds.iter().filter(|hold| owner.as_ref().is_none_or(|owner| *owner == hold.owner));
            let whose: Vec<_> = ending.map(|hold| holder(&lock, hold)).collect();
            let holds = if whose.len() > 1 { "holds" } else { "hold" };
            let whose = if whose.is_empty() {
                owner.as_deref().map(shown).unwrap_or_default()
            } else {
                whose.join(", ")
            };
            if !confirmed(&format!("End the {holds} of {whose}?"), false)? {
                line("nothing was done")?;
                return Ok(Exit::FAULT);
            }
        }
        let reason = self.reason.as_deref().map(word);
        let options = [("the note", "--reason"), ("the owner", "--owner")];
        let ended = end(&mut link, key, owner.as_deref(), reason.as_deref())
            .await
            .map_err(|error| Failure::from(error).naming(&options))?;
        line(&format!("{}: {ended} {} ended", shown(key), if ended == 1 { "hold" } else { "holds" }))?;
        Ok(if ended > 0 { Exit::OK } else { Exit::FAULT })
    }
}

/// The lock as it is before something is done to it.
pub(crate) async fn seen(link: &mut Link, key: &[u8]) -> Outcome<Lock> {
    locks::one(link, key).await.map_err(|error| match Failure::from(error) {
        failure if failure.exit == Exit::NO_PERMISSION => Failure::new(
            failure.exit,
            format!("{}; the lock cannot be shown before you decide, --yes does it unseen", failure.text),
        ),
        failure => failure,
    })
}

/// "alice", or "alice (2 permits)" of a semaphore.
fn holder(lock: &Lock, hold: &Hold) -> String {
    let owner = shown(&hold.owner);
    match (lock.mode.as_str(), hold.permits) {
        ("semaphore", 1) => format!("{owner} (1 permit)"),
        ("semaphore", permits) => format!("{owner} ({permits} permits)"),
        _ => owner,
    }
}

/// "alice for 12 s: nightly run"
pub(crate) fn describe(owner: &[u8], held_ms: i64, note: &[u8]) -> String {
    let note = if note.is_empty() { String::new() } else { format!(": {}", shown(note)) };
    format!("{} for {}{note}", shown(owner), for_people(held_ms))
}

/// Ends the holds of this owner, or all. Returns how many.
pub(crate) async fn end(
    link: &mut Link,
    key: &[u8],
    owner: Option<&[u8]>,
    reason: Option<&[u8]>,
) -> Result<i64, RedisError> {
    let mut request = cmd("LOCK.BREAK");
    request.arg(key);
    if let Some(owner) = owner {
        request.arg("OWNER").arg(owner);
    }
    if let Some(reason) = reason {
        request.arg("REASON").arg(reason);
    }
    match link.ask(&request, REPLY).await? {
        Value::Int(ended) => Ok(ended),
        _ => Ok(0),
    }
}
