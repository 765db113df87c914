//! Planted bugs: realistic defects of one line, which the simulator must find.
//!
//! Where one is planted the code asks `mutant!(Name)`. Built as usual that is the constant `false`, and no name of a bug
//! gets into the program. Built with `--cfg net_mutants` the simulator chooses one for its whole process.
//! Invariants: without `--cfg net_mutants` there is no state here; with it, this is the kernel's only global, set between
//! runs and never during one.
//! Not here: finding them (`net-io-sim`).

/// Whether this planted bug is switched on: `false`, and compiled out, without `--cfg net_mutants`.
#[cfg(not(net_mutants))]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {{
        const _: $crate::mutant::Mutant = $crate::mutant::Mutant::$name;
        false
    }};
}

/// Whether this planted bug is switched on.
#[cfg(net_mutants)]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_on($crate::mutant::Mutant::$name)
    };
}

macro_rules! planted {
    ($($variant:ident $name:literal $wrong:literal)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {
            $(#[doc = $wrong] $variant,)*
        }

        #[cfg(net_mutants)]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whether it is planted in the driver, where only arms with a driver can find it.
            #[must_use]
            pub const fn in_driver(self) -> bool {
                matches!(self.name().as_bytes(), [b'd', b'r', b'i', b'v', b'e', b'r', b'-', ..])
            }

            /// What is wrong.
            #[must_use]
            pub const fn wrong(self) -> &'static str {
                match self {
                    $(Self::$variant => $wrong,)*
                }
            }
        }
    };
}

