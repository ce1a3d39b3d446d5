//! The value battery: what pyarrow wrote is what tableauhyperapi and pantab read.

use crate::support::{Desk, judge};

fn torture(desk: &Desk, args: &[&str]) -> String {
    judge(desk, "torture", args)
}

#[test]
fn every_type_and_edge_arrives_as_it_left() {
    let desk = Desk::new();
    torture(&desk, &["make", "."]);
    let wishes = ["list_json=json", "map_json=json", "struct_json=json", "struct_flat=flatten"];
    let mut args = vec!["convert", "all.parquet", "all.hyper", "--verify", "full"];
    wishes.iter().for_each(|w| args.extend(["--types", w]));
    desk.run(&args).ok().says("every value");
    print!("{}", torture(&desk, &["compare", "all.hyper", "all"]));
}

#[test]
fn both_routes_give_the_same_values() {
    let desk = Desk::new();
    torture(&desk, &["make", "."]);
    for route in ["direct", "streamed"] {
        let file = format!("{route}.hyper");
        let done = desk.run(&["convert", "plain.parquet", &file, "--route", route, "--verify", "full", "--json"]).ok().json();
        assert_eq!(done["plan"]["tables"][0]["route"], route);
        assert_eq!(done["tables"][0]["left"], done["tables"][0]["arrived"]);
        print!("{route}: {}", torture(&desk, &["compare", &file, "plain"]));
    }
}

#[test]
fn fingerprints_of_both_routes_agree() {
    // Taken by Lakeport over the stream, and by hyperd over the source files: two implementations of one definition.
    let desk = Desk::new();
    torture(&desk, &["make", "."]);
    let print = |route: &str| {
        let done = desk.run(&["convert", "plain.parquet", "x.hyper", "--route", route, "--json"]).ok().json();
        done["tables"][0]["left"].clone()
    };
    assert_eq!(print("direct"), print("streamed"));
}

#[test]
fn the_lowest_file_format_version_is_written() {
    let desk = Desk::new();
    desk.parquet("two.parquet", "{'a': pa.array([1])}");
    desk.parquet("three.parquet", "{'a': pa.array([1], pa.decimal128(38, 0))}");
    for (file, version) in [("two", "2"), ("three", "3")] {
        let plan = desk.run(&["plan", "--from", &format!("{file}.parquet"), "--to", "x.hyper", "--json"]).ok().json();
        assert_eq!(plan["plans"][0]["tables"][0]["facts"]["hyper_version"], version);
    }
}

#[test]
fn values_finer_than_the_type_stop_the_run_unless_accepted() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': pa.array([1, 2, 3]), 'at': pa.array([1000, 1001, None], pa.timestamp('ns'))}");
    desk.run(&["convert", "t.parquet", "t.hyper"]).fails(6, "E204").says("column `at`").says("--lossy=at");
    assert!(!desk.path().join("t.hyper").exists());
    let done = desk.run(&["convert", "t.parquet", "t.hyper", "--lossy=at", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ "at": 1 }));
    let rows = desk.rows("t.hyper", "1");
    assert_eq!(rows[1][1], "1970-01-01 00:00:00.000001");
    assert!(rows[2][1].is_null());
}

#[test]
fn dates_outside_of_the_calendar_stop_the_run() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'d': pa.array([0, 2932897], pa.date32())}");
    desk.run(&["convert", "t.parquet", "t.hyper", "--route", "streamed"]).fails(6, "E204").says("9999-12-31");
}

