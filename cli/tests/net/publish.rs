//! Channels between processes: nothing lost after "ready", nothing doubled, and what cannot be kept is said.

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Home, Running, json};
use crate::mesh::Up;

impl Home {
    /// Subscribes and waits until it is ready; its events are JSON.
    fn sub(&self, up: &Up, args: &[&str]) -> Running {
        let mut running = Running::start(self.sub_command(up, args));
        ready(&mut running);
        running
    }

    fn sub_command(&self, up: &Up, args: &[&str]) -> std::process::Command {
        self.net(["sub", "news", "--id", &up.dir, "-o", "json"].iter().chain(args))
    }

    fn publish(&self, up: &Up, lines: &[u8]) -> crate::common::Ended {
        Running::start(self.net(["pub", "news", "--id", &up.dir, "-o", "json"])).end(lines)
    }
}

fn ready(running: &mut Running) -> Value {
    told(running, "ready")
}

#[track_caller]
fn told(running: &mut Running, what: &str) -> Value {
    loop {
        let event = running.event("channel");
        if event["what"] == what {
            return event;
        }
    }
}

fn numbered(count: usize) -> String {
    (0..count).map(|number| format!("line {number}\n")).collect()
}

/// A node with two neighbours.
fn star(home: &Home) -> (Up, Up, Up) {
    let hub = home.up("hub", &[]);
    let (mut one, mut two) = (
        home.up("one", &["--join", hub.ticket()]),
        home.up("two", &["--join", hub.ticket()]),
    );
    one.hears("found", &hub.id);
    two.hears("found", &hub.id);
    (hub, one, two)
}

#[test]
fn ten_thousand_lines_reach_every_neighbour_once_and_in_order() {
    let home = Home::new();
    let (hub, one, two) = star(&home);
    let subscribers = [
        home.sub(&one, &["-c", "10000"]),
        home.sub(&two, &["-c", "10000"]),
        // The publisher's own node serves its user too.
        home.sub(&hub, &["-c", "10000"]),
    ];
    let lines = numbered(10_000);
    let published = json(&home.publish(&hub, lines.as_bytes()).succeeds().text());
    assert_eq!(
        (&published["lines"], &published["bytes"]),
        (&10_000.into(), &(lines.len() as u64 - 10_000).into())
    );
    let to = published["subscribers"].as_array().expect("a list");
    assert_eq!(to.len(), 3);
    assert!(
        to.iter().all(|to| to["confirmed"] == true && to["lines"] == 10_000),
        "{published}"
    );
    for subscriber in subscribers {
        let text = subscriber.wait().succeeds().text();
        let got: Vec<Value> = text.lines().map(json).collect();
        let texts: String = got
            .iter()
            .map(|line| format!("{}\n", line["text"].as_str().expect("text")))
            .collect();
        assert!(texts == lines, "what was published is what was got");
        assert!(
            got.iter()
                .all(|line| line["kind"] == "line" && line["from"] == hub.id.as_str())
        );
    }
}

#[test]
fn lines_of_any_bytes_arrive_as_they_were() {
    let home = Home::new();
    let (hub, one, _two) = star(&home);
    let longest = vec![0xfe; 1 << 20];
    let input = [
        &b"\n\xff\x00 not text\n \"quoted\" \\ \r\n"[..],
        &longest,
        b"\nno line feed at the end",
    ]
    .concat();
    let mut subscriber = Running::start(home.net(["sub", "news", "--id", &one.dir, "-c", "5"]));
    subscriber.line(|line| line.starts_with("ready: ").then_some(()));
    home.publish(&hub, &input).succeeds();
    let got = subscriber.wait();
    assert!(got.succeeds().stdout == [&input[..], b"\n"].concat(), "bytes differ");
    let too_long = vec![b'x'; (1 << 20) + 1];
    let refused = home.publish(&hub, &too_long);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("E-LINE"), "{}", refused.stderr);
}

#[test]
fn a_node_that_comes_later_is_asked_too() {
    let home = Home::new();
    let mut hub = home.up("hub", &[]);
    let mut subscriber = Running::start(home.sub_command(&hub, &["-c", "1"]));
    assert_eq!(ready(&mut subscriber)["taken"], 0);
    let late = home.up("late", &["--join", hub.ticket()]);
    hub.hears("found", &late.id);
    assert_eq!(told(&mut subscriber, "taken")["id"], late.id.as_str());
    home.publish(&late, b"hello\n").succeeds();
    let got = json(subscriber.wait().succeeds().text().trim_end());
    assert_eq!(
        (&got["text"], &got["from"]),
        (&"hello".into(), &late.id.as_str().into())
    );
}

