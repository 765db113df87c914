//! `net`: encrypted sessions between two machines from the command line.
//!
//! | file | role |
//! |---|---|
//! | `args.rs` | what may be written on the command line |
//! | `error.rs` | every way to fail, with code, exit status and remedy |
//! | `output.rs` | stdout and stderr, as text or JSON |
//! | `signals.rs` | ctrl-c and SIGTERM |
//! | `progress.rs` | a bar on a terminal, lines elsewhere |
//! | `peer.rs` | ticket, network, identity and session for those who dial |
//! | `host.rs` | node and ticket for those who are dialled |
//! | `files/` | what `send` and `recv` share: a transfer over a stream, files on disk |
//! | `pipe.rs` | one stream joined to stdin and stdout |
//! | `up/` | a node of the mesh, and the socket on which it answers commands |
//! | `control/` | what commands and the running node say to each other |
//! | `channel.rs` | what nodes say to each other of channels |
//! | `mesh/` | the commands that ask the running node |
//! | `listen.rs` `connect.rs` `send.rs` `recv.rs` `ping.rs` `id.rs` `explain.rs` `manual.rs` `demo/` | one command each |
//!
//! Invariants: stdout carries results and nothing else; the exit status is that of the error's code.
//! Not here: the protocol (`net-kernel`), sockets and files of a node (`net-io-real`).
#![forbid(unsafe_code)]

mod args;
mod channel;
mod connect;
mod control;
mod demo;
mod error;
mod explain;
mod files;
mod host;
mod id;
mod listen;
mod manual;
mod mesh;
mod output;
mod peer;
mod ping;
mod pipe;
mod progress;
mod recv;
mod send;
mod signals;
mod up;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Cli, Command, Format};
use error::{Code, Failure};
use output::Out;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    let out = Out::new(cli.format());
    let result = log(out).and_then(|()| run(&cli.command, out));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.code.exit())
        }
    }
}

fn run(command: &Command, out: Out) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => on_runtime(demo::run(args, out)),
        Command::Id(args) => id::id(&args.action, out),
        Command::Key(args) => id::key(&args.action, out),
        Command::Explain { code } => explain::run(code.as_deref(), out),
        Command::Listen(args) => on_runtime(listen::run(args, out)),
        Command::Connect(args) => on_runtime(connect::run(args, out)),
        Command::Send(args) => on_runtime_of_one(send::run(args, out)),
        Command::Recv(args) => on_runtime_of_one(recv::run(args, out)),
        Command::Ping(args) => on_runtime(ping::run(args, out)),
        Command::Up(args) => on_runtime(up::run(args, out)),
        Command::Config(args) => up::configuration(&args.action, out),
        Command::Status(args) => on_runtime_of_one(mesh::status(args, out)),
        Command::Peers(args) => on_runtime_of_one(mesh::peers(args, out)),
        Command::Routes(args) => on_runtime_of_one(mesh::routes(args, out)),
        Command::Ticket(args) => on_runtime_of_one(mesh::ticket(args, out)),
        Command::Join(args) => on_runtime_of_one(mesh::join(args, out)),
        Command::Trace(args) => on_runtime_of_one(mesh::trace(args, out)),
        Command::Doctor(args) => on_runtime_of_one(mesh::doctor(args, out)),
        Command::Top(args) => on_runtime_of_one(mesh::top::run(args, out.stream())),
        Command::Pub(args) => on_runtime(mesh::publish::run(args, out)),
        Command::Sub(args) => on_runtime_of_one(mesh::subscribe::run(args, out.stream())),
        Command::Netcheck(args) => on_runtime_of_one(mesh::netcheck::run(args, out)),
        Command::Cheat => manual::cheat(out),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { command, dir } => manual::pages(command.as_deref(), dir.as_deref()),
    }
}

fn on_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    on(tokio::runtime::Builder::new_multi_thread().worker_threads(2), command)
}

/// For commands whose own work has a thread beside the socket's: a third one would only be handed what another has in its
/// cache.
fn on_runtime_of_one(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    on(&mut tokio::runtime::Builder::new_current_thread(), command)
}

fn on(
    builder: &mut tokio::runtime::Builder,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Start, format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(command);
    // A read of stdin that is under way never ends where nobody types: it must not hold the process up.
    runtime.shutdown_background();
    result
}

/// Help and version, or a command line that was not understood.
fn unparsed(error: &clap::Error) -> ExitCode {
    let out = Out::new(if asks_json(std::env::args_os()) {
        Format::Jsonl
    } else {
        Format::Text
    });
    let bare = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) || bare && out.is_text() {
        // Help that nobody reads is no failure.
        let _ = error.print();
        return ExitCode::from(if bare { Code::Usage.exit() } else { 0 });
    }
    let rendered = error.render().to_string();
    let message = rendered.trim_start_matches("error: ").trim_end();
    let failure = Failure::new(Code::Usage, message);
    out.failure(&failure);
    ExitCode::from(failure.code.exit())
}

/// Whether a command line that could not be parsed asks for JSON.
fn asks_json(args: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let args: Vec<_> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let is_json = |format: &str| matches!(format, "json" | "jsonl");
    let joined = |arg: &str| {
        ["--output=", "-o=", "-o"]
            .iter()
            .find_map(|name| arg.strip_prefix(name))
            .is_some_and(is_json)
    };
    args.iter().any(|arg| arg == "--json" || joined(arg))
        || args
            .windows(2)
            .any(|pair| matches!(&*pair[0], "-o" | "--output") && is_json(&pair[1]))
}

/// Logs to stderr as `NET_LOG`, or else `RUST_LOG`, asks for.
fn log(out: Out) -> Result<(), Failure> {
    let Some((name, filter)) = ["NET_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let filter = std::env::var(name).ok().filter(|filter| !filter.is_empty())?;
        Some((name, filter))
    }) else {
        return Ok(());
    };
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).map_err(|error| {
        Failure::new(Code::Usage, format!("{name}={filter:?} is no log filter: {error}")).next(format!("{name}=info"))
    })?;
    let colour = out.is_text() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match out.format() {
        Format::Text => builder
            .with_ansi(colour && std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        Format::Json | Format::Jsonl => builder.json().init(),
    }
    Ok(())
}
