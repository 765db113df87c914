//! The two MACs of handshake packets, cookies, and the measure of load (as WireGuard does it, with BLAKE3).
//!
//! mac1 shows that the sender knows the network and whom it speaks to; it is checked before any DH. mac2
//! shows that the sender receives at the address it sends from; it is asked for under load only.
//! Invariants: a cookie depends on address and port and dies with its secret, at most 240 s old; the table
//! of sources is bounded and only sources that proved their address enter it; nothing here does a DH.
//! Not here: what happens to a packet that fails (`initiator.rs`, `responder.rs`).

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::IpAddr;

use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305};
use net_base::rng::{ErasingRng, Secret};
use net_base::{Addr, Duration, EntityId, Instant, routed};
use net_wire::handshake::{COOKIE_LEN, COOKIE_NONCE_LEN, MAC_LEN, SEALED_COOKIE_LEN};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

/// Age at which the cookie secret is replaced (PROTOCOL 4).
pub(super) const COOKIE_ROTATION: Duration = Duration::from_secs(120);

/// One initiation is read in this time on average: at about 100 us each, a fifth of one core.
const READ_INTERVAL: Duration = Duration::from_micros(500);
/// Initiations read at once after a quiet time.
const READ_BURST: u64 = 256;
/// Initiations read in excess of the average from which on a cookie is asked for.
const LOADED_BACKLOG: Duration = Duration::from_micros(500 * READ_BURST / 2);
/// Under load: one initiation per source is read in this time on average. Many nodes may stand behind one
/// address.
const SOURCE_INTERVAL: Duration = Duration::from_millis(20);
/// Under load: initiations read at once from one source.
pub(super) const SOURCE_BURST: u64 = 32;
/// Sources whose rate is remembered.
const MAX_SOURCES: usize = 4_096;

/// A cookie: what mac2 is keyed with.
pub(super) type Cookie = [u8; COOKIE_LEN];
/// Either MAC.
pub(super) type Mac = [u8; MAC_LEN];

/// The keys under which packets to one recipient in one network are authenticated.
#[derive(Debug)]
pub(super) struct MacKeys {
    mac1: Secret,
    cookie: Secret,
}

impl MacKeys {
    /// Derived from the network's MAC key and the recipient's identity.
    pub(super) fn new(network_mac_key: &Secret, recipient: &EntityId) -> Self {
        let derive = |label: &str| {
            let mut hasher = blake3::Hasher::new_derive_key(label);
            hasher.update(&network_mac_key.0);
            hasher.update(&recipient.0);
            let key = Secret(*hasher.finalize().as_bytes());
            hasher.zeroize();
            key
        };
        Self {
            mac1: derive("net handshake mac1 v1"),
            cookie: derive("net handshake cookie v1"),
        }
    }

    /// mac1 over `input`.
    pub(super) fn mac1(&self, input: &[u8]) -> Mac {
        mac(&self.mac1.0, input)
    }

    /// Whether `mac` is mac1 over `input`, in constant time.
    pub(super) fn verify_mac1(&self, input: &[u8], mac: &Mac) -> bool {
        self.mac1(input).ct_eq(mac).into()
    }

    /// Seals a cookie for the sender of the packet with this mac1. The recipient of that packet seals, so the
    /// keys are those of packets to it. The nonce is a keyed hash over what is sealed as well as over
    /// randomness: a cloned machine, whose randomness repeats, repeats a nonce only for the same message.
    pub(super) fn seal(
        &self,
        random: &Secret,
        mac1: &Mac,
        cookie: &Cookie,
    ) -> ([u8; COOKIE_NONCE_LEN], [u8; SEALED_COOKIE_LEN]) {
        let mut hasher = blake3::Hasher::new_keyed(&random.0);
        hasher.update(mac1);
        hasher.update(cookie);
        let mut nonce = [0; COOKIE_NONCE_LEN];
        hasher.finalize_xof().fill(&mut nonce);
        hasher.zeroize();
        let mut sealed = [0; SEALED_COOKIE_LEN];
        let (body, tag) = sealed.split_at_mut(COOKIE_LEN);
        body.copy_from_slice(cookie);
        let made = XChaCha20Poly1305::new((&self.cookie.0).into())
            .encrypt_inout_detached((&nonce).into(), mac1, body.into())
            .expect("sixteen bytes are below the cipher's limit");
        tag.copy_from_slice(&made);
        (nonce, sealed)
    }

    /// Opens a cookie that answers our packet with this mac1.
    pub(super) fn unseal(
        &self,
        nonce: &[u8; COOKIE_NONCE_LEN],
        mac1: &Mac,
        sealed: &[u8; SEALED_COOKIE_LEN],
    ) -> Option<Cookie> {
        let (body, tag) = sealed.split_first_chunk::<COOKIE_LEN>()?;
        let tag: &[u8; 16] = tag.try_into().ok()?;
        let mut cookie = *body;
        XChaCha20Poly1305::new((&self.cookie.0).into())
            .decrypt_inout_detached(nonce.into(), mac1, (&mut cookie[..]).into(), tag.into())
            .ok()?;
        Some(cookie)
    }
}

