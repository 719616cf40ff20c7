//! An owner, who holds or waits: a name chosen by the client, as bytes.

use super::short::Short;
use crate::limits::OWNER_BYTES_MAX;

/// The name of an owner, 1 to [`OWNER_BYTES_MAX`] bytes. It is a name and not a secret: who may act under which
/// name is a matter of the server's ACL. A name of ordinary length takes
/// no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner(Name);

/// A UUID is in place.
type Name = Short<38>;

impl Owner {
    /// The owner called `name`, unless the name is empty or too long.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        Self::is_valid(name).then(|| Self(Name::new(name)))
    }

    /// Whether `name` may be an owner's name.
    pub(crate) fn is_valid(name: &[u8]) -> bool {
        (1..=OWNER_BYTES_MAX).contains(&name.len())
    }

    /// The memory that the name takes beside the owner itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        Name::heap_bytes(self.0.len())
    }

    /// The name.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Owner {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}
