//! Probes: points that some run must pass, or nothing is known about what happens there.
//!
//! A kernel that is checked keeps one bit per probe; `sometimes!(notes, Probe, condition)` and `reachable!(notes, Probe)`
//! set it. `notes` is what the place at hand may write to: the probes of a data-plane object ([`Check::Probes`], nothing
//! at all under `NoCheck`) or a machine's `Fx`.
//! Invariants: a probe is one variant of one table, so no two share a name; noting one decides nothing.
//! Not here: which probes a set of runs must hit (the simulator).
//!
//! [`Check::Probes`]: crate::Check::Probes

/// Notes a probe where a condition holds.
#[macro_export]
macro_rules! sometimes {
    ($notes:expr, $probe:ident, $condition:expr) => {
        if $crate::probe::on(&$notes) && $condition {
            $crate::probe::Note::note(&mut $notes, $crate::probe::Probe::$probe);
        }
    };
}

/// Notes that this place was reached.
#[macro_export]
macro_rules! reachable {
    ($notes:expr, $probe:ident) => {
        $crate::probe::Note::note(&mut $notes, $crate::probe::Probe::$probe)
    };
}

macro_rules! probes {
    (@test) => { None };
    (@test $test:literal) => { Some($test) };
    ($($variant:ident $name:literal $(($test:literal))?)*) => {
        /// A point that some run must pass.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Probe {
            $(#[doc = $name] $variant,)*
        }

        impl Probe {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The kernel's test that passes it, where no scenario does: sets of runs need not.
            #[must_use]
            pub const fn tested_by(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => probes!(@test $($test)?),)*
                }
            }

            /// What happens there.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

probes! {
    // Handshake, as responder.
    CookieDemanded "a cookie is demanded under load"
    CookieAccepted "a first message with a valid cookie is read under load"
    CookieInvalid "a first message with a wrong or old cookie is refused"
        ("under_load_a_cookie_is_asked_for_and_used_at_once")
    CookieRotated "the cookie secret is rotated while the one before is still good"
    InitiationCopied "a copy of a first message being read is refused"
    InitiationStale "a first message that is not newer than the last confirmed one is refused"
    InitiationBadMac "a first message for another network or node is refused by its MAC"
    NoiseRefused "a first message or answer that Noise does not open is refused"
    EpochTooFar "an epoch far ahead of the clock is refused"
    AnswerRevoked "an answer being made is dropped because its peer confirmed a newer handshake meanwhile"
    AnswerAgain "a second first message of one association is answered while the first answer waits"
    PendingCrowded "the oldest unconfirmed key makes room for a newer one"
    PendingExpired "an unconfirmed key is withdrawn"
    // Handshake, as initiator.
    CookieUsed "a cookie makes the next first message leave at once"
    DialRepeated "a first message is repeated"
    DialForgetsOldest "the oldest of many first messages is awaited no more"
    DialExpired "a dial gives up"
    SuiteBest "both sides have AES-256-GCM and use it"
    SuiteLesser "a side that has AES-256-GCM uses the mandatory suite with one that has not"
    DialTakesLabel "a dial takes the label of an answer given before"
    AnswerTakesLabel "an answer takes the label of a dial under way"
    StartedTooLate "a first message is finished after its dial ended, and discarded"
    FinishedTooLate "an answer is checked after its dial ended, and discarded"
    // Peers, trust.
    SimultaneousOpen "a peer that is being dialled is in by its own dial"
    PeerForgotten "a session ends because its peer knows nothing of it"
    RekeyAbandoned "a session ends while its rekey is under way"
    EpochRollback "a peer with an older epoch than it had before is refused"
    NotAdmitted "a peer that proved itself is not admitted"
    FloorsRecovered "the epochs of peers are recovered from disk"
    FloorsBroken "the epochs of peers cannot be read or written"
    WriteJoined "an epoch changes while the one before is being written"
    // Keys.
    KeyReplaced "a rekey puts a new key into use"
    KeyCrossed "both sides rekeyed at once"
    KeyCrossedKept "of two crossed keys the one in use stays"
    KeyCrossedSwapped "of two crossed keys the drained one comes back into use"
    KeyDisagreed "the side with the lesser identity follows the other to the key it uses"
    KeyDrainedUsed "a packet under a replaced key is opened"
    KeyDrainedForgotten "a replaced key is forgotten"
    KeyUnanswered "an agreed key the peer never used is given up"
    KeyHardStop "a session ends because its key is too old and none replaced it"
    KeyExpired "a packet under an expired key is refused"
    Replayed "a packet is refused as a replay"
    BelowWindow "a packet below the replay window is refused"
    Tampered "a packet that does not authenticate is refused"
    UnknownSession "a packet for no session is refused"
    CounterSkipped "a counter is skipped as a trap"
    // Paths.
    PathChallenged "a packet from another address makes it a candidate"
    PathMoved "a candidate answers and becomes the path"
    PathHeld "a candidate answers while the peer still speaks from the old address"
    PathRefused "both addresses answer and the path stays"
    PathReturned "the path moves back to the old address"
    PathFailed "a candidate does not answer in time"
    PathLimited "a challenge is held back: the address did not send enough yet"
    // Loss and congestion.
    LossByAck "an acknowledgement shows losses"
    LossByTimer "the loss timer declares losses"
    LossSpurious "a packet taken for lost is acknowledged late"
    CongestionEvent "losses open a recovery period"
    CongestionPersistent "losses show persistent congestion"
    ProbeTimeout "a probe timeout fires"
    ProbeBackedOff "a probe timeout fires again before an answer"
    WindowFull "the congestion window is full"
    Paced "pacing holds a packet back"
    AckCrowded "an acknowledgement of many ranges asks to be acknowledged"
    AckForgotten "a packet older than all ranges kept is not acknowledged"
    AckOfUnsent "a session ends because a packet was acknowledged that was never sent"
    // Path MTU.
    MtuRaised "an MTU probe arrives"
    MtuProbeLost "an MTU probe is lost"
    MtuBlackHole "an MTU black hole is found"
    // Streams.
    StreamBlocked "a stream without credit says so"
    SessionBlocked "a session without credit says so"
    CreditLost "a packet that carried credit is lost"
    BlockedLost "a packet that said no credit is left is lost"
    StreamFinished "a peer ends its direction of a stream"
    StreamGone "both directions of a stream are over and its id is forgotten"
    StreamReset "a stream is reset by its peer"
    StreamStopped "a reader asks its peer to stop"
    EarlyDelivered "data that arrived early is delivered when its gap closes"
    // Life of a session.
    KeepAlive "a silent session sends a keep-alive"
    IdleTimeout "a session ends by silence"
    CloseReceived "a session is closed by its peer"
    CloseRepeated "a close is repeated to a peer that still sends"
    Violated "a session ends because its peer broke the protocol"
    // The mesh.
    RouteLost "a node is reached no more"
    RouteStarved "ways are offered and none lies closer than what was announced: newer words are asked for"
    SpokeWhenAsked "a node speaks of itself because somebody asked for newer words"
    AnnouncementDamped "a node that keeps changing its distance is announced later"
    NeighbourSlow "a neighbour's stream takes less than there is to tell it"
        ("a_neighbour_that_takes_nothing_hears_the_latest_once_it_does")
    BeatLate "a node comes late to its own heartbeat and suspects nobody for it"
    SuspicionShared "neighbours are asked whether they hear one that is suspected"
    SuspicionWitnessed "a neighbour that is not heard here is heard by another"
    LinkOneWay "a neighbour that is heard says that it does not hear us"
    OutageSeen "many neighbours fail together"
    LabelShared "two nodes share a label"
        ("two_nodes_that_share_a_label_disturb_nobody")
    // Relays.
    Relayed "a packet of others is sent on"
    RelayTurnedAway "a packet of others is not sent on"
    RoutedTaken "a packet that came over relays is read"
    RouteWanting "a packet for a node behind relays finds no way there"
    PathDetour "a session whose direct path failed takes a way over relays"
    PathHoped "a session over relays asks whether its peer answers directly"
    PathDirect "a session leaves a way over relays for a direct one"
    // Discovery.
    BeaconStale "a beacon older than one heard before is refused"
    BeaconAnswered "a node that was not heard before is answered at once"
    BeaconUnvouched "a beacon comes from an address that its maker does not vouch for, and that is not dialled"
    PeerSilent "a node that was found is not heard any more and is forgotten"
        ("a_node_that_falls_silent_is_forgotten")
}

/// A set of probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hits(u128);

const _: () = assert!(Probe::ALL.len() <= 128, "a set has one bit per probe");

impl Hits {
    /// Whether it holds `probe`.
    #[must_use]
    pub const fn has(&self, probe: Probe) -> bool {
        self.0 & (1 << probe as u8) != 0
    }

    /// Adds everything in `other`.
    pub const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Those it holds, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Probe> {
        Probe::ALL.iter().copied().filter(move |&probe| self.has(probe))
    }

    /// Those it lacks, in the order of the table.
    pub fn missing(self) -> impl Iterator<Item = Probe> {
        Probe::ALL.iter().copied().filter(move |&probe| !self.has(probe))
    }
}

/// Where a probe can be noted.
pub trait Note {
    /// Whether anything is kept.
    const ON: bool;
    /// Notes it.
    fn note(&mut self, probe: Probe);
}

/// What a data-plane object keeps of its probes.
pub trait Probes: Note + Default + 'static {
    /// Those noted.
    fn hits(&self) -> Hits;
}

