//! The latch as a data type of the server.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

use super::api::{Ctx, Digest, Io, Str};
use super::replicate;
use super::type_methods;
use super::value::{TypeHandle, Value};
use crate::error::LockError;
use crate::primitive::codec::Source;
use crate::primitive::latch::{codec, Latch};
use crate::primitive::Clock;

static KIND: TypeHandle = TypeHandle::new(c"locklatch");

/// How many latches there are in the keyspace.
pub(super) fn count() -> usize {
    KIND.count()
}

/// Tells the server about the type.
pub(super) fn register(ctx: Ctx) -> bool {
    type_methods::register::<Latch>(ctx, |_| {})
}

impl Value for Latch {
    fn kind() -> &'static TypeHandle {
        &KIND
    }

    fn wrong_type() -> LockError {
        LockError::WrongTypeForLatch
    }

    fn encode(&self, _clock: Clock) -> Vec<u8> {
        codec::encode(self)
    }

    fn decode(bytes: &[u8], _source: Source, _clock: Clock) -> Option<(Self, usize)> {
        codec::decode(bytes).map(|latch| (latch, 0))
    }

    fn rewrite(&self, io: Io, key: Str) {
        replicate::rewrite_latch(io, key, self);
    }

    fn bytes_beyond(&self) -> usize {
        // A tree keeps its places two thirds full, or so.
        let places = self.ids().len() * size_of::<Box<[u8]>>() * 3 / 2;
        places + self.ids().map(<[u8]>::len).sum::<usize>()
    }

    fn digest(&self, digest: Digest) {
        digest.number(i64::from(self.size()));
        digest.number(i64::from(self.left()));
        self.ids().for_each(|id| digest.text(id));
    }

    fn effort(&self) -> usize {
        1 + self.ids().len()
    }
}
