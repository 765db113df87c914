//! The peer book told and expected by name, without a node around it.
//!
//! Invariants: each test tells the book what happened and expects every decision, in order. Not here: handshakes and
//! packets (`net-kernel`, `tests/`).

use alloc::vec;
use alloc::vec::Vec;

use net_base::limit::MAX_ATTEMPTS;
use net_base::rng::Seed;
use net_base::{
    Addr, AssociationId, AttemptId, CommandId, EntityId, Epoch, Instant, Now, Seat, SeatId, SessionId, SessionKey,
    UnixNanos,
};

use crate::{Admission, Agreed, Failure, In, Out, Peers, Refusal};

const A: EntityId = EntityId([1; 32]);
const B: EntityId = EntityId([2; 32]);

/// A peer book and what it decided.
struct Rig {
    peers: Seat<Peers>,
}

/// Expects decisions, in order, and none besides.
macro_rules! expect_out {
    ($rig:expr, $($out:pat),+ $(,)?) => {{
        $(
            let out = $rig.peers.pop_out();
            assert!(matches!(out, Some($out)), "expected {}, got {out:?}", stringify!($out));
        )+
        expect_quiet!($rig);
    }};
}

/// Expects no decision.
macro_rules! expect_quiet {
    ($rig:expr) => {{
        let out = $rig.peers.pop_out();
        assert!(out.is_none(), "expected nothing more, got {out:?}");
        $rig.peers.check();
    }};
}

fn addr(port: u16) -> Addr {
    ([10, 0, 0, 1], port).into()
}

impl Rig {
    fn new(max_sessions: usize) -> Self {
        let seed = Seed::new([3; 32]);
        Self {
            peers: Seat::new(SeatId(2), Peers::new(max_sessions), &seed),
        }
    }

    fn tell(&mut self, input: In<'_>) {
        let now = Now {
            mono: Instant::from_nanos(1),
            wall: UnixNanos(1),
        };
        self.peers.handle(now, input, ());
    }

    fn connect(&mut self, command: u64, peer: EntityId) {
        self.tell(In::Connect {
            command: CommandId(command),
            peer,
            addresses: &[addr(1)],
        });
    }

    /// Connects and answers the dial's name and our label.
    fn dial(&mut self, command: u64, peer: EntityId) -> (AttemptId, AssociationId) {
        self.connect(command, peer);
        self.dialling()
    }

    fn dialling(&mut self) -> (AttemptId, AssociationId) {
        let Some(Out::Dial {
            attempt, association, ..
        }) = self.peers.pop_out()
        else {
            panic!("a dial");
        };
        expect_quiet!(self);
        (attempt, association)
    }

    fn sessions(&self) -> Vec<EntityId> {
        self.peers.machine().sessions().map(|(_, peer)| peer).collect()
    }

    /// A live session with `peer` that it began.
    fn live(&mut self, peer: EntityId) -> (SessionKey, Agreed) {
        let agreed = key(peer, 10, 20);
        self.tell(In::Confirmed(agreed, Admission::Admitted));
        let Some(Out::Start(session, _)) = self.peers.pop_out() else {
            panic!("a session");
        };
        expect_out!(self, Out::Connected { command: None, .. });
        (session, agreed)
    }
}

fn key(peer: EntityId, local: u64, remote: u64) -> Agreed {
    Agreed {
        local: SessionId(local << 32 | remote),
        peer,
        epoch: Epoch(1),
        local_association: AssociationId(local),
        remote_association: AssociationId(remote),
        address: addr(7),
    }
}

#[test]
fn a_dial_that_agrees_a_key_starts_a_session_and_answers_whoever_waited() {
    let mut rig = Rig::new(4);
    let (attempt, label) = rig.dial(1, A);
    rig.connect(2, A);
    expect_quiet!(rig);
    assert!(rig.peers.machine().is_dialling(&A));
    rig.tell(In::Dialled(attempt, key(A, label.0, 9)));
    expect_out!(
        rig,
        Out::Start(SessionKey(1), _),
        Out::Connected {
            session: SessionKey(1),
            peer: A,
            command: Some(CommandId(1)),
            ..
        },
        Out::Connected {
            command: Some(CommandId(2)),
            ..
        },
    );
    assert_eq!(rig.peers.machine().peer_of(SessionKey(1)), Some(A));
    rig.connect(3, A);
    expect_out!(
        rig,
        Out::Connected {
            session: SessionKey(1),
            command: Some(CommandId(3)),
            ..
        }
    );
}

#[test]
fn a_dial_that_fails_tells_everyone_who_waited_why() {
    let mut rig = Rig::new(4);
    let (attempt, label) = rig.dial(1, A);
    rig.connect(2, A);
    rig.tell(In::Failed {
        attempt,
        sent: 7,
        unreachable: true,
    });
    let silent = Failure::Silent {
        sent: 7,
        unreachable: true,
    };
    for command in [1, 2] {
        let failed = Out::ConnectFailed {
            command: CommandId(command),
            peer: A,
            why: silent,
        };
        assert_eq!(rig.peers.pop_out(), Some(failed));
    }
    expect_quiet!(rig);
    rig.tell(In::Dialled(attempt, key(A, label.0, 9)));
    expect_quiet!(rig);
    rig.tell(In::Failed {
        attempt,
        sent: 9,
        unreachable: false,
    });
    expect_quiet!(rig);
    assert!(!rig.peers.machine().is_dialling(&A));
}

