"""The official client as a judge of what goes over the wire.

judge_wire.py prepare URL             what a job must keep: description, tags, certification, set with the official client
judge_wire.py drive URL FILE          the official client does what Lakeport does, so that both can be compared
judge_wire.py requests OURS THEIRS    each request of Lakeport against the official client's for the same call
judge_wire.py answers ASSETS LOG...   each answer against the official client's models, and the words of the recorded answers
"""

import base64
import email
import json
import re
import sys
import uuid
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import tableauserverclient as TSC
from tableauserverclient.models import FileuploadItem, PaginationItem, TagItem
from tableauserverclient.server.endpoint.exceptions import ServerResponseError

NS = {"t": "http://tableau.com/api"}

# What a call is, by method and path below the site (or the API's root).
KINDS = [
    ("GET", r"^serverinfo$", "serverinfo"),
    ("POST", r"^auth/signin$", "signin"),
    ("POST", r"^auth/signout$", "signout"),
    ("GET", r"^projects$", "projects"),
    ("POST", r"^projects$", "create project"),
    ("POST", r"^fileuploads$", "upload start"),
    ("PUT", r"^fileuploads/[^/]+$", "append"),
    ("POST", r"^datasources$", "publish"),
    ("GET", r"^datasources$", "data sources"),
    ("GET", r"^datasources/[^/]+$", "data source"),
    ("PUT", r"^datasources/[^/]+$", "update"),
    ("PUT", r"^datasources/[^/]+/tags$", "tags"),
    ("GET", r"^datasources/[^/]+/permissions$", "permissions"),
    ("PUT", r"^datasources/[^/]+/permissions$", "permit"),
    ("DELETE", r"^datasources/[^/]+/permissions/.*$", "revoke"),
    ("PATCH", r"^datasources/[^/]+/data$", "change"),
    ("GET", r"^datasources/[^/]+/revisions$", "revisions"),
    ("GET", r"^jobs/[^/]+$", "job"),
    ("GET", r"^dataqualitywarnings/datasource/[^/]+$", "warnings"),
    ("POST", r"^dataqualitywarnings/datasource/[^/]+$", "warn"),
    ("PUT", r"^dataqualitywarnings/datasource/[^/]+$", "warn again"),
    ("GET", r"^users$", "users"),
    ("GET", r"^users/[^/]+$", "user"),
    ("GET", r"^groups$", "groups"),
]


def kind(call: dict) -> tuple[str, dict]:
    parts = urlsplit(call["path"])
    path = re.sub(r"^/api/[0-9.]+/(sites/[^/]+/)?", "", parts.path)
    for method, pattern, name in KINDS:
        if call["method"] == method and re.match(pattern, path, re.I):
            return name, dict(parse_qsl(parts.query, keep_blank_values=True))
    sys.exit(f"nobody knows the call {call['method']} {call['path']}")


def read(log: str) -> list[dict]:
    calls = [json.loads(line) for line in Path(log).read_text().splitlines()]
    for call in calls:
        call["body"], call["answer"] = base64.b64decode(call["body"]), base64.b64decode(call["answer"])
        call["headers"] = {k.lower(): v for k, v in call["headers"].items()}
        call["kind"], call["query"] = kind(call)
    return calls


# ---------------------------------------------------------------------------------------------------------- requests

def words(holder: type) -> set:
    return {value for name, value in vars(holder).items() if not name.startswith("_") and isinstance(value, str)}


