//! The plain formats: what pyarrow wrote arrives in each of them as their mapping tables say, judged by readers of others.

use crate::support::{Desk, judge, python};

fn tortured(file: &str, wishes: &[&str]) {
    let desk = Desk::new();
    judge(&desk, "torture", &["make", "."]);
    let mut args = vec!["convert", "all.parquet", file, "--verify", "full", "--types", "struct_flat=flatten"];
    wishes.iter().for_each(|w| args.extend(["--types", w]));
    desk.run(&args).ok().says("every value");
    print!("{file}: {}", judge(&desk, "formats", &["compare", file]));
}

const NESTED_AS_JSON: [&str; 3] = ["list_json=json", "map_json=json", "struct_json=json"];

#[test]
fn csv_holds_every_value() {
    tortured("all.csv", &NESTED_AS_JSON);
    tortured("all.csv.gz", &NESTED_AS_JSON);
}

#[test]
fn ndjson_holds_every_value() {
    tortured("all.ndjson", &[]);
    tortured("all.ndjson.gz", &[]);
}

#[test]
fn parquet_holds_every_value() {
    tortured("new.parquet", &[]);
}

#[test]
fn avro_holds_every_value() {
    tortured("all.avro", &NESTED_AS_JSON);
}

#[test]
fn orc_holds_every_value() {
    // Timestamps of the years 1 and 9999 are beyond the writer's nanoseconds, and uint64 beyond its integers: as text here.
    let mut wishes = NESTED_AS_JSON.to_vec();
    wishes.extend(["uint64=text", "timestamp_s=text", "timestamp_ms=text", "timestamp_us=text"]);
    wishes.extend(["timestamptz_s=text", "timestamptz_ms=text", "timestamptz_us=text"]);
    wishes.extend(["timestamp_ns=text", "timestamptz_ns=text"]);
    tortured("all.orc", &wishes);
    let desk = Desk::new();
    let at = |values: &str| {
        format!("{{'at': pa.array({values}, pa.timestamp('us')), 'tz': pa.array({values}, pa.timestamp('us', 'UTC'))}}")
    };
    desk.parquet("t.parquet", &at("[0, 1577934245123456, None, -86400000000]"));
    desk.run(&["convert", "t.parquet", "t.orc", "--verify", "full"]).ok();
    let code =
        "import pyarrow.orc as o; t = o.read_table('t.orc'); print([[str(v) for v in t[c].to_pylist()] for c in t.column_names])";
    let output = python().args(["-c", code]).current_dir(desk.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("'2020-01-02 03:04:05.123456', 'None', '1969-12-31 00:00:00'"), "{text}");
    assert!(text.contains("'2020-01-02 03:04:05.123456+00:00', 'None', '1969-12-31 00:00:00+00:00'"), "{text}");
    desk.parquet("early.parquet", &at("[-1]"));
    desk.run(&["convert", "early.parquet", "early.orc"]).fails(6, "E204").says("1970");
}

#[test]
fn text_holds_lines_and_refuses_what_is_none() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'line': ['a', '', ' b ', 'é,\"', 'x' * 100000]}");
    desk.run(&["convert", "t.parquet", "t.txt", "--verify", "full"]).ok();
    let lines: Vec<String> = serde_json::from_str(&judge(&desk, "formats", &["text", "t.txt"])).unwrap();
    assert_eq!(lines, ["a", "", " b ", "é,\"", &"x".repeat(100_000)]);
    desk.parquet("n.parquet", "{'line': ['a', None]}");
    desk.run(&["convert", "n.parquet", "n.txt"]).fails(6, "E204").says("row 2").says("NULL");
    desk.parquet("b.parquet", "{'line': ['a\\nb']}");
    desk.run(&["convert", "b.parquet", "b.txt"]).fails(6, "E204").says("line break");
    desk.parquet("two.parquet", "{'a': ['x'], 'b': ['y']}");
    desk.run(&["convert", "two.parquet", "two.txt"]).fails(2, "E127").says("2");
    assert!(!desk.path().join("n.txt").exists() && !desk.path().join("b.txt").exists());
}

#[test]
fn a_dialect_is_what_the_job_says() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': ['x;y', None, '\\\\N', ''], 'n': [1, 2, None, 4]}");
    let job = "[job.t]\nfrom = \"t.parquet\"\nto = \"t.csv\"\n[job.t.csv]\ndelimiter = \";\"\nnull = '\\N'\nheader = false\n";
    desk.write("lakeport.toml", job);
    desk.run(&["run", "t"]).ok();
    let text = std::fs::read_to_string(desk.path().join("t.csv")).unwrap();
    assert_eq!(text, "\"x;y\";1\n\\N;2\n\"\\N\";\\N\n\"\";4\n");
    desk.write("lakeport.toml", job.replace("delimiter", "delimter"));
    desk.run(&["run", "t"]).fails(2, "E122").says("delimiter");
    desk.write("lakeport.toml", job.replace("\";\"", "\"é\""));
    desk.run(&["run", "t"]).fails(2, "E121").says("one ASCII character");
}

