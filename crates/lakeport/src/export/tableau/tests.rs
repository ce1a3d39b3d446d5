//! The whole target against a scripted server: what goes over the wire, and what happens when it breaks.

use std::collections::HashSet;
use std::time::Instant;

use super::*;
use crate::config::Secret;
use crate::export::Stage;

mod afterwards;
mod resuming;
mod signing;
mod stub;
use stub::{Reply, Seen, Stub, error, say};

/// An environment for tests, with a marked secret.
pub(super) fn env(url: &str) -> TableauEnv {
    TableauEnv {
        name: "tableau-test".into(),
        url: url.into(),
        site: String::new(),
        project: Some("Finance/Daily".into()),
        create_project: false,
        auth: Auth::Token { name: "lakeport".into(), secret: Secret::new("PAT-SECRET-MARK") },
        api_version: None,
        chunk_size: Some(1000),
        single_request_limit: 64_000_000,
        change_limit: 100_000_000,
        network: Network::default(),
        job_deadline: None,
        lock_wait: Duration::ZERO,
        retry_budget: None,
        lock_directory: Some(std::env::temp_dir().join("lakeport-test-locks")),
    }
}

fn target(stub: &Stub, change: impl FnOnce(&mut TableauEnv)) -> Tableau {
    let mut env = env(&stub.url);
    change(&mut env);
    let limits = Limits { upload_buffer: 4096, read_timeout: Duration::from_millis(600), ..Limits::default() };
    let mut tableau = Tableau::new(env, &limits).unwrap();
    let pace = &mut tableau.server.pace;
    pace.first = Duration::from_millis(2);
    pace.longest = Duration::from_millis(20);
    pace.first_poll = Duration::from_millis(2);
    pace.look = Duration::from_millis(200);
    tableau
}

fn chunked(env: &mut TableauEnv) {
    env.single_request_limit = 0;
}

struct File {
    _dir: tempfile::TempDir,
    written: Written,
    bytes: Vec<u8>,
}

fn file(length: usize) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Ünïcode.hyper");
    let bytes: Vec<u8> = (0..length).map(|i| u8::try_from(i * 7 % 253).unwrap()).collect();
    std::fs::write(&path, &bytes).unwrap();
    let written = Written { path, bytes: u64::try_from(length).unwrap(), format: "hyper".into(), rows: vec![1] };
    File { _dir: dir, written, bytes }
}

fn how(mode: Mode) -> Publish {
    Publish { name: "Orders".into(), mode, ..Publish::default() }
}

async fn publish(tableau: &Tableau, file: &File, mode: Mode) -> Result<Receipt> {
    tableau.publish(&file.written, &how(mode), &|_, _| {}).await
}

/// Fails call number `n` of a label.
fn at(label: &'static str, n: usize, reply: Reply) -> impl Fn(&Seen, usize) -> Reply + Send + Sync {
    move |seen, earlier| if seen.label == label && earlier == n { reply.clone() } else { Reply::Normal }
}

#[tokio::test]
async fn a_small_file_goes_in_one_request_with_the_exact_words() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let tableau = target(&stub, |_| {});
    let file = file(10_000);
    let receipt = publish(&tableau, &file, Mode::Full).await.unwrap();
    assert_eq!((receipt.id.as_str(), receipt.way.as_str(), receipt.bytes), ("ds-Orders", "single request", 10_000));
    assert_eq!((receipt.place.as_deref(), receipt.url.as_deref()), (Some("p2"), Some("http://t/Orders")));
    assert_eq!(stub.source("Orders").unwrap().bytes, file.bytes);
    let sent = &stub.all("publish")[0];
    assert!(sent.target.starts_with("/api/3.29/sites/s1/datasources?datasourceType=hyper&overwrite=true"), "{}", sent.target);
    assert_eq!(sent.header("x-tableau-auth"), Some("to|ken-1"));
    assert!(sent.header("user-agent").unwrap().starts_with("Lakeport/"));
    let text = String::from_utf8_lossy(&sent.body);
    assert!(text.contains("filename=\"data.hyper\"") && text.contains("<project id=\"p2\" />"));
    let observed = tableau.observe(&receipt).await.unwrap();
    assert_eq!(observed.updated_at.as_deref(), Some("v1"));
    assert_eq!(observed.rows, None);
    tableau.close().await;
    assert_eq!((stub.count("signin"), stub.count("signout")), (1, 1));
}

