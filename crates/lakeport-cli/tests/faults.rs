//! Faults at every phase of a publish, `kill -9` at random moments, and many at once: published exactly once and whole, or
//! failed with the right exit code and the old content still there.
//!
//! The short forms are drawn by a seed and run in `make test`; `make faults` and `make kills` run the long ones and write
//! their tables to `benches/results`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Desk, Done, Sandbox, hyperds_of, judge};

/// What the short forms draw from unless `LAKEPORT_SEED` says otherwise.
const SEED: u64 = 20_261_123;
/// Cases of the short fault battery.
const SHORT_CASES: usize = 12;
/// Kills of the short and of the long battery; `LAKEPORT_KILLS` overrules the latter.
const SHORT_KILLS: usize = 6;
const LONG_KILLS: usize = 200;
/// A case that takes longer than this hangs.
const CASE_LIMIT: Duration = Duration::from_secs(180);

/// Each phase: its name in the table, the calls of it, and which of them is struck by a single fault.
const PHASES: &[(&str, &str, u32)] = &[
    ("sign-in", "signin", 1),
    ("projects", "projects", 1),
    ("upload start", "upload-start", 1),
    ("first block", "append", 1),
    ("middle block", "append", 2),
    ("last block", "append", 4),
    ("commit", "publish", 1),
    ("job polling", "job", 1),
    ("update", "data", 1),
    ("update's job", "job", 1),
    ("sign-out", "signout", 1),
];

/// Rows that an update inserts.
const UPDATED: u64 = 1000;

/// Each fault, and the exit code a run may end with when it never stops; a page or a redirect alone must not fail one.
const EFFECTS: &[(&str, i32)] = &[
    ("reset-before", 5),
    ("reset-after", 5),
    ("expired", 4),
    ("throttled", 5),
    ("throttled=1s", 5),
    ("status=500", 5),
    ("status=502", 5),
    ("status=503", 5),
    ("status=504", 5),
    ("status-after=504", 5),
    ("hang", 5),
    ("hang-after", 5),
    ("slow=1s", 0),
    ("redirect", 5),
    ("truncated", 5),
    ("content-type", 0),
];

/// One cell of the table.
#[derive(Debug, Clone, Copy)]
struct Case {
    effect: usize,
    phase: usize,
    /// Whether the fault never stops.
    always: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        let cells = (0..EFFECTS.len()).flat_map(|effect| (0..PHASES.len()).map(move |phase| (effect, phase)));
        [false, true]
            .into_iter()
            .flat_map(|always| cells.clone().map(move |(effect, phase)| Self { effect, phase, always }))
            .collect()
    }

    /// The fault as the sandbox reads it.
    fn fault(self, url: &str) -> String {
        let ((_, kind, call), (effect, _)) = (PHASES[self.phase], EFFECTS[self.effect]);
        let effect = if effect == "redirect" { format!("redirect={url}") } else { effect.to_owned() };
        format!("{kind}:{call}{}:{effect}", if self.always { "-" } else { "" })
    }
}

/// A generator of the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let told = std::env::var("LAKEPORT_SEED").ok().map(|s| s.parse().expect("LAKEPORT_SEED is no number"));
        Self(told.unwrap_or(SEED))
    }

    fn below(&mut self, end: u64) -> u64 {
        // SplitMix64: any seed is a good one.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn long() -> bool {
    std::env::var_os("LAKEPORT_LONG").is_some_and(|v| v == "1")
}

/// The binary as it was when the battery began: a build beside a long battery must not swap it.
fn own_binary(desk: &Desk) -> PathBuf {
    let copy = desk.path().join("sandbox/lakeport");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_lakeport"), &copy).unwrap();
    copy
}

