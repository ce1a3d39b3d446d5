//! What the values of a text column can be, gathered from every one of them.
//!
//! A type is only chosen when each value can be read as it and written back as the same value:
//!
//! | all values look like | type |
//! |---|---|
//! | `true`, `false` in any case | Boolean |
//! | whole numbers without leading zeros or `+`, within 64 bits | Int64 |
//! | numbers whose digits a double prints again: all of 15 digits, some of 16 or 17; whole ones below 2^53 too | Float64 |
//! | `2024-01-31` | Date32 |
//! | `2024-01-31 23:59:59.123456`, also with `T` | Timestamp(µs), with 7–9 digits Timestamp(ns) |
//! | the same with `Z` or `+01:00` | Timestamp(µs, UTC) |
//! | anything else: `007`, `+49…`, mixtures, numbers that are too long, nothing at all | Utf8 |

use std::io::Write;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::NaiveDate;

/// The most digits of a number that every double within the normal range gives back when it is printed.
const DOUBLE_DIGITS: usize = 15;
/// Above this a double no longer holds every whole number.
const DOUBLE_WHOLE: u64 = 1 << 53;

/// A set of the shapes seen in one column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Evidence(u16);

impl Evidence {
    const BOOL: u16 = 1;
    const INT: u16 = 1 << 1;
    /// A whole number that a double may not hold.
    const LONG: u16 = 1 << 2;
    const FLOAT: u16 = 1 << 3;
    const DATE: u16 = 1 << 4;
    const MICROS: u16 = 1 << 5;
    const NANOS: u16 = 1 << 6;
    const INSTANT: u16 = 1 << 7;
    /// A time outside the years that nanoseconds reach.
    const FAR: u16 = 1 << 8;
    const TEXT: u16 = 1 << 9;

    /// Adds a value of a CSV field; an empty one is NULL and says nothing.
    pub(super) fn field(&mut self, text: &str) {
        // Once text, always text.
        if self.0 & Self::TEXT == 0 && !text.is_empty() {
            self.0 |= shape(text);
        }
    }

    /// Adds a number as JSON writes it.
    pub(super) fn number(&mut self, text: &str) {
        self.0 |= number(text).unwrap_or(Self::TEXT);
    }

    /// Adds a truth value.
    pub(super) fn truth(&mut self) {
        self.0 |= Self::BOOL;
    }

    /// Adds text that is to stay text.
    pub(super) fn text(&mut self) {
        self.0 |= Self::TEXT;
    }

    /// Whether no value was seen yet.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The type that keeps every value seen.
    pub(super) fn data_type(self) -> DataType {
        let only = |allowed: u16| self.0 != 0 && self.0 & !allowed == 0;
        if only(Self::BOOL) {
            DataType::Boolean
        } else if only(Self::INT | Self::LONG) {
            DataType::Int64
        } else if only(Self::INT | Self::FLOAT) {
            DataType::Float64
        } else if only(Self::DATE) {
            DataType::Date32
        } else if only(Self::MICROS | Self::FAR) {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        } else if only(Self::MICROS | Self::NANOS) {
            DataType::Timestamp(TimeUnit::Nanosecond, None)
        } else if only(Self::INSTANT) {
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
        } else {
            DataType::Utf8
        }
    }
}

fn shape(text: &str) -> u16 {
    if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
        return Evidence::BOOL;
    }
    number(text).or_else(|| time(text)).unwrap_or(Evidence::TEXT)
}

fn number(text: &str) -> Option<u16> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    // Leading zeros, a bare point and a plus sign mean that somebody cares about the letters.
    if !digits(whole) || (whole.len() > 1 && whole.starts_with('0')) || fraction.is_some_and(|f| !digits(f)) {
        return None;
    }
    if fraction.is_none() && exponent.is_none() {
        return match text.parse::<i64>() {
            Ok(0) if text.starts_with('-') => Some(Evidence::FLOAT),
            Ok(n) if n.unsigned_abs() <= DOUBLE_WHOLE => Some(Evidence::INT),
            Ok(_) => Some(Evidence::LONG),
            Err(_) => None,
        };
    }
    if exponent.is_some_and(|e| !digits(e.strip_prefix(['-', '+']).unwrap_or(e))) {
        return None;
    }
    let significant = || mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0');
    let trailing = mantissa.bytes().rev().filter(u8::is_ascii_digit).take_while(|digit| *digit == b'0').count();
    let count = significant().count().saturating_sub(trailing);
    // Overflow to infinity and underflow to zero would be changed values.
    let value: f64 = text.parse().ok()?;
    let kept = count == 0 || (value.is_normal() && count <= DOUBLE_DIGITS) || prints_again(value, significant());
    kept.then_some(Evidence::FLOAT)
}

