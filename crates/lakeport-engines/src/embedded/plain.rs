//! Whether a query is nothing but a read of local Parquet files, and if so, which.
//!
//! Formats whose own engine reads Parquet then load the files themselves. The optimised plan decides, so that SQL in any
//! spelling counts; whatever could have another meaning in another engine does not, and the reason is told in `plan`.

use std::path::PathBuf;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use lakeport::source::{Comparison, Literal, PlainColumn, PlainScan, PlainSource, Predicate, ScanGroup, loadable};

use super::layout::FileKind;
use super::table::LakeTable;

/// The largest precision that compares alike everywhere.
const SMALL_DECIMAL: u8 = 18;

/// Says what a plan reads, or why it is more than a read.
pub(super) fn plain(plan: &LogicalPlan, tables: &[&LakeTable], state: &dyn Session) -> Result<PlainScan, String> {
    let [table] = tables else {
        return Err(if tables.is_empty() { "the query reads no table" } else { "the query reads several tables" }.to_owned());
    };
    let walked = Walk { table }.read(plan)?;
    readable(table)?;
    let columns: Vec<PlainColumn> = plan
        .schema()
        .fields()
        .iter()
        .zip(walked.columns)
        .map(|(field, source)| PlainColumn { name: field.name().clone(), data_type: field.data_type().clone(), source })
        .collect();
    for column in &columns {
        loadable(&column.name, &column.data_type)?;
    }
    let kept = table.kept(state, &walked.pushed).map_err(|e| e.strip_backtrace())?;
    let rows = kept.iter().filter_map(|i| table.rows.get(*i)).sum();
    let mut conditions: Vec<Predicate> = Vec::new();
    for condition in walked.conditions {
        // The optimiser keeps a condition above the scan that it also hands to it.
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    let filter = conditions.into_iter().reduce(|a, b| Predicate::And(Box::new(a), Box::new(b)));
    Ok(PlainScan { groups: groups(table, &kept)?, columns, filter, rows })
}

/// Whether the files themselves can be read by others as they are.
fn readable(table: &LakeTable) -> Result<(), String> {
    if table.layout.kind != FileKind::Parquet {
        return Err(format!("the source is {}, not Parquet", table.layout.kind.name()));
    }
    if !table.layout.place.is_local() {
        return Err("the source is not on the local disk".to_owned());
    }
    if !table.uniform {
        return Err("the files have different schemas, which the embedded engine merges".to_owned());
    }
    if let Some(reason) = &table.peculiar {
        return Err(reason.clone());
    }
    // A loader looks at all columns of a file, also at those nobody asked for.
    let schema = datafusion::datasource::TableProvider::schema(table);
    schema.fields().iter().try_for_each(|f| passable(f.name(), f.data_type()))
}

/// Whether a loader that does not need the column lets it pass; hyperd refuses a file for some types it never reads.
fn passable(name: &str, data_type: &DataType) -> Result<(), String> {
    use DataType as T;
    match data_type {
        // Measured: hyperd refuses a file for a time in milliseconds or nanoseconds it is not even asked for.
        T::Time64(TimeUnit::Microsecond) | T::Timestamp(_, _) | T::FixedSizeBinary(_) | T::Duration(_) => Ok(()),
        T::Dictionary(_, value) => loadable(name, value),
        T::Struct(fields) => fields.iter().try_for_each(|f| passable(name, f.data_type())),
        T::List(item) | T::LargeList(item) => passable(name, item.data_type()),
        other => loadable(name, other),
    }
}

fn groups(table: &LakeTable, kept: &[usize]) -> Result<Vec<ScanGroup>, String> {
    let mut groups: Vec<ScanGroup> = Vec::new();
    for file in kept.iter().filter_map(|i| table.layout.files.get(*i)) {
        let path = PathBuf::from(table.layout.show(file));
        let values = file.values.iter().map(partition_value).collect::<Result<Vec<_>, _>>()?;
        // The files are in the order of their paths, so those of one directory stand together.
        match groups.last_mut() {
            Some(group) if group.values == values => group.files.push(path),
            _ => groups.push(ScanGroup { name: file.partition.clone(), files: vec![path], values }),
        }
    }
    if let [only] = groups.as_mut_slice()
        && only.name.is_empty()
    {
        let place = table.layout.place.path.filename().unwrap_or_default();
        let file = only.files.first().and_then(|f| f.file_name()).map(|f| f.to_string_lossy().into_owned());
        only.name = if only.files.len() == 1 { file.unwrap_or_default() } else { place.to_owned() };
    }
    Ok(groups)
}

fn partition_value(value: &ScalarValue) -> Result<Literal, String> {
    match value {
        value if value.is_null() => Ok(Literal::Null),
        ScalarValue::Int32(Some(n)) => Ok(Literal::Int(i64::from(*n))),
        ScalarValue::Int64(Some(n)) => Ok(Literal::Int(*n)),
        ScalarValue::Date32(Some(days)) => Ok(Literal::Date(*days)),
        ScalarValue::Utf8(Some(text)) => Ok(Literal::Text(text.clone())),
        other => Err(format!("a partition value is of type {}", other.data_type())),
    }
}

/// What a part of the plan hands up.
struct Read {
    /// Where each of its columns comes from.
    columns: Vec<PlainSource>,
    conditions: Vec<Predicate>,
    /// The conditions the scan itself was given.
    pushed: Vec<Expr>,
}

struct Walk<'a> {
    table: &'a LakeTable,
}

