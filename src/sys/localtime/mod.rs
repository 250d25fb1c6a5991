//! Local time from the system's time zone files, without libc: TZif (RFC 9636) and POSIX TZ rules.
mod rule;

use std::fmt;
use std::path::Path;
use std::{env, fs};

use rule::{Cursor, DAY, Rule, civil, days, month_days};

const ZONES: &str = "/usr/share/zoneinfo";

/// A time zone: what to add to UTC, and when that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Seconds since the epoch from which on an offset (seconds east of UTC) holds, ascending.
    changes: Vec<(i64, i32)>,
    /// The offset before the first change.
    first: i32,
    /// What holds after the last change.
    rule: Option<Rule>,
}

/// A moment in local time. Its `Display` is `2026-11-21 10:31:07 +01:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    pub year: i64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// Seconds east of UTC.
    pub offset: i32,
}

impl Local {
    /// `2026-11-21`.
    #[must_use]
    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `10:31:07`.
    #[must_use]
    pub fn clock(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }

    /// `+01:00`.
    #[must_use]
    pub fn offset(&self) -> String {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.unsigned_abs() / 60;
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.date(), self.clock(), self.offset())
    }
}

impl Zone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Zone {
        Zone { changes: Vec::new(), first: 0, rule: None }
    }

    /// The zone of `$TZ`, else of `/etc/localtime`; UTC where neither can be read.
    #[must_use]
    pub fn system() -> Zone {
        let zone = match env::var("TZ") {
            Ok(name) => Zone::named(&name, Path::new(ZONES)),
            Err(_) => Zone::read(Path::new("/etc/localtime")),
        };
        zone.unwrap_or_else(Zone::utc)
    }

    /// A zone by what stands in `$TZ`: a name under `directory`, an absolute path, or a POSIX rule.
    fn named(name: &str, directory: &Path) -> Option<Zone> {
        let name = name.strip_prefix(':').unwrap_or(name);
        if name.is_empty() || name == "UTC" {
            return Some(Zone::utc());
        }
        let file =
            if name.split('/').any(|part| part == "..") { None } else { Zone::read(&directory.join(name)) };
        file.or_else(|| {
            let rule = Rule::parse(name)?;
            Some(Zone { changes: Vec::new(), first: rule.standard, rule: Some(rule) })
        })
    }

    fn read(path: &Path) -> Option<Zone> {
        Zone::parse(&fs::read(path).ok()?)
    }

    /// A zone from the bytes of a TZif file of version 1 or later; `None` if they are not one.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Zone> {
        let header = Header::parse(bytes)?;
        if header.version < b'2' {
            return header.block(bytes, 4).map(|(zone, _)| zone);
        }
        let second = bytes.get(HEADER + header.length(4)..)?;
        let (mut zone, rest) = Header::parse(second)?.block(second, 8)?;
        let footer = rest.strip_prefix(b"\n")?;
        let end = footer.iter().position(|b| *b == b'\n')?;
        zone.rule = std::str::from_utf8(&footer[..end]).ok().and_then(Rule::parse);
        Some(zone)
    }

    /// Seconds east of UTC at `seconds` since the epoch.
    #[must_use]
    pub fn offset(&self, seconds: i64) -> i32 {
        match self.changes.partition_point(|(from, _)| *from <= seconds) {
            n if n == self.changes.len() => match &self.rule {
                Some(rule) => rule.offset(seconds),
                None => self.changes.last().map_or(self.first, |(_, offset)| *offset),
            },
            0 => self.first,
            n => self.changes[n - 1].1,
        }
    }

    /// The local time at `ms` since the epoch.
    #[must_use]
    pub fn local(&self, ms: u64) -> Local {
        let utc = i64::try_from(ms / 1000).unwrap_or(0);
        let offset = self.offset(utc);
        let seconds = utc + i64::from(offset);
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let rest = seconds.rem_euclid(DAY);
        let small = |n: i64| u8::try_from(n).unwrap_or(0);
        Local {
            year,
            month: small(month),
            day: small(day),
            hour: small(rest / 3600),
            minute: small(rest / 60 % 60),
            second: small(rest % 60),
            offset,
        }
    }

    /// ms since the epoch of a moment as people type it: `2026-11-21`, `2026-11-21T10:00`, `2026-11-21 10:00:30`,
    /// local unless `Z` or an offset such as `+01:00` follows. `None` if it is none, or lies before 1970.
    #[must_use]
    pub fn parse_moment(&self, text: &str) -> Option<u64> {
        let mut at = Cursor(text.trim());
        let (year, month, day) = (at.digits(4)?, at.after("-")?.digits(2)?, at.after("-")?.digits(2)?);
        let mut clock = [0; 3];
        if at.skip("T") || at.skip(" ") {
            clock[0] = at.digits(2)?;
            clock[1] = at.after(":")?.digits(2)?;
            if at.skip(":") {
                clock[2] = at.digits(2)?;
            }
        }
        let valid = (1..=12).contains(&month)
            && (1..=month_days(year, month)).contains(&day)
            && clock[0] < 24
            && clock[1] < 60
            && clock[2] < 60;
        if !valid {
            return None;
        }
        let naive = days(year, month, day) * DAY + clock[0] * 3600 + clock[1] * 60 + clock[2];
        let utc = if at.skip("Z") {
            naive
        } else if let Some(sign) = at.sign() {
            let hours = at.digits(2)?;
            at.skip(":");
            naive - sign * (hours * 3600 + at.digits(2)? * 60)
        } else {
            let guess = naive - i64::from(self.offset(naive));
            naive - i64::from(self.offset(guess))
        };
        if !at.0.is_empty() {
            return None;
        }
        u64::try_from(utc).ok()?.checked_mul(1000)
    }
}

