//! A machine: its state directory, and the process on it.
//!
//! Invariants: a signal goes only to a process that was started here and was not waited for yet; a process dies with the
//! one that started it.
//! Not here: what it is told and tells (`protocol.rs`), when (`run.rs`).

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use crate::protocol::{Order, Told};

/// How long a process that is gone may take to be buried.
const BURIAL: Duration = Duration::from_secs(20);
/// How much of what a process said on standard error is shown.
const LAST_WORDS: usize = 2_000;

/// What a machine does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No process.
    Down,
    /// A process that is not yet bound.
    Starting,
    /// A process that serves.
    Running,
    /// A process that is stopped.
    Stopped,
    /// A process that was told to end, or killed.
    Ending,
}

/// What is done once a process that was killed is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing.
    Stay,
    /// Another is started.
    Boot,
    /// The directory is replaced by a copy of it, and another is started.
    Restore(PathBuf),
}

/// What a process did.
#[derive(Debug)]
pub enum Heard {
    /// It told something.
    Told(Told),
    /// It is gone; everything it told was heard.
    Gone,
}

/// Who is heard: the machine, which of its processes, what.
pub type Event = (u32, u32, Heard);

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// Its number.
    pub index: u32,
    /// Where its process keeps state.
    pub state_dir: PathBuf,
    /// Where its processes' standard error goes.
    pub stderr: PathBuf,
    /// What it does.
    pub state: State,
    /// How many processes there were.
    pub process: u32,
    /// What is done once a killed process is gone.
    pub next: Next,
    child: Option<Child>,
    stdin: Option<ChildStdin>,
}

impl Machine {
    /// Machine `index`, with its files in `dir`.
    #[must_use]
    pub fn new(index: u32, dir: &Path) -> Self {
        Self {
            index,
            state_dir: dir.join(format!("state-{index}")),
            stderr: dir.join(format!("stderr-{index}")),
            state: State::Down,
            process: 0,
            next: Next::Stay,
            child: None,
            stdin: None,
        }
    }

    /// Starts a process whose standard output is told line by line to `heard`.
    ///
    /// # Errors
    /// What the host says.
    pub fn start(
        &mut self,
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        heard: UnboundedSender<Event>,
    ) -> io::Result<()> {
        let stderr = std::fs::File::options().create(true).append(true).open(&self.stderr)?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            // A group of its own, so that a signal reaches whatever the process has started.
            .process_group(0)
            .spawn()?;
        self.process += 1;
        self.state = State::Starting;
        self.stdin = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            let (index, process) = (self.index, self.process);
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                // A line that does not parse was cut off by a kill.
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Ok(told) = serde_json::from_str(&line)
                        && heard.send((index, process, Heard::Told(told))).is_err()
                    {
                        return;
                    }
                }
                // A run that is over hears nothing more.
                let _ = heard.send((index, process, Heard::Gone));
            });
        }
        self.child = Some(child);
        Ok(())
    }

    /// Whether there is a process, stopped or not.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.child.is_some()
    }

    /// Whether its process takes orders, now or when it goes on.
    #[must_use]
    pub const fn listens(&self) -> bool {
        matches!(self.state, State::Running | State::Stopped)
    }

    /// Writes an order to the process. One that is dead does not read it.
    pub async fn order(&mut self, order: &Order) {
        let mut line = serde_json::to_vec(order).expect("orders have text keys only");
        line.push(b'\n');
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(&line).await;
            let _ = stdin.flush().await;
        }
    }

    /// Sends a signal to the process and what it started, if there is one.
    ///
    /// # Errors
    /// What the host says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // Not waited for yet: so the number is still its own.
        let pid = self.child.as_ref().and_then(Child::id);
        match pid.and_then(|pid| Pid::from_raw(pid as i32)) {
            Some(pid) => Ok(rustix::process::kill_process_group(pid, signal)?),
            None => Ok(()),
        }
    }

    /// Kills the process, and says what follows once it is gone.
    ///
    /// # Errors
    /// What the host says.
    pub fn kill(&mut self, next: Next) -> io::Result<()> {
        if !self.exists() {
            return Ok(());
        }
        self.next = next;
        self.state = State::Ending;
        self.signal(Signal::KILL)
    }

    /// Waits for the process that is gone; `None` where there was none.
    ///
    /// # Errors
    /// What the host says; a process that is not gone.
    pub async fn bury(&mut self) -> io::Result<Option<ExitStatus>> {
        self.stdin = None;
        self.state = State::Down;
        let Some(mut child) = self.child.take() else {
            return Ok(None);
        };
        match timeout(BURIAL, child.wait()).await {
            Ok(status) => status.map(Some),
            Err(_) => {
                child.start_kill()?;
                Err(io::Error::other("a process closed its output and did not end"))
            }
        }
    }

    /// What its processes said last on standard error.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.stderr).unwrap_or_default();
        let from = text.len().saturating_sub(LAST_WORDS);
        String::from_utf8_lossy(&text[from..]).trim().to_owned()
    }
}

/// Ends this process when the one that started it ends, whatever ends that.
///
/// # Errors
/// What the host says, or that the starter is gone already.
pub fn tie() -> io::Result<()> {
    let parent = rustix::process::getppid();
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before the kernel was asked.
    if rustix::process::getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::other("who started this process is gone"))
    }
}

/// Copies a directory of files.
///
/// # Errors
/// What the host says.
pub fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
