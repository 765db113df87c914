//! Nodes of one host that find each other on a segment of the network, told of nobody.
//!
//! Each test runs in a network namespace of its own, which nothing else shares: this binary starts itself again inside one.
//! Where a host lets nobody make namespaces that is said, and nothing is tested.
//! Invariants: nothing is awaited but what nodes do. Not here: loss and attackers (`scenarios/discovery-*`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use net_io_real::{Builder, EntityId, NetworkKey, Node, Session, StartError};

/// Set for the copy of this process that is inside.
const INSIDE: &str = "NET_TEST_INSIDE_A_NAMESPACE";
/// A loopback interface as every namespace has one, and a second interface of which the rest of the host knows nothing.
const SEGMENT: &str = "ip link set lo up && ip link add seg0 type veth peer name seg1 && ip addr add 10.77.0.1/24 dev seg0 && \
                       ip link set seg0 up && ip link set seg1 up";
/// A loopback interface alone.
const ALONE: &str = "ip link set lo up";

/// Whether this process is inside; otherwise runs the test `name` in a namespace that is set up by `prepare`.
fn is_inside(name: &str, prepare: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let possible = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", prepare])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("note: {name} was skipped: this host lets nobody make such a network namespace");
        return false;
    }
    let this = std::env::current_exe().expect("a test has a file");
    let outcome = Command::new("unshare")
        .args([
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            &format!("{prepare} && exec \"$@\""),
        ])
        .arg("sh")
        .arg(this)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("namespaces can be made");
    assert!(outcome.success(), "{name} fails inside of its namespace");
    false
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    // Nothing waits for time; this only keeps a broken test from hanging.
    let guarded = async { tokio::time::timeout(Duration::from_secs(60), test).await };
    runtime.block_on(guarded).expect("the test hangs");
}

fn builder(key: u8, address: &str) -> Builder {
    let key = NetworkKey::from_bytes(net_io_real::api::Secret([key; 32]));
    let address: SocketAddr = address.parse().expect("an address");
    Node::builder().address(address).network(key).multicast(true)
}

/// Sessions of one node, by peer, once it has one with each of `wanted`.
async fn meets(node: &Node, wanted: &BTreeSet<EntityId>) -> BTreeMap<EntityId, Session> {
    let mut met = BTreeMap::new();
    while met.len() < wanted.len() {
        let session = node.accept().await.expect("the node runs");
        assert!(wanted.contains(&session.peer()), "a peer of another network");
        met.insert(session.peer(), session);
    }
    met
}

/// All nodes meet all.
async fn all_meet(nodes: &[Node]) {
    let everybody: BTreeSet<EntityId> = nodes.iter().map(Node::entity).collect();
    let mut held = Vec::new();
    for node in nodes {
        let mut others = everybody.clone();
        others.remove(&node.entity());
        held.push(meets(node, &others).await);
    }
    assert!(held.iter().all(|sessions| sessions.len() == nodes.len() - 1));
}

async fn start(count: usize, key: u8, address: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(builder(key, address).bind().await.expect("a node starts"));
    }
    nodes
}

#[test]
fn ten_nodes_of_a_segment_meet_and_those_of_another_network_keep_to_themselves() {
    if is_inside(
        "ten_nodes_of_a_segment_meet_and_those_of_another_network_keep_to_themselves",
        SEGMENT,
    ) {
        run(async {
            let ours = start(10, 1, "0.0.0.0:0").await;
            let theirs = start(2, 2, "0.0.0.0:0").await;
            futures_util::future::join(all_meet(&ours), all_meet(&theirs)).await;
        });
    }
}

#[test]
fn nodes_of_a_host_without_a_network_meet_over_loopback() {
    if is_inside("nodes_of_a_host_without_a_network_meet_over_loopback", ALONE) {
        run(async {
            all_meet(&start(3, 1, "127.0.0.1:0").await).await;
            all_meet(&start(2, 2, "[::]:0").await).await;
        });
    }
}

#[test]
fn a_node_that_moves_is_met_at_its_new_address() {
    if is_inside("a_node_that_moves_is_met_at_its_new_address", SEGMENT) {
        run(async {
            let first = builder(1, "127.0.0.1:0").bind().await.expect("a node starts");
            let second = builder(1, "10.77.0.1:0").bind().await.expect("a node starts");
            // They share no interface until one of them moves.
            first
                .rebind("10.77.0.1:0".parse().expect("an address"))
                .expect("it moves");
            all_meet(&[first, second]).await;
        });
    }
}

#[test]
fn a_node_that_can_join_nowhere_does_not_start() {
    if is_inside("a_node_that_can_join_nowhere_does_not_start", "true") {
        run(async {
            let refused = builder(1, "0.0.0.0:0").bind().await.expect_err("no interface is up");
            assert_eq!(refused.code(), "multicast.failed");
            assert!(matches!(refused, StartError::Multicast { .. }));
            assert!(refused.to_string().contains("multicast"), "{refused}");
        });
    }
}
