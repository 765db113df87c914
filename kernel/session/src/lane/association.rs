//! One association: everything two nodes share, across rekeys and changes of address.
//!
//! Packet numbers run on over all keys of an association, so an acknowledgement names one packet whatever key it
//! was sealed under (docs/decisions/0002). Invariants: the current key alone seals data; at most
//! two older ones still open; a closing association sends nothing but its close.
//! Not here: what arriving frames do (`inbound.rs`), what leaves (`outbound.rs`).

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use net_base::rng::Stream;
use net_base::{
    Addr, Check, Duration, EntityId, Epoch, Instant, SessionId, StreamId, mutant, reachable, routed, sometimes,
};
use net_wire::{CloseCode, DropReason, OVERHEAD, ROUTING_LEN, TRAILER_LEN};

use crate::config::SessionConfig;
use crate::mtu::{Mtu, MtuConfig};
use crate::path::Paths;
use crate::recovery::{Received, Recovery, RecoveryConfig};
use crate::stream::Run;

use super::slot::KeyInfo;
use super::streams::{Owed, Streams};

/// Acknowledgements are delayed by at most this (RFC 9000 section 18.2, its default).
pub(crate) const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// Round trips being measured at once for `Echo`; the oldest is forgotten for one more.
const MAX_ECHOES: usize = 64;
/// Answers to the peer's challenges and echoes waiting to be sent; the oldest is dropped for one more.
const MAX_REPLIES: usize = 16;
/// How often a rekey that did not come about is asked for again.
const REKEY_RETRY: Duration = Duration::from_secs(10);
/// The same for a rekey that somebody waits for: longer than [`CROSSING`], so that it cannot lose to the same key twice.
const WANTED_RETRY: Duration = Duration::from_secs(3);
/// Handshakes that ended within this time of each other, one started by each side, were started at the same time.
const CROSSING: Duration = Duration::from_secs(2);
/// On average one counter in this many is skipped, so that acknowledging what never arrived is noticed
/// (RFC 9000 section 21.4).
const SKIP_EVERY: u64 = 2_048;

/// Replaced keys that still open packets: two, because both sides may rekey at once.
const MAX_DRAINING: usize = 2;
/// A key that the peer did not use for this long after we agreed on it is dropped.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// What relays add to a packet.
pub(crate) const ROUTED_OVERHEAD: u16 = (ROUTING_LEN + TRAILER_LEN) as u16;

/// A key in use by an association.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) id: SessionId,
    /// Whether we started its handshake.
    initiator: bool,
    installed: Instant,
    /// Whether the peer has shown to hold it.
    confirmed: bool,
}

impl Key {
    /// Whether it and `other` come from handshakes that both sides started at the same time.
    fn crosses(&self, other: &Self) -> bool {
        let apart = self
            .installed
            .since(other.installed)
            .max(other.installed.since(self.installed));
        self.initiator != other.initiator && apart < CROSSING
    }
}

/// A replaced key that still opens packets.
#[derive(Clone, Copy, Debug)]
struct Draining {
    key: Key,
    since: Instant,
    until: Instant,
    /// When the peer last used it, as far as we heard.
    heard: Instant,
    /// The counter at which it was replaced.
    #[cfg(net_mutants)]
    counter: u64,
}

/// A key we agreed on as initiator and have not heard the peer use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    pub(crate) key: Key,
    peer_epoch: Epoch,
    until: Instant,
    /// When to send the (next) confirm.
    pub(crate) confirm_at: Instant,
}

/// What one packet carried, to be repeated or forgotten when its fate is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content {
    pub(crate) run: Option<(StreamId, Run)>,
    pub(crate) owed: [Option<(StreamId, Owed)>; 2],
    pub(crate) session_limit: bool,
    pub(crate) session_blocked: bool,
    pub(crate) streams: bool,
    pub(crate) ack_largest: Option<u64>,
}

impl Content {
    /// Whether it told the peer what a stream owed it.
    pub(crate) fn owes(&self, what: Owed) -> bool {
        self.owed.iter().flatten().any(|&(_, owed)| owed == what)
    }
}

