"""Options of the commands: sections of dataclasses, filled from YAML files and flags.

Fastargs holds the declared parameters, collects their values and calls the checkers. Alone, it is
not strict enough for runs that take days (version 1.2.0), so this package adds the rest:

- `parser`: an argparse parser and one `fastargs.Config` per command. In fastargs, environment
  variables override flags without notice, there are no positional arguments, an invalid value ends
  the program with status 0, and all modules share one global configuration, so two commands with an
  option `data.path` overwrite each other.
- `file`: a strict YAML reader. Fastargs ignores unknown and duplicate keys in a configuration file,
  so a misspelled option silently keeps its default.
- `checkers`: value checkers. Fastargs reads the text "False" as True, truncates 2.5 to 2, accepts
  NaN and lists choices in random order.
- `help`: help texts with one entry per option, instead of a table as wide as its longest sentence.
"""

from ffcv_ssl.cli.config.parser import config_yaml, parse, print_config

__all__ = ["config_yaml", "parse", "print_config"]