/// Whether a double, printed as short as it can be, has the digits of the text it was read from.
fn prints_again(value: f64, digits: impl Iterator<Item = u8>) -> bool {
    /// 17 digits, a point, signs and an exponent.
    const LONGEST: usize = 32;
    let mut printed = [0; LONGEST];
    let mut room = printed.as_mut_slice();
    if !value.is_finite() || value == 0.0 || write!(room, "{value:e}").is_err() {
        return false;
    }
    let shortest = printed.iter().take_while(|byte| **byte != b'e').filter(|byte| byte.is_ascii_digit());
    // No text of the double is shorter than the shortest, so only zeros may follow; and no two of its texts with the same
    // digits have different exponents.
    digits.zip(shortest.chain(std::iter::repeat(&b'0'))).all(|(ours, theirs)| ours == *theirs)
}

fn time(text: &str) -> Option<u16> {
    let bytes = text.as_bytes();
    // A cheap look first: most text is no time.
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !text.is_ascii() {
        return None;
    }
    let year = number_of(&bytes[..4])?;
    NaiveDate::from_ymd_opt(i32::from(year), number_of(&bytes[5..7])?.into(), number_of(&bytes[8..10])?.into())?;
    if bytes.len() == 10 {
        return Some(Evidence::DATE);
    }
    if !matches!(bytes[10], b' ' | b'T') || bytes.len() < 19 || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    // The sixtieth second, which clocks have now and then, is one that no database keeps.
    if number_of(&bytes[11..13])? >= 24 || number_of(&bytes[14..16])? >= 60 || number_of(&bytes[17..19])? >= 60 {
        return None;
    }
    let rest = &text[19..];
    let digits = rest.strip_prefix('.').map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count());
    if digits > 9 || (digits == 0 && rest.starts_with('.')) {
        return None;
    }
    let zone = &rest[if digits == 0 { 0 } else { digits + 1 }..];
    if !zone.is_empty() {
        return (digits <= 6 && is_zone(zone)).then_some(Evidence::INSTANT);
    }
    if digits <= 6 {
        // Nanoseconds reach from 1677 to 2262; a column of both kinds has to fit.
        return Some(Evidence::MICROS | if (1678..2262).contains(&year) { 0 } else { Evidence::FAR });
    }
    (1678..2262).contains(&year).then_some(Evidence::NANOS)
}

/// Reads at most four digits; a blank or a sign is none, because the reader of the rows takes neither.
fn number_of(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0')))
}

