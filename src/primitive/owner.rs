//! Who holds or waits: a name chosen by the client, as bytes.

use smallvec::SmallVec;

use super::footprint::allocated;
use crate::limits::OWNER_BYTES_MAX;

/// The name of an owner, 1 to [`OWNER_BYTES_MAX`] bytes. It is a name and not a secret: who may act under which
/// name is a matter of the server's ACL. A name as long as the server makes them takes no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner(SmallVec<[u8; 32]>);

impl Owner {
    /// The owner called `name`, unless the name is empty or too long.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        Self::is_valid(name).then(|| Self(SmallVec::from_slice(name)))
    }

    /// Whether `name` may be an owner's name.
    pub(crate) fn is_valid(name: &[u8]) -> bool {
        (1..=OWNER_BYTES_MAX).contains(&name.len())
    }

    /// What the name takes beside the owner itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        if self.0.spilled() {
            allocated(self.0.capacity())
        } else {
            0
        }
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
