//! Seven nodes in a line, then in a ring: a stream is published across them while a relay is killed and the ring is cut in two.
//!
//! | file | role |
//! |---|---|
//! | `nodes.rs` | the processes and the links between them |
//! | `stream.rs` | what is published, and what a subscriber makes of it |
//! | `drawing.rs` | the mesh as its nodes tell it |
//!
//! Invariants: which relay is killed follows from the way that the nodes say is in use; times are taken from the instant at which
//! something was done to the first line that was published after it. Not here: what it proves (`report.rs`).

mod drawing;
mod nodes;
mod stream;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::child::Child;
use super::say;
use crate::error::{Code, Failure};
use crate::output::Out;
use crate::signals::Signals;
use drawing::{NODES, Picture};
use nodes::Mesh;
use stream::{Judge, Text};

pub use drawing::way;
pub use stream::Faults;

/// Where the stream begins, and where it ends: at the far end of the line and in the middle.
const FROM: usize = 0;
const MIDDLE: usize = 3;
const END: usize = NODES - 1;
/// The links whose loss cuts the ring in two: {1, 2, 3} and {4, 5, 6, 7}.
const CUT: [(usize, usize); 2] = [(2, 3), (6, 0)];
/// Between two lines.
const PACE: Duration = Duration::from_millis(4);
/// How long the stream runs undisturbed, and how long the ring is in two.
const CALM: Duration = Duration::from_secs(1);
const APART: Duration = Duration::from_secs(2);
/// Lines that are published arrive within this time, or the step has failed.
const ARRIVAL_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked what has arrived.
const LOOK: Duration = Duration::from_millis(2);
/// So much of the file is read for lines.
const MOST: u64 = 4 << 20;

/// What came of it.
#[derive(Serialize)]
pub struct Shown {
    pub lines: u64,
    /// At the middle of the line, and at its end.
    pub subscribers: [Heard; 2],
    /// Nodes, counted from 1, from the publisher to the end of the line.
    pub line: Vec<usize>,
    /// From the publisher to the middle of the ring: before the kill, and after it.
    pub before: Vec<usize>,
    pub after: Vec<usize>,
    /// The relay that was killed.
    pub killed: usize,
    /// Datagrams that its link to the middle passed in the second before, and that the middle's other link did.
    pub carried: u64,
    pub idle: u64,
    /// From the kill to the first line published after it.
    pub rerouted_ms: f64,
    /// From the healing to the first line published after it, at the later subscriber.
    pub healed_ms: f64,
    /// Whether the publisher's side said, while the ring was in two, that the other side was not reached, and nothing arrived there.
    pub parted: bool,
    pub seconds: f64,
}

/// What one subscriber got.
#[derive(Serialize)]
pub struct Heard {
    pub node: usize,
    pub lines: u64,
    #[serde(flatten)]
    pub faults: Faults,
}

/// Runs it with lines of `path`.
pub async fn run(path: &Path, signals: &mut Signals, out: Out) -> Result<Shown, Failure> {
    signals.or(Box::pin(show(path, out))).await?
}

