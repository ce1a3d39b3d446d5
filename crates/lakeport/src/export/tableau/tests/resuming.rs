//! What the next publish makes of one that was cut off: nothing twice, nothing lost.

use super::*;
use crate::export::tableau::resume;

struct Desk {
    _dir: tempfile::TempDir,
    receipt: std::path::PathBuf,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let receipt = dir.path().join("publish/orders.json");
        Self { _dir: dir, receipt }
    }

    fn how(&self, mode: Mode) -> Publish {
        Publish { receipt_path: Some(self.receipt.clone()), ..how(mode) }
    }

    fn load(&self) -> Option<Receipt> {
        Receipt::load(&self.receipt).unwrap()
    }

    /// Changes the receipt on disk to what a crash would have left.
    async fn leave(&self, change: impl FnOnce(&mut Receipt)) {
        let mut receipt = self.load().unwrap();
        change(&mut receipt);
        resume::record(Some(&self.receipt), &receipt).await.unwrap();
    }
}

const RUNNING: &str = r#"<tsResponse><job id="j1" progress="0" finishCode="1"/></tsResponse>"#;

/// A server whose job does not end in time, a publish to it that was given up, and the receipt of that.
async fn given_up(mode: Mode, file: &File) -> (Stub, Desk) {
    given_up_of(mode, file, None).await
}

/// The same, of rows that are known by this.
async fn given_up_of(mode: Mode, file: &File, rows: Option<&str>) -> (Stub, Desk) {
    let stub =
        Stub::start(|seen, earlier| if seen.label == "job" && earlier == 0 { say(200, RUNNING) } else { Reply::Normal }).await;
    let old = stub::Source { name: "Orders".into(), project: "p2".into(), bytes: b"old".to_vec(), ..Default::default() };
    stub.world.lock().unwrap().sources.push(old);
    let desk = Desk::new();
    let tableau = target(&stub, |env| {
        chunked(env);
        env.job_deadline = Some(Duration::ZERO);
    });
    let how = Publish { content: rows.map(str::to_owned), ..desk.how(mode) };
    let error = tableau.publish(&file.written, &how, &|_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::JobUnfinished);
    assert_eq!(desk.load().unwrap().stage, Stage::Committed);
    (stub, desk)
}

#[tokio::test]
async fn a_job_that_finished_meanwhile_is_not_begun_again() {
    for mode in [Mode::Full, Mode::Append] {
        let file = file(2500);
        let (stub, desk) = given_up(mode, &file).await;
        let tableau = target(&stub, chunked);
        let receipt = tableau.publish(&file.written, &desk.how(mode), &|_, _| {}).await.unwrap();
        assert_eq!((stub.count("begin"), stub.count("publish")), (1, 1), "{mode:?}");
        assert_eq!((receipt.id.as_str(), receipt.stage), ("ds-Orders", Stage::Published));
        assert!(receipt.retries.iter().any(|r| r.contains("nothing was sent again")), "{:?}", receipt.retries);
        // What a caller has recorded is done: the same content may be published again.
        std::fs::remove_file(&desk.receipt).unwrap();
        tableau.publish(&file.written, &desk.how(mode), &|_, _| {}).await.unwrap();
        assert_eq!(stub.count("publish"), 2);
    }
}

#[tokio::test]
async fn the_same_rows_in_other_bytes_are_the_same_content() {
    for (rows, again) in [("1234", 0), ("1235", 1)] {
        for mode in [Mode::Full, Mode::Append] {
            let file = file(2500);
            let (stub, desk) = given_up_of(mode, &file, Some("1234")).await;
            let mut bytes = file.bytes.clone();
            bytes[1234] ^= 1;
            std::fs::write(&file.written.path, &bytes).unwrap();
            let how = Publish { content: Some(rows.into()), ..desk.how(mode) };
            target(&stub, chunked).publish(&file.written, &how, &|_, _| {}).await.unwrap();
            assert_eq!(stub.count("publish"), 1 + again, "{rows} {mode:?}");
        }
    }
}