/// A desk's command, made of another copy of the binary.
fn command(binary: &Path, desk: &Desk, args: &[&str]) -> Command {
    let template = desk.command(args);
    let mut command = Command::new(binary);
    command.args(template.get_args()).current_dir(desk.path()).stdin(Stdio::null()).env("TOKEN", "demo");
    command.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Waits for a child, and ends one that hangs.
fn finish(child: Child) -> Done {
    let id = child.id();
    let began = Instant::now();
    let waiting = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !waiting.is_finished() {
        if began.elapsed() > CASE_LIMIT {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = waiting.join().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn begin(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Asks the sandbox's own endpoints, not the API. HTTP/1.0, so that the body ends with the connection.
pub(crate) fn ask(url: &str, method: &str, path: &str, body: &str) -> Vec<u8> {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
    let status = String::from_utf8_lossy(&answer[..head]).into_owned();
    assert!(status.split(' ').nth(1).is_some_and(|s| s.starts_with('2')), "{method} {path}: {status}\n{body}");
    answer.split_off(head + 4)
}

fn ask_json(url: &str, path: &str) -> Value {
    serde_json::from_slice(&ask(url, "GET", path, "")).unwrap()
}

/// What the sandbox holds under the one name a battery publishes to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct There {
    sha256: String,
    publishes: u64,
    rows: u64,
}

/// The one data source; two of them are a violation, whatever they hold.
fn there(url: &str) -> Result<Option<There>, String> {
    let all = ask_json(url, "/sandbox/datasources");
    match all["datasources"].as_array().unwrap().as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(There {
            sha256: one["sha256"].as_str().unwrap().to_owned(),
            publishes: one["publishes"].as_u64().unwrap(),
            rows: one["tables"][0]["rows"].as_u64().unwrap(),
        })),
        more => Err(format!("{} data sources of one name", more.len())),
    }
}

/// Waits until no publish is under way that a client has left behind.
fn settled(url: &str) -> Result<Option<There>, String> {
    let mut before = there(url)?;
    loop {
        std::thread::sleep(Duration::from_millis(150));
        let now = there(url)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

/// A sandbox with a desk beside it; apart, so that the hyperd of the one is not counted as the other's.
struct Rig {
    desk: Desk,
    binary: PathBuf,
    // The process ends before its directory is removed.
    sandbox: Sandbox,
    _far: Desk,
}

impl Rig {
    fn new(binary: &Path, keys: &str) -> Self {
        let (desk, far) = (Desk::new(), Desk::new());
        let sandbox = Sandbox::start(&far);
        desk.write("lakeport.toml", sandbox.toml(keys));
        Self { desk, binary: binary.to_owned(), sandbox, _far: far }
    }

    fn url(&self) -> &str {
        &self.sandbox.url
    }

    fn start(&self, args: &[&str]) -> Child {
        begin(command(&self.binary, &self.desk, args))
    }

    fn run(&self, args: &[&str]) -> Done {
        finish(self.start(args))
    }

    fn forget_faults(&self) {
        ask(self.url(), "DELETE", "/sandbox/faults", "");
    }

    /// Files that no run may leave: temporary ones, finished ones that were only on their way, receipts of what is done.
    fn ensure_clean(&self, receipts_too: bool) -> Result<(), String> {
        let stray = |f: &String| {
            f.contains(".tmp") || f.contains(".lakeport/work/") || (receipts_too && f.contains(".lakeport/state/publish/"))
        };
        let left: Vec<_> = self.desk.files().into_iter().filter(stray).collect();
        let hyperds = hyperds_of(&self.desk);
        match (left.is_empty(), hyperds) {
            (true, 0) => Ok(()),
            (false, _) => Err(format!("it leaves {left:?}")),
            (true, n) => Err(format!("it leaves {n} hyperd")),
        }
    }
}

/// Two files of one size and different content, and their digests; and one with rows to insert.
struct Contents {
    desk: Desk,
    files: [(String, String); 2],
    rows: String,
}

impl Contents {
    fn new() -> Self {
        let desk = Desk::new();
        desk.python(
            "import pyarrow as pa, pyarrow.parquet as pq, random\n\
             random.seed(7)\n\
             for n in 'ab': pq.write_table(pa.table({'x': [random.random() for _ in range(480000)]}), n + '.parquet')\n\
             pq.write_table(pa.table({'x': [random.random() for _ in range(1000)]}), 'rows.parquet')",
        );
        desk.run(&["convert", "rows.parquet", "rows.hyper"]).ok();
        let rows = desk.path().join("rows.hyper").to_string_lossy().into_owned();
        let files = ["a", "b"].map(|n| {
            let name = format!("{n}.hyper");
            desk.run(&["convert", &format!("{n}.parquet"), &name]).ok();
            let digest = desk.python(&format!("import hashlib;print(hashlib.sha256(open('{name}','rb').read()).hexdigest())"));
            (desk.path().join(&name).to_string_lossy().into_owned(), digest.trim().to_owned())
        });
        let bytes = std::fs::metadata(&files[0].0).unwrap().len();
        assert_eq!(bytes.div_ceil(1 << 20), 4, "the last block is meant to be the fourth; the file has {bytes} bytes");
        Self { desk, files, rows }
    }

    /// The file that the sandbox does not hold, and its digest.
    fn other(&self, held: &str) -> &(String, String) {
        self.files.iter().find(|(_, digest)| digest != held).unwrap()
    }
}

/// What is short in a battery: blocks, silences, patience.
const QUICK: &str = "project = \"Faults\"\ncreate_project = true\nsingle_request_limit = \"1MiB\"\nchunk_size = \"1MiB\"\n\
                     read_timeout = 2\ntimeout = 3\nretry_budget = 3\njob_timeout = 15\nlock_timeout = 5";

/// Runs one case and says how it ended; `Err` is a promise broken.
fn run_case(case: Case, rig: &Rig, contents: &Contents) -> Result<String, String> {
    const TO: &str = "tab:Faults, \"é\"";
    let (effect, exit) = EFFECTS[case.effect];
    let (_, kind, _) = PHASES[case.phase];
    rig.forget_faults();
    let before = match settled(rig.url())? {
        Some(there) => there,
        None => {
            rig.run(&["publish", &contents.files[0].0, TO]).ok();
            there(rig.url())?.ok_or("the first publish left nothing")?
        }
    };
    if PHASES[case.phase].0.starts_with("update") {
        return run_update(case, rig, contents, &before);
    }
    let (file, digest) = contents.other(&before.sha256);
    ask(rig.url(), "POST", "/sandbox/faults", &case.fault(rig.url()));
    let began = Instant::now();
    let done = rig.run(&["publish", file, TO]);
    let seconds = began.elapsed().as_secs_f64();
    let fault = ask_json(rig.url(), "/sandbox/faults");
    if fault["faults"][0]["struck"] == 0 {
        return Err(format!("the fault struck nothing: {fault}\n{}", done.stderr));
    }
    rig.forget_faults();
    let after = settled(rig.url())?.ok_or("the data source is gone")?;
    rig.ensure_clean(false)?;
    let told = || format!("exit {} after {seconds:.1} s\n{}", done.code, done.stderr);
    let new = after.sha256 == *digest;
    if !new && after.sha256 != before.sha256 {
        return Err(format!("what is there is neither old nor new: {}", told()));
    }
    let times = after.publishes - before.publishes;
    let outcome = if done.code == 0 {
        if !new {
            return Err(format!("success, and the old content is there: {}", told()));
        }
        // A commit may be repeated only after its own answer was lost; what it repeats is an overwrite with the same bytes.
        match (times, kind) {
            (1, _) => "published".to_owned(),
            (2.., "publish") => format!("published, commit done {times} times"),
            _ => return Err(format!("published {times} times: {}", told())),
        }
    } else {
        // A refused sign-in is not repeated: servers lock users out who are refused too often.
        let refused = effect == "expired" && kind == "signin";
        if !case.always && !refused {
            return Err(format!("one fault ends the run: {}", told()));
        }
        if done.code != exit || !done.stderr.contains("\n  help: ") {
            return Err(format!("expected exit {exit} with help: {}", told()));
        }
        // Before the commit nothing can have arrived.
        if new && !matches!(kind, "publish" | "job") {
            return Err(format!("failed, and the new content is there: {}", told()));
        }
        let code = done.stderr.split("error[").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("?");
        // What failed is healed by the next run, once the server is well.
        rig.run(&["publish", file, TO]).ok();
        let healed = there(rig.url())?.ok_or("the data source is gone")?;
        if healed.sha256 != *digest {
            return Err(format!("the rerun publishes something else: {}", told()));
        }
        format!("exit {exit} ({code}), {}", if new { "new content" } else { "old content" })
    };
    rig.ensure_clean(true)?;
    // The longest by design: a commit that hangs, sent three times, each with its upload, its time-out and its look, some 20 s.
    if Duration::from_secs_f64(seconds) > Duration::from_secs(120) {
        return Err(format!("{effect}: it takes too long: {}", told()));
    }
    Ok(format!("{outcome}, {seconds:.1} s"))
}

/// A change in place: the rows are there once or not at all, and after the rerun once.
fn run_update(case: Case, rig: &Rig, contents: &Contents, before: &There) -> Result<String, String> {
    static CHANGES: AtomicUsize = AtomicUsize::new(0);
    let (effect, exit) = EFFECTS[case.effect];
    // Each case is a change of its own; its rerun is the same one.
    let id = format!("case {}", CHANGES.fetch_add(1, Ordering::Relaxed));
    let args = ["publish", &contents.rows, "tab:Faults, \"é\"", "--action", "insert", "--change-id", &id];
    ask(rig.url(), "POST", "/sandbox/faults", &case.fault(rig.url()));
    let began = Instant::now();
    let done = rig.run(&args);
    let seconds = began.elapsed().as_secs_f64();
    let fault = ask_json(rig.url(), "/sandbox/faults");
    let told = || format!("exit {} after {seconds:.1} s\n{}", done.code, done.stderr);
    if fault["faults"][0]["struck"] == 0 {
        return Err(format!("the fault struck nothing: {fault}\n{}", done.stderr));
    }
    rig.forget_faults();
    let grown = |there: &There| there.rows.checked_sub(before.rows);
    let after = settled(rig.url())?.ok_or("the data source is gone")?;
    rig.ensure_clean(false)?;
    if !matches!(grown(&after), Some(0 | UPDATED)) {
        return Err(format!("{} rows became {}: {}", before.rows, after.rows, told()));
    }
    let outcome = if done.code == 0 {
        if grown(&after) != Some(UPDATED) {
            return Err(format!("success, and the rows are not there: {}", told()));
        }
        "updated".to_owned()
    } else {
        if !case.always {
            return Err(format!("one fault ends the run: {}", told()));
        }
        if done.code != exit || !done.stderr.contains("\n  help: ") {
            return Err(format!("expected exit {exit} with help: {}", told()));
        }
        let code = done.stderr.split("error[").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("?");
        rig.run(&args).ok();
        let healed = settled(rig.url())?.ok_or("the data source is gone")?;
        if grown(&healed) != Some(UPDATED) {
            return Err(format!("after the rerun {} rows became {}: {}", before.rows, healed.rows, told()));
        }
        format!("exit {exit} ({code}), {}", if grown(&after) == Some(0) { "old rows" } else { "new rows" })
    };
    rig.ensure_clean(true)?;
    if Duration::from_secs_f64(seconds) > Duration::from_secs(120) {
        return Err(format!("{effect}: it takes too long: {}", told()));
    }
    Ok(format!("{outcome}, {seconds:.1} s"))
}

/// Runs cases over several rigs at once; nearly all of their time is waiting.
fn run_cases(cases: &[Case], workers: usize) -> Vec<Result<String, String>> {
    let contents = Contents::new();
    let binary = own_binary(&contents.desk);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..workers.min(cases.len()) {
            scope.spawn(|| {
                let rig = Rig::new(&binary, QUICK);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    let result = run_case(*case, &rig, &contents);
                    results.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    results.into_inner().unwrap().into_values().collect()
}

/// The table effect × phase → outcome.
fn table(cases: &[Case], results: &[Result<String, String>], always: bool) -> String {
    let mut text = String::from("| |");
    for (phase, _, _) in PHASES {
        write!(text, " {phase} |").unwrap();
    }
    write!(text, "\n|---|{}\n", "---|".repeat(PHASES.len())).unwrap();
    for (effect, (name, _)) in EFFECTS.iter().enumerate() {
        write!(text, "| {name} |").unwrap();
        for phase in 0..PHASES.len() {
            let at = cases.iter().position(|c| c.effect == effect && c.phase == phase && c.always == always);
            let cell = at.map_or("", |at| results[at].as_deref().unwrap_or("**broken**"));
            write!(text, " {cell} |").unwrap();
        }
        text.push('\n');
    }
    text
}

fn write_result(name: &str, text: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/results");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(name), text).unwrap();
    println!("{text}");
}

#[test]
fn a_fault_at_any_phase_loses_and_doubles_nothing() {
    let all = Case::all();
    let cases = if long() {
        all
    } else {
        let mut dice = Dice::new();
        let mut left = all;
        (0..SHORT_CASES).map(|_| left.swap_remove(usize::try_from(dice.below(left.len() as u64)).unwrap())).collect()
    };
    let began = Instant::now();
    let results = run_cases(&cases, if long() { 8 } else { 4 });
    let broken: Vec<String> = cases
        .iter()
        .zip(&results)
        .filter_map(|(case, result)| Some(format!("{}: {}", case.fault("URL"), result.as_ref().err()?)))
        .collect();
    if long() {
        let text = format!(
            "# Faults\n\nWritten by `make faults`: {} cases, {} broken promises, {:.0} s. A file of four blocks is published over an \
             older one while the sandbox fails.\n\nEach cell is judged by what the sandbox holds afterwards: one data source, \
             the SHA-256 of the old file or of the new one, how often it was published; no temporary files, no hyperd left. \
             After each failure the fault is taken away and the same publish must succeed. A refused sign-in is \
             the one fault that ends a run at its first strike; it is not repeated, for servers lock users out over that. An update \
             inserts 1000 rows in place: they are there once or not at all, and once after the same command again.\n\n\
             With `read_timeout = 2`, `timeout = 3` and `retry_budget = 3`; the times are of a debug build, eight cases at once.\n\n\
             ## The fault strikes once\n\n{}\n## The fault never stops\n\n{}",
            cases.len(),
            broken.len(),
            began.elapsed().as_secs_f64(),
            table(&cases, &results, false),
            table(&cases, &results, true),
        );
        write_result("faults.md", &text);
    }
    assert!(broken.is_empty(), "{} of {} cases break a promise:\n{}", broken.len(), cases.len(), broken.join("\n"));
}

/// How many kills a battery makes.
fn kills() -> usize {
    let told = std::env::var("LAKEPORT_KILLS").ok().map(|n| n.parse().expect("LAKEPORT_KILLS is no number"));
    if long() { told.unwrap_or(LONG_KILLS) } else { SHORT_KILLS }
}

#[test]
fn killed_at_any_moment_the_target_is_old_or_new() {
    const ROWS: [u64; 2] = [200_000, 200_001];
    let kills = kills();
    let data = Desk::new();
    let binary = own_binary(&data);
    let rig = Rig::new(&binary, "single_request_limit = \"256KiB\"\nchunk_size = \"256KiB\"\nretry_budget = 10");
    for (name, rows) in ["a", "b"].into_iter().zip(ROWS) {
        rig.desk.parquet(&format!("{name}.parquet"), &format!("{{'id': range({rows}), 't': ['{name}'] * {rows}}}"));
    }
    let args = |name: &'static str| if name == "a" { A } else { B };
    const A: [&str; 6] = ["run", "--from", "a.parquet", "--to", "tab:Killed", "--quiet"];
    const B: [&str; 6] = ["run", "--from", "b.parquet", "--to", "tab:Killed", "--quiet"];
    let began = Instant::now();
    rig.run(&args("a")).ok();
    // The shortest so far: on a busy machine one slow run would put most kills after the end of the others.
    let mut whole = began.elapsed();
    let began = Instant::now();

    let mut dice = Dice::new();
    let (mut old, mut new, mut ended, mut twice) = (0, 0, 0, 0);
    for kill in 0..kills {
        let (name, rows) = if kill % 2 == 0 { ("b", ROWS[1]) } else { ("a", ROWS[0]) };
        let before = settled(rig.url()).unwrap().unwrap();
        let mut child = rig.start(&args(name));
        let moment = Duration::from_micros(dice.below(u64::try_from(whole.as_micros()).unwrap()));
        std::thread::sleep(moment);
        if child.try_wait().unwrap().is_some() {
            ended += 1;
        }
        let _ = child.kill();
        let _ = child.wait();
        let gone = Instant::now();
        while hyperds_of(&rig.desk) > 0 {
            assert!(gone.elapsed() < Duration::from_secs(20), "killed after {moment:?}, hyperd outlives its parent");
            std::thread::sleep(Duration::from_millis(20));
        }
        let between = settled(rig.url()).unwrap().unwrap();
        match between.rows {
            r if r == before.rows => old += 1,
            r if r == rows => new += 1,
            other => panic!("kill {kill} after {moment:?}: the target holds {other} rows"),
        }
        if between.rows == before.rows {
            assert_eq!(between, before, "kill {kill} after {moment:?}: old rows in another file");
        }
        let rerun = Instant::now();
        rig.run(&args(name)).ok();
        whole = whole.min(rerun.elapsed());
        let after = there(rig.url()).unwrap().unwrap();
        assert_eq!(after.rows, rows, "kill {kill} after {moment:?}: after the rerun");
        match after.publishes - before.publishes {
            1 => {}
            // What was killed had been committed, if only by a job that the server ended later; the rerun overwrote it with
            // the same rows.
            2 => twice += 1,
            other => panic!("kill {kill} after {moment:?}: published {other} times"),
        }
        rig.ensure_clean(true).unwrap_or_else(|e| panic!("kill {kill} after {moment:?}, the rerun: {e}"));
        // The vendor's own reader, at the end and now and then.
        if kill + 1 == kills || kill % 20 == 19 {
            let id = ask_json(rig.url(), "/sandbox/datasources")["datasources"][0]["id"].as_str().unwrap().to_owned();
            data.write("there.hyper", ask(rig.url(), "GET", &format!("/sandbox/datasources/{id}/file"), ""));
            let read = data.rows("there.hyper", "1");
            let read = read.as_array().unwrap();
            assert_eq!(read.len() as u64, rows);
            assert!(read.iter().enumerate().all(|(n, row)| row[0] == n && row[1] == name), "the rows are not those of {name}");
        }
    }
    let text = format!(
        "# Kills\n\nWritten by `make kills`: a run of {} and {} rows to the sandbox, in blocks, killed with `kill -9` {kills} times at \
         moments drawn from its usual {:.1} s, each time run again.\n\n\
         | after the kill | times |\n|---|---|\n| the target old | {old} |\n| the target new | {new} |\n| anything else | 0 |\n\
         | of these, the run had ended before its kill | {ended} |\n\
         | the killed run's commit landed, and the rerun overwrote it with the same rows | {twice} |\n\n\
         After every rerun: the rows of the new table, one data source, no temporary file, no receipt, no hyperd. The rows were \
         compared one by one with the vendor's own reader after every twentieth and the last. {:.0} s in all.\n",
        ROWS[0],
        ROWS[1],
        whole.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    );
    if long() {
        write_result("kills.md", &text);
    }
}

/// Every commit is a job, and a server that fails is soon given up.
const HASTY: &str = "single_request_limit = \"1KiB\"\nretry_budget = 1";

#[test]
fn an_append_that_lost_its_job_is_taken_up_and_not_doubled() {
    const ROWS: u64 = 3000;
    let data = Desk::new();
    let binary = own_binary(&data);
    let rig = Rig::new(&binary, HASTY);
    rig.desk.parquet("a.parquet", &format!("{{'id': range({ROWS})}}"));
    rig.desk.parquet("b.parquet", "{'id': range(10)}");
    let rows = || settled(rig.url()).unwrap().unwrap().rows;
    let run = |file: &str, mode: &str| rig.run(&["run", "--from", file, "--to", "tab:Log", "--mode", mode]);
    run("a.parquet", "full").ok();
    ask(rig.url(), "POST", "/sandbox/faults", "job:1-:status=503");
    run("a.parquet", "append").fails(5, "E154");
    rig.forget_faults();
    assert_eq!(rows(), 2 * ROWS, "the job did its work, and nobody knew");
    // The same rows in another file: a conversion never has the same bytes twice.
    run("a.parquet", "append").ok();
    assert_eq!(rows(), 2 * ROWS);
    rig.ensure_clean(true).unwrap();
    // What is done is done: the next append is meant.
    run("a.parquet", "append").ok();
    run("b.parquet", "append").ok();
    assert_eq!(rows(), 3 * ROWS + 10);
    rig.ensure_clean(true).unwrap();
}

#[test]
fn an_append_of_a_run_that_failed_afterwards_is_not_doubled() {
    let data = Desk::new();
    let binary = own_binary(&data);
    let rig = Rig::new(&binary, "retry_budget = 1");
    rig.desk.parquet("a.parquet", "{'id': range(100)}");
    let rows = || there(rig.url()).unwrap().unwrap().rows;
    let declare = |group: &str| {
        let job = "[job.log]\nfrom = \"a.parquet\"\nto = \"tab:Log\"\nmode = \"append\"";
        let rights = format!("[job.log.permissions.\"group:{group}\"]\nallow = [\"Read\"]");
        rig.desk.write("lakeport.toml", rig.sandbox.toml(&format!("retry_budget = 1\n{job}\n{rights}")));
    };
    declare("Nobody");
    rig.run(&["run", "--from", "a.parquet", "--to", "tab:Log"]).ok();
    // The rows are there, and the permissions cannot be set.
    rig.run(&["run", "log"]).fails(2, "E128").says("Nobody");
    assert_eq!(rows(), 200);
    rig.run(&["run", "log"]).fails(2, "E128");
    declare("All Users");
    rig.run(&["run", "log"]).ok();
    assert_eq!(rows(), 200);
    rig.ensure_clean(true).unwrap();
    // The rows are there, and the look at them fails: the first look is for what is there before, the second for permissions.
    ask(rig.url(), "POST", "/sandbox/faults", "datasource:3-:status=503");
    rig.run(&["run", "log"]).fails(5, "E153");
    rig.forget_faults();
    assert_eq!(rows(), 300);
    rig.run(&["run", "log"]).ok();
    assert_eq!(rows(), 300);
    rig.ensure_clean(true).unwrap();
    rig.run(&["run", "log"]).ok();
    assert_eq!(rows(), 400);
}

#[test]
fn what_a_cut_off_overwrite_took_is_given_back() {
    let data = Desk::new();
    let binary = own_binary(&data);
    let rig = Rig::new(&binary, HASTY);
    rig.desk.parquet("a.parquet", "{'id': range(3000)}");
    let run = || rig.run(&["run", "--from", "a.parquet", "--to", "tab:Kept"]);
    let kept = || {
        settled(rig.url()).unwrap();
        let one = &ask_json(rig.url(), "/sandbox/datasources")["datasources"][0];
        (one["description"] == "what it <is>", one["certified"] == true, one["tags"].as_array().unwrap().len())
    };
    run().ok();
    // The next run has the same rows, and others.
    for rewritten in [false, true] {
        judge(&data, "judge_wire", &["prepare", rig.url()]);
        assert_eq!(kept(), (true, true, 3));
        ask(rig.url(), "POST", "/sandbox/faults", "job:1-:status=503");
        run().fails(5, "E154");
        rig.forget_faults();
        assert_eq!(kept(), (false, false, 0), "the overwrite was made");
        if rewritten {
            rig.desk.parquet("a.parquet", "{'id': range(4000)}");
        }
        run().ok().says("restored after the overwrite: description, certification, tags");
        assert_eq!(kept(), (true, true, 3), "rewritten: {rewritten}");
        rig.ensure_clean(true).unwrap();
    }
}

#[test]
fn two_processes_with_one_token_take_turns() {
    let data = Desk::new();
    let binary = own_binary(&data);
    let rig = Rig::new(&binary, "lock_timeout = 60");
    rig.desk.write("a.csv", "a\n1\n");
    rig.desk.run(&["convert", "a.csv", "a.hyper"]).ok();
    let both = ["tab:One", "tab:Two"].map(|to| rig.start(&["publish", "a.hyper", to]));
    for child in both {
        finish(child).ok();
    }
    let names: Vec<_> = rig.sandbox.datasources().iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(ended_early(rig.url()), 0, "no session was ended by the other's sign-in");

    // The one holds the token while the server takes its time; the other does not wait for it.
    rig.desk.write("hasty.toml", rig.sandbox.toml("lock_timeout = 1"));
    ask(rig.url(), "DELETE", "/sandbox/calls", "");
    ask(rig.url(), "POST", "/sandbox/faults", "publish:1:slow=4s");
    let holder = rig.start(&["publish", "a.hyper", "tab:One"]);
    let id = holder.id().to_string();
    let began = Instant::now();
    while !kinds(rig.url()).iter().any(|k| k == "signin") {
        assert!(began.elapsed() < Duration::from_secs(20), "the holder does not sign in");
        std::thread::sleep(Duration::from_millis(10));
    }
    let hasty = rig.run(&["--config", "hasty.toml", "publish", "a.hyper", "tab:Two"]);
    hasty.fails(5, "E155").says("demo").says(&id);
    finish(holder).ok();
}

/// The kinds of the calls the sandbox saw.
fn kinds(url: &str) -> Vec<String> {
    let calls = ask_json(url, "/sandbox/calls");
    calls["calls"].as_array().unwrap().iter().map(|c| c["kind"].as_str().unwrap_or_default().to_owned()).collect()
}

/// How many calls came with a session that was no longer one.
fn ended_early(url: &str) -> usize {
    let calls = ask_json(url, "/sandbox/calls");
    calls["calls"].as_array().unwrap().iter().filter(|c| c["status"] == 401).count()
}

#[test]
fn two_jobs_on_one_data_source_never_mix() {
    let data = Desk::new();
    let binary = own_binary(&data);
    let rig = Rig::new(&binary, "");
    let jobs = "\n[job.long]\nfrom = \"long.csv\"\nto = \"tab:Same\"\n[job.short]\nfrom = \"short.csv\"\nto = \"tab:Same\"\n";
    rig.desk.write("lakeport.toml", rig.sandbox.toml("single_request_limit = \"1KiB\"\nchunk_size = \"8KiB\"") + jobs);
    rig.desk.write("long.csv", "a\n".to_owned() + &"1\n".repeat(5000));
    rig.desk.write("short.csv", "a\n".to_owned() + &"2\n".repeat(3000));
    // In one process and in two; the whole of one or the whole of the other is there afterwards.
    rig.run(&["run", "--all", "--jobs", "2"]).ok();
    let first = there(rig.url()).unwrap().unwrap();
    assert!(matches!(first.rows, 5000 | 3000) && first.publishes == 2, "{first:?}");
    for child in ["long", "short"].map(|job| rig.start(&["run", job])) {
        finish(child).ok();
    }
    let second = there(rig.url()).unwrap().unwrap();
    assert!(matches!(second.rows, 5000 | 3000) && second.publishes == 4, "{second:?}");
    rig.ensure_clean(true).unwrap();
}

#[test]
fn sixty_four_jobs_at_once() {
    const JOBS: usize = 64;
    let data = Desk::new();
    let binary = own_binary(&data);
    let rig = Rig::new(&binary, "");
    let mut config = rig.sandbox.toml("");
    for n in 1..=JOBS {
        rig.desk.write(&format!("{n}.csv"), "a\n".to_owned() + &"1\n".repeat(n));
        write!(config, "[job.j{n}]\nfrom = \"{n}.csv\"\nto = \"tab:J{n}\"\n").unwrap();
    }
    rig.desk.write("lakeport.toml", config);
    let began = Instant::now();
    rig.run(&["run", "--all", "--jobs", "8"]).ok();
    println!("{JOBS} jobs in {:.1} s", began.elapsed().as_secs_f64());
    let all = rig.sandbox.datasources();
    assert_eq!(all.len(), JOBS);
    for one in &all {
        let rows: u64 = one["name"].as_str().unwrap().trim_start_matches('J').parse().unwrap();
        assert_eq!((one["tables"][0]["rows"].as_u64(), one["publishes"].as_u64()), (Some(rows), Some(1)), "{one}");
    }
    assert_eq!(kinds(rig.url()).iter().filter(|k| *k == "signin").count(), 1, "one session serves all jobs");
    rig.ensure_clean(true).unwrap();
}
