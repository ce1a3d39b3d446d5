//! What is published is looked at, kept and shown.

use crate::support::{Answer, Caller, Rig, SMALL, extract};

#[tokio::test]
async fn only_extracts_with_a_table_are_published() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let empty = extract(rig.directory.path(), "empty.hyper", &["create schema \"Extract\""]);
    let whole = extract(rig.directory.path(), "whole.hyper", &SMALL);
    let (cut, text) = (whole[..whole.len() / 2].to_vec(), b"id,name\n1,x\n".to_vec());
    for (what, file) in [("no table", empty), ("cut", cut), ("text", text), ("nothing", Vec::new())] {
        let answer = caller.publish("", what, &file).await;
        assert_eq!((answer.status, answer.code()), (400, Some("400011")), "{what}: {answer:?}");
        let started = caller.publish("&asJob=true", what, &file).await;
        assert_eq!((started.status, started.attribute("finishCode")), (202, Some("1")), "{what}: {started:?}");
        let ended = caller.job(started.attribute("id").unwrap()).await;
        assert_eq!(ended.attribute("finishCode"), Some("1"), "{what}");
        assert!(ended.body.contains("<notes>There was a problem publishing the file"), "{ended:?}");
    }
    assert!(rig.datasources().await.is_empty());
}

#[tokio::test]
async fn several_tables_are_published_but_not_appended_to() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let one = extract(rig.directory.path(), "one.hyper", &SMALL);
    let more = [
        "create schema \"it's\"",
        "create table \"it's\".\"more \"\"rows\"\"\" (\"x\" double precision, \"of\" bigint)",
        "alter table \"Extract\".\"Extract\" add assumed primary key (\"id\")",
        "alter table \"it's\".\"more \"\"rows\"\"\" add assumed foreign key (\"of\") references \"Extract\".\"Extract\" (\"id\")",
    ];
    let two = extract(rig.directory.path(), "two.hyper", &[&SMALL[..], &more[..]].concat());
    let published = caller.publish("", "two", &two).await;
    assert_eq!(published.status, 201, "{published:?}");
    assert_eq!(rig.datasources().await[0]["tables"][1]["name"], "more \"rows\"");
    assert_eq!(caller.publish("&append=true", "two", &one).await.code(), Some("400011"));
    assert_eq!(caller.publish("&overwrite=true", "two", &one).await.status, 201);
    assert_eq!(caller.publish("&append=true", "two", &two).await.code(), Some("400011"));
    assert_eq!(caller.publish("&append=true", "two", &one).await.status, 201);
    assert_eq!(caller.publish("&append=true&asJob=true", "two", &one).await.status, 202);
}

#[tokio::test]
async fn several_tables_without_a_tree_of_keys_are_refused() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let tables = ["create table \"a\" (id bigint not null)", "create table \"b\" (a bigint)", "create table \"c\" (a bigint)"];
    let key = "alter table \"a\" add assumed primary key (id)";
    let [to_a, another] =
        ["b", "c"].map(|from| format!("alter table \"{from}\" add assumed foreign key (a) references \"a\" (id)"));
    for (what, tables, keys) in [
        ("no keys", &tables[..2], &[][..]),
        ("one left out", &tables[..], &[key, &to_a]),
        ("two tables of facts", &tables[..], &[key, &to_a, &another]),
    ] {
        let file = extract(rig.directory.path(), "several.hyper", &[tables, keys].concat());
        let answer = caller.publish("", what, &file).await;
        assert_eq!((answer.status, answer.code()), (400, Some("400011")), "{what}: {answer:?}");
        assert!(answer.body.contains("one tree of foreign keys"), "{what}: {answer:?}");
    }
    let tree = extract(rig.directory.path(), "tree.hyper", &[&tables[..2], &[key, &to_a]].concat());
    let answer = caller.publish("", "tree", &tree).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(rig.datasources().await.len(), 1);
}

#[tokio::test]
async fn rows_are_appended_by_name_and_only_when_the_columns_match() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let make = |columns: &str, row: &str| {
        let create = format!("create table \"Extract\".\"Extract\" ({columns})");
        let insert = format!("insert into \"Extract\".\"Extract\" values ({row})");
        extract(rig.directory.path(), "made.hyper", &["create schema \"Extract\"", &create, &insert])
    };
    assert_eq!(caller.publish("", "t", &make("a bigint not null, b text", "1, 'x'")).await.status, 201);
    assert_eq!(caller.publish("&append=true", "t", &make("b text, a bigint", "'y', 2")).await.status, 201);
    let before = rig.datasources().await;
    assert_eq!(before[0]["tables"][0]["rows"], 2);
    for (why, columns, row) in [
        ("another type", "a integer, b text", "3, 'z'"),
        ("a column less", "a bigint", "3"),
        ("a column more", "a bigint, b text, c text", "3, 'z', 'z'"),
        ("null in a column without", "a bigint, b text", "null, 'z'"),
    ] {
        assert_eq!(caller.publish("&append=true", "t", &make(columns, row)).await.code(), Some("400011"), "{why}");
    }
    assert_eq!(rig.datasources().await, before, "what was refused changed nothing");
}

