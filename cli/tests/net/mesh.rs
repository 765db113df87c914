//! Nodes of a mesh as processes: up, joined, asked, killed and started again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Ended, Home, Running, json};

/// Nothing that a test waits for on a socket takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a node is asked for what comes to be true within moments.
pub const ASKED: usize = 2_000;

/// A node that runs.
pub struct Up {
    pub running: Running,
    pub id: String,
    pub dir: String,
    pub told: Value,
}

/// Failures are found soon, so that tests need not wait for them.
const QUICK: &str = "[mesh]\npingwave = 1\nheartbeat = 0.1\nrelays = true\n";

impl Home {
    /// Writes a configuration.
    pub fn config(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("writable");
        path.to_str().expect("text").to_owned()
    }

    /// Runs a node in a state directory of this name; its events are JSON.
    pub fn up(&self, name: &str, args: &[&str]) -> Up {
        self.up_with(name, QUICK, args)
    }

    pub fn up_with(&self, name: &str, config: &str, args: &[&str]) -> Up {
        let config = self.config(&format!("{name}.toml"), config);
        let dir = self.path(name).to_str().expect("text").to_owned();
        let fixed = [
            "up",
            "-o",
            "json",
            "--bind",
            "127.0.0.1",
            "--config",
            &config,
            "--id",
            &dir,
        ];
        let mut running = Running::start(self.net(fixed.iter().chain(args)));
        let told = running.event("up");
        Up {
            running,
            id: told["id"].as_str().expect("text").to_owned(),
            dir,
            told,
        }
    }

    /// What the running node answers.
    pub fn ask(&self, up: &Up, args: &[&str]) -> Value {
        let ended = self.run(args.iter().copied().chain(["--id", &up.dir, "-o", "json"]));
        json(&ended.succeeds().text())
    }

    /// What the running node answers, once it is as wanted: routes move while round trips are measured.
    #[track_caller]
    fn until(&self, up: &Up, args: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = String::new();
        for _ in 0..ASKED {
            let ended = self.run(args.iter().copied().chain(["--id", &up.dir, "-o", "json"]));
            last = ended.text();
            if let Ok(value) = serde_json::from_str(&last)
                && wanted(&value)
            {
                return value;
            }
        }
        panic!("{args:?} never answered as wanted, at last {last}");
    }

    /// A command asked of a node, whatever comes of it.
    pub fn tell(&self, up: &Up, args: &[&str]) -> Ended {
        self.run(args.iter().copied().chain(["--id", &up.dir]))
    }
}

impl Up {
    pub fn ticket(&self) -> &str {
        self.told["ticket"].as_str().expect("text")
    }

    /// Waits until it tells this of that node.
    #[track_caller]
    pub fn hears(&mut self, what: &str, id: &str) -> Value {
        loop {
            let event = self.running.event("mesh");
            if event["what"] == what && event["id"] == id {
                return event;
            }
        }
    }

    /// Ends it as a service manager does.
    pub fn stop(self) -> Ended {
        self.running.signal(Signal::TERM);
        self.running.wait()
    }
}

/// Three nodes of which the middle one knows the others.
fn line(home: &Home) -> [Up; 3] {
    let (mut a, b, mut c) = (home.up("a", &[]), home.up("b", &[]), home.up("c", &[]));
    for end in [&a, &c] {
        // What is to be typed on the other host is printed, and works as it is.
        let pasted = format!("{} --id {}", b.told["command"].as_str().expect("text"), end.dir);
        let joined = Running::start(home.shell(&pasted)).end(b"");
        assert!(
            joined.succeeds().text().starts_with(&format!("joined {}", &b.id[..16])),
            "{}",
            joined.text()
        );
    }
    a.hears("found", &c.id);
    c.hears("found", &a.id);
    [a, b, c]
}

fn rows<'v>(value: &'v Value, of: &str) -> Vec<&'v Value> {
    value[of].as_array().expect("a list").iter().collect()
}

