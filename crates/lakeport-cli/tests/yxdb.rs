//! Alteryx `.yxdb`, judged by the PyPI package `yxdb`.

use crate::support::{Desk, judge};

/// What .yxdb has no exact place for, as text: years before 1400, fractions of seconds; and times, which the judge cannot read.
const AS_TEXT: [&str; 16] = [
    "date32",
    "date64",
    "timestamp_s",
    "timestamp_ms",
    "timestamp_us",
    "timestamptz_s",
    "timestamptz_ms",
    "timestamptz_us",
    "timestamp_ns",
    "timestamptz_ns",
    "time32_s",
    "time32_ms",
    "time64_us",
    "time64_ns",
    "time64_us_fine",
    "decimal256_76_4",
];

#[test]
fn every_type_and_edge_arrives_as_it_left() {
    let desk = Desk::new();
    judge(&desk, "torture", &["make", "."]);
    let wishes: Vec<_> = AS_TEXT.iter().map(|c| format!("{c}=text")).collect();
    let mut args = vec!["convert", "all.parquet", "all.yxdb", "--verify", "full"];
    for wish in
        wishes.iter().map(String::as_str).chain(["list_json=json", "map_json=json", "struct_json=json", "struct_flat=flatten"])
    {
        args.extend(["--types", wish]);
    }
    desk.run(&args).ok().says("every value");
    print!("{}", judge(&desk, "judge_yxdb", &["compare", "all.yxdb"]));
    // And back: our own reader gives the same table.
    desk.run(&["convert", "all.yxdb", "back.parquet", "--verify", "full"]).ok();
    desk.run(&["describe", "all.yxdb"]).ok().says("FixedDecimal(40,10)").says("8 rows").says("V_WString");
}

#[test]
fn dates_and_seconds_are_dates_and_seconds() {
    let desk = Desk::new();
    let columns = "'d': pa.array([-208188, 2932896, None], pa.date32()), \
                   'at': pa.array([0, 1577934245, -17987443200], pa.timestamp('s')), \
                   'tz': pa.array([0, None, 1577934245000000], pa.timestamp('us', 'Europe/Berlin'))";
    desk.parquet("t.parquet", &format!("{{{columns}}}"));
    desk.run(&["convert", "t.parquet", "t.yxdb", "--verify", "full"]).ok();
    let code = "from yxdb.yxdb_reader import YxdbReader\nr = YxdbReader(path='t.yxdb')\nwhile r.next(): print(*[r.read_index(i) for i in range(3)], sep='|')";
    let output = crate::support::python().args(["-c", code]).current_dir(desk.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "1400-01-01 00:00:00|1970-01-01 00:00:00|1970-01-01 00:00:00\n\
                    9999-12-31 00:00:00|2020-01-02 03:04:05|None\n\
                    None|1400-01-01 00:00:00|2020-01-02 03:04:05\n";
    assert_eq!(text, expected, "{}", String::from_utf8_lossy(&output.stderr));
    desk.parquet("early.parquet", "{'d': pa.array([-208189], pa.date32())}");
    desk.run(&["convert", "early.parquet", "early.yxdb"]).fails(6, "E204").says("1399-12-31").says("1400-01-01 to 9999-12-31");
    let done = desk.run(&["convert", "early.parquet", "early.yxdb", "--lossy=d", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ "d": 1 }));
    assert_eq!(judge(&desk, "judge_yxdb", &["rows", "early.yxdb"]).trim(), "[1, null, null, null]");
    desk.parquet("fine.parquet", "{'at': pa.array([1500], pa.timestamp('ms'))}");
    desk.run(&["convert", "fine.parquet", "fine.yxdb"]).fails(6, "E204").says("whole seconds").says("--types at=");
    desk.run(&["convert", "fine.parquet", "fine.yxdb", "--types", "at=text"]).ok();
}

#[test]
fn many_records_cross_the_groups() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': pa.array(range(70001), pa.int32()), 's': pa.array([str(i) * 3 for i in range(70001)])}");
    desk.run(&["convert", "t.parquet", "t.yxdb"]).ok();
    assert_eq!(judge(&desk, "judge_yxdb", &["rows", "t.yxdb"]).trim(), "[70001, 0, 35000, 70000]");
    desk.parquet("big.parquet", "{'id': pa.array(range(1100000), pa.int32())}");
    let done = desk.run(&["convert", "big.parquet", "big.yxdb", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["rows"], 1_100_000);
    let describe = desk.run(&["describe", "big.yxdb", "--json"]).ok().json();
    assert_eq!(describe["tables"][0]["rows"], 1_100_000);
}

#[test]
fn names_that_differ_in_case_only_are_told_apart() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'Id': [1], 'id': [2]}");
    desk.run(&["plan", "--from", "t.parquet", "--to", "t.yxdb"]).ok().says("id2").says("called `id` in the source");
    desk.run(&["convert", "t.parquet", "t.yxdb"]).ok();
    assert_eq!(judge(&desk, "judge_yxdb", &["rows", "t.yxdb"]).trim(), "[1, 1, 1, 1]");
}

#[test]
fn what_is_no_yxdb_is_refused() {
    let desk = Desk::new();
    desk.write("short.yxdb", b"Alteryx Database File");
    desk.run(&["describe", "short.yxdb"]).fails(3, "E131").says("shorter");
    desk.write("other.yxdb", vec![b'x'; 2000]);
    desk.run(&["convert", "other.yxdb", "o.csv"]).fails(3, "E131").says("does not start with");
    let mut amp = vec![0; 2000];
    amp[..24].copy_from_slice(b"Alteryx e2 Database file");
    desk.write("amp.yxdb", amp);
    desk.run(&["describe", "amp.yxdb"]).fails(3, "E131").says("AMP");
}
