//! The battery of file formats: every format that `lakeport formats` says is written passes every statement here.
//!
//! What a file holds is told by a reader of somebody else's (`readers.py`); a format without one fails.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Desk, Done, judge};

/// A format as it describes itself.
struct Format {
    name: String,
    /// Where its files go: apart from the sources, which are Parquet, too.
    file: String,
    /// It holds lines of text and nothing else: the one exception, known by name.
    lines_only: bool,
    reads: bool,
}

/// Every format that is written, as the registry lists them.
fn all(desk: &Desk) -> Vec<Format> {
    let formats = desk.run(&["formats", "--json"]).ok().json()["formats"].take();
    let written = formats.as_array().unwrap().iter().filter(|f| f["write"] == true);
    let all: Vec<_> = written
        .map(|f| Format {
            name: f["name"].as_str().unwrap().to_owned(),
            file: format!("out/t.{}", f["extensions"][0].as_str().unwrap()),
            lines_only: f["name"] == "text",
            reads: f["read"] == true,
        })
        .collect();
    assert!(all.len() >= 8, "{formats}");
    all
}

impl Format {
    fn convert(&self, desk: &Desk, from: &str, more: &[&str]) -> Done {
        desk.run(&[&["convert", from, &self.file, "--verify", "full", "--json"], more].concat())
    }

    /// Converts and hands out the report; what arrived is what left.
    #[track_caller]
    fn kept(&self, desk: &Desk, from: &str, more: &[&str]) -> Value {
        let report = self.convert(desk, from, more).ok().json();
        let table = &report["tables"][0];
        assert_eq!(table["left"], table["arrived"], "{}", self.name);
        assert!(table["left"]["rows"] == table["rows"] && report["file"]["bytes"].is_u64(), "{}: {table}", self.name);
        report
    }

    /// Asserts an end with this exit code, an error in one JSON document, and nothing under the name.
    #[track_caller]
    fn refused(&self, desk: &Desk, from: &str, more: &[&str], exit: i32) -> String {
        let done = self.convert(desk, from, more);
        assert_eq!(done.code, exit, "{}: {}{}", self.name, done.stdout, done.stderr);
        let error = &done.json()["error"];
        assert!(!error["help"].as_str().unwrap().is_empty(), "{}: {error}", self.name);
        assert!(!self.at(desk).exists(), "{} leaves a file after a refusal", self.name);
        error["code"].as_str().unwrap().to_owned()
    }

    fn at(&self, desk: &Desk) -> PathBuf {
        desk.path().join(&self.file)
    }

    /// Rows and names, as a reader that Lakeport did not write gives them.
    #[track_caller]
    fn read_by_others(&self, desk: &Desk) -> (Value, Value) {
        let mut told: Value = serde_json::from_str(&judge(desk, "batteries/readers", &[&self.file])).unwrap();
        (told["names"].take(), told["rows"].take())
    }

