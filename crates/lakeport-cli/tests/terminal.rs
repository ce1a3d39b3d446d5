//! What is printed where, and what never is.

use crate::support::Desk;

#[test]
fn stdout_is_one_json_document_in_success_and_failure() {
    let desk = Desk::new();
    desk.write("a.csv", "a,b\n1,x\n2,\n");
    let ok = desk.run(&["convert", "a.csv", "a.hyper", "--json"]).ok().json();
    assert_eq!((&ok["schema"], &ok["ok"]), (&1.into(), &true.into()));
    assert_eq!(ok["tables"][0]["rows"], 2);
    for args in [&["convert", "none.csv", "a.hyper", "--json"][..], &["plan", "--from", "none.csv", "--to", "a.hyper", "--json"]]
    {
        let done = desk.run(args);
        let e = done.json();
        assert_eq!((done.code, &e["ok"], &e["exit_code"]), (3, &false.into(), &3.into()));
        assert_eq!(e["error"]["code"], "E130");
        assert!(e["error"]["help"].is_string() && e["error"]["context"].is_array() && e["error"]["causes"].is_array());
    }
    let usage = desk.run(&["run", "--no-such-flag", "--json"]);
    assert_eq!((usage.code, &usage.json()["exit_code"]), (2, &2.into()));
}

#[test]
fn the_same_run_gives_the_same_plan_and_leaves_a_report() {
    let desk = Desk::new();
    desk.write("a.csv", "a,b\n1,x\n2,\n");
    let plan = desk.run(&["plan", "--from", "a.csv", "--to", "a.hyper"]).ok();
    assert!(plan.stdout.contains("bigint") || plan.stdout.contains("BIGINT"), "{}", plan.stdout);
    assert!(!desk.path().join(".lakeport").exists() && !desk.path().join("a.hyper").exists(), "plan writes nothing");
    let run = desk.run(&["run", "--from", "a.csv", "--to", "a.hyper", "--json"]).ok().json();
    let report = desk.run(&["report", "--json"]).ok().json();
    assert_eq!(report["run"]["id"], run["id"]);
    assert_eq!(report["run"]["tables"][0]["left"], report["run"]["tables"][0]["arrived"]);
    assert!(report["run"]["peak_memory"]["hyperd"].as_u64().unwrap() > 0);
    desk.run(&["report"]).ok().says("same on both sides");
    desk.run(&["report", "--html", "r.html"]).ok();
    assert!(std::fs::read_to_string(desk.path().join("r.html")).unwrap().contains("<pre>"));
    assert!(!desk.path().join("hyperd.log").exists());
}

#[test]
fn commands_that_teach() {
    let desk = Desk::new();
    desk.run(&["formats"]).ok().says("hyper").says("tableau");
    desk.run(&["explain", "e206"]).ok().says("exit code 6");
    desk.run(&["completions", "bash"]).ok().says("lakeport");
    desk.run(&["config", "schema"]).ok().says("token_secret");
    desk.run(&["init"]).ok();
    desk.run(&["init"]).fails(1, "E101");
    desk.run(&["config", "show", "--origin"]).ok().says("env.lake.root").says("lakeport.toml");
    desk.run(&["config", "path"]).ok().says("lakeport.toml");
    assert!(std::fs::read_to_string(desk.path().join(".gitignore")).unwrap().contains(".lakeport/"));
}

#[test]
fn sql_may_name_tables_of_environments_and_sorts_in_order() {
    let desk = Desk::new();
    desk.write("lake/orders.csv", "id,c\n3,a\n1,b\n2,a\n");
    desk.write("lake/dim/customers.ndjson", "{\"c\":\"a\",\"n\":\"Ann\"}\n{\"c\":\"b\",\"n\":null}\n");
    desk.write("lakeport.toml", "[env.lake]\ntype = \"lake\"\nroot = \"lake\"\n");
    let sql = "select o.id, u.n from lake.orders o join lake.dim.customers u on o.c = u.c order by o.id";
    desk.run(&["run", "--sql", sql, "--to", "o.hyper"]).ok();
    assert_eq!(desk.rows("o.hyper", "1"), serde_json::json!([[1, null], [2, "Ann"], [3, "Ann"]]));
    desk.run(&["run", "--from", "lake:orders.csv", "--where", "c = 'a'", "--limit", "1", "--to", "l.hyper"]).ok().says("1 rows");
    desk.run(&["ls", "lake"]).ok().says("orders");
    desk.run(&["describe", "lake:orders.csv"]).ok().says("csv");
}

