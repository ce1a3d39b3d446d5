//! What surrounds the rows: metadata that outlives an overwrite, declared care, and changes in place.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::export::care::{Care, Rights, Warning, WarningKind};

fn treasured() -> stub::Source {
    stub::Source {
        name: "Orders".into(),
        project: "p2".into(),
        attributes: " description=\"All &amp; sundry\" isCertified=\"true\" certificationNote=\"by Anna\"".into(),
        tags: vec!["gold".into(), "daily".into()],
        ..Default::default()
    }
}

#[tokio::test]
async fn an_overwrite_gives_back_what_it_took_and_nothing_else() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    stub.world.lock().unwrap().sources.push(treasured());
    let tableau = target(&stub, |_| {});
    let receipt = publish(&tableau, &file(10), Mode::Full).await.unwrap();
    assert_eq!(receipt.notes, ["restored after the overwrite: description, certification, tags"]);
    let there = tableau.find_datasource("Orders").await.unwrap().unwrap();
    assert_eq!((there.description.as_deref(), there.certified), (Some("All & sundry"), Some(true)));
    assert_eq!((there.certification_note.as_deref(), there.tags.len()), (Some("by Anna"), 2));
    let sent: Vec<String> = stub.all("update").iter().map(|s| String::from_utf8_lossy(&s.body).into_owned()).collect();
    assert_eq!(
        sent,
        [
            "<tsRequest><datasource description=\"All &amp; sundry\"></datasource></tsRequest>",
            "<tsRequest><datasource isCertified=\"true\" certificationNote=\"by Anna\"></datasource></tsRequest>"
        ]
    );

    // Nothing to lose, nothing sent; and an append loses nothing.
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let tableau = target(&stub, |_| {});
    for mode in [Mode::Full, Mode::Full, Mode::Append] {
        publish(&tableau, &file(10), mode).await.unwrap();
    }
    assert_eq!((stub.count("update"), stub.count("tags")), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_given_back_is_told_and_fails_nothing() {
    let stub = Stub::start(|seen, _| if seen.label == "update" { error(403_141) } else { Reply::Normal }).await;
    stub.world.lock().unwrap().sources.push(treasured());
    let receipt = publish(&target(&stub, |_| {}), &file(10), Mode::Full).await.unwrap();
    let notes = receipt.notes.join("\n");
    assert!(notes.contains("lost by the overwrite: description, certification"), "{notes}");
    assert!(notes.contains("restored after the overwrite: tags"), "{notes}");
}

fn declared() -> Care {
    let rights = Rights { allow: vec!["Read".into(), "Connect".into()], deny: vec!["Write".into()] };
    Care {
        permissions: BTreeMap::from([("group:Analysts".to_owned(), rights)]),
        warning: Some(Warning { kind: WarningKind::Stale, message: "since Monday".into(), active: true, severe: false }),
    }
}

#[tokio::test]
async fn declared_care_is_seen_to_once() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    stub.world.lock().unwrap().rights =
        vec![("g1".into(), "Read".into(), "Allow".into()), ("g1".into(), "Write".into(), "Allow".into())];
    let tableau = target(&stub, |_| {});
    let receipt = publish(&tableau, &file(10), Mode::Full).await.unwrap();
    let notes = tableau.see_to(&receipt, &declared()).await.unwrap();
    assert_eq!(notes, ["permissions: 2 changed", "data quality warning set"]);
    let mut rights = stub.world.lock().unwrap().rights.clone();
    rights.sort();
    let shown: Vec<_> = rights.iter().map(|(_, name, mode)| format!("{name} {mode}")).collect();
    assert_eq!(shown, ["Connect Allow", "Read Allow", "Write Deny"]);
    assert!(tableau.see_to(&receipt, &declared()).await.unwrap().is_empty());
    assert_eq!((stub.count("grant"), stub.count("revoke"), stub.count("warn")), (1, 1, 1));
    assert!(tableau.see_to(&receipt, &Care::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn care_that_the_server_does_not_take_is_an_error() {
    let ignored = |seen: &Seen, _| if seen.label == "grant" { say(200, "<tsResponse/>") } else { Reply::Normal };
    let stub = Stub::start(ignored).await;
    let tableau = target(&stub, |_| {});
    let receipt = publish(&tableau, &file(10), Mode::Full).await.unwrap();
    let error = tableau.see_to(&receipt, &declared()).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::VerifyFailed, 7));
    assert!(error.help_line().contains("locked project"));
    for (grantee, kind) in [("group:Nobody", Kind::TargetMissing), ("Analysts", Kind::ConfigInvalid)] {
        let permissions = BTreeMap::from([(grantee.to_owned(), Rights::default())]);
        let error = tableau.see_to(&receipt, &Care { permissions, warning: None }).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{grantee}");
    }
}

fn upsert(payload: &Path) -> Change {
    let rows = Match::Key(vec!["id".into()]);
    let action = Action { verb: Verb::Upsert, source: Some(TableName::default()), target: TableName::default(), rows };
    Change { name: "Orders".into(), payload: Some(payload.to_owned()), actions: vec![action], ..Change::default() }
}

async fn with_orders(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Stub {
    let stub = Stub::start(script).await;
    stub.world.lock().unwrap().sources.push(treasured());
    stub
}

#[tokio::test]
async fn a_change_happens_once_however_often_it_is_sent() {
    let stub = with_orders(at("patch", 0, Reply::LoseAnswer)).await;
    let tableau = target(&stub, |_| {});
    let file = file(1200);
    let change = upsert(&file.written.path);
    // The answer is lost, the repeat carries the same id and its upload is spent: the server knows the change all the same.
    let receipt = tableau.update(&change, None, None, &|_, _| {}).await.unwrap();
    assert_eq!((receipt.job.as_deref(), receipt.way.as_str(), receipt.bytes), (Some("j2"), "change in place", 1200));
    tableau.update(&change, None, None, &|_, _| {}).await.unwrap();
    assert_eq!((stub.world.lock().unwrap().changes.len(), stub.count("patch")), (1, 3));
    let sent = &stub.all("patch")[0];
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert!(sent.target.starts_with("/api/3.29/sites/s1/datasources/ds-Orders/data?uploadSessionId=7720:"), "{}", sent.target);
    let body: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["actions"][0]["action"], "upsert");

    let other = Change { version: Some("413".into()), ..change.clone() };
    tableau.update(&other, None, None, &|_, _| {}).await.unwrap();
    assert_eq!(stub.world.lock().unwrap().changes.len(), 2);
    let missing = Change { name: "Nobody".into(), ..change };
    assert_eq!(tableau.update(&missing, None, None, &|_, _| {}).await.unwrap_err().kind(), Kind::TargetMissing);
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_cut_or_refused() {
    let stub = with_orders(|_, _| Reply::Normal).await;
    let tableau = target(&stub, |_| {});
    let file = file(4000);
    let change = upsert(&file.written.path);
    let error = tableau.update(&change, None, None, &|_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FileRefused);
    assert!(error.context_value("payload").is_some() && error.help_line().contains("--mode full"), "{error:?}");

    // A row a byte, of which every key has a hundred.
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(&file.written.path).unwrap();
    let piece = |positions: std::ops::Range<u64>| -> Result<Option<crate::convert::Temporary>> {
        let [start, end] = [positions.start, positions.end].map(|p| usize::try_from(p.div_ceil(100) * 100).unwrap());
        let temporary = crate::convert::Temporary::beside(&dir.path().join("piece.hyper"))?;
        std::fs::write(temporary.path(), &bytes[start..end]).unwrap();
        Ok((start < end).then_some(temporary))
    };
    let cut = Cut { rows: 4000, piece: &piece };
    let sent = |stub: &Stub| stub.world.lock().unwrap().changes.clone();
    let receipt = tableau.update(&change, Some(&cut), None, &|_, _| {}).await.unwrap();
    let sizes: Vec<usize> = sent(&stub).iter().map(|(_, bytes)| *bytes).collect();
    assert_eq!((sizes, receipt.way.as_str(), receipt.bytes), (vec![1000; 4], "4 changes in place", 4000));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "pieces are removed");
    // The same change again is cut in the same way, and the server knows every piece.
    tableau.update(&change, Some(&cut), None, &|_, _| {}).await.unwrap();
    assert_eq!(sent(&stub).len(), 4);
    // With the limit known, nothing too large is sent; the pieces are others, and of one size.
    let stub = with_orders(|_, _| Reply::Normal).await;
    let tableau = target(&stub, |env| env.change_limit = 1400);
    tableau.update(&change, Some(&cut), None, &|_, _| {}).await.unwrap();
    assert_eq!(sent(&stub).iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [1400, 1300, 1300]);
    assert_eq!(stub.count("patch"), 3);

    // Several actions of one key go together with each piece.
    let mut two = change.clone();
    two.actions.push(Action { verb: Verb::Insert, rows: Match::All, ..change.actions[0].clone() });
    two.actions[0].verb = Verb::Delete;
    tableau.update(&two, Some(&cut), None, &|_, _| {}).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&stub.all("patch").last().unwrap().body).unwrap();
    assert_eq!(body["actions"].as_array().unwrap().len(), 2);
    // What cannot be done in pieces is refused in one.
    let replace = Action { verb: Verb::Replace, rows: Match::All, ..change.actions[0].clone() };
    let error = tableau.update(&Change { actions: vec![replace], ..change }, Some(&cut), None, &|_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FileRefused);
    assert!(format!("{error:?}").contains("all rows at once"), "{error:?}");
}

#[tokio::test]
async fn a_change_whose_job_fails_advises_the_whole() {
    let failed = r#"<tsResponse><job id="j2" completedAt="x" finishCode="1"><notes>410012</notes></job></tsResponse>"#;
    let stub = with_orders(at("job", 0, say(200, failed))).await;
    let error = target(&stub, |_| {}).update(&upsert(&file(10).written.path), None, None, &|_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FileRefused);
    assert!(error.help_line().contains("--mode full") && error.message().contains("410012"), "{error:?}");
}
