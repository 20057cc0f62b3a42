"""`alignx` as it is typed: what it prints, what it sends, and its exit codes."""

import codecs
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from alignx.cli.main import app
from alignx.cli.terminal import Terminal
from alignx.client import line_sender
from alignx.schemas.interactions import PostInteraction
from tests.unit.alignx.conftest import FakeService, problem, sse

Alignx = Callable[..., Result]


@pytest.fixture
def alignx(terminal: Terminal) -> Alignx:
    def run(*args: str, stdin: str | bytes | None = None, key: str | None = "ax_k1_secret") -> Result:
        connect = [] if key is None else ["--key", key]
        return CliRunner(env={"COLUMNS": "160"}).invoke(app, [*connect, *args], obj=terminal, input=stdin)

    return run


@pytest.fixture
def ada(service: FakeService) -> None:
    with service.client() as client:
        for text in ("one", "two", "three"):
            client.append("ada", [PostInteraction(text=text)])
    service.requests.clear()


# --- errors ------------------------------------------------------------------------------------


def test_problem_is_printed_with_its_fields_and_id(alignx: Alignx, service: FakeService):
    errors = [{"field": "limit", "message": "at most 1000"}]
    service.faults.append(problem(422, "invalid_request", "No.", errors=errors, request_id="r7"))
    result = alignx("events", "ada")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["error: No.", "  limit: at most 1000", "  invalid_request, 422, request r7"]


def test_unknown_user_and_wrong_key_are_told_what_to_do(alignx: Alignx):
    assert "alignx ingest" in alignx("show", "nobody").stderr
    assert "ALIGNX_API_KEY" in alignx("show", "nobody", key="ax_wrong_key").stderr


def test_service_that_is_not_there(alignx: Alignx, service: FakeService):
    service.faults += [httpx.ConnectError("refused")] * 4
    result = alignx("show", "ada")
    assert result.exit_code == 1
    assert "cannot be reached: refused" in result.stderr
    assert "make up" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("show",),
        ("nonsense",),
        ("rollback", "ada", "0"),
        ("select", "ada"),
        ("select", "ada", "only one"),
        ("ingest", "missing.jsonl"),
        ("edit", "ada", "text", "--file", "missing"),
        ("keys", "create", "shop", "--tenant", "no spaces"),
        ("chat", "ada", "hi", "--mode", "magic"),
        ("--url", "host:8080", "show", "ada"),
    ],
)
def test_wrong_usage_exits_with_2(alignx: Alignx, args: tuple[str, ...]):
    assert alignx(*args).exit_code == 2


def test_key_is_found_in_files(alignx: Alignx, ada: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    missing = alignx("show", "ada", key=None)
    assert missing.exit_code == 2
    assert "no API key found" in missing.stderr
    (tmp_path / "var/secrets").mkdir(parents=True)
    path = tmp_path / "var/secrets/user_key"
    path.write_text("ax_k1_secret\n", encoding="utf-8-sig")
    assert alignx("show", "ada", key=None).exit_code == 0
    monkeypatch.setenv("ALIGNX_KEY_FILE", str(path))
    assert alignx("show", "ada", key=None).exit_code == 0
    monkeypatch.setenv("ALIGNX_KEY_FILE", "gone")
    assert alignx("show", "ada", key=None).exit_code == 2


def test_help_of_every_command_has_an_example(alignx: Alignx):
    listed = alignx("--help").stdout.partition("Commands:")[2]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2].isalpha()]
    assert {"ingest", "show", "watch", "versions", "diff", "edit", "rebuild", "rollback", "export"} <= set(names)
    assert {"erase", "forget", "chat", "select", "recommend", "keys", "tenants", "status"} <= set(names)
    groups = [
        ["keys", "create"],
        *(["users", word] for word in ("list", "count", "erase")),
        *(["keys", word] for word in ("list", "rotate", "revoke", "token", "audit")),
        *(["webhooks", word] for word in ("create", "list", "enable", "delete", "rotate", "test")),
        *(["webhooks", word] for word in ("deliveries", "replay")),
        *(["tenants", "settings", word] for word in ("get", "set", "unset")),
    ]
    for command in [[name] for name in names if name not in ("users", "keys", "tenants", "webhooks")] + groups:
        assert f"alignx {' '.join(command)}" in alignx(*command, "--help").stdout


# --- summaries ---------------------------------------------------------------------------------


