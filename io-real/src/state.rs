//! The state directory: identity, boot epoch, bound port and the kernel's cells, each in one small file.
//!
//! Invariants: one process at a time (a lock); every file is framed with magic, kind, version, length and CRC-32C, and
//! all but the identity name the identity they belong to; a file is replaced by write, sync, rename, sync of the
//! directory, so a crash or a full disk leaves the old one; what is damaged or not ours is refused and left untouched.
//! Not here: what an identity or an epoch means (`net-trust`, PROTOCOL 1), the kernel's use of cells.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::api::{Cell, EntityId, Epoch, Identity, NetworkKey, Secret, StoreError, UnixNanos};
use crate::traits::{Disk, Entropy};

const MAGIC: &[u8; 8] = b"\x89NETstat";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 8 + 2 + 2 + 4;
const CRC_LEN: usize = 4;
/// No file of ours is longer.
const MAX_LEN: usize = Cell::MAX_LEN + EntityId::LEN + HEADER_LEN + CRC_LEN;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity.key";
const BOOT: &str = "boot";
const CELL_PREFIX: &str = "cell-";
const TEMP_SUFFIX: &str = ".tmp";

/// An epoch further ahead than this is believed by nobody (PROTOCOL 1).
const MAX_AHEAD_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
enum Kind {
    Identity = 1,
    Boot = 2,
    Cell = 3,
    NetworkKey = 4,
}

/// Why the state directory cannot be used. Nothing was changed, unless the text says so.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateError {
    /// The host refused an operation.
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// Another process uses it.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Others may read or write it.
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they may be at most.
        wanted: u32,
    },
    /// Damaged.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Written by a later version.
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// Not a file or directory of this program.
    Foreign {
        /// The file or directory.
        path: PathBuf,
    },
    /// Belongs to another identity than the one in this directory.
    OtherIdentity {
        /// The file.
        path: PathBuf,
    },
    /// There is no identity.
    NoIdentity {
        /// Where it was sought.
        path: PathBuf,
    },
    /// There is one already.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The stored epoch lies further in the future than any peer believes.
    EpochAhead {
        /// The directory.
        path: PathBuf,
        /// The epoch that would be next, in Unix nanoseconds.
        next: u64,
        /// The clock, in Unix nanoseconds.
        clock: u64,
    },
    /// The operating system gives no random bytes.
    Entropy(io::Error),
}

impl StateError {
    /// A stable name of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull => "state.disk_full",
            Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => "state.denied",
            Self::Io { .. } => "state.io",
            Self::Locked { .. } => "state.locked",
            Self::Mode { .. } => "state.mode",
            Self::Corrupt { .. } => "state.corrupt",
            Self::Version { .. } => "state.version",
            Self::Foreign { .. } => "state.foreign",
            Self::OtherIdentity { .. } => "state.other_identity",
            Self::NoIdentity { .. } => "state.no_identity",
            Self::Exists { .. } => "state.exists",
            Self::EpochAhead { .. } => "state.epoch_ahead",
            Self::Entropy(_) => "state.entropy",
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[expect(clippy::wildcard_enum_match_arm, reason = "kinds of IO errors are an open set")]
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::StorageFull => {
                        f.write_str("; free some space and start again, the state on disk is intact")
                    }
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        f.write_str("; use a directory that this user may write, or an ephemeral identity")
                    }
                    _ => Ok(()),
                }
            }
            Self::Locked { path } => write!(
                f,
                "{} is in use by another process: stop it, or use another state directory",
                path.display()
            ),
            Self::Mode { path, mode, wanted } => write!(
                f,
                "{0} has mode {mode:04o}, so that others may reach what must stay private: run `chmod {wanted:o} {0}`",
                path.display()
            ),
            Self::Corrupt { path, why } => write!(
                f,
                "{} is damaged ({why}) and was left untouched: restore it from a backup, or move it away and make a \
                 new identity",
                path.display()
            ),
            Self::Version { path, found } => write!(
                f,
                "{} has format {found}, this program knows {VERSION}: use the version that wrote it",
                path.display()
            ),
            Self::Foreign { path } => write!(
                f,
                "{} is not of this program and was left untouched: choose another state directory",
                path.display()
            ),
            Self::OtherIdentity { path } => write!(
                f,
                "{} belongs to another identity and was left untouched: move it away, or restore the identity it \
                 belongs to",
                path.display()
            ),
            Self::NoIdentity { path } => write!(
                f,
                "there is no identity in {}: make one with `net id new`, or restore the directory from a backup",
                path.display()
            ),
            Self::Exists { path } => write!(f, "{} exists already and was left untouched", path.display()),
            Self::EpochAhead { path, next, clock } => write!(
                f,
                "the boot epoch stored in {} lies {} hours in the future, which no peer believes: set this host's \
                 clock right",
                path.display(),
                (next - clock) / 3_600_000_000_000
            ),
            Self::Entropy(error) => write!(f, "the operating system gives no random bytes: {error}"),
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } | Self::Entropy(error) => Some(error),
            Self::Locked { .. }
            | Self::Mode { .. }
            | Self::Corrupt { .. }
            | Self::Version { .. }
            | Self::Foreign { .. }
            | Self::OtherIdentity { .. }
            | Self::NoIdentity { .. }
            | Self::Exists { .. }
            | Self::EpochAhead { .. } => None,
        }
    }
}

