//! The impairment proxy: a userspace UDP relay on loopback that treats datagrams as a simulated link would.
//!
//! It stands between one client and one upstream. Both directions pass a [`Link`] of the same models and keyed decisions as
//! in simulation, so "5 % loss" means the same in `net demo`, in `chaos/` and in a scenario. The source the upstream sees
//! can be changed in mid-way, as when a NAT rebinds or a laptop changes networks.
//! Invariants: what is held is bounded; which datagram of a direction is dropped, held back, doubled or damaged follows
//! from the seed and its number alone.
//! Not here: the models (`net-sim-model`); real routers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use net_sim_model::{Counts, Direction, Fates, Key, Link, LinkSpec};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What a proxy is made of.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where clients send; port 0 picks one.
    pub listen: SocketAddr,
    /// Where it all goes.
    pub upstream: SocketAddr,
    /// Under which fates are decided.
    pub seed: u64,
    /// What happens to datagrams from the client.
    pub to_upstream: LinkSpec,
    /// What happens to datagrams to the client.
    pub to_client: LinkSpec,
    /// Datagrams held at most; one more is dropped and counted.
    pub capacity: usize,
}

impl ProxyConfig {
    /// A proxy on a free loopback port before `upstream`, with the same link both ways.
    #[must_use]
    pub fn loopback(upstream: SocketAddr, seed: u64, link: LinkSpec) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            upstream,
            seed,
            to_upstream: link.clone(),
            to_client: link,
            capacity: 65_536,
        }
    }
}

/// What a proxy did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProxyStats {
    /// From the client.
    pub to_upstream: Counts,
    /// To the client.
    pub to_client: Counts,
    /// Dropped because too many were held, or before there was a client to send to.
    pub overflow: u64,
    /// How often the source was changed.
    pub moves: u64,
}

impl ProxyStats {
    /// Datagrams that both directions dropped, whatever the cause.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.to_upstream
            .dropped
            .iter()
            .chain(&self.to_client.dropped)
            .sum::<u64>()
            + self.overflow
    }

    /// Datagrams that both directions sent twice.
    #[must_use]
    pub const fn duplicated(&self) -> u64 {
        self.to_upstream.duplicated + self.to_client.duplicated
    }

    /// Datagrams that both directions held back behind later ones.
    #[must_use]
    pub const fn reordered(&self) -> u64 {
        self.to_upstream.reordered + self.to_client.reordered
    }

    /// Datagrams that reached the other side, second copies aside.
    #[must_use]
    pub const fn passed(&self) -> u64 {
        self.to_upstream.passed + self.to_client.passed
    }
}

enum Order {
    Move(oneshot::Sender<io::Result<SocketAddr>>),
    Links(Box<(LinkSpec, LinkSpec)>),
}

