//! `df.write.format("lakeport")` from the wheel that maturin builds, in a standalone Spark cluster of two workers, whose
//! driver is a Spark Connect server too; all scenarios of `dataframe.py` run once, and each test looks at its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::faults::ask;
use crate::spark::{free_port, keep, keep_at, spark_python};
use crate::stores::Emulator;
use crate::support::{Desk, Done, Sandbox, judge, python};

/// A Python in which the wheel is installed the ordinary way, beside PySpark.
struct Installed {
    _home: tempfile::TempDir,
    python: PathBuf,
    wheel: PathBuf,
}

/// Builds the wheel from what is already built, and installs it into a fresh environment.
fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let home = tempfile::tempdir().unwrap();
        let judges = std::env::var("LAKEPORT_PYTHON").expect("LAKEPORT_PYTHON names no interpreter; run `make test`");
        let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../lakeport-python/wheel.sh"));
        // What Cargo tells a test about its package would make build scripts run, and crates compile, again.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            build.env_remove(name);
        }
        build.arg("dev").arg(home.path()).env("CARGO", env!("CARGO")).env("WHEEL_ARGS", "--compression-method stored");
        build.env("MATURIN", Path::new(&judges).with_file_name("maturin")).env("CARGO_TARGET_DIR", target_directory());
        Done::of(build.stdin(Stdio::null()).output().unwrap()).ok();
        let wheels: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().path()).collect();
        let [wheel] = &wheels[..] else { panic!("not one wheel: {wheels:?}") };
        let run = |command: &mut Command| Done::of(command.stdin(Stdio::null()).output().unwrap()).ok().stdout;
        run(Command::new(spark_python()).args(["-m", "venv"]).arg(home.path().join("venv")));
        let python = home.path().join("venv/bin/python");
        // PySpark is half a gigabyte: the environment sees the one of the tests. The wheel itself is installed into this one.
        let beside = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let (theirs, ours) =
            (run(Command::new(spark_python()).args(["-c", beside])), run(Command::new(&python).args(["-c", beside])));
        std::fs::write(Path::new(ours.trim()).join("spark.pth"), theirs).unwrap();
        let pip = ["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).arg(wheel));
        Installed { python, wheel: wheel.clone(), _home: home }
    })
}

fn target_directory() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lakeport")).parent().and_then(Path::parent).unwrap()
}

/// What the scenarios printed, by name, and what was found in stage and sandbox after the driver was killed.
struct Outcome {
    desk: Desk,
    said: BTreeMap<String, String>,
    log: String,
    at_the_kill: Vec<String>,
    published: Vec<serde_json::Value>,
}

fn staged(desk: &Desk) -> Vec<String> {
    let entries = std::fs::read_dir(desk.path().join("stage")).unwrap();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Part files of all writes in the stage.
fn parts(desk: &Desk) -> usize {
    let below = |name: &String| std::fs::read_dir(desk.path().join("stage").join(name)).into_iter().flatten().count();
    staged(desk).iter().map(below).sum()
}

fn outcome() -> &'static Outcome {
    static OUTCOME: OnceLock<Outcome> = OnceLock::new();
    OUTCOME.get_or_init(scenarios)
}

