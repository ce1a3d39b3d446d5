//! What stands where in an E1 file: header, field list, record layout. Little-endian throughout.
//!
//! Source: files written by Designer (2018, 2020) and the MIT-licensed readers of the format; measured against them.

use std::fmt::Write;

use arrow::datatypes::{DataType, TimeUnit};
use quick_xml::events::Event;

use crate::error::{Error, Kind, Result, Wrap};
use crate::types::{Mapping, yxdb};

/// Bytes of the header.
pub(super) const HEADER: usize = 512;
/// What the header starts with.
pub(super) const MAGIC: &[u8] = b"Alteryx Database File";
/// The file id: no spatial index.
const FILE_ID: u32 = 0x0044_0204;
/// Uncompressed bytes of a block.
pub(super) const BLOCK: usize = 0x40000;
/// Records of a group; each begins with a block of its own and an entry of the index.
pub(super) const GROUP: u64 = 65_536;
/// The bit of a block's length that says its bytes are not compressed.
pub(super) const RAW: u32 = 0x8000_0000;
/// Where the header says: position of the index, then the number of records.
pub(super) const PATCH: u64 = 96;
/// Most bytes of the field list; 32,000 fields of 255 characters fit.
const META: usize = 64 * 1024 * 1024;
/// What Designer shows as the size of a V_WString and of a Blob without bound.
const TEXT_SIZE: u32 = 1_073_741_823;
const BLOB_SIZE: u32 = 2_147_483_647;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinds {
    Bool,
    Byte,
    Int16,
    Int32,
    Int64,
    Float,
    Double,
    /// Size and scale.
    FixedDecimal(usize, i8),
    /// Characters.
    String(usize),
    /// UTF-16 code units.
    WString(usize),
    Date,
    Time,
    DateTime,
    VString,
    VWString,
    Blob,
}

impl Kinds {
    /// Bytes in the fixed part of a record, the NULL flag included.
    pub(super) fn fixed(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Byte => 2,
            Self::Int16 => 3,
            Self::Int32 | Self::Float => 5,
            Self::Int64 | Self::Double => 9,
            Self::FixedDecimal(size, _) | Self::String(size) => size + 1,
            Self::WString(size) => 2 * size + 1,
            Self::Date => 11,
            Self::Time => 9,
            Self::DateTime => 20,
            Self::VString | Self::VWString | Self::Blob => 4,
        }
    }

    /// Whether values lie in the variable part.
    pub(super) fn variable(self) -> bool {
        matches!(self, Self::VString | Self::VWString | Self::Blob)
    }

    /// The Arrow type it is read as.
    pub(super) fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Byte => DataType::UInt8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            // A positive number needs no sign, so all but the point may be digits.
            Self::FixedDecimal(size, scale) => {
                let digits = u8::try_from(size - usize::from(scale > 0)).unwrap_or(u8::MAX);
                let fits = digits > 0 && i16::from(scale) <= i16::from(digits);
                match digits {
                    ..=38 if fits => DataType::Decimal128(digits, scale),
                    ..=76 if fits => DataType::Decimal256(digits, scale),
                    _ => DataType::Utf8,
                }
            }
            Self::String(_) | Self::WString(_) | Self::VString | Self::VWString => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time32(TimeUnit::Second),
            Self::DateTime => DataType::Timestamp(TimeUnit::Second, None),
            Self::Blob => DataType::Binary,
        }
    }

    /// The field a physical type is written as.
    pub(super) fn of(physical: &DataType) -> Option<Self> {
        Some(match physical {
            DataType::Boolean => Self::Bool,
            DataType::UInt8 => Self::Byte,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Decimal128(p, s) => Self::FixedDecimal(yxdb::size(*p, *s), *s),
            DataType::Utf8 => Self::VWString,
            DataType::Binary => Self::Blob,
            DataType::Date32 => Self::Date,
            DataType::Time32(TimeUnit::Second) => Self::Time,
            DataType::Timestamp(TimeUnit::Second, _) => Self::DateTime,
            _ => return None,
        })
    }

    /// The type's name in the field list.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::Byte => "Byte",
            Self::Int16 => "Int16",
            Self::Int32 => "Int32",
            Self::Int64 => "Int64",
            Self::Float => "Float",
            Self::Double => "Double",
            Self::FixedDecimal(..) => "FixedDecimal",
            Self::String(_) => "String",
            Self::WString(_) => "WString",
            Self::Date => "Date",
            Self::Time => "Time",
            Self::DateTime => "DateTime",
            Self::VString => "V_String",
            Self::VWString => "V_WString",
            Self::Blob => "Blob",
        }
    }

    /// How the type is shown: `FixedDecimal(19,6)`.
    pub(super) fn show(self) -> String {
        match self {
            Self::FixedDecimal(size, scale) => format!("FixedDecimal({size},{scale})"),
            Self::String(size) | Self::WString(size) => format!("{}({size})", self.name()),
            _ => self.name().to_owned(),
        }
    }

    fn parse(name: &str, size: Option<usize>, scale: Option<i8>) -> Option<Self> {
        // Alteryx' own limit of a fixed text; a longer one is a lie that would only take memory.
        let sized = |most: usize| size.filter(|s| (1..=most).contains(s));
        Some(match name {
            "Bool" => Self::Bool,
            "Byte" => Self::Byte,
            "Int16" => Self::Int16,
            "Int32" => Self::Int32,
            "Int64" => Self::Int64,
            "Float" => Self::Float,
            "Double" => Self::Double,
            "FixedDecimal" => Self::FixedDecimal(sized(258)?, scale.unwrap_or(0).max(0)),
            "String" => Self::String(sized(16_384)?),
            "WString" => Self::WString(sized(16_384)?),
            "Date" => Self::Date,
            "Time" => Self::Time,
            "DateTime" => Self::DateTime,
            "V_String" => Self::VString,
            "V_WString" => Self::VWString,
            "Blob" | "SpatialObj" => Self::Blob,
            _ => return None,
        })
    }
}

