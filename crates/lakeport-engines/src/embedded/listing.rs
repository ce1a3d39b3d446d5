//! What lies in a directory of a lake: tables and further directories.

use futures::TryStreamExt;
use lakeport::error::{Error, Kind, Result};
use lakeport::limits::show_size;
use lakeport::source::{Listed, Location};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::layout::{self, FileKind};
use super::store::{Place, StoreKind};
use super::{fault, hive};

/// Files looked at per table; a listing of a lake must not take minutes because one table is huge.
const FILES_LOOKED_AT: usize = 10_000;

/// Lists what lies directly below a location.
pub(super) async fn list(at: &Location) -> Result<Vec<Listed>> {
    entries(at).await.map_err(|e| e.at("source", &at.url).during("list"))
}

async fn entries(at: &Location) -> Result<Vec<Listed>> {
    let place = Place::of(at)?;
    if place.kind == StoreKind::Web {
        return Err(Error::new(Kind::Unsupported, "a web server does not list its files"));
    }
    let shown = place.show(&place.path);
    if place.is_local() && !std::path::Path::new(&shown).is_dir() {
        return match place.path.filename() {
            Some(name) if std::path::Path::new(&shown).is_file() => Ok(vec![Listed {
                name: name.to_owned(),
                kind: "table".to_owned(),
                details: layout::kind_of(name)
                    .map(|(kind, _)| ("layout".to_owned(), kind.name().to_owned()))
                    .into_iter()
                    .collect(),
            }]),
            _ => Err(Error::new(Kind::SourceMissing, "there is no such directory")),
        };
    }
    let prefix = (!place.path.as_ref().is_empty()).then_some(&place.path);
    let found = place.store.list_with_delimiter(prefix).await.map_err(fault::store)?;
    if found.objects.is_empty() && found.common_prefixes.is_empty() && !place.is_local() && prefix.is_some() {
        return Err(Error::new(Kind::SourceMissing, "there is no such directory"));
    }
    let mut listed = Vec::new();
    for meta in &found.objects {
        let Some(name) = meta.location.filename() else { continue };
        let hidden = layout::hidden(&[name.to_owned()]);
        if let (Some((kind, _)), false) = (layout::kind_of(name), hidden) {
            let details = details(kind.name().to_owned(), 1, meta.size, false);
            listed.push(Listed { name: name.to_owned(), kind: "table".to_owned(), details });
        }
    }
    for directory in &found.common_prefixes {
        let Some(name) = directory.filename() else { continue };
        if !layout::hidden(&[name.to_owned()]) {
            listed.push(describe(&place, directory, name).await?);
        }
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

async fn describe(place: &Place, directory: &Path, name: &str) -> Result<Listed> {
    let mut below: Vec<ObjectMeta> = Vec::new();
    let mut stream = place.store.list(Some(directory));
    while let Some(meta) = stream.try_next().await.map_err(|e| fault::store(e).at("directory", place.show(directory)))? {
        below.push(meta);
        if below.len() == FILES_LOOKED_AT {
            break;
        }
    }
    let cut = below.len() == FILES_LOOKED_AT;
    let looked = look(directory, &below);
    Ok(match looked {
        Some((layout, files, bytes)) => {
            Listed { name: name.to_owned(), kind: "table".to_owned(), details: details(layout, files, bytes, cut) }
        }
        None => Listed { name: name.to_owned(), kind: "directory".to_owned(), details: Vec::new() },
    })
}

/// Layout, files and bytes, if the files are those of one table.
fn look(directory: &Path, below: &[ObjectMeta]) -> Option<(String, u64, u64)> {
    let mut kind: Option<FileKind> = None;
    let mut keys: Option<Vec<String>> = None;
    let (mut files, mut bytes, mut managed) = (0, 0, None);
    let mut one_table = true;
    for meta in below {
        let Some(segments) = layout::relative(directory, &meta.location) else { continue };
        managed = managed.or_else(|| layout::managed_by(&segments));
        let name = segments.last().map_or("", String::as_str);
        let (Some((found, _)), false) = (layout::kind_of(name), layout::hidden(&segments)) else { continue };
        files += 1;
        bytes += meta.size;
        let pairs: Option<Vec<String>> =
            segments[..segments.len() - 1].iter().map(|s| hive::pair(s).map(|(key, _)| key)).collect();
        // A plain directory in between, another kind or other keys: several tables.
        one_table &=
            *kind.get_or_insert(found) == found && pairs.is_some_and(|pairs| *keys.get_or_insert_with(|| pairs.clone()) == pairs);
    }
    if let Some(format) = managed {
        return Some((format.to_lowercase(), files, bytes));
    }
    let kind = kind.filter(|_| one_table)?;
    let layout = match keys.unwrap_or_default() {
        keys if keys.is_empty() => kind.name().to_owned(),
        keys => format!("{}, partitioned by {}", kind.name(), keys.join(", ")),
    };
    Some((layout, files, bytes))
}

fn details(layout: String, files: u64, bytes: u64, cut: bool) -> Vec<(String, String)> {
    let least = if cut { "at least " } else { "" };
    vec![
        ("layout".to_owned(), layout),
        ("files".to_owned(), format!("{least}{files}")),
        ("size".to_owned(), format!("{least}{}", show_size(bytes))),
    ]
}
