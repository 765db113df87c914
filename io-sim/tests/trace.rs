//! `netsim trace` and what it writes besides the page: packets that tshark reads, trace events that pair up, and files that
//! are whole or not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use net_io_sim::history::{Fact, History};
use net_io_sim::kernel::RealKernel;
use net_io_sim::run::{Spec, run_recorded};
use net_io_sim::trace::{About, pcapng, perfetto};
use serde_json::Value;

const ROUGH: &str = r#"
schema = 1
name = "rough"
duration = "3s"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
[topology.default_link]
delay = { dist = "normal", mean = "10ms", sd = "3ms", min = "1ms" }
loss = 0.1
reorder = 0.1
dup = 0.1
corrupt = 0.1
damage = "any"
[[workload]]
kind = "stream"
from = "a"
to = "b"
count = 60
rate = "50/s"
size = [10, 3000]
[[fault]]
kind = "suspend"
node = "b"
at = "1s"
for = "100ms"
[[adversary]]
kind = "garbage"
id = "eve"
to = "b"
at = "200ms"
count = 20
rate = "50/s"
"#;

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trace-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    folder
}

fn recorded(bytes: bool) -> (About, History) {
    let spec = Spec::new("rough.toml", ROUGH).expect("a correct scenario");
    let (report, history) = run_recorded::<RealKernel>(&spec, 1, usize::MAX, bytes);
    (About::new(&report, "real"), history.expect("the scenario can be read"))
}

