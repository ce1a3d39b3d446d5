//! Tableau's packages (`.tdsx`, `.twbx`) are zip archives: their entries, unpacked within limits.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use zip::ZipArchive;

use super::Temporary;
use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::{Limits, show_size};

/// How often as large as the whole archive an entry may be, beyond what the limits allow anyway.
const RATIO: u64 = 100;
/// Bytes unpacked at a time.
const PIECE: usize = 256 * 1024;
/// What a zip archive begins with.
const ZIP: &[u8] = b"PK\x03\x04";

/// Opens an archive, and says how large an entry of it may be.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<(ZipArchive<File>, u64)> {
    let file = File::open(path).wrap(Kind::SourceMissing, || format!("cannot open {}", path.display()))?;
    let bytes = file.metadata().wrap(Kind::SourceUnreadable, || "cannot read the file's size".into())?.len();
    let zip = ZipArchive::new(file).wrap(Kind::SourceUnreadable, || "the package is no zip archive".into())?;
    Ok((zip, limits.unpacked.max(bytes.saturating_mul(RATIO))))
}

/// The entries with an ending, by index and name without it; folders are parted by `/`.
pub(crate) fn entries(zip: &ZipArchive<File>, ending: &str) -> Vec<(usize, String)> {
    let names = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned()));
    let stem = |name: &str| {
        let (stem, end) = name.rsplit_once('.')?;
        end.eq_ignore_ascii_case(ending).then(|| stem.replace('\\', "/"))
    };
    names.filter_map(|name| Some((zip.index_for_name(&name)?, stem(&name)?))).collect()
}

/// Unpacks an entry; what it claims to be large does not count, what comes out does.
pub(crate) fn unpack(zip: &mut ZipArchive<File>, index: usize, most: u64, to: &mut File) -> Result<()> {
    let failed = || "cannot unpack the extract".to_owned();
    let mut entry = zip.by_index(index).wrap(Kind::SourceUnreadable, failed)?;
    let (mut piece, mut bytes) = (vec![0; PIECE], 0u64);
    loop {
        let read = entry.read(&mut piece).wrap(Kind::SourceUnreadable, failed)?;
        if read == 0 {
            return Ok(());
        }
        bytes += read as u64;
        if bytes > most {
            let error = format!("the file is damaged: an extract is larger than {} when unpacked", show_size(most));
            return Err(
                Error::new(Kind::SourceUnreadable, error).help("unpack it yourself if you trust it, and convert what is in it")
            );
        }
        to.write_all(&piece[..read]).wrap(Kind::WriteFailed, failed)?;
    }
}

/// The `.hyper` extract of a download: the file itself, or the one in the package that it is, unpacked beside it.
///
/// # Errors
/// `SourceEmpty` for a package without one, `Unsupported` for one with several, `SourceUnreadable`, `WriteFailed`.
pub(crate) fn hyper(download: Temporary, beside: &Path, limits: &Limits) -> Result<Temporary> {
    let unreadable = || format!("cannot read {}", download.path().display());
    let mut start = Vec::with_capacity(ZIP.len());
    let mut file = File::open(download.path()).wrap(Kind::SourceUnreadable, unreadable)?.take(ZIP.len() as u64);
    file.read_to_end(&mut start).wrap(Kind::SourceUnreadable, unreadable)?;
    if start != ZIP {
        return Ok(download);
    }
    let (mut zip, most) = open(download.path(), limits)?;
    let index = match entries(&zip, "hyper").as_slice() {
        [(index, _)] => *index,
        [] => return Err(Error::new(Kind::SourceEmpty, "there is no .hyper extract in the data source")),
        several => {
            let names: Vec<_> = several.iter().map(|(_, name)| format!("{name}.hyper")).collect();
            return Err(Error::new(Kind::Unsupported, format!("the data source has several extracts: {}", names.join(", "))));
        }
    };
    let unpacked = Temporary::beside(beside)?;
    let failed = || format!("cannot write {}", unpacked.path().display());
    let mut to = File::create(unpacked.path()).wrap(Kind::WriteFailed, failed)?;
    unpack(&mut zip, index, most, &mut to)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::SimpleFileOptions;

    /// A file that is removed with the directory it lies in.
    fn download(directory: &Path, entries: &[(&str, &[u8])]) -> Temporary {
        let temporary = Temporary::beside(&directory.join("download")).unwrap();
        let mut zip = zip::ZipWriter::new(File::create(temporary.path()).unwrap());
        for (name, bytes) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        temporary
    }

    #[test]
    fn the_extract_of_a_download_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("extract");
        let limits = Limits::default();
        let of = |entries: &[(&str, &[u8])]| hyper(download(directory.path(), entries), &at, &limits);
        let one = of(&[("Orders.tds", b"<datasource/>"), ("Data/Extracts/orders.HYPER", b"HyPe")]).unwrap();
        assert_eq!(std::fs::read(one.path()).unwrap(), b"HyPe");
        assert_eq!(of(&[("Orders.tds", b"")]).unwrap_err().kind(), Kind::SourceEmpty);
        let error = of(&[("a.hyper", b"1"), ("b.hyper", b"2")]).unwrap_err();
        assert!(error.kind() == Kind::Unsupported && error.message().contains("a.hyper, b.hyper"), "{error}");

        let bare = Temporary::beside(&directory.path().join("bare")).unwrap();
        std::fs::write(bare.path(), b"HyPe").unwrap();
        let path = bare.path().to_owned();
        assert_eq!(hyper(bare, &at, &limits).unwrap().path(), path);
    }

    #[test]
    fn an_entry_that_unpacks_without_end_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { unpacked: 1000, ..Limits::default() };
        let bomb = download(directory.path(), &[("a.hyper", &vec![0; 10 << 20])]);
        let error = hyper(bomb, &directory.path().join("extract"), &limits).unwrap_err();
        assert!(error.kind() == Kind::SourceUnreadable && error.message().contains("when unpacked"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
