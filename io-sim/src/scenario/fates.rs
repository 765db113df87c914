//! Explicit fates of a scenario: which datagrams of a direction are lost, held, doubled or damaged.
//!
//! ```toml
//! [[fate]]
//! kind = "loss"           # loss, hold, dup or corrupt
//! from = "a"
//! to = "b"
//! n = [17, 23, 40]        # numbers of datagrams on their way from a to b, counted from 0
//! of = "burst"            # the fault under whose name it was decided; none: the link itself
//! ```
//!
//! For how long a datagram is held and what damage it takes follows from the seed and that name, so that a chance that is
//! written down means the same as before.
//! Invariants: numbers are sorted and distinct.
//! Not here: what becomes of the datagrams (`net-sim-model`), how chances are written down (`shrink/`).

use net_sim_model::{Damage, FateKind, Listed};
use toml::{Table as Doc, Value};

use super::outline::Words;
use super::read::{Names, damage};
use super::table::{Read, Table};
use super::{Fate, NodeIndex};

/// Kinds of fates.
pub const FATES: Words = &[
    ("loss", "these datagrams do not arrive"),
    ("hold", "these datagrams arrive behind later ones"),
    ("dup", "these datagrams arrive twice"),
    ("corrupt", "these datagrams arrive damaged"),
];

/// Held back up to this long unless told otherwise, ns.
const HOLD: u64 = 5_000_000;

/// One list.
pub(super) fn fate(mut table: Table<'_>, names: &Names) -> Read<Fate> {
    let word = table.choice("kind", "fate", FATES)?;
    let (from, to) = names.ends(&mut table)?;
    let of = table.text("of")?;
    let mut datagrams = table.numbers("n")?;
    datagrams.sort_unstable();
    datagrams.dedup();
    let mut listed = Listed {
        kind: FateKind::Lost,
        hold: 0,
        damage: Damage::Any,
        datagrams,
    };
    match word {
        "hold" => {
            listed.kind = FateKind::Held;
            listed.hold = table.time("hold")?.unwrap_or(HOLD);
        }
        "dup" => listed.kind = FateKind::Doubled,
        "corrupt" => {
            listed.kind = FateKind::Damaged;
            listed.damage = damage(&mut table)?.unwrap_or(Damage::Any);
        }
        _ => {}
    }
    table.finish()?;
    Ok(Fate { from, to, of, listed })
}

/// A list as an entry of a file; `name` tells a node's.
#[must_use]
pub fn written(fate: &Fate, name: impl Fn(NodeIndex) -> String) -> Doc {
    let mut entry = Doc::new();
    let mut put = |key: &str, value: Value| {
        entry.insert(key.to_owned(), value);
    };
    put("kind", Value::String(fate.listed.kind.name().to_owned()));
    put("from", Value::String(name(fate.from)));
    put("to", Value::String(name(fate.to)));
    let numbers = fate.listed.datagrams.iter().filter_map(|n| i64::try_from(*n).ok());
    put("n", Value::Array(numbers.map(Value::Integer).collect()));
    if let Some(of) = &fate.of {
        put("of", Value::String(of.clone()));
    }
    match fate.listed.kind {
        FateKind::Held => put("hold", Value::String(format!("{}ns", fate.listed.hold))),
        FateKind::Damaged => {
            let word = match fate.listed.damage {
                Damage::Bits => "bits",
                Damage::Truncate => "truncate",
                Damage::Extend => "extend",
                Damage::Any => "any",
            };
            put("damage", Value::String(word.to_owned()));
        }
        FateKind::Lost | FateKind::Doubled => {}
    }
    entry
}
