//! `net send` and `net recv`, as two processes over loopback: what arrives, what is kept when one of them is killed, and what
//! is refused.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::common::{Ended, Home, Running, json};
use rustix::process::Signal;

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Starts to receive into `dir` of this home and answers with the ticket.
pub fn recv(home: &Home, dir: &str, args: &[&str]) -> (Running, String) {
    let dir = home.path(dir);
    let fixed = ["recv", dir.to_str().expect("text"), "--bind", "127.0.0.1", "-o", "json"];
    let mut receiver = Running::start(home.net(fixed.iter().chain(args)));
    let ticket = receiver.event("receiving")["ticket"].as_str().expect("text").to_owned();
    (receiver, ticket)
}

pub fn send(home: &Home, what: &[&str], ticket: &str) -> Running {
    let paths = what.iter().map(|name| home.path(name).into_os_string());
    let args = paths.chain([ticket, "-o", "json"].map(Into::into));
    Running::start(home.net(std::iter::once("send".into()).chain(args)))
}

/// Every file and directory below `root`, with what it holds.
pub fn contents(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .strip_prefix(root)
                .expect("below")
                .to_str()
                .expect("text")
                .to_owned();
            let is_dir = path.is_dir();
            found.insert(name, (!is_dir).then(|| fs::read(&path).expect("a file")));
            if is_dir {
                left.push(path);
            }
        }
    }
    found
}

#[track_caller]
fn result(ended: &Ended, kind: &str) -> serde_json::Value {
    let document = json(&ended.text());
    assert_eq!(document["kind"], kind, "{document}");
    document
}

