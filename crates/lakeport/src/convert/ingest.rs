//! What a database ingests: an Arrow IPC file of the types its driver takes. It is written whole before the database hears of it,
//! so that a failing conversion touches nothing and a transaction is as short as can be.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use super::output::{Encode, OneTable};
use super::{Capability, FileDescription, Format, Opened, Writer, described, read_back};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, database};
use crate::verify::{Fingerprint, Verify};

/// The format of a dialect.
#[derive(Debug)]
pub struct Ingest {
    /// Whether for SQLite; else for PostgreSQL and all others.
    pub sqlite: bool,
}

impl Format for Ingest {
    fn capability(&self) -> Capability {
        Capability {
            name: if self.sqlite { "sqlite" } else { "postgresql" },
            extensions: &[],
            write: true,
            read: false,
            lake: false,
            many_tables: false,
            max_rows: None,
            max_decimal: 38,
            summary: "what a database ingests; not a file of its own",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        database::map(table, schema, wishes, self.sqlite)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        let mapping = tables[0];
        let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let failed = || format!("cannot write {}", path.display());
        let file = BufWriter::with_capacity(1024 * 1024, File::create(path).wrap(Kind::WriteFailed, failed)?);
        let writer = FileWriter::try_new(file, &schema).wrap(Kind::WriteFailed, failed)?;
        let encoder = Encoder { writer, schema, nul: self.sqlite, rows: 0 };
        Ok(OneTable::writer(path, self.capability().name, Box::new(encoder)))
    }

    fn open(&self, path: &Path, _table: Option<&str>, _limits: &Limits) -> Result<Opened> {
        let reader = reader(path)?;
        let schema = reader.schema();
        let batches = reader.map(|b| b.wrap(Kind::SourceUnreadable, || "the staged rows cannot be read".into()));
        Ok(Opened { table: String::new(), tables: Vec::new(), schema, rows: None, batches: Box::new(batches) })
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        Ok(vec![read_back::through(self.open(path, None, limits)?, tables[0], verify)?])
    }

    fn describe(&self, path: &Path, limits: &Limits) -> Result<FileDescription> {
        described(path, self.capability().name, self.open(path, None, limits)?)
    }
}

/// Opens the staged rows.
pub(crate) fn reader(path: &Path) -> Result<FileReader<BufReader<File>>> {
    let failed = || "the staged rows cannot be read".to_owned();
    let file = File::open(path).wrap(Kind::SourceMissing, failed)?;
    FileReader::try_new(BufReader::with_capacity(1024 * 1024, file), None)
        .wrap(Kind::SourceUnreadable, failed)
        .at("file", path.display())
}

struct Encoder {
    writer: FileWriter<BufWriter<File>>,
    schema: Arc<Schema>,
    /// Whether texts may hold NUL characters.
    nul: bool,
    rows: u64,
}

impl Encode for Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        for (array, field) in batch.columns().iter().zip(self.schema.fields()) {
            if self.nul || array.data_type() != &DataType::Utf8 {
                continue;
            }
            let texts = array.as_string::<i32>();
            if let Some(row) = texts.iter().position(|t| t.is_some_and(|t| t.contains('\0'))) {
                let what = format!("a value of column `{}` cannot be kept as text", field.name());
                return Err(Error::new(Kind::ValueRefused, what)
                    .at("column", field.name())
                    .because(format!("row {} holds a NUL character, which PostgreSQL refuses", self.rows + row as u64 + 1))
                    .help("replace it in SQL, or ingest the column as bytes with --types COLUMN=binary"));
            }
        }
        self.rows += batch.num_rows() as u64;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())
            .wrap(Kind::Unexpected, || "a batch does not fit what is to be ingested".into())?;
        self.writer.write(&batch).wrap(Kind::WriteFailed, || "cannot stage the rows".into())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let failed = || "cannot stage the rows".to_owned();
        self.writer.finish().wrap(Kind::WriteFailed, failed)?;
        let file = self.writer.into_inner().wrap(Kind::WriteFailed, failed)?;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).wrap(Kind::WriteFailed, failed)?;
        file.sync_all().wrap(Kind::WriteFailed, failed)
    }
}
