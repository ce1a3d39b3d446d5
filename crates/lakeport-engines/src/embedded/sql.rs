//! The SQL text: which tables it names, and that it only reads.
//!
//! Besides `src`, a table is named `ENV.path.to.table`: the first name is an environment, the others are the path below
//! its root, letter by letter as written (and in lower case if that is not there). DataFusion knows three-part names at
//! most, so each such name is replaced by a short one before planning.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan};
use datafusion::prelude::{SQLOptions, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, ExprWithAlias, Ident, ObjectName, ObjectNamePart, Statement as SqlStatement, Value, visit_expressions_mut,
    visit_relations, visit_relations_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use lakeport::error::{Error, Kind, Result};
use lakeport::source::{Location, Query};

use super::fault;
use super::table::LakeTable;

/// The catalog of tables named through environments.
const CATALOG: &str = "lakeport";

/// A statement whose tables are not yet opened.
#[derive(Debug)]
pub(super) struct Parsed {
    statement: Statement,
    /// Each name of several parts, as written.
    names: Vec<Vec<String>>,
}

/// Reads the text and finds out which tables it names.
pub(super) fn parse(text: &str, context: &SessionContext) -> Result<Parsed> {
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement = state.sql_to_statement(text, &dialect).map_err(fault::sql)?;
    let Statement::Statement(inner) = &mut statement else { return Err(only_reads()) };
    let _: ControlFlow<()> = visit_expressions_mut(inner.as_mut(), spell_out);
    if !matches!(inner.as_ref(), SqlStatement::Query(_)) {
        return Err(only_reads());
    }
    let mut names: Vec<Vec<String>> = Vec::new();
    let _: ControlFlow<()> = visit_relations(inner.as_ref(), |name| {
        let parts = parts(name);
        if parts.len() > 1 && !names.contains(&parts) {
            names.push(parts);
        }
        ControlFlow::Continue(())
    });
    Ok(Parsed { statement, names })
}

/// Reads a condition on rows of this schema.
pub(super) fn condition(text: &str, schema: &DFSchema, context: &SessionContext) -> Result<LogicalExpr> {
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let mut written = state.sql_to_expr(text, &dialect).map_err(fault::sql)?;
    let _: ControlFlow<()> = visit_expressions_mut(&mut written, spell_out);
    state.create_logical_expr_from_sql_expr(ExprWithAlias { expr: written, alias: None }, schema).map_err(fault::sql)
}

/// Makes a double of a number with an exponent, which is one by SQL's own definition; the engine would count its digits.
fn spell_out(expr: &mut Expr) -> ControlFlow<()> {
    if let Expr::Value(value) = expr
        && let Value::Number(text, _) = &value.value
        && text.contains(['e', 'E'])
        && let Ok(mut parser) = Parser::new(&GenericDialect {}).try_with_sql(&format!("CAST('{text}' AS DOUBLE)"))
        && let Ok(double) = parser.parse_expr()
    {
        *expr = double;
    }
    ControlFlow::Continue(())
}

impl Parsed {
    /// Opens the tables named through environments and registers each under a name of its own.
    pub(super) async fn open_tables(
        &mut self,
        query: &Query,
        context: &SessionContext,
        first_number: usize,
    ) -> Result<Vec<Arc<LakeTable>>> {
        let catalog = Arc::new(MemoryCatalogProvider::new());
        context.register_catalog(CATALOG, Arc::clone(&catalog) as Arc<dyn CatalogProvider>);
        let mut opened = Vec::new();
        let mut renamed: BTreeMap<Vec<String>, [String; 3]> = BTreeMap::new();
        for (index, name) in self.names.iter().enumerate() {
            let [environment, path @ ..] = name.as_slice() else { continue };
            let shown = name.join(".");
            let root = environment_of(query, environment).map_err(|e| e.at("table", &shown))?;
            let table =
                Box::pin(open_table(root, path, context, first_number + index)).await.map_err(|e| e.at("table", &shown))?;
            let table = Arc::new(table);
            let (space, last) = (format!("t{index}"), path.last().cloned().unwrap_or_default());
            let schema = Arc::new(MemorySchemaProvider::new());
            schema.register_table(last.clone(), Arc::clone(&table) as Arc<dyn TableProvider>).map_err(fault::sql)?;
            catalog.register_schema(&space, schema).map_err(fault::sql)?;
            renamed.insert(name.clone(), [CATALOG.to_owned(), space, last]);
            opened.push(table);
        }
        self.rename(&renamed);
        Ok(opened)
    }

    fn rename(&mut self, renamed: &BTreeMap<Vec<String>, [String; 3]>) {
        let Statement::Statement(inner) = &mut self.statement else { return };
        let _: ControlFlow<()> = visit_relations_mut(inner.as_mut(), |name| {
            if let Some(new) = renamed.get(&parts(name)) {
                *name = ObjectName(new.iter().map(|part| ObjectNamePart::Identifier(quoted(part))).collect());
            }
            ControlFlow::Continue(())
        });
        // Columns may be written with the whole name of their table in front.
        let _: ControlFlow<()> = visit_expressions_mut(inner.as_mut(), |expr| {
            if let Expr::CompoundIdentifier(idents) = expr
                && let Some((column, table)) = idents.split_last()
                && let Some(new) = renamed.get(&table.iter().map(|i| i.value.clone()).collect::<Vec<_>>())
            {
                *idents = new.iter().map(|part| quoted(part)).chain([column.clone()]).collect();
            }
            ControlFlow::Continue(())
        });
    }

    /// Turns the statement into a plan that only reads.
    pub(super) async fn plan(self, context: &SessionContext) -> Result<LogicalPlan> {
        let plan = context.state().statement_to_plan(self.statement).await.map_err(fault::sql)?;
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&plan).map_err(|e| only_reads().because(e))?;
        Ok(plan)
    }
}

fn only_reads() -> Error {
    Error::new(Kind::SqlInvalid, "only one statement that reads is possible here")
        .help("write a single SELECT (or WITH … SELECT)")
}

fn environment_of<'a>(query: &'a Query, name: &str) -> Result<&'a Location> {
    let known = &query.environments;
    if let Some(found) = known.get(name).or_else(|| known.get(&name.to_lowercase())) {
        return Ok(found);
    }
    let error = Error::new(Kind::SqlInvalid, format!("`{name}` is no environment"));
    let near = known.keys().map(|k| (strsim::damerau_levenshtein(k, name), k)).filter(|(d, _)| *d <= 2).min();
    Err(match near {
        Some((_, near)) => error.help(format!("did you mean `{near}`?")),
        None => error.help("name tables as ENV.path.to.table; the table of --from is called `src`"),
    })
}

async fn open_table(root: &Location, path: &[String], context: &SessionContext, number: usize) -> Result<LakeTable> {
    let path = path.join("/");
    let found = LakeTable::open(&root.join(&path), context, number).await;
    let lower = path.to_lowercase();
    match found {
        Err(e) if e.kind() == Kind::SourceMissing && lower != path => LakeTable::open(&root.join(&lower), context, number)
            .await
            .map_err(|second| if second.kind() == Kind::SourceMissing { e } else { second }),
        other => other,
    }
}

fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.clone()).collect()
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}