#[test]
fn every_agreed_key_finds_its_place() {
    // (whether a session is live, labels and epoch of the new key, what becomes of it)
    let table: [(bool, (u64, u64, u64), &str); 5] = [
        (false, (10, 20, 1), "start"),
        (true, (10, 20, 1), "join"),
        (true, (10, 21, 1), "restart"),
        (true, (11, 20, 1), "restart"),
        (true, (10, 20, 2), "restart"),
    ];
    for (live, (local, remote, epoch), fate) in table {
        for ours in [false, true] {
            let mut rig = Rig::new(4);
            if live {
                rig.live(A);
            }
            let agreed = Agreed {
                epoch: Epoch(epoch),
                local: SessionId(99),
                ..key(A, local, remote)
            };
            if ours {
                if live {
                    rig.tell(In::RekeyDue(SessionKey(1)));
                } else {
                    rig.connect(1, A);
                }
                let (attempt, _) = rig.dialling();
                rig.tell(In::Dialled(attempt, agreed));
            } else {
                rig.tell(In::Confirmed(agreed, Admission::Admitted));
            }
            match (fate, ours) {
                ("start", _) => expect_out!(rig, Out::Start(..), Out::Connected { .. }),
                ("join", true) => expect_out!(rig, Out::Propose(SessionKey(1), _)),
                ("join", false) => expect_out!(rig, Out::Adopt(SessionKey(1), _)),
                (_, _) => expect_out!(
                    rig,
                    Out::Restarted(SessionKey(1), A),
                    Out::Start(SessionKey(2), _),
                    Out::Connected { command: None, .. },
                ),
            }
            assert_eq!(rig.sessions(), [A]);
        }
    }
}

#[test]
fn a_peer_that_gets_in_first_answers_those_who_dial_it_and_the_dial_goes_on() {
    let mut rig = Rig::new(4);
    let (attempt, label) = rig.dial(1, A);
    rig.tell(In::Confirmed(key(A, label.0, 9), Admission::Admitted));
    expect_out!(
        rig,
        Out::Start(SessionKey(1), _),
        Out::Connected {
            command: Some(CommandId(1)),
            ..
        },
    );
    rig.tell(In::Dialled(attempt, key(A, label.0, 9)));
    expect_out!(rig, Out::Propose(SessionKey(1), _));
    // Had it failed instead, nobody would hear: nobody waits.
    let mut rig = Rig::new(4);
    let (attempt, label) = rig.dial(1, A);
    rig.tell(In::Confirmed(key(A, label.0, 9), Admission::Admitted));
    while rig.peers.pop_out().is_some() {}
    rig.tell(In::Failed {
        attempt,
        sent: 3,
        unreachable: false,
    });
    expect_quiet!(rig);
    assert_eq!(rig.sessions(), [A]);
}

#[test]
fn whoever_is_not_admitted_is_refused_and_disturbs_nobody() {
    let known = Epoch(9);
    for why in [Admission::NotAllowed, Admission::RolledBack { known }] {
        let mut rig = Rig::new(4);
        let (session, _) = rig.live(A);
        rig.tell(In::Confirmed(key(A, 55, 66), why));
        let Some(Out::Refuse(refused, _, told)) = rig.peers.pop_out() else {
            panic!("a refusal");
        };
        assert_eq!(told, why);
        assert_ne!(refused, session);
        expect_quiet!(rig);
        assert_eq!(rig.peers.machine().peer_of(session), Some(A));
    }
}

#[test]
fn a_dialled_peer_from_an_older_state_fails_the_command_and_is_told() {
    let mut rig = Rig::new(4);
    let (attempt, label) = rig.dial(1, A);
    let known = Epoch(9);
    rig.tell(In::DialledRefused(
        attempt,
        key(A, label.0, 9),
        Admission::RolledBack { known },
    ));
    expect_out!(
        rig,
        Out::ConnectFailed {
            command: CommandId(1),
            why: Failure::PeerRolledBack,
            ..
        },
        Out::Refuse(_, _, Admission::RolledBack { .. }),
    );
    assert_eq!(rig.sessions(), []);
}

#[test]
fn a_full_book_takes_nobody_and_dials_nobody() {
    let mut rig = Rig::new(1);
    rig.live(A);
    rig.tell(In::Confirmed(key(B, 1, 2), Admission::Admitted));
    expect_out!(rig, Out::Refuse(_, _, Admission::NotAllowed));
    rig.connect(1, B);
    expect_out!(
        rig,
        Out::Refused {
            command: CommandId(1),
            why: Refusal::TableFull,
            ..
        }
    );
    rig.tell(In::Ended(SessionKey(1)));
    rig.tell(In::Confirmed(key(B, 1, 2), Admission::Admitted));
    expect_out!(rig, Out::Start(..), Out::Connected { peer: B, .. });
}