#[test]
fn several_jobs_side_by_side_and_the_worst_code_counts() {
    let desk = Desk::new();
    desk.write("a.csv", "a\n1\n");
    desk.write(
        "lakeport.toml",
        "[job.a]\nfrom = \"a.csv\"\nto = \"a.hyper\"\n[job.b]\nfrom = \"b.csv\"\nto = \"b.hyper\"\n[job.c]\nfrom = \"a.csv\"\nto = \"c.hyper\"\n",
    );
    let done = desk.run(&["run", "--all", "--jobs", "2", "--json"]);
    assert_eq!(done.code, 3);
    let document = done.json();
    assert_eq!((&document["ok"], &document["failed"]), (&false.into(), &1.into()));
    assert!(desk.path().join("a.hyper").exists() && desk.path().join("c.hyper").exists());
}

#[test]
fn jobs_side_by_side_run_under_one_budget() {
    let desk = Desk::new();
    let job = |name: &str, more: &str| {
        format!("[job.{name}]\nfrom = \"s.parquet\"\nsql = \"select * from src order by t, id\"\nto = \"{name}.parquet\"\n{more}")
    };
    let config = [job("a", ""), job("b", ""), job("c", "memory = \"800MiB\"\n"), job("d", "")].concat();
    desk.write("lakeport.toml", format!("[defaults]\nmemory = \"1GiB\"\n{config}"));
    desk.parquet("s.parquet", "{'id': range(200_000), 't': [f'{i * 7919 % 200_000:060}' for i in range(200_000)]}");
    desk.run(&["plan", "a"]).ok().says("memory 1.0 GiB for the engine\n");
    desk.run(&["plan", "a", "b", "--jobs", "2"]).ok().says("memory 512.0 MiB for the engine, one of 2 jobs side by side");
    let done = desk.run(&["run", "--all", "--jobs", "4", "--json"]).ok().json();
    let limits = |name: &str| {
        let run = done["runs"].as_array().unwrap().iter().find(|r| r["plan"]["job"] == name).unwrap();
        run["plan"]["limits"].clone()
    };
    let mib = |n: u64| n << 20;
    for name in ["a", "b", "d"] {
        assert_eq!((&limits(name)["memory"], &limits(name)["jobs"]), (&mib(256).into(), &4.into()), "{name}");
        assert_eq!((&limits(name)["queue"], &limits(name)["copy"]), (&mib(2).into(), &mib(16).into()));
    }
    assert_eq!(limits("c")["memory"], mib(200));
    // More than there are jobs is as many as there are.
    desk.run(&["run", "a", "--jobs", "9", "--json"]).ok().says("\"jobs\": 1");
    let code = "import pyarrow.parquet as q; print([q.read_table(f + '.parquet')['t'].to_pylist() == sorted(q.read_table('s.parquet')['t'].to_pylist()) for f in 'abcd'])";
    assert_eq!(desk.python(code).trim(), "[True, True, True, True]");
}

#[test]
fn the_peak_of_hyperd_is_that_of_the_job() {
    let desk = Desk::new();
    desk.parquet("large.parquet", "{'id': range(1_500_000), 't': [str(i) * 4 for i in range(1_500_000)]}");
    desk.write("small.csv", "a\n1\n");
    let job = |name: &str, from: &str, to: &str| format!("[job.{name}]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    let jobs = [job("a", "large.parquet", "a.hyper"), job("b", "small.csv", "b.hyper"), job("c", "small.csv", "c.csv")];
    desk.write("lakeport.toml", jobs.concat());
    let done = desk.run(&["run", "a", "c", "b", "--json"]).ok().json();
    let peak = |job: &str| {
        let run = done["runs"].as_array().unwrap().iter().find(|r| r["plan"]["job"] == job).unwrap();
        let of = |key: &str| run["peak_memory"][key].as_u64().unwrap();
        (of("hyperd_before"), of("hyperd"))
    };
    // It keeps what it once took: what a job added is what lies between.
    let ((none, large), (kept, small)) = (peak("a"), peak("b"));
    assert!(none == 0 && large > 0 && kept > 0 && small >= kept && small - kept < large / 2, "{none} {large} {kept} {small}");
    assert_eq!(peak("c"), (0, 0), "a job without hyperd has no part in it");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let desk = Desk::new();
    for args in [&["config", "schema"][..], &["completions", "zsh"], &["formats", "--json"], &["explain"]] {
        let mut child =
            desk.command(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn a_run_that_could_not_be_planned_is_reported_by_its_name() {
    let desk = Desk::new();
    desk.write("lakeport.toml", "[job.lost]\nfrom = \"nowhere.csv\"\nto = \"x.hyper\"\n");
    desk.run(&["run", "lost"]).fails(3, "E130");
    let report = desk.run(&["report"]).ok();
    assert!(report.stdout.contains("failed lost (exit 3)\nerror[E130]"), "{}", report.stdout);
}
