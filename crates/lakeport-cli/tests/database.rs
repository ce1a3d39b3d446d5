//! Databases through ADBC: a real PostgreSQL, started here, and SQLite; judged by psycopg and Python's sqlite3.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Desk, judge, python};

/// What the desk's databases are reached by.
pub(crate) struct Base {
    /// For the judges.
    pub(crate) uri: String,
    /// The environment in `lakeport.toml`.
    pub(crate) env: String,
    _server: Option<Postgres>,
}

/// A PostgreSQL of its own, ended with the test.
struct Postgres {
    child: Child,
    data: tempfile::TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.data.path().join("data/postmaster.pid")).unwrap_or_default();
        // "Fast shutdown", which also ends its workers.
        let _ = Command::new("kill").args(["-INT", pid.lines().next().unwrap_or("0")]).status();
        let _ = self.child.wait();
    }
}

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed; run `make setup`");
    let mut found: Vec<_> = versions.flatten().map(|v| v.path().join("bin").join(name)).filter(|p| p.is_file()).collect();
    found.sort();
    found.pop().expect("PostgreSQL is not installed; run `make setup`")
}

/// PostgreSQL refuses to run as root: then it runs as the user its package made.
fn as_somebody(program: &Path) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

pub(crate) fn postgres() -> Base {
    let data = tempfile::tempdir().unwrap();
    std::fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let at = data.path().join("data");
    let secret = data.path().join("password");
    std::fs::write(&secret, "p@ss/word").unwrap();
    let made = as_somebody(&program("initdb"))
        .args(["--auth=scram-sha-256", "--username=lake", "--encoding=UTF8", "--no-sync", "--locale=C"])
        .arg(format!("--pwfile={}", secret.display()))
        .arg(&at)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = as_somebody(&program("postgres"));
    server.arg("-D").arg(&at).args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    server.args(["-c", &format!("port={port}"), "-c", &format!("unix_socket_directories={}", data.path().display())]);
    let child = server.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let server = Postgres { child, data };
    let uri = format!("postgresql://lake:p%40ss%2Fword@127.0.0.1:{port}/postgres");
    let began = Instant::now();
    while !python().args(["-c", &format!("import psycopg; psycopg.connect({uri:?})")]).output().unwrap().status.success() {
        assert!(began.elapsed() < Duration::from_secs(60), "PostgreSQL does not answer");
        std::thread::sleep(Duration::from_millis(200));
    }
    let env = format!(
        "[env.db]\ntype = \"database\"\ndriver = \"postgresql\"\nuri = \"postgresql://lake@127.0.0.1:{port}/postgres\"\npassword = {{ env = \"DB_PASSWORD\" }}\n"
    );
    Base { uri, env, _server: Some(server) }
}

pub(crate) fn sqlite(desk: &Desk) -> Base {
    let uri = desk.path().join("t.db").display().to_string();
    let env = format!("[env.db]\ntype = \"database\"\ndriver = \"sqlite\"\nuri = \"{uri}\"\n");
    Base { uri, env, _server: None }
}

fn run(desk: &Desk, args: &[&str]) -> crate::support::Done {
    crate::support::Done::of(desk.command(args).env("DB_PASSWORD", "p@ss/word").output().unwrap())
}

fn rows(desk: &Desk, base: &Base, sql: &str) -> serde_json::Value {
    serde_json::from_str(&judge(desk, "judge_database", &["rows", &base.uri, sql])).unwrap()
}

fn tortured(desk: &Desk, base: &Base, wishes: &[&str]) {
    judge(desk, "torture", &["make", "."]);
    desk.write("lakeport.toml", &base.env);
    let mut args = vec!["run", "--from", "all.parquet", "--to", "db:All", "--verify", "full"];
    for wish in ["list_json=json", "map_json=json", "struct_json=json", "struct_flat=flatten"].iter().chain(wishes) {
        args.extend(["--types", wish]);
    }
    run(desk, &args).ok().says("every value").says("as many rows");
    print!("{}", judge(desk, "judge_database", &["compare", &base.uri, "All"]));
}

