//! Heavy work of the handshake as values: they leave as [`Job`], run anywhere, and come back as [`JobDone`].
//!
//! Invariants: a job holds everything it needs and is a pure function of it and of the fresh entropy it is
//! lent; secrets in jobs and results are wiped when dropped and never printed.
//! Not here: when jobs are handed out and whether their result still counts (`mod.rs`).

use core::fmt;

/// One piece of work. Opaque; may run on any thread.
pub struct Job(());

impl Job {
    /// Does the work. `entropy` fills 32 bytes from the operating system (in simulation: from the seed); they
    /// are mixed into every ephemeral key, so that a cloned machine repeats none.
    #[must_use]
    pub fn run(self, entropy: &mut dyn FnMut(&mut [u8; 32])) -> JobDone {
        let _ = entropy;
        JobDone(())
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job(..)")
    }
}

/// The result of a job.
pub struct JobDone(());

impl fmt::Debug for JobDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobDone(..)")
    }
}
