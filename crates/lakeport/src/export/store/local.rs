//! Files on the local disk.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::convert::Temporary;
use crate::error::{Context, Error, Kind, Result, Wrap};
use crate::export::{Health, Mode, Observed, Progress, Receipt};
use crate::limits::show_size;
use crate::run::blocking;
use crate::source::Listed;

/// Bytes copied at a time.
const BUFFER: usize = 1024 * 1024;

/// Copies a file to its place: under a temporary name beside it, synced, renamed.
pub(super) async fn publish(from: &Path, to: &Path, mode: Mode, progress: Progress<'_>) -> Result<Receipt> {
    let shown = to.display().to_string();
    if let (Ok(a), Ok(b)) = (from.canonicalize(), to.canonicalize())
        && a == b
    {
        return Err(Error::new(Kind::Usage, format!("{shown} is the file itself")).help("name another place"));
    }
    if mode == Mode::Create && to.symlink_metadata().is_ok() {
        return Err(super::taken(&shown));
    }
    let temporary = Temporary::beside(to).during("publish")?;
    let bytes = copy(from, temporary.path(), progress).await?;
    let keep = move || if mode == Mode::Create { temporary.keep_new() } else { temporary.keep() };
    let path = blocking(keep).await.during("publish")?;
    let way = if mode == Mode::Create { "link" } else { "rename" };
    let id = path.display().to_string();
    Ok(Receipt { url: Some(format!("file://{id}")), id, bytes, way: way.to_owned(), ..Receipt::default() })
}

async fn copy(from: &Path, to: &Path, progress: Progress<'_>) -> Result<u64> {
    let unreadable = || format!("cannot read {}", from.display());
    let unwritable = || format!("cannot write {}", to.display());
    let mut source = tokio::fs::File::open(from).await.wrap(Kind::SourceMissing, unreadable)?;
    let whole = source.metadata().await.wrap(Kind::SourceUnreadable, unreadable)?.len();
    let mut target = tokio::fs::File::create(to).await.wrap(Kind::WriteFailed, unwritable)?;
    source.set_max_buf_size(BUFFER);
    let mut buffer = vec![0; BUFFER];
    let mut done = 0;
    loop {
        let got = source.read(&mut buffer).await.wrap(Kind::SourceUnreadable, unreadable)?;
        let Some(chunk) = buffer.get(..got).filter(|c| !c.is_empty()) else { break };
        target.write_all(chunk).await.wrap(Kind::WriteFailed, unwritable)?;
        done += u64::try_from(got).unwrap_or(0);
        progress(done, whole.max(done));
    }
    target.flush().await.wrap(Kind::WriteFailed, unwritable)?;
    Ok(done)
}

/// Looks whether files could be written below a directory.
pub(super) fn check(root: &Path) -> Health {
    let mut health = Health::default();
    health.facts.push(("directory".to_owned(), root.display().to_string()));
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let Some(nearest) = absolute.ancestors().find(|d| d.exists()) else {
        health.missing.push(format!("{} does not exist", root.display()));
        return health;
    };
    if nearest != absolute {
        health.facts.push(("state".to_owned(), "would be created".to_owned()));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if !nearest.is_dir() && nearest != absolute {
        health.missing.push(format!("{} is a file, not a directory", nearest.display()));
    } else if rustix::fs::access(nearest, if nearest.is_dir() { access } else { rustix::fs::Access::WRITE_OK }).is_err() {
        health.denied.push(format!("no right to write in {}", nearest.display()));
    }
    health
}

/// Lists a directory.
pub(super) fn list(root: &Path, prefix: &str) -> Result<Vec<Listed>> {
    let failed = || format!("cannot list {}", root.display());
    let prefix = prefix.trim_matches('/');
    let mut listed = Vec::new();
    let entries = std::fs::read_dir(root).wrap(Kind::TargetMissing, failed);
    for entry in entries.map_err(|e| e.help("the first publish makes the directory; else correct `root` or the path"))? {
        let entry = entry.wrap(Kind::TargetMissing, failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Temporary files of others are nobody's business.
        if name.starts_with('.') {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        let (kind, details) = if metadata.is_dir() {
            ("directory", Vec::new())
        } else {
            ("file", vec![("size".to_owned(), show_size(metadata.len()))])
        };
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        listed.push(Listed { name, kind: kind.to_owned(), details });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// Looks at a published file.
pub(super) fn observe(path: &Path) -> Result<Observed> {
    let metadata = std::fs::metadata(path).wrap(Kind::VerifyFailed, || format!("{} is not there", path.display()))?;
    let changed = metadata.modified().ok().map(|t| chrono::DateTime::<chrono::Utc>::from(t).to_rfc3339());
    Ok(Observed { bytes: Some(metadata.len()), updated_at: changed, ..Observed::default() })
}
