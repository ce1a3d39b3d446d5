//! Round trips of arbitrary batches, and files that lie.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringArray, Time32SecondArray, TimestampSecondArray, UInt8Array,
};

use super::Yxdb;
use crate::convert::Format;
use crate::error::{Kind, Result};
use crate::limits::Limits;
use crate::types::Wishes;

/// A small generator, so that a failure can be repeated from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
    fn small(&mut self, n: u32) -> i32 {
        i32::try_from(self.below(u64::from(n))).unwrap()
    }
    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(5) > 0).then(|| value(self))
    }
    fn text(&mut self) -> String {
        let length = [0, 1, 1, 2, 3, 63, 64, 200, 70_000][usize::try_from(self.below(9)).unwrap()];
        let length = if length == 70_000 && self.below(20) > 0 { 5 } else { length };
        (0..length).map(|_| ['a', 'é', '名', '😀', '\0', '\n'][usize::try_from(self.below(6)).unwrap()]).collect()
    }
    fn bytes(&mut self) -> Vec<u8> {
        let length = self.below(300);
        (0..length).map(|_| self.roll().to_le_bytes()[0]).collect()
    }
}

fn column(dice: &mut Dice, kind: u64, rows: usize) -> ArrayRef {
    macro_rules! make {
        ($array:ty, $value:expr) => {
            Arc::new(<$array>::from((0..rows).map(|_| dice.maybe($value)).collect::<Vec<_>>())) as ArrayRef
        };
    }
    match kind {
        0 => make!(BooleanArray, |d: &mut Dice| d.below(2) == 0),
        1 => make!(UInt8Array, |d: &mut Dice| d.roll().to_le_bytes()[0]),
        2 => make!(Int16Array, |d: &mut Dice| i16::from_le_bytes([d.roll().to_le_bytes()[0], d.roll().to_le_bytes()[1]])),
        3 => make!(Int32Array, |d: &mut Dice| d.small(2_000_000_000)),
        4 => make!(Int64Array, |d: &mut Dice| i64::from_le_bytes(d.roll().to_le_bytes())),
        5 => {
            make!(Float32Array, |d: &mut Dice| [0.5, f32::NAN, f32::INFINITY, -0.0, 1e-45][usize::try_from(d.below(5)).unwrap()])
        }
        6 => make!(Float64Array, |d: &mut Dice| f64::from_bits(d.roll())),
        7 => {
            let scale = i8::try_from(dice.below(39)).unwrap();
            let values: Vec<_> = (0..rows)
                .map(|_| {
                    dice.maybe(|d| {
                        let wide = i128::from(i64::from_le_bytes(d.roll().to_le_bytes())) * i128::from(d.roll());
                        wide % 10i128.pow(u32::try_from(d.below(38)).unwrap() + 1)
                    })
                })
                .collect();
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, scale).unwrap())
        }
        8 => Arc::new((0..rows).map(|_| dice.maybe(Dice::text)).collect::<StringArray>()),
        9 => {
            let values: Vec<_> = (0..rows).map(|_| dice.maybe(Dice::bytes)).collect();
            Arc::new(BinaryArray::from_iter(values))
        }
        10 => make!(Date32Array, |d: &mut Dice| d.small(3_141_084) - 208_188),
        11 => make!(Time32SecondArray, |d: &mut Dice| d.small(86_400)),
        _ => make!(TimestampSecondArray, |d: &mut Dice| i64::from(d.small(3_141_084) - 208_188) * 86_400
            + i64::from(d.small(86_400))),
    }
}

fn arbitrary(seed: u64) -> RecordBatch {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let rows = [0, 1, 7, 300][usize::try_from(dice.below(4)).unwrap()];
    let columns = 1 + dice.below(8);
    let columns = (0..columns).map(|i| {
        let kind = dice.below(13);
        (format!("c{i} <\"&'>"), column(&mut dice, kind, rows))
    });
    RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()
}

fn written(batches: &[RecordBatch]) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.yxdb");
    let mapping = Yxdb.map("t", &batches[0].schema(), &Wishes::default()).unwrap();
    let mut writer = Yxdb.create(&path, &[&mapping], &Limits::default()).unwrap();
    for batch in batches {
        writer.write(0, batch).unwrap();
    }
    writer.finish().unwrap();
    (directory, path)
}

