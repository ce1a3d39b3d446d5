//! Compares two extracts row by row, inside hyperd: what a change should have made of a data source, and what became of it.
//!
//! Rows are compared as multisets over all columns: their order is nobody's promise, their number is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyperdb_api::Connection;

use super::process::{Hyperd, absolute};
use super::{read_back, sql};
use crate::convert::TableDescription;
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::hyper;

const EXPECTED: &str = "expected";
const FOUND: &str = "found";
const PAYLOAD: &str = "payload";
/// How much of a row that differs is shown: columns, and characters of each.
const SHOWN_COLUMNS: usize = 6;
const SHOWN_CHARACTERS: usize = 40;

/// Two extracts and the payload of a change, open side by side.
#[derive(Debug)]
pub struct Comparison {
    connection: Connection,
    expected: PathBuf,
    found: PathBuf,
    payload: PathBuf,
    // Ends after the connection to it.
    _hyperd: Arc<Hyperd>,
}

/// How an extract differs from what was expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows of the extract, over all its tables.
    pub rows: u64,
    /// Rows that should be there and are not.
    pub missing: u64,
    /// Rows that are there and should not be.
    pub unexpected: u64,
    /// One of those rows, or what differs besides rows.
    pub example: String,
}

impl Comparison {
    /// Opens them; `expected` is a file that may be written to.
    ///
    /// # Errors
    /// `HyperdMissing`; `SourceUnreadable` for a file that is no extract.
    pub fn open(expected: &Path, found: &Path, payload: &Path, limits: &Limits) -> Result<Self> {
        let hyperd = Hyperd::shared(limits.hyperd_memory, hyper::OLDEST_VERSION)?;
        let comparison = Self {
            connection: hyperd.connect_bare()?,
            expected: absolute(expected)?,
            found: absolute(found)?,
            payload: absolute(payload)?,
            _hyperd: hyperd,
        };
        let read = " WITH (access_mode=readonly)";
        for (path, name, with) in
            [(&comparison.expected, EXPECTED, ""), (&comparison.found, FOUND, read), (&comparison.payload, PAYLOAD, read)]
        {
            let attach = format!("ATTACH DATABASE {} AS \"{name}\"{with}", sql::name(&path.to_string_lossy()));
            let unreadable = || format!("hyperd cannot open {}", path.display());
            comparison.connection.execute_command(&attach).wrap(Kind::SourceUnreadable, unreadable)?;
        }
        Ok(comparison)
    }

    /// A table that is changed, as SQL names it.
    #[must_use]
    pub fn target(schema: &str, table: &str) -> String {
        in_database(EXPECTED, schema, table)
    }

    /// A table of the payload, as SQL names it.
    #[must_use]
    pub fn source(schema: &str, table: &str) -> String {
        in_database(PAYLOAD, schema, table)
    }

    /// Does one step of the change to what is expected.
    ///
    /// # Errors
    /// `VerifyFailed`, `OutOfSpace`.
    pub fn run(&self, statement: &str) -> Result<()> {
        let failed = || "hyperd cannot work out what the change makes".to_owned();
        self.connection.execute_command(statement).map(drop).wrap(Kind::VerifyFailed, failed)
    }

    /// How what was found differs from what is expected; the `rows` alone are set where it does not.
    ///
    /// # Errors
    /// `VerifyFailed`, `OutOfSpace`.
    pub fn difference(&self) -> Result<Difference> {
        let expected = read_back::tables(&self.connection, EXPECTED, &self.expected)?;
        let found = read_back::tables(&self.connection, FOUND, &self.found)?;
        let mut all = Difference { rows: found.iter().map(|t| t.rows).sum(), ..Difference::default() };
        for table in &expected {
            let Some(there) = found.iter().find(|t| t.name == table.name) else {
                all.missing += table.rows;
                all.example = format!("the table {} is gone", table.name);
                continue;
            };
            if let Some(other) = table.columns.iter().find(|c| !there.columns.iter().any(|o| o.name == c.name)) {
                all.missing += table.rows;
                all.example = format!("the column `{}` of table {} is gone", other.name, table.name);
                continue;
            }
            let (list, (schema, name)) = (rows(table), table.qualified());
            let side = |database| format!("SELECT {list} FROM {}", in_database(database, schema, name));
            let (missing, unexpected) = (except(&side(EXPECTED), &side(FOUND)), except(&side(FOUND), &side(EXPECTED)));
            for (rows, count, words) in
                [(&missing, &mut all.missing, "missing"), (&unexpected, &mut all.unexpected, "not expected")]
            {
                let more = self.count(rows)?;
                if more > 0 && all.example.is_empty() {
                    all.example = format!("{words} is {}", self.example(rows, table)?);
                }
                *count += more;
            }
        }
        for table in found.iter().filter(|t| !expected.iter().any(|e| e.name == t.name)) {
            all.unexpected += table.rows;
            all.example = format!("the table {} is new", table.name);
        }
        Ok(all)
    }