/// Whether an association still carries data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// The close is repeated to whoever still talks to us, then all is forgotten.
    Closing {
        until: Instant,
        code: CloseCode,
        detail: u64,
        reason: String,
        due: bool,
        heard: u32,
    },
}

/// What the lane must tell the kernel about an association as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AssociationNotice {
    Moved(Addr),
    RekeyDue,
    Rekeyed,
    Echo { token: u64, rtt: Duration },
    Closed(super::Closed),
}

/// Totals for status displays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) rekeys: u64,
    pub(crate) moves: u64,
}

/// Everything two nodes share.
pub(crate) struct Association<C: Check> {
    pub(crate) peer: EntityId,
    pub(crate) peer_epoch: Epoch,
    /// Whether this side has the greater EntityId.
    pub(crate) greater: bool,
    pub(crate) current: Key,
    draining: Vec<Draining>,
    /// A key we agreed on that the peer did not use yet.
    pub(crate) next: Option<Next>,
    /// When the peer last used the current key.
    heard_current: Instant,
    /// Whether the peer seals under the current key, as far as we heard.
    agrees: bool,
    pub(crate) phase: Phase,
    pub(crate) path: Paths,
    pub(crate) recovery: Recovery<Content>,
    pub(crate) received: Received,
    pub(crate) mtu: Mtu,
    pub(crate) streams: Streams,
    pub(crate) notices: VecDeque<AssociationNotice>,
    /// Counted by the lane among those that are closed.
    pub(crate) lingers: bool,
    /// Queued by the lane to send and be re-armed.
    pub(crate) dirty: bool,
    /// What the lane's timer is armed for.
    pub(crate) armed: Option<Instant>,
    pub(crate) totals: Totals,
    pub(crate) rng: Stream,
    next_counter: u64,
    next_skip: u64,
    /// Something must be sent that elicits an acknowledgement: a confirm, a keep-alive, a probe.
    pub(crate) ping: bool,
    /// Packets that may exceed the congestion window (RFC 9002 section 6.2.4).
    pub(crate) probes: u8,
    /// How long such a packet may be.
    pub(crate) probe_size: u16,
    pub(crate) pace_until: Option<Instant>,
    /// When an acknowledgement may next ask to be acknowledged.
    pub(crate) ack_ping_at: Instant,
    pub(crate) last_received: Instant,
    /// When something last came from the peer itself, not over relays.
    pub(crate) heard_direct: Instant,
    /// Where the peer was last reached without relays.
    pub(crate) direct: Option<Addr>,
    /// The direct path failed: data takes a way over relays until whoever noticed says otherwise.
    pub(crate) detour: bool,
    /// Something to be sent there, to hear whether the peer answers.
    pub(crate) knock: Option<(Addr, [u8; 8])>,
    pub(crate) last_eliciting: Instant,
    rekey_asked: Option<Instant>,
    /// Somebody waits for new keys now, whatever the age of the current ones.
    rekey_wanted: bool,
    pub(crate) echoes: VecDeque<(u64, Instant)>,
    pub(crate) echo_requests: VecDeque<u64>,
    pub(crate) echo_replies: VecDeque<u64>,
    pub(crate) path_responses: VecDeque<(Addr, [u8; 8])>,
    /// Which probes it passed.
    pub(crate) passed: C::Probes,
}

