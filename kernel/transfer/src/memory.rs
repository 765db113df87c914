//! A store in memory whose crash loses what was not synced: for tests and simulation.
//!
//! Invariants: what was synced survives every crash; of what was not, each operation survives, is lost or is torn on its own,
//! as the one who crashes it says; nothing has a final name twice. Not here: which operations a crash takes.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::disk::{DiskError, Found, PartialKey, Place, Store};
use crate::name::SafePath;

/// What a crash does to one operation that was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It happened.
    Kept,
    /// It did not.
    Lost,
    /// Of a write, so many bytes; anything else happened.
    Torn(usize),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Name {
    Final(String),
    Partial(PartialKey),
}

#[derive(Clone, Debug, Default)]
struct View {
    names: BTreeMap<Name, u64>,
    files: BTreeMap<u64, (Vec<u8>, bool)>,
    directories: BTreeMap<String, ()>,
}

#[derive(Clone, Debug)]
enum Op {
    Make(PartialKey, u64),
    Cut(u64, usize),
    Write(u64, usize, Vec<u8>),
    Publish(PartialKey, String, bool),
    Directory(String),
    Discard(PartialKey),
}

/// Files in memory, as a process sees them and as a disk has them.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    seen: View,
    disk: View,
    /// What is not on disk yet, each with the number of the call that did it.
    unsynced: Vec<(u64, Op)>,
    capacity: Option<u64>,
    next: u64,
    calls: u64,
}

impl Memory {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that all files together may have from now on.
    pub const fn limit(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
    }

    /// Puts a file there, as if somebody else had, safe from crashes.
    pub fn put(&mut self, path: &str, bytes: &[u8]) {
        self.put_as(path, bytes, false);
    }

    /// The same, where it may be executable.
    pub fn put_as(&mut self, path: &str, bytes: &[u8], executable: bool) {
        self.next += 1;
        for view in [&mut self.seen, &mut self.disk] {
            view.names.insert(Name::Final(path.to_string()), self.next);
            view.files.insert(self.next, (bytes.to_vec(), executable));
        }
    }

    /// Final files in the order of their names: name, bytes, whether executable.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8], bool)> {
        self.seen.names.iter().filter_map(|(name, file)| match name {
            Name::Final(name) => self
                .seen
                .files
                .get(file)
                .map(|(bytes, executable)| (name.as_str(), &bytes[..], *executable)),
            Name::Partial(_) => None,
        })
    }

    /// Directories in order.
    pub fn directories(&self) -> impl Iterator<Item = &str> {
        self.seen.directories.keys().map(String::as_str)
    }

    /// How many partial files there are.
    #[must_use]
    pub fn partials(&self) -> usize {
        self.seen
            .names
            .keys()
            .filter(|name| matches!(name, Name::Partial(_)))
            .count()
    }

    /// Calls that changed something so far.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.calls
    }

    /// The process is gone, and with it what the disk does not have. `fate` is asked for each operation that was not synced, in
    /// their order, with its number (that of the call, from 1) and the bytes it writes.
    pub fn crash(&mut self, mut fate: impl FnMut(u64, usize) -> Fate) {
        for (number, op) in core::mem::take(&mut self.unsynced) {
            let len = match &op {
                Op::Write(_, _, bytes) => bytes.len(),
                Op::Make(..) | Op::Cut(..) | Op::Publish(..) | Op::Directory(_) | Op::Discard(_) => 0,
            };
            match (fate(number, len), op) {
                (Fate::Kept, op) => self.disk.apply(&op),
                (Fate::Lost, _) => {}
                (Fate::Torn(kept), Op::Write(file, at, mut bytes)) => {
                    bytes.truncate(kept);
                    self.disk.apply(&Op::Write(file, at, bytes));
                }
                (Fate::Torn(_), op) => self.disk.apply(&op),
            }
        }
        self.seen = self.disk.clone();
    }

    fn perform(&mut self, op: Op) {
        self.calls += 1;
        self.seen.apply(&op);
        self.unsynced.push((self.calls, op));
    }

    /// Makes those operations durable that `is` says, in their order.
    fn settle(&mut self, is: impl Fn(&Op) -> bool) {
        self.calls += 1;
        let unsynced = core::mem::take(&mut self.unsynced).into_iter();
        let (now, later) = unsynced.partition(|(_, op)| is(op));
        self.unsynced = later;
        let now: Vec<(u64, Op)> = now;
        for (_, op) in now {
            self.disk.apply(&op);
        }
    }

    fn name(place: Place<'_>) -> Name {
        match place {
            Place::Final(path) => Name::Final(path.as_str().to_string()),
            Place::Partial(key) => Name::Partial(key),
        }
    }

    fn parent_is_there(&self, path: &SafePath) -> bool {
        path.as_str()
            .rsplit_once('/')
            .is_none_or(|(parent, _)| self.seen.directories.contains_key(parent))
    }

    fn used(&self) -> u64 {
        self.seen.files.values().map(|(bytes, _)| bytes.len() as u64).sum()
    }
}

