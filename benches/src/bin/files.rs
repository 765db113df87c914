//! `files`: a file from `net send` to `net recv`, beside the same bytes on one stream, in interleaved rounds.
//!
//! Invariants: the two commands are the built `net` beside this binary, run as users run it; the stream's rate is that of `ours`
//! with the cipher that `net` chooses here. Not here: other ways to move files.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use clap::Parser;
use net_benches::contender::{Contender as _, Failure};
use net_benches::ours::{Kind, Ours};
use net_benches::quic::{self, Threads};
use net_io_real::aead::has_aes_instructions;
use serde_json::Value;

/// Messages of the stream, as long as those of a transfer.
const MESSAGE: usize = 1 << 16;

/// Sends one file over loopback with `net send` and `net recv`, and its bytes over one stream, in turn.
#[derive(Parser)]
struct Arguments {
    /// Interleaved rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Size of the file in MiB
    #[arg(long, default_value_t = 1_024)]
    mib: u64,
    /// Where source and target lie; by default the system's temporary directory
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    #[arg(hide = true)]
    serve: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.serve.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(&arguments),
        ["serve", "ours", kind, threads] => {
            Kind::parse(kind).and_then(|kind| Ours::serve(kind, quic::threads(threads)?))
        }
        _ => Err("unknown role".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One transfer.
struct Sent {
    bytes_per_second: f64,
    /// Peak memory of sender and receiver in KiB.
    memory: [u64; 2],
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let net = std::env::current_exe()?.with_file_name("net");
    if !net.exists() {
        return Err("cargo build --release -p net-cli must come first".into());
    }
    let home = arguments
        .dir
        .clone()
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("net-files-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let result = rounds(arguments, &net, &home);
    std::fs::remove_dir_all(&home)?;
    result
}

fn rounds(arguments: &Arguments, net: &Path, home: &Path) -> Result<(), Failure> {
    let bytes = arguments.mib << 20;
    let source = home.join("file");
    write_noise(&source, bytes)?;
    let kind = if has_aes_instructions() {
        Kind::Aes256
    } else {
        Kind::ChaCha20
    };
    let (mut streams, mut files, mut memory) = (Vec::new(), Vec::new(), [0; 2]);
    for round in 0..arguments.rounds {
        let mut ours = Ours::new(kind, Threads::Many);
        ours.start()?;
        let stream = ours.stream(MESSAGE, bytes)?.ok_or("a stream has a rate")?;
        ours.stop();
        let sent = transfer(net, home, &source, bytes)?;
        memory = [memory[0].max(sent.memory[0]), memory[1].max(sent.memory[1])];
        println!(
            "round {round}: stream {:.0} MB/s, file {:.0} MB/s",
            stream / 1e6,
            sent.bytes_per_second / 1e6
        );
        streams.push(stream);
        files.push(sent.bytes_per_second);
    }
    let (stream, file) = (median(&mut streams), median(&mut files));
    println!(
        "median of {}: stream {:.0} MB/s, file {:.0} MB/s, {:.2} x; peak memory: sender {} MiB, receiver {} MiB",
        arguments.rounds,
        stream / 1e6,
        file / 1e6,
        file / stream,
        memory[0] / 1024,
        memory[1] / 1024
    );
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes that no file system stores in less room.
fn write_noise(path: &Path, bytes: u64) -> Result<(), Failure> {
    let mut random = std::fs::File::open("/dev/urandom")?.take(bytes);
    std::io::copy(&mut random, &mut std::fs::File::create(path)?)?;
    Ok(())
}

fn start(net: &Path, home: &Path, args: &[&str]) -> Result<Child, Failure> {
    Ok(Command::new(net)
        .args(args)
        .args(["-o", "json"])
        .env("HOME", home)
        .env("XDG_STATE_HOME", home.join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

fn transfer(net: &Path, home: &Path, source: &Path, bytes: u64) -> Result<Sent, Failure> {
    let target = home.join("target");
    let (from, to) = (source.display().to_string(), target.display().to_string());
    let mut receiver = start(net, home, &["recv", &to, "--bind", "127.0.0.1"])?;
    let mut events = BufReader::new(receiver.stderr.take().ok_or("piped above")?);
    let mut line = String::new();
    events.read_line(&mut line)?;
    let ticket = serde_json::from_str::<Value>(&line)?["ticket"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    // Somebody reads what it says until it ends.
    let reader = std::thread::spawn(move || std::io::copy(&mut events, &mut std::io::sink()));
    let sender = start(net, home, &["send", &from, &ticket])?;
    let receiving = std::thread::spawn(move || finish(receiver));
    let (sent, sender_memory) = finish(sender)?;
    let (_, receiver_memory) = receiving
        .join()
        .map_err(|_| "the thread that waits for the receiver panicked")??;
    drop(reader.join());
    if std::fs::metadata(target.join("file"))?.len() != bytes {
        return Err("not all of the file arrived".into());
    }
    std::fs::remove_dir_all(&target)?;
    let seconds = sent["seconds"].as_f64().ok_or("a result without a time")?;
    Ok(Sent {
        bytes_per_second: bytes as f64 / seconds,
        memory: [sender_memory, receiver_memory],
    })
}

/// The result that a command printed, and the most memory it was seen to use, in KiB.
fn finish(mut child: Child) -> Result<(Value, u64), Failure> {
    let status = format!("/proc/{}/status", child.id());
    let mut errors = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        drop(errors.as_mut().map(|stderr| stderr.read_to_string(&mut text)));
        text
    });
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        // The kernel keeps the peak itself; it is read until the process is gone.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = now.unwrap_or(0).max(peak);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut text = String::new();
    child.stdout.take().ok_or("piped above")?.read_to_string(&mut text)?;
    let said = reader.join().unwrap_or_default();
    if !child.wait()?.success() {
        return Err(format!("net failed: {said}").into());
    }
    Ok((serde_json::from_str(&text)?, peak))
}
