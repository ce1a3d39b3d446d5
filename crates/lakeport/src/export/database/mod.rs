//! A table of a database as a target, through its ADBC driver.
//!
//! Everything a publish does is one transaction: rows go into a table of their own first, which then takes the place of the old
//! (or is merged into it). A reader sees the old table or the new one; a connection that dies leaves the old.

use std::collections::BTreeMap;
use std::fmt;

use adbc_core::error::Status;
use adbc_core::options::{IngestMode, OptionStatement, OptionValue};
use adbc_core::{Connection, Optionable, Statement};
use adbc_driver_manager::ManagedConnection;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;

use super::{Capability, Health, Mode, Observed, Progress, Publish, Receipt, Target};
use crate::config::{DatabaseEnv, Secret};
use crate::convert::{Written, ingest};
use crate::error::{Error, Kind, Result, Wrap};
use crate::source::Listed;

mod driver;
mod once;

/// What this target can do.
pub const CAPABILITY: Capability = Capability {
    name: "database",
    formats: &["postgresql", "sqlite"],
    modes: &[Mode::Full, Mode::Create, Mode::Append, Mode::Upsert, Mode::DeleteInsert],
    observes: true,
    summary: "PostgreSQL, SQLite and others through ADBC: bulk ingest in one transaction",
};

/// Where the tables are and how to get there.
#[derive(Clone)]
pub(crate) struct Place {
    driver: String,
    uri: String,
    password: Option<Secret>,
    schema: Option<String>,
    options: BTreeMap<String, String>,
}

impl Place {
    fn uri_with_password(&self) -> String {
        let Some(password) = &self.password else { return self.uri.clone() };
        let Ok(mut url) = url::Url::parse(&self.uri) else { return self.uri.clone() };
        // A URL without a host takes none; its driver will say what it lacks.
        let _ = url.set_password(Some(password.reveal()));
        url.to_string()
    }

    /// What tells one schema of one database from others, and nothing else of it: it is kept on disk.
    fn identity(&self) -> String {
        let of = format!("{}\n{}", self.uri, self.schema.as_deref().unwrap_or_default());
        format!("{} {:016x}", self.driver, xxhash_rust::xxh3::xxh3_64(of.as_bytes()))
    }

    fn error(&self, error: &adbc_core::error::Error, operation: &'static str) -> Error {
        let mut text = error.message.trim().to_owned();
        if let Some(password) = &self.password {
            text = text.replace(&self.uri_with_password(), &self.uri).replace(password.reveal(), "[redacted]");
        }
        let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
        let (kind, what) = match error.status {
            Status::Unauthenticated => (Kind::SignIn, "the database did not accept the credentials"),
            Status::Unauthorized => (Kind::Forbidden, "the database does not permit this"),
            _ if says(&["password authentication failed", "no password supplied", "does not exist\n", "role \""]) => {
                (Kind::SignIn, "the database did not accept the credentials")
            }
            _ if says(&["permission denied"]) => (Kind::Forbidden, "the database does not permit this"),
            _ if says(&["Connection refused", "could not translate host", "timeout expired", "server closed the connection"]) => {
                (Kind::Unreachable, "the database cannot be reached")
            }
            Status::Timeout => (Kind::TimedOut, "the database did not answer in time"),
            Status::AlreadyExists => (Kind::TargetExists, "the table exists"),
            _ => (Kind::FileRefused, "the database refused"),
        };
        Error::new(kind, what).during(operation).because(text)
    }
}

/// A database as a target.
pub struct DatabaseTarget {
    place: Place,
}

impl fmt::Debug for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseTarget").field("driver", &self.place.driver).finish_non_exhaustive()
    }
}

impl DatabaseTarget {
    /// Makes a target, its secrets looked up; nothing is connected yet.
    #[must_use]
    pub fn new(env: &DatabaseEnv, password: Option<Secret>, options: BTreeMap<String, String>) -> Self {
        let place = Place { driver: env.driver.clone(), uri: env.uri.clone(), password, schema: env.schema.clone(), options };
        Self { place }
    }

    async fn on<T: Send + 'static>(&self, work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static) -> Result<T> {
        let place = self.place.clone();
        tokio::task::spawn_blocking(move || {
            let connection = driver::connect(&place)?;
            work(&mut Session { connection, place })
        })
        .await
        .wrap(Kind::Unexpected, || "a thread talking to the database panicked".into())?
    }
}

/// One connection, in one transaction.
struct Session {
    connection: ManagedConnection,
    place: Place,
}

