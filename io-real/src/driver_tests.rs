//! Tests of the driver and the handles with a scripted kernel, a fake socket and a clock that stands still.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a script answers few inputs and ignores the rest"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::api::{
    Addr, CloseReason, CommandId, ConnectError, Deadline, Dest, Drops, EntityId, Event, Io, Messages, Now, Part,
    Reliability, SessionConfig, SessionKey, SessionStats, StoreOp, StoreTicket, StreamId, StreamOptions,
};
use crate::hub::Core;
use crate::session::{Handle, Session};
use crate::state::MemoryDisk;
use crate::stream::Stream;
use crate::testing::{FakeClock, FakeSocket, FakeWire, FixedEntropy, addr};

const SESSION: SessionKey = SessionKey(1);
const STREAM: StreamId = StreamId(4);
const PEER: EntityId = EntityId([9; 32]);

type React = dyn FnMut(&Input<'_>, &mut dyn Io) -> Option<Deadline> + Send;

struct Script {
    log: Arc<Mutex<Vec<String>>>,
    react: Box<React>,
}

impl Core for Script {
    fn turn(&mut self, now: Now, input: Input<'_>, io: &mut dyn Io) -> Option<Deadline> {
        let line = match &input {
            Input::Datagrams(_) => "datagrams".to_owned(),
            Input::Command(_, command) => format!("{command:?}").split([' ', '(']).next().unwrap_or("").to_owned(),
            other => format!("{other:?}"),
        };
        self.log.lock().unwrap().push(line);
        let _ = now;
        (self.react)(&input, io)
    }

    fn stats(&self, _session: SessionKey) -> Option<SessionStats> {
        None
    }

    fn drops(&self) -> Drops {
        Drops::default()
    }

    fn mesh(&self) -> Option<&crate::api::Mesh> {
        None
    }

    fn relayed(&self) -> crate::api::Relayed {
        crate::api::Relayed::default()
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A driver on fakes, polled by hand.
struct Rig {
    driver: Driver<FakeSocket, FakeClock, FixedEntropy, MemoryDisk>,
    wire: FakeWire,
    clock: FakeClock,
    log: Arc<Mutex<Vec<String>>>,
    wakes: Arc<Wakes>,
    handle: Option<Handle>,
}

impl Rig {
    fn new(react: impl FnMut(&Input<'_>, &mut dyn Io) -> Option<Deadline> + Send + 'static) -> Self {
        let (socket, wire) = FakeSocket::new(addr(1), 64);
        let log = Arc::new(Mutex::new(Vec::new()));
        let core = Script {
            log: log.clone(),
            react: Box::new(react),
        };
        let clock = FakeClock::default();
        let shared = Arc::new(Shared::new(
            Box::new(core),
            EntityId([1; 32]),
            &SessionConfig::default(),
            Now::default(),
        ));
        let parts = Parts {
            socket,
            clock: clock.clone(),
            entropy: Arc::new(FixedEntropy::new(1)),
            disk: Arc::new(MemoryDisk::default()),
            threads: 0,
            helpers: 0,
            busy_poll: Duration::ZERO,
        };
        let handle = Some(Handle::first(shared.clone()));
        Self {
            driver: Driver::new(shared, parts),
            wire,
            clock,
            log,
            wakes: Arc::default(),
            handle,
        }
    }

    fn poll(&mut self) -> Poll<Result<(), DriverError>> {
        let waker = self.wakes.clone().into();
        Pin::new(&mut self.driver).poll(&mut Context::from_waker(&waker))
    }

    fn woken(&self) -> usize {
        self.wakes.0.swap(0, Ordering::Relaxed)
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn shared(&self) -> &Shared {
        &self.driver.shared
    }

    /// A session with a stream that the peer opened, as the kernel tells of them.
    fn stream(&mut self) -> (Session, Stream) {
        self.wire.bring(addr(2), b"open");
        assert!(self.poll().is_pending());
        let handle = self.handle.as_ref().unwrap();
        let mut hub = self.driver.shared.lock();
        let (key, peer) = hub.board.accept_session().expect("the kernel told of a session");
        let session = Session::new(handle, &mut hub, key, peer);
        let seat = hub.board.accept_stream(key).expect("the kernel told of a stream");
        let stream = Stream::new(handle, &mut hub, seat, peer);
        drop(hub);
        self.log();
        (session, stream)
    }
}

fn connected() -> Event {
    Event::Connected {
        session: SESSION,
        peer: PEER,
        address: addr(2),
        command: None,
    }
}

fn stream_opened(reliability: Reliability) -> Event {
    Event::StreamOpened {
        session: SESSION,
        stream: STREAM,
        reliability,
        subprotocol: 7,
        credit: 1_000,
    }
}

fn part(number: u64, offset: u64, end: bool, bytes: &[u8]) -> Part<'_> {
    Part {
        peer: PEER,
        session: SESSION,
        stream: STREAM,
        subprotocol: 0,
        number,
        offset,
        end,
        bytes,
    }
}

/// Opens a session and a stream when the first datagram arrives.
fn opens(input: &Input<'_>, io: &mut dyn Io) -> bool {
    let first = matches!(input, Input::Datagrams(_));
    if first {
        io.event(connected());
        io.event(stream_opened(Reliability::Reliable));
    }
    first
}

fn transmit(io: &mut dyn Io, to: Addr, bytes: &[u8]) -> bool {
    match io.reserve(Dest { to, ecn: false }, bytes.len()) {
        Some(slot) => {
            slot.copy_from_slice(bytes);
            io.commit(bytes.len());
            true
        }
        None => false,
    }
}

fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
    std::pin::pin!(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn many_sends_wake_the_driver_once_and_leave_in_one_call() {
    let mut queued = 0;
    let mut rig = Rig::new(move |input, io| {
        if !opens(input, io) {
            queued += u32::from(matches!(input, Input::Command(..)));
            while queued > 0 && transmit(io, addr(2), b"datagram") {
                queued -= 1;
            }
        }
        None
    });
    let (_session, stream) = rig.stream();
    rig.woken();
    for _ in 0..10 {
        assert_eq!(now(stream.send(b"message")), Poll::Ready(Ok(())));
    }
    assert!(rig.wire.sent().is_empty(), "a handle never transmits");
    assert_eq!(rig.woken(), 1);
    assert!(rig.poll().is_pending());
    assert_eq!(rig.log().iter().filter(|line| *line == "TxReady").count(), 1);
    assert_eq!((rig.wire.sent().len(), rig.wire.calls()), (10, 1));
}

#[test]
fn a_full_socket_is_tried_again_only_when_it_is_writable() {
    let mut left = 0;
    let mut rig = Rig::new(move |input, io| {
        if matches!(input, Input::Datagrams(_)) {
            left = 100;
        }
        while left > 0 && transmit(io, addr(2), &[left; 1_000]) {
            left -= 1;
        }
        None
    });
    rig.wire.accept_only(5);
    rig.wire.bring(addr(2), b"go");
    assert!(rig.poll().is_pending());
    assert_eq!(rig.wire.sent().len(), 5);
    rig.log();
    assert!(rig.poll().is_pending());
    assert!(
        !rig.log().contains(&"TxReady".to_owned()),
        "the kernel is not asked while the socket is full"
    );
    rig.wire.accept_only(usize::MAX);
    assert!(rig.woken() > 0);
    assert!(rig.poll().is_pending());
    let order: Vec<u8> = rig.wire.take_sent().iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(
        order,
        (1..=100).rev().collect::<Vec<u8>>(),
        "nothing is lost, doubled or overtaken"
    );
}

#[test]
fn the_kernel_is_woken_at_its_deadline() {
    let at = Instant::from_nanos(5_000);
    let mut set = false;
    let mut rig = Rig::new(move |_, _| {
        (!std::mem::replace(&mut set, true)).then_some(Deadline {
            at,
            why: crate::api::Why::Session,
        })
    });
    rig.wire.bring(addr(2), b"arm");
    assert!(rig.poll().is_pending());
    assert_eq!(rig.log(), ["datagrams"]);
    rig.woken();
    rig.clock.advance_to(at);
    assert_eq!(rig.woken(), 1);
    assert!(rig.poll().is_pending());
    assert_eq!(rig.log(), ["Wake"]);
    rig.clock.advance_to(Instant::from_nanos(1_000_000));
    assert!(rig.poll().is_pending());
    assert!(rig.log().is_empty(), "a deadline is told once");
}

#[test]
fn endless_traffic_leaves_other_tasks_their_turn() {
    let wire = Arc::new(Mutex::new(None::<FakeWire>));
    let mut rig = Rig::new({
        let wire = wire.clone();
        move |input, _| {
            if let (Input::Datagrams(_), Some(wire)) = (input, &*wire.lock().unwrap()) {
                wire.bring(addr(2), b"more");
            }
            None
        }
    });
    *wire.lock().unwrap() = Some(rig.wire.clone());
    rig.wire.bring(addr(2), b"first");
    assert!(rig.poll().is_pending());
    assert!(rig.woken() > 0, "it asks to be polled again");
    assert_eq!(rig.log().len(), ROUNDS);
}

#[test]
fn a_part_may_come_before_the_word_that_its_stream_was_opened() {
    let mut rig = Rig::new(|input, io| {
        if matches!(input, Input::Datagrams(_)) {
            io.deliver(part(0, 0, true, b"whole"));
            io.deliver(part(1, 0, false, b"be"));
            io.event(connected());
            io.event(stream_opened(Reliability::Reliable));
        }
        if matches!(input, Input::TxReady) {
            io.deliver(part(1, 2, true, b"gun"));
        }
        None
    });
    let (_session, mut stream) = rig.stream();
    assert_eq!(stream.subprotocol(), 7);
    assert_eq!(
        now(stream.recv()).map(|m| m.unwrap().unwrap()),
        Poll::Ready("whole".into())
    );
    assert!(now(stream.recv()).is_pending());
    let mut hub = rig.shared().lock();
    hub.board.refused = true;
    hub.board.call_driver();
    drop(hub);
    assert!(rig.poll().is_pending());
    assert_eq!(
        now(stream.recv()).map(|m| m.unwrap().unwrap()),
        Poll::Ready("begun".into())
    );
}

#[test]
fn a_refused_send_waits_until_the_stream_is_writable() {
    let mut full = true;
    let mut rig = Rig::new(move |input, io| {
        if opens(input, io) {
            return None;
        }
        match input {
            Input::Command(
                command,
                Command::Send {
                    messages: Messages::One(b"message"),
                    ..
                },
            ) if full => {
                io.event(Event::Refused {
                    command: *command,
                    why: crate::api::Refused::Backpressure,
                });
            }
            Input::TxReady => {
                full = false;
                io.event(Event::Writable {
                    session: SESSION,
                    stream: STREAM,
                    bytes: 100,
                });
            }
            _ => {}
        }
        None
    });
    let (_session, stream) = rig.stream();
    let waiting = Arc::new(Wakes::default());
    let waker = waiting.clone().into();
    let mut cx = Context::from_waker(&waker);
    let mut send = std::pin::pin!(stream.send(b"message"));
    assert!(send.as_mut().poll(&mut cx).is_pending());
    assert!(send.as_mut().poll(&mut cx).is_pending());
    let asked = rig.log().iter().filter(|line| *line == "Send").count();
    assert_eq!(
        asked, 1,
        "the kernel is not asked again before it said that there is room"
    );
    let mut hub = rig.shared().lock();
    hub.board.refused = true;
    hub.board.call_driver();
    drop(hub);
    assert!(rig.poll().is_pending());
    assert_eq!(waiting.0.load(Ordering::Relaxed), 1);
    assert_eq!(send.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
}

#[test]
fn dropped_halves_finish_and_stop_and_credit_what_nobody_read() {
    let mut rig = Rig::new(|input, io| {
        if opens(input, io) {
            io.deliver(part(0, 0, true, b"never read"));
        }
        None
    });
    let (session, stream) = rig.stream();
    drop(stream);
    assert_eq!(rig.log(), ["Finish", "Consumed", "Stop"]);
    drop(session);
    assert!(
        rig.log().is_empty(),
        "what was finished is not confirmed yet, so the session stays"
    );
}

#[test]
fn a_session_nobody_holds_is_closed() {
    let mut rig = Rig::new(|input, io| {
        opens(input, io);
        if let Input::Command(_, Command::Finish { session, stream }) = input {
            io.event(Event::Flushed {
                session: *session,
                stream: *stream,
            });
        }
        None
    });
    let (session, stream) = rig.stream();
    drop((session, stream));
    assert_eq!(rig.log(), ["Finish", "Stop", "Close"]);
    assert_eq!(rig.shared().lock().board.sessions().count(), 0);
}

#[test]
fn streams_that_nobody_can_accept_are_refused() {
    const OTHER: StreamId = StreamId(6);
    let mut rig = Rig::new(|input, io| {
        opens(input, io);
        if matches!(input, Input::Link(_)) {
            io.deliver(Part {
                stream: OTHER,
                subprotocol: 0,
                ..part(0, 0, true, b"unwanted")
            });
            io.event(Event::StreamOpened {
                session: SESSION,
                stream: OTHER,
                reliability: Reliability::Reliable,
                subprotocol: 0,
                credit: 100,
            });
        }
        None
    });
    let (session, _stream) = rig.stream();
    drop(session);
    rig.driver
        .inner
        .as_mut()
        .unwrap()
        .hints
        .push(LinkChange::Unreachable(addr(3)));
    assert!(rig.poll().is_pending());
    let log = rig.log();
    assert_eq!(log[1..], ["Consumed", "Stop", "Reset"], "{log:?}");
}

#[test]
fn what_the_peer_confirms_late_closes_a_session_that_nobody_holds() {
    let mut rig = Rig::new(|input, io| {
        opens(input, io);
        if matches!(input, Input::Link(_)) {
            io.event(Event::Flushed {
                session: SESSION,
                stream: STREAM,
            });
        }
        None
    });
    drop(rig.stream());
    rig.log();
    rig.driver
        .inner
        .as_mut()
        .unwrap()
        .hints
        .push(LinkChange::Unreachable(addr(3)));
    assert!(rig.poll().is_pending());
    assert!(rig.log().contains(&"Close".to_owned()));
}

#[test]
fn a_dropped_connect_is_cancelled_and_an_answered_one_is_not() {
    let mut rig = Rig::new(|_, _| None);
    let mut hub = rig.shared().lock();
    let id = hub.connect(PEER, &[addr(2)]).unwrap();
    assert!(hub.board.connected(id, std::task::Waker::noop()).is_none());
    hub.cancel_connect(id);
    hub.cancel_connect(id);
    drop(hub);
    assert_eq!(rig.log(), ["Connect", "CancelConnect"]);
    assert!(rig.poll().is_pending());
}

#[test]
fn a_connect_refused_after_a_job_is_told_so() {
    let mut asked = CommandId(0);
    let mut rig = Rig::new(move |input, io| {
        match input {
            Input::Command(id, Command::Connect { .. }) => asked = *id,
            Input::Datagrams(_) => {
                io.event(Event::Refused {
                    command: asked,
                    why: crate::api::Refused::BadIdentity,
                });
            }
            _ => {}
        }
        None
    });
    let id = rig.shared().lock().connect(PEER, &[addr(2)]).unwrap();
    assert!(
        rig.shared()
            .lock()
            .board
            .connected(id, std::task::Waker::noop())
            .is_none()
    );
    rig.wire.bring(addr(2), b"job ended");
    assert!(rig.poll().is_pending());
    let told = rig.shared().lock().board.connected(id, std::task::Waker::noop());
    assert_eq!(
        told,
        Some(Err(crate::hub::Failure::Refused(crate::api::Refused::BadIdentity)))
    );
}

#[test]
fn storage_operations_are_carried_out_and_answered() {
    let ticket = StoreTicket::new(net_kernel::base::SeatId(1), 1);
    let mut rig = Rig::new(move |input, io| {
        match input {
            Input::Datagrams(_) => {
                io.store(
                    ticket,
                    StoreOp::Put {
                        cell: crate::api::Cell::PeerEpochs,
                        bytes: vec![1, 2, 3],
                    },
                );
            }
            Input::Stored(_, Stored::Done) => io.store(
                ticket,
                StoreOp::Get {
                    cell: crate::api::Cell::PeerEpochs,
                },
            ),
            _ => {}
        }
        None
    });
    rig.wire.bring(addr(2), b"go");
    assert!(rig.poll().is_pending());
    let log = rig.log();
    assert_eq!(log.len(), 3);
    assert!(log[1].contains("Done") && log[2].contains("[1, 2, 3]"), "{log:?}");
}

#[test]
fn the_driver_ends_with_its_last_handle_once_all_has_left() {
    let mut rig = Rig::new(|input, io| {
        if matches!(input, Input::TxReady | Input::Command(_, Command::Shutdown)) {
            transmit(io, addr(2), b"goodbye");
        }
        None
    });
    assert!(rig.poll().is_pending());
    rig.handle = None;
    assert_eq!(rig.woken(), 1);
    assert!(matches!(rig.poll(), Poll::Ready(Ok(()))));
    assert_eq!(rig.log(), ["Shutdown", "TxReady"]);
    assert_eq!(rig.wire.sent(), [(addr(2), b"goodbye".to_vec())]);
}

#[test]
fn whoever_waits_is_told_when_the_driver_is_dropped() {
    let mut rig = Rig::new(|input, io| {
        opens(input, io);
        None
    });
    let (session, mut stream) = rig.stream();
    let mut hub = rig.shared().lock();
    let id = hub.connect(PEER, &[addr(2)]).unwrap();
    drop(hub);
    let Rig { driver, handle, .. } = rig;
    let shared = driver.shared.clone();
    drop(driver);
    assert!(now(stream.recv()).map(|m| m.unwrap_err().code()) == Poll::Ready("session.closed_here"));
    assert_eq!(
        now(session.closed()),
        Poll::Ready(CloseReason::Local(crate::api::CloseCode::Shutdown))
    );
    let told = shared.lock().board.connected(id, std::task::Waker::noop());
    assert_eq!(told, Some(Err(crate::hub::Failure::Ended(ConnectError::Cancelled))));
    drop(handle);
}

#[test]
fn a_socket_that_only_fails_ends_the_driver_with_its_error() {
    let mut rig = Rig::new(|_, _| None);
    rig.wire.break_down();
    let error = loop {
        match rig.poll() {
            Poll::Ready(result) => break result.unwrap_err(),
            Poll::Pending => assert!(rig.woken() > 0, "it must not sleep on a broken socket"),
        }
    };
    assert!(error.to_string().contains("UDP socket"), "{error}");
}

#[test]
fn an_unanswered_open_is_no_panic_in_a_refusal() {
    let mut rig = Rig::new(|input, io| {
        opens(input, io);
        if let Input::Command(command, Command::Open { .. }) = input {
            io.event(Event::Refused {
                command: *command,
                why: crate::api::Refused::StreamLimit,
            });
        }
        None
    });
    let (session, _stream) = rig.stream();
    assert_eq!(
        session.open(StreamOptions::default()).unwrap_err().code(),
        "refused.stream_limit"
    );
}

#[test]
fn a_finish_that_outlives_its_session_disturbs_nothing() {
    let mut rig = Rig::new(|input, io| {
        opens(input, io);
        if matches!(input, Input::Link(_)) {
            io.event(Event::Closed {
                session: SESSION,
                peer: PEER,
                why: CloseReason::TimedOut,
            });
        }
        None
    });
    let (session, stream) = rig.stream();
    assert!(now(stream.finish()).is_pending());
    rig.driver
        .inner
        .as_mut()
        .unwrap()
        .hints
        .push(LinkChange::Unreachable(addr(3)));
    assert!(rig.poll().is_pending());
    assert_eq!(
        now(stream.finish()).map(|r| r.unwrap_err().code()),
        Poll::Ready("session.timed_out")
    );
    stream.reset(1);
    assert_eq!(now(session.closed()), Poll::Ready(CloseReason::TimedOut));
    drop((stream, session));
    assert_eq!(rig.shared().lock().board.sessions().count(), 0, "nothing of it is kept");
}