async fn show(path: &Path, out: Out) -> Result<Shown, Failure> {
    let text = text(path).await?;
    let home = tempfile::tempdir().map_err(|error| Failure::stdio("make a temporary directory", &error))?;
    let started = Instant::now();
    introduce(out);
    let mut mesh = Mesh::start(home.path()).await?;
    let line = in_a_line(&mut mesh, out).await?;
    let mut subscribers = [
        Subscriber::start(&mesh, MIDDLE, &text, home.path()).await?,
        Subscriber::start(&mesh, END, &text, home.path()).await?,
    ];
    let publisher = Publisher::start(&mesh, &text, home.path())?;
    tokio::time::sleep(CALM).await;
    say(out, format!("   {} lines published so far", publisher.lines()));

    let before = in_a_ring(&mut mesh, out).await?;
    let killed = last_relay(&before)?;
    let (carried, idle) = load(&mesh, killed).await;
    let (after, rerouted) = kill(&mut mesh, killed, (&publisher, &subscribers[0]), out).await?;
    mesh.restart(killed).await?;
    mesh.until("the killed node is back", Picture::whole).await?;
    say(out, format!("   {} is back", killed + 1));
    let (parted, healed) = part(&mesh, &publisher, &subscribers, out).await?;
    tokio::time::sleep(CALM).await;

    let lines = publisher.end().await?;
    for subscriber in &mut subscribers {
        subscriber.until(|judge| judge.count() >= lines).await;
        subscriber.end().await?;
    }
    Ok(Shown {
        lines,
        subscribers: subscribers.map(|subscriber| subscriber.heard(lines)),
        line: shown(&line),
        before: shown(&before),
        after: shown(&after),
        killed: killed + 1,
        carried,
        idle,
        rerouted_ms: rerouted,
        healed_ms: healed,
        parted,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn introduce(out: Out) {
    say(
        out,
        format!(
            "\
1. The mesh: seven processes (net up) in a closed network, each joined with the next through a proxy that
   delays 1-2 ms. Heartbeats every 100 ms, pingwaves every second. 1 publishes {} lines a second (net pub),
   4 and 7 subscribe (net sub). What is drawn the nodes say (net peers, net routes): === is in use, x is down.",
            1_000 / PACE.as_millis()
        ),
    );
}

/// The beginning of the file, as lines.
async fn text(path: &Path) -> Result<Text, Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    file.take(MOST).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.is_empty() {
        let message = format!("{} is empty: there is nothing to publish", path.display());
        return Err(Failure::new(Code::Usage, message));
    }
    Ok(Text::new(bytes))
}

/// Joins the nodes in a line. Answers the way from its one end to the other.
async fn in_a_line(mesh: &mut Mesh, out: Out) -> Result<Vec<usize>, Failure> {
    for node in 0..END {
        mesh.link(node, node + 1).await?;
    }
    let reached = |picture: &Picture| picture.whole() && (0..END).all(|node| picture.way(node, END).is_some());
    let picture = mesh.until("the ends of the line reach each other", reached).await?;
    let line = picture.way(FROM, END).unwrap_or_default();
    draw("a line", &picture, &[(FROM, END)], out);
    Ok(line)
}

/// Closes the line to a ring. Answers the way to its middle.
async fn in_a_ring(mesh: &mut Mesh, out: Out) -> Result<Vec<usize>, Failure> {
    mesh.link(END, FROM).await?;
    let closed = |picture: &Picture| {
        let direct = picture.way(FROM, END).is_some_and(|way| way.len() == 2);
        picture.whole() && direct && picture.way(FROM, MIDDLE).is_some()
    };
    let picture = mesh.until("the ring is closed", closed).await?;
    draw("a ring", &picture, &[(FROM, MIDDLE), (FROM, END)], out);
    Ok(picture.way(FROM, MIDDLE).unwrap_or_default())
}

/// The relay before the end of a way.
fn last_relay(way: &[usize]) -> Result<usize, Failure> {
    match way {
        [_, .., relay, _] => Ok(*relay),
        _ => {
            let message = format!("the way to node {} leads over no relay", MIDDLE + 1);
            Err(Failure::new(Code::Unproved, message))
        }
    }
}

/// Datagrams that the link between a neighbour of the middle and the middle passes in a while, and that the middle's other link
/// does.
async fn load(mesh: &Mesh, neighbour: usize) -> (u64, u64) {
    let other = if neighbour < MIDDLE { MIDDLE + 1 } else { MIDDLE - 1 };
    let passed = || (mesh.passed(neighbour, MIDDLE), mesh.passed(other, MIDDLE));
    let before = passed();
    tokio::time::sleep(CALM).await;
    let after = passed();
    (after.0 - before.0, after.1 - before.1)
}

/// Kills a relay. Answers the way that is taken then, and the milliseconds until the stream went on.
async fn kill(
    mesh: &mut Mesh,
    killed: usize,
    (publisher, subscriber): (&Publisher, &Subscriber),
    out: Out,
) -> Result<(Vec<usize>, f64), Failure> {
    let (at, published) = (Instant::now(), publisher.lines());
    mesh.kill(killed).await?;
    let rerouted = subscriber.goes_on(at, published).await?;
    let around = |picture: &Picture| {
        picture
            .way(FROM, MIDDLE)
            .is_some_and(|way| way.len() > 2 && !way.contains(&killed))
    };
    let picture = mesh.until("there is a way around the killed relay", around).await?;
    draw(
        &format!("{} was killed -9", killed + 1),
        &picture,
        &[(FROM, MIDDLE), (FROM, END)],
        out,
    );
    say(
        out,
        format!("   4 had the first line published after the kill {rerouted:.0} ms after it"),
    );
    Ok((picture.way(FROM, MIDDLE).unwrap_or_default(), rerouted))
}

/// Cuts the ring in two for a while. Answers whether the nodes saw it, and the milliseconds until the stream went on everywhere
/// after it was whole again.
async fn part(
    mesh: &Mesh,
    publisher: &Publisher,
    subscribers: &[Subscriber],
    out: Out,
) -> Result<(bool, f64), Failure> {
    mesh.set(&CUT, false).await;
    let apart = |picture: &Picture| picture.way(FROM, MIDDLE).is_none() && picture.way(FROM, END).is_none();
    let picture = mesh.until("the ring is in two", apart).await?;
    draw("in two", &picture, &[], out);
    let counts = || {
        subscribers
            .iter()
            .map(|subscriber| subscriber.judge().count())
            .sum::<u64>()
    };
    let before = counts();
    tokio::time::sleep(APART).await;
    let parted = apart(&mesh.look().await?) && counts() == before;
    let (healed, published) = (Instant::now(), publisher.lines());
    mesh.set(&CUT, true).await;
    let mut latest: f64 = 0.0;
    for subscriber in subscribers {
        latest = latest.max(subscriber.goes_on(healed, published).await?);
    }
    let picture = mesh.until("the ring is whole", Picture::whole).await?;
    draw("whole again", &picture, &[(FROM, MIDDLE), (FROM, END)], out);
    say(
        out,
        format!("   4 and 7 had the first lines published after the healing {latest:.0} ms after it"),
    );
    Ok((parted, latest))
}

/// Numbers as they are shown.
fn shown(nodes: &[usize]) -> Vec<usize> {
    nodes.iter().map(|node| node + 1).collect()
}

fn draw(title: &str, picture: &Picture, ways: &[(usize, usize)], out: Out) {
    let ways: Vec<Vec<usize>> = ways.iter().filter_map(|&(from, to)| picture.way(from, to)).collect();
    let told: Vec<String> = ways.iter().map(|nodes| way(&shown(nodes))).collect();
    let told = if told.is_empty() {
        "1 reaches neither 4 nor 7".to_owned()
    } else {
        told.join(", ")
    };
    say(
        out,
        format!("\n   {title:<16} {}\n   {:<16} {told}", picture.drawn(&ways), ""),
    );
}

/// `net sub` at a node, and what it printed.
struct Subscriber {
    node: usize,
    judge: Arc<Mutex<Judge>>,
    process: Child,
    reading: JoinHandle<()>,
}

impl Subscriber {
    /// Starts it, and waits until everybody else has taken the subscription.
    async fn start(mesh: &Mesh, node: usize, text: &Text, home: &Path) -> Result<Self, Failure> {
        let dir = mesh.dir(node);
        let mut process = Child::start("net sub", &["sub", "demo", "--id", &dir], false, Some(home))?;
        loop {
            let event = process.wait_for("channel").await?;
            if event["what"] == "ready" {
                break;
            }
        }
        process.hush();
        let stdout = process.stdout.take().expect("piped by the child");
        let judge = Arc::new(Mutex::new(Judge::new(text.clone())));
        let reading = tokio::spawn(read(stdout, Arc::clone(&judge)));
        Ok(Self {
            node,
            judge,
            process,
            reading,
        })
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds from `since`, when `published` lines had been, to the first line published after it.
    async fn goes_on(&self, since: Instant, published: u64) -> Result<f64, Failure> {
        if !self.until(|judge| judge.went_on(since, published).is_some()).await {
            let message = format!(
                "node {} got no further line within {} s",
                self.node + 1,
                ARRIVAL_WAIT.as_secs()
            );
            return Err(Failure::new(Code::Unproved, message));
        }
        let took = self.judge().went_on(since, published).unwrap_or_default();
        Ok(took.as_secs_f64() * 1e3)
    }

    /// Waits until it is so; false where it takes too long.
    async fn until(&self, wanted: impl Fn(&Judge) -> bool) -> bool {
        let looking = async {
            while !wanted(&self.judge()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(ARRIVAL_WAIT, looking).await.is_ok()
    }

    /// Ends `net sub`, and reads the last that it printed: a line too many counts as well.
    async fn end(&mut self) -> Result<(), Failure> {
        self.process.kill().await?;
        let _ = tokio::time::timeout(ARRIVAL_WAIT, &mut self.reading).await;
        Ok(())
    }

    fn heard(self, published: u64) -> Heard {
        let judge = self.judge();
        Heard {
            node: self.node + 1,
            lines: judge.count(),
            faults: judge.faults(published),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Judges what is printed until there is no more.
async fn read(stdout: ChildStdout, judge: Arc<Mutex<Judge>>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let now = Instant::now();
        let printed: Value = serde_json::from_str(&line).unwrap_or_default();
        let text = printed["text"].as_str().unwrap_or_default();
        judge.lock().unwrap_or_else(PoisonError::into_inner).hear(now, text);
    }
}

/// `net pub` at the first node, and what it was fed.
struct Publisher {
    process: Child,
    lines: watch::Receiver<u64>,
    enough: watch::Sender<bool>,
    feeding: JoinHandle<()>,
}

impl Publisher {
    fn start(mesh: &Mesh, text: &Text, home: &Path) -> Result<Self, Failure> {
        let dir = mesh.dir(FROM);
        let mut process = Child::start("net pub", &["pub", "demo", "--id", &dir], true, Some(home))?;
        process.hush();
        let stdin = process.stdin.take().expect("piped by the child");
        let (count, lines) = watch::channel(0);
        let (enough, ended) = watch::channel(false);
        let feeding = tokio::spawn(feed(stdin, text.clone(), count, ended));
        Ok(Self {
            process,
            lines,
            enough,
            feeding,
        })
    }

    /// Lines that it was given so far.
    fn lines(&self) -> u64 {
        *self.lines.borrow()
    }

    /// Ends the stream, waits until everybody has it, and answers how many lines it had.
    async fn end(mut self) -> Result<u64, Failure> {
        self.enough.send_replace(true);
        let lines = loop {
            // The sender goes with the feeding, after its last line.
            if self.lines.changed().await.is_err() {
                break self.lines();
            }
        };
        tokio::time::timeout(ARRIVAL_WAIT, self.process.end())
            .await
            .map_err(|_| Failure::new(Code::Unproved, "net pub did not end: not everything was handed over"))??;
        Ok(lines)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

/// Gives `net pub` lines at a steady pace, or as fast as it takes them, until there are enough.
async fn feed(mut stdin: ChildStdin, text: Text, count: watch::Sender<u64>, enough: watch::Receiver<bool>) {
    let mut pace = tokio::time::interval(PACE);
    for number in 0.. {
        pace.tick().await;
        let line = text.line(number) + "\n";
        if *enough.borrow() || stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
        count.send_replace(number + 1);
    }
}