#[test]
fn a_wide_decimal_needs_file_format_3_or_consent() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'amount': pa.array([1], pa.decimal128(38, 10))}");
    desk.write("lakeport.toml", "[env.out]\ntype = \"store\"\nroot = \"out\"\nhyper_version = 2\n");
    desk.run(&["run", "--from", "t.parquet", "--to", "out:t.hyper"])
        .fails(6, "E206")
        .says("column `amount` cannot be kept exactly")
        .says("caused by: decimal(38,10) needs hyper file format 3, the environment allows 2")
        .says("hyper_version = 3");
    desk.run(&["plan", "--from", "t.parquet", "--to", "out:t.hyper"]).fails(6, "E206").says("lossy");
    let plan = desk.run(&["plan", "--from", "t.parquet", "--to", "out:t.hyper", "--json"]).json();
    assert_eq!((&plan["exit_code"], &plan["plans"][0]["tables"][0]["columns"][0]["verdict"]), (&6.into(), &"lossy".into()));
    desk.run(&["run", "--from", "t.parquet", "--to", "out:t.hyper", "--lossy"]).ok();
    desk.run(&["run", "--from", "t.parquet", "--to", "out:t.hyper", "--lossy=amount", "--types", "amount=double"]).ok();
}

#[test]
fn several_tables_with_keys_in_one_file() {
    let desk = Desk::new();
    desk.parquet("o.parquet", "pa.table({'id': [1, 2], 'c': ['a', 'b']})");
    desk.parquet("c.parquet", "pa.table({'c': ['a', 'b'], 'n': ['A', None]})");
    desk.write(
        "lakeport.toml",
        r#"
[job.shop]
to = "shop.hyper"
[job.shop.tables.orders]
from = "o.parquet"
primary_key = ["id"]
foreign_keys = [{ columns = ["c"], references = "customers" }]
[job.shop.tables.customers]
from = "c.parquet"
sql = "select * from src where c <> 'z'"
primary_key = ["c"]
"#,
    );
    desk.run(&["run", "shop"]).ok();
    let code = r#"
from tableauhyperapi import *
with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as h:
    with Connection(h.endpoint, "shop.hyper") as c:
        for t in sorted(c.catalog.get_table_names("Extract"), key=str):
            d = c.catalog.get_table_definition(t)
            print(t.name.unescaped, [(x.name.unescaped, x.nullability.name) for x in d.columns], c.execute_scalar_query(f"select count(*) from {t}"))
        print(c.execute_list_query("select contype from pg_catalog.pg_constraint order by 1"))
"#;
    let text = desk.python(code);
    assert!(text.contains("customers [('c', 'NOT_NULLABLE'), ('n', 'NULLABLE')] 2"), "{text}");
    assert!(text.contains("orders [('id', 'NOT_NULLABLE'), ('c', 'NULLABLE')] 2"), "{text}");
    assert!(text.contains("'f'") && text.contains("'p'"), "{text}");
}

#[test]
fn geographies_are_made_from_well_known_text_by_wish() {
    let desk = Desk::new();
    desk.write("g.csv", "id,at\n1,POINT(1 2)\n2,\n");
    desk.run(&["convert", "g.csv", "g.hyper", "--types", "at=geography"]).ok();
    desk.run(&["describe", "g.hyper"]).ok().says("geography").says("2 rows");
}

#[test]
fn geographies_are_made_from_well_known_binary_by_wish() {
    let desk = Desk::new();
    desk.write("g.csv", "id,wkb\n1,0101000000000000000000f03f0000000000000040\n2,\n");
    let sql = "select id, decode(wkb, 'hex') as at from src";
    desk.run(&["convert", "g.csv", "g.hyper", "--sql", sql, "--types", "at=geography"]).ok();
    desk.run(&["describe", "g.hyper"]).ok().says("geography").says("2 rows");
}

/// The numbers in the text that hyperd gives a geography, asked by the vendor's own reader.
fn coordinates(desk: &Desk, file: &str) -> Vec<Vec<f64>> {
    let code = format!(
        r#"
import json, re
from tableauhyperapi import *
with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={{"log_config": ""}}) as h:
    with Connection(h.endpoint, {file:?}) as c:
        rows = c.execute_list_query('select cast(at as text) from "Extract"."Extract" order by id')
        print(json.dumps([[float(n) for n in re.findall(r"-?\d+\.?\d*", t or "")] for (t,) in rows]))
"#
    );
    serde_json::from_str(&desk.python(&code)).unwrap()
}

