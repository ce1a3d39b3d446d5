//! One schema for many files: merged where every value keeps its meaning, refused where not.
//!
//! Columns are matched by exact name. A column that some files lack is NULL there. Types merge only into one that holds
//! every value of both: whole numbers widen, decimals grow, text and binary take the larger encoding. Anything that would
//! need a guess (text and number, date and timestamp, bigint and double) is a conflict that names both files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use lakeport::error::{Error, Kind, Result};

/// A schema that grows file by file.
#[derive(Debug, Default)]
pub(super) struct Merger {
    fields: Vec<FieldRef>,
    /// Where each column stands, and which file gave it its type.
    places: HashMap<String, (usize, usize)>,
    /// In how many files each column was seen.
    seen: Vec<usize>,
    files: Vec<String>,
    metadata: HashMap<String, String>,
}

impl Merger {
    /// Adds the schema of one file.
    pub(super) fn add(&mut self, schema: &Schema, file: &str) -> Result<()> {
        let number = self.files.len();
        self.files.push(file.to_owned());
        if number == 0 {
            self.metadata.clone_from(schema.metadata());
        } else {
            // Metadata that not all files share says nothing about the table.
            self.metadata.retain(|key, value| schema.metadata().get(key) == Some(value));
        }
        ensure_distinct(schema, file)?;
        for field in schema.fields() {
            match self.places.get_mut(field.name()) {
                None => {
                    self.places.insert(field.name().clone(), (self.fields.len(), number));
                    self.fields.push(Arc::clone(field));
                    self.seen.push(1);
                }
                Some((at, origin)) => {
                    self.seen[*at] += 1;
                    let known = &self.fields[*at];
                    if known == field {
                        continue;
                    }
                    let Some(merged) = merge_fields(known, field) else {
                        return Err(Error::new(
                            Kind::SchemaConflict,
                            format!(
                                "column `{}` is {} in one file and {} in another",
                                field.name(),
                                known.data_type(),
                                field.data_type()
                            ),
                        )
                        .at("column", field.name())
                        .at("other file", &self.files[*origin])
                        .at("file", file));
                    };
                    if merged.data_type() != known.data_type() {
                        *origin = number;
                    }
                    self.fields[*at] = Arc::new(merged);
                }
            }
        }
        Ok(())
    }

    /// The schema of the table; columns that some file lacks may be NULL.
    pub(super) fn finish(self) -> SchemaRef {
        let files = self.files.len();
        let fields: Vec<FieldRef> =
            self.fields
                .into_iter()
                .zip(self.seen)
                .map(|(field, seen)| {
                    if seen < files && !field.is_nullable() {
                        Arc::new(field.as_ref().clone().with_nullable(true))
                    } else {
                        field
                    }
                })
                .collect();
        Arc::new(Schema::new_with_metadata(fields, self.metadata))
    }
}

fn ensure_distinct(schema: &Schema, file: &str) -> Result<()> {
    let mut own = std::collections::HashSet::new();
    match schema.fields().iter().find(|field| !own.insert(field.name())) {
        Some(twice) => Err(Error::new(Kind::DuplicateColumn, format!("a file has two columns called `{}`", twice.name()))
            .at("column", twice.name())
            .at("file", file)),
        None => Ok(()),
    }
}

/// Refuses a file of which a column cannot become the table's without a changed value.
pub(super) fn ensure_kept(file: &Schema, table: &Schema, shown: &str) -> Result<()> {
    ensure_distinct(file, shown)?;
    for field in file.fields() {
        let Ok(column) = table.field_with_name(field.name()) else { continue };
        if !keeps(field.data_type(), column.data_type()) {
            let (is, becomes) = (field.data_type(), column.data_type());
            let message = format!("column `{}` is {is} in a file and {becomes} in the table's log", field.name());
            return Err(Error::new(Kind::SchemaConflict, message).at("column", field.name()).at("file", shown));
        }
    }
    Ok(())
}

/// Whether a cast keeps every value of a type, or stops at the one it cannot keep.
fn keeps(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        _ if from == to => true,
        (T::Dictionary(_, inner), _) => keeps(inner, to),
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8 | T::LargeUtf8 | T::Utf8View) => true,
        // Text that some writers do not mark as such; what is no UTF-8 stops.
        (
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_),
            T::Binary | T::LargeBinary | T::BinaryView | T::Utf8 | T::LargeUtf8 | T::Utf8View,
        ) => true,
        (T::Timestamp(unit, zone), T::Timestamp(wider, other)) => {
            // Without a zone it is UTC, which Delta says of its files; other zones only name the same instant.
            let same = match (zone, other) {
                (_, Some(other)) => is_utc(other),
                (zone, None) => zone.as_deref().is_none_or(is_utc),
            };
            same && finer(*unit, *wider) == *wider
        }
        (T::Date32, T::Timestamp(_, None)) => true,
        (T::Decimal128(p1, s1), T::Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        (number, T::Decimal128(precision, scale)) if whole(number).is_some() => {
            let digits = match whole(number) {
                Some((_, 8)) => 3,
                Some((_, 16)) => 5,
                Some((_, 32)) => 10,
                _ => 20,
            };
            *scale >= 0 && i16::from(*precision) - i16::from(*scale) >= digits
        }
        (T::List(x) | T::LargeList(x) | T::FixedSizeList(x, _), T::List(y) | T::LargeList(y)) => {
            keeps(x.data_type(), y.data_type())
        }
        (T::Map(x, _), T::Map(y, _)) => match (x.data_type(), y.data_type()) {
            (T::Struct(x), T::Struct(y)) => x.iter().zip(y).all(|(f, g)| keeps(f.data_type(), g.data_type())),
            _ => false,
        },
        // Fields are found by name; one that a file lacks is NULL there.
        (T::Struct(x), T::Struct(y)) => {
            x.iter().all(|f| y.find(f.name()).is_none_or(|(_, g)| keeps(f.data_type(), g.data_type())))
        }
        _ => merge_types(from, to).as_ref() == Some(to),
    }
}

