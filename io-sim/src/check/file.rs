//! What a transfer of files promises: whole files under final names, nothing told as stored that is not, no file left out
//! without a cause.
//!
//! Invariants: they look into the receiver's directory, not at what either side of the protocol believes.
//! Not here: whether a transfer comes to its end (`world/diagnosis.rs`).

use std::collections::{BTreeMap, BTreeSet};

use net_kernel::transfer::memory::Memory;
use net_kernel::transfer::{Reject, Skip};
use net_sim_model::Key;

use super::{Checker, Observation, wants};
use crate::payload;

/// What becomes of a file at its source, at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing.
    Never,
    /// It becomes another of the same size.
    Other,
    /// It loses its end.
    Shorter,
    /// It cannot be read any more.
    Gone,
}

/// What a file of the source holds before and after it changes. Nothing of it need be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contents {
    /// Under which the bytes were made.
    pub key: Key,
    /// Its bytes before and after.
    pub sizes: [u64; 2],
    /// How it changes.
    pub change: Change,
}

/// The number under which the bytes of a stranger's file of the same name are made.
const STRANGER: u64 = 2;

impl Contents {
    /// Writes its bytes from `offset` on, before or after the change.
    pub fn fill(&self, changed: bool, offset: u64, out: &mut [u8]) {
        let version = u64::from(changed && self.change == Change::Other);
        payload::fill(self.key, version, offset, out);
    }

    /// The bytes of a stranger's file of this name.
    #[must_use]
    pub fn stranger(&self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        payload::fill(self.key, STRANGER, 0, &mut bytes);
        bytes
    }

    /// Whether they are what was sent: the file as it was, or as it is. A mixture of both is neither.
    #[must_use]
    pub fn sent(&self, bytes: &[u8]) -> bool {
        let len = bytes.len() as u64;
        let versions = if self.change == Change::Other { 2 } else { 1 };
        self.sizes.contains(&len) && (0..versions).any(|version| payload::matches(self.key, version, 0, bytes))
    }
}

/// What was at the receiver before under the name of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// The same file.
    Same,
    /// Another one of so many bytes.
    Other(u64),
}

/// An entry that is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// What it holds.
        contents: Contents,
        /// Whether its owner may execute it.
        executable: bool,
        /// What has its name already.
        before: Before,
    },
}

impl Item {
    fn is_right(&self, bytes: &[u8], executes: bool) -> bool {
        match *self {
            Self::Directory => false,
            Self::File {
                contents,
                executable,
                before,
            } => match before {
                Before::Nothing => executes == executable && contents.sent(bytes),
                Before::Same => !executes && payload::matches(contents.key, 0, 0, bytes),
                Before::Other(len) => bytes == contents.stranger(len),
            },
        }
    }

    const fn was_there(&self) -> bool {
        matches!(
            self,
            Self::File {
                before: Before::Same | Before::Other(_),
                ..
            }
        )
    }

    const fn change(&self) -> Change {
        match self {
            Self::Directory => Change::Never,
            Self::File { contents, .. } => contents.change,
        }
    }
}

type Named<T> = BTreeMap<(u32, String), T>;

fn of<T>(named: &Named<T>, node: u32) -> impl Iterator<Item = (&str, &T)> {
    named
        .range((node, String::new())..(node + 1, String::new()))
        .map(|((_, path), value)| (path.as_str(), value))
}

fn names(directory: &Memory) -> BTreeSet<&str> {
    let files = directory.files().map(|(name, ..)| name);
    files.chain(directory.directories()).collect()
}

/// Whatever has a final name is what was sent, byte for byte, or what was there before.
#[derive(Debug, Default)]
pub struct FileWhole {
    offered: Named<Item>,
    /// Files that were looked at, with their lengths: nothing but a crash touches them again.
    seen: Named<usize>,
}

impl FileWhole {
    fn look(&mut self, node: u32, directory: &Memory, whole: bool) -> Result<(), String> {
        for (name, bytes, executable) in directory.files() {
            let place = (node, name.to_owned());
            if !whole && self.seen.get(&place) == Some(&bytes.len()) {
                continue;
            }
            let Some(item) = self.offered.get(&place) else {
                return Err(format!("node {node} has a file `{name}` that nobody offered"));
            };
            if !item.is_right(bytes, executable) {
                let len = bytes.len();
                let had = if item.was_there() {
                    "what was there before"
                } else {
                    "what was sent"
                };
                return Err(format!("`{name}` at node {node}, {len} B, is not {had}"));
            }
            self.seen.insert(place, bytes.len());
        }
        for name in directory.directories() {
            if self.offered.get(&(node, name.to_owned())) != Some(&Item::Directory) {
                return Err(format!("node {node} has a directory `{name}` that nobody offered"));
            }
        }
        let there = names(directory);
        let gone = of(&self.offered, node).find(|(name, item)| item.was_there() && !there.contains(name));
        gone.map_or(Ok(()), |(name, _)| {
            Err(format!("`{name}` was at node {node} before and is gone"))
        })
    }
}

