//! The catalog of a new file: seven tables that describe themselves and the one table there is.

use std::collections::{BTreeMap, HashMap};

use super::catalog::SYS;
use super::column::Properties;
use super::write::{NewColumn, written_as};
use crate::error::{Error, Kind, Result};

/// Where the data is, as in every extract.
pub(super) const SCHEMA: &str = "Extract";
/// See [`SCHEMA`].
pub(super) const TABLE: &str = "Extract";

/// The tables of the catalog in the order of their ids, each with its columns.
const TABLES: [(&str, &[&str]); 7] = [
    ("COLUMNPROPS", &["ACTIVE", "ID", "KEY", "PARENT", "VALUE"]),
    ("COLUMNS", &["ACTIVE", "ID", "NAME", "PARENT"]),
    ("DUAL", &["ID"]),
    ("SCHEMAPROPS", &["ACTIVE", "ID", "KEY", "PARENT", "VALUE"]),
    ("SCHEMAS", &["ACTIVE", "ID", "NAME"]),
    ("TABLEPROPS", &["ACTIVE", "ID", "KEY", "PARENT", "VALUE"]),
    ("TABLES", &["ACTIVE", "ID", "NAME", "PARENT"]),
];

/// A row of the catalog; what a table has no column for stays empty.
#[derive(Default)]
struct Row {
    parent: u64,
    /// The name, or the key.
    name: String,
    value: String,
}