impl<C: Check> Association<C> {
    /// A fresh association under the key that `info` describes.
    pub(crate) fn new(info: &KeyInfo, greater: bool, config: &SessionConfig, rng: Stream, now: Instant) -> Self {
        let mut mtu = Mtu::new(MtuConfig {
            max: config.max_mtu,
            ..MtuConfig::default()
        });
        if routed::is_routed(&info.address) {
            mtu.set_overhead(ROUTED_OVERHEAD);
            mtu.reset();
        }
        let plaintext = usize::from(mtu.current()) - OVERHEAD;
        let recovery = RecoveryConfig {
            max_ack_delay: MAX_ACK_DELAY,
            packet_size: mtu.current(),
            ecn: config.ecn,
            algorithm: config.congestion,
            ..RecoveryConfig::default()
        };
        let mut association = Self {
            peer: info.peer,
            peer_epoch: info.peer_epoch,
            greater,
            current: Key {
                id: info.local,
                initiator: info.initiator,
                installed: now,
                confirmed: !info.initiator,
            },
            draining: Vec::new(),
            next: None,
            heard_current: now,
            agrees: false,
            phase: Phase::Open,
            path: Paths::new(info.address, true),
            recovery: Recovery::new(&recovery, now),
            received: Received::new(MAX_ACK_DELAY),
            mtu,
            streams: Streams::new(config, greater, plaintext),
            notices: VecDeque::new(),
            lingers: false,
            dirty: false,
            armed: None,
            totals: Totals::default(),
            rng,
            next_counter: 0,
            next_skip: 0,
            ping: info.initiator,
            probes: 0,
            probe_size: 0,
            pace_until: None,
            ack_ping_at: now,
            last_received: now,
            heard_direct: now,
            direct: (!routed::is_routed(&info.address)).then_some(info.address),
            detour: false,
            knock: None,
            last_eliciting: now,
            rekey_asked: None,
            rekey_wanted: false,
            echoes: VecDeque::new(),
            echo_requests: VecDeque::new(),
            echo_replies: VecDeque::new(),
            path_responses: VecDeque::new(),
            passed: C::Probes::default(),
        };
        association.next_skip = 1 + association.rng.below(2 * SKIP_EVERY);
        association.streams.greet();
        association
    }

    /// A key we agreed on as initiator: it is confirmed at once and again until the peer answers under it; only
    /// then does it replace the current one, so that a peer that lost its half of it costs nothing. Answers
    /// the key it replaces.
    pub(crate) fn propose(&mut self, info: &KeyInfo, config: &SessionConfig, now: Instant) -> Option<SessionId> {
        let key = Key {
            id: info.local,
            initiator: info.initiator,
            installed: now,
            confirmed: false,
        };
        let next = Next {
            key,
            peer_epoch: info.peer_epoch,
            // Nothing is sealed under a key past its lifetime, confirms no more than data.
            until: now + CONFIRM_TIMEOUT.min(config.reject_after),
            confirm_at: now,
        };
        self.next.replace(next).map(|replaced| replaced.key.id)
    }

    /// A key the peer has confirmed comes into use; `installed` is when we agreed it. Answers a key that falls
    /// out of use at once.
    pub(crate) fn attach(
        &mut self,
        info: &KeyInfo,
        installed: Instant,
        config: &SessionConfig,
        now: Instant,
    ) -> Option<SessionId> {
        let key = Key {
            id: info.local,
            initiator: info.initiator,
            installed,
            confirmed: true,
        };
        self.replace(key, info.peer_epoch, config, now)
    }

    /// Where both sides started a handshake at the same time, the key of the one started by the greater
    /// EntityId seals and the other drains (PROTOCOL 4), once the peer has shown to hold it: a key it was not heard to use
    /// may be one it has given up waiting for.
    fn replace(&mut self, key: Key, peer_epoch: Epoch, config: &SessionConfig, now: Instant) -> Option<SessionId> {
        self.peer_epoch = peer_epoch;
        let crossed = self.current.crosses(&key);
        let keeps =
            crossed && self.current.initiator == self.greater && (self.current.confirmed || mutant!(CrossedKeyUnheard));
        sometimes!(self.passed, KeyCrossed, crossed);
        sometimes!(self.passed, KeyCrossedKept, keeps);
        sometimes!(self.passed, KeyReplaced, !keeps);
        let drains = if keeps {
            key
        } else {
            core::mem::replace(&mut self.current, key)
        };
        let drain = if mutant!(RekeyOverlapShort) {
            self.drain(config) / 100
        } else {
            self.drain(config)
        };
        self.draining.push(Draining {
            key: drains,
            since: now,
            until: now + drain,
            heard: now,
            #[cfg(net_mutants)]
            counter: self.next_counter,
        });
        if !keeps {
            self.heard_current = now;
            // We confirm what we started, but the peer seals only under what it has taken into use.
            self.agrees = self.current.initiator;
            self.rekey_asked = None;
            self.rekey_wanted = false;
            self.totals.rekeys += 1;
            self.notices.push_back(AssociationNotice::Rekeyed);
        }
        (self.draining.len() > MAX_DRAINING).then(|| self.draining.remove(0).key.id)
    }

