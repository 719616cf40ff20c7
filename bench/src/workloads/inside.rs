//! The clients inside a lock, as they themselves see it: from reading the grant to sending the release. The server's
//! hold is longer on both ends, so two that must not meet here have really held the lock together. Knows what the modes
//! of a lock promise, and nothing of commands, servers or time.

use anyhow::{ensure, Result};

/// The mode in which a client wants the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Reader,
    Writer,
    /// One permit of so many.
    Permit(usize),
}

#[derive(Default)]
pub(super) struct Inside {
    /// Readers, or permits.
    sharing: usize,
    writer: bool,
    /// The largest number that were ever inside together.
    pub most: usize,
    /// The newest fence of a writer, and of anybody.
    writer_fence: i64,
    newest_fence: i64,
}

impl Inside {
    pub(super) fn enter(&mut self, role: Role) -> Result<()> {
        let (sharing, writer) = (self.sharing, self.writer);
        ensure!(!writer, "a {role:?} came in while a writer was inside");
        match role {
            Role::Reader => {}
            Role::Writer => ensure!(sharing == 0, "a writer came in while {sharing} readers were inside"),
            Role::Permit(limit) => ensure!(sharing < limit, "{} hold {limit} permits", sharing + 1),
        }
        match role {
            Role::Writer => self.writer = true,
            _ => self.sharing += 1,
        }
        self.most = self.most.max(self.sharing + usize::from(self.writer));
        Ok(())
    }

    pub(super) fn leave(&mut self, role: Role) {
        match role {
            Role::Writer => self.writer = false,
            _ => self.sharing -= 1,
        }
    }

    /// Readers who are let in together read their replies in any order, so only their writers order them.
    pub(super) fn fence(&mut self, role: Role, fence: i64) -> Result<()> {
        let before = if role == Role::Writer { self.newest_fence } else { self.writer_fence };
        ensure!(fence > before, "fence {fence} of a {role:?} after {before}");
        if role == Role::Writer {
            self.writer_fence = fence;
        }
        self.newest_fence = self.newest_fence.max(fence);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets all of them in, and says whether that was right.
    fn together(roles: &[Role]) -> bool {
        let mut inside = Inside::default();
        roles.iter().all(|&role| inside.enter(role).is_ok())
    }

    #[test]
    fn a_writer_is_alone() {
        use Role::{Reader, Writer};
        assert!(together(&[Reader, Reader, Reader]) && together(&[Writer]));
        assert!(!together(&[Reader, Writer]) && !together(&[Writer, Reader]) && !together(&[Writer, Writer]));
    }

    #[test]
    fn permits_are_counted() {
        assert!(together(&[Role::Permit(2); 2]));
        assert!(!together(&[Role::Permit(2); 3]));
    }

    #[test]
    fn whoever_left_is_not_inside() {
        let mut inside = Inside::default();
        for role in [Role::Writer, Role::Reader, Role::Writer, Role::Permit(1), Role::Permit(1)] {
            inside.enter(role).unwrap();
            inside.leave(role);
        }
        assert_eq!(inside.most, 1);
    }

    #[test]
    fn writers_order_fences() {
        let mut inside = Inside::default();
        for (role, fence) in [(Role::Reader, 2), (Role::Reader, 1), (Role::Writer, 3), (Role::Reader, 4)] {
            inside.fence(role, fence).unwrap();
        }
        assert!(inside.fence(Role::Writer, 4).is_err() && inside.fence(Role::Reader, 3).is_err());
    }
}