fn properties(all: &[(&str, &str)]) -> Properties {
    all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// The properties of a column of the one table.
pub(super) fn describe(column: &NewColumn, ordinal: usize, data: &str, heap: &str) -> Properties {
    let (name, size) = written_as(&column.physical).unwrap_or_default();
    let mut all = if name.starts_with("clob") {
        properties(&[
            ("collation", "binary"),
            ("comparable", "comparable"),
            ("compression", "heap"),
            ("datatype", "usr"),
            ("dict-file", heap),
            ("distinct", "distinct"),
            ("factory", "varchar"),
            ("fixed", "false"),
            ("precision", "1073741823"),
            ("scale", "2"),
            ("size", "4294967292"),
            ("storagewidth", &size.to_string()),
        ])
    } else {
        let datatype = match name {
            "bit" => "boolean",
            "float" | "double" => "real",
            "date" | "datetime" => name,
            _ => "integer",
        };
        let size = size.to_string();
        properties(&[("builtin", name), ("datatype", datatype), ("factory", "builtin"), ("fixed", "true"), ("size", &size)])
    };
    all.extend(properties(&[("data-file", data), ("name", &column.name), ("ordinal", &ordinal.to_string()), ("type", name)]));
    if !column.nullable {
        all.insert("not-null".into(), "not-null".into());
    }
    all
}

/// The properties of a column of the catalog.
fn own(table: &str, column: &str) -> Properties {
    let name = format!("{table}_{column}");
    let mut all = match column {
        "ACTIVE" => properties(&[
            ("builtin", "bit"),
            ("datatype", "boolean"),
            ("default-value", "t"),
            ("factory", "builtin"),
            ("fixed", "true"),
            ("size", "1"),
            ("type", "bit"),
        ]),
        "ID" | "PARENT" => properties(&[
            ("builtin", "oid"),
            ("datatype", "index"),
            ("factory", "builtin"),
            ("fixed", "true"),
            ("size", "8"),
            ("type", "oid"),
        ]),
        _ => properties(&[
            ("collation", "binary"),
            ("comparable", "comparable"),
            ("compression", "heap"),
            ("datatype", "usr"),
            ("dict-file", &format!("{name}.dict")),
            ("distinct", "distinct"),
            ("factory", "varchar"),
            ("fixed", "false"),
            ("precision", "127"),
            ("scale", "2"),
            ("size", "508"),
            ("storagewidth", "8"),
            ("type", "varchar(127,2) collate binary"),
        ]),
    };
    let (data, kind) = (format!("{name}.data"), format!("{name}.type"));
    all.extend(properties(&[("data-file", &data), ("name", &name), ("not-null", "not-null"), ("type-file", &kind)]));
    all
}

/// The files of one table by name.
type Files = BTreeMap<String, Vec<u8>>;

/// The files of the catalog, table by table, for these tables and the properties of their columns.
pub(super) fn tables(data: &[(&str, &[Properties])]) -> Result<Vec<(String, Files)>> {
    let named = |parent: usize, name: &str| Row { parent: parent as u64, name: name.to_owned(), value: String::new() };
    let schemas = [SYS, SCHEMA];
    let mut rows: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    rows.insert("SCHEMAS", schemas.iter().map(|s| named(0, s)).collect());
    rows.insert("SCHEMAPROPS", schemas.iter().enumerate().flat_map(|(id, s)| placed(id, s)).collect());
    let all_tables: Vec<_> = TABLES.iter().map(|(t, _)| (0, *t)).chain(data.iter().map(|(t, _)| (1, *t))).collect();
    rows.insert("TABLES", all_tables.iter().map(|(schema, t)| named(*schema, t)).collect());
    rows.insert("TABLEPROPS", all_tables.iter().enumerate().flat_map(|(id, (_, t))| placed(id, t)).collect());
    let own = TABLES.iter().enumerate().flat_map(|(id, (table, columns))| columns.iter().map(move |c| (id, own(table, c))));
    let theirs =
        data.iter().enumerate().flat_map(|(id, (_, columns))| columns.iter().map(move |p| (TABLES.len() + id, p.clone())));
    let all_columns: Vec<_> = own.chain(theirs).collect();
    let name = |p: &Properties| p.get("name").cloned().unwrap_or_default();
    rows.insert("COLUMNS", all_columns.iter().map(|(table, p)| named(*table, &name(p))).collect());
    let properties = all_columns
        .iter()
        .enumerate()
        .flat_map(|(id, (_, p))| p.iter().map(move |(k, v)| Row { parent: id as u64, name: k.clone(), value: v.clone() }));
    rows.insert("COLUMNPROPS", properties.collect());
    rows.insert("DUAL", vec![Row::default()]);
    TABLES.iter().map(|(table, columns)| Ok(((*table).to_owned(), files(table, columns, &rows[table])?))).collect()
}

/// Where a schema or a table is: in a directory of its own name.
fn placed(id: usize, name: &str) -> [Row; 2] {
    ["data-file", "name"].map(|key| Row { parent: id as u64, name: key.into(), value: name.into() })
}

fn files(table: &str, columns: &[&str], rows: &[Row]) -> Result<Files> {
    let mut files = Files::new();
    for column in columns {
        let name = format!("{table}_{column}");
        let described: String = own(table, column).iter().map(|(k, v)| format!("{k}:{v}\n")).collect();
        files.insert(format!("{name}.type"), described.into_bytes());
        let data: Vec<u8> = match *column {
            "ACTIVE" => vec![1; rows.len()],
            "ID" => (0..rows.len() as u64).flat_map(u64::to_le_bytes).collect(),
            "PARENT" => rows.iter().flat_map(|r| r.parent.to_le_bytes()).collect(),
            _ => {
                let mut heap = Heap::default();
                let mut tokens = Vec::with_capacity(rows.len() * 8);
                for row in rows {
                    let text = if *column == "VALUE" { &row.value } else { &row.name };
                    tokens.extend_from_slice(&heap.place(text)?.to_le_bytes());
                }
                files.insert(format!("{name}.dict"), heap.bytes);
                tokens
            }
        };
        files.insert(format!("{name}.data"), data);
    }
    Ok(files)
}

/// Texts of the catalog, each once, behind their lengths.
#[derive(Default)]
struct Heap<'a> {
    bytes: Vec<u8>,
    places: HashMap<&'a str, u64>,
}

impl<'a> Heap<'a> {
    fn place(&mut self, text: &'a str) -> Result<u64> {
        if let Some(place) = self.places.get(text) {
            return Ok(*place);
        }
        let place = self.bytes.len() as u64;
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = u16::try_from(units.len())
            .map_err(|_| Error::new(Kind::Unsupported, "a column's name is too long for a .tde; it holds 32,767 characters"))?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&units);
        self.places.insert(text, place);
        Ok(place)
    }
}
