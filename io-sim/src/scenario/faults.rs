//! Faults of a scenario and what sets them off: tables to values.
//!
//! Invariants: a fault has a time or an event, never both; names that two faults share are found by the reader.
//! Not here: what faults do (`world/script.rs`, `net-sim-model`).

use net_sim_model::{Damage, DiskFault, Effect, LinkSpec};

use super::outline::Words;
use super::read::{Names, damage, delay, kinds, link, loss, rate};
use super::table::{Read, Table};
use super::{Fault, FaultKind, Happening, NodeIndex, Trigger};

/// Kinds of faults.
pub const FAULTS: Words = &[
    (
        "partition",
        "nothing passes: between sets, one way, a bridge, a ring, flapping",
    ),
    ("loss", "loss beside the link's own"),
    ("delay", "delay on top of the link's own"),
    ("reorder", "datagrams are held back behind later ones"),
    ("dup", "datagrams arrive twice"),
    ("corrupt", "datagrams are damaged: bits, truncated, extended"),
    ("rate", "a bottleneck with a queue in place of the link's own"),
    ("mtu", "a black hole for long datagrams"),
    ("crash", "the process dies and is started again at the end"),
    ("restart", "the process dies and is started again at once"),
    (
        "restore_disk",
        "the process is started again from an old copy of its disk",
    ),
    ("clone", "a second process with a copy of the disk and the identity"),
    ("pause", "the process is stopped; datagrams wait"),
    ("suspend", "the machine sleeps; datagrams are lost"),
    ("rebind", "the machine gets another address"),
    (
        "interface",
        "the machine uses another network: another address, other links",
    ),
    (
        "nat_rebind",
        "a NAT box gives every mapping another port, or gets another address",
    ),
    ("nat_reboot", "a NAT box goes off and forgets its mappings"),
    ("clock_jump", "the wall clock is set"),
    ("clock_drift", "the clock runs at another speed"),
    ("clock_freeze", "the clock stands still"),
    (
        "disk",
        "the disk is full, failing, denied, slow, rots, misdirects or does not sync",
    ),
];

/// Events that set a fault off.
pub const EVENTS: Words = &[
    ("boot", "a process was started"),
    ("down", "a process ended"),
    ("dialled", "an application dialled"),
    ("session-up", "a session came to be"),
    ("session-down", "a session ended"),
    ("connect-failed", "a dial failed"),
    ("rekeyed", "keys were replaced"),
    ("moved", "a peer's address changed"),
    ("stream-opened", "a peer opened a stream"),
    ("writing", "a write began"),
    ("stored", "a write reached the disk"),
    ("store-failed", "a write failed"),
    ("sent", "a datagram was sent"),
    ("received", "a datagram was received"),
    ("delivered", "a message of a workload was delivered"),
];

/// When a fault begins and ends, and what sets it off: then both are relative to that.
pub(super) fn window(table: &mut Table<'_>, names: &Names) -> Read<(u64, u64, Option<Trigger>)> {
    let (at, lasts) = (table.time("at")?, table.time("for")?);
    let (when, after) = (table.table("when")?, table.time("after")?);
    let when = match when {
        None if after.is_some() && !table.outlined() => {
            return Err(table.error_at("after", "`after` counts from an event: it needs `when`"));
        }
        None => None,
        Some(_) if at.is_some() && !table.outlined() => {
            return Err(table.error_at(
                "at",
                "`at` is a time and `when` an event: use one (and `after` with `when`)",
            ));
        }
        Some(when) => Some(trigger(when, names)?),
    };
    let at = if when.is_some() { after } else { at }.unwrap_or(0);
    let until = lasts.map_or(u64::MAX, |lasts| at.saturating_add(lasts));
    Ok((at, until, when))
}

fn trigger(mut table: Table<'_>, names: &Names) -> Read<Trigger> {
    let word = table.choice("event", "event", EVENTS)?;
    let event = match word {
        "boot" => Happening::Boot,
        "down" => Happening::Down,
        "dialled" => Happening::Dialled,
        "session-up" => Happening::SessionUp,
        "session-down" => Happening::SessionDown,
        "connect-failed" => Happening::ConnectFailed,
        "rekeyed" => Happening::Rekeyed,
        "moved" => Happening::Moved,
        "stream-opened" => Happening::StreamOpened,
        "writing" => Happening::Writing,
        "stored" => Happening::Stored,
        "store-failed" => Happening::StoreFailed,
        "sent" => Happening::Sent,
        "received" => Happening::Received,
        _ => Happening::Delivered,
    };
    let (mut kind, mut workload) = (None, None);
    match event {
        Happening::Sent | Happening::Received => kind = kinds(&mut table, "what")?,
        Happening::Delivered => workload = names.workload(&mut table, "workload")?,
        Happening::Boot
        | Happening::Down
        | Happening::Dialled
        | Happening::SessionUp
        | Happening::SessionDown
        | Happening::ConnectFailed
        | Happening::Rekeyed
        | Happening::Moved
        | Happening::StreamOpened
        | Happening::Writing
        | Happening::Stored
        | Happening::StoreFailed => {}
    }
    let node = names.optional(&mut table, "node")?;
    let nth = table.number("nth")?.unwrap_or(1);
    if nth == 0 {
        return Err(table.error_at("nth", "events are counted from 1"));
    }
    table.finish()?;
    Ok(Trigger {
        event,
        node,
        workload,
        kind,
        nth,
    })
}

