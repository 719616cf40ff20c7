//! What a server tells of its locks: their names, who holds them, who waits.

use redis::{cmd, pipe, RedisError, Value};
use serde_json::json;

use crate::connect::{Link, REPLY};
use crate::reply::{name, Fields};

/// How many names a LOCK.SCAN asks for, and how many LOCK.INFO are on their way at once.
const PAGE: usize = 500;
/// How many who wait a LOCK.WAITERS asks for.
const ROWS: usize = 1_000;

/// Which locks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub pattern: Option<Vec<u8>>,
    pub owner: Option<Vec<u8>>,
    pub contended: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub owner: Vec<u8>,
    pub note: Vec<u8>,
    pub permits: i64,
    /// What is left of the lease, -1 without expiry.
    pub left_ms: i64,
    pub held_ms: i64,
    fields: Fields,
}

impl Hold {
    pub(crate) fn fence(&self) -> i64 {
        self.fields.number("fence").unwrap_or(0)
    }

    /// Where the connection comes from that it is tied to; empty without one.
    pub(crate) fn address(&self) -> Vec<u8> {
        self.fields.bytes("client-addr")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        self.fields.json()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Lock {
    pub key: Vec<u8>,
    pub mode: String,
    pub limit: i64,
    pub holds: Vec<Hold>,
    pub waiting: i64,
    pub cooling: Vec<Fields>,
}

impl Lock {
    fn of(key: &[u8], reply: Value) -> Result<Self, RedisError> {
        let fields = Fields::of(reply).map_err(|failure| std::io::Error::other(failure.text))?;
        let hold = |fields: Fields| Hold {
            owner: fields.bytes("owner"),
            note: fields.bytes("note"),
            permits: fields.number("permits").unwrap_or(1),
            left_ms: fields.number("left-ms").unwrap_or(-1),
            held_ms: fields.number("held-ms").unwrap_or(0),
            fields,
        };
        Ok(Self {
            key: key.to_vec(),
            mode: fields.text("mode").unwrap_or_default(),
            limit: fields.number("limit").unwrap_or(0),
            holds: fields.maps("holds").into_iter().map(hold).collect(),
            waiting: fields.number("waiting").unwrap_or(0),
            cooling: fields.maps("cooling"),
        })
    }

    /// What is left of the first hold, or of the cooldown where there is none.
    pub(crate) fn time_left(&self) -> String {
        match (self.holds.first(), self.cooling_ms()) {
            (Some(hold), _) => left(hold.left_ms),
            (None, Some(ms)) => left(ms),
            (None, None) => String::new(),
        }
    }

    /// When the last permit is out of cooldown.
    fn cooling_ms(&self) -> Option<i64> {
        self.cooling.iter().filter_map(|cooling| cooling.number("left-ms")).max()
    }

    /// "5 s after alice (min-hold)", for each hold that is over and whose permits are in cooldown.
    pub(crate) fn cooldown(&self) -> impl Iterator<Item = String> {
        self.cooling.iter().map(|cooling| {
            let reason = cooling.text("reason").unwrap_or_default();
            let left = left(cooling.number("left-ms").unwrap_or(0));
            format!("{left} after {} ({reason})", crate::print::shown(&cooling.bytes("owner")))
        })
    }

    /// Nobody has it, and nobody wants it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.holds.is_empty() && self.waiting == 0 && self.cooling.is_empty()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "key": name(&self.key),
            "mode": self.mode,
            "limit": self.limit,
            "holds": self.holds.iter().map(Hold::json).collect::<Vec<_>>(),
            "waiting": self.waiting,
            "cooling": self.cooling.iter().map(Fields::json).collect::<Vec<_>>(),
        })
    }
}

/// Somebody in line.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub owner: Vec<u8>,
    pub note: Vec<u8>,
    pub mode: String,
    pub kind: String,
    /// How many locks it waits for together.
    pub keys: i64,
    pub waited_ms: i64,
    /// What is left of the wait, -1 for ever.
    pub left_ms: i64,
    pub blocked_by: Vec<Vec<u8>>,
    pub behind: Vec<Vec<u8>>,
    fields: Fields,
}

impl Waiter {
    pub(crate) fn json(&self) -> serde_json::Value {
        self.fields.json()
    }
}

