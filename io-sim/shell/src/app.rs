//! Applications on the driver's public handles: they dial, open streams, send, read, and go on where they were when a
//! session ends.
//!
//! Some wait patiently: they drop the future they wait on and make it anew, which must lose nothing and double nothing.
//! Invariants: applications use nothing but `Node`, `Session` and `Stream`; what they send follows from keys.
//! Not here: what they owe (`flow.rs`), when their process lives (`process.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use net_io_real::{Node, RecvError, RecvHalf, SendHalf, Session, Stream, StreamOptions};
use net_io_sim::payload;
use net_io_sim::scenario::{Happening, NodeIndex, WorkloadKind};
use net_io_sim::trigger::Happened;
use net_kernel::base::EntityId;
use net_kernel::wire::subprotocol::FILES;

use crate::bed::{Bed, Seen};
use crate::flow::{Flows, Instance, message};
use crate::runtime::{Group, Runtime};
use crate::task::{Patience, of_process, patiently, race, sleep, sleep_until};

/// Pause before dialling again.
const REDIAL: u64 = 200_000_000;
/// A step without a session is tried again after this.
const AGAIN: u64 = 100_000_000;
/// Who is impatient waits so long at most.
const PATIENCE: u64 = 60_000_000;

/// What one process' applications share.
pub(crate) struct App<R> {
    pub(crate) bed: Bed,
    pub(crate) flows: Flows,
    pub(crate) runtime: R,
    pub(crate) node: NodeIndex,
    pub(crate) incarnation: u64,
    pub(crate) group: Group,
    pub(crate) handle: Node,
    pub(crate) entities: Arc<Vec<EntityId>>,
    pub(crate) conns: Arc<Mutex<Conns>>,
}

/// The sessions of one process.
#[derive(Default)]
pub(crate) struct Conns {
    /// Live ones by peer, oldest first, with a number each.
    live: BTreeMap<NodeIndex, Vec<(u64, Session)>>,
    dialling: Vec<NodeIndex>,
    count: u64,
    /// What was told of sessions, by number: keys replaced, addresses moved.
    told: BTreeMap<u64, (u64, u64)>,
}

impl<R: Clone> Clone for App<R> {
    fn clone(&self) -> Self {
        Self {
            bed: self.bed.clone(),
            flows: self.flows.clone(),
            runtime: self.runtime.clone(),
            node: self.node,
            incarnation: self.incarnation,
            group: self.group,
            handle: self.handle.clone(),
            entities: Arc::clone(&self.entities),
            conns: Arc::clone(&self.conns),
        }
    }
}

