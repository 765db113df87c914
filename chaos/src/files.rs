//! Transfers of files as a run sees them: what is sent, what lies in the directory that receives, and what the checkers of the
//! world say of it.
//!
//! A machine has a directory for what it receives and for what `net send` keeps, and one for what it sends; both outlive its
//! processes. They are read as anyone would read them.
//! Invariants: a transfer is complete when its sender was told of every entry, and nothing is to be sent anew.
//! Not here: the commands (`bridge.rs`), disks that become full (`disk.rs`), what is in a tree (`net_io_sim::world::Tree`).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use net_io_sim::check::{FileRefused, FileStored, FileWhole, Item, Observation, Panel, Violation, wants};
use net_io_sim::scenario::{NodeIndex, Scenario, WorkloadKind};
use net_io_sim::world::{Entry, Tree};
use net_kernel::transfer::memory::Memory;
use net_kernel::transfer::name::PARTIAL_FOLDER;
use net_kernel::transfer::{Reject, SafePath, Skip, Store as _};
use net_sim_model::Key;

use crate::protocol::{LeftOut, Sent};

/// Where the machine whose state lies at `state` receives.
#[must_use]
pub fn receives(state: &Path) -> PathBuf {
    disk(state).join("in")
}

/// Where what `net` keeps for its user lies.
#[must_use]
pub fn home(state: &Path) -> PathBuf {
    disk(state).join("home")
}

/// What has a file system of its own where a scenario fills it up.
#[must_use]
pub fn disk(state: &Path) -> PathBuf {
    state.with_extension("disk")
}

/// Where the files of a workload lie at its sender.
#[must_use]
pub fn source(state: &Path, workload: usize) -> PathBuf {
    state.with_extension(format!("out-{workload}"))
}

struct Transfer {
    workload: usize,
    to: NodeIndex,
    tree: Tree,
    source: PathBuf,
    must_complete: bool,
    started: bool,
    complete: bool,
}

/// All transfers of a run.
pub struct Files {
    transfers: Vec<Transfer>,
    states: Vec<PathBuf>,
    panel: Panel,
    /// Whether a machine's disk was at fault so far.
    faulty: Vec<bool>,
}

/// What becomes of a transfer whose sender has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It is over.
    Complete,
    /// Something has to be sent anew.
    Again,
}

