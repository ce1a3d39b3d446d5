//! The SQL that Lakeport speaks to `hyperd`: names and values quoted, tables declared, plain reads and measures spelled out.

use std::fmt::Write;

use super::process::DATABASE;
use crate::convert::ColumnDescription;
use crate::source::{Comparison, Literal, PlainScan, PlainSource, Predicate};
use crate::types::{ColumnMapping, Mapping};
use crate::verify::{MODULUS, Measure, SUMMED_DIGITS, TEXT_PREFIX, measure};

/// The schema every table lies in; what Tableau looks for.
pub(crate) const SCHEMA: &str = "Extract";

/// A quoted identifier.
pub(crate) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A column in a SELECT list; geographies as text, for nobody else reads their bytes and they have no equality of their own.
pub(super) fn readable(column: &ColumnDescription) -> String {
    let name = name(&column.name);
    if column.data_type == "geography" { format!("CAST({name} AS TEXT) AS {name}") } else { name }
}

/// A quoted text constant.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// `"file"."Extract"."orders"`.
pub(super) fn table(mapping: &Mapping) -> String {
    in_schema(&mapping.table)
}

fn in_schema(table: &str) -> String {
    format!("{}.{}.{}", name(DATABASE), name(SCHEMA), name(table))
}

/// The statements that declare the tables and their keys, in an order in which foreign keys find what they refer to.
pub(super) fn declare(tables: &[&Mapping]) -> Vec<String> {
    let mut all = vec![format!("CREATE SCHEMA {}.{}", name(DATABASE), name(SCHEMA))];
    for mapping in tables {
        let columns: Vec<_> = mapping
            .columns
            .iter()
            .map(|c| format!("{} {}{}", name(&c.name), c.target_type, if c.nullable { "" } else { " NOT NULL" }))
            .collect();
        all.push(format!("CREATE TABLE {} ({})", table(mapping), columns.join(", ")));
    }
    let list = |names: &[String]| names.iter().map(|n| name(n)).collect::<Vec<_>>().join(", ");
    for mapping in tables.iter().filter(|m| !m.keys.primary.is_empty()) {
        all.push(format!("ALTER TABLE {} ADD ASSUMED PRIMARY KEY ({})", table(mapping), list(&mapping.keys.primary)));
    }
    for mapping in tables {
        for key in &mapping.keys.foreign {
            all.push(format!(
                "ALTER TABLE {} ADD ASSUMED FOREIGN KEY ({}) REFERENCES {} ({})",
                table(mapping),
                list(&key.columns),
                in_schema(&key.table),
                list(&key.references)
            ));
        }
    }
    all
}

/// One group of a plain read as a SELECT whose columns have the mapping's types and names.
pub(super) fn plain_select(mapping: &Mapping, scan: &PlainScan, group: usize) -> Option<String> {
    let files = scan.groups.get(group)?;
    let paths: Vec<_> = files.files.iter().map(|f| text(&f.to_string_lossy())).collect();
    let columns: Vec<_> = mapping
        .columns
        .iter()
        .map(|column| {
            let plain = scan.columns.get(*column.path.first()?)?;
            let value = source(&plain.source, &files.values)?;
            Some(format!("CAST({value} AS {}) AS {}", column.target_type, name(&column.name)))
        })
        .collect::<Option<_>>()?;
    let mut sql = format!("SELECT {} FROM external(ARRAY[{}], FORMAT => 'parquet')", columns.join(", "), paths.join(", "));
    if let Some(filter) = &scan.filter {
        let _ = write!(sql, " WHERE {}", predicate(filter, &files.values)?);
    }
    Some(sql)
}

fn source(source: &PlainSource, values: &[Literal]) -> Option<String> {
    match source {
        PlainSource::File(column) => Some(name(column)),
        PlainSource::Partition(index) => values.get(*index).map(literal),
    }
}

fn predicate(filter: &Predicate, values: &[Literal]) -> Option<String> {
    Some(match filter {
        Predicate::Compare(column, comparison, value) => {
            let operator = match comparison {
                Comparison::Eq => "=",
                Comparison::NotEq => "<>",
                Comparison::Lt => "<",
                Comparison::LtEq => "<=",
                Comparison::Gt => ">",
                Comparison::GtEq => ">=",
            };
            format!("({} {operator} {})", source(column, values)?, literal(value))
        }
        Predicate::IsNull(column) => format!("({} IS NULL)", source(column, values)?),
        Predicate::IsNotNull(column) => format!("({} IS NOT NULL)", source(column, values)?),
        Predicate::In(column, list) => {
            let list: Vec<_> = list.iter().map(literal).collect();
            format!("({} IN ({}))", source(column, values)?, list.join(", "))
        }
        Predicate::And(a, b) => format!("({} AND {})", predicate(a, values)?, predicate(b, values)?),
        Predicate::Or(a, b) => format!("({} OR {})", predicate(a, values)?, predicate(b, values)?),
        Predicate::Not(a) => format!("(NOT {})", predicate(a, values)?),
    })
}

