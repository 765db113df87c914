//! One agreed key: opens what the peer sealed under it and seals what goes out.
//!
//! Invariants: no counter is sealed twice; a packet marks its counter only after its tag verified; a key past
//! its lifetime neither opens nor seals. Not here: which key an association uses (`association.rs`).

use net_base::{Addr, AssociationId, EntityId, Epoch, Instant, SessionId, mutant};
use net_wire::{DropReason, HEADER_LEN, Header, Routed, Suite, TAG_LEN, apply_mask, sample};

use crate::SessionKey;
use crate::aead::Aead;
use crate::config::SessionConfig;
use crate::install::Install;
use crate::replay::{ReplayError, ReplayWindow};

use super::hop::Hop;

/// After this many packets that failed to authenticate the key is used no more (RFC 9001 section 6.6).
const MAX_FAILURES: u64 = 1 << 36;

/// What a key is for, without its secrets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyInfo {
    /// The id we chose.
    pub local: SessionId,
    /// The id the peer chose.
    pub remote: SessionId,
    /// Who the peer proved to be.
    pub peer: EntityId,
    /// The peer's boot epoch.
    pub peer_epoch: Epoch,
    /// The initiator's handshake counter.
    pub handshake: u64,
    /// Our label of the association.
    pub local_association: AssociationId,
    /// The peer's label of the association.
    pub remote_association: AssociationId,
    /// Whether we started the handshake.
    pub initiator: bool,
    /// Where the peer's handshake message came from.
    pub address: Addr,
    /// What it seals with.
    pub suite: Suite,
}

impl KeyInfo {
    /// What `install` is for.
    #[must_use]
    pub fn of(install: &Install) -> Self {
        Self {
            local: install.local,
            remote: install.remote,
            peer: install.peer,
            peer_epoch: install.peer_epoch,
            handshake: install.handshake,
            local_association: install.local_association,
            remote_association: install.remote_association,
            initiator: install.initiator,
            address: install.address,
            suite: install.suite,
        }
    }
}

/// What opening a packet ahead of its turn led to; whether it is accepted is decided in its turn ([`Slot::accept`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// The key's serial number.
    serial: u64,
    header: Header,
    /// Whether its tag verified, and the packet holds plaintext now.
    opened: bool,
}

/// A packet that was written and numbered, and waits to be sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsealed {
    /// The key, by id and serial number.
    pub(crate) local: SessionId,
    pub(crate) serial: u64,
    pub(crate) counter: u64,
    pub(crate) len: usize,
}

/// One key with its replay window and its age.
pub(crate) struct Slot<A: Aead> {
    pub(crate) info: KeyInfo,
    /// Tells it from every other key of its lane, before and after.
    pub(crate) serial: u64,
    /// The association it belongs to, once the initiator confirmed.
    pub(crate) owner: Option<SessionKey>,
    pub(crate) installed: Instant,
    pub(crate) sealed: u64,
    /// Whether anything authentic arrived under it.
    pub(crate) heard: bool,
    failures: u64,
    replay: ReplayWindow,
    open: A::Key,
    seal: A::Key,
    open_header: A::HeaderKey,
    seal_header: A::HeaderKey,
    hop: Hop<A>,
}

impl<A: Aead> Slot<A> {
    /// Takes an agreed key into use.
    pub(crate) fn new(install: &Install, now: Instant) -> Self {
        Self {
            info: KeyInfo::of(install),
            serial: 0,
            owner: None,
            installed: now,
            sealed: 0,
            heard: false,
            failures: 0,
            replay: ReplayWindow::new(),
            open: A::key(install.suite, &install.secrets.receive),
            seal: A::key(install.suite, &install.secrets.send),
            open_header: A::header_key(&install.secrets.receive_header),
            seal_header: A::header_key(&install.secrets.send_header),
            hop: Hop::new(&install.secrets),
        }
    }

    /// Whether the key may be used no more.
    pub(crate) fn is_expired(&self, now: Instant, config: &SessionConfig) -> bool {
        (now.since(self.installed) >= config.reject_after && !mutant!(HardStopMissing)) || self.failures >= MAX_FAILURES
    }

