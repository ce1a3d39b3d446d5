//! `mode = "upsert"`: rows of known keys are changed in place and others added; a data source that is not there yet is made.
//!
//! Sent twice, the same rows change nothing more. Each run's change is therefore one of its own for the server, which does nothing for an
//! equal one within a day: also not where the rows had become others meanwhile, and are now to be what they were.

use std::ops::Range;
use std::sync::OnceLock;

use crate::convert::hyper::compare;
use crate::convert::hyper::cut::{Contents, Cutter};
use crate::convert::{Formats, TableDescription, Temporary, Written};
use crate::error::{Error, Kind, Result};
use crate::export::{Mode, Progress, Publish, Receipt};
use crate::run::blocking;

use super::Tableau;
use super::change::{Action, Change, Cut, Match, TableName, Verb};

impl Tableau {
    /// Changes rows in place, or publishes the whole where there is nothing.
    ///
    /// # Errors
    /// `Usage` and `ValueRefused` for a key that does not identify the rows; else as [`Tableau::update`] and `publish`.
    pub(super) async fn upsert(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        let (path, format, keys, limits) = (file.path.clone(), file.format.clone(), how.keys.clone(), self.limits.clone());
        let table = blocking(move || {
            let found = Formats::new().by_name(&format)?.describe(&path, &limits)?;
            let Ok([table]) = <[TableDescription; 1]>::try_from(found.tables) else {
                return Err(Error::new(Kind::Unsupported, "rows are upserted from a file of one table"));
            };
            let columns: Vec<_> = table.columns.iter().map(|c| c.name.as_str()).collect();
            crate::export::ensure_keys(Mode::Upsert, &keys, &columns)?;
            for (count, what) in [
                (compare::doubled(&path, &table, &keys, &limits)?, "values of the key stand in several rows"),
                (compare::keyless(&path, &table, &keys, &limits)?, "rows have NULL in their key, which equals no other"),
            ] {
                if count > 0 {
                    return Err(Error::new(Kind::ValueRefused, format!("{count} {what}"))
                        .because(format!("the key is {}", keys.join(", ")))
                        .help("choose a key that identifies a row, or leave those rows out with --where"));
                }
            }
            Ok(table)
        })
        .await?;
        if !self.is_there(&how.name).await? {
            let how = Publish { mode: Mode::Create, ..how.clone() };
            return self.publish_file(file, &how, progress).await;
        }
        let (change, piece) = (change(&table, how, file), file.path.with_extension("piece.hyper"));
        let cutter = OnceLock::new();
        let cut_out = |positions: Range<u64>| -> Result<Option<Temporary>> {
            if cutter.get().is_none() {
                let contents = Contents { rows: true, keys: None };
                let _ = cutter.set(Cutter::new(&file.path, &table, &how.keys, contents, &piece, &self.limits)?);
            }
            cutter.get().map_or(Ok(None), |cutter| cutter.piece(positions))
        };
        let cut = Cut { rows: table.rows, piece: &cut_out };
        let receipt = self.update(&change, Some(&cut), None, progress).await?;
        Ok(Receipt { mode: Mode::Upsert, content: how.content.clone(), ..receipt })
    }

    /// Whether there is a data source of this name; a project that is still to be made has none.
    async fn is_there(&self, name: &str) -> Result<bool> {
        match self.find_datasource(name).await {
            Ok(found) => Ok(found.is_some()),
            Err(e) if e.kind() == Kind::TargetMissing && self.server.env.create_project => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn change(table: &TableDescription, how: &Publish, file: &Written) -> Change {
    let (schema, name) = table.qualified();
    let named = TableName { schema: schema.to_owned(), table: name.to_owned() };
    let rows = Match::Key(how.keys.clone());
    Change {
        name: how.name.clone(),
        payload: Some(file.path.clone()),
        actions: vec![Action { verb: Verb::Upsert, source: Some(named.clone()), target: named, rows }],
        version: Some(uuid::Uuid::new_v4().to_string()),
        connection: None,
        prepared: false,
    }
}