impl Note for Hits {
    const ON: bool = true;

    #[inline]
    fn note(&mut self, probe: Probe) {
        self.0 |= 1 << probe as u8;
    }
}

impl Probes for Hits {
    fn hits(&self) -> Self {
        *self
    }
}

/// Keeps nothing: what `NoCheck` leaves of every probe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Note for Quiet {
    const ON: bool = false;

    #[inline]
    fn note(&mut self, _: Probe) {}
}

impl Probes for Quiet {
    fn hits(&self) -> Hits {
        Hits::default()
    }
}

/// Whether `notes` keeps anything.
#[inline]
#[must_use]
pub const fn on<N: Note>(_: &N) -> bool {
    N::ON
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    #[test]
    fn no_two_probes_say_the_same() {
        let names: BTreeSet<&str> = Probe::ALL.iter().map(|probe| probe.name()).collect();
        assert_eq!(names.len(), Probe::ALL.len());
    }

    #[test]
    fn a_set_holds_what_was_noted_and_lacks_the_rest() {
        let mut hits = Hits::default();
        sometimes!(hits, PathMoved, 1 + 1 == 2);
        sometimes!(hits, PathHeld, 1 + 1 == 3);
        reachable!(hits, Violated);
        assert_eq!(hits.iter().collect::<Vec<_>>(), [Probe::PathMoved, Probe::Violated]);
        assert_eq!(hits.missing().count(), Probe::ALL.len() - 2);
    }

    #[test]
    fn nothing_is_kept_or_even_asked_where_probes_are_off() {
        let mut quiet = Quiet;
        let mut asked = false;
        sometimes!(quiet, PathMoved, {
            asked = true;
            asked
        });
        assert!(!asked && quiet.hits() == Hits::default());
    }
}
