"""Commands that refuse an option given twice: of two values the parser would take the last one without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from meduniseg_core.errors import UsageError


class OnceCommand(TyperCommand):
    """A command each of whose options is given once, but for those that say that they are repeatable."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments as typer does.

        Args:
            ctx: typer's context.
            args: the arguments.

        Returns:
            What typer returns.

        Raises:
            UsageError: an option that takes one value is given more than once.
        """
        if (args or not self.no_args_is_help) and not ctx.resilient_parsing:  # as while the shell completes a word
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for option, times in Counter(order).items():
                if isinstance(option, TyperOption) and times > 1 and not (option.multiple or option.is_flag):
                    name = max(option.opts, key=len)
                    joined = ", several in one with commas between them" if "," in (option.metavar or "") else ""
                    raise UsageError(f"{name} is given {times} times and counts once; give it once{joined}.")
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """A group of such commands."""

    def command(  # type: ignore[override]  # whose other arguments are all passed on
        self, name: str | None = None, **settings: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add a command as `typer.Typer.command` does.

        Args:
            name: as there.
            **settings: as there.

        Returns:
            The decorator.
        """
        return super().command(name, cls=OnceCommand, **settings)
