//! The recorded answers of the official client's own tests, replayed to the real binary: what Lakeport makes of each.

use serde_json::{Value, json};

use crate::support::Desk;
use crate::wire::{Wire, run, toml};

/// The data source of `datasource_get_by_id.xml`, which `datasource_get.xml` lists as well.
const SAMPLE: &str = "9dbd2263-16b5-46e1-9c43-a76bb8ab65fb";
const SITE: &str = "6b7179ba-b82b-4f0f-91ed-812074ac5da6";
const TOKEN: &str = "eIX6mvFsqyansa4KqEI1UwOpS8ggRs2l";
const DEFAULT: &str = "ee8c6e70-43b6-11e6-af4f-f7b0d8e20760";

/// Publishes in blocks, and so as a job.
const BLOCKS: &str = "single_request_limit = \"1KiB\"\nchunk_size = \"16KiB\"";

fn route(method: &str, path: &str, answers: &[Value]) -> Value {
    json!({ "method": method, "path": path, "answers": answers })
}

fn asset(status: u16, name: &str) -> Value {
    json!({ "status": status, "asset": name })
}

/// A recording in which the data source was published when the recorded job ended: one that stays as it was proves that nothing
/// was published.
fn published(name: &str) -> Value {
    json!({ "asset": name, "replace": [["updatedAt=\"2016-08-04T21:31:55Z\"", "updatedAt=\"2020-05-13T20:25:18Z\""]] })
}

/// A server that answers with recordings: `first` before the usual ones.
fn start(desk: &Desk, first: &[Value]) -> Wire {
    let usual = [
        route("GET", "/serverInfo$", &[asset(200, "server_info_get.xml")]),
        route("POST", "/auth/signin$", &[asset(200, "auth_sign_in.xml")]),
        route("POST", "/auth/signout$", &[json!({ "status": 204 })]),
        route("GET", r"/projects\?", &[asset(200, "project_get.xml")]),
        route("GET", r"/datasources\?", &[asset(200, "datasource_get.xml"), published("datasource_get.xml")]),
        route("GET", &format!("/datasources/{SAMPLE}$"), &[published("datasource_get_by_id.xml")]),
        route("POST", "/fileUploads$", &[asset(201, "fileupload_initialize.xml")]),
        route("PUT", "/fileUploads/", &[asset(200, "fileupload_append.xml")]),
        route("POST", r"/datasources\?.*asJob=true", &[asset(202, "datasource_publish_async.xml")]),
        route("POST", r"/datasources\?", &[asset(201, "datasource_publish.xml")]),
        route("PATCH", "/data", &[asset(202, "datasource_data_update.xml")]),
        route(
            "GET",
            "/jobs/",
            &[
                asset(200, "job_get_by_id_inprogress.xml"),
                asset(200, "job_get_by_id_inprogress.xml"),
                asset(200, "job_get_by_id.xml"),
            ],
        ),
        route("GET", "/users/", &[asset(200, "user_get_by_id.xml")]),
        route("GET", r"/groups\?", &[asset(200, "group_get.xml")]),
        route("GET", "/permissions$", &[asset(200, "datasource_populate_permissions.xml")]),
        route("PUT", "/permissions$", &[asset(200, "datasource_populate_permissions.xml")]),
        route("GET", "/dataQualityWarnings/", &[asset(200, "dqw_by_content_type.xml")]),
        route("PUT", "/dataQualityWarnings/", &[asset(200, "dqw_by_content_type.xml")]),
    ];
    let scenario = desk.write("sandbox/scenario.json", Value::from([first, &usual[..]].concat()).to_string());
    Wire::start(desk, "replay", &["replay", scenario.to_str().unwrap(), "LOG"], &[])
}

/// A desk with a file to publish, and a server's keys.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("a.csv", "a\n1\n2\n3\n");
    desk.run(&["convert", "a.csv", "a.hyper"]).ok();
    desk
}

fn expected(wire: &Wire) {
    let strange: Vec<_> = wire.calls().into_iter().filter(|c| c["unexpected"] == true).map(|c| c["path"].clone()).collect();
    assert!(strange.is_empty(), "calls that no recording answers: {strange:?}");
}