#[test]
fn a_directory_keeps_its_shape_and_links_are_left_out() {
    let home = Home::new();
    let tree = home.path("tree");
    fs::create_dir_all(tree.join("deep/er")).expect("made");
    fs::write(tree.join("big"), noise(1, 3 << 20)).expect("written");
    fs::write(tree.join("empty"), b"").expect("written");
    fs::write(tree.join("deep/er/run.sh"), b"#!/bin/sh\n").expect("written");
    fs::set_permissions(tree.join("deep/er/run.sh"), fs::Permissions::from_mode(0o755)).expect("set");
    symlink("/etc/passwd", tree.join("link")).expect("made");
    fs::write(home.path("other"), b"another file").expect("written");

    let (receiver, ticket) = recv(&home, "in", &[]);
    let sent = send(&home, &["tree", "other"], &ticket).wait();
    sent_left_out_the_link(&sent);
    let received = receiver.wait();
    let (sent, received) = (result(&sent, "sent"), result(received.succeeds(), "received"));
    assert_eq!(
        (&sent["files"], &sent["directories"]),
        (&received["files"], &received["directories"])
    );
    assert_eq!(received["files"], 4);
    fs::remove_file(tree.join("link")).expect("there");
    let mut expected: BTreeMap<String, Option<Vec<u8>>> = contents(&tree)
        .into_iter()
        .map(|(name, bytes)| (format!("tree/{name}"), bytes))
        .collect();
    expected.insert("tree".into(), None);
    expected.insert("other".into(), Some(b"another file".to_vec()));
    let arrived = contents(&home.path("in"));
    assert_eq!(
        arrived.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "no folder of partial files stays"
    );
    assert!(arrived == expected, "byte for byte");
    let mode = fs::metadata(home.path("in/tree/deep/er/run.sh"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111 & mode >> 2, "executable by whoever may read it");
    assert_ne!(mode & 0o100, 0);
}

#[track_caller]
fn sent_left_out_the_link(sent: &Ended) {
    assert_eq!(sent.code, Some(1), "{}", sent.stderr);
    assert!(
        sent.stderr.contains("E-INCOMPLETE") && sent.stderr.contains("tree/link"),
        "{}",
        sent.stderr
    );
}

#[test]
fn the_line_that_recv_prints_is_pasted_and_works() {
    let home = Home::new();
    fs::write(home.path("FILE..."), b"a strange name").expect("written");
    let dir = home.path("in");
    let mut receiver = Running::start(home.net(["recv", dir.to_str().expect("text"), "--bind", "127.0.0.1"]));
    let line = receiver.line(|line| line.strip_prefix("  ").map(str::to_owned));
    assert!(line.starts_with("net send FILE... net1"), "{line}");
    let pasted = home.shell(&format!("cd {} && {line}", home.path("").display()));
    let sent = Running::start(pasted).wait();
    assert!(
        sent.succeeds().text().starts_with("sent 1 file, 14 B"),
        "{}",
        sent.text()
    );
    assert!(receiver.wait().succeeds().text().starts_with("received 1 file, 14 B"));
    // Some systems cut dots off the end of a name, so that another file would be meant there.
    assert_eq!(fs::read(dir.join("FILE___")).expect("there"), b"a strange name");
}

#[test]
fn a_receiver_that_was_killed_goes_on_where_it_was() {
    let home = Home::new();
    let bytes = noise(2, 96 << 20);
    fs::write(home.path("file"), &bytes).expect("written");
    let (receiver, ticket) = recv(&home, "in", &[]);
    let sender = send(&home, &["file"], &ticket);
    until_partial(&home, 4 << 20);
    receiver.signal(Signal::KILL);
    receiver.wait();
    assert_eq!(
        contents(&home.path("in")).keys().filter(|name| *name == "file").count(),
        0,
        "no half file"
    );
    // The same identity, the same port: the ticket that the sender has is still good.
    let (receiver, again) = recv(&home, "in", &[]);
    assert_eq!(again, ticket);
    let (sent, received) = (sender.wait(), receiver.wait());
    let sent = result(sent.succeeds(), "sent");
    assert!(sent["attempts"].as_u64() >= Some(2), "{sent}");
    assert!(sent["bytes_resumed"].as_u64() >= Some(4 << 20), "{sent}");
    assert_eq!(result(received.succeeds(), "received")["bytes"], bytes.len());
    assert!(fs::read(home.path("in/file")).expect("there") == bytes, "byte for byte");
}

#[test]
fn a_sender_that_was_killed_goes_on_where_it_was() {
    let home = Home::new();
    let bytes = noise(3, 96 << 20);
    fs::write(home.path("file"), &bytes).expect("written");
    let (receiver, ticket) = recv(&home, "in", &[]);
    let sender = send(&home, &["file"], &ticket);
    until_partial(&home, 4 << 20);
    sender.signal(Signal::KILL);
    sender.wait();
    // The receiver still holds the session of the one that is gone.
    let sent = send(&home, &["file"], &ticket).wait();
    let sent = result(sent.succeeds(), "sent");
    assert!(sent["bytes_resumed"].as_u64() >= Some(4 << 20), "{sent}");
    assert_eq!(result(receiver.wait().succeeds(), "received")["bytes"], bytes.len());
    assert!(fs::read(home.path("in/file")).expect("there") == bytes, "byte for byte");
}

#[test]
fn a_file_that_is_written_to_while_it_is_sent_gets_no_name() {
    let home = Home::new();
    let mut bytes = noise(4, 96 << 20);
    fs::write(home.path("file"), &bytes).expect("written");
    fs::write(home.path("other"), b"calm").expect("written");
    let (receiver, ticket) = recv(&home, "in", &["--keep"]);
    let sender = send(&home, &["file", "other"], &ticket);
    until_partial(&home, 4 << 20);
    sender.signal(Signal::STOP);
    // In place, at both ends: its length stays, and what is read from now on fits no file that ever was.
    let file = fs::File::options().write(true).open(home.path("file")).expect("there");
    for at in [0, bytes.len() - 1_000] {
        let written = noise(5, 1_000);
        file.write_all_at(&written, at as u64).expect("written");
        bytes[at..at + 1_000].copy_from_slice(&written);
    }
    drop(file);
    sender.signal(Signal::CONT);
    let sent = sender.wait();
    assert_eq!(sent.code, Some(1), "{}", sent.stderr);
    assert!(
        sent.stderr.contains("E-INCOMPLETE") && sent.stderr.contains("the file changed while it was read"),
        "{}",
        sent.stderr
    );
    assert!(!home.path("in/file").exists(), "a mixture of both has no name");
    assert_eq!(fs::read(home.path("in/other")).expect("there"), b"calm");
    // Sent again it is what it became.
    let sent = send(&home, &["file", "other"], &ticket).wait();
    result(sent.succeeds(), "sent");
    assert!(fs::read(home.path("in/file")).expect("there") == bytes, "byte for byte");
    receiver.signal(Signal::TERM);
    receiver.wait().succeeds();
}

/// Waits until so much of a file lies there in part.
fn until_partial(home: &Home, len: u64) {
    loop {
        let folder = fs::read_dir(home.path("in/.net-partial")).expect("made at the start");
        let longest = folder
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .max();
        if longest >= Some(len) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_overwritten_and_what_is_there_is_not_sent_again() {
    let home = Home::new();
    fs::create_dir_all(home.path("in")).expect("made");
    for (name, ours, theirs) in [("same", b"equal", b"equal"), ("other", b"their", b"mine!")] {
        fs::write(home.path(name), ours).expect("written");
        fs::write(home.path("in").join(name), theirs).expect("written");
    }
    let (receiver, ticket) = recv(&home, "in", &[]);
    let sent = send(&home, &["same", "other"], &ticket).wait();
    assert_eq!(sent.code, Some(1), "{}", sent.stderr);
    let sent = result(&sent, "sent");
    assert_eq!(
        (&sent["files"], &sent["files_there_before"]),
        (&1.into(), &1.into()),
        "{sent}"
    );
    assert!(
        sent["left_out"][0]["why"]
            .as_str()
            .is_some_and(|why| why.contains("other content")),
        "{sent}"
    );
    assert_eq!(receiver.wait().code, Some(1));
    assert_eq!(fs::read(home.path("in/other")).expect("there"), b"mine!");
}

#[test]
fn a_link_in_the_way_leads_nowhere() {
    let home = Home::new();
    fs::create_dir_all(home.path("outside")).expect("made");
    fs::create_dir_all(home.path("in")).expect("made");
    symlink(home.path("outside"), home.path("in/tree")).expect("made");
    symlink(home.path("outside/target"), home.path("in/file")).expect("made");
    fs::create_dir_all(home.path("tree")).expect("made");
    fs::write(home.path("tree/f"), b"within").expect("written");
    fs::write(home.path("file"), b"through").expect("written");
    let (receiver, ticket) = recv(&home, "in", &[]);
    let sent = send(&home, &["tree", "file"], &ticket).wait();
    assert_eq!(sent.code, Some(1), "{}", sent.stderr);
    assert_eq!(result(&sent, "sent")["files"], 0);
    receiver.wait();
    assert!(contents(&home.path("outside")).is_empty());
}

#[test]
fn an_offer_beyond_the_limit_is_refused_and_the_next_is_taken() {
    let home = Home::new();
    fs::write(home.path("large"), noise(4, 2_000)).expect("written");
    fs::write(home.path("small"), noise(5, 1_000)).expect("written");
    let (receiver, ticket) = recv(&home, "in", &["--max", "1500"]);
    let refused = send(&home, &["large"], &ticket).wait();
    assert_eq!(refused.code, Some(8), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("E-PEER-LIMIT") && refused.stderr.contains("2.0 KiB were offered"),
        "{}",
        refused.stderr
    );
    send(&home, &["small"], &ticket).wait().succeeds();
    receiver.wait().succeeds();
    assert_eq!(contents(&home.path("in")).keys().collect::<Vec<_>>(), ["small"]);
}

#[test]
fn a_second_sender_is_told_that_the_receiver_is_busy() {
    let home = Home::new();
    let other_home = Home::new();
    fs::write(home.path("file"), noise(6, 96 << 20)).expect("written");
    fs::write(other_home.path("file"), b"small").expect("written");
    let (receiver, ticket) = recv(&home, "in", &[]);
    let first = send(&home, &["file"], &ticket);
    until_partial(&home, 1 << 20);
    first.signal(Signal::STOP);
    // Another user's transfer does not take the place of the first.
    let second = send(&other_home, &["file"], &ticket).wait();
    assert_eq!(second.code, Some(8), "{}", second.stderr);
    assert!(second.stderr.contains("E-BUSY"), "{}", second.stderr);
    first.signal(Signal::CONT);
    first.wait().succeeds();
    receiver.wait().succeeds();
}

#[test]
fn only_those_named_may_send() {
    let home = Home::new();
    fs::write(home.path("file"), b"wanted").expect("written");
    home.run(["id", "new", "--id", home.path("me").to_str().expect("text")])
        .succeeds();
    let shown = home.run([
        "id",
        "show",
        "-o",
        "json",
        "--id",
        home.path("me").to_str().expect("text"),
    ]);
    let me = json(&shown.text())["id"].as_str().expect("text").to_owned();
    let (receiver, ticket) = recv(&home, "in", &["--from", &me]);
    let stranger = send(&home, &["file"], &ticket).wait();
    assert_eq!(stranger.code, Some(7), "{}", stranger.stderr);
    let (file, id) = (home.path("file"), home.path("me"));
    let args = [
        "send".as_ref(),
        file.as_os_str(),
        ticket.as_ref(),
        "--id".as_ref(),
        id.as_os_str(),
    ];
    home.run(args).succeeds();
    receiver.wait().succeeds();
}

#[test]
fn two_receivers_do_not_share_a_directory() {
    let home = Home::new();
    let (_receiver, _) = recv(&home, "in", &[]);
    let dir = home.path("in");
    let second = home.run([
        "recv",
        dir.to_str().expect("text"),
        "--bind",
        "127.0.0.1",
        "--ephemeral",
    ]);
    second.fails(3, "E-STATE-LOCKED");
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_is() {
    let home = Home::new();
    fs::create_dir_all(home.path("a")).expect("made");
    fs::write(home.path("a/same"), b"1").expect("written");
    fs::write(home.path("same"), b"2").expect("written");
    let (_receiver, ticket) = recv(&home, "in", &[]);
    let run = |args: &[&str]| {
        let paths = args.iter().map(|name| home.path(name).into_os_string());
        home.run(
            std::iter::once("send".into())
                .chain(paths)
                .chain([ticket.as_str().into()]),
        )
    };
    run(&["missing"]).fails(1, "E-IO");
    assert!(run(&["same", "a/same"]).fails(2, "E-USAGE").contains("the same name"));
    home.run(["send", &ticket]).fails(2, "E-USAGE");
    let file = home.path("same");
    home.run(["send".as_ref(), file.as_os_str(), file.as_os_str()])
        .fails(2, "E-USAGE");
}

#[test]
fn a_receiver_that_is_told_to_end_keeps_nothing_open() {
    let home = Home::new();
    let (mut receiver, ticket) = recv(&home, "in", &["--keep"]);
    fs::write(home.path("file"), b"one").expect("written");
    for _ in 0..2 {
        send(&home, &["file"], &ticket).wait().succeeds();
        receiver.line(|line| line.contains("waiting for the next sender").then_some(()));
    }
    receiver.signal(Signal::TERM);
    assert_eq!(receiver.wait().code, Some(0));
    assert_eq!(contents(&home.path("in")).keys().collect::<Vec<_>>(), ["file"]);
}

#[test]
fn whoever_connects_for_something_else_is_sent_away() {
    let home = Home::new();
    let (receiver, ticket) = recv(&home, "in", &[]);
    let connected = Running::start(home.net(["connect", &ticket])).end(b"hello");
    assert!(connected.fails(8, "E-CLOSED").contains("receives files"));
    receiver.signal(Signal::TERM);
    receiver.wait();
}
