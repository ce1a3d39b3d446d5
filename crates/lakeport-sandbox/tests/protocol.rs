//! The rules of the protocol, tried with calls that break them.

use reqwest::Method;

use crate::support::{Answer, Caller, Rig, SMALL, extract, multipart};

#[tokio::test]
async fn sign_in_and_tokens_are_checked() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let http = &caller.client;
    let info = Answer::of(http.get(format!("{}/api/2.4/serverInfo", rig.url())).send().await.unwrap()).await;
    assert!(info.status == 200 && info.body.contains("<restApiVersion>3.29</restApiVersion>"), "{info:?}");
    let call = |path: String, token: Option<&'static str>| async move {
        let request = http.get(path);
        let request = if let Some(token) = token { request.header("x-tableau-auth", token) } else { request };
        Answer::of(request.send().await.unwrap()).await
    };
    let projects = format!("{}/projects", caller.site);
    let missing = call(projects.clone(), None).await;
    assert_eq!((missing.status, missing.code()), (401, Some("401000")));
    let unknown = call(projects, Some("not|a|token")).await;
    assert_eq!((unknown.status, unknown.code()), (401, Some("401002")));
    assert_eq!(call(format!("{}/api/latest/serverInfo", rig.url()), None).await.code(), Some("404001"));
    let other_site = format!("{}/api/3.21/sites/00000000-0000-0000-0000-000000000000/projects", rig.url());
    let answer = http.get(other_site).header("X-Tableau-Auth", &caller.token).send().await.unwrap();
    assert_eq!(Answer::of(answer).await.code(), Some("404000"));
    assert_eq!(caller.get("/nothing").await.code(), Some("404003"));
    assert_eq!(caller.post("/jobs/1", "").await.code(), Some("405000"));
    let out = http.post(format!("{}/api/3.21/auth/signout", rig.url())).header("X-Tableau-Auth", &caller.token);
    assert_eq!(out.send().await.unwrap().status().as_u16(), 204);
    assert_eq!(caller.get("/projects").await.code(), Some("401002"));
}

#[tokio::test]
async fn pages_and_filters_are_checked() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    for (query, code) in [
        ("pageNumber=0", "400006"),
        ("pageSize=0", "400007"),
        ("pageSize=1001", "400007"),
        ("filter=name:eq:North%2C%20South", "400065"),
        ("filter=color:eq:red", "400065"),
        ("filter=name:gt:a", "400065"),
    ] {
        let answer = caller.get(&format!("/projects?{query}")).await;
        assert_eq!((answer.status, answer.code()), (400, Some(code)), "{query}");
    }
    // Nothing is beyond the last page, and what nobody knows is ignored.
    let beyond = caller.get("/projects?pageNumber=9&createnew=true").await;
    assert!(beyond.status == 200 && beyond.attribute("totalAvailable") == Some("1") && !beyond.body.contains("<project "));
}

#[tokio::test]
async fn project_requests_are_checked() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    for (body, code) in [
        ("", "400000"),
        ("<tsRequest/>", "400000"),
        ("<tsRequest><project/></tsRequest>", "400000"),
        ("<tsRequest><project name='x' contentPermissions='Anyone'/></tsRequest>", "400000"),
        ("<tsRequest><project name='x' parentProjectId='nowhere'/></tsRequest>", "404005"),
        ("<tsRequest><project name='default'/></tsRequest>", "409006"),
    ] {
        assert_eq!(caller.post("/projects", body).await.code(), Some(code), "{body}");
    }
    let xml = "<?xml version='1.0'?><tsRequest xmlns='http://tableau.com/api'><project name='a, b: c/d'/></tsRequest>";
    let made = caller.post("/projects", xml).await;
    assert_eq!((made.status, made.attribute("name")), (201, Some("a, b: c/d")));
    let found = caller.get("/projects?filter=name:in:[default]").await;
    let id = found.body.split("<project id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let answer = caller.request(Method::DELETE, &format!("/projects/{id}")).send().await.unwrap();
    assert_eq!(Answer::of(answer).await.code(), Some("403004"), "the default project stays");
}

#[tokio::test]
async fn publish_requests_are_checked() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    for (query, code) in [
        ("&overwrite=maybe", "400008"),
        ("&overwrite=true&append=true", "400008"),
        ("&uploadSessionId=7720:170fe6b1c1c7422dadff20f944d58a52-1:0", "404015"),
    ] {
        assert_eq!(caller.publish(query, "x", b"x").await.code(), Some(code), "{query}");
    }
    let parts: [(&str, &[u8]); 1] = [("request_payload", b"<tsRequest><datasource name='x'/></tsRequest>")];
    let no_file = caller.parts(Method::POST, "/datasources?datasourceType=hyper", &parts).await;
    assert_eq!(no_file.code(), Some("400020"));
    let to_tdsx = caller.parts(Method::POST, "/datasources?datasourceType=tdsx&append=true", &parts).await;
    assert_eq!(to_tdsx.code(), Some("400054"));
    let unknown: [(&str, &[u8]); 2] = [
        ("request_payload", b"<tsRequest><datasource name='x'><connections/></datasource></tsRequest>"),
        ("tableau_datasource", b"x"),
    ];
    let answer = caller.parts(Method::POST, "/datasources?datasourceType=hyper", &unknown).await;
    assert!(answer.code() == Some("400000") && answer.body.contains("unexpected element connections"), "{answer:?}");
    let nowhere: [(&str, &[u8]); 2] = [
        ("request_payload", b"<tsRequest><datasource name='x'><project id='nowhere'/></datasource></tsRequest>"),
        ("tableau_datasource", b"x"),
    ];
    let answer = caller.parts(Method::POST, "/datasources?datasourceType=hyper", &nowhere).await;
    assert_eq!(answer.code(), Some("404005"));
    let raw =
        caller.request(Method::POST, "/datasources?datasourceType=hyper").header("Content-Type", "application/octet-stream");
    assert_eq!(Answer::of(raw.body("x").send().await.unwrap()).await.code(), Some("415000"));
    assert!(rig.datasources().await.is_empty());
}