#[test]
fn a_publish_in_blocks_waits_for_the_end_of_its_job() {
    let desk = desk();
    let wire = start(&desk, &[]);
    desk.write("lakeport.toml", toml(&wire.url, BLOCKS));
    let done = run(&desk, &["publish", "a.hyper", "tab:Sample datasource", "--json"]).ok().json();
    let receipt = &done["receipt"];
    assert_eq!((&receipt["id"], &receipt["place"]), (&json!(SAMPLE), &json!(DEFAULT)));
    // The answer to the publish carries the finish code of a failure; only `completedAt` ends the wait.
    assert_eq!(receipt["job"], "9a373058-af5f-4f83-8662-98b3e0228a73");
    assert_eq!(wire.of("GET", "/jobs/").len(), 3);
    // 10.1.0 speaks 3.10, and so does Lakeport.
    assert!(wire.calls().iter().skip(1).all(|c| c["path"].as_str().unwrap().starts_with("/api/3.10/")));
    let site = format!("/api/3.10/sites/{SITE}/");
    let signed_in = wire.of("GET", "/sites/").into_iter().chain(wire.of("POST", "/sites/"));
    assert!(signed_in.clone().count() > 3 && signed_in.into_iter().all(|c| c["path"].as_str().unwrap().starts_with(&site)));
    assert!(wire.of("GET", "/sites/").iter().all(|c| c["headers"]["x-tableau-auth"] == TOKEN));
    // The answer to an append names another upload session; that of the begin is the one to use.
    const UPLOAD: &str = "7720:170fe6b1c1c7422dadff20f944d58a52-1:0";
    assert!(wire.of("PUT", "/fileUploads/").len() > 1);
    assert!(wire.of("PUT", "/fileUploads/").iter().all(|c| c["path"].as_str().unwrap().ends_with(UPLOAD)));
    assert!(wire.of("POST", "/datasources")[0]["path"].as_str().unwrap().contains(&format!("uploadSessionId={UPLOAD}")));
    // Description and tags are as they were, so that nothing is restored.
    assert_eq!(receipt["notes"], json!([]));
    expected(&wire);
}

#[test]
fn a_publish_in_one_request_is_read_from_its_answer() {
    let desk = desk();
    let wire = start(&desk, &[route("GET", r"/datasources\?", &[asset(200, "datasource_get_empty.xml")])]);
    desk.write("lakeport.toml", toml(&wire.url, ""));
    let args = ["publish", "a.hyper", "tab:SampleDS", "--mode", "create", "--verify", "none", "--json"];
    let done = run(&desk, &args).ok().json();
    assert_eq!(done["receipt"]["id"], "e76a1461-3b1d-4588-bf1b-17551a879ad9");
    assert_eq!(done["receipt"]["way"], "single request");
    expected(&wire);
    // The name is taken, as the list tells: nothing is sent.
    let wire = start(&desk, &[]);
    desk.write("lakeport.toml", toml(&wire.url, ""));
    run(&desk, &args[..7]).fails(2, "E129");
    assert!(wire.of("POST", "/datasources").is_empty());
}

#[test]
fn jobs_end_as_they_were_recorded() {
    let desk = desk();
    let publish = |answers: &[Value], keys: &str| {
        let wire = start(&desk, &[route("GET", "/jobs/", answers)]);
        desk.write("lakeport.toml", toml(&wire.url, &format!("{BLOCKS}\n{keys}")));
        (run(&desk, &["publish", "a.hyper", "tab:Sample datasource"]), wire)
    };
    // Finish code 3 is that of a job on a Bridge which went well.
    publish(&[asset(200, "job_get_by_id_completed.xml")], "").0.ok();
    publish(&[asset(200, "job_get_by_id_failed.xml")], "").0.fails(6, "E207").says("left no notes");
    publish(&[asset(200, "job_get_by_id_failed_workbook.xml")], "").0.fails(6, "E207").says("Login failed for user");
    // There is no recording of a cancelled job: one that ended, with the code of it.
    let cancelled = json!({ "asset": "job_get_by_id.xml", "replace": [["finishCode=\"0\"", "finishCode=\"2\""]] });
    publish(&[cancelled], "").0.fails(5, "E153").says("cancelled").says("Job detail notes");
    let (done, wire) = publish(&[asset(200, "job_get_by_id_inprogress.xml")], "job_timeout = 1");
    done.fails(5, "E154").says("9a373058-af5f-4f83-8662-98b3e0228a73").says("check");
    expected(&wire);
    // And is picked up later.
    let wire = start(&desk, &[route("GET", "/jobs/", &[asset(200, "job_get_by_id.xml")])]);
    desk.write("lakeport.toml", toml(&wire.url, ""));
    run(&desk, &["check", "tab", "--job", "9a373058-af5f-4f83-8662-98b3e0228a73"]).ok().says("succeeded");
}

