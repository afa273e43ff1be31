"""The cases of a command that failed: each is told when it fails, and all together at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from meduniseg_core.errors import BadInputError, OutOfMemoryError, UsageError
from training_cli.explaining import choices_in, explain_error, show_traceback
from training_cli.output import print_error
from training_cli.session import Session


@dataclass(frozen=True)
class Failure:
    """Why a case failed, and the exit code for it alone."""

    sentence: str
    code: int


@dataclass
class CaseFailures:
    """Collects the failures of a command's cases while the other cases go on."""

    session: Session
    _found: dict[str, Failure] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, case: str) -> bool:
        return case in self._found

    def __iter__(self) -> Iterator[str]:
        """The names of the cases that failed, in the order in which they did."""
        return iter(self._found)

    def note(self, case: str, error: Exception) -> Failure:
        """Note a case's failure, which is told later."""
        self._found[case] = Failure(*explain_error(error))
        return self._found[case]

    def add(self, case: str, error: Exception) -> None:
        """Note a case's failure, and tell it."""
        show_traceback(error)
        failure = self.note(case, error)
        more = {"case": case, **choices_in(error)}
        print_error(f"{case}: {failure.sentence}", failure.code, as_json=self.session.json_events, more=more)

    def may_succeed(self, case: str) -> bool:
        """Whether trying a failed case once more makes sense: not where the command itself is wrong."""
        return self._found[case].code != UsageError.exit_code

    def forget(self, case: str) -> None:
        """A failed case is tried once more."""
        del self._found[case]

    def as_json(self) -> list[dict[str, str]]:
        """The failures, for the command's result."""
        return [{"case": case, "error": failure.sentence} for case, failure in self._found.items()]

    def exit_code(self, case_count: int, not_begun: int = 0) -> int:
        """Tell how many of all cases failed and which, if any did, and return the command's exit code."""
        if not self._found:
            return 0
        only_memory = all(failure.code == OutOfMemoryError.exit_code for failure in self._found.values())
        code = OutOfMemoryError.exit_code if only_memory else BadInputError.exit_code
        sentence = f"{len(self)} of {case_count} cases failed: {', '.join(self)}"
        sentence += f"; {not_begun} were not begun." if not_begun else "."
        print_error(sentence, code, as_json=self.session.json_events)
        return code