    /// Something authentic arrived under the key `id`. Whoever started a handshake confirms its key, again and again,
    /// before it seals anything else under it; so only of a key that we started does this say that the peer uses it.
    pub(crate) fn heard(&mut self, id: SessionId, config: &SessionConfig, now: Instant) -> Option<SessionId> {
        if id == self.current.id {
            self.current.confirmed = true;
            // Whatever it is, the peer holds the key: no older one is gone back to because of what was under way.
            self.heard_current = now;
            if self.current.initiator || mutant!(ConfirmTakenForUse) {
                self.used(id, now);
            }
            return None;
        }
        let drain = self.drain(config);
        if let Some(draining) = self.draining.iter_mut().find(|draining| draining.key.id == id) {
            reachable!(self.passed, KeyDrainedUsed);
            if draining.key.initiator {
                draining.heard = now;
            }
            let first = !core::mem::replace(&mut draining.key.confirmed, true);
            // The peer holds it after all: the rule for keys that crossed can be followed.
            if first && draining.key.crosses(&self.current) && draining.key.initiator == self.greater {
                reachable!(self.passed, KeyCrossedSwapped);
                #[cfg(net_mutants)]
                if mutant!(NonceFromCheckpoint) {
                    self.next_counter = draining.counter;
                }
                core::mem::swap(&mut draining.key, &mut self.current);
                (draining.since, draining.until) = (now, now + drain);
                self.heard_current = now;
                self.agrees = self.current.initiator;
            }
            return None;
        }
        let next = self.next.take_if(|next| next.key.id == id)?;
        let key = Key {
            confirmed: true,
            ..next.key
        };
        self.replace(key, next.peer_epoch, config, now)
    }

    /// A packet under the key `id` carried more than confirms do: the peer has taken the key into use.
    pub(crate) fn used(&mut self, id: SessionId, now: Instant) {
        if id == self.current.id {
            self.heard_current = now;
            self.agrees = true;
        } else if let Some(draining) = self.draining.iter_mut().find(|draining| draining.key.id == id) {
            draining.heard = now;
        }
    }

    /// The number of the next packet.
    pub(crate) fn take_counter(&mut self) -> u64 {
        if self.next_counter == self.next_skip {
            reachable!(self.passed, CounterSkipped);
            self.next_counter += 1;
            self.next_skip = self.next_counter + 1 + self.rng.below(2 * SKIP_EVERY);
        }
        let counter = self.next_counter;
        self.next_counter += 1;
        counter
    }

    /// Whether the association still carries data.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Ends it: the close leaves now and answers whoever still talks to us for three probe timeouts.
    pub(crate) fn close(&mut self, now: Instant, code: CloseCode, detail: u64, reason: &str) {
        if self.is_open() {
            let until = now + self.recovery.pto() * 3;
            self.phase = Phase::Closing {
                until,
                code,
                detail,
                reason: clip(reason),
                due: true,
                heard: 0,
            };
        }
    }

    /// The peer broke the protocol: it is told so, and the user as well.
    pub(crate) fn violated(&mut self, now: Instant, code: CloseCode, reason: DropReason) {
        if self.is_open() {
            reachable!(self.passed, Violated);
            sometimes!(self.passed, KeyHardStop, reason == DropReason::KeyExpired);
            self.close(now, code, reason.as_index() as u64, reason.name());
            self.notices
                .push_back(AssociationNotice::Closed(super::Closed::Violation(reason)));
        }
    }

