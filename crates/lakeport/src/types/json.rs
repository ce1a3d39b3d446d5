//! Nested values as JSON text in which nothing is lost: NaN and infinities become strings, which plain JSON has no number for.
//!
//! Arrow's own encoder has no way to fail and writes what went wrong in the place of a value; here it is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringBuilder};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};

use crate::error::{Error, Kind, Result, Wrap};

/// How values are encoded: NULLs written out, floats without a JSON number as strings.
#[derive(Debug)]
pub(crate) struct Json {
    options: EncoderOptions,
    failed: Arc<AtomicBool>,
}

impl Json {
    pub(crate) fn new() -> Self {
        let failed = Arc::new(AtomicBool::new(false));
        let special = Special { failed: Arc::clone(&failed) };
        Self { options: EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(special)), failed }
    }

    /// An encoder of an array.
    ///
    /// # Errors
    /// `TypeRefused`.
    pub(crate) fn encoder<'a>(&'a self, field: &'a FieldRef, array: &'a dyn Array) -> Result<NullableEncoder<'a>> {
        make_encoder(field, array, &self.options)
            .wrap(Kind::TypeRefused, || format!("cannot write {} as JSON", field.data_type()))
    }

    /// Makes sure that all that was encoded since is what it was.
    ///
    /// # Errors
    /// `ValueRefused`.
    pub(crate) fn ensure_kept(&self) -> Result<()> {
        if !self.failed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::new(Kind::ValueRefused, "a nested date or time is outside of the calendar and has no text")
            .help("leave the column out with --types COLUMN=drop, or cast it in --sql"))
    }
}

/// Renders each value as one JSON text; NULL stays NULL, NULLs inside are kept as `null`.
pub(crate) fn render(source: &ArrayRef) -> Result<ArrayRef> {
    let json = Json::new();
    let field: FieldRef = Arc::new(Field::new("value", source.data_type().clone(), true));
    let mut encoder = json.encoder(&field, source.as_ref())?;
    let mut out = StringBuilder::with_capacity(source.len(), source.len() * 32);
    let mut buffer = Vec::new();
    for i in 0..source.len() {
        if source.is_null(i) {
            out.append_null();
            continue;
        }
        buffer.clear();
        encoder.encode(i, &mut buffer);
        let text = std::str::from_utf8(&buffer).wrap(Kind::Unexpected, || "JSON that is no text".to_owned())?;
        out.append_value(text);
    }
    json.ensure_kept()?;
    Ok(Arc::new(out.finish()))
}

/// Makes encoders for floats that write what JSON numbers cannot hold as strings, and for dates and times that tell of a failure.
#[derive(Debug)]
struct Special {
    failed: Arc<AtomicBool>,
}

impl EncoderFactory for Special {
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
            other if other.is_temporal() => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::new().with_display_error(false))?;
                let time = Time { formatter, failed: Arc::clone(&self.failed) };
                Some(NullableEncoder::new(Box::new(time), array.nulls().cloned()))
            }
            _ => None,
        })
    }
}

struct Time<'a> {
    formatter: ArrayFormatter<'a>,
    failed: Arc<AtomicBool>,
}

impl Encoder for Time<'_> {
    fn encode(&mut self, idx: usize, out: &mut Vec<u8>) {
        let text = self.formatter.value(idx).try_to_string().unwrap_or_else(|_| {
            self.failed.store(true, Ordering::Relaxed);
            String::new()
        });
        // Dates and times have no letters that JSON would escape.
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
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
    use arrow::datatypes::{Date32Type, Int32Type};

    #[test]
    fn a_date_that_has_no_text_is_refused() {
        let dates = ListArray::from_iter_primitive::<Date32Type, _, _>(vec![Some(vec![Some(19_000), None])]);
        let out = render(&(Arc::new(dates) as ArrayRef)).unwrap();
        assert_eq!(out.as_string::<i32>().value(0), r#"["2022-01-08",null]"#);
        let far = ListArray::from_iter_primitive::<Date32Type, _, _>(vec![Some(vec![Some(i32::MAX)])]);
        assert_eq!(render(&(Arc::new(far) as ArrayRef)).unwrap_err().kind(), Kind::ValueRefused);
    }

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
