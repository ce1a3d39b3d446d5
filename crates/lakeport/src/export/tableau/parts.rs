//! A change made ready to be sent: its words, the id it is known by, and the parts it is cut into.

use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result, Wrap};
use crate::limits::show_size;

use super::change::{Action, Change, Cut};
use super::datasource::DataSource;
use super::retry::Repeats;

/// A piece is cut in two so often, and no further.
const CUTS: u32 = 12;

/// What is sent at a time: the whole payload, or the rows at some positions.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) rows: Option<Range<u64>>,
    cuts: u32,
    /// The size of what it was cut from, where its size was the reason.
    pub(super) of: u64,
    /// That reason, in words.
    pub(super) why: String,
}

/// A change made ready to be sent: its words, its content, and how it may be cut.
pub(super) struct Ready<'a> {
    pub(super) change: &'a Change,
    pub(super) cut: Option<&'a Cut<'a>>,
    /// Size and hash of the payload.
    pub(super) bytes: u64,
    content: String,
    /// The actions in the words of the API.
    pub(super) whole: String,
    /// Those that go with each piece after the first, where it is cut; why it cannot be, else.
    further: std::result::Result<Option<String>, String>,
}

impl<'a> Ready<'a> {
    pub(super) async fn of(change: &'a Change, cut: Option<&'a Cut<'a>>) -> Result<Self> {
        if change.actions.is_empty() {
            return Err(Error::new(Kind::Usage, "the change has no action"));
        }
        let words = |actions: &[&Action]| -> Result<String> {
            let actions: Vec<Value> = actions.iter().map(|a| a.json()).collect::<Result<_>>()?;
            Ok(json!({ "actions": actions }).to_string())
        };
        let whole = words(&change.actions.iter().collect::<Vec<_>>())?;
        if change.payload.is_none() && change.actions.iter().any(|a| a.source.is_some()) {
            return Err(Error::new(Kind::Usage, "an action reads from a payload, and there is none"));
        }
        let (bytes, content) = match &change.payload {
            Some(path) => digest(path).await?,
            None => (0, String::new()),
        };
        let cut = cut.filter(|cut| cut.rows > 1 || change.prepared);
        let further = match change.parted() {
            Ok((_, rest)) => Ok(cut.map(|_| words(&rest)).transpose()?),
            Err(why) => Err(why),
        };
        Ok(Self { change, cut, bytes, content, whole, further })
    }

    /// The actions of a piece after the first.
    pub(super) fn body(&self) -> &str {
        self.further.as_ref().ok().and_then(Option::as_deref).unwrap_or(&self.whole)
    }

    /// What is to be sent, the next part last.
    pub(super) fn parts(&self, limit: u64, repeats: &mut Repeats) -> Vec<Part> {
        match (self.cut, &self.further) {
            (Some(cut), Ok(Some(_))) if self.bytes > limit => {
                repeats.note(format!(
                    "change the data source: {} is more than change_limit, {}, sent in pieces",
                    show_size(self.bytes),
                    show_size(limit)
                ));
                even(cut.rows, self.bytes.div_ceil(limit.max(1)))
            }
            _ => {
                let rows = self.cut.filter(|_| self.change.prepared).map(|cut| 0..cut.rows);
                vec![Part { rows, cuts: 0, of: u64::MAX, why: String::new() }]
            }
        }
    }

    /// What a part's call is known by, however often it is sent; `attempt` counts the calls whose jobs came to nothing.
    pub(super) fn request_id(&self, before: &DataSource, part: &Part, attempt: u32) -> String {
        let of = self.cut.map_or(0, |c| c.rows);
        let place = part.rows.as_ref().map(|r| format!("rows {}-{} of {of}", r.start, r.end));
        let again = format!("attempt {attempt}");
        let mut words = vec![
            before.id.as_str(),
            self.change.connection.as_deref().unwrap_or_default(),
            self.change.version.as_deref().unwrap_or_default(),
            &self.content,
            &self.whole,
            place.as_deref().unwrap_or_default(),
        ];
        // The id of the first attempt has no number, as before there were several.
        if attempt > 0 {
            words.push(&again);
        }
        request_id(&words)
    }

    pub(super) fn too_large(&self, what: &str, size: u64) -> Error {
        Error::new(Kind::FileRefused, format!("{what} {}", show_size(size)))
            .help(
                "publish the whole with --mode full, or change fewer rows at a time; the server's limit is \
                 `api.server.extract-updates.max-size`, 100 MB unless set",
            )
            .at("payload", self.change.payload.as_ref().map(|p| p.display().to_string()).unwrap_or_default())
    }

    fn halved(&self, part: &Part, size: u64) -> Option<[Part; 2]> {
        let cut = self.further.as_ref().is_ok_and(Option::is_some);
        if cut { halves(part, size, self.cut) } else { None }
    }

