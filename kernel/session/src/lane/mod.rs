//! A lane: whole sessions, from keys to streams. The kernel pulls what arrives and at the end of a turn lets it
//! send (ARCHITECTURE, "The hot path").
//!
//! | file | role |
//! |---|---|
//! | `hop.rs` | the tag on routed packets |
//! | `slot.rs`, `slots.rs` | keys: open, seal, replay window, age |
//! | `association.rs` | what two nodes share across rekeys and moves |
//! | `inbound.rs` | what arriving frames do |
//! | `outbound.rs` | what leaves |
//! | `streams.rs`, `closed.rs` | the table of streams, their credit and the frames they owe |
//! | `detour.rs` | ways over relays: taken, and left for a direct one |
//! | `packet.rs` | the opened packet under the kernel's hand |
//! | `shared.rs` | opening ahead and sealing behind, in pieces for a crew |
//! | `many.rs` | several lanes behind one face |
//!
//! Invariants: a packet changes nothing before its tag verified; a key serves no association before the
//! initiator's first packet authenticated; whoever changed is queued to send and re-armed before the turn ends.
//! Not here: who may hold a session (the kernel decides on [`Up::Confirm`]), handshakes (`handshake/`).

pub(crate) mod association;
mod closed;
mod detour;
mod hop;
pub(crate) mod inbound;
pub mod many;
pub(crate) mod outbound;
mod packet;
pub(crate) mod shared;
pub(crate) mod slot;
pub(crate) mod slots;
pub(crate) mod streams;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;

use net_base::map::IdMap;
use net_base::probe::{Hits, Probes as _};
use net_base::rng::Stream;
use net_base::timer::{Load, Timers};
use net_base::{Addr, Check, Duration, EntityId, Instant, NoCheck, SessionId, StreamId, mutant, reachable};
use net_wire::{CloseCode, DropReason, Reliability, Suite};

use crate::aead::Aead;
use crate::config::SessionConfig;
use crate::drops::Drops;
use crate::install::Install;
use crate::rx::{Datagram, Spot};
use crate::stream::PushError;
use crate::tx::Tx;
use crate::{Part, SessionKey};

pub use inbound::close_code;
pub use packet::Messages;
pub use slot::KeyInfo;
pub use streams::{INITIAL_SESSION_CREDIT, INITIAL_STREAM_CREDIT, StreamSetup};

use association::{Association, AssociationNotice};
use outbound::Sent;
use packet::Open;
use slot::Slot;
use slots::Slots;
use streams::StreamNotice;

/// What the kernel pulls out of received datagrams.
#[derive(Debug)]
pub enum Up<'x> {
    /// A handshake packet, or one that no key here opens: for the handshake machine.
    Handshake(Datagram<'x>),
    /// The initiator's first packet authenticated: decide with [`Lane::start`], [`Lane::adopt`] or
    /// [`Lane::forget`] before pulling on; the packet itself follows.
    Confirm(KeyInfo),
    /// A datagram of others, or one that came over relays: check it with [`Lane::open_hop`], then send it on, or have it
    /// read with [`many::Lanes::unwrap`].
    Routed(Spot),
    /// Application data.
    Part(Part<'x>),
    /// Application data, message by message.
    Messages(Messages<'x>),
}

/// Why a session ended on the lane's side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The peer closed it.
    Remote {
        /// Its reason.
        code: CloseCode,
        /// A number that belongs to the reason.
        detail: u64,
        /// Its words.
        text: String,
    },
    /// Nothing was heard for the idle timeout.
    TimedOut,
    /// The peer broke the protocol; the close was told to it.
    Violation(DropReason),
}

/// What the lane tells the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Which session.
    pub session: SessionKey,
    /// What.
    pub what: What,
}

/// What happened to a session or one of its streams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The peer opened a stream.
    StreamOpened(StreamId, Reliability, u16),
    /// Send buffer came free, in bytes.
    Writable(StreamId, u64),
    /// The peer finished its direction.
    Finished(StreamId),
    /// Everything sent before the finish was acknowledged.
    Flushed(StreamId),
    /// The peer abandoned its direction.
    Reset(StreamId, u64),
    /// The peer reads no more.
    Stopped(StreamId, u64),
    /// The stream's id is forgotten.
    Gone(StreamId),
    /// A measured round trip; the token is the caller's.
    Echo(u64, Duration),
    /// The peer is reached elsewhere.
    Moved(Addr),
    /// New keys are due: dial.
    RekeyDue,
    /// New keys are in use.
    Rekeyed,
    /// It ended; the session's key names nothing any more.
    Closed(Closed),
}

