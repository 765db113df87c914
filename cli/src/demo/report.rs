//! What the demo proved, and what it did not.
//!
//! Invariants: each claim stands beside the figures it rests on; a claim that does not hold is shown as such.
//! Not here: how the figures came about (`mesh/`, `transfer.rs`, `resume.rs`, `simulate.rs`).

use std::fmt;

use serde::Serialize;

use super::mesh::{Faults, Heard, Shown, way as shown};
use super::resume::Resume;
use super::simulate::Simulation;
use super::transfer::Transfer;
use crate::output::{Record, bytes};
use crate::pipe::Rtt;

/// The result of `net demo`.
#[derive(Serialize)]
pub struct Report {
    proved: bool,
    claims: Vec<Claim>,
    mesh: Shown,
    file: String,
    bytes: u64,
    blake3_sent: String,
    blake3_received: String,
    seconds: f64,
    bytes_per_second: f64,
    datagrams_sent: u64,
    datagrams_sent_again: u64,
    rekeys: u64,
    address_changes: u64,
    rtt: Option<Rtt>,
    proxy: Proxy,
    resume: Resume,
    simulation: Simulation,
}

#[derive(Serialize)]
struct Proxy {
    passed: u64,
    lost: u64,
    reordered: u64,
    doubled: u64,
}

#[derive(Serialize)]
struct Claim {
    claim: String,
    holds: bool,
}

impl Report {
    pub fn new(mesh: Shown, transfer: Transfer, resume: Resume, simulation: Simulation) -> Self {
        let mut claims = meshed(&mesh);
        claims.extend(linked(&transfer, &resume, &simulation));
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(claim, holds)| Claim { claim, holds })
            .collect();
        Self {
            proved: claims.iter().all(|claim| claim.holds),
            claims,
            mesh,
            file: transfer.file,
            bytes: transfer.bytes,
            blake3_sent: transfer.sent_hash.to_hex().to_string(),
            blake3_received: transfer.received_hash.to_hex().to_string(),
            seconds: transfer.seconds,
            bytes_per_second: transfer.bytes as f64 / transfer.seconds,
            datagrams_sent: transfer.sender.datagrams_sent,
            datagrams_sent_again: transfer.sender.datagrams_lost,
            rekeys: transfer.sender.rekeys,
            address_changes: transfer.receiver.address_changes,
            rtt: transfer.sender.rtt,
            proxy: Proxy {
                passed: transfer.proxy.passed(),
                lost: transfer.proxy.dropped(),
                reordered: transfer.proxy.reordered(),
                doubled: transfer.proxy.duplicated(),
            },
            resume,
            simulation,
        }
    }

    /// The claims that do not hold.
    pub fn unproved(&self) -> Vec<&str> {
        let missing = self.claims.iter().filter(|claim| !claim.holds);
        missing.map(|claim| claim.claim.as_str()).collect()
    }
}

/// Whether the killed relay was on the way, by what nodes said and by what its link passed: several times what an idle one does.
fn carried(mesh: &Shown) -> bool {
    mesh.before.contains(&mesh.killed) && mesh.carried > 2 * mesh.idle
}

/// What the mesh proves, and whether it does.
fn meshed(mesh: &Shown) -> Vec<(String, bool)> {
    let [middle, end] = &mesh.subscribers;
    let right = |heard: &Heard| heard.lines == mesh.lines && heard.faults == Faults::default();
    let (way, around) = (shown(&mesh.before), shown(&mesh.after));
    vec![
        (
            format!(
                "{} lines reached node 7, over {} relays at first: each once, in order, unchanged",
                end.lines,
                mesh.line.len().saturating_sub(2)
            ),
            mesh.lines > 0 && mesh.line.len() == 7 && right(end),
        ),
        (
            format!(
                "{} lines reached node 4 so too, though relay {} was killed -9: {way}, then {around}",
                middle.lines, mesh.killed
            ),
            carried(mesh) && !mesh.after.contains(&mesh.killed) && right(middle),
        ),
        (
            "a ring that was cut in two went on where it had stopped once it was whole".to_owned(),
            mesh.parted && right(middle) && right(end),
        ),
    ]
}