#[tokio::test]
async fn files_and_blocks_over_64_mib_are_refused_with_an_answer() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let large = vec![7_u8; (64 << 20) + 1];
    let answer = caller.publish("", "large", &large).await;
    assert_eq!((answer.status, answer.code()), (413, Some("413000")));
    let id = upload(&caller).await;
    let block: [(&str, &[u8]); 2] = [("request_payload", b""), ("tableau_file", &large)];
    let answer = caller.parts(Method::PUT, &format!("/fileUploads/{id}"), &block).await;
    assert_eq!((answer.status, answer.code()), (413, Some("413000")));
    // Exactly the limit is fine, and nothing of the refused block is left in front of it.
    let block: [(&str, &[u8]); 2] = [("request_payload", b""), ("tableau_file", &large[1..])];
    let answer = caller.parts(Method::PUT, &format!("/fileUploads/{id}"), &block).await;
    assert_eq!((answer.status, answer.attribute("fileSize")), (200, Some("64")));
    // Refused before a byte is read, yet the answer arrives.
    let signed_out = Caller { token: "no|such|token".into(), client: caller.client.clone(), site: caller.site.clone() };
    assert_eq!(signed_out.publish("", "large", &large).await.code(), Some("401002"));
}

async fn upload(caller: &Caller) -> String {
    let answer = caller.post("/fileUploads", "").await;
    assert_eq!((answer.status, answer.attribute("fileSize")), (201, Some("0")));
    assert_eq!(answer.attribute("maxFileChunkCount"), Some("1000"));
    answer.attribute("uploadSessionId").unwrap().to_owned()
}

#[tokio::test]
async fn the_1001st_block_is_refused() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let path = format!("/fileUploads/{}", upload(&caller).await);
    let block: [(&str, &[u8]); 2] = [("request_payload", b""), ("tableau_file", b"x")];
    for number in 1..=1000 {
        assert_eq!(caller.parts(Method::PUT, &path, &block).await.status, 200, "block {number}");
    }
    assert_eq!(caller.parts(Method::PUT, &path, &block).await.code(), Some("400016"));
}

#[tokio::test]
async fn overlapping_appends_fail_and_a_broken_one_leaves_nothing() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let file = extract(rig.directory.path(), "small.hyper", &SMALL);
    let (head, tail) = file.split_at(file.len() / 2);
    let id = upload(&caller).await;
    let path = format!("/fileUploads/{id}");
    let append = |data: Vec<u8>| {
        let (caller, path) = (&caller, &path);
        async move { caller.parts(Method::PUT, path, &[("request_payload", b"".as_slice()), ("tableau_file", &data)]).await }
    };
    assert_eq!(append(head.to_vec()).await.status, 200);

    // A block that hangs in the middle of its body keeps the session busy, then its connection breaks.
    let whole = multipart(&[("tableau_file", b"these bytes must not survive")]);
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<bytes::Bytes, std::io::Error>>();
    sender.unbounded_send(Ok(bytes::Bytes::copy_from_slice(&whole[..whole.len() - 20]))).unwrap();
    let hanging = caller
        .request(Method::PUT, &path)
        .header("Content-Type", "multipart/mixed; boundary=BOUNDARY")
        .body(reqwest::Body::wrap_stream(receiver))
        .send();
    let hanging = tokio::spawn(hanging);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let overlapping = append(tail.to_vec()).await;
    assert_eq!(overlapping.status, 500);
    assert!(overlapping.body.contains("errors.upload.concurrent_write"), "{overlapping:?}");
    let commit = format!("&uploadSessionId={id}");
    assert_eq!(caller.publish(&commit, "x", b"").await.status, 500, "nor is it committed meanwhile");
    hanging.abort();
    let _ = hanging.await;
    drop(sender);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;

    assert_eq!(append(tail.to_vec()).await.status, 200);
    let answer = caller.publish(&commit, "whole", b"").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(rig.datasources().await[0]["bytes"], file.len());
    assert_eq!(caller.publish(&commit, "again", b"").await.code(), Some("404015"), "a committed session is gone");
    assert_eq!(append(tail.to_vec()).await.code(), Some("404015"));
}

#[tokio::test]
async fn malformed_blocks_are_refused() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let path = format!("/fileUploads/{}", upload(&caller).await);
    let raw = caller.request(Method::PUT, &path).header("Content-Type", "application/octet-stream").body("bytes");
    assert_eq!(Answer::of(raw.send().await.unwrap()).await.code(), Some("415000"));
    assert_eq!(caller.parts(Method::PUT, &path, &[("request_payload", b"")]).await.code(), Some("400020"));
    let cut = caller.request(Method::PUT, &path).header("Content-Type", "multipart/mixed; boundary=BOUNDARY");
    let cut = cut.body(multipart(&[("tableau_file", b"x")])[..60].to_vec());
    assert_eq!(Answer::of(cut.send().await.unwrap()).await.code(), Some("400016"));
    let commit = format!("&uploadSessionId={}", path.rsplit('/').next().unwrap());
    assert_eq!(caller.publish(&commit, "empty", b"").await.code(), Some("400011"), "nothing has arrived");
}