impl Walk<'_> {
    fn read(&self, plan: &LogicalPlan) -> Result<Read, String> {
        let why = match plan {
            LogicalPlan::TableScan(scan) => {
                if scan.fetch.is_some() {
                    return Err("the query has a limit".to_owned());
                }
                let names = scan.projected_schema.fields().iter().map(|f| self.of_table(f.name()));
                let columns = names.collect::<Result<Vec<_>, _>>()?;
                let conditions = scan.filters.iter().map(|f| self.condition(f, None)).collect::<Result<Vec<_>, _>>()?;
                return Ok(Read { columns, conditions, pushed: scan.filters.clone() });
            }
            LogicalPlan::Filter(filter) => {
                let mut read = self.read(&filter.input)?;
                for part in datafusion::logical_expr::utils::split_conjunction(&filter.predicate) {
                    let condition = self.condition(part, Some((&read.columns, filter.input.schema())))?;
                    read.conditions.push(condition);
                }
                return Ok(read);
            }
            LogicalPlan::Projection(projection) => {
                let read = self.read(&projection.input)?;
                let schema = projection.input.schema();
                let columns = projection.expr.iter().map(|e| match bare(e) {
                    Expr::Column(column) => of_input(column, &read.columns, schema),
                    other => Err(format!("the query computes `{other}`")),
                });
                return Ok(Read { columns: columns.collect::<Result<_, _>>()?, ..read });
            }
            LogicalPlan::SubqueryAlias(alias) => return self.read(&alias.input),
            LogicalPlan::Limit(_) => "the query has a limit",
            LogicalPlan::Sort(_) => "the query sorts",
            LogicalPlan::Join(_) => "the query has a join",
            LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => "the query aggregates",
            LogicalPlan::Window(_) => "the query has a window function",
            LogicalPlan::Union(_) => "the query has a union",
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => "the query reads no rows of the table",
            _ => "the query is more than columns and a condition",
        };
        Err(why.to_owned())
    }

    fn of_table(&self, name: &str) -> Result<PlainSource, String> {
        let partition = self.table.layout.partitions.iter().position(|p| p.name() == name);
        Ok(partition.map_or_else(|| PlainSource::File(name.to_owned()), PlainSource::Partition))
    }

    /// A condition over the columns of an input, or of the table itself.
    fn condition(&self, expr: &Expr, input: Option<(&[PlainSource], &DFSchema)>) -> Result<Predicate, String> {
        let again = |e: &Expr| self.condition(e, input).map(Box::new);
        let column = |e: &Expr| self.column(e, input);
        let too_much = || format!("the condition `{expr}` may have another meaning elsewhere");
        match bare(expr) {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => Ok(Predicate::And(again(left)?, again(right)?)),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => Ok(Predicate::Or(again(left)?, again(right)?)),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let comparison = comparison(*op).ok_or_else(too_much)?;
                match (bare(left), bare(right)) {
                    (l, Expr::Literal(value, _)) => compare(column(l)?, comparison, value).ok_or_else(too_much),
                    (Expr::Literal(value, _), r) => compare(column(r)?, flipped(comparison), value).ok_or_else(too_much),
                    _ => Err(too_much()),
                }
            }
            Expr::Not(inner) => Ok(Predicate::Not(again(inner)?)),
            Expr::IsNull(inner) => Ok(Predicate::IsNull(column(inner)?.0)),
            Expr::IsNotNull(inner) => Ok(Predicate::IsNotNull(column(inner)?.0)),
            Expr::InList(list) => {
                let (source, data_type) = column(&list.expr)?;
                let values = list.list.iter().map(|item| match bare(item) {
                    Expr::Literal(value, _) => literal(value, &data_type),
                    _ => None,
                });
                let found = Predicate::In(source, values.collect::<Option<Vec<_>>>().ok_or_else(too_much)?);
                Ok(if list.negated { Predicate::Not(Box::new(found)) } else { found })
            }
            Expr::Between(between) => {
                let bound = |comparison, bound: &Expr| match bare(bound) {
                    Expr::Literal(value, _) => compare(column(&between.expr)?, comparison, value).ok_or_else(too_much),
                    _ => Err(too_much()),
                };
                let low = bound(Comparison::GtEq, &between.low)?;
                let inside = Predicate::And(Box::new(low), Box::new(bound(Comparison::LtEq, &between.high)?));
                Ok(if between.negated { Predicate::Not(Box::new(inside)) } else { inside })
            }
            // A truth value alone is a condition: `where cancelled`.
            Expr::Column(_) => compare(column(expr)?, Comparison::Eq, &ScalarValue::Boolean(Some(true))).ok_or_else(too_much),
            _ => Err(too_much()),
        }
    }

    fn column(&self, expr: &Expr, input: Option<(&[PlainSource], &DFSchema)>) -> Result<(PlainSource, DataType), String> {
        let Expr::Column(column) = bare(expr) else { return Err(format!("the condition computes `{expr}`")) };
        let source = match input {
            Some((columns, schema)) => of_input(column, columns, schema)?,
            None => self.of_table(&column.name)?,
        };
        let name = match &source {
            PlainSource::File(name) => name.as_str(),
            PlainSource::Partition(index) => self.table.layout.partitions.get(*index).map_or("", |p| p.name().as_str()),
        };
        let schema = datafusion::datasource::TableProvider::schema(self.table);
        let data_type =
            schema.field_with_name(name).map_err(|_| format!("column `{name}` is not the table's"))?.data_type().clone();
        loadable(name, &data_type)?;
        Ok((source, data_type))
    }
}

