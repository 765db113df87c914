//! What commands leave behind: files that are written whole or not at all, and command lines that can be pasted.
//!
//! Invariants: a file that could not be written in full leaves nothing; a printed command names this very program.
//! Not here: what is written.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Cipher, Trouble};
use crate::run::{Report, Verdict};
use crate::scenario::{self, Scenario};
use crate::signature::signature;

/// Writes a file whole, or leaves what was there before.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let named = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::StorageFull => "no space is left there; free some or name another place",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "it may not be written there; name another place"
            }
            io::ErrorKind::NotFound => "there is no such folder",
            _ => "nothing was written",
        };
        Trouble::Said(format!("{}: {error}: {what}", path.display()))
    };
    if path.is_dir() {
        return Err(Trouble::Said(format!(
            "{}: is a folder; name a file in it",
            path.display()
        )));
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        // Best effort: the error that matters is told.
        let _ = fs::remove_file(&partial);
        named(error)
    })
}

/// A word as a POSIX shell reads it back.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// This program, as it was called.
pub(super) fn program() -> String {
    let name = std::env::args_os()
        .next()
        .map_or_else(|| "netsim".into(), PathBuf::from);
    quoted(&name.display().to_string())
}

/// How a failing run is looked into: its resolved file and the commands for it.
pub(super) struct Found {
    /// The resolved file.
    pub file: PathBuf,
    /// The command that runs it again.
    pub replay: String,
    /// The command that shrinks it.
    pub shrink: String,
}

/// Writes the resolved file of a failing run into `folder`. A file that is resolved already stays the one.
pub(super) fn keep(folder: &Path, text: &str, report: &Report, aead: Cipher) -> Result<Found, Trouble> {
    let resolved = scenario::resolve(&report.file, text, report.seed).map_err(|e| Trouble::Said(e.to_string()))?;
    let own = Path::new(&report.file);
    let same = Scenario::parse(&report.file, text).is_ok()
        && scenario::without_comments(text) == scenario::without_comments(&resolved);
    let file = if same {
        own.to_owned()
    } else {
        let file = folder.join(format!("{}-{}.toml", file_name(&report.scenario), report.seed));
        fs::create_dir_all(folder).map_err(|error| Trouble::Said(format!("{}: {error}", folder.display())))?;
        write_whole(&file, format!("{}{resolved}", header(report, aead)).as_bytes())?;
        file
    };
    let (name, flags) = (quoted(&file.display().to_string()), flags(aead));
    let small = quoted(&file.with_extension("min.toml").display().to_string());
    Ok(Found {
        replay: format!("{} replay {name}{flags}", program()),
        shrink: format!("{} shrink {name}{flags} -o {small}", program()),
        file,
    })
}

/// The options under which a run is the same again.
pub(super) fn flags(aead: Cipher) -> String {
    match aead {
        Cipher::Clear => String::new(),
        Cipher::Real => " --aead real".to_owned(),
    }
}

/// A scenario's name as part of a file's name.
pub(super) fn file_name(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(safe).take(80).collect();
    name.trim_start_matches('.').to_owned()
}

fn header(report: &Report, aead: Cipher) -> String {
    let mut lines = vec![
        format!("{} with seed {}, resolved.", report.file, report.seed),
        match report.verdict {
            Verdict::NotDeterministic => "Two runs of it differed.".to_owned(),
            Verdict::Pass | Verdict::Fail | Verdict::Harness | Verdict::OutOfTime => {
                format!("failed: {}", signature(report).unwrap_or_default())
            }
        },
        format!("because: {}", report.failure.as_deref().unwrap_or("-")),
        format!("digest: {}", report.digest),
    ];
    if aead == Cipher::Real {
        lines.push("with: --aead real".to_owned());
    }
    comment(&lines)
}

/// Lines as a TOML comment, a blank line after it.
pub(super) fn comment(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines.iter().flat_map(|line| line.lines()) {
        let visible: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("# {}\n", visible.trim_end()));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_expand_them() {
        assert_eq!(quoted("a/b-1.toml"), "a/b-1.toml");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $x"), "'it'\\''s $x'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_name_becomes_a_file_name_that_stays_in_its_folder() {
        assert_eq!(file_name("../../etc/passwd"), "-..-etc-passwd");
        assert_eq!(file_name("swarm"), "swarm");
    }

    #[test]
    fn a_comment_holds_no_line_that_is_not_one() {
        assert_eq!(comment(&["a\nb = 1".to_owned()]), "# a\n# b = 1\n\n");
    }
}
