//! The schema that `netsim schema` prints says of every scenario what the reader says.

use std::path::{Path, PathBuf};

use net_io_sim::scenario::{ADVERSARIES, EVENTS, FAULTS, Scenario, WORKLOADS, Words, schema};
use serde_json::{Map, Value};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

fn scenarios(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).expect("the folder is part of the tree");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            scenarios(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

fn json(text: &str) -> Value {
    let table: toml::Table = text.parse().expect("TOML");
    serde_json::to_value(table).expect("TOML without dates is JSON")
}

/// As much of a validator of JSON Schema as the schema uses, patterns aside.
struct Validator(Value);

impl Validator {
    fn accepts(&self, value: &Value) -> Result<(), String> {
        self.check(&self.0, value, "$")
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = self
                .0
                .pointer(reference.trim_start_matches('#'))
                .ok_or(format!("no {reference}"))?;
            return self.check(target, value, at);
        }
        if let Some(all) = schema.get("anyOf").and_then(Value::as_array) {
            let tried: Vec<String> = all.iter().filter_map(|one| self.check(one, value, at).err()).collect();
            if tried.len() == all.len() {
                return Err(tried.join(" | "));
            }
        }
        if let Some(all) = schema.get("oneOf").and_then(Value::as_array) {
            let tried: Vec<_> = all.iter().map(|one| self.check(one, value, at)).collect();
            if tried.iter().filter(|one| one.is_ok()).count() != 1 {
                let near = tried
                    .into_iter()
                    .filter_map(Result::err)
                    .find(|error| !error.contains("is not \""));
                return Err(near.unwrap_or_else(|| format!("{at}: none of the cases, or several")));
            }
        }
        if let Some(constant) = schema.get("const")
            && constant != value
        {
            return Err(format!("{at} is not {constant}"));
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array)
            && !words.contains(value)
        {
            return Err(format!("{at} is none of {words:?}"));
        }
        match schema.get("type") {
            Some(Value::String(name)) if !is(name, value) => return Err(format!("{at} is no {name}: {value}")),
            Some(Value::Array(names)) if !names.iter().any(|name| is(name.as_str().unwrap_or(""), value)) => {
                return Err(format!("{at} is none of {names:?}"));
            }
            Some(_) | None => {}
        }
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        if let Some(number) = value.as_f64()
            && (bound("minimum").is_some_and(|low| number < low) || bound("maximum").is_some_and(|high| number > high))
        {
            return Err(format!("{at} is out of bounds: {number}"));
        }
        if let Some(object) = value.as_object() {
            self.object(schema, object, at)?;
        }
        if let Some(list) = value.as_array() {
            let len = list.len() as f64;
            if bound("minItems").is_some_and(|low| len < low) || bound("maxItems").is_some_and(|high| len > high) {
                return Err(format!("{at} has {len} items"));
            }
            if let Some(items) = schema.get("items") {
                for (n, item) in list.iter().enumerate() {
                    self.check(items, item, &format!("{at}[{n}]"))?;
                }
            }
        }
        Ok(())
    }

    fn object(&self, schema: &Value, object: &Map<String, Value>, at: &str) -> Result<(), String> {
        let properties = schema.get("properties").and_then(Value::as_object);
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !object.contains_key(key.as_str().unwrap_or("")) {
                return Err(format!("{at} needs {key}"));
            }
        }
        for (key, value) in object {
            let at = format!("{at}.{key}");
            match (
                properties.and_then(|known| known.get(key)),
                schema.get("additionalProperties"),
            ) {
                (Some(known), _) => self.check(known, value, &at)?,
                (None, Some(Value::Bool(false))) => return Err(format!("{at} is unknown")),
                (None, Some(any)) => self.check(any, value, &at)?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

#[test]
fn every_scenario_of_the_tree_and_its_resolved_form_follow_the_schema() {
    let validator = Validator(schema());
    let mut files = Vec::new();
    scenarios(&folder(), &mut files);
    assert!(files.len() >= 25, "{} scenarios", files.len());
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file).expect("it can be read");
        validator
            .accepts(&json(&text))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let literal = net_io_sim::scenario::resolve(&name, &text, 7).expect("it resolves");
        validator
            .accepts(&json(&literal))
            .unwrap_or_else(|error| panic!("{name}, resolved: {error}"));
    }
}

/// Every table of a document, by path.
fn tables(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.push(at.to_owned());
            for (key, inner) in object {
                tables(inner, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (n, inner) in list.iter().enumerate() {
                tables(inner, &format!("{at}/{n}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn an_unknown_key_in_any_table_fails_the_schema_and_the_reader_alike() {
    let validator = Validator(schema());
    for name in [
        "swarm",
        "nat-rebind",
        "crash-at-store",
        "partition-ring",
        "disk-rot",
        "loss-by-kind",
        "interface-switch",
    ] {
        let text = std::fs::read_to_string(folder().join(format!("{name}.toml"))).expect("part of the tree");
        let document = json(&text);
        let mut paths = Vec::new();
        tables(&document, "", &mut paths);
        for path in paths {
            // Names of counters and metrics are free.
            if path.contains("/slo") || path.contains("/at_least") || path.contains("/at_most") {
                continue;
            }
            let mut bad = document.clone();
            let table = bad.pointer_mut(&path).and_then(Value::as_object_mut).expect("a table");
            table.insert("whatever".to_owned(), Value::String("1s".to_owned()));
            assert!(
                validator.accepts(&bad).is_err(),
                "{name}{path}: the schema lets it pass"
            );
            let table: toml::Table = serde_json::from_value(bad).expect("JSON without null is TOML");
            let written = toml::to_string(&table).expect("it can be written");
            let error = Scenario::check(name, &written).expect_err("the reader lets it pass");
            assert!(
                error.what.contains("whatever") && error.line > 0,
                "{name}{path}: {error}"
            );
        }
    }
}

#[test]
fn every_kind_there_is_has_its_case_in_the_schema() {
    let schema = schema();
    let cases = |path: &str, key: &str, words: Words| {
        let all = schema
            .pointer(path)
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("no {path}"));
        for (word, _) in words {
            let has = |case: &Value| case["properties"][key]["const"] == **word;
            assert!(all.iter().any(has), "{path}: {word} is missing");
        }
        assert_eq!(all.len(), words.len());
    };
    cases("/$defs/fault/oneOf", "kind", FAULTS);
    cases("/$defs/adversary/oneOf", "kind", ADVERSARIES);
    cases("/$defs/workload/oneOf", "kind", WORKLOADS);
    cases("/$defs/when/oneOf", "event", EVENTS);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

/// Every key the schema knows.
fn keys(value: &Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(properties) = object.get("properties").and_then(Value::as_object) {
                found.extend(properties.keys().cloned());
            }
            object.values().for_each(|inner| keys(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| keys(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_key_stands_in_the_documentation() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulation.md");
    let text = std::fs::read_to_string(page).expect("part of the tree");
    let mut known = std::collections::BTreeSet::new();
    keys(&schema(), &mut known);
    let stands = |key: &String| {
        [
            format!("`{key}`"),
            format!("`{key} ="),
            format!("[{key}]"),
            format!(".{key}]"),
        ]
        .iter()
        .any(|form| text.contains(form.as_str()))
    };
    let missing: Vec<&String> = known.iter().filter(|key| !stands(key)).collect();
    assert!(missing.is_empty(), "docs/simulation.md does not name {missing:?}");
}

#[test]
fn no_scenario_of_the_tree_holds_anything_pointless() {
    let mut files = Vec::new();
    scenarios(&folder(), &mut files);
    let mut warnings = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let spec = net_io_sim::run::Spec::new(file.display().to_string(), text).expect("a correct scenario");
        warnings.extend(net_io_sim::lint::lint(&spec));
    }
    assert!(warnings.is_empty(), "{warnings:#?}");
}
