//! Absolute limits: how far a sender may go and how far a receiver lets it.
//!
//! Invariants: limits never shrink (RFC 9000 section 4.1); what is consumed never exceeds what is used, what is used
//! never exceeds what is granted.
//! Not here: frames that carry the limits, positions inside a stream.

use net_wire::DropReason;

/// The sender's side of one limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendLimit {
    limit: u64,
    used: u64,
    reported: Option<u64>,
}

impl SendLimit {
    /// A limit of `limit` positions, none used.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            reported: None,
        }
    }

    /// The absolute limit.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How much of it is used.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// What is left of it.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.limit - self.used
    }

    /// Takes a peer's MAX_DATA or MAX_STREAM_DATA; true when it raised the limit. A lower one is old news.
    pub fn raise(&mut self, limit: u64) -> bool {
        let raised = limit > self.limit;
        if raised {
            self.limit = limit;
        }
        raised
    }

    /// Counts `amount` as used. The caller sent no more than [`Self::available`].
    pub fn spend(&mut self, amount: u64) {
        debug_assert!(amount <= self.available(), "sent beyond the credit");
        self.used = self.used.saturating_add(amount).min(self.limit);
    }

    /// True once per limit: whether being blocked at it is worth a BLOCKED frame.
    pub fn report_blocked(&mut self) -> bool {
        let fresh = self.reported != Some(self.limit);
        self.reported = Some(self.limit);
        fresh
    }

    /// Lets [`Self::report_blocked`] speak again: the frame that reported it was lost.
    pub fn forget_report(&mut self) {
        self.reported = None;
    }
}

/// The receiver's side of one limit: what it granted, what the peer used, what was drained.
#[derive(Clone, Copy, Debug)]
pub struct RecvWindow {
    window: u64,
    granted: u64,
    used: u64,
    consumed: u64,
    urgent: bool,
}

impl RecvWindow {
    /// A window of `window` positions, at least [`Self::MIN`], wholly granted at the start.
    #[must_use]
    pub fn new(window: u64) -> Self {
        let window = window.max(Self::MIN);
        Self {
            window,
            granted: window,
            used: 0,
            consumed: 0,
            urgent: false,
        }
    }

    /// The smallest window, in positions: a quarter of it holds what a sender may need at once to go on.
    pub const MIN: u64 = 4096;

    /// Positions the peer may use ahead of what was consumed.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.window
    }

    /// The absolute limit granted to the peer.
    #[must_use]
    pub const fn granted(&self) -> u64 {
        self.granted
    }

    /// How far the peer went.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// How much of it was consumed.
    #[must_use]
    pub const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Widens the window; narrowing is ignored, as what was granted stays granted.
    pub fn widen(&mut self, window: u64) {
        self.window = self.window.max(window);
    }

    /// The peer used up to the absolute position `to`; returns by how much that is more than before.
    ///
    /// # Errors
    /// [`DropReason::FlowControl`] beyond the granted limit; nothing is changed.
    pub fn advance_to(&mut self, to: u64) -> Result<u64, DropReason> {
        if to > self.granted {
            return Err(DropReason::FlowControl);
        }
        let more = to.saturating_sub(self.used);
        self.used += more;
        Ok(more)
    }

    /// The peer used `amount` more (a session's sum over its streams).
    ///
    /// # Errors
    /// [`DropReason::FlowControl`] beyond the granted limit; nothing is changed.
    pub fn advance(&mut self, amount: u64) -> Result<(), DropReason> {
        self.advance_to(self.used.checked_add(amount).ok_or(DropReason::FlowControl)?)?;
        Ok(())
    }

    /// `amount` positions were drained, never more than were used.
    pub fn consume(&mut self, amount: u64) {
        debug_assert!(amount <= self.used - self.consumed, "drained what never came");
        self.consumed = self.consumed.saturating_add(amount).min(self.used);
    }

    /// The peer says it is blocked: the next [`Self::grant`] answers with whatever there is.
    pub fn press(&mut self) {
        self.urgent = true;
    }

    /// A new absolute limit to tell the peer, when a quarter of the window became free (or anything at all after
    /// [`Self::press`]).
    pub fn grant(&mut self) -> Option<u64> {
        self.grant_up_to(u64::MAX)
    }

    /// As [`Self::grant`], never beyond `ceiling`.
    pub fn grant_up_to(&mut self, ceiling: u64) -> Option<u64> {
        let limit = self.consumed.saturating_add(self.window).min(ceiling);
        let more = limit.saturating_sub(self.granted);
        if more == 0 || (more < self.window / 4 && !self.urgent) {
            return None;
        }
        self.urgent = false;
        self.granted = limit;
        Some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sender_spends_what_it_was_given_and_reports_each_limit_once() {
        let mut limit = SendLimit::new(100);
        limit.spend(60);
        assert_eq!((limit.used(), limit.available()), (60, 40));
        assert!(!limit.raise(90), "old news");
        assert_eq!(limit.limit(), 100);
        limit.spend(40);
        assert!(limit.report_blocked());
        assert!(!limit.report_blocked());
        limit.forget_report();
        assert!(limit.report_blocked());
        assert!(limit.raise(200));
        assert!(limit.report_blocked());
        assert_eq!(limit.available(), 100);
    }

    #[test]
    fn credit_beyond_the_grant_is_refused_and_changes_nothing() {
        let mut window = RecvWindow::new(5000);
        assert_eq!(window.advance_to(5001), Err(DropReason::FlowControl));
        assert_eq!(window.used(), 0);
        assert_eq!(window.advance_to(5000), Ok(5000));
        assert_eq!(window.advance_to(100), Ok(0));
        assert_eq!(window.advance(1), Err(DropReason::FlowControl));
        assert_eq!(window.advance(u64::MAX), Err(DropReason::FlowControl));
        window.consume(1249);
        assert_eq!(window.grant(), None);
        window.consume(1);
        assert_eq!(window.grant(), Some(6250));
        assert_eq!(window.grant(), None);
        window.consume(1);
        window.press();
        assert_eq!(window.grant_up_to(6250), None);
        assert_eq!(window.grant(), Some(6251));
        assert_eq!(RecvWindow::new(1).granted(), RecvWindow::MIN);
    }

    proptest! {
        #[test]
        fn a_drained_window_is_whole_again(
            size in RecvWindow::MIN..100_000,
            steps in prop::collection::vec((any::<u16>(), any::<u16>()), 1..100),
        ) {
            let mut window = RecvWindow::new(size);
            let mut sender = SendLimit::new(window.granted());
            for (send, drain) in steps {
                let amount = sender.available().min(send as u64);
                sender.spend(amount);
                prop_assert_eq!(window.advance(amount), Ok(()));
                window.consume((window.used() - window.consumed()).min(drain as u64));
                if let Some(limit) = window.grant() {
                    prop_assert!(sender.raise(limit));
                }
                prop_assert!(window.granted() <= window.consumed() + size);
            }
            window.consume(window.used() - window.consumed());
            window.press();
            window.grant();
            prop_assert_eq!(window.granted(), window.used() + size);
        }
    }
}
