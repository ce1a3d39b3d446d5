//! Changes in place where the server fails or hides its jobs, and what a connected app and several environments need.

use std::time::Duration;

use serde_json::Value;

use crate::faults::ask;
use crate::support::{Desk, Done, Sandbox, hyperds_of};

/// The keys of a connected app of the sandbox.
const APP: &str = "client_id = \"demo\"\nsecret_id = \"demo\"\nsecret_value = { env = \"TOKEN\" }\nuser = \"demo\"";

fn run(desk: &Desk, args: &[&str]) -> Done {
    Done::of(desk.command(args).env("TOKEN", "demo").output().unwrap())
}

/// A desk with `whole.hyper` published as `tab:Orders`, and `more.hyper` to insert, too large for one piece.
fn published(keys: &str) -> (Desk, Sandbox) {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    desk.python(
        "import pyarrow as pa, pyarrow.parquet as pq, random\n\
         random.seed(3)\n\
         for name, n in ('whole', 1000), ('more', 30000): \
         pq.write_table(pa.table({'x': [random.random() for _ in range(n)]}), name + '.parquet')",
    );
    for name in ["whole", "more"] {
        desk.run(&["convert", &format!("{name}.parquet"), &format!("{name}.hyper")]).ok();
    }
    let bytes = std::fs::metadata(desk.path().join("more.hyper")).unwrap().len();
    let limit = format!("change_limit = \"{}\"\n{keys}", bytes / 2);
    let toml = sandbox.toml(&limit);
    let app = toml.replace("token_name = \"demo\"\ntoken_secret = { env = \"TOKEN\" }", APP);
    desk.write("lakeport.toml", if keys.contains("api_version") { app } else { toml });
    run(&desk, &["publish", "whole.hyper", "tab:Orders"]).ok();
    (desk, sandbox)
}

/// How often the one data source was changed in place, and its rows.
fn there(sandbox: &Sandbox) -> (u64, u64) {
    let all = sandbox.datasources();
    (all[0]["changes"].as_u64().unwrap(), all[0]["tables"][0]["rows"].as_u64().unwrap())
}

fn fault(sandbox: &Sandbox, fault: &str) {
    ask(&sandbox.url, "DELETE", "/sandbox/faults", "");
    if !fault.is_empty() {
        ask(&sandbox.url, "POST", "/sandbox/faults", fault);
    }
}

#[test]
fn a_change_that_came_to_nothing_is_made_by_the_same_command() {
    let (desk, sandbox) = published("");
    let change = || {
        // A job of the last two seconds may be the run's own, by the clock of a server that counts in seconds.
        std::thread::sleep(Duration::from_secs(3));
        run(&desk, &["publish", "more.hyper", "tab:Orders", "--action", "insert", "--json"])
    };
    // The second piece fails, is cancelled, and is made at last; the first is made once.
    fault(&sandbox, "data:2:job-fails=disk full");
    run(&desk, &["publish", "more.hyper", "tab:Orders", "--action", "insert"])
        .fails(6, "E207")
        .says("disk full")
        .says("pieces done")
        .says("the same command sends the change anew");
    let (changes, rows) = there(&sandbox);
    assert!(changes == 1 && (1001..31_000).contains(&rows), "{changes} {rows}");
    // The first piece is known, the second is known as failed: the third call of all is a new one.
    fault(&sandbox, "data:3:job-cancelled");
    change().fails_json(5);
    assert_eq!(there(&sandbox), (changes, rows));
    fault(&sandbox, "");
    let done = change().ok().json();
    assert!(done["receipt"]["retries"].to_string().contains("of a former run was cancelled, sent anew"), "{done}");
    let (pieces, rows) = there(&sandbox);
    assert!(pieces > 1 && rows == 31_000, "{pieces} {rows}");
    // What was made is known, by whichever id it was made.
    change().ok();
    assert_eq!(there(&sandbox), (pieces, 31_000));
}

