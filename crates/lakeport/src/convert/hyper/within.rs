//! Whether the footers of Parquet files prove that dates and instants lie within the calendar.
//!
//! hyperd loads what lies outside of it without a word, and nobody looks at each value on the direct route. Footers may lie:
//! whoever measures the source beside the load looks at every value, and refuses what the footer did not tell.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use crate::source::{Literal, PlainScan, PlainSource};
use crate::types::{ColumnMapping, Mapping};

/// Footers read side by side.
const THREADS: usize = 4;

/// A column that has a range, and where its values come from.
struct Ranged<'a> {
    column: &'a ColumnMapping,
    source: &'a PlainSource,
    range: (i64, i64),
}

impl Ranged<'_> {
    fn holds(&self, least: i64, greatest: i64) -> bool {
        self.range.0 <= least && greatest <= self.range.1
    }

    fn unproven(&self, whose: &str) -> String {
        format!("{whose} that all values of column `{}` fit {}", self.column.name, self.column.target_type)
    }
}

/// Says no to a plain read that may hold a value outside of its column's range.
///
/// # Errors
/// The column and the file, in words.
pub(super) fn ensure(mapping: &Mapping, scan: &PlainScan) -> Result<(), String> {
    let ranged = mapping.columns.iter().filter_map(|column| {
        let source = &scan.columns.get(*column.path.first()?)?.source;
        Some(Ranged { column, source, range: column.range? })
    });
    let ranged: Vec<_> = ranged.collect();
    for of_path in &ranged {
        let PlainSource::Partition(index) = of_path.source else { continue };
        let proven = scan.groups.iter().all(|group| match group.values.get(*index) {
            Some(Literal::Null) => true,
            Some(Literal::Date(days)) if of_path.column.physical == DataType::Date32 => {
                of_path.holds(i64::from(*days), i64::from(*days))
            }
            Some(Literal::Timestamp(micros)) => of_path.holds(*micros, *micros),
            _ => false,
        });
        if !proven {
            return Err(of_path.unproven("the paths of the files do not say"));
        }
    }
    let of_files: Vec<_> = ranged.iter().filter(|r| matches!(r.source, PlainSource::File(_))).collect();
    let files: Vec<&Path> = scan.groups.iter().flat_map(|group| &group.files).map(AsRef::as_ref).collect();
    if of_files.is_empty() {
        return Ok(());
    }
    if files.is_empty() {
        // A stage that is still to be written: measured beside the load, it may stop the run, but nothing would be counted.
        let accepted = of_files.iter().find(|r| r.column.accepted);
        return accepted.map_or(Ok(()), |r| Err(r.unproven("it is not known before the files are written")));
    }
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let checked = ensure_file(path, &of_files);
            if checked.is_err() {
                next.store(files.len(), Ordering::Relaxed);
                return checked;
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(files.len());
    if threads == 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err("a thread reading footers panicked".to_owned());
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(panicked))
    })
}

