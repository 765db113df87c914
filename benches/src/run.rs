//! Interleaved rounds: in each, every contender is started, measured in everything it does, and stopped.
//!
//! Invariants: only one contender's processes run at a time; the order turns by one each round, so that nobody always
//! follows the same neighbour.
//! Not here: printing (`table.rs`).

use crate::contender::{Contender, Failure, Measure};
use crate::flight::IN_FLIGHT;
use std::collections::BTreeMap;

/// How much is measured per round.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds; the table takes medians over them.
    pub rounds: usize,
    /// Exchanges per round.
    pub exchanges: usize,
    /// Bytes per stream and round.
    pub bytes: u64,
    /// Small messages per round where they are batched; a quarter of it one call at a time.
    pub messages: u64,
    /// Handshakes per round.
    pub handshakes: usize,
}

/// Small messages handed over per call where they are batched.
pub const BATCH: usize = 1_024;

/// One value per round, by measure and contender (its index in the list), in the unit of [`Measure::title`].
pub type Samples = BTreeMap<(Measure, usize), Vec<f64>>;

/// Measures everything. `progress` is told what runs.
///
/// # Errors
/// The first failure of a contender, with its name.
pub fn run(
    contenders: &mut [Box<dyn Contender>],
    measures: &[Measure],
    plan: Plan,
    mut progress: impl FnMut(usize, &str),
) -> Result<Samples, Failure> {
    let mut samples = Samples::new();
    let count = contenders.len();
    for round in 0..plan.rounds {
        for turn in 0..count {
            let index = (round + turn) % count;
            let contender = &mut contenders[index];
            progress(round, &contender.name());
            let named = |error: Failure, name: String| -> Failure { format!("{name}: {error}").into() };
            contender.start().map_err(|error| named(error, contender.name()))?;
            for &measure in measures {
                let values = one(contender.as_mut(), measure, plan).map_err(|error| named(error, contender.name()))?;
                for (measure, value) in values {
                    samples.entry((measure, index)).or_default().push(value);
                }
            }
            contender.stop();
        }
    }
    Ok(samples)
}

/// What one measurement gives; the two measures of requests in flight come from one.
fn one(contender: &mut dyn Contender, measure: Measure, plan: Plan) -> Result<Vec<(Measure, f64)>, Failure> {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    let value = match measure {
        Measure::RequestResponse => contender.rr(plan.exchanges)?.map(micros),
        Measure::InFlight => {
            let latency = contender.in_flight(plan.exchanges * IN_FLIGHT / 4)?;
            let both = latency.map(|latency| {
                [
                    (Measure::InFlight, micros(latency.p50)),
                    (Measure::InFlightTail, micros(latency.p99)),
                ]
            });
            return Ok(both.into_iter().flatten().collect());
        }
        Measure::InFlightTail => None,
        Measure::StreamKibi => contender.stream(1 << 10, plan.bytes)?.map(|rate| rate / 1e6),
        Measure::StreamLarge => contender.stream(1 << 16, plan.bytes)?.map(|rate| rate / 1e6),
        Measure::MessagesBatched => contender.messages(plan.messages, BATCH)?.map(|rate| rate / 1e3),
        Measure::MessagesSingle => contender.messages(plan.messages / 4, 1)?.map(|rate| rate / 1e3),
        Measure::Handshake => contender.handshake(plan.handshakes)?.map(micros),
    };
    Ok(value.map(|value| (measure, value)).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    struct Scripted {
        name: &'static str,
        log: Rc<RefCell<Vec<String>>>,
    }

    impl Contender for Scripted {
        fn name(&self) -> String {
            self.name.to_owned()
        }
        fn start(&mut self) -> Result<(), Failure> {
            self.log.borrow_mut().push(format!("+{}", self.name));
            Ok(())
        }
        fn stop(&mut self) {
            self.log.borrow_mut().push(format!("-{}", self.name));
        }
        fn rr(&mut self, _: usize) -> Result<Option<Duration>, Failure> {
            Ok(Some(Duration::from_micros(3)))
        }
    }

    #[test]
    fn contenders_run_one_at_a_time_and_the_order_turns() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let scripted = |name| {
            Box::new(Scripted {
                name,
                log: Rc::clone(&log),
            }) as Box<dyn Contender>
        };
        let mut contenders = vec![scripted("a"), scripted("b")];
        let plan = Plan {
            rounds: 2,
            exchanges: 1,
            bytes: 1,
            messages: 1,
            handshakes: 1,
        };
        let samples = run(&mut contenders, &Measure::ALL, plan, |_, _| {}).unwrap();
        assert_eq!(log.borrow().join(" "), "+a -a +b -b +b -b +a -a");
        assert_eq!(samples.len(), 2, "only what a contender does is in the table");
        assert_eq!(samples[&(Measure::RequestResponse, 0)], [3.0, 3.0]);
    }
}
