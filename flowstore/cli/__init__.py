"""The command line: it parses, calls and prints."""

from flowstore.cli.app import main

__all__ = ["main"]
