//! Bad input gets an error that says what, where, why, what now; and loses nothing.

use crate::support::Desk;

#[test]
fn a_missing_path() {
    let desk = Desk::new();
    desk.run(&["convert", "nowhere.parquet", "x.hyper"]).fails(3, "E130").says("nowhere.parquet");
    desk.run(&["convert", "nowhere/*.parquet", "x.hyper"]).fails(3, "E130");
}

#[test]
fn an_empty_directory() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path().join("empty")).unwrap();
    desk.write("only-a-marker/_SUCCESS", "");
    desk.run(&["convert", "empty", "x.hyper"]).fails(3, "E132");
    desk.run(&["convert", "only-a-marker", "x.hyper"]).fails(3, "E132");
}

#[test]
fn zero_rows_publish_an_empty_table_with_the_right_columns() {
    let desk = Desk::new();
    desk.parquet("z.parquet", "pa.schema([('a', pa.int64()), ('b', pa.string())]).empty_table().to_pydict(), schema=pa.schema([('a', pa.int64()), ('b', pa.string())])");
    for route in ["direct", "streamed"] {
        desk.run(&["convert", "z.parquet", "z.hyper", "--route", route, "--verify", "full"]).ok();
        desk.run(&["describe", "z.hyper"]).ok().says("0 rows").says("bigint").says("text");
    }
    desk.write("header.csv", "a,b\n");
    desk.run(&["convert", "header.csv", "h.hyper"]).ok().says("0 rows");
}

#[test]
fn zero_columns_are_refused() {
    let desk = Desk::new();
    desk.python("import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({}), 'n.parquet')");
    desk.run(&["convert", "n.parquet", "x.hyper"]).fails(6, "E201");
    desk.write("a.csv", "a\n1\n");
    desk.run(&["convert", "a.csv", "x.hyper", "--types", "a=drop"]).fails(6, "E201");
}

#[test]
fn schemas_are_merged_where_safe_and_refused_where_not() {
    let desk = Desk::new();
    desk.parquet("m/1.parquet", "{'id': pa.array([1], pa.int32()), 'only_here': ['x']}");
    desk.parquet("m/2.parquet", "{'id': pa.array([2**40], pa.int64())}");
    desk.run(&["convert", "m", "m.hyper"]).ok();
    assert_eq!(desk.rows("m.hyper", "id"), serde_json::json!([[1, "x"], [1_099_511_627_776_i64, null]]));
    desk.parquet("c/1.parquet", "{'id': [1]}");
    desk.parquet("c/2.parquet", "{'id': ['one']}");
    desk.run(&["convert", "c", "c.hyper"]).fails(6, "E205").says("`id`");
}

#[test]
fn corrupt_parquet_names_the_file() {
    let desk = Desk::new();
    desk.parquet("d/good.parquet", "{'id': list(range(1000))}");
    desk.write("d/torn.parquet", b"PAR1 and then nothing that makes sense PAR1");
    desk.run(&["convert", "d", "x.hyper"]).fails(3, "E131").says("torn.parquet");
    // A footer that is whole over pages that are not: found while reading, and nothing is left behind.
    desk.python(
        "import pyarrow as pa, pyarrow.parquet as pq, random\n\
         pq.write_table(pa.table({'a': [random.random() for _ in range(200000)]}), 'pages.parquet', compression='zstd')\n\
         b = bytearray(open('pages.parquet', 'rb').read())\n\
         b[2000:90000] = bytes(88000)\n\
         open('pages.parquet', 'wb').write(b)",
    );
    desk.write("x.hyper", "the old file");
    for route in ["streamed", "direct"] {
        desk.run(&["convert", "pages.parquet", "x.hyper", "--route", route]).fails(3, "E131").says("pages.parquet");
        assert_eq!(std::fs::read_to_string(desk.path().join("x.hyper")).unwrap(), "the old file");
    }
    assert!(!desk.files().iter().any(|f| f.contains(".tmp")), "{:?}", desk.files());
}

#[test]
fn broken_csv_rows_name_file_and_line() {
    let desk = Desk::new();
    desk.write("b.csv", "a,b\n1,2\n3\n4,5\n");
    desk.run(&["convert", "b.csv", "x.hyper"]).fails(3, "E131").says("b.csv").says("3");
}

