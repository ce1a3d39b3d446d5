//! SQL's arithmetic and comparisons, where the engine's own would change a value without a word.
//!
//! The engine adds and multiplies whole numbers round the end of their type; here an overflow stops the query. And it makes a double
//! of a number with a point, or, told not to, a decimal also where a double is compared with it, one digit off now and then.

use std::sync::Arc;

use arrow::compute::kernels::numeric;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans them.
#[derive(Debug)]
pub(super) struct Exact;

impl ExprPlanner for Exact {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let RawBinaryExpr { op, left: mut first, right: mut second } = expr;
        if left.is_floating() {
            as_double(&mut second);
        }
        if right.is_floating() {
            as_double(&mut first);
        }
        let checked = match op {
            BinaryOperator::Plus => Some(Operator::Plus),
            BinaryOperator::Minus => Some(Operator::Minus),
            BinaryOperator::Multiply => Some(Operator::Multiply),
            _ => None,
        };
        let Some(operator) = checked.filter(|operator| common(&left, *operator, &right).is_some()) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left: first, right: second }));
        };
        let function = Arc::new(ScalarUDF::from(Checked::new(operator)));
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![first, second]))))
    }
}

/// The type in which two whole numbers meet; `None` where they are something else.
fn common(left: &DataType, operator: Operator, right: &DataType) -> Option<DataType> {
    if !left.is_integer() || !right.is_integer() {
        return None;
    }
    BinaryTypeCoercer::new(left, &operator, right).get_result_type().ok().filter(DataType::is_integer)
}

/// Makes a number that was written with a point the double nearest to it.
fn as_double(expr: &mut Expr) {
    if let Expr::Literal(value @ (ScalarValue::Decimal128(Some(_), ..) | ScalarValue::Decimal256(Some(_), ..)), _) = expr
        && let Ok(ScalarValue::Utf8(Some(text))) = value.cast_to(&DataType::Utf8)
        && let Ok(double) = text.parse::<f64>()
    {
        *expr = Expr::Literal(ScalarValue::Float64(Some(double)), None);
    }
}

/// `+`, `-` or `*` of whole numbers; what does not fit is an error.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operator: Operator,
    signature: Signature,
}

impl Checked {
    fn new(operator: Operator) -> Self {
        Self { operator, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &'static str {
        match self.operator {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            _ => "checked_multiply",
        }
    }

    /// Columns without a name are called as they would be without this.
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let names: Vec<_> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(names.join(&format!(" {} ", self.operator)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let met = match types {
            [left, right] => common(left, self.operator, right),
            _ => None,
        };
        met.map(|met| vec![met; 2]).ok_or_else(|| datafusion::error::DataFusionError::Plan("two whole numbers are wanted".into()))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.coerce_types(types).map(|mut types| types.swap_remove(0))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [left, right] = arrays.as_slice() else {
            return Err(datafusion::error::DataFusionError::Internal("two arguments are wanted".into()));
        };
        let result = match self.operator {
            Operator::Plus => numeric::add(left, right),
            Operator::Minus => numeric::sub(left, right),
            _ => numeric::mul(left, right),
        }?;
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        if scalar { ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar) } else { Ok(ColumnarValue::Array(result)) }
    }
}