def test_show(alignx: Alignx, ada: None):
    shown = alignx("show", "ada").stdout
    assert "ada: version 3, by llm:small" in shown
    assert "Likes what 3 events show." in shown
    assert "profile: 50% of 8 choices predicted" in shown
    assert "1 sentence that no event supports" in shown
    assert alignx("show", "ada", "--text").stdout == "Likes what 3 events show.\n"
    assert json.loads(alignx("show", "ada", "--json").stdout)["version"] == 3
    older = alignx("show", "ada", "--version", "2", "--reasoning").stdout
    assert "Thought about it." in older
    assert "Likes what 2 events show." in older


def test_text_of_a_summary_cannot_steer_the_terminal(alignx: Alignx, ada: None, service: FakeService):
    service.users["ada"].versions.append("\x1b[2Jgone \x9b31m [bold]kept[/bold]\rover")
    for args in (("show", "ada"), ("show", "ada", "--text"), ("versions", "ada"), ("diff", "ada")):
        out = alignx(*args).stdout
        assert not {"\x1b", "\x9b", "\r"} & set(out)
        assert "[bold]kept[/bold]" in out


def test_versions_and_diff(alignx: Alignx, ada: None, service: FakeService):
    listed = alignx("versions", "ada", "--limit", "2")
    assert "Likes what 3 events show." in listed.stdout
    assert "--before 2" in listed.stderr
    assert len(json.loads(alignx("versions", "ada", "--json").stdout)["versions"]) == 3
    assert "the model declines" in alignx("versions", "ada", "--rejected").stdout
    assert alignx("versions", "ada", "--rejected", "--before", "3").exit_code == 2
    service.has_drafts = False
    assert "No reply of the engine was rejected." in alignx("versions", "ada", "--rejected").stderr
    assert "-Likes what 2 events show." in alignx("diff", "ada").stdout
    assert "-Likes what 1 events show." in alignx("diff", "ada", "1").stdout
    assert "+Likes what 2 events show." in alignx("diff", "ada", "1", "2").stdout
    assert json.loads(alignx("diff", "ada", "1", "3", "--json").stdout)["to_version"] == 3
    assert "say the same" in alignx("diff", "ada", "2", "2").stderr


def test_diff_needs_two_versions(alignx: Alignx, service: FakeService):
    with service.client() as client:
        client.append("bob", [PostInteraction(text="one")])
    result = alignx("diff", "bob")
    assert result.exit_code == 1
    assert "fewer than two versions" in result.stderr


def test_edit_rollback_rebuild(alignx: Alignx, ada: None, service: FakeService, tmp_path: Path):
    assert "Version 4" in alignx("edit", "ada", "Mine.").stderr
    (tmp_path / "text").write_text("From a file.")
    assert "Version 5" in alignx("edit", "ada", "--file", str(tmp_path / "text")).stderr
    assert "Nothing changed" in alignx("edit", "ada", "From a file.").stderr
    assert "Version 6" in alignx("edit", "ada", "-", stdin="From a pipe.").stderr
    assert alignx("show", "ada", "--text").stdout == "From a pipe.\n"
    assert "repeats version 1" in alignx("rollback", "ada", "1").stderr
    assert "alignx watch ada" in alignx("rebuild", "ada").stderr
    assert "Written afresh." in alignx("rebuild", "ada", "--wait", "5").stdout
    service.writes = False
    late = alignx("rebuild", "ada", "--wait", "0.0001")
    assert late.exit_code == 1
    assert "No new version" in late.stderr


def test_edit_in_an_editor(alignx: Alignx, ada: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script = tmp_path / "editor.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write(' And tea.')")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    assert "Version 4" in alignx("edit", "ada").stderr
    assert alignx("show", "ada", "--text").stdout == "Likes what 3 events show. And tea.\n"
    monkeypatch.setenv("EDITOR", "no-such-editor")
    failed = alignx("edit", "ada")
    assert failed.exit_code == 1
    assert "The editor failed" in failed.stderr


def test_stale_edit_is_refused(alignx: Alignx, ada: None, service: FakeService):
    service.faults += [None, problem(412, "stale_version", "The summary has changed")]
    result = alignx("edit", "ada", "Mine.")
    assert result.exit_code == 1
    assert "look at it again" in result.stderr


@pytest.fixture
def update(ada: None, service: FakeService) -> list[tuple[str, str]]:
    """What is sent while a version is written: the one before it, its pieces, a failure on the way, and itself."""
    version = json.dumps(service.current("ada", service.users["ada"]))
    return [
        ("version", version.replace('"version": 3', '"version": 2')),
        ("pending", '{"pending": 2, "version": 2}'),
        ("delta", '{"text": "Likes "}'),
        ("delta", '{"text": "tea"}'),
        ("error", '{"status": 502, "type": "urn:alignx:problem:engine_error", "detail": "Oh."}'),
        ("version", version),
    ]