#[test]
fn every_type_arrives_in_postgresql() {
    let desk = Desk::new();
    let base = postgres();
    // NUL characters are none of PostgreSQL's.
    let texts = ["utf8=drop", "large_utf8=drop", "utf8_view=drop"];
    tortured(&desk, &base, &texts);
    desk.parquet("nul.parquet", "{'t': ['a\\x00b']}");
    run(&desk, &["run", "--from", "nul.parquet", "--to", "db:Nul"]).fails(6, "E204").says("NUL");
    let types = rows(&desk, &base, "select column_name, data_type from information_schema.columns where table_name = 'All'");
    let of = |name: &str| types.as_array().unwrap().iter().find(|r| r[0] == name).unwrap()[1].clone();
    for (column, kind) in [
        ("bool", "boolean"),
        ("int16", "smallint"),
        ("uint64", "numeric"),
        ("decimal128_38_10", "numeric"),
        ("date32", "date"),
        ("time64_us", "time without time zone"),
        ("timestamp_us", "timestamp without time zone"),
        ("timestamptz_us", "timestamp with time zone"),
        ("binary", "bytea"),
    ] {
        assert_eq!(of(column), kind, "{column}");
    }
}

#[test]
fn every_type_arrives_in_sqlite() {
    let desk = Desk::new();
    let base = sqlite(&desk);
    tortured(&desk, &base, &["uint64=text", "float16=text", "float32=text", "float64=text"]);
}

fn modes(desk: &Desk, base: &Base) {
    desk.write("lakeport.toml", &base.env);
    desk.parquet("one.parquet", "{'k': [1, 2], 'v': ['a', 'b']}");
    desk.parquet("two.parquet", "{'k': [2, 3, None], 'v': ['B', None, 'n']}");
    desk.parquet("twice.parquet", "{'k': [9, 9], 'v': ['x', 'y']}");
    let all = || rows(desk, base, "select k, v from \"T\" order by k, v");
    let publish = |file: &str, more: &[&str]| run(desk, &[&["run", "--from", file, "--to", "db:T"], more].concat());
    publish("one.parquet", &["--mode", "create"]).ok();
    publish("one.parquet", &["--mode", "create"]).fails(2, "E129");
    publish("two.parquet", &[]).ok().says("as many rows");
    assert_eq!(rows(desk, base, "select count(*) from \"T\""), serde_json::json!([[3]]));
    publish("one.parquet", &[]).ok();
    publish("two.parquet", &["--mode", "append"]).ok();
    assert_eq!(rows(desk, base, "select count(*) from \"T\""), serde_json::json!([[5]]));
    publish("one.parquet", &[]).ok();
    publish("two.parquet", &["--mode", "upsert"]).fails(2, "E120").says("--key");
    publish("two.parquet", &["--mode", "upsert", "--key", "k"]).ok();
    let merged = all();
    let mut merged: Vec<_> = merged.as_array().unwrap().iter().map(ToString::to_string).collect();
    merged.sort();
    assert_eq!(merged, ["[1,\"a\"]", "[2,\"B\"]", "[3,null]", "[null,\"n\"]"]);
    // Again: NULL is a key, too, and nothing is doubled.
    publish("two.parquet", &["--mode", "upsert", "--key", "k"]).ok();
    assert_eq!(rows(desk, base, "select count(*) from \"T\""), serde_json::json!([[4]]));
    publish("twice.parquet", &["--mode", "upsert", "--key", "k"]).fails(6, "E204").says("more than one row");
    assert_eq!(rows(desk, base, "select count(*) from \"T\""), serde_json::json!([[4]]));
    run(desk, &["ls", "db"]).ok().says("T").says("table");
    run(desk, &["check", "db"]).ok().says("ready");
    // The first time it is no different: nothing comes to be that the second time would refuse.
    let first =
        |file: &str, more: &[&str]| run(desk, &[&["run", "--from", file, "--to", "db:N", "--mode", "upsert"], more].concat());
    first("two.parquet", &[]).fails(2, "E120").says("--key");
    first("two.parquet", &["--key", "nope"]).fails(2, "E120").says("`nope`");
    first("twice.parquet", &["--key", "k"]).fails(6, "E204").says("more than one row");
    // Keys of several columns, parts of which are NULL: large enough that comparing each row with each would not end.
    desk.parquet("many.parquet", "{'a': [None if i % 5 == 0 else i for i in range(60000)], 'b': [i % 7 or None for i in range(60000)], 'c': list(range(60000)), 'v': ['old'] * 60000}");
    desk.parquet("some.parquet", "{'a': [None if i % 5 == 0 else i for i in range(0, 120000, 2)], 'b': [i % 7 or None for i in range(0, 120000, 2)], 'c': list(range(0, 120000, 2)), 'v': ['new'] * 60000}");
    for mode in ["upsert", "delete-insert"] {
        run(desk, &["run", "--from", "many.parquet", "--to", "db:M"]).ok();
        run(desk, &["run", "--from", "some.parquet", "--to", "db:M", "--mode", mode, "--key", "a,b,c"]).ok();
        let count = "select v, count(*), count(distinct c), sum(c) from \"M\" group by v order by v";
        let evens = (0..60_000u64).map(|i| 2 * i).sum::<u64>();
        let odds = (0..30_000u64).map(|i| 2 * i + 1).sum::<u64>();
        let told = rows(desk, base, count).to_string().replace('"', "");
        assert_eq!(told, format!("[[new,60000,60000,{evens}],[old,30000,30000,{odds}]]"));
    }
    judge(desk, "judge_database", &["do", &base.uri, "drop table \"M\""]);
    // Nothing of a staging table stays, whatever happened.
    let left = run(desk, &["ls", "db", "--json"]).ok().json();
    assert_eq!(left["entries"].as_array().unwrap().len(), 1, "{left}");
}

