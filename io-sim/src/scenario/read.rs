//! The schema of scenario files: tables to values.
//!
//! Invariants: every key is read here and nowhere else; a name of a node that does not exist is an error.
//! Not here: errors and quantities (`table.rs`, `units.rs`).

use net_kernel::api::{Algorithm, SessionConfig};
use net_kernel::base::Duration;
use net_kernel::wire::Reliability;
use net_kernel::wire::frame::MAX_MESSAGE;
use net_sim_model::{Damage, Distribution, Kinds, LinkSpec, Loss, Rate};
use toml::de::DeTable;

use crate::check::CHECKERS;

use super::outline::{Want, Words};
use super::table::{Either, Read, ScenarioError, Source, Table, unknown};
use super::{Liveness, NodeIndex, NodeSpec, Program, Scenario, StreamWorkload, Workload, WorkloadKind};
use super::{ending, fates, faults, files, mesh, nat, trace_file, villains};

/// The arms a scenario may name. This crate is the first of them.
const ARMS: [&str; 3] = ["des", "shell", "real"];

/// Kinds of workloads.
pub const WORKLOADS: Words = &[
    ("stream", "messages on one or more streams"),
    ("file", "a tree of files, transferred until every one is settled"),
    ("echo", "round trips measured again and again"),
    ("connect", "a session and nothing else"),
    ("rekey", "new keys, asked for by the application"),
    ("close", "the end of a session"),
];

/// Models of loss.
pub const LOSSES: Words = &[
    ("iid", "each datagram by itself"),
    ("gilbert-elliott", "in bursts: a channel of two states"),
    ("every", "every n-th datagram"),
    ("kind", "datagrams of one kind, the first few or all"),
];

/// Distributions of delay.
pub const DELAYS: Words = &[
    ("constant", "always the same"),
    ("uniform", "anything between two ends"),
    ("normal", "bell-shaped"),
    ("pareto", "heavy-tailed"),
    ("trace", "recorded values in turn, listed or read from a file"),
];

/// Reads a whole file.
pub(super) fn scenario(source: Source<'_>) -> Read<Scenario> {
    if ending::is_cut(source.text) {
        return Err(ScenarioError {
            file: source.file.to_owned(),
            line: 0,
            what: "cut short: its last line `# end` is missing".to_owned(),
        });
    }
    let parsed = DeTable::parse(source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        source.error(&span, format!("not TOML: {}", error.message()))
    })?;
    outlined(source, parsed.get_ref())
}

/// Reads a parsed file, or notes what there is to read.
pub(super) fn outlined(source: Source<'_>, entries: &DeTable<'_>) -> Read<Scenario> {
    let mut root = Table::new(source, "the file", 0..0, entries);
    match root.number("schema")? {
        Some(1) => {}
        Some(other) => return Err(root.error_at("schema", format!("schema {other} is unknown; this program reads 1"))),
        None => return Err(root.error("the file needs `schema = 1`")),
    }
    let name = root.required("name")?;
    let duration = root.need_time("duration")?;
    if duration == 0 {
        return Err(root.error_at("duration", "a duration of 0 leaves no time for anything"));
    }
    let mut scenario = Scenario {
        name,
        seed: root.number("seed")?,
        duration,
        arms: root.words("arms", "arm", &ARMS)?,
        ..Scenario::default()
    };
    scenario.program = root
        .word("program", &[("node", Program::Node), ("net", Program::Net)])?
        .unwrap_or_default();
    root.text("about")?;
    let mut names = topology(&mut root, &mut scenario)?;
    scenario.config = config(root.table("config")?)?;
    if let Some(table) = root.table("mesh")? {
        scenario.mesh = Some(mesh::mesh(table, &names)?);
    }
    let workloads = numbered(root.tables("workload")?, |table, n| {
        workload(table, n, &names, duration)
    })?;
    scenario.workloads = workloads.into_iter().flatten().collect();
    names.workloads = scenario.workloads.iter().map(|workload| workload.id.clone()).collect();
    scenario.faults = numbered(root.tables("fault")?, |table, n| faults::fault(table, n, &names))?;
    scenario.fates = numbered(root.tables("fate")?, |table, _| fates::fate(table, &names))?;
    scenario.adversaries = numbered(root.tables("adversary")?, |table, n| {
        villains::adversary(table, n, &names)
    })?;
    distinct(&mut root, &scenario)?;
    files::fits(&root, &scenario)?;
    if let Some(table) = root.table("liveness")? {
        scenario.liveness = Some(liveness(table, &names, &scenario)?);
    }
    verdicts(&mut root, &mut scenario)?;
    swarm(&mut root, source)?;
    root.finish()?;
    Ok(scenario)
}

