//! What every arm reports of one run, so that arms can be compared: who was told what, in which order, and how long
//! things took.
//!
//! A scenario means the same in every arm, so the application history of a scenario that completes is equal in all of
//! them; times and counts are distributions, and only similar.
//! Invariants: a sequence's digest depends on the messages and, where the stream keeps order, on their order, and on
//! nothing else; looking at a run changes no digest of it.
//! Not here: the other arms (`net-sim-shell`, `chaos/`), who compares.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use net_kernel::wire::Reliability;
use net_sim_model::Key;
use serde::{Deserialize, Serialize};

use crate::check::{Checker, Expected, Observation, wants};
use crate::histogram::Histogram;
use crate::host::Host;
use crate::payload;
use crate::run::{self, Spec, Verdict};
use crate::scenario::{Scenario, WorkloadKind};
use crate::world::World;

/// One run of one arm.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArmReport {
    /// `des`, `shell` or `real`.
    pub arm: String,
    /// What it ran under: `world`, `turmoil`, `madsim`, `loopback`.
    pub runtime: String,
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// The checker that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checker: Option<String>,
    /// What it saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The digest of what the arm observed, in hexadecimal; empty where the arm is not deterministic.
    pub digest: String,
    /// What the scenario asks for and this arm cannot do, in the order of the file.
    pub unable: Vec<String>,
    /// What applications were told, in the order of the file.
    pub history: Vec<StreamHistory>,
    /// What was measured.
    pub metrics: Metrics,
    /// How long the run took in its own time, ms.
    pub simulated_ms: u64,
}

/// One direction of one stream of a workload, over all sessions it was resumed on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamHistory {
    /// The workload and the number of the stream in it: `ab/0`.
    pub stream: String,
    /// The node that sends.
    pub from: String,
    /// The node that reads.
    pub to: String,
    /// `reliable`, `unordered` or `unreliable`; of the last only a part must arrive, so that arms may differ.
    pub reliability: String,
    /// Messages delivered.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The digest of the delivered sequence ([`Sequence`]), in hexadecimal.
    pub blake3: String,
    /// Whether the reader was told of the end.
    pub finished: bool,
}

/// What was measured, as distributions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Smoothed round-trip times of the sessions that live at the end, ns.
    pub rtt: Summary,
    /// Datagrams each of them declared lost and sent again.
    pub retransmissions: Summary,
    /// From asking for a session to having it, ns.
    pub handshake: Summary,
}

/// A distribution.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Values.
    pub count: u64,
    /// Half of them do not exceed it.
    pub p50: u64,
    /// Nine tenths.
    pub p90: u64,
    /// Ninety-nine hundredths.
    pub p99: u64,
}

impl Summary {
    /// Of a histogram.
    #[must_use]
    pub fn of(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            p50: histogram.quantile(500),
            p90: histogram.quantile(900),
            p99: histogram.quantile(990),
        }
    }

    /// Of the counters of a run under `name`.
    #[must_use]
    pub fn named(counters: &BTreeMap<String, u64>, name: &str) -> Self {
        let value = |suffix| counters.get(&format!("{name}.{suffix}")).copied().unwrap_or(0);
        Self {
            count: value("count"),
            p50: value("p50"),
            p90: value("p90"),
            p99: value("p99"),
        }
    }
}

/// Folds delivered messages: where order is kept in the order of delivery, else as a set with repetitions.
#[derive(Clone, Debug)]
pub struct Sequence {
    ordered: Option<blake3::Hasher>,
    set: Vec<[u8; 32]>,
    messages: u64,
    bytes: u64,
}

impl Sequence {
    /// Nothing yet.
    #[must_use]
    pub fn new(reliability: Reliability) -> Self {
        let ordered = reliability == Reliability::Reliable;
        Self {
            ordered: ordered.then(|| blake3::Hasher::new_derive_key("net delivered sequence v1")),
            set: Vec::new(),
            messages: 0,
            bytes: 0,
        }
    }

