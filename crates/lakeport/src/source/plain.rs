//! A query that is nothing but a read of local Parquet files, in words every loader understands.
//!
//! Formats whose own engine can read Parquet (hyperd) load such a query themselves, which is the hardware's limit. Only
//! what has one meaning everywhere is expressed here; an engine that is not sure leaves it out and the rows are streamed.

use std::path::PathBuf;

use arrow::datatypes::{DataType, Schema, TimeUnit};

/// A plain read: files in groups, columns picked from them, a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainScan {
    /// The files, grouped by the partition values of their directory.
    pub groups: Vec<ScanGroup>,
    /// The columns of the result, in order.
    pub columns: Vec<PlainColumn>,
    /// The condition every row fulfils.
    pub filter: Option<Predicate>,
    /// Rows of all files by their footers, before the condition.
    pub rows: u64,
}

impl PlainScan {
    /// All columns and rows of files that have exactly this schema.
    ///
    /// # Errors
    /// The column that a loader may read differently, or not at all.
    pub fn of_files(name: &str, files: Vec<PathBuf>, schema: &Schema, rows: u64) -> Result<Self, String> {
        let columns = schema.fields().iter().map(|field| {
            loadable(field.name(), field.data_type())?;
            let source = PlainSource::File(field.name().clone());
            Ok(PlainColumn { name: field.name().clone(), data_type: field.data_type().clone(), source })
        });
        let columns = columns.collect::<Result<_, String>>()?;
        let group = ScanGroup { name: name.to_owned(), files, values: Vec::new() };
        Ok(Self { groups: vec![group], columns, filter: None, rows })
    }
}

/// Whether every loader reads a Parquet column of this type as the same values.
///
/// # Errors
/// Column and type, in words.
pub fn loadable(name: &str, data_type: &DataType) -> Result<(), String> {
    use DataType as T;
    match data_type {
        T::Boolean
        | T::Int8
        | T::Int16
        | T::Int32
        | T::Int64
        | T::UInt8
        | T::UInt16
        | T::UInt32
        | T::Float32
        | T::Float64
        | T::Decimal128(_, _)
        | T::Utf8
        | T::LargeUtf8
        | T::Utf8View
        | T::Binary
        | T::LargeBinary
        | T::BinaryView
        | T::Date32
        | T::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _) => Ok(()),
        other => Err(format!("column `{name}` is of type {other}, which is read batch by batch")),
    }
}

/// Files of one directory with the values its path gives.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanGroup {
    /// `month=7`, or the file's name where there are no partition values.
    pub name: String,
    /// Absolute paths.
    pub files: Vec<PathBuf>,
    /// One value per partition column, in the order of [`PlainSource::Partition`] indices.
    pub values: Vec<Literal>,
}

/// One column of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainColumn {
    /// Its name in the result.
    pub name: String,
    /// Its Arrow type in the result.
    pub data_type: DataType,
    /// Where it comes from.
    pub source: PlainSource,
}

/// Where a plain column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainSource {
    /// A column of the files, by name.
    File(String),
    /// The partition value with this index.
    Partition(usize),
}

/// A constant with the same meaning in every SQL.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A decimal number: unscaled value and scale.
    Decimal(i128, i8),
    /// Text.
    Text(String),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 without a zone.
    Timestamp(i64),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

/// A condition over plain columns.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// A column compared with a constant.
    Compare(PlainSource, Comparison, Literal),
    /// The column is NULL.
    IsNull(PlainSource),
    /// The column is not NULL.
    IsNotNull(PlainSource),
    /// The column is one of the constants.
    In(PlainSource, Vec<Literal>),
    /// Both.
    And(Box<Predicate>, Box<Predicate>),
    /// Either.
    Or(Box<Predicate>, Box<Predicate>),
    /// Not.
    Not(Box<Predicate>),
}
