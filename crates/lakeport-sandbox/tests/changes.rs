//! Data updates as the official client would not send them.

use reqwest::Method;

use crate::support::{Answer, Caller, Rig, SMALL, extract};

const DELETE_ALL: &str = r#"{"actions":[{"action":"delete","target-table":"Extract"}]}"#;

async fn patch(caller: &Caller, path: &str, request_id: Option<&str>, body: &str) -> Answer {
    let request = caller.request(Method::PATCH, path).header("Content-Type", "application/json").body(body.to_owned());
    let request = if let Some(id) = request_id { request.header("RequestID", id) } else { request };
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn data_updates_are_checked_and_an_id_counts_once_at_a_time() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let file = extract(rig.directory.path(), "small.hyper", &SMALL);
    let published = caller.publish("", "t", &file).await;
    let path = format!("/datasources/{}/data", published.attribute("id").unwrap());
    for (path, request_id, body, code) in [
        (path.as_str(), None, DELETE_ALL, "400000"),
        (path.as_str(), Some("a"), "no json", "400000"),
        ("/datasources/none/data", Some("b"), DELETE_ALL, "404004"),
        (
            &path.replace("/data", "/connections/none/data").replacen("/connections/none/datasources", "/datasources", 1),
            Some("c"),
            DELETE_ALL,
            "404000",
        ),
        (&format!("{path}?uploadSessionId=7720:00-1:0"), Some("d"), DELETE_ALL, "404015"),
    ] {
        let answer = patch(&caller, path, request_id, body).await;
        assert_eq!(answer.code(), Some(code), "{path} {answer:?}");
    }
    // Refused requests do not use up their id, and requests side by side with one id are one.
    let answers = futures::future::join_all((0..8).map(|_| patch(&caller, &path, Some("a"), DELETE_ALL))).await;
    let jobs: std::collections::HashSet<_> = answers.iter().map(|a| (a.status, a.attribute("id").unwrap())).collect();
    assert_eq!(jobs.len(), 1, "{answers:?}");
    let ended = caller.job(jobs.into_iter().next().unwrap().1).await;
    assert_eq!(ended.attribute("finishCode"), Some("0"), "{ended:?}");
    let state = rig.datasources().await;
    assert_eq!((&state[0]["changes"], &state[0]["tables"][0]["rows"]), (&1.into(), &0.into()));
    // Side by side with appends nothing is lost: each waits for its turn.
    let changes = futures::future::join_all((0..4).map(|n| {
        let (caller, path) = (&caller, &path);
        async move { patch(caller, path, Some(&format!("again {n}")), DELETE_ALL).await }
    }));
    let (changes, appended) = futures::future::join(changes, caller.publish("&append=true", "t", &file)).await;
    assert_eq!(appended.status, 201, "{appended:?}");
    for change in changes {
        assert_eq!(caller.job(change.attribute("id").unwrap()).await.attribute("finishCode"), Some("0"));
    }
    let directory = rig.directory.path().join("state/files").join(state[0]["id"].as_str().unwrap());
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 2, "one file per revision");
}
