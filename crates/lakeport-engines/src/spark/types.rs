//! What each Spark type is in Arrow, as Spark Connect sends it, and how the awkward ones pass all the same.
//!
//! Measured with Spark 4.3, session zone UTC. Where a type does not pass by itself, an expression of Spark's takes its place
//! when the user's wish says so: `types.payload = "json"` sends a VARIANT through `to_json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use lakeport::error::{Error, Kind, Result};
use lakeport::types::{Verdict, Wish, walk};
use spark_connect_proto as proto;
use spark_connect_proto::data_type::{Kind as Spark, StructField};

/// Where Spark keeps the declared type of a text column: a JSON object with this key.
const DECLARED: &str = "__CHAR_VARCHAR_TYPE_STRING";
/// Digits of a second that microseconds hold.
const MICROS: i32 = 6;

/// The columns of a query as they come, and what has to be asked for in place of some.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) schema: SchemaRef,
    /// Column and expression, where the column does not pass by itself.
    pub(super) through: Vec<(String, String)>,
}

/// What becomes of one Spark type.
#[derive(Debug, Clone)]
struct Row {
    arrow: DataType,
    verdict: Verdict,
    /// Asked for in place of the column; `COLUMN` stands for its quoted name.
    through: Option<&'static str>,
    /// What to select where it is refused.
    instead: Option<&'static str>,
}

impl Row {
    fn exact(arrow: DataType) -> Self {
        Self { arrow, verdict: Verdict::Exact, through: None, instead: None }
    }
    fn refused(why: &str, instead: &'static str) -> Self {
        Self { verdict: Verdict::Refused(why.into()), instead: Some(instead), ..Self::exact(DataType::Null) }
    }
    fn through(arrow: DataType, expression: &'static str, why: &str) -> Self {
        Self { verdict: Verdict::Widened(why.into()), through: Some(expression), ..Self::exact(arrow) }
    }
}

/// The table: what a type becomes, given the wish for its column. Nested types are those of their parts.
fn row(kind: &Spark, wish: Option<&Wish>) -> Row {
    let time = |unit: TimeUnit, zone: bool| DataType::Timestamp(unit, zone.then(|| "UTC".into()));
    match kind {
        Spark::Null(_) => Row::exact(DataType::Null),
        Spark::Boolean(_) => Row::exact(DataType::Boolean),
        Spark::Byte(_) => Row::exact(DataType::Int8),
        Spark::Short(_) => Row::exact(DataType::Int16),
        Spark::Integer(_) => Row::exact(DataType::Int32),
        Spark::Long(_) => Row::exact(DataType::Int64),
        Spark::Float(_) => Row::exact(DataType::Float32),
        Spark::Double(_) => Row::exact(DataType::Float64),
        Spark::Decimal(d) => {
            let precision = u8::try_from(d.precision.unwrap_or(10)).unwrap_or(38);
            Row::exact(DataType::Decimal128(precision, i8::try_from(d.scale.unwrap_or(0)).unwrap_or(0)))
        }
        Spark::String(s) if s.collation.is_empty() || s.collation == "UTF8_BINARY" => Row::exact(DataType::Utf8),
        Spark::String(_) => Row::exact(DataType::Utf8),
        Spark::Char(_) | Spark::VarChar(_) => Row::exact(DataType::Utf8),
        Spark::Binary(_) => Row::exact(DataType::Binary),
        Spark::Date(_) => Row::exact(DataType::Date32),
        Spark::Time(t) if t.precision.unwrap_or(MICROS) <= MICROS => Row::exact(DataType::Time64(TimeUnit::Microsecond)),
        Spark::Time(_) => Row::exact(DataType::Time64(TimeUnit::Nanosecond)),
        Spark::Timestamp(_) => Row::exact(time(TimeUnit::Microsecond, true)),
        Spark::TimestampNtz(_) => Row::exact(time(TimeUnit::Microsecond, false)),
        Spark::DayTimeInterval(_) => Row::exact(DataType::Duration(TimeUnit::Microsecond)),
        Spark::YearMonthInterval(_) => Row::exact(DataType::Interval(IntervalUnit::YearMonth)),
        Spark::CalendarInterval(_) => Row::exact(DataType::Interval(IntervalUnit::MonthDayNano)),
        // What is left out is not asked for.
        Spark::Variant(_) | Spark::Geometry(_) | Spark::Geography(_) | Spark::Udt(_) if wish == Some(&Wish::Drop) => {
            Row::through(DataType::Utf8, "cast(null as string)", "left out")
        }
        Spark::Variant(_) if wish == Some(&Wish::Json) => Row::through(DataType::Utf8, "to_json(COLUMN)", "JSON text"),
        Spark::Variant(_) => {
            Row::refused("VARIANT has no one type; types.COLUMN = \"json\" sends it as JSON text", "to_json(COLUMN)")
        }
        Spark::Geometry(_) | Spark::Geography(_) if matches!(wish, Some(Wish::Type(_))) => {
            Row::through(DataType::Binary, "st_asbinary(COLUMN)", "well-known binary, which has no SRID")
        }
        Spark::Geometry(_) => Row::refused(
            "GEOMETRY carries an SRID; types.COLUMN = \"binary\" or \"geography\" sends it without, as well-known binary",
            "st_asbinary(COLUMN)",
        ),
        Spark::Geography(_) => Row::refused(
            "GEOGRAPHY carries an SRID; types.COLUMN = \"binary\" or \"geography\" sends it without, as well-known binary",
            "st_asbinary(COLUMN)",
        ),
        Spark::TimestampNtzNanos(_) | Spark::TimestampLtzNanos(_) => {
            Row::refused("Spark sends no timestamps of nanoseconds", "cast(COLUMN as string)")
        }
        Spark::Udt(_) => Row::refused("a type of a user's own", "COLUMN.PART"),
        // Nested types are walked into; what is newer than this has no row.
        _ => Row::refused("a type newer than this Lakeport", "cast(COLUMN as string)"),
    }
}

