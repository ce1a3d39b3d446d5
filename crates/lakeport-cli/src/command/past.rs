//! `report` and `state`: what was done, and what is remembered.

use std::path::Path;

use lakeport::Lakeport;
use lakeport::error::{Kind, Result, Wrap};
use serde_json::json;

use crate::args::StateCommand;
use crate::output::{Output, human, page};

/// `lakeport report`.
pub(super) fn report(lakeport: &Lakeport, run: Option<&str>, html: Option<&Path>, output: &Output) -> Result<()> {
    let past = lakeport::report::load(&lakeport.home(), run)?;
    if let Some(path) = html {
        std::fs::write(path, page::render(&past)).wrap(Kind::WriteFailed, || format!("cannot write {}", path.display()))?;
        output.result(&format!("wrote {}", path.display()), json!({ "written": path.display().to_string() }));
        return Ok(());
    }
    output.result(&human::past(&past), json!({ "run": past }));
    Ok(())
}

/// `lakeport state …`
pub(super) fn state(lakeport: &Lakeport, what: &StateCommand, output: &Output) -> Result<()> {
    let (job, reset) = match what {
        StateCommand::Show { job } => (job, false),
        StateCommand::Reset { job } => (job, true),
    };
    lakeport.config.job(job)?;
    let path = lakeport.home().join("state").join(format!("{job}.json"));
    if reset {
        match std::fs::remove_file(&path) {
            Ok(()) => output.result(&format!("forgot what job {job} remembered"), json!({ "reset": true })),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                output.result(&format!("job {job} remembers nothing"), json!({ "reset": false }))
            }
            Err(e) => return Err(e).wrap(Kind::WriteFailed, || format!("cannot remove {}", path.display())),
        }
        return Ok(());
    }
    let Ok(text) = std::fs::read_to_string(&path) else {
        output.result(&format!("job {job} remembers nothing: the next run is a full one"), json!({ "state": null }));
        return Ok(());
    };
    let state: serde_json::Value =
        serde_json::from_str(&text).wrap(Kind::ConfigInvalid, || format!("{} is damaged", path.display()))?;
    output.result(&text, json!({ "state": state }));
    Ok(())
}
