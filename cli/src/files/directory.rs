//! The directory that receives: no name leads out of it, and nothing in it is ever overwritten.
//!
//! Files that are not whole lie in `.net-partial` within it, so that giving them their name moves no bytes. `cap-std` keeps
//! every path below the directory, whatever links lie in it.
//! Invariants: one process at a time receives into a directory; a name is given only where nothing has it, by the system and
//! not by looking first. Not here: when a file gets its name (`net_kernel::transfer`).

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use net_kernel::transfer::name::PARTIAL_FOLDER;
use net_kernel::transfer::{DiskError, Found, PartialKey, Place, SafePath, Store};

use crate::error::{Code, Failure};
use crate::output::hex;

const LOCK: &str = "lock";

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    root: Dir,
    partial: Dir,
    /// Kept while this lives: another process that wants to receive here finds it locked.
    _lock: std::fs::File,
    /// The partial file that is written, and where its next byte goes.
    writing: Option<(PartialKey, File, u64)>,
    /// The file read last, and where its next byte lies.
    reading: Option<(String, File, u64)>,
    /// What the system answered last where it failed.
    trouble: Option<String>,
}

impl Directory {
    /// Opens `path`, which is made if it is missing.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::file("receive into", path, &error);
        std::fs::create_dir_all(path).map_err(failed)?;
        let root = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
        match root.create_dir(PARTIAL_FOLDER) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let partial = root.open_dir(PARTIAL_FOLDER).map_err(failed)?;
        let lock = partial
            .open_with(LOCK, OpenOptions::new().write(true).create(true))
            .map_err(failed)?
            .into_std();
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let message = format!("another process receives into {}", path.display());
                return Err(Failure::new(Code::StateLocked, message).next("net recv OTHER-DIR"));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self {
            root,
            partial,
            _lock: lock,
            writing: None,
            reading: None,
            trouble: None,
        })
    }

    /// What the system answered where it failed last.
    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// Removes the folder of partial files if nothing is left in it.
    pub fn tidy(&mut self) {
        let left = self.partial.entries().map_or(usize::MAX, Iterator::count);
        if left == 1 && self.partial.remove_file(LOCK).is_ok() {
            // Somebody may have begun to use it meanwhile: then it stays.
            let _ = self.root.remove_dir(PARTIAL_FOLDER);
        }
    }

    fn noted<T>(&mut self, result: io::Result<T>) -> Result<T, DiskError> {
        result.map_err(|error| {
            self.trouble = Some(error.to_string());
            disk_error(&error)
        })
    }

    fn try_look(&self, place: Place<'_>) -> io::Result<Found> {
        let metadata = match place {
            Place::Final(path) => self.root.symlink_metadata(native(path)),
            Place::Partial(key) => self.partial.symlink_metadata(name(key)),
        };
        match metadata {
            Ok(metadata) if metadata.is_file() => Ok(Found::File(metadata.len())),
            Ok(metadata) if metadata.is_dir() => Ok(Found::Directory),
            Ok(_) => Ok(Found::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    fn try_read(&mut self, place: Place<'_>, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let id = match place {
            Place::Final(path) => path.as_str().to_owned(),
            Place::Partial(key) => format!("/{}", name(key)),
        };
        let (mut file, position) = match self.reading.take() {
            Some((open, file, position)) if open == id => (file, position),
            Some(_) | None => match place {
                Place::Final(path) => (self.root.open(native(path))?, 0),
                Place::Partial(key) => (self.partial.open(name(key))?, 0),
            },
        };
        if position != at {
            file.seek(SeekFrom::Start(at))?;
        }
        let read = super::read_full(&mut file, into)?;
        self.reading = Some((id, file, at + read as u64));
        Ok(read)
    }

    fn try_make_directory(&self, path: &SafePath) -> io::Result<()> {
        match self.root.create_dir(native(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = self.root.symlink_metadata(native(path))?;
                if there.is_dir() {
                    Ok(())
                } else {
                    Err(io::ErrorKind::NotADirectory.into())
                }
            }
            made => made,
        }
    }

    fn try_open(&mut self, key: PartialKey, len: u64) -> io::Result<()> {
        self.reading = None;
        let file = self
            .partial
            .open_with(name(key), OpenOptions::new().read(true).write(true).create(true))?;
        file.set_len(len)?;
        self.writing = Some((key, file, 0));
        Ok(())
    }

    fn try_write(&mut self, key: PartialKey, at: u64, bytes: &[u8]) -> io::Result<()> {
        let Some((_, file, position)) = self.writing.as_mut().filter(|(open, ..)| *open == key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if *position != at {
            file.seek(SeekFrom::Start(at))?;
        }
        file.write_all(bytes)?;
        *position = at + bytes.len() as u64;
        Ok(())
    }

    fn try_sync(&self, key: PartialKey) -> io::Result<()> {
        match &self.writing {
            Some((open, file, _)) if *open == key => file.sync_all(),
            Some(_) | None => self.partial.open(name(key))?.sync_all(),
        }
    }

    fn try_publish(&mut self, key: PartialKey, path: &SafePath, executable: bool) -> io::Result<()> {
        let (parent, leaf) = self.parent(path)?;
        let name = name(key);
        if executable {
            make_executable(&self.partial, &name)?;
        }
        self.writing = None;
        match rename_without_replacing(&self.partial, &name, &parent, &leaf) {
            // Where the system or the file system has no such call, a second name does the same.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                self.partial.hard_link(&name, &parent, &leaf)?;
                self.partial.remove_file(&name)
            }
            renamed => renamed,
        }
    }

    /// The directory that a path lies in, and its name there.
    fn parent(&self, path: &SafePath) -> io::Result<(Dir, PathBuf)> {
        let path = native(path);
        let leaf = PathBuf::from(path.file_name().unwrap_or_default());
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.root.open_dir(parent)?,
            Some(_) | None => self.root.try_clone()?,
        };
        Ok((parent, leaf))
    }

    fn try_sync_name(&self, path: &SafePath) -> io::Result<()> {
        let (parent, _) = self.parent(path)?;
        sync_directory(&parent)
    }
}

