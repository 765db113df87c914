//! Two processes talk over loopback: what goes in at one end comes out at the other, and how that ends.

use crate::common::{Home, Running, end_both, json};
use rustix::process::Signal;

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn the_line_that_listen_prints_is_pasted_and_works() {
    let home = Home::new();
    let mut listener = Running::start(home.net(["listen", "--bind", "127.0.0.1"]));
    let line = listener.line(|line| line.strip_prefix("  ").map(str::to_owned));
    assert!(line.starts_with("net connect net1"), "{line}");
    let connector = Running::start(home.shell(&line));
    let (connected, listened) = end_both(connector, b"from the connector\n", listener, b"from the listener\n");
    assert_eq!(connected.succeeds().text(), "from the listener\n");
    assert_eq!(listened.succeeds().text(), "from the connector\n");
    assert!(listened.stderr.contains("warning: open network"), "{}", listened.stderr);
}

#[test]
fn either_side_may_speak_first() {
    let home = Home::new();
    let (mut listener, ticket) = home.listen(&[]);
    listener.say(b"welcome");
    let mut connector = Running::start_unread(home.net(["connect", &ticket]));
    assert_eq!(connector.read_exact(7), b"welcome");
    connector.say(b"thanks");
    let (connected, listened) = end_both(connector, b"", listener, b"");
    connected.succeeds();
    assert_eq!(listened.succeeds().text(), "thanks");
}

#[test]
fn a_file_larger_than_every_window_arrives_whole_in_both_directions() {
    let home = Home::new();
    let (there, back) = (noise(9 << 20), noise(5 << 20));
    let (listener, ticket) = home.listen(&[]);
    let connector = Running::start(home.net(["connect", &ticket]));
    let (connected, listened) = end_both(connector, &there, listener, &back);
    assert!(connected.succeeds().stdout == back, "byte for byte");
    assert!(listened.succeeds().stdout == there, "byte for byte");
    let done = listened
        .stderr
        .lines()
        .map(json)
        .find(|event| event["kind"] == "done")
        .expect("a summary");
    assert_eq!(done["received_bytes"], there.len());
    assert_eq!(done["sent_bytes"], back.len());
}

#[test]
fn peers_are_served_one_after_another_and_pings_at_any_time() {
    let home = Home::new();
    let (mut listener, ticket) = home.listen(&["--keep"]);
    listener.stdin = None;
    for n in 0..3 {
        let connector = Running::start(home.net(["connect", &ticket]));
        connector.end(format!("peer {n}\n").as_bytes()).succeeds();
        listener.event("done");
        home.run(["ping", &ticket, "-c", "1"]).succeeds();
    }
    listener.signal(Signal::TERM);
    assert_eq!(listener.wait().succeeds().text(), "peer 0\npeer 1\npeer 2\n");
}

#[test]
fn a_second_peer_is_told_that_the_first_is_served() {
    let home = Home::new();
    let (mut listener, ticket) = home.listen(&[]);
    let mut first = Running::start(home.net(["connect", &ticket]));
    first.line(|line| line.starts_with("connected").then_some(()));
    listener.event("connected");
    let second = Running::start(home.net(["connect", &ticket])).wait();
    second.fails(8, "E-BUSY");
    let (first, listened) = end_both(first, b"still here", listener, b"");
    first.succeeds();
    assert_eq!(listened.succeeds().text(), "still here");
}

#[test]
fn a_reader_that_goes_away_ends_everything_quietly() {
    let home = Home::new();
    let (listener, ticket) = home.listen(&[]);
    let mut connector = Running::start_unread(home.net(["connect", &ticket]));
    std::thread::scope(|scope| {
        let listened = scope.spawn(|| listener.end(&noise(16 << 20)));
        connector.read_exact(1);
        connector.stop_reading();
        let connected = connector.wait();
        assert_eq!(connected.succeeds().stderr.lines().count(), 1, "{}", connected.stderr);
        let listened = listened.join().expect("no panic");
        assert_eq!(listened.code, Some(8));
        assert!(listened.stderr.contains("E-CLOSED"), "{}", listened.stderr);
    });
}

