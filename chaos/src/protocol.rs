//! What a run and its processes say to each other: one JSON object per line, orders on stdin, what happened on stdout.
//!
//! Invariants: what a process tells, it tells in the order in which it happened; a line that was cut off by a kill is no
//! line.
//! Not here: who acts on it (`node.rs`, `run.rs`).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use net_io_sim::arm::{Direction, directions};
use net_io_sim::scenario::{NodeIndex, Scenario, StreamWorkload, WorkloadKind};
use net_kernel::base::EntityId;
use serde::{Deserialize, Serialize};

/// What a process is to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    /// The first line: bind and serve.
    Go {
        /// Every machine, by index.
        peers: Vec<Peer>,
    },
    /// A machine is reached elsewhere.
    Moved {
        /// Which.
        node: NodeIndex,
        /// Where.
        address: SocketAddr,
    },
    /// Begin a workload, or take it up again.
    Begin {
        /// Its index.
        workload: usize,
        /// Steps left to take, where it takes steps.
        left: u64,
    },
    /// A stream is about to be opened; told to both ends.
    Instance {
        /// Names it: its subprotocol tells it (`net_io_sim::payload`).
        instance: u16,
        /// Which stream of the scenario.
        flow: usize,
        /// Messages that were delivered before, forward and backward.
        base: [u64; 2],
        /// The scenario's time now, ns.
        now: u64,
    },
    /// Read no more of a stream that its opener has lost, and say how it stands.
    Freeze {
        /// Which.
        instance: u16,
    },
    /// Move to another socket.
    Rebind,
    /// Tell how the mesh looks.
    Survey,
    /// Tell the figures.
    Report,
    /// Close and end.
    Quit,
}

/// A machine as others see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its identity, in hexadecimal.
    pub entity: String,
    /// Where this process reaches it; itself has none.
    pub address: Option<SocketAddr>,
}

/// What a process tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// It serves.
    Ready {
        /// Where; `None` is wherever its next datagram comes from.
        address: Option<SocketAddr>,
    },
    /// It has moved to another socket.
    Rebound {
        /// Where.
        address: SocketAddr,
    },
    /// A session is up.
    Connected {
        /// With whom.
        peer: NodeIndex,
        /// Time since it was asked for, ns, where this side asked.
        took: Option<u64>,
    },
    /// An attempt at a session failed.
    ConnectFailed {
        /// With whom.
        peer: NodeIndex,
        /// Why, by name.
        why: String,
    },
    /// A session ended.
    Closed {
        /// With whom.
        peer: NodeIndex,
        /// Why, by name.
        why: String,
    },
    /// There is a session for a stream: how does it go on?
    Want {
        /// Which stream of the scenario.
        flow: usize,
    },
    /// A message was delivered and is what was sent.
    Delivered {
        /// The stream.
        instance: u16,
        /// 0 forward, 1 backward.
        way: usize,
        /// Its number in this instance.
        number: u64,
        /// Its BLAKE3 hash, in hexadecimal.
        hash: String,
    },
    /// The reader was told of the end.
    Finished {
        /// The stream.
        instance: u16,
        /// 0 forward, 1 backward.
        way: usize,
    },
    /// Everything was sent and the peer has it.
    Flushed {
        /// The stream.
        instance: u16,
        /// 0 forward, 1 backward.
        way: usize,
    },
    /// The opener cannot go on with a stream.
    Lost {
        /// The stream.
        instance: u16,
        /// Why, by name.
        why: String,
    },
    /// The reader of a stream reads no more of it.
    Frozen {
        /// The stream.
        instance: u16,
    },
    /// A step of a workload was taken.
    Step {
        /// Its index.
        workload: usize,
    },
    /// An echo came back.
    Echo {
        /// Round trip, ns.
        rtt: u64,
    },
    /// Something about a transfer of files.
    Files {
        /// What.
        what: OfFiles,
    },
    /// Keys were replaced.
    Rekeyed,
    /// Something became known of the mesh.
    Mesh {
        /// What, by the name under which it is counted.
        fact: String,
    },
    /// How the mesh looks.
    View(View),
    /// A property does not hold.
    Violation {
        /// Which checker says so.
        checker: String,
        /// What it saw.
        what: String,
    },
    /// The figures.
    Report(Figures),
}