#[test]
fn coordinates_of_geographies_arrive_to_the_digit() {
    let desk = Desk::new();
    let points =
        [[13.404_954, 52.520_008], [-179.999_999_9, -89.999_999_9], [0.1, -0.2], [180.0, 90.0], [-122.332_073_1, 47.606_209_1]];
    let list = points.map(|[x, y]| format!("({x}, {y})")).join(", ");
    desk.python(&format!(
        "import struct, pyarrow as pa, pyarrow.parquet as pq\n\
         points = [{list}]\n\
         wkb = [struct.pack('<BIdd', 1, 1, *p) for p in points] + [None]\n\
         wkt = [f'POINT({{x!r}} {{y!r}})' for x, y in points] + [None]\n\
         ids = list(range(len(wkb)))\n\
         pq.write_table(pa.table({{'id': ids, 'at': pa.array(wkb, pa.binary())}}), 'wkb.parquet')\n\
         pq.write_table(pa.table({{'id': ids, 'at': wkt}}), 'wkt.parquet')"
    ));
    for from in ["wkb", "wkt"] {
        let file = format!("{from}.hyper");
        desk.run(&["convert", &format!("{from}.parquet"), &file, "--types", "at=geography"]).ok();
        let read = coordinates(&desk, &file);
        assert_eq!(read[..5], points.map(Vec::from), "{from}");
        assert!(read[5].is_empty(), "a NULL stays one");
    }
    // Every corner of a polygon is among its points; hyperd adds others along the edges.
    desk.write("p.csv", "id,at\n1,\"POLYGON((0 0, 10.5 0.25, 10.1234567 10.9876543, 0 0))\"\n");
    desk.run(&["convert", "p.csv", "p.hyper", "--types", "at=geography"]).ok();
    let ring = coordinates(&desk, "p.hyper").remove(0);
    for corner in [[0.0, 0.0], [10.5, 0.25], [10.123_456_7, 10.987_654_3]] {
        assert!(ring.chunks(2).any(|p| p == corner), "{corner:?}");
    }
    // Finer ones are rounded: only with consent, and counted.
    desk.write("f.csv", "id,at\n1,POINT(13.404954123456 52.5)\n2,POINT(1 2)\n");
    desk.run(&["convert", "f.csv", "f.hyper", "--types", "at=geography"]).fails(6, "E204").says("7 decimals").says("--lossy=at");
    let done = desk.run(&["convert", "f.csv", "f.hyper", "--types", "at=geography", "--lossy=at", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ "at": 1 }));
    assert_eq!(coordinates(&desk, "f.hyper"), [[13.404_954_1, 52.5], [1.0, 2.0]]);
}

#[test]
fn an_interval_is_kept_as_iso_8601_text() {
    let desk = Desk::new();
    desk.write("a.csv", "id\n1\n");
    desk.run(&["convert", "a.csv", "a.hyper", "--sql", "select id, interval '14 months 3 days 4.5 seconds' as i from src"]).ok();
    assert_eq!(desk.rows("a.hyper", "1"), serde_json::json!([[1, "P1Y2M3DT4.5S"]]));
}

/// Writes old timestamps as Spark does: INT96, and nothing in the footer that says what the values were.
fn int96(desk: &Desk, name: &str, columns: &str, more: &str) {
    desk.python(&format!(
        "import datetime as dt, pyarrow as pa, pyarrow.parquet as pq\n\
         far = [dt.datetime(9999, 12, 31, 23, 59, 59, 999999), dt.datetime(1, 1, 1), dt.datetime(2024, 2, 29, 1, 2, 3, 4), None]\n\
         t = pa.table({columns})\n\
         pq.write_table(t, {name:?}, use_deprecated_int96_timestamps=True, **dict(dict(store_schema=False), {more}))\n\
         assert 'int96' in str(pq.ParquetFile({name:?}).schema)"
    ));
}