/// Reads machines, links and what stands between them; answers the names of nodes and boxes.
fn topology(root: &mut Table<'_>, scenario: &mut Scenario) -> Read<Names> {
    let mut topology = root
        .table("topology")?
        .ok_or_else(|| root.error("the file needs [topology]"))?;
    let (mut nodes, behind, crowds) = nodes(&mut topology)?;
    let nats = nat::boxes(&mut topology, &mut nodes, behind)?;
    let names = Names {
        nodes: nodes.iter().map(|node| node.id.clone()).collect(),
        nats: nats.iter().map(|nat| nat.id.clone()).collect(),
        workloads: Vec::new(),
        crowds,
    };
    scenario.default_link = match topology.table("default_link")? {
        Some(table) => link(table, LinkSpec::clean(DEFAULT_DELAY))?,
        None => LinkSpec::clean(DEFAULT_DELAY),
    };
    scenario.links = links(&mut topology, &names, &scenario.default_link)?;
    scenario.closed = topology
        .word("network", &[("closed", true), ("open", false)])?
        .unwrap_or(true);
    scenario.coalesce = topology.time("coalesce")?.unwrap_or(0);
    scenario.lanes = match topology.number("lanes")?.unwrap_or(1) {
        lanes @ (1 | 2 | 4 | 8 | 16) => lanes as u8,
        lanes => return Err(topology.error_at("lanes", format!("{lanes} lanes: use 1, 2, 4, 8 or 16"))),
    };
    (scenario.nodes, scenario.nats) = (nodes, nats);
    topology.finish()?;
    Ok(names)
}

/// Names within one section must differ: they key decisions and name counters.
fn distinct(root: &mut Table<'_>, scenario: &Scenario) -> Read<()> {
    let workloads = scenario.workloads.iter().map(|workload| &workload.id).collect();
    let faults = scenario.faults.iter().map(|fault| &fault.id).collect();
    let adversaries = scenario.adversaries.iter().map(|adversary| &adversary.id).collect();
    for (section, ids) in [("workload", workloads), ("fault", faults), ("adversary", adversaries)] {
        let ids: Vec<&String> = ids;
        for (n, id) in ids.iter().enumerate() {
            if ids[..n].contains(id) {
                let tables = root.tables(section)?;
                let table = tables.get(n).unwrap_or(root);
                return Err(table.error_at("id", format!("there are two of [[{section}]] called `{id}`")));
            }
        }
    }
    Ok(())
}

const DEFAULT_DELAY: u64 = 10_000_000;
/// Machines of one table at most.
const MOST_ALIKE: u64 = 4_000;

/// Names that a scenario may use, by index.
pub(super) struct Names {
    /// Of nodes.
    pub nodes: Vec<String>,
    /// Of NAT boxes.
    pub nats: Vec<String>,
    /// Of workloads.
    pub workloads: Vec<String>,
    /// Nodes of one table that stand under its `id` together: the first of them, and how many.
    crowds: Vec<(String, NodeIndex, u32)>,
}

