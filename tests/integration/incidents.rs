//! What has gone wrong for the users of other locks, each as a test that it does not go wrong here. The id at the front of
//! a name tells the kind of trouble, and each test stands for itself, though others may touch upon the same. By id:
//!
//! | Ids | Trouble | Tests |
//! |---|---|---|
//! | A1–A5 | A renewal failed, and the holder went on | `lost_holders` |
//! | B1–B4 | A grant that was dead already | `late_grants` |
//! | C1, C2 | A renewal outlived the release | `renewals` |
//! | F1–F4 | Nobody knew whether it was done | `retries`; F4 is the same as F1 here |
//! | G1–G5 | Queues and wake-ups | `queues` |
//! | H1, H3 | Readers and writers | `shared` |
//! | I2–I4 | Semaphores | `semaphores` |
//! | J1, J2 | The wrong owner | `names` |
//! | K1, K2 | An error taken for a yes, cleaners of locks | `refusals` |
//! | K3 | Locks that were forgotten, or took the place of another | `names` |
//! | L1–L3 | Memory and connections | `bindings` |
//!
//! Three ask something of a client's library, of which there is none here. Tested is what the server does for it: that a
//! renewal after a reconnect finds its hold (A2), that each reply says how much is left (B3), and that an error leaves
//! nothing behind (K1).

mod bindings;
mod holds;
mod late_grants;
mod lost_holders;
mod names;
mod queues;
mod refusals;
mod renewals;
mod retries;
mod semaphores;
mod shared;
