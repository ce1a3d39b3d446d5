//! What is printed: results on stdout, progress and logs on stderr, one JSON document with `--json`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use lakeport::advice;
use lakeport::error::{Error, Kind};
use lakeport::report::{Report, SCHEMA, error_json};
use serde_json::{Map, Value, json};

use crate::args::Args;

pub(crate) mod human;
pub(crate) mod page;
pub(crate) mod progress;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One JSON document instead of text.
    pub(crate) json: bool,
    /// No progress, no summaries.
    pub(crate) quiet: bool,
    /// Colours on stdout.
    pub(crate) colour: bool,
}

impl Output {
    pub(crate) fn new(args: &Args) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { json: args.json, quiet: args.quiet, colour: !plain && std::io::stdout().is_terminal() }
    }

    /// Prints a result: the text for people, or the fields as one JSON document.
    pub(crate) fn result(&self, text: &str, fields: Value) {
        if self.json {
            print_json(&document(true, fields));
        } else if !text.is_empty() {
            print(text.trim_end_matches('\n'));
        }
    }

    /// Prints a failure and gives its exit code.
    pub(crate) fn failure(&self, e: &Error, fields: Value) -> u8 {
        if self.json {
            let Value::Object(mut document) = document(false, fields) else { return e.exit_code() };
            document.insert("exit_code".into(), e.exit_code().into());
            document.insert("error".into(), error_json(e));
            print_json(&Value::Object(document));
        } else {
            eprint!("{}", human::error(e, std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()));
        }
        e.exit_code()
    }

    /// What a Ctrl-C says, of runs that were given up and of a publish that has no run.
    pub(crate) fn interrupted(&self, publishing: bool) -> u8 {
        let given_up = lakeport::run::given_up();
        let exporting = |r: &Report| r.phases.last().is_some_and(|p| matches!(p.name, "export" | "observe"));
        let error = if publishing || given_up.iter().any(exporting) {
            Error::new(Kind::Interrupted, "interrupted while publishing; what is there is whole, the former or the new")
                .help("run the same command again: it looks what became of this one and takes it up")
        } else {
            Error::new(Kind::Interrupted, "interrupted; nothing half-written was left")
        };
        if self.json && PRINTED.load(Ordering::Relaxed) {
            return error.exit_code();
        }
        let error = given_up.iter().fold(error, |e, report| e.at("job", &report.job));
        let fields = match given_up.as_slice() {
            [one] => serde_json::to_value(one).unwrap_or_default(),
            several => json!({ "runs": several }),
        };
        self.failure(&error, if given_up.is_empty() { json!({}) } else { fields })
    }
}

/// Whether a document was printed: there is one.
static PRINTED: AtomicBool = AtomicBool::new(false);
/// Whether a result could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// The exit code, once all is printed: a result that nobody can read is none.
pub(crate) fn ended(code: u8) -> u8 {
    if code == 0 && LOST.load(Ordering::Relaxed) { advice::of(Kind::WriteFailed).exit_code } else { code }
}

/// Prints a text and a line end on stdout.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        // A closed pipe (`lakeport plan | head`) is the reader's choice and no failure.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            LOST.store(true, Ordering::Relaxed);
            eprintln!("error[{}]: the result cannot be printed: {e}", advice::of(Kind::WriteFailed).code);
        }
        _ => {}
    }
}

fn document(ok: bool, fields: Value) -> Value {
    let mut document = Map::new();
    document.insert("schema".into(), SCHEMA.into());
    document.insert("ok".into(), ok.into());
    if let Value::Object(fields) = fields {
        document.extend(fields.into_iter().filter(|(k, _)| k != "schema" && k != "ok"));
    }
    Value::Object(document)
}

/// Prints one JSON document.
pub(crate) fn print_json(document: &Value) {
    PRINTED.store(true, Ordering::Relaxed);
    print(&serde_json::to_string_pretty(document).unwrap_or_default());
}

/// What clap found wrong, also as JSON where that was asked for; help and version are no failures.
pub(crate) fn usage(e: &clap::Error) -> ExitCode {
    if !e.use_stderr() {
        let _ = e.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|a| a == "--json") {
        let message = e.to_string();
        // The first paragraph: what is wrong, and the names that belong to it.
        let lines: Vec<_> = message.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let message = lines.join(" ").trim_start_matches("error: ").to_owned();
        let error = Error::new(Kind::Usage, message);
        print_json(&json!({ "schema": SCHEMA, "ok": false, "exit_code": 2, "error": error_json(&error) }));
    } else {
        let _ = e.print();
    }
    ExitCode::from(advice::of(Kind::Usage).exit_code)
}

/// Sends logs to stderr: warnings, with -v what Lakeport does, with -vv everything.
pub(crate) fn log(verbose: u8, quiet: bool) {
    let default = match (quiet, verbose) {
        (true, _) => "error",
        // hyperd's client warns when a run is given up on purpose.
        (_, 0) => "warn,hyperdb_api=error,hyperdb_api_core=error",
        (_, 1) => "info,hyperdb_api=warn",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAKEPORT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = log.with_target(false).with_ansi(colours).try_init();
}
