//! The files that a workload sends: names, sizes and bytes follow from its key, and so does what becomes of them meanwhile.
//!
//! Invariants: a file changes once, before a read of it whose number its key decides, whatever else happens.
//! Not here: what may lie at the receiver (`check/file.rs`).

use net_kernel::transfer::limit::CHUNK;
use net_kernel::transfer::message::Kind;
use net_kernel::transfer::sender::Listed;
use net_kernel::transfer::{DiskError, SafePath, Source};
use net_sim_model::{Family, Key};

use crate::check::{Before, Change, Contents, Item};
use crate::scenario::FileWorkload;

/// Names that a Unix host gives files and that lead elsewhere, deceive or mean a device on some host.
const HOSTILE: [&str; 20] = [
    "..\\..\\up",
    "C:\\up",
    "...",
    "CON",
    "nul.txt",
    "LPT1 .png",
    "file::$DATA",
    "a\u{202e}gpj.exe",
    "new\nline",
    "\u{1b}[31mred",
    "dots...",
    " blank ",
    "-rf",
    "~",
    "$(up)",
    "%2e%2e%2fup",
    ".net-partial",
    "tab\there",
    "nothing\u{200b}there",
    "*",
];

/// An entry of a tree.
#[derive(Debug)]
pub struct Entry {
    names: Vec<String>,
    /// Where it will be.
    pub path: SafePath,
    /// What it is.
    pub item: Item,
    /// Reads until it changes.
    left: Option<u64>,
    changed: bool,
    /// Whether it had changed when it was listed last.
    listed: bool,
}

/// A tree.
#[derive(Debug)]
pub struct Tree {
    /// Its entries, directories before what lies in them.
    pub entries: Vec<Entry>,
    /// Files that changed so far.
    pub changes: u64,
}

impl Tree {
    /// The tree of the workload number `workload`, whose decisions and bytes stand under `key`.
    pub fn new(workload: usize, spec: &FileWorkload, key: Key) -> Self {
        let mut entries = Vec::new();
        let mut folders: Vec<Vec<String>> = vec![Vec::new()];
        for n in 0..spec.directories as usize {
            // Every other one lies in the one before.
            let mut names = if n % 2 == 1 { folders[n].clone() } else { Vec::new() };
            names.push(format!("folder {workload}-{n}"));
            folders.push(names.clone());
            entries.push(Entry::new(names, Item::Directory, None));
        }
        for n in 0..spec.files {
            let mut names = folders[n as usize % folders.len()].clone();
            // Some names cannot be used as they are.
            let name = if n % 3 == 2 { "what?" } else { "file" };
            let hostile = HOSTILE.get(n as usize).filter(|_| spec.hostile);
            names.push(hostile.map_or_else(|| format!("{name}-{workload}-{n}"), |name| (*name).to_owned()));
            let (item, left) = file(spec, key.with(n));
            entries.push(Entry::new(names, item, left));
        }
        Self { entries, changes: 0 }
    }

    /// The key under which the decisions and bytes of the workload `id` stand in a run.
    #[must_use]
    pub fn key(run: Key, id: &str) -> Key {
        run.family(Family::Workload).family(Family::Payload).with_text(id)
    }

    /// The list to offer now.
    pub fn list(&mut self) -> Vec<Listed> {
        let each = self.entries.iter_mut().map(|entry| {
            entry.listed = entry.changed;
            let kind = match entry.item {
                Item::Directory => Kind::Directory,
                Item::File {
                    contents, executable, ..
                } => Kind::File {
                    size: contents.sizes[usize::from(entry.changed)],
                    executable,
                },
            };
            let names = entry.names.clone();
            Listed { names, kind }
        });
        each.collect()
    }
}

/// What a file is, and before which read of it it changes.
fn file(spec: &FileWorkload, key: Key) -> (Item, Option<u64>) {
    let (low, high) = spec.size;
    let size = low + key.with_text("size").below(0, high - low + 1);
    let fate = key.with_text("change");
    let change = match fate.below(1, 3) {
        _ if !fate.hits(0, spec.changes) || size == 0 => Change::Never,
        0 => Change::Other,
        1 => Change::Shorter,
        _ => Change::Gone,
    };
    let shorter = match change {
        Change::Shorter => fate.below(2, size),
        Change::Never | Change::Other | Change::Gone => size,
    };
    // It is read once per chunk, and more often where it goes on.
    let left = (change != Change::Never).then(|| fate.below(3, size.div_ceil(CHUNK as u64) + 2));
    let there = key.with_text("before");
    let before = if there.hits(0, spec.same) {
        Before::Same
    } else if there.hits(1, spec.other) {
        // As long in one of two cases: only its hash tells that it is another.
        let longer = there.below(2, 2) * there.below(3, 100);
        Before::Other(size + longer)
    } else {
        Before::Nothing
    };
    let contents = Contents {
        key: key.with_text("bytes"),
        sizes: [size, shorter],
        change,
    };
    let executable = key.with_text("executable").below(0, 2) == 1;
    let item = Item::File {
        contents,
        executable,
        before,
    };
    (item, left)
}

impl Entry {
    fn new(names: Vec<String>, item: Item, left: Option<u64>) -> Self {
        let path = SafePath::new(names.iter().map(String::as_str)).expect("a path of few short names");
        Self {
            names,
            path,
            item,
            left,
            changed: false,
            listed: false,
        }
    }

    /// Its path, outermost name first, as its sender has it.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What it holds before it changes; nothing where it is a directory.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let Item::File { contents, .. } = self.item else {
            return None;
        };
        let mut bytes = vec![0; contents.sizes[0] as usize];
        contents.fill(false, 0, &mut bytes);
        Some(bytes)
    }

    /// What is at the receiver before.
    pub fn before(&self) -> Option<Vec<u8>> {
        let Item::File { contents, before, .. } = self.item else {
            return None;
        };
        match before {
            Before::Nothing => None,
            Before::Same => self.bytes(),
            Before::Other(len) => Some(contents.stranger(len)),
        }
    }
}

impl Source for Tree {
    fn read(&mut self, entry: u32, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let entry = self.entries.get_mut(entry as usize).ok_or(DiskError::Failed)?;
        let Item::File { contents, .. } = entry.item else {
            return Err(DiskError::Failed);
        };
        if entry.left == Some(0) && !entry.changed {
            entry.changed = true;
            self.changes += 1;
        }
        entry.left = entry.left.map(|left| left.saturating_sub(1));
        if entry.changed && contents.change == Change::Gone {
            return Err(DiskError::Denied);
        }
        let left = contents.sizes[usize::from(entry.changed)].saturating_sub(at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        contents.fill(entry.changed, at, &mut into[..len]);
        Ok(len)
    }

    fn unchanged(&mut self, entry: u32) -> bool {
        let entry = self.entries.get(entry as usize);
        entry.is_some_and(|entry| entry.listed == entry.changed)
    }
}
