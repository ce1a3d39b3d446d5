//! Texts read as another type: whether the value that was made of a text says all that the text says.
//!
//! Arrow's readers round digits, cut fractions, leave out times of day and turn offsets into UTC without a word. Another
//! spelling of the same value (`007`, `1.20`, `+1`, `1e3`) is kept; what says more than its value is not.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringViewArray};
use arrow::compute::kernels::cmp;
use arrow::compute::{cast, is_null};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;

/// Digits that the longest number of a double has, written out; what has more is none.
const DIGITS_OF_A_DOUBLE: usize = 767;
/// Where the time of day begins in `2024-01-31T23:59:59`.
const TIME_AT: usize = "2024-01-31T".len();

/// Which of the values that Arrow made of texts say all that their texts say; NULL says all that NULL says.
///
/// # Errors
/// Arrow's, for types that cannot be compared with texts.
pub(super) fn kept(texts: &ArrayRef, values: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let views = cast(texts, &DataType::Utf8View)?;
    let views = views.as_string_view();
    Ok(match values.data_type() {
        DataType::Float32 => each::<Float32Type>(views, values, |text, value| {
            is_float(text, value.is_finite(), &format!("{value:e}"), |digits| format!("{value:.digits$e}"))
        }),
        DataType::Float64 => each::<Float64Type>(views, values, |text, value| {
            is_float(text, value.is_finite(), &format!("{value:e}"), |digits| format!("{value:.digits$e}"))
        }),
        DataType::Decimal128(_, scale) => {
            each::<Decimal128Type>(views, values, |text, value| is_decimal(text, &value.to_string(), *scale))
        }
        DataType::Decimal256(_, scale) => {
            each::<Decimal256Type>(views, values, |text, value| is_decimal(text, &value.to_string(), *scale))
        }
        DataType::Date32 => each::<Date32Type>(views, values, |text, _| is_date(text)),
        DataType::Time32(TimeUnit::Second) => each::<Time32SecondType>(views, values, |text, _| is_time(text, 0)),
        DataType::Time32(_) => each::<Time32MillisecondType>(views, values, |text, _| is_time(text, 3)),
        DataType::Time64(TimeUnit::Nanosecond) => each::<Time64NanosecondType>(views, values, |text, _| is_time(text, 9)),
        DataType::Time64(_) => each::<Time64MicrosecondType>(views, values, |text, _| is_time(text, 6)),
        DataType::Timestamp(unit, zone) => {
            let zoned = zone.is_some();
            match unit {
                TimeUnit::Second => each::<TimestampSecondType>(views, values, |text, _| is_instant(text, 0, zoned)),
                TimeUnit::Millisecond => each::<TimestampMillisecondType>(views, values, |text, _| is_instant(text, 3, zoned)),
                TimeUnit::Microsecond => each::<TimestampMicrosecondType>(views, values, |text, _| is_instant(text, 6, zoned)),
                TimeUnit::Nanosecond => each::<TimestampNanosecondType>(views, values, |text, _| is_instant(text, 9, zoned)),
            }
        }
        // Read whole or not at all.
        whole if *whole == DataType::Boolean || whole.is_integer() || whole.is_binary() || whole.is_string() => {
            cmp::not_distinct(&is_null(texts)?, &is_null(values)?)?
        }
        _ => cmp::not_distinct(texts, &cast(values, texts.data_type())?)?,
    })
}

fn each<T: ArrowPrimitiveType>(
    texts: &StringViewArray,
    values: &ArrayRef,
    kept: impl Fn(&str, T::Native) -> bool,
) -> BooleanArray {
    let values: &PrimitiveArray<T> = values.as_primitive();
    let pairs = texts.iter().zip(values.iter());
    pairs
        .map(|pair| {
            Some(match pair {
                (Some(text), Some(value)) => kept(text, value),
                (None, None) => true,
                _ => false,
            })
        })
        .collect()
}

/// A decimal number: digits without zeros at either end, times a power of ten.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads `-12.50e3`; `None` for what is no number in digits.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
            None => (text, 0_i64),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        if all().next().is_none() || !all().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Self::new(negative, &format!("{whole}{fraction}"), exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?)
    }

    fn new(negative: bool, digits: &str, exponent: i64) -> Option<Self> {
        let short = digits.trim_end_matches('0');
        let exponent = exponent.checked_add(i64::try_from(digits.len() - short.len()).ok()?)?;
        let short = short.trim_start_matches('0');
        // Zero has no sign and no size.
        let zero = short.is_empty();
        Some(Self { negative: negative && !zero, digits: short.to_owned(), exponent: if zero { 0 } else { exponent } })
    }
}

