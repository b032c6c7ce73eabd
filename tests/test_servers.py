"""What tests of servers stand on does what it says: real Neo4j processes, and a proxy that breaks connections."""

from __future__ import annotations

import pytest
from neo4j.exceptions import AuthError, ClientError
from servers.neo4j.server import Neo4jAddress, Neo4jServer


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database(neo4j: Neo4jAddress, turn: int) -> None:
    """Nodes, constraints and indexes of the test before are gone."""
    assert neo4j.query("MATCH (n) RETURN count(n)") == [[0]]
    neo4j.query("CREATE CONSTRAINT one FOR (n:Thing) REQUIRE n.name IS UNIQUE")
    neo4j.query("CREATE FULLTEXT INDEX `odd ``name` FOR (n:Thing) ON EACH [n.name]")
    neo4j.query("CREATE (:Thing {name: 'a'})-[:KNOWS]->(:Thing {name: 'b'})")
    assert neo4j.query("SHOW INDEXES YIELD name WHERE name IN ['one', 'odd `name'] RETURN count(*)") == [[2]]


def test_one_server_has_apoc(neo4j_server: Neo4jAddress) -> None:
    """The server that stays up has APOC."""
    assert neo4j_server.query("RETURN apoc.version() STARTS WITH '5.'") == [[True]]


def test_the_other_server_has_no_apoc(fragile_neo4j: Neo4jServer) -> None:
    """What runs on the fragile server needs no APOC."""
    with pytest.raises(ClientError, match=r"Unknown function 'apoc\.version'"):
        fragile_neo4j.query("RETURN apoc.version()")


def test_the_other_server_asks_for_its_password(fragile_neo4j: Neo4jServer) -> None:
    """A wrong password is refused, the right one is not."""
    wrong = Neo4jAddress(fragile_neo4j.uri, ("neo4j", "another password"), fragile_neo4j.database)
    with pytest.raises(AuthError):
        wrong.query("RETURN 1")
    assert fragile_neo4j.query("RETURN 1") == [[1]]


def test_the_other_servers_default_database_has_another_name(fragile_neo4j: Neo4jServer) -> None:
    """There is no database "neo4j" to fall back on."""
    names = fragile_neo4j.query("SHOW DATABASES YIELD name, default RETURN name, default ORDER BY name")
    assert names == [["memory", True], ["system", False]]


def test_data_survive_a_kill(fragile_neo4j: Neo4jServer) -> None:
    """Kill -9 and restart: the same port, the same password, and what was committed is there."""
    fragile_neo4j.query("MERGE (:Kept {name: 'a'})")
    uri = fragile_neo4j.uri
    fragile_neo4j.kill()
    assert not fragile_neo4j.alive
    fragile_neo4j.restart()
    assert fragile_neo4j.uri == uri
    assert fragile_neo4j.query("MATCH (n:Kept) RETURN n.name") == [["a"]]
