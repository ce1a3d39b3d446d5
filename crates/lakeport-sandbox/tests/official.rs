//! Every case of `official_client.py`, the official Python client against the sandbox.
//!
//! The interpreter is `LAKEPORT_PYTHON`, else the virtual environment of the checkout; it needs the packages
//! `tableauserverclient` and `tableauhyperapi`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::Rig;

fn python() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("LAKEPORT_PYTHON").map_or_else(|| manifest.join("../../.venv/bin/python"), PathBuf::from);
    assert!(python.is_file(), "there is no Python at {}; set LAKEPORT_PYTHON or run `make setup`", python.display());
    python
}

async fn case(name: &str) -> Rig {
    case_on(Rig::start().await, name).await
}

async fn case_on(rig: Rig, name: &str) -> Rig {
    let work = rig.directory.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_client.py");
    let output = tokio::process::Command::new(python())
        .arg(script)
        .args([rig.url(), name])
        .current_dir(&work)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "the official client is not content with {name}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    rig
}

#[tokio::test]
async fn signs_in_with_a_personal_access_token() {
    case("sign_in").await;
}

#[tokio::test]
async fn pages_through_250_projects() {
    case("projects").await;
}

#[tokio::test]
async fn publishes_once_and_overwrites_only_when_asked() {
    let rig = case("publish_modes").await;
    assert_eq!(rig.datasources().await.len(), 1);
}

#[tokio::test]
async fn appends_rows() {
    let rig = case("append").await;
    let datasources = rig.datasources().await;
    assert_eq!(datasources[0]["tables"][0]["rows"], 2000);
}

#[tokio::test]
async fn keeps_every_byte_of_an_upload_in_blocks() {
    case("chunked").await;
}

#[tokio::test]
async fn publishes_as_a_job() {
    case("as_job").await;
}

#[tokio::test]
async fn downloads_what_was_published_and_deletes_it() {
    let rig = case("download_and_delete").await;
    assert!(rig.datasources().await.is_empty());
}

#[tokio::test]
async fn signs_in_with_a_password_and_a_jwt_and_switches_sites() {
    case("sign_ins").await;
}

#[tokio::test]
async fn describes_tags_and_permits() {
    case("describe").await;
}

#[tokio::test]
async fn keeps_revisions() {
    case("revisions").await;
}

#[tokio::test]
async fn changes_rows_in_place_once_per_request_id() {
    let rig = case("change").await;
    assert_eq!(rig.datasources().await[0]["changes"], 7);
}

#[tokio::test]
async fn sees_jobs_fail_and_be_cancelled() {
    case("jobs").await;
}

#[tokio::test]
async fn hands_out_packages() {
    case_on(Rig::start_with(|options| options.packages = true).await, "packaged").await;
}