/// What the link between two nodes proves, and whether it does.
fn linked(transfer: &Transfer, resume: &Resume, simulation: &Simulation) -> Vec<(String, bool)> {
    let same = transfer.sent_hash == transfer.received_hash && transfer.received_bytes == transfer.bytes;
    let proxy = &transfer.proxy;
    let treated_badly = proxy.dropped() > 0 && proxy.reordered() > 0 && proxy.duplicated() > 0;
    let mut claims = vec![
        (
            format!("all {} bytes arrived once, in order and unchanged", transfer.bytes),
            same,
        ),
        (
            "the same session went on at the new address".to_owned(),
            transfer.receiver.address_changes >= 1,
        ),
        (
            "the keys were replaced while data was under way".to_owned(),
            transfer.sender.rekeys >= 1,
        ),
        (
            "a receiver killed -9 midway left nothing half under the file's name".to_owned(),
            resume.killed_after < resume.bytes && !resume.half_file && resume.same,
        ),
        (
            "and what had arrived at it was not sent again".to_owned(),
            resume.sessions >= 2 && resume.resumed_after >= resume.killed_after,
        ),
        (
            format!("all {} simulated worlds passed every checker", simulation.worlds),
            simulation.passed == simulation.worlds,
        ),
    ];
    // Of a handful of datagrams none may be hit.
    if transfer.sender.datagrams_sent >= 1_000 {
        claims.insert(
            1,
            (
                "datagrams were lost, reordered and doubled on the way".to_owned(),
                treated_badly,
            ),
        );
        claims.insert(
            2,
            (
                "what was lost was sent again".to_owned(),
                transfer.sender.datagrams_lost > 0,
            ),
        );
    }
    claims
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nWhat was proved\n")?;
        for claim in &self.claims {
            writeln!(f, "  {:<3} {}", if claim.holds { "yes" } else { "NO" }, claim.claim)?;
        }
        self.meshed(f)?;
        self.sockets(f)?;
        self.simulated(f)
    }
}

/// A figure with its name.
fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<18} {value}")
}

impl Report {
    fn meshed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown {
            lines,
            subscribers,
            seconds,
            carried,
            idle,
            rerouted_ms,
            healed_ms,
            ..
        } = &self.mesh;
        writeln!(f, "\nThe mesh\n")?;
        row(
            f,
            "published",
            format!("{lines} lines, with everything in {seconds:.1} s"),
        )?;
        for heard in subscribers {
            let Faults {
                lost,
                doubled,
                disordered,
                damaged,
            } = heard.faults;
            row(
                f,
                &format!("node {}", heard.node),
                format!(
                    "{} lines, {lost} lost, {doubled} doubled, {disordered} out of order, {damaged} damaged",
                    heard.lines
                ),
            )?;
        }
        row(
            f,
            "relay killed",
            format!("the stream went on after {rerouted_ms:.0} ms"),
        )?;
        row(
            f,
            "its link before",
            format!("{carried} datagrams in a second; a link beside the way {idle}"),
        )?;
        row(f, "ring healed", format!("the stream went on after {healed_ms:.0} ms"))
    }

    fn sockets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nThe link and the file\n")?;
        row(f, "BLAKE3 sent", &self.blake3_sent)?;
        row(f, "BLAKE3 received", &self.blake3_received)?;
        let rate = bytes(self.bytes_per_second as u64);
        row(
            f,
            "transferred",
            format!("{} in {:.1} s, {rate}/s", bytes(self.bytes), self.seconds),
        )?;
        let Proxy {
            passed,
            lost,
            reordered,
            doubled,
        } = &self.proxy;
        row(
            f,
            "the proxy",
            format!("passed {passed} datagrams, lost {lost}, reordered {reordered}, doubled {doubled}"),
        )?;
        row(
            f,
            "process A",
            format!(
                "sent {} datagrams, found {} lost and sent their data again",
                self.datagrams_sent, self.datagrams_sent_again
            ),
        )?;
        row(f, "address changes", self.address_changes)?;
        row(f, "rekeys", self.rekeys)?;
        if let Some(rtt) = &self.rtt {
            let ms = |us: u64| us as f64 / 1e3;
            let (p50, p90, p99) = (ms(rtt.p50_us), ms(rtt.p90_us), ms(rtt.p99_us));
            let text = format!(
                "p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms ({} samples under load)",
                rtt.samples
            );
            row(f, "round trip", text)?;
        }
        let resume = &self.resume;
        row(
            f,
            "file, resumed",
            format!(
                "{} in {:.1} s over {} sessions; killed after {}, went on after {}",
                bytes(resume.bytes),
                resume.seconds,
                resume.sessions,
                bytes(resume.killed_after),
                bytes(resume.resumed_after)
            ),
        )
    }

    fn simulated(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nIn simulation\n")?;
        let simulation = &self.simulation;
        row(
            f,
            "worlds",
            format!("{} of {} passed", simulation.passed, simulation.worlds),
        )?;
        row(
            f,
            "in all",
            format!(
                "{} datagrams, {} lost; keys replaced and seen {} times, addresses {} times",
                simulation.datagrams, simulation.lost, simulation.rekeys, simulation.address_changes
            ),
        )?;
        write!(
            f,
            "  {:<18} {:.0} s simulated in {:.1} s",
            "time", simulation.simulated_seconds, simulation.seconds
        )?;
        match &simulation.failure {
            Some(failure) => write!(f, "\n  {:<18} {failure}", "first failure"),
            None => Ok(()),
        }
    }
}

