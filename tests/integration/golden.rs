//! Payloads of DUMP, put together field by field, so that a test can forge any of them. Holds no test.

use std::time::Duration;

use crate::steps::{acquire, unix_us};
use crate::support::{Server, Value};

/// All permits there are: an exclusive lock's limit.
pub(crate) const EVERYTHING: u32 = u32::MAX;
pub(crate) const NEVER: u64 = u64::MAX;
/// Marks of the server's own format around the module's bytes: a string comes, nothing more comes.
const STRING: u8 = 5;
const END: u8 = 0;

/// The format that the module writes. It still reads those before.
pub(crate) const FORMAT: u8 = 4;

/// One hold as a payload states it.
#[derive(Clone, Debug)]
pub(crate) struct GoldenHold {
    pub(crate) fence: u64,
    pub(crate) permits: u32,
    pub(crate) lease_ms: u64,
    /// Formats before 4 have ms, here and below.
    pub(crate) left_us: u64,
    pub(crate) owner: Vec<u8>,
    pub(crate) note: Vec<u8>,
    /// Locks granted together with it; from format 2 on, as the next.
    pub(crate) keys: u32,
    /// Ids of re-entry.
    pub(crate) ids: Vec<Vec<u8>>,
    /// What bounds it: which, and their fields; from format 3 on.
    pub(crate) bounds: Vec<u8>,
}

/// A payload taken apart: the server's frame around it, and the fields of the module's own bytes.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    /// Value type and module type, as this server writes them.
    pub(crate) head: Vec<u8>,
    /// RDB version, as this server writes it.
    version: [u8; 2],
    pub(crate) format: u8,
    pub(crate) saved_us: u64,
    pub(crate) limit: u32,
    /// How many holds are said to follow, when that is not the truth.
    pub(crate) count: Option<u32>,
    pub(crate) holds: Vec<GoldenHold>,
    /// What cools, from format 3 on: how much, and the fields.
    pub(crate) cooling: Vec<u8>,
}

impl Golden {
    /// A payload that this server accepts. Checksums do not count from here on, and nothing is compressed.
    pub(crate) fn of(server: &Server) -> Golden {
        assert_eq!(server.cmd(&["DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1"]), "OK");
        assert_eq!(server.cmd(&["CONFIG", "SET", "rdbcompression", "no"]), "OK");
        let fence = acquire(server, "golden owner PX 600000 NOTE note") as u64;
        let dump = dump(server, "golden");
        assert_eq!(server.cmd(&["DEL", "golden"]), 1);
        let hold = GoldenHold {
            fence,
            permits: EVERYTHING,
            lease_ms: 600_000,
            left_us: 600_000_000,
            owner: b"owner".to_vec(),
            note: b"note".to_vec(),
            keys: 1,
            ids: Vec::new(),
            bounds: vec![0],
        };
        let footer = dump.len() - 10;
        let mut golden = Golden {
            head: dump[..10].to_vec(),
            version: [dump[footer], dump[footer + 1]],
            format: FORMAT,
            saved_us: unix_us() as u64,
            limit: EVERYTHING,
            count: None,
            holds: vec![hold],
            cooling: vec![0; 4],
        };
        // What was put together by the book is what the server writes, but for the two times.
        let (times, left) = (14..22, 50..58);
        golden.saved_us = u64::from_le_bytes(dump[times].try_into().unwrap());
        golden.holds[0].left_us = u64::from_le_bytes(dump[left].try_into().unwrap());
        assert_eq!(golden.body(), dump[..footer].to_vec());
        golden
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Golden)) -> Golden {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    /// The same hold with another field.
    pub(crate) fn with_hold(&self, change: impl FnOnce(&mut GoldenHold)) -> Golden {
        self.with(|golden| change(&mut golden.holds[0]))
    }

    /// A fence that lies ahead of the clock.
    pub(crate) fn with_fence_ahead(&self, ahead: Duration) -> Golden {
        self.with_hold(|hold| hold.fence = unix_us() as u64 + ahead.as_micros() as u64)
    }

    /// The module's own bytes.
    pub(crate) fn inner(&self) -> Vec<u8> {
        let time = |us: u64| if self.format > 3 || us == NEVER { us } else { us / 1000 };
        let mut out = vec![self.format];
        out.extend(time(self.saved_us).to_le_bytes());
        out.extend(self.limit.to_le_bytes());
        out.extend(self.count.unwrap_or(self.holds.len() as u32).to_le_bytes());
        for hold in &self.holds {
            out.extend(hold.fence.to_le_bytes());
            out.extend(hold.permits.to_le_bytes());
            out.extend(hold.lease_ms.to_le_bytes());
            out.extend(time(hold.left_us).to_le_bytes());
            put_text(&mut out, &hold.owner);
            put_text(&mut out, &hold.note);
            if self.format > 1 {
                out.extend(hold.keys.to_le_bytes());
                out.extend((hold.ids.len() as u16).to_le_bytes());
                hold.ids.iter().for_each(|id| put_text(&mut out, id));
            }
            if self.format > 2 {
                out.extend(&hold.bounds);
            }
        }
        if self.format > 2 {
            out.extend(&self.cooling);
        }
        out
    }

    /// The server's frame around these bytes, without version and checksum.
    pub(crate) fn frame(&self, inner: &[u8]) -> Vec<u8> {
        let length = match inner.len() {
            short @ 0..64 => vec![short as u8],
            medium @ 64..16_384 => vec![0x40 | (medium >> 8) as u8, medium as u8],
            long => [&[0x80][..], &(long as u32).to_be_bytes()].concat(),
        };
        [&self.head[..], &[STRING], &length, inner, &[END]].concat()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.frame(&self.inner())
    }

    /// A body with version and a checksum that nobody looks at.
    pub(crate) fn seal(&self, body: &[u8]) -> Vec<u8> {
        [body, &self.version, &[0xff; 8]].concat()
    }

    /// What the server says to a RESTORE of it.
    pub(crate) fn restore(&self, server: &Server, key: &str) -> Value {
        restore(server, key, &self.seal(&self.body()))
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text);
}

pub(crate) fn dump(server: &Server, key: &str) -> Vec<u8> {
    match server.cmd(&["DUMP", key]) {
        Value::Bulk(bytes) => bytes,
        other => panic!("DUMP {key}: {other:?}"),
    }
}

pub(crate) fn restore(server: &Server, key: &str, payload: &[u8]) -> Value {
    server.cmd(&[&b"RESTORE"[..], key.as_bytes(), b"0", payload])
}