/// Whether a float gives every digit of a text back: those that it shows itself, or those that it has at the text's precision.
fn is_float(text: &str, finite: bool, shortest: &str, at: impl Fn(usize) -> String) -> bool {
    let Some(number) = Number::parse(text) else {
        // `NaN` and `inf`, in whatever spelling.
        return !finite && !text.bytes().any(|b| b.is_ascii_digit());
    };
    let same = |shown: &str| Number::parse(shown).as_ref() == Some(&number);
    let digits = number.digits.len();
    finite && (same(shortest) || (digits <= DIGITS_OF_A_DOUBLE && same(&at(digits.saturating_sub(1)))))
}

fn is_decimal(text: &str, unscaled: &str, scale: i8) -> bool {
    let (negative, digits) = unscaled.strip_prefix('-').map_or((false, unscaled), |digits| (true, digits));
    Number::parse(text).is_some_and(|number| Number::new(negative, digits, -i64::from(scale)) == Some(number))
}

/// Whether a text is a day and nothing more: a time is midnight, and no offset from UTC could move it to another day.
fn is_date(text: &str) -> bool {
    // Years of more than four digits have a sign, and never a time.
    if text.len() < TIME_AT || text.starts_with(['+', '-']) {
        return true;
    }
    time_and_zone(text).is_some_and(|(time, zone)| time.bytes().all(|b| matches!(b, b'0' | b':' | b'.')) && is_utc(zone))
}

/// Whether a text is a moment of no finer fractions, at an offset only where the type knows instants.
fn is_instant(text: &str, decimals: usize, zoned: bool) -> bool {
    if text.len() < TIME_AT {
        return true;
    }
    time_and_zone(text).is_some_and(|(time, zone)| {
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
        // A leap second would become the first one of the next minute.
        !seconds.ends_with("60") && is_zero_beyond(fraction, decimals) && (zoned || is_utc(zone))
    })
}

/// Whether a text is a time of day of no finer fractions; a bare number, which Arrow takes for a count, is none.
fn is_time(text: &str, decimals: usize) -> bool {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches(|c: char| !c.is_ascii_digit());
    let leap = clock.split(':').nth(2).is_some_and(|seconds| seconds.starts_with("60"));
    clock.contains(':') && !leap && is_zero_beyond(fraction, decimals)
}

