//! The page as one offline file: a skeleton, its style and script, and the history in columns.
//!
//! Columns are unsigned LEB128 numbers end to end, in base64: for every entry its template, then for every entry its
//! machine plus one, its time since the entry before, the distance to its cause (0 is none), and last the arguments of
//! every entry's template. Texts are numbers into a table.
//! Invariants: the page loads nothing and allows no script but its own; text reaches it as data only.
//! Not here: what is drawn (`page.js`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::About;
use crate::history::{Arg, BATCH, Band, History, words};

/// The page of a run.
#[must_use]
pub fn html(history: &History, about: &About) -> Vec<u8> {
    let columns = Columns::of(history);
    let data = base64(&columns.bytes());
    let meta = safe(&columns.meta(history, about).to_string());
    // The nonce keeps out scripts that are not the page's own; it follows from the page, so that equal runs make equal files.
    let nonce = blake3::hash(meta.as_bytes()).to_hex();
    let title = escape(&format!(
        "{} · seed {} · {}",
        about.scenario,
        about.seed,
        about.verdict()
    ));
    let mut page = String::with_capacity(data.len() + meta.len() + 128 * 1024);
    let mut rest = include_str!("page.html");
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        match name {
            "nonce" => page.push_str(&nonce[..32]),
            "title" => page.push_str(&title),
            "style" => page.push_str(include_str!("page.css")),
            "script" => page.push_str(include_str!("page.js")),
            "meta" => page.push_str(&meta),
            "data" => page.push_str(&data),
            _ => {}
        }
        rest = after;
    }
    page.push_str(rest);
    page.into_bytes()
}

#[derive(Default)]
struct Columns {
    templates: Table,
    kinds: Table,
    kind_of: Vec<u32>,
    strings: Table,
    template: Vec<u8>,
    node: Vec<u8>,
    time: Vec<u8>,
    cause: Vec<u8>,
    args: Vec<u8>,
}

/// Texts by number, each once.
#[derive(Default)]
struct Table {
    texts: Vec<String>,
    numbers: BTreeMap<String, u32>,
}

impl Table {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

impl Columns {
    fn of(history: &History) -> Self {
        let mut columns = Self::default();
        let names = history.names();
        let mut before = 0;
        for entry in history.iter() {
            let words = words(&entry.what, names);
            let template = columns.templates.number(words.template);
            if template as usize == columns.kind_of.len() {
                let kind = columns.kinds.number(entry.what.name());
                columns.kind_of.push(kind);
            }
            varint(&mut columns.template, template.into());
            varint(&mut columns.node, entry.node.map_or(0, |node| u64::from(node) + 1));
            varint(&mut columns.time, entry.at - before);
            before = entry.at;
            varint(&mut columns.cause, entry.cause.map_or(0, |cause| entry.id - cause));
            for arg in &words.args {
                let number = match arg {
                    Arg::Number(number) => *number,
                    Arg::Node(node) => u64::from(*node),
                    Arg::Address(address) => columns.strings.number(&address.to_string()).into(),
                    Arg::Text(text) => columns.strings.number(text).into(),
                };
                varint(&mut columns.args, number);
            }
        }
        columns
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.template[..], &self.node, &self.time, &self.cause, &self.args].concat()
    }

    fn meta(&self, history: &History, about: &About) -> Value {
        let templates = self.templates.texts.iter().zip(&self.kind_of);
        let templates: Vec<Value> = templates
            .map(|(text, kind)| json!({ "text": text, "kind": kind }))
            .collect();
        let names = history.names();
        let failure = about.failure.as_ref();
        json!({
            "scenario": about.scenario,
            "seed": about.seed.to_string(),
            "digest": about.digest,
            "verdict": about.verdict(),
            "failed": about.failure.is_some(),
            "checker": failure.map(|(checker, _)| checker),
            "failure": failure.map(|(_, what)| what),
            "cipher": about.cipher,
            "ended": about.simulated_ms * 1_000_000,
            "count": history.len(),
            "first": history.forgotten(),
            "nodes": names.nodes,
            "faults": bands(&names.faults),
            "adversaries": bands(&names.adversaries),
            "kinds": self.kinds.texts,
            "templates": templates,
            "batch": self.templates.numbers.get(BATCH).map_or(-1, |number| i64::from(*number)),
            "strings": self.strings.texts,
        })
    }
}

fn bands(bands: &[Band]) -> Vec<Value> {
    let each = bands.iter().map(|band| {
        let until = (band.until < u64::MAX).then_some(band.until);
        json!({ "id": band.id, "kind": band.kind, "from": band.from, "until": until, "nodes": band.nodes })
    });
    each.collect()
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                out.push(char::from(DIGITS[(word >> (18 - 6 * digit)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// JSON that can stand inside a script element: nothing in it ends the element or begins a comment.
fn safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Text as the content of an element.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xFE]), "+//+");
    }

    #[test]
    fn numbers_of_any_size_are_written_in_shortest_form() {
        let mut out = Vec::new();
        for number in [0, 127, 128, u64::MAX] {
            varint(&mut out, number);
        }
        assert_eq!(out, [&[0, 0x7F, 0x80, 1][..], &[0xFF; 9], &[1]].concat());
    }

    #[test]
    fn nothing_in_the_data_can_end_its_element() {
        let hostile = json!({ "name": "</script><script>alert(1)</script><!--\u{2028}" }).to_string();
        let safe = safe(&hostile);
        assert!(!safe.contains('<') && !safe.contains('>') && !safe.contains('\u{2028}'));
        let back: Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(&hostile).unwrap());
    }
}
