"""`hybridmem graph …`: what is shown and drawn, what is copied where, and how it fails; in process."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from servers.neo4j.server import Neo4jAddress, Neo4jServer
from servers.ports import free_port
from test_cli import Result, run, written
from test_graph_store import dump
from test_transfer import fill

from llama_index_hybridmem.cli.graph_places import Server, place
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.graph.stores.neo4j.store import Neo4jGraphStore
from llama_index_hybridmem.graph.stores.sqlite import SqliteGraphStore
from llama_index_hybridmem.manifest import tenant_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph in it."""
    folder = tmp_path_factory.mktemp("store")
    with closing(SqliteGraphStore(folder / "graph.sqlite")) as graph:
        fill(graph)
    return folder


def address(server: Neo4jAddress, user: str = "") -> str:
    """A server's address as a user writes it."""
    return f"{server.uri.replace('://', f'://{user}@' if user else '://')}/{server.database}"


def failed(result: Result, *said: str) -> None:
    """It ended with exit code 1, nothing but one line on standard error, and that says what is expected."""
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    for words in said:
        assert words in result.err


# -- show -------------------------------------------------------------------------------------------------------------


def test_a_name_is_shown(store: Path) -> None:
    """Its spellings, facts with provenance, names beside it with how many passages, passages; in any case."""
    shown = run("graph", "show", "robert dennard", "--store", store)
    assert shown.code == 0
    for expected in (
        "Name robert dennard in",
        "Written Robert Dennard (",
        "→ invented → DRAM (f.csv)",
        "With ",
        "Passages ",
    ):
        assert expected in shown.words
    assert "IBM:" not in shown.words
    assert run("graph", "show", "ROBERT DENNARD", "-s", store / "graph.sqlite").out == shown.out


def test_json_has_all_of_it(store: Path) -> None:
    """Every part of the portrait, under its name."""
    found = run("graph", "show", "DRAM", "--store", store, "--hops", 2, "--json").json
    assert found["name"] == "dram"
    assert {"subject": "DRAM", "relation": "needs", "object": "refresh"}.items() <= found["statements"][0].items()
    assert {each["beside"] for each in found["near"]} > {"dram"}
    assert found["excerpts"][0].keys() == {"node_id", "title", "text", "titled"}


def test_pictures_are_files(store: Path, tmp_path: Path) -> None:
    """SVG and HTML are written, the same bytes again; a folder that is not there is one line."""
    files = tmp_path / "a.svg", tmp_path / "a.html"
    assert run("graph", "show", "DRAM", "-s", store, "--svg", files[0], "--html", files[1]).code == 0
    first = [file.read_bytes() for file in files]
    ElementTree.fromstring(first[0])
    assert b"<svg" in first[1]
    run("graph", "show", "DRAM", "-s", store, "--svg", files[0], "--html", files[1])
    assert [file.read_bytes() for file in files] == first
    failed(run("graph", "show", "DRAM", "-s", store, "--svg", tmp_path / "no" / "a.svg"), "No such file")


def test_an_unknown_name_gets_suggestions(store: Path) -> None:
    """Exit code 1, and what it may have been."""
    failed(run("graph", "show", "Robert Denard", "-s", store), "knows no name 'Robert Denard'", "robert dennard")
    failed(run("graph", "show", "qqqq", "-s", store), "knows no name 'qqqq'\n")


def test_no_store_no_graph(tmp_path: Path) -> None:
    """A folder without a graph is a wrong argument, and none is made."""
    shown = run("graph", "show", "x", "-s", tmp_path / "none")
    assert shown.code == 2
    assert "hybridmem ingest PATH --store" in shown.err
    assert not (tmp_path / "none").exists()
    (tmp_path / "graph.sqlite").write_bytes(b"not a database" * 100)
    failed(run("graph", "show", "x", "-s", tmp_path), "cannot be read")


# -- import and export ------------------------------------------------------------------------------------------------


def test_triples_are_imported(tmp_path: Path) -> None:
    """CSV and JSON become facts of a store that need not have been there; again changes nothing."""
    csv = written(tmp_path, {"f.csv": "subject,relation,object\nAda,met,Bob\n"}) / "f.csv"
    first = run("graph", "import", "--from", csv, "--to", tmp_path / "new", "--json")
    assert first.json["totals"] == {"passages": 0, "names": 2, "links": 0, "facts": 1}
    assert run("graph", "import", "--from", csv, "--to", tmp_path / "new", "--json").json == first.json
    more = written(tmp_path, {"f.json": '[["Bob", "met", "Eve"]]'}) / "f.json"
    shown = run("graph", "import", "--from", more, "--to", tmp_path / "new")
    assert "There now 0 passages, 3 names, 0 links, 2 facts" in shown.words
    assert run("graph", "import", "--from", tmp_path / "none.csv", "--to", tmp_path / "new").code == 2


