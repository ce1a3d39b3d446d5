//! `publish --action`: rows of a published data source changed in place.

use std::path::Path;

use lakeport::Lakeport;
use lakeport::config::Reference;
use lakeport::convert::hyper::compare;
use lakeport::convert::hyper::cut::{Contents, Cutter};
use lakeport::convert::{FileDescription, TableDescription};
use lakeport::error::{Context, Error, Kind, Result};
use lakeport::export::Mode;
use lakeport::export::tableau::{Action, Change, Check, Cut, Match, TableName, Verb};
use lakeport::run::Event;
use lakeport::verify::Verify;
use serde_json::json;

use super::{jobs, value};
use crate::args::{ActionArg, ChangeArgs};
use crate::output::progress::Progress;
use crate::output::{Output, human};

/// What the command line says.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) file: &'a Path,
    pub(super) to: &'a str,
    pub(super) actions: &'a [ActionArg],
    pub(super) key: &'a [String],
    pub(super) verify: Verify,
    pub(super) more: &'a ChangeArgs,
}

/// `lakeport publish --action`.
pub(super) async fn change(lakeport: &Lakeport, wanted: &Wanted<'_>, output: &Output) -> Result<()> {
    let to = wanted.to;
    let Reference::Named { environment, path: name } = Reference::parse(to) else {
        return Err(Error::new(Kind::Usage, format!("`{to}` names no environment")).help("write ENV:Name"));
    };
    // Before any sign-in: a payload nobody can read, or a key it does not have, is not worth a server's time.
    let payload = described(lakeport, wanted.file)?;
    if let Some(whole) = &wanted.more.fallback {
        described(lakeport, whole)?;
    }
    let [table] = payload.tables.as_slice() else {
        return Err(Error::new(
            Kind::Unsupported,
            format!("a change is made from one table, the file has {}", payload.tables.len()),
        ));
    };
    let keyed = |a: &&ActionArg| matches!(a, ActionArg::Update | ActionArg::Upsert | ActionArg::Delete);
    if let (Some(action), true) = (wanted.actions.iter().find(keyed), wanted.key.is_empty()) {
        let message = format!("the action {} needs key columns", format!("{action:?}").to_ascii_lowercase());
        return Err(Error::new(Kind::Usage, message).help("name the columns that identify a row with --key"));
    }
    if let Some(missing) = wanted.key.iter().find(|k| !table.columns.iter().any(|c| c.name == **k)) {
        return Err(Error::new(Kind::Usage, format!("--key names column `{missing}`, which the file does not have")));
    }
    let matched = wanted.actions.iter().any(|a| matches!(a, ActionArg::Update | ActionArg::Upsert));
    if matched && wanted.verify > Verify::None {
        let doubled = tokio::task::block_in_place(|| compare::doubled(wanted.file, table, wanted.key, &lakeport.limits))?;
        if doubled > 0 {
            let values = match doubled {
                1 => "a value of the key stands".to_owned(),
                _ => format!("{} values of the key stand", human::grouped(doubled)),
            };
            let message = format!("{values} in several rows: which of them wins is not defined");
            return Err(Error::new(Kind::ValueRefused, message)
                .help("name all columns of the key, or leave one row of each; --verify none sends it as it is")
                .at("file", wanted.file.display()));
        }
    }
    let (actions, contents) = actions(wanted, table);
    let change = Change {
        name,
        payload: Some(wanted.file.to_owned()),
        actions,
        version: wanted.more.change_id.clone(),
        connection: None,
        prepared: contents.keys.is_some(),
    };
    let progress = Progress::new(output);
    progress.on(to, Event::Phase("change"));
    let site = lakeport.tableau(&environment)?;
    // hyperd is started when the first piece is wanted; most changes are small.
    let cutter = std::sync::OnceLock::new();
    let piece = |positions| {
        tokio::task::block_in_place(|| {
            if cutter.get().is_none() {
                let at = lakeport.home().join("work").join("piece.hyper");
                let _ = cutter.set(Cutter::new(wanted.file, table, change.key(), contents, &at, &lakeport.limits)?);
            }
            cutter.get().map_or(Ok(None), |cutter| cutter.piece(positions))
        })
    };
    let cut = Cut { rows: table.rows, piece: &piece };
    let work = lakeport.home().join("work");
    let check = Check { work: &work, table, limits: &lakeport.limits };
    let changed = site
        .update(&change, Some(&cut), (wanted.verify == Verify::Full).then_some(check), &|done, total| {
            progress.on(to, Event::Uploaded(done, total))
        })
        .await
        .at("environment", &environment);
    progress.done(to);
    let receipt = match (changed, &wanted.more.fallback) {
        (Ok(receipt), _) => receipt,
        // Refused as it is; everything else is no better for more bytes.
        (Err(e), Some(whole)) if matches!(e.kind(), Kind::FileRefused | Kind::TargetMissing) => {
            tracing::warn!("the change in place was refused, publishing {} whole: {e}", whole.display());
            return jobs::publish(lakeport, whole, to, Mode::Full, wanted.verify, output).await;
        }
        (Err(e), _) => return Err(e),
    };
    let mut text = format!("changed {to}\n  {} row(s) sent, {}", human::grouped(table.rows), receipt.way);
    for note in &receipt.notes {
        text.push_str("\n  ");
        text.push_str(note);
    }
    if wanted.verify < Verify::Full {
        text.push_str("\n  its rows were not compared (--verify full downloads and compares them)");
    }
    output.result(if output.quiet { "" } else { &text }, json!({ "receipt": value(&receipt), "rows": [table.rows] }));
    Ok(())
}

fn described(lakeport: &Lakeport, file: &Path) -> Result<FileDescription> {
    if !file.is_file() {
        return Err(Error::new(Kind::SourceMissing, format!("there is no file {}", file.display())));
    }
    let format = lakeport.formats.by_extension(&file.to_string_lossy())?;
    tokio::task::block_in_place(|| format.describe(file, &lakeport.limits)).at("file", file.display())
}

/// The table a delete reads from where the file has more columns than its key.
const KEYS: &str = "lakeport keys";

/// The actions, and what a payload holds for them.
fn actions(wanted: &Wanted<'_>, table: &TableDescription) -> (Vec<Action>, Contents<'static>) {
    let (schema, name) = table.qualified();
    let source = |table: &str| TableName { schema: schema.to_owned(), table: table.to_owned() };
    // Servers refuse a delete whose source has columns that its condition does not name.
    let narrow = table.columns.len() > wanted.key.len();
    let deletes = |action: &ActionArg| matches!(action, ActionArg::Delete);
    let contents = Contents {
        rows: !wanted.actions.iter().all(deletes),
        keys: (narrow && !wanted.key.is_empty() && wanted.actions.iter().any(deletes)).then_some(KEYS),
    };
    let one = |action: &ActionArg| {
        let (verb, keyed) = match action {
            ActionArg::Insert => (Verb::Insert, false),
            ActionArg::Update => (Verb::Update, true),
            ActionArg::Upsert => (Verb::Upsert, true),
            ActionArg::Delete => (Verb::Delete, true),
            ActionArg::Replace => (Verb::Replace, false),
        };
        let rows = if keyed { Match::Key(wanted.key.to_vec()) } else { Match::All };
        let from = if verb == Verb::Delete { contents.keys.unwrap_or(name) } else { name };
        Action { verb, source: Some(source(from)), target: TableName::default(), rows }
    };
    (wanted.actions.iter().map(one).collect(), contents)
}
