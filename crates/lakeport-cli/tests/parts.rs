//! One result in several files: what they hold together, how they are named, and that a set is there whole or not at all.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Desk;

/// The names below a directory, sorted.
fn names(desk: &Desk, directory: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(desk.path().join(directory)) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn manifest(desk: &Desk, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(desk.path().join(file)).unwrap()).unwrap()
}

/// Rows, distinct ids and the sum of ids of the files that the manifest names, by duckdb; each checked against its hash first.
#[track_caller]
fn judged(desk: &Desk, manifest: &str, read: &str) -> (u64, u64, u64) {
    let code = format!(
        r#"
import duckdb, hashlib, json, os
m = json.load(open({manifest:?}))
files = [os.path.join(os.path.dirname({manifest:?}), p["name"]) for p in m["parts"]]
for f, p in zip(files, m["parts"]):
    assert hashlib.sha256(open(f, "rb").read()).hexdigest() == p["sha256"] and os.path.getsize(f) == p["bytes"], f
assert m["rows"] == sum(p["rows"] for p in m["parts"])
print(json.dumps(duckdb.sql(f"select count(*), count(distinct id), sum(id)::bigint from {read}({{files!r}})").fetchall()[0]))
"#
    );
    let row: Vec<u64> = serde_json::from_str(&desk.python(&code)).unwrap();
    (row[0], row[1], row[2])
}

fn thousand(desk: &Desk) {
    desk.parquet("t.parquet", "{'id': range(1000), 's': [None if i % 7 == 0 else f'row {i}' for i in range(1000)]}");
}

