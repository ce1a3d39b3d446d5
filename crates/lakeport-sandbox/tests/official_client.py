"""Drives a sandbox with the official client: official_client.py URL CASE."""

import hashlib
import json
import os
import random
import sys
import urllib.request
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


if __name__ == "__main__":
    cases = [sign_in, projects, publish_modes, append, chunked, as_job, download_and_delete]
    {case.__name__: case for case in cases}[sys.argv[2]](sys.argv[1])
