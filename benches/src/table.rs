//! Medians over rounds, ratios against each measure's reference, as text and as JSON.
//!
//! Invariants: a ratio is between medians of the same run; the spread (least and greatest round) stands beside it.
//! Not here: judgement.

use crate::contender::Measure;
use crate::run::Samples;
use serde_json::{Value, json};
use std::fmt::Write;

/// One row: a contender in one measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub measure: Measure,
    /// Who.
    pub name: String,
    /// Median over rounds.
    pub median: f64,
    /// The least round.
    pub least: f64,
    /// The greatest round.
    pub greatest: f64,
    /// Median over the reference's median, where the measure has one in this run.
    pub ratio: Option<f64>,
}

/// The rows of a run, measure by measure in the contenders' order.
#[must_use]
pub fn rows(names: &[String], samples: &Samples) -> Vec<Row> {
    let mut rows = Vec::new();
    for measure in Measure::ALL {
        let of_measure: Vec<_> = (0..names.len())
            .filter_map(|index| Some((index, sorted(samples.get(&(measure, index))?))))
            .filter(|(_, values)| !values.is_empty())
            .map(|(index, values)| (index, values[values.len() / 2], values[0], values[values.len() - 1]))
            .collect();
        let medians: Vec<_> = of_measure
            .iter()
            .map(|&(index, median, ..)| (names[index].as_str(), median))
            .collect();
        let reference = reference(measure, &medians).map(|(_, median)| median);
        rows.extend(of_measure.iter().map(|&(index, median, least, greatest)| {
            let ratio = reference.map(|reference| median / reference);
            Row {
                measure,
                name: names[index].clone(),
                median,
                least,
                greatest,
                ratio,
            }
        }));
    }
    rows
}

/// Whom a measure compares with: the blocking ping-pong, the bare handshake, or the faster of quinn's runtimes with our
/// cipher.
fn reference<'n>(measure: Measure, medians: &[(&'n str, f64)]) -> Option<(&'n str, f64)> {
    let named = |prefix: &str| {
        medians
            .iter()
            .copied()
            .filter(move |(name, _)| name.starts_with(prefix))
            .collect::<Vec<_>>()
    };
    match measure {
        Measure::RequestResponse | Measure::InFlight | Measure::InFlightTail => {
            named("raw UDP, blocking").first().copied()
        }
        Measure::Handshake => named("bare:").first().copied(),
        Measure::StreamKibi | Measure::StreamLarge | Measure::MessagesBatched | Measure::MessagesSingle => {
            named("quinn chacha20").into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
        }
    }
}

/// For people.
#[must_use]
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for measure in Measure::ALL {
        let of_measure: Vec<_> = rows.iter().filter(|row| row.measure == measure).collect();
        if of_measure.is_empty() {
            continue;
        }
        let medians: Vec<_> = of_measure.iter().map(|row| (row.name.as_str(), row.median)).collect();
        let against = reference(measure, &medians).map_or("nothing", |(name, _)| name);
        let _ = writeln!(text, "\n{} (ratio to: {against})", measure.title());
        for row in of_measure {
            let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.3} x"));
            let spread = format!("[{:.1} .. {:.1}]", row.least, row.greatest);
            let _ = writeln!(
                text,
                "  {:<54} {:>12.1}  {spread:<24} {ratio:>10}",
                row.name, row.median
            );
        }
    }
    text
}

/// For programs.
#[must_use]
pub fn json(rows: &[Row], rounds: usize) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "measure": row.measure.key(),
                "name": row.name,
                "median": row.median,
                "least": row.least,
                "greatest": row.greatest,
                "ratio": row.ratio,
            })
        })
        .collect();
    json!({ "schema": 1, "rounds": rounds, "rows": rows })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_of_a_stream_is_the_faster_runtime_with_our_cipher() {
        let names = [
            "quinn chacha20 one thread",
            "quinn chacha20 two threads",
            "quinn aes128 one thread",
            "ours",
        ];
        let names = names.map(str::to_owned);
        let samples = Samples::from([
            ((Measure::StreamKibi, 0), vec![90.0, 110.0, 100.0]),
            ((Measure::StreamKibi, 1), vec![200.0]),
            ((Measure::StreamKibi, 2), vec![900.0]),
            ((Measure::StreamKibi, 3), vec![300.0]),
        ]);
        let rows = rows(&names, &samples);
        assert_eq!(
            rows[0],
            Row {
                measure: Measure::StreamKibi,
                name: names[0].clone(),
                median: 100.0,
                least: 90.0,
                greatest: 110.0,
                ratio: Some(0.5),
            }
        );
        assert_eq!(rows[3].ratio, Some(1.5));
        assert!(text(&rows).contains("ratio to: quinn chacha20 two threads"));
    }

    #[test]
    fn a_measure_without_its_reference_has_no_ratio() {
        let samples = Samples::from([((Measure::Handshake, 0), vec![5.0])]);
        assert_eq!(rows(&["ours".to_owned()], &samples)[0].ratio, None);
    }
}
