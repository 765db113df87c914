//! `net connect`: stdin and stdout joined to the node that a ticket names.
//!
//! Invariants: ends when stdin has ended, the peer has everything, and the peer has ended its side.
//! Not here: how bytes are moved (`pipe.rs`), how the session comes about (`peer.rs`).

use std::fmt;

use net_io_real::StreamOptions;
use serde::Serialize;

use crate::args::ConnectArgs;
use crate::error::Failure;
use crate::output::{Out, Record, hex};
use crate::peer::{self, Peer};
use crate::pipe::{self, Extras, Input};
use crate::signals::Signals;

/// `net connect`
pub async fn run(args: &ConnectArgs, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let Peer { node, session } = peer::connect(&args.peer, &mut signals).await?;
    out.event(&Connected::new(hex(&session.peer().0), session.address()));
    let stream = session.open(StreamOptions::default())?;
    // An empty message, so that the peer learns of the stream and may speak first.
    stream.send(b"").await?;
    let extras = Extras {
        rekey_at: args.rekey_at,
        sample: args.sample,
    };
    let done = Box::pin(pipe::run(
        &session,
        stream,
        &mut Input::new(),
        extras,
        &mut signals,
        out,
    ))
    .await;
    if done.is_ok() {
        // Both sides have everything: nothing is left to drain.
        session.close(0, "").await;
    }
    node.close_within(pipe::DRAIN_GRACE).await;
    out.event(&done?);
    Ok(())
}

/// A session is up.
#[derive(Serialize)]
pub struct Connected {
    peer: String,
    address: Option<String>,
}

impl Connected {
    pub fn new(peer: String, address: Option<std::net::SocketAddr>) -> Self {
        Self {
            peer,
            address: address.map(|address| address.to_string()),
        }
    }
}

impl fmt::Display for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connected to {}", &self.peer[..16])?;
        match &self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

impl Record for Connected {
    const KIND: &'static str = "connected";
}
