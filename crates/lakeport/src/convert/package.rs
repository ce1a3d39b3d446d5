//! Tableau's packages, as sources: zip archives of a workbook or a data source with its extracts, `.hyper` or `.tde`.
//!
//! An extract is unpacked first, because it is read at many places at once: a `.tde` to a file without a name, a `.hyper` to one that
//! hyperd can open.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::datatypes::Schema;
use zip::ZipArchive;

use super::hyper::Hyper;
use super::tde::{self, Extract};
use super::{Batches, Capability, FileDescription, Format, Opened, TableDescription, Writer, archive};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::Limits;
use crate::types::{Mapping, Wishes};
use crate::verify::{Fingerprint, Verify};

/// The packages.
#[derive(Debug, Default)]
pub struct Package {
    hyper: Hyper,
}

impl Format for Package {
    fn capability(&self) -> Capability {
        Capability {
            name: "twbx",
            extensions: &["twbx", "tdsx"],
            write: false,
            read: true,
            lake: false,
            many_tables: true,
            max_rows: None,
            max_decimal: 0,
            summary: "Tableau's packages, read for the extracts in them",
        }
    }

    fn map(&self, _table: &str, _schema: &Schema, _wishes: &Wishes) -> Result<Mapping> {
        Err(only_read())
    }

    fn create(&self, _path: &Path, _tables: &[&Mapping], _limits: &Limits) -> Result<Box<dyn Writer>> {
        Err(only_read())
    }

    fn read_back(&self, _path: &Path, _tables: &[&Mapping], _verify: Verify, _limits: &Limits) -> Result<Vec<Fingerprint>> {
        Err(only_read())
    }

    fn open(&self, path: &Path, table: Option<&str>, limits: &Limits) -> Result<Opened> {
        let open = || {
            let mut package = Archive::open(path, limits)?;
            let (extract, table) = package.choose(table)?;
            let found = package.extracts.get(&extract).copied();
            let found = found.ok_or_else(|| Error::new(Kind::Unexpected, "an extract vanished from its package"))?;
            self.opened(&mut package, found, table.as_deref(), limits).at("extract", extract)
        };
        open().at("file", path.display())
    }

    fn describe(&self, path: &Path, limits: &Limits) -> Result<FileDescription> {
        let bytes = std::fs::metadata(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?.len();
        let describe = || {
            let mut package = Archive::open(path, limits)?;
            let mut tables = Vec::new();
            for (name, extract) in package.extracts.clone() {
                let found = self.described(&mut package, extract, limits).at("extract", &name)?;
                tables.extend(found.into_iter().map(|mut table| {
                    table.name = format!("{name}/{}", table.name);
                    table
                }));
            }
            Ok(tables)
        };
        let tables = describe().at("file", path.display())?;
        Ok(FileDescription { format: "twbx".into(), version: None, bytes, tables })
    }
}

impl Package {
    fn opened(&self, package: &mut Archive, extract: Packed, table: Option<&str>, limits: &Limits) -> Result<Opened> {
        match extract {
            Packed::Tde(index) => tde::opened(&package.tde(index)?, table),
            Packed::Hyper(index) => {
                let file = package.hyper(index)?;
                let opened = self.hyper.open(file.path(), table, limits)?;
                // The file lives as long as its rows are read.
                let batches: Batches = Box::new(opened.batches.inspect(move |_| {
                    let _ = &file;
                }));
                Ok(Opened { batches, ..opened })
            }
        }
    }

    fn described(&self, package: &mut Archive, extract: Packed, limits: &Limits) -> Result<Vec<TableDescription>> {
        match extract {
            Packed::Tde(index) => tde::described(&package.tde(index)?),
            Packed::Hyper(index) => Ok(self.hyper.describe(package.hyper(index)?.path(), limits)?.tables),
        }
    }
}

fn only_read() -> Error {
    Error::new(Kind::Unsupported, "Tableau's packages are only read").help("write a .hyper or a .tde")
}

/// An extract of a package, by the index of its entry.
#[derive(Debug, Clone, Copy)]
enum Packed {
    Tde(usize),
    Hyper(usize),
}

/// An opened package.
struct Archive {
    zip: ZipArchive<File>,
    /// The extracts by name: the file's without its ending, with its folders where two would be called alike.
    extracts: BTreeMap<String, Packed>,
    most: u64,
}

impl Archive {
    fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let (zip, most) = archive::open(path, limits)?;
        let of = |ending, packed: fn(usize) -> Packed| {
            archive::entries(&zip, ending).into_iter().map(move |(index, name)| (name, packed(index)))
        };
        let found: Vec<(String, Packed)> = of("tde", Packed::Tde).chain(of("hyper", Packed::Hyper)).collect();
        if found.is_empty() {
            return Err(Error::new(Kind::SourceEmpty, "there is no extract in the package")
                .help("the package reads its data from elsewhere; convert that source instead"));
        }
        let short = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let alike = |name: &str| found.iter().filter(|(other, _)| short(other) == short(name)).count() > 1;
        let extracts =
            found.iter().map(|(name, packed)| (if alike(name) { name.clone() } else { short(name) }, *packed)).collect();
        Ok(Self { zip, extracts, most })
    }

    /// Which extract, and which table of it, a name means: `Sales`, `Sales/Extract.Extract`, or a table where there is one extract.
    fn choose(&self, name: Option<&str>) -> Result<(String, Option<String>)> {
        let names = || self.extracts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let first = self.extracts.keys().next().cloned().unwrap_or_default();
        let Some(name) = name else {
            if self.extracts.len() == 1 {
                return Ok((first, None));
            }
            return Err(Error::new(Kind::UnknownName, format!("the package holds several extracts: {}", names()))
                .help(format!("name one behind the file: …#{first}")));
        };
        if self.extracts.contains_key(name) {
            return Ok((name.to_owned(), None));
        }
        // A folder's name ends with a slash too, so the longest that is an extract counts.
        let splits = name.rmatch_indices('/').map(|(at, _)| (&name[..at], &name[at + 1..]));
        for (extract, table) in splits {
            if self.extracts.contains_key(extract) {
                return Ok((extract.to_owned(), Some(table.to_owned())));
            }
        }
        if self.extracts.len() == 1 {
            return Ok((first, Some(name.to_owned())));
        }
        Err(Error::new(Kind::UnknownName, format!("there is no extract `{name}`")).help(format!("the package holds {}", names())))
    }

    fn tde(&mut self, index: usize) -> Result<Extract> {
        let mut file = tempfile::tempfile().wrap(Kind::WriteFailed, unpacked)?;
        archive::unpack(&mut self.zip, index, self.most, &mut file)?;
        Extract::open(file)
    }

    fn hyper(&mut self, index: usize) -> Result<tempfile::NamedTempFile> {
        let file = tempfile::Builder::new().prefix("lakeport-").suffix(".hyper").tempfile();
        let mut file = file.wrap(Kind::WriteFailed, unpacked)?;
        archive::unpack(&mut self.zip, index, self.most, file.as_file_mut())?;
        Ok(file)
    }
}

fn unpacked() -> String {
    "cannot unpack the extract".to_owned()
}
