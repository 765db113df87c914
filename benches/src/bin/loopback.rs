//! `loopback`: two processes over real UDP on loopback, floors and peers side by side.
//!
//! Invariants: the peer process is this binary run as `loopback serve ...`, and ends with its parent.
//! Not here: how anything is measured (the library).

use clap::{Parser, Subcommand};
use net_benches::arithmetic::{BareHandshake, Operations};
use net_benches::contender::{Contender, Failure, Measure};
use net_benches::floor::{Calls, OneWay, PingPong, Wait};
use net_benches::ours::{self, Ours};
use net_benches::quic::{self, Quic};
use net_benches::run::{Plan, run};
use net_benches::table;
use std::process::ExitCode;

/// Measures request/response, streams, small messages and handshakes between two processes on loopback, side by side with
/// bare UDP sockets and quinn.
#[derive(Parser)]
struct Arguments {
    /// Interleaved rounds; the table shows medians over them
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// A tenth of the work per round, to see whether it runs
    #[arg(long)]
    quick: bool,
    /// Only contenders whose name contains one of these
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only measures whose JSON name contains one of these
    #[arg(long, value_name = "TEXT")]
    measure: Vec<String>,
    /// The table as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// The other process; started by the first
    #[command(hide = true)]
    Serve {
        /// What to be, and its arguments
        role: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Serve { role }) => serve(role),
        None => measure(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn contenders() -> Vec<Box<dyn Contender>> {
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(PingPong::new(Wait::Blocking)),
        Box::new(PingPong::new(Wait::Spinning)),
        Box::new(OneWay::new(Calls::Single)),
        Box::new(OneWay::new(Calls::Offload)),
        Box::new(BareHandshake::default()),
    ];
    contenders.extend(ours::all().into_iter().map(|row| Box::new(row) as Box<dyn Contender>));
    contenders.extend(quic::all().into_iter().map(|row| Box::new(row) as Box<dyn Contender>));
    contenders
}

fn serve(role: &[String]) -> Result<(), Failure> {
    let words: Vec<_> = role.iter().map(String::as_str).collect();
    match words[..] {
        ["echo-blocking"] => PingPong::serve(Wait::Blocking),
        ["echo-spinning"] => PingPong::serve(Wait::Spinning),
        ["sink-single"] => OneWay::serve(Calls::Single),
        ["sink-offload"] => OneWay::serve(Calls::Offload),
        ["quic", cipher, threads] => {
            let (cipher, threads) = quic::parse(cipher, threads)?;
            Quic::serve(cipher, threads)
        }
        ["ours", kind, threads] => Ours::serve(ours::Kind::parse(kind)?, quic::threads(threads)?),
        _ => Err(format!("unknown role {role:?}").into()),
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let mut contenders = contenders();
    contenders.retain(|row| chosen(&arguments.only, &row.name()));
    let measures: Vec<_> = Measure::ALL
        .into_iter()
        .filter(|measure| chosen(&arguments.measure, measure.key()))
        .collect();
    let scale = if arguments.quick { 10 } else { 1 };
    let plan = Plan {
        rounds: arguments.rounds,
        exchanges: 20_000 / scale as usize,
        bytes: (256 << 20) / scale,
        messages: 2_000_000 / scale,
        handshakes: 300 / scale as usize,
    };
    let rounds = plan.rounds;
    let samples = run(&mut contenders, &measures, plan, |round, name| {
        eprintln!("round {}/{rounds}: {name}", round + 1)
    })?;
    let names: Vec<_> = contenders.iter().map(|row| row.name()).collect();
    let rows = table::rows(&names, &samples);
    if arguments.json {
        println!("{}", table::json(&rows, rounds));
    } else {
        println!("{} interleaved rounds, medians [least .. greatest]", rounds);
        print!("{}", table::text(&rows));
        let operations = Operations::measure(2_000);
        println!(
            "\nsingle operations: X25519 {:?}, key generation {:?}, ed25519 to X25519 {:?}",
            operations.exchange, operations.generation, operations.conversion
        );
    }
    Ok(())
}

fn chosen(filters: &[String], name: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}
