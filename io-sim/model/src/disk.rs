//! Small atomic cells on a disk that can be slow, full, failing, and crash with writes under way.
//!
//! A cell is replaced as careful programs do it: the new bytes are written aside, synced, and take the cell's name in
//! one step. Until that step ended, a crash leaves each write kept (the step had happened), lost, or torn (the bytes
//! aside are damaged, the cell keeps its old ones).
//! Invariants: a cell holds the bytes of some write that was begun, whole; a write that ended is never lost.
//! Not here: when operations end in time (`net-io-sim` schedules them).

use std::collections::BTreeMap;

use crate::corrupt::{Corruption, Damage};
use crate::distribution::Distribution;
use crate::key::{Family, Key, scale};

/// A way for a disk to be faulty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFault {
    /// No space left for writes.
    Full,
    /// Every operation fails.
    Failing,
    /// Writes are refused.
    Denied,
    /// Writes reach the disk's cache and no further: every sync fails, and the cell keeps its old bytes.
    Sync,
    /// Writes are confirmed but land in another cell's place.
    Misdirected,
}

/// How a write ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteEnd {
    /// It is durable.
    Done,
    /// It failed and the cell holds its old bytes.
    Failed(DiskFault),
}

/// What a crash made of the writes under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CrashReport {
    /// Had reached the disk.
    pub kept: u64,
    /// Had not.
    pub lost: u64,
    /// Were half way: the old bytes remain.
    pub torn: u64,
}

impl CrashReport {
    /// Adds another crash.
    pub const fn add(&mut self, other: &Self) {
        self.kept += other.kept;
        self.lost += other.lost;
        self.torn += other.torn;
    }
}

/// A copy of everything durable, as a backup holds it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiskSnapshot(BTreeMap<String, Vec<u8>>);

impl DiskSnapshot {
    /// Every cell and its bytes.
    pub fn cells(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(cell, bytes)| (cell.as_str(), bytes.as_slice()))
    }
}

/// A node's disk.
#[derive(Clone, Debug)]
pub struct Disk {
    cells: BTreeMap<String, Vec<u8>>,
    writing: BTreeMap<u64, (String, Vec<u8>)>,
    fault: Option<DiskFault>,
    latency: Distribution,
    slow: u64,
    key: Key,
    operations: u64,
    bitten: u64,
}

impl Disk {
    /// An empty disk whose operations take `latency` ns, decided under `key` (seed, node).
    #[must_use]
    pub fn new(latency: Distribution, key: Key) -> Self {
        Self {
            cells: BTreeMap::new(),
            writing: BTreeMap::new(),
            fault: None,
            latency,
            slow: 1,
            key: key.family(Family::Disk),
            operations: 0,
            bitten: 0,
        }
    }

    /// Makes the disk faulty from now on, or sound again.
    pub fn set_fault(&mut self, fault: Option<DiskFault>) {
        self.fault = fault;
    }

    /// Multiplies the latency of operations begun from now on; 1 is ordinary.
    pub fn set_slow(&mut self, factor: u64) {
        self.slow = factor;
    }

    /// Begins to replace `cell`; answers the operation's number and how many ns it takes.
    pub fn begin_write(&mut self, cell: &str, bytes: Vec<u8>) -> (u64, u64) {
        let (number, takes) = self.next();
        self.writing.insert(number, (cell.to_owned(), bytes));
        (number, takes)
    }

    /// Begins to read; answers the operation's number and how many ns it takes.
    pub fn begin_read(&mut self) -> (u64, u64) {
        self.next()
    }

    /// Ends a write. A number that is not under way (a crash came between) changes nothing and answers `None`.
    pub fn end_write(&mut self, number: u64) -> Option<WriteEnd> {
        let (cell, bytes) = self.writing.remove(&number)?;
        match self.fault {
            Some(DiskFault::Misdirected) => self.misdirect(&cell, bytes),
            Some(fault @ (DiskFault::Full | DiskFault::Failing | DiskFault::Denied | DiskFault::Sync)) => {
                self.bitten += 1;
                return Some(WriteEnd::Failed(fault));
            }
            None => {
                self.cells.insert(cell, bytes);
            }
        }
        Some(WriteEnd::Done)
    }