    /// Cuts a part that is too large in two; the error where it cannot be.
    pub(super) fn halves(&self, part: &Part, size: u64, error: Error) -> Result<[Part; 2]> {
        match (self.halved(part, size), &self.further) {
            (Some(parts), _) => Ok(parts.map(|part| Part { why: error.message().to_owned(), ..part })),
            (None, Err(why)) => Err(error.because(format!("it cannot be cut by rows: {why}"))),
            (None, Ok(_)) => Err(error),
        }
    }
}

/// Cuts all rows into so many parts of one size, the first one last.
fn even(rows: u64, parts: u64) -> Vec<Part> {
    let each = rows.div_ceil(parts.clamp(1, rows.max(1))).max(1);
    let starts = (0..rows).step_by(usize::try_from(each).unwrap_or(usize::MAX));
    let mut parts: Vec<Part> = starts.map(|start| part(start..start.saturating_add(each).min(rows), 0, u64::MAX)).collect();
    parts.reverse();
    parts
}

fn part(rows: Range<u64>, cuts: u32, of: u64) -> Part {
    Part { rows: Some(rows), cuts, of, why: String::new() }
}

/// Cuts a part in two, unless it is too small or was cut often enough.
pub(super) fn halves(part: &Part, size: u64, cut: Option<&Cut<'_>>) -> Option<[Part; 2]> {
    let rows = part.rows.clone().unwrap_or(0..cut?.rows);
    let middle = rows.start + (rows.end - rows.start) / 2;
    if middle == rows.start || part.cuts >= CUTS {
        return None;
    }
    let half = |rows| self::part(rows, part.cuts + 1, size);
    Some([half(rows.start..middle), half(middle..rows.end)])
}

/// An id that the same change always has, and no other.
fn request_id(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
    // The shape of other clients' ids.
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Size and hash of a payload: two contents must never share an id, for the second would be dropped in silence.
async fn digest(path: &Path) -> Result<(u64, String)> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let failed = || format!("cannot read {}", path.display());
        let mut file = std::fs::File::open(&path).wrap(Kind::SourceMissing, failed)?;
        let mut hash = Sha256::new();
        let bytes = std::io::copy(&mut file, &mut hash).wrap(Kind::SourceUnreadable, failed)?;
        Ok((bytes, format!("{:x}", hash.finalize())))
    })
    .await
    .wrap(Kind::Unexpected, || "reading the payload was stopped".to_owned())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::Temporary;

    #[test]
    fn an_id_stands_for_one_change() {
        assert_eq!(request_id(&["a", "b"]), request_id(&["a", "b"]));
        assert_ne!(request_id(&["a", "b"]), request_id(&["ab", ""]));
        assert_eq!(request_id(&["a"]).len(), 36);
    }

    #[tokio::test]
    async fn each_attempt_has_an_id_that_every_run_finds() {
        let target = super::super::change::TableName::default();
        let rows = super::super::change::Match::Condition(json!({}));
        let delete = Action { verb: super::super::change::Verb::Delete, source: None, target, rows };
        let change = Change { actions: vec![delete], ..Change::default() };
        let source = DataSource { id: "d".into(), ..DataSource::default() };
        let ids = async || {
            let ready = Ready::of(&change, None).await.unwrap();
            (0..4).map(|attempt| ready.request_id(&source, &whole(), attempt)).collect::<Vec<_>>()
        };
        let (one, two) = (ids().await, ids().await);
        assert_eq!(one, two);
        assert_eq!(one.iter().collect::<std::collections::HashSet<_>>().len(), 4);
        // What an earlier Lakeport sent is known to the server by this id.
        let body = json!({ "actions": [change.actions[0].json().unwrap()] }).to_string();
        assert_eq!(one[0], request_id(&["d", "", "", "", &body, ""]));
    }

    fn whole() -> Part {
        Part { rows: None, cuts: 0, of: u64::MAX, why: String::new() }
    }

    #[test]
    fn parts_hold_every_row_once() {
        for rows in [1, 2, 3, 10, 999] {
            for parts in [1, 2, 3, 7, 5000] {
                let mut at = 0;
                for part in even(rows, parts).into_iter().rev() {
                    let range = part.rows.unwrap();
                    assert!(range.start == at && range.end > at, "{rows} in {parts}");
                    at = range.end;
                }
                assert_eq!(at, rows);
            }
        }
        let none = |_: Range<u64>| -> Result<Option<Temporary>> { Ok(None) };
        let cut = Cut { rows: 3, piece: &none };
        let [first, second] = halves(&whole(), 9, Some(&cut)).unwrap();
        assert_eq!((first.rows.clone(), second.rows), (Some(0..1), Some(1..3)));
        assert!(halves(&first, 9, Some(&cut)).is_none());
        assert!(halves(&whole(), 9, None).is_none());
    }
}
