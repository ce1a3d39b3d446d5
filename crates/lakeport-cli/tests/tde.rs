//! Tableau's old extract, judged by Tableau's own last reader of it; and a genuine file, read by us as that reader reads it.

use std::path::PathBuf;

use crate::support::{Desk, judge};

/// What .tde has no exact place for, as text: the least int64, larger integers, more than 15 digits, microseconds.
const AS_TEXT: [&str; 13] = [
    "int64",
    "uint64",
    "decimal128_18_18",
    "decimal128_19_0",
    "decimal128_38_0",
    "decimal128_38_10",
    "decimal128_38_38",
    "decimal256_76_4",
    "timestamp_us",
    "timestamptz_us",
    "timestamp_ns",
    "timestamptz_ns",
    "time64_us_fine",
];

/// The genuine extract that the set-up fetched: World Indicators, made by Tableau Desktop 8.
fn genuine() -> PathBuf {
    let home = std::env::var("LAKEPORT_TDE_JUDGE").expect("LAKEPORT_TDE_JUDGE names no directory; run `make test`");
    PathBuf::from(home).join("World Indicators.tde")
}

#[test]
fn every_type_and_edge_arrives_as_it_left() {
    let desk = Desk::new();
    judge(&desk, "torture", &["make", "."]);
    let wishes: Vec<_> = AS_TEXT.iter().map(|c| format!("{c}=text")).collect();
    let mut args = vec!["convert", "all.parquet", "all.tde", "--verify", "full"];
    for wish in
        wishes.iter().map(String::as_str).chain(["list_json=json", "map_json=json", "struct_json=json", "struct_flat=flatten"])
    {
        args.extend(["--types", wish]);
    }
    let done = desk.run(&args).ok().says("every value");
    let warning: Vec<_> = done.stderr.lines().filter(|l| l.contains("no current Tableau opens a .tde")).collect();
    assert_eq!(warning.len(), 1, "{}", done.stderr);
    assert!(!done.stderr.contains('\u{1b}'), "colours are for terminals: {}", done.stderr);
    print!("{}", judge(&desk, "judge_tde", &["compare", "all.tde"]));
    // And back: our own reader gives the same table.
    desk.run(&["convert", "all.tde", "back.parquet", "--verify", "full"]).ok();
    desk.run(&["describe", "all.tde"])
        .ok()
        .says("Extract.Extract")
        .says("8 rows")
        .says("clob(2) collate binary")
        .says("datetime");
}

#[test]
fn ten_types_with_nulls_are_what_tableau_reads() {
    let desk = Desk::new();
    let columns = "{'bit': pa.array([True, False, None]), \
        'tiny': pa.array([-127, 127, None], pa.int8()), \
        'short': pa.array([-32767, 32767, None], pa.int16()), \
        'long': pa.array([-2147483647, 2147483647, None], pa.int32()), \
        'bigint': pa.array([-9223372036854775807, 9223372036854775807, None], pa.int64()), \
        'float': pa.array([1e-45, float('nan'), None], pa.float32()), \
        'double': pa.array([1.7976931348623157e308, float('-inf'), None], pa.float64()), \
        'date': pa.array([-719162, 2932896, None], pa.date32()), \
        'datetime': pa.array([-62135596800000, 253402300799999, None], pa.timestamp('ms')), \
        'text': pa.array(['', 'naïve 😀', None])}";
    desk.parquet("t.parquet", columns);
    let args = ["convert", "t.parquet", "t.tde", "--verify", "full"];
    let wishes = ["--types", "tiny=tiny", "--types", "short=short", "--types", "long=long"];
    desk.run(&[&args[..], &wishes[..]].concat()).ok().says("every value");
    let there = judge(&desk, "judge_tde", &["rows", "t.tde"]);
    let expected = concat!(
        r#"{"bit": "BOOL", "tiny": "SMALL_INT", "short": "SMALL_INT", "long": "INT", "bigint": "BIG_INT", "#,
        r#""float": "DOUBLE", "double": "DOUBLE", "date": "DATE", "datetime": "TIMESTAMP", "text": "TEXT"}"#,
        "\n",
        r#"[true, -127, -32767, -2147483647, -9223372036854775807, 1.401298464324817e-45, 1.7976931348623157e+308, "#,
        r#""0001-01-01", "0001-01-01 00:00:00", ""]"#,
        "\n",
        r#"[false, 127, 32767, 2147483647, 9223372036854775807, NaN, -Infinity, "#,
        r#""9999-12-31", "9999-12-31 23:59:59.999000", "naïve 😀"]"#,
        "\n",
        r#"[null, null, null, null, null, null, null, null, null, null]"#,
        "\n",
    );
    assert_eq!(there, expected);
    desk.run(&["convert", "t.tde", "back.parquet"]).ok();
    let code = "import pyarrow.parquet as pq\na, b = pq.read_table('t.parquet'), pq.read_table('back.parquet')\n\
                print([n for n in a.column_names if str(a[n].to_pylist()) != str(b[n].to_pylist())])";
    assert_eq!(desk.python(code).trim(), "[]");
}

