//! The pure core: locks, queues, fences, leases and their encoding, as plain values. It knows no server, no
//! clock and no `unsafe`; time comes in as an argument and what must happen outside goes out as [`Effect`]s.

pub mod aside;
pub mod bounds;
pub mod bytes;
pub mod claim;
pub mod codec;
pub mod condition;
pub mod contended;
pub mod cooling;
pub mod deadlines;
pub mod deadlock;
pub mod entries;
pub mod fence;
pub mod footprint;
pub mod histogram;
pub mod history;
pub mod hold;
pub mod holds;
pub mod latch;
pub mod leases;
pub mod ledger;
pub mod listed;
pub mod lock;
pub mod memory;
#[cfg(test)]
mod model_tests;
pub mod obey;
pub mod observers;
pub mod overrule;
pub mod owner;
pub mod recent;
pub mod repeats;
pub mod roll;
pub mod slab;
pub mod table;
pub mod ties;
pub mod time;
pub mod turn;
pub mod turns;
pub mod tying;
pub mod unsettled;
pub mod wait_queue;
pub mod waiter;

pub use claim::Claim;
pub use cooling::Cooling;
pub use fence::Fence;
pub use hold::Hold;
pub use ledger::End;
pub use lock::Lock;
pub use memory::Memory;
pub use owner::Owner;
pub use time::{Clock, Lease, Moment};
pub use turn::{Effect, Turn};
pub use turns::Turns;
pub use waiter::WaiterId;