impl Names {
    fn look_up(table: &Table<'_>, key: &str, what: &str, known: &[String], name: &str) -> Read<u32> {
        if table.outlined() {
            return Ok(0);
        }
        let found = known.iter().position(|known| known == name);
        found.map(|index| index as u32).ok_or_else(|| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            table.error_at(key, format!("unknown {what} {}", unknown(name, &known)))
        })
    }

    /// The node of this name.
    pub fn find(&self, table: &Table<'_>, key: &str, name: &str) -> Read<NodeIndex> {
        Self::look_up(table, key, "node", &self.nodes, name)
    }

    /// A node that must be named.
    pub fn one(&self, table: &mut Table<'_>, key: &'static str) -> Read<NodeIndex> {
        let name = table.required(key)?;
        self.find(table, key, &name)
    }

    /// A node that must be named, or the first of a crowd and how many there are.
    fn one_or_crowd(&self, table: &mut Table<'_>, key: &'static str) -> Read<(NodeIndex, Option<u32>)> {
        let name = table.required(key)?;
        let crowd = self.crowds.iter().find(|(crowd, ..)| *crowd == name);
        crowd.map_or_else(
            || Ok((self.find(table, key, &name)?, None)),
            |(_, first, count)| Ok((*first, Some(*count))),
        )
    }

    /// A node that may be named.
    pub fn optional(&self, table: &mut Table<'_>, key: &'static str) -> Read<Option<NodeIndex>> {
        table.text(key)?.map(|name| self.find(table, key, &name)).transpose()
    }

    /// Nodes that may be named.
    pub fn many(&self, table: &mut Table<'_>, key: &'static str) -> Read<Vec<NodeIndex>> {
        let mut found = Vec::new();
        for name in table.texts(key)?.unwrap_or_default() {
            match self.crowds.iter().find(|(crowd, ..)| *crowd == name) {
                Some((_, first, count)) => found.extend(*first..*first + *count),
                None => found.push(self.find(table, key, &name)?),
            }
        }
        Ok(found)
    }

    /// A NAT box that must be named.
    pub fn nat(&self, table: &mut Table<'_>, key: &'static str) -> Read<u32> {
        let name = table.required(key)?;
        if self.nats.is_empty() && !table.outlined() {
            return Err(table.error_at(
                key,
                "no node of this scenario is behind a NAT: give one `nat = \"port-restricted\"`",
            ));
        }
        Self::look_up(table, key, "NAT box", &self.nats, &name)
    }

    /// A workload that may be named.
    pub fn workload(&self, table: &mut Table<'_>, key: &'static str) -> Read<Option<u32>> {
        let name = table.text(key)?;
        name.map(|name| Self::look_up(table, key, "workload", &self.workloads, &name))
            .transpose()
    }

    /// Both ends of a direction.
    pub fn ends(&self, table: &mut Table<'_>) -> Read<(NodeIndex, NodeIndex)> {
        let (from, to) = (self.one(table, "from")?, self.one(table, "to")?);
        if from == to && !table.outlined() {
            return Err(table.error_at("to", "a node has no link to itself"));
        }
        Ok((from, to))
    }
}

fn numbered<T>(tables: Vec<Table<'_>>, mut read: impl FnMut(Table<'_>, usize) -> Read<T>) -> Read<Vec<T>> {
    tables
        .into_iter()
        .enumerate()
        .map(|(n, table)| read(table, n))
        .collect()
}

/// Machines, for each behind what it says it is, and which of them stand under one name.
type Nodes = (Vec<NodeSpec>, Vec<Option<String>>, Vec<(String, NodeIndex, u32)>);