/// The names of the locks of one server.
pub(crate) async fn names(link: &mut Link, filter: &Filter) -> Result<Vec<Vec<u8>>, RedisError> {
    let mut cursor = b"0".to_vec();
    let mut names = Vec::new();
    loop {
        let mut scan = cmd("LOCK.SCAN");
        scan.arg(&cursor).arg("COUNT").arg(PAGE);
        if let Some(pattern) = &filter.pattern {
            scan.arg("MATCH").arg(pattern);
        }
        if let Some(owner) = &filter.owner {
            scan.arg("OWNER").arg(owner);
        }
        if filter.contended {
            scan.arg("CONTENDED");
        }
        let reply = link.once(&scan, REPLY).await?;
        let (next, page): (Vec<u8>, Vec<Vec<u8>>) = redis::from_redis_value(reply)?;
        names.extend(page);
        if next == b"0" {
            return Ok(names);
        }
        cursor = next;
    }
}

/// The locks with these names on one server. What is no lock any more, or on another node by now, is left out.
pub(crate) async fn read(link: &mut Link, keys: &[Vec<u8>]) -> Result<Vec<Lock>, RedisError> {
    let mut locks = Vec::with_capacity(keys.len());
    for page in keys.chunks(PAGE) {
        let mut requests = pipe();
        for key in page {
            requests.cmd("LOCK.INFO").arg(key);
        }
        for (key, reply) in page.iter().zip(link.many(&requests, REPLY).await?) {
            match reply {
                Value::ServerError(error) if matches!(error.code(), "WRONGTYPE" | "MOVED" | "ASK") => {}
                Value::ServerError(error) => return Err(error.into()),
                reply => locks.push(Lock::of(key, reply)?),
            }
        }
    }
    Ok(locks)
}

/// One lock, wherever it is.
pub(crate) async fn one(link: &mut Link, key: &[u8]) -> Result<Lock, RedisError> {
    Lock::of(key, link.ask(cmd("LOCK.INFO").arg(key), REPLY).await?)
}

/// Who waits for a lock, the next one first, and no more than so many.
pub(crate) async fn line(link: &mut Link, key: &[u8], most: usize) -> Result<Vec<Waiter>, RedisError> {
    let mut line: Vec<Waiter> = Vec::new();
    while line.len() < most {
        let mut request = cmd("LOCK.WAITERS");
        request.arg(key).arg("COUNT").arg(ROWS.min(most - line.len()));
        if let Some(last) = line.last() {
            request.arg("AFTER").arg(&last.owner);
        }
        let Value::Array(rows) = link.ask(&request, REPLY).await? else { break };
        if rows.is_empty() {
            break;
        }
        for fields in rows.into_iter().filter_map(|row| Fields::of(row).ok()) {
            let waiter = Waiter {
                owner: fields.bytes("owner"),
                note: fields.bytes("note"),
                mode: fields.text("mode").unwrap_or_default(),
                kind: fields.text("kind").unwrap_or_default(),
                keys: fields.number("keys").unwrap_or(1),
                waited_ms: fields.number("waited-ms").unwrap_or(0),
                left_ms: fields.number("left-ms").unwrap_or(-1),
                blocked_by: fields.list("blocked-by"),
                behind: fields.list("behind"),
                fields,
            };
            // When the last one has left meanwhile, the line is told from the front again.
            if line.iter().any(|known| known.owner == waiter.owner) {
                return Ok(line);
            }
            line.push(waiter);
        }
    }
    Ok(line)
}

/// A lock with one holder, for tests.
#[cfg(test)]
pub(crate) fn of_texts(key: &[u8], owner: &str, waiting: i64) -> Lock {
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let hold = Value::Array(vec![text("owner"), text(owner), text("left-ms"), Value::Int(30_000)]);
    let fields = [text("mode"), text("exclusive"), text("holds"), Value::Array(vec![hold])];
    let reply = [&fields[..], &[text("waiting"), Value::Int(waiting)]].concat();
    Lock::of(key, Value::Array(reply)).unwrap_or_else(|error| panic!("{error}"))
}

/// A word of the command line as bytes: names need not be UTF-8.
pub(crate) fn word(word: &std::ffi::OsStr) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(word).to_vec()
}

/// "2 s", or "for ever" for -1.
pub(crate) fn left(ms: i64) -> String {
    if ms < 0 {
        "for ever".to_owned()
    } else {
        crate::time::for_people(ms)
    }
}

/// "alice", or "alice +2" for three.
pub(crate) fn holders(lock: &Lock) -> String {
    let Some(first) = lock.holds.first() else { return String::new() };
    let first = crate::print::shown(&first.owner);
    match lock.holds.len() {
        1 => first,
        n => format!("{first} +{}", n - 1),
    }
}
