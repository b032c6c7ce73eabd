"""The graph store on a Neo4j server: the same passages, names, links and facts as the embedded one keeps in tables."""
