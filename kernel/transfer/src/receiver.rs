//! The side that stores: takes an offer or refuses it whole, tells what it has, and gives a file its name when all of it is there.
//!
//! It settles entries in the order of the offer. Of up to [`AHEAD`] files it has told what it has before they arrive, so that
//! many small files cost no round trip each.
//! Invariants: a file is published only after its hash matched and its bytes were synced, and told as stored only after its
//! name was; nothing is written under a final name; data goes on only from an offset whose hash was told.
//! Not here: how files are kept (`Store`), who may send.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use net_base::mutant;

use crate::disk::{DiskError, Found, PartialKey, Place, Store};
use crate::limit::{AHEAD, HASHED_AT_ONCE, MAX_ENTRIES, MAX_PATHS};
use crate::mark::{self, Mark};
use crate::message::{Kind, Message, Refusal, Reject, Skip, Token, Totals, VERSION, WirePath};
use crate::name::SafePath;
use crate::{Step, Violation};

/// What a host may tell a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The offer is taken: what it holds.
    Accepted(Totals),
    /// Nothing, or nothing more, is taken; bytes needed, bytes of room.
    Refused(Refusal, u64, u64),
    /// A file's bytes come, from this offset on.
    Began(u32, u64),
    /// The entry is there under its name; whether it was before.
    Stored(u32, bool),
    /// The entry is not taken.
    Rejected(u32, Reject),
    /// The sender left the entry out.
    Skipped(u32, Skip),
}

/// The receiving side of one transfer.
pub struct Receiver {
    token: Token,
    most: u64,
    phase: Phase,
    totals: Totals,
    entries: Vec<Entry>,
    paths: usize,
    bytes: u64,
    replies: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    /// The next entry to look at.
    next: u32,
    probe: Option<Probe>,
    /// Files of which was told what is there, and which have not come yet.
    told: VecDeque<Told>,
    incoming: Incoming,
    settled: u32,
    settled_bytes: u64,
    piece: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing was said.
    Silent,
    /// Entries follow.
    Listing,
    /// Entries are being settled.
    Taking,
    /// Nothing more is taken.
    Refused,
    /// All is settled, and the sender was told.
    Done,
}

struct Entry {
    path: SafePath,
    kind: Kind,
    /// An earlier entry has the same path.
    conflict: bool,
}

impl Entry {
    const fn size(&self) -> u64 {
        match self.kind {
            Kind::Directory => 0,
            Kind::File { size, .. } => size,
        }
    }
}

/// What is there of a file is being hashed.
struct Probe {
    file: u32,
    complete: bool,
    offsets: Vec<u64>,
    at: u64,
    hasher: blake3::Hasher,
    hashed: Vec<(u64, blake3::Hasher)>,
}

struct Told {
    file: u32,
    /// Its hash, where it has its final name.
    whole: Option<blake3::Hash>,
    hashed: Vec<(u64, blake3::Hasher)>,
}

enum Incoming {
    Nothing,
    /// The bytes of this file.
    File {
        file: u32,
        key: PartialKey,
        at: u64,
        hasher: Box<blake3::Hasher>,
    },
    /// The bytes of a file that was rejected on the way: the sender does not know yet.
    Unwanted(u32),
}

