//! The actions of a data update: JSON in, SQL statements out.
//!
//! What the actions mean is known from the vendor's description: `insert` adds the rows of the source table; `update` changes
//! the rows of the target where the condition holds; `upsert` does that and inserts the source rows for which it held nowhere;
//! `delete` removes the rows where it holds; `replace` removes all rows and inserts. Columns go by name.

use serde_json::{Map, Value};

use crate::condition::Condition;
use crate::extract::{qualified, quoted};
use crate::index::{Column, Table};

/// Where tables are looked for when the action names no schema.
const SCHEMAS: [&str; 2] = ["Extract", "public"];
/// The keys of an action.
const KEYS: [&str; 6] = ["action", "source-table", "source-schema", "target-table", "target-schema", "condition"];

/// One action.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    verb: Verb,
    source: Option<Name>,
    target: Name,
    condition: Option<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Insert,
    Update,
    Upsert,
    Delete,
    Replace,
}

#[derive(Debug, Clone)]
struct Name {
    schema: Option<String>,
    table: String,
}

/// Reads the body of a data update.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Action>, String> {
    let json: Value = serde_json::from_slice(body).map_err(|e| format!("the body is no JSON: {e}"))?;
    let actions = json.get("actions").and_then(Value::as_array).ok_or("the body needs the list actions")?;
    if actions.is_empty() {
        return Err("there is no action".into());
    }
    actions.iter().map(|action| Action::read(action.as_object().ok_or("an action is an object")?)).collect()
}

impl Action {
    fn read(json: &Map<String, Value>) -> Result<Self, String> {
        if let Some(key) = json.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(format!("an action has no key {key}"));
        }
        let text = |key: &str| match json.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(other) => Err(format!("{key} cannot be {other}")),
        };
        let verb = match text("action")?.as_deref() {
            Some("insert") => Verb::Insert,
            Some("update") => Verb::Update,
            Some("upsert") => Verb::Upsert,
            Some("delete") => Verb::Delete,
            Some("replace") => Verb::Replace,
            other => return Err(format!("there is no action {:?}", other.unwrap_or_default())),
        };
        let source =
            text("source-table")?.map(|table| Ok::<_, String>(Name { schema: text("source-schema")?, table })).transpose()?;
        let target =
            Name { schema: text("target-schema")?, table: text("target-table")?.ok_or("an action needs a target-table")? };
        let condition = json.get("condition").map(Condition::read).transpose()?;
        match verb {
            Verb::Insert | Verb::Replace if condition.is_some() => return Err("this action has no condition".into()),
            Verb::Update | Verb::Upsert if condition.is_none() => return Err("this action needs a condition".into()),
            _ if verb != Verb::Delete && source.is_none() => return Err("this action needs a source-table".into()),
            _ => {}
        }
        Ok(Self { verb, source, target, condition })
    }

    /// Whether it reads from a file that must be uploaded.
    pub(crate) fn has_source(&self) -> bool {
        self.source.is_some()
    }

    /// The statements that do it, for the databases `target` and `incoming`.
    pub(crate) fn statements(&self, targets: &[Table], sources: &[Table]) -> Result<Vec<String>, String> {
        let target = find(targets, &self.target)?;
        let source = self.source.as_ref().map(|name| find(sources, name)).transpose()?;
        let into = sql("target", target)?;
        let columns = source.map_or(&[][..], |s| &s.columns);
        let condition = self.condition.as_ref().map(|c| c.sql(&target.columns, columns)).transpose()?;
        let condition = condition.as_deref().unwrap_or("true");
        let from = source.map(|source| sql("incoming", source)).transpose()?.unwrap_or_default();
        let needed = self.condition.as_ref().map(Condition::source_columns).unwrap_or_default();
        match self.verb {
            Verb::Insert => Ok(vec![insert(&into, target, &from, columns, "")?]),
            Verb::Replace => Ok(vec![format!("delete from {into}"), insert(&into, target, &from, columns, "")?]),
            Verb::Delete if source.is_none() => Ok(vec![format!("delete from {into} as t where {condition}")]),
            Verb::Delete => {
                // Known of servers: what the condition does not use may not be there.
                if let Some(extra) = columns.iter().find(|c| !needed.contains(&c.name.as_str())) {
                    return Err(format!("the source column {:?} is not part of the condition", extra.name));
                }
                Ok(vec![format!("delete from {into} as t where exists (select 1 from {from} as s where {condition})")])
            }
            Verb::Update => Ok(vec![update(&into, target, &from, columns, &needed, condition)?]),
            Verb::Upsert => {
                let fresh = format!(" where not exists (select 1 from {into} as t where {condition})");
                // First the rows that are there: otherwise those just inserted would be updated as well.
                Ok(vec![
                    update(&into, target, &from, columns, &needed, condition)?,
                    insert(&into, target, &from, columns, &fresh)?,
                ])
            }
        }
    }
}

