//! Bodies of the fuzz targets `scenario` and `scenario_text`: small worlds drawn from the input, and the reader on any text.
//!
//! [`Drawn`] is a resolved scenario of at most four machines that is valid by construction and that a correct kernel passes:
//! every fault and adversary ends or is healed, what must complete can, and what a scenario may not promise (a node restored
//! from an old disk, run twice, or malicious) it does not ask for.
//! Invariants: what is drawn is a function of the input; a body panics only where something is wrong with the kernel, the
//! world or the reader. Compiled for fuzzing and tests alone. Not here: sessions without a world (`net_kernel::fuzz`).

use std::fmt::Write as _;

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::host::Host;
use crate::kernel::{ClearKernel, RealKernel};
use crate::run::Verdict;
use crate::scenario::{Scenario, resolve};
use crate::world::World;

/// A run of a drawn scenario that takes more events is in a loop: the busiest ones take a tenth.
pub const EVENT_LIMIT: u64 = 2_000_000;
/// Length of the safety phase, ms.
const DURATION_MS: u64 = 12_000;
const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// A resolved scenario, drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Its file.
    pub text: String,
    /// Its seed.
    pub seed: u64,
    /// Under the real cipher.
    pub real: bool,
}

/// Runs a drawn scenario under the standard checkers.
///
/// # Panics
/// Where a checker fails, a machine's own assertion does, the reader refuses what was drawn, or the run does not end.
/// The message holds the scenario.
pub fn scenario(bytes: &[u8]) {
    let Ok(drawn) = Drawn::arbitrary(&mut Unstructured::new(bytes)) else {
        return;
    };
    if drawn.real {
        drawn.hold::<RealKernel>();
    } else {
        drawn.hold::<ClearKernel>();
    }
}

/// Reads any text as a scenario, resolves it, and reads what came of it.
///
/// # Panics
/// Where the reader does, where an error says nothing, or where a resolved file is not one.
pub fn scenario_text(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    // An error at the very end stands on the line after the last.
    let lines = text.matches('\n').count() + 1;
    for read in [Scenario::check("any.toml", text), Scenario::parse("any.toml", text)] {
        if let Err(error) = read {
            assert!(!error.what.is_empty() && error.line <= lines, "{error:?}");
        }
    }
    let Ok(literal) = resolve("any.toml", text, 7) else {
        return;
    };
    assert_eq!(
        resolve("any.toml", text, 7).as_deref(),
        Ok(literal.as_str()),
        "not a function"
    );
    if Scenario::check("any.toml", text).is_ok() && Scenario::parse("any.toml", &literal).is_ok() {
        let again = resolve("any.toml", &literal, 7);
        assert_eq!(
            again.as_deref(),
            Ok(literal.as_str()),
            "what is resolved stays as it is"
        );
    }
}

impl Drawn {
    fn hold<H: Host>(&self) {
        let parsed = Scenario::parse("drawn.toml", &self.text);
        let scenario = parsed.unwrap_or_else(|error| panic!("{error}\n{}", self.text));
        let mut world = World::<H>::new(scenario, self.seed);
        world.limit(EVENT_LIMIT);
        let violation = world.run().violation;
        if let Some(violation) = violation {
            let verdict = if violation.checker == "out-of-time" {
                Verdict::OutOfTime
            } else {
                Verdict::Fail
            };
            panic!("{verdict:?}: {}: {}\n{}", violation.checker, violation.what, self.text);
        }
    }
}

impl<'a> Arbitrary<'a> for Drawn {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let head = u.arbitrary::<u8>()?;
        let seed = u64::from(u.arbitrary::<u16>()?);
        let mut draw = Draw {
            u,
            out: format!("schema = 1\nname = \"drawn\"\nseed = {seed}\nduration = \"{DURATION_MS}ms\"\n"),
            nodes: 2 + usize::from(head & 3).min(2),
            promises: true,
            twins: Vec::new(),
        };
        draw.topology()?;
        draw.config()?;
        // Faults first: they decide what workloads may promise.
        let mut tail = core::mem::take(&mut draw.out);
        for n in 0..draw.u.int_in_range(0..=5)? {
            draw.fault(n)?;
        }
        for n in 0..draw.u.int_in_range(0..=2)? {
            draw.adversary(n)?;
        }
        let faults = core::mem::take(&mut draw.out);
        for n in 0..draw.u.int_in_range(1..=4)? {
            draw.workload(n)?;
        }
        tail.push_str(&draw.out);
        tail.push_str(&faults);
        tail.push_str("[liveness]\nwithin = \"120s\"\n");
        Ok(Self {
            text: tail,
            seed,
            real: head >> 4 == 15,
        })
    }
}