# Attributes whose values are the API's own words: those the official client knows.
WORDS = {
    "name@capability": words(TSC.Permission.Capability), "mode@capability": words(TSC.Permission.Mode),
    "type@dataQualityWarning": words(TSC.DQWItem.WarningType), "isActive@dataQualityWarning": {"true", "false"},
    "isSevere@dataQualityWarning": {"true", "false"}, "isCertified@datasource": {"true", "false", "True", "False"},
    "isUat@credentials": {"true", "false"},
}
# What the official client sends and Lakeport leaves out, and why.
LEFT_OUT = {
    ("update", "isCertified@datasource"): "sent with every update, it takes the certification from others; Lakeport sends what changed",
    ("update", "name@datasource"): "unchanged",
    ("update", "owner@datasource"): "unchanged", ("update", "id@owner"): "unchanged",
    ("update", "project@datasource"): "unchanged", ("update", "id@project"): "unchanged",
    ("update", "description@datasource"): "unchanged",
    ("update", "certificationNote@datasource"): "unchanged",
    ("update", "encryptExtracts@datasource"): "unchanged",
    ("update", "useRemoteQueryAgent@datasource"): "unchanged",
    ("tags", "tag@tags"): "as many as there are",
}


def tree(element: ET.Element) -> list:
    """An element's shape: the names of its attributes and children."""
    name = element.tag.split("}")[-1]
    for attribute, value in element.attrib.items():
        known = WORDS.get(f"{attribute}@{name}")
        assert known is None or value in known, f"{attribute}=\"{value}\" of {name} is no word of the API"
    return [name, sorted(element.attrib), [tree(child) for child in element]]


def shape(call: dict) -> dict:
    body, content_type = call["body"], call["headers"].get("content-type", "").split(";")[0]
    # A body that says nothing is none: the one client sends a type with it and the other does not.
    found = {"content-type": content_type if body else "", "query": set(call["query"]), "xml": None, "parts": []}
    found["auth"] = "x-tableau-auth" in call["headers"]
    if content_type == "multipart/mixed":
        message = email.message_from_bytes(b"Content-Type: " + call["headers"]["content-type"].encode() + b"\r\n\r\n" + body)
        for part in message.get_payload():
            headers = sorted((k.lower(), v) for k, v in part.items())
            found["parts"].append(headers)
            if part.get_content_type() == "text/xml":
                text = part.get_payload(decode=True).strip()
                found["xml"] = tree(ET.fromstring(text)) if text else "empty"
        assert "content-length" in call["headers"], "a multipart body has a length"
    elif content_type == "application/json":
        found["json"] = sorted({key for action in json.loads(body)["actions"] for key in action} | set(json.loads(body)))
        assert call["headers"].get("requestid"), "a change has its id"
    elif body:
        assert body.isascii(), "requests are ASCII with numeric references"
        found["xml"] = tree(ET.fromstring(body))
    return found


def merge(a, b):
    """One shape of all of one client's calls of a kind: everything it ever sends."""
    if a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return b if a is None else a
    children = {}
    for child in a[2] + b[2]:
        children[child[0]] = merge(children.get(child[0]), child)
    return [a[0], sorted(set(a[1]) | set(b[1])), list(children.values())]


def flat(node, into: set) -> set:
    if isinstance(node, list):
        into |= {f"{attribute}@{node[0]}" for attribute in node[1]}
        for child in node[2]:
            into.add(f"{child[0]}@{node[0]}")
            flat(child, into)
    return into


def order(node, into: dict) -> dict:
    """The order in which the children of each element come."""
    if isinstance(node, list):
        names = list(dict.fromkeys(child[0] for child in node[2]))
        if names:
            into.setdefault(node[0], []).append(names)
        for child in node[2]:
            order(child, into)
    return into


