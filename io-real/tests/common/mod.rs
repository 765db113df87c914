//! What the end-to-end tests share: nodes on loopback and a guard against hanging.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use net_io_real::{Builder, Node, Session, Stream, StreamOptions};

/// No test waits for time; this only keeps a broken one from hanging.
pub async fn guard<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .expect("the test hangs")
}

pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub fn builder() -> Builder {
    Node::builder().address(loopback())
}

/// Two nodes and a session between them, seen from both sides.
pub struct Pair {
    pub a: Node,
    pub b: Node,
    pub ab: Session,
    pub ba: Session,
}

pub async fn pair_of(a: Builder, b: Builder) -> Pair {
    let (a, b) = (a.bind().await.expect("a starts"), b.bind().await.expect("b starts"));
    let ab = a.connect(&b.ticket()).await.expect("a connects");
    let ba = b.accept().await.expect("b accepts");
    assert_eq!((ab.peer(), ba.peer()), (b.entity(), a.entity()));
    Pair { a, b, ab, ba }
}

pub async fn pair() -> Pair {
    pair_of(builder(), builder()).await
}

impl Pair {
    /// A stream that a opened and b accepted, begun with a message that both have seen.
    pub async fn stream(&self, options: StreamOptions) -> (Stream, Stream) {
        let near = self.ab.open(options).expect("a opens");
        near.send(b"hello").await.expect("a sends");
        let mut far = self.ba.accept_stream().await.expect("b accepts");
        assert_eq!(far.recv().await.expect("b receives").as_deref(), Some(&b"hello"[..]));
        (near, far)
    }
}
