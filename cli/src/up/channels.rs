//! Who wants which channel, and handing lines to them: the publisher's side of a channel.
//!
//! Invariants: a subscriber is registered before it is told so, so that it misses nothing afterwards; lines wait in one bounded
//! queue per subscriber, and whoever publishes waits for room in all of them; a subscriber that takes nothing for the patience
//! is dropped, and told so.
//! Not here: subscribing (`follow.rs`), messages (`channel.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use net_io_real::{EntityId, RecvHalf, SendError, SendHalf, Stream};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::channel::{Malformed, Message, Name, Refusal, reset};
use crate::control::records::{Delivery, Published};
use crate::control::{Answer, ChannelEvent, encode};
use crate::output::hex;

/// Subscribers of all channels together.
const MAX_SUBSCRIBERS: usize = 1_024;
/// Subscriptions of one peer.
const MAX_BY_PEER: usize = 64;
/// Lines that wait for one subscriber.
const QUEUE: usize = 64;
/// Bytes handed to a stream at once.
const BATCH: usize = 256 << 10;
/// How long a peer may take for its question, once it has opened a stream.
const QUESTION_DEADLINE: Duration = Duration::from_secs(10);
/// A publisher that waits for so long says so.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Why a subscriber ended that wanted no more.
pub const LEFT: &str = "it left";

/// What waits for a subscriber.
pub enum Item {
    /// A line as it goes over the wire.
    Line(Bytes),
    /// To be answered when all before it was handed over.
    Sync(oneshot::Sender<()>),
}

/// Somebody who wants a channel.
pub struct Subscriber {
    number: u64,
    id: String,
    queue: mpsc::Sender<Item>,
    /// Why it is none any more.
    ended: Mutex<Option<String>>,
}

#[derive(Default)]
struct Inner {
    by_name: BTreeMap<Name, Vec<Arc<Subscriber>>>,
    by_peer: BTreeMap<EntityId, usize>,
    count: usize,
    next: u64,
}

/// Who wants which channel.
pub struct Channels {
    inner: Mutex<Inner>,
    patience: Duration,
}

/// A subscription in force: it ends with this value.
pub struct Registration {
    channels: Arc<Channels>,
    name: Name,
    peer: EntityId,
    subscriber: Arc<Subscriber>,
}

impl Registration {
    /// Notes why it ends; before its queue does.
    pub fn end(self, why: impl Into<String>) {
        *lock(&self.subscriber.ended) = Some(why.into());
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut inner = lock(&self.channels.inner);
        inner.count -= 1;
        if let Some(subscribers) = inner.by_name.get_mut(&self.name) {
            subscribers.retain(|other| other.number != self.subscriber.number);
            if subscribers.is_empty() {
                inner.by_name.remove(&self.name);
            }
        }
        if let Some(count) = inner.by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                inner.by_peer.remove(&self.peer);
            }
        }
    }
}

