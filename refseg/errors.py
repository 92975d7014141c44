"""The errors that a person can mend.

Everything that is the input's fault, and not the program's, is a `RefsegError`: the message names the file, the field
and the remedy, and the command line prints it as one line and exits with code 2.
"""

from __future__ import annotations


class RefsegError(ValueError):
    """Input that cannot be used; the message says which file, which field and what to do."""


class ConfigError(RefsegError):
    """A configuration field that is unknown, of the wrong type or out of range."""

    def below(self, table: str) -> ConfigError:
        """The same error about a field of a nested table: its message begins with the field's name."""
        return ConfigError(f"{table}.{self}") if table else self


class DataError(RefsegError):
    """A data set file, record or folder that does not hold what it should."""


class ImageError(RefsegError):
    """A picture that cannot be read, or is larger than the limits."""


class CheckpointError(RefsegError):
    """A checkpoint that is damaged, of another system, or does not fit the configuration."""


def did_you_mean(name: str, choices: list[str] | tuple[str, ...]) -> str:
    """A hint that lists the choices nearest to `name`, or all of them when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, choices, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(repr(choice) for choice in near) + "?"
    return "choose from " + ", ".join(repr(choice) for choice in choices)
