//! Files, directories, globs and partition trees of Parquet.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use lakeport::error::Kind;
use lakeport::source::{Engine, Query};
use lakeport_engines::embedded::Embedded;

use crate::lake::{Lake, batch, columns, open, refused, rows, set};

fn ints(values: &[i32]) -> RecordBatch {
    batch(vec![("a", Arc::new(Int32Array::from(values.to_vec())))])
}

#[tokio::test]
async fn a_file_a_directory_and_a_glob_are_tables() {
    let lake = Lake::new();
    lake.parquet("t/1.parquet", &ints(&[1, 2]));
    lake.parquet("t/2.parquet", &ints(&[3]));
    lake.text("t/_SUCCESS", "");
    lake.text("t/.1.parquet.crc", "x");
    lake.text("t/README.md", "x");
    assert_eq!(set(&lake.from("t")).await, ["1", "2", "3"]);
    assert_eq!(set(&lake.from("t/")).await, ["1", "2", "3"]);
    assert_eq!(set(&lake.from("t/2.parquet")).await, ["3"]);
    assert_eq!(set(&lake.from("t/2")).await, ["3"], "an extension may be left out");
    assert_eq!(set(&lake.from("t/[12].parquet")).await, ["1", "2", "3"]);
    assert_eq!(set(&lake.from("*/1.*")).await, ["1", "2"]);
    let snapshot = open(&lake.from("t")).await.unwrap().snapshot;
    assert_eq!((snapshot.layout.as_str(), snapshot.files, snapshot.rows), ("parquet", 2, Some(3)));
    assert!(snapshot.bytes > 0 && snapshot.id.len() == 16);
    assert_eq!(open(&lake.from("t")).await.unwrap().snapshot, snapshot);
    lake.parquet("t/3.parquet", &ints(&[]));
    let later = open(&lake.from("t")).await.unwrap().snapshot;
    assert_ne!(later.id, snapshot.id);
    assert_eq!(later.rows, Some(3), "a file without rows is fine");
}

#[tokio::test]
async fn partition_values_become_typed_columns() {
    let lake = Lake::new();
    lake.parquet("t/month=1/city=S%C3%A3o%20Paulo/day=2024-01-31/x.parquet", &ints(&[1]));
    lake.parquet("t/month=12/city=__HIVE_DEFAULT_PARTITION__/day=2024-12-31/x.parquet", &ints(&[2]));
    lake.text("t/month=1/_temporary/0/y.parquet", "not there yet");
    assert_eq!(columns(&lake.from("t")).await, "a:Int32 month:Int32 city:Utf8 day:Date32");
    assert_eq!(set(&lake.from("t")).await, ["1|1|São Paulo|2024-01-31", "2|12|∅|2024-12-31"]);
    let one = Query { filter: Some("month > 6 and city is null".into()), ..lake.from("t") };
    assert_eq!(rows(&one).await, ["2|12|∅|2024-12-31"]);
    let none = Query { filter: Some("month = 7".into()), ..lake.from("t") };
    assert!(rows(&none).await.is_empty());
    assert_eq!(rows(&lake.sql("t", "select count(*) from src where city is not null")).await, ["1"]);
    assert_eq!(rows(&lake.sql("t", "select max(day), min(city), count(city) from src")).await, ["2024-12-31|São Paulo|1"]);
    // A glob over partition directories, and one partition alone.
    assert_eq!(set(&lake.from("t/month=1*")).await.len(), 2);
    assert_eq!(columns(&lake.from("t/month=1")).await, "a:Int32 city:Utf8 day:Date32");
}

#[tokio::test]
async fn long_numbers_in_directories_widen_and_padded_ones_stay_text() {
    let lake = Lake::new();
    for id in ["1", "5000000000"] {
        lake.parquet(&format!("wide/id={id}/x.parquet"), &ints(&[1]));
        lake.parquet(&format!("zip/zip=0{id}0/x.parquet"), &ints(&[1]));
    }
    assert_eq!(columns(&lake.from("wide")).await, "a:Int32 id:Int64");
    assert_eq!(columns(&lake.from("zip")).await, "a:Int32 zip:Utf8");
}

