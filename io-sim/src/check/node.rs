//! What must hold of one machine's dealings with others: sessions, accusations, work handed out.
//!
//! Invariants: each checker judges what the world knows to be true, never what a kernel says of itself.
//! Not here: packets (`packet.rs`, `key.rs`), what processes hold (`account.rs`).

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
    /// Jobs one machine may have under way.
    pub const LIMIT: u32 = 32;
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