    /// Whether nothing is left to do or say.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Closing { until, .. } => now >= until,
        }
    }

    /// Every key it holds.
    pub(crate) fn key_ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        let draining = self.draining.iter().map(|draining| draining.key.id);
        let others = draining.chain(self.next.as_ref().map(|next| next.key.id));
        core::iter::once(self.current.id).chain(others)
    }

    /// Measures the round trip; `token` comes back in the notice.
    pub(crate) fn echo(&mut self, token: u64) {
        if self.echo_requests.len() == MAX_ECHOES {
            self.echo_requests.pop_front();
        }
        self.echo_requests.push_back(token);
    }

    /// An echo left; its answer is expected.
    pub(crate) fn echo_sent(&mut self, token: u64, now: Instant) {
        if self.echoes.len() == MAX_ECHOES {
            self.echoes.pop_front();
        }
        self.echoes.push_back((token, now));
    }

    /// The peer answered an echo.
    pub(crate) fn on_echo_reply(&mut self, token: u64, now: Instant) {
        if let Some(at) = self.echoes.iter().position(|&(sent, _)| sent == token)
            && let Some((token, sent)) = self.echoes.remove(at)
        {
            self.notices.push_back(AssociationNotice::Echo {
                token,
                rtt: now.since(sent),
            });
        }
    }

    /// The peer asked for an echo.
    pub(crate) fn on_echo(&mut self, token: u64) {
        if self.echo_replies.len() == MAX_REPLIES {
            self.echo_replies.pop_front();
        }
        self.echo_replies.push_back(token);
    }

    /// The peer challenged the path that `from` stands for.
    pub(crate) fn on_challenge(&mut self, from: Addr, data: [u8; 8]) {
        if self.path_responses.len() == MAX_REPLIES {
            self.path_responses.pop_front();
        }
        self.path_responses.push_back((from, data));
    }

    /// The path MTU may have changed: everything that cuts packets learns it.
    pub(crate) fn sync_mtu(&mut self) {
        let mtu = self.mtu.current();
        self.recovery.on_packet_size(mtu);
        self.streams.set_max_plaintext(usize::from(mtu) - OVERHEAD);
    }

    /// Ask for new keys at once.
    pub(crate) fn force_rekey(&mut self, now: Instant) {
        self.rekey_wanted = true;
        self.ask_rekey(now);
    }

    fn ask_rekey(&mut self, now: Instant) {
        self.rekey_asked = Some(now);
        self.notices.push_back(AssociationNotice::RekeyDue);
    }

    /// When the keys are to be replaced.
    fn rekey_at(&self, config: &SessionConfig) -> Instant {
        let age = if self.current.initiator {
            config.rekey_after
        } else {
            config.rekey_after_responder
        };
        let due = self.current.installed + age;
        match self.rekey_asked {
            None => due,
            Some(asked) if self.rekey_wanted => asked + WANTED_RETRY,
            Some(asked) => due.max(asked + REKEY_RETRY),
        }
    }

    /// When something must happen although nothing arrives. Asked after everything that may leave has left: what
    /// is due for sending by then waits for room in the window or the transmitter, which tell of themselves, and
    /// no time is named for it, or its owner would be woken over and over.
    pub(crate) fn deadline(&self, now: Instant, config: &SessionConfig) -> Instant {
        if let Phase::Closing { until, .. } = self.phase {
            return until;
        }
        let next = self.next.as_ref();
        let keep_alive = config
            .keep_alive
            .map(|every| self.last_eliciting.max(self.last_received) + every);
        let due = [
            (!mutant!(IdleTimerUnarmed)).then_some(self.last_received + config.idle_timeout),
            Some(self.rekey_at(config)),
            Some(self.current.installed + config.reject_after),
            self.recovery.deadline(),
            self.draining.iter().map(|draining| draining.until).min(),
            next.map(|next| next.until),
        ];
        let unsent = [
            keep_alive,
            self.received.deadline(),
            self.pace_until,
            self.path.deadline(),
            self.mtu.deadline(),
            next.map(|next| next.confirm_at),
        ];
        let unsent = unsent.into_iter().flatten().filter(|&at| at > now);
        due.into_iter().flatten().chain(unsent).min().unwrap_or(Instant::MAX)
    }

    /// Does what became due; `spent` says that the key in use has sealed as many packets as it should. Answers a key id that fell
    /// out of use.
    pub(crate) fn on_time(&mut self, now: Instant, config: &SessionConfig, spent: bool) -> Option<SessionId> {
        if !self.is_open() {
            return None;
        }
        if now >= self.last_received + config.idle_timeout {
            reachable!(self.passed, IdleTimeout);
            self.notices
                .push_back(AssociationNotice::Closed(super::Closed::TimedOut));
            return None;
        }
        if now >= self.current.installed + config.reject_after && !mutant!(HardStopMissing) {
            // No new key was agreed in time, and nothing may be sealed or opened under this one any more.
            self.violated(now, CloseCode::KeyExpired, DropReason::KeyExpired);
            return None;
        }
        if config
            .keep_alive
            .is_some_and(|every| now >= self.last_eliciting.max(self.last_received) + every)
        {
            reachable!(self.passed, KeepAlive);
            self.ping = true;
        }
        if now >= self.rekey_at(config) || (spent && self.rekey_asked.is_none()) {
            self.ask_rekey(now);
        }
        if self.pace_until.is_some_and(|at| now >= at) {
            self.pace_until = None;
        }
        self.on_recovery_time(now);
        self.on_path_time(now);
        self.retire(now, config)
    }

    /// How long a replaced key still opens packets: as configured, and at least as long as what was sealed under it may take
    /// with its repetitions (RFC 9001 section 6.5).
    fn drain(&self, config: &SessionConfig) -> Duration {
        config.previous_drain.max(self.recovery.rtt().probe_base() * 3)
    }

    /// Forgets keys that drained. One is kept while the peer was not heard to use what replaced it, for as long as it
    /// may be used at all; and where the two sides disagree about which key is current, the side with the lesser
    /// EntityId follows the other.
    fn retire(&mut self, now: Instant, config: &SessionConfig) -> Option<SessionId> {
        if let Some(next) = self.next.take_if(|next| now >= next.until) {
            reachable!(self.passed, KeyUnanswered);
            return Some(next.key.id);
        }
        let at = self.draining.iter().position(|draining| now >= draining.until)?;
        let drain = self.drain(config);
        let draining = &mut self.draining[at];
        // A peer that merely had packets under way stopped using it within a round trip or two.
        let settled = draining.since + drain / 2;
        let used = draining.heard > self.heard_current && draining.heard >= settled;
        // A late packet under the successor says nothing of what the peer uses now.
        let recent = now.since(draining.heard) < drain / 2;
        let expired = now >= draining.key.installed + config.reject_after;
        if expired || ((self.agrees || mutant!(DrainedKeyForgotten)) && !used && !recent) {
            reachable!(self.passed, KeyDrainedForgotten);
            return Some(self.draining.remove(at).key.id);
        }
        draining.until = now + drain;
        if used && !self.greater {
            reachable!(self.passed, KeyDisagreed);
            core::mem::swap(&mut draining.key, &mut self.current);
            self.agrees = true;
        }
        None
    }

    /// Asserts what must hold between turns.
    pub(crate) fn check(&self) {
        self.streams.check();
        let current = self.current.id;
        assert!(
            self.draining.iter().all(|draining| draining.key.id != current),
            "one key in two places"
        );
        assert!(self.draining.len() <= MAX_DRAINING);
        assert!(self.echoes.len() <= MAX_ECHOES && self.path_responses.len() <= MAX_REPLIES);
    }
}

/// At most 256 bytes of `text`, cut between characters.
fn clip(text: &str) -> String {
    let mut end = text.len().min(net_wire::MAX_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    String::from(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_between_characters() {
        let long: String = core::iter::repeat_n('é', 200).collect();
        let cut = clip(&long);
        assert_eq!(cut.len(), 256);
        assert!(cut.chars().all(|c| c == 'é'));
    }
}
