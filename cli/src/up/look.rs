//! Answers of a running node: how it stands, whom it reaches and how.
//!
//! Invariants: one snapshot per answer, so that an answer does not contradict itself; a path is called direct only where there is
//! a direct session. Not here: how answers are printed (`control/records.rs`), the doctor (`doctor.rs`).

use std::time::{Duration, Instant};

use net_io_real::routed::is_routed;
use net_io_real::{ConnectError, EntityId, Health, MeshNode, MeshSnapshot, Refused, Session, Standing, Ticket};
use tokio::time::timeout;

use super::{Kept, World};
use crate::control::Target;
use crate::control::records::{
    Hop, Joined, Path, Peer, Peers, Pinged, Route, Routes, Status, TicketOf, Trace, Way, short,
};
use crate::error::{Code, Failure};
use crate::output::hex;

/// Digits of an identity that are too few to mean anybody.
const MIN_DIGITS: usize = 4;
/// Beyond the time a command gives: the node gives attempts up after 10 s by itself, and then knows why.
const VERDICT: Duration = Duration::from_millis(200);

/// The mesh now.
pub fn mesh(world: &World) -> MeshSnapshot {
    world.node.mesh().expect("the node was started with a mesh")
}

pub fn status(world: &World) -> Status {
    let mesh = mesh(world);
    let usable = |link: &&net_io_real::MeshNeighbour| matches!(link.standing, Standing::Alive | Standing::Suspected);
    Status {
        id: hex(&world.node.entity().0),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: millis_s(world.started.elapsed()),
        state_dir: world.state_dir.display().to_string(),
        address: world.node.local_addr().to_string(),
        metrics: world.metrics.map(|address| address.to_string()),
        network: hex(&world.fingerprint),
        open_network: world.open_network,
        open_to_all: world.open_to_all,
        nodes: mesh.nodes.len(),
        neighbours: mesh.neighbours.len(),
        usable: mesh.neighbours.iter().filter(usable).count(),
        joined: mesh.joined.len(),
        subscribers: world.channels.subscribers(),
        outage: mesh.outage.map(|outage| (outage.failed, outage.of)),
        relays: mesh.relays,
        rolled_back: world.node.rolled_back().map(|told| hex(&told.peer.0)),
        ticket: world.node.ticket().to_string(),
    }
}

/// Seconds, to the millisecond.
fn millis_s(span: Duration) -> f64 {
    span.as_millis() as f64 / 1e3
}

fn us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

pub const fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Alive => "alive",
        Standing::Suspected => "suspected",
        Standing::Failed => "failed",
        Standing::Deaf => "deaf",
    }
}

const fn health_name(health: Health) -> &'static str {
    match health {
        Health::Good => "good",
        Health::Degraded => "degraded",
        Health::Leaving => "leaving",
    }
}

const fn kept_name(kept: Kept) -> &'static str {
    match kept {
        Kept::Config => "config",
        Kept::Command => "command",
        Kept::Cache => "cache",
    }
}

pub fn peers(world: &World) -> Peers {
    let mesh = mesh(world);
    let kept = |peer: &EntityId| world.kept(peer).map(|kept| kept_name(kept).to_owned());
    let mut peers: Vec<Peer> = Vec::new();
    for link in &mesh.neighbours {
        let [sent, received, lost] = link.datagrams;
        peers.push(Peer {
            id: hex(&link.entity.0),
            state: standing_name(link.standing).to_owned(),
            address: Some(link.address.to_string()),
            dialled: dialled(&mesh, &link.entity),
            kept: kept(&link.entity),
            rtt_us: Some(us(link.rtt)),
            rtt_variance_us: Some(us(link.rtt_variance)),
            health: link.health.map(|health| health_name(health).to_owned()),
            load_permille: link.load,
            sent: Some(sent),
            received: Some(received),
            lost: Some(lost),
            mtu: Some(link.mtu),
        });
    }
    for (peer, _) in &mesh.joined {
        if mesh.neighbours.iter().any(|link| link.entity == *peer) {
            continue;
        }
        peers.push(Peer::dialling(hex(&peer.0), dialled(&mesh, peer), kept(peer)));
    }
    peers.sort_by(|a, b| a.id.cmp(&b.id));
    Peers { peers }
}

/// Where a peer that is kept is dialled.
pub fn dialled(mesh: &MeshSnapshot, peer: &EntityId) -> Vec<String> {
    let joined = mesh.joined.iter().find(|(joined, _)| joined == peer);
    joined.map_or_else(Vec::new, |(_, addresses)| {
        addresses.iter().map(ToString::to_string).collect()
    })
}

pub fn routes(world: &World) -> Routes {
    let mut nodes = mesh(world).nodes;
    nodes.sort_by_key(|node| (node.route().hops, node.entity));
    Routes {
        routes: nodes.iter().map(route).collect(),
    }
}

fn route(node: &MeshNode) -> Route {
    Route {
        id: hex(&node.entity.0),
        age_s: millis_s(node.age),
        health: health_name(node.health).to_owned(),
        load_permille: node.load,
        relays: node.relays,
        ways: node
            .routes
            .iter()
            .map(|way| Way {
                next: hex(&way.next.0),
                hops: way.hops,
                rtt_us: us(way.rtt),
                used: way.used,
            })
            .collect(),
    }
}

