//! One walk through a schema for every format: wishes, flattening, duplicates, keys. What differs is the format's table.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Field, Fields, Schema};

use super::{ColumnMapping, Conversion, Mapping, Verdict, Wish, Wishes, named};
use crate::error::{Error, Kind, Result};

/// The metadata by which a text field tells the type that its table declares: `varchar(7)`, `char(5)`.
pub const DECLARED: &str = "lakeport.declared";
/// The metadata by which a field tells that its values mean more than its type says.
pub const EXTENSION: &str = "ARROW:extension:name";
/// Texts that are JSON documents.
pub const JSON: &str = "arrow.json";

/// One row of a mapping table: what one Arrow type becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Type in the target, in the target's words.
    pub target: String,
    /// The Arrow type handed to the format's writer.
    pub physical: DataType,
    /// How values get there.
    pub conversion: Conversion,
    /// The least and greatest physical value the target's type holds, where that is less than the physical type does; of texts
    /// the UTF-16 units.
    pub range: Option<(i64, i64)>,
    /// How sure it is.
    pub verdict: Verdict,
    /// What else to know; `COLUMN` stands for the column's name.
    pub note: Option<String>,
}

impl Row {
    /// A row with everything said but range and note.
    pub fn new(target: impl Into<String>, physical: DataType, conversion: Conversion, verdict: Verdict) -> Self {
        Self { target: target.into(), physical, conversion, range: None, verdict, note: None }
    }

    /// Every value arrives as it left.
    pub fn exact(target: impl Into<String>, physical: DataType, conversion: Conversion) -> Self {
        Self::new(target, physical, conversion, Verdict::Exact)
    }

    /// Every value arrives, in a wider or differently named type.
    pub fn widened(target: impl Into<String>, physical: DataType, conversion: Conversion, why: impl Into<String>) -> Self {
        Self::new(target, physical, conversion, Verdict::Widened(why.into()))
    }

    /// Kept exactly while every value fits; `why` says which do: `whole microseconds`.
    pub fn checked(target: impl Into<String>, physical: DataType, why: impl Into<String>) -> Self {
        Self::new(target, physical, Conversion::CheckedCast, Verdict::Checked(why.into()))
    }

    /// Values change; needs consent, and what changed is counted.
    pub fn lossy(target: impl Into<String>, physical: DataType, why: impl Into<String>) -> Self {
        Self::new(target, physical, Conversion::CheckedCast, Verdict::Lossy(why.into()))
    }

    /// Cannot be held at all.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::new("—", DataType::Utf8, Conversion::Nulls, Verdict::Refused(why.into()))
    }

    /// Adds what else to know; `COLUMN` stands for the column's name.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Bounds the physical values, both ends included.
    #[must_use]
    pub fn range(mut self, range: (i64, i64)) -> Self {
        self.range = Some(range);
        self
    }
}

/// The mapping table of a format.
pub trait TypeTable {
    /// What an Arrow type becomes without a wish.
    fn row(&self, data_type: &DataType) -> Row;

    /// What it becomes as a type the user asked for, in lower case; `None` when the format has no such type.
    fn wished(&self, from: &DataType, wish: &str) -> Option<Row> {
        named::parse(wish).map(|to| named::wished(self, from, &to))
    }

    /// What a text becomes whose table declares its length, `varchar(7)`; `None` when the format has no use for it.
    fn declared(&self, declared: &str) -> Option<Row> {
        let _ = declared;
        None
    }

    /// The names a wish may give, as a list in prose: `bool, integer and text`.
    fn names(&self) -> &'static str {
        named::NAMES
    }

    /// What a nested column becomes as JSON text.
    fn json(&self) -> Row {
        Row::widened("string", DataType::Utf8, Conversion::Json, "JSON text")
    }
}

/// Maps a whole schema; pure.
///
/// # Errors
/// `NoColumns`, `DuplicateColumn`, `Usage` for a wish that names no column or no type.
pub fn map(table: &str, schema: &Schema, wishes: &Wishes, types: &dyn TypeTable) -> Result<Mapping> {
    if schema.fields().is_empty() {
        return Err(Error::new(Kind::NoColumns, "the table has no columns"));
    }
    wishes.ensure_known(schema.fields().iter().map(|f| f.name().as_str()))?;
    let mut walk = Walk { wishes, types, columns: Vec::new(), dropped: Vec::new() };
    for (index, field) in schema.fields().iter().enumerate() {
        walk.add(field, field.name().clone(), vec![index], field.is_nullable())?;
    }
    let Walk { mut columns, dropped, .. } = walk;
    let mut seen = BTreeSet::new();
    for column in &columns {
        if !seen.insert(column.name.as_str()) {
            return Err(
                Error::new(Kind::DuplicateColumn, format!("two columns are called `{}`", column.name)).at("column", &column.name)
            );
        }
    }
    if columns.is_empty() {
        return Err(Error::new(Kind::NoColumns, "every column is dropped"));
    }
    for key in wishes.keys.primary.iter().chain(wishes.keys.foreign.iter().flat_map(|k| &k.columns)) {
        if !seen.contains(key.as_str()) {
            return Err(
                Error::new(Kind::Usage, format!("a key names column `{key}`, which the table does not have")).at("column", key)
            );
        }
    }
    for column in &mut columns {
        // A key cannot be NULL, whatever the source says of it; a NULL in it stops the run.
        column.nullable &= !wishes.keys.primary.contains(&column.name);
    }
    let (table, keys) = (table.to_owned(), wishes.keys.clone());
    Ok(Mapping { table, lineage: String::new(), columns, dropped, facts: BTreeMap::new(), keys })
}

