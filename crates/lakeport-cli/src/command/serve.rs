//! `sandbox`: the local stand-in server.

use std::path::Path;

use lakeport::error::Result;
use lakeport_sandbox::{Fault, Options, Sandbox};
use serde_json::json;

use crate::output::Output;

/// `lakeport sandbox`: serves until it is interrupted.
pub(super) async fn sandbox(port: u16, data: &Path, faults: &[Fault], revisions: usize, output: &Output) -> Result<()> {
    let mut options = Options::new(data);
    options.port = port;
    options.faults = faults.to_vec();
    options.revisions = revisions;
    let mut sandbox = Sandbox::start(options).await?;
    let text = format!(
        "sandbox  {}\n  a stand-in for Tableau Server, on this machine only; sign in with the token `demo`, secret `demo`\n  \
         what is published stays in {}\n  Ctrl-C ends it",
        sandbox.url(),
        data.display()
    );
    output.result(&text, json!({ "url": sandbox.url(), "data": data.display().to_string() }));
    sandbox.wait().await;
    Ok(())
}