    /// One more message was delivered whole.
    pub fn push(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len() as u64;
        match &mut self.ordered {
            Some(hasher) => {
                hasher.update(&(message.len() as u64).to_le_bytes());
                hasher.update(message);
            }
            None => self.set.push(*blake3::hash(message).as_bytes()),
        }
    }

    /// Messages so far.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest so far.
    #[must_use]
    pub fn digest(&self) -> String {
        if let Some(hasher) = &self.ordered {
            return hasher.finalize().to_hex().to_string();
        }
        let mut set = self.set.clone();
        set.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key("net delivered set v1");
        set.iter().for_each(|one| {
            hasher.update(one);
        });
        hasher.finalize().to_hex().to_string()
    }
}

/// One direction of one stream as a scenario names it.
#[derive(Clone, Debug)]
pub struct Direction {
    /// `ab/0`.
    pub stream: String,
    /// The workload's index.
    pub workload: usize,
    /// The stream's number in it.
    pub number: u64,
    /// 0 from the opener, 1 back to it.
    pub way: u64,
    /// The node that sends.
    pub from: u32,
    /// The node that reads.
    pub to: u32,
    /// What is sent from the first message on.
    pub expected: Expected,
}

/// Every direction of every stream of a scenario, in the order of the file.
#[must_use]
pub fn directions(scenario: &Scenario, seed: u64) -> Vec<Direction> {
    let key = Key::new(seed);
    let mut all = Vec::new();
    for (index, workload) in scenario.workloads.iter().enumerate() {
        let WorkloadKind::Stream(stream) = &workload.kind else {
            continue;
        };
        for number in 0..stream.streams {
            let payload = payload::stream_key(key, &workload.id, number);
            for way in 0..=u64::from(stream.both) {
                let (from, to) = if way == 0 {
                    (workload.from, workload.to)
                } else {
                    (workload.to, workload.from)
                };
                all.push(Direction {
                    stream: format!("{}/{number}", workload.id),
                    workload: index,
                    number,
                    way,
                    from,
                    to,
                    expected: Expected {
                        payload: payload.with(way),
                        sizes: payload.with(way),
                        base: 0,
                        count: stream.count,
                        size: stream.size,
                        reliability: stream.reliability,
                    },
                });
            }
        }
    }
    all
}

/// The name of a kind of stream in reports.
#[must_use]
pub const fn reliability_name(reliability: Reliability) -> &'static str {
    match reliability {
        Reliability::Reliable => "reliable",
        Reliability::ReliableUnordered => "unordered",
        Reliability::FireAndForget => "unreliable",
    }
}

impl Direction {
    /// What became of it.
    #[must_use]
    pub fn history(&self, scenario: &Scenario, sequence: &Sequence, finished: bool) -> StreamHistory {
        let name = |node: u32| {
            scenario
                .nodes
                .get(node as usize)
                .map_or(String::new(), |node| node.id.clone())
        };
        StreamHistory {
            stream: self.stream.clone(),
            from: name(self.from),
            to: name(self.to),
            reliability: reliability_name(self.expected.reliability).to_owned(),
            messages: sequence.messages(),
            bytes: sequence.bytes(),
            blake3: sequence.digest(),
            finished,
        }
    }
}

/// Runs one seed in the discrete-event world and reports it as an arm.
///
/// The run is made twice: once as `netsim run` makes it, for verdict and digest, and once with a recorder among the
/// checkers.
#[must_use]
pub fn run_des<H: Host>(spec: &Spec, seed: u64) -> ArmReport {
    let report = run::run::<H>(spec, seed);
    let mut arm = ArmReport {
        arm: "des".to_owned(),
        runtime: "world".to_owned(),
        scenario: report.scenario,
        seed,
        verdict: report.verdict,
        checker: report.checker,
        failure: report.failure,
        digest: report.digest,
        unable: Vec::new(),
        history: Vec::new(),
        metrics: Metrics {
            rtt: Summary::named(&report.counters, "session.rtt"),
            retransmissions: Summary::named(&report.counters, "session.retransmissions"),
            handshake: Summary::named(&report.counters, "connect"),
        },
        simulated_ms: report.simulated_ms,
    };
    // A run that panicked has no history worth reading, and would panic again.
    if let (Ok(scenario), false) = (
        Scenario::resolved(&spec.file, &spec.text, seed),
        arm.checker.as_deref() == Some("invariant"),
    ) {
        arm.history = recorded::<H>(scenario, seed);
    }
    arm
}

