//! What the servers count, and what they need.

use super::start::run;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

/// The first line of what it answers to a word of four letters has this number, among others.
pub(super) fn zookeeper_received(port: u16) -> Result<u64> {
    let mut link = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    link.write_all(b"srvr")?;
    let mut said = String::new();
    link.read_to_string(&mut said)?;
    field(&said, "Received: ")
}

/// Times that the server has read from a client: once for each request of who waits for the reply before the next.
pub(super) fn redis_reads(port: u16) -> Result<u64> {
    let mut link = redis::Client::open(("127.0.0.1", port))?.get_connection()?;
    let said: String = redis::cmd("INFO").arg("stats").query(&mut link)?;
    field(&said, "total_reads_processed:")
}

fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.with_context(|| format!("no {name}"))?.trim().parse()?)
}

/// What is left after a collection.
pub(super) fn live_heap(pid: u32) -> Result<u64> {
    let table = run(Command::new("jcmd").arg(pid.to_string()).arg("GC.class_histogram"))?;
    let total = table.lines().rev().find_map(|line| line.trim().strip_prefix("Total")).context("no total")?;
    Ok(total.split_whitespace().nth(1).context("no bytes")?.parse()?)
}
