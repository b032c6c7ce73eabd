"""The command line, a file per subcommand: assembles the parts and decides nothing."""
