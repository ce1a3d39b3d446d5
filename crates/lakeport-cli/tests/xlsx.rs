//! Excel `.xlsx`, judged by openpyxl.

use crate::support::{Desk, judge};

/// What cells do not hold as what it is, kept as text: beyond 15 digits, NaN, before 1900, finer than milliseconds.
const AS_TEXT: [&str; 22] = [
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "decimal128_18_18",
    "decimal128_19_0",
    "decimal128_38_0",
    "decimal128_38_10",
    "decimal128_38_38",
    "decimal256_76_4",
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
    "time64_us_fine",
];

fn table(desk: &Desk, file: &str, what: &str) -> serde_json::Value {
    serde_json::from_str(&judge(desk, "judge_xlsx", &[what, file])).unwrap()
}

#[test]
fn every_type_and_edge_arrives_as_it_left() {
    let desk = Desk::new();
    judge(&desk, "torture", &["make", "."]);
    let wishes: Vec<_> = AS_TEXT.iter().map(|c| format!("{c}=text")).collect();
    let mut args = vec!["convert", "all.parquet", "all.xlsx", "--verify", "full"];
    // Texts of millions of characters, and NUL bytes, have no place in a cell.
    let dropped = ["utf8=drop", "large_utf8=drop", "utf8_view=drop", "binary=drop", "large_binary=drop", "binary_view=drop"];
    let nested = ["list_json=json", "map_json=json", "struct_json=json", "struct_flat=flatten"];
    for wish in wishes.iter().map(String::as_str).chain(dropped).chain(nested) {
        args.extend(["--types", wish]);
    }
    desk.run(&args).ok();
    print!("{}", judge(&desk, "judge_xlsx", &["compare", "all.xlsx"]));
}

#[test]
fn cells_have_the_types_and_formats_of_their_columns() {
    let desk = Desk::new();
    let columns = "'d': pa.array([-25508, None], pa.date32()), 'at': pa.array([1577934245123, None], pa.timestamp('ms')), \
                   'n': pa.array([1, 9007199254740991]), 'x': pa.array([0.1, None]), 'amount': pa.array([D('12.30'), None], pa.decimal128(9, 2)), \
                   't': pa.array(['=1+1', 'http://x.y'])";
    desk.parquet("t.parquet", &format!("(lambda D: {{{columns}}})(__import__('decimal').Decimal)"));
    desk.run(&["convert", "t.parquet", "t.xlsx", "--verify", "full"]).ok();
    let cells = table(&desk, "t.xlsx", "cells");
    let of = |row: usize, column: usize| {
        let cell = &cells[row][column];
        (cell[0].as_str().unwrap().to_owned(), cell[1].as_str().unwrap().to_owned(), cell[2].as_str().unwrap().to_owned())
    };
    let is = |row, column, value: &str, format: &str, kind: &str| {
        assert_eq!(of(row, column), (value.to_owned(), format.to_owned(), kind.to_owned()));
    };
    is(1, 0, "1900-03-01 00:00:00", "yyyy-mm-dd", "d");
    is(1, 1, "2020-01-02 03:04:05.123000", "yyyy-mm-dd hh:mm:ss.000", "d");
    is(2, 2, "9007199254740991", "0", "n");
    is(1, 3, "0.1", "General", "n");
    is(1, 4, "12.3", "0.00", "n");
    // What looks like a formula or a link is a text.
    assert_eq!((of(1, 5).0, of(2, 5).0), ("=1+1".to_owned(), "http://x.y".to_owned()));
}

#[test]
fn what_no_cell_holds_stops_the_run_or_is_counted() {
    let desk = Desk::new();
    let refused = |columns: &str, says: &str| {
        desk.parquet("t.parquet", columns);
        desk.run(&["convert", "t.parquet", "t.xlsx"]).fails(6, "E204").says(says);
        assert!(!desk.path().join("t.xlsx").exists());
        std::fs::remove_file(desk.path().join("t.parquet")).unwrap();
    };
    refused("{'n': [2**53 + 1]}", "--types n=");
    refused("{'x': [float('nan')]}", "finite numbers");
    refused("{'t': ['x' * 32768]}", "32768 characters");
    refused("{'t': ['a\\x00b']}", "U+0000");
    refused("{'d': pa.array([-25509], pa.date32())}", "1900-02-28");
    desk.parquet("u.parquet", "{'x': [1.5, float('inf'), None]}");
    let done = desk.run(&["convert", "u.parquet", "u.xlsx", "--lossy=x", "--json"]).ok().json();
    assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ "x": 1 }));
}