    /// What `describe` tells of a file of this format: names and rows.
    #[track_caller]
    fn described(&self, desk: &Desk) -> (Value, Value) {
        let told = desk.run(&["describe", &self.file, "--json"]).ok().json();
        let table = if told["tables"].is_array() { &told["tables"][0] } else { &told };
        let names = table["columns"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        let rows = if table["rows"].is_null() { &told["snapshot"]["rows"] } else { &table["rows"] };
        (names, rows.clone())
    }
}

/// The names a plan gives the columns in the target.
fn planned(report: &Value) -> Value {
    report["plan"]["tables"][0]["columns"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect()
}

#[test]
fn what_left_is_what_others_read() {
    let desk = Desk::new();
    let long = "n".repeat(200);
    let odd = format!(
        "{{'id': pa.array([1, 2, 3], pa.int32()), {long:?}: ['x', None, 'y'], 'a \"b\" \\'c\\', d': ['ü \"q\"; z', 'line\\none', None], '😀 é': [7, None, -1]}}"
    );
    desk.parquet("odd.parquet", &odd);
    desk.parquet("lines.parquet", "{'line': ['1, x', '2 \"q\" ü', '3 😀']}");
    for format in all(&desk) {
        let (from, expected) = if format.lines_only {
            ("lines.parquet", json!([["1, x"], ["2 \"q\" ü"], ["3 😀"]]))
        } else {
            let rows = json!([["1", "x", "ü \"q\"; z", "7"], ["2", null, "line\none", null], ["3", "y", null, "-1"]]);
            ("odd.parquet", rows)
        };
        let report = format.kept(&desk, from, &[]);
        let (names, rows) = format.read_by_others(&desk);
        assert_eq!(rows, expected, "{}", format.name);
        assert!(names.is_null() || names == planned(&report), "{}: {names}", format.name);
        if format.reads {
            assert_eq!(format.described(&desk), (planned(&report), json!(3)), "{}", format.name);
        }
    }
}

#[test]
fn zero_rows_keep_their_columns_and_one_row_is_a_table() {
    let desk = Desk::new();
    desk.parquet("none.parquet", "pa.table({'a': pa.array([], pa.string()), 'b': pa.array([], pa.int64())})");
    desk.parquet("one.parquet", "{'a': ['x'], 'b': [1]}");
    for format in all(&desk) {
        for (from, rows) in [("none.parquet", 0), ("one.parquet", 1)] {
            let only: &[&str] = if format.lines_only { &["--types", "b=drop"] } else { &[] };
            let report = format.kept(&desk, from, only);
            assert_eq!(report["tables"][0]["rows"], rows, "{}", format.name);
            let (names, there) = format.read_by_others(&desk);
            assert_eq!(there.as_array().unwrap().len(), rows, "{}", format.name);
            // A file of nothing but rows has no columns without them.
            if format.reads && !names.is_null() {
                assert_eq!(format.described(&desk), (planned(&report), json!(rows)), "{}", format.name);
            }
        }
    }
}

#[test]
fn no_columns_are_refused() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': [1]}");
    for format in all(&desk) {
        assert_eq!(format.refused(&desk, "t.parquet", &["--types", "a=drop"], 6), "E201", "{}", format.name);
    }
}

#[test]
fn two_thousand_columns() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{f'column {i}': pa.array([i if i % 3 else None], pa.int32()) for i in range(2000)}");
    for format in all(&desk) {
        if format.lines_only {
            assert_eq!(format.refused(&desk, "t.parquet", &[], 2), "E127");
        } else {
            let report = format.kept(&desk, "t.parquet", &[]);
            assert_eq!(report["tables"][0]["left"]["columns"].as_array().unwrap().len(), 2000, "{}", format.name);
        }
    }
}

#[test]
fn equal_names_are_refused_and_names_that_differ_in_case_told_apart() {
    let desk = Desk::new();
    let twice = "pa.Table.from_arrays([pa.array(['x']), pa.array(['y'])], names=['a', 'a'])";
    desk.python(&format!("import pyarrow as pa, pyarrow.parquet as pq; pq.write_table({twice}, 'twice.parquet')"));
    desk.parquet("case.parquet", "{'Id': [1], 'id': [2]}");
    for format in all(&desk) {
        assert_eq!(format.refused(&desk, "twice.parquet", &[], 6), "E202", "{}", format.name);
        if !format.lines_only {
            if format.convert(&desk, "case.parquet", &[]).code == 6 {
                // Where such names are one, they are refused as equal ones are.
                assert_eq!(format.refused(&desk, "case.parquet", &[], 6), "E202", "{}", format.name);
                continue;
            }
            let report = format.kept(&desk, "case.parquet", &[]);
            let (names, rows) = format.read_by_others(&desk);
            assert_eq!((&names, &rows), (&planned(&report), &json!([["1", "2"]])), "{}", format.name);
            assert_ne!(names[0], names[1], "{}", format.name);
        }
    }
}

#[test]
fn a_column_of_nothing_but_null() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': [1, 2, 3], 'n': pa.array([None] * 3, pa.int64()), 't': pa.array([None] * 3, pa.string())}");
    desk.parquet("line.parquet", "{'t': pa.array([None], pa.string())}");
    for format in all(&desk) {
        if format.lines_only {
            // A line is a text, if an empty one; NULL would arrive as something else.
            assert_eq!(format.refused(&desk, "line.parquet", &[], 6), "E204");
            continue;
        }
        let report = format.kept(&desk, "t.parquet", &[]);
        for column in [1, 2] {
            assert_eq!(report["tables"][0]["arrived"]["columns"][column]["nulls"], 3, "{}", format.name);
        }
        let rows = json!([["1", null, null], ["2", null, null], ["3", null, null]]);
        assert_eq!(format.read_by_others(&desk).1, rows, "{}", format.name);
    }
}

