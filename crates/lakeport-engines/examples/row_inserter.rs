//! A peer for `make bench`: TPC-H lineitem into a .hyper file row by row, through the inserter of the vendor's Rust client.
//!
//! `row_inserter SOURCE.parquet TARGET.hyper`; hyperd is found as Lakeport finds it.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Int32Type, Int64Type};
use hyperdb_api::{Connection, CreateMode, Date, Inserter, Numeric, SqlType, TableDefinition};
use lakeport::convert::hyper::process::{Hyperd, Watchers};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (source, target) = arguments.next().zip(arguments.next()).ok_or("row_inserter SOURCE.parquet TARGET.hyper")?;
    let batches = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(source)?)?.build()?;
    let hyperd = Hyperd::start(1 << 30, 3, Watchers::default())?;
    let connection: Connection = hyperd.connect(Path::new(&target), CreateMode::CreateAndReplace)?;
    connection.execute_command("CREATE SCHEMA \"Extract\"")?;
    let schema = arrow::record_batch::RecordBatchReader::schema(&batches);
    let mut table = TableDefinition::from("Extract").with_schema("Extract");
    for field in schema.fields() {
        let kind = match field.data_type() {
            DataType::Int64 => SqlType::big_int(),
            DataType::Int32 => SqlType::int(),
            DataType::Decimal128(p, s) => SqlType::numeric(u32::from(*p), u32::from(s.unsigned_abs())),
            DataType::Date32 => SqlType::date(),
            DataType::Utf8View | DataType::Utf8 => SqlType::text(),
            other => return Err(format!("{other} is no type of lineitem").into()),
        };
        table = table.add_nullable_column(field.name(), kind);
    }
    hyperdb_api::Catalog::new(&connection).create_table(&table)?;
    let mut inserter = Inserter::new(&connection, &table)?;
    for batch in batches {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            for column in batch.columns() {
                match column.data_type() {
                    _ if column.is_null(row) => inserter.add_null()?,
                    DataType::Int64 => inserter.add_i64(column.as_primitive::<Int64Type>().value(row))?,
                    DataType::Int32 => inserter.add_i32(column.as_primitive::<Int32Type>().value(row))?,
                    DataType::Decimal128(_, s) => {
                        let value = column.as_primitive::<Decimal128Type>().value(row);
                        inserter.add_numeric(Numeric::new(value, s.unsigned_abs()))?;
                    }
                    // The client counts days from 2000, Arrow from 1970.
                    DataType::Date32 => {
                        inserter.add_date(Date::from_days(column.as_primitive::<Date32Type>().value(row) - 10_957))?
                    }
                    DataType::Utf8View => inserter.add_str(column.as_string_view().value(row))?,
                    _ => inserter.add_str(column.as_string::<i32>().value(row))?,
                }
            }
            inserter.end_row()?;
        }
    }
    inserter.execute()?;
    Ok(())
}
