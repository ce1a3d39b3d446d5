//! The fingerprint of a plain read, taken by Arrow's reader.
//!
//! A loader that reads a file wrongly would measure the same wrong values; a second reader does not. It works on the time that
//! the loader leaves: its threads have the lowest priority, for a loader's own end keeps one core only.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::{Literal, PlainColumn, PlainScan, PlainSource, ScanGroup};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::types::Mapping;
use crate::types::shape::Shaper;
use crate::verify::{Accumulator, Fingerprint, Verify, together};

/// Rows read at a time.
const BATCH: usize = 8192;
/// Columns read at a time; a page of each is in memory, which for thousands of columns would be too much.
const COLUMNS_AT_ONCE: usize = 64;
/// Threads at most, for the same reason.
const THREADS: usize = 4;

/// Reads the files and takes the fingerprint of what the mapping makes of them; pages are in memory, never a file.
///
/// The condition of the read is not looked at. It ends early, with whatever it has, once `stop` is set, as it does itself when it
/// fails.
///
/// # Errors
/// `SourceUnreadable` with the file in the context; `ValueRefused` for a value that the target's type does not hold, whatever the
/// loader made of it.
pub(crate) fn measure(scan: &PlainScan, mapping: &Mapping, verify: Verify, stop: &AtomicBool) -> Result<Fingerprint> {
    let mut all = Fingerprint::default();
    for columns in mapping.columns.chunks(COLUMNS_AT_ONCE) {
        let (mut some, mut read) = (Mapping { columns: columns.to_vec(), ..mapping.clone() }, Vec::new());
        for (index, column) in some.columns.iter_mut().enumerate() {
            let plain = column.path.first().and_then(|from| scan.columns.get(*from));
            read.push(plain.cloned().ok_or_else(|| Error::new(Kind::Unexpected, "a plain read lacks a column of its mapping"))?);
            column.path = vec![index];
        }
        let print = measure_columns(&scan.groups, &read, &some, verify, stop)?;
        all.rows = print.rows;
        all.columns.extend(print.columns);
    }
    Ok(all)
}

fn measure_columns(
    groups: &[ScanGroup],
    columns: &[PlainColumn],
    mapping: &Mapping,
    verify: Verify,
    stop: &AtomicBool,
) -> Result<Fingerprint> {
    let fields = columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let pieces = Mutex::new(Pieces::of(groups));
    let work = || {
        // Without it the loader waits for us, which costs time and nothing else.
        let _ = rustix::process::setpriority_process(None, 19);
        let mut shaper = Shaper::new(mapping);
        let mut print = Accumulator::new(mapping, verify);
        while !stop.load(Ordering::Relaxed) {
            let Some(piece) = pieces.lock().unwrap_or_else(PoisonError::into_inner).next()? else { break };
            let path = piece.path;
            let read = piece.read(columns, &schema, &mut |batch| {
                shaper.shape(&batch, &mut |shaped| {
                    print.add(&shaped);
                    Ok(())
                })?;
                Ok(!stop.load(Ordering::Relaxed))
            });
            read.map_err(|e| match e.kind() {
                // Its own advice must not give way to one that looks at no values.
                Kind::ValueRefused => e,
                _ if verify < Verify::Fingerprint => e,
                _ => e.help("--verify counts compares the number of rows only"),
            })
            .at("file", path.display())?;
        }
        Ok(print.finish())
    };
    // Where one fails the others need not go on.
    let hand = || work().inspect_err(|_| stop.store(true, Ordering::Relaxed));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let prints = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(hand)).collect();
        let panicked = |_| Err(Error::new(Kind::Unexpected, "a thread measuring the source panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect::<Result<Vec<_>>>()
    })?;
    Ok(together(mapping, prints))
}

/// The row groups still to be read; of the footers, one is held beside those at work.
struct Pieces<'a> {
    files: Box<dyn Iterator<Item = (&'a ScanGroup, &'a Path)> + Send + 'a>,
    open: Option<Piece<'a>>,
}

impl<'a> Pieces<'a> {
    fn of(groups: &'a [ScanGroup]) -> Self {
        let files = groups.iter().flat_map(|group| group.files.iter().map(move |path| (group, path.as_path())));
        Self { files: Box::new(files), open: None }
    }

    fn next(&mut self) -> Result<Option<Piece<'a>>> {
        loop {
            if let Some(open) = &mut self.open
                && open.row_group < open.footer.metadata().num_row_groups()
            {
                let piece = open.clone();
                open.row_group += 1;
                return Ok(Some(piece));
            }
            let Some((group, path)) = self.files.next() else { return Ok(None) };
            let footer = File::open(path).wrap(Kind::SourceUnreadable, unreadable).and_then(|file| {
                ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).wrap(Kind::SourceUnreadable, unreadable)
            });
            self.open = Some(Piece { group, path, footer: footer.at("file", path.display())?, row_group: 0 });
        }
    }
}