#[test]
fn duplicate_column_names() {
    let desk = Desk::new();
    desk.write("a.csv", "a,b\n1,2\n");
    desk.run(&["convert", "a.csv", "x.hyper", "--sql", "select a as x, b as x from src"]).fails(6, "E202").says("`x`");
    desk.python("import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=['x', 'x']), 'd.parquet')");
    desk.run(&["convert", "d.parquet", "x.hyper"]).fails(6, "E202").says("`x`");
}

#[test]
fn names_of_200_characters_and_with_quotes() {
    let desk = Desk::new();
    let long = "n".repeat(200);
    desk.parquet("q.parquet", &format!("{{'{long}': [1], 'a \"b\" \\'c\\'; drop table x': [2], '😀 é': [3]}}"));
    for route in ["direct", "streamed"] {
        desk.run(&["convert", "q.parquet", "q.hyper", "--route", route]).ok();
        assert_eq!(desk.rows("q.hyper", "1"), serde_json::json!([[1, 2, 3]]));
    }
    desk.run(&["describe", "q.hyper"]).ok().says(&long);
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let desk = Desk::new();
    let small = desk.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|s| s.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a small tmpfs");
        return;
    }
    desk.write("small/x.hyper", "the old file");
    desk.python(
        "import pyarrow as pa, pyarrow.parquet as pq, random\n\
         pq.write_table(pa.table({'a': [random.random() for _ in range(2000000)]}), 'big.parquet')",
    );
    let result = std::panic::catch_unwind(|| {
        for route in ["direct", "streamed"] {
            desk.run(&["convert", "big.parquet", "small/x.hyper", "--route", route]).fails(1, "E102");
            assert_eq!(std::fs::read_to_string(small.join("x.hyper")).unwrap(), "the old file");
            assert_eq!(std::fs::read_dir(&small).unwrap().count(), 1, "{:?}", desk.files());
        }
    });
    let _ = std::process::Command::new("umount").arg(&small).status();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let desk = Desk::new();
    desk.write("lakeport.toml", "[job.x]\nform = \"a.csv\"\nto = \"x.hyper\"\n");
    desk.run(&["run", "x"]).fails(2, "E122").says("lakeport.toml").says("did you mean `from`?");
}

#[test]
fn a_missing_secret_is_named_before_any_work() {
    let desk = Desk::new();
    desk.write("a.csv", "a\n1\n");
    desk.write(
        "lakeport.toml",
        "[env.tab]\ntype = \"tableau\"\nurl = \"http://127.0.0.1:9\"\ntoken_name = \"t\"\ntoken_secret = { env = \"NO_SUCH_TOKEN\" }\n",
    );
    desk.run(&["run", "--from", "a.csv", "--to", "tab:A"]).fails(2, "E123").says("NO_SUCH_TOKEN");
}

#[test]
fn an_unreachable_server() {
    let desk = Desk::new();
    desk.write("a.csv", "a\n1\n");
    desk.write(
        "lakeport.toml",
        "[env.tab]\ntype = \"tableau\"\nurl = \"http://127.0.0.1:9\"\ntoken_name = \"t\"\ntoken_secret = { env = \"TOKEN\" }\n",
    );
    let done = desk.command(&["run", "--from", "a.csv", "--to", "tab:A"]).env("TOKEN", "x").output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(5), "{text}");
    assert!(text.contains("error[E150]") && text.contains("127.0.0.1:9"), "{text}");
    assert!(!desk.files().iter().any(|f| f.contains(".tmp")), "{:?}", desk.files());
}

#[test]
fn bad_sql_and_unknown_names() {
    let desk = Desk::new();
    desk.write("a.csv", "amount\n1\n");
    desk.run(&["convert", "a.csv", "x.hyper", "--sql", "selec * from src"]).fails(2, "E126");
    desk.run(&["convert", "a.csv", "x.hyper", "--sql", "select amuont from src"]).fails(2, "E126");
    desk.run(&["convert", "a.csv", "x.hyper", "--sql", "drop table src"]).fails(2, "E126");
    desk.run(&["convert", "a.csv", "x.doc"]).fails(2, "E120").says(".hyper");
    desk.run(&["run", "nojob"]).fails(2, "E124");
    desk.run(&["convert", "nolake:a", "x.hyper"]).fails(2, "E124");
    desk.run(&["convert", "a.csv", "x.hyper", "--types", "amuont=text"]).fails(2, "E120").says("did you mean `amount`?");
    desk.run(&["convert", "a.csv", "x.hyper", "--memory", "lots"]).fails(2, "E120");
}