#[test]
fn a_listener_that_is_killed_is_missed() {
    let home = Home::new();
    let (mut listener, ticket) = home.listen(&[]);
    let mut connector = Running::start(home.net(["connect", &ticket, "--idle-timeout", "1"]));
    connector.say(b"hello");
    listener.event("connected");
    listener.signal(Signal::KILL);
    assert_eq!(listener.wait().code, None);
    let text = connector.wait();
    assert!(text.fails(8, "E-SESSION-LOST").contains("net ping"), "{}", text.stderr);
}

#[test]
fn what_was_read_is_delivered_when_the_sender_is_interrupted() {
    let home = Home::new();
    let mut listener = Running::start_unread(home.net(["listen", "--bind", "127.0.0.1", "--json"]));
    let ticket = listener.event("listening")["ticket"].as_str().expect("text").to_owned();
    listener.stdin = None;
    let mut connector = Running::start(home.net(["connect", &ticket]));
    connector.say(b"said before ctrl-c");
    assert_eq!(listener.read_exact(18), b"said before ctrl-c");
    connector.signal(Signal::INT);
    connector.wait().fails(130, "E-INTERRUPTED");
    listener.wait().succeeds();
}

#[test]
fn a_listener_that_served_nobody_has_not_done_its_work() {
    let home = Home::new();
    let (listener, _) = home.listen(&["--ephemeral"]);
    listener.signal(Signal::TERM);
    assert_eq!(listener.wait().code, Some(143));
    assert!(
        !home.path("state").exists(),
        "an ephemeral identity leaves nothing behind"
    );
}

#[test]
fn the_first_line_of_stdin_may_be_the_ticket() {
    let home = Home::new();
    let (listener, ticket) = home.listen(&[]);
    let connector = Running::start(home.net(["connect", "-"]));
    let input = format!("{ticket}\nthe rest is payload\n");
    let (connected, listened) = end_both(connector, input.as_bytes(), listener, b"");
    connected.succeeds();
    assert_eq!(listened.succeeds().text(), "the rest is payload\n");
}

#[test]
fn a_closed_network_is_joined_by_its_key_or_by_a_secret_ticket() {
    let home = Home::new();
    let key = home.path("key");
    let key = key.to_str().expect("text");
    let fingerprint = home.run(["key", "new", key]).succeeds().text();
    assert_eq!(home.run(["key", "show", key]).succeeds().text(), fingerprint);
    let file = home.path("ticket");
    let file = file.to_str().expect("text");
    let (mut listener, ticket) = home.listen(&["--keep", "--network-key", key, "--ticket-file", file]);
    listener.stdin = None;
    let by_key = Running::start(home.net(["connect", &ticket, "--network-key", key]));
    by_key.end(b"by key\n").succeeds();
    let by_file = Running::start(home.net(["connect", "--ticket-file", file]));
    by_file.end(b"by file\n").succeeds();
    let secret = std::fs::read_to_string(file).expect("written");
    let by_stdin = Running::start(home.net(["connect", "-"]));
    by_stdin.end(format!("{secret}by stdin\n").as_bytes()).succeeds();
    home.run(["connect", &ticket]).fails(4, "E-OTHER-NETWORK");
    let typed = home.run(["connect", secret.trim()]);
    assert!(
        !typed.fails(2, "E-SECRET-ARGV").contains(secret.trim()),
        "it is not repeated"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("ours");
        let wide = home.run(["connect", "--ticket-file", file]);
        assert!(wide.fails(3, "E-MODE").contains(&format!("chmod 600 {file}")));
    }
    listener.signal(Signal::TERM);
    assert_eq!(listener.wait().succeeds().text(), "by key\nby file\nby stdin\n");
}
