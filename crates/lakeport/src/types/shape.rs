//! Record batches brought into the shape of their mapping: physical types, flattened fields, values checked.
//!
//! The one place where a value could change. Every conversion that could lose something is compared with what it came from;
//! a difference stops the run unless the column is accepted as lossy, and is counted when it is.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringBuilder,
    StructArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, kernels::cmp, max, min, nullif};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    Schema, SchemaRef,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{ColumnMapping, Conversion, Mapping};
use super::{geometry, json, spelling};
use crate::error::{Context, Error, Kind, Result, Wrap};

/// Bytes of one piece of a batch: Arrow's 32-bit offsets end at 2 GiB, and texts may be several MB each.
const PIECE: usize = 64 * 1024 * 1024;

/// Shapes batches of one table and counts what was changed with consent.
#[derive(Debug)]
pub struct Shaper {
    mapping: Mapping,
    schema: SchemaRef,
    changed: Vec<u64>,
    rows: u64,
}

impl Shaper {
    /// Prepares for a mapping.
    #[must_use]
    pub fn new(mapping: &Mapping) -> Self {
        let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), c.nullable)).collect();
        Self { mapping: mapping.clone(), schema: Arc::new(Schema::new(fields)), changed: vec![0; mapping.columns.len()], rows: 0 }
    }

    /// The physical schema of shaped batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Values changed so far, per column that changed any.
    #[must_use]
    pub fn changed(&self) -> Vec<(String, u64)> {
        let names = self.mapping.columns.iter().map(|c| c.name.clone());
        names.zip(self.changed.iter().copied()).filter(|(_, n)| *n > 0).collect()
    }

    /// Shapes one batch, handing out pieces of bounded size.
    ///
    /// # Errors
    /// `ValueRefused` with column and row in the context; whatever `each` returns.
    pub fn shape(&mut self, batch: &RecordBatch, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let bytes: usize = batch.columns().iter().map(|c| logical_bytes(c.as_ref())).sum();
        if bytes > PIECE && batch.num_rows() > 1 {
            let half = batch.num_rows() / 2;
            self.shape(&batch.slice(0, half), each)?;
            return self.shape(&batch.slice(half, batch.num_rows() - half), each);
        }
        let mut columns = Vec::with_capacity(self.mapping.columns.len());
        for (column, changed) in self.mapping.columns.iter().zip(&mut self.changed) {
            let source = pick(batch, &column.path)?;
            let mut shaped = convert(column, &source, changed, self.rows).at("column", &column.name).during("convert values")?;
            if let Some(range) = column.range {
                if shaped.data_type() == &DataType::Utf8 {
                    shaped = of_length(column, shaped, range.1, changed, self.rows).at("column", &column.name)?;
                } else {
                    shaped = in_range(column, shaped, range, changed, self.rows).at("column", &column.name)?;
                }
            }
            if !column.nullable && shaped.null_count() > 0 {
                return Err(Error::new(
                    Kind::ValueRefused,
                    format!("column `{}` is declared NOT NULL and holds a NULL", column.name),
                )
                .at("column", &column.name));
            }
            columns.push(shaped);
        }
        self.rows += batch.num_rows() as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        each(
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
                .wrap(Kind::Unexpected, || "a shaped batch does not have the shape of its mapping".into())?,
        )
    }
}