/// A node that is known over another is reached over it, and that is told apart from a direct session.
#[track_caller]
fn a_relay_is_told(home: &Home, from: &Up, over: &Up, to: &Up) {
    let ended = home.tell(
        from,
        &["ping", &to.id[..8], "-c", "2", "--interval", "0.01", "-o", "json"],
    );
    assert_eq!(ended.code, Some(11), "{}{}", ended.text(), ended.stderr);
    let told = json(&ended.text());
    assert_eq!(
        (&told["path"], &told["received"]),
        (&"relayed".into(), &2.into()),
        "{told}"
    );
    assert!(told.to_string().contains(&over.id[..16]), "{told}");
}

#[test]
fn three_in_a_line_see_each_other() {
    let home = Home::new();
    let [a, b, c] = line(&home);

    let status = home.until(&a, &["status"], |status| status["nodes"] == 2);
    assert_eq!(
        (&status["id"], &status["neighbours"]),
        (&a.id.as_str().into(), &1.into())
    );
    assert_eq!(status["pid"], a.running.pid());
    assert_eq!(home.ask(&b, &["status"])["neighbours"], 2);

    let peers = home.ask(&a, &["peers"]);
    let [peer] = rows(&peers, "peers")[..] else {
        panic!("one peer: {peers}")
    };
    assert_eq!(
        (&peer["id"], &peer["state"], &peer["kept"]),
        (&b.id.as_str().into(), &"alive".into(), &"command".into())
    );
    assert!(peer["rtt_us"].as_u64().expect("measured") > 0);

    let route_of = |routes: &Value| {
        let found = routes["routes"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|route| route["id"] == c.id.as_str());
        found.cloned()
    };
    let routes = home.until(&a, &["routes"], |routes| route_of(routes).is_some());
    let route = route_of(&routes).expect("it was there");
    assert_eq!(
        (&route["ways"][0]["hops"], &route["ways"][0]["used"]),
        (&2.into(), &true.into())
    );
    assert_eq!(route["ways"][0]["next"], b.id.as_str());

    let trace = home.until(&a, &["trace", &c.id[..12]], |trace| trace["kind"] == "trace");
    let hops: Vec<_> = rows(&trace, "hops")
        .iter()
        .map(|hop| hop["id"].as_str().expect("known"))
        .collect();
    assert_eq!(hops, [&b.id, &c.id]);

    let ping = home.ask(&a, &["ping", &b.id[..8], "-c", "2", "--interval", "0.01"]);
    assert_eq!(
        (&ping["path"], &ping["node"], &ping["received"]),
        (&"direct".into(), &"running".into(), &2.into())
    );
    a_relay_is_told(&home, &a, &b, &c);
    home.tell(&a, &["ping", "00000000"]).fails(2, "E-UNKNOWN-NODE");
    home.tell(&a, &["ping", "abc"]).fails(2, "E-UNKNOWN-NODE");
    home.tell(&a, &["trace", &a.id]).fails(2, "E-OWN-TICKET");

    let path_of = |doctor: &Value, id: &str| {
        let paths = doctor["paths"].as_array().expect("a list");
        let found = paths.iter().find(|path| path["id"] == id);
        found.map(|path| path["path"].as_str().expect("text").to_owned())
    };
    let doctor = home.until(&a, &["doctor"], |doctor| path_of(doctor, &c.id).is_some());
    assert_eq!(doctor["well"], true);
    assert_eq!(path_of(&doctor, &b.id).as_deref(), Some("direct"));
    assert_eq!(path_of(&doctor, &c.id).as_deref(), Some("relayed"));

    let top = home
        .tell(&a, &["top", "-c", "2", "--interval", "0.01", "-o", "jsonl"])
        .succeeds()
        .text();
    let looks: Vec<Value> = top.lines().map(json).collect();
    assert_eq!(looks.len(), 2);
    assert_eq!(
        (&looks[0]["sent_per_s"], looks[1]["sent_per_s"].is_f64()),
        (&Value::Null, true)
    );
    for up in [a, b, c] {
        let socket = PathBuf::from(&up.dir).join("control.sock");
        assert_eq!(
            std::fs::metadata(&socket).expect("there").permissions().mode() & 0o777,
            0o600
        );
        up.stop().succeeds();
        assert!(!socket.exists(), "the socket goes with the node");
    }
}

