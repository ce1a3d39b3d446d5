//! From a lake to the sandbox: the whole way, with the sandbox's own reading of the file as a judge.

use crate::support::{Desk, Done, Sandbox};

fn run(desk: &Desk, args: &[&str]) -> Done {
    let output = desk.command(args).env("TOKEN", "demo").output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_table_becomes_a_verified_data_source() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("lakeport.toml", sandbox.toml("project = \"Finance/Daily, total: 1\"\ncreate_project = true"));
    desk.parquet("o.parquet", "{'id': list(range(1000)), 'name': ['x', None] * 500}");
    run(&desk, &["check", "tab"]).ok().says("created");
    let done = run(&desk, &["run", "--from", "o.parquet", "--to", "tab:Orders, \"all\": é", "--json"]).ok().json();
    let there = sandbox.datasources();
    assert_eq!(there.len(), 1);
    assert_eq!(there[0]["name"], "Orders, \"all\": é");
    assert_eq!(there[0]["project"], serde_json::json!(["Finance", "Daily, total: 1"]));
    assert_eq!(there[0]["tables"][0]["rows"], 1000);
    assert_eq!(there[0]["bytes"], done["file"]["bytes"]);
    assert_eq!(done["receipt"]["id"], there[0]["id"]);
    // Nothing stays behind but the record.
    assert!(desk.files().iter().all(|f| !f.ends_with(".hyper") && !f.contains(".tmp")), "{:?}", desk.files());

    // Again: the same data source, not a second one.
    run(&desk, &["run", "--from", "o.parquet", "--to", "tab:Orders, \"all\": é"]).ok();
    let again = sandbox.datasources();
    assert_eq!((again.len(), &again[0]["id"]), (1, &there[0]["id"]));
    run(&desk, &["run", "--from", "o.parquet", "--to", "tab:Orders, \"all\": é", "--mode", "append"]).ok();
    assert_eq!(sandbox.datasources()[0]["tables"][0]["rows"], 2000);
    run(&desk, &["run", "--from", "o.parquet", "--to", "tab:Orders, \"all\": é", "--mode", "create"]).fails(2, "E129");
    run(&desk, &["ls", "tab"]).ok().says("Orders");
}

#[test]
fn a_large_file_goes_in_blocks() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write(
        "lakeport.toml",
        sandbox.toml("project = \"P\"\ncreate_project = true\nsingle_request_limit = \"1MiB\"\nchunk_size = \"1MiB\""),
    );
    desk.python(
        "import pyarrow as pa, pyarrow.parquet as pq, random\n\
         pq.write_table(pa.table({'a': [random.random() for _ in range(500000)]}), 'r.parquet')",
    );
    let done = run(&desk, &["run", "--from", "r.parquet", "--to", "tab:Random", "--json"]).ok().json();
    assert!(done["receipt"]["way"].as_str().unwrap().contains("block"), "{}", done["receipt"]);
    assert!(done["receipt"]["job"].is_string());
    assert_eq!(sandbox.datasources()[0]["tables"][0]["rows"], 500_000);
    assert_eq!(sandbox.datasources()[0]["bytes"], done["file"]["bytes"]);
}

#[test]
fn the_second_half_alone() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("lakeport.toml", sandbox.toml(""));
    desk.write("a.csv", "a\n1\n2\n");
    desk.run(&["convert", "a.csv", "a.hyper"]).ok();
    run(&desk, &["publish", "a.hyper", "tab:A"]).ok();
    assert_eq!(sandbox.datasources()[0]["tables"][0]["rows"], 2);
    desk.write("no.hyper", "this is no extract");
    run(&desk, &["publish", "no.hyper", "tab:No"]).fails(3, "E131");
    run(&desk, &["publish", "no.hyper", "tab:No", "--verify", "none"]).fails(6, "E207");
    assert_eq!(sandbox.datasources().len(), 1);
}

#[test]
fn a_wrong_project_or_token_is_named() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("a.csv", "a\n1\n");
    desk.write("lakeport.toml", sandbox.toml("project = \"Finanec\""));
    run(&desk, &["run", "--from", "a.csv", "--to", "tab:A"]).fails(2, "E128").says("Finanec");
    let output = desk.command(&["run", "--from", "a.csv", "--to", "tab:A"]).env("TOKEN", "wrong-hunter2").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("error[E140]") && !text.contains("hunter2"), "{text}");
}

#[test]
fn secrets_are_nowhere() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("lakeport.toml", sandbox.toml(""));
    desk.write("a.csv", "a\n1\n");
    let secret = "hunter2-marked-secret";
    for args in [
        &["run", "--from", "a.csv", "--to", "tab:A", "-vv"][..],
        &["check", "-vv"],
        &["plan", "--from", "a.csv", "--to", "tab:A", "--json", "-vv"],
        &["config", "show", "--origin"],
        &["report", "--json"],
    ] {
        let output = desk.command(args).env("TOKEN", secret).env("LAKEPORT_LOG", "trace").output().unwrap();
        let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!all.contains("hunter2"), "{args:?} prints the secret:\n{all}");
    }
    for file in std::fs::read_dir(desk.path().join(".lakeport/runs")).unwrap().flatten() {
        assert!(!std::fs::read_to_string(file.path().join("run.json")).unwrap().contains("hunter2"));
    }
}
