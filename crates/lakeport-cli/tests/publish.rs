//! From a lake to the sandbox: the whole way, with the sandbox's own reading of the file as a judge.

use crate::faults::ask;
use crate::support::{Desk, Done, Sandbox};

fn run(desk: &Desk, args: &[&str]) -> Done {
    Done::of(desk.command(args).env("TOKEN", "demo").output().unwrap())
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
fn a_job_that_does_nothing_is_no_publish() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("lakeport.toml", sandbox.toml("single_request_limit = \"1KiB\"\nretry_budget = 20"));
    desk.write("old.csv", "a\n1\n");
    desk.write("new.csv", "a\n1\n2\n");
    run(&desk, &["run", "--from", "old.csv", "--to", "tab:A"]).ok();
    let state = || {
        let there = sandbox.datasources();
        (there[0]["publishes"].as_u64().unwrap(), there[0]["tables"][0]["rows"].as_u64().unwrap())
    };
    // Servers count in seconds: a time that is as old as the job proves nothing.
    std::thread::sleep(std::time::Duration::from_secs(4));
    ask(&sandbox.url, "POST", "/sandbox/faults", "publish:*:job-does-nothing");
    for more in [&[][..], &["--mode", "append"], &["--verify", "none"]] {
        let done = run(&desk, &[&["run", "--from", "new.csv", "--to", "tab:A"][..], more].concat());
        done.fails(7, "E301").says("nothing was published").says("before the commit").says("run again");
        assert_eq!(state(), (1, 1));
    }
    ask(&sandbox.url, "DELETE", "/sandbox/faults", "");
    // And it is run again.
    run(&desk, &["run", "--from", "new.csv", "--to", "tab:A", "--mode", "append"]).ok();
    assert_eq!(state(), (2, 3));
    run(&desk, &["run", "--from", "new.csv", "--to", "tab:A"]).ok();
    assert_eq!(state(), (3, 2));
    assert!(desk.files().iter().all(|f| !f.starts_with(".lakeport/state/publish/")), "{:?}", desk.files());
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
    desk.write("a.csv", "a\n1\n");
    let env = |keys: &str| format!("[env.tab]\ntype = \"tableau\"\nurl = \"{}\"\n{keys}\n", sandbox.url);
    let mark = "{ env = \"MARK\" }";
    let configs = [
        ("token", env(&format!("token_name = \"demo\"\ntoken_secret = {mark}"))),
        ("password", env(&format!("username = \"demo\"\npassword = {mark}"))),
        ("app", env(&format!("client_id = \"demo\"\nsecret_id = \"demo\"\nsecret_value = {mark}\nuser = \"demo\""))),
        // Accepted, so that sessions and their tokens come into play; and through a proxy that is not there.
        ("good", sandbox.toml("")),
        (
            "proxy",
            sandbox
                .toml(&format!("proxy = \"http://127.0.0.1:1\"\nproxy_user = \"p\"\nproxy_password = {mark}\nretry_budget = 1")),
        ),
        ("missing", env("token_name = \"demo\"\ntoken_secret = { command = [\"sh\", \"-c\", \"echo $MARK; exit 1\"] }")),
    ];
    let secret = "hunter2-marked-secret";
    let session = |text: &str| text.lines().any(|line| line.contains('|') && line.to_lowercase().contains("x-tableau-auth"));
    for (name, config) in configs {
        desk.write("lakeport.toml", config);
        for args in [
            &["run", "--from", "a.csv", "--to", "tab:A", "-vv"][..],
            &["run", "--from", "a.csv", "--to", "tab:A", "--json"],
            &["check", "-vv"],
            &["plan", "--from", "a.csv", "--to", "tab:A", "--json", "-vv"],
            &["config", "show", "--origin"],
            &["report", "--json"],
            &["report", "--html", "report.html"],
        ] {
            let mut command = desk.command(args);
            command.env("MARK", secret).env("TOKEN", "demo").env("LAKEPORT_LOG", "trace").env("RUST_BACKTRACE", "full");
            let output = command.output().unwrap();
            let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(!all.contains("hunter2"), "{name}: {args:?} prints the secret:\n{all}");
            assert!(!session(&all), "{name}: {args:?} prints a session's token:\n{all}");
        }
    }
    let mut looked = 0;
    for file in walk(&desk.path().join(".lakeport")).chain([desk.path().join("report.html")]) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("hunter2"), "{} holds the secret", file.display());
        looked += 1;
    }
    assert!(looked > 10, "the runs and the report are looked at");
}