#[test]
fn modes_mean_the_same_in_sqlite() {
    let desk = Desk::new();
    let base = sqlite(&desk);
    modes(&desk, &base);
}

#[test]
fn modes_mean_the_same_in_postgresql_and_readers_never_see_half() {
    let desk = Desk::new();
    let base = postgres();
    modes(&desk, &base);
    // One table of a hundred thousand rows takes the place of another, a few times, under the eyes of a reader.
    desk.parquet("old.parquet", "{'v': ['old'] * 100000}");
    desk.parquet("new.parquet", "{'v': ['new'] * 150000}");
    run(&desk, &["run", "--from", "old.parquet", "--to", "db:W"]).ok();
    let mut watch = python();
    let script = format!("{}/tests/judge_database.py", env!("CARGO_MANIFEST_DIR"));
    watch.arg(script).args(["watch", &base.uri, "W"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let watcher = watch.spawn().unwrap();
    for file in ["new.parquet", "old.parquet", "new.parquet"] {
        run(&desk, &["run", "--from", file, "--to", "db:W"]).ok();
    }
    // Killed in the middle of an ingest: what was there stays.
    let mut child = desk.command(&["run", "--from", "old.parquet", "--to", "db:W"]);
    let mut child = child.env("DB_PASSWORD", "p@ss/word").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(250));
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = String::from_utf8(watcher.wait_with_output().unwrap().stdout).unwrap();
    let seen: Vec<(u64, String, String)> = serde_json::from_str(&seen).unwrap();
    let whole = [(100_000, "old".into(), "old".into()), (150_000, "new".into(), "new".into())];
    assert!(!seen.is_empty() && seen.iter().all(|s| whole.contains(s)), "{seen:?}");
}

/// Stands before a PostgreSQL and breaks the connection at a commit, when told to.
struct Breaker {
    port: u16,
    at: Arc<AtomicU8>,
}

impl Breaker {
    const NEVER: u8 = 0;
    /// The server never hears of the commit.
    const BEFORE: u8 = 1;
    /// The server commits, and its answer is lost.
    const AFTER: u8 = 2;

    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, at) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(Self::NEVER)));
        let told = Arc::clone(&at);
        // It waits for the next client until the tests end.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                Self::pass(client, server, Arc::clone(&told));
            }
        });
        Self { port, at }
    }

    fn pass(client: TcpStream, server: TcpStream, told: Arc<AtomicU8>) {
        let committing = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&committing);
        let asked = move |bytes: &[u8]| {
            let at = told.load(Ordering::SeqCst);
            let commit = at != Self::NEVER && bytes.windows(6).any(|w| w == b"COMMIT");
            seen.fetch_or(commit, Ordering::SeqCst);
            !commit || at == Self::AFTER
        };
        Self::copy(client.try_clone().unwrap(), server.try_clone().unwrap(), asked);
        Self::copy(server, client, move |_| !committing.load(Ordering::SeqCst));
    }

    fn copy(mut from: TcpStream, mut to: TcpStream, goes_on: impl Fn(&[u8]) -> bool + Send + 'static) {
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                if !goes_on(&buffer[..read]) || to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }

    fn breaks(&self, at: u8) {
        self.at.store(at, Ordering::SeqCst);
    }
}