/// A field of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kinds,
}

/// Header and field list as bytes; index position and number of records are patched in at the end.
pub(super) fn head(mapping: &Mapping) -> Result<(Vec<u8>, Vec<Field>)> {
    let mut fields = Vec::new();
    let mut xml = String::from("<RecordInfo>\n");
    let lineage = if mapping.lineage.is_empty() { &mapping.table } else { &mapping.lineage };
    let source = attribute(&format!("lakeport: {lineage}"));
    for column in &mapping.columns {
        let kind = Kinds::of(&column.physical).ok_or_else(|| {
            Error::new(Kind::Unexpected, format!("{} has no place in .yxdb", column.physical)).at("column", &column.name)
        })?;
        let name = attribute(&column.name);
        let description = column.comment.as_ref().map_or_else(String::new, |c| format!("description=\"{}\" ", attribute(c)));
        let size = match kind {
            Kinds::FixedDecimal(size, scale) => format!("scale=\"{scale}\" size=\"{size}\" "),
            Kinds::VWString => format!("size=\"{}\" ", text_size(&column.target_type)),
            Kinds::Blob => format!("size=\"{BLOB_SIZE}\" "),
            _ => String::new(),
        };
        let _ = writeln!(xml, "\t<Field {description}name=\"{name}\" {size}source=\"{source}\" type=\"{}\"/>", kind.name());
        fields.push(Field { name: column.name.clone(), kind });
    }
    xml.push_str("</RecordInfo>\n\0");
    let units: Vec<u16> = xml.encode_utf16().collect();
    let mut bytes = vec![0; HEADER];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[64..68].copy_from_slice(&FILE_ID.to_le_bytes());
    let length = u32::try_from(units.len()).wrap(Kind::Unsupported, || "the field list is too long for .yxdb".into())?;
    bytes[80..84].copy_from_slice(&length.to_le_bytes());
    bytes[112..116].copy_from_slice(&1u32.to_le_bytes());
    bytes.extend(units.iter().flat_map(|u| u.to_le_bytes()));
    Ok((bytes, fields))
}

/// The size of a text: what its source declares, else without bound.
fn text_size(target_type: &str) -> u32 {
    let declared = target_type.strip_prefix("V_WString(").and_then(|t| t.strip_suffix(')')).and_then(|n| n.parse().ok());
    declared.filter(|n| (1..TEXT_SIZE).contains(n)).unwrap_or(TEXT_SIZE)
}

/// A text as an attribute's value. A line break would be read as a blank; characters that XML does not have are left out.
fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => {}
            _ => out.push(c),
        }
    }
    out
}

/// What a header says.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) meta_bytes: usize,
    pub(super) index: u64,
    pub(super) records: u64,
}

/// Reads the header of a file of `length` bytes.
pub(super) fn header(bytes: &[u8; HEADER], length: u64) -> Result<Header> {
    let damaged = |why: String| Error::new(Kind::SourceUnreadable, "the file is no .yxdb that Lakeport reads").because(why);
    if bytes.starts_with(b"Alteryx e2 Database file") {
        return Err(damaged("it is written by the AMP engine in the E2 format".into())
            .help("write it from Designer with \"use AMP\" off, or export Parquet (Designer 2024.1 and later)"));
    }
    if !bytes.starts_with(MAGIC) {
        return Err(damaged("it does not start with `Alteryx Database File`".into()));
    }
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
    let meta_bytes = usize::try_from(u32_at(80)).unwrap_or(usize::MAX).saturating_mul(2);
    let (index, records) = (u64_at(96), u64_at(104));
    if meta_bytes > META || (HEADER + meta_bytes) as u64 > length {
        return Err(damaged(format!("its field list has {meta_bytes} bytes, the file {length}")));
    }
    if index < (HEADER + meta_bytes) as u64 || index > length {
        return Err(damaged(format!("its index is at byte {index} of {length}: it was not written to its end")));
    }
    if records > u64::try_from(i64::MAX).unwrap_or(u64::MAX) {
        return Err(damaged("it says it holds a negative number of records".into()));
    }
    Ok(Header { meta_bytes, index, records })
}