/// One row group of one file.
#[derive(Clone)]
struct Piece<'a> {
    group: &'a ScanGroup,
    path: &'a Path,
    footer: ArrowReaderMetadata,
    row_group: usize,
}

impl Piece<'_> {
    /// Reads it as batches of the scan's schema; `each` says whether to go on.
    fn read(self, columns: &[PlainColumn], schema: &SchemaRef, each: &mut dyn FnMut(RecordBatch) -> Result<bool>) -> Result<()> {
        let file = File::open(self.path).wrap(Kind::SourceUnreadable, unreadable)?;
        let there = self.footer.schema();
        let wanted = columns.iter().filter_map(|column| match &column.source {
            PlainSource::File(name) => Some(name),
            PlainSource::Partition(_) => None,
        });
        let missing = |name| Error::new(Kind::SourceUnreadable, unreadable()).because(format!("it has no column `{name}`"));
        let wanted = wanted.map(|name| there.index_of(name).map_err(|_| missing(name))).collect::<Result<Vec<_>>>()?;
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), wanted);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer)
            .with_row_groups(vec![self.row_group])
            .with_projection(mask)
            .with_batch_size(BATCH)
            .build()
            .wrap(Kind::SourceUnreadable, unreadable)?;
        for batch in reader {
            let batch = batch.wrap(Kind::SourceUnreadable, unreadable)?;
            let rows = batch.num_rows();
            let arrays = columns.iter().map(|column| match &column.source {
                PlainSource::File(name) => {
                    let array = batch.column_by_name(name).ok_or_else(|| missing(name))?;
                    as_type(array, &column.data_type).at("column", name)
                }
                PlainSource::Partition(index) => {
                    let value = self.group.values.get(*index).unwrap_or(&Literal::Null);
                    repeated(value, &column.data_type, rows).at("column", &column.name)
                }
            });
            let arrays = arrays.collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let batch = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
                .wrap(Kind::Unexpected, || "a batch has not the shape of its schema".into())?;
            if !each(batch)? {
                break;
            }
        }
        Ok(())
    }
}

fn unreadable() -> String {
    "a file of the source cannot be read a second time, to compare".to_owned()
}

fn as_type(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, data_type, &options).wrap(Kind::SourceUnreadable, unreadable)
}