def stream(events: list[tuple[str, str]]) -> httpx.Response:
    return sse(*(f"event: {name}\ndata: {data}\n\n".encode() for name, data in events))


def test_watch(alignx: Alignx, service: FakeService, update: list[tuple[str, str]]):
    service.streams += [stream(update), stream(update)]
    plain = alignx("watch", "ada", "--count", "1")
    assert "\nwaiting: 2 events; the summary is at version 2\nLikes tea\n" in plain.stdout
    before, after = plain.stdout.split("Likes tea")
    assert "ada: version 2" in before
    assert "ada: version 3" in after
    assert "error: Oh." in plain.stderr
    lines = [json.loads(line) for line in alignx("watch", "ada", "--count", "1", "--json").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["version", "pending", "delta", "delta", "error", "version"]


def test_watch_redraws_in_a_terminal(service: FakeService, update: list[tuple[str, str]]):
    service.streams.append(stream(update))
    screen, notes = _watch_in_a_terminal(service, "--count", "1")
    assert "Likes what 3 events show." in screen.getvalue()
    assert "waiting: 2 events" in notes.getvalue()
    assert "error: Oh." in notes.getvalue()


def test_watch_goes_back_to_the_summary_when_an_update_fails(service: FakeService, update: list[tuple[str, str]]):
    service.streams.append(stream(update[:-1]))
    screen, _ = _watch_in_a_terminal(service)
    last = screen.getvalue().rsplit("ada: version 2", 1)[-1]
    assert "Likes what 3 events show." in last
    assert "tea" not in last


def _watch_in_a_terminal(service: FakeService, *options: str) -> tuple[io.StringIO, io.StringIO]:
    screen, notes = io.StringIO(), io.StringIO()
    terminal = Terminal(
        transport=service.transport(),
        out=Console(file=screen, force_terminal=True, width=80),
        err=Console(file=notes),
    )
    CliRunner().invoke(app, ["--key", "ax_k1_secret", "watch", "ada", *options], obj=terminal)
    return screen, notes


# --- histories ---------------------------------------------------------------------------------


def test_ingest_reports_bad_lines_and_sends_nothing(alignx: Alignx, service: FakeService, tmp_path: Path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"type": "post", "text": "a"}\n{"type": "post"}\n\n{"type": "rating", "item": "x", "value": 9}\n')
    result = alignx("ingest", str(path), "--user", "ada")
    assert result.exit_code == 1
    assert "line 2: post.text: Field required" in result.stderr
    assert "line 4: rating: Value error, value 9 is outside the scale [1, 5]" in result.stderr
    assert "2 bad lines; nothing was sent" in result.stderr
    assert not service.requests
    skipped = alignx("ingest", str(path), "--user", "ada", "--skip-bad")
    assert skipped.exit_code == 0
    assert "Sent 1 event of 1 user." in skipped.stderr


def test_ingest_reads_standard_input(alignx: Alignx, service: FakeService):
    lines = "".join(json.dumps({"type": "post", "text": str(number)}) + "\n" for number in range(5))
    assert alignx("ingest", "-", "--user", "ada", "--batch", "2", stdin=lines).exit_code == 0
    assert [[len(line["events"]) for line in lines] for lines in service.lines] == [[2, 2, 1]]
    repeated = alignx("ingest", "-", "--user", "ada", "--batch", "2", stdin=lines)
    assert "Sent 0 events of 1 user, 5 were there already." in repeated.stderr
    again = alignx("ingest", "-", "--user", "ada", "--batch", "3", "--resume", stdin=lines)
    assert "Sent 0 events of 1 user, 5 were there already." in again.stderr
    assert alignx("ingest", "-", stdin="\n").exit_code == 1


def test_ingest_tells_how_far_it_came(alignx: Alignx, service: FakeService, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(line_sender, "CALL_COST", 1.0)  # a batch a call
    lines = "".join(json.dumps({"type": "post", "text": str(number)}) + "\n" for number in range(5))
    service.faults += [None, httpx.ReadTimeout("gone")]
    result = alignx("ingest", "-", "--user", "ada", "--batch", "2", stdin=lines)
    assert result.exit_code == 1
    assert "Stopped after 2 of 5 events" in result.stderr


def test_a_line_too_long_for_the_service_stops_no_other(alignx: Alignx, service: FakeService, tmp_path: Path):
    path = tmp_path / "history.jsonl"
    long = {"type": "dialogue", "messages": [{"role": "user", "content": "I like trains a lot. " * 4_000}]}
    posts = [{"type": "post", "text": f"number {number}"} for number in range(10)]
    path.write_text("".join(json.dumps(line | {"user": "i11"}) + "\n" for line in (*posts[:5], long, *posts[5:])))
    refused = alignx("ingest", str(path))
    assert refused.exit_code == 1
    assert f"{path}, line 6: 84,0" in refused.stderr.replace("\n", "")
    assert "bytes; an event may have 65,536" in refused.stderr
    assert not service.requests
    sent = alignx("ingest", str(path), "--skip-bad")
    assert sent.exit_code == 0
    assert "Sent 10 events of 1 user." in sent.stderr
    assert [event["interaction"]["text"] for event in service.users["i11"].events] == [post["text"] for post in posts]


def test_what_only_the_service_refuses_is_left_out_by_its_line(alignx: Alignx, service: FakeService, tmp_path: Path):
    """A deployment may take less than the command line knows of."""
    service.event_bytes = 300
    path = tmp_path / "history.jsonl"
    texts = ["a", "x" * 400, "b"]
    path.write_text("".join(json.dumps({"type": "post", "text": text, "user": "ada"}) + "\n" for text in texts))
    stopped = alignx("ingest", str(path))
    assert stopped.exit_code == 1
    assert f"{path}, line 2: at most 300 bytes" in stopped.stderr.replace("\n", "")
    assert "Stopped after 0 of 3 events" in stopped.stderr
    sent = alignx("ingest", str(path), "--skip-bad")
    assert (sent.exit_code, "Left out: 1 event that the service refused." in sent.stderr) == (0, True)
    assert [event["interaction"]["text"] for event in service.users["ada"].events] == ["a", "b"]
    assert alignx("ingest", str(path), "--event-bytes", "256").stderr.count("an event may have 256") == 1


def test_csv_is_sent_by_the_names_of_its_columns(alignx: Alignx, service: FakeService, tmp_path: Path):
    path = tmp_path / "clicks.csv"
    path.write_text(
        "user,type,clicked,shown,item,value,text,occurred_at\r\n"
        'ada,click,"{""title"": ""Solaris"", ""price"": 9.5}","[""Solaris"", ""Ubik""]",,,,2026-05-01T12:00:00Z\r\n'
        "bob,rating,,,Ubik,4,,\r\n"
        'bob,post,,,,,"two\nlines, and ""quotes""",\r\n'
        "bob,post,,,,\r\n"
        'bob,click,Ubik,"[",,,,\r\n'
        "\r\n"
    )
    result = alignx("ingest", str(path), "--skip-bad")
    assert result.exit_code == 0, result.stderr
    stderr = result.stderr.replace("\n", " ")
    assert "clicks.csv, line 6: 6 cells; the first line names 8" in stderr
    assert "clicks.csv, line 7: shown: not JSON" in stderr
    (click,) = service.users["ada"].events
    assert click["interaction"]["clicked"] == {"title": "Solaris", "price": 9.5} | dict.fromkeys(
        ("id", "description", "category")
    )
    assert click["interaction"]["shown"] == ["Solaris", "Ubik"]
    rating, post = (event["interaction"] for event in service.users["bob"].events)
    assert (rating["item"], rating["value"]) == ("Ubik", 4.0)
    assert post["text"] == 'two\nlines, and "quotes"'


def test_parquet_without_pyarrow_says_what_to_install(alignx: Alignx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "history.parquet"
    path.write_bytes(b"PAR1")
    result = alignx("ingest", str(path))
    assert (result.exit_code, "alignx[parquet]" in result.stderr) == (1, True)


# --- users -------------------------------------------------------------------------------------


@pytest.fixture
def crowd(alignx: Alignx, service: FakeService) -> None:
    lines = [{"type": "post", "text": "t", "user": name} for name in ("ada", "t-1", "t-2", "t-3", "[red]t", "zoé")]
    assert alignx("ingest", "-", stdin="".join(f"{json.dumps(line)}\n" for line in lines)).exit_code == 0


def test_users_are_listed_and_counted(alignx: Alignx, crowd: None, service: FakeService):
    shown = alignx("users", "list", "--prefix", "t-", "--limit", "2")
    assert ("t-1" in shown.stdout, "t-3" in shown.stdout) == (True, False)
    assert "3 in all. More: --after t-2" in shown.stderr
    assert "[red]t" in alignx("users", "list").stdout
    page = json.loads(alignx("users", "list", "--after", "t-2", "--json").stdout)
    assert [user["user"] for user in page["users"]] == ["t-3", "zoé"]
    service.page = 2
    assert alignx("users", "list", "--ids").stdout.splitlines() == ["[red]t", "ada", "t-1", "t-2", "t-3", "zoé"]
    assert alignx("users", "count").stdout == "6\n"
    assert alignx("users", "count", "--prefix", "t-").stdout == "3\n"


def test_users_are_erased_once_it_is_confirmed(alignx: Alignx, crowd: None, service: FakeService, tmp_path: Path):
    service.page = 2  # users of one call
    assert alignx("users", "erase", "--prefix", "t-", stdin="n\n").exit_code == 1
    assert len(service.users) == 6
    erased = alignx("users", "erase", "--prefix", "t-", stdin="y\n")
    assert "Erase everything kept of 3 users?" in erased.stderr
    assert "Erased 3 users." in erased.stderr
    names = tmp_path / "names.txt"
    names.write_text("ada\r\nnobody\nzoé\nada\n")
    service.page = 100
    assert "Erased 2 users; of 1 nothing was kept." in alignx("users", "erase", "--file", str(names), "--yes").stderr
    assert set(service.users) == {"[red]t"}
    assert "Erased 1 user." in alignx("users", "erase", "[red]t", "-y").stderr
    for wrong in ([], ["ada", "--prefix", "a"]):
        assert alignx("users", "erase", *wrong, "-y").exit_code == 2


def test_events(alignx: Alignx, ada: None):
    listed = alignx("events", "ada", "--limit", "2")
    assert "│ two" in listed.stdout
    assert "--after 1-1" in listed.stderr
    newest = alignx("events", "ada", "--newest", "--limit", "1")
    assert ("│ three" in newest.stdout, "│ two" in newest.stdout) == (True, False)
    assert alignx("events", "ada", "--newest", "--failed").exit_code == 2
    assert "too long" in alignx("events", "ada", "--failed").stdout
    assert "1 event put back" in alignx("retry", "ada").stderr
    some = alignx("retry", "ada", "9-9")
    assert "9-9 is no failed event of ada" in some.stderr
    assert "Nothing was put back" in some.stderr
    assert json.loads(alignx("retry", "ada", "1-7", "--json").stdout)["events"][0]["new_event_id"] == "2-0"
    assert len(json.loads(alignx("events", "ada", "--json").stdout)["events"]) == 3


def test_events_are_shown_by_the_titles_of_their_items(alignx: Alignx, service: FakeService):
    lines = (
        {"type": "purchase", "item": {"title": "Lamp", "price": 9}, "considered": ["Candle", {"title": "Torch"}]},
        {"type": "rating", "item": "Lamp", "value": 0, "scale": [0, 10]},
        {"type": "dialogue", "messages": [{"role": "user", "content": "Hello."}]},
    )
    alignx("ingest", "-", "--user", "ada", stdin="".join(f"{json.dumps(line)}\n" for line in lines))
    listed = " ".join(alignx("events", "ada").stdout.split())
    for content in ("item: Lamp; considered: Candle, Torch", "value: 0.0", "messages: user: Hello."):
        assert content in listed


def test_export(alignx: Alignx, ada: None, tmp_path: Path):
    lines = alignx("export", "ada").stdout
    assert json.loads(lines.splitlines()[0])["user"] == "ada"
    assert alignx("export", "ada", "--out", str(tmp_path / "ada.jsonl")).exit_code == 0
    assert len((tmp_path / "ada.jsonl").read_text().splitlines()) == 7
    assert alignx("export", "nobody", "--out", str(tmp_path / "nobody.jsonl")).exit_code == 1
    assert not (tmp_path / "nobody.jsonl").exists()


def test_export_can_be_ingested_again(alignx: Alignx, ada: None, service: FakeService):
    lines = alignx("export", "ada").stdout
    assert "Sent 3 events of 1 user" in alignx("ingest", "-", "--user", "bob", stdin=lines).stderr
    texts = [[event["interaction"]["text"] for event in service.users[user].events] for user in ("ada", "bob")]
    assert texts[0] == texts[1]
    service.users.clear()
    assert alignx("ingest", "-", stdin=lines).exit_code == 0
    assert list(service.users) == ["ada"]


def test_why(alignx: Alignx, ada: None, service: FakeService):
    shown = alignx("why", "ada").stdout
    [unsupported] = [line for line in shown.splitlines() if "Likes what 3 events show." in line]
    assert "no event supports this" in unsupported
    [supported] = [line for line in shown.splitlines() if "Likes the second." in line]
    assert "2 events" in supported
    kind = service.users["ada"].events[1]["interaction"]["type"]
    assert f"{kind}:" in supported


def test_quality(alignx: Alignx):
    shown = alignx("quality").stdout
    assert "50.0%" in shown
    assert "21.5% to 78.5%" in shown
    assert "llm:b first/2 is held back: its summaries predict worse (7 users tested)" in shown
    assert json.loads(alignx("quality", "--json").stdout)["profile"]["comparisons"] == 8


def test_uplift(alignx: Alignx):
    shown = alignx("quality", "--uplift").stdout
    assert "+12.5%" in shown
    assert "20 of 40" in shown
    assert "Answers of 2026-11-02 10:00 to 2026-11-16 18:30 UTC" in shown
    assert json.loads(alignx("quality", "--uplift", "--json").stdout)["holdout_share"] == 0.1


def test_erase_asks(alignx: Alignx, ada: None, service: FakeService):
    assert alignx("erase", "ada", stdin="n\n").exit_code == 1
    assert "ada" in service.users
    assert alignx("erase", "ada", stdin="y\n").exit_code == 0
    assert "ada" not in service.users
    assert alignx("erase", "ada", "--yes").exit_code == 1


def test_forget_takes_single_events(alignx: Alignx, ada: None, service: FakeService):
    events = service.users["ada"].events
    first = events[0]["event_id"]
    before = len(events)
    assert alignx("forget", "ada", "--event", first, stdin="n\n").exit_code == 1
    assert "Removed 1 event, 1 version." in alignx("forget", "ada", "--event", first, stdin="y\n").stderr
    assert len(events) == before - 1
    assert alignx("forget", "ada", "--event", first, "-y").exit_code == 1
    assert "Would remove" in alignx("forget", "ada", "--about", "type", "--dry-run").stderr
    assert len(events) == before - 1
    assert json.loads(alignx("forget", "ada", "--about", "type", "-y", "--json").stdout)["versions"] == 1
    assert not events
    assert "ada" in service.users
    for wrong in (["--event", "1-0", "--about", "x"], ["--dry-run"], []):
        assert alignx("forget", "ada", *wrong, "-y").exit_code == 2


def test_status(alignx: Alignx, service: FakeService):
    assert alignx("status", key=None).exit_code == 0
    service.checks["engine"] = "No engine answers"
    result = alignx("status", key=None)
    assert result.exit_code == 1
    assert "No engine answers" in result.stdout
    assert json.loads(alignx("status", "--json").stdout)["status"] == "not_ready"


def test_doctor_names_what_is_wrong_and_what_to_do(alignx: Alignx, service: FakeService):
    engine = {"model": "m", "dialect": "no system role", "context_tokens": 2048, "letters": False}
    service.engine = {**engine, "state": "ok", "words": "System role not supported"}
    result = alignx("doctor")
    assert result.exit_code == 0
    for words in ("no system role", "2048", "System role not supported", "the profile"):
        assert words in " ".join(result.stdout.split())
    service.engine = {**engine, "state": "degraded", "detail": "status 400: bad"}
    service.checks["redis"] = "Redis does not answer"
    result = alignx("doctor", "--json")
    wrong = {line["part"]: line for line in json.loads(result.stdout) if line["state"] != "ok"}
    assert result.exit_code == 1
    assert wrong.keys() == {"gateway", "redis", "engine", "engine record"}
    assert wrong["engine"]["state"] == "degraded: status 400: bad"
    assert "ALIGNX_REDIS__URL" in wrong["redis"]["advice"]
    assert "not known yet" in wrong["engine record"]["state"]


def test_doctor_without_a_gateway_or_a_key(alignx: Alignx, service: FakeService):
    assert alignx("doctor", key=None).exit_code == 1
    service.faults.extend([httpx.ConnectError("refused")] * 9)
    result = alignx("doctor")
    assert (result.exit_code, "make up" in result.stdout) == (1, True)


# --- answers -----------------------------------------------------------------------------------


def test_chat_once(alignx: Alignx, ada: None, service: FakeService):
    result = alignx("chat", "ada", "hello", "--mode", "direct", "--max-history", "9")
    assert result.stdout == "You said: hello\n"
    assert "(direct, summary version 2)" in result.stderr
    assert json.loads(service.requests[-1].content)["personalization"] == {"mode": "direct", "max_history": 9}
    alignx("chat", "ada", "hello", "--mode", "pba")
    assert json.loads(service.requests[-1].content)["personalization"] == {"mode": "pba"}
    alignx("chat", "ada", "hello", "--learn")
    assert json.loads(service.requests[-1].content)["personalization"] == {"mode": "summary", "learn": True}
    assert alignx("chat", "ada", "-", stdin="piped").stdout == "You said: piped\n"


def test_chat_without_an_engine(alignx: Alignx, service: FakeService):
    body = {"error": {"message": "No engine; make up ENGINE=…", "code": "no_engine"}}
    service.chats += [httpx.Response(501, json=body)]
    result = alignx("chat", "ada", "hello")
    assert result.exit_code == 1
    assert "error: No engine; make up ENGINE=…" in result.stderr
    assert "Chat needs a language model engine" in result.stderr
    assert len(service.requests) == 1, "a retry would be pointless"


def test_conversation_keeps_its_turns(alignx: Alignx, service: FakeService):
    result = alignx("chat", "ada", stdin="one\ntwo\n")
    assert result.exit_code == 0
    assert "You said: two" in result.stdout
    turns = json.loads(service.requests[-1].content)["messages"]
    assert [turn["content"] for turn in turns] == ["one", "You said: one", "two"]


def test_select_and_recommend(alignx: Alignx, ada: None, tmp_path: Path):
    path = tmp_path / "items.txt"
    path.write_text('Plain text\n"Quoted"\n\n{"title": "Boots", "price": 90}\n')
    chosen = alignx("select", "ada", "An argument", "--file", str(path)).stdout
    assert "Boots (price: 90" in chosen
    assert "90.0%" in chosen
    assert json.loads(alignx("select", "ada", "a", "b", "--json").stdout)["choice"] == 1
    assert alignx("select", "ada", "a", "b").stderr == "scored by profile\n"
    by_engine = alignx("recommend", "ada", "a", "b", "--method", "engine").stderr
    assert by_engine == "scored by engine, summary version 3\n"
    ranked = alignx("recommend", "ada", "--file", str(path), "-k", "2", "--explain").stdout
    assert "It lasts." in ranked
    assert "Quoted" in ranked
    assert "Plain text" not in ranked
    assert len(json.loads(alignx("recommend", "ada", "a", "b", "--json").stdout)["items"]) == 2
    path.write_text("fine\n{broken\n")
    assert "line 2 is not an item" in alignx("select", "ada", "--file", str(path)).stderr.replace("\n", " ")


def test_files_as_windows_writes_them(alignx: Alignx, ada: None, service: FakeService, tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(codecs.BOM_UTF8 + b'{"title": "Flute"}\r\nDrum\r\n')
    assert alignx("recommend", "ada", "--file", str(file)).exit_code == 0
    flute, drum = json.loads(service.requests[-1].content)["candidates"]
    assert (flute["title"], drum) == ("Flute", "Drum")
    file.write_bytes(codecs.BOM_UTF8 + b"Likes drums.\r\nAnd flutes.\r\n")
    assert alignx("edit", "ada", "--file", str(file)).exit_code == 0
    assert service.users["ada"].versions[-1] == "Likes drums.\nAnd flutes."
    for command in (("recommend", "ada", "--file"), ("edit", "ada", "--file"), ("users", "erase", "-y", "--file")):
        file.write_bytes("ada\r\n".encode("utf-16"))
        refused = alignx(*command, str(file))
        assert (refused.exit_code, "is not UTF-8" in refused.stderr.replace("\n", " ")) == (2, True)
    file.write_bytes(codecs.BOM_UTF8 + b"ada\r\nbob")
    assert "Erased 1 user; of 1 nothing was kept." in alignx("users", "erase", "-y", "--file", str(file)).stderr


def test_catalogue(alignx: Alignx, service: FakeService, tmp_path: Path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": 5, "title": "Boots"}\n{"id": "6", "title": "Tent"}\n')
    assert alignx("catalogue", str(path)).stderr == "Put 2 items; the catalogue holds 2.\n"
    assert sorted(service.catalogue) == ["5", "6"]
    path.write_text('{"title": "Boots"}\n')
    assert "line 1 is not an item" in alignx("catalogue", str(path)).stderr.replace("\n", " ")


# --- keys --------------------------------------------------------------------------------------


def test_keys(alignx: Alignx, service: FakeService, tmp_path: Path):
    service.page = 1
    created = alignx("keys", "create", "shop", "--tenant", "acme", "--rate", "50")
    assert created.stdout == "ax_k1_new\n"
    assert "not shown again" in created.stderr
    assert json.loads(alignx("keys", "create", "app", "--tenant", "acme", "--admin", "--json").stdout)["admin"]
    listed = alignx("keys", "list").stdout
    assert "shop" in listed
    assert "all but admin" in listed
    assert len(json.loads(alignx("keys", "list", "--json").stdout)["keys"]) == 2
    assert "is revoked" in alignx("keys", "revoke", "k1").stderr
    assert alignx("keys", "revoke", "k9").exit_code == 1
    (tmp_path / "var/secrets").mkdir(parents=True)
    (tmp_path / "var/secrets/user_key").write_text("ax_user_key")
    (tmp_path / "var/secrets/admin_key").write_text("ax_k1_secret")
    assert alignx("keys", "list", key=None).exit_code == 0


def test_a_key_with_scopes_that_ends(alignx: Alignx, service: FakeService):
    options = ("--scope", "events:write", "--scope", "select", "--expires")
    created = json.loads(alignx("keys", "create", "feed", "--tenant", "acme", *options, "90d", "--json").stdout)
    assert created["scopes"] == ["events:write", "select"]
    left = datetime.fromisoformat(created["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)
    assert alignx("keys", "create", "feed", "--tenant", "acme", *options, "2030-01-02").exit_code == 0
    assert service.keys[-1]["expires_at"] == "2030-01-02T00:00:00Z"
    listed = alignx("keys", "list").stdout
    assert "events:write select" in listed
    assert "2030-01-02" in listed
    for wrong in (("--scope", "write"), ("--expires", "soon"), ("--expires", "9y"), ("--expires", "999999999d")):
        assert alignx("keys", "create", "feed", "--tenant", "acme", *wrong).exit_code == 2


def test_a_key_is_rotated(alignx: Alignx, service: FakeService):
    alignx("keys", "create", "feed", "--tenant", "acme")
    rotated = alignx("keys", "rotate", "k1", "--overlap", "2h")
    assert rotated.stdout == "ax_k1_rotated\n"
    assert "opens until 2026-05-01 14:00 UTC" in rotated.stderr
    assert json.loads(alignx("keys", "rotate", "k1", "--json").stdout)["previous_until"] == "2026-05-02T12:00:00Z"
    assert alignx("keys", "rotate", "k1", "--overlap", "long").exit_code == 2
    assert alignx("keys", "rotate", "k9").exit_code == 1
    assert "2026-05-02 12:00" in alignx("keys", "list").stdout


def test_a_token_for_a_user(alignx: Alignx, service: FakeService):
    minted = alignx("keys", "token", "ada", "--scope", "chat", "--ttl", "30m")
    assert minted.stdout == "token-of-ada\n"
    assert "For ada until 2026-05-01 12:30:00 UTC" in minted.stderr
    assert json.loads(alignx("keys", "token", "ada", "--scope", "chat", "--json").stdout)["scopes"] == ["chat"]
    assert alignx("keys", "token", "ada").exit_code == 2
    assert alignx("keys", "token", "ada", "--scope", "chat", "--ttl", "2h").exit_code == 2


def test_the_audit_log(alignx: Alignx, service: FakeService):
    service.page = 2
    assert json.loads(alignx("keys", "audit", "--json").stdout)["next"] is None
    assert len(json.loads(alignx("keys", "audit", "--limit", "3", "--json").stdout)["entries"]) == 3
    shown = alignx("keys", "audit", "--tenant", "acme").stdout
    assert shown.count("key.created") == 5
    assert "2026-05-01 12:00:00" in shown
    assert alignx("keys", "audit", "--user", "ada", "--limit", "1").exit_code == 0
    assert dict(service.requests[-1].url.params) == {"user": "ada", "limit": "1"}


def test_settings_of_a_tenant(alignx: Alignx, service: FakeService):
    changed = alignx("tenants", "settings", "set", "acme", "update_events=40", "update_bits=6.5").stdout
    assert "update_events" in changed
    assert "6.5" in changed
    own = json.loads(alignx("tenants", "settings", "unset", "acme", "update_bits", "--json").stdout)
    assert (own["overridden"], own["settings"]["update_events"]) == (["update_events"], 40)
    assert json.loads(alignx("tenants", "settings", "get", "acme", "--json").stdout) == own
    assert "tokens spent" not in changed
    service.spent = {"day": 12_000, "month": 345_678}
    assert "12,000 today, 345,678 this month" in alignx("tenants", "settings", "get", "acme").stdout
    assert "is not NAME=VALUE" in alignx("tenants", "settings", "set", "acme", "update_events").stderr