#[test]
fn rows_are_counted_into_files_and_a_manifest_names_them() {
    let desk = Desk::new();
    thousand(&desk);
    let plan = desk.run(&["plan", "--from", "t.parquet", "--to", "out/orders.csv", "--split", "rows=300"]).ok();
    plan.says("split rows=300 · orders-00000-ID.csv, … · then _orders.csv.manifest.json");
    assert!(names(&desk, "out").is_empty());
    let args = ["run", "--from", "t.parquet", "--to", "out/orders.csv", "--split", "rows=300", "--verify", "full", "--json"];
    let done = desk.run(&args).ok().json();
    let rows: Vec<_> = done["parts"].as_array().unwrap().iter().map(|p| p["rows"].as_u64().unwrap()).collect();
    assert_eq!(rows, [300, 300, 300, 100]);
    assert_eq!(done["tables"][0]["left"], done["tables"][0]["arrived"]);
    assert_eq!(judged(&desk, "out/_orders.csv.manifest.json", "read_csv"), (1000, 1000, 499_500));
    let m = manifest(&desk, "out/_orders.csv.manifest.json");
    assert_eq!((&m["format"], &m["split"], &m["columns"][1]["name"]), (&"csv".into(), &"rows=300".into(), &"s".into()));
    let mut there: Vec<_> = m["parts"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect();
    assert!(there[0].starts_with("orders-00000-") && there[3].starts_with("orders-00003-"), "{there:?}");
    there.insert(0, "_orders.csv.manifest.json".into());
    assert_eq!(names(&desk, "out"), there);
    desk.run(&["report"]).ok().says(&there[4]).says("sha256");

    // The next set takes the place of this one, its neighbours stay.
    desk.write("out/orders-of-others.csv", "x");
    desk.run(&["run", "--from", "t.parquet", "--where", "id < 10", "--to", "out/orders.csv", "--split", "size=1MiB"])
        .ok()
        .says("1 file(s)");
    assert_eq!(names(&desk, "out").len(), 3);
    assert_eq!(judged(&desk, "out/_orders.csv.manifest.json", "read_csv"), (10, 10, 45));
    let mut again = args.to_vec();
    again.extend(["--mode", "create"]);
    desk.run(&again).fails_json(2);
    assert_eq!(judged(&desk, "out/_orders.csv.manifest.json", "read_csv"), (10, 10, 45));
    desk.write("out/_orders.csv.manifest.json", "{}");
    desk.run(&args[..args.len() - 1]).fails(2, "E129").says("no manifest of Lakeport");
}

#[test]
fn a_directory_of_parts_is_a_table_for_every_reader() {
    let desk = Desk::new();
    thousand(&desk);
    let to = |format: &str, more: &[&str]| {
        let directory = format!("{format}/");
        let mut args = vec!["run", "--from", "t.parquet", "--to", &directory, "--format", format, "--split", "rows=400"];
        args.extend(more);
        desk.run(&args).ok();
        assert_eq!(names(&desk, format).len(), 4, "{format}");
    };
    for format in ["parquet", "csv", "ndjson", "avro", "orc", "xlsx", "yxdb", "hyper"] {
        to(format, &[]);
    }
    assert_eq!(judged(&desk, "parquet/_manifest.json", "read_parquet"), (1000, 1000, 499_500));
    assert_eq!(judged(&desk, "ndjson/_manifest.json", "read_json"), (1000, 1000, 499_500));
    let code = "
import pyarrow.dataset as d, pyarrow.compute as c, fastavro, glob, openpyxl
for format in ('parquet', 'csv', 'orc'):
    t = d.dataset(format, format=format).to_table()
    print(format, t.num_rows, c.sum(t['id']).as_py())
print('avro', sum(r['id'] for f in glob.glob('avro/part-*.avro') for r in fastavro.reader(open(f, 'rb'))))
print('xlsx', sum(r[0] for f in glob.glob('xlsx/part-*.xlsx') for r in openpyxl.load_workbook(f).active.iter_rows(min_row=2, values_only=True)))
";
    let text = desk.python(code);
    assert_eq!(text, "parquet 1000 499500\ncsv 1000 499500\norc 1000 499500\navro 499500\nxlsx 499500\n");
    // Lakeport itself reads the directory as a table.
    desk.run(&["convert", "parquet/", "back.parquet"]).ok().says("1,000 rows");
    let done = desk
        .run(&["run", "--from", "t.parquet", "--where", "id < 0", "--to", "none/", "--format", "csv", "--split", "rows=5"])
        .ok();
    done.says("1 file(s)");
    desk.run(&["run", "--from", "t.parquet", "--to", "none/", "--split", "rows=5"]).fails(2, "E120").says("--format");
    desk.run(&["run", "--from", "t.parquet", "--to", "x.csv", "--split", "months"]).fails_usage("rows=1000000");
}

#[test]
fn partitions_make_a_file_each_and_sizes_end_them() {
    let desk = Desk::new();
    let column = "[__import__('random').Random(i).randbytes(600).hex() for i in range(20000)]";
    desk.parquet("big/a.parquet", &format!("{{'id': range(20000), 's': {column}}}"));
    desk.parquet("big/b.parquet", &format!("{{'id': range(20000, 40000), 's': {column}}}"));
    let done = desk
        .run(&[
            "run",
            "--from",
            "big/",
            "--to",
            "each/",
            "--format",
            "parquet",
            "--split",
            "partition",
            "--verify",
            "full",
            "--json",
        ])
        .ok()
        .json();
    let parts = done["parts"].as_array().unwrap();
    let partitions = done["tables"][0]["partitions"].as_array().unwrap().iter().filter(|p| p["rows"] != 0).count();
    assert_eq!(parts.len(), partitions);
    assert!(parts.iter().all(|p| p["partition"].is_string()), "{parts:?}");
    assert_eq!(judged(&desk, "each/_manifest.json", "read_parquet"), (40_000, 40_000, 799_980_000));
    for (format, extension, read) in [("csv", "csv", "read_csv"), ("ndjson", "ndjson.gz", "read_json")] {
        let file = format!("sized/big.{extension}");
        desk.run(&["run", "--from", "big/", "--to", &file, "--format", format, "--split", "size=4MiB"]).ok();
        let name = format!("sized/_big.{extension}.manifest.json");
        let m = manifest(&desk, &name);
        let sizes: Vec<_> = m["parts"].as_array().unwrap().iter().map(|p| p["bytes"].as_u64().unwrap()).collect();
        assert!(sizes.len() > 4, "{sizes:?}");
        // A file ends within a step of 1,024 rows, of some 1.2 KB each, after it was full.
        assert!(sizes[..sizes.len() - 1].iter().all(|s| (4 << 20..6 << 20).contains(s)), "{format}: {sizes:?}");
        assert_eq!(judged(&desk, &name, read), (40_000, 40_000, 799_980_000));
    }
}

#[test]
fn a_killed_run_leaves_the_old_set_or_the_new_one() {
    let desk = Desk::new();
    desk.numbered(400_000);
    desk.write("small.csv", "id,t\n1,x\n2,y\n3,z\n");
    let small = ["run", "--from", "small.csv", "--to", "out/", "--format", "csv", "--split", "rows=1"];
    let large = ["run", "--from", "k.parquet", "--to", "out/", "--format", "csv", "--split", "rows=1000"];
    desk.run(&small).ok();
    let began = Instant::now();
    desk.run(&large).ok();
    let whole = began.elapsed();
    let points = if std::env::var_os("LAKEPORT_LONG").is_some() { 60 } else { 6 };
    let (mut old, mut new) = (0, 0);
    for point in 1..=points {
        desk.run(&small).ok();
        let mut child = desk.command(&large).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Towards the end, where names are given.
        std::thread::sleep(whole.mul_f64(0.5 + 0.5 * f64::from(point) / f64::from(points)) + Duration::from_millis(2));
        let _ = child.kill();
        let _ = child.wait();
        match judged(&desk, "out/_manifest.json", "read_csv") {
            (3, 3, 6) => old += 1,
            (400_000, 400_000, 79_999_800_000) => new += 1,
            other => panic!("killed at point {point}, the manifest names {other:?}"),
        }
        desk.run(&small).ok();
        let there = names(&desk, "out");
        assert_eq!(there.len(), 4, "killed at point {point}, the next run leaves {there:?}");
    }
    println!("killed {points} times: {old} times the old set, {new} times the new one, never between");
}

#[test]
fn two_jobs_of_one_run_do_not_write_one_set_at_once() {
    let desk = Desk::new();
    thousand(&desk);
    let job = |name: &str| format!("[job.{name}]\nfrom = \"t.parquet\"\nto = \"out/\"\nformat = \"csv\"\nsplit = \"rows=10\"\n");
    desk.write("lakeport.toml", [job("a"), job("b")].concat());
    desk.run(&["run", "a", "b", "--jobs", "2"]).fails(5, "E155").says("another job of this run writes");
    assert_eq!(judged(&desk, "out/_manifest.json", "read_csv"), (1000, 1000, 499_500));
    assert_eq!(names(&desk, "out").len(), 101, "{:?}", names(&desk, "out"));
    desk.run(&["run", "a", "b", "--jobs", "1"]).ok();
}
