//! The streams on which neighbours tell each other about the mesh: one that each side opens and writes.
//!
//! Invariants: the application sees nothing of them; at most one message of each is put together at a time, and none longer
//! than the protocol's longest. Not here: what the messages mean (`net-mesh`).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use net_base::{SessionKey, StreamId};
use net_session::Part;
use net_wire::mesh::MAX_MESH_MESSAGE;

/// Streams of a session that its peer opened for the mesh, beyond the first: more are not told apart from it.
const MAX_EXTRA: usize = 8;

/// The streams of one session.
#[derive(Debug, Default)]
struct Control {
    /// Ours.
    outgoing: Option<StreamId>,
    /// The peer's: its messages on the first one count.
    incoming: Vec<StreamId>,
    /// The message that is being put together, and how long it is.
    partial: Vec<u8>,
    len: u64,
}

/// A message of the mesh that arrived whole.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) session: SessionKey,
    pub(crate) stream: StreamId,
    /// Empty where it was longer than any message may be, or not on the peer's first stream.
    pub(crate) bytes: Vec<u8>,
    /// What it took of the stream's credit.
    pub(crate) len: u64,
}

/// The streams of every session.
#[derive(Debug, Default)]
pub(crate) struct Controls {
    sessions: BTreeMap<SessionKey, Control>,
    whole: VecDeque<Told>,
}

impl Controls {
    /// We opened ours.
    pub(crate) fn open(&mut self, session: SessionKey, stream: StreamId) {
        self.sessions.entry(session).or_default().outgoing = Some(stream);
    }

    /// The session ended.
    pub(crate) fn end(&mut self, session: SessionKey) {
        self.sessions.remove(&session);
        self.whole.retain(|told| told.session != session);
    }

    /// Our stream of a session.
    pub(crate) fn outgoing(&self, session: SessionKey) -> Option<StreamId> {
        self.sessions.get(&session)?.outgoing
    }

    /// The peer's stream whose messages count.
    pub(crate) fn incoming(&self, session: SessionKey) -> Option<StreamId> {
        self.sessions.get(&session)?.incoming.first().copied()
    }

    /// The peer uses a stream for the mesh.
    pub(crate) fn meet(&mut self, session: SessionKey, stream: StreamId) {
        let incoming = &mut self.sessions.entry(session).or_default().incoming;
        if !incoming.contains(&stream) && incoming.len() <= MAX_EXTRA {
            incoming.push(stream);
        }
    }

    /// Whether the stream is of the mesh.
    pub(crate) fn owns(&self, session: SessionKey, stream: StreamId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|control| control.outgoing == Some(stream) || control.incoming.contains(&stream))
    }

    /// A piece of a message arrived.
    pub(crate) fn take(&mut self, part: Part<'_>) {
        self.meet(part.session, part.stream);
        let first = self.incoming(part.session) == Some(part.stream);
        let Some(control) = self.sessions.get_mut(&part.session) else {
            return;
        };
        control.len += part.bytes.len() as u64;
        if first && control.partial.len() + part.bytes.len() <= MAX_MESH_MESSAGE {
            control.partial.extend_from_slice(part.bytes);
        }
        if part.end {
            let (mut bytes, len) = (core::mem::take(&mut control.partial), core::mem::take(&mut control.len));
            if bytes.len() as u64 != len {
                bytes.clear();
            }
            self.whole.push_back(Told {
                session: part.session,
                stream: part.stream,
                bytes,
                len,
            });
        }
    }

    /// Takes the oldest message that is whole.
    pub(crate) fn pop(&mut self) -> Option<Told> {
        self.whole.pop_front()
    }
}
