//! `.parquet`, through Arrow's own writer; a row group ends before it fills the memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::output::{Encode, OneTable};
use super::{Capability, FileDescription, Format, Opened, Writer, read_back};
use crate::error::{Context, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::files::{Facts, ROW_GROUP_BYTES};
use crate::types::{Mapping, Wishes, parquet as types};
use crate::verify::{Fingerprint, Verify};

/// Rows of a row group unless told otherwise; what the reference writers take.
const ROW_GROUP: usize = 1024 * 1024;

/// The format.
#[derive(Debug)]
pub struct Parquet;

impl Format for Parquet {
    fn capability(&self) -> Capability {
        Capability {
            name: "parquet",
            extensions: &["parquet"],
            write: true,
            read: true,
            lake: true,
            many_tables: false,
            max_rows: None,
            max_decimal: 76,
            summary: "Parquet with statistics, snappy unless told otherwise; profile = \"alteryx\" for Designer from 2024.1",
        }
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        types::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        writer(path, tables[0], "parquet", ArrowWriterOptions::new())
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        read_back_rows(path, tables[0], verify, limits)
    }

    fn describe(&self, path: &Path, _limits: &Limits) -> Result<FileDescription> {
        Err(super::by_the_engine(path))
    }
}

/// Opens a new file for one table, with the statistics that readers skip by.
pub(super) fn writer(
    path: &Path,
    mapping: &Mapping,
    format: &'static str,
    options: ArrowWriterOptions,
) -> Result<Box<dyn Writer>> {
    let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), c.nullable)).collect();
    let failed = || format!("cannot write {}", path.display());
    let file = File::create(path).wrap(Kind::WriteFailed, failed)?;
    let rows = mapping.facts.get("row_group_rows").and_then(|r| r.parse().ok()).unwrap_or(ROW_GROUP);
    let properties = WriterProperties::builder()
        .set_compression(compression(&mapping.facts))
        .set_max_row_group_row_count(Some(rows))
        .set_statistics_enabled(statistics(&mapping.facts))
        .set_dictionary_enabled(!mapping.facts.contains_key("dictionary"))
        .set_created_by(format!("lakeport {}", env!("CARGO_PKG_VERSION")))
        .build();
    let schema = Arc::new(Schema::new(fields));
    let options = options.with_properties(properties);
    let writer = ArrowWriter::try_new_with_options(file, schema, options).wrap(Kind::WriteFailed, failed)?;
    Ok(OneTable::writer(path, format, Box::new(Encoder { writer, in_memory: in_memory(&mapping.facts) })))
}

/// Reads a file of one table back.
pub(super) fn read_back_rows(path: &Path, mapping: &Mapping, verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
    let failed = || "the Parquet file cannot be read back".to_owned();
    let file = File::open(path).wrap(Kind::VerifyFailed, failed)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).wrap(Kind::VerifyFailed, failed).at("file", path.display())?;
    let schema = Arc::clone(builder.schema());
    let reader = builder.with_batch_size(limits.batch_rows).build().wrap(Kind::VerifyFailed, failed)?;
    let batches = reader.map(move |batch| batch.wrap(Kind::VerifyFailed, failed));
    let table = mapping.table.clone();
    let opened = Opened { tables: vec![table.clone()], table, schema, rows: None, batches: Box::new(batches) };
    Ok(vec![read_back::through(opened, mapping, verify)?])
}

fn compression(facts: &Facts) -> Compression {
    let level = facts.get("compression_level").and_then(|l| l.parse::<u32>().ok());
    match facts.get("compression").map(String::as_str) {
        Some("none") => Compression::UNCOMPRESSED,
        Some("gzip") => Compression::GZIP(level.and_then(|l| GzipLevel::try_new(l).ok()).unwrap_or_default()),
        Some("zstd") => {
            let level = level.and_then(|l| ZstdLevel::try_new(i32::try_from(l).ok()?).ok());
            Compression::ZSTD(level.unwrap_or_default())
        }
        Some("lz4") => Compression::LZ4_RAW,
        Some("brotli") => Compression::BROTLI(level.and_then(|l| BrotliLevel::try_new(l).ok()).unwrap_or_default()),
        _ => Compression::SNAPPY,
    }
}

fn statistics(facts: &Facts) -> EnabledStatistics {
    match facts.get("statistics").map(String::as_str) {
        Some("none") => EnabledStatistics::None,
        Some("chunk") => EnabledStatistics::Chunk,
        _ => EnabledStatistics::Page,
    }
}

/// Bytes a row group may hold in memory before it is ended.
fn in_memory(facts: &Facts) -> usize {
    let asked = facts.get("row_group_size").and_then(|b| b.parse().ok()).unwrap_or(ROW_GROUP_BYTES);
    usize::try_from(asked).unwrap_or(usize::MAX)
}

struct Encoder {
    writer: ArrowWriter<File>,
    in_memory: usize,
}

impl Encode for Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let failed = || "cannot write the Parquet file".to_owned();
        self.writer.write(batch).wrap(Kind::WriteFailed, failed)?;
        if self.writer.in_progress_size() > self.in_memory {
            self.writer.flush().wrap(Kind::WriteFailed, failed)?;
        }
        Ok(())
    }

    fn size(&self) -> Option<u64> {
        Some((self.writer.bytes_written() + self.writer.in_progress_size()) as u64)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let failed = || "cannot complete the Parquet file".to_owned();
        let mut writer = self.writer;
        writer.finish().wrap(Kind::WriteFailed, failed)?;
        writer.inner().sync_all().wrap(Kind::WriteFailed, failed)
    }
}
