//! Adversaries of a scenario: tables to values.
//!
//! Invariants: as everywhere in a scenario, an unknown name is an error.
//! Not here: what adversaries do (`world/adversary.rs`).

use super::faults::window;
use super::outline::Words;
use super::read::Names;
use super::table::{Read, Table};
use super::{Adversary, AdversaryKind, Pick};

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
        "a member: changes plaintext and seals it again (clear cipher)",
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

fn pick(table: &mut Table<'_>) -> Read<Pick> {
    let words = [
        ("all", Pick::All),
        ("initiation", Pick::Initiation),
        ("response", Pick::Response),
        ("cookie", Pick::Cookie),
        ("handshake", Pick::Handshake),
        ("protected", Pick::Protected),
    ];
    Ok(table.word("what", &words)?.unwrap_or(Pick::All))
}

/// One adversary.
pub(super) fn adversary(mut table: Table<'_>, n: usize, names: &Names) -> Read<Adversary> {
    let word = table.choice("kind", "adversary", ADVERSARIES)?;
    let id = table.text("id")?.unwrap_or_else(|| format!("{word}-{n}"));
    let (at, until, when) = window(&mut table, names)?;
    let always = net_sim_model::PPB;
    let kind = match word {
        "garbage" => AdversaryKind::Garbage {
            to: names.one(&mut table, "to")?,
            count: table.number("count")?.unwrap_or(1_000),
            rate_milli: table.rate("rate")?.unwrap_or(1_000_000),
            spoof: names.optional(&mut table, "spoof")?,
        },
        "handshake_flood" => AdversaryKind::HandshakeFlood {
            to: names.one(&mut table, "to")?,
            count: table.number("count")?.unwrap_or(1_000),
            rate_milli: table.rate("rate")?.unwrap_or(1_000_000),
            network_key: table.flag("network_key")?,
            sources: table.number("sources")?.unwrap_or(0),
        },
        "replay" => {
            let (from, to) = names.ends(&mut table)?;
            AdversaryKind::Replay {
                from,
                to,
                pick: pick(&mut table)?,
                count: table.number("count")?.unwrap_or(1_000),
                rate_milli: table.rate("rate")?.unwrap_or(100_000),
                own_address: table.flag("own_address")?,
                behind: table.number("behind")?,
            }
        }
        "reflect" | "splice" | "drop" | "race" => {
            let (from, to) = names.ends(&mut table)?;
            let (pick, ppb) = (pick(&mut table)?, table.probability("p")?.unwrap_or(always));
            match word {
                "reflect" => AdversaryKind::Reflect { from, to, pick, ppb },
                "splice" => AdversaryKind::Splice { from, to, pick, ppb },
                "drop" => AdversaryKind::Drop { from, to, pick, ppb },
                _ => AdversaryKind::Race { from, to, pick, ppb },
            }
        }
        "forward" => {
            let (from, to) = names.ends(&mut table)?;
            let ppb = table.probability("p")?.unwrap_or(always);
            AdversaryKind::Forward {
                from,
                to,
                ppb,
                back: table.flag("back")?,
            }
        }
        "stolen_key" => AdversaryKind::StolenKey {
            to: names.one(&mut table, "to")?,
            name: names.one(&mut table, "name")?,
            count: table.number("count")?.unwrap_or(100),
            rate_milli: table.rate("rate")?.unwrap_or(10_000),
        },
        "member" => AdversaryKind::Member {
            node: names.one(&mut table, "node")?,
            ppb: table.probability("p")?.unwrap_or(always / 100),
        },
        _ => AdversaryKind::Reveal {
            node: names.one(&mut table, "node")?,
        },
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
