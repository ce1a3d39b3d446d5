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

#[tokio::test]
async fn a_right_goes_to_the_one_group_that_is_meant() {
    let two = "<tsResponse><pagination totalAvailable=\"2\"/><groups><group id=\"g1\" name=\"Analysts\"><domain name=\"local\"/></group>\
               <group id=\"g2\" name=\"Analysts\"><domain name=\"ACME\"/></group></groups></tsResponse>";
    let stub = Stub::start(move |seen, _| if seen.label == "groups" { say(200, two) } else { Reply::Normal }).await;
    let tableau = target(&stub, |_| {});
    let receipt = publish(&tableau, &file(10), Mode::Full).await.unwrap();
    let care = |grantee: &str| {
        let rights = Rights { allow: vec!["Read".into()], deny: Vec::new() };
        Care { permissions: BTreeMap::from([(grantee.to_owned(), rights)]), warning: None }
    };
    let error = tableau.see_to(&receipt, &care("group:Analysts")).await.unwrap_err();
    assert_eq!((error.kind(), stub.count("grant")), (Kind::TargetMissing, 0));
    assert!(error.message().contains("ACME\\Analysts (g2), local\\Analysts (g1)"), "{error:?}");
    tableau.see_to(&receipt, &care("group:acme\\Analysts")).await.unwrap();
    assert_eq!(stub.world.lock().unwrap().rights, [("g2".to_owned(), "Read".to_owned(), "Allow".to_owned())]);
    assert!(stub.all("groups")[1].target.ends_with("&filter=name:eq:Analysts"), "the name is asked for without its domain");
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

/// The answer of a job that has ended with this code.
fn ended(code: u8) -> Reply {
    say(200, &format!(r#"<tsResponse><job id="j2" completedAt="x" finishCode="{code}"><notes>410012</notes></job></tsResponse>"#))
}

fn ids(stub: &Stub) -> Vec<String> {
    stub.all("patch").iter().map(|seen| seen.header("requestid").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_change_whose_job_fails_advises_the_whole() {
    let stub = with_orders(at("job", 1, ended(1))).await;
    let error = target(&stub, |_| {}).update(&upsert(&file(10).written.path), None, None, &|_, _| {}).await.unwrap_err();
    assert_eq!((error.kind(), stub.count("patch")), (Kind::FileRefused, 1));
    assert!(error.help_line().contains("--mode full") && error.message().contains("410012"), "{error:?}");
}

#[tokio::test]
async fn a_change_whose_job_came_to_nothing_is_made_by_the_next_run() {
    for (code, kind, word) in [(1, Kind::FileRefused, "failed"), (2, Kind::ServerFailed, "was cancelled")] {
        // The first run sees the job end; to the two after it, the server shows that job again.
        let stub =
            with_orders(move |seen, n| if seen.label == "job" && matches!(n, 1 | 2 | 6) { ended(code) } else { Reply::Normal })
                .await;
        let tableau = target(&stub, |_| {});
        let file = file(10);
        let run = || async { tableau.update(&upsert(&file.written.path), None, None, &|_, _| {}).await };
        assert_eq!(run().await.unwrap_err().kind(), kind);
        let receipt = run().await.unwrap();
        assert!(receipt.retries.iter().any(|r| r.contains("of a former run") && r.contains(word)), "{:?}", receipt.retries);
        assert_eq!(receipt.bytes, 10);
        // Once it was made, it is known under the id it was made by.
        run().await.unwrap();
        let sent = ids(&stub);
        assert!(sent[0] == sent[1] && sent[0] != sent[2] && sent[1..3] == sent[3..], "{sent:?}");
        assert_eq!(stub.world.lock().unwrap().changes.len(), 2);
    }
}

#[tokio::test]
async fn a_job_that_fails_at_once_is_no_former_one() {
    // Also where the clocks differ by less than would keep one from signing in.
    for ahead in [0, -15, 15] {
        let now = (chrono::Utc::now() + chrono::TimeDelta::seconds(ahead)).format("%Y-%m-%dT%H:%M:%SZ");
        let failed = format!(r#"<tsResponse><job id="j2" createdAt="{now}" completedAt="{now}" finishCode="1"/></tsResponse>"#);
        let stub = with_orders(move |seen, _| if seen.label == "job" { say(200, &failed) } else { Reply::Normal }).await;
        stub.world.lock().unwrap().clock = Some(ahead);
        let error = target(&stub, |_| {}).update(&upsert(&file(10).written.path), None, None, &|_, _| {}).await.unwrap_err();
        assert_eq!((error.kind(), stub.count("patch")), (Kind::FileRefused, 1), "{ahead}");
        assert!(error.help_line().contains("the same command sends the change anew"), "{}", error.help_line());
    }
}

#[tokio::test]
async fn a_change_that_always_comes_to_nothing_is_given_up() {
    let stub = with_orders(|seen, _| if seen.label == "job" { ended(1) } else { Reply::Normal }).await;
    let error = target(&stub, |_| {}).update(&upsert(&file(10).written.path), None, None, &|_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FileRefused);
    assert!(error.message().contains("410012") && error.help_line().contains("--change-id"), "{error:?}");
    assert_eq!(ids(&stub).into_iter().collect::<HashSet<_>>().len(), 8);
}

#[tokio::test]
async fn a_job_that_cannot_be_asked_for_is_not_sent_again() {
    let stub = with_orders(|seen, _| if seen.label == "job" { say(503, "busy") } else { Reply::Normal }).await;
    let error = target(&stub, |_| {}).update(&upsert(&file(10).written.path), None, None, &|_, _| {}).await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code(), stub.count("patch")), (Kind::JobUnfinished, 5, 1));
    assert_eq!(error.context_value("server job"), Some("j2"));
}

#[tokio::test]
async fn a_connected_app_that_sees_no_jobs_sees_each_piece() {
    let old = "<tsResponse><serverInfo><restApiVersion>3.20</restApiVersion></serverInfo></tsResponse>";
    let dir = tempfile::tempdir().unwrap();
    let piece = |positions: std::ops::Range<u64>| -> Result<Option<crate::convert::Temporary>> {
        let temporary = crate::convert::Temporary::beside(&dir.path().join("piece.hyper"))?;
        std::fs::write(temporary.path(), vec![0; usize::try_from(positions.end - positions.start).unwrap()]).unwrap();
        Ok(Some(temporary))
    };
    let cut = Cut { rows: 3000, piece: &piece };
    let file = file(3000);
    let change = upsert(&file.written.path);
    // Taken, and its job fails where nobody sees it.
    let lost = || say(202, r#"<tsResponse><job id="j9" type="UpdateUploadedFile"/></tsResponse>"#);
    for scope_is_missing in [false, true] {
        let script = move |seen: &Seen, n: usize, lost_at: usize| match seen.label {
            "info" if !scope_is_missing => say(200, old),
            "job" => error(401_002),
            "patch" if n == lost_at => lost(),
            _ => Reply::Normal,
        };
        let app = |env: &mut TableauEnv| (env.auth, env.change_limit) = (signing::app(), 1000);
        let stub = with_orders(move |seen, n| script(seen, n, usize::MAX)).await;
        let receipt = target(&stub, app).update(&change, Some(&cut), None, &|_, _| {}).await.unwrap();
        assert_eq!((receipt.way.as_str(), stub.world.lock().unwrap().changes.len()), ("3 changes in place", 3));
        assert_eq!(stub.count("job") > 0, scope_is_missing);

        let stub = with_orders(move |seen, n| script(seen, n, 1)).await;
        let error = target(&stub, app).update(&change, Some(&cut), None, &|_, _| {}).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code(), stub.count("patch")), (Kind::JobUnfinished, 5, 2));
        assert_eq!((error.context_value("pieces done"), error.context_value("server job")), (Some("1"), Some("j9")));
        assert!(error.help_line().contains("would make other pieces twice"), "{}", error.help_line());

        let stub = with_orders(move |seen, n| script(seen, n, 0)).await;
        let error = target(&stub, app).update(&change, None, None, &|_, _| {}).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::JobUnfinished, 5));
        assert!(error.help_line().contains("--change-id TEXT"), "{}", error.help_line());
    }
}
