//! Instruction counts by callgrind against the committed ones.
//!
//! Invariants: a case that is not committed fails like one that grew; a file is rewritten only on request.
//! Not here: what is counted (`counts.rs`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::counts::{CASES, Case};
use crate::contender::Failure;

/// A count may exceed the committed one by this many thousandths before the gate fails.
pub const TOLERANCE: u64 = 30;

/// Instructions per repetition by case.
pub type Counts = BTreeMap<String, u64>;

/// Where the committed counts lie.
#[must_use]
pub fn committed_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("gate/instructions.toml")
}

/// The committed counts.
///
/// # Errors
/// Where the file is missing or is not a table of numbers.
pub fn committed(path: &Path) -> Result<Counts, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file: toml::Table = text.parse()?;
    let table = file.get("instructions").and_then(toml::Value::as_table);
    let table = table.ok_or("no table [instructions]")?;
    let entry = |(name, value): (&String, &toml::Value)| {
        let count = value.as_integer().and_then(|count| u64::try_from(count).ok());
        count
            .map(|count| (name.clone(), count))
            .ok_or(format!("{name} is not a count"))
    };
    Ok(table.iter().map(entry).collect::<Result<_, _>>()?)
}

/// Rewrites the committed counts.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(path: &Path, counts: &Counts) -> io::Result<()> {
    let mut text = String::from(
        "# Instructions per repetition, counted by callgrind; what each case is stands in src/kernel/counts.rs.\n\
         # Rewritten by: cargo run --release -p net-benches --bin gate -- --write\n\
         # A case fails at 3 % more. The cases ring_* depend on the processor and were counted where AVX2 is.\n\n\
         [instructions]\n",
    );
    for case in &CASES {
        if let Some(count) = counts.get(case.name) {
            let _ = writeln!(text, "{} = {count}", case.name);
        }
    }
    std::fs::write(path, text)
}

/// Whether a case can be compared with counts from another machine.
#[must_use]
pub fn comparable(case: &Case) -> bool {
    !case.name.starts_with("ring_") || has_avx2()
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// Whether callgrind is here and its counts mean what the committed ones do.
#[must_use]
pub fn available() -> bool {
    cfg!(target_arch = "x86_64") && Command::new("valgrind").arg("--version").output().is_ok()
}

/// Counts `cases`, each in a process of its own, as many at once as there are processors.
///
/// # Errors
/// Where a process cannot be run, fails, or counts nothing.
pub fn count(cases: &[&Case], keep: Option<&Path>) -> Result<Counts, Failure> {
    let exe = std::env::current_exe()?;
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(Ok(Counts::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let counted = count_one(&exe, case, keep);
            let mut counts = counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match (&mut *counts, counted) {
                (Ok(counts), Ok(count)) => {
                    counts.insert(case.name.to_owned(), count);
                }
                (counts @ Ok(_), Err(error)) => *counts = Err(format!("{}: {error}", case.name).into()),
                (Err(_), _) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        let others = std::thread::available_parallelism().map_or(0, |count| count.get() - 1);
        for _ in 0..others {
            scope.spawn(work);
        }
        work();
    });
    counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs one case under callgrind, which starts to count where [`super::counts::measured`] is entered and stops where it
/// is left. The profile stays at `keep` where given.
fn count_one(exe: &Path, case: &Case, keep: Option<&Path>) -> Result<u64, Failure> {
    let profile = keep.map_or(PathBuf::from("/dev/null"), |folder| folder.join(case.name));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*counts::measured*",
        ])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(exe)
        .args(["--case", case.name])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("failed under callgrind:\n{text}").into());
    }
    let line = text.lines().find_map(|line| line.split("Collected :").nth(1));
    let total: u64 = line.ok_or("callgrind printed no count")?.trim().parse()?;
    if total == 0 {
        return Err("callgrind counted nothing: the measured function was inlined".into());
    }
    Ok(total.div_ceil(case.repeats))
}

/// What the gate thinks of one count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// At most the tolerance above the committed count, and not far below it.
    Held,
    /// Less by more than the tolerance: worth committing.
    Improved,
    /// More by more than the tolerance.
    Grown,
    /// Not in the file.
    Unknown,
}

/// Compares a count with the committed one.
#[must_use]
pub fn judge(count: u64, committed: Option<u64>) -> Verdict {
    let Some(committed) = committed else {
        return Verdict::Unknown;
    };
    if count * 1_000 > committed * (1_000 + TOLERANCE) {
        Verdict::Grown
    } else if count * 1_000 < committed * (1_000 - TOLERANCE) {
        Verdict::Improved
    } else {
        Verdict::Held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_more_passes_and_a_little_over_fails() {
        assert_eq!(judge(1_030, Some(1_000)), Verdict::Held);
        assert_eq!(judge(1_031, Some(1_000)), Verdict::Grown);
        assert_eq!(judge(970, Some(1_000)), Verdict::Held);
        assert_eq!(judge(969, Some(1_000)), Verdict::Improved);
        assert_eq!(judge(1, None), Verdict::Unknown);
    }

    #[test]
    fn the_committed_file_names_exactly_the_cases() {
        let committed = committed(&committed_path()).expect("the file is in the repository");
        let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        assert_eq!(committed.keys().map(String::as_str).collect::<Vec<_>>(), names);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("net-gate-{}", std::process::id()));
        let counts: Counts = CASES
            .iter()
            .zip(1..)
            .map(|(case, count)| (case.name.to_owned(), count))
            .collect();
        write(&path, &counts).expect("the temporary folder is writable");
        let read = committed(&path);
        std::fs::remove_file(&path).expect("it was just written");
        assert_eq!(read.expect("it was just written"), counts);
    }
}
