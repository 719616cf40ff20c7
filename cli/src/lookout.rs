//! A look at the locks of a hold for as long as it lasts: it says at once when one of them may be lost.

use std::time::Duration;

use fencelock::is_passing;
use redis::{cmd, Cmd, RedisError, Value};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::connect::{Server, REPLY};
use crate::keep::Grant;
use crate::time::ms;

/// How long one request waits in the server: shorter than what any proxy gives an idle connection.
const SLICE: Duration = Duration::from_secs(10);
/// The shortest time between two looks: where others come and go in the same lock, and where the server is away.
const PAUSE: Duration = Duration::from_secs(1);

/// It ends with the value.
pub(crate) struct Lookout {
    alarms: mpsc::Receiver<()>,
    _tasks: JoinSet<()>,
}

impl Lookout {
    /// Each lock has a connection of its own, as the request for it waits there.
    pub(crate) fn over(grant: &Grant, server: &Server) -> Self {
        let (alarm, alarms) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for key in &grant.keys {
            let (server, alarm) = (server.clone(), alarm.clone());
            let mut any = cmd("LOCK.AWAIT");
            any.arg(key).arg("CHANGED").arg("BLOCK").arg(ms(SLICE));
            let mut from_ours = any.clone();
            from_ours.arg("FENCE").arg(grant.fence);
            tasks.spawn(async move {
                while let Err(error) = look(&server, &from_ours, &any, &alarm).await {
                    // Whoever may not watch, or cannot on an older module, has the renewals.
                    match error.code() {
                        Some("WRONGTYPE") => drop(alarm.try_send(())),
                        Some("QUEUEFULL") => {}
                        _ if is_passing(&error) => {}
                        _ => return,
                    }
                    sleep(PAUSE).await;
                }
            });
        }
        Self { alarms, _tasks: tasks }
    }

    /// Waits until the hold may be lost.
    pub(crate) async fn alarm(&mut self) {
        if self.alarms.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Looks at one lock until something fails.
async fn look(
    server: &Server,
    from_ours: &Cmd,
    any: &Cmd,
    alarm: &mpsc::Sender<()>,
) -> Result<(), RedisError> {
    let mut link = server.primary().await?;
    let mut changed = from_ours;
    loop {
        if link.ask(changed, SLICE + REPLY).await? == Value::Nil {
            continue;
        }
        // A second look finds what has changed during the pause.
        for pause in [Duration::ZERO, PAUSE] {
            sleep(pause).await;
            // One that nobody has heard yet is enough.
            let _ = alarm.try_send(());
        }
        // We are still here, so ours is one of several holds and not the newest: any change may be its end.
        changed = any;
    }
}
