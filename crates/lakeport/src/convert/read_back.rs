//! A finished file read back through the format's own reader.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema};

use super::Opened;
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::types::Mapping;
use crate::verify::{Accumulator, Fingerprint, Verify};

/// The fingerprint of what was read, column by column in the physical types of the mapping.
///
/// # Errors
/// `VerifyFailed` when the file cannot be read, lacks a column, or holds a value that is none of the column's type.
pub fn through(opened: Opened, mapping: &Mapping, verify: Verify) -> Result<Fingerprint> {
    let fields: Vec<_> = mapping.columns.iter().map(|c| Field::new(&c.name, c.physical.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let (there, expected) = (opened.schema.fields().len(), schema.fields().len());
    if there != expected {
        return Err(Error::new(Kind::VerifyFailed, format!("the file holds {there} columns instead of {expected}")));
    }
    for (field, column) in opened.schema.fields().iter().zip(&mapping.columns) {
        if *field.name() != column.name {
            let what = format!("the file calls column `{}` by another name", column.name);
            return Err(Error::new(Kind::VerifyFailed, what).because(format!("it is called `{}`", field.name())));
        }
    }
    let mut arrived = Accumulator::new(mapping, verify);
    for batch in opened.batches {
        let batch = batch.wrap(Kind::VerifyFailed, || "the finished file cannot be read back".into())?;
        let columns = batch.columns().iter().zip(&mapping.columns).map(|(array, column)| {
            if array.data_type() == &column.physical {
                return Ok(Arc::clone(array));
            }
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, &column.physical, &options)
                .wrap(Kind::VerifyFailed, || format!("column `{}` does not read back as {}", column.name, column.target_type))
                .at("column", &column.name)
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
            .wrap(Kind::VerifyFailed, || "the finished file does not read back in the shape it was written".into())?;
        arrived.add(&batch);
    }
    Ok(arrived.finish())
}