#[test]
fn options_of_text_files_are_what_other_readers_expect() {
    let desk = Desk::new();
    let texts = r#"['a', 'with, comma', 'say "x"', 'back\\slash', 'line\nbreak', '', None, 'é', "it's"]"#;
    desk.parquet("t.parquet", &format!("{{'s': {texts}, 'n': range(9)}}"));
    let run = |name: &str, options: &str| {
        desk.write("lakeport.toml", format!("[job.t]\nfrom = \"t.parquet\"\nto = \"{name}\"\nverify = \"full\"\n{options}\n"));
        desk.run(&["run", "t"])
    };
    run("escaped.csv", "[job.t.csv]\nescape = '\\'\nbom = true\nline_ending = \"crlf\"\nquote_all = true").ok();
    run("single.csv", "[job.t.csv]\nquote = \"'\"\ndelimiter = \"|\"").ok();
    run("packed/feed", "format = \"csv\"\n[job.t.csv]\ncompression = \"gzip\"\ncompression_level = 9").ok();
    run("t.ndjson.zst", "[job.t.ndjson]\ncompression_level = 19").ok();
    run("nulls.csv", "[job.t.csv]\nnull = \"NULL\"").ok();
    let code = format!(
        r#"
import csv, gzip, io
texts = {texts}
rows = lambda text, **d: [r[0] for r in csv.reader(io.StringIO(text, newline=''), **d)][1:]
raw = open('escaped.csv', 'rb').read()
assert raw.startswith(b'\xef\xbb\xbf"s","n"\r\n"a","0"\r\n'), raw[:30]
given = ['' if t is None else t for t in texts]
assert rows(raw.decode('utf-8-sig'), escapechar='\\', doublequote=False) == given
assert rows(open('single.csv', newline='').read(), delimiter='|', quotechar="'") == given
assert rows(gzip.open('packed/feed', 'rt', newline='').read()) == given
import duckdb
assert [r[0] for r in duckdb.sql("select s from read_json('t.ndjson.zst') order by n").fetchall()] == texts
assert [r[0] for r in duckdb.sql("select s from read_csv('nulls.csv', nullstr='NULL', header=true, columns={{'s': 'VARCHAR', 'n': 'INT'}}) order by n").fetchall()] == texts
assert [r[0] for r in duckdb.sql("select s from read_csv('escaped.csv', escape='\\', quote='\"', header=true, delim=',', columns={{'s': 'VARCHAR', 'n': 'INT'}}) order by n").fetchall()][:5] == texts[:5]
print('as given')
"#
    );
    assert_eq!(desk.python(&code), "as given\n");
    run("t.csv", "[job.t.csv]\ncompression = \"gzip\"").fails(2, "E121").says(".gz");
    run("t.csv.gz", "[job.t.csv]\ncompression_level = 10").fails(2, "E121").says("0 to 9");
    run("t.csv", "[job.t.csv]\nquote = \",\"").fails(2, "E121").says("the delimiter another one");
}

#[test]
fn codecs_row_groups_and_statistics_are_what_the_job_says() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': range(10000), 's': [f'text {i % 10}' for i in range(10000)]}");
    let run = |name: &str, options: &str| {
        desk.write("lakeport.toml", format!("[job.t]\nfrom = \"t.parquet\"\nto = \"{name}\"\nverify = \"full\"\n{options}\n"));
        desk.run(&["run", "t"])
    };
    for (codec, level) in [
        ("none", ""),
        ("snappy", ""),
        ("gzip", "compression_level = 9"),
        ("zstd", "compression_level = 19"),
        ("lz4", ""),
        ("brotli", "compression_level = 5"),
    ] {
        run(&format!("{codec}.parquet"), &format!("[job.t.parquet]\ncompression = \"{codec}\"\n{level}")).ok();
    }
    run("groups.parquet", "[job.t.parquet]\nrow_group_rows = 3000\nstatistics = \"none\"\ndictionary = false").ok();
    run("chunks.parquet", "[job.t.parquet]\nrow_group_size = \"1MiB\"\nstatistics = \"chunk\"").ok();
    for codec in ["none", "snappy", "deflate", "zstd"] {
        run(&format!("{codec}.avro"), &format!("[job.t.avro]\ncodec = \"{codec}\"")).ok();
    }
    let code = r#"
