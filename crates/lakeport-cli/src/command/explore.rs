//! `check`, `ls`, `describe`: what is there, and whether it can be used.

use lakeport::Lakeport;
use lakeport::config::{Env, Reference};
use lakeport::convert::FileDescription;
use lakeport::convert::hyper::install;
use lakeport::error::{Context, Error, Kind, Result};
use lakeport::export::Health;
use lakeport::export::tableau::JobState;
use lakeport::limits::show_size;
use lakeport::source::{Listed, Query, local_path};
use serde_json::json;

use super::{facts, value};
use crate::output::{Output, human};

/// `lakeport check`: every environment is looked at, and the first failure decides the exit code; a hyperd that is not there only
/// where nothing else fails, because not every environment needs it.
pub(super) async fn check(lakeport: &Lakeport, environments: &[String], install_hyperd: bool, output: &Output) -> Result<u8> {
    let mut text = String::new();
    let mut all = Vec::new();
    if install_hyperd {
        let path = install::install()?;
        text.push_str(&format!("hyperd {} is installed: {}\n", install::VERSION, path.display()));
    }
    let hyperd = install::find();
    match &hyperd {
        Ok(path) => text.push_str(&format!("hyperd\n  ready  {}\n", path.display())),
        Err(e) => text.push_str(&format!("hyperd\n  missing  {e}; {}\n", e.help_line())),
    }
    all.push(json!({ "environment": "hyperd", "ready": hyperd.is_ok() }));
    let mut failure = None;
    let named: Vec<&String> =
        if environments.is_empty() { lakeport.config.env.keys().collect() } else { environments.iter().collect() };
    for name in named {
        let looked = async {
            match lakeport.config.environment(name)? {
                Env::Lake(_) | Env::Spark(_) => {
                    let root = Reference::Named { environment: name.clone(), path: String::new() }
                        .locate(&lakeport.config, &lakeport.directory)?;
                    let tables = lakeport.engine.list(&root).await?;
                    let found = vec![("root".to_owned(), root.url), ("entries".to_owned(), tables.len().to_string())];
                    Ok(Health { facts: found, ..Health::default() })
                }
                _ => lakeport.target(name)?.check().await,
            }
        };
        match looked.await.at("environment", name) {
            Ok(Health { facts: found, missing, denied }) => {
                text.push_str(&format!("{name}\n{}", facts(&found)));
                // A right that is missing is another's to give; what does not exist is the user's to correct.
                let kind = if denied.is_empty() { Kind::TargetMissing } else { Kind::Forbidden };
                let missing = [denied, missing].concat();
                for line in &missing {
                    text.push_str(&format!("  missing  {line}\n"));
                }
                if missing.is_empty() {
                    text.push_str("  ready\n");
                } else {
                    let unready = Error::new(kind, format!("`{name}` is not ready: {}", missing.join("; ")));
                    failure = failure.or_else(|| Some(unready.at("environment", name)));
                }
                all.push(json!({ "environment": name, "ready": missing.is_empty(), "facts": found, "missing": missing }));
            }
            Err(e) => {
                text.push_str(&format!("{name}\n  failed  {e}\n"));
                all.push(json!({ "environment": name, "ready": false, "error": lakeport::report::error_json(&e) }));
                failure = failure.or(Some(e));
            }
        }
    }
    let fields = json!({ "environments": all });
    Ok(match failure.or(hyperd.err()) {
        None => {
            output.result(&text, fields);
            0
        }
        Some(e) => {
            if !output.json {
                output.result(&text, json!({}));
            }
            output.failure(&e, fields)
        }
    })
}

/// `lakeport check ENV --job ID`: what became of a job that outlived its deadline.
pub(super) async fn job(lakeport: &Lakeport, environments: &[String], id: &str, output: &Output) -> Result<()> {
    let [environment] = environments else { return Err(Error::new(Kind::Usage, "--job takes one environment")) };
    let job = lakeport.tableau(environment)?.job(id).await.at("environment", environment).map_err(|e| match e.kind() {
        Kind::TargetMissing => e.help("the id stands in the error of the run that left the job; servers forget old jobs"),
        _ => e,
    })?;
    let notes = job.notes.join("; ");
    match job.state {
        JobState::Succeeded => {}
        JobState::Running => {
            let progress = job.progress.map_or_else(String::new, |p| format!(", {p} %"));
            return Err(
                Error::new(Kind::JobUnfinished, format!("job {id} is still running{progress}")).at("environment", environment)
            );
        }
        JobState::Failed | JobState::Cancelled | JobState::Ended => {
            let e = Error::new(Kind::FileRefused, format!("job {id} ended without success")).at("environment", environment);
            return Err(if notes.is_empty() { e } else { e.because(notes) });
        }
    }
    let ended = job.completed_at.as_deref().unwrap_or("at a time it does not tell");
    let text = format!("job {id}\n  succeeded  {ended}{}{notes}", if notes.is_empty() { "" } else { "\n  " });
    output.result(
        &text,
        json!({ "job": { "id": id, "state": "succeeded", "completed_at": job.completed_at, "notes": job.notes } }),
    );
    Ok(())
}

