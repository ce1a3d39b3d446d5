//! Round trips of arbitrary batches, every encoding from bytes written by hand, and files that lie.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Field, Float64Type, Int16Type, Int64Type, Schema};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::column::Properties;
use super::layout::Directory;
use super::write::{NewColumn, Out, TdeEncoder};
use super::{Tde, extract, opened};
use crate::convert::Format;
use crate::convert::package::Package;
use crate::error::{Error, Kind, Result};
use crate::limits::Limits;

/// How many cases: a few in `make test`, many with `LAKEPORT_LONG`.
fn cases(few: u32) -> u32 {
    if std::env::var_os("LAKEPORT_LONG").is_some() { few * 200 } else { few }
}

fn read(path: &Path) -> Result<Vec<RecordBatch>> {
    // A damaged file may claim very many rows; what comes first is enough.
    opened(&extract(path)?, None)?.batches.take(64).collect()
}

fn written(batches: &[RecordBatch]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.tde");
    let columns = batches[0]
        .schema()
        .fields()
        .iter()
        .map(|f| NewColumn { name: f.name().clone(), physical: f.data_type().clone(), nullable: f.is_nullable() })
        .collect();
    let mut encoder = TdeEncoder::create(&path, columns).unwrap();
    for batch in batches {
        encoder.append(batch).unwrap();
    }
    encoder.complete().unwrap();
    (directory, path)
}

/// A column of one of the ten types, of values that a nullable column can hold.
fn column(rows: usize) -> impl Strategy<Value = ArrayRef> {
    fn some<T: std::fmt::Debug + Clone, A: Array + From<Vec<Option<T>>> + 'static>(
        value: impl Strategy<Value = T> + Clone + 'static,
        rows: usize,
    ) -> BoxedStrategy<ArrayRef> {
        proptest::collection::vec(proptest::option::weighted(0.8, value), rows)
            .prop_map(|values| Arc::new(A::from(values)) as ArrayRef)
            .boxed()
    }
    // No day of the ten that the calendar leaves out.
    let day = || prop_oneof![-719_162i32..=-141_438, -141_427i32..=2_932_896];
    let text =
        prop_oneof![3 => "\\PC{0,20}", 1 => any::<String>(), 1 => Just("x😀".repeat(40_000)), 2 => Just("twice".to_owned())];
    prop_oneof![
        some::<_, BooleanArray>(any::<bool>(), rows),
        some::<_, Int8Array>(-127i8..=127, rows),
        some::<_, Int16Array>(-32_767i16..=32_767, rows),
        some::<_, Int32Array>(-2_147_483_647i32..=i32::MAX, rows),
        some::<_, Int64Array>(i64::MIN + 1..=i64::MAX, rows),
        some::<_, Float32Array>(any::<f32>(), rows),
        some::<_, Float64Array>(prop_oneof![any::<f64>(), Just(f64::NAN), Just(-0.0), Just(f64::NEG_INFINITY)], rows),
        some::<_, Date32Array>(day(), rows),
        some::<_, TimestampMillisecondArray>((day(), 0i64..86_400_000).prop_map(|(d, ms)| i64::from(d) * 86_400_000 + ms), rows),
        some::<_, StringArray>(text, rows),
    ]
}

fn batch() -> impl Strategy<Value = RecordBatch> {
    prop_oneof![Just(0usize), Just(1), 2..40usize].prop_flat_map(|rows| proptest::collection::vec(column(rows), 1..8)).prop_map(
        |columns| {
            let named = columns.into_iter().enumerate().map(|(i, c)| (format!("c{i} / ü"), c, true));
            RecordBatch::try_from_iter_with_nullable(named).unwrap()
        },
    )
}

fn runner(few: u32) -> TestRunner {
    TestRunner::new(Config { cases: cases(few), rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() })
}

#[test]
fn what_was_written_is_read() {
    let check = |batch: RecordBatch| {
        let half = batch.num_rows() / 2;
        let (_keep, path) = written(&[batch.slice(0, half), batch.slice(half, batch.num_rows() - half)]);
        let back = read(&path).unwrap();
        prop_assert_eq!(back.iter().map(RecordBatch::num_rows).sum::<usize>(), batch.num_rows());
        if back.is_empty() {
            return Ok(());
        }
        let back = concat_batches(&back[0].schema(), &back).unwrap();
        for (left, right) in batch.columns().iter().zip(back.columns()) {
            // Instants are read in microseconds.
            let right = cast(right, left.data_type()).unwrap();
            let same = arrow::compute::kernels::cmp::not_distinct(left, &right).unwrap();
            prop_assert_eq!(same.true_count(), left.len(), "{:?} came back as {:?}", left, right);
        }
        Ok(())
    };
    runner(60).run(&batch(), check).unwrap();
}

