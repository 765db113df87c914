//! The side that offers: lists a tree, then sends of each file what the receiver lacks.
//!
//! Invariants: data of one file at a time, in the order of what the receiver told; a file is sent from an offset up to which
//! both sides have the same bytes; every entry ends in exactly one way. Not here: how files are found and read (`Source`).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use net_base::mutant;

use crate::disk::Source;
use crate::limit::{AHEAD, CHUNK, HASHED_AT_ONCE, MAX_ENTRIES, MAX_PATHS};
use crate::mark::Mark;
use crate::message::{self, Kind, Message, Refusal, Reject, Skip, Token, Totals, VERSION};
use crate::{Step, Violation};

/// An entry to offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its path, outermost name first.
    pub names: Vec<String>,
    /// What it is.
    pub kind: Kind,
}

impl Listed {
    const fn size(&self) -> u64 {
        match self.kind {
            Kind::Directory => 0,
            Kind::File { size, .. } => size,
        }
    }
}

/// Why a list cannot be offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unlistable {
    /// More than [`MAX_ENTRIES`] entries, or [`MAX_PATHS`] bytes of paths.
    TooMany,
    /// The path of this entry is empty, too deep, or has a name that is too long.
    Path(usize),
}

/// What a host may tell a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The offer was taken.
    Accepted,
    /// The receiver takes nothing, or nothing more; bytes it would need, bytes it has room for.
    Refused(Refusal, u64, u64),
    /// A file's bytes leave, from this offset on.
    Began(u32, u64),
    /// The receiver has the entry, safe on its disk; whether it had it before.
    Stored(u32, bool),
    /// The receiver does not take the entry.
    Rejected(u32, Reject),
    /// The file is left out.
    Skipped(u32, Skip),
}

/// The sending side of one transfer.
pub struct Sender {
    entries: Vec<Listed>,
    state: Vec<State>,
    totals: Totals,
    token: Token,
    phase: Phase,
    /// What the receiver told of files that were not begun.
    have: VecDeque<Have>,
    /// Of which file the receiver told last.
    told: Option<u32>,
    current: Current,
    unsettled: u32,
    settled_bytes: u64,
    /// Bytes of files that are sent and not settled.
    sent_bytes: u64,
    events: VecDeque<Event>,
    piece: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The offer leaves: the entries before this one have.
    Offering(u32),
    /// The receiver considers it.
    Offered,
    /// Files are sent.
    Sending,
    /// The receiver takes nothing more.
    Refused,
    /// Every entry is settled.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The receiver has said nothing of it.
    Open,
    /// The receiver has said what it has.
    Told,
    /// All of it was sent, or it is there already (`true`).
    Sent(bool),
    /// It ended.
    Settled,
}

/// What the receiver told of a file.
struct Have {
    file: u32,
    /// It has one of this name and size: the only mark is the end, and its hash is not known.
    complete: bool,
    marks: Vec<Mark>,
}

enum Current {
    Nothing,
    /// Finding how much both sides have in common.
    Comparing(Box<Comparison>),
    /// Sending from `at` on.
    Sending {
        file: u32,
        at: u64,
        hasher: Box<blake3::Hasher>,
    },
}

/// The file is hashed up to one mark after another, as long as they agree.
struct Comparison {
    have: Have,
    /// Marks that agreed.
    agreed: usize,
    at: u64,
    hasher: blake3::Hasher,
    /// The hasher at the last mark that agreed.
    best: blake3::Hasher,
}

impl Sender {
    /// A sender of `entries`, directories before what lies in them. A later sender with the same token goes on where this one
    /// stopped.
    ///
    /// # Errors
    /// [`Unlistable`].
    pub fn new(entries: Vec<Listed>, token: Token) -> Result<Self, Unlistable> {
        let mut scratch = Vec::new();
        let (mut paths, mut bytes) = (0, 0_u64);
        for (at, entry) in entries.iter().enumerate() {
            if !message::encode_entry(entry.kind, entry.names.iter().map(String::as_str), &mut scratch) {
                return Err(Unlistable::Path(at));
            }
            paths += scratch.len();
            bytes = bytes.checked_add(entry.size()).ok_or(Unlistable::TooMany)?;
        }
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        if count > MAX_ENTRIES || paths > MAX_PATHS {
            return Err(Unlistable::TooMany);
        }
        Ok(Self {
            state: alloc::vec![State::Open; entries.len()],
            entries,
            totals: Totals { entries: count, bytes },
            token,
            phase: Phase::Offering(0),
            have: VecDeque::new(),
            told: None,
            current: Current::Nothing,
            unsettled: count,
            settled_bytes: 0,
            sent_bytes: 0,
            events: VecDeque::new(),
            piece: Vec::new(),
        })
    }

    /// What is offered.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// An entry; `None` where there is none of this number.
    #[must_use]
    pub fn entry(&self, entry: u32) -> Option<&Listed> {
        self.entries.get(entry as usize)
    }

