//! Threads that open and seal packets beside the driver.
//!
//! The driver puts the pieces of a turn on the table and takes them off one by one, as do the helpers; what no helper has taken
//! the driver does itself, so that a helper that sleeps costs nothing but its help.
//! Invariants: a piece is run once; when [`Crew::run`] returns or unwinds nobody holds a piece; an idle helper sleeps; threads
//! end when the driver does. Not here: what the pieces do (`net-session`, `lane/shared.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::api::{Crew, MAX_PIECES, Piece};

/// Work on fewer bytes is done before a helper would have begun (about 10 us of ChaCha20-Poly1305).
const LEAST: usize = 16 << 10;
/// Bytes of a piece: small, so that nobody waits long for the last one.
const PIECE: usize = 6 << 10;
/// How long a helper looks for the next turn's pieces before it sleeps: longer than reading a batch takes, as waking it costs
/// the driver more than 10 us where processors are virtual.
const LOOK: Duration = Duration::from_micros(200);
/// A piece takes about 10 us; a helper that takes so much longer is taken to have lost its processor.
const PATIENCE: Duration = Duration::from_micros(50);
/// After a helper lost its processor so many works are done without: at first, and at most.
const ALONE: (u32, u32) = (16, 1 << 12);
/// So many works in a row without that forget earlier ones.
const FORGIVE: u32 = 256;

/// See the module.
#[derive(Debug)]
pub struct Helpers {
    table: Arc<Table>,
    threads: Vec<thread::JoinHandle<()>>,
    quarantine: Quarantine,
}

/// On a host whose processors are taken helpers keep the driver waiting instead of helping it: then they are left alone for longer and
/// longer.
#[derive(Debug)]
struct Quarantine {
    /// Works still to be done without helpers.
    left: u32,
    /// How many next time.
    next: u32,
    /// Works done together since the last time.
    good: u32,
}

impl Quarantine {
    const fn new() -> Self {
        Self {
            left: 0,
            next: ALONE.0,
            good: 0,
        }
    }

    /// Whether the next work is to be done without helpers.
    const fn holds(&mut self) -> bool {
        let holds = self.left > 0;
        self.left = self.left.saturating_sub(1);
        holds
    }

    /// A work was done together; `waited` where a helper lost its processor meanwhile.
    fn on_run(&mut self, waited: bool) {
        if waited {
            self.left = self.next;
            self.next = (self.next * 2).min(ALONE.1);
            self.good = 0;
        } else {
            self.good += 1;
            if self.good == FORGIVE {
                self.next = ALONE.0;
                self.good = 0;
            }
        }
    }
}

/// Where pieces lie.
#[derive(Debug)]
struct Table {
    /// Which run this is (upper half), how many pieces it has, and how many of them were taken (16 bits each). A helper that
    /// slept in the midst of taking one would have to miss exactly 2^32 runs to take it for another.
    taken: AtomicU64,
    /// The first of them.
    pieces: AtomicPtr<Piece<'static>>,
    done: AtomicUsize,
    panicked: AtomicBool,
    ended: AtomicBool,
    asleep: Box<[AtomicBool]>,
}

impl Helpers {
    /// Starts so many threads, or as many as the host gives.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::looking(count, LOOK)
    }

    /// The same with threads that look for so long before they sleep.
    #[must_use]
    pub fn looking(count: usize, look: Duration) -> Self {
        let table = Arc::new(Table {
            taken: AtomicU64::new(0),
            pieces: AtomicPtr::default(),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            asleep: (0..count).map(|_| AtomicBool::new(false)).collect(),
        });
        let threads = (0..count).map_while(|at| {
            let table = table.clone();
            let helper = thread::Builder::new().name("net-lane".into());
            let started = helper.spawn(move || table.help(at, look));
            started
                .inspect_err(|error| tracing::warn!(%error, "a thread for the cipher could not be started"))
                .ok()
        });
        let threads = threads.collect();
        Self {
            table,
            threads,
            quarantine: Quarantine::new(),
        }
    }
}

impl Crew for Helpers {
    fn pieces(&mut self, bytes: usize) -> usize {
        if bytes < LEAST || self.threads.is_empty() || self.quarantine.holds() {
            return 1;
        }
        (bytes / PIECE).clamp(2, MAX_PIECES)
    }

