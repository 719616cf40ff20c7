//! `info`: shows a lock.

use clap::Args;

use crate::connect::Server;
use crate::exit::{Exit, Outcome};
use crate::locks::{self, left, Hold, Lock, Waiter};
use crate::name::Name;
use crate::print::{line, shown, Table};
use crate::time::for_people;

/// Who has it, since when and for how long; who waits for it, the next one first.
#[derive(Args, Debug)]
pub(crate) struct Info {
    /// The lock
    key: Name,
    /// Show no more than so many of those who wait
    #[arg(long, value_name = "N", default_value_t = 100)]
    waiters: usize,
    /// JSON instead of tables
    #[arg(short = 'J', long)]
    json: bool,
}

impl Info {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let key = &self.key;
        let mut link = server.link().await?;
        let lock = locks::one(&mut link, key).await?;
        let most = if lock.waiting > 0 { self.waiters } else { 0 };
        let waiters = locks::line(&mut link, key, most).await?;
        if self.json {
            let mut object = lock.json();
            if let Some(fields) = object.as_object_mut() {
                fields.insert("waiters".into(), waiters.iter().map(Waiter::json).collect());
            }
            line(&object.to_string())?;
            return Ok(Exit::OK);
        }
        line(&headline(&lock))?;
        if !lock.holds.is_empty() {
            line("")?;
            line(&holds(&lock.holds).text())?;
        }
        for cooldown in lock.cooldown() {
            line(&format!("in cooldown for {cooldown}"))?;
        }
        if !waiters.is_empty() {
            line("")?;
            line(&in_line(&waiters).text())?;
        }
        Ok(Exit::OK)
    }
}

/// "door: exclusive, 1 hold, 2 wait"
pub(crate) fn headline(lock: &Lock) -> String {
    let key = shown(&lock.key);
    let taken: i64 = lock.holds.iter().map(|hold| hold.permits).sum();
    let mode = match (lock.mode.as_str(), lock.limit) {
        ("semaphore", limit) => format!("semaphore, {taken} of {limit} permits taken"),
        ("shared", _) => format!("shared, {} holds", lock.holds.len()),
        (mode, _) => mode.to_owned(),
    };
    match lock.waiting {
        0 => format!("{key}: {mode}, nobody waits"),
        1 => format!("{key}: {mode}, 1 waits"),
        n => format!("{key}: {mode}, {n} wait"),
    }
}

fn holds(holds: &[Hold]) -> Table {
    let mut table = Table::new(&["holder", "held", "left", "fence", "permits", "from", "note"]);
    for hold in holds {
        table.row([
            shown(&hold.owner),
            for_people(hold.held_ms),
            left(hold.left_ms),
            hold.fence().to_string(),
            hold.permits.to_string(),
            shown(&hold.address()),
            shown(&hold.note),
        ]);
    }
    table
}

fn in_line(waiters: &[Waiter]) -> Table {
    let mut table = Table::new(&["waiting", "mode", "as", "waited", "left", "behind", "note"]);
    for waiter in waiters {
        let nearest = waiter.behind.last().or(waiter.blocked_by.first());
        table.row([
            shown(&waiter.owner),
            waiter.mode.clone(),
            waiter.kind.clone(),
            for_people(waiter.waited_ms),
            left(waiter.left_ms),
            nearest.map(|owner| shown(owner)).unwrap_or_default(),
            shown(&waiter.note),
        ]);
    }
    table
}