#[test]
fn errors_are_told_as_they_were_recorded() {
    let desk = desk();
    let publish = |first: &[Value], keys: &str| {
        let wire = start(&desk, first);
        desk.write("lakeport.toml", toml(&wire.url, keys));
        let done = run(&desk, &["publish", "a.hyper", "tab:Sample datasource"]);
        (done, wire)
    };
    let (done, wire) = publish(&[route("POST", "/auth/signin$", &[asset(401, "auth_sign_in_error.xml")])], "");
    done.fails(4, "E140").says("Error signing in to Tableau Server").says("Signin Error");
    assert_eq!(wire.of("POST", "/auth/signin").len(), 1, "a refused sign-in is not repeated");
    let missing = route("GET", "/serverInfo$", &[asset(404, "server_info_404.xml")]);
    let (done, wire) = publish(std::slice::from_ref(&missing), "");
    done.fails(2, "E127").says("api_version");
    assert!(wire.of("POST", "").is_empty(), "no secret goes to what does not tell its version");
    publish(&[missing], &format!("{BLOCKS}\napi_version = \"3.10\"")).0.ok();
    publish(&[route("GET", "/serverInfo$", &[asset(200, "server_info_25.xml")])], "").0.fails(2, "E127").says("2.5");
    // Another XML than the API's, with a success.
    let (done, _) = publish(&[route("GET", "/serverInfo$", &[asset(200, "server_info_auth_info.xml")])], "retry_budget = 1");
    done.fails(5, "E153").says("instead of Tableau's API");
    let queued = route("POST", r"/datasources\?", &[asset(409, "datasource_refresh_duplicate.xml")]);
    publish(&[queued], "").0.fails(5, "E153").says("already queued");
}