/// A locked state directory. The lock goes with the value.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    files: Arc<dyn Files>,
    identity: Identity,
    boot: Boot,
    _lock: File,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Boot {
    epoch: u64,
    port: u16,
}

impl StateDir {
    /// Locks an existing directory and reads it.
    ///
    /// # Errors
    /// See [`StateError`]; nothing is changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        Self::open_with(path.as_ref(), Arc::new(HostFiles), None)
    }

    /// Locks a directory and reads it; makes it, with a fresh identity, where there is none yet.
    ///
    /// # Errors
    /// See [`StateError`]; what exists is not changed.
    pub fn open_or_create(path: impl AsRef<Path>, entropy: &dyn Entropy) -> Result<Self, StateError> {
        Self::open_with(path.as_ref(), Arc::new(HostFiles), Some(entropy))
    }

    /// Makes a directory with a fresh identity.
    ///
    /// # Errors
    /// [`StateError::Exists`] if there is one already; see [`StateError`].
    pub fn create(path: impl AsRef<Path>, entropy: &dyn Entropy) -> Result<Self, StateError> {
        let identity = path.as_ref().join(IDENTITY);
        match fs::symlink_metadata(&identity) {
            Ok(_) => Err(StateError::Exists { path: identity }),
            Err(_) => Self::open_or_create(path, entropy),
        }
    }

    /// Whose directory this is, read without the lock: also while a node runs from it.
    ///
    /// # Errors
    /// See [`StateError`]; nothing is changed.
    pub fn entity_of(path: impl AsRef<Path>) -> Result<EntityId, StateError> {
        let path = path.as_ref();
        if survey(path)?.is_none() {
            return Err(StateError::NoIdentity {
                path: path.to_path_buf(),
            });
        }
        check_mode(path, 0o700)?;
        read_identity(&HostFiles, path).map(|identity| identity.entity())
    }

    fn open_with(path: &Path, files: Arc<dyn Files>, make: Option<&dyn Entropy>) -> Result<Self, StateError> {
        let path = path.to_path_buf();
        let known = survey(&path)?;
        if known.is_none() && make.is_none() {
            return Err(StateError::NoIdentity { path });
        }
        if known.is_none() {
            make_dir(&path)?;
        }
        check_mode(&path, 0o700)?;
        let lock = take_lock(&path)?;
        // Again under the lock: another process may have been faster.
        let survey = survey(&path)?.unwrap_or_default();
        let identity = match (survey.identity, make) {
            (true, _) => read_identity(&*files, &path)?,
            (false, Some(entropy)) if !survey.others => make_identity(&*files, &path, entropy)?,
            (false, _) => return Err(StateError::NoIdentity { path }),
        };
        let boot = read_boot(&*files, &path, identity.entity())?;
        let state = Self {
            path,
            files,
            identity,
            boot,
            _lock: lock,
        };
        for cell in Cell::ALL {
            state.read_cell(*cell)?;
        }
        Ok(state)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The port bound last; 0 if none was.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.boot.port
    }

    /// The epoch of this boot: greater than every earlier one, on disk before it is answered (PROTOCOL 1).
    ///
    /// # Errors
    /// [`StateError::EpochAhead`] when it would lie more than 24 h in the future; IO.
    pub fn next_epoch(&mut self, now: UnixNanos) -> Result<Epoch, StateError> {
        let next = now.0.max(self.boot.epoch.saturating_add(1));
        if next - now.0 > MAX_AHEAD_NS {
            return Err(StateError::EpochAhead {
                path: self.path.clone(),
                next,
                clock: now.0,
            });
        }
        self.write_boot(Boot {
            epoch: next,
            ..self.boot
        })?;
        Ok(Epoch(next))
    }

    /// Remembers the bound port, so that tickets stay valid across restarts.
    ///
    /// # Errors
    /// IO.
    pub fn set_port(&mut self, port: u16) -> Result<(), StateError> {
        if port == self.boot.port {
            Ok(())
        } else {
            self.write_boot(Boot { port, ..self.boot })
        }
    }

    fn write_boot(&mut self, boot: Boot) -> Result<(), StateError> {
        let mut payload = self.identity.entity().0.to_vec();
        payload.extend_from_slice(&boot.epoch.to_le_bytes());
        payload.extend_from_slice(&boot.port.to_le_bytes());
        replace(&*self.files, &self.path, BOOT, &frame(Kind::Boot, &payload))?;
        self.boot = boot;
        Ok(())
    }

    fn read_cell(&self, cell: Cell) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path.join(cell_file(cell));
        let Some(bytes) = read_framed(&*self.files, &path, Kind::Cell)? else {
            return Ok(None);
        };
        owned_by(&path, &bytes, self.identity.entity()).map(|rest| Some(rest.to_vec()))
    }
}

