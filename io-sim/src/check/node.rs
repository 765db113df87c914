//! What must hold of one machine's dealings with others: sessions, accusations, work handed out.
//!
//! Invariants: each checker judges what the world knows to be true, never what a kernel says of itself.
//! Not here: packets (`packet.rs`, `key.rs`), what processes hold (`account.rs`).

use std::collections::BTreeMap;

use super::{Checker, Observation, wants};

/// Two machines settle on one session, however both dialled: after no turn does a machine have two with one peer.
#[derive(Debug)]
pub struct OneSession;

impl Checker for OneSession {
    fn name(&self) -> &'static str {
        "one-session"
    }

    fn wants(&self) -> u8 {
        wants::NODE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Sessions { node, peer, live } if live > 1 => {
                Err(format!("node {node} has {live} sessions with node {peer} at once"))
            }
            _ => Ok(()),
        }
    }
}

/// A process that has had a session with one incarnation of a peer has none with an older one any more, however either
/// came about: the older is a copy that was left behind or was restored.
#[derive(Debug, Default)]
pub struct OlderIncarnation {
    /// The latest epoch a process had a session with, by machine and peer.
    latest: BTreeMap<(u32, u32), (u32, u64)>,
}

impl Checker for OlderIncarnation {
    fn name(&self) -> &'static str {
        "older-incarnation"
    }

    fn wants(&self) -> u8 {
        wants::NODE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Begun {
                node,
                process,
                peer,
                epoch,
            } => {
                let known = self.latest.get(&(node, peer)).filter(|(of, _)| *of == process);
                if known.is_some_and(|&(_, latest)| latest > epoch) {
                    return Err(format!(
                        "node {node} began a session with an incarnation of node {peer} older than one it had before"
                    ));
                }
                self.latest.insert((node, peer), (process, epoch));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Nobody is told that its state was rolled back unless it was: no first message in its name may raise what is known of it.
#[derive(Debug)]
pub struct FalseRollback;

impl Checker for FalseRollback {
    fn name(&self) -> &'static str {
        "false-rollback"
    }

    fn wants(&self) -> u8 {
        wants::NODE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Accused { node, truly: false } => Err(format!(
                "node {node} was refused as rolled back; no disk was restored and nothing cloned"
            )),
            _ => Ok(()),
        }
    }
}

/// Costly work under way is bounded, whatever strangers ask for (PROTOCOL 4).
#[derive(Debug)]
pub struct JobCap;

impl JobCap {
    /// Jobs one machine may have under way: of handshakes, and signatures of the mesh.
    pub const LIMIT: u32 = 32 + net_kernel::api::MAX_CHECKS as u32 + 1;
}

impl Checker for JobCap {
    fn name(&self) -> &'static str {
        "job-cap"
    }

    fn wants(&self) -> u8 {
        wants::NODE
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it asked for")]
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match *observation {
            Observation::Jobs { node, under_way } if under_way > Self::LIMIT => Err(format!(
                "node {node} has {under_way} jobs under way, {} are allowed",
                Self::LIMIT
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_session_with_one_peer_is_noticed() {
        let seen = |live| Observation::Sessions { node: 0, peer: 1, live };
        assert_eq!(OneSession.observe(&seen(1)), Ok(()));
        assert!(OneSession.observe(&seen(2)).is_err());
    }

    #[test]
    fn a_session_with_a_process_of_the_past_is_noticed() {
        let begun = |process, epoch| Observation::Begun {
            node: 0,
            process,
            peer: 1,
            epoch,
        };
        let mut checker = OlderIncarnation::default();
        assert_eq!(checker.observe(&begun(1, 7)), Ok(()));
        assert_eq!(checker.observe(&begun(1, 7)), Ok(()));
        assert_eq!(checker.observe(&begun(1, 9)), Ok(()));
        assert!(checker.observe(&begun(1, 7)).is_err());
        // What a process knows that was not written down ends with it.
        assert_eq!(checker.observe(&begun(2, 7)), Ok(()));
    }

    #[test]
    fn an_accusation_is_noticed_where_it_is_false() {
        assert_eq!(
            FalseRollback.observe(&Observation::Accused { node: 0, truly: true }),
            Ok(())
        );
        assert!(
            FalseRollback
                .observe(&Observation::Accused { node: 0, truly: false })
                .is_err()
        );
    }

    #[test]
    fn one_job_too_many_is_noticed() {
        let jobs = |under_way| Observation::Jobs { node: 0, under_way };
        assert_eq!(JobCap.observe(&jobs(JobCap::LIMIT)), Ok(()));
        assert!(JobCap.observe(&jobs(JobCap::LIMIT + 1)).is_err());
    }
}
