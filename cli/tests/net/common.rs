//! Runs the built `net` and reads what it says, line by line.
//!
//! Invariants: nothing sleeps; whatever hangs is killed after [`HANG`], which fails the test that waits for it; every
//! test has its own state home and touches no other.
//! Not here: what is expected (`tests/*.rs`).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// No run takes longer, however busy the machine.
const HANG: Duration = Duration::from_secs(120);

/// A place of its own for everything a test writes.
pub struct Home {
    dir: tempfile::TempDir,
}

/// How a finished run ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the error of a run in text form.
    #[track_caller]
    pub fn fails(&self, exit: i32, code: &str) -> &str {
        assert_eq!(self.code, Some(exit), "{}", self.stderr);
        assert!(self.stderr.contains(&format!("error {code}: ")), "{}", self.stderr);
        assert!(self.stderr.contains(&format!("net explain {code}")), "{}", self.stderr);
        &self.stderr
    }

    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }
}

impl Home {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn net(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_net"));
        command.args(args);
        self.isolate(command)
    }

    /// A shell in which `net` is the built binary.
    pub fn shell(&self, line: &str) -> Command {
        let bin = Path::new(env!("CARGO_BIN_EXE_net"))
            .parent()
            .expect("a file in a folder");
        let path = std::env::join_paths(
            std::iter::once(bin.to_path_buf())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        );
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        let mut command = self.isolate(command);
        command.env("PATH", path.expect("no folder of PATH has a colon"));
        command
    }

    fn isolate(&self, mut command: Command) -> Command {
        command
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"));
        command.env_remove("NET_LOG").env_remove("RUST_LOG");
        command
    }

    /// Runs to the end with empty stdin.
    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
        Running::start(self.net(args)).end(b"")
    }

    /// Starts to listen on loopback and answers with the events of its stderr as JSON.
    pub fn listen(&self, args: &[&str]) -> (Running, String) {
        let fixed = ["listen", "--bind", "127.0.0.1", "-o", "json"];
        let mut listener = Running::start(self.net(fixed.iter().chain(args)));
        let ticket = listener.event("listening")["ticket"].as_str().expect("text").to_owned();
        (listener, ticket)
    }
}

/// A run that has not ended.
pub struct Running {
    child: Child,
    pub stdin: Option<ChildStdin>,
    stdout: Option<std::thread::JoinHandle<Vec<u8>>>,
    stderr: BufReader<std::process::ChildStderr>,
    heard: String,
    _guard: mpsc::Sender<()>,
}

impl Running {
    pub fn start(command: Command) -> Self {
        let mut running = Self::start_unread(command);
        let mut stdout = running.child.stdout.take().expect("piped");
        running.stdout = Some(std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).expect("stdout is readable");
            bytes
        }));
        running
    }

    /// Starts it without reading its stdout.
    pub fn start_unread(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own, so that what a shell has started ends with it.
        let mut child = command.process_group(0).spawn().expect("the built binary runs");
        let (guard, ended) = mpsc::channel::<()>();
        let pid = Pid::from_child(&child);
        std::thread::spawn(move || {
            // The sender goes with the value: only a hang is waited out.
            if ended.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process_group(pid, Signal::KILL);
            }
        });
        Self {
            stdin: child.stdin.take(),
            stdout: None,
            stderr: BufReader::new(child.stderr.take().expect("piped")),
            heard: String::new(),
            child,
            _guard: guard,
        }
    }

    /// The next line of stderr that `find` accepts.
    #[track_caller]
    pub fn line<T>(&mut self, mut find: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("stderr is text");
            assert!(read > 0, "it ended without the line: {}", self.heard);
            self.heard.push_str(&line);
            if let Some(found) = find(line.trim_end_matches('\n')) {
                return found;
            }
        }
    }

    /// The next event of this kind; every line until then is JSON.
    #[track_caller]
    pub fn event(&mut self, kind: &str) -> Value {
        self.line(|line| {
            let event = json(line);
            (event["kind"] == kind).then_some(event)
        })
    }

    pub fn say(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("open");
        stdin.write_all(bytes).expect("it reads");
        stdin.flush().expect("it reads");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Reads its stdout, which was not read before, from now on.
    pub fn read_rest(&mut self) {
        let mut stdout = self.child.stdout.take().expect("unread");
        self.stdout = Some(std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).expect("stdout is readable");
            bytes
        }));
    }

    /// Closes its stdout, which was not read.
    pub fn stop_reading(&mut self) {
        drop(self.child.stdout.take());
    }

    /// A line of its stdout, which is not read otherwise.
    pub fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.child
            .stdout
            .as_mut()
            .expect("unread")
            .read_exact(&mut bytes)
            .expect("so much comes");
        bytes
    }

    /// Writes the rest of stdin, closes it and waits for the end.
    pub fn end(mut self, input: &[u8]) -> Ended {
        let stdin = self.stdin.take();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Who ends early reads no more.
                stdin.map(|mut stdin| stdin.write_all(input))
            });
            self.finish()
        })
    }

    /// Waits for the end, leaving stdin open.
    pub fn wait(mut self) -> Ended {
        self.finish()
    }

    fn finish(&mut self) -> Ended {
        self.stderr.read_to_string(&mut self.heard).expect("stderr is text");
        let stdout = self
            .stdout
            .take()
            .map_or_else(Vec::new, |thread| thread.join().expect("it does not panic"));
        let status: ExitStatus = self.child.wait().expect("it was started");
        Ended {
            code: status.code(),
            stdout,
            stderr: std::mem::take(&mut self.heard),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either has ended already, or its test has failed.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Lets two that are connected end: neither ends before the other does.
pub fn end_both(one: Running, input: &[u8], other: Running, other_input: &[u8]) -> (Ended, Ended) {
    std::thread::scope(|scope| {
        let one = scope.spawn(|| one.end(input));
        let other = other.end(other_input);
        (one.join().expect("no panic"), other)
    })
}

/// Reads one document of `net`.
#[track_caller]
pub fn json(text: &str) -> Value {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(document["schema"], 1, "{text}");
    assert!(document["kind"].is_string(), "{text}");
    document
}
