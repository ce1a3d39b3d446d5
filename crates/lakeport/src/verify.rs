//! What left compared with what arrived.

use serde::Serialize;

/// What a table holds, independent of the order of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fingerprint {
    /// Number of rows.
    pub rows: u64,
    /// One entry per column.
    pub columns: Vec<ColumnPrint>,
}

/// What one column holds, independent of order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ColumnPrint {
    /// The column's name.
    pub name: String,
    /// How many values are NULL.
    pub nulls: u64,
    /// The least value, as canonical text; `None` where there is none or the type has no order.
    pub min: Option<String>,
    /// The greatest value.
    pub max: Option<String>,
    /// An order-free sum over the values.
    pub sum: Option<String>,
}
