//! How much one core simulates: datagrams per second, and seconds of a world per second.
//!
//! Invariants: with [`run`], one message per datagram; what is counted is datagrams that processes sent, acknowledgements
//! included.
//! Not here: comparing with anything (`benches/`).

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Instant;

use crate::host::Host;
use crate::scenario::Scenario;
use crate::world::World;

/// What was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Datagrams sent by processes.
    pub datagrams: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Time of the world, ms.
    pub simulated_ms: u64,
    /// Wall time, ms.
    pub ms: u64,
    /// Time on the processor, ms: what counts on a shared machine.
    pub cpu_ms: u64,
    /// Bytes of the datagrams.
    pub bytes: u64,
    /// Most memory that this process ever held, KiB; 0 where the host does not tell.
    pub memory_kib: u64,
}

/// Sends `messages` unreliable messages of `size` bytes from one node to another, each in a datagram of its own, and
/// measures.
///
/// # Errors
/// What went wrong in the world.
pub fn run<H: Host>(size: u64, messages: u64) -> Result<Figures, String> {
    // A message that would not fit a packet of the first path MTU is cut to what makes a datagram of this size.
    let size = if size + OVERHEAD > MIN_MTU {
        size.min(MIN_MTU) - OVERHEAD
    } else {
        size
    };
    let text = format!(
        r#"
schema = 1
name = "bench"
duration = "1h"
[topology]
nodes = [ {{ id = "a" }}, {{ id = "b" }} ]
coalesce = "50us"
[topology.default_link]
delay = "200us"
[[workload]]
kind = "stream"
from = "a"
to = "b"
reliability = "unreliable"
count = {messages}
size = {size}
rate = "{RATE}/s"
"#
    );
    time::<H>(&text)
}

/// A world whose pace is measured: simulated seconds per second of one core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// So many nodes, each with a session to every other, and nothing to say.
    Idle(u32),
    /// So many nodes, each with a session to every other, that send 1,000 messages of 64 B per second among them.
    Busy(u32),
    /// So many nodes with four neighbours each, that send every neighbour one message of 64 B per second.
    Wide(u32),
    /// So many nodes that are a mesh with four neighbours each on average, and nothing to say but that.
    Mesh(u32),
}

impl Pace {
    /// How many nodes.
    #[must_use]
    pub const fn nodes(self) -> u32 {
        match self {
            Self::Idle(nodes) | Self::Busy(nodes) | Self::Wide(nodes) | Self::Mesh(nodes) => nodes,
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, nodes) = text
            .split_once(':')
            .ok_or_else(|| format!("`{text}` is not a world: write `idle:3`, `busy:5`, `wide:1000` or `mesh:1000`"))?;
        let nodes: u32 = nodes
            .parse()
            .map_err(|_| format!("`{nodes}` is not a number of nodes"))?;
        match kind {
            "idle" if (2..=500).contains(&nodes) => Ok(Self::Idle(nodes)),
            "busy" if (2..=500).contains(&nodes) => Ok(Self::Busy(nodes)),
            "wide" if (5..=60_000).contains(&nodes) => Ok(Self::Wide(nodes)),
            "mesh" if (3..=10_000).contains(&nodes) => Ok(Self::Mesh(nodes)),
            "idle" | "busy" => Err(format!("{kind} takes 2 to 500 nodes")),
            "wide" => Err("wide takes 5 to 60000 nodes".to_owned()),
            "mesh" => Err("mesh takes 3 to 10000 nodes".to_owned()),
            _ => Err(format!(
                "`{kind}` is not a world: there are `idle`, `busy`, `wide` and `mesh`"
            )),
        }
    }
}

/// Lets a world go on for `seconds` of its time, and measures.
///
/// # Errors
/// What went wrong in the world.
pub fn pace<H: Host>(pace: Pace, seconds: u64) -> Result<Figures, String> {
    let (nodes, pairs) = match pace {
        Pace::Idle(nodes) | Pace::Busy(nodes) => {
            let pairs: Vec<_> = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).collect();
            (nodes, pairs)
        }
        // A ring, and the same ring again with other steps: four neighbours, short ways.
        Pace::Wide(nodes) => {
            let far = (nodes / 7).max(2);
            let pairs = (0..nodes).flat_map(|a| [(a, (a + 1) % nodes), (a, (a + far) % nodes)]);
            (nodes, pairs.collect())
        }
        Pace::Mesh(nodes) => (nodes, Vec::new()),
    };
    let mut text = format!("schema = 1\nname = \"pace\"\nduration = \"{seconds}s\"\n[topology]\nnodes = [");
    let told = "writing to a string does not fail";
    for node in 0..nodes {
        write!(text, "{{ id = \"n{node}\" }},").expect(told);
    }
    text.push_str("]\n[topology.default_link]\ndelay = \"5ms\"\n");
    if matches!(pace, Pace::Mesh(_)) {
        text.push_str("[mesh]\nshape = \"small-world\"\n");
    }
    for (a, b) in &pairs {
        let (kind, rest) = match pace {
            Pace::Idle(_) | Pace::Mesh(_) => ("connect", String::new()),
            Pace::Busy(_) => {
                let rate = 1_000 / (2 * pairs.len() as u64).max(1);
                let rate = rate.max(1);
                (
                    "stream",
                    format!(
                        "size = 64\nboth = true\nrate = \"{rate}/s\"\ncount = {}\n",
                        rate * seconds
                    ),
                )
            }
            Pace::Wide(_) => (
                "stream",
                format!("size = 64\nboth = true\nrate = \"1/s\"\ncount = {seconds}\n"),
            ),
        };
        write!(
            text,
            "[[workload]]\nkind = \"{kind}\"\nfrom = \"n{a}\"\nto = \"n{b}\"\n{rest}"
        )
        .expect(told);
    }
    time::<H>(&text)
}

fn time<H: Host>(text: &str) -> Result<Figures, String> {
    let scenario = Scenario::resolved("bench", text, 1).map_err(|error| error.to_string())?;
    let world = World::<H>::new(scenario, 1);
    let (began, cpu) = (Instant::now(), processor_ms());
    let outcome = world.run();
    let (ms, cpu_ms) = (began.elapsed().as_millis() as u64, processor_ms() - cpu);
    match outcome.violation {
        Some(violation) => Err(format!("{}: {}", violation.checker, violation.what)),
        None => Ok(Figures {
            datagrams: outcome.accounts.sent,
            messages: outcome.counters.get("delivery.count").copied().unwrap_or(0),
            simulated_ms: outcome.ended_at / 1_000_000,
            ms,
            cpu_ms,
            bytes: outcome.accounts.bytes,
            memory_kib: memory_kib(),
        }),
    }
}

/// What a datagram of one message adds to it: header, tag, frames.
const OVERHEAD: u64 = 96;
/// Datagrams of this size pass every path, and are all that pass before the path MTU search ends.
const MIN_MTU: u64 = 1_200;
/// Messages per second of simulated time. With arrivals gathered every 50 us, about ten datagrams reach a turn, as on a
/// busy host.
const RATE: u64 = 200_000;

/// Time this process has spent on a processor, ms.
fn processor_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    (time.tv_sec as u64) * 1_000 + (time.tv_nsec as u64) / 1_000_000
}

/// The most memory this process held, KiB.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or(0)
}
