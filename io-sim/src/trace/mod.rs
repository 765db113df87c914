//! Pictures of a recorded run: a page for people, packets for Wireshark, a timeline for Perfetto.
//!
//! | file | role |
//! |---|---|
//! | `page.rs` | the page as one offline file: the columns it carries |
//! | `page.html`, `page.css`, `page.js` | the page's own source |
//! | `pcapng.rs` | datagrams as each machine's interface saw them, with their fates |
//! | `perfetto.rs` | trace events for `ui.perfetto.dev` |
//!
//! Invariants: a picture is a function of the history and of what is told about the run; nothing in a scenario or from a
//! peer becomes markup or script.
//! Not here: recording (`crate::history`), files and options (`cli/trace.rs`).

mod page;
mod pcapng;
mod perfetto;

use std::collections::BTreeMap;

use crate::history::{Entry, Fact, History};
use crate::run::{Report, Verdict};

pub use page::html;
pub use pcapng::pcapng;
pub use perfetto::perfetto;

/// What is told about the run beside its history.
#[derive(Clone, Debug)]
pub struct About {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The digest, in hexadecimal; empty where the run ended in a panic.
    pub digest: String,
    /// How it ended.
    pub verdict: Verdict,
    /// The checker that failed, and what it saw.
    pub failure: Option<(String, String)>,
    /// The cipher's name.
    pub cipher: &'static str,
    /// Simulated time, ms.
    pub simulated_ms: u64,
}

impl About {
    /// What a report tells.
    #[must_use]
    pub fn new(report: &Report, cipher: &'static str) -> Self {
        let failure = report.checker.clone();
        Self {
            scenario: report.scenario.clone(),
            seed: report.seed,
            digest: report.digest.clone(),
            verdict: report.verdict,
            failure: failure.map(|checker| (checker, report.failure.clone().unwrap_or_default())),
            cipher,
            simulated_ms: report.simulated_ms,
        }
    }

    const fn verdict(&self) -> &'static str {
        match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::NotDeterministic => "not deterministic",
            Verdict::Harness => "harness error",
            Verdict::OutOfTime => "out of time",
        }
    }
}

/// One end of a datagram: how a copy of it fared.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    entry: &'a Entry,
    damaged: bool,
    copy: bool,
    held: bool,
}

/// The sending every entry about a datagram belongs to, and every sending's ends.
struct Fates<'a> {
    history: &'a History,
    ends: BTreeMap<u64, Vec<End<'a>>>,
}

impl<'a> Fates<'a> {
    fn of(history: &'a History) -> Self {
        let mut fates = Self {
            history,
            ends: BTreeMap::new(),
        };
        for entry in history.iter() {
            if matches!(entry.what, Fact::Delivered { .. } | Fact::Dropped { .. })
                && let (Some(origin), end) = fates.trace(entry)
            {
                fates.ends.entry(origin.id).or_default().push(end);
            }
        }
        fates
    }

    /// Walks from an end back to its sending.
    fn trace(&self, entry: &'a Entry) -> (Option<&'a Entry>, End<'a>) {
        let (mut damaged, mut copy, mut held) = (false, false, false);
        let mut at = Some(entry);
        while let Some(here) = at {
            if matches!(here.what, Fact::Sent { .. } | Fact::Injected { .. }) {
                break;
            }
            damaged |= matches!(here.what, Fact::Damaged { .. });
            copy |= matches!(here.what, Fact::Doubled { .. });
            held |= matches!(here.what, Fact::Held { .. });
            at = here.cause.and_then(|cause| self.history.get(cause));
        }
        (
            at,
            End {
                entry,
                damaged,
                copy,
                held,
            },
        )
    }

    fn ends(&self, origin: u64) -> &[End<'a>] {
        self.ends.get(&origin).map_or(&[], Vec::as_slice)
    }

    /// What became of a sending, in words.
    fn words(&self, origin: &Entry) -> String {
        let names = self.history.names();
        let each = self.ends(origin.id).iter().map(|end| {
            let after = end.entry.at - origin.at;
            let how = how(end);
            let place = end.entry.node.map(|node| names.node(node));
            if let Fact::Dropped { cause, .. } = end.entry.what {
                let at = place.map_or_else(String::new, |place| format!(" at {place}"));
                return format!("dropped{at}: {cause}{how}");
            }
            let (ms, ns) = (after / 1_000_000, after % 1_000_000);
            format!("delivered to {} after {ms}.{ns:06} ms{how}", place.unwrap_or("?"))
        });
        let words: Vec<String> = each.collect();
        if words.is_empty() {
            "still under way".to_owned()
        } else {
            words.join("; ")
        }
    }
}

/// What happened to a copy on its way, as a suffix.
fn how(end: &End<'_>) -> String {
    let mut how = String::new();
    for (on, word) in [
        (end.damaged, "damaged"),
        (end.copy, "a second copy"),
        (end.held, "held back"),
    ] {
        if on {
            how.push_str(", ");
            how.push_str(word);
        }
    }
    how
}