#[test]
fn old_timestamps_arrive_whatever_their_year() {
    let desk = Desk::new();
    let columns = "{'id': [1, 2, 3, 4], 'at': pa.array(far, pa.timestamp('us')), \
                   'all': pa.array([far, [], None, far[:1]], pa.list_(pa.timestamp('us'))), \
                   'in': pa.array([{'m': x} for x in far], pa.struct([('m', pa.timestamp('us'))]))}";
    int96(&desk, "t.parquet", columns, "row_group_size=2");
    int96(&desk, "old.parquet", columns, "use_compliant_nested_type=False");
    let plan =
        desk.run(&["plan", "--from", "t.parquet", "--to", "x.hyper", "--types", "all=drop", "--types", "in=drop", "--json"]);
    let plan = plan.ok().json();
    let table = &plan["plans"][0]["tables"][0];
    assert_eq!((&table["route"], &table["columns"][1]["verdict"]), (&"streamed".into(), &"exact".into()), "{table}");
    desk.run(&["convert", "t.parquet", "t.hyper", "--types", "all=drop", "--types", "in=drop", "--verify", "full"]).ok();
    let rows = desk.rows("t.hyper", "id");
    let at = ["9999-12-31 23:59:59.999999", "1-01-01 00:00:00", "2024-02-29 01:02:03.000004"];
    assert_eq!(rows, serde_json::json!([[1, at[0]], [2, at[1]], [3, at[2]], [4, null]]));
    // A condition is decided by the values, not by statistics that are about something else.
    let kept = desk.run(&["convert", "t.parquet", "k.hyper", "--sql", "select id from src where at > timestamp '2200-01-01'"]);
    kept.ok();
    assert_eq!(desk.rows("k.hyper", "1"), serde_json::json!([[1]]));
    for (from, to) in [("t.parquet", "new_t.parquet"), ("old.parquet", "new_old.parquet")] {
        desk.run(&["convert", from, to]).ok();
        let code = "import sys, pyarrow.parquet as pq\n\
                    read = lambda f: pq.read_table(f, coerce_int96_timestamp_unit='us').to_pylist()\n";
        desk.python(&format!("{code}assert read({from:?}) == read({to:?}), (read({from:?}), read({to:?}))"));
    }
}

