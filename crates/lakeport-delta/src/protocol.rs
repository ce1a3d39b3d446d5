//! What a table demands of its writers, and what a new table demands.
//!
//! Source: the Delta transaction protocol, "Table Features" and "Requirements for Writers". A feature may be listed and not be
//! used; what counts then is whether the columns or properties use it.

use deltalake_core::kernel::{EagerSnapshot, Metadata, Protocol};
use lakeport::error::{Error, Kind, Result, Wrap};
use serde_json::{Value, json};

/// Timestamps without a zone.
const WALL_CLOCKS: &str = "timestampNtz";
/// Features that a whole file added or removed needs nothing done for.
const FREE: [&str; 6] = ["appendOnly", WALL_CLOCKS, "changeDataFeed", "deletionVectors", "v2Checkpoint", "vacuumProtocolCheck"];
/// Features that a reader of whole files by their own names needs nothing for; what uses the first is told file by file.
const READ: [&str; 4] = ["deletionVectors", WALL_CLOCKS, "v2Checkpoint", "vacuumProtocolCheck"];
/// Features that demand something only where a column's metadata has this key.
const BY_COLUMN: [(&str, &str); 3] = [
    ("invariants", "delta.invariants"),
    ("generatedColumns", "delta.generationExpression"),
    ("identityColumns", "delta.identity.start"),
];
/// What each writer version before table features brought.
const LEGACY: [(i64, &[&str]); 5] = [
    (2, &["appendOnly", "invariants"]),
    (3, &["checkConstraints"]),
    (4, &["changeDataFeed", "generatedColumns"]),
    (5, &["columnMapping"]),
    (6, &["identityColumns"]),
];
/// The first versions that name their features.
const READER_OF_FEATURES: i64 = 3;
const WRITER_OF_FEATURES: i64 = 7;

/// Refuses a table that asks of its writers what is not done here.
pub(crate) fn ensure_writable(snapshot: &EagerSnapshot) -> Result<()> {
    let no = |what: String| {
        let help = "write to another table, or through a writer that knows this one's features";
        Err(Error::new(Kind::Unsupported, format!("the Delta table {what}")).help(help).during("publish"))
    };
    let metadata = snapshot.metadata();
    let partitioned = metadata.partition_columns();
    if !partitioned.is_empty() {
        return no(format!("is partitioned by {}, which Lakeport does not write", partitioned.join(", ")));
    }
    let columns = as_json(snapshot.schema().as_ref())?;
    for feature in features(&as_json(snapshot.protocol())?, "writerFeatures") {
        if FREE.contains(&feature.as_str()) {
            continue;
        }
        let used = match feature.as_str() {
            "checkConstraints" => metadata.configuration().keys().any(|k| k.starts_with("delta.constraints.")),
            "columnMapping" => metadata.configuration().get("delta.columnMapping.mode").is_some_and(|m| m != "none"),
            other => BY_COLUMN.iter().find(|(name, _)| *name == other).is_none_or(|(_, key)| mentions(&columns, key)),
        };
        if used {
            return no(format!("has the feature {feature}, which Lakeport does not write"));
        }
    }
    Ok(())
}

/// Refuses a table that asks of its readers what is not done here.
pub(crate) fn ensure_readable(snapshot: &EagerSnapshot) -> Result<()> {
    let mapped = snapshot.metadata().configuration().get("delta.columnMapping.mode").is_some_and(|m| m != "none");
    for feature in features(&as_json(snapshot.protocol())?, "readerFeatures") {
        if READ.contains(&feature.as_str()) || (feature == "columnMapping" && !mapped) {
            continue;
        }
        let message = format!("the Delta table has the feature {feature}, which Lakeport does not read");
        return Err(Error::new(Kind::Unsupported, message).help("read it through a Spark environment"));
    }
    Ok(())
}

