"""Drives a sandbox with the official client: official_client.py URL CASE."""

import base64
import hashlib
import hmac
import json
import os
import random
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

# Read by the client when it is used; set before any case.
CHUNKED = {"TSC_FILESIZE_LIMIT_MB": "1", "TSC_CHUNK_SIZE_MB": "1"}

import tableauserverclient as TSC
from tableauserverclient.server.endpoint.exceptions import FailedSignInError, JobFailedException
from tableauhyperapi import (
    Connection, CreateMode, HyperProcess, Inserter, NOT_NULLABLE, SqlType, TableDefinition, TableName, Telemetry,
)


def extract(path: str, rows: int, text_length: int = 8) -> Path:
    """Writes an extract whose texts do not compress."""
    source = random.Random(rows)
    table = TableDefinition(TableName("Extract", "Extract"), [
        TableDefinition.Column("id", SqlType.big_int(), NOT_NULLABLE),
        TableDefinition.Column("text", SqlType.text()),
        TableDefinition.Column("amount", SqlType.numeric(18, 2)),
    ])
    parameters = {"log_config": ""}
    with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters=parameters) as hyper:
        with Connection(hyper.endpoint, path, CreateMode.CREATE_AND_REPLACE) as connection:
            connection.catalog.create_schema("Extract")
            connection.catalog.create_table(table)
            with Inserter(connection, table) as inserter:
                for i in range(rows):
                    text = None if i % 10 == 0 else source.randbytes(text_length // 2).hex()
                    inserter.add_row([i, text, i])
                inserter.execute()
    return Path(path)


def sha256(path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def published(url: str) -> list:
    """What the sandbox itself says."""
    with urllib.request.urlopen(f"{url}/sandbox/datasources") as answer:
        return json.load(answer)["datasources"]


def refused(code: str, call, *args, **kwargs) -> None:
    try:
        call(*args, **kwargs)
    except (TSC.ServerResponseError, FailedSignInError) as error:
        assert error.code == code, f"expected {code}, got {error}"
    else:
        raise AssertionError(f"expected {code}, got no error")


def signed_in(url: str) -> TSC.Server:
    server = TSC.Server(url, use_server_version=False)
    server.auth.sign_in(TSC.PersonalAccessTokenAuth("demo", "demo", ""))
    server.use_server_version()
    return server


def item(server: TSC.Server, name: str, project: str = "default") -> TSC.DatasourceItem:
    found = [p for p in TSC.Pager(server.projects) if p.name == project]
    return TSC.DatasourceItem(found[0].id, name=name)


def sign_in(url: str) -> None:
    server = TSC.Server(url, use_server_version=False)
    refused("401001", server.auth.sign_in, TSC.PersonalAccessTokenAuth("demo", "wrong", ""))
    refused("401001", server.auth.sign_in, TSC.PersonalAccessTokenAuth("demo", "demo", "no-such-site"))
    for version in ["2.4", "3.6", "3.29"]:
        server.version = version
        server.auth.sign_in(TSC.PersonalAccessTokenAuth("demo", "demo", ""))
        assert server.is_signed_in()
        token, site = server.auth_token, server.site_id
        assert "|" in token
        server.projects.get()
        server.auth.sign_out()
        # The token of an ended session is worth nothing.
        server._set_auth(site, "user", token, "")
        refused("401002", server.projects.get)
    # The usual way: sign-in at 2.4, and only then the question which version the server speaks.
    server = TSC.Server(url, use_server_version=True)
    server.auth.sign_in(TSC.PersonalAccessTokenAuth("demo", "demo", ""))
    assert (server.version, server.server_info.get().rest_api_version) == ("3.29", "3.29")
    assert server.sites.get_by_id(server.site_id).content_url == ""


def projects(url: str) -> None:
    server = signed_in(url)
    top = server.projects.create(TSC.ProjectItem("Finance", description="two\nlines & <more>"))
    assert top.description == "two\nlines & <more>"
    for i in range(249):
        server.projects.create(TSC.ProjectItem(f"project {i:03}", parent_id=top.id))
    refused("409006", server.projects.create, TSC.ProjectItem("project 007", parent_id=top.id))
    # The same name under another parent is another project.
    other = server.projects.create(TSC.ProjectItem("project 007"))
    everything = list(TSC.Pager(server.projects))
    assert len(everything) == 252, len(everything)
    assert len({p.id for p in everything}) == 252
    assert len(list(TSC.Pager(server.projects, TSC.RequestOptions(pagesize=7)))) == 252

    def found(*filters: TSC.Filter) -> list:
        options = TSC.RequestOptions()
        options.filter.update(filters)
        return sorted(p.id for p in TSC.Pager(server.projects, options))

    field, operator = TSC.RequestOptions.Field, TSC.RequestOptions.Operator
    under = [p.id for p in everything if p.parent_id == top.id and p.name == "project 007"]
    assert found(TSC.Filter(field.Name, operator.Equals, "project 007")) == sorted([*under, other.id])
    in_top = TSC.Filter(field.ParentProjectId, operator.Equals, top.id)
    assert found(TSC.Filter(field.Name, operator.Equals, "project 007"), in_top) == under
    assert len(found(TSC.Filter(field.Name, operator.In, ["project 001", "project 002"]))) == 2
    assert len(found(TSC.Filter(field.TopLevelProject, operator.Equals, "true"))) == 3
    server.projects.delete(top.id)
    assert len(list(TSC.Pager(server.projects))) == 2


def publish_modes(url: str) -> None:
    server = signed_in(url)
    first, second = extract("first.hyper", 100), extract("second.hyper", 250)
    new = server.datasources.publish(item(server, "Orders, all: & more"), first, TSC.Server.PublishMode.CreateNew)
    assert new.name == "Orders, all: & more" and new.project_name == "default"
    assert new.webpage_url.endswith(f"/datasources/{new.id}")
    refused("403007", server.datasources.publish, item(server, "Orders, all: & more"), second,
            TSC.Server.PublishMode.CreateNew)
    state = published(url)[0]
    assert state["sha256"] == sha256(first) and state["tables"][0]["rows"] == 100 and state["publishes"] == 1
    described = item(server, "Orders, all: & more")
    described.description = "second"
    again = server.datasources.publish(described, second, TSC.Server.PublishMode.Overwrite)
    assert again.id == new.id and again.created_at == new.created_at
    state = published(url)[0]
    assert state["sha256"] == sha256(second) and state["tables"][0]["rows"] == 250 and state["publishes"] == 2
    assert server.datasources.get_by_id(new.id).description == "second"
    columns = [(c["name"], c["type"], c["nullable"]) for c in state["tables"][0]["columns"]]
    assert columns == [("id", "bigint", False), ("text", "text", True), ("amount", "numeric(18,2)", True)]
    # What is no extract changes nothing.
    Path("broken.hyper").write_bytes(second.read_bytes()[:-100_000])
    refused("400011", server.datasources.publish, described, "broken.hyper", TSC.Server.PublishMode.Overwrite)
    assert published(url) == [state]


def append(url: str) -> None:
    server = signed_in(url)
    file = extract("rows.hyper", 1000)
    refused("404004", server.datasources.publish, item(server, "Rows"), file, TSC.Server.PublishMode.Append)
    new = server.datasources.publish(item(server, "Rows"), file, TSC.Server.PublishMode.Overwrite)
    more = server.datasources.publish(item(server, "Rows"), file, TSC.Server.PublishMode.Append)
    assert more.id == new.id
    assert published(url)[0]["tables"][0]["rows"] == 2000
    # Counted by the official reader too, not only by the sandbox.
    path = server.datasources.download(new.id, filepath="appended.hyper")
    with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as hyper:
        with Connection(hyper.endpoint, path) as connection:
            sql = 'select count(*), count("text"), count(distinct "id"), sum("amount") from "Extract"."Extract"'
            assert [int(v) for v in connection.execute_list_query(sql)[0]] == [2000, 1800, 1000, 999_000]


def chunked(url: str) -> None:
    server = signed_in(url)
    file = extract("large.hyper", 3000, 900)
    size = file.stat().st_size
    assert 2 * 1024**2 < size <= 3 * 1024**2, size
    os.environ.update(CHUNKED)
    new = server.datasources.publish(item(server, "Large"), file, TSC.Server.PublishMode.CreateNew)
    state = published(url)[0]
    assert (state["id"], state["bytes"], state["sha256"]) == (new.id, size, sha256(file))


def as_job(url: str) -> None:
    server = signed_in(url)
    small, large = extract("small.hyper", 10), extract("large.hyper", 3000, 900)
    job = server.datasources.publish(item(server, "Small"), small, TSC.Server.PublishMode.CreateNew, as_job=True)
    # The trap: a job that has just been announced looks failed.
    assert job.finish_code == 1 and job.completed_at is None and job.mode == "Asynchronous"
    done = server.jobs.wait_for_job(job, timeout=60)
    assert done.finish_code == 0 and done.progress == "100" and done.started_at and done.completed_at
    os.environ.update(CHUNKED)
    job = server.datasources.publish(item(server, "Large"), large, TSC.Server.PublishMode.Overwrite, as_job=True)
    server.jobs.wait_for_job(job, timeout=60)
    assert {d["name"]: d["sha256"] for d in published(url)} == {"Small": sha256(small), "Large": sha256(large)}
    Path("broken.hyper").write_bytes(b"no extract at all")
    job = server.datasources.publish(item(server, "Broken"), "broken.hyper", TSC.Server.PublishMode.Overwrite, as_job=True)
    try:
        server.jobs.wait_for_job(job, timeout=60)
    except JobFailedException as error:
        assert "problem publishing" in error.notes[0], error.notes
    else:
        raise AssertionError("the broken file was published")
    assert len(published(url)) == 2


def download_and_delete(url: str) -> None:
    server = signed_in(url)
    project = server.projects.create(TSC.ProjectItem("Daily"))
    file = extract("file.hyper", 500)
    new = server.datasources.publish(item(server, "Täglich", "Daily"), file, TSC.Server.PublishMode.CreateNew)
    assert new.project_id == project.id
    options = TSC.RequestOptions()
    options.filter.add(TSC.Filter(TSC.RequestOptions.Field.Name, TSC.RequestOptions.Operator.Equals, "Täglich"))
    listed = list(TSC.Pager(server.datasources, options))
    assert [d.id for d in listed] == [new.id] and listed[0].project_id == project.id
    assert sha256(server.datasources.download(new.id, filepath="back.hyper")) == sha256(file)
    assert published(url)[0]["project"] == ["Daily"]
    server.datasources.delete(new.id)
    refused("404004", server.datasources.get_by_id, new.id)
    assert list(TSC.Pager(server.datasources)) == []


def packaged(url: str) -> None:
    """A package holds a description and the very bytes of the extract."""
    server = signed_in(url)
    file = extract("file.hyper", 500)
    new = server.datasources.publish(item(server, "Ganz, neu"), file, TSC.Server.PublishMode.CreateNew)
    package = Path(server.datasources.download(new.id))
    assert package.suffix == ".tdsx", package
    with zipfile.ZipFile(package) as opened:
        assert opened.testzip() is None
        (description,) = [name for name in opened.namelist() if name.endswith(".tds")]
        (inside,) = [name for name in opened.namelist() if name.endswith(".hyper")]
        assert inside.startswith("Data/Extracts/") and inside in opened.read(description).decode()
        opened.extract(inside)
    assert sha256(inside) == sha256(file)


def jwt(secret: str = "demo", lifetime: int = 300, **changed) -> str:
    """A JWT as a connected app signs it."""
    def encoded(value) -> str:
        return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=").decode()
    claims = {"iss": "demo", "exp": int(time.time()) + lifetime, "jti": str(random.random()), "aud": "tableau", "sub": "demo",
              "scp": ["tableau:content:read"], **changed}
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'demo', 'iss': 'demo'})}.{encoded(claims)}"
    return f"{signed}.{encoded(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def admin(url: str, method: str, path: str, body: str = "") -> None:
    urllib.request.urlopen(urllib.request.Request(f"{url}/sandbox/{path}", body.encode(), method=method)).close()


