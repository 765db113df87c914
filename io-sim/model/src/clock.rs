//! A node's clocks as functions of the world's time.
//!
//! Invariants: the monotonic clock never goes back, whatever is done to it; converting a deadline to world time and back
//! never makes it late by more than the rounding of one nanosecond.
//! Not here: when anything happens (`net-io-sim`).

/// Both clocks of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// World time of the last change.
    base_world: u64,
    /// Monotonic time at `base_world`.
    base_mono: u64,
    /// Wall time minus monotonic time.
    wall_offset: i128,
    /// How much faster than the world this clock runs, in parts per billion.
    drift_ppb: i64,
    frozen: bool,
}

/// Clocks drift at most this much, in parts per billion either way: one tenth.
pub const MAX_DRIFT_PPB: i64 = 100_000_000;

impl Clock {
    /// At world time 0 the monotonic clock shows `mono` ns and the wall clock `wall` ns.
    #[must_use]
    pub fn new(mono: u64, wall: u64, drift_ppb: i64) -> Self {
        Self {
            base_world: 0,
            base_mono: mono,
            wall_offset: i128::from(wall) - i128::from(mono),
            drift_ppb: drift_ppb.clamp(-MAX_DRIFT_PPB, MAX_DRIFT_PPB),
            frozen: false,
        }
    }

    /// The monotonic clock at world time `world`, ns.
    #[inline]
    #[must_use]
    pub fn mono(&self, world: u64) -> u64 {
        if self.frozen {
            return self.base_mono;
        }
        let passed = world.saturating_sub(self.base_world);
        if self.drift_ppb == 0 {
            return self.base_mono.saturating_add(passed);
        }
        let drifted = u128::from(passed) * self.rate() / 1_000_000_000;
        self.base_mono
            .saturating_add(u64::try_from(drifted).unwrap_or(u64::MAX))
    }

    /// The wall clock at world time `world`, ns since the Unix epoch.
    #[inline]
    #[must_use]
    pub fn wall(&self, world: u64) -> u64 {
        let wall = i128::from(self.mono(world)) + self.wall_offset;
        u64::try_from(wall.max(0)).unwrap_or(u64::MAX)
    }

    /// The first world time at which the monotonic clock shows at least `mono`; `None` while the clock stands still.
    #[inline]
    #[must_use]
    pub fn world_at(&self, mono: u64) -> Option<u64> {
        let ahead = mono.saturating_sub(self.base_mono);
        if ahead == 0 {
            return Some(self.base_world);
        }
        if self.frozen {
            return None;
        }
        if self.drift_ppb == 0 {
            return Some(self.base_world.saturating_add(ahead));
        }
        let wide = (u128::from(ahead) * 1_000_000_000).div_ceil(self.rate());
        Some(self.base_world.saturating_add(u64::try_from(wide).unwrap_or(u64::MAX)))
    }

    /// Own nanoseconds per second of the world; positive, since drift is clamped.
    const fn rate(&self) -> u128 {
        (1_000_000_000 + self.drift_ppb) as u128
    }

    /// The wall clock is set forward or back by `by` ns at world time `world`; the monotonic clock does not notice.
    pub fn jump_wall(&mut self, world: u64, by: i64) {
        self.rebase(world);
        self.wall_offset += i128::from(by);
    }

    /// The monotonic clock runs at another speed from `world` on.
    pub fn set_drift(&mut self, world: u64, drift_ppb: i64) {
        self.rebase(world);
        self.drift_ppb = drift_ppb.clamp(-MAX_DRIFT_PPB, MAX_DRIFT_PPB);
    }

    /// Both clocks stand still from `world` on.
    pub fn freeze(&mut self, world: u64) {
        self.rebase(world);
        self.frozen = true;
    }

    /// Both clocks run on from where they stood.
    pub fn thaw(&mut self, world: u64) {
        self.rebase(world);
        self.frozen = false;
    }

    fn rebase(&mut self, world: u64) {
        self.base_mono = self.mono(world);
        self.base_world = world.max(self.base_world);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_deadline_converted_to_world_time_is_reached_exactly_then() {
        for drift in [-MAX_DRIFT_PPB, -50_000, -1, 0, 1, 50_000, MAX_DRIFT_PPB] {
            let mut clock = Clock::new(5 * SECOND, 1_700_000_000 * SECOND, 0);
            clock.set_drift(SECOND, drift);
            for mono in [6 * SECOND, 6 * SECOND + 1, 7 * SECOND + 123_456_789, 4_000 * SECOND] {
                let world = clock.world_at(mono).unwrap();
                assert!(clock.mono(world) >= mono, "drift {drift}: late");
                assert!(
                    world == SECOND || clock.mono(world - 1) < mono,
                    "drift {drift}: not the first"
                );
            }
        }
    }

    #[test]
    fn the_wall_jumps_and_the_monotonic_clock_does_not() {
        let mut clock = Clock::new(0, 100 * SECOND, 0);
        clock.jump_wall(10 * SECOND, -50 * SECOND as i64);
        assert_eq!(
            (clock.mono(11 * SECOND), clock.wall(11 * SECOND)),
            (11 * SECOND, 61 * SECOND)
        );
        clock.jump_wall(10 * SECOND, i64::MIN);
        assert_eq!(clock.wall(11 * SECOND), 0, "not before the epoch");
    }

    #[test]
    fn a_frozen_clock_has_no_future_until_it_thaws() {
        let mut clock = Clock::new(0, 0, 0);
        clock.freeze(3 * SECOND);
        assert_eq!(clock.mono(90 * SECOND), 3 * SECOND);
        assert_eq!(clock.world_at(4 * SECOND), None);
        clock.thaw(10 * SECOND);
        assert_eq!(clock.world_at(4 * SECOND), Some(11 * SECOND));
    }

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let mut clock = Clock::new(0, 0, MAX_DRIFT_PPB);
        let mut last = 0;
        for step in 0..100u64 {
            let world = step * SECOND;
            match step % 4 {
                0 => clock.set_drift(world, -MAX_DRIFT_PPB),
                1 => clock.freeze(world),
                2 => clock.thaw(world),
                _ => clock.set_drift(world, MAX_DRIFT_PPB),
            }
            assert!(clock.mono(world) >= last);
            last = clock.mono(world);
        }
    }
}
