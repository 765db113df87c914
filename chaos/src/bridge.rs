//! A machine whose process is the `net` command: it is driven like a node process, and its streams are pipes.
//!
//! Where a workload ends, `net listen --keep` runs, or `net recv --keep` where it is one of files; where one begins, `net connect`,
//! `net ping` or `net send` does. A pipe carries bytes,
//! so each connection begins with a few that name the instance, and messages are told apart by what they must be.
//! Invariants: what is told as delivered was compared byte for byte; the command is in the process group of its machine, so
//! that a signal reaches both.
//! Not here: nodes in a process of this program (`node.rs`), who orders (`run.rs`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use net_io_real::{Ticket, write_network_key};
use net_io_sim::scenario::{Scenario, WorkloadKind};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::files;
use crate::node::{Config, network, tell};
use crate::protocol::{Figures, Flow, OfFiles, Order, Peer, Sent, SessionFigures, Told, entity, flows, hex};
use crate::streams::Half;

/// What a connection begins with; no message does.
const MAGIC: &[u8; 16] = b"net-chaos-stream";
/// [`MAGIC`] and the instance.
const HEADER: usize = MAGIC.len() + 2;
/// Pause before a command that failed is run again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a listener may take to end when it is told to.
const CLOSE: Duration = Duration::from_secs(15);

/// What happens to a machine.
enum Heard {
    Order(Order),
    /// The orders ended: who gave them is gone.
    Abandoned,
    /// A line of a command's standard error, or of a ping's standard output.
    Said(Value),
    /// The listener wrote to its standard output.
    Bytes(Vec<u8>),
    /// A workload's command ended.
    Ended(Ended),
    /// The listener ended.
    Closed(String),
    /// `net recv` ended, with the last error that it told.
    NoRoom(String),
    /// `net send` ended.
    Sent {
        workload: usize,
        sent: Option<Sent>,
        code: String,
    },
}

/// A command that ended.
struct Ended {
    workload: usize,
    instance: Option<u16>,
    good: bool,
}

/// Serves until told to end.
///
/// # Errors
/// A sentence: what is wrong with the scenario, the orders or the command.
pub async fn run(config: Config, net: PathBuf) -> Result<(), String> {
    let file = config.scenario.display().to_string();
    let text = std::fs::read_to_string(&config.scenario).map_err(|error| format!("{file}: {error}"))?;
    let scenario = Scenario::parse(&file, &text).map_err(|error| error.to_string())?;
    let (hears, heard) = unbounded_channel();
    tokio::spawn(orders(hears.clone()));
    Bridge::new(config, net, scenario, hears)?.serve(heard).await
}

async fn orders(hears: UnboundedSender<Heard>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(order) = serde_json::from_str(&line) {
            let _ = hears.send(Heard::Order(order));
        }
    }
    let _ = hears.send(Heard::Abandoned);
}

struct Bridge {
    config: Config,
    net: PathBuf,
    scenario: Scenario,
    flows: Vec<Flow>,
    hears: UnboundedSender<Heard>,
    peers: Vec<Peer>,
    /// The listener, where this machine is one.
    listener: Option<Child>,
    ready: bool,
    /// What the listener wrote and nobody has read yet.
    buffer: Vec<u8>,
    instances: BTreeMap<u16, Half>,
    frozen: Vec<u16>,
    /// The instance that is being read, and its next message.
    reading: Option<(u16, u64)>,
    /// Steps left of every workload.
    left: BTreeMap<usize, u64>,
    sessions: Vec<SessionFigures>,
    /// Whether the listener is `net recv`.
    receives: bool,
    /// Whether a `net send` runs.
    sending: bool,
}

