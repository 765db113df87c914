//! The kernel allocates nothing per data packet once it is warm.
//!
//! Invariants: see each test. Not here: the driver's own buffers (`net-io-real`).

use net_benches::alloc::{Count, Counting, counted};
use net_benches::kernel::pair::Pair;
use net_benches::kernel::relay::{BATCH, Row};
use net_benches::kernel::star::Star;
use net_io_real::aead::Ring;
use net_kernel::api::{SessionConfig, StreamOptions};
use net_kernel::wire::Reliability;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages of `size` bytes in calls of `batch` over a stream, first to warm up, then counted. What was allocated, and
/// how many packets both sides sent meanwhile.
fn allocations(reliability: Reliability, size: usize, batch: usize) -> (Count, u64) {
    let mut pair: Pair<Ring> = Pair::connected(&SessionConfig::default());
    let options = StreamOptions {
        reliability,
        ..StreamOptions::default()
    };
    let stream = pair.open(0, options);
    let messages = vec![7; size * batch];
    let total = (32 << 20) / size as u64;
    pair.stream_through(stream, &messages, batch, total);
    let packets = |pair: &Pair<Ring>| pair.sides.iter().map(|side| side.desk.wire.datagrams).sum::<u64>();
    let before = packets(&pair);
    let ((), count) = counted(|| pair.stream_through(stream, &messages, batch, total));
    (count, packets(&pair) - before)
}

fn assert_none(reliability: Reliability, size: usize, batch: usize) {
    let (count, packets) = allocations(reliability, size, batch);
    assert!(packets > 10_000, "a steady state needs packets: {packets}");
    assert_eq!(
        count,
        Count::default(),
        "{reliability:?}, messages of {size} B in calls of {batch}, {packets} packets"
    );
}

#[test]
fn a_reliable_stream_of_small_messages_allocates_nothing() {
    assert_none(Reliability::Reliable, 64, 64);
}

#[test]
fn small_messages_sent_one_call_at_a_time_allocate_nothing() {
    assert_none(Reliability::Reliable, 64, 1);
}

#[test]
fn a_reliable_stream_of_messages_of_1200_bytes_allocates_nothing() {
    assert_none(Reliability::Reliable, 1_200, 1);
}

#[test]
fn an_unordered_stream_allocates_nothing() {
    assert_none(Reliability::ReliableUnordered, 1_200, 1);
}

#[test]
fn a_fire_and_forget_stream_allocates_nothing() {
    assert_none(Reliability::FireAndForget, 1_200, 1);
}

/// (Counts are of the driver's thread; what helpers do is what is done here where they are late.)
#[test]
fn a_node_with_helpers_allocates_nothing() {
    let mut star: Star<Ring> = Star::new(&SessionConfig::default(), 2, std::time::Duration::ZERO);
    for outwards in [false, true] {
        star.bulk(outwards, 64 << 20);
        let (_, count) = counted(|| star.bulk(outwards, 32 << 20));
        assert_eq!(count, Count::default(), "four sessions, outwards: {outwards}");
    }
}

#[test]
fn a_relay_allocates_nothing() {
    for len in [64, 1_000] {
        let mut row: Row<Ring> = Row::new(len);
        for counting in [false, true] {
            for _ in 0..50 {
                row.load(BATCH);
                let (sent, count) = counted(|| row.relay());
                assert_eq!(sent, BATCH, "all were sent on");
                assert!(!counting || count == Count::default(), "messages of {len} B: {count:?}");
            }
        }
    }
}

#[test]
fn the_counter_counts() {
    let (vector, count) = counted(|| vec![1_u8; 100]);
    assert_eq!((count.calls, count.bytes), (1, 100));
    drop(vector);
}
