//! `sandbox`: the local stand-in server.

use lakeport::error::Result;
use lakeport_sandbox::{Options, Sandbox};
use serde_json::json;

use crate::output::Output;

/// `lakeport sandbox`: serves until it is interrupted.
pub(super) async fn sandbox(options: Options, output: &Output) -> Result<()> {
    let data = options.data.clone();
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
