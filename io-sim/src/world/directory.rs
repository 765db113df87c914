//! The directory that receives files on one machine: a disk in memory, and what faults do to it.
//!
//! Invariants: what a crash leaves of an operation is decided under that operation's number. A fault of a disk acts as long
//! as it lasts: full, failing, denied and without syncs as their names say; misdirected and slow disks are the kernel's alone.
//! Not here: what must be in it (`check/file.rs`), who fills it (`files.rs`).

use net_kernel::transfer::limit::CHUNK;
use net_kernel::transfer::memory::{Fate, Memory};
use net_kernel::transfer::{DiskError, Found, PartialKey, Place, SafePath, Store};
use net_sim_model::{DiskFault, Key};

/// What a crash made of operations that were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Crash {
    /// They happened.
    pub kept: u64,
    /// They did not.
    pub lost: u64,
    /// Writes that happened in part.
    pub torn: u64,
}

/// A machine's directory.
#[derive(Debug)]
pub struct Directory {
    memory: Memory,
    key: Key,
    fault: Option<DiskFault>,
    bitten: u64,
}

impl Directory {
    /// An empty one, whose decisions stand under `key`.
    pub fn new(key: Key) -> Self {
        Self {
            memory: Memory::new(),
            key,
            fault: None,
            bitten: 0,
        }
    }

    /// What lies in it.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Puts a file there before anything is transferred.
    pub fn put(&mut self, path: &str, bytes: &[u8]) {
        self.memory.put(path, bytes);
    }

    /// Operations that a fault touched.
    pub const fn bitten(&self) -> u64 {
        self.bitten
    }

    /// A fault begins, or all of them end. A disk that becomes full has room for some bytes yet: less than a chunk.
    pub fn set_fault(&mut self, fault: Option<DiskFault>) {
        self.fault = fault;
        self.memory.limit(Some(u64::MAX));
        let used = u64::MAX - self.memory.room().unwrap_or(u64::MAX);
        let left = self.key.with_text("left").below(self.memory.calls(), CHUNK as u64);
        self.memory
            .limit((fault == Some(DiskFault::Full)).then_some(used + left));
    }

    /// The process is gone: of what was not synced each operation is kept, lost or torn.
    pub fn crash(&mut self) -> Crash {
        let (key, mut crash) = (self.key, Crash::default());
        self.memory.crash(|number, len| match key.below(number, 3) {
            0 => {
                crash.kept += 1;
                Fate::Kept
            }
            1 => {
                crash.lost += 1;
                Fate::Lost
            }
            _ => {
                crash.torn += 1;
                Fate::Torn(key.with(1).below(number, len as u64 + 1) as usize)
            }
        });
        crash
    }

    /// Looking fails only where everything does.
    fn looks(&mut self) -> Result<(), DiskError> {
        if self.fault == Some(DiskFault::Failing) {
            self.bitten += 1;
            return Err(DiskError::Failed);
        }
        Ok(())
    }

    fn changes(&mut self) -> Result<(), DiskError> {
        self.looks()?;
        if self.fault == Some(DiskFault::Denied) {
            self.bitten += 1;
            return Err(DiskError::Denied);
        }
        Ok(())
    }

    fn syncs(&mut self) -> Result<(), DiskError> {
        self.looks()?;
        if self.fault == Some(DiskFault::Sync) {
            self.bitten += 1;
            return Err(DiskError::Failed);
        }
        Ok(())
    }
}

impl Store for Directory {
    fn room(&mut self) -> Option<u64> {
        let room = self.memory.room();
        self.bitten += u64::from(room.is_some());
        room
    }

    fn look(&mut self, place: Place<'_>) -> Result<Found, DiskError> {
        self.looks()?;
        self.memory.look(place)
    }

    fn read(&mut self, place: Place<'_>, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.looks()?;
        self.memory.read(place, at, into)
    }

    fn make_directory(&mut self, path: &SafePath) -> Result<(), DiskError> {
        self.changes()?;
        self.memory.make_directory(path)
    }

    fn open(&mut self, key: PartialKey, len: u64) -> Result<(), DiskError> {
        self.changes()?;
        self.memory.open(key, len)
    }

    fn write(&mut self, key: PartialKey, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.changes()?;
        let written = self.memory.write(key, at, bytes);
        self.bitten += u64::from(written == Err(DiskError::Full));
        written
    }

    fn sync(&mut self, key: PartialKey) -> Result<(), DiskError> {
        self.syncs()?;
        self.memory.sync(key)
    }

    fn publish(&mut self, key: PartialKey, path: &SafePath, executable: bool) -> Result<(), DiskError> {
        self.changes()?;
        self.memory.publish(key, path, executable)
    }

    fn sync_name(&mut self, path: &SafePath) -> Result<(), DiskError> {
        self.syncs()?;
        self.memory.sync_name(path)
    }

    fn discard(&mut self, key: PartialKey) {
        if self.changes().is_ok() {
            self.memory.discard(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use net_kernel::transfer::Token;

    use super::*;

    fn rig() -> (Directory, PartialKey, SafePath) {
        let path = SafePath::new(["f"]).unwrap();
        let key = PartialKey::new(&Token([1; 32]), &path);
        let mut directory = Directory::new(Key::new(1));
        directory.open(key, 0).unwrap();
        (directory, key, path)
    }

    #[test]
    fn each_fault_acts_as_its_name_says_and_ends() {
        let (mut directory, key, path) = rig();
        let chunk = vec![0; CHUNK];
        directory.set_fault(Some(DiskFault::Full));
        assert!(directory.room().is_some_and(|room| room < CHUNK as u64));
        assert_eq!(directory.write(key, 0, &chunk), Err(DiskError::Full));
        directory.set_fault(Some(DiskFault::Denied));
        assert_eq!(directory.write(key, 0, b"x"), Err(DiskError::Denied));
        assert!(directory.look(Place::Partial(key)).is_ok(), "reading is allowed");
        directory.set_fault(Some(DiskFault::Failing));
        assert_eq!(directory.look(Place::Partial(key)), Err(DiskError::Failed));
        directory.set_fault(Some(DiskFault::Sync));
        assert_eq!(directory.write(key, 0, b"x"), Ok(()));
        assert_eq!(directory.sync(key), Err(DiskError::Failed));
        assert_eq!(directory.bitten(), 5);
        directory.set_fault(None);
        assert_eq!(directory.room(), None);
        directory.sync(key).unwrap();
        directory.publish(key, &path, false).unwrap();
        directory.sync_name(&path).unwrap();
        assert_eq!(directory.bitten(), 5);
    }

    #[test]
    fn what_a_crash_does_to_an_operation_hangs_on_its_number_alone() {
        let left = |synced: u64| {
            let (mut directory, key, _) = rig();
            for n in 0..40 {
                // Calls have numbers, whether they write or sync.
                if n == synced {
                    directory.sync(key).unwrap();
                } else {
                    directory.write(key, n * 10, &[1; 10]).unwrap();
                }
            }
            let crash = directory.crash();
            let mut bytes = vec![0; 400];
            let _ = directory.read(Place::Partial(key), 0, &mut bytes);
            (crash, bytes)
        };
        let ((many, all), (few, some)) = (left(0), left(20));
        assert!(many.kept > 5 && many.lost > 5 && many.torn > 5, "{many:?}");
        assert!(few.kept + few.lost + few.torn < many.kept + many.lost + many.torn);
        assert_eq!(all[210..], some[210..], "later operations fare alike");
    }
}