    /// The bytes take another cell's place, by key; where there is no other, they are nowhere.
    fn misdirect(&mut self, cell: &str, bytes: Vec<u8>) {
        self.bitten += 1;
        let others: Vec<String> = self.cells.keys().filter(|other| *other != cell).cloned().collect();
        let word = self.key.with(2).at(self.bitten);
        if let Some(other) = others.get(scale(word, others.len() as u64) as usize) {
            self.cells.insert(other.clone(), bytes);
        }
    }

    /// Flips bits of what a cell holds (of every cell, where none is named); answers how many cells held anything.
    pub fn rot(&mut self, cell: Option<&str>) -> u64 {
        let mut rotten = 0;
        for (name, bytes) in &mut self.cells {
            if cell.is_none_or(|cell| cell == name) && !bytes.is_empty() {
                let word = self.key.with(3).with_text(name).at(self.operations);
                let damage = Damage::Bits;
                Corruption { damage, word }.apply(bytes);
                rotten += 1;
            }
        }
        self.bitten += rotten;
        rotten
    }

    /// Operations that a fault or slowness touched, and cells that rotted.
    #[must_use]
    pub const fn bitten(&self) -> u64 {
        self.bitten
    }

    /// What a cell holds.
    ///
    /// # Errors
    /// [`DiskFault::Failing`] while the disk fails; under any other fault it can be read.
    pub fn read(&self, cell: &str) -> Result<Option<&[u8]>, DiskFault> {
        match self.fault {
            Some(DiskFault::Failing) => Err(DiskFault::Failing),
            Some(DiskFault::Full | DiskFault::Denied | DiskFault::Sync | DiskFault::Misdirected) | None => {
                Ok(self.cells.get(cell).map(Vec::as_slice))
            }
        }
    }

    /// Writes and syncs at once, as a program does before it starts.
    ///
    /// # Errors
    /// The disk's fault.
    pub fn write_now(&mut self, cell: &str, bytes: Vec<u8>) -> Result<(), DiskFault> {
        match self.fault {
            Some(DiskFault::Misdirected) => {
                self.misdirect(cell, bytes);
                Ok(())
            }
            Some(fault @ (DiskFault::Full | DiskFault::Failing | DiskFault::Denied | DiskFault::Sync)) => {
                self.bitten += 1;
                Err(fault)
            }
            None => {
                self.cells.insert(cell.to_owned(), bytes);
                Ok(())
            }
        }
    }

    /// The machine loses power: each write under way is kept, lost or torn by its own keyed decision.
    pub fn crash(&mut self) -> CrashReport {
        let mut report = CrashReport::default();
        for (number, (cell, bytes)) in std::mem::take(&mut self.writing) {
            match scale(self.key.with(1).at(number), 3) {
                0 => {
                    self.cells.insert(cell, bytes);
                    report.kept += 1;
                }
                1 => report.lost += 1,
                _ => report.torn += 1,
            }
        }
        report
    }

