"""How groups of commands behave: help in sections, and a command that needs no name."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_DEFAULT = "list"


class Sections(TyperGroup):
    """A group whose help lists the commands under headings, also in a pipe.

    The heading of a command is its ``rich_help_panel``. Typer has click within it in some of its
    versions and beside it in others: hence no types of click.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        room = formatter.width - 6 - max(map(len, self.commands))
        for name in self.list_commands(ctx):
            command: Any = self.commands[name]
            if not command.hidden:
                row = (name, command.get_short_help_str(room))
                sections.setdefault(str(command.rich_help_panel), []).append(row)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class ListByDefault(TyperGroup):
    """A group that takes words which name none of its commands as those of its ``list``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` before the words if no command is named."""
        if not args or not (args[0] in self.commands or args[0] in ctx.help_option_names):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)