/// One fault.
pub(super) fn fault(mut table: Table<'_>, n: usize, names: &Names) -> Read<Fault> {
    let word = table.choice("kind", "fault", FAULTS)?;
    let id = table.text("id")?.unwrap_or_else(|| format!("{word}-{n}"));
    let (at, mut until, when) = window(&mut table, names)?;
    let kind = match word {
        "partition" | "loss" | "delay" | "reorder" | "dup" | "corrupt" | "rate" | "mtu" => {
            link_fault(&mut table, word, names)?
        }
        "nat_rebind" => FaultKind::NatRebind {
            nat: names.nat(&mut table, "nat")?,
            address: table
                .word("what", &[("port", false), ("address", true)])?
                .unwrap_or(false),
        },
        "nat_reboot" => FaultKind::NatReboot {
            nat: names.nat(&mut table, "nat")?,
        },
        _ => machine_fault(&mut table, word, names)?,
    };
    if word == "restart" {
        until = at;
    }
    if let FaultKind::RestoreDisk { taken, .. } = kind
        && when.is_none()
        && taken > at
        && table.resolved()
    {
        return Err(table.error_at("taken", "the copy of the disk is taken after it is restored"));
    }
    table.finish()?;
    Ok(Fault {
        id,
        at,
        until,
        when,
        kind,
    })
}

/// A fault of one machine.
fn machine_fault(table: &mut Table<'_>, word: &str, names: &Names) -> Read<FaultKind> {
    let node = names.one(table, "node")?;
    Ok(match word {
        "crash" | "restart" => FaultKind::Crash {
            node,
            same_seed: table.flag("same_seed")?,
        },
        "restore_disk" => FaultKind::RestoreDisk {
            node,
            taken: table.need_time("taken")?,
        },
        "clone" => FaultKind::Clone {
            node,
            same_seed: table.flag("same_seed")?,
        },
        "pause" => FaultKind::Pause { node },
        "suspend" => FaultKind::Suspend { node },
        "rebind" => FaultKind::Rebind {
            node,
            told: table.flag("told")?,
        },
        "interface" => {
            let told = table.flag("told")?;
            let own = table.table("link")?;
            let own = own.map(|table| link(table, LinkSpec::clean(10_000_000))).transpose()?;
            FaultKind::Interface { node, told, link: own }
        }
        "clock_jump" => FaultKind::ClockJump {
            node,
            by: table
                .signed_time("by")?
                .ok_or_else(|| table.error("clock_jump needs `by`"))?,
        },
        "clock_drift" => FaultKind::ClockDrift {
            node,
            ppb: table
                .signed("ppb")?
                .ok_or_else(|| table.error("clock_drift needs `ppb`"))?,
        },
        "clock_freeze" => FaultKind::ClockFreeze { node },
        _ => disk_fault(table, node)?,
    })
}

/// Cells of a disk by name: the boot epoch, and what the kernel keeps.
const CELLS: [(&str, &str); 2] = [("boot-epoch", "boot-epoch"), ("peer-epochs", "peer-epochs")];

fn disk_fault(table: &mut Table<'_>, node: NodeIndex) -> Read<FaultKind> {
    let (slow, rotten) = (table.number("slow")?, table.word("cell", &CELLS)?);
    let words = [
        ("full", Some(DiskFault::Full)),
        ("failing", Some(DiskFault::Failing)),
        ("denied", Some(DiskFault::Denied)),
        ("sync", Some(DiskFault::Sync)),
        ("misdirected", Some(DiskFault::Misdirected)),
        ("rot", None),
    ];
    let mode = table.word("mode", &words)?;
    match (mode, slow) {
        (None, Some(factor)) => Ok(FaultKind::DiskSlow { node, factor }),
        (Some(None), None) => Ok(FaultKind::DiskRot { node, cell: rotten }),
        (Some(_), None) if rotten.is_some() => Err(table.error_at("cell", "only `mode = \"rot\"` has a cell")),
        (Some(Some(fault)), None) => Ok(FaultKind::Disk { node, fault }),
        (Some(_), Some(_)) if table.outlined() => Ok(FaultKind::DiskRot { node, cell: rotten }),
        (Some(_), Some(_)) => Err(table.error_at("slow", "a disk fault has `mode` or `slow`: use two faults")),
        (None, None) => Err(table.error("a disk fault needs `mode` or `slow`")),
    }
}

