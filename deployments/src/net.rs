//! What joins servers, and whether one can be cut off from the others: namespaces of the network where this program may make
//! them, otherwise a proxy before each server.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{bail, ensure, Result};

use crate::link::Link;
use crate::node::Seat;
use crate::space::{Port, Switch};

/// How servers are parted.
#[derive(Clone, Copy, PartialEq, Debug, clap::ValueEnum)]
pub(crate) enum Means {
    Namespaces,
    Proxies,
}

impl Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Means::Namespaces => "network namespaces: packets are dropped",
            Means::Proxies => "TCP proxies: bytes are held back",
        })
    }
}

pub(crate) enum Net {
    /// All are on loopback, and nobody can be cut off.
    Whole,
    /// Others reach the server of each place through one of these.
    Proxies(Vec<Link>),
    /// So many places.
    Spaces(Switch, Port),
}

impl Net {
    /// One whose places can be cut off, by these means, or by the best that there are.
    pub(crate) fn in_parts(means: Option<Means>) -> Result<Net> {
        let by_proxies = || Ok(Net::Proxies(Vec::new()));
        match means {
            Some(Means::Namespaces) => Ok(Net::Spaces(Switch::start()?, 0)),
            Some(Means::Proxies) => by_proxies(),
            None => Switch::start().map(|switch| Net::Spaces(switch, 0)).or_else(|why| {
                println!("parted by TCP proxies, not by network namespaces: {why:#}");
                by_proxies()
            }),
        }
    }

    pub(crate) fn means(&self) -> Option<Means> {
        match self {
            Net::Whole => None,
            Net::Proxies(_) => Some(Means::Proxies),
            Net::Spaces(..) => Some(Means::Namespaces),
        }
    }

    /// The next place, counted from 0, for one server.
    pub(crate) fn seat(&mut self) -> Result<Seat> {
        let seat = Seat::free();
        match self {
            Net::Whole => Ok(seat),
            Net::Proxies(links) => {
                let link = Link::to(seat.port)?;
                let servers = SocketAddr::from((Ipv4Addr::LOCALHOST, link.port()));
                links.push(link);
                Ok(Seat { servers, ..seat })
            }
            Net::Spaces(switch, count) => {
                *count += 1;
                let space = switch.add(*count)?;
                let clients = space.address();
                let servers = SocketAddr::from((clients, seat.port));
                Ok(Seat { clients, servers, space: Some(Arc::new(space)), ..seat })
            }
        }
    }

    /// From now on the server of this place and all others hear nothing of each other, and do not notice.
    pub(crate) fn cut_off(&self, place: usize) -> Result<()> {
        match self {
            Net::Whole => bail!("nobody can be cut off"),
            Net::Proxies(links) => links[place].part(),
            Net::Spaces(switch, count) => switch.unplug(port(place, *count)?)?,
        }
        Ok(())
    }

    /// They hear each other again.
    pub(crate) fn heal(&self, place: usize) -> Result<()> {
        match self {
            Net::Whole => {}
            Net::Proxies(links) => links[place].heal(),
            Net::Spaces(switch, count) => switch.plug(port(place, *count)?)?,
        }
        Ok(())
    }
}

fn port(place: usize, count: Port) -> Result<Port> {
    ensure!(place < usize::from(count), "no such place");
    Ok(Port::try_from(place + 1)?)
}
