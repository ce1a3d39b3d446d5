//! Delta tables: each version judged by delta-rs through its Python package, and by DuckDB over the files the log names.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stores::Emulator;
use crate::support::{Desk, Done, judge, python};

fn rows(desk: &Desk, table: &str) -> Value {
    serde_json::from_str(&judge(desk, "judge_delta", &["rows", table])).unwrap()
}

fn count(desk: &Desk, table: &str) -> usize {
    rows(desk, table).as_array().unwrap().len()
}

/// Version, mode and rows of each commit.
fn history(desk: &Desk, table: &str) -> Value {
    serde_json::from_str(&judge(desk, "judge_delta", &["history", table])).unwrap()
}

fn to<'a>(from: &'a str, table: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--from", from, "--to", table, "--format", "delta"], more].concat()
}

#[test]
fn a_delta_table_holds_every_value_created_appended_to_and_replaced() {
    let desk = Desk::new();
    judge(&desk, "torture", &["make", "."]);
    let flat = ["--verify", "full", "--types", "struct_flat=flatten"];
    let publish = |mode: &'static str| {
        let more = [&flat[..], &["--mode", mode]].concat();
        desk.run(&to("all.parquet", "./gold/all", &more)).ok().says("every value")
    };
    for (mode, times) in [("create", "1"), ("append", "2"), ("full", "1")] {
        publish(mode);
        print!("{mode}: {}", judge(&desk, "judge_delta", &["compare", "gold/all", times]));
    }
    assert_eq!(history(&desk, "gold/all"), json!([[0, "ErrorIfExists", 8], [1, "Append", 8], [2, "Overwrite", 8]]));
    let told = desk.run(&["describe", "gold/all"]).ok().says("version 2").says("8 rows").says("timestamp_ntz");
    assert!(told.stdout.contains("decimal(20,0)"), "{}", told.stdout);
    let plan = desk.run(&[&["plan"], &to("all.parquet", "./gold/all", &flat)[1..]].concat()).ok();
    plan.says("timestampNtz").says("decimal(20,0)").says("Delta has no time of day");
    desk.run(&["formats"]).ok().says("a Delta table: a directory");
}

