//! The word by which a later `net send` goes on with what an earlier one sent, though each has an identity of its own.
//!
//! It follows from a secret of this user and the receiver's identity, so that no two receivers can tell that the same user
//! sent to both. Invariants: the secret is private and never leaves this host; without a place for it every run has another.
//! Not here: what the receiver does with it (`net_kernel::transfer`).

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use net_io_real::EntityId;
use net_io_real::tokio::OsEntropy;
use net_io_real::traits::Entropy as _;
use net_kernel::transfer::Token;
use zeroize::Zeroizing;

use crate::error::{Code, Failure};
use crate::peer;

const FILE: &str = "send.key";
const LEN: usize = 32;

/// The token towards `receiver`, and whether a later run has the same.
pub fn towards(receiver: &EntityId) -> Result<(Token, Option<Failure>), Failure> {
    let (secret, trouble) = match kept() {
        Ok(secret) => (secret, None),
        Err(failure) => (fresh()?, Some(failure)),
    };
    let mut hasher = blake3::Hasher::new_derive_key("net 2026 file transfer token towards a receiver");
    hasher.update(&*secret).update(&receiver.0);
    let token = Token(hasher.finalize().into());
    hasher.reset();
    Ok((token, trouble))
}

/// This user's secret, made if there is none.
fn kept() -> Result<Zeroizing<[u8; LEN]>, Failure> {
    let default = peer::state_dir(None)?;
    let folder = default.parent().unwrap_or(&default);
    let path = folder.join(FILE);
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder).map_err(|error| Failure::file("make the directory", folder, &error))?;
            make(&path)
        }
        other => other,
    }
    .map_err(|error| Failure::file("use the key of this user's transfers,", &path, &error))
}

fn read(path: &Path) -> io::Result<Zeroizing<[u8; LEN]>> {
    let mut secret = Zeroizing::new([0; LEN]);
    let mut file = std::fs::File::open(path)?;
    file.read_exact(&mut *secret)?;
    Ok(secret)
}

/// Written whole under a name of its own first: whoever finds the file finds all of it, and of two who make one, one stays.
fn make(path: &Path) -> io::Result<Zeroizing<[u8; LEN]>> {
    let secret = fresh().map_err(|failure| io::Error::other(failure.message))?;
    let mut own: PathBuf = path.to_owned();
    own.set_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&own).and_then(|mut file| {
        file.write_all(&*secret)?;
        file.sync_all()
    });
    let linked = written.and_then(|()| std::fs::hard_link(&own, path));
    std::fs::remove_file(&own)?;
    match linked {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error),
    }
}

fn fresh() -> Result<Zeroizing<[u8; LEN]>, Failure> {
    let mut secret = Zeroizing::new([0; LEN]);
    OsEntropy
        .fill(&mut *secret)
        .map_err(|error| Failure::new(Code::Start, format!("the system gave no entropy: {error}")))?;
    Ok(secret)
}
