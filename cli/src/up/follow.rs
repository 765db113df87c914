//! Subscribing to a channel at every node that is known, and those that come to be known: the subscriber's side.
//!
//! Invariants: "ready" is said once every node known at first has answered or failed; a node is asked again whenever the session
//! with it was lost, and what may be missing is said; lines of one node keep their order.
//! Not here: the publisher's side (`channels.rs`), the command that reads (`mesh/subscribe.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net_io_real::{EntityId, Fact, MeshEvent, Node, RecvError, RecvHalf, SendHalf, StreamOptions};
use net_kernel::wire::subprotocol::CHANNEL;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::World;
use super::channels::{Item, LEFT, slow};
use crate::channel::{Message, Name, Refusal, reset};
use crate::control::{Answer, ChannelEvent};
use crate::error::{Code, Failure};
use crate::output::hex;

/// How long a session with a node may take.
const REACH_DEADLINE: Duration = Duration::from_secs(10);
/// How long a node may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The first pause before a node is asked again; doubled each time it fails.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Nodes that one subscription asks.
const MAX_FOLLOWED: usize = 4_096;

/// What goes to the one who reads.
pub enum Deliver {
    /// Something happened.
    Event(ChannelEvent),
    /// A message with a line.
    Line(Arc<str>, Bytes),
    /// To be answered once all before it was written.
    Flush(oneshot::Sender<()>),
}

/// How following a node ended for good.
enum Ended {
    /// It dropped us.
    Dropped(String, String),
    /// Nobody reads any more.
    Unread,
}

