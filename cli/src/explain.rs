//! `net explain`: what error codes mean, offline.
//!
//! Invariants: every code of `error.rs` is explained.
//! Not here: the texts themselves (`error.rs`).

use std::fmt;

use serde::Serialize;

use crate::error::{Code, Failure, wrap};
use crate::output::{Out, Record};

/// `net explain`
pub fn run(code: Option<&str>, out: Out) -> Result<(), Failure> {
    match code {
        Some(name) => {
            let code = Code::named(name)
                .ok_or_else(|| Failure::new(Code::Unknown, format!("there is no code {name:?}")).next("net explain"))?;
            out.result(&Explained::of(code))
        }
        None => out.result(&List {
            codes: Code::ALL.iter().map(|code| Explained::of(*code)).collect(),
        }),
    }
}

/// A code with its meaning.
#[derive(Serialize)]
struct Explained {
    code: &'static str,
    exit: u8,
    meaning: &'static str,
}

impl Explained {
    const fn of(code: Code) -> Self {
        Self {
            code: code.name(),
            exit: code.exit(),
            meaning: code.meaning(),
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (exit code {})\n\n{}",
            self.code,
            self.exit,
            wrap(self.meaning, 0)
        )
    }
}

impl Record for Explained {
    const KIND: &'static str = "explanation";
}

/// All codes.
#[derive(Serialize)]
struct List {
    codes: Vec<Explained>,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, code) in self.codes.iter().enumerate() {
            let first = code.meaning.split_inclusive(". ").next().unwrap_or(code.meaning);
            let end = if at + 1 < self.codes.len() { "\n" } else { "" };
            write!(f, "{:<16} {:>3}  {}{end}", code.code, code.exit, first.trim_end())?;
        }
        Ok(())
    }
}

impl Record for List {
    const KIND: &'static str = "explanations";
}