#[test]
fn without_nulls_the_least_number_is_one() {
    let fields = vec![Field::new("a", arrow::datatypes::DataType::Int16, false)];
    let values: ArrayRef = Arc::new(Int16Array::from(vec![i16::MIN, 0]));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![values]).unwrap();
    let (_keep, path) = written(&[batch]);
    let back = read(&path).unwrap();
    assert!(!back[0].schema().field(0).is_nullable());
    assert_eq!(back[0].column(0).as_primitive::<Int16Type>().values(), &[i16::MIN, 0]);
}

/// A column made by hand: its properties, its values' file, its dictionary.
struct Crafted {
    properties: Vec<(&'static str, String)>,
    data: Vec<u8>,
    dictionary: Option<Vec<u8>>,
}

impl Crafted {
    fn new(kind: &str, size: usize, data: Vec<u8>) -> Self {
        Self { properties: vec![("type", kind.into()), ("size", size.to_string())], data, dictionary: None }
    }

    fn encoded(mut self, encoding: &str) -> Self {
        self.properties.push(("encoding", encoding.into()));
        self
    }

    fn with(mut self, key: &'static str, value: &str) -> Self {
        self.properties.push((key, value.into()));
        self
    }

    fn dictionary(mut self, compression: &str, width: usize, bytes: Vec<u8>) -> Self {
        self.dictionary = Some(bytes);
        self.with("compression", compression).with("storagewidth", &width.to_string())
    }

    fn texts(width: usize, tokens: Vec<u8>, heap: Vec<u8>) -> Self {
        Self::new("clob(1) collate en_US_CI", 508, tokens).with("scale", "1").dictionary("heap", width, heap)
    }
}

fn crafted(tables: Vec<(&str, Vec<Crafted>)>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.tde");
    let mut out = Out::new(File::create(&path).unwrap()).unwrap();
    let mut all = Vec::new();
    for (name, columns) in tables {
        let mut files = Directory::new();
        let mut described = Vec::new();
        for (ordinal, column) in columns.into_iter().enumerate() {
            let mut properties: Properties = column.properties.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            let (data, dictionary) = (format!("{ordinal}.data"), format!("{ordinal}.dict"));
            files.insert(data.clone(), out.file(&column.data).unwrap());
            if let Some(bytes) = column.dictionary {
                files.insert(dictionary.clone(), out.file(&bytes).unwrap());
                properties.insert("dict-file".into(), dictionary);
            }
            for (key, value) in [("name", format!("c{ordinal}")), ("ordinal", ordinal.to_string()), ("data-file", data)] {
                properties.insert(key.into(), value);
            }
            described.push(properties);
        }
        all.push((name, files, described));
    }
    out.complete(&all).unwrap();
    (directory, path)
}

/// The header of the block encodings, and what follows it at once.
fn blocks(decoded: u64, offset: u64, bits: u8, width: u8, x: i64, rest: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    all.extend_from_slice(&decoded.to_le_bytes());
    all.extend_from_slice(&offset.to_le_bytes());
    all.extend_from_slice(&1024u32.to_le_bytes());
    all.extend_from_slice(&[0, 0, bits, width]);
    all.extend_from_slice(&x.to_le_bytes());
    all.extend_from_slice(rest);
    all
}

/// Numbers packed into a full block, the lowest bit first.
fn packed(values: &[u64], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; 1024 * bits / 8];
    for (i, value) in values.iter().enumerate() {
        for bit in (0..bits).filter(|bit| value >> bit & 1 == 1) {
            bytes[(i * bits + bit) / 8] |= 1 << ((i * bits + bit) % 8);
        }
    }
    bytes
}

fn one(column: Crafted) -> Result<RecordBatch> {
    let (_keep, path) = crafted(vec![("Extract", vec![column])]);
    let all = read(&path)?;
    let schema = all.first().map(RecordBatch::schema).ok_or_else(|| Error::new(Kind::SourceEmpty, "no rows"))?;
    Ok(concat_batches(&schema, &all).unwrap())
}

