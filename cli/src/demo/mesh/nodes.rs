//! Seven processes of `net up`, and the links between them.
//!
//! Invariants: every link leads through a proxy of its own, and nodes know no other addresses of each other, so that the links
//! of the demo are all there are; nodes are asked over the control sockets that users ask over.
//! Not here: what is sent over them (`mod.rs`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use net_io_real::Ticket;
use net_io_sim::proxy::{Proxy, ProxyConfig};
use net_sim_model::{Distribution, LinkSpec, Loss};

use super::drawing::{NODES, Picture};
use crate::control::client::{Client, only};
use crate::control::records::{Peers, Routes};
use crate::control::{Answer, Question};
use crate::demo::child::Child;
use crate::demo::transfer::ticket_of;
use crate::error::{Code, Failure};

/// What nodes are configured with: failures are found within half a second.
const CONFIG: &str = "[mesh]\npingwave = 1\nheartbeat = 0.1\n\n[join]\ncached = false\n";
/// How long a link takes, in nanoseconds.
const DELAY: Distribution = Distribution::Uniform {
    low: 1_000_000,
    high: 2_000_000,
};
/// A session comes about within this time, or the step has failed.
const JOIN_WAIT: Duration = Duration::from_secs(10);
/// What the nodes say becomes as wanted within this time, or the step has failed.
const SETTLE_WAIT: Duration = Duration::from_secs(30);
/// How often they are asked.
const ASK: Duration = Duration::from_millis(20);

struct Node {
    dir: PathBuf,
    id: String,
    ticket: Ticket,
    /// None while it is dead.
    process: Option<Child>,
}

/// A link: who joined whom, and the proxy between.
struct Cable {
    ends: (usize, usize),
    proxy: Proxy,
}

/// The processes and their links.
pub struct Mesh {
    home: PathBuf,
    nodes: Vec<Node>,
    cables: Vec<Cable>,
}

impl Mesh {
    /// Starts the nodes, which know nothing of each other, in folders under `home`.
    pub async fn start(home: &Path) -> Result<Self, Failure> {
        let mut mesh = Self {
            home: home.to_path_buf(),
            nodes: Vec::with_capacity(NODES),
            cables: Vec::new(),
        };
        let key = mesh.path("mesh.key");
        Child::start("net key new", &["key", "new", &key], false, Some(home))?
            .end()
            .await?;
        let config = mesh.path("up.toml");
        std::fs::write(&config, CONFIG).map_err(|error| Failure::file("write", Path::new(&config), &error))?;
        for number in 0..NODES {
            let dir = home.join(format!("node-{}", number + 1));
            let (process, id, ticket) = mesh.up(&dir).await?;
            mesh.nodes.push(Node {
                dir,
                id,
                ticket,
                process: Some(process),
            });
        }
        Ok(mesh)
    }

    fn path(&self, name: &str) -> String {
        self.home.join(name).display().to_string()
    }

    async fn up(&self, dir: &Path) -> Result<(Child, String, Ticket), Failure> {
        let (dir, config, key) = (dir.display().to_string(), self.path("up.toml"), self.path("mesh.key"));
        let fixed = ["--bind", "127.0.0.1", "--config", &config, "--network-key", &key];
        let args: Vec<&str> = ["up", "--id", &dir].into_iter().chain(fixed).collect();
        let mut process = Child::start("a node (net up)", &args, false, Some(&self.home))?;
        let told = process.wait_for("up").await?;
        process.hush();
        let id = told["id"].as_str().unwrap_or_default().to_owned();
        Ok((process, id, ticket_of(&told)?))
    }

    /// The state directory of a node, for commands that ask it.
    pub fn dir(&self, node: usize) -> String {
        self.nodes[node].dir.display().to_string()
    }

    /// Makes a link: `from` joins `to`, through a proxy.
    pub async fn link(&mut self, from: usize, to: usize) -> Result<(), Failure> {
        let ticket = &self.nodes[to].ticket;
        let upstream = *ticket
            .addresses
            .first()
            .ok_or_else(|| Failure::new(Code::Address, "the ticket has no address"))?;
        let seed = self.cables.len() as u64;
        let proxy = Proxy::bind(ProxyConfig::loopback(upstream, seed, good()))
            .await
            .map_err(|error| Failure::new(Code::Start, format!("cannot start the proxy: {error}")))?;
        self.cables.push(Cable {
            ends: (from, to),
            proxy,
        });
        self.join(self.cables.len() - 1).await
    }