impl Channels {
    /// `patience` is how long a subscriber may take nothing.
    pub fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            patience,
        })
    }

    pub const fn patience(&self) -> Duration {
        self.patience
    }

    /// Subscribers of all channels.
    pub fn subscribers(&self) -> usize {
        lock(&self.inner).count
    }

    /// Registers somebody; `None` where there are too many.
    pub fn register(self: &Arc<Self>, name: &Name, peer: EntityId) -> Option<(Registration, mpsc::Receiver<Item>)> {
        let (queue, items) = mpsc::channel(QUEUE);
        let mut inner = lock(&self.inner);
        let of_peer = inner.by_peer.get(&peer).copied().unwrap_or(0);
        if inner.count >= MAX_SUBSCRIBERS || of_peer >= MAX_BY_PEER {
            return None;
        }
        inner.count += 1;
        inner.next += 1;
        let subscriber = Arc::new(Subscriber {
            number: inner.next,
            id: hex(&peer.0),
            queue,
            ended: Mutex::new(None),
        });
        *inner.by_peer.entry(peer).or_default() += 1;
        inner.by_name.entry(name.clone()).or_default().push(subscriber.clone());
        drop(inner);
        let registration = Registration {
            channels: self.clone(),
            name: name.clone(),
            peer,
            subscriber,
        };
        Some((registration, items))
    }

    /// Serves a stream on which a peer asks for a channel.
    pub async fn serve(self: Arc<Self>, stream: Stream) {
        let peer = stream.peer();
        let (send, mut recv) = stream.split();
        let question = timeout(QUESTION_DEADLINE, recv.recv()).await;
        let Ok(Ok(Some(question))) = question else {
            return send.reset(reset::PROTOCOL);
        };
        let name = match Message::decode(&question) {
            Ok(Message::Subscribe(name)) => name,
            Err(Malformed::Version) => return refuse(&send, Refusal::Version).await,
            Ok(_) | Err(_) => return send.reset(reset::PROTOCOL),
        };
        let Some((registration, mut items)) = self.register(&name, peer) else {
            return refuse(&send, Refusal::Full).await;
        };
        let why = match send.send(&Message::Taken.encode()).await {
            Ok(()) => Box::pin(self.feed(&send, recv, &mut items)).await,
            Err(error) => error.to_string(),
        };
        tracing::debug!(%peer, channel = name.as_str(), why, "a subscription ended");
        registration.end(why);
    }

    /// Hands on what is published; answers why that ended.
    async fn feed(&self, send: &SendHalf, mut recv: RecvHalf, items: &mut mpsc::Receiver<Item>) -> String {
        let mut syncs: VecDeque<(u64, oneshot::Sender<()>)> = VecDeque::new();
        let (mut waiting, mut token) = (Vec::new(), 0);
        loop {
            tokio::select! {
                biased;
                answer = recv.recv() => match answer {
                    Ok(Some(bytes)) => match (Message::decode(&bytes), syncs.pop_front()) {
                        (Ok(Message::Synced(answered)), Some((asked, done))) if answered == asked => {
                            // Whoever asked may have stopped waiting.
                            let _ = done.send(());
                        }
                        (Ok(_) | Err(_), _) => {
                            send.reset(reset::PROTOCOL);
                            return "it said something out of turn".into();
                        }
                    },
                    Ok(None) => return LEFT.into(),
                    Err(error) => return error.to_string(),
                },
                count = items.recv_many(&mut waiting, QUEUE) => {
                    if count == 0 {
                        send.reset(reset::ENDING);
                        return "this node ends".into();
                    }
                    if let Err(why) = self.hand_on(send, &mut waiting, &mut syncs, &mut token).await {
                        return why;
                    }
                }
            }
        }
    }

    async fn hand_on(
        &self,
        send: &SendHalf,
        waiting: &mut Vec<Item>,
        syncs: &mut VecDeque<(u64, oneshot::Sender<()>)>,
        token: &mut u64,
    ) -> Result<(), String> {
        let mut messages: Vec<Bytes> = Vec::with_capacity(waiting.len());
        for item in waiting.drain(..) {
            match item {
                Item::Line(message) => messages.push(message),
                Item::Sync(done) => {
                    *token += 1;
                    messages.push(Message::Sync(*token).encode().into());
                    syncs.push_back((*token, done));
                }
            }
        }
        let mut rest = &messages[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|message| {
                bytes += message.len();
                bytes <= BATCH
            });
            let (batch, later) = rest.split_at(fits.count().max(1));
            let slices: Vec<&[u8]> = batch.iter().map(|message| &message[..]).collect();
            match timeout(self.patience, send.send_many(&slices)).await {
                Ok(Ok(())) => rest = later,
                Ok(Err(SendError::Stopped(_))) => return Err(LEFT.to_owned()),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => {
                    send.reset(reset::SLOW);
                    return Err(slow(self.patience));
                }
            }
        }
        Ok(())
    }

    fn wanted(&self, name: &Name) -> Vec<Arc<Subscriber>> {
        lock(&self.inner).by_name.get(name).cloned().unwrap_or_default()
    }
}