/// mac2 over `input` under a cookie.
pub(super) fn mac2(cookie: &Cookie, input: &[u8]) -> Mac {
    let mut key = blake3::derive_key("net handshake mac2 v1", cookie);
    let mac = mac(&key, input);
    key.zeroize();
    mac
}

fn mac(key: &[u8; 32], input: &[u8]) -> Mac {
    *blake3::keyed_hash(key, input)
        .as_bytes()
        .first_chunk()
        .expect("a hash has 32 bytes")
}

/// Makes and checks the cookies we give out.
#[derive(Debug, Default)]
pub(super) struct CookieJar {
    current: Option<Secret>,
    /// Still good, so that a cookie does not die on its way.
    previous: Option<Secret>,
}

impl CookieJar {
    /// The cookie of an address, and whether its secret is new (and its rotation must be awaited).
    pub(super) fn bake(&mut self, address: &Addr, secrets: &mut ErasingRng) -> (Cookie, bool) {
        let new = self.current.is_none();
        let secret = self.current.get_or_insert_with(|| secrets.draw());
        (cookie(secret, address), new)
    }

    /// Whether `mac` is mac2 over `input` under a cookie of ours for `address`.
    pub(super) fn verify(&self, address: &Addr, input: &[u8], mac: &Mac) -> bool {
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .any(|secret| mac2(&cookie(secret, address), input).ct_eq(mac).into())
    }

    /// Replaces the secret; whether one is still in use that must be rotated out later.
    pub(super) fn rotate(&mut self) -> bool {
        self.previous = self.current.take();
        self.previous.is_some()
    }
}

fn cookie(secret: &Secret, address: &Addr) -> Cookie {
    let mut input = [0; 19];
    match address.ip() {
        IpAddr::V4(ip) => {
            input[0] = 4;
            input[1..5].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            input[0] = 6;
            input[1..17].copy_from_slice(&ip.octets());
        }
    }
    input[17..].copy_from_slice(&address.port().to_le_bytes());
    mac(&secret.0, &input)
}

/// A token bucket that stores only when it will be full (generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Takes one token of a bucket that gains one per `interval` and holds `burst`; `false` where it is empty.
    fn take(&mut self, now: Instant, interval: Duration, burst: u64) -> bool {
        if self.backlog(now) + interval > interval * burst {
            return false;
        }
        self.full_at = self.full_at.max(now) + interval;
        true
    }

    /// What was taken and has not come back yet, as time.
    fn backlog(&self, now: Instant) -> Duration {
        self.full_at.since(now)
    }
}

/// How much costly work others have asked for.
#[derive(Debug, Default)]
pub(super) struct Load {
    reads: Bucket,
    sources: BTreeMap<[u8; 8], Bucket>,
    /// The same by when each source's bucket is full, so that the idle ones are found at once.
    idle: BTreeSet<(Instant, [u8; 8])>,
}

impl Load {
    /// Whether a cookie must be asked for.
    pub(super) fn is_high(&self, now: Instant) -> bool {
        self.reads.backlog(now) > LOADED_BACKLOG
    }

    /// Takes leave to read one initiation.
    pub(super) fn take_read(&mut self, now: Instant) -> bool {
        self.reads.take(now, READ_INTERVAL, READ_BURST)
    }

    /// Takes leave to read one initiation from a source that proved its address: an IPv4 address, or an IPv6
    /// network of 64 bits.
    pub(super) fn take_source(&mut self, now: Instant, from: &Addr) -> bool {
        let source = source(from);
        let known = self.sources.get(&source).copied();
        if known.is_none() && !self.make_room(now) {
            return false;
        }
        let mut bucket = known.unwrap_or_default();
        self.idle.remove(&(bucket.full_at, source));
        let taken = bucket.take(now, SOURCE_INTERVAL, SOURCE_BURST);
        self.idle.insert((bucket.full_at, source));
        self.sources.insert(source, bucket);
        taken
    }

