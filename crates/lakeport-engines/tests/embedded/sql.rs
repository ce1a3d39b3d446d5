//! SQL over one and many tables, conditions and limits.

use std::sync::Arc;

use arrow::array::{Int32Array, StringArray};
use lakeport::error::Kind;
use lakeport::source::Query;

use crate::lake::{Lake, batch, open, refused, rows, set};

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
