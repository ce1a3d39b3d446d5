//! Object stores, emulated by others: moto for S3, Azurite for Azure, judged through the vendors' own clients.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Desk, Done, python};

/// An emulator behind a proxy with faults, and a client to look into it.
pub(crate) struct Emulator {
    child: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Where the emulator itself listens, the proxy before it, and nobody.
    pub(crate) direct: String,
    pub(crate) proxy: String,
    nobody: String,
}

impl Emulator {
    pub(crate) fn start(args: &[&str]) -> Self {
        let helper = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stores.py");
        let mut child = python().arg(helper).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let addresses: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{args:?} did not start: {e}: {line}"));
        let text = |name: &str| addresses[name].as_str().unwrap().to_owned();
        let ask = child.stdin.take();
        Self { child, ask, answers, direct: text("direct"), proxy: text("proxy"), nobody: text("nobody") }
    }

    /// Runs Python beside the client; what it calls `answer` comes back.
    #[track_caller]
    pub(crate) fn ask(&mut self, code: &str) -> Value {
        writeln!(self.ask.as_mut().unwrap(), "{}", json!(code)).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["error"].is_null(), "{}", answer["error"].as_str().unwrap());
        answer["ok"].take()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The helper ends, and its emulator with it, when nobody asks any more.
        self.ask = None;
        let _ = self.child.wait();
    }
}

/// A command with these variables and none of the machine's own for clouds.
fn run(desk: &Desk, variables: &[(&str, &str)], args: &[&str]) -> Done {
    let mut command: Command = desk.command(args);
    for (key, _) in std::env::vars() {
        if ["AWS_", "AZURE_", "AZURITE_", "GOOGLE_"].iter().any(|p| key.starts_with(p)) {
            command.env_remove(key);
        }
    }
    Done::of(command.envs(variables.iter().copied()).output().unwrap())
}

/// A table whose .hyper takes more than two parts, in a file made by Lakeport itself.
fn large_extract(desk: &Desk) {
    desk.parquet("large.parquet", "{'b': [__import__('random').Random(i).randbytes(40_000) for i in range(500)]}");
    desk.run(&["convert", "large.parquet", "large.hyper", "--verify", "counts"]).ok();
    assert!(std::fs::metadata(desk.path().join("large.hyper")).unwrap().len() > 2 * 8 * 1024 * 1024);
}

const ROWS: &str = "[[1, \"a\", \"2026-01-01\", 7], [2, null, \"2026-01-02\", 7], [3, \"ü\", \"2026-01-03\", 8]]";

/// Who one is on the S3 of the tests.
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hush-hush-hush")];

/// An environment on it.
fn on_s3(name: &str, kind: &str, root: &str, endpoint: &str) -> String {
    format!(
        "[env.{name}]\ntype = \"{kind}\"\nroot = \"{root}\"\noptions = {{ aws_endpoint = \"{endpoint}\", \
         aws_allow_http = \"true\", aws_region = \"us-east-1\" }}\n"
    )
}