#[test]
fn several_partitions_of_several_batches_arrive_whole() {
    let desk = Desk::new();
    for part in 0..3 {
        let values = format!("[str(i) for i in range({part} * 20000, {part} * 20000 + 20000)]");
        desk.parquet(&format!("t/part={part}/x.parquet"), &format!("{{'s': {values}}}"));
    }
    for format in all(&desk) {
        let only: &[&str] = if format.lines_only { &["--types", "part=drop"] } else { &[] };
        let report = format.kept(&desk, "t", &[only, &["--route", "streamed"]].concat());
        let partitions = report["tables"][0]["partitions"].as_array().unwrap();
        let rows: u64 = partitions.iter().map(|p| p["rows"].as_u64().unwrap()).sum();
        assert!(partitions.len() > 1 && rows == 60_000, "{}: {partitions:?}", format.name);
        let mut there: Vec<u64> = format
            .read_by_others(&desk)
            .1
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row[0].as_str().unwrap().parse().unwrap())
            .collect();
        there.sort_unstable();
        assert!(there.into_iter().eq(0..60_000), "{}", format.name);
    }
}

#[test]
fn what_a_plan_refuses_no_run_writes() {
    let desk = Desk::new();
    let columns = "'list': [[1, 2]], 'map': pa.array([[('a', 1)]], pa.map_(pa.string(), pa.int64())), 'struct': [{'x': 1}], 'wide': \
                   pa.array([decimal.Decimal('1.5')], pa.decimal256(76, 4)), 'big': pa.array([7], pa.uint64())";
    desk.parquet("t.parquet", &format!("(lambda decimal: {{{columns}}})(__import__('decimal'))"));
    let mut refusing = 0;
    for format in all(&desk).into_iter().filter(|f| !f.lines_only) {
        let done = desk.run(&["plan", "--from", "t.parquet", "--to", &format.file, "--json"]);
        let plan = &done.json()["plans"][0];
        let of = |verdict: &str| {
            let columns = plan["tables"][0]["columns"].as_array().unwrap().iter();
            columns.filter(|c| c["verdict"] == verdict).map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (refused, lossy) = (of("refused"), of("lossy"));
        assert_eq!(plan["accepted"] == true, refused.is_empty() && lossy.is_empty(), "{}: {plan}", format.name);
        if plan["accepted"] == true {
            format.kept(&desk, "t.parquet", &[]);
            continue;
        }
        refusing += 1;
        let code = format.refused(&desk, "t.parquet", &[], 6);
        assert!(["E203", "E206"].contains(&code.as_str()), "{}: {code}", format.name);
        // Left out by wish, the others go.
        let wishes: Vec<_> = refused.iter().chain(&lossy).map(|c| format!("{c}=drop")).collect();
        let drops: Vec<_> = wishes.iter().flat_map(|w| ["--types", w]).collect();
        if wishes.len() < 5 {
            format.kept(&desk, "t.parquet", &drops);
        }
    }
    assert!(refusing >= 3, "hardly a format refuses anything: {refusing}");
}

#[test]
fn a_value_that_does_not_fit_stops_the_run_or_is_counted() {
    let desk = Desk::new();
    let columns = [
        ("nanos", "pa.array([1000, 1001, None], pa.timestamp('ns'))"),
        ("nan", "[1.5, float('nan'), None]"),
        ("early", "pa.array([0, -719162, None], pa.date32())"),
        ("fine", "pa.array([0, 86399999999999, None], pa.time64('ns'))"),
        ("digits", "[1, 2**63 - 1, None]"),
    ];
    let mut counting = 0;
    for (name, values) in columns {
        desk.parquet(&format!("{name}.parquet"), &format!("{{'id': pa.array([1, 2, 3], pa.int32()), '{name}': {values}}}"));
    }
    for format in all(&desk).into_iter().filter(|f| !f.lines_only) {
        for (name, _) in columns {
            let from = format!("{name}.parquet");
            let plain = format.convert(&desk, &from, &[]);
            let accepted = format!("--lossy={name}");
            if plain.code == 0 {
                assert_eq!(plain.json()["tables"][0]["changed_values"], json!({}), "{} {name}", format.name);
                let with = format.kept(&desk, &from, &[&accepted]);
                assert_eq!(with["tables"][0]["changed_values"], json!({}), "{} {name}: consent changes nothing", format.name);
                std::fs::remove_file(format.at(&desk)).or_else(|_| std::fs::remove_dir_all(format.at(&desk))).unwrap();
                continue;
            }
            assert_eq!(plain.code, 6, "{} {name}: {}", format.name, plain.stdout);
            assert!(!format.at(&desk).exists(), "{} {name}", format.name);
            let with = format.convert(&desk, &from, &[&accepted]);
            if with.code == 6 {
                continue;
            }
            let report = with.ok().json();
            let changed = report["tables"][0]["changed_values"][name].as_u64();
            assert!(changed == Some(1) || changed == Some(2), "{} {name}: {report}", format.name);
            assert_eq!(report["tables"][0]["left"], report["tables"][0]["arrived"], "{} {name}", format.name);
            counting += 1;
            std::fs::remove_file(format.at(&desk)).or_else(|_| std::fs::remove_dir_all(format.at(&desk))).unwrap();
        }
    }
    assert!(counting >= 4, "hardly a value was changed with consent: {counting}");
}

#[test]
fn a_cell_of_fifty_megabytes() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'n': [1, 2], 't': ['é' * 25_000_000, 'x']}");
    let mut kept = 0;
    for format in all(&desk) {
        let only: &[&str] = if format.lines_only { &["--types", "n=drop"] } else { &[] };
        let done = format.convert(&desk, "t.parquet", only);
        if done.code == 0 {
            kept += 1;
            assert_eq!(done.json()["tables"][0]["left"], done.json()["tables"][0]["arrived"], "{}", format.name);
        } else {
            // A format whose cells end earlier says so and writes nothing.
            assert_eq!((done.code, &done.json()["error"]["code"]), (6, &json!("E204")), "{}", format.name);
            assert!(done.stdout.contains("25000000"), "{}: {}", format.name, done.stdout);
            assert!(!format.at(&desk).exists(), "{}", format.name);
        }
    }
    assert!(kept >= 7, "{kept}");
}