    /// Opens `packet` in place: cheap checks, then the AEAD, then the counter is marked. On an error nothing
    /// but a failure count changed, and the packet's bytes are to be dropped.
    ///
    /// # Errors
    /// `KeyExpired`, header errors, `LengthMismatch`, `Replayed`, `BelowWindow`, `AeadFailure`.
    #[inline]
    pub(crate) fn open(
        &mut self,
        now: Instant,
        config: &SessionConfig,
        packet: &mut [u8],
    ) -> Result<Header, DropReason> {
        if self.is_expired(now, config) {
            return Err(DropReason::KeyExpired);
        }
        let mask = A::mask(&self.open_header, &sample(packet));
        let len = packet.len();
        let Some((bytes, sealed)) = packet.split_first_chunk_mut::<HEADER_LEN>() else {
            return Err(DropReason::TooShort);
        };
        apply_mask(bytes, &mask);
        let header = self.admit(bytes, len)?;
        let Some((text, tag)) = sealed.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(DropReason::TooShort);
        };
        if A::open(&self.open, &nonce(header.counter), &bytes[..], text, tag).is_err() {
            self.failures += 1;
            return Err(DropReason::AeadFailure);
        }
        self.replay.mark(header.counter);
        self.heard = true;
        Ok(header)
    }

    /// Opens `packet` in place ahead of its turn and changes nothing else. `None`, and the packet untouched, where it is
    /// refused without the AEAD as things stand.
    pub(crate) fn open_ahead(&self, now: Instant, config: &SessionConfig, packet: &mut [u8]) -> Option<Ahead> {
        if self.is_expired(now, config) {
            return None;
        }
        let mask = A::mask(&self.open_header, &sample(packet));
        let len = packet.len();
        let (bytes, sealed) = packet.split_first_chunk_mut::<HEADER_LEN>()?;
        let mut bytes = *bytes;
        apply_mask(&mut bytes, &mask);
        let header = Header::decode(&bytes).ok()?;
        header.check_len(len).ok()?;
        self.replay.check(header.counter).ok()?;
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_LEN>()?;
        let opened = A::open(&self.open, &nonce(header.counter), &bytes[..], text, tag).is_ok();
        Some(Ahead {
            serial: self.serial,
            header,
            opened,
        })
    }

    /// What [`Self::open`] says of a packet that was opened ahead.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn accept(&mut self, now: Instant, config: &SessionConfig, ahead: &Ahead) -> Result<Header, DropReason> {
        if self.is_expired(now, config) {
            return Err(DropReason::KeyExpired);
        }
        let header = ahead.header;
        if !mutant!(AheadUnchecked) {
            self.check_replay(header.counter)?;
        }
        // Under a key that has come since under the same id it would not have opened.
        if !ahead.opened || ahead.serial != self.serial {
            self.failures += 1;
            return Err(DropReason::AeadFailure);
        }
        self.replay.mark(header.counter);
        self.heard = true;
        Ok(header)
    }

    /// Whether a routed packet came from the peer as it is; it is then marked.
    ///
    /// # Errors
    /// `UnknownSession` where the key serves no session yet, `KeyExpired`, and what [`Hop::open`] finds.
    pub(crate) fn open_hop(
        &mut self,
        now: Instant,
        config: &SessionConfig,
        routed: &Routed<'_>,
    ) -> Result<SessionKey, DropReason> {
        let session = self.owner.ok_or(DropReason::UnknownSession)?;
        if self.is_expired(now, config) {
            return Err(DropReason::KeyExpired);
        }
        match self.hop.open(routed) {
            Ok(()) => {
                self.heard = true;
                Ok(session)
            }
            Err(reason) => {
                self.failures += u64::from(reason == DropReason::AeadFailure);
                Err(reason)
            }
        }
    }

    /// Writes the trailer of a routed packet for the peer.
    pub(crate) fn seal_hop(&mut self, datagram: &mut [u8]) {
        self.hop.seal(self.info.remote, datagram);
    }

    /// Whether either of its keys opens `packet`, of this direction or the other. Changes nothing.
    pub(crate) fn opens(&self, packet: &[u8]) -> bool {
        let keys = [(&self.open, &self.open_header), (&self.seal, &self.seal_header)];
        packet.len() >= HEADER_LEN + TAG_LEN
            && keys.iter().any(|(key, header_key)| {
                let mut copy = packet.to_vec();
                let mask = A::mask(header_key, &sample(&copy));
                let Some((bytes, sealed)) = copy.split_first_chunk_mut::<HEADER_LEN>() else {
                    return false;
                };
                apply_mask(bytes, &mask);
                let Some((text, tag)) = sealed.split_last_chunk_mut::<TAG_LEN>() else {
                    return false;
                };
                Header::decode(bytes)
                    .is_ok_and(|header| A::open(key, &nonce(header.counter), &bytes[..], text, tag).is_ok())
            })
    }

    fn admit(&mut self, bytes: &[u8; HEADER_LEN], len: usize) -> Result<Header, DropReason> {
        // A header that unmasks to nonsense is a forgery or a corrupted packet like any other.
        let header = Header::decode(bytes).and_then(|header| header.check_len(len).map(|()| header));
        let header = header.inspect_err(|_| self.failures += 1)?;
        self.check_replay(header.counter)?;
        Ok(header)
    }

    fn check_replay(&self, counter: u64) -> Result<(), DropReason> {
        self.replay.check(counter).map_err(|refused| match refused {
            ReplayError::Replayed => DropReason::Replayed,
            ReplayError::TooOld | ReplayError::Reserved => DropReason::BelowWindow,
        })
    }

    /// Seals `packet` in place: header, plaintext, room for the tag. `header.counter` was never sealed before.
    #[inline]
    pub(crate) fn seal(&mut self, header: &Header, packet: &mut [u8]) {
        let (bytes, rest) = packet
            .split_first_chunk_mut::<HEADER_LEN>()
            .expect("a packet is longer than its header");
        header.encode(bytes);
        self.encrypt(header.counter, bytes, rest);
        self.sealed += 1;
    }

    /// The first half of [`Self::seal`]: nobody but [`Self::finish_seal`] may have the packet after it.
    pub(crate) fn put_down(&mut self, header: &Header, packet: &mut [u8]) -> Unsealed {
        let bytes = packet.first_chunk_mut::<HEADER_LEN>();
        header.encode(bytes.expect("a packet is longer than its header"));
        self.sealed += 1;
        Unsealed {
            local: self.info.local,
            serial: self.serial,
            counter: header.counter,
            len: packet.len(),
        }
    }

    /// The second half: what changes nothing but the packet.
    pub(crate) fn finish_seal(&self, counter: u64, packet: &mut [u8]) {
        let (bytes, rest) = packet
            .split_first_chunk_mut::<HEADER_LEN>()
            .expect("a packet is longer than its header");
        self.encrypt(counter, bytes, rest);
    }

    #[inline]
    fn encrypt(&self, counter: u64, bytes: &mut [u8; HEADER_LEN], rest: &mut [u8]) {
        let (text, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        tag.copy_from_slice(&A::seal(&self.seal, &nonce(counter), &bytes[..], text));
        let mut sampled = [0; 16];
        sampled.copy_from_slice(tag);
        apply_mask(bytes, &A::mask(&self.seal_header, &sampled));
    }
}

