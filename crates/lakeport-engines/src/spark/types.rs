//! What each Spark type is in Arrow, as Spark Connect sends it (measured with Spark 4.3, session zone UTC).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use lakeport::error::{Error, Kind, Result};
use spark_connect_proto as proto;
use spark_connect_proto::data_type::{Kind as Spark, StructField};

/// The Arrow schema of an analysed query.
pub(super) fn schema(answer: &proto::DataType) -> Result<SchemaRef> {
    let Some(Spark::Struct(rows)) = &answer.kind else {
        return Err(Error::new(Kind::Unexpected, "Spark describes the result as something that is no table"));
    };
    Ok(Arc::new(Schema::new(fields(&rows.fields, None)?)))
}

fn fields(all: &[StructField], parent: Option<&str>) -> Result<Fields> {
    all.iter()
        .map(|f| {
            let path = parent.map_or_else(|| f.name.clone(), |p| format!("{p}.{}", f.name));
            Ok(Field::new(&f.name, arrow(f.data_type.as_ref(), &path)?, f.nullable))
        })
        .collect()
}

fn arrow(data_type: Option<&proto::DataType>, column: &str) -> Result<DataType> {
    let refused = |what: &str, instead: &str| {
        Err(Error::new(Kind::TypeRefused, format!("column `{column}` is {what}, which does not pass through Spark Connect"))
            .at("column", column)
            .help(format!("select {instead} as `{column}` in --sql")))
    };
    let inner = |t: Option<&proto::DataType>| arrow(t, column);
    let Some(kind) = data_type.and_then(|t| t.kind.as_ref()) else { return refused("of no type", "another expression") };
    Ok(match kind {
        Spark::Null(_) => DataType::Null,
        Spark::Boolean(_) => DataType::Boolean,
        Spark::Byte(_) => DataType::Int8,
        Spark::Short(_) => DataType::Int16,
        Spark::Integer(_) => DataType::Int32,
        Spark::Long(_) => DataType::Int64,
        Spark::Float(_) => DataType::Float32,
        Spark::Double(_) => DataType::Float64,
        Spark::Decimal(d) => {
            let precision = u8::try_from(d.precision.unwrap_or(10)).unwrap_or(38);
            DataType::Decimal128(precision, i8::try_from(d.scale.unwrap_or(0)).unwrap_or(0))
        }
        Spark::String(_) | Spark::Char(_) | Spark::VarChar(_) => DataType::Utf8,
        Spark::Binary(_) => DataType::Binary,
        Spark::Date(_) => DataType::Date32,
        Spark::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Spark::TimestampNtz(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        Spark::DayTimeInterval(_) => DataType::Duration(TimeUnit::Microsecond),
        Spark::YearMonthInterval(_) => DataType::Interval(IntervalUnit::YearMonth),
        Spark::CalendarInterval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        Spark::Array(a) => DataType::List(Arc::new(Field::new("element", inner(a.element_type.as_deref())?, a.contains_null))),
        Spark::Map(m) => {
            let entries = Fields::from(vec![
                Field::new("key", inner(m.key_type.as_deref())?, false),
                Field::new("value", inner(m.value_type.as_deref())?, m.value_contains_null),
            ]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        Spark::Struct(s) => DataType::Struct(fields(&s.fields, Some(column))?),
        Spark::Time(_) => return refused("TIME", &format!("cast(`{column}` as string)")),
        Spark::Variant(_) => return refused("VARIANT", &format!("to_json(`{column}`)")),
        Spark::Geometry(_) | Spark::Geography(_) => return refused("a geometry", &format!("st_asbinary(`{column}`)")),
        Spark::Udt(_) => return refused("of a user's own type", "its parts"),
        _ => return refused("of a type newer than this Lakeport", &format!("cast(`{column}` as string)")),
    })
}

/// Whether Spark's Parquet files hold every column so that it is read back as the same type.
pub(super) fn stages(schema: &Schema) -> std::result::Result<(), String> {
    fn plain(data_type: &DataType) -> bool {
        match data_type {
            DataType::Null | DataType::Interval(_) | DataType::Duration(_) => false,
            DataType::List(f) | DataType::Map(f, _) => plain(f.data_type()),
            DataType::Struct(fields) => fields.iter().all(|f| plain(f.data_type())),
            _ => true,
        }
    }
    match schema.fields().iter().find(|f| !plain(f.data_type())) {
        Some(f) => Err(format!("column `{}` is {}, which Parquet does not keep", f.name(), f.data_type())),
        None => Ok(()),
    }
}