#[test]
fn what_does_not_fit_stops_the_run() {
    let desk = Desk::new();
    let refused = |columns: &str, more: &[&str], what: &str| {
        desk.parquet("t.parquet", columns);
        desk.run(&[&["convert", "t.parquet", "t.tde"], more].concat()).fails(6, "E204").says(what);
        assert!(!desk.path().join("t.tde").exists(), "{what}");
    };
    refused("{'n': pa.array([-128, None], pa.int8())}", &["--types", "n=tiny"], "-128");
    refused("{'n': pa.array([-2**63, None], pa.int64())}", &[], "-9223372036854775808");
    refused("{'n': pa.array([2**63], pa.uint64())}", &[], "9223372036854775807");
    refused("{'at': pa.array([1500], pa.timestamp('us'))}", &[], "whole milliseconds");
    refused("{'d': pa.array([-141430], pa.date32())}", &[], "1582-10-04 to 1582-10-15");
    refused("{'d': pa.array([-719163], pa.date32())}", &[], "0001-01-01 to 9999-12-31");
    refused(
        "{'d': pa.array([D('1234567890.1234567891')], pa.decimal128(38, 10))}"
            .replace('D', "__import__('decimal').Decimal")
            .as_str(),
        &[],
        "binary floating point",
    );
    desk.parquet("t.parquet", "{'l': [[1]], 'n': [1]}");
    desk.run(&["convert", "t.parquet", "t.tde"]).fails(6, "E203").says("no nested columns");
    // With consent what is finer is left out, and counted.
    desk.parquet("t.parquet", "{'at': pa.array([1500, 2000], pa.timestamp('us'))}");
    desk.run(&["convert", "t.parquet", "t.tde", "--lossy=at"]).ok().says("1");
    // A column without NULLs holds every number.
    desk.parquet(
        "t.parquet",
        "[pa.array([-2**63, 0], pa.int64())], schema=pa.schema([pa.field('n', pa.int64(), nullable=False)])",
    );
    desk.run(&["convert", "t.parquet", "t.tde", "--verify", "full"]).ok();
    assert!(judge(&desk, "judge_tde", &["rows", "t.tde"]).contains("[-9223372036854775808]"));
}

