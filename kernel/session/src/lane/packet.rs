//! The opened packet under the kernel's hand: frames are read one by one, and what belongs to the application is
//! handed up as it is met.
//!
//! Invariants: a packet is acknowledged only when it was read to its end; the count of event frames in the header
//! is what the packet carries. Not here: what single frames do (`inbound.rs`, `stream/`).

use net_base::{Check, EntityId, Instant, SessionId, StreamId, mutant, reachable};
use net_wire::{DropReason, Flags, Frame, FrameReader, FrameType, HEADER_LEN, Header, Reliability, TAG_LEN};

use crate::aead::Aead;
use crate::config::SessionConfig;
use crate::rx::{Ecn, RxBatch, Spot};
use crate::stream::{Action, Cursor, Piece, RecvStream};
use crate::{Part, SessionKey};

use super::association::Association;
use super::inbound::{Arrived, close_code};
use super::slot::{Ahead, Slot};
use super::{Addr, KeyInfo, Lane, Up};

/// A packet whose tag verified.
#[derive(Debug)]
pub(crate) struct Open {
    spot: Spot,
    from: Addr,
    ecn: Ecn,
    len: usize,
    header: Header,
    slot: SessionId,
    owner: Option<SessionKey>,
    peer: EntityId,
    /// Next frame and end of the plaintext, as offsets in the datagram.
    at: usize,
    end: usize,
    /// Whether the packet's run was opened; `run` is its place, where the stream still listens.
    ran: bool,
    run: Option<Cursor>,
    /// Whole messages were looked for here already.
    read: bool,
    stage: Stage,
    eliciting: bool,
    path_only: bool,
    /// It carried nothing but what confirms a key.
    confirms: bool,
    /// It carried a challenge, of which one per packet is answered.
    challenged: bool,
}

/// How far a packet was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The initiator's first packet: the kernel decides.
    Confirming,
    Frames,
    /// Its run is complete: data that waited for it follows.
    Ready,
}

/// Where a piece of application data lies.
pub(crate) struct Plan {
    number: u64,
    offset: u64,
    end: bool,
    start: usize,
    stop: usize,
}

/// What the kernel is to have next.
pub(crate) enum Found {
    Confirm(KeyInfo),
    /// Whole messages, perhaps.
    Messages,
    /// Bytes still lying in the datagram.
    Here(Plan),
    /// Bytes copied to `late`.
    Late {
        number: u64,
        offset: u64,
        end: bool,
    },
}

/// Whole messages of one packet, each due as it is met. It ends before the first frame that is anything else.
#[derive(Debug)]
pub struct Messages<'x> {
    reader: FrameReader<'x>,
    recv: &'x mut RecvStream,
    cursor: &'x mut Cursor,
    /// Where the packet is read on.
    at: &'x mut usize,
    end: usize,
    part: Part<'x>,
}

impl Messages<'_> {
    /// The session they came on, their stream, and what they are.
    #[inline]
    #[must_use]
    pub const fn stream(&self) -> (SessionKey, StreamId, u16) {
        (self.part.session, self.part.stream, self.part.subprotocol)
    }
}

impl<'x> Iterator for Messages<'x> {
    type Item = Part<'x>;

    #[inline]
    fn next(&mut self) -> Option<Part<'x>> {
        let mut reader = self.reader.clone();
        let bytes = reader.next_event()?;
        let number = self.recv.take_whole(self.cursor, bytes.len())?;
        *self.at = self.end - reader.remaining().len();
        self.reader = reader;
        Some(Part {
            number,
            bytes,
            ..self.part
        })
    }
}

/// What reading a frame led to.
enum Step {
    More,
    Deliver(Plan),
    End,
}

impl<A: Aead, C: Check> Lane<A, C> {
    /// Opens the datagram at `spot`, which carries the session id `id`.
    pub(crate) fn begin(&mut self, now: Instant, batch: &mut RxBatch<'_>, spot: Spot, id: SessionId) {
        self.begin_by(now, batch, spot, id, |slot, config, bytes| {
            slot.open(now, config, bytes)
        });
    }

    /// The same for a datagram that was opened ahead.
    #[inline(never)]
    pub(crate) fn begin_ahead(
        &mut self,
        now: Instant,
        batch: &mut RxBatch<'_>,
        spot: Spot,
        id: SessionId,
        ahead: &Ahead,
    ) {
        self.begin_by(now, batch, spot, id, |slot, config, _| slot.accept(now, config, ahead));
    }

