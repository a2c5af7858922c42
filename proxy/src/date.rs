//! The Date header (RFC 3261 §20.17): `Thu, 01 Jan 2026 00:00:00 GMT`.

use std::fmt;
use std::time::SystemTime;

/// A wall-clock time that is written as SIP writes dates.
#[derive(Clone, Copy, Debug)]
pub struct Date(pub SystemTime);

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl Date {
    /// As it is written.
    pub fn text(&self) -> String {
        let unix = self.0.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (days, second) = (unix / 86_400, unix % 86_400);
        let (year, month, day) = civil(days);
        let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[month]);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let pair = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let numbers = [(5, day), (12, year / 100), (14, year), (17, hour), (20, minute), (23, second)];
        numbers.into_iter().for_each(|(at, number)| text[at..at + 2].copy_from_slice(&pair(number)));
        text[..3].copy_from_slice(weekday.as_bytes());
        text[8..11].copy_from_slice(month.as_bytes());
        std::str::from_utf8(&text).unwrap_or_default().to_owned()
    }
}

/// Year, month (0–11) and day (1–31) of a day since 1970-01-01. Years are counted from March, so that the leap day is
/// the last of its year; 400 years have 146,097 days.
fn civil(days: u64) -> (u64, usize, u64) {
    let since_march_0 = days + 719_468;
    let (era, day) = (since_march_0 / 146_097, since_march_0 % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let from_january = (month as usize + 2) % 12;
    (era * 400 + year + u64::from(from_january < 2), from_january, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn date(unix: u64) -> String {
        Date(SystemTime::UNIX_EPOCH + Duration::from_secs(unix)).to_string()
    }

    #[test]
    fn writes_dates_as_the_rfc_does() {
        assert_eq!(date(1_289_690_940), "Sat, 13 Nov 2010 23:29:00 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(1_767_225_599), "Wed, 31 Dec 2025 23:59:59 GMT");
    }

    #[test]
    fn knows_leap_years_and_the_centuries_that_are_none() {
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(date(1_740_787_200), "Sat, 01 Mar 2025 00:00:00 GMT");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = civil(0);
        for day in 1..80_000 {
            let today = civil(day);
            let next_day = (before.0, before.1, before.2 + 1);
            let next_month = (before.0 + u64::from(before.1 == 11), (before.1 + 1) % 12, 1);
            assert!(today == next_day || (today == next_month && before.2 >= 28), "{before:?} {today:?}");
            before = today;
        }
    }
}