fn of_input(column: &Column, columns: &[PlainSource], schema: &DFSchema) -> Result<PlainSource, String> {
    let at = schema.maybe_index_of_column(column).and_then(|at| columns.get(at));
    at.cloned().ok_or_else(|| format!("column `{column}` is not the table's"))
}

/// An expression without the names given to it.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

fn comparison(operator: Operator) -> Option<Comparison> {
    Some(match operator {
        Operator::Eq => Comparison::Eq,
        Operator::NotEq => Comparison::NotEq,
        Operator::Lt => Comparison::Lt,
        Operator::LtEq => Comparison::LtEq,
        Operator::Gt => Comparison::Gt,
        Operator::GtEq => Comparison::GtEq,
        _ => return None,
    })
}

/// The comparison with its sides exchanged.
fn flipped(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Lt => Comparison::Gt,
        Comparison::LtEq => Comparison::GtEq,
        Comparison::Gt => Comparison::Lt,
        Comparison::GtEq => Comparison::LtEq,
        same => same,
    }
}

fn compare((source, data_type): (PlainSource, DataType), comparison: Comparison, value: &ScalarValue) -> Option<Predicate> {
    let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    // Text is ordered by collation, which differs; whether two texts are equal does not.
    if text && !matches!(comparison, Comparison::Eq | Comparison::NotEq) {
        return None;
    }
    Some(Predicate::Compare(source, comparison, literal(value, &data_type)?))
}

/// A constant that has one meaning beside a column of this type; none for NULL, for floats and where types differ.
fn literal(value: &ScalarValue, data_type: &DataType) -> Option<Literal> {
    use DataType as T;
    use ScalarValue as S;
    Some(match (data_type, value) {
        (T::Boolean, S::Boolean(Some(value))) => Literal::Bool(*value),
        (T::Int8, S::Int8(Some(n))) => Literal::Int(i64::from(*n)),
        (T::Int16, S::Int16(Some(n))) => Literal::Int(i64::from(*n)),
        (T::Int32, S::Int32(Some(n))) => Literal::Int(i64::from(*n)),
        (T::Int64, S::Int64(Some(n))) => Literal::Int(*n),
        (T::UInt8, S::UInt8(Some(n))) => Literal::Int(i64::from(*n)),
        (T::UInt16, S::UInt16(Some(n))) => Literal::Int(i64::from(*n)),
        (T::UInt32, S::UInt32(Some(n))) => Literal::Int(i64::from(*n)),
        (T::Utf8, S::Utf8(Some(text))) | (T::LargeUtf8, S::LargeUtf8(Some(text))) | (T::Utf8View, S::Utf8View(Some(text))) => {
            Literal::Text(text.clone())
        }
        (T::Date32, S::Date32(Some(days))) => Literal::Date(*days),
        (T::Decimal128(precision, scale), S::Decimal128(Some(value), p, s))
            if scale == s && precision == p && *precision <= SMALL_DECIMAL =>
        {
            Literal::Decimal(*value, *scale)
        }
        (T::Timestamp(TimeUnit::Microsecond, None), S::TimestampMicrosecond(Some(value), None)) => Literal::Timestamp(*value),
        (T::Timestamp(TimeUnit::Millisecond, None), S::TimestampMillisecond(Some(value), None)) => {
            Literal::Timestamp(value.checked_mul(1000)?)
        }
        _ => return None,
    })
}
