//! The Spark engine against a real Spark Connect server, started here with the smallest answers it can be told to give:
//! streams that end after 1 MiB or a second, and results of at most 64 MiB.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::{Desk, judge};

/// A server that ends when this process does: it lives as long as the pipe to its keeper is open.
pub(crate) struct Server {
    pub(crate) port: u16,
    _keeper: Child,
    _pipe: ChildStdin,
}

/// Runs a command in the background and ends it when its own input ends.
const KEEPER: &str = r#""$@" </dev/null & pid=$!; cat >/dev/null; kill $pid; wait $pid"#;

pub(crate) fn keep(command: &str, args: &[&str], port: u16, within: Duration) -> Server {
    keep_at(command, args, (Ipv4Addr::LOCALHOST, port), within)
}

/// Starts a server and waits until it listens at this address.
pub(crate) fn keep_at(command: &str, args: &[&str], (host, port): (Ipv4Addr, u16), within: Duration) -> Server {
    let mut keeper = Command::new("bash");
    keeper.args(["-c", KEEPER, "keeper", command]).args(args);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).env("SPARK_LOCAL_IP", "127.0.0.1");
    let mut child = keeper.spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let lines = std::thread::spawn(move || log.lines().map_while(Result::ok).collect::<Vec<_>>());
    let began = Instant::now();
    let address = SocketAddr::from((host, port));
    while TcpStream::connect(address).is_err() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{command} ended with {status}: {}", lines.join().unwrap().join("\n"));
        }
        assert!(began.elapsed() < within, "{command} does not listen after {within:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let pipe = child.stdin.take().unwrap();
    Server { port, _keeper: child, _pipe: pipe }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn spark_python() -> String {
    std::env::var("LAKEPORT_SPARK_PYTHON").expect("LAKEPORT_SPARK_PYTHON names no interpreter with PySpark; run `make test`")
}

/// The one real server of this binary.
pub(crate) fn spark() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let found = Command::new(spark_python()).args(["-c", "import pyspark; print(pyspark.__path__[0])"]).output().unwrap();
        let home = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        assert!(!home.is_empty(), "PySpark is missing: {}", String::from_utf8_lossy(&found.stderr));
        let port = free_port();
        let scratch = std::env::temp_dir().join(format!("lakeport-spark-{}", std::process::id()));
        let settings = [
            "spark.connect.grpc.binding.address=127.0.0.1".to_owned(),
            format!("spark.connect.grpc.binding.port={port}"),
            "spark.connect.execute.reattachable.senderMaxStreamSize=1m".into(),
            "spark.connect.execute.reattachable.senderMaxStreamDuration=1s".into(),
            "spark.driver.maxResultSize=64m".into(),
            "spark.ui.enabled=false".into(),
            format!("spark.sql.warehouse.dir={}", scratch.display()),
        ];
        let class = "org.apache.spark.sql.connect.service.SparkConnectServer";
        let mut args = vec!["--class", class, "--master", "local[2]", "--driver-memory", "1g"];
        settings.iter().for_each(|s| args.extend(["--conf", s]));
        args.push("spark-internal");
        keep(&format!("{home}/bin/spark-submit"), &args, port, Duration::from_secs(180))
    })
}

fn desk_at(port: u16, more: &str) -> Desk {
    let desk = Desk::new();
    desk.write("lakeport.toml", format!("[env.cluster]\ntype = \"spark\"\nurl = \"sc://127.0.0.1:{port}/\"\n{more}"));
    desk
}

fn staged(desk: &Desk) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(desk.path().join("stage")) else { return Vec::new() };
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn tortured(which: &str, more: &str) {
    let desk = desk_at(spark().port, more);
    let sql = judge(&desk, "judge_spark", &["sql", which]);
    let mut args = vec!["run", "--from", "cluster:", "--sql", sql.trim(), "--to", "t.hyper", "--verify", "full"];
    for wish in ["list=json", "map=json", "struct=json"] {
        args.extend(["--types", wish]);
    }
    desk.run(&args).ok().says("every value");
    print!("{}", judge(&desk, "judge_spark", &["compare", "t.hyper", which]));
    assert_eq!(staged(&desk), Vec::<String>::new());
}

#[test]
fn every_type_arrives_through_the_stream() {
    tortured("all", "handoff = \"stream\"\n");
}

#[test]
fn every_type_that_parquet_keeps_arrives_through_the_stage() {
    tortured("staged", "handoff = \"stage\"\nstage = \"stage\"\n");
}

