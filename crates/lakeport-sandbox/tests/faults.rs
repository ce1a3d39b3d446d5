//! Each fault, as a client sees it that does nothing by itself: bytes on a socket.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Caller, Rig, SMALL, extract};

const PATIENCE: Duration = Duration::from_millis(700);

/// What came back before the connection ended, and how it ended.
async fn raw(caller: &Caller, rig: &Rig, method: &str, path: &str) -> (String, Result<(), ErrorKind>) {
    let address = rig.url().strip_prefix("http://").unwrap();
    let path = format!("{}{path}", caller.site.strip_prefix(rig.url()).unwrap());
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = &caller.token;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-Tableau-Auth: {token}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let ended = match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await {
        Ok(ended) => ended.map(|_| ()).map_err(|e| e.kind()),
        Err(_) => Err(ErrorKind::TimedOut),
    };
    (String::from_utf8_lossy(&bytes).into_owned(), ended)
}

async fn with(rig: &Rig, fault: &str) {
    rig.own(Method::DELETE, "faults", "").await;
    let set = rig.own(Method::POST, "faults", fault).await;
    assert_eq!(set["faults"][0]["fault"], fault, "{set}");
}

#[tokio::test]
async fn every_fault_reaches_a_raw_client() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let whole = raw(&caller, &rig, "GET", "/projects").await;
    assert!(whole.0.starts_with("HTTP/1.1 200 OK") && whole.1.is_ok(), "{whole:?}");

    with(&rig, "projects:2:reset-before").await;
    assert!(raw(&caller, &rig, "GET", "/projects").await.1.is_ok(), "the first call is not struck");
    assert_eq!(raw(&caller, &rig, "GET", "/projects").await, (String::new(), Err(ErrorKind::ConnectionReset)));
    assert!(raw(&caller, &rig, "GET", "/projects").await.1.is_ok(), "nor is the third");

    for (fault, head, tail) in [
        ("projects:1:throttled", "HTTP/1.1 429 ", "code=\"429000\""),
        ("projects:1:throttled=2000ms", "HTTP/1.1 429 ", "retry-after: 2\r\n"),
        ("projects:1:status=500", "HTTP/1.1 500 ", "content-type: text/html"),
        ("projects:1:status=502", "HTTP/1.1 502 ", "<h1>502 Bad Gateway"),
        ("projects:1:status=503", "HTTP/1.1 503 ", "<h1>503"),
        ("projects:1:status-after=504", "HTTP/1.1 504 ", "<h1>504"),
        ("any:*:redirect=http://other.test:81", "HTTP/1.1 307 ", "location: http://other.test:81/api/3.21/sites/"),
        ("any:*:redirect=http://other.test/login?x", "HTTP/1.1 307 ", "location: http://other.test/login?x\r\n"),
        ("projects:1:content-type=text/plain", "HTTP/1.1 200 ", "content-type: text/plain\r\n"),
        ("projects:1:slow=300ms", "HTTP/1.1 200 ", "</tsResponse>"),
        ("signin:1:hang", "HTTP/1.1 200 ", "</tsResponse>"),
    ] {
        with(&rig, fault).await;
        let begun = Instant::now();
        let (text, ended) = raw(&caller, &rig, "GET", "/projects").await;
        assert!(text.starts_with(head) && text.contains(tail) && ended.is_ok(), "{fault}: {text} {ended:?}");
        assert!(!fault.contains("slow") || begun.elapsed() >= Duration::from_millis(270), "{fault}");
        assert!(fault.contains("=2000ms") || !text.contains("retry-after"), "{fault}");
    }

    with(&rig, "projects:1:truncated").await;
    let (text, _) = raw(&caller, &rig, "GET", "/projects").await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let promised: usize = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert!(!body.is_empty() && body.len() < promised, "{text}");

    for fault in ["projects:*:hang", "projects:*:hang-after"] {
        with(&rig, fault).await;
        assert_eq!(raw(&caller, &rig, "GET", "/projects").await, (String::new(), Err(ErrorKind::TimedOut)), "{fault}");
    }

    with(&rig, "projects:1:expired").await;
    assert!(raw(&caller, &rig, "GET", "/projects").await.0.contains("401002"));
    assert!(raw(&caller, &rig, "GET", "/projects").await.0.contains("401002"), "the session is gone for good");
    rig.own(Method::DELETE, "faults", "").await;
    let begun = Instant::now();
    rig.sandbox.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "what hangs does not keep the sandbox from ending");
}

#[tokio::test]
async fn reset_before_did_nothing_and_reset_after_did_it() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let file = extract(rig.directory.path(), "small.hyper", &SMALL);
    let publish = || {
        let parts = crate::support::multipart(&[
            ("request_payload", b"<tsRequest><datasource name='x'/></tsRequest>"),
            ("tableau_datasource", &file),
        ]);
        let request = caller.request(Method::POST, "/datasources?datasourceType=hyper");
        request.header("Content-Type", "multipart/mixed; boundary=BOUNDARY").body(parts).send()
    };
    with(&rig, "publish:1:reset-before").await;
    assert!(publish().await.is_err());
    assert!(rig.datasources().await.is_empty());
    with(&rig, "publish:1:reset-after").await;
    assert!(publish().await.is_err());
    assert_eq!(rig.datasources().await.len(), 1);
    let calls = rig.own(Method::GET, "calls", "").await;
    let calls = calls["calls"].as_array().unwrap();
    let seen: Vec<_> = calls.iter().map(|c| (c["kind"].as_str(), c["fault"].as_str(), c["status"].as_u64())).collect();
    assert_eq!(
        seen,
        [
            (Some("signin"), None, Some(200)),
            (Some("publish"), Some("publish:1:reset-before"), None),
            (Some("publish"), Some("publish:1:reset-after"), None),
        ]
    );
    let page = reqwest::get(rig.url()).await.unwrap().text().await.unwrap();
    assert!(
        page.contains("Active faults") && page.contains("<code>publish:1:reset-after</code>") && page.contains("/auth/signin")
    );
    let wrong = rig.own(Method::POST, "faults", "publish:1:reset-after\npublish:1:explode").await;
    assert!(wrong["error"].as_str().unwrap().contains("explode"));
    assert_eq!(rig.own(Method::GET, "faults", "").await["faults"].as_array().unwrap().len(), 1, "all or nothing");
    assert_eq!(rig.own(Method::DELETE, "faults?fault=publish:1:reset-after", "").await["removed"], 1);
}