/// Reads the field list.
pub(super) fn fields(utf16: &[u8]) -> Result<Vec<Field>> {
    let damaged =
        |why: String| Error::new(Kind::SourceUnreadable, "the field list of the .yxdb file cannot be read").because(why);
    let units: Vec<u16> = utf16.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).take_while(|u| *u != 0).collect();
    let xml = String::from_utf16(&units).map_err(|e| damaged(e.to_string()))?;
    let mut reader = quick_xml::Reader::from_str(&xml);
    let mut fields = Vec::new();
    // Sorting, too, is told in elements called Field.
    let mut inside = false;
    loop {
        match reader.read_event().map_err(|e| damaged(e.to_string()))? {
            Event::Start(e) if e.name().as_ref() == b"RecordInfo" => inside = true,
            Event::End(e) if e.name().as_ref() == b"RecordInfo" => inside = false,
            Event::Empty(e) | Event::Start(e) if inside && e.name().as_ref() == b"Field" => {
                let (mut name, mut kind, mut size, mut scale) = (None, None, None, None);
                for attribute in e.attributes() {
                    let attribute = attribute.map_err(|e| damaged(e.to_string()))?;
                    let value = attribute.unescape_value().map_err(|e| damaged(e.to_string()))?.into_owned();
                    match attribute.key.as_ref() {
                        b"name" => name = Some(value),
                        b"type" => kind = Some(value),
                        b"size" => size = value.parse().ok(),
                        b"scale" => scale = value.parse().ok(),
                        _ => {}
                    }
                }
                let name = name.ok_or_else(|| damaged("a field has no name".into()))?;
                let text = kind.unwrap_or_default();
                let kind = Kinds::parse(&text, size, scale).ok_or_else(|| {
                    damaged(format!("field `{name}` has type `{text}` with size {size:?}, which does not exist"))
                })?;
                fields.push(Field { name, kind });
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if fields.is_empty() {
        return Err(damaged("it names no field".into()));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field as ArrowField, Schema};

    use super::*;
    use crate::types::Wishes;

    #[test]
    fn only_the_records_own_fields_are_fields() {
        // As Designer writes it beside a sorted record.
        let xml = "<MetaInfo connection=\"Output\"><RecordInfo><Field name=\"A &amp; B\" size=\"64\" type=\"WString\"/></RecordInfo>\
                   <SortInfo><Field field=\"A\" order=\"Asc\"/></SortInfo></MetaInfo>";
        let utf16: Vec<u8> = xml.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(fields(&utf16).unwrap(), [Field { name: "A & B".into(), kind: Kinds::WString(64) }]);
        let lie: Vec<u8> = xml.replace("\"64\"", "\"99999999\"").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(fields(&lie).is_err());
    }

    #[test]
    fn comments_and_lineage_stand_in_the_field_list() {
        let comment = "Größe in \"m\" & <cm>\nzweite Zeile";
        let metadata = [("comment".to_owned(), comment.to_owned())].into();
        let schema = Schema::new(vec![
            ArrowField::new("a", DataType::Int32, true).with_metadata(metadata),
            ArrowField::new("b", DataType::Utf8, true),
        ]);
        let mut mapping = yxdb::map("t", &schema, &Wishes::default()).unwrap();
        mapping.lineage = "lake:sales/t, snapshot 412".into();
        let (bytes, _) = head(&mapping).unwrap();
        let units: Vec<u16> = bytes[HEADER..].chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        let xml = String::from_utf16(&units).unwrap();
        let mut told = Vec::new();
        let mut reader = quick_xml::Reader::from_str(xml.trim_end_matches('\0'));
        loop {
            match reader.read_event().unwrap() {
                Event::Empty(e) => {
                    let attributes = e.attributes().map(|a| {
                        let a = a.unwrap();
                        (String::from_utf8_lossy(a.key.as_ref()).into_owned(), a.unescape_value().unwrap().into_owned())
                    });
                    told.push(attributes.collect::<std::collections::BTreeMap<_, _>>());
                }
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(told[0]["description"], comment);
        assert!(!told[1].contains_key("description"));
        assert!(told.iter().all(|f| f["source"] == "lakeport: lake:sales/t, snapshot 412"));
        // Whatever the data, a text has the one type and size.
        assert_eq!((told[1]["type"].as_str(), told[1]["size"].as_str()), ("V_WString", "1073741823"));
    }
}
