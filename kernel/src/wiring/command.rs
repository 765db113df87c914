//! What the user asks for.
//!
//! Invariants: a refused command changed nothing and is answered with its id. Not here: how requests are carried
//! out (the layer crates).

use alloc::vec::Vec;

use net_base::limit::MAX_ADDRESSES;
use net_base::{Addr, Check, CommandId, EntityId, Now, SessionKey, StreamId, routed};
use net_mesh::In as PeersIn;
use net_mesh::mesh::In as MeshIn;
use net_session::aead::Aead;
use net_session::lane::{Lane, StreamSetup};
use net_session::stream::PushError;
use net_trust::node_id;
use net_wire::subprotocol::MESH;
use net_wire::{CloseCode, MESSAGE_CHARGE};

use crate::Kernel;
use crate::api::{Command, Event, Health, Messages, Refused, StreamOptions};

/// Codes of resets and stops fit a varint with room to spare.
const MAX_CODE: u64 = (1 << 62) - 1;

impl<A: Aead, C: Check> Kernel<A, C> {
    pub(crate) fn command(&mut self, now: Now, id: CommandId, command: Command<'_>) {
        if let Err(why) = self.obey(now, id, command) {
            self.events.push(Event::Refused { command: id, why });
        }
    }

    fn obey(&mut self, now: Now, id: CommandId, command: Command<'_>) -> Result<(), Refused> {
        match command {
            Command::Connect { peer, addresses } => self.connect(now, id, peer, addresses)?,
            Command::Join { peer, addresses } => self.join(now, peer, addresses)?,
            Command::Describe { load, health } => self.describe(now, load, health)?,
            Command::Leave(peer) => self.tell_mesh(now, MeshIn::Leave(peer)),
            Command::CancelConnect(command) => self.peers.handle(now, PeersIn::Cancel(command), ()),
            Command::Open { session, options } => self.open(id, session, options)?,
            Command::Send {
                session,
                stream,
                messages,
            } => self.send(session, stream, messages)?,
            Command::Finish { session, stream } => {
                self.stream_lane(session, stream)?.finish(session, stream);
            }
            Command::Reset { session, stream, code } => {
                self.stream_lane(session, stream)?
                    .reset(session, stream, checked(code)?);
            }
            Command::Stop { session, stream, code } => {
                self.stream_lane(session, stream)?.stop(session, stream, checked(code)?);
            }
            Command::Consumed {
                session,
                stream,
                bytes,
                messages,
            } => {
                if let Some(lane) = self.lanes.of(session) {
                    lane.consumed(session, stream, bytes, messages);
                }
            }
            Command::Echo { session } => {
                self.lane(session)?.echo(session, id.0);
            }
            Command::Rekey { session } => {
                self.lane(session)?.rekey(now.mono, session);
            }
            Command::Close { session, code, reason } => {
                let peer = self.peers.machine().peer_of(session).ok_or(Refused::NoSession)?;
                let code = if code == 0 {
                    CloseCode::NoError
                } else {
                    CloseCode::Application(code)
                };
                self.close_session(now, session, peer, code, reason);
            }
            Command::Allow(list) => {
                self.trust
                    .handle(now, net_trust::In::Allow(list.map(<[EntityId]>::to_vec)), ());
            }
            Command::Shutdown => self.shut_down(now),
        }
        Ok(())
    }

    fn connect(&mut self, now: Now, command: CommandId, peer: EntityId, addresses: &[Addr]) -> Result<(), Refused> {
        if peer == self.entity() {
            return Err(Refused::OwnIdentity);
        }
        if !self.trust.machine().table().admits(&peer) {
            return Err(Refused::NotAllowed);
        }
        let addresses = &self.ways_to(&peer, addresses)?[..];
        self.peers.handle(
            now,
            PeersIn::Connect {
                command,
                peer,
                addresses,
            },
            (),
        );
        Ok(())
    }

    /// Where a peer is dialled: at the addresses given, and over relays where a way is known.
    pub(super) fn ways_to(&self, peer: &EntityId, addresses: &[Addr]) -> Result<Vec<Addr>, Refused> {
        if addresses.len() > MAX_ADDRESSES || addresses.iter().any(routed::is_routed) {
            return Err(Refused::BadAddresses);
        }
        let mut all = addresses.to_vec();
        let mesh = self.mesh.as_ref().map(net_base::Seat::machine);
        let live = self.peers.machine().session_of(peer).is_some();
        if all.len() < MAX_ADDRESSES && mesh.is_some_and(|mesh| mesh.routes().leads_to(peer)) {
            all.push(routed::address(node_id(peer)));
        }
        if all.is_empty() && !live && mesh.is_some() {
            return Err(Refused::NoRoute);
        }
        Ok(all)
    }

    fn join(&mut self, now: Now, peer: EntityId, addresses: &[Addr]) -> Result<(), Refused> {
        if self.mesh.is_none() {
            return Err(Refused::NoMesh);
        }
        if peer == self.entity() {
            return Err(Refused::OwnIdentity);
        }
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES || addresses.iter().any(routed::is_routed) {
            return Err(Refused::BadAddresses);
        }
        self.tell_mesh(now, MeshIn::Join(peer, addresses));
        Ok(())
    }