#[tokio::test]
async fn schemas_merge_where_no_value_changes() {
    let lake = Lake::new();
    let strict = Schema::new(vec![Field::new("a", DataType::Int32, false), Field::new("b", DataType::Utf8, false)]);
    let first =
        RecordBatch::try_new(Arc::new(strict), vec![Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec!["x"]))]);
    lake.parquet("t/1.parquet", &first.unwrap());
    assert_eq!(columns(&lake.from("t")).await, "a:Int32! b:Utf8!");
    lake.parquet(
        "t/2.parquet",
        &batch(vec![("c", Arc::new(Int32Array::from(vec![9]))), ("a", Arc::new(Int64Array::from(vec![5_000_000_000])))]),
    );
    assert_eq!(columns(&lake.from("t")).await, "a:Int64 b:Utf8 c:Int32");
    assert_eq!(set(&lake.from("t")).await, ["1|x|∅", "5000000000|∅|9"]);
    assert_eq!(set(&lake.sql("t", "select c from src where b is null")).await, ["9"]);
    lake.parquet("t/3.parquet", &batch(vec![("a", Arc::new(StringArray::from(vec!["x"])))]));
    let error = refused(&lake.from("t")).await;
    assert_eq!(error.kind(), Kind::SchemaConflict);
    assert_eq!(error.context_value("column"), Some("a"));
    assert!(error.context_value("file").unwrap().ends_with("3.parquet"), "{error:?}");
    assert!(error.context_value("other file").unwrap().ends_with("2.parquet"), "{error:?}");
    assert!(error.message().contains("Int64") && error.message().contains("Utf8"));
}

#[tokio::test]
async fn nanoseconds_and_zones_are_kept() {
    let lake = Lake::new();
    let stamps = TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789]);
    let zoned = arrow::array::TimestampMicrosecondArray::from(vec![1]).with_timezone("Europe/Berlin");
    lake.parquet("t.parquet", &batch(vec![("n", Arc::new(stamps)), ("z", Arc::new(zoned))]));
    assert_eq!(columns(&lake.from("t")).await, "n:Timestamp(ns) z:Timestamp(µs, \"Europe/Berlin\")");
    assert_eq!(rows(&lake.sql("t", "select n from src")).await, ["2023-11-14T22:13:20.123456789"]);
}

#[tokio::test]
async fn a_directory_of_tables_is_listed() {
    let lake = Lake::new();
    lake.parquet("flights/month=1/x.parquet", &ints(&[1]));
    lake.parquet("flights/month=2/x.parquet", &ints(&[1]));
    lake.text("airports.csv", "a\n1\n");
    lake.text("notes.txt", "x");
    lake.text("sub/weather.ndjson", "{}");
    lake.text("sub/more/planes.csv", "a\n");
    lake.text("events/_delta_log/00000000000000000000.json", "{}");
    lake.parquet("events/x.parquet", &ints(&[1]));
    let listed = Embedded::new().list(&lake.at("")).await.unwrap();
    let brief: Vec<_> = listed.iter().map(|l| format!("{} {}", l.name, l.kind)).collect();
    assert_eq!(brief, ["airports.csv table", "events table", "flights table", "sub directory"]);
    let details = |at: usize, key: &str| listed[at].details.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    assert_eq!(details(2, "layout"), Some("parquet, partitioned by month"));
    assert_eq!(details(2, "files"), Some("2"));
    assert_eq!(details(1, "layout"), Some("delta"));
    let missing = Embedded::new().list(&lake.at("nowhere")).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::SourceMissing);
}

#[tokio::test]
async fn a_partition_column_that_only_some_files_hold_is_refused() {
    let lake = Lake::new();
    let month = |m: i32| -> ArrayRef { Arc::new(Int32Array::from(vec![m])) };
    lake.parquet("t/month=7/a.parquet", &batch(vec![("id", month(1)), ("month", month(7))]));
    lake.parquet("t/month=8/b.parquet", &batch(vec![("id", month(2))]));
    lake.text("c/month=7/a.csv", "id,month\n1,7\n");
    lake.text("c/month=8/b.csv", "id\n2\n");
    lake.text("j/month=7/a.json", "{\"id\": 1, \"month\": 7}\n");
    lake.text("j/month=8/b.json", "{\"id\": 2}\n");
    for name in ["t", "c", "j"] {
        let error = refused(&lake.from(name)).await;
        assert_eq!((error.kind(), error.context_value("column")), (Kind::SchemaConflict, Some("month")), "{error:?}");
        assert!(error.context_value("file").unwrap().contains("/month=8/b."), "{error:?}");
        assert!(error.context_value("other file").unwrap().contains("/month=7/a."), "{error:?}");
    }
    // A file without rows has no values that could be lost.
    lake.text("e/month=7/a.csv", "id,month\n1,7\n");
    lake.text("e/month=8/b.csv", "id\n");
    assert_eq!(rows(&lake.sql("e", "select id, month from src")).await, ["1|7"]);
    // Held by all, the files are right.
    lake.parquet("f/month=7/a.parquet", &batch(vec![("id", month(1)), ("month", month(70))]));
    lake.parquet("f/month=8/b.parquet", &batch(vec![("id", month(2)), ("month", month(80))]));
    assert_eq!(set(&lake.sql("f", "select id, month from src")).await, ["1|70", "2|80"]);
}
