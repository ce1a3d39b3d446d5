//! What each mode does, in one transaction that is still to be committed.

use std::path::Path;

use adbc_core::options::IngestMode;
use arrow::datatypes::{DataType, Schema};

use super::session::{Session, quoted};
use crate::convert::ingest;
use crate::error::{Error, Kind, Result};
use crate::export::{Mode, Publish, ensure_keys};

/// Brings a file's rows into a table.
///
/// # Errors
/// `TargetExists` in mode `create`; `Usage` and `ValueRefused` for keys that identify no rows; what the database refuses.
pub(super) fn publish(session: &mut Session, file: &Path, how: &Publish) -> Result<()> {
    let keyed = matches!(how.mode, Mode::Upsert | Mode::DeleteInsert);
    let schema = ingest::reader(file)?.schema();
    let columns: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    if keyed {
        ensure_keys(how.mode, &how.keys, &columns)?;
    }
    let there = session.exists(&how.name)?;
    match how.mode {
        Mode::Create if there => Err(Error::new(Kind::TargetExists, format!("table `{}` exists", how.name)).during("publish")),
        Mode::Append if there => {
            ensure_kept(session, &how.name, &schema)?;
            session.ingest(file, &how.name, IngestMode::Append)
        }
        _ if !there => {
            session.ingest(file, &how.name, IngestMode::Create)?;
            if how.mode == Mode::Upsert { ensure_unique(session, &how.name, &how.keys) } else { Ok(()) }
        }
        Mode::Full => {
            let staged = staging(&how.name);
            session.ingest(file, &staged, IngestMode::Create)?;
            let (old, new) = (session.table(&how.name), session.table(&staged));
            session.run(&format!("DROP TABLE {old}"))?;
            session.run(&format!("ALTER TABLE {new} RENAME TO {}", quoted(&how.name)))
        }
        _ => {
            ensure_kept(session, &how.name, &schema)?;
            merge(session, file, how, &columns)
        }
    }
}

/// Makes sure that no key is in two rows of a table.
fn ensure_unique(session: &mut Session, table: &str, keys: &[String]) -> Result<()> {
    let (table, keys) = (session.table(table), listed(keys));
    let twice = session
        .number(&format!("SELECT count(*) FROM (SELECT 1 AS one FROM {table} GROUP BY {keys} HAVING count(*) > 1) AS twice"))?;
    if twice == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::ValueRefused, format!("{twice} keys are in more than one row"))
        .because(format!("the key is {keys}"))
        .help("choose a key that identifies a row, or aggregate in SQL"))
}

/// Makes sure that a table of SQLite has the columns and keeps their values: it makes of a value what a column is declared as, and a
/// number of the text `007`.
///
/// The rules: <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
///
/// # Errors
/// `SchemaConflict`.
fn ensure_kept(session: &mut Session, table: &str, schema: &Schema) -> Result<()> {
    if !session.place.is_sqlite() {
        return Ok(());
    }
    let declared = session.declared(table)?;
    for field in schema.fields() {
        let name = field.name();
        let Some((_, kind)) = declared.iter().find(|(column, _)| column.eq_ignore_ascii_case(name)) else {
            return Err(Error::new(Kind::SchemaConflict, format!("the table has no column `{name}`"))
                .help("add it to the table, leave it out with --sql, or replace the table with --mode full")
                .at("column", name));
        };
        let upper = kind.to_ascii_uppercase();
        let says = |words: &[&str]| words.iter().any(|w| upper.contains(w));
        let (text, whole) = (is_text(field.data_type()), field.data_type().is_integer());
        let kept = if says(&["INT"]) {
            !text
        } else if says(&["CHAR", "CLOB", "TEXT"]) {
            text || is_binary(field.data_type())
        } else if upper.is_empty() || says(&["BLOB"]) {
            true
        } else if says(&["REAL", "FLOA", "DOUB"]) {
            !text && !whole
        } else {
            !text
        };
        if !kept {
            let message = format!("column `{name}` of the table is declared `{kind}`, which would change what is written to it");
            return Err(Error::new(Kind::SchemaConflict, message)
                .because(format!("the rows hold {}", field.data_type()))
                .help(format!("give it another type with --types {name}=…, or replace the table with --mode full"))
                .at("column", name));
        }
    }
    Ok(())
}

/// Whether the driver binds it as text: dates and times, too.
fn is_text(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_temporal()
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// Rows of known keys are exchanged, others added.
fn merge(session: &mut Session, file: &Path, how: &Publish, columns: &[&str]) -> Result<()> {
    let staged = staging(&how.name);
    session.ingest(file, &staged, IngestMode::Create)?;
    if how.mode == Mode::Upsert {
        ensure_unique(session, &staged, &how.keys)?;
    }
    let (old, new) = (session.table(&how.name), session.table(&staged));
    if session.place.is_sqlite() {
        // It looks each row up, and would read the whole table for it.
        session.run(&format!(
            "CREATE INDEX {} ON {} ({})",
            quoted(&format!("{staged}_key")),
            quoted(&staged),
            listed(&how.keys)
        ))?;
    } else if session.place.is_postgres() {
        // Of a table that it has just been given it knows nothing, and would choose a way for a thousand rows.
        session.run(&format!("ANALYZE {new}"))?;
    }
    // NULL is a key like any other here, and to SQL it equals nothing. A comparison that says otherwise is one that databases can
    // neither hash nor look up, so that each row is compared with each; so the rows go by which parts of their key are NULL.
    let null = how.keys.iter().map(|k| format!("CASE WHEN {} IS NULL THEN 1 ELSE 0 END", quoted(k))).collect::<Vec<_>>();
    for pattern in session.numbers(&format!("SELECT DISTINCT {} FROM {new}", null.join(", ")))? {
        let (mut there, mut same) = (Vec::new(), Vec::new());
        for (key, is_null) in how.keys.iter().map(|k| quoted(k)).zip(pattern) {
            if is_null == 1 {
                there.push(format!("{old}.{key} IS NULL"));
                same.push(format!("s.{key} IS NULL"));
            } else {
                same.push(format!("s.{key} = {old}.{key}"));
            }
        }
        there.push(format!("EXISTS (SELECT 1 FROM {new} AS s WHERE {})", same.join(" AND ")));
        session.run(&format!("DELETE FROM {old} WHERE {}", there.join(" AND ")))?;
    }
    let columns = listed(columns);
    session.run(&format!("INSERT INTO {old} ({columns}) SELECT {columns} FROM {new}"))?;
    session.run(&format!("DROP TABLE {new}"))
}

/// Names in SQL, after one another.
fn listed<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// The table that rows go into before they take their place; seen by nobody, since its transaction never ends with it there.
fn staging(name: &str) -> String {
    // PostgreSQL's names have 63 bytes.
    let start: String = name.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    format!("lakeport_{start}_{}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}