#[test]
fn what_is_accepted_as_lossy_is_changed_and_counted() {
    let desk = Desk::new();
    let columns = "'n': [2**53 + 1, 1], 'd': pa.array([D('1234567890123456789.55'), D('1.50')], pa.decimal128(38, 2)), \
                   'x': [float('nan'), 2.5], 't': ['é' * 40000, ''], 'at': pa.array([1577934245123456, 0], pa.timestamp('us')), \
                   'tz': pa.array([1577934245123, 0], pa.timestamp('ms', 'Europe/Berlin'))";
    desk.parquet("t.parquet", &format!("(lambda D: {{{columns}}})(__import__('decimal').Decimal)"));
    for (column, text) in
        [("n", "9007199254740993"), ("d", "1234567890123456789.55"), ("x", "NaN"), ("at", "2020-01-02T03:04:05.123456")]
    {
        let sql = format!("select {column} from src");
        let args = ["run", "--from", "t.parquet", "--sql", &sql, "--to", "one.xlsx"];
        desk.run(&args).fails(6, "E204").says(column);
        // All digits, as text.
        let wish = format!("{column}=text");
        desk.run(&[&args[..], &["--types", &wish]].concat()).ok();
        assert_eq!(table(&desk, "one.xlsx", "cells")[1][0][0], text);
        // Or less of them, by name.
        let accepted = format!("--lossy={column}");
        let done = desk.run(&[&args[..], &[&accepted, "--json"]].concat()).ok().json();
        assert_eq!(done["tables"][0]["changed_values"][column], 1, "{column}");
    }
    // A text that is too long is cut; an empty one is a cell's value.
    let args = ["run", "--from", "t.parquet", "--sql", "select t, tz from src", "--to", "one.xlsx", "--lossy=t", "--json"];
    let done = desk.run(&args).ok().json();
    assert_eq!(done["tables"][0]["changed_values"], serde_json::json!({ "t": 1 }));
    let cells = table(&desk, "one.xlsx", "cells");
    assert_eq!(cells[1][0][0].as_str().unwrap().chars().count(), 32_767);
    assert_eq!(cells[2][0], serde_json::json!(["", "General", "s"]));
    // An instant is shown by the clock of UTC.
    assert_eq!(cells[1][1][0], "2020-01-02 03:04:05.123000");
}

#[test]
fn rows_are_an_excel_table_when_asked() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': range(5), 'name of it': ['a', 'b', None, 'd', 'e']}");
    desk.parquet("none.parquet", "pa.table({'a': pa.array([], pa.int64())})");
    let job = "[job.b]\nto = \"b.xlsx\"\n[job.b.tables.\"my sales\"]\nfrom = \"t.parquet\"\n[job.b.tables.none]\nfrom = \"none.parquet\"\n\
               [job.b.xlsx]\ntable = true\n";
    desk.write("lakeport.toml", job);
    let done = desk.run(&["run", "b", "--verify", "full"]).ok();
    assert!(!done.stderr.contains("Ignoring"), "{}", done.stderr);
    let code = "
import openpyxl
for sheet in openpyxl.load_workbook('b.xlsx'):
    for t in sheet.tables.values():
        print(sheet.title, t.name, t.ref, t.autoFilter.ref, [c.name for c in t.tableColumns], sheet.auto_filter.ref, sheet['A1'].font.bold)
";
    let text = desk.python(code);
    assert_eq!(text, "my sales my_sales A1:B6 A1:B6 ['id', 'name of it'] None True\nnone none A1:A2 A1:A2 ['a'] None True\n");
    desk.parquet("alike.parquet", "{'id': [1], 'ID': [2]}");
    desk.write("lakeport.toml", "[job.b]\nfrom = \"alike.parquet\"\nto = \"b.xlsx\"\n[job.b.xlsx]\ntable = true\n");
    desk.run(&["run", "b"]).fails(6, "E202").says("`id` and `ID`");
}

#[test]
fn a_workbook_is_a_source_whose_types_its_whole_sheets_decide() {
    let desk = Desk::new();
    // Whole numbers first and a fraction at the end, a text among numbers at the end: the last row counts like the first.
    desk.python(
        "
import datetime as dt, openpyxl
book = openpyxl.Workbook()
first = book.active
first.title = 'notes'
first['A1'] = 'nothing of interest'
sheet = book.create_sheet('Sales 2024')
sheet.append([None])
sheet.append([None, 'id', 'price', 'code', 'day', 'at', 'clock', 'took', 'ok', 'empty', None, 'id'])
for i in range(3000):
    sheet.append([None, i, i, i, dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, 12, 30, 15, 250000), dt.time(23, 59, 59), dt.timedelta(hours=30), i % 2 == 0, None, 'x', 'y'])
sheet.append([])
sheet.append([None, 2**53, 0.5, 'A7', dt.date(1900, 3, 1), dt.datetime(2024, 1, 2), dt.time(0), dt.timedelta(0), None, None, None, None])
sheet['B3009'].font = openpyxl.styles.Font(bold=True)
book.save('x.xlsx')
",
    );
    let source = "x.xlsx#Sales 2024";
    let described = desk.run(&["describe", "x.xlsx"]).ok().says("Sales 2024 · 3,002 rows");
    assert!(described.stdout.contains("notes"));
    desk.run(&["convert", source, "x.parquet", "--verify", "full"]).ok().says("3,002 rows");
    let code = "
