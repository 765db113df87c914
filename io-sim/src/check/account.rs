//! Every datagram is accounted for: what was sent was delivered, dropped for a cause, or is under way.
//!
//! Invariants: counts only grow. Not here: who counts (`world/net.rs`).

use std::collections::BTreeMap;

use net_kernel::api::TimerLoad;

use super::{Checker, Observation, wants};

/// What became of all datagrams of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accounts {
    /// Sent by processes.
    pub sent: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Made by adversaries.
    pub injected: u64,
    /// Second copies made by links.
    pub duplicated: u64,
    /// Handed to processes.
    pub delivered: u64,
    /// Dropped, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Still under way, or waiting in a socket buffer.
    pub in_flight: u64,
}

impl Accounts {
    /// One more dropped for this cause.
    pub fn drop(&mut self, cause: &'static str) {
        *self.dropped.entry(cause).or_default() += 1;
    }
}

/// Datagrams are conserved.
#[derive(Debug)]
pub struct Conservation;

impl Checker for Conservation {
    fn name(&self) -> &'static str {
        "conservation"
    }

    fn wants(&self) -> u8 {
        0
    }

    fn observe(&mut self, _: &Observation<'_>) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self, accounts: &Accounts) -> Result<(), String> {
        let came = accounts.sent + accounts.injected + accounts.duplicated;
        let went = accounts.delivered + accounts.dropped.values().sum::<u64>() + accounts.in_flight;
        if came == went {
            Ok(())
        } else {
            Err(format!("{came} datagrams came to be and {went} ended: {accounts:?}"))
        }
    }
}

/// What a process holds stays within what its configuration allows, and its timers within what its sessions and dials do.
#[derive(Debug)]
pub struct MemoryBound;

fn timers(node: u32, load: &TimerLoad) -> Result<(), String> {
    let TimerLoad {
        who, load: held, most, ..
    } = load;
    if held.armed > *most {
        return Err(format!(
            "node {node} has {} timers of {who:?} armed, at most {most} are allowed by what it holds",
            held.armed
        ));
    }
    if held.entries > load.most_entries() {
        return Err(format!(
            "node {node} keeps {} entries for {} armed timers of {who:?}, at most {} are allowed",
            held.entries,
            held.armed,
            load.most_entries()
        ));
    }
    Ok(())
}

impl Checker for MemoryBound {
    fn name(&self) -> &'static str {
        "memory-bound"
    }

    fn wants(&self) -> u8 {
        wants::HOLDING
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let (node, holdings, limit) = match observation {
            Observation::Holding { node, holdings, limit } => (node, holdings, limit),
            Observation::Timers { node, load } => return timers(*node, load),
            _ => return Ok(()),
        };
        let pairs = [
            ("sessions", holdings.sessions as u64, limit.sessions as u64),
            ("keys", holdings.keys as u64, limit.keys as u64),
            ("streams", holdings.streams as u64, limit.streams as u64),
            (
                "bytes of early data",
                holdings.reordering as u64,
                limit.reordering as u64,
            ),
            ("bytes in flight", holdings.in_flight, limit.in_flight),
        ];
        match pairs.iter().find(|(_, held, limit)| held > limit) {
            None => Ok(()),
            Some((what, held, limit)) => Err(format!("node {node} holds {held} {what}, at most {limit} is allowed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_vanishes_without_a_cause_is_noticed() {
        let mut accounts = Accounts {
            sent: 10,
            duplicated: 1,
            delivered: 8,
            in_flight: 2,
            ..Accounts::default()
        };
        accounts.drop("loss");
        assert_eq!(Conservation.finish(&accounts), Ok(()));
        accounts.delivered -= 1;
        assert!(Conservation.finish(&accounts).is_err());
    }

    #[test]
    fn a_timer_too_many_and_a_heap_out_of_proportion_are_noticed() {
        use net_kernel::api::{Load, Why};
        let look = |armed, entries| {
            let load = TimerLoad {
                who: Why::Session,
                load: Load { armed, entries },
                most: 3,
                heaps: 1,
            };
            MemoryBound.observe(&Observation::Timers { node: 0, load })
        };
        let slack = net_kernel::base::timer::SLACK;
        assert_eq!(look(3, 6 + slack), Ok(()));
        assert!(look(4, 4).unwrap_err().contains("4 timers of Session armed, at most 3"));
        assert!(look(2, 5 + slack).unwrap_err().contains("for 2 armed timers"));
    }

    #[test]
    fn each_kind_of_holding_beyond_its_limit_is_noticed() {
        use net_kernel::api::Holdings;
        let limit = Holdings {
            sessions: 1,
            keys: 2,
            streams: 3,
            reordering: 4,
            in_flight: 5,
        };
        let look = |holdings| {
            MemoryBound.observe(&Observation::Holding {
                node: 0,
                holdings,
                limit,
            })
        };
        assert_eq!(look(limit), Ok(()));
        assert!(
            look(Holdings { sessions: 2, ..limit })
                .unwrap_err()
                .contains("sessions")
        );
        assert!(look(Holdings { keys: 3, ..limit }).unwrap_err().contains("keys"));
        assert!(look(Holdings { streams: 4, ..limit }).unwrap_err().contains("streams"));
        assert!(look(Holdings { reordering: 5, ..limit }).unwrap_err().contains("early"));
        assert!(
            look(Holdings { in_flight: 6, ..limit })
                .unwrap_err()
                .contains("in flight")
        );
    }
}
