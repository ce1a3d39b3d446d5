//! Values that stand in directory names: `month=7/day=2024-01-31`.
//!
//! The type of a partition column is decided from every directory of the table, never from the first: whole numbers
//! become Int32 or Int64, ISO dates Date32, anything else text. Numbers padded to two digits (`month=07`) are numbers,
//! longer ones with leading zeros (`zip=01234`) are text, because the zeros carry meaning there.

use arrow::datatypes::{DataType, FieldRef};
use chrono::NaiveDate;
use datafusion::common::ScalarValue;
use percent_encoding::percent_decode_str;

/// What Hive and Spark write where the value is NULL.
const NULL_NAME: &str = "__HIVE_DEFAULT_PARTITION__";

/// Splits a directory name such as `month=7` into key and value, both decoded; `None` stands for NULL.
pub(super) fn pair(segment: &str) -> Option<(String, Option<String>)> {
    let (key, value) = segment.split_once('=')?;
    if key.is_empty() {
        return None;
    }
    // What is encoded and no UTF-8 stays as it is written: two values must not become one.
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), |t| t.into_owned());
    Some((decode(key), (value != NULL_NAME).then(|| decode(value))))
}

/// Finds the type that holds every value of one partition column.
pub(super) fn type_of<'a>(values: impl Iterator<Item = Option<&'a str>>) -> DataType {
    let known: Vec<&str> = values.flatten().collect();
    if known.is_empty() {
        return DataType::Utf8;
    }
    if let Some(numbers) = known.iter().map(|v| whole(v)).collect::<Option<Vec<_>>>() {
        let narrow = numbers.iter().all(|n| i32::try_from(*n).is_ok());
        return if narrow { DataType::Int32 } else { DataType::Int64 };
    }
    if known.iter().all(|v| days(v).is_some()) { DataType::Date32 } else { DataType::Utf8 }
}

/// Makes the typed value of one directory; the type is the one [`type_of`] found for all of them.
pub(super) fn value_of(text: Option<&str>, data_type: &DataType) -> ScalarValue {
    match data_type {
        DataType::Int32 => ScalarValue::Int32(text.and_then(whole).and_then(|n| i32::try_from(n).ok())),
        DataType::Int64 => ScalarValue::Int64(text.and_then(whole)),
        DataType::Date32 => ScalarValue::Date32(text.and_then(days)),
        _ => ScalarValue::Utf8(text.map(ToOwned::to_owned)),
    }
}

/// The partition columns that a file has too.
pub(super) fn doubled(partitions: &[FieldRef], has: impl Fn(&str) -> bool) -> Vec<String> {
    partitions.iter().map(|p| p.name()).filter(|name| has(name)).cloned().collect()
}

fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let padded = digits.len() > 1 && digits.starts_with('0') && (digits.len() > 2 || text.starts_with('-'));
    (plain && !padded && text != "-0").then(|| text.parse().ok()).flatten()
}

/// Days since 1970 of an ISO date written in full.
pub(super) fn days(text: &str) -> Option<i32> {
    if text.len() != 10 {
        return None;
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(values: &[Option<&str>]) -> DataType {
        type_of(values.iter().copied())
    }

    #[test]
    fn the_type_comes_from_all_values() {
        assert_eq!(decided(&[Some("1"), Some("12"), None]), DataType::Int32);
        assert_eq!(decided(&[Some("01"), Some("12")]), DataType::Int32);
        assert_eq!(decided(&[Some("1"), Some("5000000000")]), DataType::Int64);
        assert_eq!(decided(&[Some("01234")]), DataType::Utf8);
        assert_eq!(decided(&[Some("1"), Some("a")]), DataType::Utf8);
        assert_eq!(decided(&[Some("2024-01-31"), None]), DataType::Date32);
        assert_eq!(decided(&[Some("2024-01-31"), Some("2024-02-31")]), DataType::Utf8);
        assert_eq!(decided(&[None]), DataType::Utf8);
    }

    #[test]
    fn names_are_decoded_and_the_default_name_is_null() {
        assert_eq!(pair("k=caf%E9"), Some(("k".into(), Some("caf%E9".into()))));
        assert_eq!(pair("city=S%C3%A3o%20Paulo"), Some(("city".into(), Some("São Paulo".into()))));
        assert_eq!(pair("city=__HIVE_DEFAULT_PARTITION__"), Some(("city".into(), None)));
        assert_eq!(pair("a=b=c"), Some(("a".into(), Some("b=c".into()))));
        assert_eq!(pair("plain"), None);
        assert_eq!(value_of(Some("1970-01-02"), &DataType::Date32), ScalarValue::Date32(Some(1)));
    }
}