fn merge_fields(a: &Field, b: &Field) -> Option<Field> {
    let data_type = merge_types(a.data_type(), b.data_type())?;
    let nullable = a.is_nullable() || b.is_nullable() || a.data_type().is_null() || b.data_type().is_null();
    let mut metadata = a.metadata().clone();
    metadata.retain(|key, value| b.metadata().get(key) == Some(value));
    Some(Field::new(a.name(), data_type, nullable).with_metadata(metadata))
}

/// The type that holds every value of both, if there is one.
pub(super) fn merge_types(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    if a == b {
        return Some(a.clone());
    }
    if let (Some((signed_a, bits_a)), Some((signed_b, bits_b))) = (whole(a), whole(b)) {
        return merge_whole((signed_a, bits_a), (signed_b, bits_b));
    }
    match (a, b) {
        (T::Null, other) | (other, T::Null) => Some(other.clone()),
        (T::Float16, T::Float32) | (T::Float32, T::Float16) => Some(T::Float32),
        (T::Float16 | T::Float32, T::Float64) | (T::Float64, T::Float16 | T::Float32) => Some(T::Float64),
        // A double holds every 32-bit whole number.
        (T::Float64, n) | (n, T::Float64) if whole(n).is_some_and(|(_, bits)| bits <= 32) => Some(T::Float64),
        (T::Decimal128(p1, s1), T::Decimal128(p2, s2)) => {
            let (scale, whole_a, whole_b) = ((*s1).max(*s2), i16::from(*p1) - i16::from(*s1), i16::from(*p2) - i16::from(*s2));
            let precision = u8::try_from(whole_a.max(whole_b) + i16::from(scale)).ok()?;
            (precision <= 38).then_some(T::Decimal128(precision, scale))
        }
        (T::Dictionary(_, inner), other) | (other, T::Dictionary(_, inner)) => match other {
            T::Dictionary(_, second) => merge_types(inner, second),
            _ => merge_types(inner, other),
        },
        (T::Utf8View, T::Utf8 | T::LargeUtf8) | (T::Utf8 | T::LargeUtf8, T::Utf8View) => Some(T::Utf8View),
        (T::Utf8, T::LargeUtf8) | (T::LargeUtf8, T::Utf8) => Some(T::LargeUtf8),
        (T::BinaryView, T::Binary | T::LargeBinary) | (T::Binary | T::LargeBinary, T::BinaryView) => Some(T::BinaryView),
        (T::Binary, T::LargeBinary) | (T::LargeBinary, T::Binary) => Some(T::LargeBinary),
        (T::Timestamp(u1, z1), T::Timestamp(u2, z2)) => {
            let zone = match (z1, z2) {
                (None, None) => None,
                (Some(x), Some(y)) if x == y => Some(Arc::clone(x)),
                (Some(x), Some(y)) if is_utc(x) && is_utc(y) => Some(Arc::clone(x)),
                _ => return None,
            };
            // The finer unit; a value beyond its range stops the run, it is never cut.
            Some(T::Timestamp(finer(*u1, *u2), zone))
        }
        (T::List(x), T::List(y)) => Some(T::List(Arc::new(merge_fields(x, y)?))),
        (T::LargeList(x), T::LargeList(y)) => Some(T::LargeList(Arc::new(merge_fields(x, y)?))),
        (T::Struct(x), T::Struct(y)) => {
            // Only structs of the same fields: a missing inner field is not told apart from a misspelt one.
            let same = x.len() == y.len() && x.iter().zip(y).all(|(f, g)| f.name() == g.name());
            let fields = x.iter().zip(y).map(|(f, g)| merge_fields(f, g)).collect::<Option<Vec<_>>>()?;
            same.then(|| T::Struct(Fields::from(fields)))
        }
        _ => None,
    }
}

/// Whether signed, and how many bits.
fn whole(data_type: &DataType) -> Option<(bool, u8)> {
    Some(match data_type {
        DataType::Int8 => (true, 8),
        DataType::Int16 => (true, 16),
        DataType::Int32 => (true, 32),
        DataType::Int64 => (true, 64),
        DataType::UInt8 => (false, 8),
        DataType::UInt16 => (false, 16),
        DataType::UInt32 => (false, 32),
        DataType::UInt64 => (false, 64),
        _ => return None,
    })
}