fn recorded<H: Host>(scenario: Scenario, seed: u64) -> Vec<StreamHistory> {
    let directions = directions(&scenario, seed);
    let tape: Tape = Rc::default();
    *tape.borrow_mut() = directions
        .iter()
        .map(|direction| (Sequence::new(direction.expected.reliability), false))
        .collect();
    let mut world = World::<H>::new(scenario.clone(), seed);
    world.limit(run::EVENT_LIMIT);
    world.panel().add(Box::new(Recorder {
        payloads: directions.iter().map(|direction| direction.expected.payload).collect(),
        halves: BTreeMap::new(),
        seen: BTreeSet::new(),
        tape: Rc::clone(&tape),
    }));
    let _ = world.run();
    let tape = tape.borrow();
    let each = directions.iter().zip(tape.iter());
    each.map(|(direction, (sequence, finished))| direction.history(&scenario, sequence, *finished))
        .collect()
}

type Tape = Rc<RefCell<Vec<(Sequence, bool)>>>;

/// A direction under way: which, the messages delivered before it was opened, and what has come of those begun.
type Open = (usize, u64, BTreeMap<u64, Vec<u8>>);

/// A checker that objects to nothing and writes down what is delivered.
struct Recorder {
    payloads: Vec<Key>,
    halves: BTreeMap<u32, Open>,
    /// Messages that were written down: direction, number over all sessions. Where a stream is resumed, what was still
    /// under way in the session before may come as well; an application that resumes has it once.
    seen: BTreeSet<(usize, u64)>,
    tape: Tape,
}

impl Checker for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn wants(&self) -> u8 {
        wants::STREAM
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        if let Observation::Reading { half, expected } = observation {
            if let Some(index) = self.payloads.iter().position(|key| *key == expected.payload) {
                self.halves.insert(*half, (index, expected.base, BTreeMap::new()));
            }
        } else if let Observation::Delivered {
            half,
            number,
            end,
            bytes,
            ..
        } = observation
        {
            if let Some((index, base, open)) = self.halves.get_mut(half) {
                open.entry(*number).or_default().extend_from_slice(bytes);
                if *end
                    && let Some(message) = open.remove(number)
                    && self.seen.insert((*index, *base + *number))
                {
                    self.tape.borrow_mut()[*index].0.push(&message);
                }
            }
        } else if let Observation::Finished { half } = observation
            && let Some((index, ..)) = self.halves.get(half)
        {
            self.tape.borrow_mut()[*index].1 = true;
        }
        Ok(())
    }
}

/// How to build the program that makes runs of the arm `shell`, from the root of the repository.
pub const BUILD_SHELL: &str = "RUSTFLAGS='--cfg madsim --cfg net_mutants --cfg poly1305_backend=\"soft\"' \
                               cargo build --manifest-path io-sim/shell/Cargo.toml";