#[test]
fn a_genuine_extract_is_read_as_tableau_reads_it() {
    let desk = Desk::new();
    std::fs::copy(genuine(), desk.path().join("w.tde")).unwrap();
    desk.run(&["convert", "w.tde", "w.parquet", "--verify", "full"]).ok().says("2,299");
    let said = judge(&desk, "judge_tde", &["same", "w.tde", "w.parquet"]);
    assert!(said.starts_with("29887 cells are the same"), "{said}");
    desk.run(&["describe", "w.tde"]).ok().says("2,299 rows").says("clob(1) collate en_US_CI");
    // To what it is to be instead, from the file and from the package it came in.
    desk.run(&["convert", "w.tde", "w.hyper", "--verify", "full"]).ok().says("every value");
    let file = genuine().display().to_string();
    desk.python(&format!(
        "import zipfile\nwith zipfile.ZipFile('book.twbx', 'w', zipfile.ZIP_DEFLATED) as z:\n  z.writestr('book.twb', '<workbook/>')\n  z.write({file:?}, 'Data/World Indicators.tde')"
    ));
    desk.run(&["describe", "book.twbx"]).ok().says("World Indicators/Extract.Extract").says("2,299 rows");
    desk.run(&["convert", "book.twbx", "b.parquet"]).ok();
    assert_eq!(judge(&desk, "judge_tde", &["same", "w.tde", "b.parquet"]), said);
    desk.run(&["convert", "book.twbx#World Indicators", "some.csv", "--where", "\"Region\" = 'Africa'"]).ok().says("594 rows");
    desk.run(&["convert", "w.tde", "w.twbx"]).fails(2, "E127").says("only read");
    desk.run(&["formats"]).ok().says("tde").says("Tableau's packages");
}

#[test]
fn rows_cross_batches_and_none_are_rows_too() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': pa.array(range(100001), pa.int32()), 's': pa.array([str(i % 999) * 3 if i % 7 else None for i in range(100001)])}");
    desk.run(&["convert", "t.parquet", "t.tde", "--verify", "full"]).ok();
    // Neither the engine nor the judge promises an order.
    let there = judge(&desk, "judge_tde", &["rows", "t.tde"]);
    let mut lines: Vec<_> = there.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    let cell = |i: usize| if i.is_multiple_of(7) { "null".to_owned() } else { format!("{:?}", (i % 999).to_string().repeat(3)) };
    let mut expected: Vec<_> = (0..100_001).map(|i| format!("[{i}, {}]", cell(i))).collect();
    expected.sort();
    assert!(lines == expected, "{} rows, such as {:?}", lines.len(), lines.iter().zip(&expected).find(|(a, b)| a != b));
    desk.run(&["convert", "t.tde", "back.parquet", "--verify", "full"]).ok();
    let code = "import pyarrow.parquet as pq\na, b = (pq.read_table(f'{n}.parquet').sort_by('id') for n in ('t', 'back'))\n\
                print([a[n].to_pylist() == b[n].to_pylist() for n in a.column_names])";
    assert_eq!(desk.python(code).trim(), "[True, True]");
    desk.run(&["convert", "t.parquet", "none.tde", "--where", "id < 0"]).ok();
    assert_eq!(judge(&desk, "judge_tde", &["rows", "none.tde"]).lines().count(), 1);
    desk.run(&["convert", "none.tde", "none.parquet"]).ok();
}

#[test]
fn what_is_no_extract_is_refused() {
    let desk = Desk::new();
    desk.write("short.tde", b"\x20\x02\x01\x62\xA0\x1E\xAB\x07");
    desk.run(&["describe", "short.tde"]).fails(3, "E131").says("shorter");
    desk.write("other.tde", vec![b'x'; 2000]);
    desk.run(&["convert", "other.tde", "o.csv"]).fails(3, "E131").says("does not start");
    let mut whole = std::fs::read(genuine()).unwrap();
    whole.truncate(whole.len() / 2);
    desk.write("half.tde", &whole);
    desk.run(&["convert", "half.tde", "o.csv"]).fails(3, "E131").says("points to bytes");
    desk.write("book.twbx", b"no zip");
    desk.run(&["describe", "book.twbx"]).fails(3, "E131").says("no zip archive");
    assert_eq!(desk.files(), ["book.twbx", "half.tde", "other.tde", "short.tde"]);
}
