//! A `lakeport.toml`, and a `lakeport.local.toml` behind a line of `%%%`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| lakeport::fuzzing::config(text));
