"""The command line: one module per command in `commands/`, their options in `config/`."""
