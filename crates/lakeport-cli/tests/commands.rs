//! What the commands keep of their word beside the runs themselves: layers, secrets, exit codes, records.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Desk, Done, Sandbox};

fn with(desk: &Desk, args: &[&str], variables: &[(&str, &str)]) -> Done {
    Done::of(desk.command(args).env("TOKEN", "demo").envs(variables.iter().copied()).output().unwrap())
}

#[test]
fn an_empty_list_of_lossy_columns_is_not_all_of_them() {
    let desk = Desk::new();
    desk.parquet("o.parquet", "{'t': pa.array([1, None], pa.timestamp('ns'))}");
    desk.run(&["convert", "o.parquet", "o.hyper", "--lossy="]).fails_usage("names no column");
    desk.run(&["run", "a", "--all"]).fails_usage("cannot be used with");
    let usage = desk.run(&["convert", "--json"]);
    let message = usage.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(usage.code == 2 && message.contains("<FROM>") && message.contains("<FILE>"), "{message}");
}

#[test]
fn all_jobs_are_a_list_however_many() {
    let desk = Desk::new();
    desk.write("a.csv", "a\n1\n");
    desk.write("lakeport.toml", "[job.one]\nfrom = \"a.csv\"\nto = \"a.parquet\"\nverify = \"none\"\n");
    let all = desk.run(&["run", "--all", "--json"]).ok().json();
    assert_eq!((all["runs"].as_array().unwrap().len(), &all["runs"][0]["job"]), (1, &json!("one")));
    let one = desk.run(&["run", "one", "--json"]).ok().json();
    assert_eq!((&one["job"], &one["verified"][0]), (&json!("one"), &json!("nothing was verified, as asked")));
    // A variable wins over the file, so over the job's own word.
    let one = with(&desk, &["run", "one", "--json"], &[("LAKEPORT_VERIFY", "full")]).ok().json();
    assert!(one["verified"][0].as_str().unwrap().starts_with("every value"), "{one}");
    // And a flag over both.
    let one = with(&desk, &["run", "one", "--verify", "counts", "--json"], &[("LAKEPORT_VERIFY", "full")]).ok().json();
    assert!(one["verified"][0].as_str().unwrap().starts_with("rows of"), "{one}");
}

#[test]
fn a_cursor_that_is_not_followed_is_said_and_never_doubles_rows() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("a.csv", "a,t\n1,2\n");
    desk.write("lakeport.toml", sandbox.toml("[job.j]\nfrom = \"a.csv\"\nto = \"tab:A\"\ncursor = \"t\""));
    with(&desk, &["plan", "j"], &[]).ok().says("note: the cursor `t` is not followed yet");
    with(&desk, &["run", "j"], &[]).ok();
    with(&desk, &["run", "j", "--mode", "append"], &[]).fails(2, "E127").says("--where");
    assert_eq!(sandbox.datasources()[0]["tables"][0]["rows"], 1);
}

#[test]
fn secrets_in_options_are_references() {
    let desk = Desk::new();
    let lake = |value: &str| {
        let options =
            format!("{{ aws_endpoint = \"http://127.0.0.1:1\", aws_allow_http = \"true\", aws_secret_access_key = {value} }}");
        desk.write("lakeport.toml", format!("[env.lake]\ntype = \"lake\"\nroot = \"s3://b\"\noptions = {options}\n"));
    };
    lake("\"hunter2\"");
    let refused = desk.run(&["config", "show", "--origin"]).fails(2, "E121").says("aws_secret_access_key").says("by reference");
    assert!(!refused.stderr.contains("hunter2"));
    lake("{ env = \"MINIO\" }");
    desk.run(&["ls", "lake"]).fails(2, "E123").says("MINIO");
    let shown = with(&desk, &["config", "show", "--origin"], &[("MINIO", "hunter2")]).ok().says("MINIO");
    assert!(!shown.stdout.contains("hunter2"));
}