import pyarrow.parquet as q, duckdb
for codec in ('none', 'snappy', 'gzip', 'zstd', 'lz4', 'brotli'):
    m = q.read_metadata(f'{codec}.parquet')
    assert q.read_table(f'{codec}.parquet').equals(q.read_table('t.parquet')), codec
    assert duckdb.sql(f"select count(*), sum(id) from '{codec}.parquet'").fetchall() == [(10000, 49995000)]
    print(codec, m.row_group(0).column(1).compression)
m = q.read_metadata('groups.parquet')
c = m.row_group(0).column(1)
print([m.row_group(i).num_rows for i in range(m.num_row_groups)], c.is_stats_set, 'RLE_DICTIONARY' in c.encodings)
c = q.read_metadata('chunks.parquet').row_group(0).column(0)
print(c.statistics.min, c.statistics.max, c.has_column_index)
import binascii, io, fastavro._read_py as avro, pyarrow as pa
def snappy(decoder):
    data = decoder.read_bytes()
    body, size, shift = data[:-4], 0, 0
    for byte in body:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    block = pa.Codec('snappy').decompress(body, size, asbytes=True)
    assert binascii.crc32(block) == int.from_bytes(data[-4:], 'big')
    return io.BytesIO(block)
# fastavro leaves these two to packages of their own; pyarrow has both codecs.
zstd = lambda decoder: io.BytesIO(pa.input_stream(io.BytesIO(decoder.read_bytes()), compression='zstd').read())
avro.BLOCK_READERS.update(snappy=snappy, zstandard=zstd)
for codec in ('none', 'snappy', 'deflate', 'zstd'):
    r = avro.reader(open(f'{codec}.avro', 'rb'))
    print(r.codec, sum(x['id'] for x in r))
"#;
    let expected = "none UNCOMPRESSED\nsnappy SNAPPY\ngzip GZIP\nzstd ZSTD\nlz4 LZ4\nbrotli BROTLI\n[3000, 3000, 3000, 1000] False False\n\
                    0 9999 False\nnull 49995000\nsnappy 49995000\ndeflate 49995000\nzstandard 49995000\n";
    assert_eq!(desk.python(code), expected);
    run("x.parquet", "[job.t.parquet]\ncompression = \"zstd\"\ncompression_level = 23").fails(2, "E121").says("23");
    run("x.parquet", "[job.t.parquet]\nrow_group_size = \"1GiB\"").fails(2, "E121").says("64MiB");
}

#[test]
fn the_alteryx_profile_of_parquet_is_flat_and_snappy() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'a': [1], 'l': [[1, 2]]}");
    let job = "[job.t]\nfrom = \"t.parquet\"\nto = \"out.parquet\"\n[job.t.parquet]\nprofile = \"alteryx\"\n";
    desk.write("lakeport.toml", job);
    desk.run(&["run", "t"]).fails(6, "E203").says("Designer");
    desk.write("lakeport.toml", format!("{job}[job.t.types]\nl = \"json\"\n"));
    desk.run(&["run", "t"]).ok();
    let code = "import pyarrow.parquet as q; m = q.read_metadata('out.parquet'); c = m.row_group(0).column(1); print(c.compression, m.created_by)";
    let output = python().args(["-c", code]).current_dir(desk.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("SNAPPY lakeport "), "{text}");
}

#[test]
fn files_of_formats_with_their_own_reader_are_sources() {
    let desk = Desk::new();
    desk.parquet("t.parquet", "{'id': [1, 2, 3], 'name': ['a', None, 'c']}");
    for file in ["t.avro", "t.orc"] {
        desk.run(&["convert", "t.parquet", file]).ok();
        desk.run(&["describe", file]).ok().says("3 rows").says("name");
        desk.run(&["convert", file, "whole.csv"]).ok();
        assert_eq!(std::fs::read_to_string(desk.path().join("whole.csv")).unwrap(), "id,name\n1,a\n2,\n3,c\n");
        // SQL runs over a spool that the engine reads.
        desk.run(&["run", "--from", file, "--sql", "select id * 2 as twice from src where name is not null", "--to", "s.csv"])
            .ok();
        let mut lines: Vec<_> = std::fs::read_to_string(desk.path().join("s.csv")).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["2", "6", "twice"]);
        let left: Vec<_> = std::fs::read_dir(desk.path().join(".lakeport/work")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    desk.run(&["convert", "missing.avro", "x.csv"]).fails(3, "E130");
    desk.write("broken.avro", b"Obj\x01 and no more");
    desk.run(&["convert", "broken.avro", "x.csv"]).fails(3, "E131");
}