    #[inline(always)]
    fn begin_by(
        &mut self,
        now: Instant,
        batch: &mut RxBatch<'_>,
        spot: Spot,
        id: SessionId,
        open: impl FnOnce(&mut Slot<A>, &SessionConfig, &mut [u8]) -> Result<Header, DropReason>,
    ) {
        debug_assert!(self.open.is_none(), "one packet at a time");
        let Some(slot) = self.slots.get_mut(id) else {
            self.drops.count(DropReason::UnknownSession);
            return;
        };
        let datagram = batch.at(spot);
        let header = match open(slot, &self.config, datagram.bytes) {
            Ok(header) => header,
            Err(reason) => {
                self.drops.count(reason);
                if mutant!(IdleRefreshedByAll)
                    && let Some(association) = slot.owner.and_then(|session| self.associations.get_mut(&session))
                {
                    association.last_received = now;
                }
                return;
            }
        };
        let len = datagram.bytes.len();
        self.open = Some(Open {
            spot,
            from: datagram.from,
            ecn: datagram.ecn,
            len,
            header,
            slot: id,
            owner: slot.owner,
            peer: slot.info.peer,
            at: HEADER_LEN,
            end: len - TAG_LEN,
            ran: false,
            run: None,
            read: false,
            stage: if slot.owner.is_none() {
                Stage::Confirming
            } else {
                Stage::Frames
            },
            eliciting: false,
            path_only: true,
            confirms: true,
            challenged: false,
        });
        if let Some(session) = slot.owner {
            self.heard(now, session, id);
        }
    }

    /// A packet under the key `id` authenticated.
    fn heard(&mut self, now: Instant, session: SessionKey, id: SessionId) {
        let Some(association) = self.associations.get_mut(&session) else {
            return;
        };
        if let Some(unused) = association.heard(id, &self.config, now) {
            self.slots.remove(unused);
        }
        self.mark(session);
    }

    /// Whether a packet is under the kernel's hand.
    pub(crate) fn has_packet(&self) -> bool {
        self.open.is_some()
    }

    /// Reads on in the packet that [`Self::begin`] opened, to the next thing the kernel must have or to its end.
    /// Apart from [`Self::take_up`], because a borrow returned from inside a loop would outlive it.
    pub(crate) fn advance(&mut self, now: Instant, batch: &mut RxBatch<'_>) {
        while let Some((stage, id)) = self.open.as_ref().map(|open| (open.stage, open.slot)) {
            let found = match stage {
                Stage::Confirming => {
                    self.stage(Stage::Frames);
                    self.slots.get(id).map(|slot| Found::Confirm(slot.info))
                }
                Stage::Frames if self.in_run(batch) => Some(Found::Messages),
                Stage::Frames => match self.step(now, batch) {
                    Ok(Step::More) => None,
                    Ok(Step::Deliver(plan)) => Some(Found::Here(plan)),
                    Ok(Step::End) => {
                        if let Err(reason) = self.end_frames() {
                            self.refuse(now, reason);
                        }
                        None
                    }
                    Err(reason) => {
                        self.refuse(now, reason);
                        None
                    }
                },
                Stage::Ready => match self.pop_late() {
                    Ok(Some(late)) => Some(late),
                    Ok(None) => {
                        self.finish_packet(now);
                        None
                    }
                    Err(reason) => {
                        self.refuse(now, reason);
                        None
                    }
                },
            };
            if found.is_some() {
                self.found = found;
                return;
            }
        }
    }

    fn stage(&mut self, stage: Stage) {
        if let Some(open) = self.open.as_mut() {
            open.stage = stage;
        }
    }

    /// Whether [`Self::advance`] found something.
    pub(crate) fn has_up(&self) -> bool {
        self.found.is_some()
    }

