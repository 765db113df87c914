//! Two lanes without kernels around them: what sealing and opening costs with all that belongs to it.
//!
//! Invariants: as for `pair.rs`. Not here: handshakes; the key is given.

use net_kernel::api::{SessionConfig, StreamOptions};
use net_kernel::base::rng::{Secret, Seed};
use net_kernel::base::{Addr, AssociationId, Duration, EntityId, Epoch, Instant, SessionId, SessionKey, StreamId};
use net_kernel::session::Part;
use net_kernel::session::aead::Aead;
use net_kernel::session::install::{Install, TrafficSecrets};
use net_kernel::session::lane::many::Lanes;
use net_kernel::session::lane::{StreamSetup, Up};
use net_kernel::session::rx::RxBatch;
use net_kernel::wire::Suite;

use super::pair::{HOP, Wire};

const SESSION: SessionKey = SessionKey(1);

/// One side.
struct Side<A: Aead> {
    lanes: Lanes<A>,
    wire: Wire,
    addr: Addr,
    /// Payload bytes and messages delivered and not reported as drained.
    undrained: (u64, u64),
}

/// Two lanes with one session between them and one stream in it.
pub struct LanePair<A: Aead> {
    now: Instant,
    sides: [Side<A>; 2],
    stream: StreamId,
    sink: Box<[u8]>,
}

impl<A: Aead> LanePair<A> {
    /// A session whose windows and path are warm.
    #[must_use]
    pub fn new(message: &[u8]) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut sides = [side(0, now), side(1, now)];
        let options = StreamOptions::default();
        let setup = StreamSetup {
            reliability: options.reliability,
            priority: options.priority,
            weight: options.weight,
            subprotocol: options.subprotocol,
        };
        let lane = sides[0].lanes.of(SESSION).expect("the session was placed");
        let stream = lane.open_stream(SESSION, setup).expect("the first stream is allowed");
        let mut pair = Self {
            now,
            sides,
            stream,
            sink: vec![0; 2_048].into_boxed_slice(),
        };
        for _ in 0..200 {
            for _ in 0..64 {
                pair.push(message);
                pair.transmit(0);
            }
            pair.exchange();
        }
        while pair.under_way(0) + pair.under_way(1) > 0 {
            pair.exchange();
        }
        pair
    }

    /// Appends a message on side 0.
    #[inline]
    pub fn push(&mut self, message: &[u8]) {
        let lane = self.sides[0].lanes.of(SESSION).expect("the session was placed");
        let sent = lane.send(SESSION, self.stream, core::iter::once(message));
        assert!(sent.is_ok(), "{sent:?}");
    }

    /// Lets a side send what it may. A microsecond passes, so that pacing does not hold packets back.
    #[inline]
    pub fn transmit(&mut self, side: usize) {
        self.now = self.now + Duration::from_micros(1);
        let Side { lanes, wire, .. } = &mut self.sides[side];
        lanes.transmit(self.now, wire);
        while lanes.pop_notice().is_some() {}
    }

    /// Opens and reads the oldest datagrams under way to `side`, at most `N`. How many there were.
    #[inline]
    pub fn receive<const N: usize>(&mut self, side: usize) -> usize {
        self.open::<N>(side, |lanes, now, batch, sink| read(lanes, now, batch, sink))
    }

    /// The same with the reading in the caller's hand, to be measured.
    #[inline]
    pub fn open<const N: usize>(
        &mut self,
        side: usize,
        read: impl FnOnce(&mut Lanes<A>, Instant, &mut RxBatch<'_>, &mut [u8]) -> (u64, u64),
    ) -> usize {
        let [a, b] = &mut self.sides;
        let (from, to) = if side == 1 { (a, b) } else { (b, a) };
        let (mut bufs, count) = from.wire.take::<N>(from.addr);
        if count > 0 {
            let mut batch = RxBatch::new(&mut bufs[..count]);
            let (bytes, messages) = read(&mut to.lanes, self.now, &mut batch, &mut self.sink);
            to.undrained.0 += bytes;
            to.undrained.1 += messages;
        }
        count
    }

    /// Datagrams under way from `side`.
    #[must_use]
    pub fn under_way(&self, side: usize) -> usize {
        self.sides[side].wire.len()
    }

    /// Everything under way arrives, what was delivered is drained and acknowledged, and time passes.
    pub fn exchange(&mut self) {
        self.now = self.now + HOP;
        for side in [1, 0] {
            while self.receive::<64>(side) > 0 {}
            let Side { lanes, undrained, .. } = &mut self.sides[side];
            let (bytes, messages) = core::mem::take(undrained);
            if bytes + messages > 0
                && let Some(lane) = lanes.of(SESSION)
            {
                lane.consumed(SESSION, self.stream, bytes, messages);
            }
            lanes.fire(self.now);
            self.transmit(side);
        }
    }
}

/// Reads a batch to its end, as the kernel does. Payload bytes and messages delivered.
#[inline]
pub fn read<A: Aead>(lanes: &mut Lanes<A>, now: Instant, batch: &mut RxBatch<'_>, sink: &mut [u8]) -> (u64, u64) {
    let (mut bytes, mut messages) = (0, 0);
    let mut deliver = |part: Part<'_>| {
        sink[..part.bytes.len()].copy_from_slice(part.bytes);
        bytes += part.bytes.len() as u64;
        messages += u64::from(part.end);
    };
    while let Some(up) = lanes.next_up(now, batch, |_| false, &mut |_, _| {}) {
        match up {
            Up::Part(part) => deliver(part),
            Up::Messages(messages) => messages.for_each(&mut deliver),
            Up::Confirm(_) | Up::Handshake(_) | Up::Routed(_) => unreachable!("the session is up on both sides"),
        }
    }
    (bytes, messages)
}

fn side<A: Aead>(number: u8, now: Instant) -> Side<A> {
    let addr = |number: u8| Addr::from(([127, 0, 0, 1], 1_000 + u16::from(number)));
    let entity = |number: u8| EntityId([number + 1; 32]);
    let id = |number: u8| SessionId(100 + u64::from(number));
    let secret = |label: u8| Secret([label; 32]);
    let other = 1 - number;
    let install = Install {
        local: id(number),
        remote: id(other),
        peer: entity(other),
        peer_epoch: Epoch(1),
        handshake: 1,
        local_association: AssociationId(u64::from(number)),
        remote_association: AssociationId(u64::from(other)),
        initiator: number == 0,
        address: addr(other),
        suite: Suite::ChaChaPoly,
        secrets: TrafficSecrets {
            send: secret(number),
            receive: secret(other),
            send_header: secret(10 + number),
            receive_header: secret(10 + other),
            send_hop: secret(20 + number),
            receive_hop: secret(20 + other),
        },
    };
    let mut lanes = Lanes::new(&SessionConfig::default(), 1);
    lanes.place(SESSION, &entity(other));
    let lane = lanes.by_id(id(number));
    let rng = Seed::new([number; 32]).fork("session");
    let started = lane.install(now, &install) && lane.start(now, SESSION, id(number), entity(number), rng);
    assert!(started, "a fresh lane takes a key");
    Side {
        lanes,
        wire: Wire::new(),
        addr: addr(number),
        undrained: (0, 0),
    }
}
