//! What a `.hyper` file, or a plain read of Parquet, really holds: asked of `hyperd`.

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::RecordBatch;
use arrow::compute::cast;
use hyperdb_api::{Connection, Row};

use super::sql;
use crate::convert::{ColumnDescription, TableDescription};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::types::Mapping;
use crate::verify::{Accumulator, ColumnPrint, Fingerprint, Measure, Verify, measure, show_float};

/// Columns measured in one query; a table of thousands would else be one statement of megabytes.
const COLUMNS_AT_ONCE: usize = 64;

/// Takes the fingerprint of `from` — a table, or a SELECT in parentheses — whose columns are those of the mapping.
pub(super) fn fingerprint(connection: &Connection, from: &str, mapping: &Mapping, verify: Verify) -> Result<Fingerprint> {
    let unreadable = || format!("hyperd cannot read table `{}`", mapping.table);
    if verify < Verify::Fingerprint {
        let rows = connection.query_count(&format!("SELECT COUNT(*) FROM {from} AS t")).wrap(Kind::VerifyFailed, unreadable)?;
        return Ok(Fingerprint { rows: u64::try_from(rows).unwrap_or(0), columns: Vec::new() });
    }
    let mut print = Fingerprint::default();
    for columns in mapping.columns.chunks(COLUMNS_AT_ONCE) {
        let row = connection
            .fetch_one(format!("SELECT {} FROM {from} AS t", sql::measures(columns)))
            .wrap(Kind::VerifyFailed, unreadable)?;
        print.rows = number(&row, 0)?;
        for (i, column) in columns.iter().enumerate() {
            print.columns.push(one(&row, 1 + i * 5, &column.name, measure(column), print.rows).at("column", &column.name)?);
        }
    }
    if verify == Verify::Full {
        for (column, hash) in print.columns.iter_mut().zip(hashes(connection, from, mapping)?.columns) {
            column.hash = hash.hash;
        }
    }
    Ok(print)
}

fn number(row: &Row, index: usize) -> Result<u64> {
    row.get_string(index)
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| Error::new(Kind::VerifyFailed, "hyperd answered a count with something else"))
}

/// Five values of the answer as one column's print, in the canonical forms of the other side.
fn one(row: &Row, at: usize, name: &str, measure: Measure, rows: u64) -> Result<ColumnPrint> {
    let values = number(row, at)?;
    let canonical = |text: String| -> Result<String> {
        match measure {
            Measure::Decimal(_, scale) => unscaled(&text, scale),
            _ => Ok(text),
        }
    };
    let extreme = |index: usize| match measure {
        Measure::Float => Ok(row.get_f64(index).map(show_float)),
        _ => row.get_string(index).map(canonical).transpose(),
    };
    let (min, max) = (extreme(at + 2)?, extreme(at + 3)?);
    let sum = match (measure, row.get_string(at + 4)) {
        (Measure::Opaque, _) => None,
        // A sum over nothing is 0 on the other side.
        (_, None) => Some("0".to_owned()),
        (Measure::Decimal(_, scale), Some(text)) => Some(unscaled(&text, scale)?),
        (_, Some(text)) => Some(text),
    };
    let nans = row.get_string(at + 1).and_then(|t| t.parse().ok()).unwrap_or(0);
    Ok(ColumnPrint { name: name.to_owned(), nulls: rows - values, nans, min, max, sum, hash: None })
}

/// `-1.50` with scale 3 as `-1500`.
fn unscaled(text: &str, scale: i8) -> Result<String> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |d| ("-", d));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = usize::from(scale.unsigned_abs());
    let kept = fraction.trim_end_matches('0');
    if kept.len() > scale || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(Error::new(Kind::VerifyFailed, format!("hyperd answered `{text}` for a decimal of scale {scale}")));
    }
    let all = format!("{whole}{kept:0<scale$}");
    let all = all.trim_start_matches('0');
    Ok(if all.is_empty() { "0".to_owned() } else { format!("{sign}{all}") })
}

/// Reads every value and hashes it, in bounded memory.
fn hashes(connection: &Connection, from: &str, mapping: &Mapping) -> Result<Fingerprint> {
    let columns: Vec<_> = mapping.columns.iter().map(readable).collect();
    let query = format!("SELECT {} FROM {from} AS t", columns.join(", "));
    let mut all = Accumulator::new(mapping, Verify::Full);
    stream(connection, &query, &mut |batch| {
        let columns = batch
            .columns()
            .iter()
            .zip(&mapping.columns)
            .map(|(array, column)| cast(array, &column.physical))
            .collect::<Result<Vec<_>, _>>()
            .wrap(Kind::VerifyFailed, || "hyperd answers another type than was declared".into())?;
        let batch = RecordBatch::try_from_iter(mapping.columns.iter().map(|c| c.name.as_str()).zip(columns))
            .wrap(Kind::VerifyFailed, || "hyperd answers other columns than were asked for".into())?;
        all.add(&batch);
        Ok(())
    })?;
    Ok(all.finish())
}

fn readable(column: &crate::types::ColumnMapping) -> String {
    let name = sql::name(&column.name);
    if column.target_type == "GEOGRAPHY" { format!("CAST({name} AS TEXT) AS {name}") } else { name }
}