#[test]
fn old_timestamps_finer_than_a_microsecond_are_never_cut() {
    let desk = Desk::new();
    let columns = "{'id': [1, 2, 3], 'at': pa.array([1000, 1001, None], pa.timestamp('ns'))}";
    int96(&desk, "t.parquet", columns, "");
    let done = desk.run(&["convert", "t.parquet", "t.hyper"]).fails(6, "E204");
    done.says("INT96").says("t.parquet").says("column at");
    // Who does not need the column is not stopped by it.
    desk.run(&["convert", "t.parquet", "t.hyper", "--sql", "select id from src"]).ok();
    int96(&desk, "even.parquet", "{'id': [1], 'at': pa.array([1000], pa.timestamp('ns'))}", "");
    desk.run(&["convert", "even.parquet", "even.hyper"]).ok();
    assert_eq!(desk.rows("even.hyper", "1"), serde_json::json!([[1, "1970-01-01 00:00:00.000001"]]));
    // Where the footer says that they are nanoseconds, they are read as such.
    int96(&desk, "noted.parquet", columns, "store_schema=True");
    desk.run(&["convert", "noted.parquet", "noted.hyper"]).fails(6, "E204").says("--lossy=at");
    let done = desk.run(&["convert", "noted.parquet", "noted.hyper", "--lossy=at", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ "at": 1 }));
}
#[test]
fn texts_that_say_more_than_the_type_stop_the_run_unless_accepted() {
    let desk = Desk::new();
    desk.parquet(
        "texts.parquet",
        "{'amount': ['007', '1.239', None], 'd': ['2024-01-31', '2024-01-31 23:00:00-05:00', None], \
          't': ['2024-01-31 10:00:00', '2024-01-31T10:00:00+05:00', None], 'x': ['1e3', '1234567890123456789', None]}",
    );
    let types = [("amount", "numeric(10,2)"), ("d", "date"), ("t", "timestamp"), ("x", "double")];
    for format in ["hyper", "parquet", "yxdb"] {
        let file = format!("t.{format}");
        for (column, wish) in types {
            let wish = format!("{column}={wish}");
            let select = format!("select {column} from src");
            let args = ["convert", "texts.parquet", &file, "--sql", &select, "--types", &wish];
            let refused = desk.run(&args).fails(6, "E204").says(&format!("column `{column}`"));
            refused.says(&format!("--lossy={column}"));
            assert!(!desk.path().join(&file).exists(), "{wish} to {file}");
            let lossy = format!("--lossy={column}");
            let done = desk.run(&[&args[..], &[&lossy, "--json"]].concat()).ok().json();
            assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ column: 1 }), "{wish} to {file}");
            std::fs::remove_file(desk.path().join(&file)).unwrap();
        }
    }
    let wishes: Vec<_> = types.iter().map(|(column, wish)| format!("{column}={wish}")).collect();
    let mut args = vec!["convert", "texts.parquet", "fits.hyper", "--where", "amount = '007'"];
    wishes.iter().for_each(|w| args.extend(["--types", w]));
    desk.run(&args).ok();
    assert_eq!(desk.rows("fits.hyper", "1"), serde_json::json!([["7", "2024-01-31", "2024-01-31 10:00:00", 1000.0]]));
}

#[test]
fn a_date_outside_of_the_calendar_never_takes_the_direct_route() {
    let desk = Desk::new();
    desk.parquet("late.parquet", "{'id': [1, 2], 'd': pa.array([0, 2932897], pa.date32())}");
    for more in [&[][..], &["--verify", "counts"], &["--verify", "none"], &["--where", "id > 1"]] {
        desk.run(&[&["convert", "late.parquet", "t.hyper"], more].concat()).fails(6, "E204").says("9999-12-31").says("--lossy=d");
        assert!(!desk.path().join("t.hyper").exists(), "{more:?}");
    }
    for verify in ["none", "counts", "fingerprint"] {
        let done = desk.run(&["convert", "late.parquet", "t.hyper", "--lossy=d", "--verify", verify, "--json"]).ok().json();
        assert_eq!(done["plan"]["tables"][0]["route"], "streamed", "{verify}");
        assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ "d": 1 }), "{verify}");
        assert_eq!(desk.rows("t.hyper", "1"), serde_json::json!([[1, "1970-01-01"], [2, null]]), "{verify}");
    }
    desk.run(&["convert", "late.parquet", "t.hyper", "--lossy=d", "--route", "direct"]).fails(2, "E127").says("column `d`");
    // Where the footers say that all is well, nothing is streamed; where they say nothing, it is.
    desk.python(
        "import pyarrow as pa, pyarrow.parquet as pq\n\
         t = pa.table({'d': pa.array([-719162, 2932896, None], pa.date32()), \
                       'at': pa.array([0, None, 253402300799999999], pa.timestamp('us')), \
                       'z': pa.array([None, 0, None], pa.timestamp('ms', 'UTC'))})\n\
         pq.write_table(t, 'fits.parquet')\n\
         pq.write_table(t, 'silent.parquet', write_statistics=False)",
    );
    for (file, route) in [("fits.parquet", "direct"), ("silent.parquet", "streamed")] {
        for more in [&[][..], &["--lossy"], &["--where", "at is not null"]] {
            let done = desk.run(&[&["convert", file, "t.hyper", "--json"], more].concat()).ok().json();
            assert_eq!(done["plan"]["tables"][0]["route"], route, "{file} {more:?}");
            assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({}), "{file} {more:?}");
        }
    }
}
