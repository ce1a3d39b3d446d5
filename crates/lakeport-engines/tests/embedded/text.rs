//! CSV and NDJSON: types from every row, values unchanged.

use std::io::Write;
use std::process::{Command, Stdio};

use lakeport::source::Query;

use crate::lake::{Lake, columns, open, rows, set};

/// Packs with the tool people use, so that not the library under test decides what an archive is.
fn packed(tool: &str, text: &str) -> Option<Vec<u8>> {
    let mut child = Command::new(tool).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take()?.write_all(text.as_bytes()).ok()?;
    Some(child.wait_with_output().ok()?.stdout)
}

#[tokio::test]
async fn a_late_row_decides_the_type_too() {
    let lake = Lake::new();
    let mut text = String::from("id,n,f,d,t,flag,nothing,zip\n");
    for i in 0..20_000 {
        text += &format!("{i},{i},{i},2024-01-31,2024-01-31 10:00:00,true,,01234\n");
    }
    lake.text("whole.csv", &text);
    assert_eq!(
        columns(&lake.from("whole")).await,
        "id:Int64 n:Int64 f:Int64 d:Date32 t:Timestamp(µs) flag:Boolean nothing:Utf8 zip:Utf8"
    );
    text += "20000,x,2.5,2024-02-30,2024-01-31 10:00:00Z,1,,5\n";
    lake.text("late.csv", &text);
    assert_eq!(columns(&lake.from("late")).await, "id:Int64 n:Utf8 f:Float64 d:Utf8 t:Utf8 flag:Utf8 nothing:Utf8 zip:Utf8");
    let table = open(&lake.from("late")).await.unwrap();
    assert_eq!(table.snapshot.rows, Some(20_001));
    let last = Query { filter: Some("id = 20000".into()), ..lake.from("late") };
    assert_eq!(rows(&last).await, ["20000|x|2.5|2024-02-30|2024-01-31 10:00:00Z|1|∅|5"]);
}

#[tokio::test]
async fn csv_values_arrive_as_they_are() {
    let lake = Lake::new();
    lake.text(
        "t.csv",
        "\u{feff}a,text,stamp,when,f,d\r\n\
         9223372036854775807,\"x,\"\"y\"\"\r\nz\",0001-01-01 00:00:00,2024-01-01T00:00:00.5+02:00,-0.0,0001-01-01\r\n\
         -1,\"\",9999-12-31 23:59:59.999999,2024-01-01T00:00:00Z,1e-300,9999-12-31",
    );
    assert_eq!(
        columns(&lake.from("t")).await,
        "a:Int64 text:Utf8 stamp:Timestamp(µs) when:Timestamp(µs, \"UTC\") f:Float64 d:Date32"
    );
    assert_eq!(
        rows(&lake.from("t")).await,
        [
            "9223372036854775807|x,\"y\"\r\nz|0001-01-01T00:00:00|2023-12-31T22:00:00.500Z|-0.0|0001-01-01",
            "-1||9999-12-31T23:59:59.999999|2024-01-01T00:00:00Z|1e-300|9999-12-31",
        ]
    );
}

#[tokio::test]
async fn a_quoted_text_without_letters_is_no_null() {
    let lake = Lake::new();
    lake.text("t/1.csv", "id,a,n,b\n1,\"\",\"\",\n2,,3,\"\"\n3,\"\"\"\",,\"x\"\n4,x,\"\",y\n");
    // In another order, and none in this one.
    lake.text("t/2.csv", "b,id\n\"\",5\n,6\n");
    lake.text("t/3.csv", "id,a\n7,\n");
    assert_eq!(columns(&lake.from("t")).await, "id:Int64 a:Utf8 n:Int64 b:Utf8");
    let all = ["1||∅|∅", "2|∅|3|", "3|\"|∅|x", "4|x|∅|y", "5|∅|∅|", "6|∅|∅|∅", "7|∅|∅|∅"];
    assert_eq!(set(&lake.from("t")).await, all);
    assert_eq!(set(&lake.sql("t", "select b, id from src where b = ''")).await, ["|2", "|5"]);
    assert_eq!(set(&lake.sql("t", "select id from src where a is null")).await, ["2", "5", "6", "7"]);
    assert_eq!(rows(&lake.sql("t", "select count(*), count(a), count(b) from src")).await, ["7|3|4"]);
    // Over many batches and pieces, whatever the ends of lines.
    let row = |i: usize| format!("{i},{},\"{}\"\r\n", if i.is_multiple_of(3) { "" } else { "\"\"" }, "y".repeat(i % 50));
    lake.text("big.csv", &format!("id,e,t\r\n{}", (0..60_000).map(row).collect::<String>()));
    let counted = lake.sql("big", "select count(*), count(e), count(t), sum(case when t = '' then 1 else 0 end) from src");
    assert_eq!(rows(&counted).await, ["60000|40000|60000|1200"]);
    let some = lake.sql("big", "select count(*) from src where e = '' and id % 3 = 0");
    assert_eq!(rows(&some).await, ["0"]);
}