fn whole(column: Crafted) -> Vec<Option<i64>> {
    let batch = one(column).unwrap();
    cast(batch.column(0), &arrow::datatypes::DataType::Int64).unwrap().as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn runs_are_read() {
    for width in [1usize, 2, 4] {
        let mut data = 6u64.to_le_bytes().to_vec();
        data.extend_from_slice(&[u8::try_from(width).unwrap(), 2]);
        for (count, value) in [(1u64, 5u16), (0, 0x8000)] {
            data.extend_from_slice(&count.to_le_bytes()[..width]);
            data.extend_from_slice(&value.to_le_bytes());
        }
        assert_eq!(whole(Crafted::new("short", 2, data).encoded("rle")), [Some(5), Some(5), None]);
    }
}

#[test]
fn frames_are_read_across_blocks() {
    let values: Vec<u64> = (0..1030).map(|i| i * 7 % 1000).collect();
    let mut bits = packed(&values[..1024], 10);
    bits.extend(packed(&values[1024..], 10));
    let data = blocks(1030 * 4, 32, 10, 4, -500, &bits);
    let expected: Vec<_> = values.iter().map(|v| Some(i64::try_from(*v).unwrap() - 500)).collect();
    assert_eq!(whole(Crafted::new("long", 4, data).encoded("for")), expected);
    // Numbers as wide as there are, at any bit.
    let wide: Vec<u64> = (0..8).map(|i| (1 << 62) + i).collect();
    let data = blocks(64, 32, 63, 8, 1, &packed(&wide, 63));
    let expected: Vec<_> = wide.iter().map(|v| Some(i64::try_from(*v).unwrap() + 1)).collect();
    assert_eq!(whole(Crafted::new("bigint", 8, data).encoded("for")), expected);
    // Without bits all are the least.
    assert_eq!(whole(Crafted::new("tiny", 1, blocks(3, 32, 0, 1, 9, &[])).encoded("for")), [Some(9); 3]);
}

#[test]
fn tables_of_numbers_are_read() {
    let mut rest = Vec::new();
    for entry in [10i16, -3, 700, 0] {
        rest.extend_from_slice(&entry.to_le_bytes());
    }
    rest.extend(packed(&[2, 0, 1], 2));
    let data = blocks(6, 40, 2, 2, 3, &rest);
    assert_eq!(whole(Crafted::new("short", 2, data).encoded("dict")), [Some(700), Some(10), Some(-3)]);
    let data = blocks(6, 40, 2, 2, 2, &rest);
    assert!(one(Crafted::new("short", 2, data).encoded("dict")).unwrap_err().message().contains("place 2 in a table of 2"));
}

#[test]
fn deltas_and_steps_are_read() {
    let mut rest = 100u32.to_le_bytes().to_vec();
    rest.extend(packed(&[7, 0, 1, 3], 2));
    let data = blocks(16, 32, 2, 4, -1, &rest);
    assert_eq!(whole(Crafted::new("long", 4, data).encoded("delta")), [Some(100), Some(99), Some(99), Some(101)]);
    let data = blocks(40, 32, 0, 8, 5, &(-2i64).to_le_bytes());
    assert_eq!(whole(Crafted::new("bigint", 8, data).encoded("affine")), [5, 3, 1, -1, -3].map(Some));
}

#[test]
fn slots_begin_with_null() {
    let mut slots = super::column::NULL_DOUBLE.to_le_bytes().to_vec();
    slots.extend_from_slice(&1.5f64.to_le_bytes());
    slots.extend_from_slice(&f64::NAN.to_le_bytes());
    let batch = one(Crafted::new("double", 8, vec![0, 0xFF, 1]).dictionary("array", 1, slots.clone())).unwrap();
    let values: Vec<_> = batch.column(0).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(values[..2], [Some(1.5), None]);
    assert!(values[2].is_some_and(f64::is_nan), "only the NaN that means NULL is one");
    // A frame of slots wraps to the NULL before the first.
    let data = blocks(4, 32, 1, 2, -1, &packed(&[0, 1], 1));
    let batch = one(Crafted::new("double", 8, data).encoded("for").dictionary("array", 2, slots.clone())).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [None, Some(1.5)]);
    let e = one(Crafted::new("double", 8, vec![9]).dictionary("array", 1, slots)).unwrap_err();
    assert!(e.message().contains("outside of a dictionary"), "{e}");
}

