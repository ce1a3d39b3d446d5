//! Ten million rows into every file format, and the memory it takes: `make formats-long`.

use std::fmt::Write;

use crate::support::Desk;

/// Rows of the long form, and of the short one that every test run makes.
const ROWS: (u64, u64) = (10_000_000, 50_000);
/// Bytes that Lakeport may have resident at most; hyperd is a process of its own, with a limit of its own.
const PEAK: u64 = 512 * 1024 * 1024;

/// Files by format, each with the column wishes it needs.
const FILES: [(&str, &[&str]); 11] = [
    ("t.hyper", &[]),
    ("t.csv", &[]),
    ("t.csv.gz", &[]),
    ("t.ndjson", &[]),
    ("u.parquet", &[]),
    ("t.avro", &[]),
    ("t.orc", &[]),
    ("t.txt", &["id=drop", "x=drop", "amount=drop", "at=drop"]),
    ("t.yxdb", &[]),
    ("t.xlsx", &[]),
    ("t.tde", &[]),
];

#[test]
fn memory_stays_bounded_however_many_rows() {
    let long = std::env::var_os("LAKEPORT_LONG").is_some();
    let rows = if long { ROWS.0 } else { ROWS.1 };
    let desk = Desk::new();
    desk.python(&format!(
        "
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as c
step = 1_000_000
schema = pa.schema([('id', pa.int32()), ('name', pa.string()), ('x', pa.float64()), ('amount', pa.decimal128(12, 2)), ('at', pa.timestamp('ms'))])
with pq.ParquetWriter('t.parquet', schema) as w:
    for start in range(0, {rows}, step):
        id = pa.array(range(start, min(start + step, {rows})), pa.int32())
        name = c.binary_join_element_wise('row', c.cast(id, pa.string()), ' ')
        amount = c.cast(c.cast(c.bit_wise_and(id, 0xffff), pa.int32()), pa.decimal128(12, 2))
        at = c.cast(c.multiply(c.cast(id, pa.int64()), 1000), pa.timestamp('ms'))
        w.write_table(pa.table([id, name, c.divide(c.cast(id, pa.float64()), 8), amount, at], schema=schema))
"
    ));
    let mut table = String::from(
        "| format | rows | seconds | file, MiB | peak memory, MiB | hyperd, MiB |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (file, wishes) in FILES {
        let mut args = vec!["convert", "t.parquet", file, "--route", "streamed", "--memory", "256MiB", "--json"];
        wishes.iter().for_each(|w| args.extend(["--types", w]));
        let done = desk.run(&args).ok().json();
        assert_eq!(done["tables"][0]["rows"], rows, "{file}");
        assert_eq!(done["tables"][0]["left"], done["tables"][0]["arrived"], "{file}");
        let of = |pointer: &str| done.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap();
        let (peak, hyperd, bytes) = (of("/peak_memory/lakeport"), of("/peak_memory/hyperd"), of("/file/bytes"));
        assert!(peak < PEAK, "{file}: {peak} bytes were resident");
        let seconds = done["seconds"].as_f64().unwrap();
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let ending = file.split_once('.').unwrap().1;
        let _ = writeln!(table, "| .{ending} | {rows} | {seconds:.1} | {} | {} | {} |", mib(bytes), mib(peak), mib(hyperd));
        std::fs::remove_file(desk.path().join(file)).unwrap();
    }
    println!("{table}");
    if long {
        let to = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/results/formats-long.md");
        let head = "# Ten million rows into each format\n\nFive columns (int32, text, double, decimal(12,2), timestamp in ms) from one Parquet file, `--memory 256MiB`,\n\
                    written, read back and compared; one turn of a release build on two cores.\n\n";
        std::fs::write(to, format!("{head}{table}")).unwrap();
    }
}
