//! How many datagrams per second one core simulates.
//!
//! Invariants: one message per datagram; what is counted is datagrams that processes sent, acknowledgements included.
//! Not here: comparing with anything (`benches/`).

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
    /// Wall time, ms.
    pub ms: u64,
    /// Time on the processor, ms: what counts on a shared machine.
    pub cpu_ms: u64,
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
    let scenario = Scenario::resolved("bench", &text, 1).map_err(|error| error.to_string())?;
    let world = World::<H>::new(scenario, 1);
    let (began, cpu) = (Instant::now(), processor_ms());
    let outcome = world.run();
    let (ms, cpu_ms) = (began.elapsed().as_millis() as u64, processor_ms() - cpu);
    match outcome.violation {
        Some(violation) => Err(format!("{}: {}", violation.checker, violation.what)),
        None => Ok(Figures {
            datagrams: outcome.accounts.sent,
            messages: outcome.counters.get("delivery.count").copied().unwrap_or(0),
            ms,
            cpu_ms,
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
