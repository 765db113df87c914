//! What makes two failures the same one: the checker that saw it and what it said, without what a smaller run changes.
//!
//! Invariants: a signature holds no number, no time and no name of a workload, so that it survives the removal of anything
//! that is not its cause; two checkers never share one.
//! Not here: what checkers say (`check/`).

use crate::run::{Report, Verdict};

/// What a failure is called, or `None` for a run that passed: `checker: what it said`, where every number has become `#`,
/// every hexadecimal word of eight digits or more `#`, the time at which it was seen is left out, and of several clauses
/// (`; `) each stands once. A liveness failure is called by its checker alone, since it lists what each workload still owes.
#[must_use]
pub fn signature(report: &Report) -> Option<String> {
    if report.verdict == Verdict::Pass {
        return None;
    }
    let checker = report.checker.as_deref().unwrap_or("harness");
    let said = report.failure.as_deref().unwrap_or_default();
    Some(of(checker, said))
}

fn of(checker: &str, said: &str) -> String {
    let said = said
        .strip_prefix("at ")
        .and_then(|rest| rest.split_once(" s: "))
        .map_or(said, |(_, rest)| rest);
    if matches!(checker, "liveness" | "determinism") {
        return checker.to_owned();
    }
    let mut clauses: Vec<String> = Vec::new();
    for clause in said.split("; ").map(without_numbers) {
        if !clauses.contains(&clause) {
            clauses.push(clause);
        }
    }
    format!("{checker}: {}", clauses.join("; "))
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
    }

    #[test]
    fn another_sentence_or_another_checker_is_another_failure() {
        assert_ne!(of("a", "message 7 came again"), of("a", "message 7 came late"));
        assert_ne!(of("a", "message 7 came again"), of("b", "message 7 came again"));
    }

    #[test]
    fn what_is_owed_may_become_less_in_a_smaller_run() {
        let both = of(
            "liveness",
            "at 9.0 s: ab: 3 of 5 messages arrived; it has no session; cd: 1 of 2",
        );
        assert_eq!(
            both,
            of("liveness", "at 9.0 s: cd: 0 of 2 messages arrived; it has no session")
        );
        assert_eq!(of("x", "it leaks 3; it leaks 4; it grows"), "x: it leaks #; it grows");
    }
}