#[tokio::test]
async fn a_restarted_sandbox_shows_what_was_published() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let file = extract(rig.directory.path(), "small.hyper", &SMALL);
    assert_eq!(caller.publish("", "kept", &file).await.status, 201);
    assert_eq!(caller.publish("&overwrite=true", "kept", &file).await.status, 201);
    let before = rig.datasources().await;
    let rig = rig.restart().await;
    assert_eq!(rig.datasources().await, before);
    let id = before[0]["id"].as_str().unwrap();
    let back = reqwest::get(format!("{}/sandbox/datasources/{id}/file", rig.url())).await.unwrap().bytes().await.unwrap();
    assert!(back == file, "every byte is kept, although hyperd looked at it");
    let state = rig.directory.path().join("state");
    let kept: Vec<_> = std::fs::read_dir(state.join("files").join(id)).unwrap().collect();
    assert_eq!(kept.len(), 2, "the overwritten revision is kept as such");
    assert_eq!(std::fs::read_dir(state.join("staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn side_by_side_publishes_to_one_name_happen_one_after_the_other() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let file = extract(rig.directory.path(), "small.hyper", &SMALL);
    assert_eq!(caller.publish("", "t", &file).await.status, 201);
    let answers = futures::future::join_all((0..8).map(|_| caller.publish("&append=true", "t", &file))).await;
    assert!(answers.iter().all(|a| a.status == 201), "{answers:?}");
    let state = rig.datasources().await;
    assert_eq!((&state[0]["tables"][0]["rows"], &state[0]["publishes"]), (&27.into(), &9.into()));
    let fresh = futures::future::join_all((0..4).map(|_| caller.publish("", "new", &file))).await;
    assert_eq!(fresh.iter().filter(|a| a.status == 201).count(), 1, "{fresh:?}");
    assert_eq!(fresh.iter().filter(|a| a.code() == Some("403007")).count(), 3, "{fresh:?}");
}

#[tokio::test]
async fn the_pages_show_projects_columns_and_rows() {
    let rig = Rig::start().await;
    let caller = Caller::sign_in(&rig).await;
    let every_type = [
        "create table \"t\" (a smallint, b integer, c bigint not null, d numeric(18,3), e double precision, f bool, g text, h date, \
         i time, j timestamp, k timestamptz, l bytes, m interval, n geography, \"<i>\" text)",
        "insert into \"t\" values (1, 2, 3, 4.5, 1.5, true, '<b>bold</b>', date '9999-12-31', time '23:59:59', \
         timestamp '2024-01-02 03:04:05.000006', timestamptz '2024-01-02 03:04:05+00', cast('abc' as bytes), interval '1 day', null, \
         repeat('long ', 100000))",
        "insert into \"t\" (c) select x from generate_series(1, 60) s(x)",
    ];
    let file = extract(rig.directory.path(), "types.hyper", &every_type);
    let answer = caller.publish("", "Every &lt;type&gt;", &file).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let page = Answer::of(reqwest::get(rig.url()).await.unwrap()).await;
    assert!(page.body.contains("Every &lt;type&gt;</a>") && page.body.contains("<td class=n>61"), "{}", page.body);
    let page = Answer::of(reqwest::get(answer.attribute("webpageUrl").unwrap()).await.unwrap()).await;
    for shown in [
        "&lt;b&gt;bold&lt;/b&gt;",
        "9999-12-31",
        "2024-01-02 03:04:05.000006",
        "3 bytes",
        "long …",
        "The first 50 of 61",
        "&lt;i&gt;",
        "numeric(18,3)",
    ] {
        assert!(page.body.contains(shown), "{shown} is missing in {}", page.body);
    }
    assert!(!page.body.contains("<b>bold") && !page.body.contains("cannot be shown"));
    let gone = Answer::of(reqwest::get(format!("{}/datasources/none", rig.url())).await.unwrap()).await;
    assert_eq!(gone.status, 404);
}
