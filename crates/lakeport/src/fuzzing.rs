//! Ways in for the fuzz targets of `fuzz/`: what reads words that somebody else wrote. No part of the API.
//!
//! Each takes what came, and panics when a promise about it is broken, not only when the code it calls panics. The short
//! forms, from proptest, run with the tests of the library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{self, Config, Layer, Origin, Reference};
use crate::error::Error;
use crate::limits::{parse_size, show_size};

pub use crate::export::tableau::fuzzing::{answer, place};

/// The text of a `lakeport.toml`, with a `lakeport.local.toml` behind a line of `%%%`.
///
/// # Panics
/// When an error does not say what and what now, or when it shows a secret that stands in the text.
pub fn config(text: &str) {
    let mut layers = Vec::new();
    for (name, text) in [config::FILE, config::LOCAL_FILE].into_iter().zip(text.splitn(2, "\n%%%\n")) {
        match config::parse(text) {
            Ok(values) => layers.push(Layer { origin: Origin::File(PathBuf::from(name)), values, user: false }),
            Err(e) => return speaks(&e),
        }
    }
    let config = match Config::merged(&layers, Path::new("/project")) {
        Ok(config) => config,
        Err(e) => return speaks(&e),
    };
    for (name, job) in &config.job {
        assert_eq!(config.job(name).map(|j| &j.to).ok(), Some(&job.to), "a job is found by its name");
        let _ = job.care();
        let _ = job.lossy.to_lossy();
        if let Err(e) = job.tables() {
            speaks(&e);
        }
        for text in job.from.iter().chain([&job.to]) {
            if let Err(e) = Reference::parse(text).locate(&config, Path::new("/work")) {
                speaks(&e);
            }
        }
        if let Some(Err(e)) = job.memory.as_deref().map(parse_size) {
            speaks(&e);
        }
    }
    for name in config.env.keys() {
        assert!(config.environment(name).is_ok(), "an environment is found by its name");
        if let Err(e) = config.environment(&format!("{name}x")) {
            speaks(&e);
        }
    }
    // What `config show --origin` prints: each value has its origin.
    let origins: BTreeMap<_, _> = config.origins.iter().collect();
    assert!(config.values.keys().all(|key| origins.contains_key(key)), "a value without an origin");
}

/// What `--from` and `--to` name, a project path, a size.
///
/// # Panics
/// When a reference does not print as it was written, or a size as what it is not.
pub fn reference(text: &str) {
    let reference = Reference::parse(text);
    assert_eq!(reference.to_string(), text, "a reference prints as it was written");
    assert_eq!(Reference::parse(&reference.to_string()), reference);
    if let Err(e) = reference.locate(&Config::default(), Path::new("/work")) {
        speaks(&e);
    }
    match parse_size(text) {
        Ok(bytes) => assert!(!show_size(bytes).is_empty()),
        Err(e) => speaks(&e),
    }
    place(text);
}

/// An error says what happened and what now, and is none of ours that nobody expected.
pub(crate) fn speaks(e: &Error) {
    assert!(!e.message().trim().is_empty(), "an error says what happened: {e:?}");
    assert!(!e.help_line().trim().is_empty(), "an error says what now: {e:?}");
    assert_ne!(e.exit_code(), 0, "an error is no success: {e:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces of the grammar, so that arbitrary texts come far.
    fn pieces(of: &'static [&'static str]) -> impl Strategy<Value = String> {
        let piece = prop_oneof![3 => proptest::sample::select(of).prop_map(str::to_owned), 1 => ".{0,8}"];
        proptest::collection::vec(piece, 0..24).prop_map(|all| all.concat())
    }

    const TOML: &[&str] = &[
        "[env.t]\n",
        "[env.lake]\n",
        "[job.x]\n",
        "[job.x.types]\n",
        "[job.x.permissions]\n",
        "[job.x.tables.a]\n",
        "[defaults]\n",
        "type = \"tableau\"\n",
        "type = \"lake\"\n",
        "url = \"http://x\"\n",
        "root = \"a\"\n",
        "to = \"t:Name\"\n",
        "from = \"lake:x\"\n",
        "token_secret = { env = \"X\" }\n",
        "token_secret = \"y\"\n",
        "token_name = \"n\"\n",
        "key = [\"a\"]\n",
        "mode = \"append\"\n",
        "memory = \"1GiB\"\n",
        "lossy = [\"a\"]\n",
        "\n%%%\n",
        "= ",
        "\"",
        "[",
        "]",
        "{",
        "}",
        "'''",
        "\u{feff}",
        "é",
        "\\",
        "0x",
        "\0",
    ];
    const REFERENCE: &[&str] = &[
        "lake",
        ":",
        "/",
        "//",
        "\\",
        "\\/",
        "s3",
        "file",
        "~",
        "..",
        "project-id:",
        " ",
        "é",
        ",",
        "1",
        ".",
        "GiB",
        "\0",
        "\u{1F600}",
    ];
    const XML: &[&str] = &[
        "<tsResponse xmlns=\"http://tableau.com/api\">",
        "</tsResponse>",
        "<error code=\"403007\">",
        "</error>",
        "<summary>",
        "</summary>",
        "<detail>x</detail>",
        "<job id=\"1\" finishCode=\"1\"",
        " completedAt=\"2026-01-01T00:00:00Z\"",
        "/>",
        ">",
        "<notes>",
        "</notes>",
        "<statusNote text=\"t\"/>",
        "<datasource id=\"d\" name=\"n\" size=\"-1\">",
        "</datasource>",
        "<project id=\"p\" name=\"n\"/>",
        "<pagination totalAvailable=\"9\"/>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&amp;",
        "&#0;",
        "&#x10FFFF;",
        "&lt",
        "<?xml",
        "?>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]>",
        "<title>",
        "</title>",
        "<html>",
        " a='1'",
        " a='2'",
        "\u{feff}",
        "é",
        "\0",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn any_configuration_is_read_or_refused_in_words(text in pieces(TOML)) {
            config(&text);
        }

        #[test]
        fn any_reference_prints_as_it_was_written(text in pieces(REFERENCE)) {
            reference(&text);
        }

        #[test]
        fn any_answer_is_read_or_told(status in any::<u8>(), text in pieces(XML)) {
            answer(&[&[status], text.as_bytes()].concat());
        }

        #[test]
        fn any_bytes_are_no_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            answer(&bytes);
        }

        #[test]
        fn any_project_path_comes_back(levels in proptest::collection::vec("[ -~é/\\\\]{1,6}", 1..4)) {
            crate::export::tableau::fuzzing::levels(&levels);
        }
    }
}
