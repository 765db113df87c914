//! What a stream promises its reader.
//!
//! Invariants: `Reliable` delivers every message once, in order, byte for byte; `ReliableUnordered` once, in any order;
//! `FireAndForget` at most once, even after its end, which may overtake. A direction that was finished delivered everything before (reliable ones).
//! Not here: whether everything arrives in time (`run.rs`).

use std::collections::BTreeMap;

use net_kernel::wire::Reliability;

use super::{Checker, Expected, Observation, wants};
use crate::payload;

/// Per-stream order, exactly once, and byte equality.
#[derive(Debug, Default)]
pub struct StreamOrder {
    halves: Vec<Option<Half>>,
}

#[derive(Debug)]
struct Half {
    expected: Expected,
    /// Every message below was delivered whole.
    floor: u64,
    /// Messages from `floor` on of which something was delivered: how far, and whether whole.
    open: BTreeMap<u64, (u64, bool)>,
    finished: bool,
}

impl Half {
    fn part(&mut self, number: u64, offset: u64, end: bool, bytes: &[u8]) -> Result<(), String> {
        let expected = &self.expected;
        // Unreliable messages that the end overtook may still come.
        if self.finished && expected.reliability != Reliability::FireAndForget {
            return Err(format!("message {number} came after the end of the stream"));
        }
        if number >= expected.count {
            return Err(format!("message {number} was never sent: there are {}", expected.count));
        }
        if number < self.floor {
            return Err(format!("message {number} came again"));
        }
        let ordered = expected.reliability == Reliability::Reliable;
        if ordered && number != self.floor {
            return Err(format!("message {number} came before message {}", self.floor));
        }
        let begun = if self.open.is_empty() {
            None
        } else {
            self.open.get(&number).copied()
        };
        let (have, whole) = begun.unwrap_or((0, false));
        if whole {
            return Err(format!("message {number} came again"));
        }
        if offset != have {
            return Err(format!("message {number} went on at {offset}, not at {have}"));
        }
        if !payload::matches(expected.payload, expected.base + number, offset, bytes) {
            return Err(format!(
                "message {number} differs from what was sent, at {offset} or after"
            ));
        }
        let (have, len) = (have + bytes.len() as u64, expected.len(number));
        if have > len || end != (have == len) {
            return Err(format!(
                "message {number} is {len} bytes long; {have} came, end is {end}"
            ));
        }
        if number == self.floor && end {
            self.floor += 1;
            if begun.is_some() {
                self.open.remove(&number);
            }
            while self.open.get(&self.floor).is_some_and(|(_, whole)| *whole) {
                self.open.remove(&self.floor);
                self.floor += 1;
            }
        } else {
            self.open.insert(number, (have, end));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.finished {
            return Err("the end of the stream was told twice".to_owned());
        }
        self.finished = true;
        let lossy = self.expected.reliability == Reliability::FireAndForget;
        if !lossy && self.floor != self.expected.count {
            return Err(format!(
                "the stream ended after {} of {} messages",
                self.floor, self.expected.count
            ));
        }
        Ok(())
    }
}

impl StreamOrder {
    fn half(&mut self, half: u32) -> Option<&mut Half> {
        self.halves.get_mut(half as usize)?.as_mut()
    }
}

impl Checker for StreamOrder {
    fn name(&self) -> &'static str {
        "stream-order"
    }

    fn wants(&self) -> u8 {
        wants::STREAM
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Reading { half, expected } => {
                let fresh = Half {
                    expected,
                    floor: 0,
                    open: BTreeMap::new(),
                    finished: false,
                };
                let index = half as usize;
                if self.halves.len() <= index {
                    self.halves.resize_with(index + 1, || None);
                }
                match self.halves[index].replace(fresh) {
                    None => Ok(()),
                    Some(_) => Err(format!("stream {half} was opened twice")),
                }
            }
            Observation::Delivered {
                half,
                number,
                offset,
                end,
                bytes,
            } => match self.half(half) {
                Some(state) => state
                    .part(number, offset, end, bytes)
                    .map_err(|what| format!("stream {half}: {what}")),
                None => Err(format!("data on stream {half}, which nobody opened")),
            },
            Observation::Finished { half } => match self.half(half) {
                Some(state) => state.finish().map_err(|what| format!("stream {half}: {what}")),
                None => Err(format!("the end of stream {half}, which nobody opened")),
            },
            _ => Ok(()),
        }
    }
}

/// What lies unread at a receiver never exceeds what was granted.
#[derive(Debug)]
pub struct UnreadBound;