#[test]
fn a_right_that_is_missing_is_not_a_place_that_is_missing() {
    let desk = Desk::new();
    desk.write("a.csv", "a\n1\n");
    desk.write(
        "lakeport.toml",
        "[env.out]\ntype = \"store\"\nroot = \"a.csv/below\"\n[env.lake]\ntype = \"lake\"\nroot = \".\"\n",
    );
    desk.run(&["check", "out"]).fails(2, "E128").says("not a directory");
    // A lake needs no hyperd; its absence is told, and counts only where nothing else fails.
    let bare = [("HYPERD_PATH", "/nowhere")];
    with(&desk, &["check", "out"], &bare).fails(2, "E128");
    with(&desk, &["check", "lake"], &bare).fails(2, "E125").says("ready");
}

#[test]
fn a_hyperd_that_does_not_start_says_how_it_ended() {
    let desk = Desk::new();
    desk.write("a.csv", "a\n1\n");
    for (hyperd, why) in [("/bin/false", "it ended before it listened: exit status: 1"), ("/etc/passwd", "os error")] {
        with(&desk, &["convert", "a.csv", "a.hyper"], &[("HYPERD_PATH", hyperd)]).fails(2, "E125").says(why);
        assert_eq!(desk.files(), ["a.csv"], "{hyperd} leaves something behind");
    }
}

#[test]
fn a_conversion_does_not_publish() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("lakeport.toml", sandbox.toml("[env.out]\ntype = \"store\"\nroot = \"out\""));
    desk.write("a.csv", "a\n1\n");
    with(&desk, &["convert", "a.csv", "tab:A"], &[]).fails(2, "E120").says("lakeport run");
    assert!(sandbox.datasources().is_empty());
    desk.run(&["convert", "a.csv", "out:a.parquet"]).ok();
    assert!(desk.path().join("out/a.parquet").exists());
}

#[test]
fn files_of_every_kind_are_published_and_described_by_reference() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write(
        "lakeport.toml",
        sandbox.toml("[env.out]\ntype = \"store\"\nroot = \"out\"\n[env.lake]\ntype = \"lake\"\nroot = \"lake\""),
    );
    desk.write("a.csv", "a\n1\n2\n");
    for name in ["a.csv", "a.parquet", "a.ndjson", "a.txt", "a.hyper", "a.xlsx"] {
        if name != "a.csv" {
            let columns = if name == "a.txt" {
                &["--types", "a=text", "--sql", "select cast(a as varchar) as a from src"][..]
            } else {
                &[]
            };
            desk.run(&[&["convert", "a.csv", name], columns].concat()).ok();
        }
        with(&desk, &["publish", name, &format!("out:{name}")], &[]).ok();
        let (sent, there) =
            (std::fs::read(desk.path().join(name)).unwrap(), std::fs::read(desk.path().join("out").join(name)).unwrap());
        assert!(sent == there, "{name}");
    }
    with(&desk, &["publish", "a.csv", "tab:A"], &[]).fails(2, "E127").says("does not take .csv");
    // A package is sent under its own name, whatever reads it; the sandbox takes bare extracts only.
    desk.run(&["convert", "a.csv", "lake/a.hyper"]).ok();
    desk.python(
        "import zipfile\nwith zipfile.ZipFile('a.tdsx', 'w') as z:\n  z.writestr('a.tds', '<datasource/>')\n  z.write('a.hyper', 'Data/a.hyper')",
    );
    with(&desk, &["publish", "a.tdsx", "tab:Package"], &[]).fails(6, "E207").says("not tdsx");
    desk.run(&["describe", "lake:a.hyper"]).ok().says("2 rows").says("bigint");
}

#[test]
fn an_interrupted_run_leaves_its_record() {
    let desk = Desk::new();
    let sandbox = Sandbox::start_with(&desk, &["--fault", "publish:1-:hang"]);
    desk.write("lakeport.toml", sandbox.toml(""));
    desk.write("a.csv", "a\n1\n");
    let mut child = desk.command(&["run", "--from", "a.csv", "--to", "tab:A"]).env("TOKEN", "demo").spawn().unwrap();
    let exporting = || std::fs::read_dir(desk.path().join(".lakeport/work")).is_ok_and(|mut d| d.next().is_some());
    let began = Instant::now();
    while !exporting() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report = desk.run(&["report", "--json"]).ok().json();
    assert_eq!(
        (&report["run"]["ok"], &report["run"]["exit_code"], &report["run"]["error"]["code"]),
        (&json!(false), &json!(130), &json!("E400"))
    );
    assert_eq!(report["run"]["plan"]["to"], "tab:A");
}