#[test]
fn a_mode_means_what_it_says_and_a_refusal_changes_nothing() {
    let desk = Desk::new();
    desk.write(
        "lakeport.toml",
        "[env.store]\ntype = \"store\"\nroot = \"gold\"\n[job.t]\nfrom = \"one.parquet\"\nto = \"store:t\"\nformat = \"delta\"\n",
    );
    desk.parquet("one.parquet", "{'id': pa.array([1, 2], pa.int64()), 't': ['a', None]}");
    desk.parquet("other.parquet", "{'id': pa.array([1], pa.int32()), 'x': [True]}");
    desk.parquet("wide.parquet", "{'id': [1], 'at': pa.array([0], pa.timestamp('us'))}");
    desk.parquet("none.parquet", "pa.table({'id': pa.array([], pa.int64()), 't': pa.array([], pa.string())})");
    desk.run(&["run", "t", "--mode", "create"]).ok().says("version 0").says("as many rows");
    desk.run(&["run", "t", "--mode", "create"]).fails(2, "E129");
    desk.run(&["run", "t", "--mode", "upsert", "--key", "id"]).fails(2, "E127").says("full, create, append");
    let differs = desk.run(&to("other.parquet", "store:t", &["--mode", "append"])).fails(6, "E205");
    let differs = differs.says("`id` is long in the table and integer in the rows").says("`t` (string) is missing");
    differs.says("`x` (boolean) is not in the table");
    // A plan says so too, before any work.
    desk.run(&[&["plan"], &to("other.parquet", "store:t", &["--mode", "append"])[1..]].concat()).fails(6, "E205");
    desk.run(&["run", "t", "--mode", "append"]).ok().says("version 1 adds 2");
    // The order of columns is none of a table's business.
    let turned = ["run", "--sql", "select t, id + 10 as id from src", "--from", "one.parquet", "--to", "store:t"];
    desk.run(&[&turned[..], &["--format", "delta", "--mode", "append"]].concat()).ok();
    let all = json!([[1, "a"], [1, "a"], [2, null], [2, null], [11, "a"], [12, null]]);
    assert_eq!(rows(&desk, "gold/t"), all);
    // No rows are a commit without a file.
    desk.run(&to("none.parquet", "store:t", &["--mode", "append"])).ok().says("no file added");
    assert_eq!(rows(&desk, "gold/t"), all);
    // Replaced, with other columns, which need more of the protocol.
    desk.run(&to("wide.parquet", "store:t", &[])).ok().says("3 removed");
    assert_eq!(rows(&desk, "gold/t"), json!([[1, "1970-01-01 00:00:00"]]));
    desk.run(&to("none.parquet", "store:t", &[])).ok();
    assert_eq!(rows(&desk, "gold/t"), json!([]));
    desk.run(&["describe", "store:t"]).ok().says("0 rows").says("version 5");
    let modes: Vec<_> = history(&desk, "gold/t").as_array().unwrap().iter().map(|c| c[1].clone()).collect();
    assert_eq!(modes, ["ErrorIfExists", "Append", "Append", "Append", "Overwrite", "Overwrite"]);
    // A table of no rows from the start.
    desk.run(&to("none.parquet", "./gold/empty.delta", &["--mode", "create"])).ok();
    assert_eq!(rows(&desk, "gold/empty.delta"), json!([]));
    // Not where other files are, and never half.
    desk.run(&to("one.parquet", "./gold", &[])).fails(2, "E129").says("no Delta table");
    desk.run(&to("one.parquet", "./one.parquet", &[])).fails(2, "E129").says("is a file");
    desk.run(&["run", "--from", "one.parquet", "--to", "store:y.delta", "--lossy", "--where", "1/0 = id"]).fails(6, "E204");
    assert!(!desk.path().join("gold/y.delta").exists());
    let left: Vec<_> = desk.files().into_iter().filter(|f| f.starts_with(".lakeport/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn tables_of_others_are_appended_to_or_refused_by_name() {
    let desk = Desk::new();
    desk.python(
        "import deltalake as d, pyarrow as pa\n\
         t = pa.table({'id': pa.array([1], pa.int64()), 't': ['a']})\n\
         d.write_deltalake('plain', t, configuration={'delta.checkpointInterval': '5'})\n\
         d.write_deltalake('parts', t, partition_by=['t'])\n\
         d.write_deltalake('checked', t)\n\
         d.DeltaTable('checked').alter.add_constraint({'positive': 'id > 0'})\n\
         d.write_deltalake('only', t, configuration={'delta.appendOnly': 'true'})\n\
         s = d.Schema([d.Field('id', 'long', nullable=False), d.Field('t', 'string')])\n\
         d.DeltaTable.create('strict', s)",
    );
    desk.parquet("one.parquet", "{'id': pa.array([2], pa.int64()), 't': ['b']}");
    desk.parquet("null.parquet", "{'id': pa.array([None], pa.int64()), 't': ['b']}");
    for _ in 0..11 {
        desk.run(&to("one.parquet", "./plain", &["--mode", "append"])).ok();
    }
    assert_eq!(count(&desk, "plain"), 12);
    assert!(desk.path().join("plain/_delta_log/00000000000000000009.checkpoint.parquet").exists(), "{:?}", desk.files());
    for mode in ["append", "full"] {
        desk.run(&to("one.parquet", "./parts", &["--mode", mode])).fails(2, "E127").says("partitioned by t");
        desk.run(&to("one.parquet", "./checked", &["--mode", mode])).fails(2, "E127").says("checkConstraints");
    }
    desk.run(&to("one.parquet", "./only", &["--mode", "full"])).fails(2, "E127").says("append-only");
    desk.run(&to("one.parquet", "./only", &["--mode", "append"])).ok();
    assert_eq!(count(&desk, "only"), 2);
    desk.run(&to("null.parquet", "./strict", &["--mode", "append"])).fails(6, "E204").says("takes no NULL");
    desk.run(&to("one.parquet", "./strict", &["--mode", "append"])).ok();
    assert_eq!(rows(&desk, "strict"), json!([[2, "b"]]));
}

#[test]
fn a_version_is_a_source_and_removed_rows_never_come_back() {
    let desk = Desk::new();
    desk.python(
        "import datetime as dt, deltalake as d, pyarrow as pa\n\
         def t(ids, city, days): return pa.table({'id': pa.array(ids, pa.int64()), 'city': pa.array([city] * len(ids), pa.string()), 'day': pa.array([dt.date(2024, 1, n) for n in days], pa.date32())})\n\
         d.write_deltalake('t', t([1, 2], 'a b/c', [1, 2]), partition_by=['city', 'day'])\n\
         d.write_deltalake('t', t([3], None, [3]), mode='append')\n\
         d.write_deltalake('t', t([4, 5], 'München', [1, 1]), mode='append')\n\
         d.DeltaTable('t').delete('id = 4')\n\
         d.DeltaTable('t').delete('id = 2')\n\
         d.write_deltalake('grown', pa.table({'id': [1]}))\n\
         d.write_deltalake('grown', pa.table({'id': [2], 'n': ['x']}), mode='append', schema_mode='merge')\n\
         d.DeltaTable.create('mapped', d.Schema([d.Field('id', 'long')]), configuration={'delta.columnMapping.mode': 'name'})\n\
         d.DeltaTable.create('bare', d.Schema([d.Field('id', 'long'), d.Field('t', 'string')]))",
    );
    let lines = |file: &str| {
        let mut lines: Vec<_> = std::fs::read_to_string(desk.path().join(file)).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    desk.run(&["convert", "./t", "t.csv", "--verify", "full"]).ok();
    assert_eq!(lines("t.csv"), ["1,a b/c,2024-01-01", "3,,2024-01-03", "5,München,2024-01-01", "id,city,day"]);
    let described = desk.run(&["plan", "--from", "./t", "--to", "x.csv", "--json"]).ok().json();
    let snapshot = &described["plans"][0]["tables"][0]["snapshot"];
    assert_eq!((&snapshot["layout"], &snapshot["id"], &snapshot["rows"]), (&json!("delta"), &json!("4"), &json!(3)));
    desk.run(&[
        "run",
        "--from",
        "./t",
        "--to",
        "s.csv",
        "--sql",
        "select id from src where day = date '2024-01-01' and city <> 'a b/c'",
    ])
    .ok();
    assert_eq!(lines("s.csv"), ["5", "id"]);
    // hyperd loads the files of the version itself, with the values of their partitions.
    desk.run(&["convert", "./t", "t.hyper", "--route", "direct"]).ok();
    assert_eq!(
        desk.rows("t.hyper", "id"),
        json!([[1, "a b/c", "2024-01-01"], [3, null, "2024-01-03"], [5, "München", "2024-01-01"]])
    );
    desk.run(&["convert", "./grown", "g.csv"]).ok();
    assert_eq!(lines("g.csv"), ["1,", "2,x", "id,n"]);
    desk.run(&["convert", "./bare", "b.csv"]).ok();
    assert_eq!(lines("b.csv"), ["id,t"]);
    desk.run(&["convert", "./mapped", "m.csv"]).fails(2, "E127").says("columnMapping");
    let part = std::fs::read_dir(desk.path().join("t"))
        .unwrap()
        .flatten()
        .find(|e| e.file_name().to_string_lossy().starts_with("city=M"));
    let part = format!("./t/{}", part.unwrap().file_name().to_string_lossy());
    desk.run(&["convert", &part, "p.csv"]).fails(2, "E127").says("part of a Delta table");
    // What Lakeport wrote is read back by it, too, after a replacement.
    judge(&desk, "torture", &["make", "."]);
    for _ in 0..2 {
        desk.run(&to("all.parquet", "./all", &["--types", "struct_flat=flatten"])).ok();
    }
    desk.run(&["convert", "./all", "back.parquet", "--verify", "full"]).ok();
    print!("{}", judge(&desk, "formats", &["compare", "back.parquet"]));
}

fn start(desk: &Desk, args: &[&str]) -> Child {
    desk.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn writers_at_once_all_land() {
    let desk = Desk::new();
    const WRITERS: usize = 4;
    for writer in 0..WRITERS {
        desk.parquet(&format!("{writer}.parquet"), &format!("{{'w': [{writer}] * 1000}}"));
    }
    // There is no table yet: one of them makes it.
    let running: Vec<_> =
        (0..WRITERS).map(|w| start(&desk, &to(&format!("{w}.parquet"), "./t", &["--mode", "append"]))).collect();
    for child in running {
        Done::of(child.wait_with_output().unwrap()).ok();
    }
    assert_eq!(count(&desk, "t"), 1000 * WRITERS);
    let versions: Vec<_> = history(&desk, "t").as_array().unwrap().iter().map(|c| c[0].clone()).collect();
    assert_eq!(versions, (0..WRITERS).map(Value::from).collect::<Vec<_>>());
    // Replacing at once: the last one's rows are there, and only they.
    let running: Vec<_> = (0..WRITERS).map(|w| start(&desk, &to(&format!("{w}.parquet"), "./t", &[]))).collect();
    for child in running {
        Done::of(child.wait_with_output().unwrap()).ok();
    }
    let left = rows(&desk, "t");
    let left = left.as_array().unwrap();
    assert!(left.len() == 1000 && left.iter().all(|r| *r == left[0]), "{} rows", left.len());
}

#[test]
fn killed_at_any_point_an_append_is_there_once() {
    const POINTS: u32 = 10;
    const ROWS: usize = 200_000;
    let desk = Desk::new();
    desk.python(&format!(
        "import pyarrow as pa, pyarrow.parquet as pq\n\
         pq.write_table(pa.table({{'id': range({ROWS}), 't': [f'row {{i % 1000}}' for i in range({ROWS})]}}), 'k.parquet')"
    ));
    let args = to("k.parquet", "./t", &["--mode", "append"]);
    let began = Instant::now();
    desk.run(&args).ok();
    let whole = began.elapsed();
    let rows = |desk: &Desk| -> usize {
        desk.python("import deltalake as d; print(d.DeltaTable('t').to_pyarrow_dataset().count_rows())").trim().parse().unwrap()
    };
    // How far the receipt says that a publish has come; it goes with the end of the run.
    let receipt = |desk: &Desk| -> String {
        let files = std::fs::read_dir(desk.path().join(".lakeport/state/publish")).into_iter().flatten().flatten();
        files.filter_map(|f| std::fs::read_to_string(f.path()).ok()).collect()
    };
    let stages = ["\"committed\"", "\"published\""];
    let (mut there, mut before, mut after) = (ROWS, 0, 0);
    for point in 0..POINTS {
        let mut child = start(&desk, &args);
        // By the clock, and at last as soon as the receipt tells of the moments that no clock meets.
        match stages.iter().rev().nth((POINTS - 1 - point) as usize) {
            Some(stage) => while !receipt(&desk).contains(stage) && child.try_wait().unwrap().is_none() {},
            None => std::thread::sleep(whole * point / POINTS + Duration::from_millis(5)),
        }
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        let now = rows(&desk);
        assert!(now == there || now == there + ROWS, "killed at point {point}: {there} rows became {now}");
        if now == there {
            before += 1
        } else {
            after += 1
        }
        // A commit that was cut off is taken up, whether its run knew that it had landed; one that had been told is another
        // append.
        let open = stages.iter().any(|stage| receipt(&desk).contains(stage));
        let again = now > there && (ended.success() || !open);
        desk.run(&args).ok();
        there += if again { 2 * ROWS } else { ROWS };
        assert_eq!(rows(&desk), there, "killed at point {point}, after the rerun");
    }
    let left: Vec<_> = desk.files().into_iter().filter(|f| f.starts_with(".lakeport/")).collect();
    assert!(left.is_empty(), "{left:?}");
    println!("killed {POINTS} times: {before} times before the commit, {after} times after it, never between");
}

#[test]
fn what_the_dead_left_is_swept_and_nothing_else() {
    let desk = Desk::new();
    desk.parquet("one.parquet", "{'id': [1]}");
    desk.run(&to("one.parquet", "./t", &[])).ok();
    let plant = |days: u64| {
        let code = format!(
            "import time, uuid, random\n\
             ms = int((time.time() - {days} * 86400) * 1000)\n\
             n = (ms << 80) | (7 << 76) | (random.getrandbits(12) << 64) | (2 << 62) | random.getrandbits(62)\n\
             name = f't/part-00000-lakeport-{{uuid.UUID(int=n)}}.parquet'\n\
             open(name, 'wb').write(b'torn'); print(name)"
        );
        desk.python(&code).trim().to_owned()
    };
    let (young, old, ancient) = (plant(0), plant(2), plant(9));
    // Removed from the table and three days old, but told of in its log: a version that can be asked for needs it.
    let known = plant(3);
    let path = known.strip_prefix("t/").unwrap();
    let now = desk.python("import time; print(int(time.time() * 1000))").trim().to_owned();
    let gone = format!("{{\"remove\":{{\"path\":\"{path}\",\"dataChange\":true,\"deletionTimestamp\":{now}}}}}");
    desk.write("t/_delta_log/00000000000000000001.json", gone);
    desk.run(&to("one.parquet", "./t", &["--mode", "append"])).ok().says("1 data files that killed runs had left");
    let there = |file: &str| desk.path().join(file).exists();
    assert_eq!([there(&young), there(&old), there(&ancient), there(&known)], [true, false, true, true]);
    assert_eq!(count(&desk, "t"), 2);
}

#[test]
fn an_object_store_holds_tables_and_a_lost_answer_is_no_second_append() {
    let desk = Desk::new();
    let mut s3 = Emulator::start(&["s3"]);
    s3.ask("s3.create_bucket(Bucket='bucket')");
    let env = |name: &str, endpoint: &str| {
        format!(
            "[env.{name}]\ntype = \"store\"\nroot = \"s3://bucket/gold\"\noptions = {{ aws_endpoint = \"{endpoint}\", \
             aws_allow_http = \"true\", aws_region = \"us-east-1\" }}\n"
        )
    };
    desk.write("lakeport.toml", env("store", &s3.direct) + &env("faulty", &s3.proxy));
    desk.parquet("one.parquet", "{'id': pa.array([1, 2], pa.int64()), 't': ['a', None]}");
    let lakeport = |args: &[&str]| {
        let mut command = desk.command(args);
        Done::of(command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "hush-hush-hush").output().unwrap())
    };
    let options = json!({
        "AWS_ENDPOINT_URL": s3.direct, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
    });
    let judged = |what: &str| -> Value {
        let script = format!("{}/tests/judge_delta.py", env!("CARGO_MANIFEST_DIR"));
        let mut command = python();
        command.arg(script).args([what, "s3://bucket/gold/day/orders"]).env("JUDGE_OPTIONS", options.to_string());
        Done::of(command.output().unwrap()).ok().json()
    };
    let orders = |env: &'static str, mode: &'static str| {
        let to = format!("{env}:day/orders");
        lakeport(&["run", "--from", "one.parquet", "--to", &to, "--format", "delta", "--mode", mode])
    };
    orders("store", "create").ok().says("version 0");
    orders("store", "create").fails(2, "E129");
    orders("store", "append").ok().says("version 1 adds 2");
    assert_eq!(judged("rows"), json!([[1, "a"], [1, "a"], [2, null], [2, null]]));
    // The store does the commit and its answer is lost: the first request of a run puts the file, the second commits.
    s3.ask("fault('reset after', 'put', 2, 1)");
    orders("faulty", "append").ok().says("version 2");
    s3.ask("no_fault()");
    assert_eq!(judged("history").as_array().unwrap().len(), 3);
    assert_eq!(judged("rows").as_array().unwrap().len(), 6);
    // A store that fails for good leaves the old version, and no file behind.
    let files = "answer = len([o for o in s3.list_objects_v2(Bucket='bucket')['Contents'] if o['Key'].endswith('.parquet')])";
    let there = s3.ask(files);
    s3.ask("fault('403', 'put', 2)");
    let failed = orders("faulty", "append");
    assert_eq!(failed.code, 4, "{}", failed.stderr);
    assert!(!failed.stderr.contains("hush"), "{}", failed.stderr);
    s3.ask("no_fault()");
    assert_eq!((judged("rows").as_array().unwrap().len(), s3.ask(files)), (6, there));
    orders("store", "full").ok().says("3 removed");
    assert_eq!(judged("rows"), json!([[1, "a"], [2, null]]));
    lakeport(&["describe", "store:day/orders"]).ok().says("version 3").says("2 rows");
}

#[test]
fn azure_holds_tables() {
    let desk = Desk::new();
    let azurite = std::env::var("LAKEPORT_AZURITE").expect("LAKEPORT_AZURITE names no Azurite; run `make test`");
    let mut azure = Emulator::start(&["azure", &azurite]);
    let key = azure.ask("blobs.create_container('box'); answer = key").as_str().unwrap().to_owned();
    let env = format!(
        "[env.store]\ntype = \"store\"\nroot = \"az://box/gold\"\noptions = {{ azure_storage_endpoint = \
         \"{}/devstoreaccount1\", azure_allow_http = \"true\" }}\n",
        azure.direct
    );
    desk.write("lakeport.toml", env);
    desk.parquet("one.parquet", "{'id': [1, 2]}");
    for (mode, says) in [("create", "version 0"), ("append", "version 1"), ("append", "version 2")] {
        let mut command = desk.command(&["run", "--from", "one.parquet", "--to", "store:t", "--format", "delta", "--mode", mode]);
        command.env("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1").env("AZURE_STORAGE_ACCOUNT_KEY", &key);
        Done::of(command.output().unwrap()).ok().says(says);
    }
    // The whole table as its blobs, for a judge that reads from disk.
    let back = desk.path().join("back");
    azure.ask(&format!(
        "import pathlib\n\
         box = blobs.get_container_client('box')\n\
         for blob in box.list_blobs():\n\
         \x20   path = pathlib.Path({back:?}) / blob.name\n\
         \x20   path.parent.mkdir(parents=True, exist_ok=True)\n\
         \x20   path.write_bytes(box.download_blob(blob.name).readall())\n"
    ));
    assert_eq!(rows(&desk, "back/gold/t"), json!([[1], [1], [1], [2], [2], [2]]));
}

/// Writes a Delta table of the given schema by hand, with files of the given tables as a careless writer makes them.
fn by_hand(desk: &Desk, table: &str, fields: &Value, files: &str) {
    desk.python(&format!(
        r#"
import datetime as dt, decimal as dc, json, os, pyarrow as pa, pyarrow.parquet as pq
far = [dt.datetime(9999, 12, 31, 23, 59, 59, 999999), dt.datetime(1, 1, 1), dt.datetime(2024, 2, 29, 1, 2, 3, 4), None]
old = dict(use_deprecated_int96_timestamps=True, store_schema=False)
os.makedirs("{table}/_delta_log")
schema = json.dumps(dict(type="struct", fields=json.loads(r"""{fields}""")))
log = [dict(protocol=dict(minReaderVersion=1, minWriterVersion=2)), dict(metaData=dict(id="1", format=dict(provider="parquet",
    options=dict()), schemaString=schema, partitionColumns=[], configuration=dict(), createdTime=0))]
for number, (columns, how) in enumerate({files}):
    name = f"{{number}}.parquet"
    pq.write_table(pa.table(columns), f"{table}/{{name}}", **how)
    log.append(dict(add=dict(path=name, partitionValues=dict(), size=os.path.getsize(f"{table}/{{name}}"), modificationTime=0,
        dataChange=True)))
open("{table}/_delta_log/00000000000000000000.json", "w").write("\n".join(map(json.dumps, log)))
"#
    ));
}

fn field(name: &str, data_type: &str) -> Value {
    json!({ "name": name, "type": data_type, "nullable": true, "metadata": {} })
}

#[test]
fn files_of_old_and_new_timestamps_are_one_table_of_instants() {
    let desk = Desk::new();
    let fields = json!([field("id", "long"), field("at", "timestamp")]);
    let files = "[({'id': [1, 2, 3, 4], 'at': pa.array(far, pa.timestamp('us'))}, old), \
                  ({'id': [5], 'at': pa.array(far[:1], pa.timestamp('us', 'UTC'))}, {})]";
    by_hand(&desk, "t", &fields, files);
    let plan = desk.run(&["plan", "--from", "t", "--to", "x.hyper", "--json"]).ok().json();
    assert_eq!(plan["plans"][0]["tables"][0]["columns"][1]["verdict"], "exact", "{plan}");
    desk.run(&["convert", "t", "t.hyper", "--verify", "full"]).ok();
    let (far, near) = ("9999-12-31 23:59:59.999999", "2024-02-29 01:02:03.000004");
    let at = |row: &Value| row[1].as_str().map(|text| text.trim_end_matches("+00:00").to_owned());
    let rows: Vec<_> = desk.rows("t.hyper", "id").as_array().unwrap().iter().map(at).collect();
    let expected = [Some(far), Some("1-01-01 00:00:00"), Some(near), None, Some(far)];
    assert_eq!(rows, expected.map(|text| text.map(str::to_owned)));
    // Nanoseconds would be cut to what the log says.
    let fine = "[({'id': [1], 'at': pa.array([1001], pa.timestamp('ns'))}, old)]";
    by_hand(&desk, "fine", &fields, fine);
    desk.run(&["convert", "fine", "fine.hyper"]).fails(6, "E204").says("INT96").says("0.parquet");
}

#[test]
fn a_file_whose_values_would_change_to_fit_the_log_is_named() {
    let desk = Desk::new();
    for (number, (column, data_type)) in [
        ("pa.array([1001], pa.timestamp('ns', 'UTC'))", "timestamp"),
        ("pa.array([1.5])", "long"),
        ("pa.array([2**53 + 1])", "double"),
        ("pa.array(['1'])", "integer"),
        ("pa.array([dc.Decimal('1.25')], pa.decimal128(10, 2))", "decimal(10,1)"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        by_hand(&desk, &table, &json!([field("a", data_type)]), &format!("[(dict(a={column}), dict())]"));
        desk.run(&["convert", &table, "x.hyper"]).fails(6, "E205").says("`a`").says("0.parquet");
    }
    // What a log has widened since, is read.
    by_hand(
        &desk,
        "wide",
        &json!([field("a", "long")]),
        "[(dict(a=pa.array([7], pa.int32())), dict()), (dict(a=[2**40]), dict())]",
    );
    desk.run(&["convert", "wide", "wide.hyper"]).ok();
    assert_eq!(desk.rows("wide.hyper", "a"), json!([[7], [1_099_511_627_776_i64]]));
}