/// The machines of a scenario.
fn nodes(topology: &mut Table<'_>) -> Read<Nodes> {
    let tables = topology.tables("nodes")?;
    if tables.is_empty() {
        return Err(topology.error("[topology] needs `nodes`"));
    }
    let mut nodes: Vec<NodeSpec> = Vec::new();
    let (mut allows, mut behind, mut crowds) = (Vec::new(), Vec::new(), Vec::new());
    for mut table in tables {
        let id: String = table.required("id")?;
        if nodes.iter().any(|node| node.id == id) {
            return Err(table.error_at("id", format!("there are two nodes `{id}`")));
        }
        allows.push(table.texts("allow")?);
        let number = match table.number("number")? {
            Some(number) if number <= 0xFFFF => number as u32,
            Some(_) => return Err(table.error_at("number", "`number` is at most 65535")),
            None => nodes.len() as u32,
        };
        if nodes.iter().any(|node| node.number == number) {
            return Err(table.error_at("number", format!("there are two nodes of number {number}")));
        }
        behind.push(table.text("nat")?);
        let count = table.number("count")?.filter(|_| !table.outlined());
        let first = NodeSpec {
            id,
            number,
            drift_ppb: table.signed("drift_ppb")?.unwrap_or(0),
            wall_offset: table.signed_time("wall")?.unwrap_or(0),
            disk: table.time("disk")?.unwrap_or(200_000),
            allow: None,
            aes: table.flag("aes")?,
            congestion: congestion(&mut table)?,
            starts: table.time("starts")?.unwrap_or(0),
            nat: None,
        };
        let Some(count) = count else {
            nodes.push(first);
            table.finish()?;
            continue;
        };
        if !(1..=MOST_ALIKE).contains(&count) {
            return Err(table.error_at("count", format!("1 to {MOST_ALIKE} machines may be alike")));
        }
        if allows.last().is_some_and(Option::is_some) || behind.last().is_some_and(Option::is_some) {
            return Err(table.error_at("count", "machines that are alike have no `nat` and no `allow`"));
        }
        crowds.push((first.id.clone(), nodes.len() as NodeIndex, count as u32));
        for k in 0..count as u32 {
            nodes.push(NodeSpec {
                id: format!("{}-{k}", first.id),
                number: number + k,
                ..first.clone()
            });
        }
        allows.resize(nodes.len(), None);
        behind.resize(nodes.len(), None);
        table.finish()?;
    }
    let known: Vec<String> = nodes.iter().map(|node| node.id.clone()).collect();
    for (index, allow) in allows.into_iter().enumerate() {
        let Some(allow) = allow else { continue };
        let find = |name: &String| Names::look_up(topology, "nodes", "node", &known, name);
        let found: Read<Vec<_>> = allow.iter().map(find).collect();
        nodes[index].allow = Some(found?);
    }
    Ok((nodes, behind, crowds))
}

fn links(topology: &mut Table<'_>, names: &Names, default: &LinkSpec) -> Read<Vec<(NodeIndex, NodeIndex, LinkSpec)>> {
    let mut links = Vec::new();
    for mut table in topology.tables("link")? {
        let (from, to) = names.ends(&mut table)?;
        let one_way = table.flag("one_way")?;
        let spec = link(table, default.clone())?;
        if !one_way {
            links.push((to, from, spec.clone()));
        }
        links.push((from, to, spec));
    }
    Ok(links)
}

/// A link that differs from `base` in what the table says.
pub(super) fn link(mut table: Table<'_>, base: LinkSpec) -> Read<LinkSpec> {
    let delay = delay(&mut table, "delay")?.unwrap_or(base.delay);
    let spec = LinkSpec {
        loss: loss(&mut table)?.unwrap_or(base.loss),
        reorder: table.probability("reorder")?.unwrap_or(base.reorder),
        hold: table.time("hold")?.unwrap_or((delay.typical() / 2).max(1_000_000)),
        duplicate: table.probability("dup")?.unwrap_or(base.duplicate),
        corrupt: table.probability("corrupt")?.unwrap_or(base.corrupt),
        damage: damage(&mut table)?.unwrap_or(base.damage),
        rate: rate(&mut table)?.or(base.rate),
        mtu: table.size("mtu")?.map_or(base.mtu, |mtu| mtu as u32),
        delay,
    };
    table.finish()?;
    Ok(spec)
}

/// Kinds of damage.
pub(super) fn damage(table: &mut Table<'_>) -> Read<Option<Damage>> {
    table.word(
        "damage",
        &[
            ("bits", Damage::Bits),
            ("truncate", Damage::Truncate),
            ("extend", Damage::Extend),
            ("any", Damage::Any),
        ],
    )
}

