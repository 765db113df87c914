//! How far something is: a bar on a terminal, lines elsewhere, nothing in JSON.
//!
//! Invariants: lines are few (one per tenth); what is said in between stands above the bar.
//! Not here: what is counted.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

use crate::output::{Note, Out, Record};

/// A progress display on stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    out: Out,
    total: u64,
    tenth: u64,
}

impl Progress {
    /// Of `total`; `template` is indicatif's.
    pub fn new(out: Out, total: u64, template: &str) -> Self {
        let is_bar = out.is_text() && std::io::stderr().is_terminal();
        let bar = is_bar.then(|| {
            let style = ProgressStyle::with_template(template).expect("templates are constants of this crate");
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            bar.set_style(style.progress_chars("=> "));
            bar
        });
        Self {
            bar,
            out,
            total,
            tenth: 0,
        }
    }

    /// So much is done; `what` is asked for words only where they are shown.
    pub fn at(&mut self, done: u64, what: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(what());
            return;
        }
        let tenth = (done * 10).checked_div(self.total).unwrap_or(10);
        if tenth > self.tenth && self.out.is_text() {
            self.note(format!("  {:>3} %  {}", tenth * 10, what()));
        }
        self.tenth = self.tenth.max(tenth);
    }

    /// Of another total, from the start.
    pub fn restart(&mut self, total: u64) {
        self.total = total;
        self.tenth = 0;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.reset();
        }
    }

    /// Says something that stays.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.note(text),
        }
    }

    /// Tells an event, above the bar where there is one.
    pub fn event<R: Record>(&self, record: &R) {
        match &self.bar {
            Some(bar) => bar.println(record.to_string()),
            None => self.out.event(record),
        }
    }

    /// Tells an event that a bar says well enough.
    pub fn detail<R: Record>(&self, record: &R) {
        if self.bar.is_none() {
            self.out.event(record);
        }
    }

    fn note(&self, text: impl Into<String>) {
        self.out.event(&Note::new(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