/// The Arrow schema of an analysed query, given the wishes for its columns.
///
/// # Errors
/// `TypeRefused` with the column and the expression to select in its place.
pub(super) fn columns(answer: &proto::DataType, wishes: &BTreeMap<String, Wish>) -> Result<Columns> {
    let Some(Spark::Struct(rows)) = &answer.kind else {
        return Err(Error::new(Kind::Unexpected, "Spark describes the result as something that is no table"));
    };
    let mut through = Vec::new();
    let fields = rows.fields.iter().map(|f| {
        let (arrow, expression) = arrow(f.data_type.as_ref(), &f.name, wishes.get(&f.name))?;
        let mut field = Field::new(&f.name, arrow, f.nullable);
        if let Some(declared) = declared(f) {
            field.metadata_mut().insert(walk::DECLARED.into(), declared);
        }
        if let Some(expression) = expression {
            if wishes.get(&f.name) == Some(&Wish::Json) {
                field.metadata_mut().insert(walk::EXTENSION.into(), walk::JSON.into());
            }
            // Spark does not promise that an expression is never NULL.
            field.set_nullable(true);
            through.push((f.name.clone(), expression));
        }
        Ok(field)
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Ok(Columns { schema: Arc::new(Schema::new(fields)), through })
}

/// `varchar(7)`, where the table that the column comes from declares it so.
fn declared(field: &StructField) -> Option<String> {
    let metadata: serde_json::Value = serde_json::from_str(field.metadata.as_deref()?).ok()?;
    let declared = metadata.get(DECLARED)?.as_str()?;
    (declared.starts_with("char(") || declared.starts_with("varchar(")).then(|| declared.to_owned())
}

fn fields(all: &[StructField], parent: &str) -> Result<Fields> {
    let field = |f: &StructField| {
        let (arrow, _) = arrow(f.data_type.as_ref(), &format!("{parent}.{}", f.name), None)?;
        Ok(Field::new(&f.name, arrow, f.nullable))
    };
    all.iter().map(field).collect()
}

/// The Arrow type of a column, and the expression that takes its place.
fn arrow(data_type: Option<&proto::DataType>, column: &str, wish: Option<&Wish>) -> Result<(DataType, Option<String>)> {
    let inner = |t: Option<&proto::DataType>| Ok::<_, Error>(arrow(t, column, None)?.0);
    let Some(kind) = data_type.and_then(|t| t.kind.as_ref()) else {
        return Err(Error::new(Kind::TypeRefused, format!("column `{column}` has no type")).at("column", column));
    };
    let nested = match kind {
        Spark::Array(a) => DataType::List(Arc::new(Field::new("element", inner(a.element_type.as_deref())?, a.contains_null))),
        Spark::Map(m) => {
            let entries = Fields::from(vec![
                Field::new("key", inner(m.key_type.as_deref())?, false),
                Field::new("value", inner(m.value_type.as_deref())?, m.value_contains_null),
            ]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        Spark::Struct(s) => DataType::Struct(fields(&s.fields, column)?),
        _ => {
            let row = row(kind, wish);
            let quoted = format!("`{}`", column.replace('`', "``"));
            if let Verdict::Refused(why) = row.verdict {
                let instead = row.instead.unwrap_or("cast(COLUMN as string)").replace("COLUMN", &quoted);
                return Err(Error::new(Kind::TypeRefused, format!("column `{column}` does not pass through Spark Connect"))
                    .because(why.replace("COLUMN", column))
                    .at("column", column)
                    .help(format!("select {instead} as {quoted} in --sql")));
            }
            return Ok((row.arrow, row.through.map(|t| t.replace("COLUMN", &quoted))));
        }
    };
    Ok((nested, None))
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use proto::data_type as spark;

    fn of(kind: Spark) -> proto::DataType {
        proto::DataType { kind: Some(kind) }
    }

    fn table(fields: Vec<StructField>) -> proto::DataType {
        of(Spark::Struct(spark::Struct { fields, ..Default::default() }))
    }

    fn field(name: &str, kind: Spark) -> StructField {
        StructField { name: name.into(), data_type: Some(of(kind)), nullable: false, metadata: None }
    }

    /// One of each, by its name in Spark's SQL.
    fn every_type() -> Vec<(&'static str, Spark, &'static str)> {
        vec![
            ("void", Spark::Null(Default::default()), ""),
            ("boolean", Spark::Boolean(Default::default()), ""),
            ("tinyint", Spark::Byte(Default::default()), ""),
            ("smallint", Spark::Short(Default::default()), ""),
            ("int", Spark::Integer(Default::default()), ""),
            ("bigint", Spark::Long(Default::default()), ""),
            ("float", Spark::Float(Default::default()), ""),
            ("double", Spark::Double(Default::default()), ""),
            ("decimal(38,10)", Spark::Decimal(spark::Decimal { precision: Some(38), scale: Some(10), ..Default::default() }), ""),
            ("string", Spark::String(Default::default()), ""),
            (
                "string collate X",
                Spark::String(spark::String { collation: "UNICODE_CI".into(), ..Default::default() }),
                "the collation stays behind",
            ),
            (
                "char(n), varchar(n)",
                Spark::VarChar(Default::default()),
                "a length that a table declares goes along; a format that has use for it takes it",
            ),
            ("binary", Spark::Binary(Default::default()), ""),
            ("date", Spark::Date(Default::default()), ""),
            (
                "time(0) to time(6)",
                Spark::Time(Default::default()),
                "Spark 4.1 and later; Lakeport turns `spark.sql.timeType.enabled` on for its session",
            ),
            ("time(7) to time(9)", Spark::Time(spark::Time { precision: Some(9), ..Default::default() }), ""),
            ("timestamp", Spark::Timestamp(Default::default()), "an instant"),
            ("timestamp_ntz", Spark::TimestampNtz(Default::default()), "without a zone"),
            ("timestamp(7) to timestamp(9)", Spark::TimestampLtzNanos(Default::default()), ""),
            ("interval day to second", Spark::DayTimeInterval(Default::default()), ""),
            ("interval year to month", Spark::YearMonthInterval(Default::default()), ""),
            ("interval", Spark::CalendarInterval(Default::default()), ""),
            ("variant", Spark::Variant(Default::default()), ""),
            ("geometry(s)", Spark::Geometry(Default::default()), ""),
            ("geography(s)", Spark::Geography(Default::default()), ""),
            ("user-defined", Spark::Udt(Default::default()), ""),
        ]
    }

    #[test]
    fn the_docs_page_is_the_table() {
        let mut page = String::from(
            "# What each Spark type becomes\n\nMade by `cargo test` from `spark/types.rs`; do not edit. `LAKEPORT_BLESS=1 cargo test -p lakeport-engines` writes it anew.\n\n\
             This is the way from the cluster to Lakeport; what becomes of the Arrow type then is in the table of the format. `array`, `map` and \
             `struct` arrive as List, Map and Struct of their parts. Two columns of one name are refused: `select a as x, b as y`.\n\n\
             | Spark | Arrow | verdict | by stage | select instead | note |\n|---|---|---|---|---|---|\n",
        );
        let mut line = |name: &str, row: &Row, note: &str| {
            let verdict = match row.verdict.why() {
                Some(why) => format!("{}: {why}", row.verdict.name()),
                None => row.verdict.name().to_owned(),
            };
            let refused = matches!(row.verdict, Verdict::Refused(_));
            let arrow = if refused { "—".to_owned() } else { row.arrow.to_string() };
            let stage = if !refused && stages(&Schema::new(vec![Field::new("x", row.arrow.clone(), true)])).is_ok() {
                "yes"
            } else {
                "no"
            };
            let instead = row.instead.map(|i| format!("`{i}`")).unwrap_or_default();
            let _ = writeln!(page, "| {name} | {arrow} | {verdict} | {stage} | {instead} | {note} |");
        };
        for (name, kind, note) in every_type() {
            let wishes: &[(&str, Wish)] = match kind {
                Spark::Variant(_) => &[("json", Wish::Json)],
                Spark::Geometry(_) | Spark::Geography(_) => &[("binary", Wish::Type(String::new()))],
                _ => &[],
            };
            line(name, &row(&kind, None), note);
            for (wish, wished) in wishes {
                line(&format!("{name} as `{wish}`"), &row(&kind, Some(wished)), "");
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/types-spark.md");
        if std::env::var_os("LAKEPORT_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            page,
            "run LAKEPORT_BLESS=1 cargo test -p lakeport-engines"
        );
    }

    #[test]
    fn wishes_send_through_an_expression_what_does_not_pass_by_itself() {
        let answer = table(vec![field("a", Spark::Long(Default::default())), field("v`w", Spark::Variant(Default::default()))]);
        let refused = columns(&answer, &BTreeMap::new()).unwrap_err();
        assert!(refused.help_line().contains("select to_json(`v``w`) as `v``w`"), "{}", refused.help_line());
        let wishes = BTreeMap::from([("v`w".to_owned(), Wish::Json)]);
        let found = columns(&answer, &wishes).unwrap();
        assert_eq!(found.through, [("v`w".to_owned(), "to_json(`v``w`)".to_owned())]);
        assert_eq!(found.schema.field(1).data_type(), &DataType::Utf8);
        assert!(found.schema.field(1).is_nullable() && !found.schema.field(0).is_nullable());
    }

    #[test]
    fn declared_lengths_go_along() {
        let mut varchar = field("v", Spark::String(Default::default()));
        varchar.metadata = Some("{\"__CHAR_VARCHAR_TYPE_STRING\":\"varchar(7)\"}".into());
        let found = columns(&table(vec![varchar]), &BTreeMap::new()).unwrap();
        assert_eq!(found.schema.field(0).metadata()[walk::DECLARED], "varchar(7)");
    }
}