/// Does something with the sessions of a process.
pub(crate) fn with<T>(conns: &Mutex<Conns>, act: impl FnOnce(&mut Conns) -> T) -> T {
    act(&mut conns.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Conns {
    fn last(&self, peer: NodeIndex) -> Option<Session> {
        Some(self.live.get(&peer)?.last()?.1.clone())
    }

    /// Per live session, how often keys were replaced and its peer's address moved since it was asked last.
    pub(crate) fn news(&mut self) -> Vec<(u64, u64)> {
        let mut news = Vec::new();
        for (number, session) in self.live.values().flatten() {
            let Some(stats) = session.stats() else { continue };
            let before = self
                .told
                .insert(*number, (stats.rekeys, stats.moves))
                .unwrap_or_default();
            news.push((stats.rekeys - before.0, stats.moves - before.1));
        }
        news
    }

    /// Every live session.
    pub(crate) fn all(&self) -> Vec<Session> {
        self.live
            .values()
            .flatten()
            .map(|(_, session)| session.clone())
            .collect()
    }
}

impl<R: Runtime> App<R> {
    /// Starts everything that the process' applications do.
    pub(crate) fn start(&self) {
        let app = self.clone();
        self.spawn(async move { app.accept().await });
        let flows = {
            let inner = self.flows.lock();
            let mine = inner.flows.iter().enumerate();
            let mine = mine.filter(|(_, flow)| flow.opener == self.node && !flow.complete && !flow.broken);
            mine.map(|(index, _)| index).collect::<Vec<_>>()
        };
        for flow in flows {
            let app = self.clone();
            self.spawn(async move { app.pursue(flow).await });
        }
        for transfer in self.flows.files.of(self.node) {
            let app = self.clone();
            self.spawn(async move { app.send_files(transfer).await });
        }
        for (index, workload) in self.bed.scenario.workloads.iter().enumerate() {
            if workload.from == self.node && !matches!(workload.kind, WorkloadKind::Stream(_) | WorkloadKind::File(_)) {
                let app = self.clone();
                self.spawn(async move { app.take_steps(index).await });
            }
        }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(self.group, of_process(&self.bed, self.node, future));
    }

    async fn accept(&self) {
        while let Some(session) = self.handle.accept().await {
            let peer = self.entities.iter().position(|entity| *entity == session.peer());
            match peer {
                Some(peer) => self.register(peer as NodeIndex, session),
                None => self
                    .bed
                    .fail("identity", "a session with an identity that nobody holds".to_owned()),
            }
        }
    }

    /// A session began: its streams are accepted until it ends.
    fn register(&self, peer: NodeIndex, session: Session) {
        let number = with(&self.conns, |conns| {
            conns.count += 1;
            let number = conns.count;
            conns.live.entry(peer).or_default().push((number, session.clone()));
            number
        });
        self.bed.see(Seen::Session, self.node, &[u64::from(peer), number], &[1]);
        self.bed.happened(&Happened::at(Happening::SessionUp, self.node));
        let (app, watched) = (self.clone(), session.clone());
        self.spawn(async move {
            watched.closed().await;
            app.bed.see(Seen::Session, app.node, &[u64::from(peer), number], &[0]);
            app.bed.happened(&Happened::at(Happening::SessionDown, app.node));
            let gone = with(&app.conns, |conns| {
                let live = conns.live.get_mut(&peer)?;
                let at = live.iter().position(|(other, _)| *other == number)?;
                Some(live.remove(at))
            });
            // Not under the lock: it is a handle, and the last of them ends the session.
            drop(gone);
        });
        let app = self.clone();
        let patience = self.patience("accept", number);
        self.spawn(async move {
            while let Some(stream) = patiently(&app.bed, patience, || session.accept_stream()).await {
                let serving = app.clone();
                app.spawn(async move { serving.serve(peer, stream).await });
            }
        });
    }

    /// The session with `peer`; dials where there is none, until there is one.
    pub(crate) async fn session(&self, peer: NodeIndex) -> Session {
        let mut dials = 0;
        loop {
            if let Some(session) = with(&self.conns, |conns| conns.last(peer)) {
                return session;
            }
            let mine = with(&self.conns, |conns| {
                let mine = !conns.dialling.contains(&peer);
                if mine {
                    conns.dialling.push(peer);
                }
                mine
            });
            if mine {
                let began = self.bed.now();
                let (entity, address) = (
                    self.entities[peer as usize],
                    self.bed.lock().machines[peer as usize].external,
                );
                self.bed.happened(&Happened::at(Happening::Dialled, self.node));
                let dialled = self.handle.dial(entity, &[address]).await;
                with(&self.conns, |conns| conns.dialling.retain(|other| *other != peer));
                if let Ok(session) = dialled {
                    let took = self.bed.now() - began;
                    self.flows.lock().handshake.record(took);
                    self.register(peer, session);
                    continue;
                }
                self.bed.happened(&Happened::at(Happening::ConnectFailed, self.node));
            }
            dials += 1;
            let key = self
                .bed
                .key
                .with_text("redial")
                .with(u64::from(self.node) << 32 | u64::from(peer));
            let jitter = key.with(self.incarnation).below(dials, REDIAL);
            sleep(&self.bed, REDIAL / 4 + jitter).await;
        }
    }

    /// A stream workload, from the first message to the last, over as many sessions as it takes.
    async fn pursue(&self, flow: usize) {
        let (workload, spec, peer) = {
            let inner = self.flows.lock();
            let flow = &inner.flows[flow];
            (flow.workload, flow.spec.clone(), flow.acceptor)
        };
        sleep_until(&self.bed, self.bed.scenario.workloads[workload].at).await;
        loop {
            let session = self.session(peer).await;
            let instance = self.flows.begin(flow);
            let options = StreamOptions {
                reliability: spec.reliability,
                priority: spec.priority,
                weight: spec.weight,
                subprotocol: payload::subprotocol(instance.number).expect("fewer streams than ids for vendors"),
            };
            let Ok(stream) = session.open(options) else {
                self.flows.retract(instance);
                sleep(&self.bed, REDIAL).await;
                continue;
            };
            let (send, recv) = stream.split();
            let reading = self.clone();
            self.spawn(async move { reading.read(recv, instance, 1).await });
            let _ = race(self.write(send, instance, 0), session.closed()).await;
            let complete = self.flows.until(|inner| inner.flows[flow].complete.then_some(()));
            if race(complete, session.closed()).await.is_ok() || !self.flows.lost(instance) {
                return;
            }
            let key = self.bed.key.with_text("resume").with(flow as u64);
            sleep(&self.bed, REDIAL / 2 + key.below(instance.number as u64, REDIAL)).await;
        }
    }

    /// The accepting side of a stream.
    async fn serve(&self, peer: NodeIndex, stream: Stream) {
        if stream.subprotocol() == FILES {
            return self.receive_files(peer, stream).await;
        }
        let number = payload::stream_number(stream.subprotocol());
        let known = number.and_then(|number| self.flows.known(usize::from(number), peer, self.node));
        let Some(instance) = known else {
            let what = format!(
                "node {} was told of a stream that node {peer} did not open to it",
                self.node
            );
            return self.bed.fail("stream-order", what);
        };
        self.bed.happened(&Happened::at(Happening::StreamOpened, self.node));
        let (send, recv) = stream.split();
        let writing = self.clone();
        self.spawn(async move { writing.write(send, instance, 1).await });
        self.read(recv, instance, 0).await;
    }

    /// Sends what a direction owes, and its end.
    async fn write(&self, send: SendHalf, instance: Instance, way: usize) {
        let rate_milli = self.flows.lock().flows[instance.flow].spec.rate_milli;
        let patience = self.patience("send", (instance.number * 2 + way) as u64);
        let began = self.bed.now();
        let mut sent = 0u64;
        while let Some((expected, base)) = self
            .flows
            .to_send(instance, way)
            .filter(|(owed, base)| base + sent < owed.count)
        {
            if rate_milli > 0 {
                let after = (u128::from(sent) * 1_000_000_000_000).div_ceil(u128::from(rate_milli));
                sleep_until(
                    &self.bed,
                    began.saturating_add(u64::try_from(after).unwrap_or(u64::MAX)),
                )
                .await;
            }
            let message = message(&expected, base + sent);
            if patiently(&self.bed, patience, || send.send(&message)).await.is_err() {
                return;
            }
            sent += 1;
        }
        self.flows.announced(instance, way);
        // Not confirmed where the session ends before: the opener sees that by itself.
        let _ = send.finish().await;
    }

    /// Reads a direction to its end.
    async fn read(&self, mut recv: RecvHalf, instance: Instance, way: usize) {
        let spec = self.flows.lock().flows[instance.flow].spec.clone();
        let patience = self.patience("recv", (instance.number * 2 + way) as u64);
        loop {
            if let Some((_, until)) = spec
                .stop_reading
                .filter(|(from, until)| (*from..*until).contains(&self.bed.now()))
            {
                sleep_until(&self.bed, until).await;
            }
            match receive(&self.bed, patience, &mut recv).await {
                Ok(Some(message)) => {
                    if !self.flows.delivered(instance, way, &message) {
                        return;
                    }
                    if spec.drain > 0 {
                        let takes = u128::from(message.len() as u64) * 1_000_000_000 / u128::from(spec.drain);
                        sleep(&self.bed, u64::try_from(takes).unwrap_or(u64::MAX)).await;
                    }
                }
                Ok(None) => {
                    if way == 0 || spec.both {
                        self.flows.finished(instance, way);
                    }
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// A workload without streams.
    async fn take_steps(&self, index: usize) {
        let workload = &self.bed.scenario.workloads[index];
        let peer = workload.to;
        sleep_until(&self.bed, workload.at).await;
        let closing = matches!(workload.kind, WorkloadKind::Close);
        while self.flows.lock().steps[index] > 0 {
            if closing && with(&self.conns, |conns| conns.last(peer)).is_none() {
                return self.flows.change(|inner| inner.steps[index] = 0);
            }
            let session = self.session(peer).await;
            self.flows.change(|inner| inner.steps[index] -= 1);
            let pause = match &workload.kind {
                WorkloadKind::Stream(_) | WorkloadKind::File(_) | WorkloadKind::Connect => AGAIN,
                WorkloadKind::Echo { every, .. } => {
                    self.spawn(async move {
                        let _ = session.echo().await;
                    });
                    *every
                }
                WorkloadKind::Rekey { every, .. } => {
                    self.spawn(async move {
                        let _ = session.rekey().await;
                    });
                    *every
                }
                WorkloadKind::Close => {
                    session.close(0, "done").await;
                    AGAIN
                }
            };
            sleep(&self.bed, pause).await;
        }
    }

    /// How who waits for `what` does it.
    fn patience(&self, what: &str, number: u64) -> Patience {
        let key = self.bed.key.with_text("patience").with_text(what);
        let key = key.with(u64::from(self.node)).with(self.incarnation);
        match key.below(number, 3) {
            0 => Patience::Lasting,
            1 => Patience::For(1_000_000 + key.with(1).below(number, PATIENCE)),
            _ => Patience::OneWake,
        }
    }
}

/// The next message; impatient readers drop the future they wait on and make it anew.
async fn receive(bed: &Bed, patience: Patience, recv: &mut RecvHalf) -> Result<Option<Bytes>, RecvError> {
    loop {
        if let Ok(received) = race(recv.recv(), patience.end(bed)).await {
            return received;
        }
    }
}
