//! Equal work of many machines, done once: a world's machines check the same signatures.
//!
//! Invariants: a result is a function of what names the job, so nothing but the time a run takes depends on what is
//! remembered. Not here: when a job's result arrives (`mod.rs`).

use std::collections::HashMap;

use net_kernel::api::{Job, JobDone};

/// Results remembered; all are forgotten for one more.
const LIMIT: usize = 65_536;

/// Results by the job's name.
#[derive(Default)]
pub(super) struct Memo(HashMap<[u8; 32], JobDone>);

impl Memo {
    /// Does a job, or finds what it came to before.
    pub(super) fn run(&mut self, job: Job, entropy: &mut dyn FnMut(&mut [u8; 32])) -> JobDone {
        let Some(name) = job.fingerprint() else {
            return job.run(entropy);
        };
        if let Some(known) = self.0.get(&name).and_then(JobDone::again) {
            return known;
        }
        let done = job.run(entropy);
        if let Some(copy) = done.again() {
            if self.0.len() == LIMIT {
                self.0.clear();
            }
            self.0.insert(name, copy);
        }
        done
    }
}