def sign_ins(url: str) -> None:
    first, second = signed_in(url), signed_in(url)
    # The same token once more, which ended the first session.
    refused("401002", first.projects.get)
    second.projects.get()
    # On the other site as well.
    elsewhere = TSC.Server(url, use_server_version=True)
    elsewhere.auth.sign_in(TSC.PersonalAccessTokenAuth("demo", "demo", "finance"))
    refused("401002", second.projects.get)
    assert [p.name for p in elsewhere.projects.get()[0]] == ["default"]
    # Users are many at a time.
    password = TSC.Server(url, use_server_version=True)
    refused("401001", password.auth.sign_in, TSC.TableauAuth("demo", "wrong"))
    password.auth.sign_in(TSC.TableauAuth("demo", "demo"))
    here = password.site_id
    elsewhere.projects.get()
    sites = {s.content_url: s for s in password.sites.get()[0]}
    assert set(sites) == {"", "finance"}
    token = password.auth_token
    password.projects.create(TSC.ProjectItem("only here"))
    password.auth.switch_site(sites["finance"])
    assert password.site_id == sites["finance"].id != here and password.auth_token != token
    assert [p.name for p in password.projects.get()[0]] == ["default"]
    password.auth.switch_site(sites["finance"])
    # A JWT is good for one sign-in, and for what its scopes allow.
    app = TSC.Server(url, use_server_version=True)
    once = jwt()
    app.auth.sign_in(TSC.JWTAuth(once))
    app.projects.get()
    refused("401002", app.projects.create, TSC.ProjectItem("no scope"))
    for wrong in [once, jwt(secret="other"), jwt(aud="other"), jwt(sub="nobody"), jwt(iss="other"), jwt(scp=[]),
                  jwt(lifetime=-1), jwt(lifetime=4000), "a.b.c"]:
        refused("401001", TSC.Server(url, use_server_version=True).auth.sign_in, TSC.JWTAuth(wrong))
    app.auth.sign_in(TSC.JWTAuth(jwt(scp=["tableau:projects:*", "tableau:jobs:read"])))
    app.projects.create(TSC.ProjectItem("with scope"))
    app.jobs.get()
    app.version = "3.24"
    refused("401002", app.jobs.get)
    admin(url, "POST", "expire")
    refused("401002", password.projects.get)