impl Record for Report {
    const KIND: &'static str = "demo";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh() -> Shown {
        let heard = |node| Heard {
            node,
            lines: 100,
            faults: Faults::default(),
        };
        Shown {
            lines: 100,
            subscribers: [heard(4), heard(7)],
            line: (1..=7).collect(),
            before: vec![1, 2, 3, 4],
            after: vec![1, 7, 6, 5, 4],
            killed: 3,
            carried: 300,
            idle: 30,
            rerouted_ms: 400.0,
            healed_ms: 100.0,
            parted: true,
            seconds: 7.0,
        }
    }

    /// Which of the three claims hold once the mesh is as `change` makes it.
    fn held(change: impl Fn(&mut Shown)) -> [bool; 3] {
        let mut mesh = mesh();
        change(&mut mesh);
        let claims = meshed(&mesh);
        std::array::from_fn(|at| claims[at].1)
    }

    #[test]
    fn a_mesh_that_did_all_it_should_proves_all_of_it() {
        assert_eq!(held(|_| {}), [true; 3]);
    }

    #[test]
    fn each_claim_of_the_mesh_can_fail() {
        // What either subscriber lacks is also what the partition cost.
        let end = [false, true, false];
        assert_eq!(held(|mesh| mesh.subscribers[1].lines = 99), end);
        assert_eq!(held(|mesh| mesh.subscribers[1].faults.doubled = 1), end);
        let middle = [true, false, false];
        assert_eq!(held(|mesh| mesh.subscribers[0].faults.lost = 1), middle);
        assert_eq!(held(|mesh| mesh.subscribers[0].faults.disordered = 1), middle);
        assert_eq!(held(|mesh| mesh.subscribers[0].faults.damaged = 1), middle);
        assert_eq!(
            held(|mesh| mesh.line = vec![1, 7]),
            [false, true, true],
            "over no relay"
        );
        let relay = [true, false, true];
        assert_eq!(held(|mesh| mesh.killed = 6), relay, "not on the way");
        assert_eq!(held(|mesh| mesh.carried = 60), relay, "as idle as the other");
        assert_eq!(held(|mesh| mesh.after = vec![1, 2, 3, 4]), relay, "not around it");
        assert_eq!(held(|mesh| mesh.parted = false), [true, true, false]);
        assert_eq!(held(|mesh| mesh.lines = 0), [false; 3]);
    }
}