impl Receiver {
    /// A receiver that takes offers of at most `most` bytes.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self {
            token: Token([0; 32]),
            most,
            phase: Phase::Silent,
            totals: Totals::default(),
            entries: Vec::new(),
            paths: 0,
            bytes: 0,
            replies: VecDeque::new(),
            events: VecDeque::new(),
            next: 0,
            probe: None,
            told: VecDeque::new(),
            incoming: Incoming::Nothing,
            settled: 0,
            settled_bytes: 0,
            piece: Vec::new(),
        }
    }

    /// A receiver that refuses whatever is offered.
    #[must_use]
    pub fn refusing(why: Refusal) -> Self {
        let mut receiver = Self::new(0);
        receiver.refuse(why, 0, 0);
        receiver
    }

    /// The path of an entry; `None` for one that was not listed.
    #[must_use]
    pub fn path(&self, entry: u32) -> Option<&SafePath> {
        self.entries.get(entry as usize).map(|entry| &entry.path)
    }

    /// What an entry is; `None` for one that was not listed.
    #[must_use]
    pub fn kind(&self, entry: u32) -> Option<Kind> {
        self.entries.get(entry as usize).map(|entry| entry.kind)
    }

    /// What the offer holds; nothing before it came.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes of entries that are settled, and of the file that is coming.
    #[must_use]
    pub const fn progress(&self) -> u64 {
        match &self.incoming {
            Incoming::File { at, .. } => self.settled_bytes + *at,
            Incoming::Nothing | Incoming::Unwanted(_) => self.settled_bytes,
        }
    }

    /// What happened since it was asked last, oldest first. One call of [`Self::receive`] or [`Self::step`] adds at most two.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes one message of the sender.
    ///
    /// # Errors
    /// [`Violation`]: the transfer is over.
    pub fn receive(&mut self, message: &[u8], store: &mut dyn Store) -> Result<(), Violation> {
        let message = Message::decode(message).ok_or(Violation::Malformed)?;
        let kind = message.kind();
        match (self.phase, message) {
            // What was under way when it was refused.
            (Phase::Refused, _) => Ok(()),
            (Phase::Silent, Message::Offer(version, totals, token)) => {
                self.token = token;
                self.on_offer(version, totals, store)
            }
            (Phase::Listing, Message::Entry(kind, path)) => self.on_entry(kind, path, store),
            (Phase::Taking, Message::Start(file, offset)) => self.on_start(file, offset, store),
            (Phase::Taking, Message::Data(bytes)) => self.on_data(bytes, store),
            (Phase::Taking, Message::End(hash)) => self.on_end(hash, store),
            (Phase::Taking, Message::Whole(file, hash)) => self.on_whole(file, hash, store),
            (Phase::Taking, Message::Skip(file, why)) => self.on_skip(file, why),
            (
                Phase::Silent | Phase::Listing | Phase::Taking | Phase::Done,
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
            ) => Err(Violation::Unexpected(kind)),
        }
    }

    /// Does a bounded piece of work; may give one message to send, written over what is in `out`.
    pub fn step(&mut self, store: &mut dyn Store, out: &mut Vec<u8>) -> Step {
        if let Some(reply) = self.replies.pop_front() {
            *out = reply;
            return Step::Message;
        }
        match self.phase {
            Phase::Silent | Phase::Listing => Step::Wait,
            Phase::Refused | Phase::Done => Step::Over,
            Phase::Taking if self.probe.is_some() => self.hash_on(store),
            Phase::Taking if (self.next as usize) < self.entries.len() && self.told.len() < AHEAD => {
                let entry = self.next;
                self.next += 1;
                self.look_at(entry, store);
                Step::More
            }
            // Of a file that was rejected on the way the rest may still come, and after `Done` nothing may.
            Phase::Taking if self.settled as usize == self.entries.len() && self.is_idle() => {
                self.phase = Phase::Done;
                Message::Done.encode(out);
                Step::Message
            }
            Phase::Taking => Step::Wait,
        }
    }

    const fn is_idle(&self) -> bool {
        matches!(self.incoming, Incoming::Nothing)
    }

    fn on_offer(&mut self, version: u8, totals: Totals, store: &mut dyn Store) -> Result<(), Violation> {
        if version != VERSION {
            self.refuse(Refusal::Version, 0, 0);
            return Ok(());
        }
        if totals.entries > MAX_ENTRIES {
            return Err(Violation::Limit);
        }
        self.totals = totals;
        self.phase = Phase::Listing;
        if totals.entries == 0 {
            return self.on_listed(store);
        }
        Ok(())
    }

    fn on_entry(&mut self, kind: Kind, path: WirePath<'_>, store: &mut dyn Store) -> Result<(), Violation> {
        self.paths += path.len();
        if self.paths > MAX_PATHS {
            return Err(Violation::Limit);
        }
        let path = SafePath::new(path.names()).ok_or(Violation::Malformed)?;
        let entry = Entry {
            path,
            kind,
            conflict: false,
        };
        self.bytes = self.bytes.checked_add(entry.size()).ok_or(Violation::Limit)?;
        self.entries.push(entry);
        if self.entries.len() == self.totals.entries as usize {
            return self.on_listed(store);
        }
        Ok(())
    }

    /// The offer is complete: takes it or refuses it before a byte is written.
    fn on_listed(&mut self, store: &mut dyn Store) -> Result<(), Violation> {
        if self.bytes != self.totals.bytes {
            return Err(Violation::Malformed);
        }
        if self.bytes > self.most {
            self.refuse(Refusal::TooLarge, self.bytes, self.most);
            return Ok(());
        }
        self.find_conflicts();
        if let Some(room) = store.room() {
            // What is there already is looked up only where it decides.
            let needed = if self.bytes > room {
                self.missing(store)
            } else {
                self.bytes
            };
            if needed > room {
                self.refuse(Refusal::Room, needed, room);
                return Ok(());
            }
        }
        self.phase = Phase::Taking;
        self.reply(&Message::Accept);
        self.events.push_back(Event::Accepted(self.totals));
        Ok(())
    }

    fn find_conflicts(&mut self) {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by(|&a, &b| (&self.entries[a].path, a).cmp(&(&self.entries[b].path, b)));
        let mut first = 0;
        for at in 1..order.len() {
            let (before, this) = (order[first], order[at]);
            if self.entries[before].path == self.entries[this].path {
                self.entries[this].conflict = true;
            } else {
                first = at;
            }
        }
    }

    /// Bytes of the offer that are not there yet.
    fn missing(&self, store: &mut dyn Store) -> u64 {
        let mut missing = 0;
        for entry in &self.entries {
            let here =
                [Place::Final(&entry.path), Place::Partial(self.key(entry))].map(|place| match store.look(place) {
                    Ok(Found::File(len)) => len,
                    Ok(Found::Nothing | Found::Directory | Found::Other) | Err(_) => 0,
                });
            missing += entry.size().saturating_sub(here[0].max(here[1]));
        }
        missing
    }

    fn key(&self, entry: &Entry) -> PartialKey {
        PartialKey::new(&self.token, &entry.path)
    }

    /// Finds out what is there of an entry.
    fn look_at(&mut self, at: u32, store: &mut dyn Store) {
        let entry = &self.entries[at as usize];
        if entry.conflict {
            return self.reject(at, Reject::Conflict);
        }
        let size = match entry.kind {
            Kind::Directory => {
                return match store
                    .make_directory(&entry.path)
                    .and_then(|()| store.sync_name(&entry.path))
                {
                    Ok(()) => self.stored(at, false),
                    Err(error) => self.on_disk_error(at, error),
                };
            }
            Kind::File { size, .. } => size,
        };
        let key = self.key(entry);
        let (len, complete) = match store.look(Place::Final(&entry.path)) {
            Ok(Found::File(len)) if len == size => (size, true),
            Ok(Found::File(_)) => return self.reject(at, Reject::Exists),
            Ok(Found::Directory | Found::Other) => return self.reject(at, Reject::InTheWay),
            Ok(Found::Nothing) => match store.look(Place::Partial(key)) {
                Ok(Found::File(len)) => (len.min(size), false),
                Ok(Found::Nothing) => (0, false),
                Ok(Found::Directory | Found::Other) => return self.reject(at, Reject::InTheWay),
                Err(error) => return self.on_disk_error(at, error),
            },
            Err(error) => return self.on_disk_error(at, error),
        };
        let mut offsets = mark::offsets(len);
        if complete {
            offsets.drain(..offsets.len().saturating_sub(1));
        }
        self.probe = Some(Probe {
            file: at,
            complete,
            offsets,
            at: 0,
            hasher: blake3::Hasher::new(),
            hashed: Vec::new(),
        });
    }

    /// Hashes one more piece of what is there; tells the sender when all of it is hashed.
    fn hash_on(&mut self, store: &mut dyn Store) -> Step {
        let Some(mut probe) = self.probe.take() else {
            return Step::Wait;
        };
        let Some(&offset) = probe.offsets.get(probe.hashed.len()) else {
            self.tell(probe);
            return Step::More;
        };
        let entry = &self.entries[probe.file as usize];
        let place = if probe.complete {
            Place::Final(&entry.path)
        } else {
            Place::Partial(self.key(entry))
        };
        let wanted = usize::try_from(offset - probe.at).map_or(HASHED_AT_ONCE, |left| left.min(HASHED_AT_ONCE));
        self.piece.resize(wanted, 0);
        match store.read(place, probe.at, &mut self.piece) {
            Ok(read) if read == wanted => {
                probe.hasher.update(&self.piece);
                probe.at += wanted as u64;
                if probe.at == offset {
                    probe.hashed.push((offset, probe.hasher.clone()));
                }
            }
            // It became shorter: what was hashed so far is what is there.
            Ok(_) if !probe.complete => probe.offsets.truncate(probe.hashed.len()),
            Ok(_) => {
                self.reject(probe.file, Reject::Exists);
                return Step::More;
            }
            Err(error) => {
                self.on_disk_error(probe.file, error);
                return Step::More;
            }
        }
        self.probe = Some(probe);
        Step::More
    }

    /// Tells the sender what is there. Of a file that nobody has begun to send, only that there is one: its hash would tell
    /// whoever guesses its name and size what is in it.
    fn tell(&mut self, probe: Probe) {
        let whole = probe.complete.then(|| probe.hasher.finalize());
        if whole.is_some() {
            self.reply(&Message::Same(probe.file));
        } else {
            let marks = probe.hashed.iter().map(|(offset, hasher)| Mark {
                offset: *offset,
                hash: hasher.finalize().into(),
            });
            self.reply(&Message::Have(probe.file, marks.collect()));
        }
        self.told.push_back(Told {
            file: probe.file,
            whole,
            hashed: probe.hashed,
        });
    }

    /// The first of the files that were told of, if it is this one.
    fn take_told(&mut self, file: u32, whole: bool) -> Option<Told> {
        let idle = self.is_idle();
        let is_it = |told: &Told| idle && told.file == file && told.whole.is_some() == whole;
        self.told.front().is_some_and(is_it).then(|| self.told.pop_front())?
    }

    fn on_start(&mut self, file: u32, offset: u64, store: &mut dyn Store) -> Result<(), Violation> {
        let unexpected = Violation::Unexpected(Message::Start(0, 0).kind());
        let told = self.take_told(file, false).ok_or(unexpected)?;
        let hasher = if offset == 0 {
            blake3::Hasher::new()
        } else {
            let marked = told.hashed.into_iter().find(|(marked, _)| *marked == offset);
            marked.ok_or(Violation::Malformed)?.1
        };
        let key = self.key(&self.entries[file as usize]);
        match store.open(key, offset) {
            Ok(()) => {
                self.incoming = Incoming::File {
                    file,
                    key,
                    at: offset,
                    hasher: Box::new(hasher),
                };
                self.events.push_back(Event::Began(file, offset));
            }
            Err(error) => {
                self.on_disk_error(file, error);
                self.leave(file);
            }
        }
        Ok(())
    }

    /// The rest of this file is not wanted; the sender hears of it while it still sends.
    fn leave(&mut self, file: u32) {
        if self.phase == Phase::Taking {
            self.incoming = Incoming::Unwanted(file);
        }
    }

    fn on_data(&mut self, bytes: &[u8], store: &mut dyn Store) -> Result<(), Violation> {
        let (file, written) = match &mut self.incoming {
            Incoming::Unwanted(_) => return Ok(()),
            Incoming::Nothing => return Err(Violation::Unexpected(Message::Data(b"").kind())),
            Incoming::File { file, key, at, hasher } => {
                if bytes.len() as u64 > self.entries[*file as usize].size() - *at {
                    return Err(Violation::Malformed);
                }
                let written = store.write(*key, *at, bytes);
                if written.is_ok() {
                    hasher.update(bytes);
                    *at += bytes.len() as u64;
                }
                (*file, written)
            }
        };
        if let Err(error) = written {
            // What came of it counts as long as it is known whose it is.
            self.on_disk_error(file, error);
            self.leave(file);
        }
        Ok(())
    }

    fn on_end(&mut self, hash: [u8; 32], store: &mut dyn Store) -> Result<(), Violation> {
        let (file, key, at, found) = match core::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::File { file, key, at, hasher } => (file, key, at, hasher.finalize()),
            Incoming::Unwanted(_) => return Ok(()),
            Incoming::Nothing => return Err(Violation::Unexpected(Message::End([0; 32]).kind())),
        };
        let entry = &self.entries[file as usize];
        if at != entry.size() {
            return Err(Violation::Malformed);
        }
        if found != blake3::Hash::from_bytes(hash) && !mutant!(TransferHashUnchecked) {
            store.discard(key);
            self.reject(file, Reject::Mismatch);
            return Ok(());
        }
        match self.publish(file, key, store) {
            Ok(()) => self.stored(file, false),
            Err(error) => self.on_disk_error(file, error),
        }
        Ok(())
    }

    /// The order that a crash cannot undo: bytes, name, and only then the word that it is stored.
    fn publish(&self, file: u32, key: PartialKey, store: &mut dyn Store) -> Result<(), DiskError> {
        let entry = &self.entries[file as usize];
        let executable = matches!(entry.kind, Kind::File { executable: true, .. });
        if !mutant!(TransferPublishUnsynced) {
            store.sync(key)?;
        }
        store.publish(key, &entry.path, executable)?;
        if !mutant!(TransferNameUnsynced) {
            store.sync_name(&entry.path)?;
        }
        Ok(())
    }

    fn on_whole(&mut self, file: u32, hash: [u8; 32], store: &mut dyn Store) -> Result<(), Violation> {
        let unexpected = Violation::Unexpected(Message::Whole(0, [0; 32]).kind());
        let told = self.take_told(file, true).ok_or(unexpected)?;
        if told.whole != Some(blake3::Hash::from_bytes(hash)) {
            self.reject(file, Reject::Exists);
            return Ok(());
        }
        // It may have got its name just before a crash, and its name may not be on disk.
        let entry = &self.entries[file as usize];
        let synced = store.sync_name(&entry.path);
        store.discard(self.key(entry));
        match synced {
            Ok(()) => self.stored(file, true),
            Err(error) => self.on_disk_error(file, error),
        }
        Ok(())
    }

    fn on_skip(&mut self, file: u32, why: Skip) -> Result<(), Violation> {
        match self.incoming {
            Incoming::Unwanted(unwanted) if unwanted == file => {
                self.incoming = Incoming::Nothing;
                return Ok(());
            }
            Incoming::File { file: coming, .. } if coming == file => self.incoming = Incoming::Nothing,
            Incoming::Nothing if self.told.front().is_some_and(|told| told.file == file) => {
                self.told.pop_front();
            }
            Incoming::Nothing | Incoming::File { .. } | Incoming::Unwanted(_) => {
                return Err(Violation::Unexpected(Message::Skip(0, why).kind()));
            }
        }
        if !mutant!(TransferSkipUnsettled) {
            self.settle(file);
        }
        self.events.push_back(Event::Skipped(file, why));
        Ok(())
    }

    /// A full disk ends the transfer, since the next file would meet it too; anything else, this entry alone.
    fn on_disk_error(&mut self, entry: u32, error: DiskError) {
        match error {
            DiskError::Full => self.refuse(Refusal::Full, self.totals.bytes.saturating_sub(self.progress()), 0),
            DiskError::Exists => self.reject(entry, Reject::Exists),
            DiskError::InTheWay => self.reject(entry, Reject::InTheWay),
            DiskError::Denied => self.reject(entry, Reject::Denied),
            DiskError::Failed => self.reject(entry, Reject::Failed),
        }
    }

    fn stored(&mut self, entry: u32, already: bool) {
        self.settle(entry);
        self.reply(&Message::Stored(entry));
        self.events.push_back(Event::Stored(entry, already));
    }

    fn reject(&mut self, entry: u32, why: Reject) {
        self.settle(entry);
        self.reply(&Message::Reject(entry, why));
        self.events.push_back(Event::Rejected(entry, why));
    }

    fn settle(&mut self, entry: u32) {
        self.settled += 1;
        self.settled_bytes += self.entries[entry as usize].size();
    }

    fn refuse(&mut self, why: Refusal, needed: u64, room: u64) {
        self.phase = Phase::Refused;
        self.incoming = Incoming::Nothing;
        self.reply(&Message::Refuse(why, needed, room));
        self.events.push_back(Event::Refused(why, needed, room));
    }

    fn reply(&mut self, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.replies.push_back(bytes);
    }
}
