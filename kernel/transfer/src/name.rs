//! Names from a peer made safe: one component each, never a way out of the directory that receives.
//!
//! The same rules hold on every system, so that a tree has the same shape wherever it is received: what any of them would
//! take for a path, a device, a stream or a disguise is replaced.
//! Invariants: a [`SafePath`] has 1 to [`MAX_DEPTH`] components of 1 to [`MAX_NAME`] bytes, none of them `.` or `..`, none
//! with a separator or a control character, none a device, and the first never the folder of partial files; making a safe
//! name safe changes nothing. Not here: links that lie on the receiver's disk already (its `Store`).

use alloc::string::String;
use core::fmt;

use crate::limit::{MAX_DEPTH, MAX_NAME};

/// The folder, within the receiving directory, in which files lie until they are whole.
pub const PARTIAL_FOLDER: &str = ".net-partial";

/// A relative path that is safe to use below the receiving directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SafePath(String);

impl SafePath {
    /// Makes every component safe; `None` if there is none or there are more than [`MAX_DEPTH`].
    #[must_use]
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let mut path = String::new();
        let mut depth = 0;
        for name in names {
            if depth == MAX_DEPTH {
                return None;
            }
            if depth > 0 {
                path.push('/');
            }
            push_safe(&mut path, name, depth == 0);
            depth += 1;
        }
        (depth > 0).then_some(Self(path))
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/')
    }

    /// Its components joined by `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends `name` as one safe component.
fn push_safe(path: &mut String, name: &str, outermost: bool) {
    let start = path.len();
    let reserved = outermost && name.eq_ignore_ascii_case(PARTIAL_FOLDER);
    if is_device(name) || reserved {
        path.push('_');
    }
    path.extend(name.chars().map(|c| if is_unsafe(c) { '_' } else { c }));
    // `.`, `..` and what some systems cut off: a trailing dot or blank names another file there.
    let kept = path[start..].trim_end_matches(['.', ' ']).len();
    if kept < path.len() - start || kept == 0 {
        let cut = (path.len() - start - kept).max(1);
        path.truncate(start + kept);
        path.extend(core::iter::repeat_n('_', cut));
    }
    if path.len() - start > MAX_NAME {
        shorten(path, start, name);
    }
}

/// Cuts a long name: its start, a hash of all of it, and its extension if that is short.
fn shorten(path: &mut String, start: usize, name: &str) {
    const HASH: usize = 8;
    const EXTENSION: usize = 16;
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let whole = String::from(&path[start..]);
    let extension = match whole.rfind('.') {
        Some(dot) if dot > 0 && whole.len() - dot <= EXTENSION => &whole[dot..],
        Some(_) | None => "",
    };
    let mut kept = MAX_NAME - extension.len() - HASH - 1;
    while !whole.is_char_boundary(kept) {
        kept -= 1;
    }
    path.truncate(start + kept);
    path.push('~');
    path.push_str(&hash[..HASH]);
    path.push_str(extension);
}

/// What separates, ends or disguises a name on some system.
const fn is_unsafe(c: char) -> bool {
    matches!(c,
        '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'
        | '\0'..='\x1F' | '\x7F'..='\u{9F}'
        // Marks that reverse or hide text, so that `gpj.exe` reads as `exe.jpg`.
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// Names that open a device on Windows, with any extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ');
    let plain = ["con", "prn", "aux", "nul", "conin$", "conout$"];
    if plain.iter().any(|device| stem.eq_ignore_ascii_case(device)) {
        return true;
    }
    let mut chars = stem.chars();
    let number = chars.next_back();
    let port = chars.as_str();
    (port.eq_ignore_ascii_case("com") || port.eq_ignore_ascii_case("lpt"))
        && matches!(number, Some('0'..='9' | '\u{B9}' | '\u{B2}' | '\u{B3}'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn one(name: &str) -> String {
        let path = SafePath::new([name]).expect("one component");
        assert_eq!(path.components().count(), 1, "{name:?}");
        path.0
    }

    #[test]
    fn ordinary_names_stay() {
        for name in [
            "a",
            "Makefile",
            ".bashrc",
            "résumé.pdf",
            "a b.tar.gz",
            "-rf",
            "日本語",
            "com10",
            "console",
            "...",
        ] {
            if name != "..." {
                assert_eq!(one(name), name);
            }
        }
    }

    #[test]
    fn hostile_names_become_one_harmless_component() {
        for (name, expected) in [
            ("", "_"),
            (".", "_"),
            ("..", "__"),
            ("...", "___"),
            ("../../etc/passwd", ".._.._etc_passwd"),
            ("/etc/passwd", "_etc_passwd"),
            ("..\\..\\boot.ini", ".._.._boot.ini"),
            ("C:\\x", "C__x"),
            ("file:stream", "file_stream"),
            ("a\0b\nc\x1B[31m", "a_b_c_[31m"),
            ("photo\u{202E}gpj.exe", "photo_gpj.exe"),
            ("nul", "_nul"),
            ("NUL.txt", "_NUL.txt"),
            ("com1", "_com1"),
            ("LPT9.log", "_LPT9.log"),
            ("name.", "name_"),
            ("name. . ", "name____"),
            (".net-partial", "_.net-partial"),
            (".NET-Partial", "_.NET-Partial"),
        ] {
            assert_eq!(one(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let long = |end: &str| -> String { core::iter::repeat_n('é', 400).chain(end.chars()).collect() };
        let (first, second) = (one(&long("1.tar")), one(&long("2.tar")));
        assert!(first.len() <= MAX_NAME && second.len() <= MAX_NAME);
        assert_ne!(first, second);
        assert!(first.ends_with(".tar"));
    }

    #[test]
    fn depth_is_bounded() {
        let names: Vec<&str> = core::iter::repeat_n("d", MAX_DEPTH).collect();
        assert!(SafePath::new(names.iter().copied()).is_some());
        assert!(SafePath::new(names.iter().copied().chain(["d"])).is_none());
        assert!(SafePath::new([]).is_none());
    }

    #[test]
    fn the_folder_of_partial_files_is_reserved_at_the_top_alone() {
        let path = SafePath::new(["d", PARTIAL_FOLDER]).expect("two components");
        assert_eq!(path.as_str(), "d/.net-partial");
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_safe_and_stays_as_it_is_the_second_time(names in proptest::collection::vec(".{0,300}", 1..6)) {
            let path = SafePath::new(names.iter().map(String::as_str)).expect("few components");
            proptest::prop_assert_eq!(path.components().count(), names.len());
            for name in path.components() {
                proptest::prop_assert!(!name.is_empty() && name.len() <= MAX_NAME && name != "." && name != "..");
                proptest::prop_assert!(!name.chars().any(is_unsafe) && !is_device(name));
            }
            let again = SafePath::new(path.components()).expect("as many");
            proptest::prop_assert_eq!(again, path);
        }
    }
}
