//! One of the two processes of a step: this program, run as its users run it.
//!
//! Invariants: a child ends with its handle; whatever it says on stderr is one JSON document per line.
//! Not here: what is sent through it (`transfer.rs`).

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child as Process, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::error::{Code, Failure};

/// A running child.
pub struct Child {
    name: &'static str,
    process: Process,
    /// Its input; closed by dropping it.
    pub stdin: Option<ChildStdin>,
    /// Its output, if it is read.
    pub stdout: Option<ChildStdout>,
    /// None once nobody listens any more.
    events: Option<Lines<BufReader<ChildStderr>>>,
}

impl Child {
    /// Starts `net ARGS`. A child that is given no input reads none; its output is piped.
    /// With a `home` it keeps there whatever it keeps of its user.
    pub fn start(name: &'static str, args: &[&str], has_input: bool, home: Option<&Path>) -> Result<Self, Failure> {
        let failed = |error| Failure::stdio(&format!("start {name}"), &error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        if let Some(home) = home {
            command.env("XDG_STATE_HOME", home.join("state"));
        }
        let mut process = command
            .args(args)
            .args(["-o", "jsonl"])
            // Logs on request are for the demo itself: the children's stderr is read by it.
            .env_remove("NET_LOG")
            .env_remove("RUST_LOG")
            .stdin(if has_input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stderr = process.stderr.take().expect("piped above");
        Ok(Self {
            name,
            stdin: process.stdin.take(),
            stdout: process.stdout.take(),
            process,
            events: Some(BufReader::new(stderr).lines()),
        })
    }

    /// The next event; `None` once it says no more. An error of the child is an error here.
    pub async fn event(&mut self) -> Result<Option<Value>, Failure> {
        let Some(events) = &mut self.events else {
            return Ok(None);
        };
        let line = events.next_line().await;
        let line = line.map_err(|error| self.failed(&error.to_string()))?;
        let Some(line) = line else { return Ok(None) };
        let event: Value = serde_json::from_str(&line).map_err(|_| self.failed(&line))?;
        if event["kind"] == "error" {
            let text = |field: &str| event[field].as_str().unwrap_or("unknown").to_owned();
            return Err(self.failed(&format!("{} {}", text("code"), text("message"))));
        }
        Ok(Some(event))
    }

    /// The next event of this kind.
    pub async fn wait_for(&mut self, kind: &str) -> Result<Value, Failure> {
        loop {
            match self.event().await? {
                Some(event) if event["kind"] == kind => return Ok(event),
                Some(_) => {}
                None => return Err(self.failed(&format!("it ended without the event {kind:?}"))),
            }
        }
    }

    /// Reads what it says from now on, for nobody, so that it never waits for that.
    pub fn hush(&mut self) {
        if let Some(mut events) = self.events.take() {
            tokio::spawn(async move { while let Ok(Some(_)) = events.next_line().await {} });
        }
    }

    /// Ends it as nothing can be ended less gently.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.process.kill().await;
        killed.map_err(|error| self.failed(&error.to_string()))
    }

    /// Waits for its end, which must be a success.
    pub async fn end(&mut self) -> Result<(), Failure> {
        let status = self
            .process
            .wait()
            .await
            .map_err(|error| self.failed(&error.to_string()))?;
        if status.success() {
            Ok(())
        } else {
            Err(self.failed(&status.to_string()))
        }
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::new(Code::Unproved, format!("{} failed: {why}", self.name))
    }
}
