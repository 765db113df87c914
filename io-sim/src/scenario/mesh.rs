//! The section `[mesh]`: that machines keep routes, how they are linked, and how exact routes must be in the end.
//!
//! Invariants: a link is named once. Not here: what routes are (`net-kernel`), what is checked (`check/mesh.rs`).

use net_kernel::api::MeshConfig;
use net_kernel::base::Duration;
use net_kernel::base::limit::MAX_ADDRESSES;
use net_sim_model::Key;
use std::collections::BTreeSet;

use super::outline::Words;
use super::read::Names;
use super::table::{Read, Table};
use super::{MeshSpec, NodeIndex, Said};

/// Links of each machine of a small world.
const DEGREE: u64 = 4;

/// Shapes of a mesh.
pub const SHAPES: Words = &[
    ("none", "only the links that are listed"),
    ("line", "each machine with the next one"),
    ("ring", "a line whose last machine is linked to the first"),
    (
        "grid",
        "rows of equal length, each machine with its neighbours in row and column",
    ),
    (
        "small-world",
        "a ring with as many links across it, to machines drawn once for all seeds, as make `degree` links for each on average",
    ),
    ("full", "each machine with every other"),
];

#[derive(Clone, Copy)]
enum Shape {
    None,
    Line,
    Ring,
    Grid,
    SmallWorld,
    Full,
}

/// Reads the section.
pub(super) fn mesh(mut table: Table<'_>, names: &Names) -> Read<MeshSpec> {
    let base = MeshConfig::default();
    let time = |value: Option<u64>, base: Duration| value.map_or(base, Duration::from_nanos);
    let config = MeshConfig {
        pingwave: time(table.time("pingwave")?, base.pingwave),
        heartbeat: time(table.time("heartbeat")?, base.heartbeat),
        radius: table
            .number("radius")?
            .map_or(base.radius, |radius| radius.min(255) as u8),
        relays: Some(true),
        ..base
    };
    if !config.is_sound() {
        let what = "pingwaves come every 1 s to 60 s, heartbeats every 10 ms to 60 s, and go over 1 to 16 hops";
        return Err(table.error(what));
    }
    let shape = table
        .word(
            "shape",
            &[
                ("none", Shape::None),
                ("line", Shape::Line),
                ("ring", Shape::Ring),
                ("grid", Shape::Grid),
                ("small-world", Shape::SmallWorld),
                ("full", Shape::Full),
            ],
        )?
        .unwrap_or(Shape::None);
    let width = table.number("width")?.map(|width| width as u32);
    let degree = table.number("degree")?.unwrap_or(DEGREE);
    if !(1..=32).contains(&degree) {
        return Err(table.error("`degree` is 1 to 32 links for each machine"));
    }
    let mut links = shaped(shape, names.nodes.len() as u32, width, degree as u32);
    for pair in table.texts("links")?.unwrap_or_default() {
        let Some((from, to)) = pair.split_once('-') else {
            return Err(table.error_at("links", format!("`{pair}` is no link: write two nodes as `a-b`")));
        };
        let ends = (names.find(&table, "links", from)?, names.find(&table, "links", to)?);
        if !links.contains(&ends) && !links.contains(&(ends.1, ends.0)) {
            links.push(ends);
        }
    }
    let converge = table
        .word("converge", &[("true", true), ("false", false)])?
        .unwrap_or(true);
    let multicast = table.word(
        "multicast",
        &[
            ("off", None),
            ("address", Some(Said::Address)),
            ("source", Some(Said::Nothing)),
        ],
    )?;
    let dead_addresses = table.number("dead_addresses")?.unwrap_or(0);
    if dead_addresses >= MAX_ADDRESSES as u64 {
        let what = format!("a peer is dialled at up to {MAX_ADDRESSES} addresses, the right one included");
        return Err(table.error_at("dead_addresses", what));
    }
    table.finish()?;
    Ok(MeshSpec {
        config,
        links,
        converge,
        multicast: multicast.flatten(),
        dead_addresses,
    })
}

fn shaped(shape: Shape, count: u32, width: Option<u32>, degree: u32) -> Vec<(NodeIndex, NodeIndex)> {
    let line = (1..count).map(|n| (n - 1, n));
    match shape {
        Shape::None => Vec::new(),
        Shape::Line => line.collect(),
        Shape::Ring if count > 2 => line.chain([(count - 1, 0)]).collect(),
        Shape::Ring => line.collect(),
        Shape::SmallWorld => small_world(count, degree),
        Shape::Full => (0..count).flat_map(|a| (0..a).map(move |b| (b, a))).collect(),
        Shape::Grid => {
            let width = width
                .unwrap_or_else(|| (1..=count).find(|side| side * side >= count).unwrap_or(1))
                .max(1);
            let right = (0..count)
                .filter(|n| (n + 1) % width != 0 && n + 1 < count)
                .map(|n| (n, n + 1));
            let below = (0..count.saturating_sub(width)).map(|n| (n, n + width));
            right.chain(below).collect()
        }
    }
}

/// A ring, and chords to machines that a key of its own draws, so that the mesh is the same under every seed.
fn small_world(count: u32, degree: u32) -> Vec<(NodeIndex, NodeIndex)> {
    let key = Key::new(0).with_text("small-world");
    let mut known: BTreeSet<(NodeIndex, NodeIndex)> = shaped(Shape::Ring, count, None, degree)
        .into_iter()
        .map(|(a, b)| (a.min(b), a.max(b)))
        .collect();
    let most = u64::from(count) * u64::from(count.saturating_sub(1)) / 2;
    let wanted = (u64::from(count) * u64::from(degree) / 2).min(most) as usize;
    let mut draw = 0;
    while known.len() < wanted {
        let (a, b) = (
            key.below(draw, u64::from(count)) as u32,
            key.below(draw + 1, u64::from(count)) as u32,
        );
        draw += 2;
        if a != b {
            known.insert((a.min(b), a.max(b)));
        }
    }
    known.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_links_they_are_named_for() {
        assert_eq!(shaped(Shape::Line, 3, None, 4), [(0, 1), (1, 2)]);
        assert_eq!(shaped(Shape::Ring, 3, None, 4), [(0, 1), (1, 2), (2, 0)]);
        assert_eq!(shaped(Shape::Ring, 2, None, 4), [(0, 1)]);
        assert_eq!(shaped(Shape::Grid, 4, None, 4), [(0, 1), (2, 3), (0, 2), (1, 3)]);
        assert_eq!(shaped(Shape::Full, 4, None, 4).len(), 6);
        let wide = shaped(Shape::SmallWorld, 100, None, 6);
        assert_eq!(wide.len(), 300, "six for each, and every link has two ends");
        assert!((0..99).all(|n| wide.contains(&(n, n + 1))) && wide.contains(&(0, 99)));
        assert!(wide.iter().all(|(a, b)| a < b));
        assert_eq!(
            shaped(Shape::SmallWorld, 4, None, 32).len(),
            6,
            "no more than there are pairs"
        );
    }
}
