//! What hyperd says about a published file.
//!
//! Files are attached read-only: opened the usual way, hyperd rewrites parts of a file even if it is only queried, and the
//! bytes that were published must stay what they are.
//! Everything here blocks; callers are on a blocking thread.

use std::path::Path;
use std::sync::{Arc, Mutex};

use hyperdb_api::{Connection, Row, escape_name, escape_sql_path, escape_string_literal};
use lakeport::convert::hyper::process::{Hyperd, Watchers};
use lakeport::error::{Error, Kind, Result, Wrap};

use crate::index::{Column, Table};
use crate::model::Reference;
use crate::statements::Action;
use crate::store::held;

/// What hyperd may allocate; the sandbox only counts, copies and previews.
const HYPERD_MEMORY: u64 = 1024 * 1024 * 1024;
/// The file-format version hyperd would give a new file; appending keeps that of the file.
const FILE_FORMAT: u8 = 3;
/// How many rows a preview shows.
pub(crate) const PREVIEW_ROWS: usize = 50;
/// How many characters of a value a preview shows.
const PREVIEW_WIDTH: usize = 120;

/// The one hyperd of a sandbox, started when the first file arrives.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    hyperd: Mutex<Option<Arc<Hyperd>>>,
}

/// The first rows of a table, as text.
#[derive(Debug)]
pub(crate) struct Preview {
    /// One value per column, none for NULL.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

impl Engine {
    /// The tables of a file, with their columns and row counts.
    ///
    /// # Errors
    /// `SourceUnreadable` when it is no extract that hyperd can open.
    pub(crate) fn inspect(&self, file: &Path) -> Result<Vec<Table>> {
        let session = self.session()?;
        attach(&session, file, "extract", Access::ReadOnly)?;
        tables(&session, "extract")
    }

    /// The foreign keys of a file, assumed ones included.
    pub(crate) fn references(&self, file: &Path) -> Result<Vec<Reference>> {
        let session = self.session()?;
        attach(&session, file, "extract", Access::ReadOnly)?;
        let catalog = format!("{}.pg_catalog", escape_sql_path("extract"));
        let keys = query(
            &session,
            &format!(
                "select hn.nspname, h.relname, tn.nspname, t.relname from {catalog}.pg_constraint k \
                 join {catalog}.pg_class h on k.conrelid = h.oid join {catalog}.pg_namespace hn on h.relnamespace = hn.oid \
                 join {catalog}.pg_class t on k.confrelid = t.oid join {catalog}.pg_namespace tn on t.relnamespace = tn.oid \
                 where k.contype = 'f'"
            ),
        )?;
        keys.iter()
            .map(|row| Ok(Reference { from: (text(row, 0)?, text(row, 1)?), to: (text(row, 2)?, text(row, 3)?) }))
            .collect()
    }

    /// The first rows of one table of a file.
    pub(crate) fn preview(&self, file: &Path, table: &Table) -> Result<Preview> {
        let session = self.session()?;
        attach(&session, file, "extract", Access::ReadOnly)?;
        if table.columns.is_empty() {
            return Ok(Preview { rows: Vec::new() });
        }
        let mut list = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let name = quoted(&column.name)?;
            list.push(match column.sql_type.as_str() {
                "bytea" => format!("cast(octet_length({name}) as text) || ' bytes'"),
                _ => format!("left(cast({name} as text), {})", PREVIEW_WIDTH + 1),
            });
        }
        let sql = format!("select {} from {} limit {PREVIEW_ROWS}", list.join(", "), qualified("extract", table)?);
        let rows = query(&session, &sql)?;
        let cell = |row: &Row, i: usize| {
            row.get::<String>(i).map(|text| {
                if text.chars().count() > PREVIEW_WIDTH {
                    text.chars().take(PREVIEW_WIDTH).chain(['…']).collect()
                } else {
                    text
                }
            })
        };
        let rows = rows.iter().map(|row| (0..table.columns.len()).map(|i| cell(row, i)).collect()).collect();
        Ok(Preview { rows })
    }

    /// Appends the rows of one file's only table to another file's only table.
    ///
    /// # Errors
    /// `FileRefused` when one of them has several tables or their columns differ.
    pub(crate) fn append(&self, target: &Path, incoming: &Path) -> Result<()> {
        let session = self.session()?;
        attach(&session, incoming, "incoming", Access::ReadOnly)?;
        attach(&session, target, "target", Access::ReadWrite)?;
        let (ours, theirs) = (only(tables(&session, "target")?)?, only(tables(&session, "incoming")?)?);
        same_columns(&ours.columns, &theirs.columns)?;
        let columns = ours.columns.iter().map(|c| quoted(&c.name)).collect::<Result<Vec<_>>>()?.join(", ");
        let sql = format!(
            "insert into {} ({columns}) select {columns} from {}",
            qualified("target", &ours)?,
            qualified("incoming", &theirs)?
        );
        session.execute_command(&sql).wrap(Kind::FileRefused, || "the rows cannot be appended".into())?;
        // Detaching writes everything out; only then may the file be moved.
        for alias in ["target", "incoming"] {
            session.detach_database(alias).wrap(Kind::WriteFailed, || "the appended rows cannot be written".into())?;
        }
        Ok(())
    }