#[test]
fn a_partition_column_that_only_some_files_hold_is_refused() {
    let desk = Desk::new();
    desk.parquet("t/month=7/a.parquet", "{'id': [1], 'month': [7]}");
    desk.parquet("t/month=8/b.parquet", "{'id': [2]}");
    let done = desk.run(&["convert", "t", "t.hyper"]).fails(6, "E205");
    done.says("`month`").says("month=7/a.parquet").says("month=8/b.parquet");
}

#[test]
fn a_stray_quote_in_a_csv_takes_no_rows() {
    let desk = Desk::new();
    desk.write("open.csv", "id,name\n1,\"abc\n2,def\n3,ghi\n");
    desk.run(&["convert", "open.csv", "x.hyper"]).fails(3, "E131").says("open.csv").says("line 2").says("not closed");
    let rows: String = (1..5000).map(|i| format!("{i},{}\n", if i % 1000 == 500 { "\"x" } else { "x" })).collect();
    desk.write("middle.csv", "id,name\n".to_owned() + &rows);
    desk.run(&["convert", "middle.csv", "x.hyper"]).fails(3, "E131").says("middle.csv").says("line 501").says("line 1501");
    desk.write("backslash.csv", "id,name\n1,\"a \\\"b\\\" c\"\n");
    desk.run(&["convert", "backslash.csv", "x.hyper"]).fails(3, "E131").says("line 2");
    assert!(!desk.path().join("x.hyper").exists());
    desk.write("legal.csv", "id,name\r\n1,\"a \"\"b\"\"\r\nc, d\"\r\n2,\"\"\r\n3,5\" pipe\r\n");
    desk.run(&["convert", "legal.csv", "legal.hyper"]).ok();
    assert_eq!(desk.rows("legal.hyper", "id"), serde_json::json!([[1, "a \"b\"\r\nc, d"], [2, ""], [3, "5\" pipe"]]));
}

#[test]
fn what_a_reader_would_lose_is_refused() {
    let desk = Desk::new();
    desk.python("import duckdb; duckdb.sql(\"copy (select 1 as i, interval '1 year 2 days' as v) to 'iv.parquet'\")");
    desk.run(&["convert", "iv.parquet", "iv.csv"]).fails(6, "E203").says("months would be lost").says("column v");
    // Its reader breaks down at the microsecond before 1970, where the build looks for overflows, as that of the tests does.
    desk.python(
        "import pyarrow as pa, pyarrow.orc as orc\n\
         orc.write_table(pa.table({'a': pa.array([-1], pa.int64()).cast(pa.timestamp('us')), 'b': [0]}), 'old.orc')",
    );
    desk.run(&["convert", "old.orc", "old.csv"]).fails(3, "E131").says("the reader of the file broke down").says("old.orc");
    assert!(!desk.files().iter().any(|f| f.ends_with(".csv")), "{:?}", desk.files());
}

#[test]
fn rows_and_lines_without_end_are_not_gathered() {
    let desk = Desk::new();
    desk.write("endless.csv", "id,name\n1,x\n2,\"".to_owned() + &"abc\n".repeat(17 << 20));
    desk.run(&["convert", "endless.csv", "x.hyper"]).fails(3, "E131").says("endless.csv").says("line 3").says("64 MiB");
    desk.write("array.json", "[".to_owned() + &"{\"a\": 1},\n".repeat(10));
    desk.run(&["convert", "array.json", "x.hyper"]).fails(3, "E131").says("array.json").says("jq -c");
    // A megabyte of text is a value like others.
    let text = "x".repeat(5 << 20);
    desk.write("long.csv", format!("id,name\n1,\"{text}\"\n"));
    desk.write("long.json", format!("{{\"id\": 1, \"name\": \"{text}\"}}\n"));
    for file in ["long.csv", "long.json"] {
        desk.run(&["convert", file, "x.parquet"]).ok().says("1 row");
    }
}