/// The receipts of unfinished publishes.
fn receipts(desk: &Desk) -> Vec<String> {
    desk.files().into_iter().filter(|f| f.starts_with(".lakeport/state/publish/")).collect()
}

#[test]
fn rows_whose_commit_was_cut_off_are_there_once() {
    let desk = Desk::new();
    let base = postgres();
    let port = base.uri.rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
    let breaker = Breaker::before(port.parse().unwrap());
    desk.write("lakeport.toml", base.env.replace(port, &breaker.port.to_string()));
    desk.parquet("two.parquet", "{'v': [1, 2]}");
    let publish = |to: &str, mode: &str| run(&desk, &["run", "--from", "two.parquet", "--to", to, "--mode", mode]);
    let count = |table: &str| rows(&desk, &base, &format!("select count(*) from \"{table}\""));
    let appended = |rows: u64| assert_eq!(count("T"), serde_json::json!([[rows]]));
    publish("db:T", "append").ok();
    appended(2);

    breaker.breaks(Breaker::BEFORE);
    publish("db:T", "append").fails(5, "E150");
    appended(2);
    breaker.breaks(Breaker::NEVER);
    assert!(!publish("db:T", "append").ok().stdout.contains("nothing was sent again"));
    appended(4);

    breaker.breaks(Breaker::AFTER);
    publish("db:T", "append").fails(5, "E150").says("nothing is added twice");
    appended(6);
    let [kept] = &receipts(&desk)[..] else { panic!("one receipt") };
    breaker.breaks(Breaker::NEVER);
    // A restored copy gives the number to another transaction.
    let receipt = std::fs::read_to_string(desk.path().join(kept)).unwrap();
    assert!(receipt.contains('@'), "{receipt}");
    desk.write(kept, receipt.replace('@', "@1"));
    publish("db:T", "append").fails(5, "E154").says("it is not known whether they are there");
    desk.write(kept, receipt);
    publish("db:T", "append").ok().says("of a former run was committed, nothing was sent again");
    appended(6);
    // Which was told: the next one is another.
    publish("db:T", "append").ok();
    appended(8);

    breaker.breaks(Breaker::AFTER);
    publish("db:New", "create").fails(5, "E150");
    breaker.breaks(Breaker::NEVER);
    publish("db:New", "create").ok().says("nothing was sent again");
    publish("db:New", "create").fails(2, "E129");
    assert_eq!((count("New"), receipts(&desk).len()), (serde_json::json!([[2]]), 0));
}

#[test]
fn where_no_database_can_be_asked_a_person_is() {
    let desk = Desk::new();
    let base = sqlite(&desk);
    desk.write("lakeport.toml", &base.env);
    desk.parquet("k.parquet", "{'v': range(1000)}");
    let args = ["run", "--from", "k.parquet", "--to", "db:T", "--mode", "append"];
    let state = desk.path().join(".lakeport/state/publish");
    run(&desk, &args).ok();
    // The receipt as it is while the commit goes on, which takes no longer than a disk.
    let caught = (0..50).find_map(|_| {
        let mut child = desk.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut caught = None;
        while child.try_wait().unwrap().is_none() {
            let files = std::fs::read_dir(&state)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|f| f.path().extension().is_some_and(|e| e == "json"));
            for (path, text) in files.filter_map(|f| Some((f.path(), std::fs::read_to_string(f.path()).ok()?))) {
                if text.contains("\"committed\"") {
                    caught = Some((path, text));
                }
            }
        }
        assert!(child.wait().unwrap().success());
        caught
    });
    let (path, receipt) = caught.expect("no commit was seen");
    std::fs::write(&path, &receipt).unwrap();
    let told =
        run(&desk, &args).fails(5, "E154").says("it is not known whether they are there").says("rows of the table before: ");
    assert!(told.stderr.contains(&format!("remove {}", path.display())), "{}", told.stderr);
    let count = |desk: &Desk| rows(desk, &base, "select count(*) from \"T\"")[0][0].as_u64().unwrap();
    let before = count(&desk);
    // Other rows, or all of them anew, are another matter.
    run(&desk, &[&args[..], &["--limit", "10"]].concat()).ok().says("is not taken up");
    assert_eq!(count(&desk), before + 10);
    std::fs::write(&path, &receipt).unwrap();
    run(&desk, &["run", "--from", "k.parquet", "--to", "db:T"]).ok();
    assert_eq!(count(&desk), 1000);
}

