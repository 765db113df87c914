//! `net netcheck`: what this host can do for a node.
//!
//! Invariants: everything is tried, nothing guessed; nothing leaves this host but one datagram to a multicast group with a hop
//! limit of 0. Not here: what the running node finds (`up/doctor.rs`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use net_io_real::Node;
use net_io_real::tokio::{TokioSocket, any_address};
use net_io_real::traits::DatagramSocket as _;
use serde::Serialize;

use crate::args::NetcheckArgs;
use crate::error::Failure;
use crate::host;
use crate::output::{Out, Record};

/// Groups for local use (RFC 2365 section 6, RFC 4291 section 2.7).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 78, 84);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0x4e, 0x54);
/// How long a datagram to a group may take to come back to its own host.
const LOOP_DEADLINE: Duration = Duration::from_secs(1);
/// No clock that is right shows an earlier year than this program was written in: 2026.
const EARLIEST: u64 = 1_767_225_600;

/// `net netcheck`
pub async fn run(args: &NetcheckArgs, out: Out) -> Result<(), Failure> {
    let wanted = host::address(args.bind);
    let node = Node::builder().address(wanted).bind().await?;
    let addresses = node.ticket().addresses;
    let bound = node.local_addr();
    node.close().await;
    let socket = TokioSocket::bind(wanted_again(wanted));
    let offloads = socket.ok().map(|socket| {
        let (gso, gro) = socket.offloads();
        debug_assert_eq!(gso, socket.max_segments());
        (gso, gro)
    });
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    out.result(&Check {
        udp: bound.to_string(),
        ipv4: UdpSocket::bind(any_address(false, 0)).is_ok(),
        ipv6: UdpSocket::bind(any_address(true, 0)).is_ok(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        gso_segments: offloads.map(|(gso, _)| gso),
        gro_segments: offloads.map(|(_, gro)| gro),
        multicast_ipv4: told(multicast_v4()),
        multicast_ipv6: told(multicast_v6()),
        unix_time: unix,
        clock_plausible: unix >= EARLIEST,
        processors: std::thread::available_parallelism().ok().map(std::num::NonZero::get),
    })
}

/// Any port: the one asked for was tried, and may not be free again yet.
const fn wanted_again(mut wanted: SocketAddr) -> SocketAddr {
    wanted.set_port(0);
    wanted
}

fn told(tried: std::io::Result<()>) -> String {
    match tried {
        Ok(()) => "works on this host".to_owned(),
        Err(error) => format!("does not work: {error}"),
    }
}

/// Whether what is sent to a group of this host's comes back.
fn multicast_v4() -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.join_multicast_v4(&GROUP_V4, &Ipv4Addr::UNSPECIFIED)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(0)?;
    round(&socket, (GROUP_V4, socket.local_addr()?.port()).into())
}

fn multicast_v6() -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.join_multicast_v6(&GROUP_V6, 0)?;
    socket.set_multicast_loop_v6(true)?;
    round(&socket, (GROUP_V6, socket.local_addr()?.port()).into())
}

fn round(socket: &UdpSocket, group: SocketAddr) -> std::io::Result<()> {
    const WORD: &[u8] = b"net netcheck";
    socket.set_read_timeout(Some(LOOP_DEADLINE))?;
    socket.send_to(WORD, group)?;
    let mut buffer = [0; 64];
    let (len, _) = socket.recv_from(&mut buffer)?;
    if &buffer[..len] == WORD {
        Ok(())
    } else {
        Err(std::io::Error::other("something else came back"))
    }
}

/// What was found.
#[derive(Serialize)]
struct Check {
    /// Where a node was bound.
    udp: String,
    ipv4: bool,
    ipv6: bool,
    /// What a ticket would name.
    addresses: Vec<String>,
    /// Datagrams in one call; 1 without offload, `null` where no socket could be had.
    gso_segments: Option<usize>,
    gro_segments: Option<usize>,
    multicast_ipv4: String,
    multicast_ipv6: String,
    unix_time: u64,
    clock_plausible: bool,
    processors: Option<usize>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |yes| if yes { "yes" } else { "no" };
        let offload = |segments: Option<usize>| match segments {
            None => "not known: no socket could be bound".to_owned(),
            Some(1) => "no".to_owned(),
            Some(segments) => format!("up to {segments} datagrams in one call"),
        };
        writeln!(f, "UDP         bound at {}", self.udp)?;
        writeln!(f, "IPv4        {}", yes(self.ipv4))?;
        writeln!(f, "IPv6        {}", yes(self.ipv6))?;
        writeln!(f, "addresses   {}", self.addresses.join(", "))?;
        writeln!(f, "GSO         {}", offload(self.gso_segments))?;
        writeln!(f, "GRO         {}", offload(self.gro_segments))?;
        writeln!(f, "multicast   IPv4 {}", self.multicast_ipv4)?;
        writeln!(f, "            IPv6 {}", self.multicast_ipv6)?;
        match self.processors {
            Some(count) => writeln!(f, "processors  {count}")?,
            None => writeln!(f, "processors  not known")?,
        }
        let clock = if self.clock_plausible {
            "plausible"
        } else {
            "wrong: peers refuse epochs of another day"
        };
        write!(f, "clock       {} s since 1970, {clock}", self.unix_time)
    }
}

impl Record for Check {
    const KIND: &'static str = "netcheck";
}
