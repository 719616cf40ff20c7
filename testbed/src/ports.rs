//! Ports for servers. Processes that run side by side, as tests and deployments do, never get the same: each has blocks of its
//! own, and listens on the first port of a block for as long as it lives, which tells the others that the block is taken.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::wait::wait_for;

/// Ports to choose from: below the range from which the kernel serves outgoing connections, and low enough that the
/// cluster bus, 10,000 further up, stays below it too. The next thousand is for the scripts in tools/.
const PORTS: Range<u16> = 12_000..21_000;

/// How many ports a block has: more than most processes need.
const BLOCK: u16 = 60;

/// Ports of this process.
struct Block {
    left: Range<u16>,
    claim: TcpListener,
}

/// A port nobody listens on at this moment, and that no other process gets. Each call gives another one, for as long as there
/// are any.
pub fn free_port() -> u16 {
    static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    wait_for("a free port", || {
        if let Some(port) = blocks.iter_mut().find_map(|block| block.left.next()) {
            return listen(port).is_some().then_some(port);
        }
        match claim() {
            Some(block) => blocks.push(block),
            None => blocks.iter_mut().for_each(Block::begin_again),
        }
        None
    })
}

impl Block {
    fn begin_again(&mut self) {
        if let Ok(claim) = self.claim.local_addr() {
            self.left = claim.port() + 1..claim.port() + BLOCK;
        }
    }
}

/// A block that is nobody's. Each process begins to look elsewhere.
fn claim() -> Option<Block> {
    let count = (PORTS.end - PORTS.start) / BLOCK;
    let begin = (std::process::id() % u32::from(count)) as u16;
    (0..count).map(|step| PORTS.start + (begin + step) % count * BLOCK).find_map(|first| {
        let claim = listen(first)?;
        Some(Block { left: first + 1..first + BLOCK, claim })
    })
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_for_as_long_as_its_claim_stands() {
        let (first, second) = (claim().unwrap(), claim().unwrap());
        assert!(!second.left.contains(&first.left.start) && !first.left.contains(&second.left.start));
        assert!(listen(first.left.start - 1).is_none());
    }

    #[test]
    fn ports_differ_over_more_than_one_block() {
        let mut ports: Vec<u16> = (0..2 * BLOCK).map(|_| free_port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), usize::from(2 * BLOCK));
    }
}
