//! The demo proves what it says, of any file.

use std::fs::write;

use crate::common::{Home, json};

fn prove(len: usize) {
    let home = Home::new();
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let file = home.path("file");
    write(&file, &bytes).expect("a temporary file");
    let ended = home.run(["demo", file.to_str().expect("text"), "--seeds", "2", "--json"]);
    let report = json(&ended.succeeds().text());
    assert_eq!(report["kind"], "demo");
    assert_eq!(report["proved"], true);
    let mesh = &report["mesh"];
    assert_eq!(mesh["line"].as_array().map(Vec::len), Some(7), "{mesh}");
    for heard in mesh["subscribers"].as_array().expect("a list") {
        assert_eq!(heard["lines"], mesh["lines"], "{mesh}");
        for fault in ["lost", "doubled", "disordered", "damaged"] {
            assert_eq!(heard[fault], 0, "{mesh}");
        }
    }
    let way = |name: &str| mesh[name].as_array().expect("a list").clone();
    assert!(
        way("before").contains(&mesh["killed"]) && !way("after").contains(&mesh["killed"]),
        "{mesh}"
    );
    assert!(
        mesh["rerouted_ms"].as_f64() > Some(0.0) && mesh["healed_ms"].as_f64() > Some(0.0),
        "{mesh}"
    );
    let hash = blake3::hash(&bytes).to_hex().to_string();
    assert_eq!(report["blake3_sent"], hash.as_str());
    assert_eq!(report["blake3_received"], hash.as_str());
    assert_eq!(report["bytes"], len);
    assert!(
        report["rekeys"].as_u64() >= Some(1) && report["address_changes"].as_u64() >= Some(1),
        "{report}"
    );
    let resume = &report["resume"];
    assert_eq!(resume["same"], true, "{resume}");
    assert!(
        resume["sessions"].as_u64() >= Some(2) && resume["resumed_after"].as_u64() >= resume["killed_after"].as_u64(),
        "{resume}"
    );
    assert_eq!(report["simulation"]["passed"], 2);
    ended.stderr.lines().for_each(|line| drop(json(line)));
}

#[test]
fn it_proves_what_it_shows_of_a_file_that_takes_a_while() {
    prove(2 << 20);
}

#[test]
fn it_proves_what_it_shows_of_a_single_byte() {
    prove(1);
}

#[test]
fn a_file_that_cannot_be_sent_is_told() {
    let home = Home::new();
    home.run(["demo", "/nowhere"]).fails(1, "E-IO");
    home.run(["demo", "/dev/null"]).fails(2, "E-USAGE");
}