impl Session {
    fn is_sqlite(&self) -> bool {
        self.place.driver.contains("sqlite")
    }

    fn table(&self, name: &str) -> String {
        match &self.place.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(name),
        }
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        let failed = |place: &Place, e| place.error(&e, "run a statement").because(sql.to_owned());
        let mut statement = self.connection.new_statement().map_err(|e| failed(&self.place, e))?;
        statement.set_sql_query(sql).map_err(|e| self.place.error(&e, "run a statement"))?;
        statement.execute_update().map_err(|e| self.place.error(&e, "run a statement"))?;
        Ok(())
    }

    fn query(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        let failed = |e| self.place.error(&e, "run a query");
        let mut statement = self.connection.new_statement().map_err(failed)?;
        statement.set_sql_query(sql).map_err(failed)?;
        let reader = statement.execute().map_err(failed)?;
        reader.collect::<std::result::Result<_, _>>().wrap(Kind::FileRefused, || "the database's answer cannot be read".into())
    }

    fn number(&mut self, sql: &str) -> Result<u64> {
        let batches = self.query(sql)?;
        let value = batches.iter().find(|b| b.num_rows() > 0).and_then(|b| {
            let column = arrow::compute::cast(b.column(0), &arrow::datatypes::DataType::Int64).ok()?;
            u64::try_from(column.as_primitive::<Int64Type>().value(0)).ok()
        });
        value.ok_or_else(|| Error::new(Kind::Unexpected, "the database answered with no number"))
    }

    fn text(&mut self, sql: &str) -> Result<Option<String>> {
        let batches = self.query(sql)?;
        let Some(batch) = batches.iter().find(|b| b.num_rows() > 0) else { return Ok(None) };
        let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8);
        let column = column.wrap(Kind::Unexpected, || "the database answered with no text".to_owned())?;
        Ok(column.as_string::<i32>().iter().next().flatten().map(str::to_owned))
    }

    /// The rows of a table.
    fn count(&mut self, name: &str) -> Result<u64> {
        let table = self.table(name);
        self.number(&format!("SELECT count(*) FROM {table}"))
    }

    fn exists(&mut self, name: &str) -> Result<bool> {
        let text = |t: &str| format!("'{}'", t.replace('\'', "''"));
        let sql = if self.is_sqlite() {
            format!("SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') AND name = {}", text(name))
        } else {
            let schema = self.place.schema.as_ref().map_or_else(|| "current_schema()".to_owned(), |s| text(s));
            format!(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = {schema} AND table_name = {}",
                text(name)
            )
        };
        Ok(self.number(&sql)? > 0)
    }

    /// Creates a table and fills it.
    fn ingest(&mut self, file: &std::path::Path, name: &str, mode: IngestMode) -> Result<()> {
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

    fn commit(&mut self) -> Result<()> {
        self.connection.commit().map_err(|e| self.place.error(&e, "commit"))
    }

    /// What a mode means, in one transaction that is still to be committed.
    fn publish(&mut self, file: &std::path::Path, how: &Publish) -> Result<()> {
        let there = self.exists(&how.name)?;
        match how.mode {
            Mode::Create if there => {
                return Err(Error::new(Kind::TargetExists, format!("table `{}` exists", how.name)).during("publish"));
            }
            Mode::Append if there => self.ingest(file, &how.name, IngestMode::Append)?,
            _ if !there => self.ingest(file, &how.name, IngestMode::Create)?,
            Mode::Full => {
                let staged = staging(&how.name);
                self.ingest(file, &staged, IngestMode::Create)?;
                let (old, new) = (self.table(&how.name), self.table(&staged));
                self.run(&format!("DROP TABLE {old}"))?;
                self.run(&format!("ALTER TABLE {new} RENAME TO {}", quoted(&how.name)))?;
            }
            _ => self.merge(file, how)?,
        }
        Ok(())
    }

    /// Rows of known keys are exchanged, others added.
    fn merge(&mut self, file: &std::path::Path, how: &Publish) -> Result<()> {
        if how.keys.is_empty() {
            return Err(Error::new(Kind::Usage, format!("mode {} needs a key", how.mode.name()))
                .help("name the columns that identify a row with --key, or key = [\"…\"] in the job"));
        }
        let staged = staging(&how.name);
        self.ingest(file, &staged, IngestMode::Create)?;
        let schema = ingest::reader(file)?.schema();
        let columns: Vec<_> = schema.fields().iter().map(|f| quoted(f.name())).collect();
        if let Some(missing) = how.keys.iter().find(|k| schema.field_with_name(k).is_err()) {
            return Err(Error::new(Kind::Usage, format!("the key names column `{missing}`, which the table does not have")));
        }
        let (old, new) = (self.table(&how.name), self.table(&staged));
        let keys: Vec<_> = how.keys.iter().map(|k| quoted(k)).collect();
        let listed = keys.join(", ");
        if how.mode == Mode::Upsert {
            let twice = self.number(&format!(
                "SELECT count(*) FROM (SELECT 1 AS one FROM {new} GROUP BY {listed} HAVING count(*) > 1) AS twice"
            ))?;
            if twice > 0 {
                return Err(Error::new(Kind::ValueRefused, format!("{twice} keys are in more than one row"))
                    .because(format!("the key is {listed}"))
                    .help("choose a key that identifies a row, or aggregate in SQL"));
            }
        }
        // NULL is a key like any other here.
        let equals = if self.is_sqlite() { "IS" } else { "IS NOT DISTINCT FROM" };
        let same: Vec<_> = keys.iter().map(|k| format!("s.{k} {equals} {old}.{k}")).collect();
        self.run(&format!("DELETE FROM {old} WHERE EXISTS (SELECT 1 FROM {new} AS s WHERE {})", same.join(" AND ")))?;
        let columns = columns.join(", ");
        self.run(&format!("INSERT INTO {old} ({columns}) SELECT {columns} FROM {new}"))?;
        self.run(&format!("DROP TABLE {new}"))
    }
}