#[test]
fn texts_lie_behind_their_lengths() {
    let heap = [&[3, 0][..], "née".as_bytes().split_at(3).0, &[0, 0]].concat();
    assert!(one(Crafted::texts(1, vec![0], heap)).is_ok());
    let heap = [&[4, 0][..], "née".as_bytes(), &[0, 0]].concat();
    let batch = one(Crafted::texts(2, [0u16, 0xFFFF, 6].iter().flat_map(|t| t.to_le_bytes()).collect(), heap)).unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("née"), None, Some("")]);
    for (tokens, heap) in [(vec![0], vec![9, 0, b'x']), (vec![200], vec![1, 0, b'x']), (vec![0], vec![1, 0, 0xE9])] {
        let e = one(Crafted::texts(1, tokens, heap)).unwrap_err();
        assert_eq!(e.kind(), Kind::SourceUnreadable, "{e}");
    }
    // A length may have one, two or four bytes.
    let short =
        Crafted::new("varchar(32,1) collate binary", 128, vec![0]).with("scale", "1").dictionary("heap", 1, vec![1, b'a']);
    assert_eq!(one(short).unwrap().column(0).as_string::<i32>().value(0), "a");
}

#[test]
fn tables_are_named() {
    let column = |n: u8| vec![Crafted::new("tiny", 1, vec![n; usize::from(n)])];
    let (_keep, path) = crafted(vec![("Orders", column(2)), ("Returns", column(3)), ("$TableauMetadata", column(4))]);
    let e = read(&path).unwrap_err();
    assert_eq!(e.kind(), Kind::UnknownName);
    assert!(e.message().contains("Extract.Orders, Extract.Returns") && !e.message().contains("Metadata"), "{e}");
    for (name, rows) in [("Returns", 3), ("Extract.Orders", 2), ("$TableauMetadata", 4)] {
        assert_eq!(Tde.open(&path, Some(name), &Limits::default()).unwrap().rows, Some(rows));
    }
    assert_eq!(Tde.open(&path, Some("Sales"), &Limits::default()).unwrap_err().kind(), Kind::UnknownName);
    let there: Vec<_> = Tde.describe(&path, &Limits::default()).unwrap().tables.into_iter().map(|t| (t.name, t.rows)).collect();
    assert_eq!(there, [("Extract.Orders".into(), 2), ("Extract.Returns".into(), 3)]);
}

