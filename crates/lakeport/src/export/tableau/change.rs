//! What a change in place is: actions, in the words of the API, and how they are parted where a payload is too large.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::convert::Temporary;
use crate::convert::hyper::sql::name;
use crate::error::{Error, Kind, Result};

/// A change of a published data source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The data source's name, in the environment's project.
    pub name: String,
    /// A `.hyper` file with the tables that the actions read from.
    pub payload: Option<PathBuf>,
    /// What happens, in this order, all or nothing.
    pub actions: Vec<Action>,
    /// What tells this change from another with the same content and actions: a table version, a window.
    pub version: Option<String>,
    /// The connection to change, where the data source has several.
    pub connection: Option<String>,
    /// Whether the actions read from tables that only a piece ([`Cut`]) has, so that even the whole is sent as one.
    pub prepared: bool,
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What it does.
    pub verb: Verb,
    /// The payload's table to read from; `None` for a delete by condition alone.
    pub source: Option<TableName>,
    /// The table to change.
    pub target: TableName,
    /// Which rows are meant.
    pub rows: Match,
}

/// A table in a `.hyper` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// `Extract`, mostly.
    pub schema: String,
    /// `Extract`, mostly.
    pub table: String,
}

impl Default for TableName {
    fn default() -> Self {
        Self { schema: "Extract".to_owned(), table: "Extract".to_owned() }
    }
}

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Adds the rows.
    Insert,
    /// Updates rows that match.
    Update,
    /// Updates rows that match, inserts the others.
    Upsert,
    /// Deletes rows that match.
    Delete,
    /// Exchanges all rows of the table.
    Replace,
}

impl Verb {
    /// The word of the command line and of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Upsert => "upsert",
            Self::Delete => "delete",
            Self::Replace => "replace",
        }
    }
}

/// Which rows of the target an action means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// No condition: for insert and replace.
    All,
    /// Rows equal to a row of the payload in these columns.
    Key(Vec<String>),
    /// A condition in the API's own JSON.
    Condition(Value),
}

/// A payload that can be cut by rows; how, the caller knows, for it takes hyperd.
pub struct Cut<'a> {
    /// How many positions the rows have: as many as there are rows.
    pub rows: u64,
    /// Writes the rows at some positions into a file of its own; `None` when there are none.
    ///
    /// The position of a row depends on the rows alone, and rows with one key ([`Change::key`]) share theirs, so that they are
    /// never parted.
    pub piece: &'a (dyn Fn(Range<u64>) -> Result<Option<Temporary>> + Send + Sync),
}

impl std::fmt::Debug for Cut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cut").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Change {
    /// The columns that must stay together when the payload is cut: those that say which rows are meant.
    #[must_use]
    pub fn key(&self) -> &[String] {
        let keys =
            self.actions.iter().filter_map(|a| if let Match::Key(columns) = &a.rows { Some(columns.as_slice()) } else { None });
        keys.max_by_key(|columns| columns.len()).unwrap_or_default()
    }

    /// Which actions go with the first piece of a payload, and which with each further one.
    ///
    /// In pieces, a change must do what it does in one: `Err` says why it would not.
    pub(super) fn parted(&self) -> std::result::Result<(Vec<&Action>, Vec<&Action>), String> {
        let reading: Vec<&Action> = self.actions.iter().filter(|a| a.source.is_some()).collect();
        if reading.iter().any(|a| a.verb == Verb::Replace) {
            return Err("a replace exchanges all rows at once".to_owned());
        }
        // What reads nothing is done once, and before the first row of a piece arrives.
        if self.actions.iter().skip_while(|a| a.source.is_none()).any(|a| a.source.is_none()) {
            return Err("an action without rows of its own follows one with rows".to_owned());
        }
        let keys: Vec<&Vec<String>> =
            reading.iter().filter_map(|a| if let Match::Key(columns) = &a.rows { Some(columns) } else { None }).collect();
        if keys.windows(2).any(|two| two.first() != two.last()) {
            return Err("its actions have different keys".to_owned());
        }
        if reading.len() > 1 && reading.iter().any(|a| matches!(a.rows, Match::Condition(_))) {
            return Err("it is not known which rows its conditions hold together".to_owned());
        }
        Ok((self.actions.iter().collect(), reading))
    }
}

impl Action {
    pub(super) fn json(&self) -> Result<Value> {
        let verb = self.verb.name();
        let wrong = |what: &str| Err(Error::new(Kind::Usage, format!("the action {verb} {what}")));
        let mut action = json!({ "action": verb, "target-schema": self.target.schema, "target-table": self.target.table });
        if let Some(source) = &self.source {
            action["source-schema"] = json!(source.schema);
            action["source-table"] = json!(source.table);
        } else if self.verb != Verb::Delete {
            return wrong("needs a table to read from");
        }
        match (&self.rows, self.verb) {
            (Match::All, Verb::Insert | Verb::Replace) => {}
            (Match::All, _) => return wrong("needs key columns (--key)"),
            (_, Verb::Insert | Verb::Replace) => return wrong("takes no key"),
            (Match::Key(columns), _) => {
                if self.source.is_none() {
                    return wrong("by key needs a table to read from");
                }
                let equal = |column: &String| json!({ "op": "eq", "target-col": column, "source-col": column });
                action["condition"] = match columns.as_slice() {
                    [] => return wrong("needs key columns (--key)"),
                    [column] => equal(column),
                    columns => json!({ "op": "and", "args": columns.iter().map(equal).collect::<Vec<_>>() }),
                };
            }
            (Match::Condition(condition), _) => action["condition"] = condition.clone(),
        }
        Ok(action)
    }
}

