//! Every error says what it must, with its code and exit status, in text and in JSON.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::common::{Home, Running, end_both, json};
use net_io_real::{EntityId, NetworkKey, Ticket};
use rustix::process::Signal;

/// An identity that is usable and nobody's here.
const NOBODY: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

fn ticket_to(socket: &UdpSocket) -> String {
    let digit = |at: usize| u8::from_str_radix(&NOBODY[2 * at..2 * at + 2], 16).expect("hexadecimal");
    let entity = EntityId(std::array::from_fn(digit));
    let address = socket.local_addr().expect("bound");
    Ticket::new(entity, NetworkKey::open().fingerprint(), vec![address]).to_string()
}

fn silent() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let ticket = ticket_to(&socket);
    (socket, ticket)
}

#[test]
fn ping_tells_reached_silent_refused_and_another_network_apart() {
    let home = Home::new();
    let (_listener, ticket) = home.listen(&[]);
    let reached = home.run(["ping", &ticket, "-c", "2", "--interval", "0.01"]);
    let text = reached.succeeds().text();
    assert!(
        text.contains("echo 2: ") && text.contains("2 sent, 2 answered, 0 % lost"),
        "{text}"
    );
    assert!(text.contains(" direct at 127.0.0.1:"), "{text}");

    let (socket, ticket) = silent();
    let text = home.run(["ping", &ticket, "--timeout", "0.6"]);
    let text = text.fails(5, "E-SILENT");
    assert!(text.contains("It may be that") && text.contains("firewall"), "{text}");
    drop(socket);
    home.run(["ping", &ticket, "--timeout", "0.6"])
        .fails(6, "E-UNREACHABLE");

    let key = home.path("key");
    home.run([std::ffi::OsStr::new("key"), "new".as_ref(), key.as_os_str()])
        .succeeds();
    let (socket, ticket) = silent();
    let key = key.to_str().expect("text");
    home.run(["ping", &ticket, "--network-key", key])
        .fails(4, "E-OTHER-NETWORK");
    socket.set_nonblocking(true).expect("a socket");
    let nothing = socket.recv(&mut [0; 2048]).expect_err("nothing was sent");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn only_those_on_the_list_are_admitted() {
    let home = Home::new();
    let dir = home.path("me");
    let dir = dir.to_str().expect("text");
    let me = home.run(["id", "new", "--id", dir]).succeeds().text();
    let (listener, ticket) = home.listen(&["--allow", me.trim()]);
    home.run(["ping", &ticket]).fails(7, "E-NOT-ALLOWED");
    home.run(["connect", &ticket]).fails(7, "E-NOT-ALLOWED");
    home.run(["ping", &ticket, "--id", dir, "-c", "1"]).succeeds();
    let connector = Running::start(home.net(["connect", &ticket, "--id", dir]));
    let (connected, listened) = end_both(connector, b"it is me", listener, b"");
    connected.succeeds();
    assert_eq!(listened.succeeds().text(), "it is me");
}

#[test]
fn a_bad_ticket_is_told_where() {
    let home = Home::new();
    let (_, ticket) = silent();
    let at = 20;
    let typo = format!("{}0{}", &ticket[..at], &ticket[at + 1..]);
    let text = home.run(["ping", &typo]);
    assert!(text.fails(2, "E-TICKET").contains("character 21"), "{}", text.stderr);
    home.run(["connect", &ticket[..ticket.len() - 10]]).fails(2, "E-TICKET");
    home.run(["connect", "net2nonsense"]).fails(2, "E-TICKET");
    home.run(["connect", ""]).fails(2, "E-TICKET");
}

#[test]
fn ones_own_ticket_is_recognised() {
    let home = Home::new();
    let (listener, ticket) = home.listen(&[]);
    listener.signal(Signal::TERM);
    assert_eq!(listener.wait().code, Some(143));
    let dir = home.path("state/net/default");
    home.run(["ping", &ticket, "--id", dir.to_str().expect("text")])
        .fails(2, "E-OWN-TICKET");
}

#[test]
fn a_port_in_use_is_told() {
    let home = Home::new();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let address = socket.local_addr().expect("bound").to_string();
    let text = home.run(["listen", "--bind", &address]);
    assert!(text.fails(3, "E-PORT-IN-USE").contains(&address), "{}", text.stderr);
    home.run(["listen", "--bind", "192.0.2.1"]).fails(3, "E-ADDRESS");
}

#[test]
fn a_state_directory_is_used_once_and_can_be_shown_meanwhile() {
    let home = Home::new();
    home.run(["id", "show"]).fails(3, "E-NO-IDENTITY");
    let (_listener, _) = home.listen(&[]);
    home.run(["listen"]).fails(3, "E-STATE-LOCKED");
    assert_eq!(home.run(["id", "show"]).succeeds().text().trim().len(), 64);
    home.run(["id", "new"]).fails(3, "E-EXISTS");
}

#[test]
fn wide_modes_and_damage_are_refused_and_nothing_is_touched() {
    let home = Home::new();
    home.run(["id", "new"]).succeeds();
    let file = home.path("state/net/default/identity.key");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("ours");
    let text = home.run(["listen"]);
    let chmod = format!("chmod 600 {}", file.display());
    assert!(
        text.fails(3, "E-MODE").replace('\n', " ").contains(&chmod),
        "{}",
        text.stderr
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let mut bytes = std::fs::read(&file).expect("ours");
    bytes[30] ^= 1;
    std::fs::write(&file, &bytes).expect("ours");
    home.run(["listen"]).fails(3, "E-STATE-CORRUPT");
    home.run(["id", "show"]).fails(3, "E-STATE-CORRUPT");
    assert_eq!(std::fs::read(&file).expect("still there"), bytes);
}

#[test]
fn a_missing_key_file_is_told_with_the_command_that_makes_one() {
    let home = Home::new();
    let text = home.run(["listen", "--network-key", "nowhere"]);
    assert!(text.fails(1, "E-IO").contains("net key new nowhere"), "{}", text.stderr);
}

#[test]
fn a_full_disk_is_told() {
    let home = Home::new();
    let mut command = home.net(["explain"]);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = command.stdin(Stdio::null()).stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("E-DISK-FULL"));
}

#[test]
fn unknown_arguments_are_told_in_both_forms() {
    let home = Home::new();
    let text = home.run(["listen", "--alow"]);
    assert!(
        text.fails(2, "E-USAGE").contains("--allow"),
        "it guesses: {}",
        text.stderr
    );
    let document = json(home.run(["connect", "--json", "--nonsense"]).stderr.trim());
    assert_eq!(
        (&document["kind"], &document["code"]),
        (&"error".into(), &"E-USAGE".into())
    );
    assert_eq!(document["exit"], 2);
    home.run(["listen", "--allow", "12"]).fails(2, "E-USAGE");
    let of_a_json_file = home.run(["connect", "--ticket-file", "x.json", "--nonsense"]);
    of_a_json_file.fails(2, "E-USAGE");
    home.run(["--version"]).succeeds();
    let bare = home.run([""; 0]);
    assert_eq!(bare.code, Some(2));
    assert!(
        bare.stderr.contains("Usage: net") && !bare.stderr.contains("E-USAGE"),
        "{}",
        bare.stderr
    );
}

#[test]
fn every_code_is_explained_offline() {
    let home = Home::new();
    let all = json(&home.run(["explain", "--json"]).succeeds().text());
    let codes = all["codes"].as_array().expect("a list");
    assert!(codes.len() > 20);
    for code in codes {
        let name = code["code"].as_str().expect("a name");
        let text = home.run(["explain", name]).succeeds().text();
        assert!(text.starts_with(name) && text.len() > name.len() + 40, "{text}");
    }
    home.run(["explain", "E-NONSENSE"]).fails(2, "E-UNKNOWN-CODE");
}

#[test]
fn everything_printed_in_json_is_json() {
    let home = Home::new();
    let id = json(&home.run(["id", "new", "--json"]).succeeds().text());
    assert_eq!(
        json(&home.run(["-o", "jsonl", "id", "show"]).succeeds().text())["id"],
        id["id"]
    );
    let key = home.path("key");
    json(
        &home
            .run(["key", "new", key.to_str().expect("text"), "--json"])
            .succeeds()
            .text(),
    );
    let (mut listener, ticket) = home.listen(&["--keep"]);
    listener.stdin = None;
    let ping = json(
        &home
            .run(["ping", &ticket, "-c", "2", "--interval", "0.01", "--json"])
            .succeeds()
            .text(),
    );
    assert_eq!((&ping["path"], &ping["received"]), (&"direct".into(), &2.into()));
    assert_eq!(ping["echoes"].as_array().map(Vec::len), Some(2));
    let lines = home
        .run(["ping", &ticket, "-c", "2", "--interval", "0.01", "-o", "jsonl"])
        .succeeds()
        .text();
    let kinds: Vec<_> = lines.lines().map(|line| json(line)["kind"].clone()).collect();
    assert_eq!(kinds, ["echo", "echo", "ping"]);
    let connector = Running::start(home.net(["connect", &ticket, "--json"])).end(b"payload");
    let kinds: Vec<_> = connector
        .succeeds()
        .stderr
        .lines()
        .map(|line| json(line)["kind"].clone())
        .collect();
    assert_eq!(kinds, ["connected", "done"]);
    let failed = home.run(["connect", "net1", "-o", "jsonl"]);
    assert_eq!(json(failed.stderr.trim())["code"], "E-TICKET");
    listener.event("done");
    listener.signal(Signal::TERM);
    let listened = listener.wait();
    assert_eq!(listened.succeeds().text(), "payload");
    listened.stderr.lines().for_each(|line| drop(json(line)));
}

#[test]
fn completions_and_the_manual_are_generated() {
    let home = Home::new();
    assert!(
        home.run(["completions", "bash"])
            .succeeds()
            .text()
            .contains("--network-key")
    );
    assert!(home.run(["man"]).succeeds().text().contains("net\\-listen"));
}