#[tokio::test]
async fn csv_columns_are_matched_by_name() {
    let lake = Lake::new();
    lake.text("t/y=1/1.csv", "a,b\n1,x\n");
    lake.text("t/y=2/2.csv", "b,a,c\ny,2,3.5\n");
    lake.text("t/y=3/3.csv", "");
    assert_eq!(columns(&lake.from("t")).await, "a:Int64 b:Utf8 c:Float64 y:Int32");
    assert_eq!(set(&lake.from("t")).await, ["1|x|∅|1", "2|y|3.5|2"]);
    assert_eq!(set(&lake.sql("t", "select c, a + 1 from src where y = 2")).await, ["3.5|3"]);
    assert_eq!(rows(&lake.sql("t", "select count(*) from src")).await, ["2"]);
    assert_eq!(set(&lake.sql("t", "select y from src")).await, ["1", "2"]);
}

#[tokio::test]
async fn packed_text_is_read_to_its_last_part() {
    let lake = Lake::new();
    for (tool, suffix) in [("gzip", "gz"), ("zstd", "zst")] {
        let (Some(mut first), Some(second)) = (packed(tool, "a,b\n1,x\n"), packed(tool, "2,y\n")) else {
            eprintln!("{tool} is not installed, its archives are not tried");
            continue;
        };
        // Two archives one after the other are one archive.
        first.extend(second);
        lake.bytes(&format!("{suffix}/1.csv.{suffix}"), &first);
        lake.text(&format!("{suffix}/2.csv"), "a,b\n3,z\n");
        assert_eq!(set(&lake.from(suffix)).await, ["1|x", "2|y", "3|z"], "{suffix}");
        let json = packed(tool, "{\"a\": 1}\n").unwrap();
        lake.bytes(&format!("j.ndjson.{suffix}"), &json);
        assert_eq!(rows(&lake.from(&format!("j.ndjson.{suffix}"))).await, ["1"]);
    }
}

#[tokio::test]
async fn ndjson_keeps_what_it_cannot_number() {
    let lake = Lake::new();
    lake.text("t/1.json", "{\"id\": 1, \"big\": 12345678901234567890, \"s\": {\"x\": 1, \"l\": [1, 2.5]}}\n\n");
    lake.text("t/2.json", "{\"mix\": \"x\", \"id\": 2, \"d\": \"2024-01-31\"}\n{\"mix\": 1.50, \"big\": 2, \"b\": true}");
    assert_eq!(
        columns(&lake.sql("t", "select id, big, mix, d, b from src")).await,
        "id:Int64 big:Utf8 mix:Utf8 d:Utf8 b:Boolean"
    );
    assert_eq!(
        set(&lake.sql("t", "select id, big, mix, d, b from src")).await,
        ["1|12345678901234567890|∅|∅|∅", "2|∅|x|2024-01-31|∅", "∅|2|1.50|∅|true"]
    );
    assert_eq!(rows(&lake.sql("t", "select count(*) from src")).await, ["3"]);
    assert_eq!(rows(&lake.sql("t", "select s from src where id = 1")).await, ["{x: 1, l: [1.0, 2.5]}"]);
    assert_eq!(open(&lake.from("t")).await.unwrap().snapshot.rows, Some(3));
}