fn netsim(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_netsim"))
        .current_dir(folder)
        .args(args)
        .output();
    output.expect("netsim runs")
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// What tshark prints for a file; `None`, with words, where it is not installed.
fn tshark(file: &Path, args: &[&str]) -> Option<String> {
    let output = match Command::new("tshark").arg("-r").arg(file).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: tshark is not installed, so the packets were not read by it (apt-get install tshark)");
            return None;
        }
        Err(error) => panic!("tshark: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> = errors
        .lines()
        .filter(|line| !line.starts_with("Running as user"))
        .collect();
    assert!(output.status.success() && errors.is_empty(), "{errors:#?}");
    Some(String::from_utf8(output.stdout).expect("it prints text"))
}

#[test]
fn tshark_reads_every_packet_with_its_fate_and_finds_no_fault() {
    let (about, history) = recorded(true);
    let file = scratch("pcapng").join("rough.pcapng");
    std::fs::write(&file, pcapng(&history, &about)).expect("it can be written");
    let fields = [
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    ];
    let names = [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.comment",
        "ip.checksum.status",
        "udp.checksum.status",
        "udp.length",
        "_ws.malformed",
    ];
    let args: Vec<&str> = fields
        .into_iter()
        .chain(names.iter().flat_map(|name| ["-e", name]))
        .collect();
    let Some(text) = tshark(&file, &args) else { return };

    let sent = history.iter().filter(|entry| matches!(entry.what, Fact::Sent { .. }));
    let arrived = history
        .iter()
        .filter(|entry| entry.node.is_some() && matches!(entry.what, Fact::Delivered { .. } | Fact::Dropped { .. }));
    let expected: Vec<_> = history
        .iter()
        .filter(|entry| entry.node.is_some())
        .filter(|entry| {
            matches!(
                entry.what,
                Fact::Sent { .. } | Fact::Delivered { .. } | Fact::Dropped { .. }
            )
        })
        .collect();
    assert_eq!(expected.len(), sent.count() + arrived.count());
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    assert_eq!(lines.len(), expected.len());
    let mut words = BTreeMap::<&str, u32>::new();
    for (line, entry) in lines.iter().zip(&expected) {
        let [interface, time, comment, ip, udp, length, malformed] = line[..] else {
            panic!("{line:?}")
        };
        assert_eq!(interface, history.names().node(entry.node.expect("it has a node")));
        assert_eq!(
            time,
            format!("{}.{:09}", entry.at / 1_000_000_000, entry.at % 1_000_000_000)
        );
        assert_eq!((ip, udp, malformed), ("1", "1", ""), "checksums verify: {line:?}");
        let bytes = history.bytes(entry).expect("bytes were kept");
        assert_eq!(length, (bytes.len() + 8).to_string());
        assert!(comment.contains(&format!("#{}", entry.id)), "{comment}");
        if matches!(entry.what, Fact::Sent { .. }) {
            assert!(
                ["delivered to ", "dropped", "still under way"]
                    .iter()
                    .any(|fate| comment.contains(fate)),
                "{comment}"
            );
        }
        for word in [
            "delivered to b after",
            "dropped: loss",
            "dropped at b: down",
            "dropped: down",
            "damaged",
            "a second copy",
            "held back",
            "adversary eve",
        ] {
            *words.entry(word).or_default() += u32::from(comment.contains(word));
        }
    }
    assert!(words.values().all(|count| *count > 0), "{words:?}");
}

#[test]
fn packets_without_their_bytes_are_cut_off_and_still_read() {
    let (about, history) = recorded(false);
    let file = scratch("cut").join("cut.pcapng");
    std::fs::write(&file, pcapng(&history, &about)).expect("it can be written");
    let Some(text) = tshark(&file, &["-T", "fields", "-e", "frame.cap_len", "-e", "frame.len"]) else {
        return;
    };
    assert!(text.lines().count() > 100);
    for line in text.lines() {
        let (kept, all) = line.split_once('\t').expect("two fields");
        assert!(kept == "28" && all.parse::<u32>().is_ok_and(|all| all >= 28), "{line}");
    }
}

#[test]
fn trace_events_ascend_pair_up_and_never_overlap_on_a_track() {
    let (about, history) = recorded(false);
    let json = perfetto(&history, &about).expect("it can be written");
    let json: Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(json["otherData"]["digest"], about.digest);
    let events = json["traceEvents"].as_array().expect("a list");
    let mut before = 0.0;
    let mut open = BTreeMap::<(String, String), u64>::new();
    let mut ends = BTreeMap::<(u64, u64), f64>::new();
    let (mut flows, mut turns) = (0, 0);
    for event in events {
        let (ts, phase) = (
            event["ts"].as_f64().expect("a time"),
            event["ph"].as_str().expect("a phase"),
        );
        assert!(ts >= before, "{event}");
        before = ts;
        let key = || (event["cat"].to_string(), event["id"].to_string());
        match phase {
            "M" => assert!(event["args"].is_object()),
            "X" => {
                turns += 1;
                let track = (
                    event["pid"].as_u64().expect("a process"),
                    event["tid"].as_u64().expect("a track"),
                );
                let end = ends.entry(track).or_default();
                assert!(ts >= *end - 0.000_001, "{event} overlaps {end}");
                *end = ts + event["dur"].as_f64().expect("a length");
            }
            "b" | "s" => assert_eq!(open.insert(key(), 1), None, "{event}"),
            "e" => assert_eq!(open.remove(&key()), Some(1), "{event}"),
            "f" => {
                flows += 1;
                assert_eq!(open.remove(&key()), Some(1), "{event}");
            }
            "i" => assert!(event["s"] == "t" || event["s"] == "g"),
            other => panic!("an unknown phase {other}"),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let count = |wanted: fn(&Fact) -> bool| history.iter().filter(|entry| wanted(&entry.what)).count();
    assert_eq!(turns, count(|fact| matches!(fact, Fact::Turn { .. })));
    let injected = history.names().adversaries.len();
    assert_eq!(injected, 1);
    assert!(flows > 100 && flows <= count(|fact| matches!(fact, Fact::Delivered { .. })));
}

#[test]
fn the_command_writes_each_format_and_says_what_it_kept() {
    let folder = scratch("formats");
    std::fs::write(folder.join("rough.toml"), ROUGH).expect("it can be written");
    for (format, begins) in [
        ("--html", "<!doctype html>"),
        ("--pcapng", "\n\r\r\n"),
        ("--perfetto", "{\"displayTimeUnit\""),
    ] {
        let output = netsim(&folder, &["trace", "rough.toml", "--seed", "1", format, "-o", "out"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("out: "));
        let bytes = std::fs::read(folder.join("out")).expect("it was written");
        assert!(bytes.starts_with(begins.as_bytes()), "{format}");
    }
    let output = netsim(
        &folder,
        &[
            "trace",
            "rough.toml",
            "--html",
            "-o",
            "cut.html",
            "--limit",
            "100",
            "--json",
        ],
    );
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["events"], 100);
    assert!(
        told["truncated"].as_u64().is_some_and(|truncated| truncated > 100),
        "{told}"
    );

    // The same run gives the same page, to the byte.
    netsim(
        &folder,
        &["trace", "rough.toml", "--seed", "1", "--html", "-o", "one.html"],
    );
    netsim(
        &folder,
        &["trace", "rough.toml", "--seed", "1", "--html", "-o", "two.html"],
    );
    let read = |name: &str| std::fs::read(folder.join(name)).expect("it was written");
    assert!(read("one.html") == read("two.html"));

    // A failing run is drawn as well and tells by its exit code.
    let failing = ROUGH.replace(
        "[[workload]]",
        "[check]\nslo = { \"delivery.p99\" = \"1ms\" }\n[[workload]]",
    );
    std::fs::write(folder.join("failing.toml"), failing).expect("it can be written");
    let output = netsim(&folder, &["trace", "failing.toml", "--html", "-o", "failing.html"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("slo  at ") && told.contains("failing.html#e="), "{told}");
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_recorded_trace_is_drawn_where_this_program_repeats_it_and_refused_where_not() {
    let folder = scratch("recorded");
    std::fs::write(folder.join("rough.toml"), ROUGH).expect("it can be written");
    let output = netsim(&folder, &["record", "rough.toml", "--seed", "9", "-o", "t.jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let drawn = |args: &[&str]| {
        netsim(
            &folder,
            &[&["trace", "t.jsonl", "--html", "-o", "out.html"], args].concat(),
        )
    };
    let output = drawn(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("seed 9"));
    assert!(error(&drawn(&["--seed", "8"])).contains("recorded trace of seed 9"));
    std::fs::remove_file(folder.join("out.html")).expect("it was written");

    let text = std::fs::read_to_string(folder.join("t.jsonl")).expect("it was written");
    let refused = |text: &str, words: &str| {
        std::fs::write(folder.join("t.jsonl"), text).expect("it can be written");
        let error = error(&drawn(&[]));
        assert!(error.contains(words) && error.contains("t.jsonl"), "{error}");
        assert!(!folder.join("out.html").exists(), "nothing is written");
    };
    refused(
        &text.replacen("\"schema\":2", "\"schema\":1", 1),
        "version 1; this netsim reads version 2",
    );
    refused(
        &text.replacen("\"schema\":2", "\"schema\":99", 1),
        "version 99; this netsim reads version 2",
    );
    refused(&text[..text.len() / 2], "is cut short");
    refused(&text[..200], "line 1");
    refused("{\"hello\":1}\n", "names no `schema`");
    let at = text.find("\"digest\":\"").expect("it has one") + 10;
    let other = format!("{}00000000{}", &text[..at], &text[at + 8..]);
    refused(&other, "another version of the program");
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn bad_input_and_a_full_disk_end_with_code_3_and_nothing_half_written() {
    let folder = scratch("bad");
    std::fs::write(folder.join("rough.toml"), ROUGH).expect("it can be written");
    std::fs::write(folder.join("typo.toml"), ROUGH.replace("reorder", "reoder")).expect("it can be written");
    let typo = error(&netsim(&folder, &["trace", "typo.toml", "--html", "-o", "out.html"]));
    assert!(typo.contains("typo.toml:10") && typo.contains("reorder"), "{typo}");
    let missing = error(&netsim(&folder, &["trace", "nowhere.toml", "--html", "-o", "out.html"]));
    assert!(missing.contains("nowhere.toml"), "{missing}");
    let nowhere = error(&netsim(
        &folder,
        &["trace", "rough.toml", "--html", "-o", "no/such/out.html"],
    ));
    assert!(
        nowhere.contains("no/such/out.html") && nowhere.contains("no such folder"),
        "{nowhere}"
    );
    let taken = error(&netsim(&folder, &["trace", "rough.toml", "--html", "-o", "."]));
    assert!(taken.contains("is a folder"), "{taken}");
    if Path::new("/dev/full").exists() {
        let full = error(&netsim(&folder, &["trace", "rough.toml", "--html", "-o", "/dev/full"]));
        assert!(full.contains("no space is left"), "{full}");
        assert!(
            std::fs::metadata("/dev/full").is_ok_and(|meta| !meta.is_file()),
            "the device is still one"
        );
    }
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .expect("it is ours")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    left.sort();
    assert_eq!(left, ["rough.toml", "typo.toml"], "nothing half-written");
    let unnamed = netsim(&folder, &["trace", "rough.toml", "-o", "out.html"]);
    assert_ne!(unnamed.status.code(), Some(0), "a format must be named");
    std::fs::remove_dir_all(folder).expect("it is ours");
}
