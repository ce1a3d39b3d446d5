//! The battery of engines: the embedded one and Spark Connect answer every question here in the same way, over the same files.

use serde_json::{Value, json};

use crate::spark::{TOKEN, spark};
use crate::support::{Desk, Done};

/// One engine over the desk's `lake` directory, as the environment `here`.
struct Place {
    /// The `[env.here]` of `lakeport.toml`.
    toml: String,
    /// How its tables are named, before and after their own name.
    table: (String, String),
    /// The same inside SQL.
    in_sql: (String, String),
}

impl Place {
    fn embedded(_desk: &Desk) -> Self {
        let toml = "[env.here]\ntype = \"lake\"\nroot = \"lake\"\n".to_owned();
        Self { toml, table: ("here:".into(), String::new()), in_sql: ("here.".into(), String::new()) }
    }

    fn spark(desk: &Desk) -> Self {
        let lake = desk.path().join("lake").display().to_string();
        desk.write("token", TOKEN);
        let url = format!("sc://127.0.0.1:{}/;use_ssl=false", spark().port);
        let toml = format!("[env.here]\ntype = \"spark\"\nurl = \"{url}\"\ntoken = {{ file = \"token\" }}\n");
        let table = (format!("here:parquet.{lake}/"), String::new());
        Self { toml, table, in_sql: (format!("here.parquet.`{lake}/"), "`".into()) }
    }

    fn table(&self, name: &str) -> String {
        format!("{}{name}{}", self.table.0, self.table.1)
    }

    fn in_sql(&self, name: &str) -> String {
        format!("{}{name}{}", self.in_sql.0, self.in_sql.1)
    }
}

fn lake(desk: &Desk, place: &Place) {
    desk.write("lakeport.toml", &place.toml);
    for (month, ids) in [(7, "[1, 2, 3, None]"), (8, "[5, 6, 7, 8]")] {
        let columns = format!(
            "{{'id': pa.array({ids}, pa.int64()), 'name': ['a', None, 'ü', ''], 'amount': pa.array([D('1.50'), None, D('-0.01'), D('99.99')], pa.decimal128(9, 2)), 'x': [0.5, None, float('nan'), -1e300], 'day': pa.array([0, -1, None, 20000], pa.date32()), 'flag': [True, False, None, True]}}"
        );
        desk.parquet(
            &format!("lake/orders/month={month}/x.parquet"),
            &format!("(lambda D: {columns})(__import__('decimal').Decimal)"),
        );
    }
    desk.parquet("lake/none/x.parquet", "pa.table({'id': pa.array([], pa.int64()), 'name': pa.array([], pa.string())})");
    desk.parquet("lake/many/x.parquet", "{'id': list(range(50_000))}");
    std::fs::create_dir_all(desk.path().join("lake/empty")).unwrap();
}

fn to_csv(desk: &Desk, args: &[&str]) -> Vec<String> {
    desk.run(&[&["run", "--to", "t.csv"], args].concat()).ok();
    let text = std::fs::read_to_string(desk.path().join("t.csv")).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    // No engine promises an order.
    lines[1..].sort();
    lines
}