    /// Forgets an idle source where the table is full; whether there is room.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.sources.len() < MAX_SOURCES {
            return true;
        }
        match self.idle.first().copied() {
            Some((full_at, source)) if full_at <= now => {
                self.idle.remove(&(full_at, source));
                self.sources.remove(&source);
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn check(&self) {
        assert!(self.sources.len() <= MAX_SOURCES);
        assert_eq!(self.sources.len(), self.idle.len());
    }
}

fn source(from: &Addr) -> [u8; 8] {
    // Over relays: the node that says it sent it. What a neighbour relays in all is bounded.
    if let Some(label) = routed::label(from) {
        return label.0.to_be_bytes();
    }
    let mut source = [0; 8];
    match from.ip() {
        // No global IPv6 network begins with ::/16, so the two kinds cannot meet.
        IpAddr::V4(ip) => source[4..].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => source.copy_from_slice(&ip.octets()[..8]),
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_base::rng::Seed;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn address(n: u32, port: u16) -> Addr {
        (n.to_be_bytes(), port).into()
    }

    fn secrets() -> ErasingRng {
        Seed::new([1; 32]).fork_erasing("test")
    }

    #[test]
    fn mac1_belongs_to_one_network_and_one_recipient() {
        let mac = MacKeys::new(&Secret([1; 32]), &EntityId([1; 32])).mac1(b"packet");
        assert!(MacKeys::new(&Secret([1; 32]), &EntityId([1; 32])).verify_mac1(b"packet", &mac));
        assert!(!MacKeys::new(&Secret([2; 32]), &EntityId([1; 32])).verify_mac1(b"packet", &mac));
        assert!(!MacKeys::new(&Secret([1; 32]), &EntityId([2; 32])).verify_mac1(b"packet", &mac));
        assert!(!MacKeys::new(&Secret([1; 32]), &EntityId([1; 32])).verify_mac1(b"packer", &mac));
    }

    #[test]
    fn a_sealed_cookie_opens_only_for_the_packet_it_answers() {
        let keys = MacKeys::new(&Secret([1; 32]), &EntityId([1; 32]));
        let (nonce, sealed) = keys.seal(&Secret([3; 32]), &[4; 16], &[5; 16]);
        assert_eq!(keys.unseal(&nonce, &[4; 16], &sealed), Some([5; 16]));
        assert_eq!(keys.unseal(&nonce, &[9; 16], &sealed), None);
        assert_eq!(keys.unseal(&[9; 24], &[4; 16], &sealed), None);
        let other = MacKeys::new(&Secret([1; 32]), &EntityId([2; 32]));
        assert_eq!(other.unseal(&nonce, &[4; 16], &sealed), None);
    }

    #[test]
    fn a_clone_with_the_same_randomness_repeats_no_nonce_for_another_cookie() {
        let keys = MacKeys::new(&Secret([1; 32]), &EntityId([1; 32]));
        let nonce = |mac1: u8, cookie: u8| keys.seal(&Secret([3; 32]), &[mac1; 16], &[cookie; 16]).0;
        assert!(nonce(4, 5) != nonce(4, 6) && nonce(4, 5) != nonce(5, 5));
    }

    #[test]
    fn a_cookie_is_good_for_one_address_and_two_rotations() {
        let (mut jar, mut secrets) = (CookieJar::default(), secrets());
        let (cookie, new) = jar.bake(&address(1, 1), &mut secrets);
        assert!(new && !jar.bake(&address(2, 2), &mut secrets).1);
        let mac = mac2(&cookie, b"packet");
        assert!(jar.verify(&address(1, 1), b"packet", &mac));
        assert!(!jar.verify(&address(1, 2), b"packet", &mac), "another port");
        assert!(!jar.verify(&address(2, 1), b"packet", &mac), "another address");
        assert!(jar.rotate());
        assert!(jar.verify(&address(1, 1), b"packet", &mac), "still on its way");
        assert!(!jar.rotate());
        assert!(!jar.verify(&address(1, 1), b"packet", &mac), "too old");
        assert_ne!(jar.bake(&address(1, 1), &mut secrets).0, cookie);
    }

    #[test]
    fn reads_are_bounded_by_burst_and_rate() {
        let mut load = Load::default();
        let taken = (0..100_000).filter(|_| load.take_read(at(1_000))).count() as u64;
        assert_eq!(taken, READ_BURST);
        assert!(load.is_high(at(1_000)));
        let later = (0..100_000).filter(|_| load.take_read(at(1_010))).count();
        assert_eq!(later, 20, "ten milliseconds give twenty tokens");
        assert!(!load.is_high(at(2_000)));
    }

    #[test]
    fn one_source_cannot_use_up_what_others_get() {
        let mut load = Load::default();
        let greedy = (0..100).filter(|_| load.take_source(at(0), &address(1, 1))).count() as u64;
        assert_eq!(greedy, SOURCE_BURST);
        assert!(
            !load.take_source(at(0), &address(1, 2)),
            "another port is the same source"
        );
        assert!(load.take_source(at(0), &address(2, 1)));
        assert!(load.take_source(at(20), &address(1, 1)), "one token came back");
        load.check();
    }

    #[test]
    fn the_table_of_sources_is_bounded_and_forgets_idle_ones() {
        let mut load = Load::default();
        let entered = (0..10_000).filter(|&n| load.take_source(at(0), &address(n, 1))).count();
        assert_eq!(entered, MAX_SOURCES);
        load.check();
        assert!(
            load.take_source(at(50), &address(20_000, 1)),
            "an idle source made room"
        );
        load.check();
    }
}
