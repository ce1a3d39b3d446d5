//! Cuts a `.hyper` file by rows, for what takes only so much at a time.
//!
//! Positions come from a sort, not from the order in which hyperd happens to read: cut twice, a file gives the same pieces.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::process::{Hyperd, absolute};
use super::sql;
use crate::convert::{TableDescription, Temporary};
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::Limits;

/// Numerics of more digits need file-format version 3.
const DIGITS: u32 = 18;

/// What a piece holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents<'a> {
    /// Whether it holds the rows themselves.
    pub rows: bool,
    /// The name of a table with the key of each row, once, and nothing else; beside the rows, in their schema.
    pub keys: Option<&'a str>,
}

/// One table of a file, to be cut.
#[derive(Debug)]
pub struct Cutter {
    hyperd: Arc<Hyperd>,
    file: PathBuf,
    piece: PathBuf,
    schema: String,
    table: String,
    /// The SELECT list, and the position of each row.
    columns: String,
    position: String,
    /// The key columns, in a SELECT list, and the table they go to.
    keys: Option<(String, String)>,
    rows: bool,
    version: u8,
}

impl Cutter {
    /// Prepares to cut a table of a file into pieces that are written beside `piece`, one at a time.
    ///
    /// Rows that are equal in `key` stay together; without a key, every row stands by itself.
    ///
    /// # Errors
    /// `HyperdMissing`; `Usage` for a key that the table does not have.
    pub fn new(
        file: &Path,
        table: &TableDescription,
        key: &[String],
        contents: Contents<'_>,
        piece: &Path,
        limits: &Limits,
    ) -> Result<Self> {
        if let Some(missing) = key.iter().find(|k| !table.columns.iter().any(|c| c.name == **k)) {
            return Err(Error::new(Kind::Usage, format!("the table has no column `{missing}`")));
        }
        let numerics = |c: &str| Some(c.strip_prefix("numeric(")?.split_once(',')?.0.trim().parse::<u32>().ok()? > DIGITS);
        let version = if table.columns.iter().any(|c| numerics(&c.data_type) == Some(true)) { 3 } else { 2 };
        let ordered = |name: &String| match table.columns.iter().find(|c| c.name == *name).map(|c| c.data_type.as_str()) {
            // Geographies have no order of their own.
            Some("geography") => format!("CAST({} AS text)", sql::name(name)),
            _ => sql::name(name),
        };
        let names: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
        let (function, by) = if key.is_empty() { ("ROW_NUMBER()", names.as_slice()) } else { ("RANK()", key) };
        let position = format!("{function} OVER (ORDER BY {}) - 1", by.iter().map(ordered).collect::<Vec<_>>().join(", "));
        let list = |names: &[String]| names.iter().map(|n| sql::name(n)).collect::<Vec<_>>().join(", ");
        let (schema, name) = table.qualified();
        Ok(Self {
            hyperd: Hyperd::shared(limits.hyperd_memory, version)?,
            file: absolute(file)?,
            piece: piece.to_owned(),
            schema: schema.to_owned(),
            table: name.to_owned(),
            columns: list(&names),
            position,
            keys: contents.keys.map(|to| (list(key), sql::name(to))),
            rows: contents.rows,
            version,
        })
    }

    /// Writes the rows at some positions into a file; `None` when there are none.
    ///
    /// # Errors
    /// `WriteFailed`, `OutOfSpace`, `SourceUnreadable`.
    pub fn piece(&self, positions: Range<u64>) -> Result<Option<Temporary>> {
        let temporary = Temporary::beside(&self.piece)?;
        let connection = self.hyperd.read(&self.file)?;
        let path = sql::name(&absolute(temporary.path())?.to_string_lossy());
        let failed = || format!("hyperd cannot cut {}", self.file.display());
        let run = |statement: String| connection.execute_command(&statement).wrap(Kind::WriteFailed, failed);
        run(format!("CREATE DATABASE {path} WITH VERSION {}", self.version))?;
        run(format!("ATTACH DATABASE {path} AS \"piece\""))?;
        let (schema, table) = (sql::name(&self.schema), sql::name(&self.table));
        run(format!("CREATE SCHEMA IF NOT EXISTS \"piece\".{schema}"))?;
        let (columns, position, Range { start, end }) = (&self.columns, &self.position, positions);
        let within = format!(
            "FROM (SELECT {columns}, {position} AS \"lakeport position\" FROM {}.{schema}.{table}) AS t \
             WHERE \"lakeport position\" >= {start} AND \"lakeport position\" < {end}",
            sql::name(super::process::DATABASE),
        );
        let mut made = String::new();
        if self.rows {
            made = format!("\"piece\".{schema}.{table}");
            run(format!("CREATE TABLE {made} AS (SELECT {columns} {within})"))?;
        }
        if let Some((key, to)) = &self.keys {
            made = format!("\"piece\".{schema}.{to}");
            run(format!("CREATE TABLE {made} AS (SELECT DISTINCT {key} {within})"))?;
        }
        let rows = connection.query_count(&format!("SELECT COUNT(*) FROM {made}")).wrap(Kind::WriteFailed, failed)?;
        // Detached, the file is whole.
        run("DETACH DATABASE \"piece\"".to_owned())?;
        Ok((rows > 0).then_some(temporary))
    }
}