fn read(path: &std::path::Path) -> Result<Vec<RecordBatch>> {
    Yxdb.open(path, None, &Limits::default())?.batches.collect()
}

/// How many cases: a few in `make test`, many with `LAKEPORT_LONG`.
fn cases(few: u64) -> u64 {
    if std::env::var_os("LAKEPORT_LONG").is_some() { few * 200 } else { few }
}

#[test]
fn what_was_written_is_read() {
    for seed in 0..cases(60) {
        let batch = arbitrary(seed);
        let (_keep, path) = written(&[
            batch.slice(0, batch.num_rows() / 2),
            batch.slice(batch.num_rows() / 2, batch.num_rows() - batch.num_rows() / 2),
        ]);
        let back = read(&path).unwrap();
        let schema = batch.schema();
        let rows: usize = back.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, batch.num_rows(), "seed {seed}");
        if back.is_empty() {
            continue;
        }
        let back = arrow::compute::concat_batches(&back[0].schema(), &back).unwrap();
        for (index, left) in batch.columns().iter().enumerate() {
            // A decimal is read with all the digits its size has room for.
            let right = arrow::compute::cast(back.column(index), left.data_type()).unwrap();
            assert_eq!(left.to_data().len(), right.len());
            for row in 0..rows {
                assert_eq!(left.is_null(row), right.is_null(row), "seed {seed} column {} row {row}", schema.field(index));
            }
            let same = arrow::compute::kernels::cmp::not_distinct(left, &right).unwrap();
            assert_eq!(same.true_count(), rows, "seed {seed} column {}", schema.field(index));
        }
    }
}

#[test]
fn groups_begin_at_their_places_in_the_index() {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..200_000));
    let batch = RecordBatch::try_from_iter([("id", values)]).unwrap();
    let (_keep, path) = written(std::slice::from_ref(&batch));
    let bytes = std::fs::read(&path).unwrap();
    let at = |from: usize| usize::try_from(u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap())).unwrap();
    let index = at(96);
    assert_eq!(at(104), 200_000);
    assert_eq!(u32::from_le_bytes(bytes[index..index + 4].try_into().unwrap()), 4);
    assert_eq!(index + 4 + 4 * 8, bytes.len());
    // A reader that seeks to the third group finds record 131,072 at the start of a block.
    let third = at(index + 4 + 16);
    let length = u32::from_le_bytes(bytes[third..third + 4].try_into().unwrap());
    let mut block = Vec::new();
    let from = third + 4;
    assert_eq!(length & 0x8000_0000, 0);
    super::lzf::decompress(&bytes[from..from + usize::try_from(length).unwrap()], &mut block, 0x40000).unwrap();
    assert_eq!(i64::from_le_bytes(block[..8].try_into().unwrap()), 131_072);
    let back = read(&path).unwrap();
    assert_eq!(arrow::compute::concat_batches(&back[0].schema(), &back).unwrap().column(0), batch.column(0));
}

#[test]
fn damaged_files_are_errors_and_never_more() {
    let batch = arbitrary(5);
    assert!(batch.num_rows() > 0, "another seed is needed");
    let (_keep, path) = written(&[batch]);
    let whole = std::fs::read(&path).unwrap();
    let mut dice = Dice(11);
    let size = whole.len() as u64;
    for _ in 0..cases(300) {
        let mut bytes = whole.clone();
        if dice.below(4) == 0 {
            bytes.truncate(usize::try_from(dice.below(size)).unwrap());
        } else {
            for _ in 0..=dice.below(4) {
                let at = usize::try_from(dice.below(size)).unwrap();
                bytes[at] ^= dice.roll().to_le_bytes()[0];
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Err(e) = read(&path) {
            assert_eq!(e.kind(), Kind::SourceUnreadable, "{e:?}");
        }
    }
}

proptest::proptest! {
    /// The short form of the fuzz target.
    #[test]
    fn records_of_strangers_are_rows_or_errors(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
        super::fuzzing::yxdb(&bytes);
    }
}