#[test]
fn a_dial_holds_the_place_of_its_session() {
    let mut rig = Rig::new(1);
    let (attempt, label) = rig.dial(1, A);
    rig.connect(2, B);
    expect_out!(
        rig,
        Out::Refused {
            command: CommandId(2),
            why: Refusal::TableFull,
            ..
        }
    );
    rig.tell(In::Confirmed(key(B, 1, 2), Admission::Admitted));
    expect_out!(rig, Out::Refuse(_, _, Admission::NotAllowed));
    // The peer that is dialled may take that place itself.
    rig.tell(In::Confirmed(key(A, label.0, 9), Admission::Admitted));
    let Some(Out::Start(session, _)) = rig.peers.pop_out() else {
        panic!("a session");
    };
    expect_out!(rig, Out::Connected { .. });
    rig.tell(In::Dialled(attempt, key(A, label.0, 9)));
    expect_out!(rig, Out::Propose(..));
    // A rekey needs no place of its own.
    rig.tell(In::RekeyDue(session));
    rig.dialling();
    rig.tell(In::Ended(session));
    expect_out!(rig, Out::CancelDial(_));
    rig.dial(3, B);
}

#[test]
fn bad_addresses_and_crowds_are_refused() {
    let mut rig = Rig::new(100_000);
    for addresses in [&[][..], &[addr(1); 17][..]] {
        rig.tell(In::Connect {
            command: CommandId(1),
            peer: A,
            addresses,
        });
        expect_out!(
            rig,
            Out::Refused {
                command: CommandId(1),
                why: Refusal::BadAddresses,
                ..
            }
        );
    }
    rig.dial(0, A);
    for command in 1..64 {
        rig.connect(command, A);
    }
    expect_quiet!(rig);
    rig.connect(64, A);
    expect_out!(
        rig,
        Out::Refused {
            command: CommandId(64),
            why: Refusal::TableFull,
            ..
        }
    );
    for n in 1..MAX_ATTEMPTS as u64 {
        let mut id = [9; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        rig.connect(100 + n, EntityId(id));
        assert!(matches!(rig.peers.pop_out(), Some(Out::Dial { .. })));
    }
    rig.connect(99, B);
    expect_out!(
        rig,
        Out::Refused {
            command: CommandId(99),
            why: Refusal::TableFull,
            ..
        }
    );
}

#[test]
fn a_cancelled_command_is_answered_once_and_the_last_one_ends_the_dial() {
    let mut rig = Rig::new(4);
    let (attempt, label) = rig.dial(1, A);
    rig.connect(2, A);
    rig.tell(In::Cancel(CommandId(1)));
    expect_out!(
        rig,
        Out::ConnectFailed {
            command: CommandId(1),
            why: Failure::Cancelled,
            ..
        }
    );
    rig.tell(In::Cancel(CommandId(1)));
    expect_quiet!(rig);
    rig.tell(In::Cancel(CommandId(2)));
    let Some(Out::ConnectFailed { .. }) = rig.peers.pop_out() else {
        panic!("an answer");
    };
    assert_eq!(rig.peers.pop_out(), Some(Out::CancelDial(attempt)));
    expect_quiet!(rig);
    rig.tell(In::Dialled(attempt, key(A, label.0, 9)));
    expect_quiet!(rig);
}

#[test]
fn a_session_is_rekeyed_once_at_a_time_at_its_latest_address() {
    let mut rig = Rig::new(4);
    let (session, agreed) = rig.live(A);
    rig.tell(In::Moved(session, addr(8)));
    rig.tell(In::RekeyDue(session));
    let Some(Out::Dial {
        peer,
        addresses,
        association,
        attempt,
    }) = rig.peers.pop_out()
    else {
        panic!("a dial");
    };
    assert_eq!(
        (peer, addresses, association),
        (A, vec![addr(8)], agreed.local_association),
        "for the association that is"
    );
    rig.tell(In::RekeyDue(session));
    expect_quiet!(rig);
    rig.tell(In::Ended(session));
    assert_eq!(rig.peers.pop_out(), Some(Out::CancelDial(attempt)));
    expect_quiet!(rig);
    rig.tell(In::RekeyDue(session));
    rig.tell(In::Moved(session, addr(9)));
    rig.tell(In::Ended(session));
    expect_quiet!(rig);
}

#[test]
fn after_a_shut_down_nothing_begins() {
    let mut rig = Rig::new(4);
    let (attempt, _) = rig.dial(1, A);
    rig.tell(In::ShutDown);
    let Some(Out::ConnectFailed {
        why: Failure::Cancelled,
        ..
    }) = rig.peers.pop_out()
    else {
        panic!("an answer");
    };
    assert_eq!(rig.peers.pop_out(), Some(Out::CancelDial(attempt)));
    rig.connect(2, A);
    expect_out!(
        rig,
        Out::Refused {
            command: CommandId(2),
            why: Refusal::ShutDown,
            ..
        }
    );
    rig.tell(In::Confirmed(key(B, 1, 2), Admission::Admitted));
    expect_out!(rig, Out::Refuse(_, _, Admission::NotAllowed));
}
