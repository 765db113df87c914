//! The other process: spawned from the same binary, asked over its standard streams, and ended by its handle.
//!
//! Invariants: a peer dies with its parent (it ends at end of input) and with its handle (dropping kills it).
//! Not here: what the peer does.

use crate::contender::Failure;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running peer process.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What else it said when it was ready, such as its certificate in hexadecimal.
    pub extra: String,
}

impl Peer {
    /// Runs this binary as `serve ROLE` and waits until it says where it listens.
    ///
    /// # Errors
    /// Where it cannot be run or says something else.
    pub fn spawn(role: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("the peer's standard input is not a pipe")?;
        let output = child.stdout.take().ok_or("the peer's standard output is not a pipe")?;
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut peer = Self {
            child,
            input,
            output: BufReader::new(output),
            addr,
            extra: String::new(),
        };
        let line = peer.line()?;
        let mut words = line.split_whitespace();
        if words.next() != Some("ready") {
            return Err(format!("the peer said {line:?} instead of being ready").into());
        }
        peer.addr = words.next().ok_or("the peer did not say where it listens")?.parse()?;
        peer.extra = words.next().unwrap_or_default().to_owned();
        Ok(peer)
    }

    /// Asks for a report and reads its numbers.
    ///
    /// # Errors
    /// Where the peer is gone.
    pub fn report(&mut self) -> Result<Vec<u64>, Failure> {
        writeln!(self.input, "report")?;
        self.input.flush()?;
        let numbers: Result<Vec<u64>, _> = self.line()?.split_whitespace().map(str::parse).collect();
        Ok(numbers?)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the peer process ended".into());
        }
        Ok(line)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only where it has ended by itself, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the peer process: says that it is ready, and answers every line of input with `report`'s numbers. Ends the
/// process at end of input.
pub fn attend(addr: SocketAddr, extra: &str, report: impl Fn() -> Vec<u64> + Send + 'static) {
    println!("ready {addr} {extra}");
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() {
                break;
            }
            let numbers: Vec<_> = report().iter().map(u64::to_string).collect();
            println!("{}", numbers.join(" "));
        }
        std::process::exit(0);
    });
}
