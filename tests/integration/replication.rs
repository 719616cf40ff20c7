//! What replicas and the AOF are told of a command, where `tests/cases/replication.md` cannot say it: that a deadline is the
//! moment that it should be.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::steps::acquire;
use crate::support::{assert_stream, ReplicaStream, Server};

#[test]
fn an_acquire_states_the_hold() {
    let server = Server::start();
    let mut stream = ReplicaStream::attach(&server);
    let unix_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let before = unix_ms();
    let fence = acquire(&server, "k o PX 40000");
    let after = unix_ms();

    let got = stream.collect(&server);
    assert_stream(&got, &[&["LOCK._HOLD", "k", "o", &fence.to_string(), "40000"]]);
    // It is the time of the grant, which says where the lease ends.
    assert!((before * 1000..=(after + 1) * 1000).contains(&fence), "{before} {fence} {after}");
}
