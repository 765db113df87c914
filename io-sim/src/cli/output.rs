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
use crate::signature::Signature;

/// Writes a file whole, or leaves what was there before.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    write_at(path, path, bytes)
}

/// Writes `place` whole; errors speak of `path`.
fn write_at(path: &Path, place: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let named = |error: io::Error| {
        let words = [
            (
                io::ErrorKind::StorageFull,
                "no space is left there; free some or name another place",
            ),
            (
                io::ErrorKind::PermissionDenied,
                "it may not be written there; name another place",
            ),
            (
                io::ErrorKind::ReadOnlyFilesystem,
                "it may not be written there; name another place",
            ),
            (io::ErrorKind::NotFound, "there is no such folder"),
        ];
        let what = words.iter().find(|(kind, _)| *kind == error.kind());
        let what = what.map_or("nothing was written", |(_, what)| what);
        Trouble::Said(format!("{}: {error}: {what}", path.display()))
    };
    if path.is_dir() {
        return Err(Trouble::Said(format!(
            "{}: is a folder; name a file in it",
            path.display()
        )));
    }
    // A device or a pipe cannot be replaced by a file: it takes the bytes as they come.
    if fs::metadata(place).is_ok_and(|meta| !meta.is_file()) {
        let opened = fs::OpenOptions::new().write(true).open(place);
        return opened.and_then(|mut file| file.write_all(bytes)).map_err(named);
    }
    let mut partial = place.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, place));
    written.map_err(|error| {
        // Best effort: the error that matters is told.
        let _ = fs::remove_file(&partial);
        named(error)
    })
}

/// Whether a file of a few bytes could be written there; leaves nothing.
pub(super) fn writable(path: &Path) -> Result<(), Trouble> {
    let mut probe = path.as_os_str().to_owned();
    probe.push(".probe");
    let probe = PathBuf::from(probe);
    write_at(path, &probe, b"probe")?;
    fs::remove_file(&probe).map_err(Trouble::Io)
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
    /// The command that draws it.
    pub trace: String,
}

/// Writes the resolved file of a failing run into `folder`. A file that is resolved already stays the one.
pub(super) fn keep(folder: &Path, text: &str, report: &Report, aead: Cipher) -> Result<Found, Trouble> {
    let resolved = scenario::resolve(&report.file, text, report.seed).map_err(|e| Trouble::Said(e.to_string()))?;
    let own = Path::new(&report.file);
    let same = fs::read_to_string(own).is_ok_and(|own| own == text)
        && Scenario::parse(&report.file, text).is_ok()
        && scenario::without_comments(text) == scenario::without_comments(&resolved);
    let file = if same {
        own.to_owned()
    } else {
        let bug = mutant().map_or_else(String::new, |name| format!("-{}", file_name(&name)));
        let file = folder.join(format!("{}-{}{bug}.toml", file_name(&report.scenario), report.seed));
        fs::create_dir_all(folder).map_err(|error| Trouble::Said(format!("{}: {error}", folder.display())))?;
        let text = scenario::ended(&format!("{}{resolved}", header(report, aead)));
        write_whole(&file, text.as_bytes())?;
        file
    };
    let (name, flags) = (quoted(&file.display().to_string()), flags(aead));
    let small = quoted(&file.with_extension("min.toml").display().to_string());
    let page = quoted(&file.with_extension("html").display().to_string());
    Ok(Found {
        replay: format!("{} replay {name}{flags}", program()),
        shrink: format!("{} shrink {name}{flags} -o {small}", program()),
        trace: format!("{} trace {name}{flags} --html -o {page}", program()),
        file,
    })
}

/// The options under which a run is the same again.
pub(super) fn flags(aead: Cipher) -> String {
    let cipher = match aead {
        Cipher::Clear => "",
        Cipher::Real => " --aead real",
    };
    let mutant = mutant().map_or_else(String::new, |name| format!(" --mutant {}", quoted(&name)));
    format!("{cipher}{mutant}")
}

/// The planted bug this program was told to switch on.
pub(super) fn mutant() -> Option<String> {
    let mut args = std::env::args();
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--mutant") {
            Some("") => return args.next(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            Some(_) | None => {}
        }
    }
    None
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
                format!(
                    "failed: {}",
                    Signature::of(report).map(|it| it.to_string()).unwrap_or_default()
                )
            }
        },
        format!("because: {}", report.failure.as_deref().unwrap_or("-")),
        format!("digest: {}", report.digest),
    ];
    lines.extend(with(aead));
    comment(&lines)
}

/// The line of a header that says under which options a run fails.
pub(super) fn with(aead: Cipher) -> Option<String> {
    let flags = flags(aead);
    (!flags.is_empty()).then(|| format!("with:{flags}"))
}

/// Lines as a TOML comment, a blank line after it.
pub(super) fn comment(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines.iter().flat_map(|line| line.split('\n')) {
        let visible: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(format!("# {visible}").trim_end());
        text.push('\n');
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