    fn run(&mut self, pieces: &mut [Piece<'_>]) {
        let count = pieces.len();
        assert!(count <= MAX_PIECES, "at most what was said");
        let table = &*self.table;
        table.done.store(0, Ordering::Relaxed);
        table.pieces.store(pieces.as_mut_ptr().cast(), Ordering::Relaxed);
        let run = (table.taken.load(Ordering::Relaxed) >> 32) + 1;
        table.taken.store(run << 32 | (count as u64) << 16, Ordering::SeqCst);
        for (asleep, helper) in table.asleep.iter().zip(&self.threads).take(count - 1) {
            if asleep.swap(false, Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
        table.work();
        let (begun, mut waited) = (Instant::now(), false);
        while table.done.load(Ordering::Acquire) < count {
            if waited {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
                waited = begun.elapsed() > PATIENCE;
            }
        }
        self.quarantine.on_run(waited);
        assert!(
            !self.table.panicked.swap(false, Ordering::Relaxed),
            "a piece of this turn's work panicked"
        );
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.table.ended.store(true, Ordering::SeqCst);
        for helper in self.threads.drain(..) {
            helper.thread().unpark();
            // A helper catches what its pieces do, so there is nothing to be told.
            let _ = helper.join();
        }
    }
}

impl Table {
    fn has_pieces(&self) -> bool {
        let taken = self.taken.load(Ordering::SeqCst);
        (taken as u16) < (taken >> 16) as u16
    }

    /// Takes a piece, if there is one left.
    fn take(&self) -> Option<usize> {
        let mut seen = self.taken.load(Ordering::Acquire);
        loop {
            let (next, count) = (seen as u16, (seen >> 16) as u16);
            if next >= count {
                return None;
            }
            match self
                .taken
                .compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(usize::from(next)),
                Err(now) => seen = now,
            }
        }
    }

    /// Runs pieces until all are taken.
    fn work(&self) {
        while let Some(at) = self.take() {
            let first = self.pieces.load(Ordering::Relaxed);
            // SAFETY: `at` is this thread's alone (`take`), and the slice is there: `run` wrote it before it released `taken`,
            // from which `take` acquired, and holds it borrowed, neither returning nor unwinding, until `done` counts
            // this piece, below and after its last use. So nothing that it borrows ends meanwhile, whatever lifetime is
            // written here; and a piece is `Send`.
            let piece = unsafe { &mut *first.add(at) };
            if catch_unwind(AssertUnwindSafe(piece)).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }

    fn help(&self, me: usize, look: Duration) {
        let mut since = Instant::now();
        while !self.ended.load(Ordering::SeqCst) {
            if self.has_pieces() {
                self.work();
                since = Instant::now();
            } else if since.elapsed() < look {
                std::hint::spin_loop();
            } else {
                // Whoever puts pieces down looks at this afterwards, so one of both sees the other.
                self.asleep[me].store(true, Ordering::SeqCst);
                if !self.has_pieces() && !self.ended.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.asleep[me].store(false, Ordering::SeqCst);
                since = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    /// In simulations the order is drawn, and differs.
    #[test]
    fn a_drawn_crew_runs_pieces_in_orders_that_differ() {
        let seed = crate::api::Seed::new([1; 32]);
        let mut crew = net_kernel::session::crew::Drawn::new(seed.fork("crew"), 0);
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let (clock, mut times) = (AtomicU32::new(0), [0; 3]);
            let mut works = times
                .each_mut()
                .map(|time| || *time = clock.fetch_add(1, Ordering::Relaxed));
            crew.run(&mut works.each_mut().map(|work| work as Piece<'_>));
            orders.insert(times);
        }
        assert_eq!(orders.len(), 6, "every order comes up");
    }

    /// Runs `count` pieces; each adds its number to its own cell, which must have been clean.
    fn round(helpers: &mut Helpers, count: usize, number: u32) {
        let mut cells = [0_u32; MAX_PIECES];
        let mut works = cells.each_mut().map(|cell| move || *cell += number);
        helpers.run(&mut works.each_mut().map(|work| work as Piece<'_>)[..count]);
        for (at, cell) in cells.iter().enumerate() {
            assert_eq!(*cell, if at < count { number } else { 0 }, "piece {at} of {count}");
        }
    }

    #[test]
    fn every_piece_of_every_run_is_done_once_and_before_the_run_ends() {
        for count in [0, 1, 3] {
            let mut helpers = Helpers::start(count);
            for number in 0..20_000 {
                round(&mut helpers, 1 + number as usize % MAX_PIECES, number);
                if number % 1_000 == 0 {
                    // Long enough for helpers to fall asleep, or not: both must work.
                    thread::yield_now();
                    round(&mut helpers, 2, 7);
                }
            }
        }
    }

    #[test]
    fn a_sleeping_helper_is_woken_and_takes_its_part() {
        let mut helpers = Helpers::start(1);
        while !helpers.table.asleep[0].load(Ordering::SeqCst) {
            thread::yield_now();
        }
        // Each piece waits for the other, so one thread alone would wait for ever.
        let met = AtomicU32::new(0);
        let mut works = [(); 2].map(|()| {
            || {
                met.fetch_add(1, Ordering::SeqCst);
                while met.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            }
        });
        helpers.run(&mut works.each_mut().map(|work| work as Piece<'_>));
        assert_eq!(met.into_inner(), 2);
    }

    #[test]
    fn a_piece_that_panics_is_told_after_all_others_are_done() {
        let mut helpers = Helpers::start(1);
        let done = AtomicU32::new(0);
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let mut works = [0, 1, 2, 3].map(|at| {
                let done = &done;
                move || {
                    assert_ne!(at, 1, "as planned");
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
            helpers.run(&mut works.each_mut().map(|work| work as Piece<'_>));
        }));
        assert!(panics.is_err());
        assert_eq!(done.load(Ordering::SeqCst), 3);
        round(&mut helpers, 4, 9);
    }

    #[test]
    fn helpers_without_a_processor_are_left_alone_for_longer_and_longer() {
        let mut quarantine = Quarantine::new();
        assert!(!quarantine.holds());
        let mut alone = Vec::new();
        for _ in 0..12 {
            quarantine.on_run(true);
            alone.push(std::iter::from_fn(|| quarantine.holds().then_some(())).count());
        }
        assert_eq!(alone[..3], [16, 32, 64]);
        assert_eq!(alone[11], ALONE.1 as usize, "at most");
        for _ in 0..FORGIVE {
            quarantine.on_run(false);
            assert!(!quarantine.holds());
        }
        quarantine.on_run(true);
        assert_eq!(quarantine.left, ALONE.0, "what was long ago is forgotten");
    }

    #[test]
    fn little_work_is_not_handed_out() {
        let mut helpers = Helpers::start(1);
        assert_eq!(helpers.pieces(LEAST - 1), 1);
        assert_eq!(helpers.pieces(LEAST), 2);
        assert_eq!(helpers.pieces(64_000), 10);
        assert_eq!(helpers.pieces(1 << 20), MAX_PIECES);
        assert_eq!(Helpers::start(0).pieces(1 << 20), 1, "there is nobody to help");
    }
}
