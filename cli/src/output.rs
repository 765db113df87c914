//! Where text goes: results to stdout, events and errors to stderr, both as text or as JSON.
//!
//! Invariants: in the JSON formats every line on stderr is a document too; every document names its schema and kind;
//! nothing but payload is written to stdout where stdout is the payload.
//! Not here: what the records say (the commands), progress bars (`demo/`).

use std::fmt;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::args::Format;
use crate::error::Failure;

/// Version of the JSON documents. Fields may be added under one version, never removed or changed.
pub const SCHEMA: u32 = 1;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const CODE: Style = Style::new().bold();

/// Something a command says: its JSON by `Serialize`, its text by `Display`.
pub trait Record: Serialize + fmt::Display {
    /// What kind of document it is.
    const KIND: &'static str;
}

/// The two outputs of a command.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    format: Format,
}

/// A remark that no script depends on.
#[derive(Serialize)]
pub struct Note {
    text: String,
}

impl Note {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Record for Note {
    const KIND: &'static str = "note";
}

#[derive(Serialize)]
struct Document<'r, R: Serialize> {
    schema: u32,
    kind: &'static str,
    #[serde(flatten)]
    record: &'r R,
}

impl Out {
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    pub const fn format(self) -> Format {
        self.format
    }

    pub fn is_text(self) -> bool {
        self.format == Format::Text
    }

    /// Prints a result on stdout.
    pub fn result<R: Record>(self, record: &R) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        let written = match self.format {
            Format::Text => writeln!(out, "{record}"),
            Format::Json => writeln!(out, "{}", pretty(record)),
            Format::Jsonl => writeln!(out, "{}", line(record)),
        };
        written
            .and_then(|()| out.flush())
            .map_err(|error| Failure::stdio("write to stdout", &error))
    }

    /// The same for a stream of results, which is lines in both JSON formats.
    pub fn stream(self) -> Self {
        match self.format {
            Format::Json | Format::Jsonl => Self::new(Format::Jsonl),
            Format::Text => self,
        }
    }

    /// Prints text that is a file's content, whatever the format.
    pub fn raw(self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Prints payload.
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| Failure::stdio("write to stdout", &error))
    }

    /// Prints a part of a result as it arises: as text or a line; nothing where one document follows at the end.
    pub fn part<R: Record>(self, record: &R) -> Result<(), Failure> {
        if self.format == Format::Json {
            Ok(())
        } else {
            self.result(record)
        }
    }

    /// Prints an event on stderr. That nobody reads it is no reason to fail.
    pub fn event<R: Record>(self, record: &R) {
        let mut err = anstream::stderr().lock();
        let _ = match self.format {
            Format::Text => writeln!(err, "{record}"),
            Format::Json | Format::Jsonl => writeln!(err, "{}", line(record)),
        };
    }

    /// Prints an error on stderr.
    pub fn failure(self, failure: &Failure) {
        if failure.code.is_told() {
            return;
        }
        let mut err = anstream::stderr().lock();
        let _ = match self.format {
            Format::Text => {
                let code = failure.code.name();
                writeln!(err, "{ERROR}error{ERROR:#} {CODE}{code}{CODE:#}: {}", failure.text())
            }
            Format::Json | Format::Jsonl => writeln!(err, "{}", line(&Failed::of(failure))),
        };
    }
}

#[derive(Serialize)]
struct Failed<'f> {
    #[serde(flatten)]
    failure: &'f Failure,
    exit: u8,
}

impl<'f> Failed<'f> {
    const fn of(failure: &'f Failure) -> Self {
        Self {
            failure,
            exit: failure.code.exit(),
        }
    }
}

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.text())
    }
}

impl Record for Failed<'_> {
    const KIND: &'static str = "error";
}

fn line<R: Record>(record: &R) -> String {
    let document = Document {
        schema: SCHEMA,
        kind: R::KIND,
        record,
    };
    serde_json::to_string(&document).expect("records are structs with string keys")
}

fn pretty<R: Record>(record: &R) -> String {
    let document = Document {
        schema: SCHEMA,
        kind: R::KIND,
        record,
    };
    serde_json::to_string_pretty(&document).expect("records are structs with string keys")
}

/// Thirty-two bytes as `net` prints identities: 64 hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A byte count for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn byte_counts_read_well() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (24 << 20, "24.0 MiB")] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn an_error_document_has_schema_kind_code_and_exit() {
        let failure = Failure::new(Code::Busy, "somebody \"else\"").next("wait");
        let document: serde_json::Value = serde_json::from_str(&line(&Failed::of(&failure))).expect("JSON");
        assert_eq!(document["schema"], SCHEMA);
        assert_eq!(document["kind"], "error");
        assert_eq!(document["code"], "E-BUSY");
        assert_eq!(document["exit"], 8);
        assert_eq!(document["next"][0], "wait");
    }
}
