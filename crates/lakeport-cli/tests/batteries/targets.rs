//! The battery of targets: every place files and tables go to passes every statement here, by what its capability says.
//!
//! What is there afterwards is told by somebody else: the vendors' own clients, Python's sqlite3 and psycopg, the vendor's
//! reader of `.hyper`, and the sandbox's own account of what it holds.

use std::process::Command;

use serde_json::{Value, json};

use crate::database::{Base, postgres, sqlite};
use crate::stores::Emulator;
use crate::support::{Desk, Done, Sandbox, judge};

/// Environment types that are no targets; every other has a place here.
const SOURCES: [&str; 1] = ["spark"];

/// One place to publish to, as the environment `there` of the desk.
trait Place {
    /// Its kind, as `lakeport formats` calls it.
    fn kind(&self) -> &'static str;
    /// The `[env.there]` of `lakeport.toml`.
    fn toml(&self) -> String;
    fn variables(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The full name of a thing called so.
    fn name(&self, name: &str) -> String {
        name.to_owned()
    }
    /// How many rows are there under this name, told by somebody else; `None` where nothing is.
    fn rows(&mut self, desk: &Desk, name: &str) -> Option<u64>;
    /// From now on the name cannot be overwritten, though one may try.
    fn break_it(&mut self, desk: &Desk, name: &str);
    fn mend(&mut self, desk: &Desk);
    /// What must not be left behind by failures, counted.
    fn leftovers(&mut self, _desk: &Desk) -> u64 {
        0
    }
}

fn run(desk: &Desk, place: &dyn Place, args: &[&str]) -> Done {
    let mut command = desk.command(args);
    for (key, _) in std::env::vars() {
        if ["AWS_", "AZURE_", "AZURITE_", "GOOGLE_"].iter().any(|p| key.starts_with(p)) {
            command.env_remove(key);
        }
    }
    Done::of(command.envs(place.variables()).output().unwrap())
}

const MODES: [&str; 6] = ["create", "full", "append", "replace", "upsert", "delete-insert"];

#[allow(clippy::too_many_lines)] // One place serves all statements; starting it takes longer than most of them.
fn passes(desk: &Desk, place: &mut dyn Place) {
    desk.write("lakeport.toml", place.toml());
    desk.parquet("none.parquet", "pa.table({'id': pa.array([], pa.int64()), 'v': pa.array([], pa.string())})");
    desk.parquet("three.parquet", "{'id': [1, 2, 3], 'v': ['a', None, 'ü']}");
    desk.parquet("five.parquet", "{'id': [2, 3, 4, 5, 6], 'v': ['b', 'c', 'd', 'e', None]}");
    let formats = desk.run(&["formats", "--json"]).ok().json();
    let targets = formats["targets"].as_array().unwrap();
    let can = targets.iter().find(|t| t["name"] == place.kind()).unwrap_or_else(|| panic!("no target {}", place.kind()));
    let knows = |mode: &str| can["modes"].as_array().unwrap().iter().any(|m| m == mode);
    assert!(knows("full") && knows("create"), "{can}");
    let plain = place.name("Orders");
    let to = format!("there:{plain}");
    let publish = |place: &dyn Place, from: &str, to: &str, mode: &str| {
        let keyed: &[&str] = if ["upsert", "delete-insert"].contains(&mode) { &["--key", "id"] } else { &[] };
        run(desk, place, &[&["run", "--from", from, "--to", to, "--mode", mode, "--json"], keyed].concat())
    };
    let code = |done: &Done| (done.code, done.json()["error"]["code"].as_str().unwrap_or_default().to_owned());
    let listed = |place: &dyn Place| -> Vec<String> {
        let entries = run(desk, place, &["ls", "there", "--json"]).ok().json()["entries"].take();
        entries.as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
    };

    // Looking changes nothing.
    run(desk, place, &["check", "there"]).ok().says("ready");
    let before = listed(place);
    assert!(!before.contains(&plain), "{before:?}");
    assert_eq!(run(desk, place, &["describe", &to]).fails(3, "E130").stdout, "");
    run(desk, place, &["plan", "--from", "three.parquet", "--to", &to]).ok();
    assert_eq!((place.rows(desk, &plain), listed(place)), (None, before));

    // Created, and told by the target itself.
    let made = publish(place, "three.parquet", &to, "create").ok().json();
    assert_eq!(place.rows(desk, &plain), Some(3));
    assert_eq!(can["observes"], true, "a target that tells nothing needs a statement of its own");
    let seen = &made["observed"];
    let told = seen["bytes"] == made["file"]["bytes"] || seen["rows"] == json!([3]);
    // A server that tells neither says when it changed, and the run says what was not verified.
    let unknown = seen["unknown"].as_array().unwrap();
    assert!(told || (seen["updated_at"].is_string() && unknown.len() == 2), "nothing was observed: {seen}");
    let verified = made["verified"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(verified.iter().any(|v| v.starts_with("the target holds")), told, "{verified:?}");
    assert_eq!(verified.iter().filter(|v| v.starts_with("not verified")).count(), unknown.len(), "{verified:?}");
    assert!(listed(place).contains(&plain), "{:?}", listed(place));
    run(desk, place, &["describe", &to]).ok();

    // What is there is not created again.
    assert_eq!(code(&publish(place, "five.parquet", &to, "create")), (2, "E129".into()));
    assert_eq!(place.rows(desk, &plain), Some(3));

    // Every mode means what it says, or is refused before anything is touched.
    for mode in MODES.into_iter().skip(1) {
        publish(place, "three.parquet", &to, "full").ok();
        assert_eq!(place.rows(desk, &plain), Some(3), "{mode}");
        let done = publish(place, "five.parquet", &to, mode);
        let expected = if !knows(mode) {
            assert_eq!(code(&done), (2, "E127".into()), "{mode}: {}", done.stdout);
            3
        } else {
            let done = done.ok().json();
            assert_eq!(done["receipt"]["mode"].as_str().unwrap_or(mode), mode);
            match mode {
                "append" => 8,
                // Two of the five have keys that are there.
                "upsert" | "delete-insert" => 6,
                _ => 5,
            }
        };
        assert_eq!(place.rows(desk, &plain), Some(expected), "{mode}");
    }

    // Nothing is a table, too.
    publish(place, "none.parquet", &to, "full").ok();
    assert_eq!(place.rows(desk, &plain), Some(0));

    // Names are names, whatever they are made of.
    let odd = place.name("Größe \"50 %\" & 'more' #1");
    publish(place, "five.parquet", &format!("there:{odd}"), "create").ok();
    assert_eq!((place.rows(desk, &odd), place.rows(desk, &plain)), (Some(5), Some(0)));
    assert!(listed(place).contains(&odd), "{:?}", listed(place));
    publish(place, "three.parquet", &format!("there:{odd}"), "full").ok();
    assert_eq!(place.rows(desk, &odd), Some(3));
    run(desk, place, &["describe", &format!("there:{odd}")]).ok();

    // A failure leaves what was there, whole, and nothing else.
    desk.parquet(
        "large.parquet",
        "{'id': list(range(80)), 'v': [__import__('random').Random(i).randbytes(25_000).hex() for i in range(80)]}",
    );
    publish(place, "three.parquet", &to, "full").ok();
    let names = listed(place);
    place.break_it(desk, &plain);
    let failed = publish(place, "large.parquet", &to, "full");
    assert!([1, 4, 5, 6].contains(&failed.code), "{} {}", failed.code, failed.stdout);
    assert!(!failed.json()["error"]["help"].as_str().unwrap().is_empty());
    place.mend(desk);
    assert_eq!((place.rows(desk, &plain), listed(place), place.leftovers(desk)), (Some(3), names, 0));
    publish(place, "five.parquet", &to, "full").ok();
    assert_eq!(place.rows(desk, &plain), Some(5), "healed");
    let left: Vec<_> = desk.files().into_iter().filter(|f| f.contains(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Rows of a .hyper file by the vendor's reader.
fn rows_of(desk: &Desk, file: &str) -> Option<u64> {
    desk.path().join(file).exists().then(|| desk.rows(file, "1").as_array().unwrap().len() as u64)
}

/// A directory on a disk so small that a large file does not fit.
struct Local;

impl Place for Local {
    fn kind(&self) -> &'static str {
        "store"
    }
    fn toml(&self) -> String {
        "[env.there]\ntype = \"store\"\nroot = \"small/place\"\n".into()
    }
    fn name(&self, name: &str) -> String {
        format!("{name}.hyper")
    }
    fn rows(&mut self, desk: &Desk, name: &str) -> Option<u64> {
        rows_of(desk, &format!("small/place/{name}"))
    }
    // The large table alone does it.
    fn break_it(&mut self, _desk: &Desk, _name: &str) {}
    fn mend(&mut self, _desk: &Desk) {}
}

#[test]
fn a_directory() {
    let desk = Desk::new();
    let small = desk.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|s| s.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a small tmpfs");
        return;
    }
    std::fs::create_dir(small.join("place")).unwrap();
    let result = std::panic::catch_unwind(|| passes(&desk, &mut Local));
    let _ = Command::new("umount").arg(&small).status();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// A bucket or a container behind a proxy with faults.
struct Bucket {
    emulator: Emulator,
    toml: String,
    variables: Vec<(&'static str, String)>,
}

impl Place for Bucket {
    fn kind(&self) -> &'static str {
        "store"
    }
    fn toml(&self) -> String {
        self.toml.clone()
    }
    fn variables(&self) -> Vec<(&'static str, String)> {
        self.variables.clone()
    }
    fn name(&self, name: &str) -> String {
        format!("{name}.hyper")
    }
    fn rows(&mut self, desk: &Desk, name: &str) -> Option<u64> {
        let back = desk.path().join("back.hyper");
        let _ = std::fs::remove_file(&back);
        let key = json!(format!("place/{name}"));
        self.emulator.ask(&format!("{key} in names() and open({back:?}, 'wb').write(get({key}))"));
        rows_of(desk, "back.hyper")
    }
    fn break_it(&mut self, _desk: &Desk, _name: &str) {
        self.emulator.ask("fault('403', 'put')");
    }
    fn mend(&mut self, _desk: &Desk) {
        self.emulator.ask("no_fault()");
    }
    fn leftovers(&mut self, _desk: &Desk) -> u64 {
        self.emulator.ask("answer = uploads()").as_u64().unwrap()
    }
}

#[test]
fn a_bucket_of_s3() {
    let mut s3 = Emulator::start(&["s3"]);
    s3.ask(
        "
s3.create_bucket(Bucket='bucket')
get = lambda key: s3.get_object(Bucket='bucket', Key=key)['Body'].read()
names = lambda: [o['Key'] for o in s3.list_objects_v2(Bucket='bucket').get('Contents', [])]
uploads = lambda: len(s3.list_multipart_uploads(Bucket='bucket').get('Uploads', []))
",
    );
    let options = format!("{{ aws_endpoint = \"{}\", aws_allow_http = \"true\", aws_region = \"us-east-1\" }}", s3.proxy);
    let toml = format!("[env.there]\ntype = \"store\"\nroot = \"s3://bucket/place\"\noptions = {options}\n");
    let variables = vec![("AWS_ACCESS_KEY_ID", "id".to_owned()), ("AWS_SECRET_ACCESS_KEY", "hush".to_owned())];
    passes(&Desk::new(), &mut Bucket { emulator: s3, toml, variables });
}

#[test]
fn a_container_of_azure() {
    let azurite = std::env::var("LAKEPORT_AZURITE").expect("LAKEPORT_AZURITE names no Azurite; run `make test`");
    let mut azure = Emulator::start(&["azure", &azurite]);
    let key = azure.ask("answer = key").as_str().unwrap().to_owned();
    azure.ask(
        "
box = blobs.create_container('box')
get = lambda name: box.download_blob(name).readall()
names = lambda: [b.name for b in box.list_blobs()]
uploads = lambda: len([b for b in box.list_blobs(include=['uncommittedblobs']) if b.name not in names()])
",
    );
    let options = format!("{{ azure_storage_endpoint = \"{}/devstoreaccount1\", azure_allow_http = \"true\" }}", azure.proxy);
    let toml = format!("[env.there]\ntype = \"store\"\nroot = \"az://box/place\"\noptions = {options}\n");
    let variables = vec![("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1".to_owned()), ("AZURE_STORAGE_ACCOUNT_KEY", key)];
    passes(&Desk::new(), &mut Bucket { emulator: azure, toml, variables });
}

impl Place for Sandbox {
    fn kind(&self) -> &'static str {
        "tableau"
    }
    fn toml(&self) -> String {
        Sandbox::toml(self, "").replace("[env.tab]", "[env.there]")
    }
    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("TOKEN", "demo".to_owned())]
    }
    fn rows(&mut self, _desk: &Desk, name: &str) -> Option<u64> {
        self.datasources().iter().find(|d| d["name"] == name).map(|d| d["tables"][0]["rows"].as_u64().unwrap())
    }
    fn break_it(&mut self, _desk: &Desk, _name: &str) {
        crate::faults::ask(&self.url, "POST", "/sandbox/faults", "publish:*:status=403");
    }
    fn mend(&mut self, _desk: &Desk) {
        crate::faults::ask(&self.url, "DELETE", "/sandbox/faults", "");
    }
}

#[test]
fn a_tableau_site() {
    let desk = Desk::new();
    let mut sandbox = Sandbox::start(&desk);
    passes(&desk, &mut sandbox);
}

impl Place for Base {
    fn kind(&self) -> &'static str {
        "database"
    }
    fn toml(&self) -> String {
        self.env.replace("[env.db]", "[env.there]")
    }
    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("DB_PASSWORD", "p@ss/word".to_owned())]
    }
    fn rows(&mut self, desk: &Desk, name: &str) -> Option<u64> {
        let table = name.replace('"', "\"\"");
        let count: Value =
            serde_json::from_str(&judge(desk, "judge_database", &["count", &self.uri, &format!("\"{table}\"")])).unwrap();
        count.as_u64()
    }
    fn break_it(&mut self, desk: &Desk, name: &str) {
        // A view that hangs on the table keeps it from being exchanged.
        judge(desk, "judge_database", &["do", &self.uri, &format!("create view hanger as select * from \"{name}\"")]);
    }
    fn mend(&mut self, desk: &Desk) {
        judge(desk, "judge_database", &["do", &self.uri, "drop view hanger"]);
    }
}

#[test]
fn a_postgresql() {
    passes(&Desk::new(), &mut postgres());
}

#[test]
fn an_sqlite() {
    let desk = Desk::new();
    let mut base = sqlite(&desk);
    passes(&desk, &mut base);
}

#[test]
fn every_kind_of_target_is_in_this_battery() {
    let desk = Desk::new();
    let formats = desk.run(&["formats", "--json"]).ok().json();
    let kinds: Vec<_> = formats["targets"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    // Delta tables are reached through a store and a format; `delta.rs` asks of them what this battery asks of places.
    assert_eq!(kinds, ["tableau", "store", "database", "delta"], "a new kind of target needs a place in this battery");
    // An environment type is a target of these, or known to be none.
    let types = super::environment_types(&desk);
    let targets = ["lake", "store", "tableau", "database"];
    let unknown: Vec<_> = types.iter().filter(|t| !targets.contains(&t.as_str()) && !SOURCES.contains(&t.as_str())).collect();
    assert!(types.len() >= 5 && unknown.is_empty(), "{unknown:?} of {types:?} are in no battery");
}