#[test]
fn who_is_no_neighbour_is_asked_over_a_relay_and_its_lines_arrive() {
    let home = Home::new();
    let (_hub, mut one, two) = star(&home);
    one.hears("found", &two.id);
    let mut subscriber = Running::start(home.sub_command(&one, &["-c", "1000"]));
    while told(&mut subscriber, "taken")["id"] != two.id.as_str() {}
    let lines: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
    home.publish(&two, lines.as_bytes()).succeeds();
    let text = subscriber.wait().succeeds().text();
    let texts: Vec<String> = text
        .lines()
        .map(|line| json(line)["text"].as_str().expect("text").to_owned() + "\n")
        .collect();
    assert_eq!(texts.concat(), lines, "none lost, none doubled, in order");
}

#[test]
fn a_publisher_that_is_killed_leaves_a_gap_that_is_told() {
    let home = Home::new();
    let (hub, one, _two) = star(&home);
    let mut subscriber = home.sub(&one, &["-c", "2"]);
    home.publish(&hub, b"before\n").succeeds();
    hub.running.signal(Signal::KILL);
    drop(hub.running.wait());
    let hub = home.up("hub", &[]);
    assert_eq!(told(&mut subscriber, "lost")["id"], hub.id.as_str());
    assert_eq!(told(&mut subscriber, "gap")["id"], hub.id.as_str());
    home.publish(&hub, b"after\n").succeeds();
    let text = subscriber.wait().succeeds().text();
    let texts: Vec<Value> = text.lines().map(|line| json(line)["text"].clone()).collect();
    assert_eq!(texts, ["before", "after"]);
}

#[test]
fn a_subscriber_that_reads_nothing_is_waited_for_then_dropped_and_all_are_told() {
    let home = Home::new();
    let hub = home.up_with("hub", "[channels]\npatience = 2\n", &[]);
    let mut one = home.up("one", &["--join", hub.ticket()]);
    one.hears("found", &hub.id);
    let mut subscriber = Running::start_unread(home.sub_command(&one, &[]));
    ready(&mut subscriber);
    let line = [vec![b'x'; 500_000], vec![b'\n']].concat();
    let mut publisher = Running::start(home.net(["pub", "news", "--id", &hub.dir, "-o", "json"]));
    let input = line.repeat(200);
    let writer = {
        let mut stdin = publisher.stdin.take().expect("piped");
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input))
    };
    assert_eq!(told(&mut publisher, "slow")["id"], one.id.as_str());
    let dropped = told(&mut publisher, "dropped");
    assert_eq!(
        (&dropped["id"], &dropped["why"]),
        (&one.id.as_str().into(), &"it took nothing for 2 s".into())
    );
    let ended = publisher.wait();
    writer.join().expect("no panic").expect("it read everything");
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    assert!(ended.stderr.contains("E-DROPPED"), "{}", ended.stderr);
    let published = json(ended.text().trim_end());
    assert_eq!(
        (&published["lines"], &published["subscribers"][0]["confirmed"]),
        (&200.into(), &false.into())
    );
    // The others go on without it, and it learns what happened once it reads.
    let after = home.publish(&hub, b"next\n");
    assert_eq!(
        json(after.succeeds().text().trim_end())["subscribers"],
        Value::Array(Vec::new())
    );
    subscriber.read_rest();
    let ended = subscriber.wait();
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    assert!(ended.stderr.contains("E-DROPPED"), "{}", ended.stderr);
}

#[test]
fn a_subscriber_that_has_what_it_wanted_is_no_failure_of_the_publisher() {
    let home = Home::new();
    let (hub, one, two) = star(&home);
    let (few, all) = (home.sub(&one, &["-c", "1"]), home.sub(&two, &["-c", "300"]));
    let published = json(&home.publish(&hub, numbered(300).as_bytes()).succeeds().text());
    assert_eq!(few.wait().succeeds().text().lines().count(), 1);
    assert_eq!(all.wait().succeeds().text().lines().count(), 300);
    let to = published["subscribers"].as_array().expect("a list");
    let of = |up: &Up| {
        to.iter()
            .find(|to| to["id"] == up.id.as_str())
            .expect("it was sent lines")
    };
    assert_eq!(
        (&of(&two)["confirmed"], &of(&two)["lines"]),
        (&true.into(), &300.into())
    );
    assert!(of(&one)["left"] == true || of(&one)["confirmed"] == true, "{published}");
}

#[test]
fn a_name_that_no_channel_has_is_refused() {
    let home = Home::new();
    let up = home.up("a", &[]);
    for name in ["", "tab\there", &"x".repeat(256)] {
        home.tell(&up, &["sub", name]).fails(2, "E-USAGE");
        home.tell(&up, &["pub", name]).fails(2, "E-USAGE");
    }
    let ended = home.tell(&up, &["pub", "nobody"]);
    assert_eq!(
        ended.succeeds().text(),
        "0 lines (0 B) published on nobody to 0 subscribers\n"
    );
}
