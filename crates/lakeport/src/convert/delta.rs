//! The rows of a Delta table, as the Parquet file that becomes part of it.
//!
//! What is finished here is no table yet: a target that knows Delta's log puts the file into the table's directory and
//! commits it (`lakeport-delta`).

use std::path::Path;

use arrow::datatypes::Schema;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::{Capability, FileDescription, Format, Writer, parquet as rows};
use crate::error::Result;
use crate::limits::Limits;
use crate::types::{Mapping, Wishes, delta as types};
use crate::verify::{Fingerprint, Verify};

/// The format.
#[derive(Debug)]
pub struct Delta;

impl Format for Delta {
    fn capability(&self) -> Capability {
        Capability {
            name: "delta",
            extensions: &["delta"],
            write: true,
            read: true,
            lake: true,
            many_tables: false,
            max_rows: None,
            max_decimal: 38,
            summary: "a Delta table: a directory of Parquet files and its log; create, append and full, each one commit",
        }
    }

    fn has_a_place(&self) -> bool {
        true
    }

    fn map(&self, table: &str, schema: &Schema, wishes: &Wishes) -> Result<Mapping> {
        types::map(table, schema, wishes)
    }

    fn create(&self, path: &Path, tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        // The table's log says the types; a second word on them inside the file could only differ.
        rows::writer(path, tables[0], "delta", ArrowWriterOptions::new().with_skip_arrow_metadata(true))
    }

    fn read_back(&self, path: &Path, tables: &[&Mapping], verify: Verify, limits: &Limits) -> Result<Vec<Fingerprint>> {
        rows::read_back_rows(path, tables[0], verify, limits)
    }

    fn describe(&self, path: &Path, _limits: &Limits) -> Result<FileDescription> {
        Err(super::by_the_engine(path))
    }
}
