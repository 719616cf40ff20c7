//! The names of a lock, its keys, its owner and its mode, and the requests that say them.

use std::time::Duration;

use redis::{cmd, Cmd};

#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) owner: Vec<u8>,
    /// SHARED, LIMIT and such; none for an exclusive hold.
    pub(crate) mode: Vec<String>,
    /// For how long it outlives the connection that it is tied to.
    pub(crate) tied: Option<Duration>,
}

impl Names {
    /// The key that says which server of a cluster has them all.
    pub(crate) fn key(&self) -> &[u8] {
        self.keys.first().map_or(&[], Vec::as_slice)
    }

    /// One command for one key, another for several.
    fn request(&self, one: &str, many: &str) -> Cmd {
        let mut request = Cmd::with_capacity(12, 256);
        if let [key] = self.keys.as_slice() {
            request.arg(one).arg(key).arg(&self.owner);
        } else {
            request.arg(many).arg(&self.owner).arg(self.keys.len()).arg(&self.keys);
        }
        request
    }

    pub(crate) fn acquire(&self, lease: Duration) -> Cmd {
        let mut request = self.request("LOCK.ACQUIRE", "LOCK.MACQUIRE");
        request.arg("PX").arg(ms(lease)).arg(&self.mode);
        self.tie(&mut request);
        request
    }

    pub(crate) fn release(&self, fence: i64) -> Cmd {
        let mut request = self.request("LOCK.RELEASE", "LOCK.MRELEASE");
        request.arg("FENCE").arg(fence);
        request
    }

    pub(crate) fn release_one(&self, key: &[u8], fence: i64) -> Cmd {
        self.about("LOCK.RELEASE", key, fence)
    }

    /// Ends the wait, and gives back what it may have brought.
    pub(crate) fn cancel(&self) -> Cmd {
        let mut request = self.request("LOCK.RELEASE", "LOCK.MRELEASE");
        request.arg("CANCEL");
        request
    }

    /// All that a server needs to bring back a hold that a failover has lost. LOCK.MRENEW cannot say TIED.
    pub(crate) fn renewals(&self, lease: Duration, fence: i64) -> Vec<Cmd> {
        if self.keys.len() == 1 || self.tied.is_some() {
            return self.keys.iter().map(|key| self.renew_one(key, lease, fence)).collect();
        }
        let mut request = cmd("LOCK.MRENEW");
        request.arg(&self.owner).arg(ms(lease)).arg(self.keys.len()).arg(&self.keys);
        request.arg("FENCE").arg(fence).arg(&self.mode);
        vec![request]
    }

    pub(crate) fn renew_one(&self, key: &[u8], lease: Duration, fence: i64) -> Cmd {
        let mut request = self.about("LOCK.RENEW", key, fence);
        request.arg("PX").arg(ms(lease)).arg(&self.mode);
        self.tie(&mut request);
        request
    }

    /// How long a hold lasts.
    pub(crate) fn check(&self, key: &[u8], fence: i64) -> Cmd {
        self.about("LOCK.CHECK", key, fence)
    }

    fn about(&self, verb: &str, key: &[u8], fence: i64) -> Cmd {
        let mut request = cmd(verb);
        request.arg(key).arg(&self.owner).arg("FENCE").arg(fence);
        request
    }

    fn tie(&self, request: &mut Cmd) {
        if let Some(grace) = self.tied {
            request.arg("TIED").arg(ms(grace));
        }
    }
}

/// So that the server says why, too.
pub(crate) fn with_info(mut request: Cmd) -> Cmd {
    request.arg("WITHINFO");
    request
}

/// One that is too long for the server is refused by it.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
