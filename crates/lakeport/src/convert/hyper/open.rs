//! A table of a `.hyper` file as a source: hyperd hands it out as Arrow.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;

use super::process::{DATABASE, Hyperd};
use super::read_back::{AHEAD, BlockReader, Blocks, copy_out, tables};
use super::sql;
use crate::convert::{Opened, TableDescription};
use crate::error::{Error, Kind, Result, Wrap};

/// Opens the only table, or the one named: `Extract.Orders`, or `Orders` where one schema alone has it.
pub(super) fn open(hyperd: Arc<Hyperd>, path: &Path, table: Option<&str>) -> Result<Opened> {
    let connection = hyperd.read(path)?;
    let all = tables(&connection, DATABASE, path)?;
    let chosen = choose(&all, table)?;
    let (schema, name) = chosen.qualified();
    let columns = chosen.columns.iter().map(sql::readable).collect::<Vec<_>>().join(", ");
    let query = format!("SELECT {columns} FROM {}.{}.{}", sql::name(DATABASE), sql::name(schema), sql::name(name));
    let (sender, blocks) = sync_channel(AHEAD);
    let pushing = std::thread::spawn(move || {
        let pushed = copy_out(&connection, &query, Kind::SourceUnreadable, &mut Blocks(sender));
        // The connection ends before its hyperd may.
        drop((connection, hyperd));
        pushed
    });
    // No first block means that the query failed; the pushing side knows why.
    let Ok(block) = blocks.recv() else {
        return Err(joined(pushing).err().unwrap_or_else(|| Error::new(Kind::SourceUnreadable, "hyperd hands out nothing")));
    };
    let reader = StreamReader::try_new(BlockReader::new(blocks, block), None).wrap(Kind::SourceUnreadable, unreadable)?;
    let schema = Arc::new(named_zone(&reader.schema()));
    Ok(Opened {
        table: chosen.name.clone(),
        tables: all.iter().map(|t| t.name.clone()).collect(),
        schema: Arc::clone(&schema),
        rows: Some(chosen.rows),
        batches: Box::new(Rows { reader, schema, pushing: Some(pushing), left: chosen.rows }),
    })
}

fn choose<'a>(all: &'a [TableDescription], wanted: Option<&str>) -> Result<&'a TableDescription> {
    let names = || all.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
    let found: Vec<_> = match wanted {
        None => all.iter().collect(),
        Some(wanted) => {
            let short = |name: &str| name.split_once('.').is_some_and(|(_, short)| short == wanted);
            let exact: Vec<_> = all.iter().filter(|t| t.name == wanted).collect();
            if exact.is_empty() { all.iter().filter(|t| short(&t.name)).collect() } else { exact }
        }
    };
    match (found.as_slice(), wanted) {
        ([one], _) => Ok(one),
        ([], None) => Err(Error::new(Kind::SourceEmpty, "the extract has no table")),
        ([], Some(wanted)) => {
            Err(Error::new(Kind::UnknownName, format!("there is no table `{wanted}`")).help(format!("the file has {}", names())))
        }
        ([first, ..], _) => Err(Error::new(Kind::UnknownName, format!("the extract has several tables: {}", names()))
            .help(format!("name one behind the file: …#{}", first.name))),
    }
}

/// The schema with the one zone there is under its usual name; hyperd calls it `Utc`.
fn named_zone(schema: &Schema) -> Schema {
    let field = |field: &FieldRef| match field.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let data_type = DataType::Timestamp(*unit, Some("UTC".into()));
            Arc::new(field.as_ref().clone().with_data_type(data_type))
        }
        _ => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

/// The rows of a table while hyperd hands them out.
struct Rows {
    reader: StreamReader<BlockReader>,
    schema: SchemaRef,
    pushing: Option<JoinHandle<Result<()>>>,
    /// Rows still to come, as hyperd counted them.
    left: u64,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.next() {
            Some(Ok(batch)) => {
                self.left = self.left.saturating_sub(batch.num_rows() as u64);
                let columns = batch.columns().iter().zip(self.schema.fields());
                let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>();
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let named = columns.and_then(|c| RecordBatch::try_new_with_options(Arc::clone(&self.schema), c, &options));
                Some(named.wrap(Kind::SourceUnreadable, unreadable))
            }
            Some(Err(e)) => {
                // A stream that breaks off is a symptom; what hyperd said is the cause.
                let said = self.pushing.take().and_then(|pushing| joined(pushing).err());
                Some(Err(said.unwrap_or_else(|| Error::new(Kind::SourceUnreadable, unreadable()).because(e))))
            }
            None => match joined(self.pushing.take()?) {
                Err(e) => Some(Err(e)),
                Ok(()) if self.left > 0 => {
                    Some(Err(Error::new(Kind::SourceUnreadable, format!("{} rows of the table did not come", self.left))))
                }
                Ok(()) => None,
            },
        }
    }
}

fn joined(pushing: JoinHandle<Result<()>>) -> Result<()> {
    pushing.join().map_err(|_| Error::new(Kind::Unexpected, "the thread reading from hyperd panicked"))?
}

fn unreadable() -> String {
    "hyperd's answer is no Arrow stream".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_by_its_whole_name_or_its_own() {
        let all: Vec<_> = ["Extract.Orders", "Extract.People", "public.People"]
            .iter()
            .map(|name| TableDescription { name: (*name).to_owned(), rows: 0, columns: Vec::new() })
            .collect();
        assert_eq!(choose(&all, Some("Orders")).unwrap().name, "Extract.Orders");
        assert_eq!(choose(&all, Some("public.People")).unwrap().name, "public.People");
        assert_eq!(choose(&all[..1], None).unwrap().name, "Extract.Orders");
        for (several, wanted) in [(&all[..], None), (&all[..], Some("People")), (&all[..], Some("Nobody")), (&all[..0], None)] {
            assert!(choose(several, wanted).is_err());
        }
    }
}
