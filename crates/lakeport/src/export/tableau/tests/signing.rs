//! Signing in: each kind of credentials, who shares a session, and who waits for whom.

use super::*;

pub(super) fn app() -> Auth {
    Auth::ConnectedApp {
        client_id: "client".into(),
        secret_id: "id".into(),
        secret: Secret::new("APP-SECRET-MARK"),
        user: "anna".into(),
        scopes: Vec::new(),
    }
}

fn text(seen: &Seen) -> String {
    String::from_utf8(seen.body.clone()).unwrap()
}

#[tokio::test]
async fn a_user_signs_in_with_a_password() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let auth = Auth::Password { user: "ACME\\anna".into(), password: Secret::new("pass\"word") };
    target(&stub, |env| env.auth = auth.clone()).check().await.unwrap();
    assert_eq!(
        text(&stub.all("signin")[0]),
        r#"<tsRequest><credentials name="ACME\anna" password="pass&quot;word"><site contentUrl="" /></credentials></tsRequest>"#
    );
    let stub = Stub::start(at("signin", 0, error(401_001))).await;
    let error = target(&stub, |env| env.auth = auth).check().await.unwrap_err();
    assert_eq!((error.kind(), error.context_value("user")), (Kind::SignIn, Some("ACME\\anna")));
    assert!(error.help_line().contains("second factor"), "{}", error.help_line());
}

#[tokio::test]
async fn a_connected_app_signs_each_sign_in_anew() {
    let stub = Stub::start(|seen, earlier| match (seen.label, earlier) {
        ("signin", 0) => Reply::LoseAnswer,
        ("find", 0) => error(401_002),
        _ => Reply::Normal,
    })
    .await;
    let tableau = target(&stub, |env| env.auth = app());
    publish(&tableau, &file(10), Mode::Full).await.unwrap();
    let words: HashSet<String> = stub
        .all("signin")
        .iter()
        .map(|seen| text(seen).split_once(" jwt=\"").unwrap().1.split_once('"').unwrap().0.to_owned())
        .collect();
    assert_eq!((stub.count("signin"), words.len()), (3, 3), "no word is used twice");

    // The page of an impostor that echoes the word shows it to nobody.
    let stub = Stub::start(|seen, _| if seen.label == "signin" { say(400, "APP-SECRET-MARK") } else { Reply::Normal }).await;
    let error = target(&stub, |env| env.auth = app()).check().await.unwrap_err();
    assert!(!format!("{error:?}").contains("APP-SECRET-MARK"));

    let old = say(200, "<tsResponse><serverInfo><restApiVersion>3.16</restApiVersion></serverInfo></tsResponse>");
    let stub = Stub::start(at("info", 0, old)).await;
    let error = target(&stub, |env| env.auth = app()).check().await.unwrap_err();
    assert_eq!((error.kind(), stub.count("signin")), (Kind::Unsupported, 0));
}

#[tokio::test]
async fn a_connected_app_without_the_right_to_jobs_looks_at_the_data_source() {
    let old = "<tsResponse><serverInfo><restApiVersion>3.20</restApiVersion></serverInfo></tsResponse>";
    let stub = Stub::start(at("info", 0, say(200, old))).await;
    let tableau = target(&stub, |env| {
        chunked(env);
        env.auth = app();
    });
    for mode in [Mode::Create, Mode::Full, Mode::Append] {
        publish(&tableau, &file(10), mode).await.unwrap();
    }
    assert_eq!((stub.count("job"), stub.count("publish")), (0, 3));

    // From 3.25 on it may ask, unless the app lacks the scope.
    let stub = Stub::start(|seen, _| if seen.label == "job" { error(401_002) } else { Reply::Normal }).await;
    let tableau = target(&stub, |env| {
        chunked(env);
        env.auth = app();
    });
    let receipt = publish(&tableau, &file(10), Mode::Full).await.unwrap();
    assert_eq!(stub.count("publish"), 1);
    assert!(receipt.retries.iter().any(|r| r.contains("may not see it")), "{:?}", receipt.retries);
}

#[tokio::test]
async fn targets_with_one_token_share_a_session_and_the_last_one_ends_it() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let (one, two) = (target(&stub, |_| {}), target(&stub, |env| env.project = Some("Finance".into())));
    one.check().await.unwrap();
    two.check().await.unwrap();
    assert_eq!(stub.count("signin"), 1);
    one.close().await;
    assert_eq!(stub.count("signout"), 0);
    publish(&two, &file(10), Mode::Full).await.unwrap();
    two.close().await;
    assert_eq!((stub.count("signin"), stub.count("signout")), (1, 1));
    one.check().await.unwrap();
    assert_eq!(stub.count("signin"), 2);
}

