//! The neighbours of the last run: where they were, so that the next run finds the mesh without being told again.
//!
//! Invariants: at most [`MAX_PEERS`] peers in one private file that is replaced whole; one that is damaged or of another
//! network is not believed. Not here: who is a neighbour (`mod.rs`).

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use net_io_real::EntityId;
use serde::{Deserialize, Serialize};

use crate::args;
use crate::output::hex;

/// Peers remembered at most: the neighbours of this run first, then those of earlier ones.
pub const MAX_PEERS: usize = 64;
/// No file of ours is longer.
const MAX_LEN: u64 = 64 << 10;
const VERSION: u32 = 1;

/// Peers with the address each was reached at.
pub type Peers = Vec<(EntityId, SocketAddr)>;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    /// Fingerprint of the network.
    network: String,
    peers: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    address: SocketAddr,
}

/// The file and what it holds.
pub struct Cache {
    path: PathBuf,
    network: String,
    peers: Peers,
}

impl Cache {
    /// Reads the file in a state directory. Answers also why what is there was not believed.
    pub fn open(state_dir: &Path, network: &[u8]) -> (Self, Option<String>) {
        let path = state_dir.join("peers.json");
        let network = hex(network);
        let (peers, why) = match read(&path, &network) {
            Ok(peers) => (peers, None),
            Err(why) => (Vec::new(), Some(format!("{} is left out: {why}", path.display()))),
        };
        (Self { path, network, peers }, why)
    }

    pub fn peers(&self) -> &[(EntityId, SocketAddr)] {
        &self.peers
    }

    /// Remembers the neighbours there are now before those of earlier. Writes only what is new.
    ///
    /// # Errors
    /// IO; the old file stays.
    pub fn note(&mut self, neighbours: &[(EntityId, SocketAddr)]) -> io::Result<()> {
        let mut peers: Peers = neighbours.to_vec();
        for old in &self.peers {
            if !peers.iter().any(|(peer, _)| *peer == old.0) {
                peers.push(*old);
            }
        }
        peers.truncate(MAX_PEERS);
        // The same peers in another order are no news.
        let sorted = |peers: &Peers| {
            let mut peers = peers.clone();
            peers.sort();
            peers
        };
        if sorted(&peers) == sorted(&self.peers) {
            return Ok(());
        }
        self.write(&peers)?;
        self.peers = peers;
        Ok(())
    }

    fn write(&self, peers: &Peers) -> io::Result<()> {
        let entry = |(peer, address): &(EntityId, SocketAddr)| Entry {
            id: hex(&peer.0),
            address: *address,
        };
        let file = File {
            version: VERSION,
            network: self.network.clone(),
            peers: peers.iter().map(entry).collect(),
        };
        let temporary = self.path.with_extension("json.tmp");
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(&temporary)?;
        serde_json::to_writer_pretty(&mut out, &file)?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        std::fs::rename(&temporary, &self.path)
    }
}

fn read(path: &Path, network: &str) -> Result<Peers, String> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(MAX_LEN)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let file: File = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("it has version {}, this program knows {VERSION}", file.version));
    }
    if file.network != network {
        return Err("it is of another network".into());
    }
    let entries = file.peers.iter().take(MAX_PEERS);
    entries
        .map(|entry| Ok((args::entity(&entry.id)?, entry.address)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_io_real::Identity;
    use net_kernel::base::rng::Secret;

    fn peer(seed: u8) -> (EntityId, SocketAddr) {
        // Not every seed makes an identity: every second has the wrong sign.
        let identity = (0..=u8::MAX).find_map(|more| {
            let mut bytes = [seed; 32];
            bytes[0] = more;
            Identity::from_seed(Secret(bytes)).ok()
        });
        (identity.expect("some seed does").entity(), ([10, 0, 0, seed], 7).into())
    }

    #[test]
    fn neighbours_are_remembered_before_those_of_earlier_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut cache, why) = Cache::open(dir.path(), b"net");
        assert_eq!((cache.peers(), why), (&[][..], None));
        cache.note(&[peer(1), peer(2)]).expect("it is written");
        let (mut again, why) = Cache::open(dir.path(), b"net");
        assert_eq!((again.peers(), why), (&[peer(1), peer(2)][..], None));
        again.note(&[peer(3)]).expect("it is written");
        let (again, _) = Cache::open(dir.path(), b"net");
        assert_eq!(again.peers(), [peer(3), peer(1), peer(2)]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(dir.path().join("peers.json"))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn no_more_than_the_bound_are_remembered() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut cache, _) = Cache::open(dir.path(), b"net");
        for seed in 0..100 {
            cache.note(&[peer(seed)]).expect("it is written");
        }
        let (again, why) = Cache::open(dir.path(), b"net");
        assert_eq!(
            (again.peers().len(), again.peers()[0], why),
            (MAX_PEERS, peer(99), None)
        );
    }

    #[test]
    fn what_is_damaged_or_of_another_network_is_not_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut cache, _) = Cache::open(dir.path(), b"net");
        cache.note(&[peer(1)]).expect("it is written");
        let (other, why) = Cache::open(dir.path(), b"ten");
        assert!(other.peers().is_empty() && why.expect("told").contains("another network"));
        let path = dir.path().join("peers.json");
        let whole = std::fs::read(&path).expect("there");
        for len in 0..whole.len() - 3 {
            std::fs::write(&path, &whole[..len]).expect("writable");
            let (cut, why) = Cache::open(dir.path(), b"net");
            assert!(cut.peers().is_empty() && why.is_some(), "cut at {len}");
        }
    }
}
