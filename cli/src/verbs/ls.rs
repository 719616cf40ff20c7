//! `ls`: lists the locks.

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use crate::connect::Server;
use crate::exit::{Exit, Outcome};
use crate::locks::{self, holders, word, Filter, Lock};
use crate::name::Name;
use crate::print::{line, shown, Table};
use crate::time::for_people;

/// Locks that are held, in cooldown, or waited for: of one server, or of all nodes of a cluster.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Only names that match, as in KEYS
    pattern: Option<OsString>,
    /// Only what this owner holds or waits for
    #[arg(long, value_name = "OWNER")]
    owner: Option<Name>,
    /// Only what somebody waits for
    #[arg(long)]
    contended: bool,
    /// JSON instead of a table
    #[arg(short = 'J', long)]
    json: bool,
}

impl Ls {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let filter = Filter {
            pattern: self.pattern.as_deref().map(word),
            owner: self.owner.map(|owner| owner.to_vec()),
            contended: self.contended,
        };
        let mut found: Vec<(String, Lock)> = Vec::new();
        let mut nodes = server.nodes().await?;
        for node in &mut nodes {
            let names = locks::names(node, &filter).await?;
            let locks = locks::read(node, &names).await?;
            found.extend(
                locks.into_iter().filter(|lock| !lock.is_at_rest()).map(|lock| (node.address(), lock)),
            );
        }
        found.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        if self.json {
            let object = |(node, lock): &(String, Lock)| {
                let mut object = lock.json();
                if let Some(fields) = object.as_object_mut() {
                    fields.insert("node".into(), json!(node));
                }
                object
            };
            line(&found.iter().map(object).collect::<serde_json::Value>().to_string())?;
            return Ok(Exit::OK);
        }
        let mut table = Table::new(&["key", "mode", "holder", "held", "left", "waiting", "note"]);
        for (_, lock) in &found {
            let first = lock.holds.first();
            table.row([
                shown(&lock.key),
                lock.mode.clone(),
                holders(lock),
                first.map(|hold| for_people(hold.held_ms)).unwrap_or_default(),
                lock.time_left(),
                lock.waiting.to_string(),
                first.map(|hold| shown(&hold.note)).unwrap_or_default(),
            ]);
        }
        line(&table.text())?;
        Ok(Exit::OK)
    }
}