impl Files {
    /// Writes what will be sent and what is at the receivers before.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(scenario: &Scenario, seed: u64, states: Vec<PathBuf>) -> io::Result<Self> {
        let mut panel = Panel::bare();
        panel.add(Box::new(FileWhole::default()));
        panel.add(Box::new(FileStored::default()));
        panel.add(Box::new(FileRefused::default()));
        let mut transfers = Vec::new();
        for (workload, spec) in scenario.workloads.iter().enumerate() {
            let WorkloadKind::File(files) = &spec.kind else {
                continue;
            };
            let tree = Tree::new(workload, files, Tree::key(Key::new(seed), &spec.id));
            let source = source(&states[spec.from as usize], workload);
            let receives = receives(&states[spec.to as usize]);
            fs::create_dir_all(&receives)?;
            fs::create_dir_all(&source)?;
            for entry in &tree.entries {
                write(&source, entry)?;
                if let Some(bytes) = entry.before() {
                    put(&receives.join(entry.path.as_str()), &bytes)?;
                }
                let offered = Observation::FileOffered {
                    node: spec.to,
                    workload: workload as u32,
                    path: entry.path.as_str(),
                    item: entry.item,
                };
                panel.observe(0, wants::FILE, &offered);
            }
            transfers.push(Transfer {
                workload,
                to: spec.to,
                tree,
                source,
                must_complete: files.must_complete,
                started: false,
                complete: false,
            });
        }
        let faulty = vec![false; states.len()];
        Ok(Self {
            transfers,
            states,
            panel,
            faulty,
        })
    }

    /// Whether there are any.
    #[must_use]
    pub const fn any(&self) -> bool {
        !self.transfers.is_empty()
    }

    /// A workload begins; one of another kind does not matter here.
    pub fn start(&mut self, workload: usize) {
        let mine = self.transfers.iter_mut().filter(|one| one.workload == workload);
        mine.for_each(|one| one.started = true);
    }

    /// Whether a workload has begun and is not over.
    #[must_use]
    pub fn pursues(&self, workload: usize) -> bool {
        let mut mine = self.transfers.iter().filter(|one| one.workload == workload);
        mine.any(|one| one.started && !one.complete)
    }

    /// A fault of a machine's disk has begun.
    pub fn fault(&mut self, node: NodeIndex) {
        self.faulty[node as usize] = true;
    }

    /// Looks at what a machine has received.
    ///
    /// # Errors
    /// What the host says.
    pub fn look(&mut self, now: u64, node: NodeIndex) -> io::Result<()> {
        if !self.transfers.iter().any(|one| one.to == node) {
            return Ok(());
        }
        match read(&receives(&self.states[node as usize]))? {
            Ok(directory) => {
                let (directory, whole) = (&directory, true);
                let seen = Observation::Directory { node, directory, whole };
                self.panel.observe(now, wants::FILE, &seen);
            }
            Err(what) => self.panel.fail(now, "file-whole", format!("node {node}: {what}")),
        }
        Ok(())
    }

    /// A sender has ended, and this is what it says became of its files.
    ///
    /// # Errors
    /// What the host says.
    pub fn sent(&mut self, now: u64, workload: usize, sent: &Sent) -> io::Result<Next> {
        let Some(at) = self.transfers.iter().position(|one| one.workload == workload) else {
            return Ok(Next::Complete);
        };
        let (node, mut anew) = (self.transfers[at].to, false);
        let faulty = self.faulty[node as usize];
        let transfer = &mut self.transfers[at];
        for entry in &transfer.tree.entries {
            let path = entry.path.as_str();
            let native = native(&transfer.source, entry).display().to_string();
            let Some(LeftOut { why, .. }) = sent.left_out.iter().find(|one| one.path == native) else {
                let told = Observation::FileTold { node, path };
                self.panel.observe(now, wants::FILE, &told);
                continue;
            };
            if let Some(&why) = Reject::ALL.iter().find(|known| known.to_string() == *why) {
                anew |= match why {
                    Reject::Mismatch | Reject::Denied | Reject::Failed => true,
                    Reject::InTheWay => faulty,
                    Reject::Exists | Reject::Conflict => false,
                };
                let rejected = Observation::FileRejected {
                    node,
                    path,
                    why,
                    flipped: false,
                    faulty,
                };
                self.panel.observe(now, wants::FILE, &rejected);
            } else if let Some(&why) = Skip::ALL.iter().find(|known| known.to_string() == *why) {
                anew |= why == Skip::Changed;
                self.panel
                    .observe(now, wants::FILE, &Observation::FileSkipped { node, path, why });
            } else {
                let what = format!("`{path}` was left out for a reason that is none: {why}");
                self.panel.fail(now, "file-refused", what);
            }
        }
        if anew {
            return Ok(Next::Again);
        }
        transfer.complete = true;
        if let Ok(directory) = read(&receives(&self.states[node as usize]))? {
            let settled = Observation::FilesSettled {
                node,
                workload: workload as u32,
                directory: &directory,
            };
            self.panel.observe(now, wants::FILE, &settled);
        }
        self.look(now, node)?;
        Ok(Next::Complete)
    }

    /// The first thing that was wrong.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.panel.violation()
    }

    /// Whether all are over.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.transfers.iter().all(|one| one.complete)
    }

    /// How many are.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.transfers.iter().filter(|one| one.complete).count() as u64
    }

    /// Transfers that must complete and did not, described.
    #[must_use]
    pub fn incomplete(&self, scenario: &Scenario) -> Vec<String> {
        let owed = self.transfers.iter().filter(|one| one.must_complete && !one.complete);
        let words = owed.map(|one| {
            let (id, entries) = (&scenario.workloads[one.workload].id, one.tree.entries.len());
            format!("{id}: its {entries} entries are not all settled")
        });
        words.collect()
    }
}

/// The counter of entries that were left out for a reason.
#[must_use]
pub fn counter(why: &str) -> &'static str {
    let is = |known: &dyn std::fmt::Display| known.to_string() == why;
    if is(&Reject::Exists) {
        "file.exists"
    } else if is(&Reject::Mismatch) {
        "file.mismatch"
    } else if Reject::ALL.iter().any(|known| is(known)) {
        "file.rejected"
    } else {
        "file.skipped"
    }
}

/// Where an entry lies at its sender.
fn native(source: &Path, entry: &Entry) -> PathBuf {
    entry
        .names()
        .iter()
        .fold(source.to_owned(), |path, name| path.join(name))
}