impl Checker for FileWhole {
    fn name(&self) -> &'static str {
        "file-whole"
    }

    fn wants(&self) -> u8 {
        wants::FILE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::FileOffered { node, path, item, .. } => {
                self.offered.insert((node, path.to_owned()), item);
                Ok(())
            }
            Observation::Directory { node, directory, whole } => self.look(node, directory, whole),
            Observation::FilesSettled { node, directory, .. } => self.look(node, directory, true),
            _ => Ok(()),
        }
    }
}

/// What the sender was told as stored is there from then on, and at the end every file is.
#[derive(Debug, Default)]
pub struct FileStored {
    offered: Named<(u32, Item)>,
    told: Named<()>,
}

impl Checker for FileStored {
    fn name(&self) -> &'static str {
        "file-stored"
    }

    fn wants(&self) -> u8 {
        wants::FILE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::FileOffered {
                node,
                workload,
                path,
                item,
            } => {
                self.offered.insert((node, path.to_owned()), (workload, item));
                Ok(())
            }
            Observation::FileTold { node, path } => {
                self.told.insert((node, path.to_owned()), ());
                Ok(())
            }
            Observation::Directory { node, directory, .. } => {
                let there = names(directory);
                let lost = of(&self.told, node).find(|(name, ())| !there.contains(name));
                lost.map_or(Ok(()), |(name, ())| {
                    Err(format!("`{name}` was told as stored, and node {node} does not have it"))
                })
            }
            Observation::FilesSettled {
                node,
                workload,
                directory,
            } => {
                let there = names(directory);
                let owed = |(of, item): &(u32, Item)| *of == workload && item.change() != Change::Gone;
                let missing = of(&self.offered, node).find(|(name, entry)| owed(entry) && !there.contains(name));
                missing.map_or(Ok(()), |(name, _)| {
                    Err(format!("every file is settled, and node {node} does not have `{name}`"))
                })
            }
            _ => Ok(()),
        }
    }
}

/// No entry is rejected or left out without a cause.
#[derive(Debug, Default)]
pub struct FileRefused {
    offered: Named<Item>,
}

impl FileRefused {
    fn item(&self, node: u32, path: &str) -> Result<Item, String> {
        let item = self.offered.get(&(node, path.to_owned())).copied();
        item.ok_or_else(|| format!("`{path}` of node {node} was never offered"))
    }
}

