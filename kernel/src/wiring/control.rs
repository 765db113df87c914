//! The streams on which neighbours tell each other about the mesh: one that each side opens and writes.
//!
//! Invariants: the application sees nothing of them; at most one message of each is put together at a time, and none longer
//! than the protocol's longest; what a peer says before it counts as a neighbour here waits until it does, for two sides see
//! that they have a direct path at different instants. Not here: what the messages mean (`net-mesh`).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use net_base::{SessionKey, StreamId, mutant};
use net_session::Part;
use net_wire::mesh::MAX_MESH_MESSAGE;

/// Streams of a session that its peer opened for the mesh, beyond the first: more are not told apart from it.
const MAX_EXTRA: usize = 8;
/// Messages of a session that wait for it to be a link; more than that are lost. Their credit is given back afterwards.
const MAX_EARLY: usize = 1_024;

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
    /// What arrived before we opened ours.
    early: VecDeque<Told>,
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
        let control = self.sessions.entry(session).or_default();
        control.outgoing = Some(stream);
        for told in control.early.drain(..).rev() {
            self.whole.push_front(told);
        }
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

    /// Keeps a message until the session is a link; gives it back where it is one, or where too many wait.
    pub(crate) fn hold(&mut self, told: Told) -> Option<Told> {
        match self.sessions.get_mut(&told.session) {
            Some(control)
                if control.outgoing.is_none() && control.early.len() < MAX_EARLY && !mutant!(EarlyWordsLost) =>
            {
                control.early.push_back(told);
                None
            }
            Some(_) | None => Some(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionKey = SessionKey(3);
    const THEIRS: StreamId = StreamId(1);

    fn told(number: u8) -> Told {
        Told {
            session: SESSION,
            stream: THEIRS,
            bytes: alloc::vec![number],
            len: 1,
        }
    }

    fn bytes(controls: &mut Controls) -> Vec<u8> {
        core::iter::from_fn(|| controls.pop())
            .flat_map(|told| told.bytes)
            .collect()
    }

    #[test]
    fn what_is_said_before_the_session_is_a_link_is_heard_when_it_is_one() {
        let mut controls = Controls::default();
        controls.meet(SESSION, THEIRS);
        for number in 1..4 {
            assert!(controls.hold(told(number)).is_none());
        }
        assert!(bytes(&mut controls).is_empty());
        controls.open(SESSION, StreamId(0));
        assert_eq!(bytes(&mut controls), [1, 2, 3]);
        assert!(controls.hold(told(4)).is_some(), "a link waits for nothing");
    }

    #[test]
    fn only_so_much_waits_and_nothing_does_for_a_session_that_ended() {
        let mut controls = Controls::default();
        assert!(controls.hold(told(0)).is_some());
        controls.meet(SESSION, THEIRS);
        let kept = (0..=MAX_EARLY).filter(|_| controls.hold(told(0)).is_none()).count();
        assert_eq!(kept, MAX_EARLY);
        controls.end(SESSION);
        controls.open(SESSION, StreamId(0));
        assert!(bytes(&mut controls).is_empty());
    }
}