fn scenarios() -> Outcome {
    let python = &installed().python;
    let home = Command::new(python).args(["-c", "import pyspark; print(pyspark.__path__[0])"]).output().unwrap();
    let class = format!("{}/bin/spark-class", String::from_utf8(home.stdout).unwrap().trim());
    let desk = Desk::new();
    let sandbox = Sandbox::start(&desk);
    let s3 = Emulator::start(&["s3"]);
    // Two addresses are two hosts to Spark, which starts no speculative task on the host of the first.
    let port = free_port().to_string();
    let master = format!("spark://127.0.0.1:{port}");
    let within = Duration::from_secs(120);
    let args = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", &port, "--webui-port", "0"];
    let _master = keep(&class, &args, port.parse().unwrap(), within);
    let workers = ["127.0.0.1", "127.0.0.2"].map(|host| {
        let (port, address) = (free_port(), format!("SPARK_LOCAL_IP={host}"));
        let (work, text) = (desk.path().join(format!("sandbox/worker-{host}")), port.to_string());
        let worker = [&address, &class, "org.apache.spark.deploy.worker.Worker", "--host", host, "--port", &text, "--cores", "2"];
        let more = ["--memory", "1g", "--webui-port", "0", "--work-dir", work.to_str().unwrap(), &master];
        keep_at("env", &[&worker[..], &more[..]].concat(), (host.parse().unwrap(), port), within)
    });

    desk.write(
        "lakeport.toml",
        sandbox.toml("project = \"default\"\nretry_budget = 2")
            + &format!(
                "[env.lake]\ntype = \"lake\"\nroot = \"s3://stage\"\noptions = {{ aws_endpoint = \"{}\", aws_allow_http = \"true\", \
                 aws_region = \"us-east-1\" }}\n",
                s3.direct
            )
            + "[job.orders]\nfrom = \"lake:orders\"\nsql = \"select 1\"\nto = \"tab:X\"\n\
               [job.base]\nfrom = \"lake:orders\"\nto = \"based.csv\"\ntypes = { b = \"text\" }\n",
    );
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dataframe.py")).arg("driver").current_dir(desk.path());
    command.env("PYSPARK_PYTHON", python).env("SPARK_LOCAL_IP", "127.0.0.1").env("CLUSTER", &master).env_remove("MASTER");
    command.env("CONNECT_PORT", free_port().to_string()).env("SANDBOX", &sandbox.url).env("S3", &s3.direct);
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret").env("TOKEN", "demo");
    // hyperd comes with the wheel's dependency: neither Lakeport's cache nor another Python has it.
    command.env("XDG_CACHE_HOME", desk.path().join("no-cache")).env("XDG_CONFIG_HOME", desk.path().join("no-config"));
    command.env_remove("HYPERD_PATH").env_remove("SPARK_HOME").env_remove("PYTHONPATH");
    let mut driver = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = driver.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let (mut said, mut last) = (BTreeMap::new(), String::new());
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
    for line in lines.by_ref() {
        println!("{line}");
        match line.split_once(": ").filter(|_| !line.starts_with(' ')) {
            Some((name, outcome)) => {
                name.clone_into(&mut last);
                said.insert(last.clone(), outcome.to_owned());
            }
            None => said.entry(last.clone()).or_default().push_str(&line),
        }
        if last == "all" {
            break;
        }
    }
    // Of the last two writes one has begun its parts and announced nothing, and the other has committed without hearing of
    // it. Then there is no driver any more.
    let under_way = || {
        let faults: serde_json::Value = serde_json::from_slice(&ask(&sandbox.url, "GET", "/sandbox/faults", "")).unwrap();
        parts(&desk) >= 3 && faults["faults"][0]["struck"] == 1
    };
    let began = Instant::now();
    while said.contains_key("all") && !under_way() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let group = format!("-{}", driver.id());
    let _ = Command::new("kill").args(["-9", "--", &group]).status();
    let _ = driver.wait();
    let at_the_kill = staged(&desk);
    drop(workers);
    Outcome { said, log: log.join().unwrap(), at_the_kill, published: sandbox.datasources(), desk }
}

/// The outcome of a scenario is this text.
#[track_caller]
fn came(name: &str, want: &str) {
    let outcome = outcome();
    let log: String = outcome.log.chars().rev().take(6000).collect::<Vec<_>>().into_iter().rev().collect();
    let got = outcome.said.get(name).unwrap_or_else(|| panic!("`{name}` did not run\n{log}"));
    let got = got.split("  (").next().unwrap_or_default();
    assert_eq!(got, want, "of `{name}`");
}

#[test]
fn the_wheel_carries_the_command_and_links_no_engine() {
    let Installed { python, wheel, .. } = installed();
    assert!(wheel.to_string_lossy().contains("-cp310-abi3-"), "{wheel:?}");
    let desk = Desk::new();
    desk.write("t.csv", "a,b\n1,x\n");
    // hyperd is found beside the command, with nothing else that leads to it.
    let mut command = Command::new(python.with_file_name("lakeport"));
    command
        .current_dir(desk.path())
        .env("PATH", "/usr/bin:/bin")
        .env("XDG_CACHE_HOME", desk.path().join("none"))
        .env_remove("HYPERD_PATH");
    let version = Done::of(command.arg("--version").output().unwrap()).ok().stdout;
    assert_eq!(version.trim(), concat!("lakeport ", env!("CARGO_PKG_VERSION")));
    let mut command = Command::new(python.with_file_name("lakeport"));
    command
        .current_dir(desk.path())
        .env("PATH", "/usr/bin:/bin")
        .env("XDG_CACHE_HOME", desk.path().join("none"))
        .env_remove("HYPERD_PATH");
    Done::of(command.args(["convert", "t.csv", "t.hyper"]).output().unwrap()).ok();
    assert_eq!(desk.rows("t.hyper", "a"), serde_json::json!([[1, "x"]]));

    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--locked", "-p", "lakeport-python", "-e", "normal", "--prefix", "none"]);
    let tree = Done::of(tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()).ok().stdout;
    assert!(tree.contains("lakeport v") && tree.contains("parquet v"), "{tree}");
    assert!(!tree.contains("datafusion") && !tree.contains("lakeport-engines"), "{tree}");
    let code = format!(
        "import zipfile; b = zipfile.ZipFile({wheel:?}).read('lakeport/_native.abi3.so'); print(b.count(b'datafusion'), b.count(b'hyperdb') > 0)"
    );
    assert_eq!(Done::of(self::python().arg("-c").arg(code).output().unwrap()).ok().stdout.trim(), "0 True");
}

