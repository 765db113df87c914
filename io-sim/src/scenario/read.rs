//! The schema of scenario files: tables to values.
//!
//! Invariants: every key is read here and nowhere else; a name of a node that does not exist is an error.
//! Not here: errors and quantities (`table.rs`, `units.rs`).

use net_kernel::api::SessionConfig;
use net_kernel::base::Duration;
use net_kernel::wire::Reliability;
use net_sim_model::{Damage, DiskFault, Distribution, Effect, LinkSpec, Loss, Rate};
use toml::de::DeTable;

use super::table::{Read, Source, Table, unknown};
use super::{
    Adversary, AdversaryKind, Fault, FaultKind, Liveness, NodeIndex, NodeSpec, Pick, Program, Scenario, StreamWorkload,
    Workload, WorkloadKind,
};

/// The arms a scenario may name. This crate is the first of them.
const ARMS: [&str; 3] = ["des", "shell", "real"];

/// Reads a whole file.
pub(super) fn scenario(source: Source<'_>) -> Read<Scenario> {
    let parsed = DeTable::parse(source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        source.error(&span, format!("not TOML: {}", error.message()))
    })?;
    let mut root = Table::new(source, "the file", 0..0, parsed.get_ref());
    match root.number("schema")? {
        Some(1) => {}
        Some(other) => return Err(root.error_at("schema", format!("schema {other} is unknown; this program reads 1"))),
        None => return Err(root.error("the file needs `schema = 1`")),
    }
    let name = root.required("name")?;
    let duration = root
        .time("duration")?
        .ok_or_else(|| root.error("the file needs `duration`"))?;
    let seed = root.number("seed")?;
    let arms = root.texts("arms")?.unwrap_or_default();
    if let Some(arm) = arms.iter().find(|arm| !ARMS.contains(&arm.as_str())) {
        return Err(root.error_at("arms", format!("unknown arm {}", unknown(arm, &ARMS))));
    }
    let program = root
        .word("program", &[("node", Program::Node), ("net", Program::Net)])?
        .unwrap_or_default();
    root.text("about")?;
    let mut topology = root
        .table("topology")?
        .ok_or_else(|| root.error("the file needs [topology]"))?;
    let nodes = nodes(&mut topology)?;
    let names = Names(nodes.iter().map(|node| node.id.clone()).collect());
    let default_link = match topology.table("default_link")? {
        Some(table) => link(table, LinkSpec::clean(DEFAULT_DELAY))?,
        None => LinkSpec::clean(DEFAULT_DELAY),
    };
    let links = links(&mut topology, &names, &default_link)?;
    let closed = topology
        .word("network", &[("closed", true), ("open", false)])?
        .unwrap_or(true);
    let coalesce = topology.time("coalesce")?.unwrap_or(0);
    topology.finish()?;
    let mut scenario = Scenario {
        name,
        seed,
        duration,
        arms,
        program,
        nodes,
        links,
        coalesce,
        default_link,
        closed,
        config: config(root.table("config")?)?,
        workloads: numbered(root.tables("workload")?, |table, n| {
            workload(table, n, &names, duration)
        })?,
        faults: numbered(root.tables("fault")?, |table, n| fault(table, n, &names))?,
        adversaries: numbered(root.tables("adversary")?, |table, n| adversary(table, n, &names))?,
        liveness: root
            .table("liveness")?
            .map(|table| liveness(table, &names))
            .transpose()?,
        slo: Vec::new(),
        at_least: Vec::new(),
        at_most: Vec::new(),
        expect_fail: None,
    };
    verdicts(&mut root, &mut scenario)?;
    swarm(&mut root, source)?;
    root.finish()?;
    Ok(scenario)
}

const DEFAULT_DELAY: u64 = 10_000_000;

/// The names of nodes, by index.
struct Names(Vec<String>);

impl Names {
    fn find(&self, table: &Table<'_>, key: &str, name: &str) -> Read<NodeIndex> {
        self.0
            .iter()
            .position(|node| node == name)
            .map(|index| index as NodeIndex)
            .ok_or_else(|| {
                let known: Vec<&str> = self.0.iter().map(String::as_str).collect();
                table.error_at(key, format!("unknown node {}", unknown(name, &known)))
            })
    }

    fn one(&self, table: &mut Table<'_>, key: &'static str) -> Read<NodeIndex> {
        let name = table.required(key)?;
        self.find(table, key, &name)
    }

