//! The days of the format: numbered from 4713 BC, in the Julian calendar until 1582-10-04 and the Gregorian from 1582-10-15 on.
//!
//! Arrow's calendar is the Gregorian one throughout, so what is kept is the date as it is written: 0001-01-01 stays 0001-01-01.
//! Source: Tableau's own reader (`tableauhyperapi` 0.0.19691), measured.

use chrono::{Datelike, NaiveDate};

/// The number of 1970-01-01.
const EPOCH: i64 = 2_440_587;
/// The first Gregorian day, 1582-10-15, in days since 1970, and the first day after 1582-10-04 in Arrow's calendar.
const GREGORIAN: i64 = -141_427;
const GAP: i64 = GREGORIAN - 10;
/// From a number to that of the same day at noon, which is how the formulas count.
const NOON: i64 = 1;

/// The number of a day given in days since 1970; `None` for the ten days that were left out, and before 4713 BC.
pub(super) fn number(unix: i64) -> Option<i64> {
    if unix >= GREGORIAN {
        return unix.checked_add(EPOCH);
    }
    if unix >= GAP {
        return None;
    }
    let date = NaiveDate::from_num_days_from_ce_opt(i32::try_from(unix + 719_163).ok()?)?;
    let (month, day) = (i64::from(date.month()), i64::from(date.day()));
    // Years begin in March, so that the leap day is the last one.
    let early = i64::from(month <= 2);
    let (year, month) = (i64::from(date.year()) + 4800 - early, month + 12 * early - 3);
    let number = day + (153 * month + 2) / 5 + 365 * year + year.div_euclid(4) - 32_083 - NOON;
    (number >= 0).then_some(number)
}

/// The day of a number in days since 1970; `None` for leap days that only the Julian calendar has, and what Arrow cannot say.
pub(super) fn unix_day(number: i64) -> Option<i64> {
    let unix = number.checked_sub(EPOCH)?;
    if unix >= GREGORIAN {
        return Some(unix);
    }
    if number < 0 {
        return None;
    }
    let shifted = number + NOON + 32_082;
    let year = (4 * shifted + 3) / 1461;
    let of_year = shifted - 1461 * year / 4;
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (year - 4800 + month / 10, month + 3 - 12 * (month / 10));
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
    Some(i64::from(date.num_days_from_ce()) - 719_163)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_numbered_as_tableau_does() {
        // 1970-01-01, 1582-10-15, 1582-10-04, 0001-01-01.
        for (unix, there) in [(0, 2_440_587), (-141_427, 2_299_160), (-141_438, 2_299_159), (-719_162, 1_721_423)] {
            assert_eq!(number(unix), Some(there));
            assert_eq!(unix_day(there), Some(unix));
        }
        assert!((GAP..GREGORIAN).all(|unix| number(unix).is_none()));
    }

    #[test]
    fn every_day_of_ten_thousand_years_comes_back() {
        for unix in (-719_162..2_932_897).filter(|unix| !(GAP..GREGORIAN).contains(unix)) {
            assert_eq!(number(unix).and_then(unix_day), Some(unix));
        }
    }
}
