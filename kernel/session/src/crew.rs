//! Who does pure work beside the kernel: pieces that have nothing in common, in any order or at once.
//!
//! Invariants: a piece runs once; when [`Crew::run`] returns all have; what comes of them does not depend on who ran
//! which and when. Not here: what the pieces do (`lane/shared.rs`), threads (`net-io-real`).

use net_base::rng::Stream;

/// Pieces that work is cut into at most.
pub const MAX_PIECES: usize = 16;

/// A piece of work. It holds what it works on, and nothing that another piece holds mutably.
pub type Piece<'p> = &'p mut (dyn FnMut() + Send + 'p);

/// See the module.
pub trait Crew {
    /// Into how many pieces work on so many bytes is worth being cut, at most [`MAX_PIECES`]. Below two it is not
    /// worth it, and is done where it arises.
    fn pieces(&mut self, bytes: usize) -> usize;

    /// Runs every piece once and returns when all are done.
    fn run(&mut self, pieces: &mut [Piece<'_>]);
}

/// A crew without hands: it runs the pieces on the spot, in an order drawn from a seed, so that a simulation shows that
/// the order does not matter.
#[derive(Debug)]
pub struct Drawn {
    rng: Stream,
    /// Work on fewer bytes is not cut.
    least: usize,
    /// Pieces run so far.
    ran: u64,
}

impl Drawn {
    /// Cuts work on at least `least` bytes, into a number of pieces that is drawn each time.
    #[must_use]
    pub const fn new(rng: Stream, least: usize) -> Self {
        Self { rng, least, ran: 0 }
    }

    /// Pieces run so far.
    #[must_use]
    pub const fn ran(&self) -> u64 {
        self.ran
    }
}

impl Crew for Drawn {
    fn pieces(&mut self, bytes: usize) -> usize {
        if bytes < self.least {
            return 1;
        }
        1 + self.rng.below(MAX_PIECES as u64) as usize
    }

    fn run(&mut self, pieces: &mut [Piece<'_>]) {
        self.ran += pieces.len() as u64;
        for left in (1..=pieces.len()).rev() {
            pieces[..left].swap(self.rng.below(left as u64) as usize, left - 1);
            pieces[left - 1]();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_base::rng::Seed;

    // (That orders differ is tested in `net-io-real`, where pieces may share a clock.)
    #[test]
    fn drawn_runs_each_piece_once() {
        let mut crew = Drawn::new(Seed::new([1; 32]).fork("crew"), 10);
        assert_eq!(crew.pieces(9), 1);
        for _ in 0..8 {
            let mut times = [0; 4];
            let mut works = times.each_mut().map(|time| || *time += 1);
            crew.run(&mut works.each_mut().map(|work| work as Piece<'_>));
            assert_eq!(times, [1; 4]);
        }
        assert_eq!(crew.ran(), 32);
        assert!(
            (0..100)
                .map(|_| crew.pieces(10))
                .all(|count| (1..=MAX_PIECES).contains(&count))
        );
    }
}
