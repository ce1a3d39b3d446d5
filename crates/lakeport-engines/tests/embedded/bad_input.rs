//! What is refused, and what the refusal says.

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array};
use lakeport::error::Kind;
use lakeport::source::{Location, Query};

use crate::lake::{Lake, batch, refused, shown};

fn ints() -> ArrayRef {
    Arc::new(Int32Array::from(vec![1]))
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let lake = Lake::new();
    let error = refused(&lake.from("nowhere")).await;
    assert_eq!(error.kind(), Kind::SourceMissing);
    assert!(error.context_value("source").unwrap().ends_with("nowhere"));
    assert_eq!(refused(&lake.from("*.parquet")).await.kind(), Kind::SourceMissing);
    std::fs::create_dir(lake.path("empty")).unwrap();
    assert_eq!(refused(&lake.from("empty")).await.kind(), Kind::SourceEmpty);
    lake.text("only/_SUCCESS", "");
    assert_eq!(refused(&lake.from("only")).await.kind(), Kind::SourceEmpty);
    assert_eq!(refused(&Query::default()).await.kind(), Kind::Usage);
    let nowhere = Query { from: Some(Location::new("ftp://host/x")), ..Query::default() };
    assert_eq!(refused(&nowhere).await.kind(), Kind::Unsupported);
}

#[tokio::test]
async fn directories_that_may_be_several_tables_are_refused() {
    let lake = Lake::new();
    lake.parquet("mixed/a.parquet", &batch(vec![("a", ints())]));
    lake.text("mixed/b.csv", "a\n1\n");
    let error = refused(&lake.from("mixed")).await;
    assert_eq!(error.kind(), Kind::SourceUnreadable);
    assert!(error.message().contains("parquet and csv"), "{error:?}");
    lake.parquet("gold/orders/a.parquet", &batch(vec![("a", ints())]));
    assert!(refused(&lake.from("gold")).await.help_line().contains("orders"));
    lake.parquet("odd/a=1/x.parquet", &batch(vec![("x", ints())]));
    lake.parquet("odd/b=1/x.parquet", &batch(vec![("x", ints())]));
    assert_eq!(refused(&lake.from("odd")).await.kind(), Kind::SchemaConflict);
    lake.parquet("old/a.parquet", &batch(vec![("a", ints())]));
    lake.text("old/b.orc", "ORC");
    assert!(refused(&lake.from("old")).await.context_value("file").unwrap().ends_with("b.orc"));
}

#[tokio::test]
async fn delta_and_iceberg_are_never_read_as_plain_files() {
    let lake = Lake::new();
    lake.parquet("delta/p=1/a.parquet", &batch(vec![("a", ints())]));
    lake.text("delta/_delta_log/00000000000000000000.json", "{}");
    lake.parquet("ice/data/a.parquet", &batch(vec![("a", ints())]));
    lake.text("ice/metadata/v1.metadata.json", "{}");
    // A log without a table in it is damage; a part of a Delta table has no meaning without its log.
    assert_eq!(refused(&lake.from("delta")).await.kind(), Kind::SourceUnreadable);
    for name in ["delta/p=1", "delta/p=1/a.parquet", "delta/p=*", "delta/p=1/*.parquet", "ice"] {
        let error = refused(&lake.from(name)).await;
        assert_eq!(error.kind(), Kind::Unsupported, "{name}: {error:?}");
    }
}

#[tokio::test]
async fn damaged_parquet_is_named() {
    let lake = Lake::new();
    lake.parquet("t/1.parquet", &batch(vec![("a", ints())]));
    let cut = lake.parquet("t/2.parquet", &batch(vec![("a", ints())]));
    std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(40).unwrap();
    let error = refused(&lake.from("t")).await;
    assert_eq!((error.kind(), error.context_value("file")), (Kind::SourceUnreadable, Some(shown(&cut).as_str())));
    lake.text("u/1.parquet", "");
    assert_eq!(refused(&lake.from("u")).await.kind(), Kind::SourceUnreadable);
}

#[tokio::test]
async fn damage_inside_parquet_is_found_while_reading_and_named() {
    let lake = Lake::new();
    let many: ArrayRef = Arc::new(Int64Array::from_iter_values((0..50_000).map(|i| i * 7919 % 50_021)));
    lake.parquet("t/1.parquet", &batch(vec![("a", Arc::clone(&many))]));
    let damaged = lake.parquet("t/2.parquet", &batch(vec![("a", many)]));
    let mut file = std::fs::OpenOptions::new().write(true).open(&damaged).unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    file.write_all(&[0xff; 400]).unwrap();
    let error = refused(&lake.from("t")).await;
    assert_eq!(
        (error.kind(), error.context_value("file")),
        (Kind::SourceUnreadable, Some(shown(&damaged).as_str())),
        "{error:?}"
    );
}

#[tokio::test]
async fn broken_csv_rows_are_named_by_file_and_line() {
    let lake = Lake::new();
    lake.text("t/1.csv", "a,b\n1,2\n");
    let bad = lake.text("t/2.csv", "a,b\n1,\"x\ny\"\n\n3\n");
    let error = refused(&lake.from("t")).await;
    assert_eq!(error.kind(), Kind::SourceUnreadable);
    assert_eq!(error.context_value("file"), Some(shown(&bad).as_str()));
    assert_eq!(error.context_value("line"), Some("5"), "{error:?}");
    lake.bytes("latin.csv", b"a\nS\xe3o\n");
    assert_eq!(refused(&lake.from("latin")).await.context_value("line"), Some("2"));
    lake.text("twice.csv", "a,a\n1,2\n");
    assert_eq!(refused(&lake.from("twice")).await.kind(), Kind::DuplicateColumn);
    lake.text("semicolon.csv", "a;b\n1;2\n");
    assert!(refused(&lake.from("semicolon")).await.message().contains(';'));
    lake.text("nothing.csv", "");
    assert_eq!(refused(&lake.from("nothing")).await.kind(), Kind::SourceEmpty);
    lake.bytes("packed.csv.gz", b"this is no archive");
    assert_eq!(refused(&lake.from("packed.csv.gz")).await.kind(), Kind::SourceUnreadable);
}

#[tokio::test]
async fn broken_json_lines_are_named_by_file_and_line() {
    let lake = Lake::new();
    let bad = lake.text("t.ndjson", "{\"a\": 1}\n{\"a\": \n");
    let error = refused(&lake.from("t")).await;
    assert_eq!(error.kind(), Kind::SourceUnreadable);
    assert_eq!(error.context_value("file"), Some(shown(&bad).as_str()));
    assert_eq!(error.context_value("line"), Some("2"));
    lake.text("array.json", "[{\"a\": 1}]");
    assert!(refused(&lake.from("array")).await.message().contains("array"));
    lake.text("odd.json", "{\"a\": 1}\n{\"a\": {\"b\": 1}}\n");
    assert_eq!(refused(&lake.from("odd")).await.kind(), Kind::SchemaConflict);
}
