//! A failure from the command line: what it leaves behind, the commands it prints, its core, and bad input.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Only `tight` between a and b can fail, and it does so without any fault.
const TOY: &str = r#"
schema = 1
name = "impossible"
duration = "10s"
[topology]
nodes = [ { id = "c" }, { id = "a" }, { id = "b" }, { id = "d" } ]
[topology.default_link]
delay = ["10ms", "20ms"]
loss = 0.1
dup = 0.02
[[workload]]
kind = "stream"
id = "tight"
from = "a"
to = "b"
count = 40
size = [20, 200]
[[workload]]
kind = "stream"
from = "c"
to = "b"
count = 40
size = [20, 200]
[[fault]]
kind = "partition"
at = ["200ms", "900ms"]
for = "1s"
[[adversary]]
kind = "garbage"
to = "d"
count = 20
[liveness]
within = "10s"
[check]
slo = { "delivery.tight.max" = "1ms" }
"#;

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shrink-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the target folder can be written");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("the folder can be written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the folder is there");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("it can be read")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    fn netsim(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
        command.args(args).current_dir(&self.0).output().expect("netsim runs")
    }

    /// Runs a line as a person would who pastes it.
    fn paste(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(line)
            .current_dir(&self.0)
            .output()
            .expect("a shell runs")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("results are text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("explanations are text")
}

/// What follows `key` in a failure's print.
fn told(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_owned()
}

#[test]
fn a_failure_leaves_its_resolved_file_and_commands_that_work_when_pasted() {
    let folder = Folder::new("pasted");
    folder.write("toy.toml", TOY);
    let failed = folder.netsim(&["run", "toy.toml", "--seed", "7"]);
    assert_eq!(code(&failed), 1, "{}", err(&failed));
    let text = out(&failed);
    assert!(
        text.contains("delivery.tight.max is") && text.contains("the last events before it"),
        "{text}"
    );
    assert_eq!(told(&text, "resolved"), "netsim-failures/impossible-7.toml");
    let shrunk = folder.paste(&told(&text, "shrink"));
    assert_eq!(code(&shrunk), 0, "{}", err(&shrunk));
    let core = folder.read("netsim-failures/impossible-7.min.toml");
    assert!(
        !core.contains("[[fault]]") && !core.contains("[[adversary]]") && !core.contains("loss ="),
        "{core}"
    );
    assert!(
        !core.contains("id = \"c\"") && !core.contains("id = \"d\""),
        "two machines are left: {core}"
    );
    assert!(core.contains("count = 1\n"), "one message is enough: {core}");
    assert!(
        core.contains("# What happens:") && core.contains("2 nodes: a, b"),
        "{core}"
    );
    assert!(
        core.contains("# nodes   4 -> 2") && core.contains("# faults  4 -> 0"),
        "{core}"
    );
    let again = folder.netsim(&["run", "netsim-failures/impossible-7.min.toml"]);
    assert_eq!(code(&again), 1);
    assert!(out(&again).contains("delivery.tight.max is"));
}

#[test]
fn a_failure_is_told_to_machines_with_the_same_fields() {
    let folder = Folder::new("json");
    folder.write("toy.toml", TOY);
    let failed = folder.netsim(&["run", "toy.toml", "--seeds", "1..2", "--json", "--artifacts", "kept"]);
    assert_eq!(code(&failed), 1);
    for (seed, line) in out(&failed).lines().enumerate() {
        let report: serde_json::Value = serde_json::from_str(line).expect("one object per line");
        assert_eq!(report["resolved"], format!("kept/impossible-{}.toml", seed + 1));
        assert_eq!(
            report["signature"],
            "slo: delivery.tight.max is # ms, the bound is # ms"
        );
        assert!(
            report["replay"]
                .as_str()
                .is_some_and(|line| line.contains(" replay kept/"))
        );
        assert!(report["log"].as_array().is_some_and(|log| !log.is_empty()));
    }
    let shrunk = folder.netsim(&["shrink", "kept/impossible-2.toml", "-o", "min.toml", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&out(&shrunk)).expect("one object");
    assert_eq!(
        (&figures["before"]["nodes"], &figures["after"]["nodes"]),
        (&4.into(), &2.into())
    );
    assert_eq!(figures["after"]["faults"], 0);
    assert!(figures["after"]["events"].as_u64() < figures["before"]["events"].as_u64());
}

#[test]
fn the_core_is_the_same_with_one_job_and_with_four() {
    let folder = Folder::new("jobs");
    folder.write("toy.toml", TOY);
    for jobs in ["1", "4"] {
        let name = format!("min-{jobs}.toml");
        let shrunk = folder.netsim(&["shrink", "toy.toml", "--seed", "3", "--jobs", jobs, "-o", &name]);
        assert_eq!(code(&shrunk), 0, "{}", err(&shrunk));
    }
    assert_eq!(folder.read("min-1.toml"), folder.read("min-4.toml"));
}

#[test]
fn what_cannot_be_shrunk_says_why_and_leaves_nothing() {
    let folder = Folder::new("bad");
    folder.write("passes.toml", &TOY.replace("\"1ms\"", "\"9s\""));
    folder.write("truncated.toml", &TOY[..TOY.len() / 2 - 3]);
    folder.write("typo.toml", &TOY.replace("for = ", "forr = "));
    folder.write("toy.toml", TOY);
    let before = folder.files();
    let cases = [
        (vec!["shrink", "passes.toml", "-o", "min.toml"], "nothing to shrink"),
        (vec!["shrink", "truncated.toml", "-o", "min.toml"], "truncated.toml:"),
        (vec!["shrink", "typo.toml", "-o", "min.toml"], "did you mean `for`?"),
        (vec!["shrink", "absent.toml", "-o", "min.toml"], "absent.toml: "),
        (
            vec!["shrink", "toy.toml", "-o", "no/such/folder.toml"],
            "there is no such folder",
        ),
        (vec!["shrink", "toy.toml", "-o", "."], "is a folder"),
        (vec!["run", "toy.toml", "--artifacts", "toy.toml/x"], "toy.toml/x: "),
    ];
    for (args, words) in cases {
        let refused = folder.netsim(&args);
        assert_eq!(code(&refused), 3, "{args:?}: {}", err(&refused));
        assert!(err(&refused).contains(words), "{args:?}: {}", err(&refused));
        assert_eq!(folder.files(), before, "{args:?} leaves nothing behind");
    }
}

#[test]
fn a_disk_without_space_leaves_nothing_half_written() {
    let folder = Folder::new("full");
    folder.write("toy.toml", TOY);
    let netsim = env!("CARGO_BIN_EXE_netsim");
    // A limit of 0 on the size of files fails every write as a full disk does; signal 25 would end the program at once.
    for line in ["run toy.toml --artifacts .", "shrink toy.toml -o min.toml"] {
        let refused = folder.paste(&format!("trap '' 25; ulimit -f 0; '{netsim}' {line}"));
        assert_eq!(code(&refused), 3, "{line}: {}", err(&refused));
        assert!(err(&refused).contains(".toml: "), "{line}: {}", err(&refused));
        assert_eq!(folder.files(), ["toy.toml"], "{line}");
    }
}

#[test]
fn a_replay_is_the_same_run_wherever_it_is_stopped() {
    let folder = Folder::new("replay");
    folder.write("toy.toml", TOY);
    let failed = folder.netsim(&["run", "toy.toml", "--seed", "7"]);
    let whole = folder.paste(&told(&out(&failed), "replay"));
    let text = out(&whole);
    assert_eq!(code(&whole), 1, "{text}");
    assert!(
        text.contains("the run is over") && text.contains("state of a") && text.contains("session."),
        "{text}"
    );
    assert!(told(&text, "digest").ends_with(", as recorded"), "{text}");
    assert_eq!(told(&text, "because"), told(&out(&failed), "because"));
    let file = "netsim-failures/impossible-7.toml";
    let digest = told(&text, "digest");
    let digest = &digest[..64];
    // Stopped in between, stepped, and run on: the digest is that of the run that was not stopped.
    let stopped = folder.netsim(&["replay", file, "--until", "30ms", "--digest", digest]);
    assert!(
        out(&stopped).contains("stopped at 0.030000000 s: 0.02"),
        "{}",
        out(&stopped)
    );
    assert!(told(&out(&stopped), "digest").starts_with(digest));
    let wrong = folder.netsim(&["replay", file, "--digest", "00ff"]);
    assert_eq!(code(&wrong), 2);
    assert!(err(&wrong).contains("not 00ff"), "{}", err(&wrong));
}

#[test]
fn a_replay_stops_at_events_nodes_turns_and_violations() {
    let folder = Folder::new("stops");
    folder.write("toy.toml", TOY);
    let cases = [
        (["--break", "event=connected"], "stopped at event connected", ""),
        (["--until", "turn:9"], "stopped at turn 9", " 9 turns"),
        (["--until", "entry:20"], "stopped at entry #20", ""),
        (["--break", "node=d"], "stopped at node d", ""),
        (["--until", "dropped"], "stopped at event dropped", ""),
    ];
    for (stop, words, more) in cases {
        let stopped = folder.netsim(&[&["replay", "toy.toml", "--seed", "7"][..], &stop[..]].concat());
        let text = out(&stopped);
        assert_eq!(code(&stopped), 0, "{stop:?}: {text} {}", err(&stopped));
        assert!(
            text.contains(words) && text.contains(more) && !text.contains("FAIL"),
            "{stop:?}: {text}"
        );
    }
    let stopped = folder.netsim(&[
        "replay",
        "toy.toml",
        "--seed",
        "7",
        "--until",
        "connected",
        "--json",
        "--diff",
    ]);
    let value: serde_json::Value = serde_json::from_str(&out(&stopped)).expect("one object");
    assert_eq!(value["stopped"], "event connected");
    assert_eq!(value["nodes"]["a"]["process.state"], "running");
    assert!(
        value["changed"].as_array().is_some_and(|changed| !changed.is_empty()),
        "{value}"
    );
    for (stop, words) in [("node=zz", "there is no node `zz`"), ("nod=a", "`node=ID`")] {
        let refused = folder.netsim(&["replay", "toy.toml", "--break", stop]);
        assert!(
            code(&refused) == 3 && err(&refused).contains(words),
            "{}",
            err(&refused)
        );
    }
}

#[test]
fn a_replay_is_stepped_from_a_pipe() {
    let folder = Folder::new("step");
    folder.write("toy.toml", TOY);
    let netsim = env!("CARGO_BIN_EXE_netsim");
    let line = format!(
        "printf 'n 3\\nb event=connected\\nc\\ns a\\nb node=nobody\\nwhat\\nq\\n' | '{netsim}' replay toy.toml --step"
    );
    let text = out(&folder.paste(&line));
    assert!(
        text.contains("stops at event connected") && text.contains("stopped at event connected"),
        "{text}"
    );
    assert!(
        text.contains("session.1.peer: - -> "),
        "the difference a step makes: {text}"
    );
    assert!(
        text.contains("state of a\n") && text.contains("there is no node `nobody`"),
        "{text}"
    );
    assert!(
        text.contains("n [COUNT]"),
        "what is not understood is answered with help: {text}"
    );
    // The end of input ends it as `q` does.
    let ended = folder.paste(&format!("printf 'n' | '{netsim}' replay toy.toml --step"));
    assert_eq!(code(&ended), 0);
}

#[test]
fn a_file_of_another_schema_is_refused_by_file_and_line() {
    let folder = Folder::new("schema");
    folder.write("toy.toml", &TOY.replace("schema = 1", "schema = 9"));
    for command in [
        &["replay", "toy.toml"][..],
        &["shrink", "toy.toml", "-o", "min.toml"][..],
    ] {
        let refused = folder.netsim(command);
        assert_eq!(code(&refused), 3);
        assert!(
            err(&refused).contains("toy.toml:2: schema 9 is unknown; this program reads 1"),
            "{}",
            err(&refused)
        );
    }
    assert_eq!(folder.files(), ["toy.toml"]);
}

#[test]
fn chances_listed_datagram_by_datagram_give_the_same_run() {
    let folder = Folder::new("fates");
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    for name in ["bulk-lossy", "unreliable-unordered", "swarm"] {
        let file = scenarios.join(format!("{name}.toml")).display().to_string();
        let digest = |file: &str| {
            let run = folder.netsim(&["run", file, "--seed", "5", "--json"]);
            let report: serde_json::Value = serde_json::from_str(&out(&run)).expect("one object");
            report["digest"].as_str().expect("a digest").to_owned()
        };
        let listed = folder.netsim(&["resolve", &file, "--seed", "5", "--fates"]);
        let text = out(&listed);
        assert!(text.contains("[[fate]]"), "{name}: {text}");
        folder.write("listed.toml", &text);
        assert_eq!(digest("listed.toml"), digest(&file), "{name}");
    }
}

#[test]
fn a_failure_that_needs_one_lost_datagram_shrinks_to_that_datagram() {
    let folder = Folder::new("lost");
    // Only a message that has to be sent again is that late.
    let text = TOY
        .replace("\"1ms\"", "\"15ms\"")
        .replace("[\"10ms\", \"20ms\"]", "\"10ms\"");
    folder.write(
        "toy.toml",
        &text.replace("kind = \"partition\"", "kind = \"dup\"\np = 0.2"),
    );
    let failed = folder.netsim(&["run", "toy.toml", "--seeds", "1..30", "--fail-fast"]);
    assert_eq!(code(&failed), 1, "{}", out(&failed));
    let shrunk = folder.paste(&format!("{} --json", told(&out(&failed), "shrink")));
    let figures: serde_json::Value = serde_json::from_str(&out(&shrunk)).expect("one object");
    let core = folder.read(figures["file"].as_str().expect("a file"));
    assert_eq!(figures["after"]["faults"], 1, "{core}");
    assert!(core.contains("[[fate]]") && core.contains("kind = \"loss\""), "{core}");
    assert!(
        core.contains("# fate: loss from ") || core.contains("#   fate: loss from "),
        "{core}"
    );
}

#[test]
fn a_wrong_fate_is_refused_by_file_and_line() {
    let folder = Folder::new("wrong-fate");
    let cases = [
        (
            "kind = \"loss\"\nfrom = \"a\"\nto = \"b\"",
            "[[fate]] needs `n`, a list of whole numbers",
        ),
        (
            "kind = \"loss\"\nfrom = \"a\"\nto = \"b\"\nn = [1, \"x\"]",
            "n: `x` is not a whole number",
        ),
        (
            "kind = \"lost\"\nfrom = \"a\"\nto = \"b\"\nn = [1]",
            "unknown fate `lost`; did you mean `loss`?",
        ),
    ];
    for (fate, words) in cases {
        folder.write("toy.toml", &format!("{TOY}\n[[fate]]\n{fate}\n"));
        let refused = folder.netsim(&["run", "toy.toml"]);
        assert_eq!(code(&refused), 3);
        assert!(
            err(&refused).contains("toy.toml:") && err(&refused).contains(words),
            "{}",
            err(&refused)
        );
    }
}

#[test]
fn exploring_ends_on_time_with_its_failures_grouped_and_their_files_written() {
    let folder = Folder::new("explore");
    folder.write("toy.toml", TOY);
    let explored = folder.netsim(&["explore", "toy.toml", "--time", "300ms", "--first", "40", "--json"]);
    assert_eq!(code(&explored), 1, "{}", err(&explored));
    let found: serde_json::Value = serde_json::from_str(&out(&explored)).expect("one object");
    let failure = &found["failures"][0];
    assert_eq!(
        failure["signature"],
        "slo: delivery.tight.max is # ms, the bound is # ms"
    );
    assert!(found["runs"].as_u64() >= failure["runs_to_find"].as_u64());
    assert!(
        found["probes_missing"]
            .as_array()
            .is_some_and(|missing| !missing.is_empty())
    );
    let again = folder.paste(failure["replay"].as_str().expect("a command"));
    assert!(
        told(&out(&again), "digest").ends_with(", as recorded"),
        "{}",
        out(&again)
    );
}

#[test]
fn exploring_ends_with_its_report_when_it_is_interrupted() {
    let folder = Folder::new("interrupt");
    folder.write("toy.toml", TOY);
    let netsim = env!("CARGO_BIN_EXE_netsim");
    // The first line of progress says that it is under way.
    let line = format!(
        "'{netsim}' explore toy.toml --time 1h 2>progress & pid=$!; \
         until grep -q runs/s progress; do kill -0 $pid || exit 9; done; kill -INT $pid; wait $pid"
    );
    let ended = folder.paste(&line);
    assert_eq!(code(&ended), 1, "{}", err(&ended));
    assert!(out(&ended).contains("kinds of failure"), "{}", out(&ended));
}