def requests(ours: str, theirs: str) -> None:
    mine, others = defaultdict(list), defaultdict(list)
    for log, into in [(ours, mine), (theirs, others)]:
        for call in read(log):
            into[call["kind"]].append(call)
    missing = sorted(set(mine) - set(others))
    assert not missing, f"the official client was not seen to do: {missing}"
    wrong = []
    # Every list is read in pages and with filters, in the same words.
    paging = {key for calls in others.values() for call in calls if call["method"] == "GET" for key in call["query"]}
    for name, calls in sorted(mine.items()):
        there = [shape(call) for call in others[name]]
        whole = None
        for one in there:
            whole = merge(whole, one["xml"])
        known = flat(whole, set())
        for call in calls:
            here = shape(call)
            say = lambda what: wrong.append(f"{name}: {what}\n    {call['method']} {call['path']}\n    {call['body'][:300]!r}")
            if here["content-type"] not in {t["content-type"] for t in there}:
                say(f"content type {here['content-type']!r}, theirs {sorted({t['content-type'] for t in there})}")
            if here["auth"] not in {t["auth"] for t in there}:
                say(f"session token sent: {here['auth']}")
            for key in here["query"]:
                if not any(key in t["query"] for t in there) and not (call["method"] == "GET" and key in paging):
                    say(f"query parameter {key}")
            if here["parts"] and here["parts"] not in [t["parts"] for t in there]:
                say(f"parts {here['parts']}, theirs {[t['parts'] for t in there][:2]}")
            if (here["xml"] == "empty") and not any(t["xml"] == "empty" for t in there):
                say("an empty payload")
            for word in flat(here["xml"], set()) - known:
                say(f"{word} is nothing the official client sends")
            for word in {w for t in there for w in flat(t["xml"], set())} if there else set():
                # What every one of their calls has, ours must have.
                everywhere = all(word in flat(t["xml"], set()) for t in there)
                if everywhere and word not in flat(here["xml"], set()) and (name, word) not in LEFT_OUT:
                    say(f"{word} is missing, which the official client always sends")
            for parent, lists in order(here["xml"], {}).items():
                known_orders = [n for t in there for n in order(t["xml"], {}).get(parent, [])]
                for names in lists:
                    if not any([n for n in theirs_ if n in names] == names for theirs_ in known_orders):
                        say(f"the children of {parent} come as {names}")
            if "json" in here:
                unknown = set(here["json"]) - {k for t in there for k in t.get("json", [])}
                if unknown:
                    say(f"keys {sorted(unknown)} in actions")
    seen = {name: len(calls) for name, calls in sorted(mine.items())}
    assert not wrong, "\n".join(wrong)
    print(f"{sum(seen.values())} requests of {len(seen)} kinds are such as the official client sends: " + ", ".join(seen))


# ----------------------------------------------------------------------------------------------------------- answers

# Words of the sandbox that no recorded answer has: (parent, element, attribute).
UNRECORDED = {
    # In the official schema, and in no recording.
    ("tsResponse", "fileUpload", "maxFileChunkCount"),
}


def vocabulary(element: ET.Element, parent: str, into: set) -> set:
    name = element.tag.split("}")[-1]
    into.add((parent, name, None))
    for attribute in element.attrib:
        if not attribute.startswith("{"):
            into.add((parent, name, attribute))
    for child in element:
        vocabulary(child, name, into)
    return into


def a_uuid(text: str) -> None:
    assert str(uuid.UUID(text)) == text.lower(), f"{text} is no LUID"


def datasource(item: TSC.DatasourceItem) -> None:
    a_uuid(item.id), a_uuid(item.project_id), a_uuid(item.owner_id)
    assert item.name and item.content_url and item.datasource_type
    assert item.created_at and item.updated_at and item.created_at <= item.updated_at, (item.created_at, item.updated_at)
    assert item.certified in (True, False)