/// Whether nothing may be taken out of the table.
pub(crate) fn is_append_only(metadata: &Metadata) -> bool {
    metadata.configuration().get("delta.appendOnly").is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// The protocol of a new table.
pub(crate) fn new(wall_clocks: bool) -> Result<Protocol> {
    let protocol = if wall_clocks {
        let features = [WALL_CLOCKS];
        json!({
            "minReaderVersion": READER_OF_FEATURES, "minWriterVersion": WRITER_OF_FEATURES,
            "readerFeatures": features, "writerFeatures": features,
        })
    } else {
        json!({ "minReaderVersion": 1, "minWriterVersion": 2 })
    };
    of_json(protocol)
}

/// The protocol that a table needs to hold timestamps without a zone; `None` where it has it.
pub(crate) fn with_wall_clocks(protocol: &Protocol) -> Result<Option<Protocol>> {
    let there = as_json(protocol)?;
    let add = |key: &str| {
        let mut all = features(&there, key);
        all.push(WALL_CLOCKS.to_owned());
        all
    };
    if features(&there, "writerFeatures").iter().any(|f| f == WALL_CLOCKS) {
        return Ok(None);
    }
    of_json(json!({
        "minReaderVersion": READER_OF_FEATURES, "minWriterVersion": WRITER_OF_FEATURES,
        "readerFeatures": add("readerFeatures"), "writerFeatures": add("writerFeatures"),
    }))
    .map(Some)
}

/// The features that a protocol names, or that its version stands for.
fn features(protocol: &Value, key: &str) -> Vec<String> {
    if let Some(named) = protocol[key].as_array() {
        return named.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    let (reader, writer) = (protocol["minReaderVersion"].as_i64(), protocol["minWriterVersion"].as_i64());
    match key {
        "readerFeatures" if reader == Some(2) => vec!["columnMapping".to_owned()],
        "readerFeatures" => Vec::new(),
        _ => LEGACY
            .iter()
            .filter(|(version, _)| writer.is_some_and(|w| w < WRITER_OF_FEATURES && w >= *version))
            .flat_map(|(_, features)| features.iter().map(|f| (*f).to_owned()))
            .collect(),
    }
}

/// Whether the metadata of any column, also of one inside another, has this key.
fn mentions(schema: &Value, key: &str) -> bool {
    match schema {
        Value::Object(map) => map.get("metadata").is_some_and(|m| m.get(key).is_some()) || map.values().any(|v| mentions(v, key)),
        Value::Array(all) => all.iter().any(|v| mentions(v, key)),
        _ => false,
    }
}

fn as_json(of: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(of).wrap(Kind::Unexpected, || "the table's protocol cannot be read".into())
}

fn of_json(protocol: Value) -> Result<Protocol> {
    serde_json::from_value(protocol).wrap(Kind::Unexpected, || "the table's protocol cannot be written".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_table_that_gets_wall_clocks_keeps_what_its_version_stood_for() {
        let old: Protocol = of_json(json!({ "minReaderVersion": 1, "minWriterVersion": 4 })).unwrap();
        let new = as_json(&with_wall_clocks(&old).unwrap().unwrap()).unwrap();
        let mut written = features(&new, "writerFeatures");
        written.sort();
        assert_eq!(
            written,
            ["appendOnly", "changeDataFeed", "checkConstraints", "generatedColumns", "invariants", "timestampNtz"]
        );
        assert_eq!(features(&new, "readerFeatures"), ["timestampNtz"]);
        let again: Protocol = of_json(new).unwrap();
        assert!(with_wall_clocks(&again).unwrap().is_none());
    }

    #[test]
    fn a_key_counts_only_as_metadata_of_a_column() {
        let column = json!({ "fields": [{ "name": "delta.invariants", "type": "long", "metadata": {} }] });
        assert!(!mentions(&column, "delta.invariants"));
        let inside =
            json!({ "fields": [{ "type": { "fields": [{ "name": "x", "metadata": { "delta.invariants": "x > 0" } }] } }] });
        assert!(mentions(&inside, "delta.invariants"));
    }
}