pub fn ticket(world: &World) -> TicketOf {
    let ticket = world.node.ticket().to_string();
    TicketOf {
        command: format!("net join {ticket}"),
        ticket,
    }
}

/// A ticket of this node's network.
pub fn own_network(world: &World, text: &str) -> Result<Ticket, Failure> {
    let ticket = Ticket::parse(text).map_err(|error| Failure::ticket(&error))?;
    if ticket.fingerprint != world.fingerprint {
        let open = net_io_real::NetworkKey::open().fingerprint();
        return Err(Failure::other_network(
            &hex(&ticket.fingerprint),
            &hex(&world.fingerprint),
            world.open_network,
            ticket.fingerprint == open,
        ));
    }
    if ticket.entity == world.node.entity() {
        return Err(itself());
    }
    Ok(ticket)
}

fn itself() -> Failure {
    Failure::new(Code::OwnTicket, "that is the running node itself").next("net status")
}

/// Who is meant.
pub fn resolve(world: &World, mesh: &MeshSnapshot, target: &Target) -> Result<EntityId, Failure> {
    let digits = match target {
        Target::Ticket(text) => return own_network(world, text).map(|ticket| ticket.entity),
        Target::Node(digits) => digits.to_ascii_lowercase(),
    };
    if digits.len() < MIN_DIGITS || digits.bytes().any(|digit| !digit.is_ascii_hexdigit()) {
        let message = format!(
            "{digits:?} names no node: write at least {MIN_DIGITS} hexadecimal digits of its identity, or a ticket"
        );
        return Err(Failure::new(Code::UnknownNode, message).next("net routes      # lists the nodes that are reached"));
    }
    let nodes = mesh.nodes.iter().map(|node| node.entity);
    let neighbours = mesh.neighbours.iter().map(|link| link.entity);
    let joined = mesh.joined.iter().map(|(peer, _)| *peer);
    let known = nodes.chain(neighbours).chain(joined).chain([world.node.entity()]);
    let mut found: Vec<EntityId> = known.filter(|entity| hex(&entity.0).starts_with(&digits)).collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [entity] if entity == world.node.entity() => Err(itself()),
        [entity] => Ok(entity),
        [] => Err(Failure::new(
            Code::UnknownNode,
            format!("no node is known whose identity begins with {digits}"),
        )
        .next("net routes      # lists the nodes that are reached")
        .next("net join TICKET # makes one known")),
        _ => {
            let names: Vec<String> = found.iter().map(|entity| hex(&entity.0)).collect();
            Err(Failure::new(
                Code::UnknownNode,
                format!("{digits} may mean {} nodes: {}", found.len(), names.join(", ")),
            )
            .next("write more digits"))
        }
    }
}

fn is_neighbour(mesh: &MeshSnapshot, peer: &EntityId) -> bool {
    mesh.neighbours.iter().any(|link| link.entity == *peer)
}

/// How a node with whom there is a session is reached.
pub fn path(mesh: &MeshSnapshot, peer: &EntityId) -> Path {
    let id = hex(&peer.0);
    // A neighbour whose link failed is reached over others meanwhile.
    let link = mesh.neighbours.iter().find(|link| link.entity == *peer);
    if let Some(link) = link.filter(|link| !is_routed(&link.address)) {
        return Path {
            id,
            path: "direct".to_owned(),
            via: None,
            hops: Some(1),
            address: Some(link.address.to_string()),
        };
    }
    let route = mesh.nodes.iter().find(|node| node.entity == *peer).map(MeshNode::route);
    Path {
        id,
        path: "relayed".to_owned(),
        via: route.map(|route| hex(&route.next.0)),
        hops: route.map(|route| route.hops),
        address: None,
    }
}

/// Why there is no session with a peer, for people.
pub fn no_session(world: &World, peer: &EntityId, error: &ConnectError) -> String {
    let mesh = mesh(world);
    let over = mesh.nodes.iter().find(|node| node.entity == *peer).map(MeshNode::route);
    // Without an address and without a way over relays the kernel has nothing to try.
    let nowhere = matches!(
        error,
        ConnectError::Refused {
            why: Refused::BadAddresses | Refused::NoRoute,
            ..
        }
    );
    match (over.filter(|route| route.hops > 1), nowhere) {
        (Some(route), true) => format!(
            "it is known over {} ({} hops), no address of it is, and nobody relays to it",
            route.next, route.hops
        ),
        (Some(route), false) => format!("it is known over {} ({} hops), but {error}", route.next, route.hops),
        (None, true) => "no address of it is known, and no route leads to it".to_owned(),
        (None, false) => error.to_string(),
    }
}