/// Figures of one session, for status displays, metrics and benchmarks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionStats {
    /// Who.
    pub peer: EntityId,
    /// What packets are sealed with.
    pub suite: Suite,
    /// Where.
    pub address: Addr,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Its mean deviation (RFC 9002 section 5.3).
    pub rtt_variance: Duration,
    /// Smallest round-trip time on this path.
    pub rtt_min: Duration,
    /// Congestion window, bytes.
    pub window: u64,
    /// Path MTU, bytes.
    pub mtu: u16,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams accepted.
    pub received: u64,
    /// Datagrams declared lost.
    pub lost: u64,
    /// Probe timeouts.
    pub probes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes accepted.
    pub received_bytes: u64,
    /// Replacements of the keys.
    pub rekeys: u64,
    /// Changes of address.
    pub moves: u64,
    /// Open streams.
    pub streams: usize,
    /// Bytes held for data that arrived early.
    pub reordering: usize,
}

/// How much is held, for status displays and for holding the bounds to account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holdings {
    /// Sessions, those that linger to repeat their close included.
    pub sessions: usize,
    /// Agreed keys, those that wait for confirmation included.
    pub keys: usize,
    /// Streams that are not over.
    pub streams: usize,
    /// Bytes held for data that arrived early.
    pub reordering: usize,
    /// Bytes sent, neither acknowledged nor found lost.
    pub in_flight: u64,
}

impl Holdings {
    /// Adds what another lane holds.
    pub const fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.keys += other.keys;
        self.streams += other.streams;
        self.reordering += other.reordering;
        self.in_flight += other.in_flight;
    }
}

/// Closed sessions that repeat their close to whoever still talks to them; the oldest is forgotten for one more, as
/// strangers who are refused could otherwise have any number of them held.
const MAX_LINGERING: usize = 256;

/// Whole sessions.
pub struct Lane<A: Aead, C: Check = NoCheck> {
    config: SessionConfig,
    slots: Slots<A>,
    associations: IdMap<SessionKey, Box<Association<C>>>,
    timers: Timers<SessionKey>,
    /// Closed sessions that still repeat their close, the oldest first.
    lingering: VecDeque<SessionKey>,
    /// Sessions that may have something to send or another deadline.
    dirty: VecDeque<SessionKey>,
    notices: VecDeque<Notice>,
    open: Option<Open>,
    found: Option<packet::Found>,
    /// Data that became due when a gap closed, on its way to the application.
    late: alloc::vec::Vec<u8>,
    drops: Drops,
    passed: C::Probes,
    /// The probes that sessions which are gone had passed.
    ended: Hits,
}

impl<A: Aead, C: Check> Lane<A, C> {
    /// An empty lane.
    #[must_use]
    pub fn new(config: &SessionConfig) -> Self {
        Self {
            config: config.clone(),
            slots: Slots::new(),
            associations: IdMap::default(),
            timers: Timers::default(),
            lingering: VecDeque::new(),
            dirty: VecDeque::new(),
            notices: VecDeque::new(),
            open: None,
            found: None,
            late: alloc::vec::Vec::new(),
            drops: Drops::default(),
            passed: C::Probes::default(),
            ended: Hits::default(),
        }
    }

    /// Whether any key in memory opens `packet`: what a thief of the memory could read. Changes nothing.
    #[must_use]
    pub fn opens(&self, packet: &[u8]) -> bool {
        self.slots.opens(packet)
    }

    /// Takes an agreed key. It serves nobody until [`Self::start`], [`Self::adopt`] or [`Self::propose`].
    /// False, and nothing changed, where the id is taken.
    pub fn install(&mut self, now: Instant, install: &Install) -> bool {
        let free = !self.slots.contains(install.local);
        if free {
            self.slots.insert(Slot::new(install, now));
        }
        free
    }

    /// Begins a session under the key `local`. `rng` is the session's own random stream; `own` our identity.
    pub fn start(&mut self, now: Instant, session: SessionKey, local: SessionId, own: EntityId, rng: Stream) -> bool {
        let Some(slot) = self.slots.get_mut(local) else {
            return false;
        };
        slot.owner = Some(session);
        let greater = own > slot.info.peer;
        let association = Association::new(&slot.info, greater, &self.config, rng, now);
        self.associations.insert(session, Box::new(association));
        self.mark(session);
        true
    }

