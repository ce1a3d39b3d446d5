//! `plan`, `run`, `convert`, `publish`: the work itself.

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, stream};
use lakeport::Lakeport;
use lakeport::config::{Env, Job, Reference};
use lakeport::convert::{Format, Written};
use lakeport::error::{Context, Error, Kind, Result};
use lakeport::export::{Mode, Publish};
use lakeport::run::{Event, Outcome};
use lakeport::source::Query;
use lakeport::verify::Verify;
use serde_json::json;

use super::value;
use crate::args::{Options, What};
use crate::output::progress::Progress;
use crate::output::{Output, human, print_json};

/// How often it is looked whether a line of progress is due.
const TICK: Duration = Duration::from_millis(500);

/// `lakeport plan`: shows every plan, also those that a run would refuse, and fails as the run would.
pub(super) async fn plan(lakeport: &mut Lakeport, what: &What, output: &Output) -> Result<u8> {
    let mut texts = Vec::new();
    let mut plans = Vec::new();
    let mut refused = None;
    let jobs = what.jobs(&lakeport.config, false)?;
    lakeport.limits.jobs = side_by_side(lakeport, what, jobs.len());
    for (name, job) in jobs {
        let plan = lakeport.plan(&name, &job).await?;
        let summary = plan.summary();
        texts.push(human::plan(&summary, output.colour));
        plans.push(value(&summary));
        refused = refused.or(plan.ensure_accepted().err());
    }
    let fields = json!({ "plans": plans });
    if refused.is_none() || !output.json {
        output.result(&texts.join("\n"), fields.clone());
    }
    Ok(refused.map_or(0, |e| output.failure(&e, fields)))
}

/// `lakeport run`.
pub(super) async fn run(lakeport: &mut Lakeport, what: &What, all: bool, output: &Output) -> u8 {
    match what.jobs(&lakeport.config, all) {
        Ok(jobs) => {
            let parallel = side_by_side(lakeport, what, jobs.len());
            lakeport.limits.jobs = parallel;
            run_all(lakeport, jobs, parallel, all, output).await
        }
        Err(e) => output.failure(&e, json!({})),
    }
}

/// How many of these jobs run at a time; they share one budget of memory.
fn side_by_side(lakeport: &Lakeport, what: &What, jobs: usize) -> usize {
    what.options.parallel.or(lakeport.config.defaults.jobs).unwrap_or(1).clamp(1, jobs.max(1))
}

/// `lakeport convert`.
pub(super) async fn convert(lakeport: &Lakeport, from: &str, file: &str, options: &Options, output: &Output) -> u8 {
    if let Err(e) = ensure_files_go_to(lakeport, file) {
        return output.failure(&e, json!({}));
    }
    let mut job = Job { from: Some(from.to_owned()), to: file.to_owned(), ..Job::default() };
    options.over(&mut job);
    run_all(lakeport, vec![(format!("{from} → {file}"), job)], 1, false, output).await
}

/// A conversion ends with a file; to publish it is asked for by another word.
fn ensure_files_go_to(lakeport: &Lakeport, file: &str) -> Result<()> {
    if let Reference::Named { environment, .. } = Reference::parse(file)
        && !matches!(lakeport.config.environment(&environment)?, Env::Lake(_) | Env::Store(_))
    {
        return Err(Error::new(Kind::Usage, format!("`convert` writes a file, and `{environment}` is no place for files"))
            .help("`lakeport run --from … --to …` converts and publishes"));
    }
    Ok(())
}

/// Runs jobs side by side; a failed one does not stop the others, and the worst exit code counts.
///
/// With `--json`, one job is a document of its own; where all were asked for they are a list, however many there are.
async fn run_all(lakeport: &Lakeport, jobs: Vec<(String, Job)>, parallel: usize, all: bool, output: &Output) -> u8 {
    let progress = Progress::new(output);
    let listen = |job: &str, event: Event| progress.on(job, event);
    let (listen, progress) = (&listen, &progress);
    let single = jobs.len() == 1 && !all;
    let mut running = stream::iter(jobs)
        .map(|(name, job)| async move {
            let outcome = lakeport.run(&name, &job, listen).await;
            progress.done(&name);
            outcome
        })
        .buffer_unordered(parallel);
    let mut code = 0;
    let mut runs = Vec::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        let outcome = tokio::select! {
            outcome = running.next() => outcome,
            _ = tick.tick() => {
                progress.tick();
                continue;
            }
        };
        let Some(Outcome { report, error, .. }) = outcome else { break };
        code = code.max(report.exit_code);
        match (&error, output.json) {
            (None, false) if !output.quiet => output.result(&human::report(&report), json!({})),
            (Some(e), false) => {
                output.failure(e, json!({}));
            }
            (Some(e), true) if single => {
                return output.failure(e, value(&report));
            }
            _ => {}
        }
        runs.push(report);
    }
    if output.json {
        match runs.as_slice() {
            [one] if single => output.result("", value(one)),
            several if code == 0 => output.result("", json!({ "runs": several.iter().map(value).collect::<Vec<_>>() })),
            several => {
                let failed = several.iter().filter(|r| !r.ok).count();
                let worst = several.iter().max_by_key(|r| r.exit_code).and_then(|r| r.error.clone());
                let document = json!({
                    "schema": lakeport::report::SCHEMA, "ok": false, "exit_code": code, "error": worst,
                    "failed": failed, "runs": several.iter().map(value).collect::<Vec<_>>(),
                });
                print_json(&document);
            }
        }
    }
    code
}

