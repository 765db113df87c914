//! The tag that two neighbours put behind a routed packet: it says that the packet came over this hop as it is, whoever
//! sealed what is inside (protocol.md section 5).
//!
//! Invariants: a counter is sealed once; it is marked only after the tag verified; what is inside is neither opened nor
//! changed. Not here: which way a packet goes (`net-mesh`), routing header and trailer as bytes (`net-wire`).

use alloc::boxed::Box;

use net_base::rng::Secret;
use net_base::{SessionId, mutant};
use net_wire::{DropReason, HopTrailer, Routed, Suite, TRAILER_LEN};

use crate::aead::Aead;
use crate::install::TrafficSecrets;
use crate::replay::{ReplayError, ReplayWindow};

use super::slot::nonce;

/// The keys of one hop. Most sessions never relay: keys and window are made when first used.
pub(crate) struct Hop<A: Aead> {
    send: Secret,
    receive: Secret,
    ready: Option<Box<Ready<A>>>,
}

struct Ready<A: Aead> {
    open: A::Key,
    seal: A::Key,
    replay: ReplayWindow,
    next: u64,
}

impl<A: Aead> Hop<A> {
    pub(crate) fn new(secrets: &TrafficSecrets) -> Self {
        Self {
            send: secrets.send_hop.clone(),
            receive: secrets.receive_hop.clone(),
            ready: None,
        }
    }

    fn ready(&mut self) -> &mut Ready<A> {
        self.ready.get_or_insert_with(|| {
            Box::new(Ready {
                // The mandatory suite whatever the session's: there is nothing to encrypt.
                open: A::key(Suite::ChaChaPoly, &self.receive),
                seal: A::key(Suite::ChaChaPoly, &self.send),
                replay: ReplayWindow::new(),
                next: 0,
            })
        })
    }

    /// Whether a routed packet came over this hop as it is, and for the first time.
    ///
    /// # Errors
    /// `Replayed`, `BelowWindow`, `AeadFailure`. Nothing is changed then.
    pub(crate) fn open(&mut self, routed: &Routed<'_>) -> Result<(), DropReason> {
        let ready = self.ready();
        let counter = routed.trailer.counter;
        ready.replay.check(counter).map_err(|refused| match refused {
            ReplayError::Replayed => DropReason::Replayed,
            ReplayError::TooOld | ReplayError::Reserved => DropReason::BelowWindow,
        })?;
        if mutant!(HopMarkedEarly) {
            ready.replay.mark(counter);
        }
        let covered = if mutant!(HopTagBodyless) {
            &routed.covered[..net_wire::ROUTING_LEN]
        } else {
            routed.covered
        };
        A::open(&ready.open, &nonce(counter), covered, &mut [], &routed.trailer.tag)
            .map_err(|_| DropReason::AeadFailure)?;
        ready.replay.mark(counter);
        Ok(())
    }

    /// Writes the trailer of `datagram` (routing header, inner packet, room for the trailer) for the neighbour that knows
    /// the key as `remote`.
    pub(crate) fn seal(&mut self, remote: SessionId, datagram: &mut [u8]) {
        let ready = self.ready();
        let counter = ready.next;
        ready.next += 1;
        let body = datagram.len() - TRAILER_LEN;
        datagram[body..body + 8].copy_from_slice(&remote.0.to_le_bytes());
        let covered = if mutant!(HopTagBodyless) {
            &datagram[..net_wire::ROUTING_LEN]
        } else {
            &datagram[..body + 8]
        };
        let tag = A::seal(&ready.seal, &nonce(counter), covered, &mut []);
        let trailer = HopTrailer {
            session: remote,
            counter,
            tag,
        };
        if let Some(out) = datagram.last_chunk_mut::<TRAILER_LEN>() {
            trailer.encode(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use net_base::NodeId;
    use net_wire::{HEADER_LEN, ROUTING_LEN, RoutingHeader};

    use super::*;
    use crate::aead::Reference;
    use crate::keys::traffic_secrets;

    fn hops() -> [Hop<Reference>; 2] {
        let roots = (Secret([1; 32]), Secret([2; 32]));
        [true, false].map(|initiator| Hop::new(&traffic_secrets(&roots, &[3; 32], initiator)))
    }

    fn datagram() -> alloc::vec::Vec<u8> {
        let mut datagram = alloc::vec![7; ROUTING_LEN + HEADER_LEN + 20 + TRAILER_LEN];
        let header = RoutingHeader {
            ttl: 3,
            src: NodeId(1),
            dest: NodeId(2),
            ..RoutingHeader::default()
        };
        header.encode(datagram.first_chunk_mut().expect("long enough"));
        datagram
    }

    fn open(hop: &mut Hop<Reference>, datagram: &[u8]) -> Result<(), DropReason> {
        hop.open(&Routed::parse(datagram)?)
    }

    #[test]
    fn a_packet_passes_a_hop_once_and_as_it_was() {
        let [mut a, mut b] = hops();
        let (mut first, mut second) = (datagram(), datagram());
        a.seal(SessionId(9), &mut first);
        a.seal(SessionId(9), &mut second);
        assert_ne!(first, second, "numbered");
        assert_eq!(open(&mut b, &second), Ok(()));
        assert_eq!(open(&mut b, &first), Ok(()), "out of order");
        assert_eq!(open(&mut b, &first), Err(DropReason::Replayed));
        assert_eq!(
            open(&mut a, &first),
            Err(DropReason::AeadFailure),
            "sent back to its sender"
        );
    }

    #[test]
    fn any_bit_changed_on_the_way_is_noticed_and_costs_the_original_nothing() {
        let [mut a, mut b] = hops();
        let mut sealed = datagram();
        a.seal(SessionId(9), &mut sealed);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open(&mut b, &damaged).is_err(), "byte {at}");
        }
        assert_eq!(open(&mut b, &sealed), Ok(()));
    }
}
