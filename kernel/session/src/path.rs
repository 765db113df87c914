//! Which address a peer is reached at, and when that changes (RFC 9000 section 9.3, PROTOCOL 4 "roaming").
//!
//! A direct packet with the highest counter so far, from an address other than the active one, makes that
//! address the candidate. Candidate and active address are both challenged. Data stays where it is until
//! the candidate answers. If the peer meanwhile still answers and still sends from the old address, the
//! candidate was only forwarding its packets: the path stays, or comes back if it had moved.
//!
//! Invariants: at most one candidate; an address that has not answered gets at most three times the bytes
//! it sent (RFC 9000 section 8.1); only an answer to a challenge ever moves the path.
//! Not here: which packet has the highest counter or came routed (the caller's check), drawing the
//! challenges, what a move resets (`recovery/`, `mtu.rs`).

use net_base::{Addr, Duration, Instant, mutant, routed};

/// RFC 9000 section 8.2.4: a challenge is given up after three probe timeouts.
const GIVE_UP_PTOS: u64 = 3;
/// RFC 9000 section 8.1.
const AMPLIFICATION: u64 = 3;
/// An address that nobody vouches for may get three times as much: five probes.
const MAX_HOPE: u64 = 160;

/// The contents of a PATH_CHALLENGE: unpredictable, drawn by the caller.
pub type Challenge = [u8; 8];

/// One address of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Endpoint {
    addr: Addr,
    validated: bool,
    received: u64,
    sent: u64,
}

impl Endpoint {
    const fn new(addr: Addr, validated: bool) -> Self {
        Self {
            addr,
            validated,
            received: 0,
            sent: 0,
        }
    }

    fn allowance(&self) -> u64 {
        if self.validated || mutant!(AmplificationUnlimited) {
            return u64::MAX;
        }
        self.received.saturating_mul(AMPLIFICATION).saturating_sub(self.sent)
    }
}

/// A challenge to one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Question {
    challenge: Challenge,
    answered: bool,
    send_at: Instant,
}

impl Question {
    const fn new(challenge: Challenge, now: Instant) -> Self {
        Self {
            challenge,
            answered: false,
            send_at: now,
        }
    }

    fn due(&self, now: Instant) -> bool {
        !self.answered && self.send_at <= now
    }

    fn next(&self) -> Option<Instant> {
        (!self.answered).then_some(self.send_at)
    }
}

/// The old and the other address while it is not settled which one stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Contest {
    /// While probing the candidate; after a move the address before.
    other: Endpoint,
    /// To the address that was active when the contest began.
    old: Question,
    /// To the candidate.
    new: Question,
    /// Since the contest began, a newest packet with more than path frames came from the old address.
    old_spoke: bool,
    /// Interval between repeated challenges.
    pto: Duration,
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// One address.
    Settled,
    /// The old address is active, a candidate is asked.
    Probing(Contest),
    /// The candidate became active; the old address may still reclaim the path.
    Moved(Contest),
}

/// What a newest packet from an address means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sighting {
    /// It came from the active address.
    Active,
    /// It came from the candidate, which is being asked already.
    Candidate,
    /// It came from an address that is neither; call [`Paths::on_candidate`].
    Unknown,
    /// It changes nothing: a contest over another address is on, or nothing but path frames came from
    /// an unknown one.
    Ignored,
    /// The peer is back on the address before the move, which has answered: the path returned.
    Returned(Move),
}

/// The active address changed: round-trip time, window and MTU start afresh, and a rekey is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The address until now.
    pub from: Addr,
    /// The address from now on.
    pub to: Addr,
}

/// What a PATH_RESPONSE showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It answers no challenge of ours.
    Unmatched,
    /// The old address answered: it is alive. Nothing changes yet.
    OldAlive,
    /// The candidate answered, but the peer still sends from the old address, which has not answered yet.
    Held,
    /// The candidate answered: the path moved.
    Moved(Move),
    /// Both answered and the peer still sends from the old address: the candidate is dropped.
    Stayed {
        /// The candidate.
        refused: Addr,
    },
    /// The old address answered after the move and the peer still sends from there.
    Returned(Move),
}

/// What a deadline brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathTimeout {
    /// Nothing but, perhaps, challenges to repeat.
    Nothing,
    /// The candidate did not answer and is dropped.
    CandidateFailed(Addr),
    /// The candidate had answered and the old address did not: the path moved.
    Moved(Move),
    /// The contest after a move is over: the path stays where it is.
    Settled,
}