/// A bottleneck.
pub(super) fn rate(table: &mut Table<'_>) -> Read<Option<Rate>> {
    let Some(bytes_per_s) = table.byte_rate("rate")? else {
        return Ok(None);
    };
    if bytes_per_s == 0 {
        return Err(table.error_at("rate", "a rate of 0 passes nothing: use a partition"));
    }
    // A tenth of a second of queue unless told otherwise.
    let queue = table.size("queue")?.unwrap_or((bytes_per_s / 10).max(3_000));
    let mark = table.size("mark")?.unwrap_or(0);
    Ok(Some(Rate {
        bytes_per_s,
        queue,
        mark,
    }))
}

/// A delay under `key`: a duration or a distribution.
pub(super) fn delay(table: &mut Table<'_>, key: &'static str) -> Read<Option<Distribution>> {
    let mut inner = match table.either(key, Want::Duration, |table| table.time(key))? {
        None => return Ok(None),
        Some(Either::Scalar(time)) => return Ok(Some(Distribution::Constant(time))),
        Some(Either::Table(inner)) => inner,
    };
    let distribution = match inner.choice("dist", "distribution", DELAYS)? {
        "constant" => Distribution::Constant(inner.need_time("mean")?),
        "uniform" => Distribution::Uniform {
            low: inner.need_time("min")?,
            high: inner.need_time("max")?,
        },
        "normal" => Distribution::Normal {
            mean: inner.need_time("mean")?,
            deviation: inner.need_time("sd")?,
            min: inner.time("min")?.unwrap_or(0),
        },
        "pareto" => Distribution::Pareto {
            scale: inner.need_time("min")?,
            shape_milli: inner.number("shape_milli")?.unwrap_or(1_160),
            max: inner.need_time("max")?,
        },
        _ => Distribution::Trace(trace(&mut inner)?),
    };
    inner.finish()?;
    Ok(Some(distribution))
}

/// Recorded delays, from the scenario itself or from a file beside it.
fn trace(inner: &mut Table<'_>) -> Read<Vec<u64>> {
    let (values, file) = (inner.texts("values")?, inner.text("file")?);
    if inner.outlined() {
        return Ok(vec![1]);
    }
    let values = match (values, file) {
        (Some(values), None) => values,
        (None, Some(_)) if inner.resolved() => {
            return Err(inner.error_at(
                "file",
                "a resolved scenario holds the `values` of a trace, not its file",
            ));
        }
        (None, Some(file)) => trace_file::read(inner.file(), &file).map_err(|what| inner.error_at("file", what))?,
        (Some(_), Some(_)) => return Err(inner.error_at("file", "a trace has `values` or a `file`, not both")),
        (None, None) => return Err(inner.error("a trace needs `values` or a `file`")),
    };
    if values.is_empty() {
        return Err(inner.error_at("values", "a trace needs at least one value"));
    }
    let parsed: Result<Vec<u64>, String> = values.iter().map(|text| super::units::duration(text)).collect();
    parsed.map_err(|what| inner.error_at("values", what))
}

/// Loss: a probability or a model.
pub(super) fn loss(table: &mut Table<'_>) -> Read<Option<Loss>> {
    let scalar = |table: &mut Table<'_>| table.probability("loss");
    let mut inner = match table.either("loss", Want::Probability, scalar)? {
        None => return Ok(None),
        Some(Either::Scalar(ppb)) => return Ok(Some(Loss::Independent { ppb })),
        Some(Either::Table(inner)) => inner,
    };
    let loss = match inner.choice("model", "loss model", LOSSES)? {
        "iid" => Loss::Independent {
            ppb: inner.probability("p")?.unwrap_or(0),
        },
        "gilbert-elliott" => Loss::GilbertElliott {
            to_bad: inner.probability("p")?.unwrap_or(0),
            to_good: inner.probability("r")?.unwrap_or(net_sim_model::PPB),
            good: inner.probability("good")?.unwrap_or(0),
            bad: inner.probability("bad")?.unwrap_or(net_sim_model::PPB),
        },
        "every" => match inner.number("n")? {
            Some(0) | None => return Err(inner.error("`every` needs `n`, at least 1")),
            Some(n) => Loss::EveryNth { n },
        },
        _ => Loss::OfKind {
            kinds: kinds(&mut inner, "kind")?.ok_or_else(|| inner.error("loss by kind needs `kind`"))?,
            ppb: inner.probability("p")?.unwrap_or(net_sim_model::PPB),
            first: inner.number("first")?.unwrap_or(u64::MAX),
        },
    };
    inner.finish()?;
    Ok(Some(loss))
}

