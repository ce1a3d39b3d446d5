//! SQL over one and many tables, conditions and limits.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use lakeport::error::Kind;
use lakeport::source::Query;

use crate::lake::{Lake, batch, columns, open, refused, rows, set};

fn lake() -> Lake {
    let lake = Lake::new();
    let columns: Vec<(&str, arrow::array::ArrayRef)> = vec![
        ("id", Arc::new(Int32Array::from_iter_values(0..100))),
        ("carrier", Arc::new(StringArray::from_iter_values((0..100).map(|i| if i % 2 == 0 { "UA" } else { "DL" })))),
    ];
    lake.parquet("gold/flights.parquet", &batch(columns));
    lake.text("gold/Airlines.csv", "carrier,name\nUA,United\nDL,Delta\n");
    lake
}

fn over(lake: &Lake, sql: &str) -> Query {
    let environments = [("lake".to_owned(), lake.at("")), ("the-lake".to_owned(), lake.at("gold"))].into();
    Query { sql: Some(sql.to_owned()), environments, ..Query::default() }
}

#[tokio::test]
async fn tables_are_named_through_environments() {
    let lake = lake();
    let sql = "with few as (select * from lake.gold.flights where id < 3) \
               select few.id, a.name from few join \"the-lake\".\"Airlines\" a on few.carrier = a.carrier order by few.id";
    assert_eq!(rows(&over(&lake, sql)).await, ["0|United", "1|Delta", "2|United"]);
    let table = open(&over(&lake, sql)).await.unwrap();
    assert_eq!((table.snapshot.layout.as_str(), table.snapshot.files, table.snapshot.rows), ("sql", 2, None));
    let whole = "select lake.gold.flights.id, flights.carrier from lake.gold.flights where flights.id = 7";
    assert_eq!(rows(&over(&lake, whole)).await, ["7|DL"]);
    // The same table twice, and together with `src`.
    let both = Query {
        from: Some(lake.at("gold/flights")),
        ..over(&lake, "select count(*) from src x, lake.gold.flights y, lake.gold.flights z where x.id = y.id and y.id = z.id")
    };
    assert_eq!(rows(&both).await, ["100"]);
}

#[tokio::test]
async fn condition_and_limit_come_after_the_sql() {
    let lake = lake();
    let sql = "select id * 2 as twice from src order by id desc";
    let query = Query { filter: Some("twice < 100".into()), limit: Some(3), ..lake.sql("gold/flights", sql) };
    assert_eq!(rows(&query).await, ["98", "96", "94"]);
    let plain = Query { limit: Some(5), ..lake.from("gold/flights") };
    assert_eq!(rows(&plain).await.len(), 5);
    let ordered = open(&lake.sql("gold/flights", sql)).await.unwrap();
    assert_eq!(ordered.partitions.len(), 1, "an order needs one stream");
    let limited = Query { limit: Some(0), ..lake.from("gold/flights") };
    assert!(rows(&limited).await.is_empty());
    assert_eq!(
        set(&lake.sql("gold/flights", "select round(avg(id), 1), upper(carrier) from src group by carrier")).await.len(),
        2
    );
}

#[tokio::test]
async fn sql_that_cannot_be_is_explained() {
    let lake = lake();
    let error = refused(&lake.sql("gold/flights", "select carier from src")).await;
    assert_eq!(error.kind(), Kind::SqlInvalid);
    assert!(error.help_line().contains("carrier"), "{error:?}");
    assert!(!error.causes().is_empty());
    assert_eq!(refused(&lake.sql("gold/flights", "selec 1")).await.kind(), Kind::SqlInvalid);
    let error = refused(&over(&lake, "select * from lkae.gold.flights")).await;
    assert_eq!((error.kind(), error.help_line()), (Kind::SqlInvalid, "did you mean `lake`?"));
    let error = refused(&over(&lake, "select * from lake.gold.nothing")).await;
    assert_eq!((error.kind(), error.context_value("table")), (Kind::SourceMissing, Some("lake.gold.nothing")));
    for sql in ["drop table src", "insert into src values (1)", "copy src to 'x.csv'", "select 1; select 2", "set a = 1"] {
        assert_eq!(refused(&lake.sql("gold/flights", sql)).await.kind(), Kind::SqlInvalid, "{sql}");
    }
    let twice = "select a.id, b.id from src a join src b on a.id = b.id";
    assert_eq!(refused(&lake.sql("gold/flights", twice)).await.kind(), Kind::DuplicateColumn);
    let query = Query { filter: Some("nope = 1".into()), ..lake.from("gold/flights") };
    assert_eq!(refused(&query).await.kind(), Kind::SqlInvalid);
    let error = refused(&lake.sql("gold/flights", "select cast(carrier as int) from src")).await;
    assert_eq!(error.kind(), Kind::ValueRefused, "{error:?}");
}