    /// Whether the missing rows of a table are a part of the payload's, and all of the payload's are there: so it is when rows were
    /// inserted before, and the server knew the change again.
    ///
    /// # Errors
    /// `VerifyFailed`, `OutOfSpace`.
    pub fn inserted_before(&self, target: (&str, &str), source: (&str, &str)) -> Result<bool> {
        let of = |database, path: &Path, (schema, table): (&str, &str)| -> Result<TableDescription> {
            let tables = read_back::tables(&self.connection, database, path)?;
            let found = tables.into_iter().find(|t| t.qualified() == (schema, table));
            found.ok_or_else(|| Error::new(Kind::VerifyFailed, format!("there is no table {schema}.{table}")))
        };
        let (into, from) = (of(EXPECTED, &self.expected, target)?, of(PAYLOAD, &self.payload, source)?);
        // Columns that the payload does not have become NULL.
        let values = into.columns.iter().map(|c| {
            if from.columns.iter().any(|f| f.name == c.name) {
                sql::readable(c)
            } else {
                format!("NULL AS {}", sql::name(&c.name))
            }
        });
        let inserted = format!("SELECT {} FROM {}", values.collect::<Vec<_>>().join(", "), Self::source(source.0, source.1));
        let side = |database| format!("SELECT {} FROM {}", rows(&into), in_database(database, target.0, target.1));
        let missing = except(&side(EXPECTED), &side(FOUND));
        Ok(self.count(&except(&missing, &inserted))? == 0 && self.count(&except(&inserted, &side(FOUND)))? == 0)
    }

    fn count(&self, rows: &str) -> Result<u64> {
        let failed = || "hyperd cannot compare the rows".to_owned();
        let count =
            self.connection.query_count(&format!("SELECT COUNT(*) FROM ({rows}) AS t")).wrap(Kind::VerifyFailed, failed)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// One row, in words.
    fn example(&self, rows: &str, table: &TableDescription) -> Result<String> {
        let shown = table.columns.get(..SHOWN_COLUMNS).unwrap_or(&table.columns);
        let value = |c: &crate::convert::ColumnDescription| match c.data_type.as_str() {
            "bytes" => format!("CAST(octet_length({}) AS TEXT) || ' bytes'", sql::name(&c.name)),
            _ => format!("CAST({} AS TEXT)", sql::name(&c.name)),
        };
        let list = shown.iter().map(value).collect::<Vec<_>>().join(", ");
        let failed = || "hyperd cannot show a row".to_owned();
        let row =
            self.connection.fetch_one(format!("SELECT {list} FROM ({rows}) AS t LIMIT 1")).wrap(Kind::VerifyFailed, failed)?;
        let cells = shown.iter().enumerate().map(|(i, c)| {
            let text = row.get_string(i);
            let cut: Option<String> = text.map(|t| t.chars().take(SHOWN_CHARACTERS).collect());
            format!("{} = {}", c.name, cut.unwrap_or_else(|| "NULL".to_owned()))
        });
        let more = if shown.len() < table.columns.len() { ", …" } else { "" };
        Ok(format!("({}{more}) in table {}", cells.collect::<Vec<_>>().join(", "), table.name))
    }
}

/// How many values of a key stand in several rows of a file's table; rows with a NULL in the key equal none.
///
/// # Errors
/// `HyperdMissing`, `SourceUnreadable`.
pub fn doubled(file: &Path, table: &TableDescription, key: &[String], limits: &Limits) -> Result<u64> {
    let hyperd = Hyperd::shared(limits.hyperd_memory, hyper::OLDEST_VERSION)?;
    let connection = hyperd.read(file)?;
    let list = key.iter().map(|k| sql::name(k)).collect::<Vec<_>>().join(", ");
    let there = key.iter().map(|k| format!("{} IS NOT NULL", sql::name(k))).collect::<Vec<_>>().join(" AND ");
    let (schema, name) = table.qualified();
    let from = in_database(super::process::DATABASE, schema, name);
    let query =
        format!("SELECT COUNT(*) FROM (SELECT {list} FROM {from} WHERE {there} GROUP BY {list} HAVING COUNT(*) > 1) AS t");
    let unreadable = || format!("hyperd cannot read {}", file.display());
    Ok(u64::try_from(connection.query_count(&query).wrap(Kind::SourceUnreadable, unreadable)?).unwrap_or(0))
}

/// How many rows of a file's table have a NULL in their key.
///
/// # Errors
/// `HyperdMissing`, `SourceUnreadable`.
pub fn keyless(file: &Path, table: &TableDescription, key: &[String], limits: &Limits) -> Result<u64> {
    let hyperd = Hyperd::shared(limits.hyperd_memory, hyper::OLDEST_VERSION)?;
    let connection = hyperd.read(file)?;
    let lacks = key.iter().map(|k| format!("{} IS NULL", sql::name(k))).collect::<Vec<_>>().join(" OR ");
    let (schema, name) = table.qualified();
    let query = format!("SELECT COUNT(*) FROM {} WHERE {lacks}", in_database(super::process::DATABASE, schema, name));
    let unreadable = || format!("hyperd cannot read {}", file.display());
    Ok(u64::try_from(connection.query_count(&query).wrap(Kind::SourceUnreadable, unreadable)?).unwrap_or(0))
}

fn except(left: &str, right: &str) -> String {
    format!("({left}) EXCEPT ALL ({right})")
}

/// A SELECT list of all columns, in a form that can be compared.
fn rows(table: &TableDescription) -> String {
    table.columns.iter().map(sql::readable).collect::<Vec<_>>().join(", ")
}

fn in_database(database: &str, schema: &str, table: &str) -> String {
    format!("\"{database}\".{}.{}", sql::name(schema), sql::name(table))
}