/// Why a subscriber that takes nothing is dropped.
pub fn slow(patience: Duration) -> String {
    format!("it took nothing for {} s", patience.as_secs_f64())
}

async fn refuse(send: &SendHalf, why: Refusal) {
    // A peer that is gone meanwhile needs no answer.
    if send.send(&Message::Refused(why).encode()).await.is_ok() {
        let _ = timeout(QUESTION_DEADLINE, send.finish()).await;
    }
}

/// Somebody who publishes lines on a channel.
pub struct Publisher {
    channels: Arc<Channels>,
    name: Name,
    lines: u64,
    bytes: u64,
    sent: BTreeMap<u64, Sent>,
}

struct Sent {
    to: Arc<Subscriber>,
    lines: u64,
    dropped: Option<String>,
}

impl Publisher {
    pub const fn new(channels: Arc<Channels>, name: Name) -> Self {
        Self {
            channels,
            name,
            lines: 0,
            bytes: 0,
            sent: BTreeMap::new(),
        }
    }

    /// How many want the channel now.
    pub fn subscribers(&self) -> usize {
        self.channels.wanted(&self.name).len()
    }

    /// Hands a line to all who want it, waiting while one of them has no room. What happens meanwhile is written to `told`.
    ///
    /// # Errors
    /// When that cannot be written; the line went to some.
    pub async fn publish(&mut self, line: &[u8], told: &mut (impl AsyncWrite + Unpin + Send)) -> io::Result<()> {
        let message = Bytes::from(Message::Line(line).encode());
        self.lines += 1;
        self.bytes += line.len() as u64;
        for to in self.channels.wanted(&self.name) {
            let taken = match to.queue.try_send(Item::Line(message.clone())) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(item)) => wait_for(&to, item, self.channels.patience, told).await?,
            };
            let sent = self.sent.entry(to.number).or_insert_with(|| Sent {
                to: to.clone(),
                lines: 0,
                dropped: None,
            });
            if taken {
                sent.lines += 1;
            } else if sent.dropped.is_none() {
                let why = lock(&to.ended).clone().unwrap_or_else(|| LEFT.into());
                sent.dropped = Some(why.clone());
                let id = to.id.clone();
                tell(told, ChannelEvent::Dropped { id, why }).await?;
            }
        }
        Ok(())
    }

    /// Waits until all have handed over what they were sent, and answers what became of it.
    pub async fn finish(mut self) -> Published {
        let mut answers = Vec::new();
        for sent in self.sent.values().filter(|sent| sent.dropped.is_none()) {
            let (done, answer) = oneshot::channel();
            // One that is gone drops the question, which answers it.
            let _ = sent.to.queue.send(Item::Sync(done)).await;
            answers.push((sent.to.number, answer));
        }
        let mut confirmed = Vec::new();
        for (number, answer) in answers {
            match timeout(self.channels.patience, answer).await {
                Ok(Ok(())) => confirmed.push(number),
                Ok(Err(_)) => {
                    if let Some(sent) = self.sent.get_mut(&number) {
                        sent.dropped = lock(&sent.to.ended).clone().or_else(|| Some(LEFT.into()));
                    }
                }
                Err(_) => {
                    if let Some(sent) = self.sent.get_mut(&number) {
                        let patience = self.channels.patience.as_secs_f64();
                        sent.dropped = Some(format!("not confirmed within {patience} s"));
                    }
                }
            }
        }
        Published {
            channel: self.name.to_string(),
            lines: self.lines,
            bytes: self.bytes,
            subscribers: self
                .sent
                .into_iter()
                .map(|(number, sent)| Delivery {
                    id: sent.to.id.clone(),
                    lines: sent.lines,
                    confirmed: confirmed.contains(&number),
                    left: sent.dropped.as_deref() == Some(LEFT),
                    why: sent.dropped,
                })
                .collect(),
        }
    }
}