impl Bridge {
    fn new(config: Config, net: PathBuf, scenario: Scenario, hears: UnboundedSender<Heard>) -> Result<Self, String> {
        let flows = flows(&scenario, config.seed);
        let (mut begins, mut ends) = (0, false);
        let (mut files, mut streams) = (false, false);
        for workload in &scenario.workloads {
            begins += u32::from(workload.from == config.node);
            ends |= workload.to == config.node;
            let can = match &workload.kind {
                WorkloadKind::Stream(stream) => stream.streams == 1 && !stream.both,
                WorkloadKind::Echo { .. } | WorkloadKind::File(_) => true,
                WorkloadKind::Connect | WorkloadKind::Rekey { .. } | WorkloadKind::Close => false,
            };
            if !can {
                return Err(format!(
                    "{}: the `net` command carries one stream one way, echoes, or files",
                    workload.id
                ));
            }
            if workload.to == config.node {
                files |= workload.transfers_files();
                streams |= !workload.transfers_files();
            }
        }
        if files && streams {
            return Err("a machine that runs `net recv` receives files and nothing else".to_owned());
        }
        if begins > 1 || (begins > 0 && ends) {
            return Err("a machine that runs the `net` command listens, or begins one workload".to_owned());
        }
        Ok(Self {
            config,
            net,
            scenario,
            flows,
            hears,
            peers: Vec::new(),
            listener: None,
            ready: false,
            buffer: Vec::new(),
            instances: BTreeMap::new(),
            frozen: Vec::new(),
            reading: None,
            left: BTreeMap::new(),
            sessions: Vec::new(),
            receives: files,
            sending: false,
        })
    }

