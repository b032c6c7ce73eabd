"""A real Neo4j for the tests, made of Maven's packages: no Docker, no root, no client tools."""
