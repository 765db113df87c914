//! What `net doctor` finds: what is wrong with this node, and why the path to each peer is not direct.
//!
//! Invariants: a cause is named only where something was observed that shows it; what cannot be told is said to be so.
//! Not here: what the host can do without a node (`mesh/netcheck.rs`).

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use net_io_real::api::DropReason;
use net_io_real::routed::is_routed;
use net_io_real::{EntityId, MeshNeighbour, MeshNode, MeshSnapshot, Standing};

use super::World;
use super::look;
use crate::control::records::{Doctor, Finding, PathFinding, micros};
use crate::output::hex;

/// A neighbour whose boot lies further in our future than this has another time than we.
const CLOCKS_DIFFER_S: f64 = 2.0;

/// Looks at everything.
pub fn examine(world: &World) -> Doctor {
    let mesh = look::mesh(world);
    let checks = vec![
        state(world),
        neighbours(&mesh),
        clock(world, &mesh),
        refused(world),
        network(world),
        relaying(world),
        metrics(world),
    ];
    let paths = paths(world, &mesh);
    Doctor {
        well: checks.iter().all(|check| check.verdict == "ok") && paths.iter().all(|path| path.path != "none"),
        checks,
        paths,
    }
}

fn finding(name: &str, verdict: &str, found: impl Into<String>, change: &[&str]) -> Finding {
    Finding {
        name: name.to_owned(),
        verdict: verdict.to_owned(),
        found: found.into(),
        change: change.iter().map(|change| (*change).to_owned()).collect(),
    }
}

fn state(world: &World) -> Finding {
    match world.node.rolled_back() {
        None => finding("identity", "ok", format!("kept in {}", world.state_dir.display()), &[]),
        Some(told) => finding(
            "identity",
            "wrong",
            format!(
                "{} knows a later incarnation of this identity: it was restored from an old copy, or runs twice",
                told.peer
            ),
            &["stop the copy, or make a new identity: net id new --id DIR"],
        ),
    }
}

fn neighbours(mesh: &MeshSnapshot) -> Finding {
    let usable = mesh.neighbours.iter().filter(|link| is_usable(link)).count();
    if let Some(outage) = mesh.outage {
        let found = format!(
            "{} of {} neighbours failed at about the same time",
            outage.failed, outage.of
        );
        return finding(
            "mesh",
            "wrong",
            found,
            &["look for what they share: a cable, a switch, a site, this host's network"],
        );
    }
    if usable == 0 {
        let found = if mesh.joined.is_empty() {
            "no neighbour, and none is asked for"
        } else {
            "no neighbour that is heard"
        };
        return finding(
            "mesh",
            "warning",
            found,
            &["net join TICKET     # `net ticket` prints one on another node's host"],
        );
    }
    let found = format!(
        "{usable} of {} neighbours usable, {} nodes reached",
        mesh.neighbours.len(),
        mesh.nodes.len()
    );
    finding("mesh", "ok", found, &[])
}

fn clock(world: &World, mesh: &MeshSnapshot) -> Finding {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let ahead = mesh
        .nodes
        .iter()
        .map(|node| (node.epoch.0 as f64 / 1e9 - now, node.entity));
    let worst = ahead
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(ahead, _)| *ahead > CLOCKS_DIFFER_S);
    if let Some((ahead, who)) = worst {
        let found = format!("{who} was started {ahead:.0} s in this host's future: one of the two clocks is wrong");
        return finding("clock", "warning", found, &["timedatectl     # on both hosts"]);
    }
    let late = world.node.drops().get(DropReason::EpochTooFar);
    if late > 0 {
        let found = format!("{late} handshakes came from more than a day in this host's future");
        return finding("clock", "warning", found, &["timedatectl     # here and at the peer"]);
    }
    finding("clock", "ok", "no neighbour was started in this host's future", &[])
}

fn refused(world: &World) -> Finding {
    let drops = world.node.drops();
    let told = [
        (
            DropReason::BadMac,
            "handshakes that were made with another network key or for another identity",
        ),
        (
            DropReason::NotAllowed,
            "peers that are not on the list of those allowed",
        ),
        (DropReason::StaleEpoch, "peers that run from restored state"),
    ];
    let seen: Vec<String> = told
        .into_iter()
        .map(|(reason, what)| (drops.get(reason), what))
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if seen.is_empty() {
        return finding("refused", "ok", "nobody was turned away", &[]);
    }
    finding(
        "refused",
        "warning",
        seen.join("; "),
        &["compare `net status` here and there: network and list must fit"],
    )
}

fn network(world: &World) -> Finding {
    match (world.open_network, world.open_to_all) {
        (true, true) => finding("network", "ok", "open: whoever has a ticket is admitted", &[]),
        (true, false) => finding("network", "ok", "open, but only those on the list are admitted", &[]),
        (false, _) => finding("network", "ok", "closed: the network key is needed", &[]),
    }
}

fn relaying(world: &World) -> Finding {
    let strangers = world.open_network && world.open_to_all;
    match (look::mesh(world).relays, strangers) {
        (true, true) => finding("relaying", "ok", "for anybody: strangers are admitted", &[]),
        (true, false) => finding("relaying", "ok", "for those who are admitted", &[]),
        (false, true) => finding(
            "relaying",
            "ok",
            "off, since strangers are admitted: nodes without a direct path do not reach each other over this one",
            &[
                "--network-key FILE      # a closed network, whose members are relayed for",
                "relays = true           # under [mesh] in the configuration: for anybody",
            ],
        ),
        (false, false) => finding("relaying", "ok", "off, as the configuration says", &[]),
    }
}