/// The cells of a state directory, as the driver writes them.
impl Disk for StateDir {
    fn put(&self, cell: Cell, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > Cell::MAX_LEN {
            return Err(StoreError::Full);
        }
        let mut payload = self.identity.entity().0.to_vec();
        payload.extend_from_slice(bytes);
        let framed = frame(Kind::Cell, &payload);
        replace(&*self.files, &self.path, &cell_file(cell), &framed).map_err(|error| store_error(&error))
    }

    fn get(&self, cell: Cell) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_cell(cell).map_err(|error| store_error(&error))
    }
}

/// Cells in memory, for nodes without a state directory.
#[derive(Debug, Default)]
pub struct MemoryDisk(std::sync::Mutex<std::collections::BTreeMap<Cell, Vec<u8>>>);

impl Disk for MemoryDisk {
    fn put(&self, cell: Cell, bytes: &[u8]) -> Result<(), StoreError> {
        let mut cells = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cells.insert(cell, bytes.to_vec());
        Ok(())
    }

    fn get(&self, cell: Cell) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&cell)
            .cloned())
    }
}

/// Reads the key of a closed network. The file must be private (0600).
///
/// # Errors
/// See [`StateError`].
pub fn read_network_key(path: impl AsRef<Path>) -> Result<NetworkKey, StateError> {
    let path = path.as_ref();
    let bytes = read_framed(&HostFiles, path, Kind::NetworkKey)?.ok_or_else(|| StateError::Io {
        what: "read",
        path: path.to_path_buf(),
        error: io::ErrorKind::NotFound.into(),
    })?;
    let key = bytes
        .as_slice()
        .try_into()
        .map_err(|_| corrupt(path, "its length is wrong"))?;
    Ok(NetworkKey::from_bytes(Secret(key)))
}

/// Writes the key of a closed network to a new private file (0600).
///
/// # Errors
/// [`StateError::Exists`]; IO.
pub fn write_network_key(path: impl AsRef<Path>, key: &NetworkKey) -> Result<(), StateError> {
    let path = path.as_ref();
    if fs::symlink_metadata(path).is_ok() {
        return Err(StateError::Exists {
            path: path.to_path_buf(),
        });
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(StateError::Foreign {
            path: path.to_path_buf(),
        });
    };
    replace(&HostFiles, folder, name, &frame(Kind::NetworkKey, &key.reveal().0))
}

/// What a directory holds, as far as it matters before anything is read.
#[derive(Clone, Copy, Default)]
struct Survey {
    identity: bool,
    /// Files that need an identity.
    others: bool,
}