/// The table that rows go into before they take their place; seen by nobody, since its transaction never ends with it there.
fn staging(name: &str) -> String {
    // PostgreSQL's names have 63 bytes.
    let start: String = name.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    format!("lakeport_{start}_{}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[async_trait]
impl Target for DatabaseTarget {
    fn capability(&self) -> Capability {
        CAPABILITY
    }

    async fn check(&self) -> Result<Health> {
        let driver = self.place.driver.clone();
        self.on(move |session| {
            session.number("SELECT 1")?;
            let mut health = Health::default();
            health.facts.push(("driver".into(), driver));
            Ok(health)
        })
        .await
    }

    async fn list(&self, path: &str) -> Result<Vec<Listed>> {
        if !path.is_empty() {
            return Ok(Vec::new());
        }
        self.on(|session| {
            let sql = if session.is_sqlite() {
                "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name".to_owned()
            } else {
                let schema = session.place.schema.clone().map_or_else(|| "current_schema()".into(), |s| format!("'{}'", s.replace('\'', "''")));
                format!("SELECT CAST(table_name AS text), CAST(table_type AS text) FROM information_schema.tables WHERE table_schema = {schema} ORDER BY 1")
            };
            let mut listed = Vec::new();
            for batch in session.query(&sql)? {
                let text = |c: usize| arrow::compute::cast(batch.column(c), &arrow::datatypes::DataType::Utf8);
                let (names, kinds) = (text(0), text(1));
                let (Ok(names), Ok(kinds)) = (names, kinds) else { continue };
                for row in 0..names.len() {
                    let kind = if kinds.as_string::<i32>().value(row).to_ascii_lowercase().contains("view") { "view" } else { "table" };
                    let name = names.as_string::<i32>().value(row).to_owned();
                    listed.push(Listed { name, kind: kind.into(), details: Vec::new() });
                }
            }
            Ok(listed)
        })
        .await
    }

    async fn publish(&self, file: &Written, how: &Publish, progress: Progress<'_>) -> Result<Receipt> {
        let (file, asked, bytes) = (file.clone(), how.clone(), file.bytes);
        let receipt = Receipt {
            id: how.name.clone(),
            name: how.name.clone(),
            bytes,
            way: "one transaction".into(),
            mode: how.mode,
            content: how.content.clone(),
            server: Some(self.place.identity()),
            ..Receipt::default()
        };
        progress(0, bytes);
        let receipt = self.on(move |session| once::publish(session, &file, &asked, receipt)).await?;
        progress(bytes, bytes);
        Ok(receipt)
    }

    async fn observe(&self, receipt: &Receipt) -> Result<Observed> {
        let name = receipt.name.clone();
        let rows = self.on(move |session| session.count(&name)).await?;
        let unknown = vec!["values: they were compared in the staged rows; the database counts rows".to_owned()];
        Ok(Observed { rows: Some(vec![rows]), unknown, ..Observed::default() })
    }
}