/// `lakeport ls`.
pub(super) async fn ls(lakeport: &Lakeport, reference: &str, output: &Output) -> Result<()> {
    // A bare name is an environment where there is one.
    let parsed = match Reference::parse(reference) {
        Reference::Place(place) if lakeport.config.env.contains_key(&place) => {
            Reference::Named { environment: place, path: String::new() }
        }
        other => other,
    };
    let listed = match &parsed {
        Reference::Named { environment, path }
            if !matches!(lakeport.config.environment(environment)?, Env::Lake(_) | Env::Spark(_)) =>
        {
            lakeport.target(environment)?.list(path).await.at("environment", environment)?
        }
        _ => lakeport.engine.list(&parsed.locate(&lakeport.config, &lakeport.directory)?).await.at("source", reference)?,
    };
    output.result(&list(&listed), json!({ "entries": value(&listed) }));
    Ok(())
}

fn list(listed: &[Listed]) -> String {
    let rows: Vec<_> = listed
        .iter()
        .map(|l| {
            let details: Vec<_> = l.details.iter().map(|(k, v)| format!("{k} {v}")).collect();
            vec![l.name.clone(), l.kind.clone(), details.join(" · ")]
        })
        .collect();
    if rows.is_empty() { "nothing is there\n".into() } else { human::table(&rows, "") }
}

/// `lakeport describe`.
pub(super) async fn describe(lakeport: &Lakeport, reference: &str, output: &Output) -> Result<()> {
    let parsed = Reference::parse(reference);
    let located = parsed.locate(&lakeport.config, &lakeport.directory).ok();
    if let Some(path) = located.as_ref().and_then(|l| local_path(&l.url)).filter(|p| p.is_file())
        && let Ok(format) = lakeport.formats.by_extension(&path.to_string_lossy())
        && !format.capability().lake
    {
        let file = tokio::task::block_in_place(|| format.describe(&path, &lakeport.limits)).at("file", reference)?;
        output.result(&described(reference, &file), value(&file));
        return Ok(());
    }
    if let Some(location) = &located {
        for places in &lakeport.places {
            if let Some(table) = places.describe(location).await.at("source", reference)? {
                output.result(&described(reference, &table), value(&table));
                return Ok(());
            }
        }
    }
    if let Reference::Named { environment, path } = &parsed
        && !matches!(lakeport.config.environment(environment)?, Env::Lake(_) | Env::Spark(_))
    {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let there = lakeport.target(environment)?.list(folder).await.at("environment", environment)?;
        let found = there.iter().find(|l| l.name == *path || l.name == name).ok_or_else(|| {
            Error::new(Kind::SourceMissing, format!("`{path}` is not in `{environment}`"))
                .help(format!("lakeport ls {environment}"))
        })?;
        let rows: Vec<_> = [("kind".to_owned(), found.kind.clone())].into_iter().chain(found.details.clone()).collect();
        output.result(&format!("{reference}\n{}", facts(&rows)), value(found));
        return Ok(());
    }
    let location = parsed.locate(&lakeport.config, &lakeport.directory)?;
    let table = lakeport
        .engine
        .open(&Query { from: Some(location), ..Query::default() }, &lakeport.limits)
        .await
        .at("source", reference)?;
    let s = &table.snapshot;
    let columns: Vec<_> = table
        .schema
        .fields()
        .iter()
        .map(|f| vec![f.name().clone(), f.data_type().to_string(), if f.is_nullable() { "" } else { "not null" }.to_owned()])
        .collect();
    let rows = s.rows.map_or_else(|| "not known without reading".to_owned(), human::grouped);
    let head = [
        ("layout".to_owned(), s.layout.clone()),
        ("rows".to_owned(), rows),
        ("files".to_owned(), human::grouped(s.files)),
        ("size".to_owned(), show_size(s.bytes)),
        ("snapshot".to_owned(), s.id.clone()),
    ];
    let fields: Vec<_> = columns.iter().map(|c| json!({ "name": c[0], "type": c[1], "nullable": c[2].is_empty() })).collect();
    output.result(
        &format!("{reference}\n{}\n{}", facts(&head), human::table(&columns, "  ")),
        json!({ "snapshot": value(s), "columns": fields }),
    );
    Ok(())
}

fn described(name: &str, file: &FileDescription) -> String {
    let version = file.version.as_ref().map_or_else(String::new, |v| format!(" version {v}"));
    let mut text = format!("{name}\n  .{}{version} · {}\n", file.format, show_size(file.bytes));
    for table in &file.tables {
        let columns: Vec<_> = table
            .columns
            .iter()
            .map(|c| vec![c.name.clone(), c.data_type.clone(), if c.nullable { "" } else { "not null" }.to_owned()])
            .collect();
        text.push_str(&format!("\n  {} · {} rows\n{}", table.name, human::grouped(table.rows), human::table(&columns, "    ")));
    }
    if file.tables.is_empty() {
        text.push_str("  no tables\n");
    }
    text
}
