//! Nodes of a mesh over real UDP on loopback: joining, snapshots, facts, failure.

use std::time::Duration;

use net_io_real::api::Addr;
use net_io_real::{
    Builder, ConnectError, Fact, Health, MeshConfig, MeshEvent, MeshEvents, Node, Refused, Session, Standing,
};

/// No test waits for time; this only keeps a broken one from hanging.
async fn guard<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .expect("the test hangs")
}

fn builder() -> Builder {
    Node::builder().address(([127, 0, 0, 1], 0).into())
}

fn quick() -> MeshConfig {
    MeshConfig {
        pingwave: net_io_real::api::Duration::from_secs(1),
        heartbeat: net_io_real::api::Duration::from_millis(100),
        relays: Some(true),
        ..MeshConfig::default()
    }
}

/// A node whose accepted sessions are held for as long as they last.
async fn node() -> Node {
    let node = builder().mesh(quick()).bind().await.expect("it starts");
    let accepting = node.clone();
    tokio::spawn(async move {
        while let Some(session) = accepting.accept().await {
            tokio::spawn(async move { session.closed().await });
        }
    });
    node
}

fn join(from: &Node, to: &Node) {
    let addresses: Vec<Addr> = to.ticket().addresses.clone();
    from.join(to.entity(), &addresses).expect("a mesh");
}

async fn until(events: &mut MeshEvents, wanted: impl Fn(&Fact) -> bool) {
    loop {
        match events.next().await.expect("the node runs") {
            MeshEvent::Fact(fact) if wanted(&fact) => return,
            MeshEvent::Fact(_) => {}
            MeshEvent::Missed(_) => panic!("nothing was missed"),
        }
    }
}

async fn until_found(events: &mut MeshEvents, node: &Node) {
    until(
        events,
        |fact| matches!(fact, Fact::Found { node: found, .. } if *found == node.entity()),
    )
    .await;
}

#[tokio::test]
async fn three_in_a_line_find_each_other() {
    guard(async {
        let (a, b, c) = (node().await, node().await, node().await);
        let (mut from_a, mut from_c) = (a.mesh_events(), c.mesh_events());
        join(&a, &b);
        join(&c, &b);
        until_found(&mut from_a, &c).await;
        until_found(&mut from_c, &a).await;

        let seen = a.mesh().unwrap();
        assert_eq!(seen.joined, vec![(b.entity(), b.ticket().addresses)]);
        let neighbours: Vec<_> = seen.neighbours.iter().map(|n| (n.entity, n.standing)).collect();
        assert_eq!(neighbours, vec![(b.entity(), Standing::Alive)]);
        assert!(seen.neighbours[0].rtt > Duration::ZERO && seen.neighbours[0].datagrams[0] > 0);
        let far = seen.nodes.iter().find(|node| node.entity == c.entity()).unwrap();
        assert_eq!((far.health, far.load, far.relays), (Health::Good, 0, true));
        assert_eq!(
            (far.route().next, far.route().hops, far.route().used),
            (b.entity(), 2, true)
        );
        assert!(far.route().rtt >= seen.neighbours[0].cost.unwrap());

        let text = {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &a.metrics()).unwrap();
            text
        };
        for line in [
            "net_mesh_nodes 2",
            "net_mesh_neighbours 1",
            "net_mesh_facts_total{kind=\"found\"} 2",
            "net_relayed_packets_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_node_says_of_itself_arrives_beyond_its_neighbours() {
    guard(async {
        let (a, b, c) = (node().await, node().await, node().await);
        let mut from_a = a.mesh_events();
        join(&a, &b);
        join(&c, &b);
        until_found(&mut from_a, &c).await;
        assert_eq!(c.describe(1_001, Health::Good), Err(Refused::BadArgument));
        c.describe(400, Health::Degraded).unwrap();
        loop {
            let seen = a.mesh().unwrap();
            let far = seen.nodes.iter().find(|node| node.entity == c.entity());
            if far.is_some_and(|far| far.load == 400 && far.health == Health::Degraded) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_neighbour_that_stops_is_lost_and_one_that_is_left_is_not_dialled_again() {
    guard(async {
        let (a, b) = (node().await, node().await);
        let mut from_a = a.mesh_events();
        join(&a, &b);
        until_found(&mut from_a, &b).await;
        assert!(a.leave(b.entity()), "it was kept");
        assert!(!a.leave(b.entity()), "it is not kept any more");
        b.close().await;
        until(&mut from_a, |fact| *fact == Fact::Lost(b.entity())).await;
        let seen = a.mesh().unwrap();
        assert!(seen.nodes.is_empty() && seen.joined.is_empty(), "{seen:?}");
        a.close().await;
        while from_a.next().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn reach_answers_with_the_session_there_is_or_dials_where_it_was_joined() {
    guard(async {
        let (a, b, c) = (node().await, node().await, node().await);
        let (mut from_a, mut from_b) = (a.mesh_events(), b.mesh_events());
        join(&a, &b);
        let dialled: Session = a.reach(b.entity()).await.unwrap();
        until_found(&mut from_a, &b).await;
        until_found(&mut from_b, &a).await;
        let (asked, other) = (dialled.stats().unwrap(), a.reach(b.entity()).await.unwrap());
        assert_eq!(asked.address, other.stats().unwrap().address);
        assert_eq!(b.mesh().unwrap().neighbours.len(), 1, "it is one session");
        // Nobody is known at an address, nor by the mesh.
        let refused = a.reach(c.entity()).await.unwrap_err();
        assert!(
            matches!(refused, ConnectError::Refused { .. } | ConnectError::Failed { .. }),
            "{refused}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_node_without_a_mesh_refuses_to_join() {
    guard(async {
        let (a, b) = (builder().bind().await.unwrap(), node().await);
        assert_eq!(a.join(b.entity(), &b.ticket().addresses), Err(Refused::NoMesh));
        assert_eq!(a.describe(0, Health::Good), Err(Refused::NoMesh));
        assert!(a.mesh().is_none());
        let own = b.join(b.entity(), &b.ticket().addresses);
        assert_eq!(own, Err(Refused::OwnIdentity));
        assert_eq!(b.join(a.entity(), &[]), Err(Refused::BadAddresses));
    })
    .await;
}
