//! How much each stream may still send: the kernel holds the credit and the lanes report it back, so that `Send`
//! is refused here and a lane never answers "full" (ARCHITECTURE, "The hot path").
//!
//! Invariants: what is used is what lanes hold and did not report; a stream's user is told of returned credit only
//! after it was refused. Not here: flow control towards the peer (`net-session`).

use net_base::map::IdMap;
use net_base::{SessionKey, StreamId};

/// Credit of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Credit {
    used: u64,
    /// Bytes that came back since the user was refused; `None` while nobody waits.
    starved: Option<u64>,
}

/// Credit of every stream.
#[derive(Debug)]
pub(crate) struct Credits {
    limit: u64,
    sessions: IdMap<SessionKey, IdMap<StreamId, Credit>>,
}

impl Credits {
    /// `limit` bytes (payload plus 16 per message) for every stream.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            sessions: IdMap::default(),
        }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn open(&mut self, session: SessionKey, stream: StreamId) {
        self.sessions
            .entry(session)
            .or_default()
            .insert(stream, Credit::default());
    }

    pub(crate) fn knows(&self, session: SessionKey, stream: StreamId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|streams| streams.contains_key(&stream))
    }

    /// Whether `cost` may be sent now: it fits, or nothing else is waiting. A refusal is remembered.
    #[inline]
    pub(crate) fn admits(&mut self, session: SessionKey, stream: StreamId, cost: u64) -> bool {
        let Some(credit) = self.get(session, stream) else {
            return false;
        };
        let used = credit.used;
        let fits = used == 0 || used.saturating_add(cost) <= self.limit;
        if !fits && let Some(credit) = self.get(session, stream) {
            credit.starved.get_or_insert(0);
        }
        fits
    }

    #[inline]
    pub(crate) fn spend(&mut self, session: SessionKey, stream: StreamId, cost: u64) {
        if let Some(credit) = self.get(session, stream) {
            credit.used = credit.used.saturating_add(cost);
        }
    }

    /// `bytes` came back. Answers how many to tell of, once a waiting user may send a fair amount again.
    pub(crate) fn restore(&mut self, session: SessionKey, stream: StreamId, bytes: u64) -> Option<u64> {
        let limit = self.limit;
        let credit = self.get(session, stream)?;
        credit.used = credit.used.saturating_sub(bytes);
        let sum = credit.starved.as_mut()?;
        *sum += bytes;
        // Half empty, so that writers and acknowledgements do not take turns over single packets.
        if credit.used > limit / 2 {
            return None;
        }
        credit.starved.take()
    }

    pub(crate) fn close(&mut self, session: SessionKey, stream: StreamId) {
        if let Some(streams) = self.sessions.get_mut(&session) {
            streams.swap_remove(&stream);
        }
    }

    pub(crate) fn end(&mut self, session: SessionKey) {
        self.sessions.swap_remove(&session);
    }

    #[inline]
    fn get(&mut self, session: SessionKey, stream: StreamId) -> Option<&mut Credit> {
        self.sessions.get_mut(&session)?.get_mut(&stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionKey = SessionKey(1);
    const STREAM: StreamId = StreamId(0);

    #[test]
    fn a_refused_writer_hears_when_half_is_free() {
        let mut credits = Credits::new(100);
        credits.open(SESSION, STREAM);
        assert!(credits.admits(SESSION, STREAM, 90));
        credits.spend(SESSION, STREAM, 90);
        assert_eq!(credits.restore(SESSION, STREAM, 10), None, "nobody waits");
        assert!(!credits.admits(SESSION, STREAM, 30));
        assert_eq!(credits.restore(SESSION, STREAM, 20), None, "still more than half full");
        assert_eq!(credits.restore(SESSION, STREAM, 20), Some(40));
        assert_eq!(credits.restore(SESSION, STREAM, 20), None, "told once");
    }

    #[test]
    fn a_message_beyond_the_limit_passes_when_nothing_else_waits() {
        let mut credits = Credits::new(100);
        credits.open(SESSION, STREAM);
        assert!(credits.admits(SESSION, STREAM, 1_000));
        credits.spend(SESSION, STREAM, 1_000);
        assert!(!credits.admits(SESSION, STREAM, 1));
    }
}