impl Action {
    /// What the action does, as SQL over the table it changes and the one it reads from; columns go by name.
    pub(super) fn sql(&self, target: &str, source: &str, columns: &[String]) -> Result<Vec<String>> {
        let list = |of: &str| columns.iter().map(|c| format!("{of}{}", name(c))).collect::<Vec<_>>().join(", ");
        let insert = |which: &str| format!("INSERT INTO {target} ({}) SELECT {} FROM {source} AS s{which}", list(""), list("s."));
        let key: &[String] = match &self.rows {
            Match::All => &[],
            Match::Key(key) => key,
            Match::Condition(_) => {
                return Err(Error::new(
                    Kind::Unsupported,
                    "what a condition in the API's own words makes is not worked out here",
                ));
            }
        };
        let equal = key.iter().map(|k| format!("t.{0} = s.{0}", name(k))).collect::<Vec<_>>().join(" AND ");
        let set: Vec<String> = columns.iter().filter(|c| !key.contains(c)).map(|c| format!("{0} = s.{0}", name(c))).collect();
        let update = || format!("UPDATE {target} AS t SET {} FROM {source} AS s WHERE {equal}", set.join(", "));
        // Rows that a key alone makes have nothing to be updated.
        let updates = if set.is_empty() { Vec::new() } else { vec![update()] };
        Ok(match self.verb {
            Verb::Insert => vec![insert("")],
            Verb::Replace => vec![format!("DELETE FROM {target}"), insert("")],
            Verb::Delete => vec![format!("DELETE FROM {target} AS t WHERE EXISTS (SELECT 1 FROM {source} AS s WHERE {equal})")],
            Verb::Update => updates,
            // Those that are there first, or those just inserted would be updated as well.
            Verb::Upsert => {
                let fresh = insert(&format!(" WHERE NOT EXISTS (SELECT 1 FROM {target} AS t WHERE {equal})"));
                updates.into_iter().chain([fresh]).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(verb: Verb, rows: Match) -> Action {
        Action { verb, source: Some(TableName::default()), target: TableName::default(), rows }
    }

    fn key(columns: &[&str]) -> Match {
        Match::Key(columns.iter().map(|c| (*c).to_owned()).collect())
    }

    #[test]
    fn actions_have_the_words_of_the_api() {
        let upsert = action(Verb::Upsert, key(&["a"])).json().unwrap();
        assert_eq!(
            upsert,
            json!({ "action": "upsert", "target-schema": "Extract", "target-table": "Extract", "source-schema": "Extract",
                "source-table": "Extract", "condition": { "op": "eq", "target-col": "a", "source-col": "a" } })
        );
        let delete = action(Verb::Delete, key(&["a", "b"])).json().unwrap();
        assert_eq!(delete["condition"]["op"], "and");
        assert_eq!(delete["condition"]["args"][1]["target-col"], "b");
        assert!(action(Verb::Insert, Match::All).json().unwrap().get("condition").is_none());
        let window = json!({ "op": "gte", "target-col": "day", "const": { "type": "datetime", "v": "2026-01-01T00:00:00Z" } });
        let delete = Action { source: None, ..action(Verb::Delete, Match::Condition(window.clone())) }.json().unwrap();
        assert_eq!((&delete["condition"], delete.get("source-table")), (&window, None));
        for wrong in [
            action(Verb::Insert, key(&["a"])),
            action(Verb::Update, Match::All),
            action(Verb::Upsert, key(&[])),
            Action { source: None, ..action(Verb::Insert, Match::All) },
        ] {
            assert_eq!(wrong.json().unwrap_err().kind(), Kind::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn pieces_do_together_what_the_whole_does() {
        let change = |actions: Vec<Action>| Change { actions, ..Change::default() };
        let window = json!({ "op": "gte", "target-col": "day", "const": { "type": "datetime", "v": "2026-01-01T00:00:00Z" } });
        let by_window = Action { source: None, ..action(Verb::Delete, Match::Condition(window.clone())) };
        let insert = action(Verb::Insert, Match::All);
        // A window that is deleted and filled anew: deleted once, however many pieces fill it.
        let refill = change(vec![by_window.clone(), insert.clone()]);
        let (first, rest) = refill.parted().unwrap();
        assert_eq!((first.len(), rest), (2, vec![&insert]));
        let exchange = change(vec![action(Verb::Delete, key(&["a"])), insert.clone()]);
        assert_eq!(exchange.parted().unwrap().1.len(), 2);
        assert_eq!(exchange.key(), ["a"]);
        for wrong in [
            vec![action(Verb::Replace, Match::All)],
            vec![insert.clone(), by_window],
            vec![action(Verb::Delete, key(&["a"])), action(Verb::Update, key(&["b"]))],
            vec![action(Verb::Delete, Match::Condition(window)), insert],
        ] {
            assert!(change(wrong.clone()).parted().is_err(), "{wrong:?}");
        }
    }
}