    /// Does the actions of a data update, in order; after a failure the target is worth nothing.
    ///
    /// # Errors
    /// `FileRefused` when an action does not fit the tables or the rows.
    pub(crate) fn change(&self, target: &Path, incoming: Option<&Path>, actions: &[Action]) -> Result<()> {
        let session = self.session()?;
        let mut aliases = vec!["target"];
        let sources = match incoming {
            Some(incoming) => {
                attach(&session, incoming, "incoming", Access::ReadOnly)?;
                aliases.push("incoming");
                tables(&session, "incoming")?
            }
            None => Vec::new(),
        };
        attach(&session, target, "target", Access::ReadWrite)?;
        let targets = tables(&session, "target")?;
        for (number, action) in (1..).zip(actions) {
            let failed = || format!("action {number} of {} failed", actions.len());
            let statements = action
                .statements(&targets, &sources)
                .map_err(|why| Error::new(Kind::FileRefused, format!("{}: {why}", failed())))?;
            for sql in statements {
                session.execute_command(&sql).wrap(Kind::FileRefused, failed)?;
            }
        }
        for alias in aliases {
            session.detach_database(alias).wrap(Kind::WriteFailed, || "the changed rows cannot be written".into())?;
        }
        Ok(())
    }

    /// Ends hyperd; a later call would start another.
    pub(crate) fn stop(&self) {
        held(&self.hyperd).take();
    }

    fn session(&self) -> Result<Connection> {
        let mut hyperd = held(&self.hyperd);
        if let Some(running) = hyperd.as_ref() {
            match running.connect_bare() {
                Ok(session) => return Ok(session),
                // Someone ended it; the next one starts below.
                Err(error) => tracing::warn!(?error, "hyperd is gone, starting another"),
            }
        }
        let started = Hyperd::start(HYPERD_MEMORY, FILE_FORMAT, Watchers::default())?;
        let session = started.connect_bare()?;
        *hyperd = Some(started);
        Ok(session)
    }
}

#[derive(Debug, Clone, Copy)]
enum Access {
    ReadOnly,
    ReadWrite,
}

fn attach(session: &Connection, file: &Path, alias: &str, access: Access) -> Result<()> {
    let with = match access {
        Access::ReadOnly => " with (access_mode=readonly)",
        Access::ReadWrite => "",
    };
    let sql = format!("attach database {} as {}{with}", escape_sql_path(&file.to_string_lossy()), escape_sql_path(alias));
    session.execute_command(&sql).wrap(Kind::SourceUnreadable, || "the file is not a Hyper extract that can be opened".into())?;
    Ok(())
}

/// Every table of an attached file that somebody made, with its columns, in the order of their names.
fn tables(session: &Connection, database: &str) -> Result<Vec<Table>> {
    let catalog = format!("{}.pg_catalog", escape_sql_path(database));
    let named = query(
        session,
        &format!(
            "select schemaname, tablename from {catalog}.pg_tables \
             where schemaname not in ('pg_catalog', 'pg_temp', 'information_schema') order by 1, 2"
        ),
    )?;
    let mut found = Vec::with_capacity(named.len());
    for row in &named {
        let (schema, name) = (text(row, 0)?, text(row, 1)?);
        let columns = query(
            session,
            &format!(
                "select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull from {catalog}.pg_attribute a \
                 join {catalog}.pg_class c on a.attrelid = c.oid join {catalog}.pg_namespace n on c.relnamespace = n.oid \
                 where n.nspname = {} and c.relname = {} and a.attnum > 0 and not a.attisdropped order by a.attnum",
                escape_string_literal(&schema),
                escape_string_literal(&name)
            ),
        )?;
        let columns = columns
            .iter()
            .map(|row| {
                Ok(Column {
                    name: text(row, 0)?,
                    sql_type: text(row, 1)?,
                    nullable: !row.get::<bool>(2).ok_or_else(|| unexpected("a column without nullability"))?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut table = Table { schema, name, rows: 0, columns };
        let counted = query(session, &format!("select count(*) from {}", qualified(database, &table)?))?;
        let rows = counted.first().and_then(|row| row.get::<i64>(0)).and_then(|n| u64::try_from(n).ok());
        table.rows = rows.ok_or_else(|| unexpected("a count that is no number"))?;
        found.push(table);
    }
    Ok(found)
}

fn only(mut tables: Vec<Table>) -> Result<Table> {
    match (tables.pop(), tables.len()) {
        (Some(table), 0) => Ok(table),
        _ => Err(Error::new(Kind::FileRefused, "rows can only be appended where both extracts have a single table")),
    }
}

fn same_columns(ours: &[Column], theirs: &[Column]) -> Result<()> {
    let refused = |why: String| Err(Error::new(Kind::FileRefused, format!("the rows cannot be appended: {why}")));
    for column in ours {
        match theirs.iter().find(|c| c.name == column.name) {
            None => return refused(format!("the new file has no column {}", column.name)),
            Some(c) if c.sql_type != column.sql_type => {
                return refused(format!("column {} is {} and would get {}", column.name, column.sql_type, c.sql_type));
            }
            Some(_) => {}
        }
    }
    match theirs.iter().find(|c| !ours.iter().any(|o| o.name == c.name)) {
        Some(extra) => refused(format!("the data source has no column {}", extra.name)),
        None => Ok(()),
    }
}

fn query(session: &Connection, sql: &str) -> Result<Vec<Row>> {
    session
        .execute_query(sql)
        .and_then(hyperdb_api::Rowset::collect_rows)
        .wrap(Kind::SourceUnreadable, || "hyperd cannot read the extract".into())
}

fn text(row: &Row, column: usize) -> Result<String> {
    row.get::<String>(column).ok_or_else(|| unexpected("a catalog entry without a name"))
}

pub(crate) fn quoted(name: &str) -> Result<String> {
    escape_name(name).wrap(Kind::FileRefused, || format!("the name {name:?} is too long"))
}

pub(crate) fn qualified(database: &str, table: &Table) -> Result<String> {
    Ok(format!("{}.{}.{}", escape_sql_path(database), quoted(&table.schema)?, quoted(&table.name)?))
}

fn unexpected(what: &str) -> Error {
    Error::new(Kind::SourceUnreadable, format!("hyperd reports {what}"))
}
