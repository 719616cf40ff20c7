//! Who watches is told of a loss at once: a connection of its own asks about the locks, and the server tells it of each change of
//! them (CLIENT TRACKING). What is not heard so, since this user may not or the connection is silent, the next renewal tells.

use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, PushInfo, PushKind, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::time::sleep;

use crate::info::reason;
use crate::keeper::Hold;
use crate::line::{is_passing, jitter, lock, within, Line};
use crate::names::{with_info, Names};
use crate::servers::Connection;

/// Between two looks whether something is watched, and whether the server is still the right one.
const LINGER: Duration = Duration::from_secs(1);

/// Who listens. If its runtime ends, another may.
struct Listener(Option<Arc<Line>>);

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            line.listens.store(false, SeqCst);
        }
    }
}

impl Line {
    /// Sees to it that somebody listens while something is watched.
    pub(crate) fn listen(self: &Arc<Self>, runtime: &Handle) {
        self.look.notify_one();
        if self.servers.can_tell() && !self.listens.swap(true, SeqCst) {
            let listener = Listener(Some(Arc::clone(self)));
            runtime.spawn(Arc::clone(self).listener(listener));
        }
    }

    async fn listener(self: Arc<Self>, mut listener: Listener) {
        loop {
            while !self.watched().is_empty() {
                if let Err(error) = self.hear().await {
                    if !is_passing(&error) {
                        // Nobody else would be allowed to.
                        listener.0 = None;
                        return;
                    }
                    sleep(jitter(20, 200)).await;
                }
            }
            drop(listener);
            // Whoever came meanwhile has found a listener.
            if self.watched().is_empty() || self.listens.swap(true, SeqCst) {
                return;
            }
            listener = Listener(Some(Arc::clone(&self)));
        }
    }

    fn watched(&self) -> Vec<Arc<Hold>> {
        lock(&self.kept).holds.values().filter(|hold| hold.watches).cloned().collect()
    }

    /// Until nothing is watched, or the connection breaks.
    async fn hear(&self) -> RedisResult<()> {
        let (tell, mut told) = unbounded_channel();
        let mut connection = within(self.reply, self.servers.listen(self.reply, tell)).await?;
        let tracking = redis::cmd("CLIENT").arg("TRACKING").arg("ON").to_owned();
        within(self.reply, connection.send(&tracking, b"")).await?;
        self.changed(None);
        let mut is_idle = false;
        loop {
            let holds = self.watched();
            if holds.is_empty() && (is_idle || self.is_closed()) {
                return Ok(());
            }
            self.look_at(&mut connection, &holds).await?;
            is_idle = self.next(&connection, &mut told).await?;
        }
    }

    /// Asks about those that may have ended, all in one go.
    async fn look_at(&self, connection: &mut Connection, holds: &[Arc<Hold>]) -> RedisResult<()> {
        let mut requests: Vec<(Cmd, &Names)> = Vec::new();
        let mut asked = Vec::new();
        for hold in holds.iter().filter(|hold| hold.look.swap(false, SeqCst)) {
            for key in &hold.names.keys {
                requests.push((with_info(hold.names.check(key, hold.fence)), &hold.names));
                asked.push(hold);
            }
        }
        if !requests.is_empty() {
            let replies = within(self.reply, connection.send_all(&requests)).await?;
            for (hold, reply) in asked.into_iter().zip(replies) {
                self.seen(hold, reason(reply).ok().flatten().as_deref());
            }
        }
        Ok(())
    }

    /// Waits until there may be something to ask about; whether nothing has come for a while.
    async fn next(
        &self,
        connection: &Connection,
        told: &mut UnboundedReceiver<PushInfo>,
    ) -> RedisResult<bool> {
        tokio::select! {
            push = told.recv() => match push {
                Some(PushInfo { kind: PushKind::Invalidate, data }) => self.changed(data.into_iter().next()),
                Some(PushInfo { kind: PushKind::Disconnection, .. }) | None => {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                }
                Some(_) => {}
            },
            () = self.look.notified() => {}
            () = sleep(LINGER) => {
                self.servers.check(connection).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Of these keys, or of all if it is not said which.
    fn changed(&self, keys: Option<Value>) {
        let keys = keys.filter(|keys| *keys != Value::Nil);
        let keys: Option<HashSet<Vec<u8>>> =
            keys.and_then(|keys| FromRedisValue::from_redis_value(keys).ok());
        for hold in self.watched() {
            if keys.as_ref().is_none_or(|keys| hold.names.keys.iter().any(|key| keys.contains(key))) {
                hold.look.store(true, SeqCst);
            }
        }
    }
}
