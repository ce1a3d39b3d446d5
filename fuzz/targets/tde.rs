//! A `.tde` of a stranger's, or one column of his in a file that is else sound.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakeport::convert::tde::fuzzing::tde(bytes));