/// Kinds of datagrams.
pub(super) fn kinds(table: &mut Table<'_>, key: &'static str) -> Read<Option<Kinds>> {
    let words = [
        ("all", Kinds::ALL),
        ("initiation", Kinds::INITIATION),
        ("response", Kinds::RESPONSE),
        ("cookie", Kinds::COOKIE),
        ("handshake", Kinds::HANDSHAKE),
        ("protected", Kinds::PROTECTED),
    ];
    table.word(key, &words)
}

fn config(table: Option<Table<'_>>) -> Read<SessionConfig> {
    let mut config = SessionConfig::default();
    let Some(mut table) = table else { return Ok(config) };
    let times: [(&'static str, &mut Duration); 9] = [
        ("handshake_retry", &mut config.handshake_retry),
        ("handshake_retry_max", &mut config.handshake_retry_max),
        ("connect_timeout", &mut config.connect_timeout),
        ("rekey_after", &mut config.rekey_after),
        ("rekey_after_responder", &mut config.rekey_after_responder),
        ("reject_after", &mut config.reject_after),
        ("previous_drain", &mut config.previous_drain),
        ("idle_timeout", &mut config.idle_timeout),
        ("keep_alive", config.keep_alive.get_or_insert(Duration::from_secs(15))),
    ];
    for (key, slot) in times {
        if let Some(ns) = table.time(key)? {
            *slot = Duration::from_nanos(ns);
        }
    }
    if table.flag("no_keep_alive")? {
        config.keep_alive = None;
    }
    let sizes: [(&'static str, &mut u64); 4] = [
        ("stream_window", &mut config.stream_window),
        ("session_window", &mut config.session_window),
        ("send_buffer", &mut config.send_buffer),
        ("rekey_after_packets", &mut config.rekey_after_packets),
    ];
    for (key, slot) in sizes {
        if let Some(size) = table.size(key)? {
            *slot = size;
        }
    }
    if let Some(pending) = table.number("max_pending")? {
        config.max_pending = pending as usize;
    }
    if let Some(mtu) = table.size("max_mtu")? {
        config.max_mtu = mtu as u16;
    }
    if let Some(algorithm) = congestion(&mut table)? {
        config.congestion = algorithm;
    }
    table.finish()?;
    Ok(config)
}

fn congestion(table: &mut Table<'_>) -> Read<Option<Algorithm>> {
    table.word(
        "congestion",
        &Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm)),
    )
}

const NO_COUNT: &str = "a count of 0 does nothing: leave the workload out";

fn workload(mut table: Table<'_>, n: usize, names: &Names, duration: u64) -> Read<Vec<Workload>> {
    let word = table.choice("kind", "workload", WORKLOADS)?;
    let id = table.text("id")?.unwrap_or_else(|| format!("{word}-{n}"));
    let ((from, many_from), (to, many_to)) = (
        names.one_or_crowd(&mut table, "from")?,
        names.one_or_crowd(&mut table, "to")?,
    );
    if from == to && !table.outlined() {
        return Err(table.error_at("to", "a node has no link to itself"));
    }
    if many_from.is_some() && many_to.is_some() {
        return Err(table.error_at("to", "a crowd has workloads with one machine"));
    }
    let at = table.time("at")?.unwrap_or(0);
    let left = duration.saturating_sub(at);
    let kind = match word {
        "stream" => WorkloadKind::Stream(stream(&mut table, left)?),
        "file" => WorkloadKind::File(files::file(&mut table)?),
        "echo" | "rekey" => {
            let every = table.time("every")?.unwrap_or(1_000_000_000).max(1);
            let count = match table.number("count")? {
                Some(0) => return Err(table.error_at("count", NO_COUNT)),
                Some(count) => count,
                None if word == "echo" => left / every,
                None => 1,
            };
            if word == "echo" {
                WorkloadKind::Echo { every, count }
            } else {
                WorkloadKind::Rekey { every, count }
            }
        }
        "connect" => WorkloadKind::Connect,
        _ => WorkloadKind::Close,
    };
    table.finish()?;
    let Some(count) = many_from.or(many_to) else {
        return Ok(vec![Workload { id, from, to, at, kind }]);
    };
    let each = (0..count).map(|k| Workload {
        id: format!("{id}-{k}"),
        from: from + many_from.map_or(0, |_| k),
        to: to + many_to.map_or(0, |_| k),
        at,
        kind: kind.clone(),
    });
    Ok(each.collect())
}

