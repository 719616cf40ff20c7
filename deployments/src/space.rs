//! Network namespaces of this program, and the switch that joins them. Nothing in them leaves the machine, and they have no
//! name outside of this process: when it ends, however it ends, and the servers in them with it, the kernel removes them.
//!
//! Each has one address and two lines. One goes to the switch: over it servers hear each other, and it can be unplugged. The other
//! goes to this program, which is in the namespace of the switch: over it clients ask, and it stays.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{anyhow, ensure, Context, Result};
use nix::sched::{setns, unshare, CloneFlags};

/// The number of a namespace on the switch, from 1.
pub(crate) type Port = u8;

pub(crate) struct Switch {
    /// Where this thread was before.
    outside: File,
}

impl Switch {
    /// Takes this thread, and all that it starts from now on, to a new namespace with a switch in it, until this is dropped.
    pub(crate) fn start() -> Result<Switch> {
        let outside = own_space()?;
        unshare(CloneFlags::CLONE_NEWNET).context("no network namespace can be made")?;
        let switch = Switch { outside };
        ip("link set lo up")?;
        ip("link add switch type bridge")?;
        ip("link set switch up")?;
        Ok(switch)
    }

    /// Adds a namespace, and plugs it in.
    pub(crate) fn add(&self, port: Port) -> Result<Space> {
        let here = own_space()?;
        let made = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            own_space()
        });
        let space = Space { handle: made?, port };
        let here = format!("/proc/{}/fd/{}", std::process::id(), here.as_raw_fd());
        space.within(|| {
            ip("link set lo up")?;
            ip(&format!("link add servers type veth peer name port{port} netns {here}"))?;
            ip(&format!("link add clients type veth peer name line{port} netns {here}"))?;
            ip(&format!("address add {}/24 dev servers", space.address()))?;
            ip(&format!("address add {} dev clients peer {}", near_end(port), far_end(port)))?;
            ip("link set servers up")?;
            ip("link set clients up")
        })?;
        ip(&format!("link set port{port} up"))?;
        ip(&format!("address add {} dev line{port} peer {}", far_end(port), near_end(port)))?;
        ip(&format!("link set line{port} up"))?;
        ip(&format!("route add {} via {}", space.address(), near_end(port)))?;
        self.plug(port)?;
        Ok(space)
    }

    /// From now on nothing that it sends to the others arrives, nor the other way, and nobody is told.
    #[expect(clippy::unused_self, reason = "there is something to plug in only while there is a switch")]
    pub(crate) fn unplug(&self, port: Port) -> Result<()> {
        ip(&format!("link set port{port} nomaster"))
    }

    #[expect(clippy::unused_self, reason = "there is something to plug in only while there is a switch")]
    pub(crate) fn plug(&self, port: Port) -> Result<()> {
        ip(&format!("link set port{port} master switch"))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = setns(&self.outside, CloneFlags::CLONE_NEWNET);
    }
}

pub(crate) struct Space {
    handle: File,
    port: Port,
}

impl Space {
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.port)
    }

    /// Does this in there; a process that it starts stays there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            setns(&self.handle, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }
}

/// The ends of the line for clients, in the namespace and here.
fn near_end(port: Port) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, port, 1)
}

fn far_end(port: Port) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, port, 2)
}

/// A namespace is a thread's, so one that is over when this is done goes there and nobody need come back.
fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("a thread has panicked"))?
}

fn own_space() -> Result<File> {
    Ok(File::open("/proc/thread-self/ns/net")?)
}

fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).output();
    let output = output.context("cannot run ip, which the package iproute2 brings")?;
    ensure!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{stderr, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const PORT: u16 = 7000;

    /// What is sent between two that are parted arrives later; a client hears the one all the time, and outside is nothing.
    #[test]
    fn who_is_unplugged_hears_nothing_until_it_is_plugged_in_again() {
        let interfaces = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let outside = interfaces();
        let switch = match Switch::start() {
            Ok(switch) => switch,
            // Past the harness, which would keep it to itself.
            Err(error) => return writeln!(stderr(), "namespaces are not tested: {error:#}").unwrap(),
        };
        let (one, other) = (switch.add(1).unwrap(), switch.add(2).unwrap());
        let listener = other.within(|| Ok(TcpListener::bind(("0.0.0.0", PORT))?)).unwrap();
        let mut near = one.within(|| Ok(TcpStream::connect((other.address(), PORT))?)).unwrap();
        let mut heard = listener.accept().unwrap().0;

        switch.unplug(2).unwrap();
        near.write_all(b"x").unwrap();
        heard.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(heard.read(&mut [0]).is_err());
        let mut client = TcpStream::connect((other.address(), PORT)).unwrap();
        client.write_all(b"y").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"y");

        switch.plug(2).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        heard.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");

        assert!(interfaces().contains("line1"));
        let (sender, seen) = channel();
        thread::spawn(move || sender.send(interfaces().contains("line1")));
        assert!(seen.recv().unwrap(), "what is started from here is here");
        drop(switch);
        assert_eq!(interfaces().lines().count(), outside.lines().count());
    }
}
