//! Recorded delays in a file beside a scenario: one duration per line, in the units of scenarios; `#` begins a comment.
//!
//! Invariants: the file is named relative to the scenario's own folder; a resolved scenario holds the values themselves.
//! Not here: what the values are used for (`net-sim-model`).

use std::path::Path;

/// Values one file may hold.
const MOST: usize = 100_000;

/// The values of trace `name`, which scenario `scenario` asks for.
///
/// # Errors
/// What is wrong, with the trace's own line.
pub fn read(scenario: &str, name: &str) -> Result<Vec<String>, String> {
    let path = Path::new(scenario).parent().unwrap_or(Path::new("")).join(name);
    let shown = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read the trace {shown}: {error}"))?;
    let mut values = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let value = line.split('#').next().unwrap_or("").trim();
        if value.is_empty() {
            continue;
        }
        super::units::duration(value).map_err(|what| format!("{shown}:{}: {what}", n + 1))?;
        values.push(value.to_owned());
        if values.len() > MOST {
            return Err(format!("{shown}: more than {MOST} values"));
        }
    }
    if values.is_empty() {
        return Err(format!("{shown} holds no value"));
    }
    Ok(values)
}