fn metrics(world: &World) -> Finding {
    match world.metrics {
        None => finding("metrics", "ok", "not served", &[]),
        Some(address) if address.ip().is_loopback() => {
            finding("metrics", "ok", format!("served at {address}, to this host alone"), &[])
        }
        Some(address) => finding(
            "metrics",
            "warning",
            format!("served at {address} to whoever reaches it, without encryption"),
            &["--metrics :PORT      # loopback alone"],
        ),
    }
}

const fn is_usable(link: &MeshNeighbour) -> bool {
    matches!(link.standing, Standing::Alive | Standing::Suspected)
}

fn paths(world: &World, mesh: &MeshSnapshot) -> Vec<PathFinding> {
    let mut found: Vec<PathFinding> = mesh.neighbours.iter().map(|link| neighbour(link, mesh)).collect();
    let is_neighbour = |peer: &EntityId| mesh.neighbours.iter().any(|link| link.entity == *peer);
    for node in mesh.nodes.iter().filter(|node| !is_neighbour(&node.entity)) {
        found.push(beyond(world, node, mesh));
    }
    let is_reached = |peer: &EntityId| mesh.nodes.iter().any(|node| node.entity == *peer);
    for (peer, addresses) in &mesh.joined {
        if !is_neighbour(peer) && !is_reached(peer) {
            found.push(unanswered(peer, addresses));
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

fn path(peer: &EntityId, path: &str, why: String, change: &[&str]) -> PathFinding {
    PathFinding {
        id: hex(&peer.0),
        path: path.to_owned(),
        via: None,
        why,
        change: change.iter().map(|change| (*change).to_owned()).collect(),
    }
}

fn neighbour(link: &MeshNeighbour, mesh: &MeshSnapshot) -> PathFinding {
    let (peer, at) = (&link.entity, link.address);
    let rtt = micros(u64::try_from(link.rtt.as_micros()).ok());
    let over = mesh.nodes.iter().find(|node| node.entity == *peer).map(MeshNode::route);
    let around = over.filter(|route| route.next != *peer);
    if is_routed(&at) {
        let way = around.map_or_else(
            || "no way around is known now".to_owned(),
            |route| format!("over {} ({} hops, {rtt})", route.next, route.hops),
        );
        let why =
            format!("relayed {way}: the link itself failed, and is taken again once both ends hear each other there");
        let change = ["does a firewall or NAT on the way drop UDP between the two hosts?"];
        return PathFinding {
            via: around.map(|route| hex(&route.next.0)),
            ..path(peer, "relayed", why, &change)
        };
    }
    match (link.standing, around) {
        (Standing::Alive, None) => path(peer, "direct", format!("session at {at}, {rtt}"), &[]),
        (Standing::Alive, Some(route)) => PathFinding {
            via: Some(hex(&route.next.0)),
            ..path(
                peer,
                "direct",
                format!(
                    "session at {at}, {rtt}; the way over {} is shorter, and routes lead over it",
                    route.next
                ),
                &[],
            )
        },
        (Standing::Suspected, _) => path(
            peer,
            "direct",
            format!(
                "session at {at}, but nothing was heard for three heartbeats; others are asked whether they hear it"
            ),
            &["wait: it is decided within seconds"],
        ),
        (Standing::Failed, _) => path(
            peer,
            "none",
            format!(
                "nothing was heard from {at} for longer than a neighbour may be silent, and pings are not answered"
            ),
            &[
                "is its host up, and `net up` running there? It comes back by itself when it is heard",
                "does a firewall or NAT on the way drop UDP between the two hosts?",
            ],
        ),
        (Standing::Deaf, _) => path(
            peer,
            "none",
            format!("it is heard from {at}, and says that it does not hear this node: packets are lost one way"),
            &["look at firewalls and NAT between here and there for UDP towards that address"],
        ),
    }
}

fn beyond(world: &World, node: &MeshNode, mesh: &MeshSnapshot) -> PathFinding {
    let (peer, route) = (&node.entity, node.route());
    let via = Some(hex(&route.next.0));
    let rtt = micros(u64::try_from(route.rtt.as_micros()).ok());
    let far = format!("known over {} ({} hops, {rtt})", route.next, route.hops);
    let dialled = look::dialled(mesh, peer);
    if world.sessions.has(peer) {
        let why = format!("relayed: {far}; no direct session");
        let change = [
            "net join TICKET     # with what `net ticket` prints on its host, makes a direct session where one is possible",
        ];
        return PathFinding {
            via,
            ..path(peer, "relayed", why, &change)
        };
    }
    let found = if dialled.is_empty() {
        let why = format!("{far}; nobody told this node an address of it, and none is asked of others");
        path(
            peer,
            "known",
            why,
            &["net join TICKET     # with what `net ticket` prints on its host"],
        )
    } else {
        let why = format!("{far}; dialled at {} without an answer", dialled.join(", "));
        let change = [
            "does a firewall or NAT drop UDP from here to those addresses?",
            "has it moved? net join TICKET     # with a fresh ticket of it",
        ];
        path(peer, "known", why, &change)
    };
    PathFinding { via, ..found }
}

fn unanswered(peer: &EntityId, addresses: &[SocketAddr]) -> PathFinding {
    let tried: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut found = path(
        peer,
        "none",
        format!(
            "no session, and no other node reaches it; dialled at {}",
            tried.join(", ")
        ),
        &[
            "is `net up` running there? `net ticket` on its host prints where it is now",
            "does a firewall or NAT drop UDP from here to those addresses?",
        ],
    );
    if addresses.iter().all(|address| address.ip().is_loopback()) {
        found.change.push(
            "its ticket names loopback alone, which reaches nothing but this host: give it --bind or `advertise`"
                .into(),
        );
    } else if addresses.iter().all(|address| is_private(address.ip())) {
        found
            .change
            .push("its ticket names private addresses alone: they reach it only from its own network".into());
    }
    found
}

const fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