/// What a scenario is drawn with.
struct Draw<'u, 'a> {
    u: &'u mut Unstructured<'a>,
    out: String,
    nodes: usize,
    /// Whether streams must complete: nothing drawn so far may rightly end one for good.
    promises: bool,
    /// Machines that run twice: nobody can tell which of the two a stream to them reaches, so none is opened.
    twins: Vec<&'static str>,
}

impl Draw<'_, '_> {
    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        writeln!(self.out, "{key} = {value}").expect("text grows");
    }

    fn quoted(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(key, format_args!("\"{value}\""));
    }

    fn range(&mut self, low: u64, high: u64) -> Result<u64> {
        self.u.int_in_range(low..=high)
    }

    /// Milliseconds up to `high`, small ones as likely as large ones.
    fn time(&mut self, high: u64) -> Result<u64> {
        let shift = self.range(0, 14)?;
        Ok((self.range(0, 16_384)? >> shift).min(high))
    }

    fn flag(&mut self) -> Result<bool> {
        Ok(self.u.arbitrary::<u8>()? & 1 == 1)
    }

    fn node(&mut self) -> Result<&'static str> {
        Ok(NODES[self.range(0, self.nodes as u64 - 1)? as usize])
    }

    /// Two different machines.
    fn pair(&mut self) -> Result<(&'static str, &'static str)> {
        let count = self.nodes as u64;
        let from = self.range(0, count - 1)?;
        let to = (from + self.range(1, count - 1)?) % count;
        Ok((NODES[from as usize], NODES[to as usize]))
    }

    /// When something begins and how long it lasts, within the safety phase.
    fn window(&mut self) -> Result<()> {
        let (at, lasts) = (self.range(0, DURATION_MS - 1_000)?, self.time(8_000)?);
        self.quoted("at", format_args!("{at}ms"));
        self.quoted("for", format_args!("{lasts}ms"));
        Ok(())
    }

    fn moment(&mut self) -> Result<()> {
        let at = self.range(0, DURATION_MS)?;
        self.quoted("at", format_args!("{at}ms"));
        Ok(())
    }

    /// A probability of up to `percent` hundredths.
    fn share(&mut self, key: &str, percent: u64) -> Result<()> {
        let thousandths = self.range(0, percent * 10)?;
        self.line(key, format_args!("{}.{:03}", thousandths / 1_000, thousandths % 1_000));
        Ok(())
    }

    fn topology(&mut self) -> Result<()> {
        self.out.push_str("[topology]\nnodes = [\n");
        for id in &NODES[..self.nodes] {
            let (drift, starts, disk) = (self.range(0, 20_000_000)? as i64, self.time(3_000)?, self.time(20)?);
            let drift = drift - 10_000_000;
            writeln!(
                self.out,
                "  {{ id = \"{id}\", drift_ppb = {drift}, starts = \"{starts}ms\", disk = \"{disk}ms\" }},"
            )
            .expect("text grows");
        }
        self.out.push_str("]\n");
        let network = if self.flag()? { "closed" } else { "open" };
        self.quoted("network", network);
        self.out.push_str("[topology.default_link]\n");
        self.delay("delay")?;
        if self.flag()? {
            self.share("loss", 25)?;
            self.share("reorder", 30)?;
            self.share("dup", 30)?;
        }
        if self.flag()? {
            self.share("corrupt", 10)?;
            self.damage()?;
        }
        if self.flag()? {
            let rate = self.range(200, 5_000)?;
            self.quoted("rate", format_args!("{rate}kB/s"));
        }
        if self.flag()? {
            let mtu = self.range(1_200, 1_500)?;
            self.quoted("mtu", format_args!("{mtu}B"));
        }
        Ok(())
    }

    fn damage(&mut self) -> Result<()> {
        let damage = *self.u.choose(&["bits", "truncate", "extend", "any"])?;
        self.quoted("damage", damage);
        Ok(())
    }

    fn delay(&mut self, key: &str) -> Result<()> {
        let (low, more) = (self.range(1, 60)?, self.range(0, 100)?);
        let high = low + more;
        let text = match self.range(0, 3)? {
            0 => format!("\"{low}ms\""),
            1 => format!("{{ dist = \"uniform\", min = \"{low}ms\", max = \"{high}ms\" }}"),
            2 => format!("{{ dist = \"normal\", mean = \"{low}ms\", sd = \"{more}ms\", min = \"1ms\" }}"),
            _ => format!("{{ dist = \"pareto\", min = \"{low}ms\", max = \"{high}ms\" }}"),
        };
        self.line(key, text);
        Ok(())
    }

    fn config(&mut self) -> Result<()> {
        let choices = self.u.arbitrary::<u8>()?;
        self.out.push_str("[config]\n");
        // A session that died is noticed well within the liveness phase.
        self.quoted("idle_timeout", "10s");
        self.quoted("keep_alive", "3s");
        if choices & 1 != 0 {
            self.quoted("rekey_after", "2s");
            self.quoted("rekey_after_responder", "3s");
            self.quoted("reject_after", "6s");
            self.quoted("previous_drain", "1s");
        }
        if choices & 2 != 0 {
            self.quoted("stream_window", "256KiB");
            self.quoted("session_window", "1MiB");
            self.quoted("send_buffer", "64KiB");
        }
        if choices & 4 != 0 {
            let packets = self.range(16, 200)?;
            self.line("rekey_after_packets", packets);
        }
        if choices & 8 != 0 {
            self.line("no_keep_alive", true);
        }
        if choices & 16 != 0 {
            self.line("max_pending", 1);
        }
        Ok(())
    }

    fn workload(&mut self, n: u64) -> Result<()> {
        let ((mut from, mut to), at) = (self.pair()?, self.time(DURATION_MS)?);
        let kind = *self
            .u
            .choose(&["stream", "stream", "stream", "echo", "rekey", "connect", "close"])?;
        if self.twins.contains(&to) {
            (from, to) = (to, from);
        }
        let kind = if self.twins.contains(&to) { "echo" } else { kind };
        self.out.push_str("[[workload]]\n");
        self.quoted("kind", kind);
        self.quoted("id", format_args!("{kind}-{n}"));
        self.quoted("from", from);
        self.quoted("to", to);
        self.quoted("at", format_args!("{at}ms"));
        match kind {
            "stream" => self.stream(),
            "echo" | "rekey" => {
                let (every, count) = (self.range(50, 3_000)?, self.range(0, 8)?.max(1));
                self.quoted("every", format_args!("{every}ms"));
                self.line("count", count);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn stream(&mut self) -> Result<()> {
        let (count, shift) = (self.range(1, 60)?, self.range(0, 8)?);
        // At most 120 kB on each of at most three streams, so that a world stays small.
        let high = (self.range(0, 30_000)? >> shift).min(120_000 / count);
        let low = self.range(0, 64)?.min(high);
        self.line("count", count);
        let kinds = ["reliable", "reliable", "unordered", "unreliable"];
        let reliability = *self.u.choose(&kinds)?;
        let (low, high) = if reliability == "unreliable" {
            (low.min(900), high.min(900))
        } else {
            (low, high)
        };
        self.line("size", format_args!("[{low}, {high}]"));
        self.quoted("reliability", reliability);
        let (streams, choices) = (self.range(1, 3)?, self.u.arbitrary::<u8>()?);
        self.line("streams", streams);
        self.line("both", choices & 1 != 0);
        self.line("resume", true);
        self.line("must_complete", self.promises && reliability != "unreliable");
        if choices & 2 != 0 {
            let rate = self.range(5, 200)?;
            self.quoted("rate", format_args!("{rate}/s"));
        }
        if choices & 4 != 0 {
            let drain = self.range(20, 500)?;
            self.quoted("drain", format_args!("{drain}kB/s"));
        }
        if choices & 8 != 0 {
            let (at, lasts) = (self.time(8_000)?, self.time(8_000)?);
            self.quoted("stop_reading_at", format_args!("{at}ms"));
            self.quoted("stop_reading_for", format_args!("{lasts}ms"));
        }
        if choices & 16 != 0 {
            let (priority, weight) = (self.range(0, 3)?, self.range(1, 256)?);
            self.line("priority", priority);
            self.line("weight", weight);
        }
        Ok(())
    }

    fn fault(&mut self, n: u64) -> Result<()> {
        const KINDS: [&str; 19] = [
            "partition",
            "loss",
            "delay",
            "reorder",
            "dup",
            "corrupt",
            "rate",
            "mtu",
            "crash",
            "restart",
            "pause",
            "suspend",
            "rebind",
            "clock_jump",
            "clock_drift",
            "clock_freeze",
            "disk",
            "restore_disk",
            "clone",
        ];
        let kind = *self.u.choose(&KINDS)?;
        self.out.push_str("[[fault]]\n");
        self.quoted("kind", kind);
        self.quoted("id", format_args!("{kind}-{n}"));
        match kind {
            "partition" | "loss" | "delay" | "reorder" | "dup" | "corrupt" | "rate" | "mtu" => self.link_fault(kind),
            _ => self.machine_fault(kind),
        }
    }

    fn link_fault(&mut self, kind: &str) -> Result<()> {
        self.window()?;
        if self.flag()? {
            let (from, to) = self.pair()?;
            self.line("from", format_args!("[\"{from}\"]"));
            self.line("to", format_args!("[\"{to}\"]"));
            let both = self.flag()?;
            self.line("both", both);
        }
        match kind {
            "loss" => self.lossy(),
            "delay" => self.delay("delay"),
            "reorder" | "dup" => self.share("p", 80),
            "corrupt" => {
                self.share("p", 40)?;
                self.damage()
            }
            "rate" => {
                let rate = self.range(20, 1_000)?;
                self.quoted("rate", format_args!("{rate}kB/s"));
                Ok(())
            }
            "mtu" => {
                let mtu = self.range(100, 1_450)?;
                self.quoted("mtu", format_args!("{mtu}B"));
                Ok(())
            }
            _ => {
                if self.flag()? {
                    let (up, down) = (self.range(1, 2_000)?, self.range(1, 2_000)?);
                    self.quoted("up", format_args!("{up}ms"));
                    self.quoted("down", format_args!("{down}ms"));
                }
                Ok(())
            }
        }
    }

    fn lossy(&mut self) -> Result<()> {
        match self.range(0, 2)? {
            0 => self.share("loss", 90),
            1 => {
                let (p, r) = (self.range(1, 99)?, self.range(1, 99)?);
                let text =
                    format!("{{ model = \"gilbert-elliott\", p = 0.{p:02}, r = 0.{r:02}, good = 0.0, bad = 0.9 }}");
                self.line("loss", text);
                Ok(())
            }
            _ => {
                let n = self.range(1, 9)?;
                self.line("loss", format_args!("{{ model = \"every\", n = {n} }}"));
                Ok(())
            }
        }
    }

    fn machine_fault(&mut self, kind: &str) -> Result<()> {
        let node = self.node()?;
        self.quoted("node", node);
        match kind {
            "restart" => self.moment(),
            "rebind" => {
                let told = self.flag()?;
                self.line("told", told);
                self.moment()
            }
            "clock_jump" => {
                let by = self.range(0, 20_000)? as i64 - 10_000;
                self.quoted("by", format_args!("{by}s"));
                self.moment()
            }
            "clock_drift" => {
                let ppb = self.range(0, 400_000_000)? as i64 - 200_000_000;
                self.line("ppb", ppb);
                self.window()
            }
            "disk" => {
                match self.range(0, 3)? {
                    0 => self.quoted("mode", "full"),
                    1 => self.quoted("mode", "failing"),
                    2 => self.quoted("mode", "denied"),
                    _ => self.line("slow", 50),
                }
                self.window()
            }
            "restore_disk" => {
                self.promises = false;
                let taken = self.range(0, DURATION_MS / 2)?;
                self.quoted("taken", format_args!("{taken}ms"));
                self.quoted("at", format_args!("{}ms", taken + DURATION_MS / 3));
                Ok(())
            }
            "clone" => {
                self.promises = false;
                self.twins.push(node);
                let same = self.flag()?;
                self.line("same_seed", same);
                self.moment()
            }
            _ => self.window(),
        }
    }

    fn adversary(&mut self, n: u64) -> Result<()> {
        const KINDS: [&str; 9] = [
            "garbage",
            "handshake_flood",
            "replay",
            "reflect",
            "drop",
            "race",
            "forward",
            "stolen_key",
            "member",
        ];
        let kind = *self.u.choose(&KINDS)?;
        let (from, to) = self.pair()?;
        self.out.push_str("[[adversary]]\n");
        self.quoted("kind", kind);
        self.quoted("id", format_args!("{kind}-{n}"));
        self.window()?;
        match kind {
            "garbage" | "handshake_flood" | "stolen_key" => {
                self.quoted("to", to);
                let (count, rate) = (self.range(1, 200)?, self.range(1, 200)?);
                self.line("count", count);
                self.quoted("rate", format_args!("{rate}/s"));
                match kind {
                    "garbage" => self.quoted("spoof", from),
                    "stolen_key" => self.quoted("name", from),
                    _ => {
                        let (key, sources) = (self.flag()?, self.range(0, 4)?);
                        self.line("network_key", key);
                        self.line("sources", sources);
                    }
                }
                Ok(())
            }
            "member" => {
                self.promises = false;
                self.quoted("node", from);
                self.share("p", 40)
            }
            _ => self.on_path(kind, from, to),
        }
    }

    fn on_path(&mut self, kind: &str, from: &str, to: &str) -> Result<()> {
        self.quoted("from", from);
        self.quoted("to", to);
        if kind == "forward" {
            self.share("p", 100)?;
            let back = self.flag()?;
            self.line("back", back);
            return Ok(());
        }
        let picks = ["all", "initiation", "response", "cookie", "handshake", "protected"];
        let what = *self.u.choose(&picks)?;
        self.quoted("what", what);
        if kind == "replay" {
            let (count, rate, own) = (self.range(1, 300)?, self.range(1, 300)?, self.flag()?);
            self.line("count", count);
            self.quoted("rate", format_args!("{rate}/s"));
            self.line("own_address", own);
            return Ok(());
        }
        self.share("p", 100)
    }
}