/// A round trip to whomever is meant; `times` are how long to try for a session, and how long to wait for the answer.
pub async fn ping(
    world: &World,
    target: &Target,
    times: (Duration, Duration),
    kept: &mut Option<Session>,
) -> Result<Pinged, Failure> {
    let peer = resolve(world, &mesh(world), target)?;
    let (mut connected_in_us, known) = (None, kept.take().filter(|kept| kept.peer() == peer && kept.is_open()));
    let session = match known {
        Some(session) => session,
        None => {
            let (started, there) = (Instant::now(), is_neighbour(&mesh(world), &peer));
            let session = connect(world, target, peer, times.0).await?;
            connected_in_us = (!there).then(|| us(started.elapsed()));
            session
        }
    };
    let echo = timeout(times.1, session.echo()).await;
    let path = path(&mesh(world), &peer);
    let rtt_us = match echo {
        Ok(Ok(rtt)) => Some(us(rtt)),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => None,
    };
    *kept = Some(session);
    Ok(Pinged {
        path,
        connected_in_us,
        rtt_us,
    })
}

async fn connect(world: &World, target: &Target, peer: EntityId, patience: Duration) -> Result<Session, Failure> {
    let connected = async {
        match target {
            Target::Ticket(text) => match Ticket::parse(text) {
                Ok(ticket) => world.node.connect(&ticket).await,
                Err(_) => world.sessions.reach(peer).await,
            },
            Target::Node(_) => world.sessions.reach(peer).await,
        }
    };
    let tried = match target {
        Target::Ticket(text) => Ticket::parse(text).map_or_else(|_| Vec::new(), |ticket| ticket.addresses),
        Target::Node(_) => world.addresses(&peer),
    };
    match timeout(patience + VERDICT, connected).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(unreachable(world, &peer, error, &tried, patience)),
        Err(_) => {
            let message = format!(
                "no session with {} came about within {} s",
                short(&hex(&peer.0)),
                patience.as_secs_f64()
            );
            Err(Failure::new(Code::Silent, message)
                .next("net doctor      # says how it is known")
                .next("net ping TICKET --timeout 30"))
        }
    }
}

fn unreachable(
    world: &World,
    peer: &EntityId,
    error: ConnectError,
    tried: &[std::net::SocketAddr],
    patience: Duration,
) -> Failure {
    if !tried.is_empty() {
        let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
        return Failure::connect(error, &tried.join(", "), patience.as_secs_f64());
    }
    let id = hex(&peer.0);
    let message = format!("{} is not reached: {}", short(&id), no_session(world, peer, &error));
    Failure::new(Code::NoPath, message)
        .next("net join TICKET     # with what `net ticket` prints on its host, makes a direct session")
        .next("net doctor          # says why each path is as it is")
}

/// Keeps a session with the node of a ticket from now on, and waits for the first.
pub async fn join(world: &World, text: &str, patience: Duration) -> Result<Joined, Failure> {
    let ticket = own_network(world, text)?;
    if ticket.addresses.is_empty() {
        let none = ConnectError::NoAddress { peer: ticket.entity };
        return Err(Failure::connect(none, "", patience.as_secs_f64()));
    }
    world.join(ticket.entity, &ticket.addresses, Kept::Command)?;
    let tried: Vec<String> = ticket.addresses.iter().map(ToString::to_string).collect();
    let tried = tried.join(", ");
    let keeps = "net peers      # this node goes on dialling it, until it is ended";
    match timeout(patience + VERDICT, world.sessions.reach(ticket.entity)).await {
        Ok(Ok(session)) => Ok(Joined {
            id: hex(&ticket.entity.0),
            address: session.address().map(|address| address.to_string()),
        }),
        Ok(Err(error)) => Err(Failure::connect(error, &tried, patience.as_secs_f64()).next(keeps)),
        Err(_) => Err(Failure::new(
            Code::Silent,
            format!(
                "no answer from {} at {tried} within {} s",
                ticket.entity,
                patience.as_secs_f64()
            ),
        )
        .next(keeps)),
    }
}

/// The way to a node, as far as this node knows it: its own neighbours, and how far the end is.
pub fn trace(world: &World, target: &Target) -> Result<Trace, Failure> {
    let mesh = mesh(world);
    let peer = resolve(world, &mesh, target)?;
    let id = hex(&peer.0);
    let Some(node) = mesh.nodes.iter().find(|node| node.entity == peer) else {
        return Err(Failure::new(Code::NoPath, format!("no route leads to {}", short(&id)))
            .next("net doctor      # says why each path is as it is"));
    };
    let route = *node.route();
    let hops = (1..=route.hops).map(|hop| {
        let entity = match hop {
            1 => Some(route.next),
            last if last == route.hops => Some(peer),
            _ => None,
        };
        let link = mesh
            .neighbours
            .iter()
            .find(|link| hop == 1 && link.entity == route.next);
        Hop {
            hop,
            id: entity.map(|entity| hex(&entity.0)),
            rtt_us: match hop {
                last if last == route.hops && link.is_none() => Some(us(route.rtt)),
                _ => link.map(|link| us(link.rtt)),
            },
            rtt_variance_us: link.map(|link| us(link.rtt_variance)),
            address: link.map(|link| link.address.to_string()),
        }
    });
    Ok(Trace {
        id,
        hops: hops.collect(),
        rtt_us: us(route.rtt),
    })
}
