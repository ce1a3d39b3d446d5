//! A lake in a temporary directory, and queries over it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use lakeport::error::{Error, Result};
use lakeport::limits::Limits;
use lakeport::source::{Engine, Location, Query, Table};
use lakeport_engines::embedded::Embedded;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

/// A directory that is gone with the test.
#[derive(Debug)]
pub(crate) struct Lake {
    dir: TempDir,
}

impl Lake {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn parquet(&self, name: &str, batch: &RecordBatch) -> PathBuf {
        let path = self.path(name);
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        path
    }

    pub(crate) fn text(&self, name: &str, text: &str) -> PathBuf {
        self.bytes(name, text.as_bytes())
    }

    pub(crate) fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    pub(crate) fn at(&self, name: &str) -> Location {
        Location::new(self.dir.path().join(name).to_str().unwrap())
    }

    pub(crate) fn from(&self, name: &str) -> Query {
        Query { from: Some(self.at(name)), ..Query::default() }
    }

    pub(crate) fn sql(&self, name: &str, sql: &str) -> Query {
        Query { sql: Some(sql.to_owned()), ..self.from(name) }
    }
}

pub(crate) fn limits() -> Limits {
    Limits { cores: 2, ..Limits::default() }
}

pub(crate) async fn open(query: &Query) -> Result<Table> {
    Embedded::new().open(query, &limits()).await
}

pub(crate) async fn refused(query: &Query) -> Error {
    match open(query).await {
        Err(error) => error,
        Ok(table) => match read(table).await {
            Err(error) => error,
            Ok(batches) => panic!("read without an error:\n{}", pretty_format_batches(&batches).unwrap()),
        },
    }
}

pub(crate) async fn read(table: Table) -> Result<Vec<RecordBatch>> {
    let parts = futures::future::try_join_all(table.partitions.into_iter().map(|p| p.stream.try_collect::<Vec<_>>())).await?;
    Ok(parts.into_iter().flatten().collect())
}

/// All rows of a query as lines `a|b|c`, in their order.
pub(crate) async fn rows(query: &Query) -> Vec<String> {
    let table = open(query).await.unwrap();
    let schema = Arc::clone(&table.schema);
    let batches = read(table).await.unwrap();
    let mut lines = Vec::new();
    for batch in &batches {
        assert_eq!(batch.schema(), schema, "the batches have the schema that was declared");
        let options = arrow::util::display::FormatOptions::default().with_null("∅");
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| arrow::util::display::ArrayFormatter::try_new(c.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    lines
}

/// The same, sorted, for queries without an order.
pub(crate) async fn set(query: &Query) -> Vec<String> {
    let mut lines = rows(query).await;
    lines.sort();
    lines
}

/// `name:type` of each column, with `!` for NOT NULL.
pub(crate) async fn columns(query: &Query) -> String {
    let table = open(query).await.unwrap();
    let mark = |nullable| if nullable { "" } else { "!" };
    let fields = table.schema.fields().iter().map(|f| format!("{}:{}{}", f.name(), f.data_type(), mark(f.is_nullable())));
    fields.collect::<Vec<_>>().join(" ")
}

pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