    fn optional(&self, table: &mut Table<'_>, key: &'static str) -> Read<Option<NodeIndex>> {
        table.text(key)?.map(|name| self.find(table, key, &name)).transpose()
    }

    fn many(&self, table: &mut Table<'_>, key: &'static str) -> Read<Vec<NodeIndex>> {
        let names = table.texts(key)?.unwrap_or_default();
        names.iter().map(|name| self.find(table, key, name)).collect()
    }

    fn ends(&self, table: &mut Table<'_>) -> Read<(NodeIndex, NodeIndex)> {
        let (from, to) = (self.one(table, "from")?, self.one(table, "to")?);
        if from == to {
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

fn nodes(topology: &mut Table<'_>) -> Read<Vec<NodeSpec>> {
    let tables = topology.tables("nodes")?;
    if tables.is_empty() {
        return Err(topology.error("[topology] needs `nodes`"));
    }
    let mut nodes: Vec<NodeSpec> = Vec::new();
    let mut allows = Vec::new();
    for mut table in tables {
        let id = table.required("id")?;
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
        nodes.push(NodeSpec {
            id,
            number,
            drift_ppb: table.signed("drift_ppb")?.unwrap_or(0),
            wall_offset: table.signed_time("wall")?.unwrap_or(0),
            disk: table.time("disk")?.unwrap_or(200_000),
            allow: None,
            starts: table.time("starts")?.unwrap_or(0),
        });
        table.finish()?;
    }
    let names = Names(nodes.iter().map(|node| node.id.clone()).collect());
    for (index, allow) in allows.into_iter().enumerate() {
        let Some(allow) = allow else { continue };
        let found: Read<Vec<_>> = allow.iter().map(|name| names.find(topology, "nodes", name)).collect();
        nodes[index].allow = Some(found?);
    }
    Ok(nodes)
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

fn link(mut table: Table<'_>, base: LinkSpec) -> Read<LinkSpec> {
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

fn damage(table: &mut Table<'_>) -> Read<Option<Damage>> {
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

fn rate(table: &mut Table<'_>) -> Read<Option<Rate>> {
    let Some(bytes_per_s) = table.byte_rate("rate")? else {
        return Ok(None);
    };
    if bytes_per_s == 0 {
        return Err(table.error_at("rate", "a rate of 0 passes nothing: use a partition"));
    }
    // A tenth of a second of queue unless told otherwise.
    let queue = table.size("queue")?.unwrap_or((bytes_per_s / 10).max(3_000));
    Ok(Some(Rate { bytes_per_s, queue }))
}

fn delay(table: &mut Table<'_>, key: &'static str) -> Read<Option<Distribution>> {
    if !table.has(key) {
        return Ok(None);
    }
    let Ok(Some(mut inner)) = table.table(key) else {
        return Ok(table.time(key)?.map(Distribution::Constant));
    };
    let dist = inner.required("dist")?;
    let need = |inner: &mut Table<'_>, key: &'static str| -> Read<u64> {
        inner
            .time(key)?
            .ok_or_else(|| inner.error(format!("this distribution needs `{key}`")))
    };
    let distribution = match dist.as_str() {
        "constant" => Distribution::Constant(need(&mut inner, "mean")?),
        "uniform" => Distribution::Uniform {
            low: need(&mut inner, "min")?,
            high: need(&mut inner, "max")?,
        },
        "normal" => Distribution::Normal {
            mean: need(&mut inner, "mean")?,
            deviation: need(&mut inner, "sd")?,
            min: inner.time("min")?.unwrap_or(0),
        },
        "pareto" => Distribution::Pareto {
            scale: need(&mut inner, "min")?,
            shape_milli: inner.number("shape_milli")?.unwrap_or(1_160),
            max: need(&mut inner, "max")?,
        },
        "trace" => {
            let values = inner.texts("values")?.unwrap_or_default();
            let parsed: Result<Vec<u64>, String> = values.iter().map(|text| super::units::duration(text)).collect();
            let values = parsed.map_err(|what| inner.error_at("values", what))?;
            if values.is_empty() {
                return Err(inner.error("a trace needs `values`"));
            }
            Distribution::Trace(values)
        }
        other => {
            let known = ["constant", "uniform", "normal", "pareto", "trace"];
            return Err(inner.error_at("dist", format!("unknown distribution {}", unknown(other, &known))));
        }
    };
    inner.finish()?;
    Ok(Some(distribution))
}

fn loss(table: &mut Table<'_>) -> Read<Option<Loss>> {
    if !table.has("loss") {
        return Ok(None);
    }
    let Ok(Some(mut inner)) = table.table("loss") else {
        return Ok(table.probability("loss")?.map(|ppb| Loss::Independent { ppb }));
    };
    let model = inner.required("model")?;
    let loss = match model.as_str() {
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
        other => {
            let known = ["iid", "gilbert-elliott", "every"];
            return Err(inner.error_at("model", format!("unknown loss model {}", unknown(other, &known))));
        }
    };
    inner.finish()?;
    Ok(Some(loss))
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
    table.finish()?;
    Ok(config)
}

fn workload(mut table: Table<'_>, n: usize, names: &Names, duration: u64) -> Read<Workload> {
    let kind = table.required("kind")?;
    let id = table.text("id")?.unwrap_or_else(|| format!("{kind}-{n}"));
    let (from, to) = names.ends(&mut table)?;
    let at = table.time("at")?.unwrap_or(0);
    let left = duration.saturating_sub(at);
    let kind = match kind.as_str() {
        "stream" => WorkloadKind::Stream(stream(&mut table, left)?),
        "echo" | "rekey" => {
            let every = table.time("every")?.unwrap_or(1_000_000_000).max(1);
            let count = table
                .number("count")?
                .unwrap_or(if kind == "echo" { left / every } else { 1 });
            if kind == "echo" {
                WorkloadKind::Echo { every, count }
            } else {
                WorkloadKind::Rekey { every, count }
            }
        }
        "connect" => WorkloadKind::Connect,
        "close" => WorkloadKind::Close,
        other => {
            let known = ["stream", "echo", "rekey", "connect", "close"];
            return Err(table.error_at("kind", format!("unknown workload {}", unknown(other, &known))));
        }
    };
    table.finish()?;
    Ok(Workload { id, from, to, at, kind })
}

fn stream(table: &mut Table<'_>, left: u64) -> Read<StreamWorkload> {
    let rate_milli = table.rate("rate")?.unwrap_or(0);
    let count = match table.number("count")? {
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
    let stop_at = table.time("stop_reading_at")?;
    let stop_for = table.time("stop_reading_for")?.unwrap_or(u64::MAX / 2);
    let lossy = reliability == Reliability::FireAndForget;
    let must_complete = match table.word("must_complete", &[("true", true), ("false", false)])? {
        Some(must) => must,
        None => !lossy,
    };
    Ok(StreamWorkload {
        streams: table.number("streams")?.unwrap_or(1),
        count,
        size: table.size_range("size")?.unwrap_or((64, 64)),
        rate_milli,
        reliability,
        both: table.flag("both")?,
        drain: table.byte_rate("drain")?.unwrap_or(0),
        stop_reading: stop_at.map(|at| (at, at.saturating_add(stop_for))),
        priority: table.number("priority")?.unwrap_or(0).min(255) as u8,
        weight: table.number("weight")?.unwrap_or(16).clamp(1, 256) as u16,
        resume: table.flag("resume")?,
        must_complete,
    })
}

fn window(table: &mut Table<'_>) -> Read<(u64, u64)> {
    let at = table.time("at")?.unwrap_or(0);
    let until = table.time("for")?.map_or(u64::MAX, |lasts| at.saturating_add(lasts));
    Ok((at, until))
}

/// Kinds of faults, for suggestions and families of a swarm.
const FAULTS: [&str; 19] = [
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
    "restore_disk",
    "clone",
    "pause",
    "suspend",
    "rebind",
    "clock_jump",
    "clock_drift",
    "clock_freeze",
    "disk",
];

fn fault(mut table: Table<'_>, n: usize, names: &Names) -> Read<Fault> {
    let word = table.required("kind")?;
    let id = table.text("id")?.unwrap_or_else(|| format!("{word}-{n}"));
    let (at, mut until) = window(&mut table)?;
    let kind = match word.as_str() {
        "partition" | "loss" | "delay" | "reorder" | "dup" | "corrupt" | "rate" | "mtu" => {
            link_fault(&mut table, &word, names)?
        }
        "crash" => FaultKind::Crash {
            node: names.one(&mut table, "node")?,
        },
        "restart" => {
            until = at;
            FaultKind::Crash {
                node: names.one(&mut table, "node")?,
            }
        }
        "restore_disk" => FaultKind::RestoreDisk {
            node: names.one(&mut table, "node")?,
            taken: table
                .time("taken")?
                .ok_or_else(|| table.error("restore_disk needs `taken`"))?,
        },
        "clone" => FaultKind::Clone {
            node: names.one(&mut table, "node")?,
            same_seed: table.flag("same_seed")?,
        },
        "pause" => FaultKind::Pause {
            node: names.one(&mut table, "node")?,
        },
        "suspend" => FaultKind::Suspend {
            node: names.one(&mut table, "node")?,
        },
        "rebind" => FaultKind::Rebind {
            node: names.one(&mut table, "node")?,
            told: table.flag("told")?,
        },
        "clock_jump" => FaultKind::ClockJump {
            node: names.one(&mut table, "node")?,
            by: table
                .signed_time("by")?
                .ok_or_else(|| table.error("clock_jump needs `by`"))?,
        },
        "clock_drift" => FaultKind::ClockDrift {
            node: names.one(&mut table, "node")?,
            ppb: table
                .signed("ppb")?
                .ok_or_else(|| table.error("clock_drift needs `ppb`"))?,
        },
        "clock_freeze" => FaultKind::ClockFreeze {
            node: names.one(&mut table, "node")?,
        },
        "disk" => disk_fault(&mut table, names)?,
        other => return Err(table.error_at("kind", format!("unknown fault {}", unknown(other, &FAULTS)))),
    };
    table.finish()?;
    Ok(Fault { id, at, until, kind })
}

fn disk_fault(table: &mut Table<'_>, names: &Names) -> Read<FaultKind> {
    let node = names.one(table, "node")?;
    if let Some(factor) = table.number("slow")? {
        return Ok(FaultKind::DiskSlow { node, factor });
    }
    let words = [
        ("full", DiskFault::Full),
        ("failing", DiskFault::Failing),
        ("denied", DiskFault::Denied),
    ];
    match table.word("mode", &words)? {
        Some(fault) => Ok(FaultKind::Disk { node, fault }),
        None => Err(table.error("a disk fault needs `mode` or `slow`")),
    }
}

fn link_fault(table: &mut Table<'_>, word: &str, names: &Names) -> Read<FaultKind> {
    let (from, to) = (names.many(table, "from")?, names.many(table, "to")?);
    let both = table.flag("both")?;
    let missing = |table: &Table<'_>, key: &str| table.error(format!("a {word} fault needs `{key}`"));
    let effect = match word {
        "partition" => {
            let flap = match (table.time("up")?, table.time("down")?) {
                (Some(up), Some(down)) => Some((up, down)),
                (None, None) => None,
                (Some(_), None) | (None, Some(_)) => {
                    return Err(table.error("a flapping partition needs both `up` and `down`"));
                }
            };
            Effect::Partition { flap }
        }
        "loss" => Effect::Loss(loss(table)?.ok_or_else(|| missing(table, "loss"))?),
        "delay" => Effect::Delay(delay(table, "delay")?.ok_or_else(|| missing(table, "delay"))?),
        "reorder" => Effect::Reorder {
            ppb: table.probability("p")?.ok_or_else(|| missing(table, "p"))?,
            hold: table.time("hold")?.unwrap_or(10_000_000),
        },
        "dup" => Effect::Duplicate {
            ppb: table.probability("p")?.ok_or_else(|| missing(table, "p"))?,
        },
        "corrupt" => Effect::Corrupt {
            ppb: table.probability("p")?.ok_or_else(|| missing(table, "p"))?,
            damage: damage(table)?.unwrap_or(Damage::Any),
        },
        "rate" => Effect::Rate(rate(table)?.ok_or_else(|| missing(table, "rate"))?),
        _ => Effect::Mtu(table.size("mtu")?.ok_or_else(|| missing(table, "mtu"))? as u32),
    };
    Ok(FaultKind::Link { from, to, both, effect })
}

const ADVERSARIES: [&str; 9] = [
    "garbage",
    "handshake_flood",
    "replay",
    "reflect",
    "drop",
    "race",
    "forward",
    "member",
    "stolen_key",
];

fn pick(table: &mut Table<'_>) -> Read<Pick> {
    let words = [
        ("all", Pick::All),
        ("initiation", Pick::Initiation),
        ("response", Pick::Response),
        ("cookie", Pick::Cookie),
        ("handshake", Pick::Handshake),
        ("protected", Pick::Protected),
    ];
    Ok(table.word("what", &words)?.unwrap_or(Pick::All))
}

fn adversary(mut table: Table<'_>, n: usize, names: &Names) -> Read<Adversary> {
    let word = table.required("kind")?;
    let id = table.text("id")?.unwrap_or_else(|| format!("{word}-{n}"));
    let (at, until) = window(&mut table)?;
    let always = net_sim_model::PPB;
    let kind = match word.as_str() {
        "garbage" => AdversaryKind::Garbage {
            to: names.one(&mut table, "to")?,
            count: table.number("count")?.unwrap_or(1_000),
            rate_milli: table.rate("rate")?.unwrap_or(1_000_000),
            spoof: names.optional(&mut table, "spoof")?,
        },
        "handshake_flood" => AdversaryKind::HandshakeFlood {
            to: names.one(&mut table, "to")?,
            count: table.number("count")?.unwrap_or(1_000),
            rate_milli: table.rate("rate")?.unwrap_or(1_000_000),
            network_key: table.flag("network_key")?,
            sources: table.number("sources")?.unwrap_or(0),
        },
        "replay" => {
            let (from, to) = names.ends(&mut table)?;
            AdversaryKind::Replay {
                from,
                to,
                pick: pick(&mut table)?,
                count: table.number("count")?.unwrap_or(1_000),
                rate_milli: table.rate("rate")?.unwrap_or(100_000),
                own_address: table.flag("own_address")?,
            }
        }
        "reflect" | "drop" | "race" => {
            let (from, to) = names.ends(&mut table)?;
            let (pick, ppb) = (pick(&mut table)?, table.probability("p")?.unwrap_or(always));
            match word.as_str() {
                "reflect" => AdversaryKind::Reflect { from, to, pick, ppb },
                "drop" => AdversaryKind::Drop { from, to, pick, ppb },
                _ => AdversaryKind::Race { from, to, pick, ppb },
            }
        }
        "forward" => {
            let (from, to) = names.ends(&mut table)?;
            let ppb = table.probability("p")?.unwrap_or(always);
            AdversaryKind::Forward {
                from,
                to,
                ppb,
                back: table.flag("back")?,
            }
        }
        "stolen_key" => AdversaryKind::StolenKey {
            to: names.one(&mut table, "to")?,
            name: names.one(&mut table, "name")?,
            count: table.number("count")?.unwrap_or(100),
            rate_milli: table.rate("rate")?.unwrap_or(10_000),
        },
        "member" => AdversaryKind::Member {
            node: names.one(&mut table, "node")?,
            ppb: table.probability("p")?.unwrap_or(always / 100),
        },
        other => {
            return Err(table.error_at("kind", format!("unknown adversary {}", unknown(other, &ADVERSARIES))));
        }
    };
    table.finish()?;
    Ok(Adversary { id, at, until, kind })
}

fn liveness(mut table: Table<'_>, names: &Names) -> Read<Liveness> {
    let liveness = Liveness {
        core: names.many(&mut table, "core")?,
        within: table
            .time("within")?
            .ok_or_else(|| table.error("[liveness] needs `within`"))?,
    };
    table.finish()?;
    Ok(liveness)
}

fn verdicts(root: &mut Table<'_>, scenario: &mut Scenario) -> Read<()> {
    if let Some(mut check) = root.table("check")? {
        if let Some(mut slo) = check.table("slo")? {
            for (metric, bound) in slo.pairs()? {
                let ns = super::units::duration(&bound).map_err(|what| slo.error_at(&metric, what))?;
                scenario.slo.push((metric, ns));
            }
        }
        check.finish()?;
    }
    let Some(mut expect) = root.table("expect")? else {
        return Ok(());
    };
    if expect.word("verdict", &[("pass", true), ("fail", false)])? == Some(false) {
        scenario.expect_fail = Some(expect.text("checker")?.unwrap_or_default());
    }
    for (key, list) in [("at_least", &mut scenario.at_least), ("at_most", &mut scenario.at_most)] {
        let Some(mut table) = expect.table(key)? else { continue };
        for (counter, bound) in table.pairs()? {
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
