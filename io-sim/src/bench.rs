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
}

/// Sends `messages` unreliable messages of `size` bytes from one node to another, each in a datagram of its own, and
/// measures.
///
/// # Errors
/// What went wrong in the world.
pub fn run<H: Host>(size: u64, messages: u64) -> Result<Figures, String> {
    let text = format!(
        r#"
schema = 1
name = "bench"
duration = "1h"
[topology]
nodes = [ {{ id = "a" }}, {{ id = "b" }} ]
[topology.default_link]
delay = "1ms"
[[workload]]
kind = "stream"
from = "a"
to = "b"
reliability = "unreliable"
count = {messages}
size = {size}
rate = "20000/s"
"#
    );
    let scenario = Scenario::resolved("bench", &text, 1).map_err(|error| error.to_string())?;
    let world = World::<H>::new(scenario, 1);
    let began = Instant::now();
    let outcome = world.run();
    let ms = began.elapsed().as_millis() as u64;
    match outcome.violation {
        Some(violation) => Err(format!("{}: {}", violation.checker, violation.what)),
        None => Ok(Figures {
            datagrams: outcome.accounts.sent,
            messages: outcome.counters.get("delivery.count").copied().unwrap_or(0),
            ms,
        }),
    }
}