def describe(url: str) -> None:
    server = signed_in(url)
    file = extract("file.hyper", 10)
    new = server.datasources.publish(item(server, "Plain"), file, TSC.Server.PublishMode.CreateNew)
    daily = server.projects.create(TSC.ProjectItem("Daily"))
    user = next(u for u in server.users.get()[0] if u.name == "demo")
    new.description, new.certified, new.certification_note = "what it is", True, "by \u00e9"
    new.project_id, new.owner_id, new.name = daily.id, user.id, "Renamed"
    new.tags = {"a/b c", "\u65e5\u672c", "plain"}
    server.datasources.update(new)
    seen = server.datasources.get_by_id(new.id)
    assert (seen.name, seen.description, seen.certified, seen.certification_note) == ("Renamed", "what it is", True, "by \u00e9")
    assert (seen.project_id, seen.owner_id, seen.tags) == (daily.id, user.id, {"a/b c", "\u65e5\u672c", "plain"})
    seen.tags = {"plain", "more"}
    server.datasources.update(seen)
    assert server.datasources.get_by_id(new.id).tags == {"plain", "more"}
    refused("404002", server.datasources.update, with_owner(server, new.id, "nobody"))

    everybody = next(g for g in server.groups.get()[0] if g.name == "All Users")
    rule = TSC.PermissionsRule(everybody, {"Read": "Allow", "Connect": "Deny"})
    server.datasources.update_permissions(seen, [rule, TSC.PermissionsRule(user, {"Write": "Allow"})])
    server.datasources.delete_permission(seen, TSC.PermissionsRule(everybody, {"Connect": "Deny"}))
    server.datasources.populate_permissions(seen)
    rules = {(r.grantee.tag_name, r.grantee.id): r.capabilities for r in seen.permissions}
    assert rules == {("group", everybody.id): {"Read": "Allow"}, ("user", user.id): {"Write": "Allow"}}, rules
    refused("400000", server.datasources.update_permissions, seen, [TSC.PermissionsRule(user, {"Fly": "Allow"})])

    server.datasources.add_dqw(seen, TSC.DQWItem("STALE", "old", True, False))
    refused("409000", server.datasources.add_dqw, seen, TSC.DQWItem("STALE", "old", True, False))
    server.datasources.update_dqw(seen, TSC.DQWItem("STALE", "very old", True, True))
    server.datasources.populate_dqw(seen)
    assert [(w.warning_type, w.message, w.severe) for w in seen.dqws] == [("STALE", "very old", True)]

    # An overwrite takes description, certification and tags along; what is no part of a publish stays.
    server.datasources.publish(item(server, "Renamed", "Daily"), file, TSC.Server.PublishMode.Overwrite)
    seen = server.datasources.get_by_id(new.id)
    assert (seen.description or "", seen.certified, seen.tags, seen.owner_id) == ("", False, set(), user.id)
    server.datasources.populate_permissions(seen)
    server.datasources.populate_dqw(seen)
    assert len(seen.permissions) == 2 and len(seen.dqws) == 1
    server.datasources.delete_dqw(seen)
    server.datasources.populate_dqw(seen)
    assert seen.dqws == []