#[test]
fn lies_are_told_apart() {
    let refused = |column: Crafted, what: &str| {
        let e = one(column).unwrap_err();
        assert_eq!(e.kind(), Kind::SourceUnreadable, "{e:?}");
        assert!(e.message().contains(what), "{e} does not say {what}");
    };
    let step = |rows: u64| blocks(rows * 8, 32, 0, 8, 0, &1i64.to_le_bytes());
    refused(Crafted::new("bigint", 8, step(1 << 60)).encoded("affine"), "rows in a file of");
    refused(Crafted::new("bigint", 8, vec![0; 9]), "9 bytes holds values of 8");
    refused(Crafted::new("long", 8, vec![0; 8]), "8 bytes with no compression");
    refused(Crafted::new("bigint", 3, vec![0; 9]), "3 bytes each");
    refused(Crafted::new("long", 4, blocks(4, 1 << 40, 1, 4, 0, &[])).encoded("for"), "its values at");
    refused(Crafted::new("long", 4, blocks(4, 32, 65, 4, 0, &[0; 9000])).encoded("for"), "65 bits");
    refused(Crafted::new("long", 4, blocks(4, 32, 32, 4, 1 << 40, &[0; 9000])).encoded("dict"), "a table of");
    refused(Crafted::new("long", 4, blocks(4000, 32, 32, 4, 0, &[0; 100])).encoded("for"), "before its values do");
    let mut runs = 400u64.to_le_bytes().to_vec();
    runs.extend_from_slice(&[4, 4, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    refused(Crafted::new("long", 4, runs).encoded("rle"), "last run");
    let two = vec![Crafted::new("tiny", 1, vec![0; 3]), Crafted::new("tiny", 1, vec![0; 4])];
    let (_keep, path) = crafted(vec![("Extract", two)]);
    assert!(read(&path).unwrap_err().message().contains("4 values, those before it have 3"));
    let e = one(Crafted::new("spatial", 8, vec![0; 8])).unwrap_err();
    assert_eq!(e.kind(), Kind::Unsupported, "{e}");
    let e = one(Crafted::new("tiny", 1, vec![0; 8]).encoded("lzma")).unwrap_err();
    assert_eq!(e.kind(), Kind::Unsupported, "{e}");
}

#[test]
fn a_directory_in_itself_ends() {
    let (_keep, path) = crafted(vec![("Extract", vec![Crafted::new("tiny", 1, vec![1])])]);
    let mut bytes = std::fs::read(&path).unwrap();
    let root = usize::try_from(super::layout::number(&bytes[12..20])).unwrap();
    // Every entry of the root leads to the root.
    let places = bytes[12..28].to_vec();
    let mut at = root + 8;
    while at < bytes.len() {
        let units = usize::try_from(super::layout::number(&bytes[at..at + 4])).unwrap();
        at += 4 + 2 * units;
        bytes[at..at + 16].copy_from_slice(&places);
        at += 16;
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap_err().kind(), Kind::SourceUnreadable);
}

#[test]
fn one_text_in_every_row_does_not_fill_the_memory() {
    let megabyte = 1 << 20;
    let heap = [&u32::try_from(megabyte).unwrap().to_le_bytes()[..], &vec![b'x'; megabyte]].concat();
    let texts = Crafted::new("clob(1)", 4_294_967_292, vec![0; 5000]).with("scale", "1").dictionary("heap", 1, heap);
    let (_keep, path) = crafted(vec![("Extract", vec![texts])]);
    let opened = Tde.open(&path, None, &Limits::default()).unwrap();
    assert_eq!(opened.rows, Some(5000));
    for batch in opened.batches.take(20) {
        let batch = batch.unwrap();
        assert!(batch.num_rows() <= 16 && batch.get_array_memory_size() < 64 << 20);
    }
}

/// A place, what is flipped there, and the lie that stands there instead.
type Lie = (usize, u8, Option<usize>);

#[test]
fn damaged_files_are_errors_and_never_more() {
    let numbers: Vec<u64> = (0..2000).collect();
    let bits = |values: &[u64]| [packed(&values[..1024], 11), packed(&values[1024..], 11)].concat();
    let mut table: Vec<u8> = (0..2048u32).flat_map(u32::to_le_bytes).collect();
    table.extend(bits(&numbers));
    let mut deltas = [&7u32.to_le_bytes()[..], &packed(&[1; 1024], 1), &9u32.to_le_bytes()].concat();
    deltas.extend(packed(&[1; 976], 1));
    let runs = [&8000u64.to_le_bytes()[..], &[2, 4], &[0xE7, 3, 1, 0, 0, 0], &[0xE7, 3, 2, 0, 0, 0]].concat();
    let heap: Vec<u8> = (0..250u8).flat_map(|i| [3, 0, b'a', b'b', b'a' + i % 26]).collect();
    let tokens: Vec<u8> = (0..2000u16).flat_map(|i| (i % 250 * 5).to_le_bytes()).collect();
    let slots: Vec<u8> = (0..200u64).flat_map(u64::to_le_bytes).collect();
    let columns = vec![
        Crafted::new("long", 4, blocks(8000, 32, 11, 4, 3, &bits(&numbers))).encoded("for"),
        Crafted::new("long", 4, blocks(8000, 32 + 8192, 11, 4, 2000, &table)).encoded("dict"),
        Crafted::new("long", 4, blocks(8000, 32, 1, 4, 0, &deltas)).encoded("delta"),
        Crafted::new("bigint", 8, blocks(16_000, 32, 0, 8, 0, &3i64.to_le_bytes())).encoded("affine"),
        Crafted::new("long", 4, runs).encoded("rle"),
        Crafted::texts(2, tokens, heap),
        Crafted::new("datetime", 8, (0..2000u32).map(|i| u8::try_from(i % 199).unwrap()).collect()).dictionary("array", 1, slots),
    ];
    let (_keep, path) = crafted(vec![("Extract", columns)]);
    assert_eq!(read(&path).unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 2000);
    let whole = std::fs::read(&path).unwrap();
    let size = whole.len();
    let lies = [0, 1, 2, u64::MAX, u64::MAX >> 1, size as u64, size as u64 - 1, 1 << 32, 1 << 40, 0xFFFF_FFFF];
    let place = (0..size, any::<u8>(), proptest::option::of(0..lies.len()));
    let damage = (proptest::collection::vec(place, 1..5), proptest::option::weighted(0.2, 0..size));
    let check = |(places, cut): (Vec<Lie>, Option<usize>)| {
        let mut bytes = whole.clone();
        for (at, flip, lie) in places {
            match lie {
                // Lengths and places stand at multiples of four.
                Some(lie) => {
                    let at = (at / 4 * 4).min(size - 8);
                    bytes[at..at + 8].copy_from_slice(&lies[lie].to_le_bytes());
                }
                None => bytes[at] ^= flip,
            }
        }
        bytes.truncate(cut.unwrap_or(size));
        std::fs::write(&path, &bytes).unwrap();
        match read(&path) {
            Ok(batches) => prop_assert!(batches.iter().all(|b| b.get_array_memory_size() < 64 << 20)),
            Err(e) => prop_assert!(matches!(e.kind(), Kind::SourceUnreadable | Kind::Unsupported | Kind::UnknownName), "{e:?}"),
        }
        let _ = Tde.describe(&path, &Limits::default());
        Ok(())
    };
    runner(400).run(&damage, check).unwrap();
}

#[test]
fn any_bytes_are_a_column_or_an_error() {
    let offset = prop_oneof![Just(32u64), any::<u64>()];
    let header =
        (any::<[u8; 2]>(), 0u8..64, 0u64..5000, offset, any::<[u8; 16]>()).prop_map(|(kind, split, decoded, offset, block)| {
            [&kind[..], &[split, 0], &decoded.to_le_bytes(), &offset.to_le_bytes(), &block].concat()
        });
    let bytes = (header, proptest::collection::vec(any::<u8>(), 0..64), proptest::collection::vec(0u8..8, 0..200));
    let check = |(header, data, rest): (Vec<u8>, Vec<u8>, Vec<u8>)| {
        super::fuzzing::tde(&[header, data, rest].concat());
        Ok(())
    };
    runner(300).run(&bytes, check).unwrap();
}

/// A package of such files.
fn package(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    use std::io::Write;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.twbx");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    (directory, path)
}

#[test]
fn extracts_are_found_in_packages() {
    let craft = |n: u8| {
        let (_keep, path) = crafted(vec![("Extract", vec![Crafted::new("tiny", 1, vec![n; usize::from(n)])])]);
        std::fs::read(path).unwrap()
    };
    let (two, three) = (craft(2), craft(3));
    let limits = Limits::default();
    let (_keep, single) = package(&[("Book.twb", b"<workbook/>"), ("Data/x/Sales.tde", &two)]);
    for name in [None, Some("Sales"), Some("Sales/Extract.Extract"), Some("Extract")] {
        assert_eq!(Package::default().open(&single, name, &limits).unwrap().rows, Some(2), "{name:?}");
    }
    let (_keep, several) = package(&[("a/Sales.tde", &two), ("b/Sales.TDE", &three), ("Costs.tde", &two)]);
    let e = Package::default().open(&several, None, &limits).unwrap_err();
    assert!(e.message().contains("Costs, a/Sales, b/Sales"), "{e}");
    assert_eq!(Package::default().open(&several, Some("b/Sales"), &limits).unwrap().rows, Some(3));
    assert_eq!(Package::default().open(&several, Some("b/Sales/Extract"), &limits).unwrap().rows, Some(3));
    assert_eq!(Package::default().open(&several, Some("c/Sales"), &limits).unwrap_err().kind(), Kind::UnknownName);
    let names: Vec<_> = Package::default().describe(&several, &limits).unwrap().tables.into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["Costs/Extract.Extract", "a/Sales/Extract.Extract", "b/Sales/Extract.Extract"]);
    let (_keep, mixed) = package(&[("Costs.tde", &two), ("Data/New.hyper", b"")]);
    let e = Package::default().open(&mixed, None, &limits).unwrap_err();
    assert!(e.message().contains("Costs, New"), "{e}");
    let (_keep, none) = package(&[("Book.twb", b"")]);
    assert_eq!(Package::default().open(&none, None, &limits).unwrap_err().kind(), Kind::SourceEmpty);
}

#[test]
fn a_package_that_grows_without_end_is_refused() {
    let (_keep, path) = package(&[("x.tde", &vec![0; 3 << 20])]);
    let limits = Limits { unpacked: 1 << 20, ..Limits::default() };
    let e = Package::default().open(&path, None, &limits).unwrap_err();
    assert!(e.message().contains("larger than"), "{e}");
    std::fs::write(&path, b"PK no zip").unwrap();
    assert_eq!(Package::default().open(&path, None, &limits).unwrap_err().kind(), Kind::SourceUnreadable);
}