/// 96 bits: a zero u32 and the counter, as the header carries them.
#[inline]
pub(super) fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::Reference;
    use crate::install::TrafficSecrets;
    use alloc::vec::Vec;
    use net_base::rng::Secret;

    const TEXT: usize = 5;

    /// Both halves of a key, the initiator's first; `n` tells keys apart.
    fn halves(n: u8) -> [Slot<Reference>; 2] {
        [(n, n + 1, true), (n + 1, n, false)].map(|(send, receive, initiator)| {
            let secret = |which: u8, purpose: u8| Secret([which * 3 + purpose; 32]);
            let install = Install {
                local: SessionId(u64::from(receive)),
                remote: SessionId(u64::from(send)),
                peer: EntityId([1; 32]),
                peer_epoch: Epoch(1),
                handshake: 1,
                local_association: AssociationId(1),
                remote_association: AssociationId(2),
                initiator,
                address: ([127, 0, 0, 1], 1).into(),
                suite: Suite::ChaChaPoly,
                secrets: TrafficSecrets {
                    send: secret(send, 0),
                    receive: secret(receive, 0),
                    send_header: secret(send, 1),
                    receive_header: secret(receive, 1),
                    send_hop: secret(send, 2),
                    receive_hop: secret(receive, 2),
                },
            };
            Slot::new(&install, Instant::ZERO)
        })
    }

    fn sealed(slot: &mut Slot<Reference>, counter: u64) -> Vec<u8> {
        let header = Header {
            counter,
            session: SessionId(1),
            payload_len: TEXT as u16,
            ..Header::default()
        };
        let mut packet = alloc::vec![7; HEADER_LEN + TEXT + TAG_LEN];
        slot.seal(&header, &mut packet);
        packet
    }

    fn config() -> SessionConfig {
        SessionConfig::default()
    }

    #[test]
    fn either_half_shows_what_it_can_read_and_changes_nothing_by_it() {
        let [mut a, b] = halves(10);
        let [stranger, _] = halves(20);
        let packet = sealed(&mut a, 3);
        assert!(a.opens(&packet) && b.opens(&packet) && !stranger.opens(&packet));
        let mut damaged = packet.clone();
        damaged[HEADER_LEN] ^= 1;
        assert!(!b.opens(&damaged));
        for len in 0..HEADER_LEN + TAG_LEN {
            assert!(!b.opens(&packet[..len]), "{len} bytes");
        }
        assert!(!b.heard && b.failures == 0);
    }

    #[test]
    fn what_is_opened_ahead_is_accepted_as_if_it_were_opened_in_its_turn() {
        let [mut a, mut b] = halves(10);
        let mut packet = sealed(&mut a, 3);
        let ahead = b
            .open_ahead(Instant::ZERO, &config(), &mut packet)
            .expect("a good packet");
        assert!(!b.heard, "nothing is accepted yet");
        assert_eq!(packet[HEADER_LEN..HEADER_LEN + TEXT], [7; TEXT]);
        let header = b.accept(Instant::ZERO, &config(), &ahead).expect("accepted");
        assert!(header.counter == 3 && b.heard);
        assert_eq!(b.accept(Instant::ZERO, &config(), &ahead), Err(DropReason::Replayed));
        let mut copy = sealed(&mut a, 3);
        assert!(b.open_ahead(Instant::ZERO, &config(), &mut copy).is_none(), "a copy");
    }

    #[test]
    fn what_changed_since_a_packet_was_opened_ahead_counts() {
        let [mut a, mut b] = halves(10);
        let mut packet = sealed(&mut a, 3);
        let ahead = b
            .open_ahead(Instant::ZERO, &config(), &mut packet)
            .expect("a good packet");
        let late = Instant::ZERO + config().reject_after;
        assert_eq!(b.accept(late, &config(), &ahead), Err(DropReason::KeyExpired));
        let mut old = sealed(&mut a, 4);
        assert!(b.open_ahead(late, &config(), &mut old).is_none(), "too old to be tried");
        let mut other = sealed(&mut a, 5);
        assert_eq!(b.open(late, &config(), &mut other), Err(DropReason::KeyExpired));
        b.serial += 1;
        assert_eq!(
            b.accept(Instant::ZERO, &config(), &ahead),
            Err(DropReason::AeadFailure),
            "another key has the id now"
        );
    }

    #[test]
    fn what_is_cut_short_is_refused_and_left_as_it_was() {
        let [mut a, mut b] = halves(10);
        let packet = sealed(&mut a, 3);
        for len in 0..packet.len() {
            let mut cut = packet[..len].to_vec();
            assert!(
                b.open_ahead(Instant::ZERO, &config(), &mut cut).is_none(),
                "{len} bytes"
            );
            assert_eq!(cut, packet[..len]);
            assert!(b.open(Instant::ZERO, &config(), &mut cut).is_err(), "{len} bytes");
        }
        assert!(!b.heard);
    }
}