/// The time of day, and what stands behind it: `2024-01-31 23:59:59.5 +05:00`.
fn time_and_zone(text: &str) -> Option<(&str, &str)> {
    let rest = text.get(TIME_AT..)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.'))).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// The wall clock of UTC is kept in types without a zone, whatever it was read from.
fn is_utc(zone: &str) -> bool {
    let zone = zone.trim();
    zone.is_empty()
        || zone.eq_ignore_ascii_case("z")
        || zone.eq_ignore_ascii_case("utc")
        || zone.strip_prefix(['+', '-']).is_some_and(|offset| offset.bytes().all(|b| matches!(b, b'0' | b':')))
}

fn is_zero_beyond(fraction: &str, decimals: usize) -> bool {
    fraction.bytes().skip(decimals).all(|b| b == b'0')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;
    use proptest::prelude::*;

    use super::*;

    /// Texts of which Arrow makes a value of the type, and whether that says all.
    fn judge(to: &DataType, texts: &[&str]) -> Vec<bool> {
        let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let values = cast(&texts, to).unwrap();
        kept(&texts, &values).unwrap().iter().map(Option::unwrap).collect()
    }

    #[track_caller]
    fn ensure(to: &DataType, whole: &[&str], cut: &[&str]) {
        for (text, kept) in whole.iter().zip(judge(to, whole)) {
            assert!(kept, "{text} is a {to}");
        }
        for (text, kept) in cut.iter().zip(judge(to, cut)) {
            assert!(!kept, "{text} is more than a {to}");
        }
    }

    #[test]
    fn digits_of_decimals_are_kept_or_missed() {
        let whole = ["007", "1.20", "1.200", "+1", "-1.5", " 2 ", ".5", "5.", "-0", "-0.00", "99999999.99"];
        let cut = ["1.239", "1.001", "0.001", "-0.005", "999999999", "1.2.3", "", "x"];
        ensure(&DataType::Decimal128(10, 2), &whole, &cut);
        ensure(&DataType::Decimal256(50, 1), &["1234567890123456789012345678901234567890.5"], &["0.25"]);
    }

    #[test]
    fn digits_of_floats_are_kept_or_missed() {
        let whole = [
            "0.1",
            "1e3",
            "+1",
            "007",
            "1.20",
            " 1.5 ",
            "-0.0",
            "NaN",
            "-inf",
            "Infinity",
            "0.30000000000000004",
            // With 17 digits, as many writers do, and to its end.
            "0.10000000000000001",
            "0.1000000000000000055511151231257827021181583404541015625",
            "1234567890123456768",
            "9007199254740992",
            // The shortest digits here are not those of the nearest number with as many.
            "5.684341886080802e-14",
            "1e23",
            "5e-324",
            "1.7976931348623157E308",
        ];
        let cut = ["1234567890123456789", "9007199254740993", "0.1000000000000000055", "1e400", "-1e999", "1e-400", "", "x"];
        ensure(&DataType::Float64, &whole, &cut);
        ensure(&DataType::Float32, &["0.1", "16777216", "inf"], &["16777217", "3.14159265358979", "1e39"]);
    }

    #[test]
    fn a_date_is_a_day_and_nothing_more() {
        let whole = ["2024-01-31", "2024-1-31", "20240131", "2024-01-31 00:00:00", "2024-01-31T00:00:00.000Z", "+10000-01-01"];
        let cut = [
            "2024-01-31 23:00:00-05:00",
            "2024-01-31 10:00:00",
            "2024-01-31 00:00:00.001",
            "2024-01-31T00:00:00+05:00",
            "2024-01-31T05:00:00+05:00",
            "2024-02-30",
        ];
        ensure(&DataType::Date32, &whole, &cut);
    }

    #[test]
    fn a_moment_keeps_its_fraction_and_its_offset() {
        let whole = [
            "2024-01-31",
            "2024-01-31 10:00:00",
            "2024-01-31T100000",
            "2024-01-31T10:00:00.123456",
            "1924-01-31T10:00:00.123456000000000Z",
            "2024-01-31 10:00:00 +00:00",
        ];
        let finer =
            ["2024-01-31 10:00:00.123456789", "2024-01-31 10:00:00.1234560001", "2016-12-31 23:59:60", "2024-01-31 25:00:00"];
        let away = ["2024-01-31T10:00:00+05:00", "2024-01-31 10:00:00.5 -08", "2024-01-31 100000 +05:30"];
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        ensure(&micros(None), &whole, &[&finer[..], &away].concat());
        ensure(&micros(Some("UTC")), &[&whole[..], &away].concat(), &finer);
        ensure(&DataType::Timestamp(TimeUnit::Second, None), &["2024-01-31 10:00:00.000"], &["2024-01-31 10:00:00.5"]);
    }

    #[test]
    fn a_time_of_day_keeps_its_fraction() {
        let whole = ["10:00", "9:05:07", "10:00:00.123456", "06:00 pm", "10:00:00.1234560000 AM"];
        let cut = ["10:00:00.1234567", "23:59:60", "120000", "-5", "10:00:00.1234567 AM", "x"];
        ensure(&DataType::Time64(TimeUnit::Microsecond), &whole, &cut);
        ensure(&DataType::Time32(TimeUnit::Second), &["10:00:00.000"], &["10:00:00.5"]);
    }

    #[test]
    fn what_is_read_whole_or_not_at_all_is_kept() {
        ensure(&DataType::Int32, &["007", "+1", " -5 "], &["1.5", "1e3", "4294967296", ""]);
        ensure(&DataType::Boolean, &["true", "YES", "0"], &["2", ""]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        for to in [DataType::Int32, DataType::Float64, DataType::Date32] {
            assert!(kept(&texts, &cast(&texts, &to).unwrap()).unwrap().value(0));
        }
    }

    proptest! {
        #[test]
        fn every_double_is_kept_in_each_of_its_spellings(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let texts = [format!("{value}"), format!("{value:e}"), format!("{value:.16e}"), format!("{value:.25e}")];
            prop_assert_eq!(judge(&DataType::Float64, &texts.each_ref().map(String::as_str)), [true; 4]);
        }

        #[test]
        fn a_decimal_is_kept_as_long_as_its_digits_fit(whole: u32, fraction in 0..10_000_u32) {
            let text = format!("{whole}.{fraction:04}");
            prop_assert_eq!(judge(&DataType::Decimal128(14, 2), &[&text])[0], fraction % 100 == 0);
        }
    }
}
