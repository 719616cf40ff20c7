//! `renew`: a new lease for what `acquire` has taken.

use std::time::Duration;

use clap::Args;
use redis::cmd;

use crate::connect::Server;
use crate::exit::{Exit, Failure, Outcome};
use crate::name::Name;
use crate::print::line;
use crate::reply::Fields;
use crate::time::{ms, some_span};
use crate::verbs::release::not_held;
use crate::wait::Mode;

/// It prints how long the lock lasts now, in milliseconds.
#[derive(Args, Debug)]
pub(crate) struct Renew {
    /// The lock
    key: Name,
    /// Who holds it
    owner: Name,
    /// Only the hold with this fence
    #[arg(long)]
    fence: Option<i64>,
    /// The new lease, counted from now (default: as long as the last one)
    #[arg(long, value_name = "TIME", value_parser = some_span)]
    lease: Option<Duration>,
    #[command(flatten)]
    mode: Mode,
}

impl Renew {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let mut request = cmd("LOCK.RENEW");
        request.arg(&self.key).arg(&self.owner);
        if let Some(lease) = self.lease {
            request.arg("PX").arg(ms(lease));
        }
        if let Some(fence) = self.fence {
            request.arg("FENCE").arg(fence);
        }
        request.arg(self.mode.words());
        let mut link = server.link().await?;
        let reply = link.ask_again(request.arg("WITHINFO")).await;
        let fields = Fields::of(reply.map_err(|error| {
            Failure::from(error).naming(&[("PX", "--lease"), ("LIMIT", "--limit"), ("PERMITS", "--permits")])
        })?)?;
        match fields.number("result") {
            Some(left) if left != 0 => {
                line(&left.to_string())?;
                Ok(Exit::OK)
            }
            _ => Err(not_held(&self.key, &self.owner, &fields)),
        }
    }
}