#[test]
fn streams_that_end_early_are_taken_up_again() {
    let desk = desk_at(spark().port, "");
    let sql = "select id, id * 2 as b, concat('row-', id) as s from range(0, 600000, 1, 4)";
    let done = desk.run(&["run", "--from", "cluster:", "--sql", sql, "--to", "t.parquet", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["rows"], 600_000);
    let code = "import pyarrow.parquet as q, pyarrow.compute as c; t = q.read_table('t.parquet'); print(t.num_rows, c.sum(t['id']), len(c.unique(t['s'])))";
    assert_eq!(desk.python(code).trim(), "600000 179999700000 600000");
}

#[test]
fn a_result_too_large_for_the_driver_publishes_nothing() {
    let sql = "select id, repeat('x', 200) || id as s from range(0, 1500000, 1, 8)";
    let desk = desk_at(spark().port, "handoff = \"stream\"\n");
    desk.run(&["run", "--from", "cluster:", "--sql", sql, "--to", "t.csv"])
        .fails(3, "E131")
        .says("maxResultSize")
        .says("handoff = \"stage\"");
    assert!(!desk.path().join("t.csv").exists());
    // The executors have no such limit.
    let desk = desk_at(spark().port, "stage = \"stage\"\n");
    desk.run(&["plan", "--from", "cluster:", "--sql", sql, "--to", "t.parquet"]).ok().says("by stream");
    let desk = desk_at(spark().port, "stage = \"stage\"\nhandoff = \"stage\"\n");
    let done = desk.run(&["run", "--from", "cluster:", "--sql", sql, "--to", "t.parquet", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["rows"], 1_500_000);
    assert_eq!(staged(&desk), Vec::<String>::new());
}

#[test]
fn a_failing_stage_leaves_nothing() {
    let desk = desk_at(spark().port, "stage = \"stage\"\nhandoff = \"stage\"\n");
    let sql = "select if(id = 90000, raise_error('no'), id) as id from range(100000)";
    desk.run(&["run", "--from", "cluster:", "--sql", sql, "--to", "t.hyper"]).fails(3, "E131").says("no");
    assert!(!desk.path().join("t.hyper").exists());
    assert_eq!(staged(&desk), Vec::<String>::new());
    // A job's own word wins.
    let toml = std::fs::read_to_string(desk.path().join("lakeport.toml")).unwrap();
    desk.write(
        "lakeport.toml",
        format!("{toml}[job.s]\nfrom = \"cluster:\"\nsql = \"select 1 as a\"\nto = \"s.csv\"\nhandoff = \"stream\"\n"),
    );
    desk.run(&["plan", "s"]).ok().says("by stream: asked for");
    let months = "select interval '1' month as m";
    desk.run(&["run", "--from", "cluster:", "--sql", months, "--to", "t.hyper"]).fails(2, "E127").says("Parquet does not keep");
}

#[test]
fn a_leftover_of_a_killed_run_is_swept() {
    let desk = desk_at(spark().port, "stage = \"stage\"\nhandoff = \"stage\"\n");
    // A directory of ours from 2023, one of somebody else, and one of a run that may still be at work.
    desk.write("stage/lakeport-018bcfe5-6800-7000-8000-000000000000/part.parquet", "x");
    desk.write("stage/orders/part.parquet", "x");
    desk.run(&["run", "--from", "cluster:", "--sql", "select 1 as a", "--to", "t.csv"]).ok();
    assert_eq!(staged(&desk), ["orders"]);
}

#[test]
fn tables_are_listed_described_and_joined_by_name() {
    let desk = desk_at(spark().port, "");
    desk.parquet("o.parquet", "{'id': [1, 2, 3], 'c': ['a', 'b', None]}");
    let files = format!("cluster:parquet.{}", desk.path().join("o.parquet").display());
    desk.run(&["describe", &files]).ok().says("Spark 4.3").says("id").says("Int64");
    desk.run(&["check", "cluster"]).ok().says("ready");
    desk.run(&["ls", "cluster"]).ok().says("default");
    desk.run(&["run", "--from", &files, "--sql", "select c, id from src where id > 1", "--where", "c is null", "--to", "t.csv"])
        .ok();
    assert_eq!(std::fs::read_to_string(desk.path().join("t.csv")).unwrap(), "c,id\n,3\n");
    desk.run(&["run", "--sql", "select * from cluster.range(5) where id > 3", "--limit", "1", "--to", "u.csv"]).ok();
    assert_eq!(std::fs::read_to_string(desk.path().join("u.csv")).unwrap(), "id\n4\n");
    desk.run(&["run", "--from", "cluster:nowhere.t", "--to", "x.csv"]).fails(3, "E130");
    desk.run(&["run", "--from", "cluster:", "--sql", "selec 1", "--to", "x.csv"]).fails(2, "E126");
    desk.run(&["plan", "--from", "cluster:", "--sql", "select to_time('10:00') as at", "--to", "x.csv"])
        .fails(6, "E203")
        .says("as string)");
    desk.run(&["plan", "--from", "cluster:", "--sql", "select 1 as a, 2 as a", "--to", "x.csv"]).fails(6, "E202").says("`a`");
}

#[test]
fn an_unreachable_cluster_and_a_token_in_the_url_are_told() {
    let desk = desk_at(free_port(), "");
    desk.run(&["run", "--from", "cluster:t", "--to", "x.csv"]).fails(5, "E150").says("127.0.0.1");
    desk.write("lakeport.toml", "[env.cluster]\ntype = \"spark\"\nurl = \"sc://localhost/;token=hush\"\n");
    let done = desk.run(&["run", "--from", "cluster:t", "--to", "x.csv"]).fails(2, "E121").says("token = { env");
    assert!(!done.stderr.contains("hush"));
}

#[test]
fn sail_speaks_the_same_protocol() {
    let port = free_port();
    let sail = std::env::var("LAKEPORT_SAIL").expect("LAKEPORT_SAIL names no program; run `make test`");
    let text = port.to_string();
    let server = keep(&sail, &["spark", "server", "--port", &text], port, Duration::from_secs(60));
    let desk = desk_at(server.port, "handoff = \"stream\"\n");
    let sql = "select id, concat('row-', id) as s, cast(id as decimal(12,3)) as d from range(100000)";
    let done = desk.run(&["run", "--from", "cluster:", "--sql", sql, "--to", "t.parquet", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["rows"], 100_000);
}