#[test]
fn a_node_killed_in_the_middle_is_missed_and_found_again() {
    let home = Home::new();
    let [mut a, b, c] = line(&home);
    let (port, id) = (b.told["address"].clone(), b.id.clone());
    b.running.signal(Signal::KILL);
    drop(b.running.wait());
    a.hears("lost", &id);
    let doctor = home.tell(&a, &["doctor"]);
    assert_eq!(doctor.code, Some(13), "{}", doctor.stderr);
    assert!(doctor.text().contains("=> "), "{}", doctor.text());
    // The control socket that it left is replaced, the identity and the port are kept.
    assert!(PathBuf::from(&b.dir).join("control.sock").exists());
    let b = home.up("b", &[]);
    assert_eq!((&b.id, &b.told["address"]), (&id, &port));
    a.hears("found", &id);
    a.hears("found", &c.id);
}

#[test]
fn neighbours_of_the_last_run_are_joined_again() {
    let home = Home::new();
    let b = home.up("b", &[]);
    let mut a = home.up("a", &["--join", b.ticket()]);
    a.hears("found", &b.id);
    let peers = PathBuf::from(&a.dir).join("peers.json");
    a.stop().succeeds();
    assert_eq!(
        std::fs::metadata(&peers).expect("there").permissions().mode() & 0o777,
        0o600
    );
    let mut a = home.up("a", &[]);
    a.hears("found", &b.id);
    assert_eq!(home.ask(&a, &["peers"])["peers"][0]["kept"], "cache");
    a.stop().succeeds();
    // Unless that is not wanted.
    let a = home.up_with("a", "[join]\ncached = false\n", &[]);
    assert_eq!(home.ask(&a, &["peers"])["peers"], Value::Array(Vec::new()));
    assert_eq!(home.ask(&a, &["routes"])["routes"], Value::Array(Vec::new()));
}

#[test]
fn a_configuration_with_a_fault_is_told_with_its_line() {
    let home = Home::new();
    let file = home.config("wrong.toml", "bind = \"127.0.0.1\"\n[mesh]\nradios = 3\n");
    for args in [&["up", "--config", &file][..], &["config", "check", &file]] {
        let text = home.run(args);
        let text = text.fails(2, "E-CONFIG");
        assert!(
            text.contains("wrong.toml:3: unknown key `radios` in [mesh]; did you mean `radius`?"),
            "{text}"
        );
    }
    home.run(["up", "--config", "nowhere.toml"]).fails(1, "E-IO");
    let example = home.run(["config", "example"]).succeeds().text();
    let file = home.config("example.toml", &example);
    assert!(
        home.run(["config", "check", &file])
            .succeeds()
            .text()
            .ends_with("is right\n")
    );
    let none = home.run(["config", "check"]).succeeds().text();
    assert!(
        none.contains("config/net/up.toml") && none.contains("default"),
        "{none}"
    );
}

#[test]
fn one_state_directory_runs_one_node() {
    let home = Home::new();
    let up = home.up("a", &[]);
    let text = home.tell(&up, &["up"]);
    let text = text.fails(3, "E-STATE-LOCKED");
    assert!(
        text.contains(&format!("process {} runs a node", up.running.pid())),
        "{text}"
    );
    // `net listen` holds the directory too, and answers no commands.
    let home = Home::new();
    let dir = home.path("b").to_str().expect("text").to_owned();
    let (_listener, _) = home.listen(&["--id", &dir]);
    home.run(["up", "--id", &dir]).fails(3, "E-STATE-LOCKED");
    home.run(["status", "--id", &dir]).fails(10, "E-NOT-RUNNING");
}