    /// Takes what [`Self::advance`] found.
    pub(crate) fn take_up<'x>(&'x mut self, batch: &'x mut RxBatch<'_>) -> Option<Up<'x>> {
        match self.found.take()? {
            Found::Confirm(info) => Some(Up::Confirm(info)),
            Found::Messages => self.messages(batch).map(Up::Messages),
            Found::Here(plan) => {
                let (peer, session, stream, subprotocol) = self.names()?;
                let bytes = &batch.at(self.open.as_ref()?.spot).bytes[plan.start..plan.stop];
                let Plan {
                    number, offset, end, ..
                } = plan;
                Some(Up::Part(Part {
                    peer,
                    session,
                    stream,
                    subprotocol,
                    number,
                    offset,
                    end,
                    bytes,
                }))
            }
            Found::Late { number, offset, end } => {
                let (peer, session, stream, subprotocol) = self.names()?;
                Some(Up::Part(Part {
                    peer,
                    session,
                    stream,
                    subprotocol,
                    number,
                    offset,
                    end,
                    bytes: &self.late,
                }))
            }
        }
    }

    /// The messages of the run from here on.
    fn messages<'x>(&'x mut self, batch: &'x mut RxBatch<'_>) -> Option<Messages<'x>> {
        let open = self.open.as_mut()?;
        let session = open.owner?;
        let association = self
            .associations
            .get_mut(&session)
            .filter(|association| association.is_open())?;
        let recv = &mut association.streams.get(open.header.stream)?.recv;
        let reader = FrameReader::new(&batch.at(open.spot).bytes[open.at..open.end]);
        let part = Part {
            peer: open.peer,
            session,
            stream: open.header.stream,
            subprotocol: open.header.subprotocol,
            number: 0,
            offset: 0,
            end: true,
            bytes: &[],
        };
        Some(Messages {
            reader,
            recv,
            cursor: open.run.as_mut()?,
            at: &mut open.at,
            end: open.end,
            part,
        })
    }

    /// Whom the packet under the hand is from.
    fn names(&self) -> Option<(EntityId, SessionKey, StreamId, u16)> {
        let open = self.open.as_ref()?;
        Some((open.peer, open.owner?, open.header.stream, open.header.subprotocol))
    }

    /// Whether whole messages may follow in a run already opened: [`Messages`] reads as many as are due. The session
    /// and the stream are there, so what is promised here is handed up.
    #[inline]
    fn in_run(&mut self, batch: &mut RxBatch<'_>) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.run.is_some() && !open.read) else {
            return false;
        };
        // What it cannot take is left to the single steps, whose next frame may be such a message again.
        open.read = true;
        if batch.at(open.spot).bytes[open.at] != FrameType::Event as u8 {
            return false;
        }
        let association = open.owner.and_then(|session| self.associations.get_mut(&session));
        association
            .is_some_and(|association| association.is_open() && association.streams.get(open.header.stream).is_some())
    }

    /// Reads one frame.
    fn step(&mut self, now: Instant, batch: &mut RxBatch<'_>) -> Result<Step, DropReason> {
        let Some(open) = self.open.as_mut() else {
            return Ok(Step::End);
        };
        if open.owner.is_none() {
            // The kernel has just decided about the key this packet confirmed.
            open.owner = self.slots.get(open.slot).and_then(|slot| slot.owner);
        }
        let session = open.owner.ok_or(DropReason::NotAllowed)?;
        let association = self.associations.get_mut(&session).ok_or(DropReason::ClosedSession)?;
        open.read = false;
        if !association.is_open() {
            open.at = open.end;
            return Ok(Step::End);
        }
        let bytes = &batch.at(open.spot).bytes[open.at..open.end];
        let mut reader = FrameReader::new(bytes);
        let frame = reader.next()?;
        // What is skipped may matter to its sender.
        open.eliciting |= reader.skipped() > 0;
        let Some(frame) = frame else {
            return Ok(Step::End);
        };
        open.at = open.end - reader.remaining().len();
        let piece = match frame {
            Frame::Event(message) => Piece::whole(message),
            Frame::Segment { offset, total, bytes } => Piece { offset, total, bytes },
            Frame::Stream { reliability, position } => {
                open.eliciting = true;
                open.path_only = false;
                open.confirms = false;
                return open.begin_run(association, reliability, position).map(|()| Step::More);
            }
            // A packet holds many challenges; answering them all would let a peer that borrows an address have more
            // sent there than it sends itself.
            Frame::PathChallenge(_) if core::mem::replace(&mut open.challenged, true) => return Ok(Step::More),
            Frame::Padding(_) | Frame::PathChallenge(_) | Frame::PathResponse(_) => {
                open.eliciting = true;
                association.on_control(now, open.from, &frame)?;
                return Ok(Step::More);
            }
            Frame::Ack(_)
            | Frame::MaxData(_)
            | Frame::MaxStreamData { .. }
            | Frame::DataBlocked(_)
            | Frame::StreamBlocked { .. }
            | Frame::ResetStream { .. }
            | Frame::StopSending { .. }
            | Frame::Ping
            | Frame::Echo(_)
            | Frame::EchoReply(_)
            | Frame::MaxStreams(_)
            | Frame::Close { .. } => {
                open.eliciting |= frame.is_ack_eliciting();
                open.path_only = false;
                open.confirms &= matches!(frame, Frame::Ping);
                association.on_control(now, open.from, &frame)?;
                return Ok(Step::More);
            }
        };
        open.on_piece(association, piece)
    }

    /// All frames are read.
    fn end_frames(&mut self) -> Result<(), DropReason> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        open.stage = Stage::Ready;
        let carries = open.header.event_count > 0 || open.header.flags.contains(Flags::FIN);
        if carries && !open.ran {
            return Err(DropReason::EventCount);
        }
        let Some(cursor) = open.run.take() else { return Ok(()) };
        let stream = open.header.stream;
        let association = open.owner.and_then(|session| self.associations.get_mut(&session));
        let Some(association) = association else { return Ok(()) };
        let Some(entry) = association.streams.get(stream) else {
            return Ok(());
        };
        let growth = entry.recv.end(cursor)?;
        association.streams.grew(stream, growth)
    }

    /// The next data that the packet's run made due, copied to `late`.
    fn pop_late(&mut self) -> Result<Option<Found>, DropReason> {
        let Some(open) = self.open.as_mut().filter(|open| open.ran) else {
            return Ok(None);
        };
        let stream = open.header.stream;
        let association = open.owner.and_then(|session| self.associations.get_mut(&session));
        let Some(association) = association else {
            return Ok(None);
        };
        let Some(entry) = association.streams.get(stream) else {
            return Ok(None);
        };
        let Some(part) = entry.recv.pop_ready()? else {
            association.streams.settle(stream);
            return Ok(None);
        };
        reachable!(self.passed, EarlyDelivered);
        self.late.clear();
        self.late.extend_from_slice(part.bytes);
        Ok(Some(Found::Late {
            number: part.number,
            offset: part.offset,
            end: part.end,
        }))
    }

    /// The packet was read to its end.
    fn finish_packet(&mut self, now: Instant) {
        let Some(open) = self.open.take() else { return };
        let Some(session) = open.owner else { return };
        let Some(association) = self.associations.get_mut(&session) else {
            return;
        };
        let arrived = Arrived {
            counter: open.header.counter,
            from: open.from,
            ecn: open.ecn,
            len: open.len,
            eliciting: open.eliciting,
            path_only: open.path_only,
        };
        if !open.confirms {
            association.used(open.slot, now);
        }
        association.on_arrived(now, arrived);
        self.mark(session);
    }

    /// The packet cannot be read on. A full buffer drops it unacknowledged, so that it comes again; everything
    /// else is a breach of the protocol and ends the session.
    fn refuse(&mut self, now: Instant, reason: DropReason) {
        self.drops.count(reason);
        let Some(session) = self.open.take().and_then(|open| open.owner) else {
            return;
        };
        self.mark(session);
        let local = matches!(
            reason,
            DropReason::Overloaded | DropReason::ClosedSession | DropReason::NotAllowed
        );
        if let Some(association) = self.associations.get_mut(&session).filter(|_| !local) {
            association.violated(now, close_code(reason), reason);
        }
    }
}

