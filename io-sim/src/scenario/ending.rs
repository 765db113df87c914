//! The line that ends a file this program wrote, so that one that was cut short is told from a whole one.
//!
//! Invariants: a cut of a TOML file between two tables is TOML again; only the missing end tells. A file without the
//! opening line was written by a person and needs no end.
//! Not here: what stands between (`resolve.rs`).

/// The line that opens a file whose last line must be [`LAST`].
const FIRST: &str = "# Written by netsim; the last line is `# end`.";
/// The line that ends it.
const LAST: &str = "# end";

/// `text` with the lines that make a cut seen. It may be edited between them.
#[must_use]
pub fn ended(text: &str) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{FIRST}\n{text}{newline}{LAST}\n")
}

/// Whether the text says that it has an end and lacks it.
pub(super) fn is_cut(text: &str) -> bool {
    let promised = text.lines().next().is_some_and(|line| line.trim_end() == FIRST);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    promised && last.is_none_or(|line| line.trim_end() != LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_seen_wherever_it_falls_behind_the_first_line() {
        let whole = ended("a = 1\n[b]\nc = 2\n[d]\ne = 3");
        assert!(!is_cut(&whole));
        assert!(!is_cut(&whole.replace('\n', "\r\n")));
        assert!(!is_cut(&format!("{whole}\n\n")), "an editor adds empty lines");
        let first = FIRST.len();
        for end in first..whole.len() - 1 {
            assert!(is_cut(&whole[..end]), "{}", &whole[..end]);
        }
    }

    #[test]
    fn a_file_written_by_hand_needs_no_end() {
        assert!(!is_cut(""));
        assert!(!is_cut("a = 1\n"));
    }
}