/// A running proxy; it stops when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    stats: Arc<Mutex<ProxyStats>>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy on the current tokio runtime.
    ///
    /// # Errors
    /// A socket that cannot be bound.
    pub async fn bind(config: ProxyConfig) -> io::Result<Self> {
        let client_side = UdpSocket::bind(config.listen).await?;
        let address = client_side.local_addr()?;
        let upstream_side = outward(config.upstream).await?;
        let stats = Arc::new(Mutex::new(ProxyStats::default()));
        let (orders, received) = mpsc::channel(8);
        let relay = Relay {
            ways: Ways::new(&config),
            client_side,
            upstream_side,
            client: None,
            held: BinaryHeap::new(),
            number: 0,
            began: Instant::now(),
            stats: Arc::clone(&stats),
            config,
        };
        let task = tokio::spawn(relay.run(received));
        Ok(Self {
            address,
            stats,
            orders,
            task,
        })
    }

    /// Where clients send.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> ProxyStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the source address the upstream sees; answers the new one. What was on its way to the old one is lost.
    ///
    /// # Errors
    /// A socket that cannot be bound, or a proxy that has stopped.
    pub async fn change_source(&self) -> io::Result<SocketAddr> {
        let (answer, answered) = oneshot::channel();
        let stopped = || io::Error::other("the proxy has stopped");
        self.orders.send(Order::Move(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Replaces what happens to datagrams from now on; decisions begin anew.
    pub async fn set_links(&self, to_upstream: LinkSpec, to_client: LinkSpec) {
        // A stopped proxy has no links to set.
        let _ = self.orders.send(Order::Links(Box::new((to_upstream, to_client)))).await;
    }
}

/// A socket whose source the upstream will see.
async fn outward(upstream: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if upstream.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    Ok(socket)
}

/// Both directions with the numbers of their datagrams.
struct Ways {
    to_upstream: (Link, u64),
    to_client: (Link, u64),
}

impl Ways {
    fn new(config: &ProxyConfig) -> Self {
        let key = Key::new(config.seed);
        Self {
            to_upstream: (
                Link::new(config.to_upstream.clone(), key.link(0, Direction::Forward)),
                0,
            ),
            to_client: (Link::new(config.to_client.clone(), key.link(0, Direction::Backward)), 0),
        }
    }
}

/// Datagrams taken from each side at once.
const BURST: usize = 64;

/// Which side a held datagram goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Side {
    Upstream,
    Client,
}

/// A held datagram: due, number, side, bytes.
type Held = Reverse<(u64, u64, Side, Vec<u8>)>;

struct Relay {
    config: ProxyConfig,
    ways: Ways,
    client_side: UdpSocket,
    upstream_side: UdpSocket,
    client: Option<SocketAddr>,
    held: BinaryHeap<Held>,
    number: u64,
    began: Instant,
    stats: Arc<Mutex<ProxyStats>>,
}

/// What a relay was woken by.
enum Woken {
    Order(Option<Order>),
    Due,
    FromClient(io::Result<(usize, SocketAddr)>),
    FromUpstream(io::Result<usize>),
}

impl Relay {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let (mut from_client, mut from_upstream) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            let due = self.held.peek().map(|Reverse((at, ..))| *at);
            let wake = self.began + std::time::Duration::from_nanos(due.unwrap_or(0));
            let woken = tokio::select! {
                biased;
                order = orders.recv() => Woken::Order(order),
                () = sleep_until(wake), if due.is_some() => Woken::Due,
                got = self.client_side.recv_from(&mut from_client) => Woken::FromClient(got),
                got = self.upstream_side.recv(&mut from_upstream) => Woken::FromUpstream(got),
            };
            match woken {
                Woken::Order(None) => return,
                Woken::Order(Some(order)) => self.obey(order).await,
                Woken::Due => {}
                Woken::FromClient(Ok((len, client))) => {
                    self.client = Some(client);
                    self.offer(Side::Upstream, &from_client[..len]);
                }
                Woken::FromUpstream(Ok(len)) => self.offer(Side::Client, &from_upstream[..len]),
                // A side that is not there yet answers with an ICMP error; what was sent to it is lost.
                Woken::FromClient(Err(_)) | Woken::FromUpstream(Err(_)) => {}
            }
            self.drain(&mut from_client, &mut from_upstream);
            self.release().await;
        }
    }

    /// Takes what else waits on both sides in equal shares, so that neither starves the other.
    fn drain(&mut self, from_client: &mut [u8], from_upstream: &mut [u8]) {
        for _ in 0..BURST {
            let client = self.client_side.try_recv_from(from_client);
            if let Ok((len, client)) = client {
                self.client = Some(client);
                self.offer(Side::Upstream, &from_client[..len]);
            }
            let upstream = self.upstream_side.try_recv(from_upstream);
            if let Ok(len) = upstream {
                self.offer(Side::Client, &from_upstream[..len]);
            }
            if client.is_err() && upstream.is_err() {
                return;
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut ProxyStats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Links(links) => {
                (self.config.to_upstream, self.config.to_client) = *links;
                self.ways = Ways::new(&self.config);
            }
            Order::Move(answer) => {
                let moved = match outward(self.config.upstream).await {
                    Ok(socket) => {
                        self.upstream_side = socket;
                        self.note(|stats| stats.moves += 1);
                        self.upstream_side.local_addr()
                    }
                    Err(error) => Err(error),
                };
                // Whoever asked may have gone.
                let _ = answer.send(moved);
            }
        }
    }

    /// Decides a datagram's fate and holds what arrives.
    fn offer(&mut self, side: Side, bytes: &[u8]) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (link, offered) = match side {
            Side::Upstream => &mut self.ways.to_upstream,
            Side::Client => &mut self.ways.to_client,
        };
        let before = *link.counts();
        let Fates { first, second, .. } = link.offer(now, *offered, bytes.len());
        *offered += 1;
        let after = *link.counts();
        self.note(|stats| {
            let sum = match side {
                Side::Upstream => &mut stats.to_upstream,
                Side::Client => &mut stats.to_client,
            };
            *sum = plus_difference(*sum, &before, &after);
        });
        for arrival in first.ok().into_iter().chain(second) {
            let mut bytes = bytes.to_vec();
            if let Some(corruption) = arrival.corrupt {
                corruption.apply(&mut bytes);
            }
            if self.held.len() >= self.config.capacity {
                self.note(|stats| stats.overflow += 1);
                continue;
            }
            self.number += 1;
            self.held.push(Reverse((arrival.at, self.number, side, bytes)));
        }
    }

    /// Sends what is due.
    async fn release(&mut self) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        while self.held.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, side, bytes))) = self.held.pop() else {
                return;
            };
            // A datagram the host refuses is one the network lost.
            match (side, self.client) {
                (Side::Upstream, _) => drop(self.upstream_side.send(&bytes).await),
                (Side::Client, Some(client)) => drop(self.client_side.send_to(&bytes, client).await),
                (Side::Client, None) => self.note(|stats| stats.overflow += 1),
            }
        }
    }
}

