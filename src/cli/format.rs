//! Numbers, sizes and times as people read them. Plain ASCII, no padding.

/// Bytes: `812 B`, `14 KiB`, `1.4 MiB`, `53 MiB`; one decimal below ten.
#[must_use]
pub fn bytes(n: u64) -> String {
    if n < 1024 {
        return format!("{n} B");
    }
    let mut unit: u64 = 1024;
    let mut names = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut name = names.next().unwrap_or_default();
    for next in names {
        if n < unit * 1024 - unit / 2 {
            break; // what would be shown as 1024 takes the next unit
        }
        (unit, name) = (unit * 1024, next);
    }
    let (whole, rest) = (n / unit, n % unit);
    let tenths = whole.saturating_mul(10).saturating_add((rest * 10 + unit / 2) / unit);
    if tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", whole + u64::from(rest >= unit / 2))
    }
}

/// A count in groups of three: `61 204`. Four digits are grouped too, so that columns agree.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `part` of `whole` in whole per cent: `92 %`. Only all is 100 %, only nothing 0 %. `None` where `whole` is 0.
#[must_use]
pub fn percent(part: u64, whole: u64) -> Option<String> {
    let (part, whole) = (u128::from(part), u128::from(whole));
    let rounded = (part * 100 + whole / 2).checked_div(whole)?;
    let shown = match rounded {
        0 if part > 0 => 1,
        100 if part < whole => 99,
        n => n,
    };
    Some(format!("{shown} %"))
}

/// A duration in ms: `85 ms`, `9.8 s`, `42 s`, `2 m 03 s`, `1 h 04 m`, `3 d 02 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000 + u64::from(ms % 1000 >= 500);
    match ms {
        0..100 => format!("{ms} ms"),
        100..9_950 => {
            let tenths = (ms + 50) / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        _ if seconds < 60 => format!("{seconds} s"),
        _ if seconds < 3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long ago `then` was at `now`, both ms since the epoch: `3 m ago`, `just now`.
#[must_use]
pub fn ago(then: u64, now: u64) -> String {
    match now.saturating_sub(then) / 1000 {
        0..60 => "just now".to_string(),
        s @ 60..3600 => format!("{} m ago", s / 60),
        s @ 3600..86_400 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}

/// An estimated amount: `≈ $0.41`, `≈ $12.30`; below a cent `< $0.01`, and `$0` for nothing.
#[must_use]
pub fn dollars(amount: f64, utf8: bool) -> String {
    let about = if utf8 { "\u{2248}" } else { "~" };
    match amount {
        n if n <= 0.0 => "$0".to_string(),
        n if n < 0.005 => "< $0.01".to_string(),
        n => format!("{about} ${n:.2}"),
    }
}

/// `1 error`, `2 errors`: a count with its noun, whose plural takes an s.
#[must_use]
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (n, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1500, "1.5 KiB"),
            (10_188, "9.9 KiB"),
            (10_240, "10 KiB"),
            (14_336, "14 KiB"),
            (1_048_064, "1.0 MiB"), // 1023.5 KiB
            (1_048_063, "1023 KiB"),
            (1_048_576, "1.0 MiB"),
            (55_574_528, "53 MiB"),
            (1 << 30, "1.0 GiB"),
            (1 << 40, "1.0 TiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(n), want, "{n}");
        }
    }

    #[test]
    fn counts() {
        for (n, want) in
            [(0, "0"), (412, "412"), (8120, "8 120"), (61_204, "61 204"), (1_000_000, "1 000 000")]
        {
            assert_eq!(count(n), want);
        }
        assert_eq!(
            (counted(1, "error").as_str(), counted(1200, "event").as_str()),
            ("1 error", "1 200 events")
        );
    }

    #[test]
    fn shares() {
        for (part, whole, want) in [
            (0, 0, None),
            (0, 7, Some("0 %")),
            (1, 1000, Some("1 %")),
            (999, 1000, Some("99 %")),
            (1000, 1000, Some("100 %")),
            (92, 100, Some("92 %")),
            (2, 3, Some("67 %")),
            (u64::MAX, u64::MAX, Some("100 %")),
        ] {
            assert_eq!(percent(part, whole).as_deref(), want, "{part}/{whole}");
        }
    }

    #[test]
    fn amounts() {
        for (amount, utf8, want) in [
            (0.0, true, "$0"),
            (0.004, true, "< $0.01"),
            (0.005, true, "\u{2248} $0.01"),
            (0.4123, false, "~ $0.41"),
            (1234.5, true, "\u{2248} $1234.50"),
        ] {
            assert_eq!(dollars(amount, utf8), want);
        }
    }

    #[test]
    fn durations() {
        for (ms, want) in [
            (0, "0 ms"),
            (99, "99 ms"),
            (100, "0.1 s"),
            (1149, "1.1 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (59_499, "59 s"),
            (59_500, "1 m 00 s"),
            (123_000, "2 m 03 s"),
            (3_599_500, "1 h 00 m"),
            (3_840_000, "1 h 04 m"),
            (266_400_000, "3 d 02 h"),
        ] {
            assert_eq!(duration(ms), want, "{ms}");
        }
        assert_eq!(
            u64::MAX.checked_add(1),
            None,
            "the largest value does not overflow: {}",
            duration(u64::MAX)
        );
    }

    #[test]
    fn how_long_ago() {
        for (then, now, want) in [
            (0, 59_999, "just now"),
            (0, 180_000, "3 m ago"),
            (0, 7_200_000, "2 h ago"),
            (0, 172_800_000, "2 d ago"),
            (5, 0, "just now"),
        ] {
            assert_eq!(ago(then, now), want);
        }
    }
}
