//! The names of a lock, its keys, its owner and its mode, and the requests that say them.

use redis::Cmd;

#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) keys: Vec<String>,
    pub(crate) owner: String,
    /// SHARED, LIMIT and such; none for an exclusive hold.
    pub(crate) mode: Vec<String>,
}

impl Names {
    /// The key that says which server of a cluster has them all.
    pub(crate) fn key(&self) -> &str {
        self.keys.first().map_or("", String::as_str)
    }

    /// One command for one key, another for several.
    fn request(&self, one: &str, many: &str) -> Cmd {
        let mut request = Cmd::new();
        if let [key] = self.keys.as_slice() {
            request.arg(one).arg(key).arg(&self.owner);
        } else {
            request.arg(many).arg(&self.owner).arg(self.keys.len()).arg(&self.keys);
        }
        request
    }

    pub(crate) fn acquire(&self, lease_ms: u64) -> Cmd {
        let mut request = self.request("LOCK.ACQUIRE", "LOCK.MACQUIRE");
        request.arg("PX").arg(lease_ms).arg(&self.mode);
        request
    }

    pub(crate) fn release(&self, fence: i64) -> Cmd {
        let mut request = self.request("LOCK.RELEASE", "LOCK.MRELEASE");
        request.arg("FENCE").arg(fence);
        request
    }

    pub(crate) fn release_one(&self, key: &str, fence: i64) -> Cmd {
        let mut request = redis::cmd("LOCK.RELEASE");
        request.arg(key).arg(&self.owner).arg("FENCE").arg(fence);
        request
    }

    /// Ends the wait, and gives back what it may have brought.
    pub(crate) fn cancel(&self) -> Cmd {
        let mut request = self.request("LOCK.RELEASE", "LOCK.MRELEASE");
        request.arg("CANCEL");
        request
    }

    /// Says all that a server needs to bring back a hold that a failover has lost.
    pub(crate) fn renewal(&self, lease_ms: u64, fence: i64) -> Cmd {
        let mut request = Cmd::new();
        if let [key] = self.keys.as_slice() {
            request.arg("LOCK.RENEW").arg(key).arg(&self.owner).arg("PX").arg(lease_ms);
        } else {
            request.arg("LOCK.MRENEW").arg(&self.owner).arg(lease_ms).arg(self.keys.len()).arg(&self.keys);
        }
        request.arg("FENCE").arg(fence).arg(&self.mode);
        request
    }

    /// The same, and why if there is none.
    pub(crate) fn look(&self, key: &str, fence: i64) -> Cmd {
        let mut request = self.check(key, fence);
        request.arg("WITHINFO");
        request
    }

    /// How long a hold lasts.
    pub(crate) fn check(&self, key: &str, fence: i64) -> Cmd {
        let mut request = redis::cmd("LOCK.CHECK");
        request.arg(key).arg(&self.owner).arg("FENCE").arg(fence);
        request
    }
}
