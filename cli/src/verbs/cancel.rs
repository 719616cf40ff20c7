//! `cancel`: ends an owner's wait.

use clap::Args;
use redis::{cmd, RedisError, Value};

use crate::confirm::confirmed;
use crate::connect::{Link, Server, REPLY};
use crate::exit::{Exit, Outcome};
use crate::locks;
use crate::name::Name;
use crate::print::{line, shown};
use crate::verbs::break_::describe;

/// The owner is told `cancelled`; a hold is left alone.
#[derive(Args, Debug)]
pub(crate) struct Cancel {
    /// The lock
    key: Name,
    /// Who waits
    owner: Name,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Cancel {
    pub(crate) async fn run(self, server: &Server) -> Outcome<Exit> {
        let (key, owner) = (&*self.key, &*self.owner);
        let mut link = server.link().await?;
        if !self.yes {
            let line_ = locks::line(&mut link, key, usize::MAX).await?;
            let Some(waiter) = line_.into_iter().find(|waiter| waiter.owner == owner) else {
                return none(key, owner);
            };
            line(&format!("waits for {}: {}", shown(key), describe(owner, waiter.waited_ms, &waiter.note)))?;
            if !confirmed(&format!("End the wait of {}?", shown(owner)), false)? {
                line("nothing was done")?;
                return Ok(Exit::FAULT);
            }
        }
        if !end_wait(&mut link, key, owner).await? {
            return none(key, owner);
        }
        line(&format!("{}: the wait of {} has ended", shown(key), shown(owner)))?;
        Ok(Exit::OK)
    }
}

fn none(key: &[u8], owner: &[u8]) -> Outcome<Exit> {
    line(&format!("{}: {} does not wait for it", shown(key), shown(owner)))?;
    Ok(Exit::FAULT)
}

/// Returns whether there was a wait to end.
pub(crate) async fn end_wait(link: &mut Link, key: &[u8], owner: &[u8]) -> Result<bool, RedisError> {
    Ok(link.ask(cmd("LOCK.CANCEL").arg(key).arg(owner), REPLY).await? == Value::Int(1))
}