def answered(call: dict) -> str:
    """Reads one answer as the official client does."""
    name, text, status = call["kind"], call["answer"], call["status"]
    if status >= 400:
        error = ServerResponseError.from_response(text, NS, call["path"])
        assert re.fullmatch(r"\d{6}", error.code) and int(error.code) // 1000 == status, (status, error.code)
        assert error.summary and error.detail
        return f"error {error.code}"
    if not text:
        assert status == 204 or name in ("warn", "warn again", "revoke"), f"{name} is answered with nothing and {status}"
        return name
    root = ET.fromstring(text)
    assert root.tag == "{http://tableau.com/api}tsResponse", root.tag
    if name == "serverinfo":
        info = TSC.ServerInfoItem.from_response(text, NS)
        assert re.fullmatch(r"\d+\.\d+", info.rest_api_version) and info.product_version and info.build_number
    elif name == "signin":
        credentials, site = root.find("t:credentials", NS), root.find(".//t:site", NS)
        assert credentials.get("token") and site.get("contentUrl") is not None
        a_uuid(site.get("id")), a_uuid(root.find(".//t:user", NS).get("id"))
    elif name in ("projects", "create project"):
        for item in TSC.ProjectItem.from_response(text, NS):
            a_uuid(item.id)
            assert item.name and item.content_permissions and (item.parent_id is None or not a_uuid(item.parent_id))
    elif name in ("upload start", "append"):
        item = FileuploadItem.from_response(text, NS)
        assert re.fullmatch(r"[0-9]+:[0-9a-fA-F]+-[0-9]+:[0-9]+", item.upload_session_id), item.upload_session_id
        assert int(item.file_size) >= 0
    elif name in ("publish", "job", "change") and root.find("t:job", NS) is not None:
        (job,) = TSC.JobItem.from_response(text, NS)
        a_uuid(job.id)
        assert job.type and job.mode == "Asynchronous" and job.created_at
        assert (status == 202) == (name != "job"), (name, status)
        if job.completed_at:
            assert job.started_at and job.created_at <= job.started_at <= job.completed_at and job.finish_code in (0, 1, 2)
    elif name in ("publish", "data sources", "data source", "update"):
        items = TSC.DatasourceItem.from_response(text, NS)
        assert items or name == "data sources"
        # An update is answered without everything.
        [datasource(item) for item in items if name != "update"]
        assert status == (201 if name == "publish" else 200)
    elif name == "tags":
        assert TagItem.from_response(text, NS)
    elif name in ("permissions", "permit"):
        for rule in TSC.PermissionsRule.from_response(text, NS):
            a_uuid(rule.grantee.id)
            assert rule.capabilities and set(rule.capabilities.values()) <= {"Allow", "Deny"}
    elif name in ("warnings", "warn", "warn again"):
        for item in TSC.DQWItem.from_response(text, NS):
            a_uuid(item.id)
            assert item.warning_type in {v for k, v in vars(TSC.DQWItem.WarningType).items() if k.isupper()}
    elif name == "revisions":
        assert TSC.RevisionItem.from_response(text, NS, TSC.DatasourceItem("x"))
    elif name in ("users", "user"):
        for item in TSC.UserItem.from_response(text, NS):
            a_uuid(item.id)
            assert item.name and item.site_role in vars(TSC.UserItem.Roles).values(), item.site_role
    elif name == "groups":
        for item in TSC.GroupItem.from_response(text, NS):
            a_uuid(item.id)
            assert item.name
    else:
        sys.exit(f"an answer to {name} that nobody expected: {text[:200]!r}")
    if name in ("projects", "data sources", "users", "groups", "revisions"):
        pages = PaginationItem.from_response(text, NS)
        assert pages.page_number >= 1 and pages.page_size >= 1 and pages.total_available >= 0
    return name


def answers(folder: str, logs: list[str]) -> None:
    recorded = set()
    for path in Path(folder).glob("*.xml"):
        vocabulary(ET.fromstring(path.read_bytes()), "", recorded)
    # An element under another parent is told by its own name and attributes.
    recorded |= {("*", name, attribute) for _, name, attribute in recorded}
    counts, unknown = defaultdict(int), set()
    for call in (call for log in logs for call in read(log)):
        try:
            counts[answered(call)] += 1
        except Exception as error:
            sys.exit(f"the official client cannot take the answer to {call['method']} {call['path']} ({call['status']}): {error!r}\n{call['answer'][:2000].decode()}")
        if call["answer"]:
            words = vocabulary(ET.fromstring(call["answer"]), "", set())
            unknown |= {(w, call["kind"]) for w in words if ("*", w[1], w[2]) not in recorded and w not in UNRECORDED}
    assert not unknown, f"words of the sandbox that no recorded answer has: {sorted(unknown, key=str)}"
    print(f"{sum(counts.values())} answers of {len(counts)} kinds, all taken: " + ", ".join(sorted(counts)))


# ------------------------------------------------------------------------------------------------------------ driving


