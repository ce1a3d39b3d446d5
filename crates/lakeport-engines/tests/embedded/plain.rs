//! Which queries are plain reads that a loader can do itself.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use lakeport::source::{Comparison, Literal, PlainScan, PlainSource, Predicate, Query};

use crate::lake::{Lake, batch, open};

fn lake() -> Lake {
    let lake = Lake::new();
    let rows = |shift: i32| -> Vec<(&str, ArrayRef)> {
        vec![
            ("id", Arc::new(Int32Array::from(vec![1 + shift, 2 + shift]))),
            ("name", Arc::new(StringArray::from(vec!["x", "y"]))),
            ("day", Arc::new(Date32Array::from(vec![19_000, 19_001]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]))),
            ("price", Arc::new(Decimal128Array::from(vec![100, 250]).with_precision_and_scale(10, 2).unwrap())),
            ("f", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
            ("ok", Arc::new(BooleanArray::from(vec![true, false]))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), None]))),
        ]
    };
    for month in 1..=3 {
        lake.parquet(&format!("t/month={month}/1.parquet"), &batch(rows(month * 10)));
        lake.parquet(&format!("t/month={month}/2.parquet"), &batch(rows(month * 10 + 5)));
    }
    lake.text("c.csv", "id\n1\n");
    lake
}

async fn plain(lake: &Lake, sql: &str) -> Result<PlainScan, String> {
    open(&lake.sql("t", sql)).await.unwrap().plain
}

fn file(name: &str) -> PlainSource {
    PlainSource::File(name.to_owned())
}

#[tokio::test]
async fn columns_and_simple_conditions_are_plain() {
    let lake = lake();
    let scan =
        plain(&lake, "select month as m, id, name title from src where id > 12 and name <> 'x' and month <> 3").await.unwrap();
    let columns: Vec<_> = scan.columns.iter().map(|c| (c.name.as_str(), c.source.clone())).collect();
    assert_eq!(columns, [("m", PlainSource::Partition(0)), ("id", file("id")), ("title", file("name"))]);
    assert_eq!(scan.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["month=1", "month=2"]);
    assert_eq!(scan.groups[1].values, [Literal::Int(2)]);
    assert_eq!(scan.groups[1].files.len(), 2);
    assert!(scan.groups.iter().flat_map(|g| &g.files).all(|f| f.is_absolute() && f.is_file()));
    assert_eq!(scan.rows, 8);
    let text = format!("{:?}", scan.filter.unwrap());
    assert_eq!(text.matches("File(\"id\"), Gt, Int(12)").count(), 1, "{text}");
    assert!(text.contains("File(\"name\"), NotEq, Text(\"x\")") && text.contains("Partition(0), NotEq, Int(3)"), "{text}");
}

#[tokio::test]
async fn each_shape_of_condition_is_told() {
    let lake = lake();
    let one =
        |filter: &str| Query { filter: Some(filter.to_owned()), ..lake.sql("t", "select id, ok, day, price, at, name from src") };
    for (filter, expected) in [
        ("day >= date '2022-01-08'", Predicate::Compare(file("day"), Comparison::GtEq, Literal::Date(19_000))),
        ("price < 2.50", Predicate::Compare(file("price"), Comparison::Lt, Literal::Decimal(250, 2))),
        ("at = timestamp '1970-01-01 00:00:00.000001'", Predicate::Compare(file("at"), Comparison::Eq, Literal::Timestamp(1))),
        ("5 < id", Predicate::Compare(file("id"), Comparison::Gt, Literal::Int(5))),
        ("ok", Predicate::Compare(file("ok"), Comparison::Eq, Literal::Bool(true))),
        ("name is not null", Predicate::IsNotNull(file("name"))),
        (
            "name in ('a', 'b', 'c', 'd', 'e')",
            Predicate::In(file("name"), ["a", "b", "c", "d", "e"].map(|t| Literal::Text(t.into())).to_vec()),
        ),
    ] {
        let scan = open(&one(filter)).await.unwrap().plain;
        assert_eq!(scan.unwrap().filter, Some(expected), "{filter}");
    }
}

#[tokio::test]
async fn everything_else_says_why_not() {
    let lake = lake();
    for (sql, reason) in [
        ("select id + 1 from src", "computes"),
        ("select cast(id as bigint) id from src", "computes"),
        ("select id from src order by id", "sorts"),
        ("select id from src limit 3", "limit"),
        ("select distinct id from src", "aggregates"),
        ("select count(*) from src", "aggregates"),
        ("select a.id from src a join src b on a.id = b.id", "join"),
        ("select id from src union all select id from src", "union"),
        ("select id, row_number() over (order by id) from src", "window"),
        ("select id from src where name > 'a'", "name"),
        ("select id from src where name like 'a%b'", "LIKE"),
        ("select id from src where f > 0.5", "f"),
        ("select id from src where id % 2 = 0", "computes"),
        ("select list from src", "`list` is of type List"),
    ] {
        let why = plain(&lake, sql).await.unwrap_err();
        assert!(why.contains(reason), "{sql}: {why}");
    }
    let why = open(&lake.from("c")).await.unwrap().plain.unwrap_err();
    assert_eq!(why, "the source is csv, not Parquet");
    let all: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    lake.parquet("big.parquet", &batch(vec![("big", all), ("id", Arc::new(Int32Array::from(vec![1])))]));
    let why = open(&lake.sql("big", "select id from src")).await.unwrap().plain.unwrap_err();
    assert!(why.contains("`big` is of type UInt64"), "hyperd refuses the whole file: {why}");
    let limited = Query { limit: Some(1), ..lake.sql("t", "select id from src") };
    assert!(open(&limited).await.unwrap().plain.unwrap_err().contains("limit"));
    lake.parquet("t/month=1/3.parquet", &batch(vec![("id", Arc::new(Int64Array::from(vec![1])))]));
    assert!(plain(&lake, "select id from src").await.unwrap_err().contains("different schemas"));
}