impl Open {
    /// The STREAM frame: opens the packet's run.
    fn begin_run<C: Check>(
        &mut self,
        association: &mut Association<C>,
        reliability: Reliability,
        position: u64,
    ) -> Result<(), DropReason> {
        if self.ran {
            return Err(DropReason::FrameNotAllowed);
        }
        self.ran = true;
        let header = &self.header;
        if header.event_count == 0 && !header.flags.contains(Flags::FIN) {
            return Err(DropReason::EventCount);
        }
        let Some(entry) = association.streams.touch(header.stream)? else {
            return Ok(());
        };
        let fin = header.flags.contains(Flags::FIN);
        let cursor = entry
            .recv
            .begin(header.sequence, reliability, position, header.event_count, fin)?;
        self.run = Some(cursor);
        association.streams.announce(header.stream, header.subprotocol);
        Ok(())
    }

    /// An event frame. `self.at` already stands behind it.
    fn on_piece<C: Check>(&mut self, association: &mut Association<C>, piece: Piece<'_>) -> Result<Step, DropReason> {
        if !self.ran {
            return Err(DropReason::FrameNotAllowed);
        }
        // A stream that ended before: what still comes for it is acknowledged and forgotten.
        let Some(cursor) = self.run.as_mut() else {
            return Ok(Step::More);
        };
        let len = piece.bytes.len();
        let Some(entry) = association.streams.get(self.header.stream) else {
            return Ok(Step::More);
        };
        let action = entry.recv.on_event(cursor, piece)?;
        Ok(self.act(action, len))
    }

    /// What the receiving end of the stream wants done with the `len` bytes that end at `self.at`.
    #[inline]
    fn act(&self, action: Action, len: usize) -> Step {
        match action {
            Action::Skip | Action::Buffered => Step::More,
            Action::Deliver {
                number,
                offset,
                end,
                skip,
                ..
            } => {
                // An event frame ends with its bytes.
                let (start, stop) = (self.at - len + skip, self.at);
                Step::Deliver(Plan {
                    number,
                    offset,
                    end,
                    start,
                    stop,
                })
            }
        }
    }
}
