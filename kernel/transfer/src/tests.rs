//! Both sides in one room: every message they exchange is handed over, lost with the session, or crossed by a crash.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use crate::disk::{DiskError, PartialKey, Source, Store as _};
use crate::limit::{CHUNK, MARK_GRAIN};
use crate::memory::{Fate, Memory};
use crate::message::{self, Kind, Message, Refusal, Reject, Skip, Token, Totals, VERSION};
use crate::name::SafePath;
use crate::sender::Listed;
use crate::{Receiver, Sender, Step, Violation, receiver, sender};

const TOKEN: Token = Token([7; 32]);

/// Files of a sender, by entry, and those that changed since they were listed.
#[derive(Default)]
struct Files(BTreeMap<u32, Vec<u8>>, BTreeSet<u32>);

impl Source for Files {
    fn read(&mut self, entry: u32, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let bytes = self.0.get(&entry).ok_or(DiskError::Denied)?;
        let from = (at as usize).min(bytes.len());
        let len = into.len().min(bytes.len() - from);
        into[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn unchanged(&mut self, entry: u32) -> bool {
        !self.1.contains(&entry)
    }
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A tree to send: paths with what they hold; `None` is a directory.
struct Tree {
    listed: Vec<Listed>,
    files: Files,
}

fn tree(entries: &[(&str, Option<Vec<u8>>)]) -> Tree {
    let mut files = Files::default();
    let listed = entries.iter().enumerate().map(|(at, (path, bytes))| {
        let kind = match bytes {
            None => Kind::Directory,
            Some(bytes) => {
                files.0.insert(at as u32, bytes.clone());
                Kind::File {
                    size: bytes.len() as u64,
                    executable: path.ends_with(".sh"),
                }
            }
        };
        Listed {
            names: path.split('/').map(String::from).collect(),
            kind,
        }
    });
    Tree {
        listed: listed.collect(),
        files,
    }
}

/// One attempt: a session in which both sides talk until they are over, or until `steps` messages were handed over.
struct Attempt {
    sender: Sender,
    receiver: Receiver,
    to_receiver: VecDeque<Vec<u8>>,
    to_sender: VecDeque<Vec<u8>>,
    handed: u64,
    sender_events: Vec<sender::Event>,
    receiver_events: Vec<receiver::Event>,
}

impl Attempt {
    fn new(tree: &Tree) -> Self {
        Self {
            sender: Sender::new(tree.listed.clone(), TOKEN).expect("a list within limits"),
            receiver: Receiver::new(u64::MAX),
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            handed: 0,
            sender_events: Vec::new(),
            receiver_events: Vec::new(),
        }
    }

    /// Runs until both are over (`true`) or so many messages were handed over (`false`).
    fn run(&mut self, tree: &mut Tree, store: &mut Memory, limit: u64) -> Result<bool, Violation> {
        let mut out = Vec::new();
        loop {
            if self.handed >= limit {
                return Ok(false);
            }
            let mut busy = false;
            if let Some(message) = self.to_receiver.pop_front() {
                self.handed += 1;
                busy = true;
                self.receiver.receive(&message, store)?;
            }
            if let Some(message) = self.to_sender.pop_front() {
                self.handed += 1;
                busy = true;
                self.sender.receive(&message)?;
            }
            let taken = self.receiver.step(store, &mut out);
            if taken == Step::Message {
                self.to_sender.push_back(out.clone());
            }
            let sent = if self.to_receiver.len() < 4 {
                self.sender.step(&mut tree.files, &mut out)
            } else {
                Step::Wait
            };
            if sent == Step::Message {
                self.to_receiver.push_back(out.clone());
            }
            while let Some(event) = self.sender.event() {
                self.sender_events.push(event);
            }
            while let Some(event) = self.receiver.event() {
                self.receiver_events.push(event);
            }
            if taken == Step::Over && sent == Step::Over {
                return Ok(true);
            }
            let works = |step| matches!(step, Step::Message | Step::More);
            assert!(busy || works(taken) || works(sent), "both wait for each other");
        }
    }
}

fn complete(tree: &mut Tree, store: &mut Memory) -> Attempt {
    let mut attempt = Attempt::new(tree);
    assert_eq!(attempt.run(tree, store, u64::MAX), Ok(true));
    attempt
}

fn same(tree: &Tree, store: &Memory) {
    let sent: BTreeMap<String, Vec<u8>> = tree
        .listed
        .iter()
        .enumerate()
        .filter_map(|(at, listed)| Some((listed.names.join("/"), tree.files.0.get(&(at as u32))?.clone())))
        .collect();
    let stored: BTreeMap<String, Vec<u8>> = store
        .files()
        .map(|(name, bytes, _)| (name.to_string(), bytes.to_vec()))
        .collect();
    assert_eq!(stored.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
    assert!(stored == sent, "what is stored differs from what was sent");
}

fn mixed() -> Tree {
    tree(&[
        ("empty", Some(Vec::new())),
        ("one", Some(bytes(1, 1))),
        ("dir", None),
        ("dir/run.sh", Some(bytes(2, 3 * CHUNK + 5))),
        ("dir/deeper", None),
        ("dir/deeper/data", Some(bytes(3, 2 * MARK_GRAIN as usize + 77))),
    ])
}

#[test]
fn a_tree_arrives_in_its_shape() {
    let (mut tree, mut store) = (mixed(), Memory::new());
    let attempt = complete(&mut tree, &mut store);
    same(&tree, &store);
    assert_eq!(store.directories().collect::<Vec<_>>(), ["dir", "dir/deeper"]);
    assert_eq!(store.files().filter(|(_, _, executable)| *executable).count(), 1);
    assert_eq!(store.partials(), 0);
    assert_eq!(attempt.sender.progress(), attempt.sender.totals().bytes);
    assert_eq!(attempt.receiver.progress(), attempt.receiver.totals().bytes);
}

#[test]
fn many_small_files_arrive() {
    let names: Vec<String> = (0..500).map(|n| alloc::format!("f{n}")).collect();
    let entries: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (name.as_str(), Some(bytes(n as u64, n % 97))))
        .collect();
    let (mut tree, mut store) = (tree(&entries), Memory::new());
    complete(&mut tree, &mut store);
    same(&tree, &store);
}

#[test]
fn nothing_is_sent_twice_after_the_session_was_lost_at_any_message() {
    let mut cut = 1;
    loop {
        let (mut tree, mut store) = (mixed(), Memory::new());
        let mut attempt = Attempt::new(&tree);
        if attempt.run(&mut tree, &mut store, cut).expect("no violation") {
            assert!(cut > 20, "the transfer has many messages");
            return;
        }
        let before = attempt.receiver.progress();
        let again = complete(&mut tree, &mut store);
        same(&tree, &store);
        // Directories and what was settled count as progress; a file goes on where it was.
        let began: u64 = again
            .receiver_events
            .iter()
            .map(|event| {
                if let receiver::Event::Began(_, offset) = event {
                    *offset
                } else if let receiver::Event::Stored(file, true) = event {
                    tree.files.0.get(file).map_or(0, Vec::len) as u64
                } else {
                    0
                }
            })
            .sum();
        assert!(began >= before, "{began} of {before} bytes were kept at cut {cut}");
        cut += 1;
    }
}

#[test]
fn a_crash_at_any_message_leaves_no_half_file_and_nothing_that_was_told_is_lost() {
    for seed in 0..4 {
        let mut cut = 1;
        loop {
            let (mut tree, mut store) = (mixed(), Memory::new());
            let mut attempt = Attempt::new(&tree);
            let over = attempt.run(&mut tree, &mut store, cut).expect("no violation");
            store.crash(|n, len| {
                let draw = u64::from_le_bytes(bytes(seed * 1_000_003 + cut * 997 + n, 8).try_into().expect("8 bytes"));
                match draw % 3 {
                    0 => Fate::Kept,
                    1 => Fate::Lost,
                    _ => Fate::Torn((draw >> 8) as usize % (len + 1)),
                }
            });
            for (name, stored, _) in store.files() {
                let at = tree
                    .listed
                    .iter()
                    .position(|listed| listed.names.join("/") == name)
                    .expect("a name that was offered");
                assert!(
                    stored == &tree.files.0[&(at as u32)][..],
                    "half of {name} is under its name"
                );
            }
            for event in &attempt.sender_events {
                if let sender::Event::Stored(entry, _) = event {
                    let name = tree.listed[*entry as usize].names.join("/");
                    let there =
                        store.files().any(|(stored, ..)| stored == name) || store.directories().any(|d| d == name);
                    assert!(there, "{name} was told as stored");
                }
            }
            complete(&mut tree, &mut store);
            same(&tree, &store);
            if over {
                break;
            }
            cut += 1;
        }
    }
}

#[test]
fn what_is_there_already_is_not_sent_and_nothing_is_overwritten() {
    let mut tree = tree(&[
        ("same", Some(bytes(1, 5_000))),
        ("other", Some(bytes(2, 5_000))),
        ("longer", Some(bytes(3, 10))),
    ]);
    let mut store = Memory::new();
    store.put("same", &bytes(1, 5_000));
    store.put("other", &bytes(9, 5_000));
    store.put("longer", &bytes(9, 11));
    let attempt = complete(&mut tree, &mut store);
    assert_eq!(attempt.sender_events.len(), 4);
    for expected in [
        sender::Event::Stored(0, true),
        sender::Event::Rejected(1, Reject::Exists),
        sender::Event::Rejected(2, Reject::Exists),
    ] {
        assert!(
            attempt.sender_events.contains(&expected),
            "{expected:?} in {:?}",
            attempt.sender_events
        );
    }
    assert!(
        !attempt
            .receiver_events
            .iter()
            .any(|event| matches!(event, receiver::Event::Began(..)))
    );
    let kept: Vec<_> = store.files().map(|(_, bytes, _)| bytes.to_vec()).collect();
    assert_eq!(kept, [bytes(9, 11), bytes(9, 5_000), bytes(1, 5_000)]);
}

#[test]
fn a_file_that_changed_between_attempts_arrives_as_it_is_now() {
    for flip in [0, MARK_GRAIN as usize + 3, 3 * MARK_GRAIN as usize] {
        let original = bytes(1, 4 * MARK_GRAIN as usize);
        let mut store = Memory::new();
        let mut first = tree(&[("f", Some(original.clone()))]);
        assert_eq!(Attempt::new(&first).run(&mut first, &mut store, 30), Ok(false));
        let mut changed = original;
        changed[flip] ^= 1;
        let mut second = tree(&[("f", Some(changed))]);
        complete(&mut second, &mut store);
        same(&second, &store);
    }
}

#[test]
fn nobody_else_goes_on_with_what_arrived_under_a_token() {
    let (mut tree, mut store) = (tree(&[("f", Some(bytes(1, 10 * CHUNK)))]), Memory::new());
    assert_eq!(Attempt::new(&tree).run(&mut tree, &mut store, 10), Ok(false));
    let mut attempt = Attempt::new(&tree);
    attempt.sender = Sender::new(tree.listed.clone(), Token([8; 32])).expect("a list within limits");
    assert_eq!(attempt.run(&mut tree, &mut store, u64::MAX), Ok(true));
    assert!(attempt.receiver_events.contains(&receiver::Event::Began(0, 0)));
    assert_eq!(store.partials(), 1, "the first sender's part stays");
    same(&tree, &store);
}

#[test]
fn a_file_that_became_another_while_it_was_read_gets_no_name() {
    let (old, new) = (bytes(1, 10 * CHUNK), bytes(2, 10 * CHUNK));
    let (mut tree, mut store) = (tree(&[("f", Some(old)), ("empty", Some(Vec::new()))]), Memory::new());
    let mut attempt = Attempt::new(&tree);
    assert_eq!(attempt.run(&mut tree, &mut store, 10), Ok(false), "in the middle of it");
    // Written to in place: its length stays, and what is sent matches its hash.
    tree.files.0.insert(0, new.clone());
    tree.files.1.insert(0);
    assert_eq!(attempt.run(&mut tree, &mut store, u64::MAX), Ok(true));
    assert!(
        attempt
            .sender_events
            .contains(&sender::Event::Skipped(0, Skip::Changed))
    );
    assert!(
        attempt
            .receiver_events
            .contains(&receiver::Event::Skipped(0, Skip::Changed))
    );
    let there: Vec<&str> = store.files().map(|(name, ..)| name).collect();
    assert_eq!(there, ["empty"], "a mixture of both has no name");
    // Listed anew it is what it became. A copy that is there is no match for a file that changes meanwhile.
    tree.files.1.clear();
    complete(&mut tree, &mut store);
    same(&tree, &store);
    tree.files.1.insert(0);
    let attempt = complete(&mut tree, &mut store);
    assert!(
        attempt
            .sender_events
            .contains(&sender::Event::Skipped(0, Skip::Changed))
    );
}

#[test]
fn a_file_that_shrinks_or_cannot_be_read_is_left_out_and_the_rest_arrives() {
    let mut tree = tree(&[
        ("shrinks", Some(bytes(1, 3 * CHUNK))),
        ("gone", Some(bytes(2, 10))),
        ("ok", Some(bytes(3, 10))),
    ]);
    tree.files.0.get_mut(&0).expect("a file").truncate(CHUNK + 1);
    tree.files.0.remove(&1);
    let mut store = Memory::new();
    let attempt = complete(&mut tree, &mut store);
    for expected in [
        sender::Event::Skipped(0, Skip::Changed),
        sender::Event::Skipped(1, Skip::Unreadable),
        sender::Event::Stored(2, false),
    ] {
        assert!(
            attempt.sender_events.contains(&expected),
            "{expected:?} in {:?}",
            attempt.sender_events
        );
    }
    assert_eq!(store.files().map(|(name, ..)| name).collect::<Vec<_>>(), ["ok"]);
}

#[test]
fn an_offer_without_room_is_refused_before_anything_is_written_and_goes_on_when_there_is() {
    let (mut tree, mut store) = (tree(&[("f", Some(bytes(1, 1_000_000)))]), Memory::new());
    store.limit(Some(999_999));
    let attempt = complete(&mut tree, &mut store);
    assert_eq!(
        attempt.sender_events,
        [sender::Event::Refused(Refusal::Room, 1_000_000, 999_999)]
    );
    assert_eq!(store.calls(), 0);
    // Room for what is missing is enough.
    store.limit(Some(1_000_000));
    assert_eq!(Attempt::new(&tree).run(&mut tree, &mut store, 8), Ok(false));
    assert_eq!(store.partials(), 1);
    complete(&mut tree, &mut store);
    same(&tree, &store);
}

#[test]
fn a_disk_that_becomes_full_ends_the_transfer_and_keeps_what_came() {
    let (mut tree, mut store) = (
        tree(&[("f", Some(bytes(1, 10 * CHUNK))), ("g", Some(bytes(2, 10)))]),
        Memory::new(),
    );
    let mut attempt = Attempt::new(&tree);
    assert_eq!(attempt.run(&mut tree, &mut store, 8), Ok(false));
    store.limit(Some(5 * CHUNK as u64));
    assert_eq!(attempt.run(&mut tree, &mut store, u64::MAX), Ok(true));
    let rest = 5 * CHUNK as u64 + 10;
    assert_eq!(
        attempt.sender_events.last(),
        Some(&sender::Event::Refused(Refusal::Full, rest, 0))
    );
    assert_eq!((store.files().count(), store.partials()), (0, 1));
    store.limit(None);
    let again = complete(&mut tree, &mut store);
    same(&tree, &store);
    let resumed = again
        .receiver_events
        .iter()
        .any(|event| matches!(event, receiver::Event::Began(0, offset) if *offset > 0));
    assert!(resumed, "{:?}", again.receiver_events);
}

#[test]
fn the_end_is_told_only_when_the_rest_of_a_rejected_file_has_come() {
    let mut store = Memory::new();
    let mut receiver = waiting(&mut store);
    let mut out = Vec::new();
    let mut say = |receiver: &mut Receiver, store: &mut Memory, message: Message<'_>| {
        message.encode(&mut out);
        receiver.receive(&out, store).expect("within the protocol");
    };
    say(&mut receiver, &mut store, Message::Start(0, 0));
    // The partial file vanishes: its last entry is rejected while its bytes are on their way.
    store.discard(PartialKey::new(&TOKEN, &SafePath::new(["f"]).expect("a name")));
    say(&mut receiver, &mut store, Message::Data(&[0; 5]));
    let mut reply = Vec::new();
    assert_eq!(receiver.step(&mut store, &mut reply), Step::Message);
    assert_eq!(Message::decode(&reply), Some(Message::Reject(0, Reject::Failed)));
    assert_eq!(receiver.step(&mut store, &mut reply), Step::Wait);
    say(&mut receiver, &mut store, Message::Data(&[0; 5]));
    say(&mut receiver, &mut store, Message::Skip(0, Skip::Rejected));
    assert_eq!(receiver.step(&mut store, &mut reply), Step::Message);
    assert_eq!(Message::decode(&reply), Some(Message::Done));
}

#[test]
fn an_offer_that_is_too_large_and_a_busy_receiver_refuse() {
    let mut tree = tree(&[("f", Some(bytes(1, 100)))]);
    let mut store = Memory::new();
    let mut attempt = Attempt::new(&tree);
    attempt.receiver = Receiver::new(99);
    assert_eq!(attempt.run(&mut tree, &mut store, u64::MAX), Ok(true));
    assert_eq!(
        attempt.sender_events,
        [sender::Event::Refused(Refusal::TooLarge, 100, 99)]
    );
    let mut attempt = Attempt::new(&tree);
    attempt.receiver = Receiver::refusing(Refusal::Busy);
    assert_eq!(attempt.run(&mut tree, &mut store, u64::MAX), Ok(true));
    assert_eq!(attempt.sender_events, [sender::Event::Refused(Refusal::Busy, 0, 0)]);
}

#[test]
fn hostile_names_stay_inside_and_equal_ones_conflict() {
    let mut tree = tree(&[("x", Some(bytes(1, 1))), ("x", Some(bytes(2, 1)))]);
    tree.listed[0].names = vec!["../x".into()];
    tree.listed[1].names = vec!["..\\x".into()];
    let mut store = Memory::new();
    let attempt = complete(&mut tree, &mut store);
    assert!(
        attempt
            .sender_events
            .contains(&sender::Event::Rejected(1, Reject::Conflict))
    );
    assert_eq!(store.files().map(|(name, ..)| name).collect::<Vec<_>>(), [".._x"]);
}

#[test]
fn a_file_where_a_directory_should_be_rejects_what_lies_below_alone() {
    let mut tree = tree(&[("d", None), ("d/f", Some(bytes(1, 1))), ("g", Some(bytes(2, 1)))]);
    let mut store = Memory::new();
    store.put("d", b"a file");
    let attempt = complete(&mut tree, &mut store);
    for expected in [
        sender::Event::Rejected(0, Reject::InTheWay),
        sender::Event::Rejected(1, Reject::InTheWay),
        sender::Event::Stored(2, false),
    ] {
        assert!(
            attempt.sender_events.contains(&expected),
            "{expected:?} in {:?}",
            attempt.sender_events
        );
    }
}

/// A receiver that has been told of one file of 10 bytes and waits for it.
fn waiting(store: &mut Memory) -> Receiver {
    let mut receiver = Receiver::new(u64::MAX);
    let mut out = Vec::new();
    Message::Offer(VERSION, Totals { entries: 1, bytes: 10 }, TOKEN).encode(&mut out);
    receiver.receive(&out, store).expect("an offer");
    let kind = Kind::File {
        size: 10,
        executable: false,
    };
    assert!(message::encode_entry(kind, ["f"].into_iter(), &mut out));
    receiver.receive(&out, store).expect("an entry");
    while receiver.step(store, &mut out) != Step::Wait {}
    receiver
}

#[test]
fn a_sender_that_breaks_the_protocol_is_told_apart() {
    let say = |messages: &[Message<'_>]| {
        let mut store = Memory::new();
        let mut receiver = waiting(&mut store);
        let mut out = Vec::new();
        messages.iter().try_for_each(|message| {
            message.encode(&mut out);
            receiver.receive(&out, &mut store)
        })
    };
    let (start, end) = (Message::Start(0, 0), Message::End([0; 32]));
    assert_eq!(say(&[Message::Data(b"x")]), Err(Violation::Unexpected(0x04)));
    assert_eq!(
        say(&[Message::Start(0, 5)]),
        Err(Violation::Malformed),
        "an offset that was not told"
    );
    assert_eq!(
        say(&[Message::Start(1, 0)]),
        Err(Violation::Unexpected(0x03)),
        "no such file"
    );
    assert_eq!(say(&[start.clone(), start.clone()]), Err(Violation::Unexpected(0x03)));
    assert_eq!(
        say(&[start.clone(), Message::Data(&[0; 11])]),
        Err(Violation::Malformed),
        "more than was offered"
    );
    assert_eq!(
        say(&[start.clone(), end.clone()]),
        Err(Violation::Malformed),
        "less than was offered"
    );
    assert_eq!(
        say(&[start.clone(), Message::Data(&[0; 10]), end]),
        Ok(()),
        "a hash that does not match is no breach"
    );
    assert_eq!(
        say(&[Message::Whole(0, [0; 32])]),
        Err(Violation::Unexpected(0x06)),
        "nothing whole was told"
    );
    assert_eq!(say(&[Message::Skip(0, Skip::Changed)]), Ok(()));
    assert_eq!(say(&[Message::Done]), Err(Violation::Unexpected(0x87)));
    assert_eq!(
        say(&[Message::Offer(VERSION, Totals::default(), TOKEN)]),
        Err(Violation::Unexpected(0x01))
    );
}

#[test]
fn what_does_not_match_its_hash_gets_no_name() {
    let mut store = Memory::new();
    let mut receiver = waiting(&mut store);
    let mut out = Vec::new();
    for message in [Message::Start(0, 0), Message::Data(&[1; 10]), Message::End([0; 32])] {
        message.encode(&mut out);
        receiver.receive(&out, &mut store).expect("within the protocol");
    }
    assert_eq!(receiver.step(&mut store, &mut out), Step::Message);
    assert_eq!(Message::decode(&out), Some(Message::Reject(0, Reject::Mismatch)));
    assert_eq!((store.files().count(), store.partials()), (0, 0));
}

#[test]
fn another_version_is_refused() {
    let (mut receiver, mut store, mut out) = (Receiver::new(u64::MAX), Memory::new(), Vec::new());
    Message::Offer(VERSION + 1, Totals::default(), TOKEN).encode(&mut out);
    receiver.receive(&out, &mut store).expect("an offer");
    assert_eq!(receiver.step(&mut store, &mut out), Step::Message);
    assert_eq!(Message::decode(&out), Some(Message::Refuse(Refusal::Version, 0, 0)));
    assert_eq!(receiver.step(&mut store, &mut out), Step::Over);
}

#[test]
fn an_empty_offer_is_done_at_once() {
    let (mut tree, mut store) = (tree(&[]), Memory::new());
    complete(&mut tree, &mut store);
}
