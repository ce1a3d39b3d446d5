//! Memory stays within its limit; what does not fit is spilled.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use lakeport::error::Kind;
use lakeport::limits::Limits;
use lakeport::source::Engine;
use lakeport_engines::embedded::Embedded;

use crate::lake::{Lake, batch};

const ROWS: i64 = 1_000_000;

fn lake() -> Lake {
    let lake = Lake::new();
    for part in 0..4 {
        let from = part * ROWS / 4;
        // A permutation of the numbers: every value once, in no order.
        let keys = Int64Array::from_iter_values((from..from + ROWS / 4).map(|i| i * 7_919 % ROWS));
        let wide = StringArray::from_iter_values(keys.values().iter().map(|k| format!("{k:060}")));
        lake.parquet(&format!("t/{part}.parquet"), &batch(vec![("k", Arc::new(keys)), ("wide", Arc::new(wide))]));
    }
    lake
}

fn limits(mib: u64) -> Limits {
    Limits { memory: mib << 20, cores: 2, ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sort_larger_than_memory_spills_and_is_right() {
    let lake = lake();
    let table = Embedded::new().open(&lake.sql("t", "select * from src order by k"), &limits(32)).await.unwrap();
    assert_eq!(table.partitions.len(), 1);
    let mut next = 0;
    for partition in table.partitions {
        let mut stream = partition.stream;
        while let Some(batch) = stream.try_next().await.unwrap() {
            for (key, text) in batch.column(0).as_primitive::<Int64Type>().iter().zip(batch.column(1).as_string::<i32>()) {
                assert_eq!(key, Some(next));
                assert_eq!(text.unwrap().parse::<i64>().unwrap(), next);
                next += 1;
            }
        }
    }
    assert_eq!(next, ROWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sorts_hold_in_every_small_pool() {
    let lake = Lake::new();
    let rows = ROWS / 5;
    let keys = Int64Array::from_iter_values((0..rows).map(|i| i * 7_919 % rows));
    let wide = StringArray::from_iter_values(keys.values().iter().map(|k| format!("{k:060}")));
    lake.parquet("t/0.parquet", &batch(vec![("k", Arc::new(keys)), ("wide", Arc::new(wide))]));
    for sql in ["select k from src order by wide", "select a.k, b.wide from src a join src b using (wide) order by b.k"] {
        for mib in [8, 16, 32, 64] {
            let table = Embedded::new().open(&lake.sql("t", sql), &limits(mib)).await.unwrap();
            let batches = crate::lake::read(table).await.unwrap_or_else(|e| panic!("{sql} in {mib} MiB: {e:?}"));
            let keys = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec());
            assert!(keys.eq(0..rows), "{sql} in {mib} MiB");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_groups_larger_than_memory_spill_and_are_right() {
    let lake = lake();
    for sql in [
        "select count(*), sum(a.k) from src a join src b on a.wide = b.wide",
        "select count(*), sum(n) from (select wide, max(k) n from src group by wide)",
    ] {
        let table = Embedded::new().open(&lake.sql("t", sql), &limits(48)).await.unwrap();
        let batches = crate::lake::read(table).await.unwrap();
        let answer = &batches[0];
        assert_eq!(answer.column(0).as_primitive::<Int64Type>().value(0), ROWS, "{sql}");
        assert_eq!(answer.column(1).as_primitive::<Int64Type>().value(0), ROWS * (ROWS - 1) / 2, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_spill_ends_with_advice() {
    let lake = lake();
    let sql = "select array_agg(wide) from src";
    let query = lake.sql("t", sql);
    let result = match Embedded::new().open(&query, &limits(8)).await {
        Ok(table) => crate::lake::read(table).await.map(|_| ()),
        Err(error) => Err(error),
    };
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::OutOfSpace, "{error:?}");
    assert!(error.help_line().contains("--memory"));
}