/// `sum` and what was counted between `before` and `after`: links begin anew when they are replaced, sums do not.
fn plus_difference(mut sum: Counts, before: &Counts, after: &Counts) -> Counts {
    sum.offered += after.offered - before.offered;
    sum.passed += after.passed - before.passed;
    for (index, slot) in sum.dropped.iter_mut().enumerate() {
        *slot += after.dropped[index] - before.dropped[index];
    }
    sum.duplicated += after.duplicated - before.duplicated;
    sum.reordered += after.reordered - before.reordered;
    sum.corrupted += after.corrupted - before.corrupted;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_sim_model::Loss;

    async fn pair(link: LinkSpec) -> (UdpSocket, UdpSocket, Proxy) {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let config = ProxyConfig::loopback(server.local_addr().unwrap(), 7, link);
        let proxy = Proxy::bind(config).await.unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(proxy.addr()).await.unwrap();
        (client, server, proxy)
    }

    #[tokio::test]
    async fn what_arrives_is_what_the_model_says() {
        let every_third = LinkSpec {
            loss: Loss::EveryNth { n: 3 },
            ..LinkSpec::clean(0)
        };
        let (client, server, proxy) = pair(every_third).await;
        let mut buffer = [0; 64];
        let mut seen = Vec::new();
        for n in 0..12u8 {
            client.send(&[n]).await.unwrap();
            if n % 3 != 2 {
                let (len, from) = server.recv_from(&mut buffer).await.unwrap();
                assert_eq!(len, 1);
                seen.push(buffer[0]);
                server.send_to(&[n + 100], from).await.unwrap();
                // Replies are numbered by themselves: the third, sixth and ninth is lost.
                if seen.len() % 3 != 0 {
                    client.recv(&mut buffer).await.unwrap();
                    assert_eq!(buffer[0], n + 100);
                }
            }
        }
        assert_eq!(seen, [0, 1, 3, 4, 6, 7, 9, 10]);
        while proxy.stats().to_upstream.offered < 12 {
            tokio::task::yield_now().await;
        }
        let stats = proxy.stats();
        assert_eq!((stats.to_upstream.offered, stats.to_upstream.passed), (12, 8));
        assert_eq!(stats.to_client.passed, 6);
        assert_eq!(stats.dropped(), 4 + 2);
    }

    #[tokio::test]
    async fn the_source_changes_when_told_and_replies_find_the_client() {
        let (client, server, proxy) = pair(LinkSpec::clean(0)).await;
        let mut buffer = [0; 64];
        client.send(b"before").await.unwrap();
        let (_, first) = server.recv_from(&mut buffer).await.unwrap();
        let moved = proxy.change_source().await.unwrap();
        client.send(b"after").await.unwrap();
        let (len, second) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"after");
        assert_ne!(first.port(), second.port());
        assert_eq!(moved.port(), second.port());
        server.send_to(b"reply", second).await.unwrap();
        let len = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"reply");
        assert_eq!(proxy.stats().moves, 1);
    }

    #[tokio::test]
    async fn duplicates_arrive_twice_and_damage_shows() {
        let always = net_sim_model::PPB;
        let (client, server, proxy) = pair(LinkSpec {
            duplicate: always,
            corrupt: always,
            ..LinkSpec::clean(0)
        })
        .await;
        client.send(&[0; 32]).await.unwrap();
        let mut copies = Vec::new();
        for _ in 0..2 {
            let mut buffer = [0xFF; 64];
            let (len, _) = server.recv_from(&mut buffer).await.unwrap();
            copies.push(buffer[..len].to_vec());
        }
        assert_eq!(
            copies.iter().filter(|copy| **copy == [0; 32]).count(),
            1,
            "one damaged, one sound"
        );
        assert_eq!(
            (proxy.stats().duplicated(), proxy.stats().to_upstream.corrupted),
            (1, 1)
        );
    }

    #[tokio::test]
    async fn what_is_held_is_bounded() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let hour = LinkSpec::clean(3_600_000_000_000);
        let config = ProxyConfig {
            capacity: 4,
            ..ProxyConfig::loopback(server.local_addr().unwrap(), 7, hour)
        };
        let proxy = Proxy::bind(config).await.unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        for n in 0..10u8 {
            client.send_to(&[n], proxy.addr()).await.unwrap();
        }
        while proxy.stats().to_upstream.offered < 10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(proxy.stats().overflow, 6);
    }
}