const HEADER: usize = 44;

/// The counts of a TZif block (RFC 9636 §3.1).
struct Header {
    version: u8,
    utc_flags: usize,
    standard_flags: usize,
    leaps: usize,
    times: usize,
    types: usize,
    chars: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        if bytes.get(..4)? != b"TZif" {
            return None;
        }
        let count = |i: usize| {
            let four: [u8; 4] = bytes.get(20 + 4 * i..24 + 4 * i)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(four)).ok().filter(|n| *n <= 100_000)
        };
        Some(Header {
            version: *bytes.get(4)?,
            utc_flags: count(0)?,
            standard_flags: count(1)?,
            leaps: count(2)?,
            times: count(3)?,
            types: count(4)?,
            chars: count(5)?,
        })
    }

    /// Bytes of the data that follows, with times of `width` bytes.
    fn length(&self, width: usize) -> usize {
        self.times * (width + 1)
            + self.types * 6
            + self.chars
            + self.leaps * (width + 4)
            + self.standard_flags
            + self.utc_flags
    }

    /// The zone of this block and what follows it. Leap seconds are left out, as the clock leaves them out.
    fn block<'a>(&self, bytes: &'a [u8], width: usize) -> Option<(Zone, &'a [u8])> {
        let data = bytes.get(HEADER..HEADER + self.length(width))?;
        let (times, rest) = data.split_at(self.times * width);
        let (indexes, types) = rest.split_at(self.times);
        let offset = |i: usize| {
            let four: [u8; 4] = types.get(i * 6..i * 6 + 4)?.try_into().ok()?;
            Some(i32::from_be_bytes(four)).filter(|o| i < self.types && o.unsigned_abs() <= 2 * 86_400)
        };
        let mut changes = Vec::with_capacity(self.times);
        for (time, index) in times.chunks_exact(width).zip(indexes) {
            let from = match width {
                4 => i64::from(i32::from_be_bytes(time.try_into().ok()?)),
                _ => i64::from_be_bytes(time.try_into().ok()?),
            };
            changes.push((from, offset(usize::from(*index))?));
        }
        if !changes.is_sorted_by_key(|(from, _)| *from) {
            return None;
        }
        Some((Zone { changes, first: offset(0)?, rule: None }, &bytes[HEADER + self.length(width)..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 2 file as zic writes it slim: an empty first block, `changes` in the second, a rule as footer.
    fn tzif(changes: &[(i64, u8)], offsets: &[i32], footer: &str) -> Vec<u8> {
        let header = |times: usize, types: usize| {
            let mut out = b"TZif2".to_vec();
            out.extend([0; 15]);
            for n in [0, 0, 0, times, types, 4] {
                out.extend(u32::try_from(n).unwrap().to_be_bytes());
            }
            out
        };
        let mut out = header(0, 1);
        out.extend([0; 10]);
        out.extend(header(changes.len(), offsets.len()));
        changes.iter().for_each(|(from, _)| out.extend(from.to_be_bytes()));
        changes.iter().for_each(|(_, index)| out.push(*index));
        for offset in offsets {
            out.extend(offset.to_be_bytes());
            out.extend([0, 0]);
        }
        out.extend(b"ABC\0\n");
        out.extend(footer.as_bytes());
        out.push(b'\n');
        out
    }

    #[test]
    fn changes_then_the_footers_rule() {
        let bytes = tzif(&[(0, 1), (1000, 0)], &[3600, 7200], "CET-1CEST,M3.5.0,M10.5.0/3");
        let zone = Zone::parse(&bytes).unwrap();
        for (at, want) in [
            (-1, 3600),
            (0, 7200),
            (999, 7200),
            (1_774_745_999, 3600), // 2026-03-29 00:59:59 UTC
            (1_774_746_000, 7200), // one second later clocks go forward
            (1_792_889_999, 7200), // 2026-10-25 00:59:59 UTC
            (1_792_890_000, 3600),
        ] {
            assert_eq!(zone.offset(at), want, "{at}");
        }
    }

    #[test]
    fn what_is_cut_off_or_lies_is_refused() {
        let whole = tzif(&[(0, 1)], &[3600, 7200], "UTC0");
        assert!(Zone::parse(&whole).is_some());
        for n in 0..whole.len() {
            assert!(Zone::parse(&whole[..n]).is_none(), "{n} bytes");
        }
        assert!(Zone::parse(&tzif(&[(0, 9)], &[0], "UTC0")).is_none(), "an index without a type");
        assert!(Zone::parse(&tzif(&[(5, 0), (4, 0)], &[0], "UTC0")).is_none(), "times that go back");
    }

    #[test]
    fn moments_as_people_type_them() {
        let zone = Zone::named("CET-1CEST,M3.5.0,M10.5.0/3", Path::new("/nowhere")).unwrap();
        for (text, want) in [
            ("2026-11-21T10:00", Some(1_795_251_600_000)),
            ("2026-11-21 10:00:30", Some(1_795_251_630_000)),
            ("2026-07-01T10:00", Some(1_782_892_800_000)),
            ("2026-11-21", Some(1_795_215_600_000)),
            ("2026-11-21T10:00Z", Some(1_795_255_200_000)),
            ("2026-11-21T10:00-05:00", Some(1_795_273_200_000)),
            ("1969-01-01", None),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-11-21T25:00", None),
            ("2026-11-21T10", None),
            ("2026-11-21x", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(zone.parse_moment(text), want, "{text}");
        }
        let shown = zone.local(1_795_251_667_000).to_string();
        assert_eq!(shown, "2026-11-21 10:01:07 +01:00");
    }

    #[test]
    fn a_name_never_leaves_its_directory() {
        assert_eq!(Zone::named("../../etc/localtime", Path::new("/usr/share/zoneinfo")), None);
        assert_eq!(Zone::named("UTC", Path::new("/nowhere")), Some(Zone::utc()));
        assert_eq!(Zone::named("", Path::new("/nowhere")), Some(Zone::utc()));
        assert_eq!(Zone::named("No/Such", Path::new("/nowhere")), None);
    }
}