def test_a_graph_goes_to_neo4j_and_comes_back(store: Path, neo4j: Neo4jAddress, tmp_path: Path) -> None:
    """Exported, shown there, imported: the same portrait, every table equal; several graphs in one database."""
    there = address(neo4j)
    exported = run("graph", "export", "--from", store, "--to", there, "--json").json
    assert run("graph", "export", "--from", store, "--to", there, "--json").json == exported
    assert run("graph", "show", "DRAM", "--from", there).out == run("graph", "show", "DRAM", "-s", store).out
    imported = run("graph", "import", "--from", there, "--to", tmp_path / "back", "--json").json
    assert imported == exported
    with (
        closing(SqliteGraphStore(store / "graph.sqlite")) as one,
        closing(SqliteGraphStore(tmp_path / "back" / "graph.sqlite")) as other,
    ):
        assert dump(one) == dump(other)
    missing = run("graph", "import", "--from", there, "--to", tmp_path / "x", "--graph", "other")
    assert missing.code == 2
    assert "no graph 'other' in" in missing.err
    assert "graphs there: main" in missing.err


def test_a_foreign_graph_is_shown_and_imported(neo4j: Neo4jAddress, tmp_path: Path) -> None:
    """Without any graph of ours there; beside one by --foreign."""
    neo4j.query("CREATE (:Person {name: 'Ada Lovelace'})-[:WORKED_WITH]->(:Person {name: 'Charles Babbage'})")
    there = address(neo4j)
    assert "Ada Lovelace → worked with → Charles Babbage" in run("graph", "show", "ada lovelace", "--from", there).words
    csv = written(tmp_path, {"f.csv": "subject,relation,object\nEve,met,Bob\n"}) / "f.csv"
    run("graph", "import", "--from", csv, "--to", tmp_path / "ours")
    run("graph", "export", "--from", tmp_path / "ours", "--to", there)
    failed(run("graph", "show", "Ada Lovelace", "--from", there), "knows no name")
    found = run("graph", "import", "--from", there, "--to", tmp_path / "new", "--foreign", "--json").json
    assert found["facts"] == 1
    assert run("graph", "show", "Eve", "-s", tmp_path / "new").code == 1


def test_a_tenants_graph_goes_to_neo4j_and_comes_back(store: Path, neo4j: Neo4jAddress, tmp_path: Path) -> None:
    """Where an index of the same tenant has it, on either side; no other tenant's, and not the graph beside them."""
    there, root = address(neo4j), tmp_path / "root"
    acme = tenant_folder(root, "Acme & Co")
    acme.mkdir(parents=True)
    shutil.copy(store / "graph.sqlite", acme)
    exported = run("graph", "export", "--from", root, "--to", there, "--tenant", "Acme & Co", "--json").json
    with closing(Neo4jGraphStore(neo4j.uri, database=neo4j.database, timeout_s=30)) as main:
        assert main.tenant("Acme & Co").passage_count == exported["passages"] > 0
        assert main.passage_count == 0
    back = tmp_path / "back"
    assert run("graph", "import", "--from", there, "--to", back, "--tenant", "Acme & Co", "--json").json == exported
    with (
        closing(SqliteGraphStore(store / "graph.sqlite")) as one,
        closing(SqliteGraphStore(tenant_folder(back, "Acme & Co") / "graph.sqlite")) as other,
    ):
        assert dump(one) == dump(other)
    shown = run("graph", "show", "DRAM", "--from", there, "--tenant", "Acme & Co")
    assert shown.out == run("graph", "show", "DRAM", "-s", back, "--tenant", "Acme & Co").out != ""
    for place_ in (there, back):
        assert "o graph" in run("graph", "show", "DRAM", "--from", place_, "--tenant", "acme & co").err
    neo4j.query("CREATE (:Person {name: 'Ada'})-[:KNOWS]->(:Person {name: 'Bob'})")
    missing = run("graph", "import", "--from", there, "--to", back, "--tenant", "other")
    assert (missing.code, "no graph of tenant 'other'" in missing.err) == (2, True)
    assert not tenant_folder(back, "other").exists()


def test_triples_and_files_of_tenants(tmp_path: Path) -> None:
    """Triples go into a tenant's folder; a graph that is one file has no tenants."""
    csv = written(tmp_path, {"f.csv": "subject,relation,object\nAda,met,Bob\n"}) / "f.csv"
    assert run("graph", "import", "--from", csv, "--to", tmp_path / "new", "--tenant", "a").code == 0
    assert (tenant_folder(tmp_path / "new", "a") / "graph.sqlite").is_file()
    refused = run("graph", "show", "Ada", "-s", tmp_path / "new" / "graph.sqlite", "--tenant", "a")
    assert (refused.code, "a store's folder has tenants" in refused.err) == (2, True)


# -- servers that refuse ----------------------------------------------------------------------------------------------