planted! {
    ReplayForgetsOldest "replay-forgets-oldest"
        "the replay window clears one bit too many, that of the oldest counter it still accepts"
    ReplayMarksNewestOnly "replay-marks-newest-only"
        "a counter below the highest is opened and never marked"
    AheadUnchecked "ahead-unchecked"
        "a packet that was opened ahead of its batch is taken without another look at the replay window"
    SharedPieceEndsEarly "shared-piece-ends-early"
        "the last packet of a piece of several that are sealed together stays as it was written"
    SharedKeyLetGo "shared-key-let-go"
        "a key that ends in the turn in which a packet was written under it is not kept until the packet is sealed"
    NonceFromCheckpoint "nonce-from-checkpoint"
        "a key that comes back into use brings the counter back that it was replaced at"
    HardStopMissing "hard-stop-missing"
        "a key past its lifetime still seals and opens"
    RekeyOverlapShort "rekey-overlap-short"
        "a replaced key opens packets for a tenth of a second instead of ten seconds"
    CrossedKeyUnheard "crossed-key-unheard"
        "of two keys agreed at once a side keeps its own though the peer was never heard to use it"
    DrainedKeyForgotten "drained-key-forgotten"
        "a replaced key is forgotten after its quiet time though the peer was not heard to use its successor"
    ConfirmTakenForUse "confirm-taken-for-use"
        "a packet that only confirms a new key counts as its use, and what it replaced is forgotten"
    DialIgnoresAnswer "dial-ignores-answer"
        "a dial to a peer that was just answered begins another association than the answer did"
    EpochCommittedEarly "epoch-committed-early"
        "a first message raises what is known of its sender's epoch before anything is confirmed"
    LateConfirmTaken "late-confirm-taken"
        "an answer confirmed after a newer one of the same peer is taken into use without a second look"
    RestartUnnoticed "restart-unnoticed"
        "a peer in a later epoch is taken for the process before it where its labels are the same"
    AnswerUnchecked "answer-unchecked"
        "a key that a dial ends with is taken into use without a look at what is known of its peer by then"
    FinishedUnchecked "finished-unchecked"
        "a key that a finished Diffie-Hellman job agreed joins whatever session with its peer lives by then"
    AnsweringForgotten "answering-forgotten"
        "a dial to a peer whose answer is still being made begins another association than the answer does"
    AnswersDiffer "answers-differ"
        "two answers to one dial carry different labels"
    RekeyOutlivesSession "rekey-outlives-session"
        "a rekey goes on after the session that it was for has ended"
    MovedUntold "moved-untold"
        "the peer book is not told where a session moved, and rekeys go to where its peer was"
    OpenKeepsBoth "open-keeps-both"
        "a dial that ends while another session with the peer lives begins a second one beside it"
    AckFillsHole "ack-fills-hole"
        "a packet that arrives late, with one hole above it, is acknowledged together with the hole"
    RttWithoutVariance "rtt-without-variance"
        "the probe timeout leaves out how much the round trip varies"
    NewRenoHalvesEachLoss "new-reno-halves-each-loss"
        "NewReno halves its window for every round of losses, of one flight or not"
    CopaFloorForever "copa-floor-forever"
        "Copa never forgets the smallest round trip of a path, which may have become longer"
    CopaKeepsVelocity "copa-keeps-velocity"
        "Copa goes as fast down as it went up before, and up as it went down"
    CopaNeverCompetes "copa-never-competes"
        "Copa takes a queue that others fill for its own and gives way"
    IdleTimerUnarmed "idle-timer-unarmed"
        "the end of a silent session arms no timer of its own"
    IdleRefreshedByAll "idle-refreshed-by-all"
        "a packet that fails to authenticate counts as a sign of life"
    BlackHoleUnseen "black-hole-unseen"
        "an MTU black hole is noticed and the packets stay as large"
    ProbeStaysLarge "probe-stays-large"
        "repeated probe timeouts send packets as large as those that vanished"
    RetransmitForgetsRest "retransmit-forgets-rest"
        "of a lost run that no longer fits one packet the rest is never sent again"
    ReassemblyStale "reassembly-stale"
        "cells of the reorder buffer that were delivered over are not cleared"
    SessionWindowIgnored "session-window-ignored"
        "streams without order go by their own credit and not by the session's"
    CreditUpdateForgotten "credit-update-forgotten"
        "a lost packet that carried the session's credit is not repeated"
    BlockedUnsaid "blocked-unsaid"
        "a sender that finds itself without credit tells its peer with the next packet, whenever that is"
    BlockedUnrepeated "blocked-unrepeated"
        "a lost packet that said that the session's credit is used up is not repeated"
    ResetLeaksCredit "reset-leaks-credit"
        "what a stream sent before it was reset and never arrived is not counted as used and returned"
    CreditOnReceipt "credit-on-receipt"
        "credit is returned when data is handed over, not when the application drained it"
    CreditTwice "credit-twice"
        "what the application drains is counted twice"
    PathFollowedUnasked "path-followed-unasked"
        "the path moves to whatever address the newest packet came from, before anything was asked there"
    AmplificationUnlimited "amplification-unlimited"
        "an address that has not answered is sent any number of challenges and answers"
    TransferHashUnchecked "transfer-hash-unchecked"
        "a file gets its name whatever its hash"
    TransferMarksUncompared "transfer-marks-uncompared"
        "a file goes on where the receiver's copy ends, whatever that copy holds"
    TransferPublishUnsynced "transfer-publish-unsynced"
        "a file gets its name before its bytes are on disk"
    TransferNameUnsynced "transfer-name-unsynced"
        "a file is told as stored before its name is on disk"
    TransferSkipUnsettled "transfer-skip-unsettled"
        "a file that the sender leaves out is waited for"
    TransferChangeUnnoticed "transfer-change-unnoticed"
        "a file that became another while it was read is sent as if it had not"
    SuiteOfferedUsed "suite-offered-used"
        "a dial uses the suite that it offered, whatever the answer names"
    PendingOutlivesConfirm "pending-outlives-confirm"
        "an answer that was confirmed keeps its place among those that wait to be"
    PendingExpiresOnce "pending-expires-once"
        "of several answers that nobody confirms only the first expires"
    StreamTurnUncharged "stream-turn-uncharged"
        "what a stream sends in its turn is not counted against it"
    HandshakeEntropyUnmixed "handshake-entropy-unmixed"
        "the operating system's fresh bytes are asked for and do not enter the handshake"
    GeneratorCopied "generator-copied"
        "handshakes draw from a copy of their generator and refresh a copy, so that its own key stays what it was"
    TimerOutlivesSession "timer-outlives-session"
        "the timer of a session that is forgotten stays armed"
    TimersNeverRebuilt "timers-never-rebuilt"
        "what timers were armed for before stays in their heap until it comes to the top"
    RetryPacedByIdentity "retry-paced-by-identity"
        "the pauses between a dial's first messages follow from the dialling identity and not from chance"
    DriverDeafAfterError "driver-deaf-after-error"
        "in the driver: after a receive that failed it sleeps without having asked to be woken by the next datagram"
    DriverTimerAskedOnce "driver-timer-asked-once"
        "in the driver: a deadline that went off early is not armed again"
    FeasibilityForgotten "feasibility-forgotten"
        "any offered route is used, whatever was announced before: routes count to infinity"
    BootForgotten "boot-forgotten"
        "of two statements the one with the greater seqno counts as newer, whatever their boots"
    DeafUnsaid "deaf-unsaid"
        "a neighbour that is not heard any more is not told so"
    AbsenceUnexcused "absence-unexcused"
        "a node that comes late to its heartbeat suspects others for what it did not hear meanwhile"
    BeaconMacUnchecked "beacon-mac-unchecked"
        "a beacon is read whether its tag is right or not"
    BeaconStaleTaken "beacon-stale-taken"
        "a beacon older than one that was heard of the same node is taken for news"
    BeaconSpokenOnce "beacon-spoken-once"
        "a node speaks to its segment once and never again"
    BeaconSourceTaken "beacon-source-taken"
        "whoever a beacon comes from is dialled, whatever addresses its maker vouched for"
    AddressesInTurn "addresses-in-turn"
        "a dial waits for one address as long as for an answer before it tries the next"
    JoinForgotten "join-forgotten"
        "a peer that is to be kept is not dialled again once its session ended"
    SignatureIgnored "signature-ignored"
        "whatever a neighbour says of another node counts as signed by it"
    SuspectedUnasked "suspected-unasked"
        "a silent neighbour counts as failed without asking those who might hear it"
    WorseNewsIgnored "worse-news-ignored"
        "a neighbour that says that its way became longer is taken at its earlier word"
    RememberedUnproved "remembered-unproved"
        "what a neighbour says of another node is remembered before its signature was found genuine"
    AskedInVain "asked-in-vain"
        "a node that is asked for newer words waits for its next pingwave"
    WordsOfOthers "words-of-others"
        "load and health that a neighbour changed on their way are believed where signature and count are known"
    WithdrawalUnsaid "withdrawal-unsaid"
        "who was told of a node is not told that it is lost"
    FlappingUnpunished "flapping-unpunished"
        "a link that fails again and again counts again at once"
    OutageUncorrelated "outage-uncorrelated"
        "failures are one outage however far apart they were"
    LabelTaken "label-taken"
        "a label goes to whoever claims it last"
    TtlKept "ttl-kept"
        "a pingwave is passed on with the ttl it came with"
    HopMarkedEarly "hop-marked-early"
        "a routed packet's counter is marked before its tag was checked"
    HopTagBodyless "hop-tag-bodyless"
        "the tag of a hop covers the routing header and not what is inside"
    RoutedMoves "routed-moves"
        "a packet that came over relays, or over a path that has just failed, moves the session there"
    RerouteWaits "reroute-waits"
        "what was under way when a path failed waits for its timeout"
    DeadRevived "dead-revived"
        "old words of a node that was forgotten are believed again"
    EarlyWordsLost "early-words-lost"
        "what a neighbour says of the mesh before its session is a link on this side too is thrown away"
    RelayTtlKept "relay-ttl-kept"
        "a relay sends a packet on with the ttl it came with"
    RelayUnverified "relay-unverified"
        "a relay sends a packet on whose hop tag does not verify"
    DetourUntaken "detour-untaken"
        "a session whose neighbour failed stays on its direct path although there is a way around"
    DriverUnblockedUnsent "driver-unblocked-unsent"
        "in the driver: what waited for a full socket stays where it is when the socket is writable again"
    DriverRecvYields "driver-recv-yields"
        "in the driver: a receive yields now and then after it took a message, and who drops it there loses the message"
}

#[cfg(net_mutants)]
pub use chosen::{choose, is_on};

#[cfg(net_mutants)]
mod chosen {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    const NONE: u8 = u8::MAX;
    static CHOSEN: AtomicU8 = AtomicU8::new(NONE);

    /// Switches one bug on, and every other off. Between runs only: a run during which it changes means nothing.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.store(mutant.map_or(NONE, |mutant| mutant as u8), Ordering::SeqCst);
    }

    /// Whether this bug is switched on.
    #[inline]
    #[must_use]
    pub fn is_on(mutant: Mutant) -> bool {
        CHOSEN.load(Ordering::Relaxed) == mutant as u8
    }
}