fn ensure_file(path: &Path, ranged: &[&Ranged<'_>]) -> Result<(), String> {
    let options = ArrowReaderOptions::new();
    let footer = File::open(path).ok().and_then(|file| ArrowReaderMetadata::load(&file, options).ok());
    let footer = footer.ok_or_else(|| format!("the footer of {} cannot be read a second time", path.display()))?;
    ranged.iter().try_for_each(|column| {
        let unproven = || column.unproven(&format!("the statistics of {} do not say", path.display()));
        if proves(&footer, column).unwrap_or(false) { Ok(()) } else { Err(unproven()) }
    })
}

/// Whether each row group's least and greatest value lie in the range; `None` where they are not told.
fn proves(footer: &ArrowReaderMetadata, ranged: &Ranged<'_>) -> Option<bool> {
    let PlainSource::File(name) = ranged.source else { return None };
    let groups = footer.metadata().row_groups();
    let statistics = StatisticsConverter::try_new(name, footer.schema(), footer.parquet_schema()).ok()?;
    let nulls = statistics.row_group_null_counts(groups).ok()?;
    let counted = |array: ArrayRef| counts(&array, &ranged.column.physical);
    let least = counted(statistics.row_group_mins(groups).ok()?)?;
    let greatest = counted(statistics.row_group_maxes(groups).ok()?)?;
    let (least, greatest) = (least.as_primitive_opt::<Int64Type>()?, greatest.as_primitive_opt::<Int64Type>()?);
    Some(groups.iter().enumerate().all(|(at, group)| {
        let all_null = nulls.is_valid(at) && i64::try_from(nulls.value(at)) == Ok(group.num_rows());
        all_null || (least.is_valid(at) && greatest.is_valid(at) && ranged.holds(least.value(at), greatest.value(at)))
    }))
}

/// Days and instants as whole numbers of the physical type's unit; what does not fit becomes NULL.
fn counts(values: &ArrayRef, physical: &DataType) -> Option<ArrayRef> {
    let whole = if *physical == DataType::Date32 { DataType::Int32 } else { DataType::Int64 };
    let values = cast(values, physical).and_then(|v| cast(&v, &whole)).and_then(|v| cast(&v, &DataType::Int64));
    values.ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use arrow::array::{Date32Array, RecordBatch, TimestampMillisecondArray};
    use arrow::datatypes::Schema;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

    use super::super::Hyper;
    use super::*;
    use crate::convert::Format;
    use crate::source::{Comparison, PlainColumn, Predicate, ScanGroup};
    use crate::types::{Lossy, Wishes};

    /// 10000-01-01.
    const TOO_LATE: i32 = 2_932_897;

    fn write(path: PathBuf, batch: &RecordBatch, statistics: EnabledStatistics) -> PathBuf {
        // Two rows a group.
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).set_statistics_enabled(statistics);
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), Some(properties.build())).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        path
    }

    fn days(days: &[Option<i32>]) -> RecordBatch {
        let at: Vec<_> = days.iter().map(|d| d.map(|d| i64::from(d) * 86_400_000)).collect();
        let at: ArrayRef = Arc::new(TimestampMillisecondArray::from(at));
        let days: ArrayRef = Arc::new(Date32Array::from(days.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("d", days, true), ("at", at, true)]).unwrap()
    }

    fn direct(files: Vec<PathBuf>, schema: &Schema, lossy: Lossy) -> Result<(), String> {
        let mapping = Hyper::new().map("t", schema, &Wishes { lossy, ..Wishes::default() }).unwrap();
        Hyper::new().direct(&mapping, &PlainScan::of_files("t", files, schema, 0).unwrap())
    }

    #[test]
    fn the_direct_route_is_taken_where_footers_prove_the_range() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let fits = days(&[Some(-719_162), Some(2_932_896), None, None, Some(0)]);
        let schema = fits.schema();
        let fits = write(path("fits"), &fits, EnabledStatistics::Chunk);
        let late = write(path("late"), &days(&[Some(0), None, Some(TOO_LATE)]), EnabledStatistics::Chunk);
        let early = write(path("early"), &days(&[Some(-719_163)]), EnabledStatistics::Chunk);
        let silent = write(path("silent"), &days(&[Some(0)]), EnabledStatistics::None);
        let empty = write(path("empty"), &days(&[]), EnabledStatistics::Chunk);
        for lossy in [Lossy::None, Lossy::All] {
            assert_eq!(direct(vec![fits.clone(), empty.clone()], &schema, lossy.clone()), Ok(()));
            for other in [&late, &early, &silent, &path("gone")] {
                let why = direct(vec![fits.clone(), other.clone()], &schema, lossy.clone()).unwrap_err();
                assert!(why.contains(&*other.to_string_lossy()), "{why}");
            }
        }
        let why = direct(vec![late], &schema, Lossy::None).unwrap_err();
        assert!(why.contains("column `d` fit DATE"), "{why}");
        let instants = schema.project(&[1]).unwrap();
        let why = direct(vec![early], &instants, Lossy::None).unwrap_err();
        assert!(why.contains("column `at` fit TIMESTAMP"), "{why}");
    }

    #[test]
    fn a_stage_to_be_written_is_loaded_directly_unless_losses_are_to_be_counted() {
        let schema = days(&[]).schema();
        assert_eq!(direct(Vec::new(), &schema, Lossy::None), Ok(()));
        assert!(direct(Vec::new(), &schema, Lossy::Columns(["d".to_owned()].into())).unwrap_err().contains("column `d`"));
    }

    #[test]
    fn dates_of_a_path_are_looked_at() {
        let schema = days(&[]).schema().project(&[0]).unwrap();
        let mapping = Hyper::new().map("t", &schema, &Wishes::default()).unwrap();
        let scan = |value| PlainScan {
            groups: vec![ScanGroup { name: "d".into(), files: vec!["unread".into()], values: vec![value] }],
            columns: vec![PlainColumn { name: "d".into(), data_type: DataType::Date32, source: PlainSource::Partition(0) }],
            filter: Some(Predicate::Compare(PlainSource::Partition(0), Comparison::Gt, Literal::Date(0))),
            rows: 1,
        };
        for fits in [Literal::Date(0), Literal::Null] {
            assert_eq!(Hyper::new().direct(&mapping, &scan(fits)), Ok(()));
        }
        assert!(Hyper::new().direct(&mapping, &scan(Literal::Date(TOO_LATE))).unwrap_err().contains("column `d`"));
    }
}