    /// Bytes of entries that are settled, and of the file that is being sent.
    #[must_use]
    pub fn progress(&self) -> u64 {
        let current = match &self.current {
            Current::Sending { at, .. } => *at,
            Current::Nothing | Current::Comparing(_) => 0,
        };
        self.settled_bytes + self.sent_bytes + current
    }

    /// What happened since it was asked last, oldest first. One call of [`Self::receive`] or [`Self::step`] adds at most two.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes one message of the receiver.
    ///
    /// # Errors
    /// [`Violation`]: the transfer is over.
    pub fn receive(&mut self, message: &[u8]) -> Result<(), Violation> {
        let message = Message::decode(message).ok_or(Violation::Malformed)?;
        let unexpected = Violation::Unexpected(message.kind());
        match (self.phase, message) {
            (Phase::Offered, Message::Accept) => {
                self.phase = Phase::Sending;
                self.events.push_back(Event::Accepted);
                Ok(())
            }
            (Phase::Offering(_) | Phase::Offered | Phase::Sending, Message::Refuse(why, needed, room)) => {
                self.phase = Phase::Refused;
                self.events.push_back(Event::Refused(why, needed, room));
                Ok(())
            }
            (Phase::Sending, Message::Have(file, marks)) => self.on_have(file, false, marks),
            (Phase::Sending, Message::Same(file)) => self.on_have(file, true, Vec::new()),
            (Phase::Sending, Message::Stored(entry)) => self.on_stored(entry).ok_or(unexpected),
            (Phase::Sending, Message::Reject(entry, why)) => self.on_reject(entry, why).ok_or(unexpected),
            (Phase::Sending, Message::Done) if self.unsettled == 0 => {
                self.phase = Phase::Done;
                Ok(())
            }
            // What was under way when it refused.
            (Phase::Refused, _) => Ok(()),
            (
                Phase::Offering(_) | Phase::Offered | Phase::Sending | Phase::Done,
                Message::Offer(..)
                | Message::Entry(..)
                | Message::Start(..)
                | Message::Data(_)
                | Message::End(_)
                | Message::Whole(..)
                | Message::Skip(..)
                | Message::Accept
                | Message::Refuse(..)
                | Message::Have(..)
                | Message::Same(_)
                | Message::Stored(_)
                | Message::Reject(..)
                | Message::Done,
            ) => Err(unexpected),
        }
    }

    /// Does a bounded piece of work; may give one message to send, written over what is in `out`.
    pub fn step(&mut self, source: &mut dyn Source, out: &mut Vec<u8>) -> Step {
        match self.phase {
            Phase::Offering(at) => {
                self.offer(at, out);
                Step::Message
            }
            Phase::Offered => Step::Wait,
            Phase::Sending => self.send_on(source, out),
            Phase::Refused | Phase::Done => Step::Over,
        }
    }

    fn offer(&mut self, at: u32, out: &mut Vec<u8>) {
        match at.checked_sub(1).and_then(|entry| self.entries.get(entry as usize)) {
            None => Message::Offer(VERSION, self.totals, self.token).encode(out),
            Some(entry) => {
                let fits = message::encode_entry(entry.kind, entry.names.iter().map(String::as_str), out);
                debug_assert!(fits, "it fitted when it was listed");
            }
        }
        self.phase = if at == self.totals.entries {
            Phase::Offered
        } else {
            Phase::Offering(at + 1)
        };
    }