/// The bytes of an array's own values; views share buffers, so theirs are added up by length.
fn logical_bytes(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().iter().flatten().map(str::len).sum(),
        DataType::BinaryView => array.as_binary_view().iter().flatten().map(<[u8]>::len).sum(),
        // A decoded dictionary may be far larger than its encoding.
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            let mean = if values.is_empty() { 0 } else { logical_bytes(values.as_ref()).div_ceil(values.len()) };
            let largest = match values.data_type() {
                DataType::Utf8 => values.as_string::<i32>().iter().flatten().map(str::len).max().unwrap_or(0),
                _ => mean,
            };
            array.len() * largest.max(mean)
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

/// Walks into structs; a NULL on the way makes the field NULL.
fn pick(batch: &RecordBatch, path: &[usize]) -> Result<ArrayRef> {
    let gone = || Error::new(Kind::Unexpected, "a batch lacks a column of its schema");
    let (first, below) = path.split_first().ok_or_else(gone)?;
    let mut array = Arc::clone(batch.columns().get(*first).ok_or_else(gone)?);
    for index in below {
        let parent: &StructArray = array.as_struct_opt().ok_or_else(gone)?;
        let child = Arc::clone(parent.columns().get(*index).ok_or_else(gone)?);
        let nulls = NullBuffer::union(parent.nulls(), child.logical_nulls().as_ref());
        array = if child.data_type().is_null() {
            child
        } else {
            let data = child.to_data().into_builder().nulls(nulls).build();
            arrow::array::make_array(data.wrap(Kind::Unexpected, || "a struct's field does not fit its parent".into())?)
        };
    }
    Ok(array)
}

fn convert(column: &ColumnMapping, source: &ArrayRef, changed: &mut u64, before: u64) -> Result<ArrayRef> {
    match column.conversion {
        Conversion::Keep if source.data_type() == &column.physical => Ok(Arc::clone(source)),
        Conversion::Keep | Conversion::Cast => cast(source, &column.physical, false)
            .wrap(Kind::ValueRefused, || format!("a value of column `{}` does not fit {}", column.name, column.target_type)),
        Conversion::CheckedCast => checked_cast(column, source, changed, before),
        Conversion::Json => json::render(source),
        Conversion::Iso8601 => iso8601(source),
        Conversion::Finite => finite(column, source, changed, before),
        Conversion::Hex => hex(source),
        Conversion::Count => cast(source, &DataType::Int64, false)
            .and_then(|n| cast(&n, &column.physical, false))
            .wrap(Kind::ValueRefused, || format!("a value of column `{}` does not fit {}", column.name, column.target_type)),
        Conversion::WellKnownText => geography(column, source, changed, before),
        Conversion::Nulls => Ok(new_null_array(&column.physical, source.len())),
    }
}

fn cast(source: &ArrayRef, to: &DataType, safe: bool) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
    let utc;
    let source = match source.data_type() {
        // As text, an instant is written in UTC: offsets of local mean time (before 1900) have seconds, which text would lose.
        DataType::Timestamp(unit, Some(zone)) if to.is_string() && &**zone != "UTC" => {
            utc = cast_with_options(source, &DataType::Timestamp(*unit, Some("UTC".into())), &CastOptions::default())?;
            &utc
        }
        _ => source,
    };
    cast_with_options(source, to, &CastOptions { safe, format_options: FormatOptions::default() })
}

