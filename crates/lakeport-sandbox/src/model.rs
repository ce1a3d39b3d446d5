//! The model that a server infers from the foreign keys of an extract with several tables.
//!
//! Servers publish only the simple case: one table of facts, and below it a tree of tables, each referred to by one other. What
//! is anything else they refuse with the same code as a damaged file.

use crate::index::Table;

/// A foreign key: the table that has it, and the one it refers to, each with its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) from: (String, String),
    pub(crate) to: (String, String),
}

/// Makes sure that several tables are one tree.
///
/// # Errors
/// Why they are none, in words.
pub(crate) fn ensure_tree(tables: &[Table], references: &[Reference]) -> Result<(), String> {
    let name = |table: &Table| format!("{}.{}", table.schema, table.name);
    let is = |end: &(String, String), table: &Table| end.0 == table.schema && end.1 == table.name;
    let refused = |why: String| Err(format!("several tables need one tree of foreign keys below one table of facts, and {why}"));
    let mut facts = Vec::new();
    for table in tables {
        match references.iter().filter(|r| is(&r.to, table)).count() {
            0 => facts.push(table),
            1 => {}
            keys => return refused(format!("{} is referred to by {keys} keys", name(table))),
        }
    }
    let fact = match facts.as_slice() {
        [fact] => *fact,
        [] => return refused("the keys form a circle".to_owned()),
        several => {
            let names: Vec<String> = several.iter().map(|table| name(table)).collect();
            return refused(format!("nothing refers to {}", names.join(", nor to ")));
        }
    };
    // With one key to each of the others, what the walk does not reach goes in circles.
    let mut reached = vec![fact];
    let mut at = 0;
    while let Some(table) = reached.get(at).copied() {
        let below = references.iter().filter(|r| is(&r.from, table));
        reached.extend(below.filter_map(|r| tables.iter().find(|t| is(&r.to, t))));
        at += 1;
    }
    match tables.iter().find(|table| !reached.contains(table)) {
        Some(left) => refused(format!("{} is not connected with {}", name(left), name(fact))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tables: &[&str], keys: &[(&str, &str)]) -> Result<(), String> {
        let at = |name: &str| ("Extract".to_owned(), name.to_owned());
        let table = |name: &&str| Table { schema: "Extract".to_owned(), name: (*name).to_owned(), rows: 0, columns: Vec::new() };
        let tables: Vec<Table> = tables.iter().map(table).collect();
        ensure_tree(&tables, &keys.iter().map(|(from, to)| Reference { from: at(from), to: at(to) }).collect::<Vec<_>>())
    }

    #[test]
    fn a_tree_below_one_table_of_facts_is_taken_and_nothing_else() {
        for (tables, keys) in
            [(&["a"][..], &[][..]), (&["a", "b"], &[("b", "a")]), (&["a", "b", "c", "d"], &[("c", "a"), ("c", "b"), ("b", "d")])]
        {
            assert_eq!(check(tables, keys), Ok(()), "{tables:?} {keys:?}");
        }
        for (tables, keys, why) in [
            (&["a", "b"][..], &[][..], "nothing refers to Extract.a, nor to Extract.b"),
            (&["a", "b", "c"], &[("b", "a")], "nothing refers to Extract.b, nor to Extract.c"),
            (&["a", "b", "c"], &[("b", "a"), ("c", "a")], "Extract.a is referred to by 2 keys"),
            (&["a", "b"], &[("b", "a"), ("b", "a")], "Extract.a is referred to by 2 keys"),
            (&["a", "b"], &[("b", "a"), ("a", "b")], "the keys form a circle"),
            (&["a", "b", "c"], &[("b", "a"), ("a", "b")], "Extract.a is not connected with Extract.c"),
            (&["a", "b"], &[("b", "b")], "Extract.b is not connected with Extract.a"),
        ] {
            let told = check(tables, keys).unwrap_err();
            assert!(told.ends_with(why), "{tables:?} {keys:?}: {told}");
        }
    }
}