impl Store for Directory {
    fn room(&mut self) -> Option<u64> {
        room(&self.root)
    }

    fn look(&mut self, place: Place<'_>) -> Result<Found, DiskError> {
        let found = self.try_look(place);
        self.noted(found)
    }

    fn read(&mut self, place: Place<'_>, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let read = self.try_read(place, at, into);
        self.noted(read)
    }

    fn make_directory(&mut self, path: &SafePath) -> Result<(), DiskError> {
        let made = self.try_make_directory(path);
        self.noted(made)
    }

    fn open(&mut self, key: PartialKey, len: u64) -> Result<(), DiskError> {
        let opened = self.try_open(key, len);
        self.noted(opened)
    }

    fn write(&mut self, key: PartialKey, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.try_write(key, at, bytes);
        self.noted(written)
    }

    fn sync(&mut self, key: PartialKey) -> Result<(), DiskError> {
        let synced = self.try_sync(key);
        self.noted(synced)
    }

    fn publish(&mut self, key: PartialKey, path: &SafePath, executable: bool) -> Result<(), DiskError> {
        let published = self.try_publish(key, path, executable);
        self.noted(published)
    }

    fn sync_name(&mut self, path: &SafePath) -> Result<(), DiskError> {
        let synced = self.try_sync_name(path);
        self.noted(synced)
    }

    fn discard(&mut self, key: PartialKey) {
        self.writing = None;
        self.reading = None;
        // One that stays is found again by the next attempt.
        let _ = self.partial.remove_file(name(key));
    }
}

/// What a failure of the system means to the protocol.
pub fn disk_error(error: &io::Error) -> DiskError {
    const KINDS: [(io::ErrorKind, DiskError); 7] = [
        (io::ErrorKind::StorageFull, DiskError::Full),
        (io::ErrorKind::QuotaExceeded, DiskError::Full),
        (io::ErrorKind::AlreadyExists, DiskError::Exists),
        (io::ErrorKind::NotADirectory, DiskError::InTheWay),
        (io::ErrorKind::IsADirectory, DiskError::InTheWay),
        (io::ErrorKind::PermissionDenied, DiskError::Denied),
        (io::ErrorKind::ReadOnlyFilesystem, DiskError::Denied),
    ];
    let known = KINDS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or(DiskError::Failed, |(_, means)| *means)
}

fn name(key: PartialKey) -> String {
    hex(&key.0)
}

fn native(path: &SafePath) -> PathBuf {
    path.components().collect()
}

#[cfg(unix)]
fn make_executable(folder: &Dir, name: &str) -> io::Result<()> {
    use cap_std::fs::PermissionsExt as _;
    let mode = folder.metadata(name)?.permissions().mode();
    // Whoever may read it may execute it.
    folder.set_permissions(name, cap_std::fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))
}

#[cfg(not(unix))]
fn make_executable(_folder: &Dir, _name: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn rename_without_replacing(from: &Dir, name: &str, to: &Dir, leaf: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        from,
        name,
        to,
        leaf,
        rustix::fs::RenameFlags::NOREPLACE,
    )?)
}

#[cfg(not(target_os = "linux"))]
fn rename_without_replacing(_from: &Dir, _name: &str, _to: &Dir, _leaf: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn sync_directory(directory: &Dir) -> io::Result<()> {
    // The handle of a `Dir` is one to look things up by: to sync takes one that can be read.
    directory.open(".")?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Dir) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn room(directory: &Dir) -> Option<u64> {
    let figures = rustix::fs::fstatvfs(directory).ok()?;
    Some(figures.f_bavail.saturating_mul(figures.f_frsize))
}

#[cfg(not(unix))]
fn room(_directory: &Dir) -> Option<u64> {
    None
}
