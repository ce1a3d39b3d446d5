//! Geometries: well-known binary (OGC 06-103r4, and the EWKB of PostGIS) rendered as well-known text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::error::{Error, Kind, Result, Wrap};

/// The flag by which PostGIS says that an SRID follows the geometry's type.
const EWKB_SRID: u32 = 0x2000_0000;
/// Longitude and latitude in degrees, what Tableau's geographies are in.
const WGS_84: u32 = 4326;

/// What hyperd keeps of a coordinate: it stores steps of 1e-10 radians and gives back seven decimals of a degree (measured).
pub(super) const KEPT: &str = "coordinates of at most 7 decimals of a degree";

/// Whether hyperd gives every number of a geometry's text back as it is.
pub(super) fn is_kept(text: &str) -> bool {
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E')));
    // Words have letters e, too; they are no numbers.
    numbers.filter_map(|n| n.parse::<f64>().ok()).all(|n| format!("{n:.7}").parse() == Ok(n))
}

/// Renders each geometry as text; coordinates in the fewest digits that read back as the same double.
///
/// `before` is the number of rows ahead of this array, for messages.
///
/// # Errors
/// `ValueRefused` with the row of bytes that are no geometry.
pub(super) fn well_known_text(source: &ArrayRef, before: u64) -> Result<ArrayRef> {
    let bytes = cast(source, &DataType::BinaryView).wrap(Kind::Unexpected, || "a geometry column does not hold bytes".into())?;
    let mut out = StringBuilder::with_capacity(bytes.len(), bytes.len() * 32);
    for (row, value) in bytes.as_binary_view().iter().enumerate() {
        let Some(value) = value else {
            out.append_null();
            continue;
        };
        let refused = |why: String| {
            Error::new(Kind::ValueRefused, "a value is not a geometry in well-known binary")
                .because(format!("row {} of its partition stream: {why}", before + row as u64 + 1))
                .help("filter the row with --where, or publish the column as bytes by leaving out its `geography` type")
        };
        if let Some(srid) = srid(value).filter(|srid| *srid != WGS_84) {
            return Err(refused(format!("its reference system is SRID {srid}; a geography is in SRID {WGS_84}")));
        }
        let geometry = wkb::reader::read_wkb(value).map_err(|e| refused(e.to_string()))?;
        let mut text = String::new();
        wkt::to_wkt::write_geometry(&mut text, &geometry).map_err(|e| refused(e.to_string()))?;
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}

/// The reference system an EWKB value names, which text would silently leave out.
fn srid(value: &[u8]) -> Option<u32> {
    let (order, rest) = value.split_first()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let read = |bytes: [u8; 4]| if *order == 0 { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    if read(*kind) & EWKB_SRID == 0 { None } else { rest.first_chunk::<4>().map(|srid| read(*srid)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::BinaryArray;

    /// A little-endian point of ISO WKB.
    fn point(x: f64, y: f64) -> Vec<u8> {
        let mut bytes = vec![1, 1, 0, 0, 0];
        bytes.extend(x.to_le_bytes());
        bytes.extend(y.to_le_bytes());
        bytes
    }

    #[test]
    fn numbers_of_more_than_seven_decimals_are_told_apart() {
        assert!(
            is_kept("POINT(13.404954 52.520008)") && is_kept("LINESTRING(-0.1 1e1, 0.1234567 -90)") && is_kept("POINT EMPTY")
        );
        assert!(!is_kept("POINT(13.40495412 52)") && !is_kept("POLYGON((0 0, 1 0.123456789, 1 1, 0 0))"));
    }

    #[test]
    fn points_keep_every_digit_and_nulls_stay() {
        let bytes = point(-0.1, 51.507_222_222_222_3);
        let array: ArrayRef = Arc::new(BinaryArray::from(vec![Some(bytes.as_slice()), None]));
        let text = well_known_text(&array, 0).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "POINT(-0.1 51.5072222222223)");
        assert!(text.is_null(1));
    }

    #[test]
    fn bytes_that_end_early_name_their_row() {
        let bytes = &point(1.0, 2.0)[..12];
        let array: ArrayRef = Arc::new(BinaryArray::from(vec![Some(bytes)]));
        let error = well_known_text(&array, 4).unwrap_err();
        assert_eq!(error.code(), "E204");
        assert!(error.to_string().contains("geometry"), "{error}");
    }

    #[test]
    fn another_reference_system_is_refused() {
        let with = |srid: u32| {
            let mut bytes = point(1.0, 2.0);
            bytes[1..5].copy_from_slice(&(1 | EWKB_SRID).to_le_bytes());
            bytes.splice(5..5, srid.to_le_bytes());
            let array: ArrayRef = Arc::new(BinaryArray::from(vec![Some(bytes.as_slice())]));
            well_known_text(&array, 0)
        };
        assert_eq!(with(4326).unwrap().as_string::<i32>().value(0), "POINT(1 2)");
        assert_eq!(with(3857).unwrap_err().code(), "E204");
    }

    #[test]
    fn a_count_of_four_billion_points_is_refused_not_allocated() {
        let array: ArrayRef = Arc::new(BinaryArray::from(vec![Some([1u8, 2, 0, 0, 0, 255, 255, 255, 255].as_slice())]));
        assert_eq!(well_known_text(&array, 0).unwrap_err().code(), "E204");
    }
}