/// `None` if there is no directory, or an empty one.
fn survey(path: &Path) -> Result<Option<Survey>, StateError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(StateError::Foreign {
                path: path.to_path_buf(),
            });
        }
        Err(error) => return Err(io_error("read", path, error)),
    };
    let mut survey = Survey::default();
    let (mut ours, mut foreign, mut any) = (false, None, false);
    for entry in entries {
        let entry = entry.map_err(|error| io_error("read", path, error))?;
        any = true;
        match entry.file_name().to_str() {
            Some(IDENTITY) => survey.identity = true,
            Some(LOCK) => ours = true,
            Some(BOOT) => survey.others = true,
            Some(name) if name.starts_with(CELL_PREFIX) && !name.ends_with(TEMP_SUFFIX) => survey.others = true,
            Some(name) if name.ends_with(TEMP_SUFFIX) => {}
            Some(_) | None => foreign = Some(entry.path()),
        }
    }
    match foreign {
        // Somebody's directory that never was ours: nothing is put into it.
        Some(path) if !survey.identity && !ours => Err(StateError::Foreign { path }),
        Some(_) | None => Ok(any.then_some(survey)),
    }
}

fn make_dir(path: &Path) -> Result<(), StateError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| io_error("create", path, error))
}

fn take_lock(path: &Path) -> Result<File, StateError> {
    let file = path.join(LOCK);
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let lock = options.open(&file).map_err(|error| io_error("open", &file, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StateError::Locked {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &file, error)),
    }
}

fn make_identity(files: &dyn Files, path: &Path, entropy: &dyn Entropy) -> Result<Identity, StateError> {
    let identity = draw_identity(entropy).map_err(StateError::Entropy)?;
    let framed = Zeroizing::new(frame(Kind::Identity, &identity.seed().0));
    replace(files, path, IDENTITY, &framed)?;
    Ok(identity)
}

/// A fresh identity from the operating system's random bytes.
///
/// # Errors
/// What the operating system said.
pub fn draw_identity(entropy: &dyn Entropy) -> io::Result<Identity> {
    // One draw up front, because drawing cannot fail halfway through.
    let mut seed = Zeroizing::new([0; 32]);
    loop {
        entropy.fill(&mut *seed)?;
        if let Ok(identity) = Identity::from_seed(Secret(*seed)) {
            return Ok(identity);
        }
    }
}

fn read_identity(files: &dyn Files, path: &Path) -> Result<Identity, StateError> {
    let file = path.join(IDENTITY);
    let Some(bytes) = read_framed(files, &file, Kind::Identity)? else {
        return Err(StateError::NoIdentity {
            path: path.to_path_buf(),
        });
    };
    let seed = bytes
        .as_slice()
        .try_into()
        .map_err(|_| corrupt(&file, "its length is wrong"))?;
    Identity::from_seed(Secret(seed)).map_err(|_| corrupt(&file, "it holds no usable identity"))
}

fn read_boot(files: &dyn Files, path: &Path, entity: EntityId) -> Result<Boot, StateError> {
    let file = path.join(BOOT);
    let Some(bytes) = read_framed(files, &file, Kind::Boot)? else {
        return Ok(Boot::default());
    };
    let rest = owned_by(&file, &bytes, entity)?;
    let (Some(epoch), Some(port), 10) = (rest.first_chunk(), rest.last_chunk(), rest.len()) else {
        return Err(corrupt(&file, "its length is wrong"));
    };
    Ok(Boot {
        epoch: u64::from_le_bytes(*epoch),
        port: u16::from_le_bytes(*port),
    })
}

fn owned_by<'b>(path: &Path, bytes: &'b [u8], entity: EntityId) -> Result<&'b [u8], StateError> {
    match bytes.split_first_chunk::<{ EntityId::LEN }>() {
        Some((owner, rest)) if *owner == entity.0 => Ok(rest),
        Some(_) => Err(StateError::OtherIdentity {
            path: path.to_path_buf(),
        }),
        None => Err(corrupt(path, "its length is wrong")),
    }
}

