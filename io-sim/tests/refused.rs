//! What the command line refuses, and what it tells first.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Fails under every seed: no round trip takes less than 20 ms.
const FAILS: &str = r#"schema = 1
name = "fails"
duration = "2s"
[topology]
nodes = [ { id = "a" }, { id = "b" } ]
[topology.default_link]
delay = ["10ms", "20ms"]
[[workload]]
kind = "stream"
id = "tight"
from = "a"
to = "b"
count = 5
[[fault]]
kind = "partition"
at = "1s"
for = "100ms"
[check]
slo = { "delivery.tight.max" = "1ms" }
"#;

/// A folder of one test's own, with `fails.toml` in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("refused-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the target folder can be written");
        let folder = Self(path);
        folder.write("fails.toml", FAILS);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("the folder can be written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Exit code, standard output, standard error.
    fn netsim(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
        let Output { status, stdout, stderr } = command.args(args).current_dir(&self.0).output().expect("netsim runs");
        let text = |bytes| String::from_utf8(bytes).expect("it speaks in text");
        (status.code().expect("it was not killed"), text(stdout), text(stderr))
    }

    /// Expects exit code 3 and these words.
    fn refused(&self, args: &[&str], words: &str) {
        let (code, _, err) = self.netsim(args);
        assert_eq!(code, 3, "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_that_was_cut_short_is_refused_wherever_the_cut_falls() {
    let folder = Folder::new("cut");
    assert_eq!(folder.netsim(&["run", "fails.toml", "--seed", "3"]).0, 1);
    let failed = "netsim-failures/fails-3.toml";
    assert_eq!(folder.netsim(&["shrink", failed, "-o", "min.toml"]).0, 0);
    let (_, resolved, _) = folder.netsim(&["resolve", "fails.toml", "--seed", "3"]);
    for whole in [folder.read(failed), folder.read("min.toml"), resolved] {
        assert!(whole.ends_with("\n# end\n"), "{whole}");
        folder.write("cut.toml", &whole);
        assert_eq!(folder.netsim(&["replay", "cut.toml"]).0, 1, "a whole one replays");
        let table = whole.rfind("\n[").expect("it has tables");
        folder.write("cut.toml", &whole[..=table]);
        folder.refused(
            &["replay", "cut.toml"],
            "cut.toml: cut short: its last line `# end` is missing",
        );
        folder.refused(&["run", "cut.toml"], "cut short");
        folder.write("cut.toml", &whole.replacen("count = 5", "count = 4", 1));
        assert_eq!(folder.netsim(&["replay", "cut.toml"]).0, 1, "it may be edited");
    }
}

#[test]
fn more_seeds_than_fit_into_memory_are_run_until_one_fails() {
    let folder = Folder::new("seeds");
    let (code, out, err) = folder.netsim(&["run", "fails.toml", "--seeds", "1..99999999999999", "--fail-fast"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("FAIL  fails  seed 1"), "{out}");
    let (code, ..) = folder.netsim(&["run", "fails.toml", "--seeds", "0..18446744073709551615", "--fail-fast"]);
    assert_eq!(code, 1);
}

#[test]
fn words_are_listed_where_there_are_no_scenarios() {
    let folder = Folder::new("list");
    let (code, out, err) = folder.netsim(&["list"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("partition") && out.contains("stream-order"), "{out}");
    assert!(!out.contains("\nscenarios\n"), "{out}");
    let (code, out, _) = folder.netsim(&["list", "fails.toml", "--only", "scenarios"]);
    assert!(code == 0 && out.contains("fails"), "{out}");
    folder.refused(&["list", "--only", "scenarios"], "scenarios");
    folder.refused(&["list", "nowhere"], "nowhere");
}

#[test]
fn a_failure_is_told_even_where_its_file_cannot_be_written() {
    let folder = Folder::new("told");
    folder.write("taken", "a file where the folder should be");
    for command in [
        &["run", "fails.toml", "--artifacts", "taken"][..],
        &["run", "fails.toml", "--artifacts", "taken", "--json"],
        &["explore", "fails.toml", "--time", "20s", "--artifacts", "taken"],
    ] {
        let (code, out, err) = folder.netsim(command);
        assert_eq!(code, 3, "{command:?}: {err}");
        assert!(out.contains("delivery.tight.max is"), "{command:?}: {out}");
        assert!(err.contains("taken"), "{command:?}: {err}");
    }
}

#[test]
fn a_stop_that_nothing_is_called_is_refused() {
    let folder = Folder::new("stops");
    folder.refused(
        &["replay", "fails.toml", "--until", "banana"],
        "called `banana`; events are boot",
    );
    folder.refused(&["replay", "fails.toml", "--break", "event=nosuch"], "called `nosuch`");
    folder.refused(
        &["replay", "fails.toml", "--break", "checker=nosuch"],
        "known are stream-order",
    );
    folder.refused(
        &["replay", "fails.toml", "--break", "checker=livness"],
        "did you mean `liveness`?",
    );
    let (code, out, _) = folder.netsim(&["replay", "fails.toml", "--break", "event=crash"]);
    assert_eq!(code, 1, "what did not happen may be asked for");
    assert!(out.contains("never came to: event crash"), "{out}");
    let (code, out, _) = folder.netsim(&["replay", "fails.toml", "--break", "checker=slo"]);
    assert!(code <= 1 && !out.is_empty(), "{out}");
}

#[test]
fn a_shrunk_file_does_not_replace_what_it_was_made_of() {
    let folder = Folder::new("same");
    folder.refused(&["shrink", "fails.toml", "-o", "./fails.toml"], "name another file");
    assert_eq!(folder.read("fails.toml"), FAILS);
}
