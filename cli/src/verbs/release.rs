//! `release`: gives back what `acquire` has taken.

use clap::Args;
use redis::cmd;

use crate::connect::Server;
use crate::exit::{Exit, Failure, Outcome};
use crate::name::Name;
use crate::reply::Fields;

#[derive(Args, Debug)]
pub(crate) struct Release {
    /// The lock
    key: Name,
    /// Who holds it
    owner: Name,
    /// Only the hold with this fence; the same again is no failure then
    #[arg(long)]
    fence: Option<i64>,
}

impl Release {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut request = cmd("LOCK.RELEASE");
        request.arg(&self.key).arg(&self.owner);
        if let Some(fence) = self.fence {
            request.arg("FENCE").arg(fence);
        }
        let mut link = server.link().await?;
        let fields = Fields::of(link.ask_again(request.arg("WITHINFO")).await?)?;
        match fields.number("result") {
            Some(1) => Ok(Exit::OK),
            _ => Err(not_held(&self.key, &self.owner, &fields)),
        }
    }
}

/// The server's reason why there is no such hold.
pub(crate) fn not_held(key: &Name, owner: &Name, fields: &Fields) -> Failure {
    let reason = fields.text("reason").unwrap_or_default();
    Failure::new(Exit::LOST, format!("{key} is not held by {owner}: {reason}"))
}