fn cell_file(cell: Cell) -> String {
    format!("{CELL_PREFIX}{}", cell.name())
}

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len() + CRC_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(kind as u16).to_le_bytes());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let len = u32::try_from(payload.len()).expect("payloads are at most a cell and an entity long");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(payload);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The payload of a file; `None` if there is no such file.
fn read_framed(files: &dyn Files, path: &Path, kind: Kind) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
    let bytes = match files.read(path, MAX_LEN) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, error)),
    };
    check_mode(path, 0o600)?;
    if !bytes.starts_with(MAGIC) {
        // An empty or cut file of ours is damaged; anything else was never ours.
        return Err(if MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
            corrupt(path, "it was cut short")
        } else {
            StateError::Foreign {
                path: path.to_path_buf(),
            }
        });
    }
    let Some((body, crc)) = bytes
        .split_last_chunk::<CRC_LEN>()
        .filter(|(body, _)| body.len() >= HEADER_LEN)
    else {
        return Err(corrupt(path, "it was cut short"));
    };
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(corrupt(path, "its checksum does not match"));
    }
    let number = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
    if number(10) != VERSION {
        return Err(StateError::Version {
            path: path.to_path_buf(),
            found: number(10),
        });
    }
    if number(8) != kind as u16 {
        return Err(corrupt(path, "it is a file of another kind"));
    }
    let payload = &body[HEADER_LEN..];
    let len = u32::from_le_bytes([body[12], body[13], body[14], body[15]]);
    if len as usize != payload.len() {
        return Err(corrupt(path, "its length is wrong"));
    }
    Ok(Some(Zeroizing::new(payload.to_vec())))
}

fn replace(files: &dyn Files, folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StateError> {
    let (target, temp) = (folder.join(name), folder.join(format!("{name}{TEMP_SUFFIX}")));
    if let Err(error) = files.write_synced(&temp, bytes) {
        // What is left of the attempt only takes space; that it cannot be removed changes nothing.
        let _ = files.remove(&temp);
        return Err(io_error("write", &target, error));
    }
    files
        .rename(&temp, &target)
        .map_err(|error| io_error("replace", &target, error))?;
    files.sync_dir(folder).map_err(|error| io_error("sync", folder, error))
}

#[cfg(unix)]
fn check_mode(path: &Path, wanted: u32) -> Result<(), StateError> {
    let metadata = fs::metadata(path).map_err(|error| io_error("read", path, error))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    if mode & !wanted == 0 {
        Ok(())
    } else {
        Err(StateError::Mode {
            path: path.to_path_buf(),
            mode,
            wanted,
        })
    }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _wanted: u32) -> Result<(), StateError> {
    Ok(())
}

fn io_error(what: &'static str, path: &Path, error: io::Error) -> StateError {
    StateError::Io {
        what,
        path: path.to_path_buf(),
        error,
    }
}

fn corrupt(path: &Path, why: &'static str) -> StateError {
    StateError::Corrupt {
        path: path.to_path_buf(),
        why,
    }
}

fn store_error(error: &StateError) -> StoreError {
    tracing::error!(%error, "storage failed");
    match error {
        #[expect(clippy::wildcard_enum_match_arm, reason = "kinds of IO errors are an open set")]
        StateError::Io { error, .. } => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::Denied,
            _ => StoreError::Device,
        },
        StateError::Mode { .. } => StoreError::Denied,
        StateError::Corrupt { .. }
        | StateError::Version { .. }
        | StateError::Foreign { .. }
        | StateError::OtherIdentity { .. } => StoreError::Corrupt,
        StateError::Locked { .. }
        | StateError::NoIdentity { .. }
        | StateError::Exists { .. }
        | StateError::EpochAhead { .. }
        | StateError::Entropy(_) => StoreError::Device,
    }
}

/// The few operations on files, so that a test can fill the disk.
trait Files: Send + Sync + fmt::Debug {
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>>;
    /// Makes or empties a private file, writes it and syncs it.
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
}

#[derive(Debug)]
struct HostFiles;

impl Files for HostFiles {
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let mut bytes = Vec::with_capacity(1_024);
        // One byte more than allowed shows a file that is too long; its checksum then fails.
        file.take(max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Not truncated but made anew, so that the mode is ours whoever left it there.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = File::options();
        options.create_new(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        #[cfg(unix)]
        return File::open(path)?.sync_all();
        #[cfg(not(unix))]
        {
            let _ = path;
            Ok(())
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