#[test]
#[allow(clippy::too_many_lines)] // One emulator serves all; starting it takes longer than most of the steps.
fn s3_is_read_and_written_whole_or_not_at_all() {
    let desk = Desk::new();
    let mut s3 = Emulator::start(&["s3"]);
    let config = [
        on_s3("lake", "lake", "s3://bucket/gold", &s3.direct),
        on_s3("out", "lake", "s3://bucket/out", &s3.proxy),
        on_s3("nobucket", "lake", "s3://no-such-bucket/x", &s3.direct),
        on_s3("nobody", "lake", "s3://bucket/gold", &s3.nobody),
    ];
    desk.write("lakeport.toml", config.concat());
    s3.ask(
        "
import gzip, datetime
s3.create_bucket(Bucket='bucket')
day = lambda d: datetime.date(2026, 1, d)
put = lambda key, body: s3.put_object(Bucket='bucket', Key=key, Body=body)
get = lambda key: s3.get_object(Bucket='bucket', Key=key)['Body'].read()
keys = lambda: [o['Key'] for o in s3.list_objects_v2(Bucket='bucket', Prefix='out/').get('Contents', [])]
uploads = lambda: len(s3.list_multipart_uploads(Bucket='bucket').get('Uploads', []))
put('gold/orders/month=7/a b.parquet', parquet(id=[1, 2], name=['a', None], day=[day(1), day(2)]))
put('gold/orders/month=8/c.parquet', parquet(id=[3], name=['ü'], day=[day(3)]))
put('gold/people.csv.gz', gzip.compress(b'id,name\\n1,Ann\\n2,\\n'))
",
    );
    let lakeport = |args: &[&str]| run(&desk, &KEYS, args);

    // Reading.
    lakeport(&["ls", "lake"]).ok().says("orders").says("partitioned by month").says("people.csv.gz");
    lakeport(&["describe", "lake:orders"]).ok().says("month").says("name");
    lakeport(&["convert", "lake:orders", "orders.hyper", "--verify", "full"]).ok();
    let rows: Value = serde_json::from_str(ROWS).unwrap();
    assert_eq!(desk.rows("orders.hyper", "id"), rows);
    lakeport(&["convert", "lake:people.csv.gz", "people.hyper"]).ok();
    assert_eq!(desk.rows("people.hyper", "id"), json!([[1, "Ann"], [2, null]]));
    lakeport(&["convert", "lake:nothing", "x.hyper"]).fails(3, "E130");
    lakeport(&["convert", "nobucket:t", "x.hyper"]).fails(3, "E130");
    lakeport(&["ls", "nobucket"]).fails(3, "E130");
    let started = std::time::Instant::now();
    let lost = lakeport(&["convert", "nobody:orders", "x.hyper"]);
    assert_eq!(lost.code, 5, "{}", lost.stderr);
    assert!(started.elapsed().as_secs() < 20, "a wrong address is told in time: {:?}", started.elapsed());

    // Writing: one request.
    lakeport(&["run", "--from", "lake:orders", "--to", "out:day/orders.hyper"]).ok().says("single request");
    let back = desk.path().join("back.hyper");
    s3.ask(&format!("open({back:?}, 'wb').write(get('out/day/orders.hyper'))"));
    assert_eq!(desk.rows("back.hyper", "id"), rows);
    lakeport(&["publish", "orders.hyper", "out:orders.hyper"]).ok();
    let sha = |file: &str| format!("sha_file({:?})", desk.path().join(file));
    assert_eq!(s3.ask(&format!("answer = sha(get('out/orders.hyper')) == {}", sha("orders.hyper"))), true);
    lakeport(&["publish", "people.hyper", "out:orders.hyper", "--mode", "create"]).fails(2, "E129");
    assert_eq!(s3.ask(&format!("answer = sha(get('out/orders.hyper')) == {}", sha("orders.hyper"))), true);

    // Writing: parts.
    large_extract(&desk);
    lakeport(&["publish", "large.hyper", "out:large.hyper"]).ok().says("parts of 8.0 MiB");
    let whole = format!("answer = [sha(get('out/large.hyper')) == {}, uploads()]", sha("large.hyper"));
    assert_eq!(s3.ask(&whole), json!([true, 0]));
    lakeport(&["publish", "large.hyper", "out:large.hyper", "--mode", "create"]).fails(2, "E129");

    // Passing faults are got over: the object is whole, no upload stays open.
    for fault in [
        "fault('reset', 'part', 2, 1)",
        "fault('500', 'part', 1, 2)",
        "fault('reset after', 'part', 2, 1)",
        "fault('503', 'begin', 1, 1)",
        "fault('500', 'complete', 1, 1)",
        "fault('error in 200', 'complete', 1, 1)",
        "fault('reset', 'complete', 1, 1)",
        "fault('reset after', 'complete', 1, 1)",
    ] {
        s3.ask(&format!("s3.delete_object(Bucket='bucket', Key='out/large.hyper'); {fault}"));
        let done = lakeport(&["publish", "large.hyper", "out:large.hyper"]);
        assert_eq!(done.code, 0, "{fault}: {}", done.stderr);
        s3.ask("no_fault()");
        assert_eq!(s3.ask(&whole), json!([true, 0]), "{fault}");
    }

    // Lasting ones end the run; the old object or none is there, no upload stays open.
    s3.ask("s3.delete_object(Bucket='bucket', Key='out/large.hyper'); put('out/old.hyper', b'old')");
    for (fault, exit, name) in [
        ("fault('403', 'part', 2)", 4, "large.hyper"),
        ("fault('500', 'part', 3)", 5, "old.hyper"),
        ("fault('403', 'complete')", 4, "old.hyper"),
        ("fault('reset', 'complete')", 5, "large.hyper"),
    ] {
        s3.ask(fault);
        let done = lakeport(&["publish", "large.hyper", &format!("out:{name}")]);
        assert_eq!(done.code, exit, "{fault}: {}", done.stderr);
        assert!(!done.stderr.contains("hush"), "{}", done.stderr);
        s3.ask("no_fault()");
        let left = s3.ask("answer = ['out/large.hyper' in keys(), get('out/old.hyper').decode(), uploads()]");
        assert_eq!(left, json!([false, "old", 0]), "{fault}");
    }

    // Interrupted between two parts, it takes them back.
    s3.ask("fault('wait', 'part', 2, 1)");
    let mut command = desk.command(&["publish", "large.hyper", "out:late.hyper"]);
    let child = command.envs(KEYS).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while s3.ask("answer = Proxy.seen.get('part', 0) >= 2") != true {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    Done::of(child.wait_with_output().unwrap()).fails(130, "E400").says("interrupted while publishing");
    s3.ask("no_fault()");
    assert_eq!(s3.ask("answer = ['out/late.hyper' in keys(), uploads()]"), json!([false, 0]));

    // A new name whose answer was lost is not called taken.
    s3.ask("fault('reset after', 'put', 1, 1)");
    lakeport(&["publish", "orders.hyper", "out:once.hyper", "--mode", "create"]).ok();
    s3.ask("no_fault()");
    lakeport(&["publish", "orders.hyper", "out:once.hyper", "--mode", "create"]).fails(2, "E129");

    // Keys are written as they are, on either way.
    let odd = "out:100%25 Käufe~1#?.parquet";
    lakeport(&["run", "--from", "lake:orders", "--to", odd]).ok();
    assert_eq!(s3.ask("answer = 'out/100%25 Käufe~1#?.parquet' in keys()"), true);
    lakeport(&["convert", odd, "odd.hyper"]).ok();
    assert_eq!(desk.rows("odd.hyper", "id"), rows);

    // Without an environment.
    let all =
        [KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", s3.direct.as_str()), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "us-east-1")];
    run(&desk, &all, &["run", "--from", "s3://bucket/gold/orders/", "--to", "s3://bucket/out/direct.hyper"]).ok();
    s3.ask(&format!("open({back:?}, 'wb').write(get('out/direct.hyper'))"));
    assert_eq!(desk.rows("back.hyper", "id"), rows);
}

#[test]
#[allow(clippy::too_many_lines)] // One emulator serves all.
fn plain_files_and_sets_of_them_are_on_s3_whole_or_not_at_all() {
    let desk = Desk::new();
    let mut s3 = Emulator::start(&["s3"]);
    desk.write("lakeport.toml", on_s3("out", "store", "s3://bucket/out", &s3.proxy));
    s3.ask(
        "
import io, json
import pyarrow.parquet as pq, pyarrow.csv as pc, pyarrow.orc as po
s3.create_bucket(Bucket='bucket')
get = lambda key: s3.get_object(Bucket='bucket', Key=key)['Body'].read()
keys = lambda: [o['Key'] for o in s3.list_objects_v2(Bucket='bucket', Prefix='out/').get('Contents', [])]
uploads = lambda: len(s3.list_multipart_uploads(Bucket='bucket').get('Uploads', []))
def rows(prefix):
    m = json.loads(get(prefix + '_manifest.json'))
    parts = [get(prefix + p['name']) for p in m['parts']]
    assert [sha(p) for p in parts] == [p['sha256'] for p in m['parts']]
    assert sorted(keys()) == sorted([prefix + '_manifest.json'] + [prefix + p['name'] for p in m['parts']]), keys()
    return [pq.read_table(io.BytesIO(p)).num_rows for p in parts]
",
    );
    let lakeport = |args: &[&str]| run(&desk, &KEYS, args);
    desk.parquet("t.parquet", "{'id': range(1000), 's': [f'row {i}' for i in range(1000)]}");

    // Plain files of every format, each by one request; one that fails leaves nothing.
    for file in ["t.csv.gz", "t.ndjson", "t.parquet", "t.avro", "t.orc", "t.xlsx", "t.yxdb"] {
        s3.ask("fault('403', 'put')");
        let to = format!("out:{file}");
        assert_eq!(lakeport(&["run", "--from", "t.parquet", "--to", &to]).code, 4, "{file}");
        s3.ask("no_fault()");
        assert_eq!(s3.ask("answer = keys()"), json!([]), "{file}");
        lakeport(&["run", "--from", "t.parquet", "--to", &to]).ok().says("single request");
        lakeport(&["run", "--from", "t.parquet", "--to", &to, "--mode", "create"]).fails(2, "E129");
        s3.ask(&format!(
            "open({:?}, 'wb').write(get('out/{file}')); s3.delete_object(Bucket='bucket', Key='out/{file}')",
            desk.path().join(format!("back-{file}"))
        ));
    }
    for file in ["back-t.csv.gz", "back-t.ndjson", "back-t.parquet", "back-t.avro", "back-t.orc", "back-t.xlsx", "back-t.yxdb"] {
        lakeport(&["convert", file, "again.parquet"]).ok().says("1,000 rows");
    }

    // A set, and the next one in its place.
    let set = ["run", "--from", "t.parquet", "--to", "out:set/", "--format", "parquet", "--split"];
    let split = |by: &str, more: &[&str]| lakeport(&[&set[..], &[by], more].concat());
    split("rows=400", &[]).ok().says("3 parts and a manifest");
    assert_eq!(s3.ask("answer = rows('out/set/')"), json!([400, 400, 200]));
    split("rows=600", &["--verify", "full"]).ok();
    assert_eq!(s3.ask("answer = rows('out/set/')"), json!([600, 400]));
    split("rows=100", &["--mode", "create"]).fails(2, "E129");
    // Whatever fails, from the intent over the parts to the manifest: the former set is there and nothing else.
    for (fault, exit) in [
        ("fault('403', 'put', 1)", 4),
        ("fault('403', 'put', 4)", 4),
        ("fault('403', 'put', 12)", 4),
        ("fault('reset', 'put', 7)", 5),
    ] {
        s3.ask(fault);
        let done = split("rows=100", &[]);
        assert_eq!(done.code, exit, "{fault}: {}", done.stderr);
        s3.ask("no_fault()");
        assert_eq!(s3.ask("answer = rows('out/set/')"), json!([600, 400]), "{fault}");
    }
    // What passes is got over, also a lost answer to the manifest.
    s3.ask("fault('reset after', 'put', 12, 1)");
    split("rows=100", &[]).ok();
    s3.ask("no_fault()");
    assert_eq!(s3.ask("answer = rows('out/set/')"), json!([100, 100, 100, 100, 100, 100, 100, 100, 100, 100]));
    split("rows=1000", &[]).ok();

    // A set may have any name, and its parts have it too.
    let named = ["run", "--from", "t.parquet", "--to", "out:Käufe~1 [a].csv", "--split", "rows=500"];
    for _ in 0..2 {
        lakeport(&named).ok();
        let parts = "answer = [k for k in keys() if 'ufe' in k]";
        let keys = s3.ask(parts).as_array().unwrap().iter().map(|k| k.as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert!(keys.len() == 3 && keys.iter().all(|k| k.contains("Käufe~1 [a]")), "{keys:?}");
    }
    s3.ask("[s3.delete_object(Bucket='bucket', Key=k) for k in keys() if 'ufe' in k]");

    // Parts that go in parts: an upload that fails is aborted.
    desk.parquet("large.parquet", "{'b': [__import__('random').Random(i).randbytes(40_000) for i in range(600)]}");
    let large = ["run", "--from", "large.parquet", "--to", "out:set/", "--format", "parquet", "--split", "rows=300"];
    s3.ask("fault('403', 'part', 3)");
    assert_eq!(lakeport(&large).code, 4);
    s3.ask("no_fault()");
    assert_eq!(s3.ask("answer = [rows('out/set/'), uploads()]"), json!([[1000], 0]));
    lakeport(&large).ok();
    assert_eq!(s3.ask("answer = [rows('out/set/'), uploads()]"), json!([[300, 300], 0]));

    // What a killed run left a day ago is cleared away, what came just now may still be at work.
    s3.ask(
        "
name = '_manifest.json.0123456789ab.pending'
part = 'part-00000-0123456789ab.parquet'
intent = {'id': '0123456789ab', 'parts': [part, '../precious'], 'old_id': None, 'old_parts': []}
s3.put_object(Bucket='bucket', Key='out/set/' + name, Body=json.dumps(intent))
s3.put_object(Bucket='bucket', Key='out/set/' + part, Body=b'left')
s3.put_object(Bucket='bucket', Key='out/precious', Body=b'x')
",
    );
    lakeport(&large).ok();
    assert_eq!(s3.ask("answer = [k for k in keys() if '0123456789ab' in k or 'precious' in k]").as_array().unwrap().len(), 3);
    assert!(!desk.path().join(".lakeport/work").read_dir().is_ok_and(|mut d| d.next().is_some()), "work files are gone");
}

#[test]
fn azure_is_read_and_written_whole_or_not_at_all() {
    let desk = Desk::new();
    let azurite = std::env::var("LAKEPORT_AZURITE").expect("LAKEPORT_AZURITE names no Azurite; run `make test`");
    let mut azure = Emulator::start(&["azure", &azurite]);
    let key = azure.ask("answer = key").as_str().unwrap().to_owned();
    let env = |name: &str, root: &str, endpoint: &str| {
        format!(
            "[env.{name}]\ntype = \"lake\"\nroot = \"{root}\"\noptions = {{ azure_storage_endpoint = \
             \"{endpoint}/devstoreaccount1\", azure_allow_http = \"true\" }}\n"
        )
    };
    let config = [
        env("lake", "az://box/gold", &azure.direct),
        env("out", "abfss://box/out", &azure.proxy),
        env("nobox", "az://no-such-box/x", &azure.direct),
    ];
    desk.write("lakeport.toml", config.concat());
    azure.ask(
        "
import datetime
box = blobs.create_container('box')
day = lambda d: datetime.date(2026, 1, d)
get = lambda name: box.download_blob(name).readall()
names = lambda: [b.name for b in box.list_blobs(name_starts_with='out/')]
box.upload_blob('gold/orders/month=7/a b.parquet', parquet(id=[1, 2], name=['a', None], day=[day(1), day(2)]))
box.upload_blob('gold/orders/month=8/c.parquet', parquet(id=[3], name=['ü'], day=[day(3)]))
",
    );
    let keys = [("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1"), ("AZURE_STORAGE_ACCOUNT_KEY", key.as_str())];
    let lakeport = |args: &[&str]| run(&desk, &keys, args);

    lakeport(&["ls", "lake"]).ok().says("orders").says("partitioned by month");
    lakeport(&["convert", "lake:orders", "orders.hyper", "--verify", "full"]).ok();
    let rows: Value = serde_json::from_str(ROWS).unwrap();
    assert_eq!(desk.rows("orders.hyper", "id"), rows);
    lakeport(&["convert", "lake:nothing", "x.hyper"]).fails(3, "E130");
    lakeport(&["convert", "nobox:t", "x.hyper"]).fails(3, "E130");

    let sha = |file: &str| format!("sha_file({:?})", desk.path().join(file));
    lakeport(&["publish", "orders.hyper", "out:orders.hyper", "--mode", "create"]).ok().says("single request");
    assert_eq!(azure.ask(&format!("answer = sha(get('out/orders.hyper')) == {}", sha("orders.hyper"))), true);
    lakeport(&["publish", "orders.hyper", "out:orders.hyper", "--mode", "create"]).fails(2, "E129");

    large_extract(&desk);
    for fault in ["fault('reset', 'part', 2, 1)", "fault('500', 'complete', 1, 1)", "fault('reset after', 'complete', 1, 1)"] {
        azure.ask(&format!("'out/large.hyper' in names() and box.delete_blob('out/large.hyper'); {fault}"));
        lakeport(&["publish", "large.hyper", "out:large.hyper"]).ok().says("parts of 8.0 MiB");
        azure.ask("no_fault()");
        let whole = format!("answer = sha(get('out/large.hyper')) == {}", sha("large.hyper"));
        assert_eq!(azure.ask(&whole), true, "{fault}");
    }
    azure.ask("box.upload_blob('out/old.hyper', b'old'); fault('403', 'part', 2)");
    for name in ["new.hyper", "old.hyper"] {
        let done = lakeport(&["publish", "large.hyper", &format!("out:{name}")]).fails(4, "E141");
        assert!(!done.stderr.contains(&key), "{}", done.stderr);
    }
    azure.ask("no_fault()");
    assert_eq!(azure.ask("answer = [get('out/old.hyper').decode(), 'out/new.hyper' in names()]"), json!(["old", false]));

    // Without an environment, by the emulator's own switch.
    let emulator = [("AZURE_STORAGE_USE_EMULATOR", "true"), ("AZURITE_BLOB_STORAGE_URL", azure.direct.as_str())];
    run(&desk, &emulator, &["run", "--from", "az://box/gold/orders/", "--to", "az://box/out/direct.hyper"]).ok();
    let back = desk.path().join("back.hyper");
    azure.ask(&format!("open({back:?}, 'wb').write(get('out/direct.hyper'))"));
    assert_eq!(desk.rows("back.hyper", "id"), rows);
}

#[test]
fn a_store_that_fails_while_a_table_is_read_is_not_called_damage() {
    let desk = Desk::new();
    let mut s3 = Emulator::start(&["s3"]);
    desk.write("lakeport.toml", on_s3("lake", "lake", "s3://bucket/gold", &s3.proxy));
    s3.ask(
        "
s3.create_bucket(Bucket='bucket')
put = lambda key, body: s3.put_object(Bucket='bucket', Key=key, Body=body)
put('gold/t/1.parquet', parquet(id=[1, 2]))
put('gold/t/2.parquet', parquet(id=[3]))
put('gold/c/1.csv', b'id\\n1\\n')
",
    );
    for table in ["lake:t", "lake:c"] {
        // The right to read is lost at each request in turn, of listing, footers and rows.
        let mut refused = 0;
        loop {
            s3.ask(&format!("fault('403', 'read', {})", refused + 1));
            let done = run(&desk, &KEYS, &["convert", table, "x.csv"]);
            if done.code == 0 {
                break;
            }
            let done = done.fails(4, "E141");
            assert!(!done.stderr.contains("damage"), "{}", done.stderr);
            refused += 1;
        }
        assert!(refused > 3, "{table}: {refused}");
    }
}
