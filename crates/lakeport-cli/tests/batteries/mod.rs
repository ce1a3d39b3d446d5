//! One battery per seam: the same statements about every format, every target and every engine.
//!
//! What there is comes from the program itself (`lakeport formats --json`, the schema of the configuration), so that
//! registering a new one without passing its battery fails a test.

mod engines;
mod formats;
mod targets;

use serde_json::Value;

use crate::support::Desk;

/// Every `type` an environment may have, from the schema of the configuration.
fn environment_types(desk: &Desk) -> Vec<String> {
    fn gather(value: &Value, all: &mut Vec<String>) {
        if let Some(name) = value.pointer("/properties/type/const").and_then(Value::as_str) {
            all.push(name.to_owned());
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|v| gather(v, all)),
            Value::Array(items) => items.iter().for_each(|v| gather(v, all)),
            _ => {}
        }
    }
    let schema: Value = serde_json::from_str(&desk.run(&["config", "schema"]).ok().stdout).unwrap();
    let mut all = Vec::new();
    gather(&schema, &mut all);
    all.sort();
    all.dedup();
    all
}