/// The addresses of one peer.
#[derive(Clone, Debug)]
pub struct Paths {
    active: Endpoint,
    phase: Phase,
}

impl Paths {
    /// The peer is at `addr`; `validated` when the handshake proved it.
    #[must_use]
    pub const fn new(addr: Addr, validated: bool) -> Self {
        Self {
            active: Endpoint::new(addr, validated),
            phase: Phase::Settled,
        }
    }

    /// Where data goes.
    #[must_use]
    pub const fn active(&self) -> Addr {
        self.active.addr
    }

    /// Whether the active address has proved that it receives.
    #[must_use]
    pub const fn validated(&self) -> bool {
        self.active.validated
    }

    /// The active address proved itself by other means than a challenge (an authenticated packet that
    /// could only be sent with knowledge of ours).
    pub const fn on_validated(&mut self) {
        self.active.validated = true;
    }

    /// An authenticated datagram of `bytes` came from `from`; one that opens a contest is counted by
    /// [`Self::on_candidate`] instead.
    pub fn on_received(&mut self, from: Addr, bytes: u64) {
        if let Some(endpoint) = self.endpoint_mut(from) {
            endpoint.received = endpoint.received.saturating_add(bytes);
        }
    }

    /// Whether a datagram of `bytes` may go to `to`.
    #[must_use]
    pub fn may_send(&self, to: Addr, bytes: u64) -> bool {
        let contest = match &self.phase {
            Phase::Settled => None,
            Phase::Probing(contest) | Phase::Moved(contest) => Some(contest),
        };
        let other = contest.map(|contest| &contest.other);
        [Some(&self.active), other]
            .into_iter()
            .flatten()
            .any(|known| known.addr == to && known.allowance() >= bytes)
    }

    /// A datagram of `bytes` left for `to`.
    pub fn on_sent(&mut self, to: Addr, bytes: u64) {
        if let Some(endpoint) = self.endpoint_mut(to) {
            endpoint.sent = endpoint.sent.saturating_add(bytes);
        }
    }

    /// A direct, authenticated packet with the highest counter so far came from `from`. `path_only` when
    /// it carried nothing but challenges, responses and padding: such a packet says where the peer can be
    /// reached, not where it wants to be (RFC 9000 section 9.1).
    pub fn on_newest(&mut self, from: Addr, path_only: bool) -> Sighting {
        let active = self.active.addr == from;
        match &mut self.phase {
            Phase::Settled if active => Sighting::Active,
            Phase::Settled if path_only => Sighting::Ignored,
            Phase::Settled => Sighting::Unknown,
            Phase::Probing(contest) => {
                if active {
                    contest.old_spoke |= !path_only;
                    Sighting::Active
                } else if contest.other.addr == from {
                    Sighting::Candidate
                } else {
                    Sighting::Ignored
                }
            }
            Phase::Moved(contest) => {
                if active {
                    return Sighting::Active;
                }
                if contest.other.addr != from {
                    return Sighting::Ignored;
                }
                contest.old_spoke |= !path_only;
                if contest.old.answered && contest.old_spoke {
                    return Sighting::Returned(self.give_back());
                }
                Sighting::Candidate
            }
        }
    }

    /// Opens a contest for the address that [`Self::on_newest`] called unknown, whose packet had `bytes`.
    /// `pto` is the probe timeout, the longer of the old path's and a new path's.
    pub fn on_candidate(
        &mut self,
        now: Instant,
        addr: Addr,
        bytes: u64,
        pto: Duration,
        new: Challenge,
        old: Challenge,
    ) {
        if self.phase != Phase::Settled || addr == self.active.addr {
            return;
        }
        self.phase = Phase::Probing(Contest {
            other: Endpoint {
                received: bytes,
                ..Endpoint::new(addr, false)
            },
            old: Question::new(old, now),
            new: Question::new(new, now),
            old_spoke: false,
            pto,
            until: now + pto * GIVE_UP_PTOS,
        });
    }

    /// Asks whether the peer of a routed path answers at `addr`; if it does, the path moves there. `known` where it
    /// answered there before: an address that nobody vouches for gets five probes. Answers whether it is asked.
    pub fn on_hope(&mut self, now: Instant, addr: Addr, known: bool, pto: Duration, challenge: Challenge) -> bool {
        if self.phase != Phase::Settled || addr == self.active.addr {
            return false;
        }
        let old = Question {
            answered: true,
            ..Question::new(challenge, now)
        };
        self.phase = Phase::Probing(Contest {
            other: Endpoint {
                received: MAX_HOPE,
                ..Endpoint::new(addr, known)
            },
            old,
            new: Question::new(challenge, now),
            old_spoke: false,
            pto,
            until: now + pto * GIVE_UP_PTOS,
        });
        true
    }

