//! `init` and `config`: the file that says what to do.

use std::io::Write;

use lakeport::config::{Config, FILE, LOCAL_FILE};
use lakeport::error::{Error, Kind, Result, Wrap};
use serde_json::json;

use super::{directory, facts};
use crate::args::ConfigCommand;
use crate::output::{Output, print_json};

/// What `lakeport init` writes.
const TEMPLATE: &str = include_str!("init.toml");
/// What git should not keep.
const IGNORED: [&str; 2] = [".lakeport/", LOCAL_FILE];

/// `lakeport init`: never overwrites.
pub(super) fn init(output: &Output) -> Result<()> {
    let directory = directory()?;
    let path = directory.join(FILE);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| {
        Error::new(Kind::WriteFailed, format!("{FILE} cannot be made here"))
            .because(e)
            .help("edit the one that is there, or remove it first")
    })?;
    file.write_all(TEMPLATE.as_bytes()).wrap(Kind::WriteFailed, || format!("cannot write {}", path.display()))?;
    let ignore = directory.join(".gitignore");
    let mut lines = std::fs::read_to_string(&ignore).unwrap_or_default();
    let missing: Vec<_> = IGNORED.into_iter().filter(|i| !lines.lines().any(|l| l.trim() == *i)).collect();
    if !missing.is_empty() {
        if !lines.is_empty() && !lines.ends_with('\n') {
            lines.push('\n');
        }
        lines.push_str(&(missing.join("\n") + "\n"));
        std::fs::write(&ignore, lines).wrap(Kind::WriteFailed, || format!("cannot write {}", ignore.display()))?;
    }
    output.result(
        &format!("wrote {FILE}{}\nnext: edit it, then `lakeport check`", if missing.is_empty() { "" } else { " and .gitignore" }),
        json!({ "written": path.display().to_string() }),
    );
    Ok(())
}

/// `lakeport config …`
pub(super) fn config(config: &Config, what: &ConfigCommand, output: &Output) -> Result<()> {
    match what {
        ConfigCommand::Path => {
            let files: Vec<_> = config.files.iter().map(|f| f.display().to_string()).collect();
            let text = if files.is_empty() { format!("no {FILE} was found from here upwards\n") } else { files.join("\n") };
            output.result(&text, json!({ "files": files }));
        }
        ConfigCommand::Show { origin } => {
            // Secrets are references, so that the merged values are safe to show.
            let rows: Vec<_> = config
                .origins
                .iter()
                .map(|(key, from)| {
                    let value = config.values.get(key).cloned().unwrap_or_default();
                    (key.clone(), if *origin { format!("{value}  ({from})") } else { value })
                })
                .collect();
            let fields: serde_json::Map<_, _> = config
                .origins
                .iter()
                .map(|(key, from)| (key.clone(), json!({ "value": config.values.get(key), "origin": from.to_string() })))
                .collect();
            output.result(&facts(&rows), json!({ "values": fields }));
        }
        ConfigCommand::Schema => {
            let schema = Config::json_schema();
            // A schema is a document of its own: editors take it as it is.
            print_json(&serde_json::to_value(&schema).wrap(Kind::Unexpected, || "the schema is no JSON".into())?);
        }
    }
    Ok(())
}
