//! Kernel and driver together allocate nothing per data packet once they are warm: two nodes over real sockets, each
//! message read into the caller's buffer. (`allocations.rs` shows the same of the kernel to the last call.)
//!
//! Invariants: both nodes live on one thread, so every allocation between two counts is theirs or tokio's. Not here:
//! the kernel alone (`allocations.rs`).

use net_benches::alloc::{Counting, counted};
use net_io_real::{Node, Stream, StreamOptions};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages under way at once: enough for full packets, few enough for the send buffer.
const WINDOW: usize = 64;

async fn bind() -> Node {
    let address = ([127, 0, 0, 1], 0).into();
    Node::builder()
        .ephemeral()
        .address(address)
        .job_threads(0)
        .bind()
        .await
        .expect("loopback is there")
}

/// Two nodes and both ends of a stream between them.
async fn connected() -> (Node, Node, Stream, Stream) {
    let (here, there) = (bind().await, bind().await);
    let session = here.connect(&there.ticket()).await.expect("they reach each other");
    let near = session.open(StreamOptions::default()).expect("a new session has room");
    near.send(b"first").await.expect("it is open");
    let accepted = there.accept().await.expect("it arrives");
    let mut far = accepted.accept_stream().await.expect("it arrives");
    assert_eq!(far.recv().await.expect("it is open").as_deref(), Some(&b"first"[..]));
    // The sessions go on without their handles, as long as the streams do.
    (here, there, near, far)
}

async fn pass(near: &Stream, far: &mut Stream, message: &[u8], buffer: &mut [u8], rounds: usize) {
    for _ in 0..rounds {
        for _ in 0..WINDOW {
            near.send(message).await.expect("it is open");
        }
        for _ in 0..WINDOW {
            let len = far.recv_into(buffer).await.expect("it is open");
            assert_eq!(len, Some(message.len()));
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn messages_through_two_nodes_allocate_nothing_per_packet() {
    let runtime = runtime();
    let (_here, _there, near, mut far) = runtime.block_on(connected());
    for size in [64, 1_200] {
        let (message, mut buffer) = (vec![7; size], vec![0; size]);
        runtime.block_on(pass(&near, &mut far, &message, &mut buffer, 500));
        let ((), count) = counted(|| runtime.block_on(pass(&near, &mut far, &message, &mut buffer, 300)));
        // A buffer may still grow once when the host stalls one side; what is ruled out is a cost per packet.
        let messages = 300 * WINDOW as u64;
        assert!(
            count.calls * 500 < messages,
            "{messages} messages of {size} B: {count:?}"
        );
    }
}