    /// The next challenge to send and its address, until `None`. Each is repeated once per probe timeout.
    /// A challenge that [`Self::may_send`] forbids is simply not sent.
    pub fn poll_challenge(&mut self, now: Instant) -> Option<(Addr, Challenge)> {
        let active = self.active.addr;
        let (contest, new_to, old_to) = match &mut self.phase {
            Phase::Settled => return None,
            Phase::Probing(contest) => {
                let candidate = contest.other.addr;
                (contest, candidate, active)
            }
            Phase::Moved(contest) => {
                let before = contest.other.addr;
                (contest, active, before)
            }
        };
        let pto = contest.pto;
        for (question, to) in [(&mut contest.new, new_to), (&mut contest.old, old_to)] {
            if question.due(now) {
                question.send_at = now + pto.max(Duration::from_nanos(1));
                return Some((to, question.challenge));
            }
        }
        None
    }

    /// A PATH_RESPONSE came, on whichever path (RFC 9000 section 8.2.3).
    pub fn on_response(&mut self, now: Instant, data: Challenge) -> Verdict {
        match &mut self.phase {
            Phase::Settled => Verdict::Unmatched,
            Phase::Probing(contest) => {
                if data == contest.new.challenge && !contest.new.answered {
                    contest.new.answered = true;
                    contest.other.validated = true;
                } else if data == contest.old.challenge && !contest.old.answered {
                    contest.old.answered = true;
                    self.active.validated = true;
                } else {
                    return Verdict::Unmatched;
                }
                self.judge(now)
            }
            Phase::Moved(contest) => {
                if data != contest.old.challenge || contest.old.answered {
                    return Verdict::Unmatched;
                }
                contest.old.answered = true;
                contest.other.validated = true;
                if contest.old_spoke {
                    Verdict::Returned(self.give_back())
                } else {
                    Verdict::OldAlive
                }
            }
        }
    }

