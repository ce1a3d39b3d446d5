//! INT96, the timestamp of Impala, Hive and Spark: the number of a Julian day and nanoseconds of that day.
//!
//! It reaches further than nanoseconds since 1970 do (1677 to 2262), and Arrow's reader wraps around beyond. It is read in
//! microseconds, which hold all that Spark writes. Others may have written nanoseconds; whether they did only the values
//! tell, so those are looked at when the file is opened, and one that would be cut stops the run.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use bytes::{Buf, Bytes};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, parquet_to_arrow_schema};
use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{Int96, Int96Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::SchemaDescriptor;

/// What Spark puts before the names of its own notes in a footer.
const SPARK: &str = "org.apache.spark.";
/// The Julian day of 1970-01-01.
const EPOCH: i64 = 2_440_588;
/// Values looked at at a time.
const VALUES: usize = 8192;

/// The schema a file is read with, where it is not its own.
///
/// A file written from Arrow notes the unit of its values, which is kept unless `instants` says that the table's log has
/// decided: then every INT96 is an instant in microseconds.
pub(super) fn read_as(about: &FileMetaData, own: &Schema, instants: bool) -> Option<Schema> {
    let descriptor = about.schema_descr();
    if !has(descriptor) || leaves(own).len() != descriptor.num_columns() || (!instants && noted(about, ARROW_SCHEMA_META_KEY)) {
        return None;
    }
    let zone = instants.then(|| Arc::from("UTC"));
    let micros = DataType::Timestamp(TimeUnit::Microsecond, zone);
    let mut int96 = descriptor.columns().iter().map(|c| c.physical_type() == Type::INT96);
    let fields: Fields = own.fields().iter().map(|f| retyped(f, &mut int96, &micros)).collect();
    (&fields != own.fields()).then(|| Schema::new_with_metadata(fields, own.metadata().clone()))
}

/// The INT96 leaves of which only the values tell whether they fit the unit they are read in.
pub(super) fn doubtful(about: &FileMetaData, read: Option<&Schema>) -> Result<Vec<(usize, TimeUnit)>> {
    let descriptor = about.schema_descr();
    if !has(descriptor) {
        return Ok(Vec::new());
    }
    let own = parquet_to_arrow_schema(descriptor, about.key_value_metadata())?;
    let (own, read) = (leaves(&own), leaves(read.unwrap_or(&own)));
    let (arrow, spark) = (noted(about, ARROW_SCHEMA_META_KEY), noted(about, SPARK));
    let of = |leaf: usize| {
        let unit = match read.get(leaf) {
            Some(DataType::Timestamp(unit, _)) => *unit,
            _ => TimeUnit::Nanosecond,
        };
        let kept = (arrow && own.get(leaf) == read.get(leaf)) || (spark && unit == TimeUnit::Microsecond);
        (!kept).then_some((leaf, unit))
    };
    let int96 = descriptor.columns().iter().enumerate().filter(|(_, c)| c.physical_type() == Type::INT96);
    Ok(int96.filter_map(|(leaf, _)| of(leaf)).collect())
}

/// Whether every value of a column chunk, given as its bytes, is one of the unit.
pub(super) fn fits(
    chunk: &ColumnChunkMetaData,
    descriptor: &SchemaDescriptor,
    leaf: usize,
    bytes: Bytes,
    unit: TimeUnit,
) -> Result<bool> {
    let rows = usize::try_from(chunk.num_values())?;
    let pages = SerializedPageReader::new(Arc::new(Chunk { start: chunk.byte_range().0, bytes }), chunk, rows, None)?;
    let mut reader = ColumnReaderImpl::<Int96Type>::new(descriptor.column(leaf), Box::new(pages));
    let (mut values, mut nulls, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        values.clear();
        nulls.clear();
        lists.clear();
        let (records, _, _) = reader.read_records(VALUES, Some(&mut nulls), Some(&mut lists), &mut values)?;
        if !values.iter().all(|value| is_of(value, unit)) {
            return Ok(false);
        }
        if records == 0 {
            return Ok(true);
        }
    }
}

/// Whether a value is a whole number of the unit that Arrow can hold.
fn is_of(value: &Int96, unit: TimeUnit) -> bool {
    let &[low, high, day] = value.data() else { return false };
    let nanos = (i64::from(high) << 32) + i64::from(low);
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let size = 1_000_000_000 / per_second;
    let days = i64::from(day.cast_signed()) - EPOCH;
    let whole = days.checked_mul(86_400 * per_second).and_then(|d| d.checked_add(nanos / size));
    nanos % size == 0 && whole.is_some()
}

/// Whether a leaf is INT96.
pub(super) fn has(descriptor: &SchemaDescriptor) -> bool {
    descriptor.columns().iter().any(|c| c.physical_type() == Type::INT96)
}

/// Whether a footer has a note whose name begins so.
fn noted(about: &FileMetaData, name: &str) -> bool {
    about.key_value_metadata().is_some_and(|notes| notes.iter().any(|note| note.key.starts_with(name)))
}

/// A field with the INT96 leaves in it of another type; `int96` tells of each leaf whether it is one.
fn retyped(field: &FieldRef, int96: &mut impl Iterator<Item = bool>, to: &DataType) -> FieldRef {
    use DataType as T;
    let data_type = match field.data_type() {
        T::Struct(fields) => T::Struct(fields.iter().map(|f| retyped(f, int96, to)).collect()),
        T::List(item) => T::List(retyped(item, int96, to)),
        T::LargeList(item) => T::LargeList(retyped(item, int96, to)),
        T::ListView(item) => T::ListView(retyped(item, int96, to)),
        T::LargeListView(item) => T::LargeListView(retyped(item, int96, to)),
        T::FixedSizeList(item, size) => T::FixedSizeList(retyped(item, int96, to), *size),
        T::Map(entries, sorted) => T::Map(retyped(entries, int96, to), *sorted),
        own => match (int96.next(), own) {
            (Some(true), T::Timestamp(TimeUnit::Nanosecond, _)) => to.clone(),
            _ => own.clone(),
        },
    };
    if &data_type == field.data_type() { Arc::clone(field) } else { Arc::new(Field::clone(field).with_data_type(data_type)) }
}

/// The types of all leaves, in the order of Parquet's.
fn leaves(schema: &Schema) -> Vec<&DataType> {
    fn walk<'a>(data_type: &'a DataType, all: &mut Vec<&'a DataType>) {
        use DataType as T;
        match data_type {
            T::Struct(fields) => fields.iter().for_each(|f| walk(f.data_type(), all)),
            T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
                walk(item.data_type(), all);
            }
            T::Map(entries, _) => walk(entries.data_type(), all),
            leaf => all.push(leaf),
        }
    }
    let mut all = Vec::new();
    schema.fields().iter().for_each(|f| walk(f.data_type(), &mut all));
    all
}