fn stream(table: &mut Table<'_>, left: u64) -> Read<StreamWorkload> {
    let rate_milli = match table.rate("rate")? {
        Some(0) => {
            return Err(table.error_at(
                "rate",
                "a rate of 0 sends nothing: without `rate` it sends as fast as it may",
            ));
        }
        rate => rate.unwrap_or(0),
    };
    let count = match table.number("count")? {
        Some(0) => return Err(table.error_at("count", NO_COUNT)),
        Some(count) => count,
        None if rate_milli > 0 => (u128::from(rate_milli) * u128::from(left) / 1_000_000_000_000) as u64,
        None => return Err(table.error("a stream needs `count` or `rate`")),
    };
    let reliability = table.word(
        "reliability",
        &[
            ("reliable", Reliability::Reliable),
            ("unordered", Reliability::ReliableUnordered),
            ("unreliable", Reliability::FireAndForget),
        ],
    )?;
    let reliability = reliability.unwrap_or(Reliability::Reliable);
    let size = table.size_range("size")?.unwrap_or((64, 64));
    if size.1 > u64::from(MAX_MESSAGE) {
        let what = format!(
            "size: a message of {} B is longer than the protocol's limit of {MAX_MESSAGE} B",
            size.1
        );
        return Err(table.error_at("size", what));
    }
    let stop_at = table.time("stop_reading_at")?;
    let stop_for = table.time("stop_reading_for")?.unwrap_or(u64::MAX / 2);
    let (reset_after, stop_after) = (table.number("reset_after")?, table.number("stop_after")?);
    if reset_after.is_some() && stop_after.is_some() && !table.outlined() {
        return Err(table.error_at("stop_after", "a stream has `reset_after` or `stop_after`, not both"));
    }
    let lossy = reliability == Reliability::FireAndForget;
    let must_complete = match table.word("must_complete", &[("true", true), ("false", false)])? {
        Some(must) => must,
        None => !lossy,
    };
    Ok(StreamWorkload {
        streams: table.number("streams")?.unwrap_or(1),
        count,
        size,
        rate_milli,
        reliability,
        both: table.flag("both")?,
        drain: table.byte_rate("drain")?.unwrap_or(0),
        stop_reading: stop_at.map(|at| (at, at.saturating_add(stop_for))),
        reset_after,
        stop_after,
        priority: table.number("priority")?.unwrap_or(0).min(255) as u8,
        weight: table.number("weight")?.unwrap_or(16).clamp(1, 256) as u16,
        resume: table.flag("resume")?,
        must_complete,
    })
}

fn liveness(mut table: Table<'_>, names: &Names, scenario: &Scenario) -> Read<Liveness> {
    let liveness = Liveness {
        core: names.many(&mut table, "core")?,
        within: table.need_time("within")?,
    };
    if liveness.within == 0 {
        return Err(table.error_at("within", "a liveness phase of 0 leaves no time to recover"));
    }
    if !liveness.core.is_empty() {
        for workload in scenario.workloads.iter().filter(|workload| workload.must_complete()) {
            let outside = [workload.from, workload.to]
                .into_iter()
                .find(|node| !liveness.core.contains(node));
            if let Some(outside) = outside {
                let (id, node) = (&workload.id, &scenario.nodes[outside as usize].id);
                let what = format!(
                    "workload `{id}` must complete, but `{node}` is outside the core and cut off: it cannot (say \
                     `must_complete = false` there, or add `{node}`)"
                );
                return Err(table.error_at("core", what));
            }
        }
    }
    table.finish()?;
    Ok(liveness)
}

