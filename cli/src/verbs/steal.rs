//! `steal`: takes a lock away from whoever has it.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use fencelock::Moment;
use nix::unistd::getppid;
use redis::{cmd, Value};

use crate::confirm::confirmed;
use crate::connect::{Server, REPLY};
use crate::exit::{Exit, Failure, Outcome};
use crate::keep::{given_back, Grant};
use crate::locks::word;
use crate::name::Name;
use crate::owner;
use crate::print::line;
use crate::time::{ms, some_span};
use crate::verbs::break_::{describe, seen};
use crate::verbs::info::headline;

/// Before all who wait. It prints the fence and the owner, which `renew` and `release` want; nobody renews it meanwhile.
#[derive(Args, Debug)]
pub(crate) struct Steal {
    /// The lock
    key: Name,
    /// Who shall have it; made up of host and process if you say nothing
    #[arg(long, value_name = "OWNER")]
    owner: Option<Name>,
    /// How long it is yours; the server's default if you say nothing
    #[arg(long, value_name = "TIME", value_parser = some_span)]
    lease: Option<Duration>,
    /// Why: the note of the hold, which all can read
    #[arg(long, visible_alias = "note", value_name = "TEXT")]
    reason: Option<OsString>,
    /// JSON instead of "FENCE OWNER"
    #[arg(short = 'J', long)]
    json: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Steal {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let key = &self.key;
        let owner = self.owner.clone().unwrap_or_else(|| owner::name_for(getppid()).into());
        let mut link = server.link().await?;
        if !self.yes {
            let lock = seen(&mut link, key).await?;
            let mut question = headline(&lock);
            for hold in &lock.holds {
                question.push_str(&format!("; {}", describe(&hold.owner, hold.held_ms, &hold.note)));
            }
            if !confirmed(&format!("{question}. Take it?"), false)? {
                line("nothing was done")?;
                return Ok(Exit::FAULT);
            }
        }
        let mut request = cmd("LOCK.STEAL");
        request.arg(key).arg(&owner);
        if let Some(lease) = self.lease {
            request.arg("PX").arg(ms(lease));
        }
        if let Some(reason) = self.reason.as_deref() {
            request.arg("NOTE").arg(word(reason));
        }
        let sent = Moment::now();
        let options = [("PX", "--lease"), ("the note", "--reason"), ("the owner", "--owner")];
        let fence = link.ask(&request, REPLY).await.map_err(|error| Failure::from(error).naming(&options))?;
        let Value::Int(fence) = fence else {
            return Err(Failure::new(Exit::NO_SERVER, "the server did not reply a fence"));
        };
        let grant = Grant { keys: vec![self.key], owner, fence };
        let Err(failure) = grant.tell(sent.after(self.lease.unwrap_or_default()), self.json) else {
            return Ok(Exit::OK);
        };
        let mut release = cmd("LOCK.RELEASE");
        release.arg(&grant.keys).arg(&grant.owner).arg("FENCE").arg(fence);
        Err(given_back(failure, async { Ok(link.ask_again(&release).await?) }).await)
    }
}