    /// Has the one end of a link join the other through its proxy.
    async fn join(&self, cable: usize) -> Result<(), Failure> {
        let Cable {
            ends: (from, to),
            proxy,
        } = &self.cables[cable];
        let target = &self.nodes[*to].ticket;
        let through = Ticket::new(target.entity, target.fingerprint, vec![proxy.addr()]);
        let join = Question::Join {
            ticket: through.to_string(),
            timeout_ms: JOIN_WAIT.as_millis() as u64,
        };
        self.ask(*from, &join).await.map(drop)
    }

    async fn ask(&self, node: usize, question: &Question) -> Result<Answer, Failure> {
        let Some(mut client) = Client::to(&self.nodes[node].dir).await? else {
            return Err(Failure::new(
                Code::Unproved,
                format!("node {} does not answer", node + 1),
            ));
        };
        client.ask(question).await
    }

    /// Ends a node as nothing can be ended less gently.
    pub async fn kill(&mut self, node: usize) -> Result<(), Failure> {
        match self.nodes[node].process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts a killed node again, and has it join whom it had joined.
    pub async fn restart(&mut self, node: usize) -> Result<(), Failure> {
        let (process, _, _) = self.up(&self.nodes[node].dir).await?;
        self.nodes[node].process = Some(process);
        for cable in 0..self.cables.len() {
            if self.cables[cable].ends.0 == node {
                self.join(cable).await?;
            }
        }
        Ok(())
    }

    /// Cuts links both ways, or mends them.
    pub async fn set(&self, links: &[(usize, usize)], passes: bool) {
        let link = || if passes { good() } else { cut() };
        for cable in self.cables.iter().filter(|cable| links.contains(&cable.ends)) {
            cable.proxy.set_links(link(), link()).await;
        }
    }

    /// Datagrams that a link has passed so far, both ways.
    pub fn passed(&self, a: usize, b: usize) -> u64 {
        let between = |cable: &&Cable| cable.ends == (a, b) || cable.ends == (b, a);
        let links = self.cables.iter().filter(between);
        links.map(|cable| cable.proxy.stats().passed()).sum()
    }

    /// What the nodes say now.
    pub async fn look(&self) -> Result<Picture, Failure> {
        let mut picture = Picture::default();
        let mut hears: Vec<Vec<usize>> = vec![Vec::new(); NODES];
        for (number, node) in self.nodes.iter().enumerate() {
            if node.process.is_none() {
                continue;
            }
            picture.up[number] = true;
            let Peers { peers } = only!(self.ask(number, &Question::Peers).await?, Peers)?;
            let alive = peers.iter().filter(|peer| peer.state == "alive");
            hears[number] = alive.filter_map(|peer| self.number(&peer.id)).collect();
            let Routes { routes } = only!(self.ask(number, &Question::Routes).await?, Routes)?;
            let used = routes.iter().filter_map(|route| {
                let way = route.ways.iter().find(|way| way.used)?;
                Some((self.number(&route.id)?, self.number(&way.next)?))
            });
            picture.next[number] = used.collect();
        }
        picture.links = self
            .cables
            .iter()
            .map(|cable| {
                let (a, b) = cable.ends;
                ((a.min(b), a.max(b)), hears[a].contains(&b) && hears[b].contains(&a))
            })
            .collect();
        Ok(picture)
    }

    /// What the nodes say once it is as `wanted`.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Picture) -> bool) -> Result<Picture, Failure> {
        let looking = async {
            loop {
                let picture = self.look().await?;
                if wanted(&picture) {
                    return Ok(picture);
                }
                tokio::time::sleep(ASK).await;
            }
        };
        let late = |_| {
            let message = format!("within {} s the nodes did not say that {what}", SETTLE_WAIT.as_secs());
            Failure::new(Code::Unproved, message)
        };
        tokio::time::timeout(SETTLE_WAIT, looking).await.map_err(late)?
    }

    fn number(&self, id: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }
}

/// A link that passes everything after a while.
fn good() -> LinkSpec {
    LinkSpec {
        delay: DELAY,
        ..LinkSpec::clean(0)
    }
}

/// A link that passes nothing.
fn cut() -> LinkSpec {
    LinkSpec {
        loss: Loss::Independent { ppb: 1_000_000_000 },
        ..good()
    }
}