/// `lakeport publish`: the second half alone.
pub(super) async fn publish(
    lakeport: &Lakeport,
    file: &Path,
    to: &str,
    mode: Mode,
    verify: Verify,
    output: &Output,
) -> Result<()> {
    let Reference::Named { environment, path: name } = Reference::parse(to) else {
        return Err(Error::new(Kind::Usage, format!("`{to}` names no environment")).help("write ENV:Name"));
    };
    if matches!(mode, Mode::Upsert | Mode::DeleteInsert) {
        let message = format!("`publish` sends a file whole, and mode {} changes rows of what is there", mode.name());
        return Err(Error::new(Kind::Usage, message).help("use --action with --key, or run a job in this mode"));
    }
    let target = lakeport.target(&environment)?;
    let bytes = std::fs::metadata(file)
        .map_err(|e| Error::new(Kind::SourceMissing, format!("there is no file {}", file.display())).because(e))?
        .len();
    let format = lakeport.formats.by_extension(&file.to_string_lossy())?;
    let can = target.capability();
    // A package is known by its own name, whatever reads it.
    let extension = file.extension().and_then(|e| can.formats.iter().find(|f| e.eq_ignore_ascii_case(f)));
    let kind = extension.copied().unwrap_or(format.capability().name);
    can.ensure_takes(&environment, kind, mode).at("file", file.display())?;
    // Opened before it is sent: a file that nobody can read is not worth a server's time.
    let rows =
        if verify == Verify::None { Vec::new() } else { rows_of(lakeport, format, file).await.at("file", file.display())? };
    let written = Written { path: file.to_owned(), bytes, format: kind.to_owned(), rows };
    let progress = Progress::new(output);
    progress.on(to, Event::Phase("export"));
    // Kept until all is well, so that the same command takes up what this one may not live to see the end of.
    let unfinished = lakeport.receipt_path(&format!("{} → {to}", file.display()));
    let publish = Publish { name, mode, receipt_path: Some(unfinished.clone()), ..Publish::default() };
    let receipt = target
        .publish(&written, &publish, &|done, total| progress.on(to, Event::Uploaded(done, total)))
        .await
        .at("environment", &environment)
        .during("publish")?;
    let observed =
        if verify == Verify::None { None } else { Some(target.observe(&receipt).await.at("environment", &environment)?) };
    progress.done(to);
    if let Some(there) = observed.as_ref().and_then(|o| o.bytes).filter(|b| *b != bytes && mode != Mode::Append) {
        return Err(
            Error::new(Kind::VerifyFailed, "the target tells another size").because(format!("sent: {bytes}; there: {there}"))
        );
    }
    let counted = observed.as_ref().and_then(|o| o.rows.as_ref()).filter(|_| mode != Mode::Append && !written.rows.is_empty());
    if let Some(there) = counted.filter(|there| **there != written.rows) {
        let differ = format!("in the file: {:?}; there: {there:?}", written.rows);
        return Err(Error::new(Kind::VerifyFailed, "the target tells another number of rows").because(differ));
    }
    let _ = std::fs::remove_file(unfinished);
    let text = format!(
        "published {}\n  {} ({}, {})\n",
        file.display(),
        receipt.url.as_deref().unwrap_or(&receipt.id),
        lakeport::limits::show_size(bytes),
        receipt.way
    );
    output.result(
        if output.quiet { "" } else { &text },
        json!({ "receipt": value(&receipt), "observed": value(&observed), "rows": written.rows }),
    );
    Ok(())
}

/// The rows of each table of a file, as far as they are known without reading all of it; the engine's own formats are opened by it.
async fn rows_of(lakeport: &Lakeport, format: &dyn Format, file: &Path) -> Result<Vec<u64>> {
    let can = format.capability();
    if !can.lake && !can.read {
        return Ok(Vec::new());
    }
    if !can.lake {
        let found = tokio::task::block_in_place(|| format.describe(file, &lakeport.limits))?;
        return Ok(found.tables.iter().map(|t| t.rows).collect());
    }
    let from = Reference::Place(file.to_string_lossy().into_owned()).locate(&lakeport.config, &lakeport.directory)?;
    let table = lakeport.engine.open(&Query { from: Some(from), ..Query::default() }, &lakeport.limits).await?;
    Ok(table.snapshot.rows.into_iter().collect())
}