/// What must be the same of both engines: rows and types of a handful of queries.
fn passes(desk: &Desk, place: &Place) -> Value {
    lake(desk, place);
    let orders = place.table("orders");
    let run = |args: &[&str]| desk.run(&[&["run", "--to", "x.csv"], args].concat());
    let unwritten = |done: Done| {
        assert!(!desk.path().join("x.csv").exists());
        done
    };

    // What is not there, and what is nothing.
    run(&["--from", &place.table("nowhere")]).fails(3, "E130").says("nowhere");
    let empty = unwritten(run(&["--from", &place.table("empty")]));
    assert_eq!(empty.code, 3, "{}", empty.stderr);
    unwritten(run(&["--sql", &format!("select * from {}", place.in_sql("nowhere"))])).fails(3, "E130");
    assert_eq!(to_csv(desk, &["--from", &place.table("none")]), ["id,name"]);
    assert_eq!(to_csv(desk, &["--from", &orders, "--sql", "select id, name from src where id > 100"]), ["id,name"]);

    // SQL that cannot be, before anything is written.
    for sql in ["selec 1", "select nam from src", "select id from src group by name", "drop table src", "select 1; select 2"] {
        let done = unwritten(run(&["--from", &orders, "--sql", sql]));
        assert_eq!(done.code, 2, "{sql}: {}", done.stderr);
        done.fails(2, "E126");
    }
    unwritten(run(&["--from", &orders, "--where", "nam = 'a'"])).fails(2, "E126");
    unwritten(run(&["--from", &orders, "--sql", "select id as a, name as a from src"])).fails(6, "E202").says("`a`");

    // Columns are known before the first row.
    let plan = desk.run(&["plan", "--from", &orders, "--to", "x.parquet", "--json"]).ok().json();
    let planned = &plan["plans"][0]["tables"][0]["columns"];
    assert!(plan["plans"][0]["tables"][0]["partitions"].as_u64() >= Some(1) && !desk.path().join("x.parquet").exists());
    let described = desk.run(&["describe", &orders, "--json"]).ok().json();
    let names = |columns: &Value| columns.as_array().unwrap().iter().map(|c| c["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(planned), ["id", "name", "amount", "x", "day", "flag", "month"]);
    assert_eq!(names(&described["columns"]), names(planned));
    desk.run(&["check", "here"]).ok().says("ready");
    desk.run(&["ls", "here"]).ok();

    // Partitions lose nothing, and a limit is one.
    let report = desk.run(&["run", "--from", &place.table("many"), "--to", "m.parquet", "--json"]).ok().json();
    let partitions = report["tables"][0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.iter().map(|p| p["rows"].as_u64().unwrap()).sum::<u64>(), 50_000);
    let limited = desk.run(&["run", "--from", &place.table("many"), "--limit", "7", "--to", "m.parquet", "--json"]).ok().json();
    assert_eq!(limited["tables"][0]["rows"], 7);
    assert_eq!(to_csv(desk, &["--from", &orders, "--limit", "0"]).len(), 1);
    let first = ["--from", &orders, "--sql", "select id from src order by id desc nulls last", "--limit", "2"];
    assert_eq!(to_csv(desk, &first), ["id", "7", "8"]);

    // The same questions, for the same answers.
    let joined = format!(
        "select a.name, b.id from {} a join {} b on a.id = b.id where a.month = 8",
        place.in_sql("orders"),
        place.in_sql("many")
    );
    let answers = [
        to_csv(desk, &["--from", &orders]),
        to_csv(desk, &["--from", &orders, "--where", "month = 7 and name is not null"]),
        to_csv(
            desk,
            &[
                "--from",
                &orders,
                "--sql",
                "select month, count(*) as n, sum(amount) as total, min(day) as d from src group by month",
            ],
        ),
        to_csv(
            desk,
            &[
                "--from",
                &orders,
                "--sql",
                "select cast(id as string) as t, x, flag from src",
                "--where",
                "flag",
                "--limit",
                "100",
            ],
        ),
        to_csv(
            desk,
            &[
                "--from",
                &place.table("many"),
                "--sql",
                "select id % 3 as k, max(id) as m from src where id between 10 and 20 group by id % 3",
            ],
        ),
        to_csv(desk, &["--sql", &joined]),
    ];
    let types: Vec<_> =
        planned.as_array().unwrap().iter().map(|c| json!([c["name"], c["source_type"], c["target_type"]])).collect();
    json!({ "answers": answers, "types": types })
}

#[test]
fn the_embedded_engine_and_spark_answer_alike() {
    let (desk, far) = (Desk::new(), Desk::new());
    let embedded = passes(&desk, &Place::embedded(&desk));
    assert_eq!(embedded["answers"][0].as_array().unwrap().len(), 9, "{embedded}");
    let spark = passes(&far, &Place::spark(&far));
    for (which, answer) in embedded["answers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(answer, &spark["answers"][which], "answer {which}");
    }
    assert_eq!(embedded["types"], spark["types"]);
}

#[test]
fn every_kind_of_source_is_in_this_battery() {
    // Tables are read from a lake (a store is one that is written to) or from Spark.
    let sources = ["lake", "store", "spark"];
    let only_targets = ["tableau", "database"];
    let types = super::environment_types(&Desk::new());
    let unknown: Vec<_> =
        types.iter().filter(|t| !sources.contains(&t.as_str()) && !only_targets.contains(&t.as_str())).collect();
    assert!(types.len() >= 5 && unknown.is_empty(), "{unknown:?} of {types:?} are in no battery");
}