#[test]
fn no_data_file_of_a_directory_is_left_out() {
    let desk = Desk::new();
    let foreign =
        ["2024-02.csv.bz2", "b.csv.zip", "b.json.snappy", "b.csv.lz4", "b.parquet.gz", "b.txt", "b.tbl", "b.orc", "000000_0.gz"];
    for (number, name) in foreign.into_iter().enumerate() {
        desk.write(&format!("d{number}/2024-01.csv"), "id\n1\n");
        desk.write(&format!("d{number}/{name}"), "something");
        for from in [format!("d{number}"), format!("d{number}/*")] {
            desk.run(&["convert", &from, "x.hyper"]).fails(3, "E131").says(name);
        }
        desk.run(&["convert", &format!("d{number}/*.csv"), "x.csv"]).ok().says("1 row");
    }
    assert!(!desk.path().join("x.hyper").exists());
}

#[test]
fn what_lakes_leave_beside_data_stops_nothing() {
    let desk = Desk::new();
    desk.write("d/a.csv", "id\n1\n");
    let beside =
        ["_SUCCESS", "_metadata", "_common_metadata", ".a.csv.crc", "a.csv.md5", "README.md", "README.txt", "SHA256SUMS"];
    for beside in beside {
        desk.write(&format!("d/{beside}"), "something");
    }
    // Consoles of object stores mark directories so.
    desk.write("d/marker", "");
    desk.run(&["convert", "d", "x.csv"]).ok().says("1 row");
    desk.run(&["convert", "d/a*.csv", "x.csv"]).ok().says("1 row");
    desk.run(&["convert", "d/*", "y.csv"]).fails(3, "E131").says("README");
}

#[test]
fn a_glob_reads_parquet_without_an_ending_and_drops_nothing() {
    let desk = Desk::new();
    desk.parquet("hive/000000_0", "{'id': [1, 2]}");
    desk.parquet("hive/000001_0", "{'id': [3]}");
    desk.write("hive/_SUCCESS", "");
    desk.run(&["convert", "hive", "x.hyper"]).fails(3, "E131").says("000000_0").says("glob");
    for route in ["direct", "streamed"] {
        desk.run(&["convert", "hive/*", "hive.hyper", "--route", route]).ok();
        assert_eq!(desk.rows("hive.hyper", "id"), serde_json::json!([[1], [2], [3]]));
    }
    desk.parquet("days/day=1/000000_0", "{'id': [1]}");
    desk.parquet("days/day=2/000000_0", "{'id': [2]}");
    desk.run(&["convert", "days/*", "days.hyper"]).ok();
    assert_eq!(desk.rows("days.hyper", "id"), serde_json::json!([[1, 1], [2, 2]]));
    desk.write("hive/000002_0", "not Parquet");
    desk.run(&["convert", "hive/*", "x.hyper"]).fails(3, "E131").says("000002_0");
    desk.parquet("mixed/a.parquet", "{'id': [1]}");
    desk.write("mixed/b.orc", "ORC");
    desk.run(&["convert", "mixed/*", "x.hyper"]).fails(3, "E131").says("b.orc");
    assert!(!desk.path().join("x.hyper").exists());
}

#[test]
fn a_type_of_text_is_one_that_keeps_what_stands_there() {
    let desk = Desk::new();
    desk.write("n.csv", "id,n\n1,4503599627370497.3\n2,0.1\n");
    desk.write("n.json", "{\"id\": 1, \"n\": 4503599627370497.3}\n{\"id\": 2, \"n\": 0.1}\n");
    for file in ["n.csv", "n.json"] {
        desk.run(&["convert", file, "n.hyper"]).ok();
        assert_eq!(desk.rows("n.hyper", "id"), serde_json::json!([[1, "4503599627370497.3"], [2, "0.1"]]), "{file}");
    }
    desk.write("f.csv", "id,n\n1,0.30000000000000004\n2,5e-324\n");
    desk.run(&["convert", "f.csv", "f.hyper"]).ok();
    assert_eq!(desk.rows("f.hyper", "id"), serde_json::json!([[1, 0.300_000_000_000_000_04], [2, 5e-324]]));
    desk.write(
        "t.csv",
        "id,at,day,other\n1,2024-01-31  9:05:00,2024- 1-31,2024-01- 5\n2,2024-01-31 10:05:00,2024-01-31,2024-01-05\n",
    );
    desk.run(&["convert", "t.csv", "t.hyper"]).ok();
    assert_eq!(
        desk.rows("t.hyper", "id"),
        serde_json::json!([
            [1, "2024-01-31  9:05:00", "2024- 1-31", "2024-01- 5"],
            [2, "2024-01-31 10:05:00", "2024-01-31", "2024-01-05"]
        ])
    );
}
