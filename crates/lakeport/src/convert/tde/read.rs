//! Reads a table of a `.tde` as record batches of bounded size.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::catalog::{TableEntry, tables};
use super::column::ColumnReader;
use super::layout::{Volume, damaged};
use crate::error::{Context, Error, Kind, Result, Wrap};

/// Most rows of a batch.
const ROWS: usize = 8192;
/// Bytes of texts after which a batch ends.
const BATCH: u64 = 16 * 1024 * 1024;
/// Most bytes of the texts of one row.
const LARGEST_ROW: u64 = 512 * 1024 * 1024;
/// Bytes read ahead and kept of dictionaries, by all columns together.
const AHEAD: usize = 8 * 1024 * 1024;
const KEPT: u64 = 64 * 1024 * 1024;
/// Rows that a byte of the file may stand for. Runs and steps make few bytes many rows; a file that claims more than this is not
/// worth the time.
const ROWS_A_BYTE: u64 = 65_536;

/// An opened file.
#[derive(Debug)]
pub(in crate::convert) struct Extract {
    volume: Arc<Volume>,
    tables: Vec<TableEntry>,
}

impl Extract {
    /// Reads header and catalog.
    pub(in crate::convert) fn open(file: File) -> Result<Self> {
        let volume = Arc::new(Volume::open(file)?);
        let tables = tables(&volume)?;
        Ok(Self { volume, tables })
    }

    /// The tables, those that hold Tableau's own notes left out where there are others.
    pub(super) fn tables(&self) -> impl Iterator<Item = &TableEntry> {
        self.tables.iter().filter(|t| t.data)
    }

    /// How many rows a table has, which all of its columns have to agree in.
    pub(super) fn rows(&self, table: &TableEntry) -> Result<u64> {
        let files = self.volume.directory(table.directory)?;
        let mut rows = None;
        for column in &table.columns {
            let here = column.rows(&self.volume, &files).at("column", &column.name)?;
            agree(&mut rows, here, &column.name)?;
        }
        self.plausible(rows.unwrap_or(0))
    }

    fn plausible(&self, rows: u64) -> Result<u64> {
        let bytes = self.volume.length();
        if rows > bytes.saturating_mul(ROWS_A_BYTE) {
            return Err(damaged(format!("{rows} rows in a file of {bytes} bytes")));
        }
        Ok(rows)
    }

    /// Finds a table by its name, with or without its schema; without a name the only one.
    pub(super) fn table(&self, name: Option<&str>) -> Result<&TableEntry> {
        let names = || self.tables().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(name) = name {
            let bare = |t: &TableEntry| t.name.split_once('.').is_some_and(|(_, table)| table == name);
            // Tableau's own notes can be asked for by name.
            return self.tables.iter().find(|t| t.name == name).or_else(|| self.tables.iter().find(|t| bare(t))).ok_or_else(
                || {
                    Error::new(Kind::UnknownName, format!("there is no table `{name}`"))
                        .help(format!("the file holds {}", names()))
                },
            );
        }
        let mut all = self.tables();
        match (all.next(), all.next()) {
            (Some(table), None) => Ok(table),
            (None, _) => Err(damaged("the .tde holds no table")),
            (Some(first), Some(_)) => Err(Error::new(Kind::UnknownName, format!("the file holds several tables: {}", names()))
                .help(format!("name one behind the file: …#{}", first.name))),
        }
    }

    /// Opens a table.
    pub(super) fn read(&self, table: &TableEntry) -> Result<TableReader> {
        let count = table.columns.len().max(1);
        let (ahead, kept) = ((AHEAD / count).clamp(4096, 256 * 1024), KEPT / count as u64);
        let files = self.volume.directory(table.directory)?;
        let open = |c| ColumnReader::open(c, &self.volume, &files, ahead, kept);
        let columns = table.columns.iter().map(open).collect::<Result<Vec<_>>>()?;
        let mut rows = None;
        for column in &columns {
            agree(&mut rows, column.rows(), column.name())?;
        }
        let left = self.plausible(rows.unwrap_or(0))?;
        let fields: Vec<_> = columns.iter().map(|c| Field::new(c.name(), c.arrow(), c.nullable())).collect();
        // So many that their numbers and their arrays stay within a batch's bytes.
        let most = (usize::try_from(BATCH).unwrap_or(ROWS) / (count * 16)).clamp(64, ROWS);
        Ok(TableReader { columns, schema: Arc::new(Schema::new(fields)), left, most, weights: Vec::new(), failed: false })
    }
}

fn agree(rows: &mut Option<u64>, here: u64, column: &str) -> Result<()> {
    match *rows.get_or_insert(here) {
        rows if rows == here => Ok(()),
        rows => Err(damaged(format!("column `{column}` has {here} values, those before it have {rows}")).at("column", column)),
    }
}

/// Reads the rows of one table.
#[derive(Debug)]
pub(super) struct TableReader {
    columns: Vec<ColumnReader>,
    schema: SchemaRef,
    left: u64,
    most: usize,
    weights: Vec<u64>,
    failed: bool,
}

impl TableReader {
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        let rows = usize::try_from(self.left).unwrap_or(self.most).min(self.most);
        self.weights.clear();
        self.weights.resize(rows, 0);
        for column in &mut self.columns {
            column.fill(rows).and_then(|()| column.weigh(&mut self.weights)).map_err(|e| e.at("column", column.name()))?;
        }
        let mut bytes = 0u64;
        let fit = self.weights.iter().take_while(|w| {
            bytes = bytes.saturating_add(**w);
            bytes <= BATCH
        });
        let rows = fit.count().max(1);
        if self.weights[0] > LARGEST_ROW {
            return Err(damaged(format!("a row of {} bytes", self.weights[0])));
        }
        let arrays = self.columns.iter_mut().map(|c| c.array(rows).map_err(|e| e.at("column", c.name())));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        self.left -= rows as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .wrap(Kind::SourceUnreadable, || "the values do not fit their columns".into())
            .map(Some)
    }
}

impl Iterator for TableReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.batch().during("read the .tde").transpose();
        self.failed = matches!(batch, Some(Err(_)));
        batch
    }
}