fn verdicts(root: &mut Table<'_>, scenario: &mut Scenario) -> Read<()> {
    if let Some(mut check) = root.table("check")? {
        if let Some(mut slo) = check.table("slo")? {
            for (metric, bound) in slo.pairs(Want::Duration)? {
                let ns = super::units::duration(&bound).map_err(|what| slo.error_at(&metric, what))?;
                scenario.slo.push((metric, ns));
            }
        }
        scenario.same_shape = check.flag("same_shape")?;
        if scenario.same_shape && scenario.reads_plaintext() {
            let what = "an adversary of kind `member` reads plaintext and acts on it: two runs cannot look the same";
            return Err(check.error_at("same_shape", what));
        }
        check.finish()?;
    }
    let Some(mut expect) = root.table("expect")? else {
        return Ok(());
    };
    if expect.word("verdict", &[("pass", true), ("fail", false)])? == Some(false) {
        let checker = expect.text("checker")?.unwrap_or_default();
        let known: Vec<&str> = CHECKERS.iter().map(|(known, _)| *known).collect();
        // Programs that use the library have checkers of their own; what is almost one of ours is a slip.
        let near = unknown(&checker, &known);
        if !known.contains(&checker.as_str()) && near.contains("did you mean") {
            return Err(expect.error_at("checker", format!("unknown checker {near}")));
        }
        scenario.expect_fail = Some(checker);
    }
    for (key, list) in [("at_least", &mut scenario.at_least), ("at_most", &mut scenario.at_most)] {
        let Some(mut table) = expect.table(key)? else { continue };
        for (counter, bound) in table.pairs(Want::Whole)? {
            let wrong = format!("`{bound}` is not a whole number");
            list.push((
                counter.clone(),
                bound.parse().map_err(|_| table.error_at(&counter, wrong))?,
            ));
        }
    }
    expect.finish()
}

fn swarm(root: &mut Table<'_>, source: Source<'_>) -> Read<()> {
    let Some(mut swarm) = root.table("swarm")? else {
        return Ok(());
    };
    if source.resolved {
        return Err(swarm.error("a resolved scenario holds no [swarm]"));
    }
    swarm.probability("omit_each")?;
    swarm.finish()
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    fn crowd(node: &str, to: &str) -> Result<Scenario, String> {
        let text = format!(
            "schema = 1\nname = \"t\"\nduration = \"1s\"\n[topology]\nnodes = [ {{ id = \"hub\" }}, {{ id = \"p\", count = 3{node} }} ]\n\
             [[workload]]\nkind = \"connect\"\nid = \"c\"\nfrom = \"p\"\nto = \"{to}\"\n\
             [[fault]]\nkind = \"loss\"\nloss = 0.1\nfrom = \"hub\"\nto = [\"p\"]\n"
        );
        Scenario::check("t", &text).map_err(|error| error.to_string())
    }

    #[test]
    fn machines_that_are_alike_have_numbered_names_and_a_workload_each() {
        let scenario = crowd("", "hub").expect("a good scenario");
        let ids: Vec<&str> = scenario.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["hub", "p-0", "p-1", "p-2"]);
        let each: Vec<_> = scenario
            .workloads
            .iter()
            .map(|one| (one.id.as_str(), one.from, one.to))
            .collect();
        assert_eq!(each, [("c-0", 1, 0), ("c-1", 2, 0), ("c-2", 3, 0)]);
        assert!(
            crowd("", "p")
                .expect_err("each with each")
                .contains("no link to itself")
        );
        assert!(
            crowd(", nat = \"symmetric\"", "hub")
                .expect_err("behind one box")
                .contains("`nat`")
        );
    }
}
