//! Beacons: what a machine takes for another's it spoke, and no older one follows a newer.
//!
//! Invariants: a process starts without memory of what its machine heard before. Not here: how machines find each other
//! (`net-kernel`), whom they dial (scenarios bound what reaches nobody).

use std::collections::BTreeMap;

use super::mesh::BOOTED;
use super::{Checker, Note};

/// The beacon a machine spoke last: its name, its epoch, the beacon's number.
pub const SPOKEN: &str = "beacon.spoken";
/// Beacons that count as the last of their makers: name, epoch and number of each that changed.
pub const HEARD: &str = "beacon.heard";

/// A beacon's place among those of one machine.
type Version = (u64, u64);

/// See [`Checker::name`].
#[derive(Debug, Default)]
pub struct HeardSpoken {
    /// By the machine's name.
    spoken: BTreeMap<u64, Vec<Version>>,
    heard: BTreeMap<(u32, u64), Version>,
}

impl HeardSpoken {
    fn heard(&mut self, node: u32, name: u64, version: Version) -> Result<(), String> {
        let (epoch, number) = version;
        let spoken = self.spoken.get(&name).map_or(&[][..], Vec::as_slice);
        if !spoken.iter().any(|(boot, last)| *boot == epoch && number <= *last) {
            return Err(format!(
                "node {node} heard beacon {number} of {name:016x} in epoch {epoch}, which was never spoken"
            ));
        }
        match self.heard.insert((node, name), version) {
            Some(before) if version < before => Err(format!(
                "node {node} took beacon {number} of {name:016x} for news after {} was heard",
                before.1
            )),
            Some(_) | None => Ok(()),
        }
    }
}

impl Checker for HeardSpoken {
    fn name(&self) -> &'static str {
        "heard-spoken"
    }

    fn noted(&mut self, note: &Note) -> Result<(), String> {
        match note.what {
            BOOTED => self.heard.retain(|(node, _), _| *node != note.node),
            SPOKEN => {
                if let [name, epoch, number] = note.values[..] {
                    let boots = self.spoken.entry(name).or_default();
                    match boots.iter_mut().find(|(boot, _)| *boot == epoch) {
                        Some((_, last)) => *last = number.max(*last),
                        None => boots.push((epoch, number)),
                    }
                }
            }
            HEARD => {
                for heard in note.values.as_chunks::<3>().0 {
                    let [name, epoch, number] = *heard;
                    self.heard(note.node, name, (epoch, number))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::note;

    fn spoken() -> HeardSpoken {
        let mut checker = HeardSpoken::default();
        for said in [[10, 1, 3], [10, 2, 1], [11, 1, 1]] {
            checker.noted(&note(0, SPOKEN, &said)).expect("spoken");
        }
        checker
    }

    #[test]
    fn what_nobody_spoke_is_noticed() {
        for heard in [[10, 1, 4], [10, 3, 1], [12, 1, 1]] {
            assert!(spoken().noted(&note(1, HEARD, &heard)).is_err(), "{heard:?}");
        }
        assert_eq!(spoken().noted(&note(1, HEARD, &[10, 1, 2, 11, 1, 1])), Ok(()));
    }

    #[test]
    fn an_older_beacon_that_counts_is_noticed() {
        let mut checker = spoken();
        for heard in [[10, 1, 2], [10, 1, 3], [10, 2, 1]] {
            assert_eq!(checker.noted(&note(1, HEARD, &heard)), Ok(()));
        }
        assert!(checker.noted(&note(1, HEARD, &[10, 1, 3])).is_err());
        let mut checker = spoken();
        checker.noted(&note(1, HEARD, &[10, 2, 1])).expect("spoken");
        checker.noted(&note(1, BOOTED, &[11, 2, 16])).expect("nothing yet");
        assert_eq!(checker.noted(&note(1, HEARD, &[10, 1, 3])), Ok(()), "it forgot");
    }
}