fn is_zone(text: &str) -> bool {
    let bytes = text.as_bytes();
    let two = |at: usize, below: u16| number_of(&bytes[at..at + 2]).is_some_and(|number| number < below);
    text == "Z" || (bytes.len() == 6 && matches!(bytes[0], b'+' | b'-') && bytes[3] == b':' && two(1, 24) && two(4, 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> DataType {
        let mut evidence = Evidence::default();
        values.iter().for_each(|v| evidence.field(v));
        evidence.data_type()
    }

    #[test]
    fn a_type_is_chosen_only_where_every_value_survives() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert_eq!(of(&["1", "", "-5"]), DataType::Int64);
        assert_eq!(of(&["1", "2.5"]), DataType::Float64);
        assert_eq!(of(&["9007199254740993", "2.5"]), DataType::Utf8);
        assert_eq!(of(&["9223372036854775807"]), DataType::Int64);
        assert_eq!(of(&["9223372036854775808"]), DataType::Utf8);
        assert_eq!(of(&["007"]), DataType::Utf8);
        assert_eq!(of(&["+49"]), DataType::Utf8);
        assert_eq!(of(&["1e400"]), DataType::Utf8);
        assert_eq!(of(&["0.30000000000000004"]), DataType::Float64);
        assert_eq!(of(&["0.1234567890123456789"]), DataType::Utf8);
        assert_eq!(of(&["-0"]), DataType::Float64);
        assert_eq!(of(&["TRUE", "false"]), DataType::Boolean);
        assert_eq!(of(&["true", "1"]), DataType::Utf8);
        assert_eq!(of(&["2024-02-29"]), DataType::Date32);
        assert_eq!(of(&["2023-02-29"]), DataType::Utf8);
        assert_eq!(of(&["2024-02-29", "2024-02-29 10:00:00"]), DataType::Utf8);
        assert_eq!(of(&["2024-02-29T10:00:00.5", "2024-02-29 10:00:00"]), micros);
        assert_eq!(of(&["2024-02-29 10:00:00.123456789"]), DataType::Timestamp(TimeUnit::Nanosecond, None));
        assert_eq!(of(&["2024-02-29 10:00:00Z"]), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        assert_eq!(of(&["2024-02-29 10:00:00Z", "2024-02-29 10:00:00"]), DataType::Utf8);
        assert_eq!(of(&["", ""]), DataType::Utf8);
    }

    #[test]
    fn a_double_is_chosen_only_where_it_prints_the_same_digits() {
        for text in
            ["4503599627370497.3", "4503599627370496.5000000001", "0.30000000000000003", "12345678901234.5678", "4.9e-324"]
        {
            assert_eq!(of(&[text]), DataType::Utf8, "{text}");
        }
        for text in [
            "4503599627370495.5",
            "0.1",
            "0.30000000000000004",
            "0.3000000000000000400",
            "-30000000000000004e-17",
            "0.000001234567890123456",
            "123456789012345000000.0",
            "1.7976931348623157e308",
            "2.2250738585072014E-308",
            "5e-324",
            "0.000",
            "0e999",
        ] {
            assert_eq!(of(&[text]), DataType::Float64, "{text}");
        }
        let mut json = Evidence::default();
        json.number("4503599627370497.3");
        assert_eq!(json.data_type(), DataType::Utf8);
    }

    #[test]
    fn what_is_taken_for_a_double_comes_back_from_it() {
        let digits = |text: &str| -> String {
            let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
            let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
            all.trim_start_matches('0').trim_end_matches('0').to_owned()
        };
        // A walk through the bits of doubles, and through digits that are too many.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for i in 0..20_000_usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(seed);
            if value.is_finite() {
                assert_eq!(of(&[&format!("{value:e}")]), DataType::Float64, "{value:e}");
            }
            let whole = (seed >> 1).to_string();
            let cut = i % (whole.len() - 1) + 1;
            let text = format!("{}.{}", &whole[..cut], &whole[cut..=(cut + i % 3).min(whole.len() - 1)]);
            if of(&[&text]) == DataType::Float64 {
                assert_eq!(digits(&text.parse::<f64>().unwrap().to_string()), digits(&text), "{text}");
            }
        }
    }

    #[test]
    fn dates_and_times_have_a_digit_at_every_place() {
        for text in [
            "2024-01-31  9:05:00",
            "2024- 1-31",
            "2024-01- 5",
            " 024-01-05",
            "+024-01-05",
            "2024-+1-05",
            "2024-01-31 09: 5:00",
            "2024-01-31 09:05: 0",
            "2024-01-31 +9:05:00",
            "2024-01-31T 9:05:00Z",
            "2024-01-31 09:05:60",
            "2024-01-31 24:00:00",
            "2024-01-31 09:05:00.",
            "2024-01-31 09:05:00+ 1:00",
            "2024-00-01",
        ] {
            assert_eq!(of(&[text]), DataType::Utf8, "{text}");
        }
        assert_eq!(of(&["0001-01-01"]), DataType::Date32);
        assert_eq!(of(&["2024-01-31 09:05:59.5-23:59"]), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    }
}
