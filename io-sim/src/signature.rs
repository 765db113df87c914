//! What makes two failures the same one: the checker that saw it and what it said, without what a smaller run changes.
//!
//! Invariants: a signature holds no number, no time and no name of a workload, so that it survives the removal of anything
//! that is not its cause; two checkers never share one.
//! Not here: what checkers say (`check/`).

use std::fmt;

use crate::run::{Report, Verdict};

/// What a failure is called.
///
/// Its clauses are what the checker said, cut at `; `, each once, where every number has become `#`, every hexadecimal word
/// of eight digits or more `#`, and the time at which it was seen is left out. Of a liveness failure, which lists what every
/// workload still owes, the clauses that only count and name workloads are left out: what stays says in which state each
/// is stuck.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Signature {
    /// The checker that saw it.
    pub checker: String,
    /// What it said.
    pub clauses: Vec<String>,
}

impl Signature {
    /// The signature of a run; `None` where it passed.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        if report.verdict == Verdict::Pass {
            return None;
        }
        let checker = report.checker.as_deref().unwrap_or("harness");
        Some(Self::said(checker, report.failure.as_deref().unwrap_or_default()))
    }

    fn said(checker: &str, said: &str) -> Self {
        let said = said
            .strip_prefix("at ")
            .and_then(|rest| rest.split_once(" s: "))
            .map_or(said, |(_, rest)| rest);
        let mut clauses: Vec<String> = Vec::new();
        for clause in said.split("; ").map(without_numbers) {
            let counts = checker == "liveness" && clause.contains(" messages arrived");
            if !counts && checker != "determinism" && !clauses.contains(&clause) {
                clauses.push(clause);
            }
        }
        Self {
            checker: checker.to_owned(),
            clauses,
        }
    }

    /// Whether a smaller run fails the same way: the same checker, and it says nothing that this one did not. A run with
    /// fewer workloads may have fewer clauses.
    #[must_use]
    pub fn covers(&self, smaller: &Self) -> bool {
        let told = smaller.clauses.iter().all(|clause| self.clauses.contains(clause));
        self.checker == smaller.checker && told && self.clauses.is_empty() == smaller.clauses.is_empty()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.checker)?;
        let mut sign = ": ";
        for clause in &self.clauses {
            write!(f, "{sign}{clause}")?;
            sign = "; ";
        }
        Ok(())
    }
}

/// When a failure was seen, ns of world time, as its report says it.
#[must_use]
pub fn seen_at(report: &Report) -> Option<u64> {
    let (time, _) = report.failure.as_deref()?.strip_prefix("at ")?.split_once(" s: ")?;
    let (seconds, micros) = time.split_once('.')?;
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    Some(seconds * 1_000_000_000 + micros * 1_000)
}

/// Every number as `#`. Lists of numbers, which grow and shrink, become one.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        push_word(&mut out, &std::mem::take(&mut word));
        if c != '\0' {
            out.push(c);
        }
    }
    for list in ["#, #", "#.#", "##"] {
        while out.contains(list) {
            out = out.replace(list, "#");
        }
    }
    out
}

fn push_word(out: &mut String, word: &str) {
    let hexadecimal = word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
    if hexadecimal {
        out.push('#');
        return;
    }
    for c in word.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(checker: &str, said: &str) -> String {
        Signature::said(checker, said).to_string()
    }

    #[test]
    fn numbers_times_and_keys_do_not_make_another_failure() {
        let one = of("stream-order", "at 3.000001 s: message 7 came again");
        assert_eq!(one, "stream-order: message # came again");
        assert_eq!(one, of("stream-order", "at 12.5 s: message 12345 came again"));
        assert_eq!(
            of("memory-bound", "node 2 holds 91 keys [1, 2, 3] of deadbeef01"),
            "memory-bound: node # holds # keys [#] of #"
        );
        assert_eq!(of("slo", "at 1.0 s: delivery.p99 is 31 ms"), "slo: delivery.p# is # ms");
        assert_eq!(of("x", "it leaks 3; it leaks 4; it grows"), "x: it leaks #; it grows");
    }

    #[test]
    fn another_sentence_or_another_checker_is_another_failure() {
        let one = Signature::said("a", "message 7 came again");
        assert!(one.covers(&Signature::said("a", "message 9 came again")));
        assert!(!one.covers(&Signature::said("a", "message 7 came late")));
        assert!(!one.covers(&Signature::said("b", "message 7 came again")));
    }

    #[test]
    fn a_smaller_run_may_owe_less_but_not_be_stuck_otherwise() {
        let two = "at 9.0 s: ab: 3 of 5 messages arrived; it has no session; cd: 1 of 2 messages arrived; 2 sent, blocked: true";
        let both = Signature::said("liveness", two);
        let one = Signature::said(
            "liveness",
            "x: 0 of 1 messages arrived and 0 of 1 back; it has no session",
        );
        assert!(both.covers(&one));
        assert!(!one.covers(&both));
        assert!(!one.covers(&Signature::said("liveness", "x: 0 of 1 messages arrived")));
    }

    #[test]
    fn the_time_of_a_failure_is_read_back() {
        assert_eq!(time("at 12.000345 s: it broke"), Some(12_000_345_000));
        assert_eq!(time("it broke"), None);
    }

    fn time(failure: &str) -> Option<u64> {
        let spec = crate::run::Spec::new(
            "x",
            "schema = 1\nname = \"x\"\nduration = \"1s\"\n[topology]\nnodes = [{ id = \"a\" }]",
        );
        let mut report = crate::run::run::<crate::kernel::ClearKernel>(&spec.expect("it is correct"), 0);
        report.failure = Some(failure.to_owned());
        seen_at(&report)
    }
}