def with_owner(server: TSC.Server, datasource: str, owner: str) -> TSC.DatasourceItem:
    changed = server.datasources.get_by_id(datasource)
    changed.owner_id = owner
    return changed


def revisions(url: str) -> None:
    server = signed_in(url)
    files = [extract(f"{rows}.hyper", rows) for rows in range(1, 8)]
    for file in files:
        new = server.datasources.publish(item(server, "Daily"), file, TSC.Server.PublishMode.Overwrite)

    def kept() -> list:
        server.datasources.populate_revisions(new)
        return [(int(r.revision_number), r.current, r.deleted) for r in new.revisions]

    assert kept() == [(n, n == 7, False) for n in range(3, 8)], kept()
    back = server.datasources.download_revision(new.id, "4", filepath="back.hyper")
    assert sha256(back) == sha256(files[3])
    server.datasources.delete_revision(new.id, "4")
    assert kept()[1] == (4, False, True)
    refused("404000", server.datasources.download_revision, new.id, "4", filepath="gone.hyper")
    refused("403004", server.datasources.delete_revision, new.id, "7")


def change(url: str) -> None:
    server = signed_in(url)
    new = server.datasources.publish(item(server, "Rows"), extract("rows.hyper", 10), TSC.Server.PublishMode.CreateNew)
    table = {"target-table": "Extract", "target-schema": "Extract"}
    both = {**table, "source-table": "Extract", "source-schema": "Extract"}
    by_id = {"op": "eq", "target-col": "id", "source-col": "id"}
    numbers = iter(range(100))
    hyper = HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""})

    def payload(columns: str, rows: str) -> str:
        path = f"payload{next(numbers)}.hyper"
        with Connection(hyper.endpoint, path, CreateMode.CREATE_AND_REPLACE) as connection:
            connection.catalog.create_schema("Extract")
            connection.execute_command(f'create table "Extract"."Extract" ({columns})')
            connection.execute_command(f'insert into "Extract"."Extract" values {rows}')
        return path

    def changed(actions: list, file=None, request=None, to=new.id):
        job = server.datasources.update_hyper_data(to, request_id=request or f"request {next(numbers)}", actions=actions, payload=file)
        assert job.type == "UpdateUploadedFile" and job.datasource_id == new.id
        return server.jobs.wait_for_job(job, timeout=60)

    def rows() -> list:
        path = server.datasources.download(new.id, filepath=f"seen{next(numbers)}.hyper")
        with Connection(hyper.endpoint, path) as connection:
            found = connection.execute_list_query('select "id", "text", cast("amount" as bigint) from "Extract"."Extract" order by 1')
            return [tuple(row) for row in found]

    columns = '"id" bigint not null, "text" text, "amount" numeric(18,2)'
    more = payload(columns, "(10, 'ten', 100), (11, null, 110)")
    for _ in range(2):
        first = changed([{"action": "insert", **both}], more, "insert once")
    again = changed([{"action": "delete", **table}], None, "insert once")
    assert again.id == first.id and len(rows()) == 12, "the same request id is one change, whatever it asks for"
    changed([{"action": "update", **both, "condition": by_id}], payload('"id" bigint, "text" text', "(0, 'zero'), (99, 'none')"))
    assert rows()[0] == (0, "zero", 0) and len(rows()) == 12
    changed([{"action": "upsert", **both, "condition": by_id}], payload(columns, "(1, 'one', 1), (50, 'fifty', 50)"))
    seen = rows()
    assert seen[1] == (1, "one", 1) and seen[-1] == (50, "fifty", 50) and len(seen) == 13
    changed([{"action": "delete", **both, "condition": by_id}], payload('"id" bigint', "(50), (11), (77)"))
    assert [r[0] for r in rows()] == list(range(11))
    # A window replaced in one call, without and with a file.
    window = {"op": "and", "args": [{"op": "gte", "target-col": "id", "const": {"type": "integer", "v": 5}},
                                    {"op": "not", "args": [{"op": "gt", "target-col": "amount", "const": {"type": "double", "v": 8.5}}]}]}
    changed([{"action": "delete", **table, "condition": window}, {"action": "insert", **both}], payload(columns, "(7, 'new', 7)"))
    assert [r[0] for r in rows()] == [0, 1, 2, 3, 4, 7, 9, 10]
    server.datasources.populate_connections(new)
    changed([{"action": "replace", **both}], more, to=connection_of(new))
    before = rows()
    assert [r[0] for r in before] == [10, 11]

    # All or nothing: the first action of each would have been fine.
    for note, action, file in [
        ("410012", {"action": "delete", "target-table": "Nowhere"}, None),
        ("410012", {"action": "insert", **both, "source-table": "Nowhere"}, more),
        ("no column", {"action": "delete", **table, "condition": {**window, "op": "or", "args": [
            {"op": "is", "target-col": "nothing", "const": {"type": "integer", "v": 1}}]}}, None),
        ("not part of the condition", {"action": "delete", **both, "condition": by_id}, more),
        ("failed", {"action": "insert", **both}, payload('"id" bigint, "text" text', "(null, 'x')")),
        ("would get", {"action": "insert", **both}, payload('"id" text', "('x')")),
    ]:
        try:
            changed([{"action": "delete", **table}, action], file)
        except JobFailedException as error:
            assert note in error.notes[0], error.notes
        else:
            raise AssertionError(f"{action} worked")
    assert rows() == before
    refused("400000", changed, [{"action": "insert", **both}])
    refused("400000", changed, [{"action": "explode", **both}], more)
    changed([{"action": "delete", **table}])
    assert rows() == []
    large = extract("large.hyper", 6000, 900)
    assert Path(large).stat().st_size > 4 << 20
    refused("413000", changed, [{"action": "insert", **both}], large)
    hyper.close()


