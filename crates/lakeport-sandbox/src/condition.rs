//! The conditions of data updates: JSON in, SQL out.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use hyperdb_api::escape_string_literal;
use serde_json::Value;

use crate::extract::quoted;
use crate::index::Column;

/// How deep a condition may nest.
const MAX_DEPTH: usize = 32;
/// The comparisons, and what they are in SQL. Seen in use are `eq`, `gte` and `lt`; the others go by their names.
const COMPARISONS: [(&str, &str); 8] = [
    ("eq", "="),
    ("neq", "<>"),
    ("lt", "<"),
    ("lte", "<="),
    ("gt", ">"),
    ("gte", ">="),
    ("is", "is not distinct from"),
    ("is-not", "is distinct from"),
];

/// A condition on the rows of the target and the source table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// All of these, or one of them.
    Several(&'static str, Vec<Condition>),
    Not(Box<Condition>),
    Compare(&'static str, Operand, Operand),
}

/// A side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Target(String),
    Source(String),
    Const(Const),
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Const {
    Null,
    String(String),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    Datetime(NaiveDateTime),
}

impl Condition {
    /// Reads a condition.
    pub(crate) fn read(json: &Value) -> Result<Self, String> {
        Self::read_at(json, 0)
    }

    fn read_at(json: &Value, depth: usize) -> Result<Self, String> {
        let object = json.as_object().filter(|_| depth < MAX_DEPTH).ok_or("a condition is an object")?;
        let op = object.get("op").and_then(Value::as_str).ok_or("a condition needs the key op")?;
        if matches!(op, "and" | "or" | "not") {
            if let Some(key) = object.keys().find(|key| !matches!(key.as_str(), "op" | "args")) {
                return Err(format!("{op} has no key {key}"));
            }
            let args = object.get("args").and_then(Value::as_array).ok_or_else(|| format!("{op} needs the list args"))?;
            let mut args = args.iter().map(|arg| Self::read_at(arg, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            return match (op, args.len()) {
                ("and", 1..) => Ok(Self::Several("and", args)),
                ("or", 1..) => Ok(Self::Several("or", args)),
                ("not", 1) => Ok(Self::Not(Box::new(args.remove(0)))),
                _ => Err(format!("{op} cannot have {} args", args.len())),
            };
        }
        let sql = COMPARISONS.iter().find(|(word, _)| *word == op).map(|(_, sql)| *sql);
        let sql = sql.ok_or_else(|| format!("there is no op {op:?}"))?;
        let mut sides = Vec::new();
        for (key, value) in object {
            let text = || value.as_str().map(str::to_owned).ok_or_else(|| format!("{key} is the name of a column"));
            match key.as_str() {
                "op" => {}
                "target-col" => sides.push(Operand::Target(text()?)),
                "source-col" => sides.push(Operand::Source(text()?)),
                "const" => sides.push(Operand::Const(Const::read(value)?)),
                other => return Err(format!("a comparison has no key {other}")),
            }
        }
        // The order of keys in JSON means nothing: the target stands on the left, a constant on the right.
        sides.sort_by_key(|side| match side {
            Operand::Target(_) => 0,
            Operand::Source(_) => 1,
            Operand::Const(_) => 2,
        });
        let mut sides = sides.into_iter();
        match (sides.next(), sides.next(), sides.next()) {
            (Some(left), Some(right), None) => Ok(Self::Compare(sql, left, right)),
            _ => Err(format!("{op} compares two of target-col, source-col and const")),
        }
    }

    /// The columns of the source table that it looks at.
    pub(crate) fn source_columns(&self) -> Vec<&str> {
        match self {
            Self::Several(_, args) => args.iter().flat_map(Self::source_columns).collect(),
            Self::Not(inner) => inner.source_columns(),
            Self::Compare(_, left, right) => [left, right]
                .into_iter()
                .filter_map(|side| match side {
                    Operand::Source(name) => Some(name.as_str()),
                    _ => None,
                })
                .collect(),
        }
    }

    /// The SQL, with the target called `t` and the source `s`.
    pub(crate) fn sql(&self, target: &[Column], source: &[Column]) -> Result<String, String> {
        match self {
            Self::Several(op, args) => {
                let args = args.iter().map(|arg| arg.sql(target, source)).collect::<Result<Vec<_>, _>>()?;
                Ok(format!("({})", args.join(&format!(" {op} "))))
            }
            Self::Not(inner) => Ok(format!("(not {})", inner.sql(target, source)?)),
            Self::Compare(op, left, right) => {
                let kind = [left, right].into_iter().find_map(|side| match side {
                    Operand::Target(name) => target.iter().find(|c| c.name == *name),
                    Operand::Source(name) => source.iter().find(|c| c.name == *name),
                    Operand::Const(_) => None,
                });
                let kind = kind.map_or("", |column| column.sql_type.as_str());
                Ok(format!("({} {op} {})", left.sql(target, source, kind)?, right.sql(target, source, kind)?))
            }
        }
    }
}

impl Operand {
    fn sql(&self, target: &[Column], source: &[Column], other: &str) -> Result<String, String> {
        let column = |alias: &str, name: &str, columns: &[Column], whose: &str| {
            if !columns.iter().any(|c| c.name == name) {
                return Err(format!("the {whose} table has no column {name:?}"));
            }
            Ok(format!("{alias}.{}", quoted(name).map_err(|e| e.message().to_owned())?))
        };
        match self {
            Self::Target(name) => column("t", name, target, "target"),
            Self::Source(name) => column("s", name, source, "source"),
            Self::Const(value) => Ok(value.sql(other)),
        }
    }
}

impl Const {
    fn read(json: &Value) -> Result<Self, String> {
        let object = json.as_object().ok_or("const is an object with type and v")?;
        let kind = object.get("type").and_then(Value::as_str).ok_or("const needs a type")?;
        let value = object.get("v").ok_or("const needs v")?;
        let bad = || format!("{value} is no {kind}");
        if value.is_null() {
            return Ok(Self::Null);
        }
        match kind {
            "string" => value.as_str().map(|v| Self::String(v.to_owned())).ok_or_else(bad),
            "integer" => value.as_i64().map(Self::Integer).ok_or_else(bad),
            "double" => value.as_f64().map(Self::Double).ok_or_else(bad),
            "boolean" => value.as_bool().map(Self::Boolean).ok_or_else(bad),
            "datetime" => value.as_str().and_then(instant).map(Self::Datetime).ok_or_else(bad),
            other => Err(format!("there is no constant of the type {other:?}")),
        }
    }

    /// The literal, of the type of the column it is compared with as far as that matters.
    fn sql(&self, other: &str) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::String(text) => escape_string_literal(text),
            Self::Integer(number) => format!("cast({number} as bigint)"),
            Self::Double(number) => format!("cast('{number:e}' as double precision)"),
            Self::Boolean(value) => value.to_string(),
            Self::Datetime(at) if other == "timestamp with time zone" => {
                format!("timestamptz '{}+00'", at.format("%Y-%m-%d %H:%M:%S%.6f"))
            }
            Self::Datetime(at) => format!("timestamp '{}'", at.format("%Y-%m-%d %H:%M:%S%.6f")),
        }
    }
}

/// Reads ISO 8601, with or without a zone, with or without a time.
fn instant(text: &str) -> Option<NaiveDateTime> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc).naive_utc()).ok();
    let naive =
        || ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"].iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok());
    zoned.or_else(naive).or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(json: &str) -> Result<String, String> {
        let column = |name: &str, kind: &str| Column { name: name.into(), sql_type: kind.into(), nullable: true };
        let columns = [column("a", "bigint"), column("b\"", "date"), column("z", "timestamp with time zone")];
        Condition::read(&serde_json::from_str(json).map_err(|e| e.to_string())?)?.sql(&columns, &columns)
    }

    #[test]
    fn conditions_become_sql() {
        for (json, expected) in [
            (r#"{"op":"eq","source-col":"a","target-col":"b\""}"#, r#"(t."b""" = s."a")"#),
            (r#"{"op":"gte","target-col":"a","const":{"type":"integer","v":5}}"#, r#"(t."a" >= cast(5 as bigint))"#),
            (r#"{"op":"is","target-col":"a","const":{"type":"string","v":null}}"#, r#"(t."a" is not distinct from null)"#),
            (
                r#"{"op":"lt","target-col":"z","const":{"type":"datetime","v":"2024-01-02T03:00:00+01:00"}}"#,
                r#"(t."z" < timestamptz '2024-01-02 02:00:00.000000+00')"#,
            ),
            (
                r#"{"op":"not","args":[{"op":"or","args":[{"op":"neq","target-col":"a","const":{"type":"string","v":"o'x"}}]}]}"#,
                r#"(not ((t."a" <> 'o''x')))"#,
            ),
        ] {
            assert_eq!(sql(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            "[]",
            "{}",
            r#"{"op":"like","target-col":"a","source-col":"a"}"#,
            r#"{"op":"eq","target-col":"a"}"#,
            r#"{"op":"eq","target-col":"x","source-col":"a"}"#,
            r#"{"op":"and","args":[]}"#,
            r#"{"op":"not","args":[{},{}]}"#,
            r#"{"op":"eq","target-col":"a","const":{"type":"integer","v":"5"}}"#,
            r#"{"op":"eq","target-col":"a","const":{"type":"datetime","v":"yesterday"}}"#,
        ] {
            assert!(sql(json).is_err(), "{json}");
        }
    }
}