    async fn serve(mut self, mut heard: UnboundedReceiver<Heard>) -> Result<(), String> {
        while let Some(heard) = heard.recv().await {
            match heard {
                Heard::Order(Order::Quit) => return self.close().await,
                Heard::Order(order) => self.obey(order)?,
                Heard::Abandoned => return Err("the orders ended before the order to end".to_owned()),
                Heard::Said(value) => self.said(&value),
                Heard::Bytes(bytes) => {
                    self.buffer.extend_from_slice(&bytes);
                    self.read();
                }
                Heard::Ended(ended) => self.ended(&ended),
                Heard::Closed(how) => return Err(format!("net listen ended by itself: {how}")),
                // It ends when its disk is full, and says that it is to be run again.
                Heard::NoRoom(code) if code == "E-DISK-FULL" => self.receive_again(),
                Heard::NoRoom(code) => return Err(format!("net recv ended by itself: {code}")),
                Heard::Sent { workload, sent, code } => self.has_sent(workload, sent, code),
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Go { peers } => {
                self.peers = peers;
                if self
                    .scenario
                    .workloads
                    .iter()
                    .any(|workload| workload.to == self.config.node)
                {
                    if self.receives {
                        self.receive()?;
                    } else {
                        self.listen()?;
                    }
                } else {
                    tell(&Told::Ready { address: None });
                }
            }
            Order::Moved { node, address } => {
                if let Some(peer) = self.peers.get_mut(node as usize) {
                    peer.address = Some(address);
                }
            }
            Order::Begin { workload, left } => {
                self.left.insert(workload, left);
                self.begin(workload);
            }
            Order::Instance {
                instance, flow, base, ..
            } => {
                let Some(known) = self.flows.get(flow) else {
                    return Ok(());
                };
                let half = Half::new(known, instance, 0, base, Instant::now());
                let opens = known.from == self.config.node;
                let workload = known.workload;
                self.instances.insert(instance, half.clone());
                if opens {
                    self.connect(workload, half)?;
                } else {
                    self.read();
                }
            }
            Order::Freeze { instance } => {
                self.frozen.push(instance);
                tell(&Told::Frozen { instance });
            }
            Order::Rebind => tell(&violation("process", "the `net` command does not rebind".to_owned())),
            // What it runs keeps no mesh.
            Order::Survey => {}
            Order::Report => tell(&Told::Report(Figures {
                sessions: self.sessions.clone(),
                ..Figures::default()
            })),
            // It is seen before this is called.
            Order::Quit => {}
        }
        Ok(())
    }

    /// The command with what every form of it is told.
    fn command(&self, args: &[OsString]) -> Result<Command, String> {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(this);
        command.arg("tied").arg("--").arg(&self.net).args(args);
        let idle = self.scenario.config.idle_timeout.as_millis() as f64 / 1e3;
        command.arg("--idle-timeout").arg(idle.to_string());
        let key = self.config.state.with_extension("key");
        if self.scenario.closed {
            if !key.exists() {
                write_network_key(&key, &network(&self.scenario, self.config.seed))
                    .map_err(|error| error.to_string())?;
            }
            command.arg("--network-key").arg(&key);
        }
        command.env_remove("NET_LOG").env_remove("RUST_LOG");
        command.env("XDG_STATE_HOME", files::home(&self.config.state));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        Ok(command)
    }

    fn listen(&mut self) -> Result<(), String> {
        let mut args: Vec<OsString> = ["listen", "--keep", "-o", "jsonl", "--bind", "127.0.0.1", "--id"]
            .map(OsString::from)
            .into();
        args.push(self.config.state.clone().into());
        // It has nothing to say to its peers: they end when they have been heard.
        let mut command = self.command(&args)?;
        let mut child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut stdout = child.stdout.take().ok_or("no pipe")?;
        lines(child.stderr.take().ok_or("no pipe")?, self.hears.clone());
        let hears = self.hears.clone();
        tokio::spawn(async move {
            let mut bytes = vec![0; 65_536];
            while let Ok(len @ 1..) = stdout.read(&mut bytes).await {
                let _ = hears.send(Heard::Bytes(bytes[..len].to_vec()));
            }
            let _ = hears.send(Heard::Closed("its output ended".to_owned()));
        });
        self.listener = Some(child);
        Ok(())
    }

    fn receive(&mut self) -> Result<(), String> {
        let mut args: Vec<OsString> = vec!["recv".into(), files::receives(&self.config.state).into()];
        args.extend(["--keep", "-o", "jsonl", "--bind", "127.0.0.1", "--id"].map(OsString::from));
        args.push(self.config.state.clone().into());
        let mut command = self.command(&args)?;
        let mut child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        lines(child.stdout.take().ok_or("no pipe")?, self.hears.clone());
        let stderr = child.stderr.take().ok_or("no pipe")?;
        let hears = self.hears.clone();
        tokio::spawn(async move {
            let code = narrate(stderr, &hears).await;
            let _ = hears.send(Heard::NoRoom(code));
        });
        self.ready = false;
        self.listener = Some(child);
        Ok(())
    }

    /// Starts `net recv` again a little later, as its last words say.
    fn receive_again(&self) {
        let hears = self.hears.clone();
        let peers = self.peers.clone();
        tokio::spawn(async move {
            sleep(AGAIN).await;
            let _ = hears.send(Heard::Order(Order::Go { peers }));
        });
    }

    fn send(&mut self, workload: usize) -> Result<(), String> {
        let source = files::source(&self.config.state, workload);
        let entries: Result<Vec<_>, _> = std::fs::read_dir(&source)
            .and_then(Iterator::collect)
            .map_err(|error| format!("{}: {error}", source.display()));
        let mut args: Vec<OsString> = ["send", "-o", "jsonl", "--timeout"].map(OsString::from).into();
        args.push(self.connect_timeout());
        let mut what: Vec<OsString> = entries?.into_iter().map(|entry| entry.path().into()).collect();
        what.sort();
        args.extend(what);
        args.push(self.ticket(workload)?);
        let mut child = self.command(&args)?.spawn().map_err(|error| error.to_string())?;
        // Its socket is a new one.
        tell(&Told::Ready { address: None });
        let stdout = child.stdout.take().ok_or("no pipe")?;
        let stderr = child.stderr.take().ok_or("no pipe")?;
        let hears = self.hears.clone();
        self.sending = true;
        tokio::spawn(async move {
            let (sent, code) = tokio::join!(result(stdout), narrate(stderr, &hears));
            let _ = child.wait().await;
            let _ = hears.send(Heard::Sent { workload, sent, code });
        });
        Ok(())
    }

    /// `net send` ended: it settled every entry, or is run again.
    fn has_sent(&mut self, workload: usize, sent: Option<Sent>, code: String) {
        self.sending = false;
        match sent {
            Some(sent) => tell_of(OfFiles::Sent { workload, sent }),
            None => {
                tell_of(OfFiles::Failed { code });
                self.again(workload);
            }
        }
    }

    /// A machine that begins a workload: streams wait to be named, echoes begin at once.
    fn begin(&mut self, workload: usize) {
        let left = self.left.get(&workload).copied().unwrap_or(0);
        match self.scenario.workloads[workload].kind {
            WorkloadKind::Stream(_) => {
                if let Some(flow) = self.flows.iter().position(|flow| flow.workload == workload) {
                    tell(&Told::Want { flow });
                }
            }
            WorkloadKind::Echo { every, .. } if left > 0 => {
                if let Err(why) = self.ping(workload, every, left) {
                    tell(&violation("process", why));
                }
            }
            WorkloadKind::File(_) if !self.sending => {
                if let Err(why) = self.send(workload) {
                    tell(&violation("process", why));
                }
            }
            WorkloadKind::File(_)
            | WorkloadKind::Echo { .. }
            | WorkloadKind::Connect
            | WorkloadKind::Rekey { .. }
            | WorkloadKind::Close => {}
        }
    }

    fn ticket(&self, workload: usize) -> Result<OsString, String> {
        let to = self.scenario.workloads[workload].to as usize;
        let peer = self.peers.get(to).ok_or("no such machine")?;
        let entity = entity(&peer.entity).ok_or("an identity that is none")?;
        let addresses: Vec<SocketAddr> = peer.address.into_iter().collect();
        let fingerprint = network(&self.scenario, self.config.seed).fingerprint();
        Ok(Ticket::new(entity, fingerprint, addresses).to_string().into())
    }

    fn connect_timeout(&self) -> OsString {
        let ms = self.scenario.config.connect_timeout.as_millis();
        (ms as f64 / 1e3).to_string().into()
    }

    fn connect(&mut self, workload: usize, half: Half) -> Result<(), String> {
        let args = [
            "connect".into(),
            self.ticket(workload)?,
            "-o".into(),
            "jsonl".into(),
            "--timeout".into(),
            self.connect_timeout(),
        ];
        let mut child = self.command(&args)?.spawn().map_err(|error| error.to_string())?;
        // Its socket is a new one.
        tell(&Told::Ready { address: None });
        let mut stdin = child.stdin.take().ok_or("no pipe")?;
        lines(child.stderr.take().ok_or("no pipe")?, self.hears.clone());
        let (hears, instance) = (self.hears.clone(), half.instance);
        tokio::spawn(async move {
            let feed = async {
                // A command that has ended reads no more.
                let _ = feed(&half, &mut stdin).await;
                drop(stdin);
                std::future::pending::<()>().await;
            };
            let good = tokio::select! {
                biased;
                status = child.wait() => status.is_ok_and(|status| status.success()),
                () = feed => false,
            };
            let instance = Some(instance);
            let _ = hears.send(Heard::Ended(Ended {
                workload,
                instance,
                good,
            }));
        });
        Ok(())
    }

    fn ping(&mut self, workload: usize, every: u64, left: u64) -> Result<(), String> {
        let seconds = (every as f64 / 1e9).max(0.001).to_string();
        let args = [
            "ping".into(),
            self.ticket(workload)?,
            "-o".into(),
            "jsonl".into(),
            "-c".into(),
            left.to_string().into(),
            "--interval".into(),
            seconds.into(),
            "--timeout".into(),
            self.connect_timeout(),
        ];
        let mut child = self.command(&args)?.spawn().map_err(|error| error.to_string())?;
        // Its socket is a new one.
        tell(&Told::Ready { address: None });
        lines(child.stdout.take().ok_or("no pipe")?, self.hears.clone());
        lines(child.stderr.take().ok_or("no pipe")?, self.hears.clone());
        let hears = self.hears.clone();
        tokio::spawn(async move {
            let good = child.wait().await.is_ok_and(|status| status.success());
            let instance = None;
            let _ = hears.send(Heard::Ended(Ended {
                workload,
                instance,
                good,
            }));
        });
        Ok(())
    }

    fn ended(&mut self, ended: &Ended) {
        match ended.instance {
            Some(instance) if ended.good => tell(&Told::Flushed { instance, way: 0 }),
            Some(instance) => {
                tell(&Told::Lost {
                    instance,
                    why: "net connect ended".to_owned(),
                });
                self.again(ended.workload);
            }
            None => {
                if !ended.good && self.left.get(&ended.workload).is_some_and(|left| *left > 0) {
                    self.again(ended.workload);
                }
            }
        }
    }

    /// Takes a workload up again a little later.
    fn again(&self, workload: usize) {
        let (hears, left) = (self.hears.clone(), self.left.get(&workload).copied().unwrap_or(0));
        tokio::spawn(async move {
            sleep(AGAIN).await;
            let _ = hears.send(Heard::Order(Order::Begin { workload, left }));
        });
    }

    /// A line of a command.
    fn said(&mut self, value: &Value) {
        let number = |key: &str| value[key].as_u64().unwrap_or(0);
        match value["kind"].as_str().unwrap_or_default() {
            "listening" | "receiving" if !self.ready => {
                let address = value["address"].as_str().and_then(|text| text.parse().ok());
                self.ready = address.is_some();
                tell(&Told::Ready { address });
            }
            "connected" => {
                tell(&Told::Connected {
                    peer: self.config.node,
                    took: None,
                });
                if self.sending {
                    tell_of(OfFiles::Attempt);
                }
            }
            "resumed" if self.sending => tell_of(OfFiles::Continued),
            "saved" => tell_of(OfFiles::Saved),
            "echo" => {
                if let Some((&workload, left)) = self.left.iter_mut().find(|(_, left)| **left > 0) {
                    *left -= 1;
                    tell(&Told::Step { workload });
                }
                if let Some(us) = value["rtt_us"].as_u64() {
                    tell(&Told::Echo { rtt: us * 1_000 });
                }
            }
            "ping" => tell(&Told::Connected {
                peer: self.config.node,
                took: Some(number("connected_in_us") * 1_000),
            }),
            "done" => self.sessions.push(SessionFigures {
                rtt: number("rtt_us") * 1_000,
                sent: number("datagrams_sent"),
                received: number("datagrams_received"),
                lost: number("datagrams_lost"),
                moves: number("address_changes"),
            }),
            _ => {}
        }
    }

    /// Reads whole messages out of what the listener wrote.
    fn read(&mut self) {
        loop {
            let Some((instance, number)) = self.reading else {
                match self.header() {
                    Some(instance) => self.reading = Some((instance, 0)),
                    None => return,
                }
                continue;
            };
            let Some(half) = self.instances.get(&instance) else {
                return;
            };
            let over = number >= half.expected.count;
            let message = if over { Vec::new() } else { half.message(number) };
            let same = self.buffer.iter().zip(&message).take_while(|(a, b)| a == b).count();
            if !over && same == message.len() {
                self.buffer.drain(..same);
                self.reading = Some((instance, number + 1));
                self.deliver(instance, number, &message);
            } else if same == self.buffer.len() {
                return;
            } else if let Some(at) = self.buffer.windows(MAGIC.len()).position(|window| window == MAGIC) {
                // The connection before broke off in the middle of a message.
                if at > message.len() {
                    return tell(&violation("stream-order", format!("{at} bytes that were not sent so")));
                }
                self.buffer.drain(..at);
                self.reading = None;
            } else if self.buffer.len() > message.len() + HEADER {
                let what = format!("instance {instance}: message {number} differs from what was sent");
                return tell(&violation("stream-order", what));
            } else {
                return;
            }
        }
    }

    /// The instance that the next bytes name, if they do and it is known.
    fn header(&mut self) -> Option<u16> {
        let head = self.buffer.get(..HEADER)?;
        if !head.starts_with(MAGIC) {
            tell(&violation(
                "stream-order",
                "a connection does not begin as it must".to_owned(),
            ));
            self.buffer.clear();
            return None;
        }
        let instance = u16::from_le_bytes([head[MAGIC.len()], head[MAGIC.len() + 1]]);
        self.instances.contains_key(&instance).then(|| {
            self.buffer.drain(..HEADER);
            instance
        })
    }

    fn deliver(&self, instance: u16, number: u64, message: &[u8]) {
        if self.frozen.contains(&instance) {
            return;
        }
        tell(&Told::Delivered {
            instance,
            way: 0,
            number,
            hash: hex(blake3::hash(message).as_bytes()),
        });
        if self
            .instances
            .get(&instance)
            .is_some_and(|half| number + 1 == half.expected.count)
        {
            tell(&Told::Finished { instance, way: 0 });
        }
    }

    /// Asks the listener to end, as an operator would, and says whether it did so in good order.
    async fn close(&mut self) -> Result<(), String> {
        let Some(mut child) = self.listener.take() else {
            return Ok(());
        };
        let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|error| error.to_string())?;
        }
        match timeout(CLOSE, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("net listen was told to end and ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("net listen was told to end and did not".to_owned()),
        }
    }
}

