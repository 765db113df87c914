//! The generated tables of docs/protocol.md.

use net_wire::frame::FrameType;
use net_wire::header::{FIELDS, Flags};
use net_wire::mesh::MESSAGES;
use net_wire::subprotocol::{CORE, EXPERIMENTAL, REGISTRY, VENDOR};
use net_wire::{CloseCode, DropReason, HEADER_LEN, HandshakeKind, Reliability, RoutingFlags, Suite};

/// Every table: the name in its mark, and its lines.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("header-fields", header_fields()),
        (
            "header-flags",
            flags(
                Flags::TABLE
                    .iter()
                    .map(|(name, flag)| (*name, flag.bits(), header_flag(*flag))),
            ),
        ),
        ("handshake-kinds", handshake_kinds()),
        ("suites", suites()),
        ("frame-types", frame_types()),
        ("reliabilities", reliabilities()),
        ("close-codes", close_codes()),
        (
            "routing-flags",
            flags(RoutingFlags::TABLE.iter().map(|(name, flag)| (*name, flag.bits(), ""))),
        ),
        ("subprotocol-ids", subprotocol_ids()),
        ("mesh-messages", mesh_messages()),
        ("drop-reasons", drop_reasons()),
    ]
}

/// The document with the text between the marks of every table replaced.
pub fn insert(document: &str, tables: &[(&str, String)]) -> String {
    let mut document = document.to_owned();
    for (name, table) in tables {
        let mark = format!("<!-- generated:{name} -->\n");
        let start = document
            .find(&mark)
            .unwrap_or_else(|| panic!("docs/protocol.md has no mark {mark}"))
            + mark.len();
        let end = document[start..]
            .find("<!-- end -->")
            .unwrap_or_else(|| panic!("the mark {mark} has no end"))
            + start;
        document.replace_range(start..end, table);
    }
    let marks = document.matches("<!-- generated:").count();
    assert_eq!(
        marks,
        tables.len(),
        "docs/protocol.md has a mark that no table of the code fills"
    );
    document
}

fn table(head: &str, rows: impl Iterator<Item = String>) -> String {
    let columns = head.matches('|').count() - 1;
    let rule = format!("|{}\n", "---|".repeat(columns));
    core::iter::once(format!("{head}\n{rule}"))
        .chain(rows.map(|row| row + "\n"))
        .collect()
}

fn header_fields() -> String {
    let row = |field: &net_wire::header::Field| {
        format!(
            "| {} | {} | {} | {} |",
            field.offset, field.size, field.name, field.rule
        )
    };
    table("| off | size | field | rule |", FIELDS.iter().map(row))
}

fn mesh_messages() -> String {
    let row = |(number, name, fields): &(u8, &str, &str)| format!("| {number:02x} | {name} | {fields} |");
    table("| kind | name | fields |", MESSAGES.iter().map(row))
}

fn flags<'t>(rows: impl Iterator<Item = (&'t str, u8, &'t str)>) -> String {
    let row = |(name, bits, note)| format!("| {bits:02x} | {name} | {note} |").replace("|  |", "| |");
    table("| bit | flag | note |", rows.map(row))
}

fn header_flag(flag: Flags) -> &'static str {
    if Flags::from_bits(flag.bits()).is_none() {
        "reserved: zero and checked"
    } else {
        ""
    }
}

fn handshake_kinds() -> String {
    let row = |kind: &HandshakeKind| {
        let length = kind.packet_len();
        format!("| {} | {kind:?} | {} | {length} |", *kind as u8, length - HEADER_LEN)
    };
    table(
        "| kind | name | body bytes | packet bytes |",
        HandshakeKind::ALL.iter().map(row),
    )
}

fn suites() -> String {
    let all = (0..=u8::MAX).filter_map(Suite::from_byte);
    table(
        "| suite | name |",
        all.map(|suite| format!("| {} | {suite:?} |", suite as u8)),
    )
}

fn frame_types() -> String {
    let row = |kind: &FrameType| {
        let eliciting = if kind.is_ack_eliciting() { "yes" } else { "no" };
        format!(
            "| {:02x} | {} | {} | {eliciting} |",
            *kind as u8,
            kind.name(),
            kind.body()
        )
    };
    table("| type | name | body | ack-eliciting |", FrameType::ALL.iter().map(row))
}

fn reliabilities() -> String {
    let row = |kind: &Reliability| format!("| {} | {kind:?} |", kind.to_byte());
    table("| number | reliability |", Reliability::ALL.iter().map(row))
}

fn close_codes() -> String {
    let own = CloseCode::TABLE
        .iter()
        .map(|(_, number, name, doc)| format!("| {number} | {name} | {doc} |"));
    let first = CloseCode::FIRST_APPLICATION;
    let rest = [
        format!(
            "| {}..={} | | not assigned, refused |",
            CloseCode::TABLE.len(),
            first - 1
        ),
        format!("| {first}.. | application | the application's code plus {first} |"),
    ];
    table("| code | name | meaning |", own.chain(rest))
}

fn subprotocol_ids() -> String {
    let assigned = REGISTRY
        .iter()
        .map(|(id, name, purpose)| format!("| {id:04x} | {name} | {purpose} |"));
    let range = |range: &core::ops::RangeInclusive<u16>, purpose: &str| {
        format!("| {:04x}..={:04x} | | {purpose} |", range.start(), range.end())
    };
    let rest = [
        range(&CORE, "the rest of it: reserved for the protocol"),
        range(&VENDOR, "vendors and third parties"),
        range(&EXPERIMENTAL, "experiments"),
    ];
    table("| id | name | purpose |", assigned.chain(rest))
}

fn drop_reasons() -> String {
    let row = |reason: &DropReason| format!("| {} | {} | {} |", reason.as_index(), reason.name(), reason.doc());
    table("| number | name | meaning |", DropReason::ALL.iter().map(row))
}