impl Checker for UnreadBound {
    fn name(&self) -> &'static str {
        "unread-bound"
    }

    fn wants(&self) -> u8 {
        wants::STREAM
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Unread {
                half,
                positions,
                window,
            } if positions > window => Err(format!(
                "{positions} positions lie unread on stream {half}, {window} were granted"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_sim_model::Key;

    fn rig(reliability: Reliability) -> (StreamOrder, Expected) {
        let expected = Expected {
            payload: Key::new(1),
            sizes: Key::new(1),
            base: 40,
            count: 4,
            size: (10, 90),
            reliability,
        };
        let mut checker = StreamOrder::default();
        checker.observe(&Observation::Reading { half: 0, expected }).unwrap();
        (checker, expected)
    }

    fn message(expected: &Expected, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; expected.len(number) as usize];
        payload::fill(expected.payload, expected.base + number, 0, &mut bytes);
        bytes
    }

    fn tell(checker: &mut StreamOrder, number: u64, offset: u64, end: bool, bytes: &[u8]) -> Result<(), String> {
        checker.observe(&Observation::Delivered {
            half: 0,
            number,
            offset,
            end,
            bytes,
        })
    }

    fn whole(checker: &mut StreamOrder, expected: &Expected, number: u64) -> Result<(), String> {
        tell(checker, number, 0, true, &message(expected, number))
    }

    #[test]
    fn a_correct_stream_passes_in_parts_and_whole() {
        let (mut checker, expected) = rig(Reliability::Reliable);
        whole(&mut checker, &expected, 0).unwrap();
        let one = message(&expected, 1);
        tell(&mut checker, 1, 0, false, &one[..3]).unwrap();
        tell(&mut checker, 1, 3, true, &one[3..]).unwrap();
        whole(&mut checker, &expected, 2).unwrap();
        whole(&mut checker, &expected, 3).unwrap();
        checker.observe(&Observation::Finished { half: 0 }).unwrap();
        assert!(
            checker.observe(&Observation::Finished { half: 0 }).is_err(),
            "a second end"
        );
        let (mut checker, expected) = rig(Reliability::Reliable);
        for number in 0..4 {
            whole(&mut checker, &expected, number).unwrap();
        }
        checker.observe(&Observation::Finished { half: 0 }).unwrap();
        assert!(whole(&mut checker, &expected, 3).unwrap_err().contains("after the end"));
    }

    #[test]
    fn it_fires_on_every_broken_promise() {
        let fresh = || rig(Reliability::Reliable);
        let (mut checker, expected) = fresh();
        assert!(
            whole(&mut checker, &expected, 1)
                .unwrap_err()
                .contains("before message 0")
        );
        whole(&mut checker, &expected, 0).unwrap();
        assert!(whole(&mut checker, &expected, 0).unwrap_err().contains("again"));
        let mut bad = message(&expected, 1);
        bad[2] ^= 1;
        assert!(tell(&mut checker, 1, 0, true, &bad).unwrap_err().contains("differs"));
        let (mut checker, expected) = fresh();
        let zero = message(&expected, 0);
        assert!(
            tell(&mut checker, 0, 0, true, &zero[..4])
                .unwrap_err()
                .contains("bytes long"),
            "cut short"
        );
        assert!(
            tell(&mut checker, 0, 2, false, &zero[2..])
                .unwrap_err()
                .contains("not at 0"),
            "a hole"
        );
        assert!(whole(&mut checker, &expected, 4).unwrap_err().contains("never sent"));
        assert!(
            checker
                .observe(&Observation::Finished { half: 0 })
                .unwrap_err()
                .contains("after 0 of 4")
        );
        let stranger = Observation::Delivered {
            half: 9,
            number: 0,
            offset: 0,
            end: true,
            bytes: &zero,
        };
        assert!(checker.observe(&stranger).is_err());
    }

    #[test]
    fn unordered_streams_may_overtake_but_not_repeat_or_lose() {
        let (mut checker, expected) = rig(Reliability::ReliableUnordered);
        for number in [2, 0, 3] {
            whole(&mut checker, &expected, number).unwrap();
        }
        assert!(whole(&mut checker, &expected, 3).unwrap_err().contains("again"));
        assert!(whole(&mut checker, &expected, 0).unwrap_err().contains("again"));
        assert!(
            checker.observe(&Observation::Finished { half: 0 }).is_err(),
            "message 1 is missing"
        );
    }

    #[test]
    fn unreliable_streams_may_lose_but_not_repeat() {
        let (mut checker, expected) = rig(Reliability::FireAndForget);
        whole(&mut checker, &expected, 3).unwrap();
        assert!(whole(&mut checker, &expected, 3).is_err());
        checker.observe(&Observation::Finished { half: 0 }).unwrap();
        whole(&mut checker, &expected, 2).unwrap();
    }

    #[test]
    fn unread_data_beyond_its_credit_is_noticed() {
        let unread = |positions| Observation::Unread {
            half: 0,
            positions,
            window: 100,
        };
        assert_eq!(UnreadBound.observe(&unread(100)), Ok(()));
        assert!(UnreadBound.observe(&unread(101)).is_err());
    }
}