    /// A backup of what is durable now.
    #[must_use]
    pub fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot(self.cells.clone())
    }

    /// Replaces everything by a backup. Writes under way are lost.
    pub fn restore(&mut self, snapshot: &DiskSnapshot) {
        self.writing.clear();
        self.cells.clone_from(&snapshot.0);
    }

    fn next(&mut self) -> (u64, u64) {
        let number = self.operations;
        self.operations += 1;
        self.bitten += u64::from(self.slow > 1);
        let takes = self.latency.draw(number, self.key.at(number)).saturating_mul(self.slow);
        (number, takes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> Disk {
        Disk::new(Distribution::Constant(100), Key::new(seed))
    }

    #[test]
    fn a_crash_leaves_old_or_new_bytes_and_sometimes_each() {
        let mut seen = CrashReport::default();
        for seed in 0..60 {
            let mut disk = disk(seed);
            disk.write_now("a", vec![1; 4]).unwrap();
            disk.begin_write("a", vec![2; 9]);
            let report = disk.crash();
            let bytes = disk.read("a").unwrap().unwrap();
            assert_eq!(bytes, if report.kept == 1 { &[2; 9][..] } else { &[1; 4][..] });
            seen.kept += report.kept;
            seen.lost += report.lost;
            seen.torn += report.torn;
        }
        assert!(seen.kept > 0 && seen.lost > 0 && seen.torn > 0, "{seen:?}");
    }

    #[test]
    fn a_write_that_ended_survives_a_crash_and_cannot_end_twice() {
        let mut disk = disk(1);
        let (number, takes) = disk.begin_write("a", vec![7]);
        assert_eq!(takes, 100);
        assert_eq!(disk.end_write(number), Some(WriteEnd::Done));
        disk.crash();
        assert_eq!(disk.read("a"), Ok(Some(&[7][..])));
        assert_eq!(disk.end_write(number), None);
    }

    #[test]
    fn a_full_disk_keeps_the_old_bytes_and_can_be_read() {
        let mut disk = disk(1);
        disk.write_now("a", vec![1]).unwrap();
        disk.set_fault(Some(DiskFault::Full));
        let (number, _) = disk.begin_write("a", vec![2]);
        assert_eq!(disk.end_write(number), Some(WriteEnd::Failed(DiskFault::Full)));
        assert_eq!(disk.read("a"), Ok(Some(&[1][..])));
        disk.set_fault(Some(DiskFault::Failing));
        assert_eq!(disk.read("a"), Err(DiskFault::Failing));
    }

    #[test]
    fn a_failing_sync_keeps_the_old_bytes_and_the_disk_can_be_read() {
        let mut disk = disk(1);
        disk.write_now("a", vec![1]).unwrap();
        disk.set_fault(Some(DiskFault::Sync));
        let (number, _) = disk.begin_write("a", vec![2]);
        assert_eq!(disk.end_write(number), Some(WriteEnd::Failed(DiskFault::Sync)));
        assert_eq!(disk.read("a"), Ok(Some(&[1][..])));
        assert_eq!(disk.bitten(), 1);
    }

    #[test]
    fn a_misdirected_write_is_confirmed_and_lands_in_anothers_place() {
        let mut disk = disk(1);
        disk.write_now("a", vec![1]).unwrap();
        disk.write_now("b", vec![2]).unwrap();
        disk.set_fault(Some(DiskFault::Misdirected));
        let (number, _) = disk.begin_write("a", vec![3]);
        assert_eq!(disk.end_write(number), Some(WriteEnd::Done));
        assert_eq!(
            (disk.read("a"), disk.read("b")),
            (Ok(Some(&[1][..])), Ok(Some(&[3][..])))
        );
    }

    #[test]
    fn rot_changes_what_is_read_and_nothing_else() {
        let mut disk = disk(1);
        disk.write_now("a", vec![1; 50]).unwrap();
        disk.write_now("b", vec![2; 50]).unwrap();
        assert_eq!(disk.rot(Some("a")), 1);
        assert_ne!(disk.read("a"), Ok(Some(&[1; 50][..])));
        assert_eq!(disk.read("b"), Ok(Some(&[2; 50][..])));
        assert_eq!(disk.rot(None), 2);
    }

    #[test]
    fn a_restored_backup_forgets_what_came_after() {
        let mut disk = disk(1);
        disk.write_now("epoch", vec![1]).unwrap();
        let backup = disk.snapshot();
        disk.write_now("epoch", vec![2]).unwrap();
        disk.restore(&backup);
        assert_eq!(disk.read("epoch"), Ok(Some(&[1][..])));
    }
}