#[test]
fn every_type_arrives_from_a_data_frame() {
    came("torture", "written");
    print!("{}", judge(&outcome().desk, "judge_spark", &["compare", "t.hyper", "frame"]));
}

#[test]
fn every_type_arrives_from_a_client_of_spark_connect() {
    came("client_torture", "written");
    print!("{}", judge(&outcome().desk, "judge_spark", &["compare", "afar.hyper", "frame"]));
}

#[test]
fn a_task_that_fails_once_is_published_once() {
    came("once", "((100000, 1), [])");
}

#[test]
fn a_task_that_fails_for_good_publishes_nothing_and_leaves_nothing() {
    came("always", "(None, [])");
}

#[test]
fn two_attempts_of_one_task_are_published_once() {
    came("speculative", "((400000, 1), ['attempt-0', 'attempt-1'], '2 files of the task', [])");
}

#[test]
fn a_commit_that_fails_leaves_what_was_there() {
    came("commit", "((7, 1), 'E150', [])");
}

#[test]
fn append_adds_rows() {
    came("append", "((20, 2), [])");
}

#[test]
fn an_empty_data_frame_has_its_columns() {
    came("empty", "(0, ['a', 'b'], [])");
}

#[test]
fn only_old_leftovers_are_swept() {
    came("sweeping", "['busy', 'fresh', 'others']");
}

#[test]
fn parts_go_through_an_object_store() {
    came("object_store", "((800000, 1), '2 of 2 in parts', ['frames/orders/x'], '0 uploads open', (9, 1))");
}

#[test]
fn publish_returns_the_report() {
    came("published", "(5000, '<5,000 rows published to tab:One line', 'E203', (5000, 1), [])");
    came("client_published", "(5000, 'From afar', (5000, 1), [])");
}

#[test]
fn spark_connect_fails_and_refuses_alike() {
    came("client_failing", "('SparkRuntimeException', None, [])");
    came("client_refused", "('E203', [])");
}

#[test]
fn what_cannot_be_is_refused_before_a_task_starts() {
    came("refused", "25 refused");
}

#[test]
fn options_mean_what_a_job_means() {
    came("options", r"('Amount;b\n1;2\n', 'Amount,b\n1,2\n')");
}

#[test]
fn a_killed_driver_publishes_once_or_nothing_and_its_stage_is_swept() {
    let outcome = outcome();
    came("all", "done");
    assert_eq!(outcome.at_the_kill.len(), 2, "{:?}", outcome.at_the_kill);
    let named = |name: &str| outcome.published.iter().filter(|d| d["name"] == name).collect::<Vec<_>>();
    assert!(named("Doomed").is_empty(), "{:?}", outcome.published);
    let committed = named("Committing");
    assert_eq!(committed.len(), 1, "{:?}", outcome.published);
    assert_eq!((&committed[0]["publishes"], &committed[0]["tables"][0]["rows"]), (&1.into(), &1000.into()));
    let sweep = "import lakeport; print(lakeport.sweep('stage'), len(lakeport.sweep('stage', older_than='0s')))";
    let mut command = Command::new(&installed().python);
    command.args(["-c", sweep]).current_dir(outcome.desk.path()).env("TOKEN", "demo");
    // The process that commits may have ended after the driver, and removed its own.
    let swept = Done::of(command.output().unwrap()).ok().stdout;
    assert!(["[] 1", "[] 2"].contains(&swept.trim()), "{swept}");
    assert_eq!(staged(&outcome.desk), Vec::<String>::new());
}
