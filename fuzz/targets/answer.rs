//! What a server, or something in its place, answers to a call of the REST API.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakeport::fuzzing::answer(bytes));
