//! Proof of a change in place: the data source is downloaded before and after, the change is worked out here on the one, and all
//! rows are compared with the other.
//!
//! A server tells how a change's job ended, and nothing of the rows.

use std::path::{Path, PathBuf};

use crate::convert::hyper::compare::Comparison;
use crate::convert::{TableDescription, Temporary, archive};
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::Limits;

use super::Tableau;
use super::change::{Change, Match, Verb};
use super::retry::{Repeat, Repeats};
use super::session::{Call, Server, encode};

/// What a change is to be checked with.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The directory for two downloads of the data source, each removed when it was used.
    pub work: &'a Path,
    /// The payload's table.
    pub table: &'a TableDescription,
    /// How much hyperd may take, and how large an extract may be.
    pub limits: &'a Limits,
}

impl Check<'_> {
    /// Whether the change can be worked out here; asked before anything is sent.
    pub(super) fn suits(&self, change: &Change) -> Result<()> {
        if change.payload.is_none() || change.actions.iter().any(|a| matches!(a.rows, Match::Condition(_))) {
            return Err(Error::new(Kind::Unsupported, "a change by a condition cannot be compared row by row")
                .help("verify it with less than `full`"));
        }
        Ok(())
    }
}

impl Tableau {
    /// Downloads the extract of a data source, as `.hyper`.
    pub(super) async fn extract(&self, id: &str, when: &str, check: Check<'_>, repeats: &mut Repeats) -> Result<Temporary> {
        // An id is the server's word, and no path.
        let id_in_name: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
        let place = |ending: &str| check.work.join(format!("{when}-{id_in_name}.{ending}"));
        let download = Temporary::beside(&place("download"))?;
        self.server.download(id, download.path(), repeats).await?;
        let (beside, limits) = (place("hyper"), check.limits.clone());
        blocking(move || archive::hyper(download, &beside, &limits)).await
    }

    /// Compares what the change makes of the rows before with the rows there are now, and says what was found.
    pub(super) async fn prove(
        &self,
        change: &Change,
        check: Check<'_>,
        before: Temporary,
        id: &str,
        repeats: &mut Repeats,
    ) -> Result<String> {
        let proof = async {
            let after = self.extract(id, "after", check, repeats).await?;
            let (change, table, limits) = (change.clone(), check.table.clone(), check.limits.clone());
            blocking(move || replay(&change, &table, before.path(), after.path(), &limits)).await
        };
        proof.await.map_err(|e| match e.kind() {
            Kind::VerifyFailed => e,
            _ => Error::new(Kind::VerifyFailed, "the change was made, but its rows could not be compared").because(e),
        })
    }
}

impl Server {
    /// Downloads a data source into a file: a package, or the bare extract.
    async fn download(&self, id: &str, to: &Path, repeats: &mut Repeats) -> Result<()> {
        let path = format!("/datasources/{}/content?includeExtract=True", encode(id));
        let call = Call { into: Some(PathBuf::from(to)), ..Call::get("download the data source", path) };
        let answer = self.call(&call, Repeat::Harmless, repeats).await.map_err(|failed| {
            let error = failed.error;
            if error.kind() == Kind::Forbidden {
                error.help("to compare rows takes the permission Download Data Source; without it, verify with less than `full`")
            } else {
                error
            }
        })?;
        if answer.root.name.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::ServerFailed, "the server answers with words where the data source is expected"))
    }
}

/// Works the change out on the extract as it was, and compares the outcome with the extract as it is.
fn replay(change: &Change, table: &TableDescription, before: &Path, after: &Path, limits: &Limits) -> Result<String> {
    let payload = change.payload.as_deref().ok_or_else(|| Error::new(Kind::Unexpected, "the change has no payload"))?;
    let comparison = Comparison::open(before, after, payload, limits)?;
    let (schema, name) = table.qualified();
    let source = Comparison::source(schema, name);
    let columns: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
    for action in &change.actions {
        let target = Comparison::target(&action.target.schema, &action.target.table);
        for statement in action.sql(&target, &source, &columns)? {
            comparison.run(&statement)?;
        }
    }
    let found = comparison.difference()?;
    let verified = format!("verified: all {} rows are those that the change makes of the rows before", found.rows);
    if found.missing == 0 && found.unexpected == 0 {
        return Ok(verified);
    }
    let mut inserts = change.actions.iter().filter(|a| a.verb == Verb::Insert);
    if let (Some(insert), 1, 0) = (inserts.next(), change.actions.len(), found.unexpected)
        && comparison.inserted_before((&insert.target.schema, &insert.target.table), (schema, name))?
    {
        let known = found.missing;
        return Ok(format!(
            "{verified}; {known} of the rows sent were there already, for the server knew the change or parts of it"
        ));
    }
    Err(Error::new(
        Kind::VerifyFailed,
        format!(
            "the data source is not what the change makes of it: {} rows are missing, {} are not expected",
            found.missing, found.unexpected
        ),
    )
    .because(found.example)
    .help("another client may have changed it meanwhile; publish the whole with --mode full to be sure"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.wrap(Kind::Unexpected, || "the comparison was stopped".to_owned())?
}
