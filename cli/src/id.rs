//! `net id` and `net key`: making and showing what a node is known by.
//!
//! Invariants: nothing secret is printed; nothing that exists is overwritten.
//! Not here: how the files look (`net-io-real`).

use std::fmt;
use std::io::{BufRead as _, Read as _};
use std::path::Path;

use net_io_real::tokio::OsEntropy;
use net_io_real::traits::Entropy as _;
use net_io_real::{EntityId, NetworkKey, StateDir, read_network_key, write_network_key};
use net_kernel::base::rng::Secret;
use net_kernel::trust::network::MAX_PASSPHRASE;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{IdAction, KeyAction};
use crate::error::{Code, Failure};
use crate::output::{Out, Record, hex};
use crate::peer::state_dir;

/// `net id`
pub fn id(action: &IdAction, out: Out) -> Result<(), Failure> {
    let (entity, path) = match action {
        IdAction::New { id } => {
            let path = state_dir(id.as_ref())?;
            let state =
                StateDir::create(&path, &OsEntropy).map_err(|error| Failure::from(error).next("net id show"))?;
            (state.identity().entity(), path)
        }
        IdAction::Show { id } => {
            let path = state_dir(id.as_ref())?;
            (StateDir::entity_of(&path)?, path)
        }
    };
    out.result(&Identity::of(entity, path))?;
    Ok(())
}

/// `net key`
pub fn key(action: &KeyAction, out: Out) -> Result<(), Failure> {
    let (key, file) = match action {
        KeyAction::New { file, passphrase } => {
            let key = if *passphrase { from_passphrase()? } else { draw()? };
            write_network_key(file, &key)?;
            (key, file)
        }
        KeyAction::Show { file } => (read_network_key(file)?, file),
    };
    out.result(&Network {
        fingerprint: hex(&key.fingerprint()),
        file: file.display().to_string(),
    })?;
    Ok(())
}

fn draw() -> Result<NetworkKey, Failure> {
    let mut key = Secret([0; 32]);
    OsEntropy
        .fill(&mut key.0)
        .map_err(|error| Failure::new(Code::Start, format!("the system gives no random bytes: {error}")))?;
    Ok(NetworkKey::from_bytes(key))
}

fn from_passphrase() -> Result<NetworkKey, Failure> {
    let mut line = Zeroizing::new(String::new());
    let read = std::io::stdin()
        .lock()
        .take(MAX_PASSPHRASE as u64 + 2)
        .read_line(&mut line);
    read.map_err(|error| Failure::stdio("read the passphrase from stdin", &error))?;
    NetworkKey::from_passphrase(line.trim_end_matches(['\r', '\n']))
        .map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

/// An identity as it is shown.
#[derive(Serialize)]
struct Identity {
    id: String,
    directory: String,
}

impl Identity {
    fn of(entity: EntityId, directory: impl AsRef<Path>) -> Self {
        Self {
            id: hex(&entity.0),
            directory: directory.as_ref().display().to_string(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl Record for Identity {
    const KIND: &'static str = "id";
}

/// A network as it is shown.
#[derive(Serialize)]
struct Network {
    fingerprint: String,
    file: String,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint)
    }
}

impl Record for Network {
    const KIND: &'static str = "network";
}