def connection_of(datasource: TSC.DatasourceItem):
    (connection,) = datasource.connections
    assert connection.connection_type == "hyper" and connection.datasource_id == datasource.id
    return connection


def jobs(url: str) -> None:
    server = signed_in(url)
    file = extract("file.hyper", 10)

    def publish(fault: str):
        admin(url, "DELETE", "faults")
        admin(url, "POST", "faults", f"publish:1:{fault}")
        return server.datasources.publish(item(server, "Jobs"), file, TSC.Server.PublishMode.Overwrite, as_job=True)

    def ended(job) -> tuple:
        try:
            server.jobs.wait_for_job(job, timeout=2)
        except JobFailedException as error:
            return type(error).__name__, error.notes
        except TimeoutError:
            return "TimeoutError", None

    assert ended(publish("job-fails=disk: full")) == ("JobFailedException", ["disk: full"])
    assert ended(publish("job-fails-silently")) == ("JobFailedException", [])
    assert ended(publish("job-cancelled"))[0] == "JobCancelledException"
    endless = publish("job-never-ends")
    assert ended(endless)[0] == "TimeoutError"
    refused("400031", server.jobs.cancel, endless.id)
    admin(url, "POST", f"jobs/{endless.id}/cancel")
    assert ended(endless)[0] == "JobCancelledException"
    refused("404009", server.jobs.cancel, "no-such-job")
    admin(url, "DELETE", "faults")
    assert published(url) == []
    found, _ = server.jobs.get()
    assert [j.status for j in found] == ["Failed", "Failed", "Cancelled", "Cancelled"], found


if __name__ == "__main__":
    cases = [sign_in, projects, publish_modes, append, chunked, as_job, download_and_delete, sign_ins, describe, revisions, change,
             jobs, packaged]
    {case.__name__: case for case in cases}[sys.argv[2]](sys.argv[1])