impl Checker for FileRefused {
    fn name(&self) -> &'static str {
        "file-refused"
    }

    fn wants(&self) -> u8 {
        wants::FILE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::FileOffered { node, path, item, .. } => {
                self.offered.insert((node, path.to_owned()), item);
                Ok(())
            }
            Observation::FileRejected {
                node,
                path,
                why,
                flipped,
                faulty,
            } => {
                let item = self.item(node, path)?;
                let caused = match why {
                    // A file that changed may be there as it was.
                    Reject::Exists => item.was_there() || item.change() != Change::Never,
                    Reject::Mismatch => flipped,
                    // Where a directory could not be made, it is missing for what lies in it.
                    Reject::Denied | Reject::Failed | Reject::InTheWay => faulty,
                    Reject::Conflict => false,
                };
                if caused {
                    return Ok(());
                }
                Err(format!("`{path}` was rejected by node {node} without a cause: {why}"))
            }
            Observation::FileSkipped { node, path, why } => {
                let item = self.item(node, path)?;
                let caused = match why {
                    Skip::Unreadable => item.change() == Change::Gone,
                    Skip::Changed => matches!(item.change(), Change::Other | Change::Shorter),
                    Skip::Rejected => true,
                };
                if caused {
                    return Ok(());
                }
                Err(format!("`{path}` for node {node} was left out without a cause: {why}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1_000;

    fn contents(change: Change) -> Contents {
        let sizes = [SIZE, if change == Change::Shorter { 10 } else { SIZE }];
        Contents {
            key: Key::new(4),
            sizes,
            change,
        }
    }

    fn item(change: Change, before: Before) -> Item {
        Item::File {
            contents: contents(change),
            executable: false,
            before,
        }
    }

    fn bytes(changed: bool) -> Vec<u8> {
        let mut out = vec![0; SIZE as usize];
        contents(Change::Other).fill(changed, 0, &mut out);
        out
    }

    fn offer(checker: &mut dyn Checker, item: Item) {
        let offered = Observation::FileOffered {
            node: 1,
            workload: 0,
            path: "f",
            item,
        };
        checker.observe(&offered).unwrap();
    }

    fn look(checker: &mut dyn Checker, files: &[(&str, &[u8])], whole: bool) -> Result<(), String> {
        let mut directory = Memory::new();
        for (name, bytes) in files {
            directory.put(name, bytes);
        }
        checker.observe(&Observation::Directory {
            node: 1,
            directory: &directory,
            whole,
        })
    }

    #[test]
    fn half_a_file_a_strange_one_and_one_that_is_gone_are_noticed() {
        let mut checker = FileWhole::default();
        offer(&mut checker, item(Change::Never, Before::Nothing));
        look(&mut checker, &[], false).unwrap();
        look(&mut checker, &[("f", &bytes(false))], false).unwrap();
        let mut bad = bytes(false);
        bad[500] = 0;
        bad[501] = 0;
        assert!(
            look(&mut checker, &[("f", &bad)], true)
                .unwrap_err()
                .contains("not what was sent")
        );
        assert!(look(&mut checker, &[("f", &bad[..400])], false).is_err());
        assert!(
            look(&mut checker, &[("g", b"")], false)
                .unwrap_err()
                .contains("nobody offered")
        );
        let mut checker = FileWhole::default();
        offer(&mut checker, item(Change::Never, Before::Other(SIZE)));
        let stranger = contents(Change::Never).stranger(SIZE);
        look(&mut checker, &[("f", &stranger)], true).unwrap();
        assert!(
            look(&mut checker, &[("f", &bytes(false))], true)
                .unwrap_err()
                .contains("there before"),
            "overwritten"
        );
        assert!(look(&mut checker, &[], false).unwrap_err().contains("is gone"));
    }

    #[test]
    fn a_file_that_changed_while_it_was_read_is_the_one_or_the_other() {
        let (before, after) = (bytes(false), bytes(true));
        let changes = contents(Change::Other);
        for cut in [0, 1, 64, 77, 999, 1_000] {
            let mixed = [&before[..cut], &after[cut..]].concat();
            assert_eq!(changes.sent(&mixed), mixed == before || mixed == after, "{cut}");
            assert_eq!(contents(Change::Never).sent(&mixed), mixed == before, "{cut}");
        }
        assert!(contents(Change::Shorter).sent(&before[..10]));
        assert!(!contents(Change::Shorter).sent(&before[..11]));
    }

    #[test]
    fn what_was_told_as_stored_is_missed() {
        let mut checker = FileStored::default();
        offer(&mut checker, item(Change::Never, Before::Nothing));
        look(&mut checker, &[], false).unwrap();
        checker.observe(&Observation::FileTold { node: 1, path: "f" }).unwrap();
        look(&mut checker, &[("f", b"")], false).unwrap();
        assert!(look(&mut checker, &[], false).unwrap_err().contains("told as stored"));
        let mut checker = FileStored::default();
        offer(&mut checker, item(Change::Never, Before::Nothing));
        let settled = Observation::FilesSettled {
            node: 1,
            workload: 0,
            directory: &Memory::new(),
        };
        assert!(checker.observe(&settled).unwrap_err().contains("does not have `f`"));
    }

    #[test]
    fn a_file_that_is_rejected_or_left_out_without_a_cause_is_noticed() {
        let rejected = |why, flipped, faulty| Observation::FileRejected {
            node: 1,
            path: "f",
            why,
            flipped,
            faulty,
        };
        let skipped = |why| Observation::FileSkipped {
            node: 1,
            path: "f",
            why,
        };
        let mut checker = FileRefused::default();
        offer(&mut checker, item(Change::Never, Before::Nothing));
        checker.observe(&rejected(Reject::Mismatch, true, false)).unwrap();
        checker.observe(&rejected(Reject::Failed, false, true)).unwrap();
        for why in Reject::ALL {
            assert!(checker.observe(&rejected(*why, false, false)).is_err(), "{why:?}");
        }
        assert!(checker.observe(&skipped(Skip::Changed)).is_err());
        assert!(checker.observe(&skipped(Skip::Unreadable)).is_err());
        offer(&mut checker, item(Change::Gone, Before::Other(5)));
        checker.observe(&rejected(Reject::Exists, false, false)).unwrap();
        checker.observe(&skipped(Skip::Unreadable)).unwrap();
    }
}
