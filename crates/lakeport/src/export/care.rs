//! What a job declares about what it publishes, besides its rows: who may use it, and what people are warned of.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is seen to after a publish.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Care {
    /// Rights by grantee: `"group:Analysts" = { allow = ["Read", "Connect"] }`.
    ///
    /// Rights of others are left as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, Rights>,
    /// A data quality warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
}

impl Care {
    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permissions.is_empty() && self.warning.is_none()
    }
}

/// Rights of one group or user, by the API's names: `Read`, `Connect`, `Write`, `ExportXml`, `Delete`, …
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    /// What they may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What they may not do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// A data quality warning (`[job.x.warning]`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// What kind it is.
    #[serde(rename = "type", default)]
    pub kind: WarningKind,
    /// What people read.
    #[serde(default)]
    pub message: String,
    /// Whether it is shown.
    #[serde(default = "yes")]
    pub active: bool,
    /// Whether it is shown prominently.
    #[serde(default)]
    pub severe: bool,
}

fn yes() -> bool {
    true
}

/// The kinds of data quality warnings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// A warning without a more exact name.
    #[default]
    Warning,
    /// No longer to be used.
    Deprecated,
    /// Older than it should be.
    Stale,
    /// Holds data that not everybody may see.
    SensitiveData,
    /// Being worked on.
    Maintenance,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_it_stands_in_a_job() {
        let care: Care = toml::from_str(
            "[permissions]\n\"group:Analysts\" = { allow = [\"Read\"], deny = [\"Write\"] }\n\
             [warning]\ntype = \"sensitive-data\"\nmessage = \"m\"\n",
        )
        .unwrap();
        assert_eq!(care.permissions["group:Analysts"].deny, ["Write"]);
        let warning = care.warning.unwrap();
        assert_eq!((warning.kind, warning.active, warning.severe), (WarningKind::SensitiveData, true, false));
        assert!(toml::from_str::<Care>("[warning]\ntyp = \"stale\"\n").is_err());
        assert!(Care::default().is_empty());
    }
}
