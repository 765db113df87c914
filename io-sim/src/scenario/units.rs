//! Quantities as scenario files write them: `20ms`, `64KiB`, `200/s`, `10MB/s`, `0.02`.
//!
//! Invariants: what is parsed is an integer in the smallest unit; text that says something else is refused with the
//! forms that are understood.
//! Not here: where quantities stand in a file (`table.rs`).

/// Nanoseconds of `20ms`, `1.5s`, `2m`, `1h`, `250us`, `10ns`.
///
/// # Errors
/// A sentence that names the forms.
pub fn duration(text: &str) -> Result<u64, String> {
    let units: [(&str, u128); 6] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    scaled(text, &units).ok_or_else(|| format!("`{text}` is not a duration; write `20ms`, `1.5s` or `2m`"))
}

/// Bytes of `64KiB`, `16MiB`, `10MB`, `1200B`, `1200`.
///
/// # Errors
/// A sentence that names the forms.
pub fn bytes(text: &str) -> Result<u64, String> {
    let units: [(&str, u128); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    scaled(text, &units).ok_or_else(|| format!("`{text}` is not a size; write `1200`, `64KiB` or `16MiB`"))
}

/// Events per second, in thousandths, of `200/s`, `0.5/s`, `30/m`.
///
/// # Errors
/// A sentence that names the forms.
pub fn per_second_milli(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a rate; write `200/s` or `30/m`");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let milli = scaled(count, &[("", 1_000), ("k", 1_000_000)]).ok_or_else(wrong)?;
    match unit {
        "s" => Ok(milli),
        "m" => Ok(milli / 60),
        _ => Err(wrong()),
    }
}

/// Bytes per second of `10MB/s`, `64KiB/s`.
///
/// # Errors
/// A sentence that names the forms.
pub fn bytes_per_second(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a byte rate; write `10MB/s` or `64KiB/s`");
    let size = text.strip_suffix("/s").ok_or_else(wrong)?;
    bytes(size).map_err(|_| wrong())
}

/// Parts per billion of a probability between 0 and 1, or of `2%`.
///
/// # Errors
/// A sentence that names the forms.
pub fn probability(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a probability; write a number from 0 to 1, or `2%`");
    let ppb = match text.strip_suffix('%') {
        Some(percent) => scaled(percent, &[("", 10_000_000)]),
        None => scaled(text, &[("", 1_000_000_000)]),
    };
    ppb.filter(|&ppb| ppb <= net_sim_model::PPB).ok_or_else(wrong)
}

/// `number unit` as an integer multiple of the unit's factor; the longest unit that fits counts. Fractions are exact.
fn scaled(text: &str, units: &[(&str, u128)]) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || fraction.len() > 18 {
        return None;
    }
    let mut total = whole.parse::<u128>().ok()?.checked_mul(*factor)?;
    if !fraction.is_empty() {
        let divisor = 10u128.pow(fraction.len() as u32);
        total += fraction.parse::<u128>().ok()? * factor / divisor;
    }
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly() {
        assert_eq!(duration("20ms"), Ok(20_000_000));
        assert_eq!(duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(duration("0s"), Ok(0));
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert_eq!(bytes("1200"), Ok(1_200));
        assert_eq!(per_second_milli("200/s"), Ok(200_000));
        assert_eq!(per_second_milli("0.5/s"), Ok(500));
        assert_eq!(bytes_per_second("10MB/s"), Ok(10_000_000));
        assert_eq!(probability("0.02"), Ok(20_000_000));
        assert_eq!(probability("2%"), Ok(20_000_000));
        assert_eq!(probability("1"), Ok(1_000_000_000));
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_the_forms_that_are() {
        for text in ["", "ms", "20", "20 parsecs", "-3s", "1e3s", "99999999999999999999h"] {
            assert!(duration(text).unwrap_err().contains("write `20ms`"), "{text}");
        }
        assert!(probability("1.1").is_err());
        assert!(per_second_milli("200").is_err());
        assert!(bytes_per_second("10MB").is_err());
    }
}