/// The bytes of one column chunk, at their place in the file.
struct Chunk {
    start: u64,
    bytes: Bytes,
}

impl Chunk {
    fn from(&self, start: u64) -> Result<Bytes> {
        let skip = start.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        match skip.filter(|skip| *skip <= self.bytes.len()) {
            Some(skip) => Ok(self.bytes.slice(skip..)),
            None => Err(ParquetError::EOF(format!("no byte {start} in the column chunk"))),
        }
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF(format!("no {length} bytes at {start} in the column chunk")));
        }
        Ok(bytes.slice(..length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_a_unit_only_when_nothing_is_cut() {
        let day = |year_day: i64, nanos: u64| {
            let mut value = Int96::new();
            let bytes = nanos.to_le_bytes();
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            value.set_data(word(0), word(4), u32::try_from(year_day + EPOCH).unwrap());
            value
        };
        // 9999-12-31 is day 2932896.
        let (far, last) = (2_932_896, 86_399_999_999_000);
        assert!(is_of(&day(far, last), TimeUnit::Microsecond));
        assert!(!is_of(&day(far, last), TimeUnit::Nanosecond));
        assert!(!is_of(&day(far, last + 1), TimeUnit::Microsecond));
        assert!(is_of(&day(0, 1), TimeUnit::Nanosecond));
        assert!(!is_of(&day(0, 1), TimeUnit::Microsecond));
        // Days that no calendar has do not wrap around.
        assert!(!is_of(&day(i64::from(i32::MAX) - EPOCH, 0), TimeUnit::Microsecond));
    }
}
