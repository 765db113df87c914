//! Tests of the state directory: every refusal leaves every byte as it was.

use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::testing::FixedEntropy;

const NOON: UnixNanos = UnixNanos(1_800_000_000_000_000_000);

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    (parent, path)
}

fn make(path: &Path) -> StateDir {
    let mut state = StateDir::open_or_create(path, &FixedEntropy::new(7)).unwrap();
    state.next_epoch(NOON).unwrap();
    state.set_port(4_433).unwrap();
    state.put(Cell::PeerEpochs, b"epochs of peers").unwrap();
    state
}

/// Every file with its bytes and mode.
fn photograph(path: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|file| (file.clone(), (fs::read(&file).unwrap(), mode(&file))))
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn identity_port_and_cells_survive_and_the_epoch_always_grows() {
    let (_parent, path) = fresh();
    let first = make(&path);
    let entity = first.identity().entity();
    drop(first);
    let mut again = StateDir::open(&path).unwrap();
    assert_eq!((again.identity().entity(), again.port()), (entity, 4_433));
    assert_eq!(
        again.get(Cell::PeerEpochs).unwrap().as_deref(),
        Some(&b"epochs of peers"[..])
    );
    assert_eq!(
        again.next_epoch(UnixNanos(NOON.0 - 5)).unwrap(),
        Epoch(NOON.0 + 1),
        "the clock went back a little"
    );
    assert_eq!(again.next_epoch(UnixNanos(NOON.0 + 9)).unwrap(), Epoch(NOON.0 + 9));
}

#[test]
fn an_epoch_that_no_peer_would_believe_is_refused() {
    let (_parent, path) = fresh();
    let mut state = make(&path);
    let yesterday = UnixNanos(NOON.0 - MAX_AHEAD_NS - 10);
    let error = state.next_epoch(yesterday).unwrap_err();
    assert_eq!(error.code(), "state.epoch_ahead");
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn everything_made_is_private() {
    let (_parent, path) = fresh();
    make(&path);
    assert_eq!(mode(&path), 0o700);
    for (file, (_, mode)) in photograph(&path) {
        assert_eq!(mode, 0o600, "{}", file.display());
    }
}

#[test]
fn wider_modes_are_refused_with_the_remedy() {
    let (_parent, path) = fresh();
    make(&path);
    let files: Vec<PathBuf> = photograph(&path)
        .into_keys()
        .filter(|file| !file.ends_with(LOCK))
        .collect();
    assert_eq!(files.len(), 3);
    for file in files {
        chmod(&file, 0o640);
        let error = StateDir::open(&path).unwrap_err();
        assert_eq!(error.code(), "state.mode");
        assert!(
            error.to_string().contains(&format!("chmod 600 {}", file.display())),
            "{error}"
        );
        chmod(&file, 0o600);
    }
    chmod(&path, 0o750);
    let error = StateDir::open(&path).unwrap_err();
    assert!(
        error.to_string().contains(&format!("chmod 700 {}", path.display())),
        "{error}"
    );
    chmod(&path, 0o700);
    StateDir::open(&path).unwrap();
}

#[test]
fn damage_at_any_byte_of_any_file_is_refused_and_left_as_it_is() {
    let (_parent, path) = fresh();
    make(&path);
    for (file, (good, _)) in photograph(&path).into_iter().filter(|(file, _)| !file.ends_with(LOCK)) {
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file, &bad).unwrap();
            let before = photograph(&path);
            let error = StateDir::open(&path).unwrap_err();
            assert!(
                matches!(error.code(), "state.corrupt" | "state.foreign"),
                "{}@{at}: {error}",
                file.display()
            );
            assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
            assert_eq!(photograph(&path), before);
        }
        for len in 0..good.len() {
            fs::write(&file, &good[..len]).unwrap();
            assert_eq!(
                StateDir::open(&path).unwrap_err().code(),
                "state.corrupt",
                "{} cut at {len}",
                file.display()
            );
        }
        fs::write(&file, [good.clone(), vec![0]].concat()).unwrap();
        assert_eq!(StateDir::open(&path).unwrap_err().code(), "state.corrupt");
        fs::write(&file, &good).unwrap();
    }
    StateDir::open(&path).unwrap();
}