    /// When [`Self::poll_challenge`] or [`Self::on_timeout`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Settled => None,
            Phase::Probing(contest) | Phase::Moved(contest) => [contest.new.next(), contest.old.next()]
                .into_iter()
                .flatten()
                .chain([contest.until])
                .min(),
        }
    }

    /// Ends what has lasted too long.
    pub fn on_timeout(&mut self, now: Instant) -> PathTimeout {
        match self.phase {
            Phase::Settled => PathTimeout::Nothing,
            Phase::Probing(contest) | Phase::Moved(contest) if contest.until > now => PathTimeout::Nothing,
            Phase::Probing(contest) if contest.new.answered => {
                // Held until now because the peer spoke from the old address, which is silent since.
                self.phase = Phase::Settled;
                let from = self.active.addr;
                self.active = contest.other;
                PathTimeout::Moved(Move {
                    from,
                    to: self.active.addr,
                })
            }
            Phase::Probing(contest) => {
                self.phase = Phase::Settled;
                PathTimeout::CandidateFailed(contest.other.addr)
            }
            Phase::Moved(_) => {
                self.phase = Phase::Settled;
                PathTimeout::Settled
            }
        }
    }

    /// The owner decided on another address (a new handshake, a route change); any contest is over.
    pub fn relocate(&mut self, addr: Addr, validated: bool) {
        *self = Self::new(addr, validated);
    }

    /// After an answer, while the old address is active.
    fn judge(&mut self, now: Instant) -> Verdict {
        let Phase::Probing(contest) = self.phase else {
            return Verdict::Unmatched;
        };
        // A way over relays is left for a direct one whoever else is alive.
        let direct = routed::is_routed(&self.active.addr) && !routed::is_routed(&contest.other.addr);
        match (contest.new.answered, contest.old.answered, contest.old_spoke && !direct) {
            (false, _, _) => Verdict::OldAlive,
            (true, false, true) => Verdict::Held,
            (true, true, true) => {
                self.phase = Phase::Settled;
                Verdict::Stayed {
                    refused: contest.other.addr,
                }
            }
            (true, _, false) => {
                let before = self.active;
                self.active = contest.other;
                // The peer gets as long again to be heard from the old address.
                let until = now + contest.pto * GIVE_UP_PTOS;
                self.phase = Phase::Moved(Contest {
                    other: before,
                    until,
                    ..contest
                });
                Verdict::Moved(Move {
                    from: before.addr,
                    to: self.active.addr,
                })
            }
        }
    }

    /// The address before the move is active again.
    fn give_back(&mut self) -> Move {
        let from = self.active.addr;
        if let Phase::Moved(contest) = self.phase {
            self.active = contest.other;
            self.phase = Phase::Settled;
        }
        Move {
            from,
            to: self.active.addr,
        }
    }

    fn endpoint_mut(&mut self, addr: Addr) -> Option<&mut Endpoint> {
        if self.active.addr == addr {
            return Some(&mut self.active);
        }
        match &mut self.phase {
            Phase::Settled => None,
            Phase::Probing(contest) | Phase::Moved(contest) => Some(&mut contest.other).filter(|it| it.addr == addr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, SocketAddr};

    const PTO: Duration = Duration::from_millis(100);
    const NEW: Challenge = *b"newnewne";
    const OLD: Challenge = *b"oldoldol";

    fn addr(port: u16) -> Addr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    /// A peer known at port 1, just seen at port 2.
    fn contest() -> Paths {
        let mut paths = Paths::new(addr(1), true);
        assert_eq!(paths.on_newest(addr(2), false), Sighting::Unknown);
        paths.on_candidate(at(0), addr(2), 100, PTO, NEW, OLD);
        paths
    }

    fn moved(from: u16, to: u16) -> Move {
        Move {
            from: addr(from),
            to: addr(to),
        }
    }

    #[test]
    fn a_rebound_peer_is_followed_once_it_answers() {
        let mut paths = contest();
        assert_eq!(paths.poll_challenge(at(0)), Some((addr(2), NEW)));
        assert_eq!(paths.poll_challenge(at(0)), Some((addr(1), OLD)));
        assert_eq!(paths.poll_challenge(at(0)), None);
        assert_eq!(
            (paths.active(), paths.on_newest(addr(2), false)),
            (addr(1), Sighting::Candidate)
        );
        assert_eq!(paths.on_response(at(50), *b"whatever"), Verdict::Unmatched);
        assert_eq!(paths.on_response(at(50), NEW), Verdict::Moved(moved(1, 2)));
        assert_eq!((paths.active(), paths.validated()), (addr(2), true));
        assert_eq!(paths.on_timeout(at(349)), PathTimeout::Nothing);
        assert_eq!(paths.on_timeout(at(350)), PathTimeout::Settled);
        assert_eq!((paths.active(), paths.deadline()), (addr(2), None));
        assert_eq!(
            paths.on_response(at(360), OLD),
            Verdict::Unmatched,
            "too late to matter"
        );
    }

    #[test]
    fn a_peer_that_moved_away_may_still_answer_from_the_old_address() {
        // The response itself comes from the old address and has the highest counter, but says only that
        // the peer can be reached there.
        for old_first in [true, false] {
            let mut paths = contest();
            if old_first {
                assert_eq!(paths.on_response(at(10), OLD), Verdict::OldAlive);
            }
            assert_eq!(paths.on_newest(addr(1), true), Sighting::Active);
            assert_eq!(paths.on_response(at(20), NEW), Verdict::Moved(moved(1, 2)));
            assert_eq!(paths.on_newest(addr(1), true), Sighting::Candidate);
            if !old_first {
                assert_eq!(paths.on_response(at(30), OLD), Verdict::OldAlive);
            }
            assert_eq!(paths.on_timeout(at(320)), PathTimeout::Settled);
            assert_eq!(paths.active(), addr(2));
        }
    }

    #[test]
    fn a_forwarder_that_wins_a_race_does_not_get_the_path() {
        // Each story is told by its events: N and O are the answers of the new and the old address, o a
        // packet with data from the old one; the last verdict decides.
        let stories = [
            ("ooNO", Verdict::Stayed { refused: addr(2) }),
            ("OoN", Verdict::Stayed { refused: addr(2) }),
        ];
        for (story, verdict) in stories {
            let mut paths = contest();
            let mut last = Verdict::Unmatched;
            for event in story.chars() {
                match event {
                    'o' => assert_eq!(paths.on_newest(addr(1), false), Sighting::Active),
                    'N' => last = paths.on_response(at(10), NEW),
                    _ => last = paths.on_response(at(10), OLD),
                }
            }
            assert_eq!(
                (last, paths.active(), paths.deadline()),
                (verdict, addr(1), None),
                "{story}"
            );
        }
    }

    #[test]
    fn the_path_returns_when_the_peer_is_heard_from_the_old_address_after_the_move() {
        let mut paths = contest();
        paths.on_response(at(10), NEW);
        assert_eq!(paths.on_newest(addr(1), false), Sighting::Candidate);
        assert_eq!(paths.on_response(at(20), OLD), Verdict::Returned(moved(2, 1)));
        assert_eq!(
            (paths.active(), paths.validated(), paths.deadline()),
            (addr(1), true, None)
        );

        let mut paths = contest();
        paths.on_response(at(10), OLD);
        assert_eq!(paths.on_response(at(10), NEW), Verdict::Moved(moved(1, 2)));
        assert_eq!(paths.on_newest(addr(1), false), Sighting::Returned(moved(2, 1)));
        assert_eq!(paths.on_newest(addr(1), false), Sighting::Active);
    }

    #[test]
    fn a_candidate_that_never_answers_is_dropped() {
        let mut paths = contest();
        let mut challenges = 0;
        for ms in 0..300 {
            while paths.poll_challenge(at(ms)).is_some() {
                challenges += 1;
            }
            assert!(paths.deadline().is_some_and(|deadline| deadline > at(ms)));
        }
        assert_eq!(challenges, 6, "two challenges, once per probe timeout");
        assert_eq!(paths.on_timeout(at(300)), PathTimeout::CandidateFailed(addr(2)));
        assert_eq!((paths.active(), paths.poll_challenge(at(300))), (addr(1), None));
        assert_eq!(paths.on_newest(addr(2), false), Sighting::Unknown, "it may try again");
    }

    #[test]
    fn a_held_candidate_gets_the_path_when_the_old_address_falls_silent() {
        let mut paths = contest();
        paths.on_newest(addr(1), false);
        assert_eq!(paths.on_response(at(10), NEW), Verdict::Held);
        assert_eq!(paths.active(), addr(1));
        assert_eq!(paths.on_timeout(at(300)), PathTimeout::Moved(moved(1, 2)));
        assert_eq!(paths.active(), addr(2));
    }

    #[test]
    fn an_unproven_address_gets_three_times_what_it_sent() {
        let mut paths = contest();
        assert!(paths.may_send(addr(1), 1 << 40));
        assert!(paths.may_send(addr(2), 300) && !paths.may_send(addr(2), 301));
        assert!(!paths.may_send(addr(3), 1), "an unknown address gets nothing");
        paths.on_sent(addr(2), 290);
        assert!(!paths.may_send(addr(2), 11));
        paths.on_received(addr(2), 100);
        assert!(paths.may_send(addr(2), 310));
        paths.on_response(at(10), NEW);
        assert!(paths.may_send(addr(2), 1 << 40) && paths.may_send(addr(1), 1 << 40));
    }

    #[test]
    fn path_frames_alone_and_third_addresses_open_no_contest() {
        let mut paths = Paths::new(addr(1), true);
        assert_eq!(paths.on_newest(addr(2), true), Sighting::Ignored);
        assert_eq!(paths.on_newest(addr(1), false), Sighting::Active);
        paths.on_candidate(at(0), addr(1), 100, PTO, NEW, OLD);
        assert_eq!(paths.deadline(), None, "the active address is no candidate");
        let mut paths = contest();
        assert_eq!(paths.on_newest(addr(3), false), Sighting::Ignored);
        paths.on_candidate(at(1), addr(3), 100, PTO, *b"thirdnew", *b"thirdold");
        assert_eq!(paths.on_response(at(2), *b"thirdnew"), Verdict::Unmatched);
        paths.relocate(addr(4), false);
        assert_eq!(
            (paths.active(), paths.validated(), paths.deadline()),
            (addr(4), false, None)
        );
        assert!(!paths.may_send(addr(4), 1));
        paths.on_validated();
        assert!(paths.may_send(addr(4), 1_200));
    }

    #[test]
    fn a_repeated_answer_counts_once() {
        let mut paths = contest();
        paths.on_newest(addr(1), false);
        assert_eq!(paths.on_response(at(1), NEW), Verdict::Held);
        assert_eq!(paths.on_response(at(2), NEW), Verdict::Unmatched);
        assert_eq!(paths.on_response(at(3), OLD), Verdict::Stayed { refused: addr(2) });
    }
}