    fn describe(&mut self, now: Now, load: u16, health: Health) -> Result<(), Refused> {
        if self.mesh.is_none() {
            return Err(Refused::NoMesh);
        }
        if load > 1_000 {
            return Err(Refused::BadArgument);
        }
        self.tell_mesh(now, MeshIn::Describe { load, health });
        Ok(())
    }

    fn open(&mut self, command: CommandId, session: SessionKey, options: StreamOptions) -> Result<(), Refused> {
        if options.weight == 0 || options.weight > 256 {
            return Err(Refused::BadArgument);
        }
        if options.subprotocol == MESH {
            return Err(Refused::ReservedSubprotocol);
        }
        let setup = StreamSetup {
            reliability: options.reliability,
            priority: options.priority,
            weight: options.weight,
            subprotocol: options.subprotocol,
        };
        let opened = self.lane(session)?.open_stream(session, setup);
        let stream = opened.map_err(|why| why.map_or(Refused::NoSession, |_| Refused::StreamLimit))?;
        self.credits.open(session, stream);
        let credit = self.credits.limit();
        self.events.push(Event::Opened {
            command,
            session,
            stream,
            credit,
        });
        Ok(())
    }

    fn send(&mut self, session: SessionKey, stream: StreamId, messages: Messages<'_>) -> Result<(), Refused> {
        if !messages.is_sound() {
            return Err(Refused::BadArgument);
        }
        if !self.credits.admits(session, stream, messages.cost()) {
            return Err(self.missing(session, stream).unwrap_or(Refused::Backpressure));
        }
        let lane = self.lanes.of(session).ok_or(Refused::NoSession)?;
        let sent = match messages {
            Messages::One(message) => lane.send(session, stream, core::iter::once(message)),
            Messages::Many(list) => lane.send(session, stream, list.iter().copied()),
            Messages::Chunks { bytes, size } => lane.send(session, stream, bytes.chunks_exact(size)),
            Messages::Framed { bytes, ends } => lane.send(session, stream, framed(bytes, ends)),
        };
        match sent {
            Ok(cost) => {
                self.credits.spend(session, stream, cost);
                Ok(())
            }
            Err(PushError::TooLarge { max }) => Err(Refused::MessageTooLarge { limit: max }),
            Err(PushError::Closed) => Err(Refused::Finished),
            Err(PushError::Full) => Err(Refused::Backpressure),
        }
    }

    /// Why a stream cannot be used, if it is not there.
    fn missing(&self, session: SessionKey, stream: StreamId) -> Option<Refused> {
        if self.peers.machine().peer_of(session).is_none() {
            return Some(Refused::NoSession);
        }
        (!self.credits.knows(session, stream)).then_some(Refused::NoStream)
    }

    fn lane(&mut self, session: SessionKey) -> Result<&mut Lane<A, C>, Refused> {
        self.lanes.of(session).ok_or(Refused::NoSession)
    }

    fn stream_lane(&mut self, session: SessionKey, stream: StreamId) -> Result<&mut Lane<A, C>, Refused> {
        match self.missing(session, stream) {
            Some(why) => Err(why),
            None => self.lane(session),
        }
    }

    fn shut_down(&mut self, now: Now) {
        self.peers.handle(now, PeersIn::ShutDown, ());
        let live: Vec<(SessionKey, EntityId)> = self.peers.machine().sessions().collect();
        for (session, peer) in live {
            self.close_session(now, session, peer, CloseCode::Shutdown, "");
        }
    }
}

impl Messages<'_> {
    /// Whether sizes and ends fit the buffer.
    fn is_sound(&self) -> bool {
        match *self {
            Self::One(_) | Self::Many(_) => true,
            Self::Chunks { bytes, size } => size > 0 && bytes.len().is_multiple_of(size),
            Self::Framed { bytes, ends } => {
                ends.is_sorted() && ends.last().map_or(bytes.is_empty(), |&end| end as usize == bytes.len())
            }
        }
    }

    /// What stands for the messages in a trace.
    pub(crate) fn digest(&self) -> u64 {
        use net_base::trace::digest;
        match *self {
            Self::One(message) => digest(message),
            Self::Many(list) => list
                .iter()
                .fold(0, |sum: u64, message| sum.rotate_left(1) ^ digest(message)),
            Self::Chunks { bytes, size } => digest(bytes) ^ size as u64,
            Self::Framed { bytes, ends } => ends
                .iter()
                .fold(digest(bytes), |sum, &end| sum.rotate_left(1) ^ u64::from(end)),
        }
    }

    /// Payload plus the charge of each message.
    fn cost(&self) -> u64 {
        let (bytes, count) = match *self {
            Self::One(message) => (message.len(), 1),
            Self::Many(list) => (list.iter().map(|message| message.len()).sum(), list.len()),
            Self::Chunks { bytes, size } => (bytes.len(), bytes.len() / size),
            Self::Framed { bytes, ends } => (bytes.len(), ends.len()),
        };
        bytes as u64 + count as u64 * MESSAGE_CHARGE
    }
}

/// The messages of a buffer whose ends are sound.
fn framed<'b>(bytes: &'b [u8], ends: &'b [u32]) -> impl Iterator<Item = &'b [u8]> + Clone {
    let starts = core::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(ends)
        .map(|(start, &end)| &bytes[start as usize..end as usize])
}

fn checked(code: u64) -> Result<u64, Refused> {
    if code <= MAX_CODE {
        Ok(code)
    } else {
        Err(Refused::BadArgument)
    }
}