#[test]
fn create_leaves_what_is_there() {
    let desk = Desk::new();
    desk.parquet("one.parquet", "{'a': ['x']}");
    desk.parquet("two.parquet", "{'a': ['x', 'y']}");
    for format in all(&desk) {
        format.kept(&desk, "one.parquet", &["--mode", "create"]);
        let before = format.read_by_others(&desk);
        let done = format.convert(&desk, "two.parquet", &["--mode", "create"]);
        assert_eq!((done.code, &done.json()["error"]["code"]), (2, &json!("E129")), "{}", format.name);
        assert_eq!(format.read_by_others(&desk), before, "{}", format.name);
        format.kept(&desk, "two.parquet", &[]);
        assert_eq!(format.read_by_others(&desk).1, json!([["x"], ["y"]]), "{}: a full run replaces", format.name);
    }
}

#[test]
fn a_killed_run_leaves_the_old_or_the_new() {
    let desk = Desk::new();
    desk.parquet("old.parquet", "{'id': pa.array([0], pa.int32()), 's': ['what was there']}");
    desk.parquet("t.parquet", "{'id': pa.array(range(300_000), pa.int32()), 's': ['some text of a row'] * 300_000}");
    for format in all(&desk) {
        let only: &[&str] = if format.lines_only { &["--types", "id=drop"] } else { &[] };
        format.kept(&desk, "old.parquet", only);
        let args = [&["convert", "t.parquet", &format.file], only].concat();
        let mut child = desk.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(350));
        child.kill().unwrap();
        child.wait().unwrap();
        // What ran out before its kill has left the new one.
        let rows = if format.reads {
            format.described(&desk).1
        } else {
            format.read_by_others(&desk).1.as_array().unwrap().len().into()
        };
        assert!(rows == 1 || rows == 300_000, "{}: {rows} rows", format.name);
        // Again, over whatever the kill left.
        desk.run(&args).ok();
    }
    let left: Vec<_> = desk.files().into_iter().filter(|f| f.contains(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}