def test_a_dead_server_is_one_line(store: Path) -> None:
    """Nobody there: exit code 1, the address without the user's password, and what to look at."""
    gone = f"bolt://ada:s3cret#?/@hush@127.0.0.1:{free_port()}/neo4j"
    for command in (["show", "x", "--from", gone], ["export", "--from", store, "--to", gone]):
        result = run("graph", *command)
        assert result.code == 1
        assert "is it running?" in result.err
        assert "s3cret" not in result.err + result.out
        assert "hush" not in result.err + result.out
        assert "Traceback" not in result.err
        assert "stays in the shell's history" in result.err


def test_wrong_passwords_are_one_line(fragile_neo4j: Neo4jServer, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, under the usual name or another; without a terminal none is asked for."""
    assert fragile_neo4j.auth is not None
    there = address(fragile_neo4j, fragile_neo4j.auth[0])
    monkeypatch.setenv("NEO4J_PASSWORD", "wrong-s3cret")
    refused = run("graph", "export", "--from", store, "--to", there)
    failed(refused, "refuses us", "check user, password")
    assert "s3cret" not in refused.err
    monkeypatch.setenv("OTHER", fragile_neo4j.auth[1])
    assert run("graph", "export", "--from", store, "--to", there, "--password-env", "OTHER").code == 0
    monkeypatch.delenv("NEO4J_PASSWORD")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    asked = run("graph", "show", "DRAM", "--from", there)
    assert asked.code == 2
    assert "set NEO4J_PASSWORD" in asked.err
    assert run("graph", "show", "DRAM", "--from", there, "--password-env", "OTHER").code == 0


def test_a_terminal_is_asked_for_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment has none."""
    monkeypatch.delenv("NEO4J_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"asked: {prompt}")
    server = place("neo4j://ada@h", password_variable="NEO4J_PASSWORD")
    assert isinstance(server, Server)
    assert server.password == "asked: Password of ada at neo4j://h: "


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("neo4j://h", Server("neo4j://h")),
        ("bolt+s://ada@h:7688/my-db", Server("bolt+s://h:7688", "ada", None, "my-db")),
        ("neo4j://a%40b:p%2Fw@h/", Server("neo4j://h", "a@b", "p/w")),
        ("bolt://[::1]:7687/x", Server("bolt://[::1]:7687", None, None, "x")),
        ("folder/of mine", Path("folder/of mine")),
    ],
)
def test_places_are_read(named: str, expected: object) -> None:
    """Scheme, user, password, host, port and database; anything without a scheme is a path."""
    assert place(named) == expected


@pytest.mark.parametrize(
    "named",
    [
        "http://h",
        "neo4j://",
        "neo4j://u:s3cret@h:port",
        "neo4j://u:s3cret@h/a/b",
        "neo4j://u:s3cret@h?x=1",
        "x://u:s3cret@h",
    ],
)
def test_other_addresses_are_refused(named: str) -> None:
    """With what was expected, and without the password."""
    with pytest.raises(ConfigurationError) as refused:
        place(named)
    assert "s3cret" not in str(refused.value)


PASSWORDS = [
    f"s3cr{sign}hush" for sign in ("#", "?", "/", "@", ":", "[", "]", "\\", "℀", " ", "&", "%", "é", "", "://")
]


@pytest.mark.parametrize("password", [*PASSWORDS, "12/s3cr", "12#s3cr", "#", "@@", ":", "//@"])
def test_any_password_may_stand_in_an_address(password: str) -> None:
    """As it is, up to the last @, or written with %; and without one in it the same place is found."""
    expected = Server("bolt://h:7688", "ada", password, "db")
    assert place(f"bolt://ada:{password}@h:7688/db") == expected
    assert place(f"bolt://ada:{quote(password, safe='')}@h:7688/db") == expected


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "address",
    [
        "neo4j://ada:{}@h:port",
        "neo4j://ada:{}@h:7687/a/b",
        "neo4j://ada:{}@h:7687/db?x=1",
        "neo4j://ada:{}@h:7687#x",
        "neo4j://ada:{}@",
        "neo4j://a/da:{}@h",
        "neo4j://ada:{}@[h",
        "neo4j:/ada:{}@h",
        "bolt+s:ada:{}@h",
        "http://ada:{}@h",
        "://ada:{}@h",
    ],
)
def test_no_part_of_a_password_is_told(address: str, password: str) -> None:
    """An address that cannot be read is told by its scheme and host, without what Python says of it."""
    named = address.format(password)
    with pytest.raises(ConfigurationError, match="expected neo4j://user@host:port/database") as refused:
        place(named)
    assert refused.value.__cause__ is refused.value.__context__ is None
    result = run("graph", "show", "DRAM", "--from", named)
    for part in ("s3cr", "hush"):
        assert part not in result.out + result.err
    assert result.code == 2


def test_a_server_keeps_its_password_to_itself() -> None:
    """Neither in its repr nor in messages."""
    server = place("neo4j://ada:s3cret@h:1/db")
    assert "s3cret" not in repr(server) + str(server)
    assert str(server) == "neo4j://ada@h:1/db"


def test_help_names_every_option() -> None:
    """Each command explains itself."""
    for command in ("show", "import", "export"):
        assert run("graph", command, "--help").code == 0
