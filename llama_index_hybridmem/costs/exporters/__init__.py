"""Where finished traces go: files, tables, metrics, other tracers."""
