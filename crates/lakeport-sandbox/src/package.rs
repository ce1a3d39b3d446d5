//! Packages: what real servers hand out for a data source, a zip archive of its description and its extract.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::refusal::Refusal;
use crate::xml::Element;

/// The folder of extracts in a package.
const EXTRACTS: &str = "Data/Extracts";

/// Packs an extract, and tells the size of the package.
pub(crate) fn pack(extract: &Path, name: &str, to: &Path) -> Result<u64, Refusal> {
    let failed = |e: zip::result::ZipError| Refusal::internal(format!("the package cannot be written: {e}"));
    let inside = format!("{EXTRACTS}/{name}.hyper");
    let connection = Element::new("connection").attr("class", "hyper").attr("dbname", &inside).attr("schema", "Extract");
    let extracts = Element::new("extract").attr("enabled", "true").child(connection);
    let description = Element::new("datasource").attr("formatted-name", name).attr("version", "18.1").child(extracts);
    let mut tds = String::new();
    description.write(&mut tds);
    let mut zip = ZipWriter::new(File::create(to)?);
    zip.start_file(format!("{name}.tds"), SimpleFileOptions::default()).map_err(failed)?;
    zip.write_all(tds.as_bytes())?;
    zip.start_file(inside, SimpleFileOptions::default().large_file(true)).map_err(failed)?;
    std::io::copy(&mut File::open(extract)?, &mut zip)?;
    let packed = zip.finish().map_err(failed)?;
    Ok(packed.metadata()?.len())
}
