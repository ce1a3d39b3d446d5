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
    let stub =
        Stub::start(|seen, earlier| if seen.label == "job" && earlier == 0 { say(200, RUNNING) } else { Reply::Normal }).await;
    let old = stub::Source { name: "Orders".into(), project: "p2".into(), bytes: b"old".to_vec(), ..Default::default() };
    stub.world.lock().unwrap().sources.push(old);
    let desk = Desk::new();
    let tableau = target(&stub, |env| {
        chunked(env);
        env.job_deadline = Some(Duration::ZERO);
    });
    let error = tableau.publish(&file.written, &desk.how(mode), &|_, _| {}).await.unwrap_err();
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
        // What is published is done: the same content may be published again.
        tableau.publish(&file.written, &desk.how(mode), &|_, _| {}).await.unwrap();
        assert_eq!(stub.count("publish"), 2);
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
