//! NAT boxes of a scenario: `nat = "port-restricted"` at a node, or `[[topology.nat]]` for a box of many.
//!
//! Invariants: every node that is behind a box is behind one that exists; a node's own box bears the node's name.
//! Not here: what a box does (`net-sim-model`).

use net_sim_model::{Dependence, NatSpec, Refresh};

use super::outline::Words;
use super::table::{Read, Table, unknown};
use super::{NatBox, NodeSpec};

/// Kinds of boxes by their old names.
pub const NATS: Words = &[
    ("full-cone", "one mapping for all, anybody may send to it"),
    (
        "restricted",
        "one mapping for all, addresses that were sent to may send",
    ),
    (
        "port-restricted",
        "one mapping for all, endpoints that were sent to may send",
    ),
    ("symmetric", "a mapping per endpoint sent to, which alone may send"),
];

fn kind(word: &str) -> Option<NatSpec> {
    match word {
        "full-cone" => Some(NatSpec::FULL_CONE),
        "restricted" => Some(NatSpec::RESTRICTED),
        "port-restricted" => Some(NatSpec::PORT_RESTRICTED),
        "symmetric" => Some(NatSpec::SYMMETRIC),
        _ => None,
    }
}

/// Reads the boxes and puts every node behind the one it names.
pub(super) fn boxes(
    topology: &mut Table<'_>,
    nodes: &mut [NodeSpec],
    behind: Vec<Option<String>>,
) -> Read<Vec<NatBox>> {
    let mut boxes: Vec<NatBox> = Vec::new();
    for mut table in topology.tables("nat")? {
        let id = table.required("id")?;
        if boxes.iter().any(|nat| nat.id == id) || kind(&id).is_some() {
            return Err(table.error_at("id", format!("a NAT box cannot be called `{id}`: the name is taken")));
        }
        boxes.push(one(table, id)?);
    }
    let named = boxes.len();
    for (node, name) in nodes.iter_mut().zip(behind) {
        let Some(name) = name else { continue };
        let known = boxes[..named].iter().position(|nat| nat.id == name);
        let index = match (known, kind(&name)) {
            (Some(index), _) => index,
            (None, Some(spec)) => {
                if boxes.iter().any(|nat| nat.id == node.id) {
                    let what = format!("`{}` is a NAT box and a node that has one of its own", node.id);
                    return Err(topology.error_at("nodes", what));
                }
                boxes.push(NatBox {
                    id: node.id.clone(),
                    spec,
                    lan: true,
                });
                boxes.len() - 1
            }
            (None, None) if topology.outlined() => continue,
            (None, None) => {
                let mut words: Vec<&str> = NATS.iter().map(|(word, _)| *word).collect();
                words.extend(boxes[..named].iter().map(|nat| nat.id.as_str()));
                let what = format!("node `{}` is behind an unknown NAT {}", node.id, unknown(&name, &words));
                return Err(topology.error_at("nodes", what));
            }
        };
        node.nat = Some(index as u32);
    }
    Ok(boxes)
}

fn one(mut table: Table<'_>, id: String) -> Read<NatBox> {
    let words: Vec<(&str, &str)> = NATS.iter().map(|(word, _)| (*word, *word)).collect();
    let base = table
        .word("kind", &words)?
        .and_then(kind)
        .unwrap_or(NatSpec::PORT_RESTRICTED);
    let low = port(&mut table, "low_port")?.unwrap_or(base.ports.0);
    let high = port(&mut table, "high_port")?.unwrap_or(base.ports.1);
    let timeout = table.time("timeout")?.unwrap_or(base.timeout);
    if low == 0 || low > high {
        return Err(table.error_at("low_port", "the ports of a NAT box run from at least 1 up"));
    }
    if timeout == 0 {
        return Err(table.error_at("timeout", "a mapping that lives for 0 never lets anything in"));
    }
    let refresh = [("outbound", Refresh::Outbound), ("both", Refresh::Both)];
    let spec = NatSpec {
        mapping: dependence(&mut table, "mapping")?.unwrap_or(base.mapping),
        filtering: dependence(&mut table, "filtering")?.unwrap_or(base.filtering),
        hairpin: table.flag("hairpin")?,
        timeout,
        refresh: table.word("refresh", &refresh)?.unwrap_or(base.refresh),
        preserve_port: table.flag("preserve_port")?,
        parity: table.flag("parity")?,
        ports: (low, high),
    };
    let lan = table.word("lan", &[("true", true), ("false", false)])?.unwrap_or(true);
    table.finish()?;
    Ok(NatBox { id, spec, lan })
}

fn dependence(table: &mut Table<'_>, key: &'static str) -> Read<Option<Dependence>> {
    let words = [
        ("endpoint-independent", Dependence::Endpoint),
        ("address-dependent", Dependence::Address),
        ("address-and-port-dependent", Dependence::AddressAndPort),
    ];
    table.word(key, &words)
}

fn port(table: &mut Table<'_>, key: &'static str) -> Read<Option<u16>> {
    let number = table.number(key)?;
    let narrow = |number: u64| u16::try_from(number).map_err(|_| table.error_at(key, "a port is at most 65535"));
    number.map(narrow).transpose()
}