#[tokio::test]
async fn numbers_in_sql_are_what_they_say() {
    let lake = Lake::new();
    let cents = [109_883_727, 109_883_726, 240_891, 1747];
    let columns_of: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3, 4]))),
        ("d", Arc::new(Decimal128Array::from_iter_values(cents).with_precision_and_scale(18, 2).unwrap())),
        ("f", Arc::new(Float64Array::from(vec![0.1, 0.123_456_789_012_345_67, 1e300, -5e-324]))),
    ];
    lake.parquet("n.parquet", &batch(columns_of));
    for (condition, ids) in [
        ("d = 1098837.27", "1"),
        ("d in (1098837.27, 17.47)", "1 4"),
        ("d between 1098837.27 and 1098837.27", "1"),
        ("d < 1098837.27", "2 3 4"),
        ("d <> 17.47", "1 2 3"),
        ("d >= -1 * -1098837.27", "1"),
        ("f = 0.1", "1"),
        ("0.12345678901234567 = f", "2"),
        ("f = 1e300 or f = -5e-324", "3 4"),
        ("f > 1.5E299", "3"),
    ] {
        let query = Query { filter: Some(condition.into()), ..lake.sql("n", "select id, d, f from src") };
        let found: Vec<_> = set(&query).await.iter().map(|row| row.split('|').next().unwrap().to_owned()).collect();
        assert_eq!(found.join(" "), ids, "{condition}");
    }
    assert_eq!(
        rows(&lake.sql("n", "select 12345678901234567890123456789.1 as x from src limit 1")).await,
        ["12345678901234567890123456789.1"]
    );
}

#[tokio::test]
async fn whole_numbers_never_run_over() {
    let lake = Lake::new();
    let columns_of: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from(vec![i64::MAX, 2]))),
        ("n", Arc::new(Int32Array::from(vec![i32::MAX, 3]))),
        ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 4]))),
    ];
    lake.parquet("n.parquet", &batch(columns_of));
    for sum in ["i + 1", "i * 2", "n * n", "n + n", "u + u", "0 - i - 2", "u * u", "i - -1"] {
        let e = refused(&lake.sql("n", &format!("select {sum} as x from src"))).await;
        assert_eq!((e.kind(), e.exit_code()), (Kind::ValueRefused, 6), "{sum}: {e:?}");
    }
    // What fits is as it was, and so are names and types.
    let fine = lake.sql("n", "select n + 1, n * 2 as twice, i - n as less, 1 + 1 from src where n < 4");
    assert_eq!(columns(&fine).await, "src.n + Int64(1):Int64 twice:Int64 less:Int64 Int64(1) + Int64(1):Int64!");
    assert_eq!(rows(&fine).await, ["4|6|-1|2"]);
    assert_eq!(rows(&lake.sql("n", "select sum(n * 1 + 1) from src")).await, [(i64::from(i32::MAX) + 5).to_string()]);
}

#[tokio::test]
async fn not_a_number_is_found_wherever_it_lies() {
    let lake = Lake::new();
    let floats = |values: Vec<f64>| batch(vec![("f", Arc::new(Float64Array::from(values)) as ArrayRef)]);
    let all = [-1.0, f64::NAN, 5.0, f64::NAN, f64::NAN, f64::NAN];
    lake.parquet("one.parquet", &floats(all.to_vec()));
    for (number, pair) in all.chunks(2).enumerate() {
        lake.parquet(&format!("many/{number}.parquet"), &floats(pair.to_vec()));
    }
    for (condition, count) in [("f = 'NaN'", 4), ("f > 5", 4), ("f > 0", 5), ("f < 0", 1), ("isnan(f)", 4)] {
        for table in ["one", "many"] {
            let query = Query { filter: Some(condition.into()), ..lake.from(table) };
            assert_eq!(rows(&query).await.len(), count, "{table}: {condition}");
        }
    }
}

#[tokio::test]
async fn now_is_an_instant() {
    let lake = Lake::new();
    let soon = chrono::Utc::now() - chrono::TimeDelta::minutes(30);
    let zoned =
        |zone: &str| Arc::new(TimestampMicrosecondArray::from(vec![soon.timestamp_micros()]).with_timezone(zone)) as ArrayRef;
    lake.parquet("t.parquet", &batch(vec![("b", zoned("Europe/Berlin")), ("u", zoned("UTC")), ("a", zoned("-05:00"))]));
    for condition in ["b < now()", "u < now()", "a < now()", "b = u and a = u", "b > now() - interval '1 hour'"] {
        let query = Query { filter: Some(condition.into()), ..lake.from("t") };
        assert_eq!(rows(&query).await.len(), 1, "{condition}");
    }
    let query = lake.sql("t", "select cast('2024-01-01 00:00:00+00' as timestamptz) as t from src");
    assert!(columns(&query).await.starts_with("t:Timestamp(ns, \"+00:00\")"), "{}", columns(&query).await);
    assert_eq!(rows(&query).await, ["2024-01-01T00:00:00Z"]);
}
