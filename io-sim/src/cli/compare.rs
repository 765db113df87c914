//! `netsim compare`: one scenario in several arms, and whether their applications were told the same.
//!
//! What is compared is the application history: per direction of every stream that must arrive whole, the messages
//! delivered, in their order where the stream keeps it, and whether its end was told. Of unreliable streams each arm may
//! lose others, so that they are shown and not compared. Times and counts are shown side by side.
//! Invariants: exit code 0 only where every arm passed and all histories are equal.
//! Not here: how an arm runs (`arms.rs`).

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::arms::Arm;
use super::{Trouble, load, seed_range};
use crate::arm::{ArmReport, StreamHistory, Summary, run_des};
use crate::kernel::ClearKernel;
use crate::run::{Spec, Verdict};

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Scenario files, or folders of them; of a folder those for at least two of the arms.
    #[arg(required = true, value_name = "FILE|DIR")]
    specs: Vec<PathBuf>,
    /// Which arms; a scenario that names its own is run in those of them.
    #[arg(long, value_delimiter = ',', default_value = "des,shell,real")]
    arms: Vec<Arm>,
    /// One seed; default: the one a resolved file carries, or 0.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds A to B, both included.
    #[arg(long, value_name = "A..B", value_parser = seed_range)]
    seeds: Option<(u64, u64)>,
    /// Print one JSON object per scenario and seed.
    #[arg(long)]
    json: bool,
}

/// One scenario under one seed in several arms.
#[derive(Debug, Serialize)]
struct Comparison {
    scenario: String,
    file: String,
    seed: u64,
    /// Whether all histories are equal.
    equal: bool,
    /// Where they differ from the first arm's.
    differences: Vec<String>,
    reports: Vec<ArmReport>,
}

pub(super) fn command(compare: &Compare) -> Result<u8, Trouble> {
    let mut specs = load(&compare.specs)?;
    let named = |spec: &Spec| -> Vec<Arm> {
        let arms = compare.arms.iter().copied();
        arms.filter(|arm| spec.scenario.arms.is_empty() || spec.scenario.arms.iter().any(|name| name == arm.name()))
            .collect()
    };
    if compare.specs.iter().all(|path| path.is_dir()) {
        specs.retain(|spec| !spec.scenario.arms.is_empty() && named(spec).len() > 1);
    }
    if let Some(lonely) = specs.iter().find(|spec| named(spec).len() < 2) {
        return Err(Trouble::Said(format!(
            "{}: nothing to compare: its `arms` name fewer than two of those asked for",
            lonely.file
        )));
    }
    // A missing program is told before anything runs.
    for arm in specs.iter().flat_map(named) {
        arm.find()?;
    }
    let (mut worst, mut all) = (0, Vec::new());
    for spec in &specs {
        let one = compare.seed.or(spec.scenario.seed).unwrap_or(0);
        let (low, high) = compare.seeds.unwrap_or((one, one));
        for seed in low..=high {
            let comparison = run(spec, seed, &named(spec))?;
            worst = worst.max(comparison.exit_code());
            comparison.print(compare.json)?;
            all.push(comparison);
        }
    }
    if all.len() > 1 && !compare.json {
        summary(&all)?;
    }
    Ok(worst)
}

fn run(spec: &Spec, seed: u64, arms: &[Arm]) -> Result<Comparison, Trouble> {
    let mut reports: Vec<ArmReport> = Vec::new();
    for &arm in arms {
        let elsewhere = arm.report(&spec.file, seed)?;
        reports.push(elsewhere.unwrap_or_else(|| run_des::<ClearKernel>(spec, seed)));
    }
    let mut differences = Vec::new();
    if let Some((first, others)) = reports.split_first() {
        for other in others {
            differ(first, other, &mut differences);
        }
    }
    Ok(Comparison {
        scenario: spec.scenario.name.clone(),
        file: spec.file.clone(),
        seed,
        equal: differences.is_empty(),
        differences,
        reports,
    })
}

/// Which streams' histories differ, in words.
fn differ(one: &ArmReport, other: &ArmReport, differences: &mut Vec<String>) {
    let compared = |report: &ArmReport| -> Vec<StreamHistory> {
        let all = report.history.iter().cloned();
        all.filter(|stream| stream.reliability != "unreliable").collect()
    };
    let (ours, theirs) = (compared(one), compared(other));
    if ours.len() != theirs.len() {
        differences.push(format!(
            "{} tells of {} streams, {} of {}",
            one.arm,
            ours.len(),
            other.arm,
            theirs.len()
        ));
    }
    for (a, b) in ours.iter().zip(&theirs).filter(|(a, b)| a != b) {
        differences.push(format!(
            "{} from {} to {}: {} in {}, {} in {}",
            a.stream,
            a.from,
            a.to,
            told(a),
            one.arm,
            told(b),
            other.arm
        ));
    }
}

fn told(stream: &StreamHistory) -> String {
    let digest = stream.blake3.get(..12).unwrap_or(&stream.blake3);
    let end = if stream.finished { "and the end" } else { "no end" };
    format!("{} messages, {} bytes, {digest}, {end}", stream.messages, stream.bytes)
}

impl Comparison {
    fn exit_code(&self) -> u8 {
        let verdicts = self.reports.iter().map(|report| report.verdict.exit_code());
        verdicts.max().unwrap_or(0).max(u8::from(!self.equal))
    }

    fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if json {
            let line = serde_json::to_string(self).map_err(io::Error::other)?;
            return writeln!(out, "{line}");
        }
        let word = if self.equal { "equal" } else { "DIFFERENT" };
        writeln!(out, "{word}  {}  seed {}", self.scenario, self.seed)?;
        for difference in &self.differences {
            writeln!(out, "  differs  {difference}")?;
        }
        heading(&mut out)?;
        for report in &self.reports {
            let metrics = &report.metrics;
            let times = [metrics.rtt, metrics.handshake, metrics.retransmissions];
            row(&mut out, &report.arm, verdict(report.verdict), times)?;
        }
        for report in &self.reports {
            if let Some(failure) = &report.failure {
                let checker = report.checker.as_deref().unwrap_or("-");
                writeln!(out, "  {}: {checker}: {failure}", report.arm)?;
            }
            for unable in &report.unable {
                writeln!(out, "  {}: unable: {unable}", report.arm)?;
            }
        }
        out.flush()
    }
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::NotDeterministic => "NOT DETERMINISTIC",
        Verdict::Harness => "HARNESS ERROR",
        Verdict::OutOfTime => "OUT OF TIME",
    }
}

fn heading(out: &mut impl io::Write) -> io::Result<()> {
    writeln!(
        out,
        "  {:<6} {:<8} {:>26} {:>26} {:>20}",
        "arm", "verdict", "rtt ms p50/p90/p99", "handshake ms p50/p90/p99", "resent p50/p90/p99"
    )
}

fn row(out: &mut impl io::Write, arm: &str, word: &str, [rtt, handshake, resent]: [Summary; 3]) -> io::Result<()> {
    let none = |summary: Summary, text: String| if summary.count == 0 { "-".to_owned() } else { text };
    let ms = |summary: Summary| {
        let each = [summary.p50, summary.p90, summary.p99]
            .map(|ns| format!("{}.{}", ns / 1_000_000, ns % 1_000_000 / 100_000));
        none(summary, each.join("/"))
    };
    let counts = none(resent, format!("{}/{}/{}", resent.p50, resent.p90, resent.p99));
    writeln!(
        out,
        "  {arm:<6} {word:<8} {:>26} {:>26} {counts:>20}",
        ms(rtt),
        ms(handshake)
    )
}

/// Over all scenarios and seeds: each arm's medians.
fn summary(all: &[Comparison]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let equal = all.iter().filter(|comparison| comparison.equal).count();
    writeln!(out, "\n{equal} of {} equal; medians over all:", all.len())?;
    heading(&mut out)?;
    for arm in [Arm::Des, Arm::Shell, Arm::Real] {
        let reports = all.iter().flat_map(|comparison| &comparison.reports);
        let mine: Vec<&ArmReport> = reports.filter(|report| report.arm == arm.name()).collect();
        if mine.is_empty() {
            continue;
        }
        let middle = |pick: fn(&ArmReport) -> Summary| medians(mine.iter().map(|report| pick(report)));
        let passed = mine.iter().filter(|report| report.verdict == Verdict::Pass).count();
        let word = format!("{passed}/{}", mine.len());
        let times = [
            middle(|report| report.metrics.rtt),
            middle(|report| report.metrics.handshake),
            middle(|report| report.metrics.retransmissions),
        ];
        row(&mut out, arm.name(), &word, times)?;
    }
    out.flush()
}

/// The median of every quantile, over the runs that measured it.
fn medians(summaries: impl Iterator<Item = Summary>) -> Summary {
    let all: Vec<Summary> = summaries.filter(|summary| summary.count > 0).collect();
    let middle = |pick: fn(&Summary) -> u64| {
        let mut values: Vec<u64> = all.iter().map(pick).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    Summary {
        count: all.len() as u64,
        p50: middle(|summary| summary.p50),
        p90: middle(|summary| summary.p90),
        p99: middle(|summary| summary.p99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::Metrics;

    fn report(arm: &str, streams: &[(&str, &str)]) -> ArmReport {
        let stream = |(reliability, digest): &(&str, &str)| StreamHistory {
            stream: "ab/0".to_owned(),
            from: "a".to_owned(),
            to: "b".to_owned(),
            reliability: (*reliability).to_owned(),
            messages: 3,
            bytes: 30,
            blake3: (*digest).to_owned(),
            finished: true,
        };
        ArmReport {
            arm: arm.to_owned(),
            runtime: String::new(),
            scenario: "t".to_owned(),
            seed: 0,
            verdict: Verdict::Pass,
            checker: None,
            failure: None,
            digest: String::new(),
            unable: Vec::new(),
            history: streams.iter().map(stream).collect(),
            metrics: Metrics::default(),
            simulated_ms: 0,
        }
    }

    fn differences(one: &[(&str, &str)], other: &[(&str, &str)]) -> Vec<String> {
        let mut differences = Vec::new();
        differ(&report("des", one), &report("real", other), &mut differences);
        differences
    }

    #[test]
    fn what_must_arrive_whole_is_compared_and_what_may_be_lost_is_not() {
        let des = [("reliable", "aa"), ("unreliable", "bb")];
        assert!(differences(&des, &[("reliable", "aa"), ("unreliable", "cc")]).is_empty());
        let changed = differences(&des, &[("reliable", "ac"), ("unreliable", "bb")]);
        assert!(changed[0].contains("aa") && changed[0].contains("ac") && changed[0].contains("real"));
        assert!(differences(&des, &[])[0].contains("1 streams"), "a missing stream");
    }

    #[test]
    fn medians_leave_out_runs_that_measured_nothing() {
        let summary = |count, p50| Summary {
            count,
            p50,
            ..Summary::default()
        };
        let middle = medians([summary(2, 10), summary(0, 0), summary(1, 30), summary(9, 20)].into_iter());
        assert_eq!((middle.count, middle.p50), (3, 20));
    }
}