/// Every file below a directory.
fn walk(directory: &std::path::Path) -> Box<dyn Iterator<Item = std::path::PathBuf>> {
    let entries: Vec<_> = std::fs::read_dir(directory).unwrap().flatten().map(|e| e.path()).collect();
    Box::new(entries.into_iter().flat_map(|path| if path.is_dir() { walk(&path) } else { Box::new(std::iter::once(path)) }))
}

#[test]
fn rows_change_in_place_in_pieces_and_once() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.write("lakeport.toml", sandbox.toml(""));
    desk.python(
        "import pyarrow as pa, pyarrow.parquet as pq, random\n\
         random.seed(1)\n\
         n = 30000\n\
         pq.write_table(pa.table({'day': [i // 100 for i in range(n)], 'x': [random.random() for _ in range(n)]}), 'whole.parquet')\n\
         # Ten days anew, with other rows and more of them, in no order.\n\
         rows = [(d, 1000.0 + i) for d in range(100, 110) for i in range(3000)]\n\
         random.shuffle(rows)\n\
         pq.write_table(pa.table({'day': [r[0] for r in rows], 'x': [r[1] for r in rows]}), 'days.parquet')",
    );
    for name in ["whole", "days"] {
        desk.run(&["convert", &format!("{name}.parquet"), &format!("{name}.hyper")]).ok();
    }
    run(&desk, &["publish", "whole.hyper", "tab:Days"]).ok();
    let there = |what: &str| sandbox.datasources()[0][what].clone();
    let rows = || sandbox.datasources()[0]["tables"][0]["rows"].as_u64().unwrap();
    // Days are deleted and inserted by one change, in pieces that never part a day: what one piece inserts, the next does not
    // delete.
    let bytes = std::fs::metadata(desk.path().join("days.hyper")).unwrap().len();
    desk.write("lakeport.toml", sandbox.toml(&format!("change_limit = \"{}\"", bytes / 2)));
    let args = ["publish", "days.hyper", "tab:Days", "--action", "delete,insert", "--key", "day", "--json"];
    let done = run(&desk, &args).ok().json();
    let pieces = there("changes").as_u64().unwrap();
    assert!(pieces > 1, "{done}");
    assert_eq!(done["receipt"]["way"], format!("{pieces} changes in place"));
    assert_eq!(rows(), 30_000 - 1_000 + 30_000);
    // The vendor's own reader: each of the ten days has the new rows and no other.
    let id = there("id").as_str().unwrap().to_owned();
    desk.python(&format!(
        "import urllib.request as u\nopen('there.hyper','wb').write(u.urlopen('{}/sandbox/datasources/{id}/file').read())",
        sandbox.url
    ));
    let read = desk.rows("there.hyper", "1, 2");
    let days = read.as_array().unwrap().iter().filter(|r| (100..110).contains(&r[0].as_i64().unwrap())).collect::<Vec<_>>();
    assert!(days.len() == 30_000 && days.iter().enumerate().all(|(n, r)| r[1] == 1000.0 + (n % 3000) as f64));
    // The same change again does nothing; an equal one that is meant does.
    run(&desk, &args).ok();
    assert_eq!((there("changes"), rows()), (pieces.into(), 59_000));
    run(&desk, &[&args[..], &["--change-id", "again"]].concat()).ok();
    assert_eq!((there("changes"), rows()), ((2 * pieces).into(), 59_000));
    // Inserts have no key: each row stands by itself, and is there once.
    run(&desk, &["publish", "days.hyper", "tab:Days", "--action", "insert"]).ok();
    assert_eq!(rows(), 89_000);
    let upsert = ["publish", "whole.hyper", "tab:Days", "--action", "update", "--key", "nothing"];
    run(&desk, &upsert).fails(2, "E120").says("nothing");

    // What the data source cannot take is refused and named, or replaced by the whole where that is given.
    desk.write("other.csv", "day,y\n1,2\n");
    desk.run(&["convert", "other.csv", "other.hyper"]).ok();
    let change = ["publish", "other.hyper", "tab:Days", "--action", "insert"];
    run(&desk, &change).fails(6, "E207").says("--mode full");
    assert_eq!(rows(), 89_000);
    run(&desk, &[&change[..], &["--fallback", "whole.hyper"]].concat()).ok().says("published");
    assert_eq!(rows(), 30_000);
}

