//! Whether to look at the socket a little longer before sleeping, decided by whether that has paid off.
//!
//! To sleep and be woken costs more than a round trip on one host. Where peers answer that fast, looking is faster and
//! no dearer; everywhere else it is waste, so it stops by itself.
//! Invariants: without an answer in time the pause halves down to nothing; an answer that a pause would have caught
//! restores it; it looks only for an answer, never while its own application is about to run; a node that hears
//! nothing never looks; on a host whose processors are taken it stops for a while,
//! because there looking keeps the peer from running.
//! Not here: how one looks (`driver.rs`), on which hosts (`tokio.rs`).

use crate::api::{Duration, Instant};

/// A pause shorter than this is not worth its clock reads.
const LEAST: Duration = Duration::from_micros(2);
/// Two looks so far apart mean that something else had the processor.
const STALL: Duration = Duration::from_micros(100);
/// How long a stall switches looking off: at first, and at most.
const BAN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// So many answers found by looking without a stall forget earlier stalls.
const FORGIVE: u32 = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Spin {
    max: Duration,
    pause: Duration,
    state: State,
    /// The last look.
    looked: Instant,
    /// Looking is off until then.
    banned: Instant,
    ban: Duration,
    /// Answers found by looking since the last stall.
    found: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Busy,
    /// Somebody was woken and has not come back yet.
    Woke,
    /// Looking, and idle since then.
    Looking(Instant),
    /// Asleep, and idle since then.
    Asleep(Instant),
}

/// What to do when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Idle {
    /// Let others run, then look again.
    Look,
    /// Looking is over: arrange to be woken, then ask again.
    Arrange,
    /// Sleep.
    Sleep,
}

impl Spin {
    /// At most `max` at a time; zero never looks.
    pub(crate) const fn new(max: Duration) -> Self {
        Self {
            max,
            pause: Duration::ZERO,
            state: State::Busy,
            looked: Instant::ZERO,
            banned: Instant::ZERO,
            ban: BAN.0,
            found: 0,
        }
    }

    /// Whether this is on at all.
    pub(crate) const fn is_on(&self) -> bool {
        self.max.as_nanos() > 0
    }

    /// Whether the driver is to look at the socket itself.
    pub(crate) const fn is_looking(&self) -> bool {
        matches!(self.state, State::Looking(_))
    }

    /// Whether [`Self::on_idle`] will ask to look, so that there is no sleep before the next look.
    pub(crate) const fn will_look(&self) -> bool {
        match self.state {
            State::Looking(_) => true,
            State::Busy => self.pause.as_nanos() > 0,
            State::Woke | State::Asleep(_) => false,
        }
    }

    /// Nothing is to do.
    pub(crate) fn on_idle(&mut self, now: Instant) -> Idle {
        let gap = now.since(std::mem::replace(&mut self.looked, now));
        if self.is_looking() && gap > STALL {
            self.on_stall(now);
        }
        match self.state {
            State::Woke => {
                self.state = State::Asleep(now);
                Idle::Sleep
            }
            State::Busy if self.pause == Duration::ZERO => {
                self.state = State::Asleep(now);
                Idle::Sleep
            }
            State::Busy => {
                self.state = State::Looking(now);
                Idle::Look
            }
            State::Looking(since) if now.since(since) < self.pause => Idle::Look,
            State::Looking(since) => {
                self.pause = if self.pause < LEAST * 2 {
                    Duration::ZERO
                } else {
                    self.pause / 2
                };
                self.state = State::Asleep(since);
                Idle::Arrange
            }
            State::Asleep(_) => Idle::Sleep,
        }
    }

    /// A datagram arrived.
    pub(crate) fn on_received(&mut self, now: Instant) {
        if self.is_looking() && now.since(self.looked) > STALL {
            self.on_stall(now);
        }
        if let State::Looking(since) | State::Asleep(since) = self.state
            && now.since(since) <= self.max
            && now >= self.banned
        {
            self.pause = self.max;
            self.found = self.found.saturating_add(1);
            if self.found == FORGIVE {
                self.ban = BAN.0;
            }
        }
        self.state = State::Busy;
    }