impl View {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Make(key, file) => {
                self.names.insert(Name::Partial(*key), *file);
                self.files.entry(*file).or_default();
            }
            Op::Cut(file, len) => {
                let (bytes, _) = self.files.entry(*file).or_default();
                bytes.resize(*len, 0);
            }
            // What was lost before it is a hole.
            Op::Write(file, at, written) => {
                let (bytes, _) = self.files.entry(*file).or_default();
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
            Op::Publish(key, path, executable) => {
                if let Some(file) = self.names.remove(&Name::Partial(*key)) {
                    self.files.entry(file).or_default().1 = *executable;
                    self.names.insert(Name::Final(path.clone()), file);
                }
            }
            Op::Directory(path) => {
                self.directories.insert(path.clone(), ());
            }
            Op::Discard(key) => {
                if let Some(file) = self.names.remove(&Name::Partial(*key)) {
                    self.files.remove(&file);
                }
            }
        }
    }
}

impl Store for Memory {
    fn room(&mut self) -> Option<u64> {
        self.capacity.map(|capacity| capacity.saturating_sub(self.used()))
    }

    fn look(&mut self, place: Place<'_>) -> Result<Found, DiskError> {
        if let Place::Final(path) = place
            && self.seen.directories.contains_key(path.as_str())
        {
            return Ok(Found::Directory);
        }
        Ok(match self.seen.names.get(&Self::name(place)) {
            Some(file) => Found::File(self.seen.files.get(file).map_or(0, |(bytes, _)| bytes.len() as u64)),
            None => Found::Nothing,
        })
    }

    fn read(&mut self, place: Place<'_>, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let file = self.seen.names.get(&Self::name(place)).ok_or(DiskError::Failed)?;
        let (bytes, _) = self.seen.files.get(file).ok_or(DiskError::Failed)?;
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let len = into.len().min(bytes.len() - from);
        into[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn make_directory(&mut self, path: &SafePath) -> Result<(), DiskError> {
        if self.seen.names.contains_key(&Self::name(Place::Final(path))) || !self.parent_is_there(path) {
            return Err(DiskError::InTheWay);
        }
        if !self.seen.directories.contains_key(path.as_str()) {
            self.perform(Op::Directory(path.as_str().to_string()));
        }
        Ok(())
    }

    fn open(&mut self, key: PartialKey, len: u64) -> Result<(), DiskError> {
        let file = match self.seen.names.get(&Name::Partial(key)) {
            Some(&file) => file,
            None => {
                self.next += 1;
                self.perform(Op::Make(key, self.next));
                self.next
            }
        };
        let len = usize::try_from(len).map_err(|_| DiskError::Failed)?;
        if self.seen.files.get(&file).is_none_or(|(bytes, _)| bytes.len() != len) {
            self.perform(Op::Cut(file, len));
        }
        Ok(())
    }

    fn write(&mut self, key: PartialKey, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let file = *self.seen.names.get(&Name::Partial(key)).ok_or(DiskError::Failed)?;
        let room = self.room().unwrap_or(u64::MAX);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let at = usize::try_from(at).map_err(|_| DiskError::Failed)?;
        self.perform(Op::Write(file, at, bytes[..fits].to_vec()));
        if fits < bytes.len() {
            Err(DiskError::Full)
        } else {
            Ok(())
        }
    }

    fn sync(&mut self, key: PartialKey) -> Result<(), DiskError> {
        let file = *self.seen.names.get(&Name::Partial(key)).ok_or(DiskError::Failed)?;
        self.settle(|op| match op {
            Op::Make(_, of) | Op::Cut(of, _) | Op::Write(of, ..) => *of == file,
            Op::Publish(..) | Op::Directory(_) | Op::Discard(_) => false,
        });
        Ok(())
    }

    fn publish(&mut self, key: PartialKey, path: &SafePath, executable: bool) -> Result<(), DiskError> {
        if !self.parent_is_there(path) {
            return Err(DiskError::InTheWay);
        }
        if self.look(Place::Final(path))? != Found::Nothing {
            return Err(DiskError::Exists);
        }
        if !self.seen.names.contains_key(&Name::Partial(key)) {
            return Err(DiskError::Failed);
        }
        self.perform(Op::Publish(key, path.as_str().to_string(), executable));
        Ok(())
    }

    fn sync_name(&mut self, path: &SafePath) -> Result<(), DiskError> {
        let name = path.as_str();
        // A file system that keeps a name keeps what makes the partial name it had.
        let of = self.seen.names.get(&Name::Final(name.to_string())).copied();
        self.settle(|op| match op {
            Op::Make(_, file) => Some(*file) == of,
            Op::Publish(_, to, _) => to == name,
            Op::Directory(made) => {
                name == made
                    || name
                        .strip_prefix(made.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
            }
            Op::Cut(..) | Op::Write(..) | Op::Discard(_) => false,
        });
        Ok(())
    }

    fn discard(&mut self, key: PartialKey) {
        if self.seen.names.contains_key(&Name::Partial(key)) {
            self.perform(Op::Discard(key));
        }
    }
}