/// How many rows of the one data source have a mark, by the vendor's own reader.
fn marked(desk: &Desk, sandbox: &Sandbox, mark: &str) -> u64 {
    let id = sandbox.datasources()[0]["id"].as_str().unwrap().to_owned();
    desk.write("there.hyper", ask(&sandbox.url, "GET", &format!("/sandbox/datasources/{id}/file"), ""));
    let count = format!("select count(*) from \"Extract\".\"Extract\" where \"mark\" = '{mark}'");
    let said = desk.python(&format!(
        "from tableauhyperapi import *\n\
         with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={{'log_config': ''}}) as h:\n\
         \x20   with Connection(h.endpoint, 'there.hyper') as c:\n        print(c.execute_scalar_query({count:?}))"
    ));
    said.trim().parse().unwrap()
}

#[test]
fn a_job_changes_rows_of_known_keys_in_place() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    let job = "[job.orders]\nfrom = \"day.parquet\"\nto = \"tab:Orders\"\nmode = \"upsert\"\nkey = [\"id\", \"part\"]\ncursor = \"id\"\n";
    desk.write("lakeport.toml", sandbox.toml("") + job);
    let day = |ids: &str, mark: &str| {
        desk.parquet("day.parquet", &format!("{{'id': {ids}, 'part': [1] * len({ids}), 'mark': ['{mark}'] * len({ids})}}"));
        run(&desk, &["run", "orders"])
    };
    let marks = || (marked(&desk, &sandbox, "old"), marked(&desk, &sandbox, "new"));
    // The first makes the data source, the others change it.
    assert!(!day("[*range(1, 1001)]", "old").ok().stdout.contains("change in place"));
    assert_eq!(marks(), (1000, 0));
    day("[*range(990, 1011)]", "new").ok().says("change in place");
    assert_eq!(marks(), (989, 21));
    // Equal changes within a day are none to the server; these are meant.
    for (mark, expected) in [("new", (989, 21)), ("old", (1010, 0)), ("new", (989, 21))] {
        day("[*range(990, 1011)]", mark).ok();
        assert_eq!(marks(), expected);
    }
    run(&desk, &["plan", "orders"]).ok().says("mode upsert").says("the cursor `id` is not followed yet");
    day("[7, 7]", "new").fails(6, "E204").says("the key is id, part");
    day("[None, 8]", "new").fails(6, "E204").says("NULL in their key");
    run(&desk, &["run", "orders", "--key", "nope"]).fails(2, "E120").says("`nope`");
    run(&desk, &["run", "--from", "day.parquet", "--to", "tab:Orders", "--mode", "upsert"]).fails(2, "E120").says("--key");
    run(&desk, &["publish", "day.parquet", "tab:Orders", "--mode", "upsert"]).fails(2, "E120").says("--action");
    assert_eq!(marks(), (989, 21));
    // A payload above the limit is cut by rows.
    let limited = sandbox.toml("change_limit = \"64KiB\"") + job;
    desk.write("lakeport.toml", limited);
    day("[*range(1, 20001)]", "new").ok().says("changes in place");
    assert_eq!(marks(), (0, 20_000));
}

