//! What `--from` and `--to` name, a project's path, a size.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| lakeport::fuzzing::reference(text));
