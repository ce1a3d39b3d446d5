//! The mapping tables, the heart of trust: what each Arrow type becomes in each format, and how sure that is.
//!
//! Pure: a mapping comes from the schema and the user's wishes, never from the data that happens to arrive first.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use serde::Serialize;

use crate::error::{Error, Kind, Result};

pub mod avro;
pub mod csv;
pub mod database;
pub mod delta;
pub mod documentation;
pub mod files;
mod geometry;
pub mod hyper;
pub(crate) mod json;
mod named;
pub mod ndjson;
pub mod orc;
pub mod parquet;
pub mod shape;
mod spelling;
pub mod tde;
pub mod text;
pub mod walk;
mod wish;
pub mod xlsx;
pub mod yxdb;

pub use wish::{Lossy, Wish, Wishes};

/// How faithfully a column arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "lowercase")]
pub enum Verdict {
    /// Every value arrives as it left, in the type that means the same.
    Exact,
    /// Every value arrives, in a wider or differently named type; the text says which.
    Widened(String),
    /// Kept exactly while every value fits; the first that does not stops the run, unless the column is accepted as lossy.
    Checked(String),
    /// Values change; needs the user's consent.
    Lossy(String),
    /// Cannot be held at all.
    Refused(String),
}

impl Verdict {
    /// The one-word name: `exact`, `widened`, `checked`, `lossy`, `refused`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Widened(_) => "widened",
            Self::Checked(_) => "checked",
            Self::Lossy(_) => "lossy",
            Self::Refused(_) => "refused",
        }
    }

    /// The reason, where there is one.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Exact => None,
            Self::Widened(why) | Self::Checked(why) | Self::Lossy(why) | Self::Refused(why) => Some(why),
        }
    }
}

/// How the values of one column are made ready for the format's writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conversion {
    /// Already of the physical type.
    Keep,
    /// An Arrow cast that cannot change a value.
    Cast,
    /// An Arrow cast whose every value is compared with what it came from.
    CheckedCast,
    /// Rendered as JSON text.
    Json,
    /// An interval rendered as ISO 8601 text.
    Iso8601,
    /// A float that must be finite: NaN and infinities stop the run, or become NULL with consent.
    Finite,
    /// Bytes rendered as hexadecimal digits.
    Hex,
    /// A duration rendered as a whole number of its unit.
    Count,
    /// A geometry's well-known text or binary as text whose digits are checked.
    WellKnownText,
    /// Nothing but NULLs.
    Nulls,
}

/// One column on its way from the source to the target.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnMapping {
    /// Name in the target.
    pub name: String,
    /// Index of the source column, then of struct fields below it when flattened.
    pub path: Vec<usize>,
    /// Type in the source.
    pub source_type: DataType,
    /// Whether the source may hold NULL.
    pub nullable: bool,
    /// Type in the target, in the target's words: `NUMERIC(38,10)`.
    pub target_type: String,
    /// The Arrow type handed to the format's writer.
    pub physical: DataType,
    /// How values get there.
    pub conversion: Conversion,
    /// The least and greatest physical value the target's type holds, where that is less than the physical type does; of texts
    /// the UTF-16 units.
    pub range: Option<(i64, i64)>,
    /// How sure it is.
    pub verdict: Verdict,
    /// What else a reader of the plan should know.
    pub note: Option<String>,
    /// What the source says of the column (the field's metadata `comment`, as Spark, Delta and others name it).
    pub comment: Option<String>,
    /// Whether the user accepted changed values here.
    pub accepted: bool,
}

/// What becomes of a whole table.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The table's name in the target file.
    pub table: String,
    /// Where the rows are from, for formats that say it: the reference and its snapshot.
    pub lineage: String,
    /// The columns, in target order.
    pub columns: Vec<ColumnMapping>,
    /// Source columns left out by wish (`drop`).
    pub dropped: Vec<String>,
    /// Facts of the format that follow from the schema, such as `("hyper_version", "3")`.
    pub facts: BTreeMap<String, String>,
    /// Keys to declare.
    pub keys: Keys,
}

/// Primary and foreign keys of a table, declared and not enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Columns of the primary key.
    pub primary: Vec<String>,
    /// Foreign keys.
    pub foreign: Vec<ForeignKey>,
}

/// A foreign key to another table of the same file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignKey {
    /// Columns of this table.
    pub columns: Vec<String>,
    /// The other table.
    pub table: String,
    /// Its columns.
    pub references: Vec<String>,
}

impl Mapping {
    /// Stops on columns that would change or cannot be held and were not accepted; `environment` is where they go.
    ///
    /// # Errors
    /// `NotExact` or `TypeRefused` with the column in the context; several columns are all named in the message.
    pub fn ensure_accepted(&self, environment: Option<&str>) -> Result<()> {
        let there = environment.map_or_else(String::new, |name| format!(" in {name}"));
        let refused = |kind: Kind, column: &ColumnMapping, what: &str| {
            let others: Vec<_> = self
                .columns
                .iter()
                .filter(|c| c.name != column.name && !c.is_acceptable())
                .map(|c| format!("`{}`", c.name))
                .collect();
            let also = if others.is_empty() { String::new() } else { format!(" (nor {})", others.join(", ")) };
            let mut e = Error::new(kind, format!("column `{}` {what}{there}{also}", column.name)).at("column", &column.name);
            if let Some(why) = column.verdict.why() {
                e = e.because(why.to_owned());
            }
            if let Some(note) = &column.note {
                // The advice of a table of types names no column, and no environment.
                let named = environment.map(|name| format!("in [env.{name}]"));
                let note = note.replace("in the environment", named.as_deref().unwrap_or("in the environment"));
                e = e.help(note.replace("types.COLUMN", &format!("types.{}", column.name)));
            }
            e
        };
        for column in &self.columns {
            match &column.verdict {
                Verdict::Refused(_) => return Err(refused(Kind::TypeRefused, column, "cannot be held by the target")),
                Verdict::Lossy(_) if !column.accepted => {
                    let e = refused(Kind::NotExact, column, "cannot be kept exactly");
                    return Err(if column.note.is_some() {
                        e
                    } else {
                        e.help(format!("accept it with --lossy={0}, or choose a type with --types {0}=…", column.name))
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl ColumnMapping {
    fn is_acceptable(&self) -> bool {
        match self.verdict {
            Verdict::Refused(_) => false,
            Verdict::Lossy(_) => self.accepted,
            _ => true,
        }
    }
}
