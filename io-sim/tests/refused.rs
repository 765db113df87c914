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