/// A value of the path, once for each row.
fn repeated(value: &Literal, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
    let one: ArrayRef = match value {
        Literal::Null => return Ok(new_null_array(data_type, rows)),
        Literal::Bool(v) => Arc::new(BooleanArray::from(vec![*v])),
        Literal::Int(v) => Arc::new(Int64Array::from(vec![*v])),
        Literal::Decimal(v, scale) => {
            let array = Decimal128Array::from(vec![*v]).with_precision_and_scale(DECIMAL128_MAX_PRECISION, *scale);
            Arc::new(array.wrap(Kind::SourceUnreadable, unreadable)?)
        }
        Literal::Text(v) => Arc::new(StringArray::from(vec![v.as_str()])),
        Literal::Date(v) => Arc::new(Date32Array::from(vec![*v])),
        Literal::Timestamp(v) => {
            let zone = if let DataType::Timestamp(_, zone) = data_type { zone.clone() } else { None };
            Arc::new(TimestampMicrosecondArray::from(vec![*v]).with_timezone_opt(zone))
        }
    };
    let one = as_type(&one, data_type)?;
    take(&one, &UInt32Array::from(vec![0; rows]), None).wrap(Kind::Unexpected, || "a value cannot be repeated".into())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int32Array, TimestampMillisecondArray};
    use arrow::datatypes::TimeUnit;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::types::{Wishes, hyper};

    fn wrap(array: impl arrow::array::Array + 'static) -> ArrayRef {
        Arc::new(array)
    }

    /// Two files of a table by partitions, each of several row groups, and the same rows as one batch.
    fn lake(folder: &Path) -> (PlainScan, Mapping, RecordBatch) {
        let constants = |group: i32, rows: usize| {
            let zone = Some(Arc::from("UTC"));
            vec![
                ("whole", DataType::Int32, Literal::Int(group.into()), wrap(Int32Array::from(vec![group; rows]))),
                ("none", DataType::Boolean, Literal::Null, new_null_array(&DataType::Boolean, rows)),
                ("truth", DataType::Boolean, Literal::Bool(true), wrap(BooleanArray::from(vec![true; rows]))),
                ("text", DataType::Utf8, Literal::Text("é".into()), wrap(StringArray::from(vec!["é"; rows]))),
                ("day", DataType::Date32, Literal::Date(-1), wrap(Date32Array::from(vec![-1; rows]))),
                (
                    "money",
                    DataType::Decimal128(9, 2),
                    Literal::Decimal(-5, 2),
                    wrap(Decimal128Array::from(vec![-5; rows]).with_precision_and_scale(9, 2).unwrap()),
                ),
                (
                    "moment",
                    DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
                    Literal::Timestamp(1),
                    wrap(TimestampMicrosecondArray::from(vec![1; rows]).with_timezone_opt(zone)),
                ),
            ]
        };
        let (mut groups, mut batches) = (Vec::new(), Vec::new());
        for group in 0..2 {
            let names: Vec<_> = (0..10).map(|i| (i % 3 > 0).then(|| format!("{group}-{i}"))).collect();
            let own = RecordBatch::try_from_iter([
                ("not read", wrap(Int64Array::from(vec![7; 10]))),
                ("name", wrap(StringArray::from(names))),
                ("at", wrap(TimestampMillisecondArray::from((0..10).collect::<Vec<i64>>()))),
            ])
            .unwrap();
            let path = folder.join(format!("{group}.parquet"));
            let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).build();
            let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), own.schema(), Some(properties)).unwrap();
            writer.write(&own).unwrap();
            writer.close().unwrap();
            let values = constants(group, 1).into_iter().map(|c| c.2).collect();
            groups.push(ScanGroup { name: group.to_string(), files: vec![path], values });
            // The table has the columns in another order than the files.
            let mut columns = vec![("at", Arc::clone(own.column(2))), ("name", Arc::clone(own.column(1)))];
            columns.extend(constants(group, 10).into_iter().map(|c| (c.0, c.3)));
            batches.push(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap());
        }
        let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let mut columns: Vec<_> = [("at", DataType::Timestamp(TimeUnit::Millisecond, None)), ("name", DataType::Utf8)]
            .map(|(name, data_type)| PlainColumn { name: name.into(), data_type, source: PlainSource::File(name.into()) })
            .into();
        columns.extend(constants(0, 1).into_iter().enumerate().map(|(index, (name, data_type, ..))| PlainColumn {
            name: name.into(),
            data_type,
            source: PlainSource::Partition(index),
        }));
        let mapping = hyper::map("t", &all.schema(), &Wishes::default()).unwrap();
        (PlainScan { groups, columns, filter: None, rows: 20 }, mapping, all)
    }

    #[test]
    fn files_and_partition_values_are_measured_as_their_batches() {
        let folder = tempfile::tempdir().unwrap();
        let (scan, mapping, all) = lake(folder.path());
        let mut expected = Accumulator::new(&mapping, Verify::Full);
        Shaper::new(&mapping)
            .shape(&all, &mut |batch| {
                expected.add(&batch);
                Ok(())
            })
            .unwrap();
        let measured = measure(&scan, &mapping, Verify::Full, &AtomicBool::new(false)).unwrap();
        assert_eq!(measured, expected.finish());
        assert_eq!((measured.rows, measured.columns[1].nulls, measured.columns[3].nulls), (20, 8, 20));
    }

    #[test]
    fn a_value_outside_of_its_type_is_refused_with_its_own_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("late.parquet");
        let late = RecordBatch::try_from_iter([("d", wrap(Date32Array::from(vec![0, 2_932_897])))]).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), late.schema(), None).unwrap();
        writer.write(&late).unwrap();
        writer.close().unwrap();
        let mapping = hyper::map("t", &late.schema(), &Wishes::default()).unwrap();
        let scan = PlainScan::of_files("t", vec![path], &late.schema(), 2).unwrap();
        let error = measure(&scan, &mapping, Verify::Fingerprint, &AtomicBool::new(false)).unwrap_err();
        assert_eq!((error.code(), error.context_value("column")), ("E204", Some("d")));
        assert!(error.help_line().contains("--lossy=d") && !error.help_line().contains("--verify"), "{error:?}");
        assert!(error.context_value("file").is_some_and(|f| f.ends_with("late.parquet")), "{error:?}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (mut scan, mapping, _) = lake(folder.path());
        let goes = || AtomicBool::new(false);
        scan.columns[1].source = PlainSource::File("gone".into());
        let error = measure(&scan, &mapping, Verify::Fingerprint, &goes()).unwrap_err();
        assert_eq!(error.kind(), Kind::SourceUnreadable);
        assert!(error.context_value("file").is_some_and(|f| f.ends_with(".parquet")), "{error}");
        assert!(error.help_line().contains("--verify counts"), "{error:?}");
        // Nobody is advised to do what they did.
        let error = measure(&scan, &mapping, Verify::Counts, &goes()).unwrap_err();
        assert!(!error.help_line().contains("--verify"), "{error:?}");
        scan.columns[1].source = PlainSource::File("name".into());
        std::fs::write(&scan.groups[1].files[0], "no Parquet").unwrap();
        let error = measure(&scan, &mapping, Verify::Fingerprint, &goes()).unwrap_err();
        assert!(error.context_value("file").is_some_and(|f| f.ends_with("1.parquet")), "{error}");
    }
}
