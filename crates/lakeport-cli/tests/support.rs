//! A directory of its own for each test, the binary in it, Python beside it, the sandbox when needed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A working directory with the binary.
pub(crate) struct Desk {
    dir: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts success and hands itself on.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts an error by exit code and error code; the help line must be there.
    #[track_caller]
    pub(crate) fn fails(self, exit: i32, code: &str) -> Self {
        assert_eq!(self.code, exit, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(&format!("error[{code}]: ")), "{}", self.stderr);
        assert!(self.stderr.contains("\n  help: "), "{}", self.stderr);
        self
    }

    /// Asserts an error that is told as JSON, by exit code.
    #[track_caller]
    pub(crate) fn fails_json(self, exit: i32) -> Self {
        assert_eq!((self.code, self.json()["exit_code"].as_i64()), (exit, Some(exit.into())), "{}", self.stderr);
        self
    }

    /// Asserts a command line that is refused with these words.
    #[track_caller]
    pub(crate) fn fails_usage(self, says: &str) -> Self {
        assert_eq!(self.code, 2, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.says(says)
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text) || self.stdout.contains(text), "no {text:?} in\n{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary, not yet started, with nothing of the machine's own configuration.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        // Long batteries measure the release build.
        let binary = std::env::var_os("LAKEPORT_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_lakeport").into());
        let mut command = Command::new(binary);
        command.args(args).current_dir(self.path()).env("XDG_CONFIG_HOME", self.path().join("no-config")).env("NO_COLOR", "1");
        command.env(MARK, self.path()).env("XDG_STATE_HOME", self.path().join("sandbox/xdg"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// Runs a piece of Python in the directory; a missing interpreter fails the test.
    #[track_caller]
    pub(crate) fn python(&self, code: &str) -> String {
        let done = Done::of(python().arg("-c").arg(code).current_dir(self.path()).output().unwrap());
        done.ok().stdout
    }

    /// Writes a Parquet file whose columns are given as Python.
    #[track_caller]
    pub(crate) fn parquet(&self, name: &str, columns: &str) {
        let directory = self.path().join(name);
        std::fs::create_dir_all(directory.parent().unwrap()).unwrap();
        self.python(&format!("import pyarrow as pa, pyarrow.parquet as pq\npq.write_table(pa.table({columns}), {name:?})"));
    }

    /// Writes `k.parquet` with this many rows of `id` and `t`, a text of which there are a thousand.
    #[track_caller]
    pub(crate) fn numbered(&self, rows: u32) {
        let columns = format!("{{'id': range({rows}), 't': [f'row {{i % 1000}}' for i in range({rows})]}}");
        self.parquet("k.parquet", &columns);
    }

    /// All files below the directory, without Lakeport's own records of runs.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut open = vec![self.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    all.push(entry.path().strip_prefix(self.path()).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        all.retain(|f| !f.starts_with(".lakeport/runs/") && !f.starts_with("sandbox/"));
        all.sort();
        all
    }

    /// Rows of the one table of a .hyper file, as the vendor's own reader gives them: one JSON list per row.
    #[track_caller]
    pub(crate) fn rows(&self, file: &str, order: &str) -> Value {
        let code = format!(
            r#"
import json
from tableauhyperapi import *
with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={{"log_config": ""}}) as h:
    with Connection(h.endpoint, {file:?}) as c:
        (table,) = c.catalog.get_table_names("Extract")
        print(json.dumps(c.execute_list_query(f"select * from {{table}} order by {order}"), default=str))
"#
        );
        serde_json::from_str(&self.python(&code)).unwrap()
    }
}

/// The interpreter with the judges in it.
pub(crate) fn python() -> Command {
    let python = std::env::var("LAKEPORT_PYTHON").expect("LAKEPORT_PYTHON names no interpreter; run `make test`");
    let mut command = Command::new(python);
    command.stdin(Stdio::null());
    command
}

/// A sandbox process, ended with the test.
pub(crate) struct Sandbox {
    child: Child,
    pub(crate) url: String,
}

impl Sandbox {
    pub(crate) fn start(desk: &Desk) -> Self {
        Self::start_with(desk, &[])
    }

    pub(crate) fn start_with(desk: &Desk, more: &[&str]) -> Self {
        let mut command = desk.command(&["sandbox", "--port", "0", "--data", "sandbox", "--json"]);
        command.args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            text.push_str(&line);
            if line == "}" {
                break;
            }
        }
        let url = serde_json::from_str::<Value>(&text).unwrap()["url"].as_str().unwrap().to_owned();
        Self { child, url }
    }

    /// Environment `tab` of a lakeport.toml that publishes here.
    pub(crate) fn toml(&self, more: &str) -> String {
        format!(
            "[env.tab]\ntype = \"tableau\"\nurl = \"{}\"\ntoken_name = \"demo\"\ntoken_secret = {{ env = \"TOKEN\" }}\n{more}\n",
            self.url
        )
    }

    /// What the sandbox itself says is there: the judge beside Lakeport's own word.
    pub(crate) fn datasources(&self) -> Vec<Value> {
        let code = format!("import urllib.request as u;print(u.urlopen('{}/sandbox/datasources').read().decode())", self.url);
        let done = Done::of(python().arg("-c").arg(code).output().unwrap()).ok();
        done.json()["datasources"].as_array().unwrap().clone()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Politely, so that its hyperd ends with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The variable that marks a test's processes, inherited by the hyperd they start.
pub(crate) const MARK: &str = "LAKEPORT_TEST_MARK";

/// How many hyperd run that a command of this desk started.
pub(crate) fn hyperds_of(desk: &Desk) -> usize {
    let mark = format!("{MARK}={}", desk.path().display());
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    entries
        .flatten()
        .filter(|e| std::fs::read_to_string(e.path().join("comm")).is_ok_and(|c| c.starts_with("hyperd")))
        .filter(|e| String::from_utf8_lossy(&std::fs::read(e.path().join("environ")).unwrap_or_default()).contains(&mark))
        .count()
}

/// Runs one of the Python judges beside this file in a directory, and hands out what it says.
#[track_caller]
pub(crate) fn judge(desk: &Desk, name: &str, args: &[&str]) -> String {
    let script = format!("{}/tests/{name}.py", env!("CARGO_MANIFEST_DIR"));
    let output = python().arg(script).args(args).current_dir(desk.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}
