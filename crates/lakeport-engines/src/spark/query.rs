//! A query of Lakeport as a plan of Spark: tables by name or path, SQL over them, a condition, a limit.

use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use lakeport::error::{Error, Kind, Result};
use spark_connect_proto as proto;
use spark_connect_proto::relation::RelType;

/// The name of the view that SQL knows the table of `--from` by.
pub(super) const SOURCE: &str = "src";

fn relation(rel_type: RelType) -> proto::Relation {
    proto::Relation { common: None, rel_type: Some(rel_type) }
}

fn expression(text: String) -> proto::Expression {
    use proto::expression::{ExprType, ExpressionString};
    proto::Expression { common: None, expr_type: Some(ExprType::ExpressionString(ExpressionString { expression: text })) }
}

/// A table by its name, or files by format and path: `parquet./data/orders`, `delta.s3://lake/orders`.
pub(super) fn table(path: &str) -> proto::Relation {
    use proto::read::{DataSource, NamedTable, ReadType};
    let files = path
        .split_once('.')
        .filter(|(format, at)| format.chars().all(|c| c.is_ascii_alphanumeric()) && (at.starts_with('/') || at.contains("://")));
    let read_type = match files {
        Some((format, at)) => ReadType::DataSource(DataSource {
            format: Some(format.to_owned()),
            paths: vec![at.to_owned()],
            ..DataSource::default()
        }),
        None => {
            let options = std::collections::HashMap::new();
            ReadType::NamedTable(NamedTable { unparsed_identifier: path.to_owned(), options })
        }
    };
    relation(RelType::Read(proto::Read { is_streaming: false, read_type: Some(read_type) }))
}

/// SQL text.
pub(super) fn sql(text: &str) -> proto::Relation {
    relation(RelType::Sql(proto::Sql { query: text.to_owned(), ..proto::Sql::default() }))
}

/// How a query may begin; Spark runs every other statement already when it is asked for its columns.
const READS: [&str; 8] = ["select", "with", "values", "table", "from", "show", "describe", "desc"];

/// Says no to statements that are no query: a plan must not change anything.
pub(super) fn ensure_reads(text: &str) -> Result<()> {
    // What cannot be taken apart here is for Spark to explain.
    let Ok(tokens) = Tokenizer::new(&DatabricksDialect {}, text).with_unescape(false).tokenize() else { return Ok(()) };
    let Some(Token::Word(first)) = tokens.iter().find(|t| !matches!(t, Token::Whitespace(_) | Token::LParen)) else {
        return Ok(());
    };
    if READS.contains(&first.value.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(Error::new(Kind::SqlInvalid, format!("`{}` does not begin a query", first.value)).help("publish the result of a SELECT"))
}

/// Condition and limit around a relation.
pub(super) fn narrowed(mut input: proto::Relation, filter: Option<&str>, limit: Option<u64>) -> Result<proto::Relation> {
    if let Some(filter) = filter {
        let condition = Some(expression(filter.to_owned()));
        input = relation(RelType::Filter(Box::new(proto::Filter { input: Some(Box::new(input)), condition })));
    }
    if let Some(limit) = limit {
        let limit =
            i32::try_from(limit).map_err(|_| Error::new(Kind::Usage, format!("a limit of {limit} is more than Spark takes")))?;
        input = relation(RelType::Limit(Box::new(proto::Limit { input: Some(Box::new(input)), limit })));
    }
    Ok(input)
}

/// Expressions in the place of columns.
pub(super) fn with_columns(input: proto::Relation, columns: Vec<(String, String)>) -> proto::Relation {
    if columns.is_empty() {
        return input;
    }
    let alias = |(column, text): (String, String)| {
        let expr = Some(Box::new(expression(text)));
        proto::expression::Alias { expr, name: vec![column], metadata: None }
    };
    let aliases = columns.into_iter().map(alias).collect();
    relation(RelType::WithColumns(Box::new(proto::WithColumns { input: Some(Box::new(input)), aliases })))
}

/// The rows counted while they pass.
pub(super) fn counted(input: proto::Relation) -> proto::Relation {
    let metrics = vec![expression("count(1) as `rows`".into())];
    let name = "lakeport".to_owned();
    relation(RelType::CollectMetrics(Box::new(proto::CollectMetrics { input: Some(Box::new(input)), name, metrics })))
}

/// A relation as a plan.
pub(super) fn root(relation: proto::Relation) -> proto::Plan {
    proto::Plan { op_type: Some(proto::plan::OpType::Root(relation)) }
}

/// A command as a plan.
pub(super) fn command(command_type: proto::command::CommandType) -> proto::Plan {
    let command = proto::Command { command_type: Some(command_type) };
    proto::Plan { op_type: Some(proto::plan::OpType::Command(command)) }
}

/// Which of these environments a text names as `ENV.table` behind FROM, JOIN or a comma, and the text without the prefixes.
///
/// Texts and names in quotes are left alone.
pub(super) fn strip<'a>(text: &str, environments: impl Iterator<Item = &'a str>) -> Option<(&'a str, String)> {
    let tokens = Tokenizer::new(&DatabricksDialect {}, text).with_unescape(false).tokenize().ok()?;
    for environment in environments {
        let mut out = String::with_capacity(text.len());
        let mut found = false;
        let mut before: Option<&Token> = None;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let opens = match before {
                Some(Token::Word(w)) => {
                    w.quote_style.is_none() && ["from", "join"].contains(&w.value.to_ascii_lowercase().as_str())
                }
                Some(Token::Comma) => true,
                _ => false,
            };
            let names = matches!(token, Token::Word(w) if w.value == environment);
            if opens && names && matches!(tokens.get(at + 1), Some(Token::Period)) {
                found = true;
                at += 2;
                before = None;
                continue;
            }
            out.push_str(&token.to_string());
            if !matches!(token, Token::Whitespace(_)) {
                before = Some(token);
            }
            at += 1;
        }
        if found {
            return Some((environment, out));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_is_sent() {
        for text in ["select 1", " -- why\n(SELECT 1)", "with a as (select 1) select * from a", "values (1)", "from t select a"] {
            ensure_reads(text).unwrap();
        }
        for text in ["drop table src", "/* select */ INSERT INTO t VALUES (1)", "selec 1"] {
            assert_eq!(ensure_reads(text).unwrap_err().code(), "E126", "{text}");
        }
    }

    #[test]
    fn prefixes_are_taken_from_tables_only() {
        let text = "select cluster.x, 'from cluster.a' from cluster.db.t as cluster join  cluster.u using (id)";
        let (environment, out) = strip(text, ["lake", "cluster"].into_iter()).unwrap();
        assert_eq!(environment, "cluster");
        assert_eq!(out, "select cluster.x, 'from cluster.a' from db.t as cluster join  u using (id)");
        assert!(strip("select 1 from lake.t", ["cluster"].into_iter()).is_none());
    }

    #[test]
    fn files_and_tables_are_told_apart() {
        let is_files = |path: &str| {
            let Some(RelType::Read(read)) = table(path).rel_type else { panic!("no read") };
            matches!(read.read_type, Some(proto::read::ReadType::DataSource(_)))
        };
        assert!(is_files("parquet./data/orders") && is_files("delta.s3://lake/orders"));
        assert!(!is_files("spark_catalog.sales.orders") && !is_files("orders"));
    }
}
