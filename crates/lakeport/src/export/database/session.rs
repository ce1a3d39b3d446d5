//! One connection in one transaction: what it is asked and told.

use adbc_core::options::{IngestMode, OptionStatement, OptionValue};
use adbc_core::{Connection, Optionable, Statement};
use adbc_driver_manager::ManagedConnection;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use super::driver;
use super::place::Place;
use crate::convert::ingest;
use crate::error::{Error, Kind, Result, Wrap};
use crate::source::Listed;

/// How long PostgreSQL waits for whoever uses a table, unless the user says otherwise: all who come later wait behind it.
const LOCK_TIMEOUT: &str = "60s";

/// One connection, in one transaction.
pub(super) struct Session {
    connection: ManagedConnection,
    pub(super) place: Place,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// `ConfigInvalid` without a driver; `SignIn`, `Unreachable`.
    pub(super) fn open(place: Place) -> Result<Self> {
        let connection = driver::connect(&place)?;
        let mut session = Self { connection, place };
        session.offered(&format!(
            "SELECT set_config('lock_timeout', '{LOCK_TIMEOUT}', true) WHERE current_setting('lock_timeout') = '0'"
        ))?;
        Ok(session)
    }

    /// The name of a table in SQL.
    pub(super) fn table(&self, name: &str) -> String {
        match &self.place.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(name),
        }
    }

    /// Carries out a statement.
    pub(super) fn run(&mut self, sql: &str) -> Result<()> {
        let failed = |place: &Place, e| place.error(&e, "run a statement").because(sql.to_owned());
        let mut statement = self.connection.new_statement().map_err(|e| failed(&self.place, e))?;
        statement.set_sql_query(sql).map_err(|e| self.place.error(&e, "run a statement"))?;
        statement.execute_update().map_err(|e| self.place.error(&e, "run a statement"))?;
        Ok(())
    }

    /// Asks.
    pub(super) fn query(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        let failed = |e| self.place.error(&e, "run a query");
        let mut statement = self.connection.new_statement().map_err(failed)?;
        statement.set_sql_query(sql).map_err(failed)?;
        let reader = statement.execute().map_err(failed)?;
        reader.collect::<std::result::Result<_, _>>().map_err(|e| {
            let why = self.place.without_secrets(&e.to_string());
            Error::new(Kind::FileRefused, "the database's answer cannot be read").because(why)
        })
    }

    /// Asks for whole numbers.
    pub(super) fn numbers(&mut self, sql: &str) -> Result<Vec<Vec<i64>>> {
        let mut rows = Vec::new();
        for batch in self.query(sql)? {
            let columns = batch.columns().iter().map(|c| cast(c, &DataType::Int64)).collect::<std::result::Result<Vec<_>, _>>();
            let columns = columns.wrap(Kind::Unexpected, || "the database answered with no numbers".to_owned())?;
            let row = |row: usize| columns.iter().map(|c| c.as_primitive::<Int64Type>().value(row)).collect();
            rows.extend((0..batch.num_rows()).map(row));
        }
        Ok(rows)
    }

    /// Asks for one number.
    pub(super) fn number(&mut self, sql: &str) -> Result<u64> {
        let first = self.numbers(sql)?.first().and_then(|row| row.first().copied());
        let number = first.and_then(|n| u64::try_from(n).ok());
        number.ok_or_else(|| Error::new(Kind::Unexpected, "the database answered with no number"))
    }

    /// Asks for one text; `None` for NULL, or where there is no row.
    pub(super) fn text(&mut self, sql: &str) -> Result<Option<String>> {
        let batches = self.query(sql)?;
        let Some(batch) = batches.iter().find(|b| b.num_rows() > 0) else { return Ok(None) };
        let column = cast(batch.column(0), &DataType::Utf8);
        let column = column.wrap(Kind::Unexpected, || "the database answered with no text".to_owned())?;
        Ok(column.as_string::<i32>().iter().next().flatten().map(str::to_owned))
    }

    /// The answer of PostgreSQL, at the beginning of a transaction; `None` of the many that only speak its protocol, or where this
    /// is not offered.
    pub(super) fn offered(&mut self, sql: &str) -> Result<Option<String>> {
        if !self.place.is_postgres() {
            return Ok(None);
        }
        match self.text(sql) {
            // The statement that failed has ended the transaction, in which nothing has been done yet.
            Err(e) if e.kind() != Kind::Unreachable => {
                tracing::debug!("the server does not offer it: {}", e.message());
                self.connection.rollback().map_err(|e| self.place.error(&e, "begin a transaction")).map(|()| None)
            }
            answer => answer,
        }
    }

    /// The rows of a table.
    pub(super) fn count(&mut self, name: &str) -> Result<u64> {
        let table = self.table(name);
        self.number(&format!("SELECT count(*) FROM {table}"))
    }

    fn schema(&self) -> String {
        self.place.schema.as_ref().map_or_else(|| "current_schema()".to_owned(), |s| literal(s))
    }

    /// Whether there is a table, or a view, of this name.
    pub(super) fn exists(&mut self, name: &str) -> Result<bool> {
        let name = literal(name);
        let sql = if self.place.is_sqlite() {
            format!("SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') AND name = {name}")
        } else {
            let schema = self.schema();
            format!("SELECT count(*) FROM information_schema.tables WHERE table_schema = {schema} AND table_name = {name}")
        };
        Ok(self.number(&sql)? > 0)
    }

    /// The columns of a table of SQLite, and what each is declared as.
    pub(super) fn declared(&mut self, table: &str) -> Result<Vec<(String, String)>> {
        let mut declared = Vec::new();
        for batch in self.query(&format!("SELECT name, type FROM pragma_table_info({})", literal(table)))? {
            let texts =
                |c: usize| cast(batch.column(c), &DataType::Utf8).wrap(Kind::Unexpected, || "a name is no text".to_owned());
            let (names, kinds) = (texts(0)?, texts(1)?);
            let pairs = names.as_string::<i32>().iter().zip(kinds.as_string::<i32>());
            declared.extend(pairs.map(|(name, kind)| (name.unwrap_or_default().to_owned(), kind.unwrap_or_default().to_owned())));
        }
        Ok(declared)
    }

    /// All tables and views.
    pub(super) fn list(&mut self) -> Result<Vec<Listed>> {
        let sql = if self.place.is_sqlite() {
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name".to_owned()
        } else {
            let texts = "CAST(table_name AS text), CAST(table_type AS text)";
            format!("SELECT {texts} FROM information_schema.tables WHERE table_schema = {} ORDER BY 1", self.schema())
        };
        let mut listed = Vec::new();
        for batch in self.query(&sql)? {
            let (Ok(names), Ok(kinds)) = (cast(batch.column(0), &DataType::Utf8), cast(batch.column(1), &DataType::Utf8)) else {
                continue;
            };
            for (name, kind) in names.as_string::<i32>().iter().zip(kinds.as_string::<i32>()) {
                let (Some(name), Some(kind)) = (name, kind) else { continue };
                let kind = if kind.to_ascii_lowercase().contains("view") { "view" } else { "table" };
                listed.push(Listed { name: name.to_owned(), kind: kind.to_owned(), details: Vec::new() });
            }
        }
        Ok(listed)
    }

    /// Fills a table, which is created or there, as the mode says.
    pub(super) fn ingest(&mut self, file: &std::path::Path, name: &str, mode: IngestMode) -> Result<()> {
        let reader = ingest::reader(file)?;
        let failed = |e| self.place.error(&e, "ingest the rows");
        let mut statement = self.connection.new_statement().map_err(failed)?;
        statement.set_option(OptionStatement::TargetTable, OptionValue::String(name.to_owned())).map_err(failed)?;
        if let Some(schema) = &self.place.schema {
            statement.set_option(OptionStatement::TargetDbSchema, OptionValue::String(schema.clone())).map_err(failed)?;
        }
        statement.set_option(OptionStatement::IngestMode, mode.into()).map_err(failed)?;
        statement.bind_stream(Box::new(reader)).map_err(failed)?;
        statement.execute_update().map_err(failed)?;
        Ok(())
    }

    /// Makes what was done seen by others.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.connection.commit().map_err(|e| self.place.error(&e, "commit"))
    }
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
