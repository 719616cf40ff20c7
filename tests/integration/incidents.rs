//! What has gone wrong for the users of other locks, each as a test that it does not go wrong here. The id at the front of
//! a name tells the kind of trouble: G queues and wake-ups, H readers and writers, I semaphores. Each test stands for
//! itself, though others may touch upon the same.

mod holds;
mod queues;
mod semaphores;
mod shared;