#[tokio::test]
async fn what_was_appended_by_a_run_that_failed_afterwards_is_not_appended_again() {
    // A place that the server names only afterwards is the same place.
    for project in [Some("Finance/Daily".to_owned()), None] {
        let stub = Stub::start(|_, _| Reply::Normal).await;
        let place = if project.is_some() { "p2" } else { "p0" };
        let old = stub::Source { name: "Orders".into(), project: place.into(), bytes: b"old".to_vec(), ..Default::default() };
        stub.world.lock().unwrap().sources.push(old);
        let desk = Desk::new();
        let (one, other) = (file(100), file(101));
        let publish = async |file: &File, mode| {
            let tableau = target(&stub, |env| env.project = project.clone());
            tableau.publish(&file.written, &desk.how(mode), &|_, _| {}).await
        };
        let first = publish(&one, Mode::Append).await.unwrap();
        assert_eq!(desk.load().unwrap().stage, Stage::Published);
        // The caller came to nothing, and runs again.
        let again = publish(&one, Mode::Append).await.unwrap();
        assert_eq!((&again.id, again.place.as_deref(), stub.count("publish")), (&first.id, Some(place), 1));
        assert!(again.retries.iter().any(|r| r.contains("nothing was sent again")), "{:?}", again.retries);
        assert_eq!(stub.source("Orders").unwrap().bytes, [b"old".to_vec(), one.bytes.clone()].concat());
        // Other rows are other rows, and an overwrite doubles nothing.
        publish(&other, Mode::Append).await.unwrap();
        publish(&other, Mode::Full).await.unwrap();
        publish(&other, Mode::Full).await.unwrap();
        assert_eq!(stub.count("publish"), 4);
        // Rows that went with their data source are not there.
        publish(&one, Mode::Append).await.unwrap();
        stub.world.lock().unwrap().sources.clear();
        assert_eq!(publish(&one, Mode::Append).await.unwrap_err().kind(), Kind::TargetMissing);
        publish(&one, Mode::Create).await.unwrap();
        publish(&one, Mode::Create).await.unwrap();
        assert_eq!(stub.count("publish"), 6);
    }
}