fn literal(value: &Literal) -> String {
    match value {
        Literal::Null => "NULL".to_owned(),
        Literal::Bool(true) => "TRUE".to_owned(),
        Literal::Bool(false) => "FALSE".to_owned(),
        // Quoted, because the least integer is no constant: its digits alone overflow before the minus is read.
        Literal::Int(v) => format!("CAST('{v}' AS BIGINT)"),
        Literal::Decimal(v, scale) => decimal_literal(*v, *scale),
        Literal::Text(v) => text(v),
        Literal::Date(days) => format!("(DATE '1970-01-01' + {days})"),
        Literal::Timestamp(micros) => {
            let (days, rest) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
            let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
            format!("(CAST(DATE '1970-01-01' + {days} AS TIMESTAMP) + INTERVAL '{seconds}.{fraction:06} seconds')")
        }
    }
}

fn decimal_literal(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    // At least as many digits as the value has; 38 always hold it.
    format!("CAST('{sign}{whole}.{fraction}' AS NUMERIC(38,{scale}))")
}

/// The columns of one measuring query: per column five values: count, NaNs, least, greatest, sum.
pub(super) fn measures(columns: &[ColumnMapping]) -> String {
    let mut list = vec!["CAST(COUNT(*) AS TEXT)".to_owned()];
    for column in columns {
        let c = name(&column.name);
        let none = || "CAST(NULL AS TEXT)".to_owned();
        let whole = |expression: &str| {
            [
                format!("CAST(MIN({expression}) AS TEXT)"),
                format!("CAST(MAX({expression}) AS TEXT)"),
                format!("CAST(SUM(CAST({expression} AS NUMERIC(38,0))) AS TEXT)"),
            ]
        };
        let mut nans = none();
        let [min, max, sum] = match measure(column) {
            Measure::Bool => [none(), none(), format!("CAST(SUM(CASE WHEN {c} THEN 1 ELSE 0 END) AS TEXT)")],
            Measure::Int => whole(&c),
            Measure::Decimal(precision, scale) => {
                let summed = if precision > SUMMED_DIGITS {
                    format!("MOD(CAST({c} AS NUMERIC(38,{scale})), {})", decimal_literal(MODULUS, scale))
                } else {
                    format!("CAST({c} AS NUMERIC(38,{scale}))")
                };
                [format!("CAST(MIN({c}) AS TEXT)"), format!("CAST(MAX({c}) AS TEXT)"), format!("CAST(SUM({summed}) AS TEXT)")]
            }
            Measure::Float => {
                let nan = "CAST('NaN' AS DOUBLE PRECISION)";
                nans = format!("CAST(COUNT(CASE WHEN {c} = {nan} THEN 1 END) AS TEXT)");
                // NaN sorts above everything, so it must not take part; powers of two scale without rounding.
                let real = format!("CASE WHEN {c} = {nan} THEN NULL ELSE {c} END");
                let scaled = format!(
                    "CASE WHEN {c} > -1 AND {c} < 1 THEN CAST(TRUNC({c} * 1152921504606846976.0::double precision) AS BIGINT) \
                     WHEN {c} > -2147483648 AND {c} < 2147483648 THEN CAST(TRUNC({c} * 2147483648.0::double precision) AS BIGINT) \
                     WHEN {c} > -4611686018427387904 AND {c} < 4611686018427387904 THEN CAST(TRUNC({c}) AS BIGINT) ELSE 0 END"
                );
                // Not as text: hyperd prints 15 digits, two less than a double has.
                [format!("MIN({real})"), format!("MAX({real})"), format!("CAST(SUM(CAST({scaled} AS NUMERIC(38,0))) AS TEXT)")]
            }
            // The start of the least text is the least start; cut once, not for each row.
            Measure::Text => [
                format!("LEFT(MIN({c}), {TEXT_PREFIX})"),
                format!("LEFT(MAX({c}), {TEXT_PREFIX})"),
                format!("CAST(SUM(CAST(OCTET_LENGTH({c}) AS BIGINT)) AS TEXT)"),
            ],
            Measure::Bytes => [none(), none(), format!("CAST(SUM(CAST(OCTET_LENGTH({c}) AS BIGINT)) AS TEXT)")],
            Measure::Date => whole(&format!("({c} - DATE '1970-01-01')")),
            Measure::Time => whole(&format!(
                "(EXTRACT(HOUR FROM {c}) * 3600000000::bigint + EXTRACT(MINUTE FROM {c}) * 60000000::bigint + EXTRACT(MICROSECOND FROM {c}))"
            )),
            Measure::Timestamp => whole(&format!("CAST(EXTRACT(EPOCH FROM {c}) * 1000000 AS BIGINT)")),
            Measure::Opaque => [none(), none(), none()],
        };
        list.push(format!("CAST(COUNT({c}) AS TEXT), {nans}, {min}, {max}, {sum}"));
    }
    list.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_quoted() {
        assert_eq!(name(r#"a"b"#), r#""a""b""#);
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(decimal_literal(-5, 2), "CAST('-0.05' AS NUMERIC(38,2))");
        assert_eq!(decimal_literal(1_000_000_007, 2), "CAST('10000000.07' AS NUMERIC(38,2))");
    }
}
