//! Simulators side by side: one toy machine and one workload in our world, under turmoil-net, turmoil and madsim, in one run.
//!
//! Standard output is a table in Markdown. Each simulator runs its own way of hosting UDP nodes; links take 10 ms and lose
//! nothing. A cell is the median of the rounds; a round doubles the simulated time until it takes long enough to measure.
//! Invariants: every simulator must have delivered what the workload asks for, or the program fails.
//! Not here: the machine (`toy.rs`).
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use clap::Parser;
use net_io_sim::scenario::Scenario;
use net_io_sim::world::World;
use net_sim_shell::toy::{DELAY, LEN, PERIOD, RECEIVED, Toy, ToyHost};

/// Measure simulators side by side: a toy that pings, in each of them.
#[derive(Debug, Parser)]
#[command(name = "side-by-side")]
struct Cli {
    /// Rounds per cell; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A round takes at least this long, ms.
    #[arg(long, default_value_t = 300)]
    least_ms: u64,
    /// How many nodes.
    #[arg(long, value_delimiter = ',', default_value = "2,11,51")]
    nodes: Vec<u32>,
}

const PORT: u16 = 4_000;
const QUIET: u32 = 1;
const FLOOD: u32 = 50;

/// A simulator: its name, and a run of so many nodes for so many simulated seconds with so many pings per period.
type Simulator = (&'static str, fn(u32, u64, u32));

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.rounds == 0 || cli.nodes.iter().any(|&nodes| nodes < 2) {
        let _ = writeln!(io::stderr(), "side-by-side: at least one round, and at least two nodes");
        return ExitCode::from(3);
    }
    match table(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn simulators() -> Vec<Simulator> {
    vec![
        ("ours (`des`)", ours),
        ("turmoil-net 0.1", under_turmoil_net),
        ("turmoil 0.7", under_turmoil),
        #[cfg(madsim)]
        ("madsim 0.2", under_madsim),
    ]
}

fn table(cli: &Cli) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "| simulator | nodes | 100 pings/s per node: simulated s per s | 5,000 pings/s per node: datagrams per s |"
    )?;
    writeln!(out, "|---|--:|--:|--:|")?;
    for &nodes in &cli.nodes {
        for (name, run) in simulators() {
            let (pace, _) = median(cli, nodes, QUIET, run)?;
            let (_, datagrams) = median(cli, nodes, FLOOD, run)?;
            writeln!(out, "| {name} | {nodes} | {} | {} |", tenths(pace), grouped(datagrams))?;
            out.flush()?;
        }
    }
    Ok(())
}

