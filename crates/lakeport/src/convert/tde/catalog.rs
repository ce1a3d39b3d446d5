//! The catalog: seven tables of the schema `SYS` that say which tables and columns there are, and what their files are called.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use arrow::array::AsArray;

use super::column::{Column, ColumnReader, Properties, all_numbers};
use super::layout::{Directory, Span, Volume, damaged};
use crate::error::{Context, Result};

/// The schema of the catalog itself.
pub(super) const SYS: &str = "SYS";
/// The table in which Tableau Desktop keeps the data source that made the extract.
const METADATA: &str = "$TableauMetadata";
/// Most rows of a table of the catalog; a column has about twenty properties, and as many that were deleted.
const ROWS: u64 = 4 * 1024 * 1024;
/// Most tables of a file, and columns of a table.
const TABLES: usize = 4096;
const COLUMNS: usize = 16_384;
/// Most bytes of all names and properties.
const TEXTS: u64 = 256 * 1024 * 1024;
/// Most bytes of a file of properties.
const PROPERTIES: u64 = 64 * 1024;
/// Bytes kept of a heap of the catalog.
const HEAP: u64 = 1024 * 1024;

/// One table of the file.
#[derive(Debug, Clone)]
pub(super) struct TableEntry {
    /// Schema and name: `Extract.Extract`.
    pub(super) name: String,
    /// Whether it holds what the extract is about.
    pub(super) data: bool,
    /// Where the directory of its columns' files is.
    pub(super) directory: Span,
    /// Its columns in order.
    pub(super) columns: Vec<Column>,
}

/// Reads the tables that are not the catalog's own, in the order they were made.
pub(super) fn tables(volume: &Arc<Volume>) -> Result<Vec<TableEntry>> {
    read(volume).during("read the catalog of the .tde")
}

fn read(volume: &Arc<Volume>) -> Result<Vec<TableEntry>> {
    let root = volume.root()?;
    let sys = root.get(SYS).ok_or_else(|| damaged("the .tde has no catalog"))?;
    let mut sys = System { volume, directory: volume.directory(*sys)?, texts: TEXTS };
    let schemas = sys.names("SCHEMAS")?;
    let schema_files = sys.properties("SCHEMAPROPS", &schemas.keys().copied().collect())?;
    let mut tables = sys.named("TABLES")?;
    tables.retain(|(_, _, schema)| schemas.get(schema).is_none_or(|s| s != SYS));
    if tables.len() > TABLES {
        return Err(damaged(format!("the catalog has {} tables", tables.len())));
    }
    let table_files = sys.properties("TABLEPROPS", &tables.iter().map(|(id, ..)| *id).collect())?;
    let mut found: BTreeMap<u64, TableEntry> = BTreeMap::new();
    let (mut places, mut inside) = (BTreeSet::new(), BTreeMap::new());
    for (id, name, parent) in tables {
        let schema = schemas.get(&parent).ok_or_else(|| damaged(format!("table `{name}` is in no schema")))?;
        let file = |files: &BTreeMap<u64, Properties>, id: u64, name: &str| {
            files.get(&id).and_then(|p| p.get("data-file")).map_or_else(|| name.to_owned(), Clone::clone)
        };
        let missing = || damaged(format!("the .tde has no directory for table `{schema}.{name}`"));
        let inside = match inside.entry(parent) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                let span = *root.get(&file(&schema_files, parent, schema)).ok_or_else(missing)?;
                place.insert(volume.directory(span)?)
            }
        };
        let directory = *inside.get(&file(&table_files, id, &name)).ok_or_else(missing)?;
        // Each directory is read once at most.
        if !places.insert(directory.start) {
            return Err(damaged(format!("table `{schema}.{name}` has the directory of another")));
        }
        let entry = TableEntry { name: format!("{schema}.{name}"), data: name != METADATA, directory, columns: Vec::new() };
        found.insert(id, entry);
    }
    let columns: Vec<_> = sys.named("COLUMNS")?.into_iter().filter(|(_, _, parent)| found.contains_key(parent)).collect();
    let mut properties = sys.properties("COLUMNPROPS", &columns.iter().map(|(id, ..)| *id).collect())?;
    for (id, name, parent) in columns {
        let properties = properties.remove(&id).unwrap_or_default();
        if let Some(table) = found.get_mut(&parent) {
            if table.columns.len() == COLUMNS {
                return Err(damaged(format!("table `{}` has more than {COLUMNS} columns", table.name)));
            }
            table.columns.push(Column { name, properties });
        }
    }
    for table in found.values_mut() {
        // Stable, so that columns without a number stay in the catalog's order.
        let ordinal = |c: &Column| c.properties.get("ordinal").and_then(|o| o.parse::<u64>().ok()).unwrap_or(u64::MAX);
        table.columns.sort_by_key(ordinal);
    }
    Ok(found.into_values().collect())
}

