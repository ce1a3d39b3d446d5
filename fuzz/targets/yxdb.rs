//! A `.yxdb` of a stranger's, or his records behind a header that is sound.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakeport::convert::yxdb::fuzzing::yxdb(bytes));