#[test]
fn a_panic_that_prints_everything_shows_no_secret() {
    let mut env = env("http://t");
    env.network.proxy = Some(Proxy { url: "http://p".into(), credentials: Some(("u".into(), Secret::new("PROXY-SECRET-MARK"))) });
    let tableau = Tableau::new(env.clone(), &Limits::default()).unwrap();
    let body = super::http::Body::Credentials(Secret::new("BODY-SECRET-MARK"));
    let panic =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic!("{env:?} {env:#?} {tableau:?} {body:?}"))).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("lakeport") && !text.contains("SECRET-MARK"), "{text}");
}

#[tokio::test]
async fn blocks_end_where_they_should() {
    for (length, blocks) in [(1, 1), (999, 1), (1000, 1), (1001, 2), (5000, 5)] {
        let stub = Stub::start(|_, _| Reply::Normal).await;
        let tableau = target(&stub, chunked);
        let file = file(length);
        let told = std::sync::Mutex::new(Vec::new());
        let receipt =
            tableau.publish(&file.written, &how(Mode::Full), &|done, of| told.lock().unwrap().push((done, of))).await.unwrap();
        assert_eq!(stub.count("append"), blocks, "{length}");
        assert_eq!(stub.source("Orders").unwrap().bytes, file.bytes);
        // The finish code of a job that has started is that of a failure; it was polled past that.
        assert_eq!((receipt.job.as_deref(), stub.count("job")), (Some("j1"), 3));
        assert!(stub.all("publish")[0].target.contains("asJob=true&uploadSessionId=7720:0-1:0"));
        assert!(stub.all("append").iter().all(|a| a.target.ends_with("/fileUploads/7720:0-1:0")), "the id of the begin");
        let whole = file.written.bytes;
        assert_eq!(told.lock().unwrap().last(), Some(&(whole, whole)));
    }
}

#[tokio::test]
async fn a_block_of_unknown_fate_begins_the_upload_anew() {
    for (n, reply) in [
        (0, Reply::Reset),
        (1, Reply::Reset),
        (1, Reply::LoseAnswer),
        (4, Reply::LoseAnswer),
        (2, Reply::Hang),
        (2, say(503, "busy")),
    ] {
        let shown = format!("{n} {reply:?}");
        let stub = Stub::start(at("append", n, reply)).await;
        let tableau = target(&stub, chunked);
        let file = file(4500);
        let receipt = publish(&tableau, &file, Mode::Full).await.unwrap();
        assert_eq!(stub.count("begin"), 2, "{shown}");
        assert_eq!(stub.source("Orders").unwrap().bytes, file.bytes, "{shown}");
        assert!(receipt.retries.iter().any(|r| r.contains("begun anew")), "{shown} {:?}", receipt.retries);
    }
}

#[tokio::test]
async fn a_block_that_was_certainly_not_taken_is_sent_again_in_the_same_upload() {
    let slow = Reply::Say { status: 429, headers: "Retry-After: 0\r\n".into(), body: "slow down".into() };
    for reply in [error(401_002), error(429_000), slow] {
        let stub = Stub::start(at("append", 2, reply)).await;
        let tableau = target(&stub, chunked);
        let file = file(4500);
        let receipt = publish(&tableau, &file, Mode::Full).await.unwrap();
        assert_eq!((stub.count("begin"), stub.count("append")), (1, 6));
        assert_eq!(stub.source("Orders").unwrap().bytes, file.bytes);
        assert_eq!(receipt.retries.len(), 1);
    }
}

#[tokio::test]
async fn blocks_are_halved_when_they_are_too_big() {
    let stub = Stub::start(|seen, _| {
        let length: usize = seen.header("content-length").map_or(0, |l| l.parse().unwrap());
        if seen.label == "append" && length > 1000 { say(413, "<html><title>Too Large</title></html>") } else { Reply::Normal }
    })
    .await;
    let tableau = target(&stub, chunked);
    let file = file(2000);
    let receipt = publish(&tableau, &file, Mode::Full).await.unwrap();
    assert_eq!(stub.source("Orders").unwrap().bytes, file.bytes);
    assert_eq!(receipt.way, "4 blocks of 500 B");
}

