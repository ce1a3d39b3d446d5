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