fn link_fault(table: &mut Table<'_>, word: &str, names: &Names) -> Read<FaultKind> {
    let (mut from, mut to) = (names.many(table, "from")?, names.many(table, "to")?);
    let mut both = table.flag("both")?;
    if from.len() == 1 && from == to {
        return Err(table.error_at("to", "a node has no link to itself: this touches nothing"));
    }
    let mut spared = Vec::new();
    let missing = |table: &Table<'_>, key: &str| table.error(format!("a {word} fault needs `{key}`"));
    let effect = match word {
        "partition" => {
            (from, to, both, spared) = shape(table, names, (from, to, both))?;
            let flap = match (table.time("up")?, table.time("down")?) {
                (Some(up), Some(down)) => Some((up, down)),
                (None, None) => None,
                (Some(_), None) | (None, Some(_)) => {
                    return Err(table.error("a flapping partition needs both `up` and `down`"));
                }
            };
            Effect::Partition { flap }
        }
        "loss" => Effect::Loss(loss(table)?.ok_or_else(|| missing(table, "loss"))?),
        "delay" => Effect::Delay(delay(table, "delay")?.ok_or_else(|| missing(table, "delay"))?),
        "reorder" => Effect::Reorder {
            ppb: table.probability("p")?.ok_or_else(|| missing(table, "p"))?,
            hold: table.time("hold")?.unwrap_or(10_000_000),
        },
        "dup" => Effect::Duplicate {
            ppb: table.probability("p")?.ok_or_else(|| missing(table, "p"))?,
        },
        "corrupt" => Effect::Corrupt {
            ppb: table.probability("p")?.ok_or_else(|| missing(table, "p"))?,
            damage: damage(table)?.unwrap_or(Damage::Any),
        },
        "rate" => Effect::Rate(rate(table)?.ok_or_else(|| missing(table, "rate"))?),
        _ => Effect::Mtu(table.size("mtu")?.ok_or_else(|| missing(table, "mtu"))? as u32),
    };
    Ok(FaultKind::Link {
        from,
        to,
        both,
        spared,
        effect,
    })
}

/// Sending nodes, receiving nodes, whether the other direction is meant too, directions that are spared.
type Cut = (Vec<NodeIndex>, Vec<NodeIndex>, bool, Vec<(NodeIndex, NodeIndex)>);

/// The shape of a partition. A bridge parts all nodes into two sides that only one node reaches both of; in a ring every
/// node reaches its two neighbours in the list alone.
fn shape(table: &mut Table<'_>, names: &Names, sets: (Vec<NodeIndex>, Vec<NodeIndex>, bool)) -> Read<Cut> {
    let words = [("sets", 0), ("bridge", 1), ("ring", 2)];
    let shape = table.word("shape", &words)?.unwrap_or(0);
    let (over, ring) = (names.optional(table, "over")?, names.many(table, "nodes")?);
    let (mut from, mut to, both) = sets;
    let misplaced = match shape {
        _ if table.outlined() => None,
        0 if over.is_some() => Some(("over", "only a bridge leads `over` a node")),
        0 | 1 if !ring.is_empty() => Some(("nodes", "only a ring has `nodes`; sets are `from` and `to`")),
        2 if !from.is_empty() || !to.is_empty() => Some(("from", "a ring has `nodes`, in order, and no ends")),
        _ => None,
    };
    if let Some((key, what)) = misplaced {
        return Err(table.error_at(key, what));
    }
    let all = 0..names.nodes.len() as NodeIndex;
    match shape {
        1 => {
            let over = over.ok_or_else(|| table.error("a bridge needs `over`, the node that reaches both sides"))?;
            if from.is_empty() && to.is_empty() {
                let others: Vec<NodeIndex> = all.filter(|node| *node != over).collect();
                let (left, right) = others.split_at(others.len() / 2);
                (from, to) = (left.to_vec(), right.to_vec());
            }
            if from.is_empty() || to.is_empty() || from.contains(&over) || to.contains(&over) {
                return Err(table.error("a bridge needs a node that is on neither side, and a node on each side"));
            }
            Ok((from, to, true, Vec::new()))
        }
        2 => {
            let ring: Vec<NodeIndex> = if ring.is_empty() { all.collect() } else { ring };
            if ring.len() < 4 && !table.outlined() {
                return Err(table.error("in a ring of fewer than four everybody has everybody for a neighbour"));
            }
            let next = ring.iter().copied().cycle().skip(1);
            let pairs = ring.iter().copied().zip(next);
            let spared = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
            Ok((ring.clone(), ring, false, spared))
        }
        _ => Ok((from, to, both, Vec::new())),
    }
}