/// Blocks that hyperd is ahead of whoever reads them.
pub(super) const AHEAD: usize = 8;

/// Streams a query's result as Arrow batches; at most a few blocks are in memory.
pub(super) fn stream(connection: &Connection, query: &str, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
    let (sender, blocks) = sync_channel::<Vec<u8>>(AHEAD);
    std::thread::scope(|scope| {
        // The client pushes and Arrow's reader pulls; a channel of bounded length joins them.
        let pushing = scope.spawn(move || copy_out(connection, query, Kind::VerifyFailed, &mut Blocks(sender)));
        let pulled = pull(blocks, each);
        let pushed = pushing.join().map_err(|_| Error::new(Kind::Unexpected, "the thread reading from hyperd panicked"))?;
        // When we stopped pulling, the push fails for that reason only.
        pulled?;
        pushed
    })
}

/// Has hyperd write a query's result as an Arrow stream; `kind` is what its failure means.
pub(super) fn copy_out(connection: &Connection, query: &str, kind: Kind, sink: &mut Blocks) -> Result<()> {
    let client =
        connection.tcp_client().ok_or_else(|| Error::new(Kind::Unexpected, "the connection to hyperd is no TCP connection"))?;
    let copied = client.copy_out_to_writer(&format!("COPY ({query}) TO STDOUT WITH (FORMAT ARROWSTREAM)"), sink);
    copied.map(drop).wrap(kind, || "hyperd cannot read the table".into())
}

fn pull(blocks: Receiver<Vec<u8>>, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
    let unreadable = || "hyperd's answer is no Arrow stream".to_owned();
    // No first block means that the query failed; the pushing side knows why.
    let Ok(block) = blocks.recv() else { return Ok(()) };
    let batches =
        arrow::ipc::reader::StreamReader::try_new(BlockReader::new(blocks, block), None).wrap(Kind::VerifyFailed, unreadable)?;
    for batch in batches {
        each(batch.wrap(Kind::VerifyFailed, unreadable)?)?;
    }
    Ok(())
}

/// Where the pushing side puts its blocks.
pub(super) struct Blocks(pub(super) SyncSender<Vec<u8>>);

impl std::io::Write for Blocks {
    fn write(&mut self, block: &[u8]) -> std::io::Result<usize> {
        self.0.send(block.to_vec()).map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(block.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The blocks as one stream of bytes.
pub(super) struct BlockReader {
    blocks: Receiver<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
}

impl BlockReader {
    /// Begins with a block that was taken already.
    pub(super) fn new(blocks: Receiver<Vec<u8>>, block: Vec<u8>) -> Self {
        Self { blocks, block, at: 0 }
    }
}

impl Read for BlockReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.block.len() {
            match self.blocks.recv() {
                Ok(block) => (self.block, self.at) = (block, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = out.len().min(self.block.len() - self.at);
        out[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// The user's tables of an opened database, with columns and rows; `path` is for errors.
pub(super) fn tables(connection: &Connection, database: &str, path: &Path) -> Result<Vec<TableDescription>> {
    // Asked of the catalog itself: the client's helpers refuse names of more than 63 bytes.
    let file = sql::name(database);
    let catalog = format!(
        "SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'n' ELSE 'y' END \
         FROM {file}.pg_catalog.pg_attribute a JOIN {file}.pg_catalog.pg_class c ON a.attrelid = c.oid \
         JOIN {file}.pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE a.attnum > 0 AND c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'pg_temp', 'information_schema') \
         ORDER BY n.nspname, c.relname, a.attnum"
    );
    let unreadable = || format!("hyperd cannot read the catalog of {}", path.display());
    let mut all: Vec<TableDescription> = Vec::new();
    let mut last = (String::new(), String::new());
    for row in connection.fetch_all(&catalog).wrap(Kind::SourceUnreadable, unreadable)? {
        let text = |i: usize| row.get_string(i).unwrap_or_default();
        let here = (text(0), text(1));
        if all.is_empty() || here != last {
            let from = format!("{file}.{}.{}", sql::name(&here.0), sql::name(&here.1));
            let rows =
                connection.query_count(&format!("SELECT COUNT(*) FROM {from}")).wrap(Kind::SourceUnreadable, unreadable)?;
            let name = format!("{}.{}", here.0, here.1);
            all.push(TableDescription { name, rows: u64::try_from(rows).unwrap_or(0), columns: Vec::new() });
            last = here;
        }
        if let Some(table) = all.last_mut() {
            // hyperd's internal name for geographies, and PostgreSQL's for bytes.
            let data_type = match text(3).as_str() {
                "tabgeography" => "geography".to_owned(),
                "bytea" => "bytes".to_owned(),
                other => other.to_owned(),
            };
            table.columns.push(ColumnDescription { name: text(2), data_type, nullable: text(4) == "y" });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_compared_unscaled() {
        assert_eq!(unscaled("-1.5", 3).unwrap(), "-1500");
        assert_eq!(unscaled("0.00", 2).unwrap(), "0");
        assert_eq!(unscaled("12.3400", 2).unwrap(), "1234");
        assert!(unscaled("1.234", 2).is_err());
    }
}