async fn tell(told: &mut (impl AsyncWrite + Unpin + Send), event: ChannelEvent) -> io::Result<()> {
    told.write_all(&encode(&Answer::Event(event))).await
}

/// Waits for room; `false` where the subscriber ended.
async fn wait_for(
    to: &Subscriber,
    item: Item,
    patience: Duration,
    told: &mut (impl AsyncWrite + Unpin + Send),
) -> io::Result<bool> {
    let room = match timeout(SLOW_AFTER, to.queue.reserve()).await {
        Ok(room) => room,
        Err(_) => {
            let (id, patience_s) = (to.id.clone(), patience.as_secs_f64());
            tell(told, ChannelEvent::Slow { id, patience_s }).await?;
            let room = to.queue.reserve().await;
            if room.is_ok() {
                tell(told, ChannelEvent::Quick { id: to.id.clone() }).await?;
            }
            room
        }
    };
    Ok(match room {
        Ok(room) => {
            room.send(item);
            true
        }
        Err(_) => false,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: EntityId = EntityId([7; 32]);

    fn name() -> Name {
        Name::new("n").expect("a name")
    }

    #[tokio::test]
    async fn lines_reach_all_who_asked_and_the_end_is_confirmed() {
        let channels = Channels::new(Duration::from_secs(60));
        let (registration, mut items) = channels.register(&name(), ME).expect("room");
        let mut publisher = Publisher::new(channels.clone(), name());
        let mut told = Vec::new();
        publisher.publish(b"one", &mut told).await.expect("told");
        assert!(told.is_empty(), "nothing happens");
        let reader = tokio::spawn(async move {
            let mut lines = 0;
            while let Some(item) = items.recv().await {
                match item {
                    Item::Line(_) => lines += 1,
                    Item::Sync(done) => done.send(()).expect("it waits"),
                }
            }
            lines
        });
        let published = publisher.finish().await;
        assert_eq!((published.lines, published.bytes), (1, 3));
        assert!(published.subscribers[0].confirmed && published.subscribers[0].lines == 1);
        drop(registration);
        assert_eq!(channels.subscribers(), 0);
        assert_eq!(reader.await.expect("no panic"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_told_as_slow_and_one_that_ends_as_dropped() {
        let channels = Channels::new(Duration::from_secs(60));
        let (registration, items) = channels.register(&name(), ME).expect("room");
        let mut publisher = Publisher::new(channels.clone(), name());
        let mut told = Vec::new();
        for _ in 0..QUEUE {
            publisher.publish(b"x", &mut told).await.expect("told");
        }
        assert!(told.is_empty(), "nothing happens");
        let publish = publisher.publish(b"x", &mut told);
        let end = async {
            tokio::time::sleep(SLOW_AFTER * 2).await;
            registration.end("it sleeps");
            drop(items);
        };
        let (published, ()) = tokio::join!(publish, end);
        published.expect("told");
        let id = hex(&ME.0);
        let dropped = ChannelEvent::Dropped {
            id: id.clone(),
            why: "it sleeps".into(),
        };
        let slow = ChannelEvent::Slow { id, patience_s: 60.0 };
        let events = [slow, dropped].map(|event| encode(&Answer::Event(event)));
        assert_eq!(told, events.concat());
        let published = publisher.finish().await;
        assert_eq!(published.subscribers[0].why.as_deref(), Some("it sleeps"));
        assert_eq!(published.subscribers[0].lines, QUEUE as u64);
    }

    #[test]
    fn no_peer_has_more_subscriptions_than_it_may() {
        let channels = Channels::new(Duration::from_secs(60));
        let held: Vec<_> = (0..MAX_BY_PEER)
            .map(|_| channels.register(&name(), ME).expect("room"))
            .collect();
        assert!(channels.register(&name(), ME).is_none());
        let other = channels.register(&name(), EntityId([8; 32])).expect("room for another");
        drop((held, other));
        assert_eq!(channels.subscribers(), 0);
        assert!(channels.register(&name(), ME).is_some());
    }
}