#[tokio::test]
async fn a_session_is_renewed_once_and_not_fought_for() {
    let stub = Stub::start(|seen, _| {
        if seen.label != "signin" && seen.header("x-tableau-auth").is_some_and(|t| t.starts_with("to|ken")) {
            error(401_002)
        } else {
            Reply::Normal
        }
    })
    .await;
    let error = publish(&target(&stub, |_| {}), &file(10), Mode::Full).await.unwrap_err();
    assert_eq!((error.kind(), stub.count("signin")), (Kind::SignIn, 2));
    assert!(error.help_line().contains("another process"), "{}", error.help_line());
}

#[tokio::test]
async fn a_lost_commit_is_looked_for_and_never_doubled() {
    for mode in [Mode::Full, Mode::Create, Mode::Append, Mode::Replace] {
        for single in [true, false] {
            for reply in [Reply::LoseAnswer, Reply::Hang, say(504, "<html>gateway</html>"), Reply::Reset] {
                let landed = matches!(reply, Reply::LoseAnswer);
                let shown = format!("{mode:?} {single} {reply:?}");
                let stub = Stub::start(at("publish", 0, reply)).await;
                if mode == Mode::Append {
                    let old = stub::Source {
                        name: "Orders".into(),
                        project: "p2".into(),
                        version: 0,
                        bytes: b"old".to_vec(),
                        ..Default::default()
                    };
                    stub.world.lock().unwrap().sources.push(old);
                }
                // A commit may be silent as long as the whole call.
                let tableau = target(&stub, |env| {
                    env.single_request_limit = if single { 64_000_000 } else { 0 };
                    env.network.timeout = Some(Duration::from_millis(400));
                });
                let file = file(2500);
                let outcome = publish(&tableau, &file, mode).await;
                if mode == Mode::Append && !landed {
                    assert_eq!(outcome.unwrap_err().kind(), Kind::JobUnfinished, "{shown}");
                    assert_eq!(stub.source("Orders").unwrap().bytes, b"old", "{shown}");
                    continue;
                }
                outcome.unwrap_or_else(|e| panic!("{shown} {e:?}"));
                let expected =
                    if mode == Mode::Append { [b"old".to_vec(), file.bytes.clone()].concat() } else { file.bytes.clone() };
                assert_eq!(stub.source("Orders").unwrap().bytes, expected, "{shown}");
                assert_eq!(stub.count("publish"), if landed { 1 } else { 2 }, "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn modes_mean_what_they_say() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let tableau = target(&stub, chunked);
    let file = file(100);
    assert_eq!(publish(&tableau, &file, Mode::Append).await.unwrap_err().kind(), Kind::TargetMissing);
    publish(&tableau, &file, Mode::Create).await.unwrap();
    assert_eq!(publish(&tableau, &file, Mode::Create).await.unwrap_err().kind(), Kind::TargetExists);
    assert_eq!(stub.count("begin"), 1, "what can be refused is refused before the upload");
    publish(&tableau, &file, Mode::Append).await.unwrap();
    assert_eq!(stub.source("Orders").unwrap().bytes.len(), 200);
    let receipt = publish(&tableau, &file, Mode::Replace).await.unwrap();
    assert_eq!(stub.source("Orders").unwrap().bytes.len(), 100);
    assert_eq!(receipt.updated_before.as_deref(), Some("v2"));
    assert_eq!(publish(&tableau, &file, Mode::DeleteInsert).await.unwrap_err().kind(), Kind::Unsupported);
}

#[tokio::test]
async fn a_job_that_fails_or_does_not_end_says_so() {
    let failed = r#"<tsResponse><job id="j1" completedAt="x" finishCode="1"><n><notes>bad table</notes></n></job></tsResponse>"#;
    let stub = Stub::start(at("job", 0, say(200, failed))).await;
    let error = publish(&target(&stub, chunked), &file(10), Mode::Full).await.unwrap_err();
    assert_eq!((error.kind(), error.context_value("server job")), (Kind::FileRefused, Some("j1")));
    assert!(error.message().contains("bad table"));

    let running = r#"<tsResponse><job id="j1" progress="0" finishCode="1"/></tsResponse>"#;
    let stub = Stub::start(|seen, _| if seen.label == "job" { say(200, running) } else { Reply::Normal }).await;
    let dir = tempfile::tempdir().unwrap();
    let receipt_path = dir.path().join("receipt.json");
    let how = Publish { receipt_path: Some(receipt_path.clone()), ..how(Mode::Full) };
    let tableau = target(&stub, |env| {
        chunked(env);
        env.job_deadline = Some(Duration::from_millis(50));
    });
    let error = tableau.publish(&file(10).written, &how, &|_, _| {}).await.unwrap_err();
    assert_eq!((error.kind(), error.context_value("server job")), (Kind::JobUnfinished, Some("j1")));
    let receipt: Receipt = serde_json::from_slice(&std::fs::read(receipt_path).unwrap()).unwrap();
    assert_eq!((receipt.stage, receipt.job.as_deref()), (Stage::Committed, Some("j1")));
}

#[tokio::test]
async fn a_redirect_keeps_the_body_and_drops_the_token() {
    let other = Stub::start(|seen, _| if seen.label == "publish" { error(401_000) } else { Reply::Normal }).await;
    let to = format!("Location: {}/elsewhere/datasources\r\n", other.url);
    let stub = Stub::start(at("publish", 0, Reply::Say { status: 302, headers: to, body: String::new() })).await;
    let file = file(5000);
    let error = publish(&target(&stub, |_| {}), &file, Mode::Full).await.unwrap_err();
    assert_eq!(error.kind(), Kind::SignIn);
    let sent = &other.all("publish")[0];
    assert_eq!((sent.method.as_str(), sent.file() == file.bytes, sent.header("x-tableau-auth")), ("POST", true, None));

    let near = Reply::Say {
        status: 307,
        headers: "Location: /api/3.29/sites/s1/datasources?overwrite=true\r\n".into(),
        body: String::new(),
    };
    let stub = Stub::start(at("publish", 0, near)).await;
    publish(&target(&stub, |_| {}), &file, Mode::Full).await.unwrap();
    assert!(stub.all("publish").iter().all(|s| s.header("x-tableau-auth").is_some() && s.file() == file.bytes));
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let other = Stub::start(|_, _| Reply::Normal).await;
    let headers = format!("Location: {}/api/3.29/auth/signin\r\n", other.url);
    let stub = Stub::start(at("signin", 0, Reply::Say { status: 308, headers, body: String::new() })).await;
    let error = target(&stub, |_| {}).check().await.unwrap_err();
    assert!(error.message().contains("another host") && error.help_line().contains(&other.url), "{error:?}");
    assert_eq!(other.count("signin"), 0);
}

#[tokio::test]
async fn a_page_in_front_of_the_server_is_shown_without_secrets() {
    let page = "<html><head><title>Acme  Sign On</title></head><body>PAT-SECRET-MARK you are not signed on</body></html>";
    for label in ["info", "signin"] {
        let page = Reply::Say { status: 200, headers: "Content-Type: text/html\r\n".into(), body: page.into() };
        let stub = Stub::start(at(label, 0, page)).await;
        let error = target(&stub, |_| {}).check().await.unwrap_err();
        let shown = format!("{error:?}");
        assert_eq!(error.kind(), Kind::ServerFailed);
        for expected in ["200", "text/html", "titled `Acme Sign On`", "[redacted]", "127.0.0.1", "not signed on"] {
            assert!(shown.contains(expected), "{expected} in {shown}");
        }
        assert!(!shown.contains("PAT-SECRET-MARK"));
    }
    let unknown = say(200, "<tsResponse><serverInfo><restApiVersion>Unknown</restApiVersion></serverInfo></tsResponse>");
    let stub = Stub::start(at("info", 0, unknown)).await;
    assert!(target(&stub, |_| {}).check().await.unwrap_err().message().contains("`Unknown`"));
}

#[tokio::test]
async fn projects_are_found_level_by_level_and_created_when_wanted() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    for (path, id) in [("Finance/Daily", "p2"), ("Default/Daily", "p3"), ("Finance/a, b: c\\/d", "p4"), ("project-id:xyz", "xyz")]
    {
        let tableau = target(&stub, |env| env.project = Some(path.into()));
        assert_eq!(tableau.project(&mut Repeats::default()).await.unwrap().as_deref(), Some(id), "{path}");
    }
    let tableau = target(&stub, |env| env.project = None);
    assert_eq!(tableau.project(&mut Repeats::default()).await.unwrap().as_deref(), Some("p0"));

    let tableau = target(&stub, |env| env.project = Some("Finance/Dayly/New".into()));
    let health = tableau.check().await.unwrap();
    assert_eq!(health.missing.len(), 1);
    assert!(health.missing[0].contains("`Dayly` under `Finance`") && health.missing[0].contains("`Daily`"), "{health:?}");
    assert_eq!(publish(&tableau, &file(1), Mode::Full).await.unwrap_err().kind(), Kind::TargetMissing);

    let tableau = target(&stub, |env| {
        env.project = Some("Finance/Dayly/New".into());
        env.create_project = true;
    });
    assert!(tableau.check().await.unwrap().missing.is_empty());
    assert_eq!(stub.count("create"), 0, "a check changes nothing");
    publish(&tableau, &file(1), Mode::Full).await.unwrap();
    assert_eq!(stub.count("create"), 2);
    let names: Vec<String> = tableau.list("/Finance").await.unwrap().into_iter().map(|l| l.name).collect();
    assert_eq!(names, ["/Finance/Daily", "/Finance/a, b: c\\/d", "/Finance/Dayly"]);
    assert_eq!(tableau.list("").await.unwrap()[0].kind, "data source");
    assert_eq!(tableau.find_datasource("Orders").await.unwrap().unwrap().id, "ds-Orders");
}

#[tokio::test]
async fn a_project_created_by_someone_else_meanwhile_is_used() {
    let stub = Stub::start(at("create", 0, Reply::LoseAnswer)).await;
    let tableau = target(&stub, |env| {
        env.project = Some("New".into());
        env.create_project = true;
    });
    assert_eq!(tableau.project(&mut Repeats::default()).await.unwrap().as_deref(), Some("p5"));
    assert_eq!(stub.world.lock().unwrap().projects.len(), 6);
}

#[tokio::test]
async fn reading_calls_are_repeated_and_a_dead_server_is_given_up() {
    let stub = Stub::start(|seen, earlier| match (seen.label, earlier) {
        ("info", 0) => Reply::Reset,
        ("signin", 0) => say(502, "bad gateway"),
        ("find", 0) => error(500_000),
        _ => Reply::Normal,
    })
    .await;
    let receipt = publish(&target(&stub, |_| {}), &file(10), Mode::Full).await.unwrap();
    assert_eq!(receipt.retries.len(), 3, "{:?}", receipt.retries);

    let begun = Instant::now();
    let stub = Stub { url: "http://127.0.0.1:9".into(), seen: Default::default(), world: Default::default() };
    let error = target(&stub, |_| {}).check().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn secrets_and_tokens_stand_in_no_error() {
    let mut shown = HashSet::new();
    for label in ["info", "signin", "projects", "find", "publish", "begin", "append", "job"] {
        for reply in [
            error(400_000),
            say(403, if label == "info" { "PAT-SECRET-MARK" } else { "to|ken-1 PAT-SECRET-MARK" }),
            error(404_005),
        ] {
            let stub = Stub::start(move |seen, _| match seen.label {
                "signin" if label == "signin" => say(200, "<tsResponse><credentials token=\"to|ken-1\"><site"),
                seen if seen == label => reply.clone(),
                _ => Reply::Normal,
            })
            .await;
            let tableau = target(&stub, chunked);
            let error = publish(&tableau, &file(10), Mode::Full).await;
            shown.insert(format!("{error:?} {tableau:?}"));
        }
    }
    let leak = shown.iter().find(|s| s.contains("to|ken-1") || s.contains("PAT-SECRET-MARK"));
    assert_eq!(leak, None);
}