#[test]
fn without_a_node_every_command_says_so() {
    let home = Home::new();
    let commands: [&[&str]; 9] = [
        &["status"],
        &["peers"],
        &["routes"],
        &["ticket"],
        &["trace", "abcd"],
        &["ping", "abcd"],
        &["doctor"],
        &["pub", "x"],
        &["sub", "x"],
    ];
    for command in commands {
        let text = home.run(command);
        assert!(text.fails(10, "E-NOT-RUNNING").contains("net up"), "{command:?}");
    }
    let long = home.path(&"x".repeat(100));
    let text = home.run(["status".as_ref(), "--id".as_ref(), long.as_os_str()]);
    assert!(text.fails(3, "E-START").contains("longer than"), "{}", text.stderr);
}

#[test]
fn ping_of_a_ticket_asks_the_running_node_unless_told_otherwise() {
    let home = Home::new();
    let (a, b) = (home.up("a", &[]), home.up("b", &[]));
    let through = home.ask(&a, &["ping", b.ticket(), "-c", "1"]);
    assert_eq!(
        (&through["node"], &through["path"]),
        (&"running".into(), &"direct".into())
    );
    assert!(
        through["connected_in_us"].is_u64(),
        "there was no session before: {through}"
    );
    let alone = json(
        &home
            .run(["ping", b.ticket(), "-c", "1", "-o", "json"])
            .succeeds()
            .text(),
    );
    assert_eq!(alone["node"], "own");
    home.tell(&a, &["ping", a.ticket()]).fails(2, "E-OWN-TICKET");
    home.tell(&a, &["ping", &b.id[..8], "--alone"]).fails(2, "E-USAGE");
    // The other one stops: nobody answers in time, and whether somebody will is not known.
    let ticket = b.ticket().to_owned();
    b.stop().succeeds();
    home.tell(&a, &["ping", &ticket, "-c", "1", "--timeout", "0.6"])
        .fails(5, "E-SILENT");
    home.tell(&a, &["join", &ticket, "--timeout", "0.6"])
        .fails(5, "E-SILENT");
    let peers = home.ask(&a, &["peers"]);
    assert_eq!(
        (&peers["peers"][0]["state"], &peers["peers"][0]["rtt_us"]),
        (&"dialling".into(), &Value::Null)
    );
}

#[test]
fn a_ticket_of_another_network_is_not_joined() {
    let home = Home::new();
    let key = home.path("key").to_str().expect("text").to_owned();
    home.run(["key", "new", &key]).succeeds();
    let (a, b) = (home.up("a", &[]), home.up("b", &["--network-key", &key]));
    home.tell(&a, &["join", b.ticket()]).fails(4, "E-OTHER-NETWORK");
    let elsewhere = home.path("elsewhere");
    let elsewhere = elsewhere.to_str().expect("text");
    home.run(["up", "--id", elsewhere, "--join", b.ticket()])
        .fails(4, "E-OTHER-NETWORK");
    let mut c = home.up("c", &["--network-key", &key, "--join", b.ticket()]);
    c.hears("found", &b.id);
}

#[test]
fn figures_are_served_to_prometheus() {
    let home = Home::new();
    let b = home.up("b", &[]);
    let mut a = home.up("a", &["--metrics", ":0", "--join", b.ticket()]);
    a.hears("found", &b.id);
    let address = a.told["metrics"].as_str().expect("text").to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        text
    };
    let page = get("/metrics");
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    for line in [
        "net_mesh_nodes 1",
        "net_mesh_neighbours 1",
        "net_mesh_facts_total{kind=\"found\"} 1",
        "net_sessions 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
    assert!(get("/else").starts_with("HTTP/1.1 404 "));
    let elsewhere = home.path("elsewhere");
    let taken = home.run(["up", "--id", elsewhere.to_str().expect("text"), "--metrics", &address]);
    taken.fails(3, "E-PORT-IN-USE");
}