/// The catalog being read.
struct System<'a> {
    volume: &'a Arc<Volume>,
    directory: Directory,
    /// Bytes of texts that may still be read.
    texts: u64,
}

impl System<'_> {
    /// A column of the catalog, as its own file of properties describes it.
    fn column(&self, table: &str, column: &str) -> Result<(Directory, Column)> {
        let missing = || damaged(format!("the catalog has no `{table}_{column}`"));
        let files = self.volume.directory(*self.directory.get(table).ok_or_else(missing)?)?;
        let name = format!("{table}_{column}");
        let kind = files.get(&format!("{name}.type")).ok_or_else(missing)?;
        let text = self.volume.bytes(self.volume.data(*kind)?, PROPERTIES, "the description of a column")?;
        let text = String::from_utf8(text).map_err(|_| damaged(format!("the description of `{name}` is no text")))?;
        let pairs = text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.to_owned()));
        // No catalog is known to be encoded, and this one is to have no more rows than its bytes are.
        let properties = pairs.filter(|(key, _)| key != "encoding").collect();
        Ok((files, Column { name, properties }))
    }

    fn numbers(&self, table: &str, column: &str) -> Result<Vec<u64>> {
        let (files, column) = self.column(table, column)?;
        all_numbers(&column, self.volume, &files, ROWS)
    }

    /// The texts of a column, rows apart from those of `wanted` left empty.
    fn texts(&mut self, table: &str, column: &str, wanted: &[bool]) -> Result<Vec<String>> {
        let (files, column) = self.column(table, column)?;
        let mut reader = ColumnReader::open(&column, self.volume, &files, 64 * 1024, HEAP)?;
        if reader.rows() != wanted.len() as u64 {
            return Err(damaged(format!("`{}` has {} rows instead of {}", column.name, reader.rows(), wanted.len())));
        }
        let mut all = Vec::with_capacity(wanted.len());
        let mut bytes = [0];
        for wanted in wanted {
            reader.fill(1)?;
            if !wanted {
                reader.skip();
                all.push(String::new());
                continue;
            }
            bytes[0] = 0;
            reader.weigh(&mut bytes)?;
            self.texts =
                self.texts.checked_sub(bytes[0]).ok_or_else(|| damaged("the catalog holds more than 256 MiB of texts"))?;
            let array = reader.array(1)?;
            let texts = array.as_string_opt::<i32>().ok_or_else(|| damaged(format!("`{}` holds no texts", column.name)))?;
            all.push(texts.iter().next().flatten().unwrap_or_default().to_owned());
        }
        Ok(all)
    }

    /// Which rows are in use, and whose they are: rows are deleted by marking them.
    fn active(&self, table: &str, key: &str) -> Result<(Vec<bool>, Vec<u64>)> {
        let keys = self.numbers(table, key)?;
        let active: Vec<bool> = self.numbers(table, "ACTIVE")?.iter().map(|a| *a == 1).collect();
        if keys.len() != active.len() {
            return Err(damaged(format!("`{table}` has {} rows and {} marks", keys.len(), active.len())));
        }
        Ok((active, keys))
    }

    /// Names by id.
    fn names(&mut self, table: &str) -> Result<BTreeMap<u64, String>> {
        let (active, ids) = self.active(table, "ID")?;
        let names = self.texts(table, "NAME", &active)?;
        Ok(ids.into_iter().zip(names).zip(active).filter_map(|(row, active)| active.then_some(row)).collect())
    }

    /// Ids, names and parents.
    fn named(&mut self, table: &str) -> Result<Vec<(u64, String, u64)>> {
        let (active, ids) = self.active(table, "ID")?;
        let parents = self.numbers(table, "PARENT")?;
        if parents.len() != ids.len() {
            return Err(damaged(format!("`{table}` has {} rows and {} parents", ids.len(), parents.len())));
        }
        let names = self.texts(table, "NAME", &active)?;
        let rows = ids.into_iter().zip(names).zip(parents).zip(active);
        Ok(rows.filter(|(_, active)| *active).map(|(((id, name), parent), _)| (id, name, parent)).collect())
    }

    /// Properties by parent, of those parents that are wanted.
    fn properties(&mut self, table: &str, wanted: &BTreeSet<u64>) -> Result<BTreeMap<u64, Properties>> {
        let (mut active, parents) = self.active(table, "PARENT")?;
        for (active, parent) in active.iter_mut().zip(&parents) {
            *active &= wanted.contains(parent);
        }
        let keys = self.texts(table, "KEY", &active)?;
        let values = self.texts(table, "VALUE", &active)?;
        let mut all: BTreeMap<u64, Properties> = BTreeMap::new();
        for (((parent, key), value), active) in parents.into_iter().zip(keys).zip(values).zip(active) {
            if active {
                all.entry(parent).or_default().insert(key, value);
            }
        }
        Ok(all)
    }
}
