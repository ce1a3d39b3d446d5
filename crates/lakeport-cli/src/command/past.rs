//! `report` and `state`: what was done, and what is remembered.

use std::path::Path;

use lakeport::Lakeport;
use lakeport::error::{Kind, Result, Wrap};
use lakeport::export::{Receipt, Stage};
use serde_json::json;

use super::value;
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
    // All a job remembers is a publish that did not come to a good end: what was sent, and how far it came.
    let path = lakeport.receipt_path(job);
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
    let Some(receipt) = Receipt::load(&path)? else {
        output.result(&format!("job {job} remembers nothing: the next run is a full one"), json!({ "state": null }));
        return Ok(());
    };
    let stage = match receipt.stage {
        Stage::Uploaded => "uploaded, and not known to be committed",
        Stage::Committed => "committed, and not known to have ended",
        Stage::Published => "published, and what follows it failed",
    };
    let server = receipt.server.as_deref().unwrap_or("its target");
    let text = format!("job {job} remembers a publish that was cut off\n  {} on {server}: {stage}", receipt.name);
    output.result(&text, json!({ "state": { "publish": value(&receipt) } }));
    Ok(())
}
