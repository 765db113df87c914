//! The files and directories that are sent: listed first, then read by their place in the list.
//!
//! Invariants: within a directory no link is followed and nothing but plain files and directories is sent; what is left out
//! is told; the order is that of names, so that every run lists alike. Not here: what is done with names (`net_kernel::transfer`).

use std::collections::BTreeMap;
use std::fs::{File, FileType, Metadata};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use net_kernel::transfer::message::Kind;
use net_kernel::transfer::sender::Listed;
use net_kernel::transfer::{DiskError, Source};

use crate::error::{Code, Failure};

/// What is sent.
#[derive(Debug, Default)]
pub struct Tree {
    /// The list as it is offered.
    pub listed: Vec<Listed>,
    /// What is not sent: where, and why.
    pub left_out: Vec<(PathBuf, String)>,
    paths: Vec<(PathBuf, Stamp)>,
}

impl Tree {
    /// Lists `what`, each under its own name.
    pub fn list(what: &[PathBuf]) -> Result<Self, Failure> {
        let mut tree = Self::default();
        let mut names: BTreeMap<String, &Path> = BTreeMap::new();
        for path in what {
            let unreadable = |error: io::Error| Failure::file("send", path, &error);
            let metadata = std::fs::metadata(path).map_err(unreadable)?;
            let name = match path.file_name() {
                Some(name) => name.to_string_lossy().into_owned(),
                // `.` and `..` have names where they lie.
                None => {
                    let whole = path.canonicalize().map_err(unreadable)?;
                    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
                    name.ok_or_else(|| {
                        Failure::new(Code::Usage, format!("{} has no name to send it under", path.display()))
                    })?
                }
            };
            if let Some(other) = names.insert(name.clone(), path) {
                let both = format!("{} and {} have the same name", other.display(), path.display());
                return Err(
                    Failure::new(Code::Usage, both).next("send them one after the other, into different directories")
                );
            }
            if !metadata.is_dir() && !metadata.is_file() {
                let message = format!(
                    "{} is {}: only files and directories can be sent",
                    path.display(),
                    kind(metadata.file_type())
                );
                return Err(Failure::new(Code::Usage, message));
            }
            tree.add(path.clone(), vec![name], &metadata);
        }
        Ok(tree)
    }

    fn add(&mut self, path: PathBuf, names: Vec<String>, metadata: &Metadata) {
        if metadata.is_dir() {
            self.listed.push(Listed {
                names: names.clone(),
                kind: Kind::Directory,
            });
            self.paths.push((path.clone(), Stamp::of(metadata)));
            self.add_contents(&path, &names);
            return;
        }
        let kind = Kind::File {
            size: metadata.len(),
            executable: is_executable(metadata),
        };
        self.listed.push(Listed { names, kind });
        self.paths.push((path, Stamp::of(metadata)));
    }

    fn add_contents(&mut self, path: &Path, names: &[String]) {
        let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.left_out.push((path.to_owned(), error.to_string())),
        };
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() || metadata.is_file() => {
                    let mut names = names.to_owned();
                    names.push(entry.file_name().to_string_lossy().into_owned());
                    self.add(path, names, &metadata);
                }
                Ok(metadata) => self.left_out.push((path, kind(metadata.file_type()).to_owned())),
                Err(error) => self.left_out.push((path, error.to_string())),
            }
        }
    }

    /// The files, to be read by their place in the list.
    pub fn source(&self) -> Files {
        Files {
            paths: self.paths.clone(),
            open: None,
        }
    }

    /// Where an entry lies.
    pub fn path(&self, entry: u32) -> &Path {
        let path = self.paths.get(entry as usize);
        path.map_or(Path::new(""), |(path, _)| path.as_path())
    }
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_symlink() {
        "a link"
    } else {
        "no plain file"
    }
}

#[cfg(unix)]
fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_metadata: &Metadata) -> bool {
    false
}

/// By which a file that was written to, or replaced, is told from what it was: its place on disk, its length, and when it
/// was changed last. The system may note two changes within a few milliseconds as one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    place: (u64, u64),
    len: u64,
    changed: (i64, i64),
    written: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let (place, changed) = {
            use std::os::unix::fs::MetadataExt as _;
            let place = (metadata.dev(), metadata.ino());
            (place, (metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let (place, changed) = ((0, 0), (0, 0));
        Self {
            place,
            len: metadata.len(),
            changed,
            written: metadata.modified().ok(),
        }
    }
}

/// Files of a tree.
#[derive(Debug)]
pub struct Files {
    paths: Vec<(PathBuf, Stamp)>,
    /// The one read last, and where its next byte lies.
    open: Option<(u32, File, u64)>,
}

impl Files {
    fn read_at(&mut self, entry: u32, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let (mut file, position) = match self.open.take() {
            Some((open, file, position)) if open == entry => (file, position),
            Some(_) | None => {
                let (path, _) = self.paths.get(entry as usize).ok_or(io::ErrorKind::NotFound)?;
                (File::open(path)?, 0)
            }
        };
        if position != at {
            file.seek(SeekFrom::Start(at))?;
        }
        let read = super::read_full(&mut file, into)?;
        self.open = Some((entry, file, at + read as u64));
        Ok(read)
    }
}

impl Source for Files {
    fn read(&mut self, entry: u32, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.read_at(entry, at, into)
            .map_err(|error| super::directory::disk_error(&error))
    }

    fn unchanged(&mut self, entry: u32) -> bool {
        let Some((path, listed)) = self.paths.get(entry as usize) else {
            return false;
        };
        // The file that was read, where it is open; an empty one was never opened.
        let now = match &self.open {
            Some((open, file, _)) if *open == entry => file.metadata(),
            Some(_) | None => std::fs::metadata(path),
        };
        now.is_ok_and(|now| Stamp::of(&now) == *listed)
    }
}
