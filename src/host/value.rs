//! A value of this module in the keyspace. The methods of all types are in `type_methods`, and those that only one type
//! needs in `lock_type` and `latch_type`.

use std::ffi::{c_int, CStr};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::api::{DataType, Digest, Io, Str};
use crate::error::LockError;
use crate::primitive::codec::Source;
use crate::primitive::Clock;

/// Version of the outer encoding; the bytes inside carry their own. The second tells more of the past beside the values.
pub(super) const ENCODING: c_int = 2;
/// The first version, which is still read.
pub(super) const FIRST_ENCODING: c_int = 1;

/// The type as the server knows it, and how many values of it are alive.
pub(super) struct TypeHandle {
    pub(super) data_type: DataType,
    /// Counted here because values may be freed on another thread.
    alive: AtomicUsize,
    /// How many of these are being loaded beside the data that are served.
    aside: AtomicUsize,
}

impl TypeHandle {
    /// A type that the server does not know yet. The name has nine characters, as it asks; it stands in RDB files and in
    /// TYPE.
    pub(super) const fn new(name: &'static CStr) -> Self {
        Self { data_type: DataType::new(name), alive: AtomicUsize::new(0), aside: AtomicUsize::new(0) }
    }

    /// How many values of this type there are in the keyspace.
    pub(super) fn count(&self) -> usize {
        self.alive.load(Relaxed).saturating_sub(self.aside.load(Relaxed))
    }

    /// A value is gone.
    pub(super) fn note_freed(&self) {
        self.alive.fetch_sub(1, Relaxed);
    }

    /// A value is loaded aside.
    pub(super) fn note_aside(&self) {
        self.aside.fetch_add(1, Relaxed);
    }

    /// No value is being loaded aside any more.
    pub(super) fn end_aside(&self) {
        self.aside.store(0, Relaxed);
    }
}

/// A value that the keyspace can hold.
pub(super) trait Value: Sized + 'static {
    fn kind() -> &'static TypeHandle;

    /// The error for a key that holds something else.
    fn wrong_type() -> LockError;

    fn encode(&self, clock: Clock) -> Vec<u8>;

    /// The value that these bytes stand for, and how many of its parts had to be left out. Returns `None` if the bytes break
    /// any rule.
    fn decode(bytes: &[u8], source: Source, clock: Clock) -> Option<(Self, usize)>;

    /// The value has been loaded and is about to get its key.
    fn loaded(&mut self, _io: Io) {}

    /// Writes the effects that make this value into a new AOF.
    fn rewrite(&self, io: Io, key: Str);

    /// How many bytes it has allocated.
    fn bytes_beyond(&self) -> usize;

    /// How many bytes the indexes outside the keyspace take for it, under a name of this length.
    fn bytes_in_indexes(&self, _name_len: usize) -> usize {
        0
    }

    /// Tells what two servers with the same data agree on.
    fn digest(&self, digest: Digest);

    /// How many allocations there are to free. From some tens on the server may do it on another thread.
    fn effort(&self) -> usize {
        1
    }

    /// The value as one that the keyspace can own.
    fn into_keyspace(self) -> NonNull<Self> {
        Self::kind().alive.fetch_add(1, Relaxed);
        NonNull::from(Box::leak(Box::new(self)))
    }
}