import pyarrow.parquet as q
t = q.read_table('x.parquet')
print(', '.join(f'{f.name}:{f.type}' for f in t.schema))
for row in (0, 3000, 3001): print([str(c[row]) for c in t.columns])
";
    let text = desk.python(code);
    let lines: Vec<_> = text.lines().collect();
    let types = "id:int64, price:double, code:string, day:date32[day], at:timestamp[ms], clock:time32[ms], took:int64, ok:bool, \
                 empty:string, column_11:string, id_2:string";
    assert_eq!(lines[0], types);
    let first =
        "['0', '0.0', '0', '2024-01-01', '2024-01-01 12:30:15.250000', '23:59:59', '108000000', 'True', 'None', 'x', 'y']";
    assert_eq!(lines[1], first);
    assert_eq!(lines[2], format!("[{}]", ["'None'"; 11].join(", ")));
    let last =
        "['9007199254740992', '0.5', 'A7', '1900-03-01', '2024-01-02 00:00:00', '00:00:00', '0', 'None', 'None', 'None', 'None']";
    assert_eq!(lines[3], last);
    // SQL over it, and a wish.
    let sql = "select sum(id) as s from src where ok";
    desk.run(&["run", "--from", source, "--sql", sql, "--to", "s.csv"]).ok();
    assert_eq!(std::fs::read_to_string(desk.path().join("s.csv")).unwrap(), "s\n2248500\n");
    desk.run(&["run", "--from", source, "--to", "w.parquet", "--types", "id=text"]).ok();
    desk.run(&["convert", "x.xlsx#Nope", "y.csv"]).fails(2, "E124").says("Sales 2024");
    desk.write("no.xlsx", "PK no workbook");
    desk.run(&["convert", "no.xlsx", "y.csv"]).fails(3, "E131");
    // What Lakeport wrote comes back as it was.
    desk.run(&["convert", "x.parquet", "again.xlsx"]).ok();
    desk.run(&["convert", "again.xlsx", "again.csv"]).ok();
    desk.run(&["convert", "x.parquet", "x.csv"]).ok();
    let read = |name: &str| std::fs::read_to_string(desk.path().join(name)).unwrap();
    let differ: Vec<_> = std::iter::zip(read("again.csv").lines().map(str::to_owned), read("x.csv").lines().map(str::to_owned))
        .filter(|(a, b)| a != b)
        .take(3)
        .collect();
    // The times that were durations are whole numbers by now; nothing else changes on the way.
    assert!(differ.is_empty(), "{differ:?}");
    assert_eq!(read("again.csv").lines().count(), read("x.csv").lines().count());
}

#[test]
fn tables_are_sheets_and_long_ones_continue() {
    let desk = Desk::new();
    desk.parquet("long.parquet", "{'id': pa.array([None if i == 5 else i for i in range(1048580)], pa.int32())}");
    desk.parquet("short.parquet", "{'a': [1, 2], 'b': ['x', None]}");
    let job = "[job.book]\nto = \"book.xlsx\"\n[job.book.tables.\"long/er\"]\nfrom = \"long.parquet\"\n[job.book.tables.short]\nfrom = \"short.parquet\"\n";
    desk.write("lakeport.toml", job);
    let done = desk.run(&["run", "book", "--json"]).ok().json();
    assert_eq!((&done["tables"][0]["rows"], &done["tables"][1]["rows"]), (&1_048_580.into(), &2.into()));
    // Counting a million rows takes openpyxl a minute; their sheets say how far they reach.
    let code = "import zipfile, re; z = zipfile.ZipFile('book.xlsx'); \
                print([re.search(rb'<dimension ref=\"([^\"]+)\"', z.read(f'xl/worksheets/sheet{i}.xml')).group(1).decode() for i in (1, 2, 3)]); \
                print(re.findall(rb'<sheet name=\"([^\"]+)\"', z.read('xl/workbook.xml')))";
    let text = desk.python(code);
    assert!(text.contains("['A1:A1048576', 'A1:A6', 'A1:B3']"), "{text}");
    assert!(text.contains("[b'long_er', b'long_er (2)', b'short']"), "{text}");
    desk.write("lakeport.toml", format!("{job}[job.book.xlsx]\nrows = \"refuse\"\n"));
    desk.run(&["run", "book"]).fails(6, "E204").says("1,048,575");
}

#[test]
fn headers_are_frozen_bold_and_filtered() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': [1, 2], 'b': ['x', 'y']}");
    desk.run(&["convert", "t.parquet", "t.xlsx"]).ok();
    assert_eq!(table(&desk, "t.xlsx", "look"), serde_json::json!([["Extract", 3, 2, "A2", "A1:B3", true]]));
    let job = "[job.t]\nfrom = \"t.parquet\"\nto = \"t.xlsx\"\n[job.t.xlsx]\nfreeze = false\nautofilter = false\n";
    desk.write("lakeport.toml", job);
    desk.run(&["run", "t"]).ok();
    assert_eq!(table(&desk, "t.xlsx", "look"), serde_json::json!([["Extract", 3, 2, null, null, true]]));
    desk.run(&["describe", "t.xlsx"]).ok().says("Extract · 2 rows");
    desk.parquet("none.parquet", "pa.table({'a': pa.array([], pa.int64())})");
    desk.run(&["convert", "none.parquet", "none.xlsx"]).ok();
    assert_eq!(table(&desk, "none.xlsx", "look")[0][1], 1);
}