#[test]
fn systemd_is_told_that_it_is_ready_lives_and_stops() {
    let home = Home::new();
    let path = home.path("notify");
    let name = format!("net-test-{}", std::process::id());
    let places = [
        (
            UnixDatagram::bind(&path).expect("a socket"),
            path.to_str().expect("text").to_owned(),
        ),
        (
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("a socket"),
            format!("@{name}"),
        ),
    ];
    for (at, (socket, place)) in places.into_iter().enumerate() {
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let hear = || {
            let mut buffer = [0; 256];
            let len = socket.recv(&mut buffer).expect("it says something");
            String::from_utf8_lossy(&buffer[..len]).into_owned()
        };
        let dir = home.path(&format!("n{at}"));
        let mut command = home.net(["up".as_ref(), "--id".as_ref(), dir.as_os_str()]);
        command.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "20000");
        command.args(["--bind", "127.0.0.1"]);
        let running = Running::start(command);
        assert_eq!(hear(), "READY=1");
        assert_eq!(hear(), "WATCHDOG=1");
        assert_eq!(hear(), "WATCHDOG=1");
        running.signal(Signal::TERM);
        while hear() != "STOPPING=1" {}
        running.wait().succeeds();
    }
    let mut command = home.net(["up"]);
    command.env("NOTIFY_SOCKET", "relative");
    Running::start(command).end(b"").fails(3, "E-START");
}

#[test]
fn the_control_socket_answers_nonsense_and_crowds_with_an_error() {
    let home = Home::new();
    let up = home.up("a", &[]);
    let path = PathBuf::from(&up.dir).join("control.sock");
    let connect = || {
        let stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    };
    let answer = |stream: &UnixStream| {
        let mut text = String::new();
        BufReader::new(stream).read_line(&mut text).expect("it answers");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["version"], 1);
        value["say"]["failed"]["code"].as_str().map(str::to_owned)
    };
    for question in [
        "hello\n".to_owned(),
        "{}\n".to_owned(),
        "{\"version\":2,\"say\":{\"ask\":\"status\"}}\n".to_owned(),
        "{\"version\":1,\"say\":{\"ask\":\"weather\"}}\n".to_owned(),
        format!("{}\n", "x".repeat(70_000)),
    ] {
        let mut stream = connect();
        // What is too long is answered before all of it was read.
        let _ = stream.write_all(question.as_bytes());
        assert_eq!(answer(&stream).as_deref(), Some("E-CONTROL"), "{:.40}", question);
    }
    let ask = || {
        let mut stream = connect();
        // One too many is answered and closed, perhaps before it has said anything.
        let _ = stream.write_all(b"{\"version\":1,\"say\":{\"ask\":\"status\"}}\n");
        let code = answer(&stream);
        (stream, code)
    };
    let mut crowd = Vec::new();
    for _ in 0..ASKED {
        // Those before may not have been noted as gone yet.
        if let (stream, None) = ask() {
            crowd.push(stream);
        }
        if crowd.len() == 64 {
            break;
        }
    }
    assert_eq!(crowd.len(), 64, "so many are served");
    assert_eq!(ask().1.as_deref(), Some("E-CONTROL-BUSY"));
    home.tell(&up, &["status"]).fails(10, "E-CONTROL-BUSY");
    drop(crowd);
    up.stop().succeeds();
}

#[test]
fn a_socket_of_somebody_else_is_left_alone() {
    let home = Home::new();
    let up = home.up("a", &[]);
    let path = PathBuf::from(&up.dir).join("control.sock");
    up.stop().succeeds();
    let other = UnixListener::bind(&path).expect("free");
    let text = home.run(["up", "--id", path.parent().expect("a folder").to_str().expect("text")]);
    let text = text.fails(3, "E-STATE-LOCKED");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(other);
}

#[test]
fn netcheck_says_what_the_host_can_do() {
    let home = Home::new();
    let found = json(
        &home
            .run(["netcheck", "-o", "json", "--bind", "127.0.0.1"])
            .succeeds()
            .text(),
    );
    assert!(
        found["udp"].as_str().expect("text").starts_with("127.0.0.1:"),
        "{found}"
    );
    assert!(found["gso_segments"].as_u64().expect("a count") >= 1, "{found}");
    assert_eq!(found["clock_plausible"], true);
}
