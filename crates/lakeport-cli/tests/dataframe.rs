//! `df.write.format("lakeport")` in a real PySpark: the module is put together from the build, Spark does the rest.

use std::path::Path;
use std::process::Command;

use crate::support::{Desk, Done, Sandbox, judge};

/// A desk with the Python module `pyspark_lakeport` on it.
fn desk() -> Desk {
    let desk = Desk::new();
    let module = desk.path().join("modules/pyspark_lakeport");
    std::fs::create_dir_all(&module).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../lakeport-python/python/pyspark_lakeport/__init__.py");
    std::fs::copy(source, module.join("__init__.py")).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_lakeport")).with_file_name("liblakeport_python.so");
    std::fs::copy(&built, module.join("_native.abi3.so")).expect("the Python module is not built; run `cargo build --workspace`");
    desk
}

/// Runs a scenario of `dataframe.py` in PySpark.
fn spark(desk: &Desk, scenario: &str) -> Done {
    let python =
        std::env::var("LAKEPORT_SPARK_PYTHON").expect("LAKEPORT_SPARK_PYTHON names no interpreter with PySpark; run `make test`");
    let mut command = Command::new(&python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dataframe.py")).arg(scenario).current_dir(desk.path());
    let modules = format!("{}:{}/tests", desk.path().join("modules").display(), env!("CARGO_MANIFEST_DIR"));
    command.env("PYTHONPATH", modules).env("PYSPARK_PYTHON", &python).env("SPARK_LOCAL_IP", "127.0.0.1");
    command.env("XDG_CONFIG_HOME", desk.path().join("no-config")).env("TOKEN", "demo");
    Done::of(command.output().unwrap())
}

fn left_in_stage(desk: &Desk) -> Vec<String> {
    let entries = std::fs::read_dir(desk.path().join("stage")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|n| n != "last-report.json");
    names
}

#[test]
fn every_type_arrives_from_a_data_frame() {
    let desk = desk();
    spark(&desk, "torture").ok();
    print!("{}", judge(&desk, "judge_spark", &["compare", "t.hyper", "staged"]));
    assert_eq!(left_in_stage(&desk), Vec::<String>::new());
}

#[test]
fn tasks_that_fail_retry_or_die_publish_exactly_once_or_nothing() {
    let desk = desk();
    let done = spark(&desk, "failures").ok();
    print!("{}", done.stdout);
    for line in [
        "retried: 100000 rows",
        "failed for good: nothing",
        "commit failed: E150",
        "empty: 0 rows, a b",
        "old leftovers: swept",
        "refused: to",
        "refused: secret",
        "refused: mode",
        "refused: months",
        "refused: lossy",
    ] {
        assert!(done.stdout.contains(line), "no {line:?} in\n{}\n{}", done.stdout, done.stderr);
    }
    assert_eq!(left_in_stage(&desk), Vec::<String>::new());
}

#[test]
fn a_data_frame_becomes_a_published_data_source() {
    let desk = desk();
    let sandbox = Sandbox::start(&desk);
    desk.write("lakeport.toml", sandbox.toml("project = \"default\""));
    let done = spark(&desk, "publish").ok();
    assert!(done.stdout.contains("published 5000 rows"), "{}\n{}", done.stdout, done.stderr);
    let there = sandbox.datasources();
    assert_eq!((there.len(), &there[0]["name"], &there[0]["tables"][0]["rows"]), (1, &"Frame".into(), &5000.into()));
    assert_eq!(left_in_stage(&desk), Vec::<String>::new());
}
