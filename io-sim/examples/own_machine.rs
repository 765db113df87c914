//! A state machine of one's own in the world: one that hands out numbers, with a mistake that can be switched on.
//!
//!     cargo run -p net-io-sim --example own_machine            # 200 seeds pass
//!     cargo run -p net-io-sim --example own_machine -- --bug   # finds the mistake, and says how to see it again
//!
//! Machine 0 gives every asker a number that nobody else gets, though it crashes, its disk loses what was not yet synced,
//! and datagrams are lost, doubled and overtaken. It saves that a number is taken, waits for the disk, then answers. The
//! mistake: it answers without waiting.

use std::collections::{BTreeMap, VecDeque};

use net_io_sim::check::{Accounts, Checker, Note};
use net_io_sim::run::Spec;
use net_io_sim::simple::{Machine, Member, Outbox, Simple, Timer};
use net_io_sim::suite::{Suite, Summary};
use net_kernel::base::{Addr, Duration};

const SCENARIO: &str = r#"
schema = 1
name = "numbers"
duration = "10s"
[topology]
nodes = [ { id = "keeper", disk = "4ms" }, { id = "left" }, { id = "right", drift_ppb = 50000000 } ]
default_link = { delay = ["1ms", "20ms"], loss = [0.0, 0.2], dup = 0.1, reorder = 0.2 }
[[fault]]
kind = "crash"
node = "keeper"
at = ["1s", "8s"]
for = ["1ms", "1s"]
[[fault]]
kind = "crash"
node = "left"
at = ["1s", "8s"]
for = "50ms"
"#;

/// Who asks again does so after this long.
const PATIENCE: Duration = Duration::from_millis(100);
const ASK: Timer = 1;

/// The machine; `HASTY` switches the mistake on.
struct Numbers<const HASTY: bool> {
    keeper: Addr,
    /// The keeper's next number.
    next: u64,
    /// The keeper's answers that wait for the disk: to whom, to which question, which number.
    waiting: VecDeque<(Addr, u64, u64)>,
    /// The open question of everybody else.
    question: u64,
}

impl<const HASTY: bool> Numbers<HASTY> {
    fn ask(&mut self, out: &mut Outbox) {
        self.question = out.random();
        out.send(self.keeper, [&b"?"[..], &self.question.to_le_bytes()].concat());
        out.set_timer(ASK, PATIENCE);
    }

    fn answer((to, question, number): (Addr, u64, u64), out: &mut Outbox) {
        let words = [question.to_le_bytes(), number.to_le_bytes()].concat();
        out.send(to, [&b"!"[..], &words].concat());
    }
}

impl<const HASTY: bool> Machine for Numbers<HASTY> {
    fn start(me: &Member, saved: Option<&[u8]>, out: &mut Outbox) -> Self {
        let mut this = Self {
            keeper: me.addresses[0],
            next: saved.and_then(word).unwrap_or(0),
            waiting: VecDeque::new(),
            question: 0,
        };
        if me.number != 0 {
            this.ask(out);
        }
        this
    }

    fn on_datagram(&mut self, from: Addr, bytes: &[u8], out: &mut Outbox) {
        let Some((kind, rest)) = bytes.split_first() else {
            return;
        };
        match (kind, word(rest), rest.get(8..).and_then(word)) {
            (b'?', Some(question), _) => {
                let answer = (from, question, self.next);
                self.next += 1;
                out.save(self.next.to_le_bytes().to_vec());
                self.waiting.push_back(answer);
                if HASTY {
                    Self::answer(answer, out);
                }
            }
            (b'!', Some(question), Some(number)) if question == self.question => {
                out.note("got", [number]);
                self.ask(out);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, _timer: Timer, out: &mut Outbox) {
        self.ask(out);
    }

    fn on_saved(&mut self, done: bool, out: &mut Outbox) {
        if let Some(answer) = self.waiting.pop_front()
            && done
            && !HASTY
        {
            Self::answer(answer, out);
        }
    }
}

fn word(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Nobody gets a number that somebody got before, and numbers are given at all.
#[derive(Default)]
struct OnlyOnce {
    taken: BTreeMap<u64, u32>,
}

impl Checker for OnlyOnce {
    fn name(&self) -> &'static str {
        "only-once"
    }

    fn noted(&mut self, note: &Note) -> Result<(), String> {
        let number = note.values[0];
        match self.taken.insert(number, note.node) {
            None => Ok(()),
            Some(before) => Err(format!(
                "number {number} went to machine {before} and to machine {}",
                note.node
            )),
        }
    }

    fn finish(&mut self, _: &Accounts) -> Result<(), String> {
        match self.taken.len() {
            0..20 => Err(format!("{} numbers in ten seconds", self.taken.len())),
            _ => Ok(()),
        }
    }
}

fn sweep<const HASTY: bool>() -> Summary {
    let spec = Spec::new("numbers.toml", SCENARIO).expect("the scenario above is correct");
    Suite::new([spec])
        .seeds(1..=200)
        .checker(OnlyOnce::default)
        .run::<Simple<Numbers<HASTY>>>()
}

fn main() -> std::process::ExitCode {
    let hasty = std::env::args().any(|word| word == "--bug");
    let summary = if hasty { sweep::<true>() } else { sweep::<false>() };
    println!("{summary}");
    std::process::ExitCode::from(u8::from(summary.failures().count() > 0))
}

#[test]
fn the_patient_one_never_gives_a_number_twice() {
    let summary = sweep::<false>();
    summary.assert_passed();
    assert!(summary.sum("link.loss") > 0, "the links lost something");
}

#[test]
fn the_hasty_one_is_found() {
    let summary = sweep::<true>();
    let found = summary.failures().next().expect("200 seeds are enough");
    assert_eq!(found.checker.as_deref(), Some("only-once"));
    assert!(summary.to_string().contains("again: .seeds("));
}