#[test]
fn the_lock_is_held_once_and_goes_with_its_holder() {
    let (_parent, path) = fresh();
    let first = make(&path);
    let error = StateDir::open(&path).unwrap_err();
    assert_eq!(error.code(), "state.locked");
    assert!(error.to_string().contains("another process"));
    drop(first);
    StateDir::open(&path).unwrap();
}

#[test]
fn somebodys_directory_is_left_alone() {
    let (parent, _) = fresh();
    let file = parent.path().join("thesis.txt");
    fs::write(&file, "years of work").unwrap();
    chmod(parent.path(), 0o700);
    let error = StateDir::open_or_create(parent.path(), &FixedEntropy::new(1)).unwrap_err();
    assert_eq!(error.code(), "state.foreign");
    assert_eq!(photograph(parent.path()).len(), 1);
    assert_eq!(
        StateDir::open_or_create(&file, &FixedEntropy::new(1))
            .unwrap_err()
            .code(),
        "state.foreign"
    );
}

#[test]
fn a_file_of_another_identity_is_refused() {
    let (_parent, path) = fresh();
    let (_other_parent, other) = fresh();
    make(&path);
    drop(StateDir::open_or_create(&other, &FixedEntropy::new(8)).unwrap());
    fs::copy(path.join(BOOT), other.join(BOOT)).unwrap();
    assert_eq!(StateDir::open(&other).unwrap_err().code(), "state.other_identity");
}

#[test]
fn a_lost_identity_is_not_replaced_by_a_new_one() {
    let (_parent, path) = fresh();
    make(&path);
    fs::remove_file(path.join(IDENTITY)).unwrap();
    let before = photograph(&path);
    let error = StateDir::open_or_create(&path, &FixedEntropy::new(1)).unwrap_err();
    assert_eq!(error.code(), "state.no_identity");
    assert_eq!(photograph(&path), before);
}

#[test]
fn a_later_format_is_refused() {
    let (_parent, path) = fresh();
    make(&path);
    let file = path.join(BOOT);
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - CRC_LEN);
    bytes[10] = 9;
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    fs::write(&file, &bytes).unwrap();
    let error = StateDir::open(&path).unwrap_err();
    assert!(matches!(error, StateError::Version { found: 9, .. }), "{error}");
}

#[test]
fn creating_twice_is_refused() {
    let (_parent, path) = fresh();
    drop(StateDir::create(&path, &FixedEntropy::new(1)).unwrap());
    assert_eq!(
        StateDir::create(&path, &FixedEntropy::new(2)).unwrap_err().code(),
        "state.exists"
    );
}

#[derive(Debug, Default)]
struct FullDisk(AtomicBool);

impl Files for FullDisk {
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        HostFiles.read(path, max)
    }
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            HostFiles.write_synced(path, &bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        HostFiles.write_synced(path, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostFiles.rename(from, to)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        HostFiles.sync_dir(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        HostFiles.remove(path)
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_the_old_state() {
    let (_parent, path) = fresh();
    make(&path);
    let before = photograph(&path);
    let disk = Arc::new(FullDisk::default());
    let mut state = StateDir::open_with(&path, disk.clone(), None).unwrap();
    disk.0.store(true, Ordering::Relaxed);
    let error = state.next_epoch(UnixNanos(NOON.0 + 1)).unwrap_err();
    assert_eq!(error.code(), "state.disk_full");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(state.put(Cell::PeerEpochs, b"new"), Err(StoreError::Full));
    assert_eq!(photograph(&path), before, "nothing changed and nothing was left behind");
    assert_eq!(
        state.get(Cell::PeerEpochs).unwrap().as_deref(),
        Some(&b"epochs of peers"[..])
    );
}

#[test]
fn network_keys_are_private_files_that_are_never_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("network.key");
    let key = NetworkKey::from_bytes(Secret([3; 32]));
    write_network_key(&file, &key).unwrap();
    assert_eq!(mode(&file), 0o600);
    assert_eq!(read_network_key(&file).unwrap().fingerprint(), key.fingerprint());
    assert_eq!(write_network_key(&file, &key).unwrap_err().code(), "state.exists");
    chmod(&file, 0o644);
    assert_eq!(read_network_key(&file).unwrap_err().code(), "state.mode");
}
