//! The sessions a running node holds: those that peers open and those that were asked for, each served until it ends.
//!
//! Invariants: one session per peer is held, however many ask for it; a stream of a kind that is not served here is refused.
//! Not here: what is said on streams (`channels.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use net_io_real::{ConnectError, EntityId, Node, Session};
use net_kernel::wire::subprotocol::CHANNEL;

use super::channels::Channels;

/// The sessions of a node.
pub struct Sessions {
    node: Node,
    channels: Arc<Channels>,
    held: Mutex<BTreeMap<EntityId, Session>>,
}

impl Sessions {
    pub fn new(node: Node, channels: Arc<Channels>) -> Arc<Self> {
        Arc::new(Self {
            node,
            channels,
            held: Mutex::default(),
        })
    }

    /// Holds what peers open, until the node is closed.
    pub async fn accept(self: Arc<Self>) {
        while let Some(session) = self.node.accept().await {
            self.hold(&session);
        }
    }

    /// A session with a peer, by whatever way there is.
    pub async fn reach(self: &Arc<Self>, peer: EntityId) -> Result<Session, ConnectError> {
        let session = self.node.reach(peer).await?;
        self.hold(&session);
        Ok(session)
    }

    /// Whether there is a session with a peer.
    pub fn has(&self, peer: &EntityId) -> bool {
        self.lock().get(peer).is_some_and(Session::is_open)
    }

    fn hold(self: &Arc<Self>, session: &Session) {
        let peer = session.peer();
        {
            let mut held = self.lock();
            if held.get(&peer).is_some_and(Session::is_open) {
                return;
            }
            held.insert(peer, session.clone());
        }
        let (sessions, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            while let Some(stream) = session.accept_stream().await {
                if stream.subprotocol() == CHANNEL {
                    tokio::spawn(sessions.channels.clone().serve(stream));
                }
            }
            let mut held = sessions.lock();
            if held.get(&peer).is_some_and(|kept| !kept.is_open()) {
                held.remove(&peer);
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<EntityId, Session>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