#[tokio::test]
async fn a_job_that_did_nothing_is_no_publish() {
    let hour = |hours: i64| (chrono::Utc::now() + chrono::TimeDelta::hours(hours)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    // An old time that stays is proof; one that is no older than the commit, or no time, is not.
    for (updated, proof) in [(hour(-1), true), (hour(1), false), ("v7".to_owned(), false)] {
        for code in ["0", "9"] {
            for mode in [Mode::Full, Mode::Append] {
                let shown = format!("{updated} {code} {mode:?}");
                let ended = format!(r#"<tsResponse><job id="j1" completedAt="x" finishCode="{code}"/></tsResponse>"#);
                let begun = r#"<tsResponse><job id="j1" finishCode="1"/></tsResponse>"#;
                let stub = Stub::start(move |seen, _| match seen.label {
                    "publish" => say(202, begun),
                    "job" => say(200, &ended),
                    _ => Reply::Normal,
                })
                .await;
                let old = stub::Source {
                    name: "Orders".into(),
                    project: "p2".into(),
                    updated: Some(updated.clone()),
                    ..Default::default()
                };
                stub.world.lock().unwrap().sources.push(old);
                let desk = Desk::new();
                let tableau = target(&stub, chunked);
                let outcome = tableau.publish(&file(10).written, &desk.how(mode), &|_, _| {}).await;
                if proof {
                    let error = outcome.unwrap_err();
                    assert_eq!(
                        (error.kind(), error.exit_code(), error.context_value("server job")),
                        (Kind::VerifyFailed, 7, Some("j1"))
                    );
                    assert!(error.help_line().contains("former rows"), "{shown} {}", error.help_line());
                    // Nothing is there to be taken up: the next one sends.
                    assert_eq!(desk.load(), None, "{shown}");
                } else {
                    let receipt = outcome.unwrap_or_else(|e| panic!("{shown} {e:?}"));
                    let told = receipt.retries.iter().any(|r| r.contains("finish code"));
                    assert_eq!(told, code == "9", "{shown} {:?}", receipt.retries);
                    let observed = tableau.observe(&receipt).await.unwrap();
                    assert!(observed.unknown.iter().any(|u| u.contains("the same time")), "{shown} {observed:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_success_that_changed_nothing_is_seen_by_whoever_looks() {
    let answer = r#"<tsResponse><datasource id="ds-Orders" name="Orders"><project id="p2"/></datasource></tsResponse>"#;
    let stub = Stub::start(at("publish", 0, say(201, answer))).await;
    let updated = Some("2020-01-01T00:00:00Z".to_owned());
    let old = stub::Source { name: "Orders".into(), project: "p2".into(), updated, ..Default::default() };
    stub.world.lock().unwrap().sources.push(old);
    let (tableau, desk, file) = (target(&stub, |_| {}), Desk::new(), file(10));
    let receipt = tableau.publish(&file.written, &desk.how(Mode::Append), &|_, _| {}).await.unwrap();
    let error = tableau.observe(&receipt).await.unwrap_err();
    assert_eq!(error.kind(), Kind::VerifyFailed);
    assert!(format!("{error:?}").contains("2020-01-01T00:00:00Z"), "{error:?}");
    // The receipt says `published`, and the data source says that it is not so.
    let receipt = tableau.publish(&file.written, &desk.how(Mode::Append), &|_, _| {}).await.unwrap();
    tableau.observe(&receipt).await.unwrap();
    assert_eq!(stub.source("Orders").unwrap().bytes, file.bytes);
}

#[tokio::test]
async fn what_a_cut_off_overwrite_took_is_given_back_by_the_next() {
    // Taken up, published anew, and after other content.
    for (single, other) in [(false, false), (true, false), (false, true), (true, true)] {
        let shown = format!("single: {single}, other: {other}");
        let stub = Stub::start(move |seen, earlier| match (seen.label, earlier) {
            ("job", 0) => say(200, RUNNING),
            // The answer to the one request is lost, and nobody may look whether it landed.
            ("publish", 0) if single => Reply::LoseAnswer,
            ("find", 1) if single => error(403_004),
            _ => Reply::Normal,
        })
        .await;
        let treasured = stub::Source {
            name: "Orders".into(),
            project: "p2".into(),
            attributes: " description=\"All\" isCertified=\"true\" certificationNote=\"by Anna\"".into(),
            tags: vec!["gold".into()],
            owner: Some("anna".into()),
            ..Default::default()
        };
        stub.world.lock().unwrap().sources.push(treasured);
        let desk = Desk::new();
        let begun = target(&stub, |env| {
            env.single_request_limit = if single { 64_000_000 } else { 0 };
            env.job_deadline = Some(Duration::ZERO);
        });
        begun.publish(&file(2500).written, &desk.how(Mode::Full), &|_, _| {}).await.unwrap_err();
        assert_eq!(stub.source("Orders").unwrap().attributes, "", "{shown}");
        assert_eq!(desk.load().unwrap().described.unwrap().description.as_deref(), Some("All"), "{shown}");

        let next = file(if other { 2400 } else { 2500 });
        let receipt = target(&stub, chunked).publish(&next.written, &desk.how(Mode::Full), &|_, _| {}).await.unwrap();
        assert_eq!(receipt.notes, ["restored after the overwrite: description, certification, owner, tags"], "{shown}");
        let there = stub.source("Orders").unwrap();
        assert!(there.attributes.contains("All") && there.attributes.contains("by Anna"), "{shown} {}", there.attributes);
        assert_eq!((there.tags, there.owner.as_deref()), (vec!["gold".to_owned()], Some("anna")), "{shown}");
        assert_eq!(desk.load().unwrap().described, None, "{shown}");
    }
}

#[tokio::test]
async fn other_content_or_another_name_does_not_take_up_a_receipt() {
    let file = file(2500);
    let (stub, desk) = given_up(Mode::Full, &file).await;
    let mut bytes = file.bytes.clone();
    bytes[1234] ^= 1;
    std::fs::write(&file.written.path, &bytes).unwrap();
    target(&stub, chunked).publish(&file.written, &desk.how(Mode::Full), &|_, _| {}).await.unwrap();
    assert_eq!(stub.count("publish"), 2);
    assert_eq!(stub.source("Orders").unwrap().bytes, bytes);

    std::fs::write(&desk.receipt, "{ half").unwrap();
    assert_eq!(Receipt::load(&desk.receipt).unwrap_err().kind(), Kind::SourceUnreadable);
    target(&stub, chunked).publish(&file.written, &desk.how(Mode::Full), &|_, _| {}).await.unwrap();
    assert_eq!(stub.count("publish"), 3);
}

#[tokio::test]
async fn a_failed_or_forgotten_job_is_published_anew_except_an_append_without_proof() {
    let failed = r#"<tsResponse><job id="j1" completedAt="x" finishCode="1"/></tsResponse>"#;
    for (answer, mode, again) in [
        (say(200, failed), Mode::Full, true),
        (say(200, failed), Mode::Append, true),
        (error(404_000), Mode::Full, true),
        (error(404_000), Mode::Append, false),
    ] {
        let file = file(2500);
        let (old, desk) = given_up(mode, &file).await;
        let server = old.url.clone();
        let shown = format!("{answer:?} {mode:?}");
        let stub = Stub::start(at("job", 0, answer)).await;
        stub.world.lock().unwrap().sources = old.world.lock().unwrap().sources.clone();
        let url = stub.url.clone();
        desk.leave(|r| r.server = r.server.take().map(|s| s.replace(&server, &url))).await;
        let outcome = target(&stub, chunked).publish(&file.written, &desk.how(mode), &|_, _| {}).await;
        if again {
            outcome.unwrap_or_else(|e| panic!("{shown} {e:?}"));
        } else {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), Kind::JobUnfinished, "{shown}");
            assert!(error.help_line().contains("orders.json"), "{}", error.help_line());
        }
        assert_eq!(stub.count("publish"), usize::from(again), "{shown}");
    }
}

#[tokio::test]
async fn a_complete_upload_is_committed_and_not_sent_again() {
    let file = file(2500);
    let stub = Stub::start(at("publish", 0, error(403_004))).await;
    let desk = Desk::new();
    let publish = |mode| {
        let (tableau, how) = (target(&stub, chunked), desk.how(mode));
        let written = &file.written;
        async move { tableau.publish(written, &how, &|_, _| {}).await }
    };
    assert_eq!(publish(Mode::Full).await.unwrap_err().kind(), Kind::Forbidden);
    assert_eq!(desk.load().unwrap().stage, Stage::Uploaded);
    publish(Mode::Full).await.unwrap();
    assert_eq!((stub.count("begin"), stub.count("publish")), (1, 2));
    assert_eq!(stub.source("Orders").unwrap().bytes, file.bytes);

    // An upload the server forgot is made again.
    desk.leave(|r| (r.stage, r.upload) = (Stage::Uploaded, Some("7720:gone-1:0".into()))).await;
    publish(Mode::Full).await.unwrap();
    assert_eq!((stub.count("begin"), stub.count("publish")), (2, 4));

    // An append that may have been committed is not guessed about.
    publish(Mode::Append).await.unwrap();
    desk.leave(|r| (r.stage, r.job) = (Stage::Uploaded, None)).await;
    assert_eq!(publish(Mode::Append).await.unwrap_err().kind(), Kind::JobUnfinished);
    assert_eq!(stub.count("publish"), 5);
}

#[tokio::test]
async fn a_refused_append_leaves_no_receipt() {
    let file = file(10);
    let stub = Stub::start(at("publish", 0, error(400_016))).await;
    let old = stub::Source { name: "Orders".into(), project: "p2".into(), ..Default::default() };
    stub.world.lock().unwrap().sources.push(old);
    let desk = Desk::new();
    let tableau = target(&stub, |_| {});
    let error = tableau.publish(&file.written, &desk.how(Mode::Append), &|_, _| {}).await.unwrap_err();
    assert_eq!((error.kind(), desk.load()), (Kind::FileRefused, None));
    tableau.publish(&file.written, &desk.how(Mode::Append), &|_, _| {}).await.unwrap();
}

#[tokio::test]
async fn an_append_whose_result_could_not_be_seen_is_not_done_twice() {
    let file = file(2500);
    // The job succeeds, and the look for the data source after it fails for good.
    let stub = Stub::start(
        |seen, earlier| {
            if seen.label == "find" && (1..=6).contains(&earlier) { error(403_004) } else { Reply::Normal }
        },
    )
    .await;
    let old = stub::Source { name: "Orders".into(), project: "p2".into(), bytes: b"old".to_vec(), ..Default::default() };
    stub.world.lock().unwrap().sources.push(old);
    let desk = Desk::new();
    let tableau = target(&stub, chunked);
    tableau.publish(&file.written, &desk.how(Mode::Append), &|_, _| {}).await.unwrap_err();
    assert_eq!(desk.load().unwrap().stage, Stage::Committed);
    loop {
        match tableau.publish(&file.written, &desk.how(Mode::Append), &|_, _| {}).await {
            Ok(_) => break,
            Err(e) => assert_eq!(e.kind(), Kind::Forbidden),
        }
    }
    assert_eq!(stub.count("publish"), 1);
    assert_eq!(stub.source("Orders").unwrap().bytes, [b"old".to_vec(), file.bytes.clone()].concat());
}

#[tokio::test]
async fn two_publishes_to_one_data_source_follow_one_another() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let (one, two) = (target(&stub, chunked), target(&stub, chunked));
    let file = file(1500);
    let patient = |mut t: Tableau| {
        t.server.env.lock_wait = Duration::from_secs(5);
        t
    };
    let (one, two) = (patient(one), patient(two));
    let (first, second) = tokio::join!(publish(&one, &file, Mode::Full), publish(&two, &file, Mode::Full));
    first.unwrap();
    second.unwrap();
    let order: Vec<&str> =
        stub.seen.lock().unwrap().iter().map(|s| s.label).filter(|l| matches!(*l, "begin" | "publish")).collect();
    assert_eq!(order, ["begin", "publish", "begin", "publish"]);
}