/// Simulated seconds in tenths, and datagrams, per second: the median of each over the rounds.
fn median(cli: &Cli, nodes: u32, burst: u32, run: fn(u32, u64, u32)) -> io::Result<(u64, u64)> {
    let (mut paces, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..cli.rounds {
        let mut seconds = 1;
        loop {
            let before = RECEIVED.load(Ordering::Relaxed);
            let began = Instant::now();
            run(nodes, seconds, burst);
            let took = began.elapsed();
            let had = RECEIVED.load(Ordering::Relaxed) - before;
            verify(nodes, seconds, burst, had)?;
            if took.as_millis() as u64 >= cli.least_ms {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                paces.push(seconds * 10_000_000 / micros);
                rates.push(u64::try_from(u128::from(had) * 1_000_000 / u128::from(micros)).unwrap_or(u64::MAX));
                break;
            }
            seconds *= 2;
        }
    }
    paces.sort_unstable();
    rates.sort_unstable();
    Ok((paces[cli.rounds / 2], rates[cli.rounds / 2]))
}

/// Simulators may begin and end a few periods apart, and may not leave out more.
fn verify(nodes: u32, seconds: u64, burst: u32, had: u64) -> io::Result<()> {
    let per_period = u64::from(nodes) * u64::from(burst) * 2;
    let owed = per_period * (seconds * 1_000_000_000 / PERIOD);
    if had + 8 * per_period < owed * 98 / 100 || had > owed + 8 * per_period {
        let what = format!("{had} datagrams were delivered among {nodes} nodes in {seconds} s: {owed} are owed");
        return Err(io::Error::other(what));
    }
    Ok(())
}

/// Whole where there are enough of them to tell apart.
fn tenths(value: u64) -> String {
    if value >= 1_000 {
        grouped(value / 10)
    } else {
        format!("{}.{}", value / 10, value % 10)
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn ip(node: u32) -> IpAddr {
    Ipv4Addr::new(10, 1, (node >> 8) as u8, node as u8).into()
}

fn next_of(node: u32, nodes: u32) -> SocketAddr {
    (ip((node + 1) % nodes), PORT).into()
}

fn ours(nodes: u32, seconds: u64, burst: u32) {
    let list: Vec<String> = (0..nodes).map(|node| format!("{{ id = \"n{node}\" }}")).collect();
    // A session that nobody answers keeps the run going for its whole duration.
    let text = format!(
        "schema = 1\nname = \"toy\"\nduration = \"{seconds}s\"\n[topology]\nnodes = [ {} ]\n\
         default_link = {{ delay = \"{}ns\" }}\n[[workload]]\nkind = \"connect\"\nfrom = \"n0\"\nto = \"n1\"\n",
        list.join(", "),
        DELAY,
    );
    let scenario = Scenario::resolved("toy.toml", &text, 1).expect("it was written for this");
    let outcome = if burst == QUIET {
        World::<ToyHost<QUIET>>::new(scenario, 1).run()
    } else {
        World::<ToyHost<FLOOD>>::new(scenario, 1).run()
    };
    assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
}

/// Both, on one task; the first is polled first.
async fn both(first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut two) = (false, false);
    poll_fn(move |cx| {
        one = one || first.as_mut().poll(cx).is_ready();
        two = two || second.as_mut().poll(cx).is_ready();
        if one && two { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The toy behind a socket of tokio's shape; a macro, because the shapes share no trait.
macro_rules! node {
    ($socket:ty, $node:expr, $nodes:expr, $burst:expr) => {{
        let (node, nodes, burst): (u32, u32, u32) = ($node, $nodes, $burst);
        async move {
            let socket = <$socket>::bind((Ipv4Addr::UNSPECIFIED, PORT))
                .await
                .expect("a free address");
            let toy = Rc::new(RefCell::new(Toy::new(0, burst)));
            let began = tokio::time::Instant::now();
            let pinging = async {
                loop {
                    let at = toy.borrow().deadline();
                    tokio::time::sleep_until(began + Duration::from_nanos(at)).await;
                    let due = toy.borrow_mut().due(at);
                    for _ in 0..due {
                        let ping = toy.borrow_mut().ping();
                        socket
                            .send_to(&ping, next_of(node, nodes))
                            .await
                            .expect("the host takes it");
                    }
                }
            };
            let answering = async {
                let mut buf = [0; LEN];
                loop {
                    let (len, from) = socket.recv_from(&mut buf).await.expect("a datagram");
                    let answer = toy.borrow().take(&buf[..len]);
                    if let Some(answer) = answer {
                        socket.send_to(&answer, from).await.expect("the host takes it");
                    }
                }
            };
            both(answering, pinging).await
        }
    }};
}

fn under_turmoil_net(nodes: u32, seconds: u64, burst: u32) {
    use turmoil_net::Latency;
    use turmoil_net::fixture::ClientServer;
    use turmoil_net::shim::tokio::net::UdpSocket;
    let mut fixture = ClientServer::new();
    for node in 1..nodes {
        fixture = fixture.server(ip(node), async move { node!(UdpSocket, node, nodes, burst).await });
    }
    fixture.run(ip(0), async move {
        let _latency = turmoil_net::rule(Latency::fixed(Duration::from_nanos(DELAY)));
        let node = node!(UdpSocket, 0, nodes, burst);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), node).await;
    });
}

fn under_turmoil(nodes: u32, seconds: u64, burst: u32) {
    use turmoil::net::UdpSocket;
    let delay = Duration::from_nanos(DELAY);
    let mut sim = turmoil::Builder::new()
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(Duration::from_secs(seconds * 2 + 10))
        .min_message_latency(delay)
        .max_message_latency(delay)
        .udp_capacity(1 << 20)
        .rng_seed(1)
        .build();
    for node in 1..nodes {
        sim.host(ip(node), move || async move {
            node!(UdpSocket, node, nodes, burst).await;
            Ok(())
        });
    }
    sim.client(ip(0), async move {
        let node = node!(UdpSocket, 0, nodes, burst);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), node).await;
        Ok(())
    });
    sim.run().expect("the workload ends in time");
}

#[cfg(madsim)]
fn under_madsim(nodes: u32, seconds: u64, burst: u32) {
    use std::sync::{Arc, Mutex};

    use madsim::net::UdpSocket;
    const RECEIVERS: usize = 128;
    let mut config = madsim::Config::default();
    let delay = Duration::from_nanos(DELAY);
    config.net.send_latency = delay..delay + Duration::from_nanos(1);
    let runtime = madsim::runtime::Runtime::with_seed_and_config(1, config);
    let serve = move |node: u32| async move {
        let socket = Arc::new(
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))
                .await
                .expect("a free address"),
        );
        let toy = Arc::new(Mutex::new(Toy::new(0, burst)));
        let began = madsim::time::Instant::now();
        // A send or a receive takes a millisecond there, and a receive that is given up loses its datagram: so each
        // datagram leaves on a task of its own, and many tasks receive.
        let send = |socket: &Arc<UdpSocket>, to: SocketAddr, bytes: [u8; LEN]| {
            let socket = Arc::clone(socket);
            madsim::task::spawn(async move { socket.send_to(to, &bytes).await });
        };
        for _ in 0..RECEIVERS {
            let (answers, pings) = (Arc::clone(&socket), Arc::clone(&toy));
            madsim::task::spawn(async move {
                let mut buf = [0; LEN];
                loop {
                    let (len, from) = answers.recv_from(&mut buf).await.expect("a datagram");
                    let answer = pings.lock().expect("no panic under it").take(&buf[..len]);
                    if let Some(answer) = answer {
                        send(&answers, from, answer);
                    }
                }
            });
        }
        loop {
            let at = toy.lock().expect("no panic under it").deadline();
            madsim::time::sleep_until(began + Duration::from_nanos(at)).await;
            let due = toy.lock().expect("no panic under it").due(at);
            for _ in 0..due {
                let ping = toy.lock().expect("no panic under it").ping();
                send(&socket, next_of(node, nodes), ping);
            }
        }
    };
    runtime.block_on(async move {
        for node in 0..nodes {
            let host = madsim::runtime::Handle::current().create_node().ip(ip(node)).build();
            host.spawn(serve(node));
        }
        madsim::time::sleep(Duration::from_secs(seconds)).await;
    });
}