#[tokio::test]
async fn a_session_is_shared_however_each_target_reaches_the_server() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let one = target(&stub, |_| {});
    let patient = target(&stub, |env| env.network.timeout = Some(Duration::from_secs(77)));
    let old = target(&stub, |env| env.api_version = Some("3.20".into()));
    let proxied = target(&stub, |env| env.network.proxy = Some(Proxy { url: stub.url.clone(), credentials: None }));
    for target in [&one, &patient, &old, &proxied] {
        target.check().await.unwrap();
    }
    assert_eq!(stub.count("signin"), 1);
    // Each speaks its own version all the same.
    let versions: Vec<String> =
        stub.all("user").iter().map(|seen| seen.target.split('/').skip_while(|w| *w != "api").nth(1).unwrap().into()).collect();
    assert_eq!(versions, ["3.29", "3.29", "3.20", "3.29"]);
    // One that never said goodbye holds the session for nobody.
    drop(patient);
    for target in [&one, &old] {
        target.close().await;
        assert_eq!(stub.count("signout"), 0);
    }
    proxied.close().await;
    assert_eq!((stub.count("signin"), stub.count("signout")), (1, 1));

    // What a connected app may do goes with its session.
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let (all, few) = (app(), app());
    let few = match few {
        Auth::ConnectedApp { client_id, secret_id, secret, user, .. } => {
            Auth::ConnectedApp { client_id, secret_id, secret, user, scopes: vec!["tableau:content:read".into()] }
        }
        other => other,
    };
    let (all, few) = (target(&stub, |env| env.auth = all), target(&stub, |env| env.auth = few));
    all.check().await.unwrap();
    few.check().await.unwrap();
    assert_eq!(stub.count("signin"), 2);
}

#[tokio::test]
async fn one_token_on_two_sites_is_refused_and_passwords_are_not() {
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let (one, two) = (target(&stub, |_| {}), target(&stub, |env| env.site = "other".into()));
    one.check().await.unwrap();
    // No wait would end it: both are of one run.
    let error = two.check().await.unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (Kind::ConfigInvalid, 2));
    assert!(error.message().contains("another site") && error.help_line().contains("its own token"), "{error:?}");
    one.close().await;
    two.check().await.unwrap();

    let auth = Auth::Password { user: "anna".into(), password: Secret::new("x") };
    let one = target(&stub, |env| env.auth = auth.clone());
    let two = target(&stub, |env| (env.auth, env.site) = (auth, "other".into()));
    one.check().await.unwrap();
    two.check().await.unwrap();
}

#[tokio::test]
async fn a_proxy_is_used_and_its_password_shown_to_nobody() {
    // The stub is the proxy: a request to another host reaches it with the whole address as its target.
    let stub = Stub::start(|_, _| Reply::Normal).await;
    let tableau = target(&stub, |env| {
        env.network.proxy =
            Some(Proxy { url: stub.url.clone(), credentials: Some(("u".into(), Secret::new("PROXY-SECRET-MARK"))) });
        env.url = "http://tableau.acme.test".into();
    });
    let shown = format!("{tableau:?}");
    tableau.check().await.unwrap();
    let seen = &stub.all("info")[0];
    assert!(seen.target.starts_with("http://tableau.acme.test/api/"), "{}", seen.target);
    assert!(seen.header("proxy-authorization").is_some_and(|h| h.starts_with("Basic ")));
    assert!(!shown.contains("PROXY-SECRET-MARK"));
    let with_user = Proxy { url: "http://u:PROXY-SECRET-MARK@p:1".into(), credentials: None };
    let mut wrong = env("http://t");
    wrong.network.proxy = Some(with_user);
    let error = Tableau::new(wrong, &Limits::default()).unwrap_err();
    assert!(error.message().contains("proxy_user") && !format!("{error:?}").contains("MARK"), "{error:?}");
}

#[tokio::test]
async fn a_client_certificate_is_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.pem");
    for (content, expected) in [(None, "cannot read the client certificate"), (Some("no PEM"), "is no client certificate")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let mut env = env("http://t");
        env.network.client_certificate = Some(path.clone());
        let error = Tableau::new(env, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        assert!(error.message().contains(expected), "{error:?}");
    }
}

#[tokio::test]
async fn a_silent_server_is_left_after_the_time_that_is_set() {
    let stub = Stub::start(at("info", 0, Reply::Hang)).await;
    let tableau = target(&stub, |env| env.network.read_timeout = Some(Duration::from_millis(300)));
    let begun = Instant::now();
    tableau.check().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3));
}
