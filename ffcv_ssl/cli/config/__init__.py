"""Options of the commands: sections of dataclasses, read from flags and YAML files."""

from ffcv_ssl.cli.config.parser import config_yaml, parse, print_config

__all__ = ["config_yaml", "parse", "print_config"]
