//! Tableau's packages: zip archives of a workbook or a data source with its extracts. An extract is unpacked to an unnamed
//! temporary file first, because it is read at many places at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use arrow::datatypes::Schema;
use zip::ZipArchive;

use super::layout::damaged;
use super::read::Extract;
use super::{described, opened};
use crate::convert::{Capability, FileDescription, Format, Opened, Writer};
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::limits::{Limits, show_size};
use crate::types::{Mapping, Wishes};
use crate::verify::{Fingerprint, Verify};

/// How often as large as the whole archive an extract may be, beyond what the limits allow anyway.
const RATIO: u64 = 100;
/// Bytes unpacked at a time.
const PIECE: usize = 256 * 1024;

/// The packages, as sources.
#[derive(Debug)]
pub struct Package;

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
            summary: "Tableau's packages, read for the .tde extracts in them",
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
            let (index, name) = package
                .extracts
                .get_key_value(&extract)
                .map(|(name, index)| (*index, name.clone()))
                .ok_or_else(|| Error::new(Kind::Unexpected, "an extract vanished from its package"))?;
            opened(&package.extract(index)?, table.as_deref()).at("extract", name)
        };
        open().at("file", path.display())
    }

    fn describe(&self, path: &Path, limits: &Limits) -> Result<FileDescription> {
        let bytes = std::fs::metadata(path).wrap(Kind::SourceMissing, || format!("there is no file {}", path.display()))?.len();
        let describe = || {
            let mut package = Archive::open(path, limits)?;
            let mut tables = Vec::new();
            for (name, index) in package.extracts.clone() {
                let found = described(&package.extract(index)?).at("extract", &name)?;
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

fn only_read() -> Error {
    Error::new(Kind::Unsupported, "Tableau's packages are only read").help("write a .hyper or a .tde")
}

/// An opened package.
struct Archive {
    zip: ZipArchive<File>,
    /// The extracts by name: the file's without `.tde`, with its folders where two would be called alike.
    extracts: BTreeMap<String, usize>,
    most: u64,
}

impl Archive {
    fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let file = File::open(path).wrap(Kind::SourceMissing, || format!("cannot open {}", path.display()))?;
        let bytes = file.metadata().wrap(Kind::SourceUnreadable, || "cannot read the file's size".into())?.len();
        let zip = ZipArchive::new(file).wrap(Kind::SourceUnreadable, || "the package is no zip archive".into())?;
        let names: Vec<String> = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let with = |ending: &str| -> Vec<(usize, String)> {
            let stem = |name: &String| {
                let (stem, end) = name.rsplit_once('.')?;
                end.eq_ignore_ascii_case(ending).then(|| stem.replace('\\', "/"))
            };
            names.iter().filter_map(|name| Some((zip.index_for_name(name)?, stem(name)?))).collect()
        };
        let found = with("tde");
        if found.is_empty() {
            let error = Error::new(Kind::SourceEmpty, "there is no .tde extract in the package");
            return Err(match with("hyper").as_slice() {
                [] => error.help("the package reads its data from elsewhere; convert that source instead"),
                hyper => {
                    let names: Vec<_> = hyper.iter().map(|(_, name)| format!("{name}.hyper")).collect();
                    error.help(format!("it holds {}: unpack it, it is a zip archive", names.join(", ")))
                }
            });
        }
        let short = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let alike = |name: &str| found.iter().filter(|(_, other)| short(other) == short(name)).count() > 1;
        let extracts = found.iter().map(|(i, name)| (if alike(name) { name.clone() } else { short(name) }, *i)).collect();
        Ok(Self { zip, extracts, most: limits.unpacked.max(bytes.saturating_mul(RATIO)) })
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

    /// Unpacks an extract; what its entry claims to be large does not count, what comes out does.
    fn extract(&mut self, index: usize) -> Result<Extract> {
        let failed = || "cannot unpack the extract".to_owned();
        let mut file = tempfile::tempfile().wrap(Kind::WriteFailed, failed)?;
        let mut entry = self.zip.by_index(index).wrap(Kind::SourceUnreadable, failed)?;
        let (mut piece, mut bytes) = (vec![0; PIECE], 0u64);
        loop {
            let read = entry.read(&mut piece).wrap(Kind::SourceUnreadable, failed)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            if bytes > self.most {
                return Err(damaged(format!("an extract is larger than {} when unpacked", show_size(self.most)))
                    .help("unpack it yourself if you trust it, and convert the .tde"));
            }
            file.write_all(&piece[..read]).wrap(Kind::WriteFailed, failed)?;
        }
        Extract::open(file)
    }
}
