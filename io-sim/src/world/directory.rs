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
