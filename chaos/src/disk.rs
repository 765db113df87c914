//! File systems of machines' own, so that a disk can become full: small, in memory, mounted where only this program and what it
//! starts see them.
//!
//! Invariants: mounts lie in a namespace that ends with the last process of the run, whatever ends it; without leave to make
//! one, nothing is mounted and the arm says that it is unable.
//! Not here: when a disk is full (`run.rs`), what is on it (`files.rs`).

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use net_kernel::transfer::limit::CHUNK;
use net_sim_model::Key;

/// Set for the program that runs in a namespace of its own.
const INSIDE: &str = "NET_CHAOS_OWN_MOUNTS";
/// Bytes of such a file system.
const SIZE: u64 = 48 << 20;
const BALLAST: &str = "ballast";
/// Ways into a namespace of mounts: as root, and as anyone where the host lets users have namespaces.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];

/// Whether this program may mount file systems. Where it may not yet and the host allows it, the program is started again
/// where it may, and this does not return.
///
/// # Errors
/// What the host says.
pub fn own_mounts() -> io::Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let probe = tempfile::Builder::new().prefix("net-chaos-").tempdir()?;
    for way in WAYS {
        let mut unshare = Command::new("unshare");
        unshare
            .args(way)
            .args(["--", "mount", "-t", "tmpfs", "none"])
            .arg(probe.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if unshare.status().is_ok_and(|status| status.success()) {
            // A program that is replaced ends no values.
            drop(probe);
            let error = Command::new("unshare")
                .args(way)
                .arg("--")
                .arg(std::env::current_exe()?)
                .args(std::env::args_os().skip(1))
                .env(INSIDE, "1")
                .exec();
            return Err(error);
        }
    }
    Ok(false)
}

/// A mounted file system.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one at `at`, which is made.
    ///
    /// # Errors
    /// What the host says.
    pub fn mount(at: &Path) -> io::Result<Self> {
        fs::create_dir_all(at)?;
        let size = format!("size={SIZE}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(at)
            .status()?;
        if mounted.success() {
            Ok(Self { at: at.to_owned() })
        } else {
            Err(io::Error::other(format!("mount {}: {mounted}", at.display())))
        }
    }

    /// Fills it up to less than a chunk, by `key`.
    ///
    /// # Errors
    /// What the host says.
    pub fn fill(&self, key: Key) -> io::Result<()> {
        let figures = rustix::fs::statvfs(&self.at)?;
        let free = figures.f_bavail.saturating_mul(figures.f_frsize);
        let left = key.below(0, CHUNK as u64);
        let ballast = vec![0; usize::try_from(free.saturating_sub(left)).unwrap_or(0)];
        match fs::write(self.at.join(BALLAST), ballast) {
            // Somebody wrote meanwhile: it is as full as can be.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            written => written,
        }
    }

    /// Makes room again.
    ///
    /// # Errors
    /// What the host says.
    pub fn relieve(&self) -> io::Result<()> {
        match fs::remove_file(self.at.join(BALLAST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a killed process still holds goes with it; the namespace takes the rest.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