/// Casts, casts back and compares; what differs stops the run or is counted.
fn checked_cast(column: &ColumnMapping, source: &ArrayRef, changed: &mut u64, before: u64) -> Result<ArrayRef> {
    let unsupported = || format!("cannot convert column `{}` to {}", column.name, column.target_type);
    // Decoded first, so that comparing sees values and not codes.
    let source = match source.data_type() {
        DataType::Dictionary(_, values) => &cast(source, values, false).wrap(Kind::Unexpected, unsupported)?,
        DataType::RunEndEncoded(_, values) => &cast(source, values.data_type(), false).wrap(Kind::Unexpected, unsupported)?,
        _ => source,
    };
    let there = cast(source, &column.physical, true).wrap(Kind::Unexpected, unsupported)?;
    let text = matches!(source.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let same: BooleanArray = if text {
        // Cast back, `007` would be another text; what counts is that the value says as much.
        spelling::kept(source, &there).wrap(Kind::Unexpected, unsupported)?
    } else {
        let back = cast(&there, source.data_type(), true).wrap(Kind::Unexpected, unsupported)?;
        cmp::not_distinct(source, &back).wrap(Kind::Unexpected, unsupported)?
    };
    let differing = same.len() - same.true_count();
    if differing == 0 {
        return Ok(there);
    }
    if column.accepted {
        *changed += differing as u64;
        return Ok(there);
    }
    let row = (0..same.len()).find(|i| !same.value(*i)).unwrap_or(0);
    let value = show(source, row);
    let why = column.verdict.why().unwrap_or("it would change");
    Err(Error::new(
        Kind::ValueRefused,
        format!("a value of column `{}` cannot be kept exactly as {}", column.name, column.target_type),
    )
    .because(format!("{value} in row {} of its partition stream; expected {why}", before + row as u64 + 1))
    .help(format!("accept the loss with --lossy={}, or choose another type with --types {0}=…", column.name)))
}

/// Stops on dates and instants that the target's type does not hold; with consent those become NULL.
fn in_range(
    column: &ColumnMapping,
    shaped: ArrayRef,
    (least, greatest): (i64, i64),
    changed: &mut u64,
    before: u64,
) -> Result<ArrayRef> {
    // Days, and instants in whatever unit, are counted in whole numbers.
    let days = if shaped.data_type() == &DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
    let unsupported = || format!("{} has no range", column.physical);
    let counts =
        cast(&shaped, &days, false).and_then(|n| cast(&n, &DataType::Int64, false)).wrap(Kind::Unexpected, unsupported)?;
    let counts = counts.as_primitive::<Int64Type>();
    if min(counts).is_none_or(|n| n >= least) && max(counts).is_none_or(|n| n <= greatest) {
        return Ok(shaped);
    }
    let Some(row) = first_outside(counts.iter(), least, greatest) else { return Ok(shaped) };
    if column.accepted {
        let outside: BooleanArray = counts.iter().map(|n| Some(n.is_some_and(|n| n < least || n > greatest))).collect();
        *changed += outside.true_count() as u64;
        return nullif(&shaped, &outside).wrap(Kind::Unexpected, unsupported);
    }
    let ends: ArrayRef = Arc::new(Int64Array::from(vec![least, greatest]));
    let ends = cast(&ends, &days, true).and_then(|ends| cast(&ends, shaped.data_type(), true));
    let holds = ends.map(|ends| format!("; the type holds {} to {}", show(&ends, 0), show(&ends, 1))).unwrap_or_default();
    Err(Error::new(Kind::ValueRefused, format!("a value of column `{}` is outside of {}", column.name, column.target_type))
        .because(format!("{} in row {}{holds}", show(&shaped, row), before + row as u64 + 1))
        .help(format!(
            "filter the row with --where, keep it as text with --types {0}=text, or leave it NULL with --lossy={0}",
            column.name
        )))
}

/// Stops on texts of more UTF-16 units than the target holds; with consent they are cut.
fn of_length(column: &ColumnMapping, shaped: ArrayRef, greatest: i64, changed: &mut u64, before: u64) -> Result<ArrayRef> {
    let texts = shaped.as_string::<i32>();
    let greatest = usize::try_from(greatest).unwrap_or(usize::MAX);
    // Bytes are at least as many as UTF-16 units: most texts need no counting.
    let long = |t: &str| t.len() > greatest && t.encode_utf16().count() > greatest;
    let Some(row) = texts.iter().position(|t| t.is_some_and(long)) else { return Ok(shaped) };
    if !column.accepted {
        let units = texts.value(row).encode_utf16().count();
        let what = format!("a value of column `{}` cannot be kept as {}", column.name, column.target_type);
        return Err(Error::new(Kind::ValueRefused, what)
            .because(format!("row {}: it has {units} characters, the target holds {greatest}", before + row as u64 + 1))
            .help(format!(
                "shorten or split it in SQL, cut it with --lossy={0}, or leave the column out with --types {0}=drop",
                column.name
            )));
    }
    let mut kept = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for text in texts {
        match text {
            Some(text) if long(text) => {
                *changed += 1;
                kept.append_value(cut(text, greatest));
            }
            fits => kept.append_option(fits),
        }
    }
    Ok(Arc::new(kept.finish()))
}

/// The beginning of a text, of at most so many UTF-16 units.
fn cut(text: &str, units: usize) -> &str {
    let mut room = units;
    for (at, c) in text.char_indices() {
        match room.checked_sub(c.len_utf16()) {
            Some(left) => room = left,
            None => return &text[..at],
        }
    }
    text
}

fn first_outside(values: impl Iterator<Item = Option<i64>>, least: i64, greatest: i64) -> Option<usize> {
    values.enumerate().find_map(|(i, v)| v.filter(|v| !(least..=greatest).contains(v)).map(|_| i))
}

fn show(array: &ArrayRef, row: usize) -> String {
    let text =
        ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default()).map(|f| f.value(row).to_string()).unwrap_or_default();
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// Floats that a target without NaN and infinities holds; with consent those become NULL and are counted.
fn finite(column: &ColumnMapping, source: &ArrayRef, changed: &mut u64, before: u64) -> Result<ArrayRef> {
    let wide =
        cast(source, &DataType::Float64, false).wrap(Kind::Unexpected, || format!("{} is no float", source.data_type()))?;
    let floats = wide.as_primitive::<Float64Type>();
    let Some(row) = floats.iter().position(|v| v.is_some_and(|v| !v.is_finite())) else { return Ok(wide) };
    if !column.accepted {
        let what = format!("a value of column `{}` cannot be kept as {}", column.name, column.target_type);
        return Err(Error::new(Kind::ValueRefused, what)
            .because(format!(
                "{} in row {} of its partition stream; expected finite numbers",
                show(source, row),
                before + row as u64 + 1
            ))
            .help(format!("keep it with --types {0}=text, or leave such cells empty with --lossy={0}", column.name)));
    }
    let kept: Float64Array = floats.iter().map(|v| v.filter(|v| v.is_finite())).collect();
    *changed += (kept.null_count() - floats.null_count()) as u64;
    Ok(Arc::new(kept))
}

/// Well-known text whose coordinates hyperd keeps to the digit; with consent the others are counted and rounded by it.
fn geography(column: &ColumnMapping, source: &ArrayRef, changed: &mut u64, before: u64) -> Result<ArrayRef> {
    let text = match source.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(source, &DataType::Utf8, false)
            .wrap(Kind::Unexpected, || format!("column `{}` does not hold texts", column.name))?,
        _ => geometry::well_known_text(source, before)?,
    };
    let fine = |t: Option<&str>| t.is_some_and(|t| !geometry::is_kept(t));
    let differing = text.as_string::<i32>().iter().filter(|t| fine(*t)).count();
    if differing > 0 && !column.accepted {
        let row = text.as_string::<i32>().iter().position(fine).unwrap_or(0);
        let what = format!("a value of column `{}` cannot be kept exactly as {}", column.name, column.target_type);
        return Err(Error::new(Kind::ValueRefused, what)
            .because(format!(
                "{} in row {} of its partition stream; expected {}",
                show(&text, row),
                before + row as u64 + 1,
                geometry::KEPT
            ))
            .help(format!("let them be rounded, by less than a millimetre, with --lossy={}", column.name)));
    }
    *changed += differing as u64;
    Ok(text)
}