/// Feeds a connection: its header, then every message at its pace.
async fn feed(half: &Half, stdin: &mut ChildStdin) -> std::io::Result<()> {
    let begun = Instant::now();
    stdin.write_all(MAGIC).await?;
    stdin.write_all(&half.instance.to_le_bytes()).await?;
    for number in 0..half.expected.count {
        if half.stream.rate_milli > 0 {
            let after = u128::from(number) * 1_000_000_000_000 / u128::from(half.stream.rate_milli);
            sleep_until(begun + Duration::from_nanos(u64::try_from(after).unwrap_or(u64::MAX))).await;
        }
        stdin.write_all(&half.message(number)).await?;
    }
    stdin.flush().await
}

/// What `net send` says in the end, where it comes to an end.
async fn result(from: impl tokio::io::AsyncRead + Send + Unpin) -> Option<Sent> {
    let mut lines = BufReader::new(from).lines();
    let mut sent = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let value = serde_json::from_str::<Value>(&line).unwrap_or_default();
        if value["kind"] == "sent" {
            sent = serde_json::from_value(value).ok();
        }
    }
    sent
}

/// Hears the JSON lines of a command until it ends; answers the code of the last error.
async fn narrate(from: impl tokio::io::AsyncRead + Send + Unpin, hears: &UnboundedSender<Heard>) -> String {
    let mut lines = BufReader::new(from).lines();
    let mut code = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(value) = serde_json::from_str::<Value>(&line) else {
            eprintln!("{line}");
            continue;
        };
        if value["kind"] == "error" {
            eprintln!("{line}");
            value["code"].as_str().unwrap_or_default().clone_into(&mut code);
        }
        let _ = hears.send(Heard::Said(value));
    }
    code
}

/// Hears the JSON lines of a command; others are passed on to standard error.
fn lines(from: impl tokio::io::AsyncRead + Send + Unpin + 'static, hears: UnboundedSender<Heard>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str::<Value>(&line) {
                Ok(value) => {
                    if value["kind"] == "error" {
                        eprintln!("{line}");
                    }
                    let _ = hears.send(Heard::Said(value));
                }
                Err(_) => eprintln!("{line}"),
            }
        }
    });
}

fn tell_of(what: OfFiles) {
    tell(&Told::Files { what });
}

fn violation(checker: &str, what: String) -> Told {
    Told::Violation {
        checker: checker.to_owned(),
        what,
    }
}