/// What a process tells of transfers of files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfFiles {
    /// A sender of files has a session.
    Attempt,
    /// A sender goes on in the middle of a file.
    Continued,
    /// A receiver has a file more.
    Saved,
    /// A sender of files ended before everything was settled, and will be started again.
    Failed {
        /// The error's code.
        code: String,
    },
    /// A sender of files ended, and every entry was settled.
    Sent {
        /// The workload's index.
        workload: usize,
        /// What it says.
        sent: Sent,
    },
}

/// What `net send` says at its end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Files that are safe at the receiver.
    pub files: u64,
    /// Directories that are.
    pub directories: u64,
    /// Files that were there before.
    pub files_there_before: u64,
    /// What was not sent or not taken.
    pub left_out: Vec<LeftOut>,
}

/// An entry that was left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// Where it lies at the sender.
    pub path: String,
    /// Why.
    pub why: String,
}

/// The mesh as one process sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct View {
    /// Neighbours that are heard, and hear it.
    pub links: Vec<NodeIndex>,
    /// Every machine that is reached, and the next one on the way there.
    pub routes: Vec<(NodeIndex, NodeIndex)>,
    /// What it did for others so far.
    pub relayed: Relays,
}

/// What a process sent on for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Relays {
    /// Packets.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Packets that it turned away.
    pub refused: u64,
}

/// Figures of a process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Those of the sessions that live.
    pub sessions: Vec<SessionFigures>,
    /// Refused datagrams and frames, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What was sent on for others.
    pub relayed: Relays,
    /// Whether a peer knows a later incarnation of this identity.
    pub rolled_back: bool,
}

/// Figures of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionFigures {
    /// Smoothed round trip, ns.
    pub rtt: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams accepted.
    pub received: u64,
    /// Datagrams declared lost.
    pub lost: u64,
    /// Changes of address.
    pub moves: u64,
}

/// A stream of a scenario, both directions of it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its workload.
    pub workload: usize,
    /// Who opens it.
    pub from: NodeIndex,
    /// Who accepts it.
    pub to: NodeIndex,
    /// What it is like.
    pub stream: StreamWorkload,
    /// What is sent forward, and backward where both sides send.
    pub ways: Vec<Direction>,
}

/// All streams of a scenario, in the order of the file.
#[must_use]
pub fn flows(scenario: &Scenario, seed: u64) -> Vec<Flow> {
    let mut flows: Vec<Flow> = Vec::new();
    for direction in directions(scenario, seed) {
        if direction.way == 1 {
            if let Some(flow) = flows.last_mut() {
                flow.ways.push(direction);
            }
            continue;
        }
        let workload = &scenario.workloads[direction.workload];
        if let WorkloadKind::Stream(stream) = &workload.kind {
            flows.push(Flow {
                workload: direction.workload,
                from: workload.from,
                to: workload.to,
                stream: stream.clone(),
                ways: vec![direction],
            });
        }
    }
    flows
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An identity from hexadecimal.
#[must_use]
pub fn entity(text: &str) -> Option<EntityId> {
    let mut bytes = [0; EntityId::LEN];
    if text.len() != 2 * EntityId::LEN || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(EntityId(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let told = Told::Delivered {
            instance: 3,
            way: 1,
            number: 9,
            hash: hex(&[0xAB; 32]),
        };
        let line = serde_json::to_string(&told).unwrap();
        assert!(line.contains("\"told\":\"delivered\""), "{line}");
        assert_eq!(serde_json::from_str::<Told>(&line).unwrap(), told);
        let report = Told::Report(Figures::default());
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Told>(&line).unwrap(), report);
        // A kill cuts lines off.
        assert!(serde_json::from_str::<Told>(&line[..line.len() - 1]).is_err());
    }

    #[test]
    fn identities_survive_hexadecimal() {
        let id = EntityId([0x5C; 32]);
        assert_eq!(entity(&hex(&id.0)), Some(id));
        assert_eq!(entity("5c"), None);
        assert_eq!(entity(&"zz".repeat(32)), None);
    }
}