/// The way through a schema, into the structs that are flattened.
struct Walk<'a> {
    wishes: &'a Wishes,
    types: &'a dyn TypeTable,
    columns: Vec<ColumnMapping>,
    dropped: Vec<String>,
}

impl Walk<'_> {
    fn add(&mut self, field: &Field, name: String, path: Vec<usize>, nullable: bool) -> Result<()> {
        let nested = field.data_type().is_nested() && !matches!(field.data_type(), DataType::RunEndEncoded(..));
        let row = match self.wishes.columns.get(&name) {
            Some(Wish::Drop) => {
                self.dropped.push(name);
                return Ok(());
            }
            Some(Wish::Flatten) => {
                let DataType::Struct(fields) = field.data_type() else {
                    return Err(Error::new(Kind::Usage, format!("column `{name}` is no struct and cannot be flattened"))
                        .at("column", &name));
                };
                return self.flatten(fields, &name, &path, nullable);
            }
            // Already what was asked for.
            Some(Wish::Json) if field.metadata().get(EXTENSION).is_some_and(|e| e == JSON) => {
                let row = self.types.row(field.data_type());
                if row.verdict == Verdict::Exact { Row { verdict: Verdict::Widened("JSON text".into()), ..row } } else { row }
            }
            Some(Wish::Json) => match field.data_type() {
                DataType::Union(..) => self.types.row(field.data_type()),
                _ => self.types.json(),
            },
            Some(Wish::Type(wish)) => self.types.wished(field.data_type(), wish).ok_or_else(|| {
                Error::new(Kind::Usage, format!("`{wish}` is no type of the target's columns"))
                    .at("column", &name)
                    .help(format!("the types are {}; nested columns take json, flatten, drop or refuse", self.types.names()))
            })?,
            Some(Wish::Refuse) if !nested => Row::refused("the configuration refuses it"),
            // A struct below a flattened one is flattened too: the user already said what becomes of this tree.
            None if path.len() > 1 && matches!(field.data_type(), DataType::Struct(_)) => {
                let DataType::Struct(fields) = field.data_type() else { return Ok(()) };
                return self.flatten(fields, &name, &path, nullable);
            }
            Some(Wish::Refuse) if nested => {
                let natural = self.types.row(field.data_type());
                if matches!(natural.verdict, Verdict::Refused(_)) {
                    natural
                } else {
                    Row::refused("the configuration refuses it")
                }
            }
            Some(Wish::Refuse) | None => {
                let declared = field.metadata().get(DECLARED).filter(|_| *field.data_type() == DataType::Utf8);
                let declared = declared.and_then(|d| self.types.declared(d));
                declared.unwrap_or_else(|| self.types.row(field.data_type()))
            }
        };
        let root = name.split('.').next().unwrap_or(&name);
        let accepted = self.wishes.lossy.allows(&name) || self.wishes.lossy.allows(root);
        let mut verdict = row.verdict;
        if name.is_empty() {
            verdict = Verdict::Refused("a column needs a name; select it `as` something".into());
        }
        self.columns.push(ColumnMapping {
            note: row.note.map(|n| n.replace("COLUMN", &name)),
            comment: field.metadata().get("comment").filter(|c| !c.is_empty()).cloned(),
            name,
            path,
            source_type: field.data_type().clone(),
            nullable: nullable || matches!(row.conversion, Conversion::Nulls),
            target_type: row.target,
            physical: row.physical,
            range: row.range,
            conversion: row.conversion,
            verdict,
            accepted,
        });
        Ok(())
    }

    fn flatten(&mut self, fields: &Fields, name: &str, path: &[usize], nullable: bool) -> Result<()> {
        for (index, child) in fields.iter().enumerate() {
            let mut below = path.to_vec();
            below.push(index);
            let nullable = nullable || child.is_nullable();
            self.add(child, format!("{name}.{}", child.name()), below, nullable)?;
        }
        Ok(())
    }
}