    /// The key `local`, which the peer has shown to hold, joins a session.
    pub fn adopt(&mut self, now: Instant, session: SessionKey, local: SessionId) -> bool {
        let (Some(slot), Some(association)) = (self.slots.get_mut(local), self.associations.get_mut(&session)) else {
            return false;
        };
        slot.owner = Some(session);
        if let Some(unused) = association.attach(&slot.info, slot.installed, &self.config, now) {
            self.slots.remove(unused);
        }
        self.mark(session);
        true
    }

    /// The key `local`, agreed as initiator, is to join a session once the peer used it.
    pub fn propose(&mut self, now: Instant, session: SessionKey, local: SessionId) -> bool {
        let (Some(slot), Some(association)) = (self.slots.get_mut(local), self.associations.get_mut(&session)) else {
            return false;
        };
        slot.owner = Some(session);
        if let Some(unused) = association.propose(&slot.info, &self.config, now) {
            self.slots.remove(unused);
        }
        self.mark(session);
        true
    }

    /// Drops a key that serves nobody.
    pub fn forget(&mut self, local: SessionId) {
        if self.slots.get(local).is_some_and(|slot| slot.owner.is_none()) {
            self.slots.remove(local);
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// `None` for an unknown session; `Some(StreamLimit)` where the peer allows no more. Nothing is changed.
    pub fn open_stream(&mut self, session: SessionKey, setup: StreamSetup) -> Result<StreamId, Option<DropReason>> {
        let association = self.live(session).ok_or(None)?;
        association.streams.open(setup).map_err(Some)
    }

    /// Appends messages, all or none; they leave at the end of the turn or later. Answers what they cost.
    ///
    /// # Errors
    /// `Closed` where session or stream is unknown or the direction ended, `TooLarge`. Nothing is changed.
    #[inline]
    pub fn send<'m>(
        &mut self,
        session: SessionKey,
        stream: StreamId,
        messages: impl Iterator<Item = &'m [u8]> + Clone,
    ) -> Result<u64, PushError> {
        let association = self.live(session).ok_or(PushError::Closed)?;
        let cost = association.streams.push(stream, messages)?;
        self.mark(session);
        Ok(cost)
    }

    /// Drops a session without a word: its peer has forgotten it.
    pub fn discard(&mut self, session: SessionKey) {
        self.remove(session);
    }

    /// Runs `act` on a live session and queues it to send. False where there is none.
    fn with(&mut self, session: SessionKey, act: impl FnOnce(&mut Association<C>)) -> bool {
        let Some(association) = self.live(session) else {
            return false;
        };
        act(association);
        self.mark(session);
        true
    }

    /// No more messages follow on a stream. False for an unknown session.
    pub fn finish(&mut self, session: SessionKey, stream: StreamId) -> bool {
        self.with(session, |association| association.streams.finish(stream))
    }

    /// Abandons the sending direction of a stream. False for an unknown session.
    pub fn reset(&mut self, session: SessionKey, stream: StreamId, code: u64) -> bool {
        self.with(session, |association| association.streams.reset(stream, code))
    }

    /// Reads no more of a stream. False for an unknown session.
    pub fn stop(&mut self, session: SessionKey, stream: StreamId, code: u64) -> bool {
        self.with(session, |association| association.streams.stop(stream, code))
    }

    /// The application drained `bytes` that completed `messages` messages. False for an unknown session.
    pub fn consumed(&mut self, session: SessionKey, stream: StreamId, bytes: u64, messages: u64) -> bool {
        self.with(session, |association| {
            association.streams.consumed(stream, bytes, messages)
        })
    }

    /// Measures the round trip. False for an unknown session.
    pub fn echo(&mut self, session: SessionKey, token: u64) -> bool {
        self.with(session, |association| association.echo(token))
    }

    /// Makes the peer say something where it is, and not over relays. False for an unknown session.
    pub fn ping(&mut self, now: Instant, session: SessionKey) -> bool {
        self.with(session, |association| association.beat(now))
    }

    /// When something of the peer's own, not over relays, last authenticated, where the session is live.
    #[must_use]
    pub fn heard_at(&self, session: SessionKey) -> Option<Instant> {
        Some(self.associations.get(&session)?.heard_direct)
    }

    /// The smoothed round-trip time, once one was measured.
    #[must_use]
    pub fn rtt(&self, session: SessionKey) -> Option<net_base::Duration> {
        let rtt = self.associations.get(&session)?.recovery.rtt();
        rtt.sampled().then(|| rtt.smoothed())
    }

    /// Asks for new keys at once. False for an unknown session.
    pub fn rekey(&mut self, now: Instant, session: SessionKey) -> bool {
        self.with(session, |association| association.force_rekey(now))
    }

    /// Ends a session: nothing but its close leaves any more. No notice follows. False for an unknown session.
    pub fn close(&mut self, now: Instant, session: SessionKey, code: CloseCode, detail: u64, reason: &str) -> bool {
        self.with(session, |association| association.close(now, code, detail, reason))
    }

    /// The local socket got a new address: say something at once, so that peers notice.
    pub fn rebound(&mut self) {
        for session in self.sessions() {
            self.with(session, |association| association.ping = true);
        }
    }

    /// A datagram to `to` was too large for the local interface.
    pub fn too_large(&mut self, to: Addr) {
        for session in self.sessions() {
            self.with(session, |association| {
                if association.path.active() == to {
                    association.on_too_large();
                }
            });
        }
    }

    fn sessions(&self) -> alloc::vec::Vec<SessionKey> {
        self.associations.keys().copied().collect()
    }

    fn live(&mut self, session: SessionKey) -> Option<&mut Association<C>> {
        self.associations
            .get_mut(&session)
            .map(|association| &mut **association)
            .filter(|association| association.is_open())
    }

    fn mark(&mut self, session: SessionKey) {
        if let Some(association) = self.associations.get_mut(&session)
            && !association.dirty
        {
            association.dirty = true;
            self.dirty.push_back(session);
        }
    }

    /// Does what became due.
    pub fn fire(&mut self, now: Instant) {
        while let Some(session) = self.timers.pop_due(now) {
            let Some(association) = self.associations.get_mut(&session) else {
                continue;
            };
            association.armed = None;
            if association.is_over(now) {
                self.remove(session);
                continue;
            }
            let slot = self.slots.get(association.current.id);
            let spent = slot.is_some_and(|slot| slot.sealed >= self.config.rekey_after_packets_of(slot.info.suite));
            if let Some(unused) = association.on_time(now, &self.config, spent) {
                self.slots.remove(unused);
            }
            self.mark(session);
        }
    }

    /// Lets every session send that has something to, collects its notices and arms its deadline. False where
    /// the transmitter is full; call again when it is not.
    pub fn transmit(&mut self, now: Instant, tx: &mut dyn Tx) -> bool {
        for _ in 0..self.dirty.len() {
            let Some(session) = self.dirty.pop_front() else { break };
            let Some(association) = self.associations.get_mut(&session) else {
                continue;
            };
            association.dirty = false;
            let sent = association.transmit(now, &self.config, &mut self.slots, tx);
            self.collect(session);
            self.arm(now, session);
            if sent == Sent::Blocked {
                self.mark(session);
                return false;
            }
        }
        true
    }

    /// Turns what happened in a session into notices.
    fn collect(&mut self, session: SessionKey) {
        let Some(association) = self.associations.get_mut(&session) else {
            return;
        };
        while let Some((stream, notice)) = association.streams.pop_notice() {
            match notice {
                StreamNotice::Finished => reachable!(self.passed, StreamFinished),
                StreamNotice::Reset(_) => reachable!(self.passed, StreamReset),
                StreamNotice::Stopped(_) => reachable!(self.passed, StreamStopped),
                StreamNotice::Opened { .. } | StreamNotice::Writable(_) | StreamNotice::Flushed => {}
                StreamNotice::Gone => reachable!(self.passed, StreamGone),
            }
            let what = match notice {
                StreamNotice::Opened {
                    reliability,
                    subprotocol,
                } => What::StreamOpened(stream, reliability, subprotocol),
                StreamNotice::Writable(bytes) => What::Writable(stream, bytes),
                StreamNotice::Finished => What::Finished(stream),
                StreamNotice::Flushed => What::Flushed(stream),
                StreamNotice::Reset(code) => What::Reset(stream, code),
                StreamNotice::Stopped(code) => What::Stopped(stream, code),
                StreamNotice::Gone => What::Gone(stream),
            };
            self.notices.push_back(Notice { session, what });
        }
        let mut ended = false;
        while let Some(notice) = association.notices.pop_front() {
            let what = match notice {
                AssociationNotice::Moved(address) => What::Moved(address),
                AssociationNotice::RekeyDue => What::RekeyDue,
                AssociationNotice::Rekeyed => What::Rekeyed,
                AssociationNotice::Echo { token, rtt } => What::Echo(token, rtt),
                AssociationNotice::Closed(why) => {
                    // After our own violation close the association lingers to repeat it.
                    ended |= association.is_open();
                    What::Closed(why)
                }
            };
            self.notices.push_back(Notice { session, what });
        }
        if ended {
            self.remove(session);
        }
    }

    fn arm(&mut self, now: Instant, session: SessionKey) {
        let Some(association) = self.associations.get_mut(&session) else {
            return;
        };
        if !association.is_open() && !core::mem::replace(&mut association.lingers, true) {
            self.lingering.push_back(session);
            if self.lingering.len() > MAX_LINGERING
                && let Some(oldest) = self.lingering.pop_front()
            {
                self.remove(oldest);
            }
            return self.arm(now, session);
        }
        let at = association.deadline(now, &self.config);
        // An early wake-up is cheaper than moving the timer with every packet.
        if association.armed.is_none_or(|armed| at < armed) {
            association.armed = Some(at);
            self.timers.arm(session, at);
        }
    }

    fn remove(&mut self, session: SessionKey) {
        if !mutant!(TimerOutlivesSession) {
            self.timers.disarm(session);
        }
        if let Some(association) = self.associations.swap_remove(&session) {
            self.ended.add(association.passed.hits());
            for id in association.key_ids() {
                self.slots.remove(id);
            }
            if association.lingers {
                self.lingering.retain(|lingering| *lingering != session);
            }
        }
    }

    /// When the lane must be woken.
    pub fn due(&mut self) -> Option<Instant> {
        self.timers.due()
    }

    /// Whether something waits for the transmitter.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes the oldest notice. Notices are complete after [`Self::transmit`].
    pub fn pop_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Counts of refused packets.
    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// The probes that this lane and its sessions passed, where they are kept.
    #[must_use]
    pub fn hits(&self) -> Hits {
        let mut hits = self.passed.hits();
        hits.add(self.ended);
        for association in self.associations.values() {
            hits.add(association.passed.hits());
        }
        hits
    }

    /// Counts a packet refused before it reached a key.
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        self.drops.count(reason);
    }