#[test]
fn without_a_look_at_jobs_no_piece_is_taken_for_done() {
    let (desk, sandbox) = published("api_version = \"3.24\"\nretry_budget = 3");
    let change = |id: &str| run(&desk, &["publish", "more.hyper", "tab:Orders", "--action", "insert", "--change-id", id]);
    change("well").ok().says("changes in place");
    let (pieces, rows) = there(&sandbox);
    assert!(pieces > 1 && rows == 31_000, "{pieces} {rows}");
    fault(&sandbox, "data:2:job-fails=disk full");
    change("badly").fails(5, "E154").says("did not change within").says("pieces done").says("--mode full");
    assert_eq!(there(&sandbox).0, pieces + 1, "the piece before it was made, and none after it");
    // One piece alone.
    fault(&sandbox, "data:1:job-fails-silently");
    let one = ["publish", "whole.hyper", "tab:Orders", "--action", "insert"];
    run(&desk, &one).fails(5, "E154").says("look at the data source").says("--change-id TEXT");
    fault(&sandbox, "");
    let before = there(&sandbox);
    run(&desk, &[&one[..], &["--change-id", "again"]].concat()).ok();
    assert_eq!(there(&sandbox), (before.0 + 1, before.1 + 1000));
}

#[test]
fn a_connected_app_may_do_what_a_job_declares() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    let job = "[job.kept]\nfrom = \"t.csv\"\nto = \"tab:Kept\"\n[job.kept.permissions.\"group:All Users\"]\nallow = [\"Read\"]\n\
               [job.kept.permissions.\"user:demo\"]\nallow = [\"Write\"]\n\
               [job.kept.warning]\ntype = \"stale\"\nmessage = \"late\"\n";
    desk.write("lakeport.toml", format!("[env.tab]\ntype = \"tableau\"\nurl = \"{}\"\n{APP}\n{job}", sandbox.url));
    desk.write("t.csv", "id\n1\n");
    run(&desk, &["run", "kept"]).ok();
    desk.python(&format!(
        "import tableauserverclient as TSC\n\
         server = TSC.Server('{}', use_server_version=True)\n\
         server.auth.sign_in(TSC.PersonalAccessTokenAuth('demo', 'demo'))\n\
         (kept,) = server.datasources.get()[0]\n\
         server.datasources.add_tags(kept, ['gold'])\n\
         server.datasources.populate_permissions(kept)\n\
         assert sorted(r.grantee.tag_name for r in kept.permissions) == ['group', 'user'], kept.permissions",
        sandbox.url
    ));
    run(&desk, &["run", "kept"]).ok().says("restored after the overwrite: tags");
    assert_eq!(sandbox.datasources()[0]["tags"], Value::from(vec!["gold"]));
    // A scope less is a call less.
    let few = "scopes = [\"tableau:content:read\", \"tableau:datasources:*\", \"tableau:file_uploads:create\", \"tableau:jobs:read\", \
               \"tableau:permissions:*\", \"tableau:projects:*\", \"tableau:users:read\"]";
    desk.write("lakeport.toml", format!("[env.tab]\ntype = \"tableau\"\nurl = \"{}\"\n{APP}\n{few}\n{job}", sandbox.url));
    run(&desk, &["run", "kept"]).fails(4, "E140").says("lacks a scope");
}

#[test]
fn two_environments_with_one_token_run_together() {
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    let other = sandbox.toml("timeout = 77\nlock_timeout = 1\napi_version = \"3.21\"").replace("[env.tab]", "[env.slow]");
    let jobs = "[job.one]\nfrom = \"t.csv\"\nto = \"tab:One\"\n[job.two]\nfrom = \"t.csv\"\nto = \"slow:Two\"\n";
    desk.write("lakeport.toml", sandbox.toml("lock_timeout = 1") + &other + jobs);
    desk.write("t.csv", "id\n1\n");
    run(&desk, &["run", "--all"]).ok();
    let calls: Value = serde_json::from_slice(&ask(&sandbox.url, "GET", "/sandbox/calls", "")).unwrap();
    let count = |kind: &str| calls["calls"].as_array().unwrap().iter().filter(|c| c["kind"] == kind).count();
    assert_eq!((count("signin"), count("publish"), sandbox.datasources().len()), (1, 2, 2));
}

#[test]
fn a_sandbox_takes_no_directory_with_somebody_elses_files() {
    let desk = Desk::new();
    let precious = [desk.write("mine/uploads/photo.jpg", "x"), desk.write("mine/lock", "my lock")];
    let refused = desk.run(&["sandbox", "--port", "0", "--data", "mine"]);
    refused.fails(2, "E120").says("mine is not empty and no sandbox's").says("an empty or a new directory");
    assert_eq!(precious.map(|path| std::fs::read_to_string(path).unwrap()), ["x", "my lock"]);
    assert_eq!((desk.files().len(), hyperds_of(&desk)), (2, 0));
}
