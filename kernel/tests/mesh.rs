//! A mesh of real kernels: who is found over whom, and what a node that is part of none makes of its neighbours' words.
//!
//! Invariants: see each test. Not here: the machine by itself (`net-mesh`), faults (`scenarios/mesh-*.toml`).

mod common;

use common::{Pair, boot};
use net_kernel::api::{Command, Event, Fact, Health, MeshConfig, Refused, SessionConfig};
use net_kernel::base::Duration;

/// Kernels 0, 1 and 2 in a row; all but `outside` are part of the mesh.
fn row(seed: u64, outside: Option<usize>) -> Pair {
    let boots = (0..3).map(|side| {
        let mut boot = boot(seed * 10 + side, 1, &SessionConfig::default(), 1);
        boot.mesh = (outside != Some(side as usize)).then(MeshConfig::default);
        boot
    });
    let mut row = Pair::booted(seed, boots.collect());
    row.connect_between(0, 1);
    row.connect_between(1, 2);
    row
}

fn reaches(row: &Pair, from: usize, to: usize) -> Option<u8> {
    let mesh = row.sides[from].kernel.mesh()?;
    mesh.routes().route(&row.entity(to)).map(|route| route.hops)
}

#[test]
fn the_ends_of_a_row_are_found_over_its_middle_and_lost_with_it() {
    let mut row = row(1, None);
    row.run_until(Duration::from_secs(5), "routes", |row| {
        reaches(row, 0, 2) == Some(2) && reaches(row, 2, 0) == Some(2)
    });
    let links: Vec<_> = row.sides[0].kernel.mesh().expect("a mesh").neighbours().collect();
    assert!(links.len() == 1 && links[0].counts && links[0].peer == row.entity(1));
    row.run_for(Duration::from_secs(60));
    assert!(
        !row.has_event(0, |event| matches!(
            event,
            Event::Mesh(Fact::Suspected(_) | Fact::Lost(_))
        )),
        "silence of applications is no silence of nodes"
    );
    let session = row.session_with(1, 2).expect("a session");
    row.command(
        1,
        Command::Close {
            session,
            code: 0,
            reason: "",
        },
    );
    row.run_until(Duration::from_secs(5), "the end of the route", |row| {
        reaches(row, 0, 2).is_none()
    });
    let lost = row.entity(2);
    assert!(row.has_event(
        0,
        |event| matches!(event, Event::Mesh(Fact::Lost(node)) if *node == lost)
    ));
}

#[test]
fn what_a_node_says_of_itself_is_known_behind_its_neighbours() {
    let mut row = row(3, None);
    row.run_until(Duration::from_secs(5), "routes", |row| reaches(row, 0, 2) == Some(2));
    let (load, health) = (300, Health::Degraded);
    row.command(2, Command::Describe { load, health });
    let told = |row: &Pair| {
        let mesh = row.sides[0].kernel.mesh().expect("a mesh");
        mesh.routes().core(&row.entity(2)).map(|core| (core.load, core.health))
    };
    row.run_until(Duration::from_secs(1), "news before the next pingwave", |row| {
        told(row) == Some((load, health))
    });
    let id = row.command(2, Command::Describe { load: 1_001, health });
    assert!(row.has_event(2, |event| {
        matches!(event, Event::Refused { command, why: Refused::BadArgument } if *command == id)
    }));
}

#[test]
fn a_node_outside_the_mesh_hears_nothing_of_it_and_disturbs_nobody() {
    let mut row = row(2, Some(1));
    row.run_for(Duration::from_secs(200));
    assert_eq!(reaches(&row, 0, 2), None);
    assert!(!row.has_event(1, |event| matches!(event, Event::StreamOpened { .. } | Event::Mesh(_))));
    assert!(!row.has_event(0, |event| matches!(event, Event::Closed { .. })));
    let (a, b) = (row.session_with(0, 1).expect("up"), row.session_with(1, 0).expect("up"));
    row.assert_works(a, b);
    let peer = row.entity(0);
    let addresses = [common::address(0)];
    let join = Command::Join {
        peer,
        addresses: &addresses,
    };
    let id = row.command(1, join);
    assert!(row.has_event(1, |event| {
        matches!(event, Event::Refused { command, why: Refused::NoMesh } if *command == id)
    }));
}

#[test]
fn a_peer_that_is_to_be_kept_is_dialled_until_it_is_there() {
    let boots = (0..2).map(|side| {
        let mut boot = boot(70 + side, 1, &SessionConfig::default(), 1);
        boot.mesh = Some(MeshConfig::default());
        boot
    });
    let mut pair: Pair = Pair::booted(7, boots.collect());
    let peer = pair.entity(1);
    let addresses = [common::address(1)];
    let join = Command::Join {
        peer,
        addresses: &addresses,
    };
    pair.command(0, join);
    pair.run_until(Duration::from_secs(10), "a session", |pair| pair.session(0).is_some());
    let session = pair.session(0).expect("a session");
    pair.command(
        0,
        Command::Close {
            session,
            code: 0,
            reason: "",
        },
    );
    pair.run_until(Duration::from_secs(10), "another session", |pair| {
        pair.session(0).is_some_and(|now| now != session)
    });
}