/// Follows a channel until nobody reads `out` any more, or somebody has dropped us. Answers why it ended.
pub async fn run(world: Arc<World>, name: Name, out: mpsc::Sender<Deliver>) -> Option<Failure> {
    let mut events = world.node.mesh_events();
    let known = known(&world.node);
    let (first, mut outcomes) = mpsc::channel(known.len().max(1));
    let mut follower = Follower {
        world,
        name,
        out: out.clone(),
        followed: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    if !follower.follow_own() {
        return Some(Failure::new(
            Code::ControlBusy,
            "this node holds as many subscriptions as it may",
        ));
    }
    for peer in known {
        follower.follow(peer, Some(first.clone()));
    }
    drop(first);
    let (mut taken, mut missed, mut ready) = (0, 0, false);
    loop {
        tokio::select! {
            biased;
            () = out.closed() => return None,
            outcome = outcomes.recv(), if !ready => match outcome {
                Some(true) => taken += 1,
                Some(false) => missed += 1,
                None => {
                    ready = true;
                    out.send(Deliver::Event(ChannelEvent::Ready { taken, missed })).await.ok()?;
                }
            },
            event = events.next() => match event? {
                MeshEvent::Fact(Fact::Found { node, .. } | Fact::Recovered(node)) => follower.meet(node),
                MeshEvent::Missed(_) => known_now(&mut follower),
                MeshEvent::Fact(
                    Fact::Lost(_)
                    | Fact::Suspected(_)
                    | Fact::Refuted(_)
                    | Fact::Failed(_)
                    | Fact::LinkLost(_)
                    | Fact::Outage(_)
                    | Fact::OutageOver(_)
                    | Fact::Collision(_),
                ) => {}
            },
            Some(ended) = follower.tasks.join_next() => match ended {
                Ok(Ended::Dropped(id, why)) => return Some(dropped(&id, &why)),
                Ok(Ended::Unread) | Err(_) => return None,
            },
        }
    }
}

fn known_now(follower: &mut Follower) {
    for peer in known(&follower.world.node) {
        follower.meet(peer);
    }
}

fn dropped(id: &str, why: &str) -> Failure {
    Failure::new(
        Code::Dropped,
        format!(
            "{} dropped this subscription: {why}",
            crate::control::records::short(id)
        ),
    )
    .next("net sub NAME      # begins anew; what was published meanwhile is missing")
}

/// Every other node that is known, reached or not.
fn known(node: &Node) -> BTreeSet<EntityId> {
    let Some(mesh) = node.mesh() else {
        return BTreeSet::new();
    };
    let nodes = mesh.nodes.iter().map(|node| node.entity);
    let neighbours = mesh.neighbours.iter().map(|link| link.entity);
    nodes.chain(neighbours).collect()
}

struct Follower {
    world: Arc<World>,
    name: Name,
    out: mpsc::Sender<Deliver>,
    /// To be told when a node is found again.
    followed: BTreeMap<EntityId, Arc<Notify>>,
    tasks: JoinSet<Ended>,
}

impl Follower {
    /// What this node's own users publish. `false` where there is no room.
    fn follow_own(&mut self) -> bool {
        let (world, out) = (self.world.clone(), self.out.clone());
        let own = world.node.entity();
        let Some((registration, mut items)) = world.channels.register(&self.name, own) else {
            return false;
        };
        self.tasks.spawn(async move {
            let id: Arc<str> = hex(&own.0).into();
            let patience = world.channels.patience();
            while let Some(item) = items.recv().await {
                let item = match item {
                    Item::Line(message) => Deliver::Line(id.clone(), message),
                    Item::Sync(done) => Deliver::Flush(done),
                };
                match timeout(patience, out.send(item)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => break,
                    Err(_) => {
                        registration.end(slow(patience));
                        return Ended::Dropped(id.to_string(), slow(patience));
                    }
                }
            }
            registration.end(LEFT);
            Ended::Unread
        });
        true
    }

    /// A node was found: it is asked, once more if need be.
    fn meet(&mut self, peer: EntityId) {
        match self.followed.get(&peer) {
            Some(again) => again.notify_one(),
            None => self.follow(peer, None),
        }
    }

    fn follow(&mut self, peer: EntityId, first: Option<mpsc::Sender<bool>>) {
        if self.followed.len() >= MAX_FOLLOWED || peer == self.world.node.entity() {
            return;
        }
        let again = Arc::new(Notify::new());
        self.followed.insert(peer, again.clone());
        let one = One {
            world: self.world.clone(),
            name: self.name.clone(),
            out: self.out.clone(),
            peer,
            id: hex(&peer.0).into(),
        };
        self.tasks.spawn(async move {
            match Box::pin(one.follow(&again, first)).await {
                Err(ended) => ended,
                Ok(never) => match never {},
            }
        });
    }
}

/// One node that is followed.
struct One {
    world: Arc<World>,
    name: Name,
    out: mpsc::Sender<Deliver>,
    peer: EntityId,
    id: Arc<str>,
}

impl One {
    /// Subscribes again and again.
    async fn follow(
        &self,
        again: &Notify,
        mut first: Option<mpsc::Sender<bool>>,
    ) -> Result<std::convert::Infallible, Ended> {
        let (mut pause, mut had, mut said) = (FIRST_PAUSE, false, false);
        loop {
            match Box::pin(self.subscribe()).await {
                Ok((send, recv)) => {
                    let id = self.id.to_string();
                    self.tell(if had {
                        ChannelEvent::Gap { id }
                    } else {
                        ChannelEvent::Taken { id }
                    })
                    .await?;
                    self.settle(&mut first, true).await;
                    let why = self.receive(&send, recv).await?;
                    let id = self.id.to_string();
                    self.tell(ChannelEvent::Lost { id, why }).await?;
                    (pause, had, said) = (FIRST_PAUSE, true, false);
                }
                Err(why) => {
                    if !said {
                        let id = self.id.to_string();
                        self.tell(ChannelEvent::Missed { id, why }).await?;
                        said = true;
                    }
                    self.settle(&mut first, false).await;
                }
            }
            // Whether it was found again or the pause is over: it is asked.
            let _ = timeout(pause, again.notified()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn settle(&self, first: &mut Option<mpsc::Sender<bool>>, taken: bool) {
        if let Some(first) = first.take() {
            // There is room for every node that was known.
            let _ = first.send(taken).await;
        }
    }

    async fn tell(&self, event: ChannelEvent) -> Result<(), Ended> {
        self.out.send(Deliver::Event(event)).await.map_err(|_| Ended::Unread)
    }

    /// Asks the node; answers the stream on which lines come.
    async fn subscribe(&self) -> Result<(SendHalf, RecvHalf), String> {
        let session = match timeout(REACH_DEADLINE, self.world.sessions.reach(self.peer)).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Err(super::look::no_session(&self.world, &self.peer, &error)),
            Err(_) => return Err(format!("no session within {} s", REACH_DEADLINE.as_secs())),
        };
        let options = StreamOptions {
            subprotocol: CHANNEL,
            ..StreamOptions::default()
        };
        let stream = session.open(options).map_err(|error| error.to_string())?;
        let (send, mut recv) = stream.split();
        let question = Message::Subscribe(self.name.clone()).encode();
        send.send(&question).await.map_err(|error| error.to_string())?;
        let answer = match timeout(ANSWER_DEADLINE, recv.recv()).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return Err("it does not serve channels".into()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no answer within {} s", ANSWER_DEADLINE.as_secs())),
        };
        match Message::decode(&answer) {
            Ok(Message::Taken) => Ok((send, recv)),
            Ok(Message::Refused(Refusal::Full)) => Err("it holds as many subscriptions as it may".into()),
            Ok(Message::Refused(Refusal::Version)) => Err("it speaks another version of channels".into()),
            Ok(_) => Err("it answered something else than was asked".into()),
            Err(why) => Err(format!("it answered with {why}")),
        }
    }

    /// Takes lines until there are no more; answers why.
    async fn receive(&self, send: &SendHalf, mut recv: RecvHalf) -> Result<String, Ended> {
        loop {
            let bytes = match recv.recv().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok("it ended the stream".into()),
                Err(RecvError::Reset(reset::SLOW)) => {
                    let why = "nothing was taken for too long".to_owned();
                    return Err(Ended::Dropped(self.id.to_string(), why));
                }
                Err(RecvError::Reset(reset::ENDING)) => return Ok("it ends".into()),
                Err(error) => return Ok(error.to_string()),
            };
            match Message::decode(&bytes) {
                Ok(Message::Line(_)) => {
                    let line = Deliver::Line(self.id.clone(), bytes);
                    self.out.send(line).await.map_err(|_| Ended::Unread)?;
                }
                Ok(Message::Sync(token)) => {
                    let (done, written) = oneshot::channel();
                    self.out.send(Deliver::Flush(done)).await.map_err(|_| Ended::Unread)?;
                    written.await.map_err(|_| Ended::Unread)?;
                    if let Err(error) = send.send(&Message::Synced(token).encode()).await {
                        return Ok(error.to_string());
                    }
                }
                Ok(_) => return Ok("it said something out of turn".into()),
                Err(why) => return Ok(format!("it sent {why}")),
            }
        }
    }
}

/// A line or event as it goes to the command.
pub fn answer(item: Deliver) -> Result<Answer, oneshot::Sender<()>> {
    match item {
        Deliver::Event(event) => Ok(Answer::Event(event)),
        // The first byte is the message's kind.
        Deliver::Line(id, message) => Ok(Answer::Line(crate::control::Line::new(
            &message[1..],
            Some(id.to_string()),
        ))),
        Deliver::Flush(done) => Err(done),
    }
}