/// Holds a lock on a table for as long as it lives.
struct Held(Child);

impl Held {
    fn by(base: &Base, sql: &str) -> Self {
        let mut holder = python();
        let script = format!("{}/tests/judge_database.py", env!("CARGO_MANIFEST_DIR"));
        holder.arg(script).args(["hold", &base.uri, sql]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut told = [0; 4];
        holder.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
        assert_eq!(&told, b"held");
        Self(holder)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn a_table_in_use_is_not_waited_for_without_end() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': [1, 2, 3]}");
    let publish = |mode: &str| run(&desk, &["run", "--from", "t.parquet", "--to", "db:T", "--mode", mode]);
    let base = postgres();
    desk.write("lakeport.toml", base.env.replace("/postgres\"", "/postgres?options=-c%20lock_timeout%3D400\""));
    publish("full").ok();
    let reader = Held::by(&base, "select count(*) from \"T\"");
    publish("full").fails(5, "E155").says("lock timeout").says("run again when whoever reads");
    // Rows can be added under its eyes.
    publish("append").ok();
    drop(reader);
    publish("full").ok();
    assert_eq!(rows(&desk, &base, "select count(*) from \"T\""), serde_json::json!([[3]]));

    let base = sqlite(&desk);
    desk.write("lakeport.toml", &base.env);
    publish("full").ok();
    let writer = Held::by(&base, "begin exclusive");
    publish("append").fails(5, "E155").says("is locked");
    drop(writer);
    publish("append").ok();
    assert_eq!(rows(&desk, &base, "select count(*) from \"T\""), serde_json::json!([[6]]));
}

#[test]
fn a_secret_among_the_options_is_not_printed() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': [1]}");
    let base = sqlite(&desk);
    desk.write("lakeport.toml", format!("{}options = {{ \"adbc.some.auth_token\" = {{ env = \"DB_PASSWORD\" }} }}\n", base.env));
    let refused = run(&desk, &["run", "--from", "t.parquet", "--to", "db:T"]).fails(6, "E207").says("adbc.some.auth_token");
    let report = run(&desk, &["report", "--json"]).stdout;
    for text in [&refused.stdout, &refused.stderr, &report] {
        assert!(!text.contains("p@ss/word"), "{text}");
    }
    assert!(refused.stderr.contains("[redacted]"), "{}", refused.stderr);
}

#[test]
fn what_is_wrong_with_a_database_is_told() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': [1]}");
    let base = postgres();
    desk.write("lakeport.toml", &base.env);
    let wrong =
        desk.command(&["run", "--from", "t.parquet", "--to", "db:T"]).env("DB_PASSWORD", "marked-secret").output().unwrap();
    let wrong = crate::support::Done::of(wrong).fails(4, "E140");
    assert!(!format!("{}{}", wrong.stdout, wrong.stderr).contains("marked-secret"));
    let env = |driver: &str, uri: &str| format!("[env.db]\ntype = \"database\"\ndriver = \"{driver}\"\nuri = \"{uri}\"\n");
    desk.write("lakeport.toml", env("postgresql", "postgresql://lake@127.0.0.1:1/postgres"));
    run(&desk, &["run", "--from", "t.parquet", "--to", "db:T"]).fails(5, "E150").says("Connection refused");
    desk.write("lakeport.toml", env("oracle", "oracle://x"));
    run(&desk, &["run", "--from", "t.parquet", "--to", "db:T"]).fails(2, "E121").says("pip install adbc-driver-oracle");
    desk.write("lakeport.toml", env("postgresql", "postgresql://lake:hush@127.0.0.1/postgres"));
    let literal = run(&desk, &["run", "--from", "t.parquet", "--to", "db:T"]).fails(2, "E121").says("password = { env");
    assert!(!literal.stderr.contains("hush"));
}