/// The program that makes runs of the arm `shell`: what `NETSIM_SHELL` names, or `netsim-shell` beside this program, or
/// where its own build leaves it.
///
/// # Errors
/// It is not there; says how to build it.
pub fn shell_program() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("NETSIM_SHELL") {
        let named = PathBuf::from(named);
        return match named.is_file() {
            true => Ok(named),
            false => Err(format!("NETSIM_SHELL names {}, which is no file", named.display())),
        };
    }
    let name = format!("netsim-shell{}", std::env::consts::EXE_SUFFIX);
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map(|folder| folder.join(&name));
    let roots = own.ancestors().skip(1).take(4).chain([Path::new(".")]);
    let built = roots.flat_map(|root| {
        let target = root.join("io-sim/shell/target");
        ["release", "quick", "debug"].map(|profile| target.join(profile).join(&name))
    });
    let found = beside.into_iter().chain(built).find(|path| path.is_file());
    found.ok_or_else(|| {
        format!("the arm `shell` is made by netsim-shell, which was not found; build it with: {BUILD_SHELL}")
    })
}

/// Makes one run of the arm `shell` under `runtime` (`turmoil` or `madsim`) as a process of its own.
///
/// # Errors
/// The program is missing, or what it said when it made no report.
pub fn run_shell(file: &Path, seed: u64, runtime: &str) -> Result<ArmReport, String> {
    let program = shell_program()?;
    let output = Command::new(&program)
        .arg("run")
        .arg(file)
        .args(["--json", "--once", "--runtime", runtime, "--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{} ended with {}: {}", program.display(), output.status, said.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ClearKernel;

    fn sequence(reliability: Reliability, messages: &[&[u8]]) -> String {
        let mut sequence = Sequence::new(reliability);
        messages.iter().for_each(|message| sequence.push(message));
        sequence.digest()
    }

    #[test]
    fn order_counts_where_it_is_kept_and_boundaries_always() {
        let forth: [&[u8]; 3] = [b"a", b"bc", b"bc"];
        let back: [&[u8]; 3] = [b"bc", b"a", b"bc"];
        let reliable = |messages| sequence(Reliability::Reliable, messages);
        let unordered = |messages| sequence(Reliability::ReliableUnordered, messages);
        assert_ne!(reliable(&forth), reliable(&back));
        assert_eq!(unordered(&forth), unordered(&back));
        assert_ne!(unordered(&forth), unordered(&back[1..]), "a repetition is seen");
        assert_ne!(reliable(&[b"ab", b"c"]), reliable(&[b"a", b"bc"]));
    }

    #[test]
    fn a_worlds_history_is_what_its_workload_says_whatever_the_links_do() {
        let text = |loss: &str| {
            format!(
                "schema = 1\nname = \"h\"\nduration = \"20s\"\n[topology]\nnodes = [ {{ id = \"a\" }}, {{ id = \"b\" }} ]\n\
                 default_link = {{ delay = \"5ms\", loss = {loss} }}\n[[workload]]\nkind = \"stream\"\nid = \"ab\"\n\
                 from = \"a\"\nto = \"b\"\ncount = 40\nsize = [0, 3000]\nboth = true\n[liveness]\nwithin = \"5s\"\n"
            )
        };
        let run = |loss: &str| {
            let spec = Spec::new("h.toml", text(loss)).expect("a good scenario");
            run_des::<ClearKernel>(&spec, 7)
        };
        let (calm, rough) = (run("0.0"), run("0.1"));
        assert_eq!((calm.verdict, rough.verdict), (Verdict::Pass, Verdict::Pass));
        assert_eq!(calm.history, rough.history);
        assert_ne!(calm.digest, rough.digest);
        let told: Vec<_> = calm
            .history
            .iter()
            .map(|one| (&*one.from, &*one.to, one.messages))
            .collect();
        assert_eq!(told, [("a", "b", 40), ("b", "a", 40)]);
        assert!(calm.history.iter().all(|one| one.finished && one.bytes > 0));
        assert_ne!(calm.history[0].blake3, calm.history[1].blake3);
        assert!(rough.metrics.retransmissions.p99 > 0 && calm.metrics.rtt.p50 >= 10_000_000);
        let json = serde_json::to_string(&rough).expect("no map with odd keys");
        assert_eq!(
            serde_json::from_str::<ArmReport>(&json).expect("what was written"),
            rough
        );
    }
}