#[test]
fn projects_are_found_by_their_path() {
    let desk = desk();
    let named =
        |name: &str, asset_name: &str| route("GET", &format!(r"/projects\?.*filter=name:eq:{name}$"), &[asset(200, asset_name)]);
    let tree = [
        named("Tableau", "project_get_by_name_top_level.xml"),
        named("Tableau%20%3E%20Child%201", "project_get.xml"),
        named("Q1", "project_get_by_name_grandchild.xml"),
        named("Shared", "project_get_by_name_ambiguous_root.xml"),
        named("Reports", "project_get_by_name_duplicate_siblings.xml"),
        named("Test%20Project", "project_get_empty.xml"),
        // Children, when a name was not found: none, and a page that says there is more, with the next.
        route(
            "GET",
            r"/projects\?.*pageNumber=1&filter=parentProjectId",
            &[json!({ "asset": "project_get.xml", "replace": [["totalAvailable=\"3\"", "totalAvailable=\"4\""]] })],
        ),
        route("GET", r"/projects\?.*pageNumber=2", &[asset(200, "project_get_by_name_grandchild.xml")]),
        route("POST", "/projects$", &[asset(201, "project_create.xml")]),
    ];
    let publish = |project: &str, keys: &str| {
        let wire = start(&desk, &tree);
        desk.write("lakeport.toml", toml(&wire.url, &format!("project = \"{project}\"\n{keys}")));
        let args = ["publish", "a.hyper", "tab:New", "--mode", "create", "--verify", "none"];
        (run(&desk, &args), wire)
    };
    let sent = |wire: &Wire| {
        let body = wire.of("POST", "/datasources")[0]["body"].as_str().unwrap().to_owned();
        let decoded = desk.python(&format!("import base64;print(base64.b64decode('{body}')[:600].decode('latin-1'))"));
        decoded.split_once("<project id=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
    };
    let (done, wire) = publish("Tableau/Tableau > Child 1/Q1", "");
    done.ok();
    assert_eq!(sent(&wire), "eeeeeeee-0000-0000-0000-000000000001");
    // The one at the root, and not the one of the same name elsewhere.
    let (done, wire) = publish("Shared", "");
    done.ok();
    assert_eq!(sent(&wire), "bbbbbbbb-0000-0000-0000-000000000002");
    // Two of one name in one place: nobody can tell which is meant.
    let (done, wire) = publish("Tableau/Reports", "");
    done.fails(2, "E128")
        .says("cccccccc-0000-0000-0000-000000000001")
        .says("dddddddd-0000-0000-0000-000000000002")
        .says("project-id:");
    assert!(wire.of("POST", "/datasources").is_empty());
    // Missing: all pages are read before that is said.
    let (done, wire) = publish("Tableau/Test Project", "");
    done.fails(2, "E128").says("Test Project");
    assert_eq!(wire.of("GET", "pageNumber=2").len(), 1);
    let (done, wire) = publish("Tableau/Test Project", "create_project = true");
    done.ok();
    assert_eq!(sent(&wire), "ccbea03f-77c4-4209-8774-f67bc59c3cef");
}

#[test]
fn a_change_in_place_is_sent_and_its_job_awaited() {
    let desk = desk();
    let wire = start(&desk, &[]);
    desk.write("lakeport.toml", toml(&wire.url, ""));
    let args = ["publish", "a.hyper", "tab:Sample datasource", "--action", "upsert", "--key", "a", "--json"];
    let done = run(&desk, &args).ok().json();
    assert_eq!(done["receipt"]["id"], SAMPLE);
    assert_eq!(done["receipt"]["job"], "5c0ba560-c959-424e-b08a-f32ef0bfb737");
    assert_eq!(wire.of("GET", "/jobs/5c0ba560").len(), 3);
    let change = wire.of("PATCH", &format!("/datasources/{SAMPLE}/data?uploadSessionId=7720:")).remove(0);
    let id = change["headers"]["requestid"].clone();
    assert_eq!(id.as_str().unwrap().len(), 36);
    expected(&wire);
    // Again: the same id, so that a server which has seen it does nothing.
    let wire = start(&desk, &[route("GET", "/jobs/", &[asset(200, "job_get_by_id_failed.xml")])]);
    desk.write("lakeport.toml", toml(&wire.url, ""));
    run(&desk, &args[..7]).fails(6, "E207").says("--mode full");
    assert_eq!(wire.of("PATCH", "/data")[0]["headers"]["requestid"], id);
}

#[test]
fn what_is_there_is_listed_and_what_is_declared_is_compared() {
    let desk = desk();
    let wire = start(&desk, &[]);
    desk.write("lakeport.toml", toml(&wire.url, ""));
    run(&desk, &["ls", "tab"]).ok().says("Tableau").says("Sample datasource").says("SampleDS");
    run(&desk, &["check", "tab"]).ok().says("alice").says("Publisher").says("10.1.0").says("3.10");
    let job =
        |more: &str| format!("{}[job.j]\nfrom = \"a.csv\"\nto = \"tab:Sample datasource\"\n{more}", toml(&wire.url, BLOCKS));
    // The warning there is the one that is wanted, so that nothing is sent.
    desk.write("lakeport.toml", job("[job.j.warning]\ntype = \"warning\"\nmessage = \"Hello, World!\"\nsevere = true\n"));
    run(&desk, &["run", "j"]).ok();
    assert!(wire.of("PUT", "/dataQualityWarnings").is_empty() && wire.of("POST", "/dataQualityWarnings").is_empty());
    desk.write("lakeport.toml", job("[job.j.warning]\ntype = \"warning\"\nmessage = \"Another\"\n"));
    run(&desk, &["run", "j"]).fails(7, "E301");
    assert_eq!(wire.of("PUT", "/dataQualityWarnings").len(), 1);
    // A right that the answer does not show was not taken.
    desk.write("lakeport.toml", job("[job.j.permissions.\"group:TableauExample\"]\nallow = [\"Read\"]\n"));
    run(&desk, &["run", "j"]).fails(7, "E301").says("locked project");
    desk.write("lakeport.toml", job("[job.j.permissions.\"group:Nobody\"]\nallow = [\"Read\"]\n"));
    run(&desk, &["run", "j"]).fails(2, "E128").says("Nobody");
    expected(&wire);
}