#[test]
fn rows_of_a_change_are_compared_one_by_one() {
    let desk = Desk::new();
    // What real servers hand out: a package with the extract in it.
    let sandbox = Sandbox::start_with(&desk, &["--packages"]);
    desk.write("lakeport.toml", sandbox.toml(""));
    let types = "import decimal, datetime, math\nD = decimal.Decimal\nday = datetime.date(2026, 1, 1)\n\
                 def table(name, ids, mark):\n    n = len(ids)\n    pq.write_table(pa.table({\n\
                 \x20       'id': pa.array(ids, pa.int64()), 'mark': [mark] * n, \n\
                 \x20       'amount': pa.array([None if (i or 0) % 7 == 0 else D(i) / 100 for i in ids], pa.decimal128(30, 2)),\n\
                 \x20       'x': [math.nan if (i or 0) % 5 == 0 else None if (i or 0) % 11 == 0 else i / 3 for i in ids],\n\
                 \x20       'day': [day] * n, 'raw': [b'\\x00' * 3] * n, 'empty': pa.array([None] * n, pa.string())}), name)\n";
    desk.python(&format!(
        "import pyarrow as pa, pyarrow.parquet as pq\n{types}\
         table('whole.parquet', [*range(1, 1001), 7, 7], 'old')\n\
         table('some.parquet', [*range(990, 1011)], 'new')\n\
         table('twice.parquet', [1, 2, 2, 3], 'new')"
    ));
    for name in ["whole", "some", "twice"] {
        desk.run(&["convert", &format!("{name}.parquet"), &format!("{name}.hyper")]).ok();
    }
    run(&desk, &["publish", "whole.hyper", "tab:Orders"]).ok();
    let change = |file: &str, action: &str, more: &[&str]| {
        let args = ["publish", file, "tab:Orders", "--action", action, "--verify", "full"];
        let key = ["--key", "id"];
        run(&desk, &[&args[..], if action == "insert" || action == "replace" { &[] } else { &key }, more].concat())
    };
    let marks = |mark: &str| marked(&desk, &sandbox, mark);
    change("some.hyper", "upsert", &[]).ok().says("verified: all 1012 rows");
    assert_eq!(marks("new"), 21);
    change("some.hyper", "delete", &[]).ok().says("verified: all 991 rows");
    assert_eq!(marks("new"), 0);
    change("some.hyper", "insert", &[]).ok().says("verified: all 1012 rows");
    change("some.hyper", "delete,insert", &[]).ok().says("verified: all 1012 rows");
    let told = change("some.hyper", "update", &["--json"]).ok().json();
    assert!(told["receipt"]["notes"].to_string().contains("verified: all 1012 rows"), "{told}");
    // A repeat that the server knows does nothing, and the rows are there once.
    change("some.hyper", "insert", &[]).ok().says("21 of the rows sent were there already");
    assert_eq!((marks("old"), marks("new")), (991, 21));
    change("some.hyper", "insert", &["--change-id", "again"]).ok().says("verified: all 1033 rows");

    // A job that ends well says nothing of the rows: with less than `full` a lost change passes.
    let lost = |file: &str, action: &str| {
        ask(&sandbox.url, "POST", "/sandbox/faults", "data:*:job-does-nothing");
        let done = change(file, action, &["--change-id", "lost"]);
        ask(&sandbox.url, "DELETE", "/sandbox/faults", "");
        done
    };
    lost("whole.hyper", "insert").fails(7, "E301").says("1002 rows are missing, 0 are not expected").says("mark = old");
    lost("some.hyper", "delete").fails(7, "E301").says("0 rows are missing, 42 are not expected").says("mark = new");
    lost("whole.hyper", "replace").fails(7, "E301").says("rows are missing");
    assert_eq!((marks("old"), marks("new")), (991, 42));
    change("whole.hyper", "replace", &[]).ok().says("verified: all 1002 rows");
    // A download that breaks off is begun anew.
    ask(&sandbox.url, "POST", "/sandbox/faults", "datasource:2:truncated");
    change("some.hyper", "upsert", &["--change-id", "torn"]).ok().says("verified: all 1012 rows");
    ask(&sandbox.url, "DELETE", "/sandbox/faults", "");
    // Two rows of one key: nobody can say which of them should win.
    change("twice.hyper", "upsert", &[]).fails(6, "E204").says("a value of the key stands in several rows");
    run(&desk, &["publish", "some.hyper", "tab:Orders", "--action", "upsert", "--key", "id"]).ok().says("rows were not compared");
    // In pieces, too.
    let bytes = std::fs::metadata(desk.path().join("whole.hyper")).unwrap().len();
    desk.write("lakeport.toml", sandbox.toml(&format!("change_limit = \"{}\"", bytes * 3 / 4)));
    change("whole.hyper", "delete,insert", &["--change-id", "pieces"]).ok().says("verified: all 1012 rows");
    let left: Vec<String> = desk.files().into_iter().filter(|f| f.contains("before-") || f.contains("after-")).collect();
    assert!(left.is_empty(), "{left:?}");
}
