//! `net recv` before a peer that keeps no rule: names that lead elsewhere, sizes that cannot be, messages out of turn.
//!
//! The peer is a node of the driver that says what it likes. Nothing may appear outside the receiving directory, and whoever
//! sends properly afterwards is served. Not here: what a proper sender meets (`files.rs`).

use std::fs;
use std::path::Path;

use net_io_real::{Node, Session, Stream, StreamOptions, Ticket};
use net_kernel::transfer::message::{Kind, Message, Totals, VERSION, encode_entry};
use net_kernel::transfer::{Refusal, Token};
use net_kernel::wire::subprotocol::FILES;
use rustix::process::Signal;

use crate::common::Home;
use crate::files::{contents, recv, send};

const DATA: &[u8] = b"not yours";

fn offer(entries: u32, bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Message::Offer(VERSION, Totals { entries, bytes }, Token([9; 32])).encode(&mut out);
    out
}

fn entry(names: &[&str], size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let executable = false;
    assert!(encode_entry(
        Kind::File { size, executable },
        names.iter().copied(),
        &mut out
    ));
    out
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

/// A stream of the file transfer to whoever printed the ticket, and its session, which ends with its last handle.
async fn opened(node: &Node, ticket: &str) -> (Session, Stream) {
    let ticket: Ticket = ticket.parse().expect("a ticket");
    let session = node.connect(&ticket).await.expect("it answers");
    let options = StreamOptions {
        subprotocol: FILES,
        ..StreamOptions::default()
    };
    let stream = session.open(options).expect("a stream");
    (session, stream)
}

/// Says all of it and hears until the other side ends.
async fn answers(node: &Node, ticket: &str, said: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (session, mut stream) = opened(node, ticket).await;
    for message in said {
        if stream.send(message).await.is_err() {
            break;
        }
    }
    let mut heard = Vec::new();
    while let Ok(Some(message)) = stream.recv().await {
        heard.push(message.to_vec());
        if heard.last().is_some_and(|last| refusal(last).is_some()) {
            break;
        }
    }
    session.close(0, "").await;
    heard
}

fn refusal(message: &[u8]) -> Option<Refusal> {
    if let Some(Message::Refuse(why, ..)) = Message::decode(message) {
        Some(why)
    } else {
        None
    }
}

/// Offers one file under each of these paths and sends every one that is asked for; answers how many were stored.
async fn push(ticket: &str, paths: &[&[&str]]) -> usize {
    let node = Node::builder().bind().await.expect("a port");
    let (session, mut stream) = opened(&node, ticket).await;
    let count = paths.len() as u32;
    let mut said = vec![offer(count, u64::from(count) * DATA.len() as u64)];
    said.extend(paths.iter().map(|names| entry(names, DATA.len() as u64)));
    for message in &said {
        stream.send(message).await.expect("it takes the offer");
    }
    let (mut stored, hash) = (0, *blake3::hash(DATA).as_bytes());
    loop {
        let heard = stream.recv().await.expect("it answers").expect("it is not over");
        let message = Message::decode(&heard);
        assert!(message.is_some(), "{heard:?}");
        if message == Some(Message::Done) {
            session.close(0, "").await;
            node.close().await;
            return stored;
        }
        stored += usize::from(matches!(message, Some(Message::Stored(_))));
        let Some(Message::Have(asked, _)) = message else {
            continue;
        };
        for message in [Message::Start(asked, 0), Message::Data(DATA), Message::End(hash)] {
            stream
                .send(&encoded(&message))
                .await
                .expect("it takes what it asked for");
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

fn names_below(path: &Path) -> Vec<String> {
    contents(path).into_keys().collect()
}

#[test]
fn no_name_of_a_peer_leads_out_of_the_directory() {
    let home = Home::new();
    fs::create_dir_all(home.path("deep/in")).expect("made");
    let (receiver, ticket) = recv(&home, "deep/in", &["--keep"]);
    let absolute = home.path("absolute");
    let absolute = absolute.to_str().expect("text");
    let paths: [&[&str]; 12] = [
        &["../up"],
        &["..\\up"],
        &[".."],
        &["."],
        &[""],
        &[absolute],
        &["a/../../up"],
        &["nul\0here"],
        &[".net-partial"],
        &["CON"],
        &["new\nline"],
        &["proper"],
    ];
    let before = names_below(&home.path("deep/.."));
    let stored = run(async {
        let stored = push(&ticket, &paths).await;
        // What lies in a directory that was not offered has no place.
        let outside: [&[&str]; 2] = [&["..", "up"], &["..", "..", "up"]];
        let also = push(&ticket, &outside).await;
        assert_eq!(also, 0);
        stored
    });
    receiver.signal(Signal::TERM);
    receiver.wait();
    let there = contents(&home.path("deep/in"));
    let files: Vec<&String> = there.keys().filter(|name| !name.starts_with(".net-partial")).collect();
    assert_eq!(files.len(), stored, "{files:?}");
    assert!(
        stored >= 10 && there.get("proper") == Some(&Some(DATA.to_vec())),
        "{files:?}"
    );
    for name in files {
        let harmless = |c: char| !c.is_control() && !['/', '\\'].contains(&c);
        assert!(
            name.chars().all(harmless) && name != ".." && name != "." && name != "CON",
            "{name:?}"
        );
    }
    // Nothing has appeared beside or above it.
    let after = names_below(&home.path("deep/.."));
    let strange = after
        .iter()
        .filter(|name| !before.contains(name) && !name.starts_with("deep/in"));
    assert_eq!(strange.collect::<Vec<_>>(), [""; 0]);
    assert!(!Path::new(absolute).exists());
}

#[test]
fn sizes_that_cannot_be_are_refused_before_a_byte_is_written_and_the_next_sender_is_served() {
    let home = Home::new();
    fs::write(home.path("file"), b"a proper one").expect("written");
    let (receiver, ticket) = recv(&home, "in", &["--keep"]);
    run(async {
        let node = Node::builder().bind().await.expect("a port");
        let huge = answers(&node, &ticket, &[offer(1, u64::MAX), entry(&["f"], u64::MAX)]).await;
        assert_eq!(huge.iter().find_map(|one| refusal(one)), Some(Refusal::Room));
        let start = || encoded(&Message::Start(0, 0));
        let breaches: [Vec<Vec<u8>>; 7] = [
            // The sum is more than there are numbers for, or not what was said.
            vec![offer(2, 1), entry(&["f"], u64::MAX), entry(&["g"], u64::MAX)],
            vec![offer(1, 5), entry(&["f"], 6)],
            // More entries than any offer has.
            vec![offer(u32::MAX, 0)],
            // More bytes than were offered, fewer, and a file that nobody was asked for.
            vec![offer(1, 3), entry(&["f"], 3), start(), encoded(&Message::Data(b"four"))],
            vec![offer(1, 3), entry(&["f"], 3), start(), encoded(&Message::End([0; 32]))],
            vec![offer(1, 3), entry(&["f"], 3), encoded(&Message::Start(7, 0))],
            vec![offer(1, 3), vec![0xFF; 40]],
        ];
        for said in breaches {
            let heard = answers(&node, &ticket, &said).await;
            let done = heard.iter().any(|one| Message::decode(one) == Some(Message::Done));
            assert!(!done, "it goes on with a peer that lies: {said:?}");
        }
        node.close().await;
    });
    assert_eq!(
        names_below(&home.path("in")).iter().filter(|name| *name == "f").count(),
        0
    );
    send(&home, &["file"], &ticket).wait().succeeds();
    receiver.signal(Signal::TERM);
    receiver.wait();
    assert_eq!(fs::read(home.path("in/file")).expect("there"), b"a proper one");
}
