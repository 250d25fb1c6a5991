//! Durations as people type them: `30d`, `7d`, `24h`, `60m`, `3600s`, `500ms`.

/// Milliseconds of a duration: digits and one of `d h m s ms`, in any case. `None` for anything else or an overflow.
#[must_use]
pub fn parse_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::parse_ms;

    #[test]
    fn every_shape_of_the_seed() {
        for (text, want) in [
            ("30d", Some(2_592_000_000)),
            ("7D", Some(604_800_000)),
            ("24h", Some(86_400_000)),
            ("60m", Some(3_600_000)),
            ("3600s", Some(3_600_000)),
            ("500ms", Some(500)),
            ("500MS", Some(500)),
            ("0s", Some(0)),
            ("", None),
            ("d", None),
            ("30", None),
            ("-3d", None),
            ("3.5h", None),
            ("3 d", None),
            ("99999999999999999999d", None),
            ("999999999999999d", None),
        ] {
            assert_eq!(parse_ms(text), want, "{text}");
        }
    }
}