    fn send_on(&mut self, source: &mut dyn Source, out: &mut Vec<u8>) -> Step {
        match core::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing => {
                let Some(have) = self.have.pop_front() else {
                    return Step::Wait;
                };
                self.current = Current::Comparing(Box::new(Comparison {
                    have,
                    agreed: 0,
                    at: 0,
                    hasher: blake3::Hasher::new(),
                    best: blake3::Hasher::new(),
                }));
                Step::More
            }
            Current::Comparing(comparison) => self.compare(comparison, source, out),
            Current::Sending { file, at, hasher } => self.send_data(file, at, hasher, source, out),
        }
    }

    fn compare(&mut self, mut now: Box<Comparison>, source: &mut dyn Source, out: &mut Vec<u8>) -> Step {
        let file = now.have.file;
        if self.state[file as usize] == State::Settled {
            return self.skip(file, Skip::Rejected, out);
        }
        let Some(mark) = now.have.marks.get(now.agreed) else {
            return self.begin(*now, source, out);
        };
        let wanted = usize::try_from(mark.offset - now.at).map_or(HASHED_AT_ONCE, |left| left.min(HASHED_AT_ONCE));
        self.piece.resize(wanted, 0);
        match source.read(file, now.at, &mut self.piece) {
            Ok(read) if read == wanted => now.hasher.update(&self.piece),
            Ok(_) => return self.skip(file, Skip::Changed, out),
            Err(_) => return self.skip(file, Skip::Unreadable, out),
        };
        now.at += wanted as u64;
        if now.at == mark.offset {
            let agrees = now.hasher.finalize() == blake3::Hash::from_bytes(mark.hash);
            if !agrees && !now.have.complete && !mutant!(TransferMarksUncompared) {
                // What differs here differs at every later mark.
                return self.begin(*now, source, out);
            }
            now.agreed += 1;
            now.best = now.hasher.clone();
        }
        self.current = Current::Comparing(now);
        Step::More
    }

    /// It is known what both have in common: as much as the last mark that agreed.
    fn begin(&mut self, found: Comparison, source: &mut dyn Source, out: &mut Vec<u8>) -> Step {
        let Comparison { have, agreed, best, .. } = found;
        let file = have.file;
        if have.complete {
            if !source.unchanged(file) && !mutant!(TransferChangeUnnoticed) {
                return self.skip(file, Skip::Changed, out);
            }
            self.sent(file, true);
            Message::Whole(file, best.finalize().into()).encode(out);
            return Step::Message;
        }
        let offset = agreed.checked_sub(1).map_or(0, |last| have.marks[last].offset);
        self.current = Current::Sending {
            file,
            at: offset,
            hasher: Box::new(best),
        };
        self.events.push_back(Event::Began(file, offset));
        Message::Start(file, offset).encode(out);
        Step::Message
    }

    fn send_data(
        &mut self,
        file: u32,
        at: u64,
        mut hasher: Box<blake3::Hasher>,
        source: &mut dyn Source,
        out: &mut Vec<u8>,
    ) -> Step {
        if self.state[file as usize] == State::Settled {
            return self.skip(file, Skip::Rejected, out);
        }
        let size = self.entries[file as usize].size();
        if at == size {
            if !source.unchanged(file) && !mutant!(TransferChangeUnnoticed) {
                return self.skip(file, Skip::Changed, out);
            }
            self.sent(file, false);
            Message::End(hasher.finalize().into()).encode(out);
            return Step::Message;
        }
        let wanted = usize::try_from(size - at).map_or(CHUNK, |left| left.min(CHUNK));
        let data = message::begin_data(out, wanted);
        match source.read(file, at, data) {
            Ok(read) if read == wanted => {
                hasher.update(data);
                self.current = Current::Sending {
                    file,
                    at: at + wanted as u64,
                    hasher,
                };
                Step::Message
            }
            Ok(_) => self.skip(file, Skip::Changed, out),
            Err(_) => self.skip(file, Skip::Unreadable, out),
        }
    }

    /// Leaves out a file that the receiver waits for.
    fn skip(&mut self, file: u32, why: Skip, out: &mut Vec<u8>) -> Step {
        if self.state[file as usize] != State::Settled {
            self.settle(file);
            self.events.push_back(Event::Skipped(file, why));
        }
        Message::Skip(file, why).encode(out);
        Step::Message
    }

    fn on_have(&mut self, file: u32, complete: bool, mut marks: Vec<Mark>) -> Result<(), Violation> {
        let unexpected = Violation::Unexpected(Message::Have(0, Vec::new()).kind());
        let Some(Listed {
            kind: Kind::File { size, .. },
            ..
        }) = self.entries.get(file as usize)
        else {
            return Err(unexpected);
        };
        if self.state[file as usize] != State::Open || self.told.is_some_and(|told| told >= file) {
            return Err(unexpected);
        }
        if self.have.len() >= AHEAD {
            return Err(Violation::Limit);
        }
        if marks.last().is_some_and(|mark| mark.offset > *size) {
            return Err(Violation::Malformed);
        }
        if complete && *size > 0 {
            let (offset, hash) = (*size, [0; 32]);
            marks.push(Mark { offset, hash });
        }
        self.told = Some(file);
        self.state[file as usize] = State::Told;
        self.have.push_back(Have { file, complete, marks });
        Ok(())
    }

    fn on_stored(&mut self, entry: u32) -> Option<()> {
        let listed = self.entries.get(entry as usize)?;
        let already = match (self.state[entry as usize], listed.kind) {
            (State::Sent(already), _) => already,
            (State::Open, Kind::Directory) => false,
            (State::Open | State::Told | State::Settled, _) => return None,
        };
        self.settle(entry);
        self.events.push_back(Event::Stored(entry, already));
        Some(())
    }

    fn on_reject(&mut self, entry: u32, why: Reject) -> Option<()> {
        match self.state.get(entry as usize)? {
            State::Open | State::Told | State::Sent(_) => {}
            // It was left out while the receiver's word was on its way.
            State::Settled => return Some(()),
        }
        self.settle(entry);
        self.events.push_back(Event::Rejected(entry, why));
        Some(())
    }

    fn sent(&mut self, file: u32, already: bool) {
        self.state[file as usize] = State::Sent(already);
        self.sent_bytes += self.entries[file as usize].size();
    }

    fn settle(&mut self, entry: u32) {
        let size = self.entries[entry as usize].size();
        match core::mem::replace(&mut self.state[entry as usize], State::Settled) {
            State::Sent(_) => self.sent_bytes -= size,
            State::Open | State::Told => {}
            State::Settled => unreachable!("who settles an entry looks whether it is"),
        }
        self.settled_bytes += size;
        self.unsettled -= 1;
    }
}
