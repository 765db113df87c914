//! Workloads of kind `file`: trees of files to be transferred.
//!
//! Invariants: a tree fits into memory many times over. Not here: what the files hold (`world/tree.rs`).

use net_kernel::transfer::limit::MAX_MESSAGE;

use super::table::{Read, Table};
use super::{Scenario, WorkloadKind};

/// Bytes that all files of one workload may have.
const MOST: u64 = 16 << 20;
/// Files, and directories, of one workload.
const MOST_ENTRIES: u64 = 1_000;

/// A tree of files, sent until every file is settled.
#[derive(Clone, Debug)]
pub struct FileWorkload {
    /// Files.
    pub files: u64,
    /// Smallest and largest file.
    pub size: (u64, u64),
    /// Directories in which they lie, beside those that lie in none.
    pub directories: u64,
    /// Whether the first of them have names that must not be used as they are.
    pub hostile: bool,
    /// The probability that a file is at the receiver before, in parts per billion.
    pub same: u64,
    /// That another file of its name is.
    pub other: u64,
    /// That a file becomes another, shorter or unreadable at some moment.
    pub changes: u64,
    /// That the sender's memory flips a bit of a message of data before it is sent.
    pub flips: u64,
    /// Whether it must complete.
    pub must_complete: bool,
}

/// The keys of a workload of kind `file`.
pub(super) fn file(table: &mut Table<'_>) -> Read<FileWorkload> {
    let workload = FileWorkload {
        files: table.number("files")?.unwrap_or(4),
        size: table.size_range("size")?.unwrap_or((0, 128 << 10)),
        directories: table.number("directories")?.unwrap_or(0),
        hostile: table
            .word("names", &[("plain", false), ("hostile", true)])?
            .unwrap_or(false),
        same: table.probability("same")?.unwrap_or(0),
        other: table.probability("other")?.unwrap_or(0),
        changes: table.probability("changes")?.unwrap_or(0),
        flips: table.probability("flips")?.unwrap_or(0),
        must_complete: table
            .word("must_complete", &[("true", true), ("false", false)])?
            .unwrap_or(true),
    };
    if table.outlined() {
        return Ok(workload);
    }
    if workload.files.max(workload.directories) > MOST_ENTRIES {
        let what = format!("a file workload has at most {MOST_ENTRIES} files and as many directories");
        return Err(table.error_at("files", what));
    }
    if workload.files * workload.size.1 > MOST {
        let what = format!("the files of a workload are kept in memory: at most {MOST} B in all");
        return Err(table.error_at("size", what));
    }
    Ok(workload)
}

/// The application grants credit when it took a message whole, so that one must fit.
pub(super) fn fits(root: &Table<'_>, scenario: &Scenario) -> Read<()> {
    let files = |kind: &WorkloadKind| matches!(kind, WorkloadKind::File(_));
    let least = 2 * MAX_MESSAGE as u64;
    let config = &scenario.config;
    let window = config.stream_window.min(config.session_window).min(config.send_buffer);
    let any = scenario.workloads.iter().any(|workload| files(&workload.kind));
    if any && window < least && !root.outlined() {
        let what =
            format!("a file workload needs `stream_window`, `session_window` and `send_buffer` of {least} B at least");
        return Err(root.error_at("config", what));
    }
    Ok(())
}
