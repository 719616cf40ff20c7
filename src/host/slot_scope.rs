//! Which keys may be opened now. In a cluster, Redis 8 and Valkey keep a table of keys for each slot, and while a command
//! runs they look for every key in the table of that command's slot, without asking which slot it is of: a lock of another
//! slot would seem to be free, and would be made anew where nobody finds it. Work of our own may open all.

use redis_module::raw;

use super::api::{has_flags, Ctx};

const SLOTS: u16 = 16_384;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotScope {
    All,
    Slot(u16),
}

impl SlotScope {
    /// The slots that a client's command with this key may open.
    pub(super) fn of_command(ctx: Ctx, key: &[u8]) -> Self {
        if has_flags(ctx, raw::REDISMODULE_CTX_FLAGS_CLUSTER) {
            Self::Slot(slot_of(key))
        } else {
            Self::All
        }
    }

    pub(super) fn has(self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Slot(slot) => slot_of(key) == slot,
        }
    }
}

/// The slot of a key, by the cluster specification: of what stands between the first brace and the next closing one, if
/// there is anything; of the whole key otherwise.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = key.get(open..)?.get(1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, begins with 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn a_tag_decides_if_it_has_anything_in_it() {
        // As a server answers to CLUSTER KEYSLOT.
        assert_eq!((slot_of(b"foo"), slot_of(b"bar"), slot_of(b"")), (12_182, 5_061, 0));
        assert_eq!(slot_of(b"{foo}:bar"), slot_of(b"foo"));
        assert_eq!(slot_of(b"x{foo}{bar}"), slot_of(b"foo"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        for whole in [&b"foo{}{bar}"[..], b"foo{bar", b"foo}bar{"] {
            assert_eq!(slot_of(whole), crc16(whole) % SLOTS);
        }
    }
}
