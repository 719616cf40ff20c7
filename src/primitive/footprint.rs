//! The server's memory that things outside the keyspace take, in bytes, as the server counts it: by what its allocator
//! gives, which is more than was asked for. A thing that shares room with others, as in a table that has places to
//! spare, counts with the most that its part can be. A test compares the sums with what servers say of themselves.

#![expect(clippy::arithmetic_side_effects, reason = "sizes of what is in memory")]

/// The memory that a server spends on a client that a module keeps waiting: two spare clients with their buffers.
pub(crate) const CLIENT: usize = 36_000;

/// The size that the allocator gives for so many bytes: a multiple of 16 up to 128, and one of four sizes in each
/// doubling beyond.
pub(crate) const fn allocated(bytes: usize) -> usize {
    let step = bytes.next_power_of_two() / 8;
    let rest = if step > 16 { step - 1 } else { 15 };
    (bytes + rest) & !rest
}

/// A name that several share: its bytes behind two counters.
pub(crate) const fn shared_name(len: usize) -> usize {
    allocated(2 * size_of::<usize>() + len)
}

/// A place in a table of which no more is known: it has up to sixteen for each seven that are taken, with a byte of its own
/// for each.
pub(crate) const fn in_table<T>() -> usize {
    ((size_of::<T>() + 1) * 16).div_ceil(7)
}

/// A place in a tree, whose nodes have room for eleven and at least six in all but a few.
pub(crate) const fn in_tree<T>() -> usize {
    first_node::<T>().div_ceil(6) + allocated(11 * size_of::<T>() + 12 + 12 * size_of::<usize>()).div_ceil(36)
}

/// The first node of a tree.
pub(crate) const fn first_node<T>() -> usize {
    allocated(11 * size_of::<T>() + 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_rounds_up() {
        let sizes = [0, 1, 16, 17, 128, 129, 160, 161, 1024, 1025, 1040, 1280, 1281, 4096, 4097];
        let given = [0, 16, 16, 32, 128, 160, 160, 192, 1024, 1280, 1280, 1280, 1536, 4096, 5120];
        assert_eq!(sizes.map(allocated), given);
    }
}