def signed_in(url: str, auth=None) -> TSC.Server:
    server = TSC.Server(url, use_server_version=True)
    server.auth.sign_in(auth or TSC.PersonalAccessTokenAuth("demo", "demo", ""))
    return server


def prepare(url: str) -> None:
    server = signed_in(url, TSC.TableauAuth("demo", "demo"))
    (item,) = [d for d in TSC.Pager(server.datasources) if d.name == "Kept"]
    item.description, item.certified, item.certification_note, item.tags = "what it <is>", True, "by me", {"one", "two words", "a,b"}
    server.datasources.update(item)


def drive(url: str, file: str) -> None:
    import os

    os.environ.update({"TSC_FILESIZE_LIMIT_MB": "1", "TSC_CHUNK_SIZE_MB": "1"})
    signed_in(url, TSC.TableauAuth("demo", "demo")).auth.sign_out()
    server = signed_in(url)
    server.server_info.get()
    list(TSC.Pager(server.projects))
    options = TSC.RequestOptions()
    options.filter.add(TSC.Filter(TSC.RequestOptions.Field.Name, TSC.RequestOptions.Operator.Equals, "default"))
    list(TSC.Pager(server.projects, options))
    project = server.projects.create(TSC.ProjectItem("Official"))
    project = server.projects.create(TSC.ProjectItem("Below", parent_id=project.id))
    new = lambda: TSC.DatasourceItem(project.id, name="Official")
    small = Path("data.hyper")
    small.write_bytes(Path(file).read_bytes())
    mode = TSC.Server.PublishMode
    server.datasources.publish(new(), small, mode.CreateNew)
    for how in (mode.Overwrite, mode.Append):
        server.datasources.publish(new(), small, how)
    os.environ["TSC_FILESIZE_LIMIT_MB"] = "0"
    server.jobs.wait_for_job(server.datasources.publish(new(), small, mode.Overwrite, as_job=True))
    (item,) = list(TSC.Pager(server.datasources, options_named("Official")))
    item = server.datasources.get_by_id(item.id)
    item.description, item.certified, item.certification_note, item.tags = "d", True, "n", {"one", "two words", "a,b"}
    server.datasources.update(item)
    everybody = next(g for g in server.groups.get()[0] if g.name == "All Users")
    user = next(u for u in server.users.get()[0] if u.name == "demo")
    server.users.get_by_id(user.id)
    rules = TSC.PermissionsRule(everybody, {"Connect": "Allow", "Read": "Allow", "Write": "Deny"})
    server.datasources.update_permissions(item, [rules])
    server.datasources.delete_permission(item, rules)
    server.datasources.populate_permissions(item)
    assert item.permissions == [], item.permissions
    server.datasources.populate_dqw(item)
    assert item.dqws == [], item.dqws
    warning = TSC.DQWItem("STALE", "late", active=True, severe=False)
    server.datasources.add_dqw(item, warning)
    server.datasources.update_dqw(item, warning)
    server.datasources.populate_revisions(item)
    assert item.revisions
    table = {"target-schema": "Extract", "target-table": "Extract", "source-schema": "Extract", "source-table": "Extract"}
    by = {"op": "eq", "target-col": "id", "source-col": "id"}
    actions = [{"action": "insert", **table}, {"action": "upsert", **table, "condition": by}]
    server.jobs.wait_for_job(server.datasources.update_hyper_data(item, request_id="1", actions=actions, payload=small))
    server.auth.sign_out()


def options_named(name: str) -> TSC.RequestOptions:
    options = TSC.RequestOptions()
    options.filter.add(TSC.Filter(TSC.RequestOptions.Field.Name, TSC.RequestOptions.Operator.Equals, name))
    return options


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare", url]:
            prepare(url)
        case ["drive", url, file]:
            drive(url, file)
        case ["requests", ours, theirs]:
            requests(ours, theirs)
        case ["answers", folder, *logs]:
            answers(folder, logs)
        case other:
            sys.exit(__doc__)
