//! Adversaries of a scenario: tables to values.
//!
//! Invariants: as everywhere in a scenario, an unknown name is an error.
//! Not here: what adversaries do (`world/adversary.rs`).

use super::faults::window;
use super::outline::Words;
use super::read::Names;
use super::table::{Read, Table};
use super::{Adversary, AdversaryKind, Lie, Pick};

/// An adversary's datagram travels this long, unless told otherwise.
pub const SHORTCUT: u64 = 1_000;

/// Kinds of adversaries.
pub const ADVERSARIES: Words = &[
    ("garbage", "off path: random bytes, some dressed as packets"),
    ("handshake_flood", "off path: first messages from spoofed sources"),
    ("replay", "on path: records what passes and sends copies again"),
    ("reflect", "on path: sends datagrams back to their sender"),
    (
        "splice",
        "on path: joins the header of one packet to the body of another",
    ),
    ("drop", "on path: drops by kind"),
    ("race", "on the side: damaged copies that arrive first"),
    ("forward", "off path: copies from its own address, faster than the path"),
    (
        "member",
        "a member: changes plaintext, or what it says of other machines, and seals it again (clear cipher)",
    ),
    (
        "stolen_key",
        "holds the victim's static key: first messages in a peer's name",
    ),
    (
        "reveal",
        "records everything and is given a node's live keys and generator state",
    ),
];

/// What a member may change of what it says.
const LIES: [(&str, Lie); 7] = [
    ("bytes", Lie::Bytes),
    ("metrics", Lie::Metrics),
    ("counts", Lie::Counts),
    ("names", Lie::Names),
    ("words", Lie::Words),
    ("replays", Lie::Replays),
    ("revives", Lie::Revives),
];

fn pick(table: &mut Table<'_>) -> Read<Pick> {
    let words = [
        ("all", Pick::All),
        ("initiation", Pick::Initiation),
        ("response", Pick::Response),
        ("cookie", Pick::Cookie),
        ("handshake", Pick::Handshake),
        ("protected", Pick::Protected),
        ("beacon", Pick::Beacon),
    ];
    Ok(table.word("what", &words)?.unwrap_or(Pick::All))
}

/// One adversary.
pub(super) fn adversary(mut table: Table<'_>, n: usize, names: &Names) -> Read<Adversary> {
    let word = table.choice("kind", "adversary", ADVERSARIES)?;
    let id = table.text("id")?.unwrap_or_else(|| format!("{word}-{n}"));
    let (at, until, when) = window(&mut table, names)?;
    let kind = match word {
        "garbage" | "handshake_flood" | "stolen_key" => maker(&mut table, word, names)?,
        _ => watcher(&mut table, word, names)?,
    };
    table.finish()?;
    Ok(Adversary {
        id,
        at,
        until,
        when,
        kind,
    })
}

/// One who makes datagrams up.
fn maker(table: &mut Table<'_>, word: &str, names: &Names) -> Read<AdversaryKind> {
    Ok(match word {
        "garbage" => AdversaryKind::Garbage {
            to: names.one(table, "to")?,
            count: table.number("count")?.unwrap_or(1_000),
            rate_milli: table.rate("rate")?.unwrap_or(1_000_000),
            spoof: names.optional(table, "spoof")?,
        },
        "handshake_flood" => AdversaryKind::HandshakeFlood {
            to: names.one(table, "to")?,
            count: table.number("count")?.unwrap_or(1_000),
            rate_milli: table.rate("rate")?.unwrap_or(1_000_000),
            network_key: table.flag("network_key")?,
            sources: table.number("sources")?.unwrap_or(0),
        },
        _ => AdversaryKind::StolenKey {
            to: names.one(table, "to")?,
            name: names.one(table, "name")?,
            count: table.number("count")?.unwrap_or(100),
            rate_milli: table.rate("rate")?.unwrap_or(10_000),
        },
    })
}

/// One who sees datagrams pass.
fn watcher(table: &mut Table<'_>, word: &str, names: &Names) -> Read<AdversaryKind> {
    let always = net_sim_model::PPB;
    Ok(match word {
        "replay" => {
            let (from, to) = names.ends(table)?;
            AdversaryKind::Replay {
                from,
                to,
                pick: pick(table)?,
                count: table.number("count")?.unwrap_or(1_000),
                rate_milli: table.rate("rate")?.unwrap_or(100_000),
                own_address: table.flag("own_address")?,
                behind: table.number("behind")?,
            }
        }
        "reflect" | "splice" | "drop" | "race" => {
            let (from, to) = names.ends(table)?;
            let (pick, ppb) = (pick(table)?, table.probability("p")?.unwrap_or(always));
            match word {
                "reflect" => AdversaryKind::Reflect { from, to, pick, ppb },
                "splice" => AdversaryKind::Splice { from, to, pick, ppb },
                "drop" => AdversaryKind::Drop { from, to, pick, ppb },
                _ => AdversaryKind::Race { from, to, pick, ppb },
            }
        }
        "forward" => {
            let (from, to) = names.ends(table)?;
            let ppb = table.probability("p")?.unwrap_or(always);
            AdversaryKind::Forward {
                from,
                to,
                ppb,
                back: table.flag("back")?,
                delay: table.time("delay")?.unwrap_or(SHORTCUT),
            }
        }
        "member" => AdversaryKind::Member {
            node: names.one(table, "node")?,
            ppb: table.probability("p")?.unwrap_or(always / 100),
            lies: table.word("lies", &LIES)?.unwrap_or(Lie::Bytes),
        },
        _ => AdversaryKind::Reveal {
            node: names.one(table, "node")?,
        },
    })
}
