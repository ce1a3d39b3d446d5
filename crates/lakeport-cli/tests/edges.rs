//! The battery every file format passes: one row, many columns, a huge cell, a run killed in the middle.

use std::process::Stdio;
use std::time::Duration;

use crate::support::Desk;

/// Every format that is a file, by a name it answers to.
const FILES: [&str; 8] = ["t.hyper", "t.csv", "t.ndjson", "u.parquet", "t.avro", "t.orc", "t.yxdb", "t.xlsx"];

#[test]
fn one_row_of_two_thousand_columns() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{f'column {i}': pa.array([i if i % 3 else None], pa.int32()) for i in range(2000)}");
    for file in FILES {
        let done = desk.run(&["convert", "t.parquet", file, "--verify", "full", "--json"]).ok().json();
        assert_eq!(done["tables"][0]["left"], done["tables"][0]["arrived"], "{file}");
        assert_eq!(done["tables"][0]["left"]["columns"].as_array().unwrap().len(), 2000, "{file}");
    }
}

#[test]
fn a_cell_of_fifty_megabytes() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'n': [1, 2], 't': ['é' * 25_000_000, None]}");
    for file in FILES {
        let done = desk.run(&["convert", "t.parquet", file, "--verify", "full"]);
        if file.ends_with(".xlsx") {
            done.fails(6, "E204").says("25000000 characters");
            assert!(!desk.path().join(file).exists());
        } else {
            done.ok().says("every value");
        }
    }
}

#[test]
fn no_columns_are_refused() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': [1]}");
    for file in FILES {
        desk.run(&["convert", "t.parquet", file, "--types", "a=drop"]).fails(6, "E201").says("dropped");
        assert!(!desk.path().join(file).exists(), "{file}");
    }
}

#[test]
fn a_killed_run_leaves_nothing_under_the_name() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': pa.array(range(1_000_000), pa.int32()), 's': ['some text of a row'] * 1_000_000}");
    for file in FILES {
        desk.write(file, "what was there");
        let mut child =
            desk.command(&["convert", "t.parquet", file]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(400));
        child.kill().unwrap();
        child.wait().unwrap();
        let there = std::fs::read(desk.path().join(file)).unwrap();
        // Again, over whatever the kill left.
        desk.run(&["convert", "t.parquet", file]).ok();
        // A run that was quicker than the kill has left the whole new file; sizes of some formats differ by a few bytes.
        let whole = std::fs::metadata(desk.path().join(file)).unwrap().len();
        let is_whole = (there.len() as u64).abs_diff(whole) * 100 < whole;
        assert!(there == b"what was there" || is_whole, "{file}: {} of {whole} bytes", there.len());
    }
    let left: Vec<_> = std::fs::read_dir(desk.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|n| !n.contains(".tmp")), "{left:?}");
}