    /// What arrived woke somebody. On a runtime of one thread looking on would only keep them from running.
    pub(crate) const fn on_woke(&mut self) {
        self.state = State::Woke;
    }

    fn on_stall(&mut self, now: Instant) {
        self.pause = Duration::ZERO;
        self.banned = now + self.ban;
        self.ban = (self.ban * 2).min(BAN.1);
        self.found = 0;
    }

    /// Something else came up: this was no wait for an answer.
    pub(crate) const fn on_busy(&mut self) {
        self.state = State::Busy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_micros(40);

    fn at(us: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(us)
    }

    #[test]
    fn a_fast_answer_turns_it_on_and_slow_ones_off() {
        let mut spin = Spin::new(MAX);
        assert_eq!(spin.on_idle(at(0)), Idle::Sleep, "nothing has shown that it pays off");
        spin.on_received(at(10));
        assert_eq!(spin.on_idle(at(11)), Idle::Look);
        assert_eq!(spin.on_idle(at(50)), Idle::Look);
        assert_eq!(spin.on_idle(at(51)), Idle::Arrange);
        assert_eq!(spin.on_idle(at(52)), Idle::Sleep);
        let mut looked = 0;
        for round in 1..20 {
            spin.on_received(at(round * 1_000));
            looked += u64::from(spin.on_idle(at(round * 1_000)) == Idle::Look);
            while spin.on_idle(at(round * 1_000 + 50)) != Idle::Sleep {}
        }
        assert!((1..10).contains(&looked), "it gives up in steps, not at once: {looked}");
        assert_eq!(spin.on_idle(at(90_000)), Idle::Sleep);
    }

    #[test]
    fn looking_is_left_only_through_arranging_to_be_woken() {
        let mut spin = Spin::new(MAX);
        spin.on_idle(at(0));
        spin.on_received(at(1));
        assert_eq!(spin.on_idle(at(2)), Idle::Look);
        assert!(spin.is_looking());
        assert_eq!(spin.on_idle(at(99)), Idle::Arrange);
        assert!(
            !spin.is_looking(),
            "the next look goes through the reactor, which keeps the waker"
        );
    }

    #[test]
    fn on_a_busy_host_it_stops_for_longer_and_longer() {
        let mut spin = Spin::new(MAX);
        let mut now = 0;
        let mut stalls = 0;
        // Every answer comes fast, and every look is interrupted for a millisecond.
        while now < 10_000_000 {
            spin.on_busy();
            spin.on_idle(at(now));
            spin.on_received(at(now + 10));
            if spin.on_idle(at(now + 11)) == Idle::Look {
                stalls += 1;
                now += 1_000;
                while spin.on_idle(at(now)) != Idle::Sleep {}
            }
            now += 100;
        }
        assert!((5..20).contains(&stalls), "{stalls}");
    }

    #[test]
    fn the_application_comes_before_another_look() {
        let mut spin = Spin::new(MAX);
        spin.on_idle(at(0));
        spin.on_received(at(1));
        spin.on_woke();
        assert_eq!(spin.on_idle(at(2)), Idle::Sleep);
        spin.on_busy();
        assert_eq!(spin.on_idle(at(3)), Idle::Look, "it has sent, and an answer is awaited");
    }

    #[test]
    fn a_sleep_is_never_announced_as_a_look() {
        let mut spin = Spin::new(MAX);
        assert!(!spin.will_look(), "nothing has shown that it pays off");
        spin.on_idle(at(0));
        assert!(!spin.will_look());
        spin.on_received(at(1));
        for us in 2..100 {
            let announced = spin.will_look();
            let idle = spin.on_idle(at(us));
            assert_eq!(announced, idle != Idle::Sleep, "at {us} us");
        }
        spin.on_received(at(100));
        spin.on_woke();
        assert!(!spin.will_look());
    }

    #[test]
    fn switched_off_it_never_looks() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.on_idle(at(0));
        spin.on_received(at(0));
        assert!(!spin.is_on());
        assert_eq!(spin.on_idle(at(0)), Idle::Sleep);
    }
}