/// Bytes as hexadecimal digits, in lower case.
fn hex(source: &ArrayRef) -> Result<ArrayRef> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes =
        cast(source, &DataType::Binary, false).wrap(Kind::Unexpected, || format!("{} are no bytes", source.data_type()))?;
    let bytes = bytes.as_binary::<i32>();
    let mut out = StringBuilder::with_capacity(bytes.len(), bytes.value_data().len() * 2);
    let mut text = String::new();
    for value in bytes {
        let Some(value) = value else {
            out.append_null();
            continue;
        };
        text.clear();
        for byte in value {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}

/// Intervals as ISO 8601 durations; exact, since each of their parts is a whole number.
fn iso8601(source: &ArrayRef) -> Result<ArrayRef> {
    let mut out = StringBuilder::with_capacity(source.len(), source.len() * 8);
    for i in 0..source.len() {
        if source.is_null(i) {
            out.append_null();
            continue;
        }
        let (months, days, nanos) = match source.data_type() {
            DataType::Interval(IntervalUnit::YearMonth) => (source.as_primitive::<IntervalYearMonthType>().value(i), 0, 0),
            DataType::Interval(IntervalUnit::DayTime) => {
                let v = source.as_primitive::<IntervalDayTimeType>().value(i);
                (0, v.days, i64::from(v.milliseconds) * 1_000_000)
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let v = source.as_primitive::<IntervalMonthDayNanoType>().value(i);
                (v.months, v.days, v.nanoseconds)
            }
            other => return Err(Error::new(Kind::Unexpected, format!("{other} is no interval"))),
        };
        out.append_value(duration(months, days, nanos));
    }
    Ok(Arc::new(out.finish()))
}

/// `P1Y2M3DT4.5S`; each part carries its own sign, as in ISO 8601-2.
fn duration(months: i32, days: i32, nanos: i64) -> String {
    let mut text = String::from("P");
    let mut part = |n: i64, unit: char| {
        if n != 0 {
            text.push_str(&n.to_string());
            text.push(unit);
        }
    };
    part(i64::from(months / 12), 'Y');
    part(i64::from(months % 12), 'M');
    part(i64::from(days), 'D');
    if nanos != 0 {
        let sign = if nanos < 0 { "-" } else { "" };
        let (seconds, fraction) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
        text.push_str(&format!("T{sign}{seconds}"));
        if fraction != 0 {
            text.push_str(format!(".{fraction:09}").trim_end_matches('0'));
        }
        text.push('S');
    }
    if text.len() == 1 { "PT0S".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Lossy, Wishes, hyper};
    use arrow::array::{Decimal256Array, Float64Array, Int32Array, StringViewArray, TimestampNanosecondArray};
    use arrow::datatypes::{Fields, TimeUnit, i256};

    /// Shaped pieces, and how many values changed per column.
    type Shaped = (Vec<RecordBatch>, Vec<(String, u64)>);

    fn shaped(array: ArrayRef, wishes: &Wishes) -> Result<Shaped> {
        let batch = RecordBatch::try_from_iter([("c", array)]).unwrap();
        let mut shaper = Shaper::new(&hyper::map("t", &batch.schema(), wishes)?);
        let mut out = Vec::new();
        shaper.shape(&batch, &mut |b| {
            out.push(b);
            Ok(())
        })?;
        let changed = shaper.changed();
        Ok((out, changed))
    }

    #[test]
    fn whole_microseconds_pass_and_finer_ones_stop() {
        let fits: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), None]));
        let (out, changed) = shaped(fits, &Wishes::default()).unwrap();
        assert_eq!(out[0].column(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
        assert!(changed.is_empty());
        let finer: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_001)]));
        let e = shaped(Arc::clone(&finer), &Wishes::default()).unwrap_err();
        assert_eq!((e.code(), e.context_value("column")), ("E204", Some("c")));
        let accepted = Wishes { lossy: Lossy::All, ..Wishes::default() };
        assert_eq!(shaped(finer, &accepted).unwrap().1, [("c".to_owned(), 1)]);
    }

    #[test]
    fn a_decimal_beyond_38_digits_stops() {
        let ten = i256::from_i128(10);
        let wide: ArrayRef =
            Arc::new(Decimal256Array::from(vec![Some(ten.wrapping_pow(40))]).with_precision_and_scale(76, 2).unwrap());
        assert_eq!(shaped(wide, &Wishes::default()).unwrap_err().code(), "E204");
        let fits: ArrayRef = Arc::new(Decimal256Array::from(vec![Some(ten), None]).with_precision_and_scale(76, 2).unwrap());
        assert_eq!(shaped(fits, &Wishes::default()).unwrap().0[0].column(0).data_type(), &DataType::Decimal128(38, 2));
    }

    #[test]
    fn large_batches_come_in_pieces() {
        let text = "x".repeat(1 << 20);
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![text.as_str(); 200]));
        let (out, _) = shaped(views, &Wishes::default()).unwrap();
        assert!(out.len() >= 4);
        assert_eq!(out.iter().map(RecordBatch::num_rows).sum::<usize>(), 200);
    }

    #[test]
    fn a_null_struct_makes_its_fields_null() {
        let child: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let fields = Fields::from(vec![Field::new("a", DataType::Int32, false)]);
        let array: ArrayRef = Arc::new(StructArray::new(fields, vec![child], Some(NullBuffer::from(vec![true, false]))));
        let wishes = Wishes { columns: [("c".to_owned(), super::super::Wish::Flatten)].into(), ..Wishes::default() };
        let (out, _) = shaped(array, &wishes).unwrap();
        assert_eq!(out[0].column(0).as_ref(), &Int32Array::from(vec![Some(1), None]) as &dyn Array);
    }

    #[test]
    fn intervals_are_iso_8601() {
        assert_eq!(duration(14, 3, 4_500_000_000), "P1Y2M3DT4.5S");
        assert_eq!(duration(0, 0, 0), "PT0S");
        assert_eq!(duration(-1, 0, -1), "P-1MT-0.000000001S");
    }

    #[test]
    fn a_text_that_says_more_than_its_type_stops() {
        let wished = |to: &str, lossy| Wishes {
            columns: [("c".to_owned(), super::super::Wish::Type(to.into()))].into(),
            lossy,
            ..Wishes::default()
        };
        for (to, fits, more) in [
            ("numeric(10,2)", "007.20", "1.239"),
            ("date", "2024-01-31", "2024-01-31 23:00:00-05:00"),
            ("timestamp", "2024-01-31 10:00:00.123456", "2024-01-31T10:00:00+05:00"),
            ("timestamptz", "2024-01-31T10:00:00+05:00", "2024-01-31 10:00:00.123456789"),
            ("time", "10:00", "10:00:00.1234567"),
            ("double", "1e3", "1234567890123456789"),
        ] {
            let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some(fits), None, Some(more)]));
            assert!(shaped(views.slice(0, 2), &wished(to, Lossy::None)).unwrap().1.is_empty(), "{fits} is a {to}");
            let e = shaped(Arc::clone(&views), &wished(to, Lossy::None)).unwrap_err();
            assert_eq!((e.code(), e.context_value("column")), ("E204", Some("c")), "{more} is more than a {to}");
            assert!(e.causes()[0].starts_with(&format!("{more} in row 3")), "{e:?}");
            let (out, changed) = shaped(views, &wished(to, Lossy::All)).unwrap();
            assert_eq!((changed, out[0].column(0).null_count()), (vec![("c".to_owned(), 1)], 1), "{more} as a {to}");
        }
    }

    #[test]
    fn nan_is_not_a_change() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, -0.0]));
        let wishes = Wishes { columns: [("c".to_owned(), super::super::Wish::Type("text".into()))].into(), ..Wishes::default() };
        assert_eq!(shaped(doubles, &wishes).unwrap().0[0].column(0).as_string::<i32>().value(0), "NaN");
    }
}