fn write(source: &Path, entry: &Entry) -> io::Result<()> {
    let path = native(source, entry);
    let (Some(bytes), Item::File { executable, .. }) = (entry.bytes(), entry.item) else {
        return fs::create_dir_all(&path);
    };
    put(&path, &bytes)?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

/// What lies in a directory under final names, or what must not.
fn read(root: &Path) -> io::Result<Result<Memory, String>> {
    let mut memory = Memory::new();
    let mut left = vec![(root.to_owned(), Vec::<String>::new())];
    while let Some((folder, names)) = left.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                return Ok(Err(format!("{} is no text", entry.path().display())));
            };
            if names.is_empty() && name == PARTIAL_FOLDER {
                continue;
            }
            let names: Vec<String> = names.iter().cloned().chain([name]).collect();
            let joined = names.join("/");
            let safe = SafePath::new(names.iter().map(String::as_str)).filter(|safe| safe.as_str() == joined);
            let Some(safe) = safe else {
                return Ok(Err(format!("a file has the unsafe name {joined:?}")));
            };
            let metadata = fs::symlink_metadata(entry.path())?;
            if metadata.is_dir() {
                let _ = memory.make_directory(&safe);
                left.push((entry.path(), names));
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                memory.put_as(&joined, &fs::read(entry.path())?, executable);
            } else {
                return Ok(Err(format!("{joined} is neither a file nor a directory")));
            }
        }
    }
    Ok(Ok(memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(more: &str) -> Scenario {
        let text = format!(
            "schema = 1\nname = \"t\"\nduration = \"1s\"\nprogram = \"net\"\n[topology]\nnodes = [ {{ id = \"a\" }}, {{ id = \"b\" }} ]\n\
             [[workload]]\nkind = \"file\"\nid = \"f\"\nfrom = \"a\"\nto = \"b\"\nfiles = 3\nsize = \"9B\"\n{more}"
        );
        Scenario::check("t", &text).unwrap()
    }

    fn rig(more: &str) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let states = ["a", "b"].map(|name| dir.path().join(name)).to_vec();
        let mut files = Files::new(&scenario(more), 5, states).unwrap();
        files.start(0);
        (dir, files)
    }

    /// Does what a transfer would.
    fn arrive(files: &Files) {
        let transfer = &files.transfers[0];
        for entry in &transfer.tree.entries {
            let path = receives(&files.states[1]).join(entry.path.as_str());
            if !path.exists() {
                put(&path, &entry.bytes().unwrap()).unwrap();
                let from = native(&transfer.source, entry);
                fs::set_permissions(&path, fs::metadata(from).unwrap().permissions()).unwrap();
            }
        }
    }

    #[test]
    fn what_arrives_whole_completes_and_half_a_file_does_not_pass() {
        let (_dir, mut files) = rig("");
        files.look(1, 1).unwrap();
        arrive(&files);
        assert_eq!(files.sent(2, 0, &Sent::default()).unwrap(), Next::Complete);
        assert!(files.violation().is_none() && files.all_done() && !files.pursues(0));
        let first = receives(&files.states[1]).join("file-0-0");
        fs::write(&first, b"half").unwrap();
        files.look(3, 1).unwrap();
        assert_eq!(files.violation().unwrap().checker, "file-whole");
    }

    #[test]
    fn what_was_told_and_is_not_there_is_noticed() {
        let (_dir, mut files) = rig("");
        files.sent(1, 0, &Sent::default()).unwrap();
        assert_eq!(files.violation().unwrap().checker, "file-stored");
    }

    #[test]
    fn links_unsafe_names_and_causeless_refusals_are_noticed() {
        let (_dir, mut files) = rig("");
        std::os::unix::fs::symlink("/etc/passwd", receives(&files.states[1]).join("file-0-0")).unwrap();
        files.look(1, 1).unwrap();
        assert!(files.violation().unwrap().what.contains("neither"));
        let (_dir, mut files) = rig("");
        fs::write(receives(&files.states[1]).join("CON"), b"").unwrap();
        files.look(1, 1).unwrap();
        assert!(files.violation().unwrap().what.contains("unsafe"));
        for why in ["permission was denied there", &Reject::Failed.to_string()] {
            let (_dir, mut files) = rig("");
            arrive(&files);
            let path = files.transfers[0].source.join("file-0-0").display().to_string();
            let left_out = vec![LeftOut {
                path,
                why: why.to_owned(),
            }];
            let sent = Sent {
                left_out,
                ..Sent::default()
            };
            files.sent(1, 0, &sent).unwrap();
            assert_eq!(files.violation().unwrap().checker, "file-refused", "{why}");
        }
    }

    #[test]
    fn another_file_of_the_name_stays_and_is_no_reason_to_send_anew() {
        let (_dir, mut files) = rig("other = 1.0\n");
        let left_out = files.transfers[0].tree.entries.iter().map(|entry| LeftOut {
            path: native(&files.transfers[0].source, entry).display().to_string(),
            why: Reject::Exists.to_string(),
        });
        let sent = Sent {
            left_out: left_out.collect(),
            ..Sent::default()
        };
        assert_eq!(files.sent(1, 0, &sent).unwrap(), Next::Complete);
        assert!(files.violation().is_none(), "{:?}", files.violation());
    }
}