fn insert(into: &str, target: &Table, from: &str, columns: &[Column], filter: &str) -> Result<String, String> {
    if let Some(extra) = columns.iter().find(|c| !target.columns.iter().any(|t| t.name == c.name)) {
        return Err(format!("the target table has no column {:?}", extra.name));
    }
    for column in columns {
        fits(target, column)?;
    }
    let names = columns.iter().map(|c| name(&c.name)).collect::<Result<Vec<_>, _>>()?;
    let values = names.iter().map(|n| format!("s.{n}")).collect::<Vec<_>>().join(", ");
    Ok(format!("insert into {into} ({}) select {values} from {from} as s{filter}", names.join(", ")))
}

fn update(
    into: &str,
    target: &Table,
    from: &str,
    columns: &[Column],
    needed: &[&str],
    condition: &str,
) -> Result<String, String> {
    let mut set = Vec::new();
    for column in columns {
        if target.columns.iter().any(|t| t.name == column.name) {
            fits(target, column)?;
            let name = name(&column.name)?;
            set.push(format!("{name} = s.{name}"));
        } else if !needed.contains(&column.name.as_str()) {
            return Err(format!("the target table has no column {:?}", column.name));
        }
    }
    if set.is_empty() {
        return Err("no column of the source table is one of the target table".into());
    }
    Ok(format!("update {into} as t set {} from {from} as s where {condition}", set.join(", ")))
}

/// Types must be the same; how far a real server converts is not known, and a client should not depend on it.
fn fits(target: &Table, column: &Column) -> Result<(), String> {
    match target.columns.iter().find(|t| t.name == column.name) {
        Some(t) if t.sql_type != column.sql_type => {
            Err(format!("column {:?} is {} and would get {}", column.name, t.sql_type, column.sql_type))
        }
        _ => Ok(()),
    }
}

fn find<'a>(tables: &'a [Table], name: &Name) -> Result<&'a Table, String> {
    let of = |schema: &str| tables.iter().find(|t| t.schema == schema && t.name == name.table);
    let found = match &name.schema {
        Some(schema) => of(schema),
        None => SCHEMAS.iter().find_map(|schema| of(schema)),
    };
    found.ok_or_else(|| {
        let schema = name.schema.as_deref().unwrap_or(SCHEMAS[0]);
        format!("Specified table does not exist: {schema}.{} (errorCode=410012)", name.table)
    })
}

fn name(column: &str) -> Result<String, String> {
    quoted(column).map_err(|e| e.message().to_owned())
}

fn sql(database: &str, table: &Table) -> Result<String, String> {
    qualified(database, table).map_err(|e| e.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_actions_are_refused() {
        for body in [
            "",
            "{}",
            r#"{"actions":[]}"#,
            r#"{"actions":[{"action":"merge","target-table":"t","source-table":"s"}]}"#,
            r#"{"actions":[{"action":"insert","target-table":"t"}]}"#,
            r#"{"actions":[{"action":"insert","source-table":"t"}]}"#,
            r#"{"actions":[{"action":"upsert","source-table":"s","target-table":"t"}]}"#,
            r#"{"actions":[{"action":"delete","target-table":"t","where":"x"}]}"#,
            r#"{"actions":[{"action":"insert","source-table":"s","target-table":"t","condition":{}}]}"#,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(read(br#"{"actions":[{"action":"delete","target-table":"t"}]}"#).map(|a| a.len()), Ok(1));
    }
}
