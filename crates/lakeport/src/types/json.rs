//! Nested values as JSON text in which nothing is lost: NaN and infinities become strings, which plain JSON has no number for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringBuilder};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};

use crate::error::{Error, Kind, Result, Wrap};

/// How values are encoded: NULLs written out, floats without a JSON number as strings.
pub(crate) fn options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats))
}

/// Renders each value as one JSON text; NULL stays NULL, NULLs inside are kept as `null`.
pub(crate) fn render(source: &ArrayRef) -> Result<ArrayRef> {
    let failed = || format!("cannot write {} as JSON", source.data_type());
    let options = options();
    let field: FieldRef = Arc::new(Field::new("value", source.data_type().clone(), true));
    let mut encoder = make_encoder(&field, source.as_ref(), &options).wrap(Kind::TypeRefused, failed)?;
    let mut out = StringBuilder::with_capacity(source.len(), source.len() * 32);
    let mut buffer = Vec::new();
    for i in 0..source.len() {
        if source.is_null(i) {
            out.append_null();
            continue;
        }
        buffer.clear();
        encoder.encode(i, &mut buffer);
        let text = std::str::from_utf8(&buffer).map_err(|e| Error::new(Kind::Unexpected, failed()).because(e))?;
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}

/// Makes encoders for floats that write what JSON numbers cannot hold as strings.
#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        Ok(match array.data_type() {
            DataType::Float16 => Some(float::<Float16Type>(array, f64::from, |v| v.to_string())),
            DataType::Float32 => Some(float::<Float32Type>(array, f64::from, |v| format!("{v:?}"))),
            DataType::Float64 => Some(float::<Float64Type>(array, |v| v, |v| format!("{v:?}"))),
            _ => None,
        })
    }
}

fn float<'a, T: ArrowPrimitiveType>(
    array: &'a dyn Array,
    wide: fn(T::Native) -> f64,
    show: fn(T::Native) -> String,
) -> NullableEncoder<'a> {
    let array: &'a PrimitiveArray<T> = array.as_primitive();
    NullableEncoder::new(Box::new(Float { array, wide, show }), array.nulls().cloned())
}

struct Float<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    wide: fn(T::Native) -> f64,
    show: fn(T::Native) -> String,
}

impl<T: ArrowPrimitiveType> Encoder for Float<'_, T> {
    fn encode(&mut self, idx: usize, out: &mut Vec<u8>) {
        let value = self.array.value(idx);
        let wide = (self.wide)(value);
        let text = if wide.is_nan() {
            "\"NaN\"".to_owned()
        } else if wide.is_infinite() {
            if wide > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }.to_owned()
        } else {
            (self.show)(value)
        };
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, ListArray, StructArray};
    use arrow::datatypes::Int32Type;

    #[test]
    fn nothing_is_lost_in_json() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
        let out = render(&(Arc::new(list) as ArrayRef)).unwrap();
        assert_eq!(out.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("[1,null]"), None, Some("[]")]);

        let floats: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY, 0.1, 1e300]));
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(1), Some(2), Some(3)]));
        let both = StructArray::from(vec![
            (Arc::new(Field::new("f", DataType::Float64, true)), floats),
            (Arc::new(Field::new("i", DataType::Int32, true)), ints),
        ]);
        let out = render(&(Arc::new(both) as ArrayRef)).unwrap();
        let out: Vec<_> = out.as_string::<i32>().iter().flatten().collect();
        assert_eq!(out, [r#"{"f":"NaN","i":null}"#, r#"{"f":"-Infinity","i":1}"#, r#"{"f":0.1,"i":2}"#, r#"{"f":1e300,"i":3}"#]);
    }
}
