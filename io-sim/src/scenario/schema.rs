//! The schema of scenario files as JSON Schema (draft 2020-12), made from what the reader asks for.
//!
//! Invariants: every key the reader knows is in the schema, and no other; where a scalar may be a range, so it may here.
//! Not here: reading (`read.rs`), noting what is read (`outline.rs`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use toml::de::DeTable;

use super::outline::{Asked, Outline, Shape, Want};
use super::read;
use super::table::Source;

/// The schema of scenario files.
#[must_use]
pub fn schema() -> Value {
    let shapes = shapes();
    let mut defs = quantities();
    for (path, shape) in &shapes {
        if !path.is_empty() {
            defs.insert(name(path), table(shape));
        }
    }
    let mut root = table(&shapes[""]);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Scenario of the simulator `netsim`");
    root["$defs"] = Value::Object(defs);
    root
}

fn shapes() -> BTreeMap<String, Shape> {
    let nothing = DeTable::new();
    Outline::complete(|outline| {
        let source = Source {
            file: "",
            text: "",
            resolved: false,
            outline: Some(outline),
        };
        // Values that let the reading go on are given everywhere: that it ends is all that matters.
        let read = read::outlined(source, &nothing);
        debug_assert!(read.is_ok(), "an outline is read to its end: {read:?}");
    })
}

fn name(path: &str) -> String {
    path.trim_start_matches(['#', '/']).replace('/', ".")
}

fn table(shape: &Shape) -> Value {
    if let Some(want) = &shape.free {
        return json!({ "type": "object", "additionalProperties": value(want) });
    }
    let Some((key, words)) = shape.choice else {
        return object(&shape.keys, None);
    };
    let cases = words.iter().map(|(word, about)| {
        let more = shape.cases.get(word).map_or(&[][..], Vec::as_slice);
        let keys: Vec<Asked> = shape.keys.iter().chain(more).cloned().collect();
        object(&keys, Some((key, word, about)))
    });
    json!({ "oneOf": cases.collect::<Vec<_>>() })
}

fn object(keys: &[Asked], case: Option<(&str, &str, &str)>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let mut object = json!({ "type": "object", "additionalProperties": false });
    if let Some((key, word, about)) = case {
        properties.insert(key.to_owned(), json!({ "const": word }));
        required.push(key);
        object["description"] = json!(about);
    }
    for asked in keys {
        properties.insert(asked.key.to_owned(), value(&asked.want));
        if asked.required {
            required.push(asked.key);
        }
    }
    object["properties"] = Value::Object(properties);
    object["required"] = json!(required);
    object
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn value(want: &Want) -> Value {
    match want {
        Want::Text => json!({ "type": "string" }),
        Want::Duration => reference("duration"),
        Want::SignedDuration => reference("signed_duration"),
        Want::Size => reference("size"),
        Want::SizeRange => reference("size_range"),
        Want::Rate => reference("rate"),
        Want::ByteRate => reference("byte_rate"),
        Want::Probability => reference("probability"),
        Want::Whole => reference("whole"),
        Want::Signed => reference("signed"),
        Want::Flag => json!({ "type": "boolean" }),
        Want::Word(words) if words.iter().all(|word| word == "true" || word == "false") => json!({ "type": "boolean" }),
        Want::Word(words) => json!({ "enum": words }),
        Want::Texts => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": ["string", "number"] } },
        ] }),
        Want::Numbers => json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } }),
        Want::Words(words) => json!({ "anyOf": [
            { "enum": words },
            { "type": "array", "items": { "enum": words } },
        ] }),
        Want::Table(path) => reference(&name(path)),
        Want::Tables(path) => json!({ "type": "array", "items": reference(&name(path)) }),
        Want::Either(scalar, path) => json!({ "anyOf": [value(scalar), reference(&name(path))] }),
    }
}

/// What quantities look like, each alone or as a range of two ends.
fn quantities() -> Map<String, Value> {
    let text = |about: &str, pattern: &str| json!({ "type": "string", "pattern": pattern, "description": about });
    let number = "[0-9][0-9_]*(\\.[0-9]+)?";
    let duration = format!("{number} *(ns|us|ms|s|m|h)");
    let size = format!("{number} *(KiB|MiB|GiB|kB|MB|GB|B)?");
    let size_or_number = json!({ "anyOf": [
        { "type": "integer", "minimum": 0 },
        text("bytes, such as 1200, 64KiB, 16MiB", &format!("^{size}$")),
    ] });
    let plain = [
        (
            "duration",
            text("such as 250us, 20ms, 1.5s, 2m", &format!("^{duration}$")),
        ),
        (
            "signed_duration",
            text("such as 20ms, -600s", &format!("^-?{duration}$")),
        ),
        ("size", size_or_number.clone()),
        (
            "rate",
            text(
                "events per second or minute, such as 200/s, 30/m",
                &format!("^{number}k?/[sm]$"),
            ),
        ),
        ("byte_rate", text("such as 10MB/s, 64KiB/s", &format!("^{size}/s$"))),
        (
            "probability",
            json!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 1 },
            text("such as 0.02 or 2%", &format!("^{number}%?$")),
        ] }),
        ),
        (
            "whole",
            json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, text("a whole number", "^[0-9_]+$")] }),
        ),
        (
            "signed",
            json!({ "anyOf": [{ "type": "integer" }, text("a whole number", "^-?[0-9_]+$")] }),
        ),
    ];
    let mut defs = Map::new();
    for (name, one) in plain {
        let pair = json!({
            "type": "array", "items": one, "minItems": 2, "maxItems": 2,
            "description": "a range of two ends, from which the seed draws; resolved files hold none",
        });
        defs.insert(name.to_owned(), json!({ "anyOf": [one, pair] }));
    }
    let ends = json!({ "type": "array", "items": size_or_number, "minItems": 2, "maxItems": 2 });
    defs.insert("size_range".to_owned(), json!({ "anyOf": [size_or_number, ends] }));
    defs
}