    /// Figures of a session.
    #[must_use]
    pub fn stats(&self, session: SessionKey) -> Option<SessionStats> {
        let association = self.associations.get(&session)?;
        let stats = association.recovery.stats();
        let rtt = association.recovery.rtt();
        let suite = self.slots.get(association.current.id).map(|slot| slot.info.suite);
        Some(SessionStats {
            peer: association.peer,
            suite: suite.unwrap_or(Suite::ChaChaPoly),
            address: association.path.active(),
            rtt: rtt.smoothed(),
            rtt_variance: rtt.variance(),
            rtt_min: rtt.min(),
            window: association.recovery.window(),
            mtu: association.mtu.current(),
            sent: stats.sent,
            received: association.totals.received,
            lost: stats.lost,
            probes: stats.ptos,
            sent_bytes: stats.sent_bytes,
            received_bytes: association.totals.received_bytes,
            rekeys: association.totals.rekeys,
            moves: association.totals.moves,
            streams: association.streams.len(),
            reordering: association.streams.memory(),
        })
    }

    /// How much is held.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let mut held = Holdings {
            sessions: self.associations.len(),
            keys: self.slots.len(),
            ..Holdings::default()
        };
        for association in self.associations.values() {
            held.streams += association.streams.len();
            held.reordering += association.streams.memory();
            held.in_flight += association.recovery.bytes_in_flight();
        }
        held
    }

    /// How much the timers hold. A session has one timer at most.
    #[must_use]
    pub fn timers(&self) -> Load {
        self.timers.load()
    }

    /// Asserts what must hold between turns.
    pub fn check(&self) {
        for association in self.associations.values() {
            association.check();
        }
        let owned: usize = self
            .associations
            .values()
            .map(|association| association.key_ids().count())
            .sum();
        assert!(owned <= self.slots.len(), "every key of an association is held");
        assert!(self.lingering.len() <= MAX_LINGERING);
        assert!(self.associations.len() <= self.config.max_sessions + self.config.max_pending + MAX_LINGERING);
        assert!(
            self.dirty.len() <= self.associations.len() + 1,
            "a session is queued once"
        );
    }
}
