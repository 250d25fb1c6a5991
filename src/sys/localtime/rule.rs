//! What a zone does after its last listed change: POSIX TZ rules, and the calendar that they need.

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// A POSIX TZ rule: standard time, and perhaps summer time between two moments of each year.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub standard: i32,
    summer: Option<Summer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Summer {
    offset: i32,
    start: Moment,
    end: Moment,
}

/// A day of any year and the seconds of local time after its midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    day: YearDay,
    seconds: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum YearDay {
    /// 1 to 365, 29 February is never counted.
    Julian(i64),
    /// 0 to 365.
    Ordinal(i64),
    /// Month 1 to 12, week 1 to 5 (5 is the last), weekday 0 (Sunday) to 6.
    Weekday(i64, i64, i64),
}

impl Rule {
    /// A POSIX TZ string (POSIX.1-2024 §8.3): `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub fn parse(text: &str) -> Option<Rule> {
        let mut at = Cursor(text);
        at.abbreviation()?;
        let standard = i32::try_from(-at.hours()?).ok()?;
        if at.0.is_empty() {
            return Some(Rule { standard, summer: None });
        }
        at.abbreviation()?;
        let offset =
            if at.0.starts_with(',') { standard + 3600 } else { i32::try_from(-at.hours()?).ok()? };
        let (start, end) = (at.after(",")?.moment()?, at.after(",")?.moment()?);
        at.0.is_empty().then_some(Rule { standard, summer: Some(Summer { offset, start, end }) })
    }

    /// Seconds east of UTC at `seconds` since the epoch.
    pub fn offset(&self, seconds: i64) -> i32 {
        let Some(summer) = &self.summer else { return self.standard };
        let (year, _, _) = civil((seconds + i64::from(self.standard)).div_euclid(DAY));
        let start = summer.start.in_year(year) - i64::from(self.standard);
        let end = summer.end.in_year(year) - i64::from(summer.offset);
        let inside = if start < end {
            (start..end).contains(&seconds)
        } else {
            !(end..start).contains(&seconds) // south of the equator summer time spans the turn of the year
        };
        if inside { summer.offset } else { self.standard }
    }
}

impl Moment {
    /// Seconds since the epoch, as if local time were UTC.
    fn in_year(&self, year: i64) -> i64 {
        let january = days(year, 1, 1);
        let day = match self.day {
            YearDay::Julian(n) => january + n - 1 + i64::from(n >= 60 && month_days(year, 2) == 29),
            YearDay::Ordinal(n) => january + n,
            YearDay::Weekday(month, week, weekday) => {
                let first = days(year, month, 1);
                let ahead = (weekday - (first + 4)).rem_euclid(7); // 1 January 1970 was a Thursday
                let day = ahead + (week - 1) * 7;
                first + if day < month_days(year, month) { day } else { day - 7 }
            }
        };
        day * DAY + self.seconds
    }
}

/// What is left of a text that is read from the front.
pub(super) struct Cursor<'a>(pub &'a str);

impl Cursor<'_> {
    pub fn skip(&mut self, text: &str) -> bool {
        let rest = self.0.strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    pub fn after(&mut self, text: &str) -> Option<&mut Self> {
        self.skip(text).then_some(self)
    }

    pub fn sign(&mut self) -> Option<i64> {
        if self.skip("-") {
            return Some(-1);
        }
        self.skip("+").then_some(1)
    }

    /// Exactly `n` digits.
    pub fn digits(&mut self, n: usize) -> Option<i64> {
        let found = self.0.get(..n).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        self.0 = &self.0[n..];
        found.parse().ok()
    }

    /// One to three digits.
    fn number(&mut self) -> Option<i64> {
        let n = self.0.bytes().take_while(u8::is_ascii_digit).count();
        if n > 3 { None } else { self.digits(n) }
    }

    fn abbreviation(&mut self) -> Option<()> {
        let n = if self.0.starts_with('<') {
            self.0.find('>')? + 1
        } else {
            self.0.bytes().take_while(u8::is_ascii_alphabetic).count()
        };
        let long_enough = n >= 3;
        self.0 = &self.0[n..];
        long_enough.then_some(())
    }

    /// `[+-]hh[:mm[:ss]]` in seconds.
    fn hours(&mut self) -> Option<i64> {
        let sign = self.sign().unwrap_or(1);
        let mut seconds = self.number().filter(|h| *h <= 167)? * 3600;
        for unit in [60, 1] {
            if self.skip(":") {
                seconds += self.number()? * unit;
            }
        }
        Some(sign * seconds)
    }

    fn moment(&mut self) -> Option<Moment> {
        let day = if self.skip("M") {
            let month = self.number()?;
            let (week, weekday) = (self.after(".")?.number()?, self.after(".")?.number()?);
            let valid = (1..=12).contains(&month) && (1..=5).contains(&week) && weekday <= 6;
            valid.then_some(YearDay::Weekday(month, week, weekday))?
        } else if self.skip("J") {
            YearDay::Julian(self.number().filter(|n| (1..=365).contains(n))?)
        } else {
            YearDay::Ordinal(self.number().filter(|n| *n <= 365)?)
        };
        let seconds = if self.skip("/") { self.hours()? } else { 2 * 3600 };
        Some(Moment { day, seconds })
    }
}

/// Days of a month, 1 to 12.
pub(super) fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a date of the Gregorian calendar (counted in years that begin in March).
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since the epoch: the inverse of [`days`].
pub(super) fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * month_from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_both_hemispheres() {
        for (rule, at, want) in [
            ("UTC0", 0, 0),
            ("EST5EDT,M3.2.0,M11.1.0", 1_772_953_199, -18_000), // 2026-03-08 06:59:59 UTC
            ("EST5EDT,M3.2.0,M11.1.0", 1_772_953_200, -14_400),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_767_225_600, 39_600), // 2026-01-01: summer in Sydney
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_782_864_000, 36_000), // 2026-07-01
            ("<+0530>-5:30", 0, 19_800),
            ("ABC3ABD,J60,300/0", 1_709_250_000, -10_800), // 2024-02-29 23:40 UTC: J60 is 1 March
            ("ABC3ABD,J60,300/0", 1_709_269_200, -7200),   // 2024-03-01 05:00 UTC
        ] {
            assert_eq!(Rule::parse(rule).unwrap().offset(at), want, "{rule} at {at}");
        }
        for wrong in [
            "",
            "UT0",
            "CET-1CEST",
            "CET-1CEST,M13.1.0,M1.1.0",
            "CET",
            "CET-1 ",
            "CET-1CEST,M3.5.0,M10.5.0/3x",
        ] {
            assert!(Rule::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_goes_there_and_back() {
        let mut expected = (1600, 1, 1);
        for day in days(1600, 1, 1)..days(2400, 1, 1) {
            assert_eq!(civil(day), expected);
            let (year, month, n) = expected;
            assert_eq!(days(year, month, n), day);
            expected = match (month, n) {
                (12, 31) => (year + 1, 1, 1),
                _ if n == month_days(year, month) => (year, month + 1, 1),
                _ => (year, month, n + 1),
            };
        }
    }
}