fn merge_whole((signed_a, a): (bool, u8), (signed_b, b): (bool, u8)) -> Option<DataType> {
    let bits = if signed_a == signed_b {
        a.max(b)
    } else {
        // The signed side needs one bit more than the unsigned one has.
        let (signed, unsigned) = if signed_a { (a, b) } else { (b, a) };
        signed.max(unsigned.checked_mul(2)?)
    };
    Some(match (signed_a || signed_b, bits) {
        (true, 8) => DataType::Int8,
        (true, 16) => DataType::Int16,
        (true, 32) => DataType::Int32,
        (true, 64) => DataType::Int64,
        (false, 8) => DataType::UInt8,
        (false, 16) => DataType::UInt16,
        (false, 32) => DataType::UInt32,
        (false, 64) => DataType::UInt64,
        _ => return None,
    })
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Etc/UTC" | "Z" | "+00:00" | "+00" | "+0000")
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |unit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DataType as T;

    #[test]
    fn types_merge_only_when_every_value_fits() {
        let yes = |a: T, b: T, c: T| assert_eq!(merge_types(&a, &b), Some(c));
        let no = |a: T, b: T| assert_eq!(merge_types(&a, &b), None);
        yes(T::Int32, T::Int64, T::Int64);
        yes(T::UInt8, T::Int8, T::Int16);
        yes(T::UInt32, T::Int8, T::Int64);
        no(T::UInt64, T::Int64);
        yes(T::Int32, T::Float64, T::Float64);
        no(T::Int64, T::Float64);
        no(T::Int32, T::Float32);
        yes(T::Decimal128(10, 2), T::Decimal128(8, 4), T::Decimal128(12, 4));
        no(T::Decimal128(38, 0), T::Decimal128(10, 2));
        no(T::Utf8, T::Int64);
        no(T::Date32, T::Timestamp(TimeUnit::Microsecond, None));
        no(T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), T::Timestamp(TimeUnit::Microsecond, None));
        yes(T::Utf8, T::Utf8View, T::Utf8View);
        yes(T::Null, T::Int8, T::Int8);
    }

    #[test]
    fn a_file_fits_a_log_only_when_every_value_does() {
        let utc = || Some(Arc::from("UTC"));
        let micros = || T::Timestamp(TimeUnit::Microsecond, utc());
        let yes = |from: T, to: T| assert!(keeps(&from, &to), "{from} {to}");
        let no = |from: T, to: T| assert!(!keeps(&from, &to), "{from} {to}");
        yes(T::Int32, T::Int64);
        yes(T::Int32, T::Float64);
        yes(T::Int32, T::Decimal128(12, 2));
        yes(T::Float32, T::Float64);
        yes(T::Date32, T::Timestamp(TimeUnit::Microsecond, None));
        yes(T::Decimal128(10, 2), T::Decimal128(12, 4));
        yes(T::Timestamp(TimeUnit::Millisecond, utc()), micros());
        yes(T::Timestamp(TimeUnit::Microsecond, None), micros());
        yes(T::Timestamp(TimeUnit::Microsecond, Some("+02:00".into())), micros());
        yes(T::Dictionary(Box::new(T::Int32), Box::new(T::Utf8)), T::Utf8);
        yes(T::Binary, T::Utf8);
        no(T::Timestamp(TimeUnit::Nanosecond, utc()), micros());
        no(T::Timestamp(TimeUnit::Microsecond, Some("+02:00".into())), T::Timestamp(TimeUnit::Microsecond, None));
        no(T::Decimal128(10, 2), T::Decimal128(10, 1));
        no(T::Decimal128(10, 2), T::Decimal128(10, 4));
        no(T::Int64, T::Int32);
        no(T::Int64, T::Float64);
        no(T::Int64, T::Decimal128(18, 0));
        no(T::Float64, T::Float32);
        no(T::Utf8, T::Int32);
        let list = |inner: T| T::List(Arc::new(Field::new_list_field(inner, true)));
        yes(list(T::Int32), list(T::Int64));
        no(list(T::Float64), list(T::Int64));
        let fields = |inner: T| T::Struct(Fields::from(vec![Field::new("a", inner, true)]));
        yes(fields(T::Int8), fields(T::Int16));
        no(fields(T::Float64), fields(T::Int64));
    }

    #[test]
    fn a_column_some_file_lacks_may_be_null() {
        let mut merger = Merger::default();
        merger.add(&Schema::new(vec![Field::new("a", T::Int32, false), Field::new("b", T::Int32, false)]), "1").unwrap();
        merger.add(&Schema::new(vec![Field::new("a", T::Int64, false)]), "2").unwrap();
        let merged = merger.finish();
        assert_eq!(merged.field(0), &Field::new("a", T::Int64, false));
        assert_eq!(merged.field(1), &Field::new("b", T::Int32, true));
    }
}
