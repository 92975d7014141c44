"""The command line: the overview of `refseg --help`, and one line for whatever goes wrong.

The verbs themselves are commands of one Typer app, `refseg.cli.app`; it is imported when a verb is asked for, so that
the overview and the version come at once.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from refseg import __version__
from refseg.cli.verbs import COMPLETE_VARIABLE, COMPLETION, VERBS
from refseg.errors import RefsegError, did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 well, 1 failed, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if COMPLETE_VARIABLE not in os.environ:
        if not words or words[0] in ("-h", "--help"):
            print(overview())
            return 0 if words else 2
        if words[0] in ("-V", "--version"):
            print(f"refseg {__version__}")
            return 0
        if words[0] not in (*VERBS, *COMPLETION):
            print(f"refseg: {words[0]!r} is not a verb; {did_you_mean(words[0], list(VERBS))}", file=sys.stderr)
            return 2
    from refseg.cli.app import UsageError, explain, run

    prefix = f"refseg {words[0]}" if words else "refseg"
    try:
        return run(words)
    except UsageError as error:
        print(explain(error), file=sys.stderr)
        return 2
    except RefsegError as error:
        print(f"{prefix}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prefix}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has left: not an error. Keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        full = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
        # What shutil copies tells of its errors in words alone.
        reason = error.strerror or next((words for words in full if words in str(error)), None)
        if reason not in full:
            raise
        print(f"{prefix}: {error.filename or 'a file'} cannot be written ({reason})", file=sys.stderr)
        return 2


def overview() -> str:
    """The text of `refseg --help`."""
    width = max(map(len, VERBS))
    lines = ["usage: refseg VERB ..."]
    group = ""
    for name, verb in VERBS.items():
        if verb.group != group:
            lines += ["", f"{verb.group}:"]
            group = verb.group
        lines.append(f"  {name:<{width}}  {verb.summary}")
    return "\n".join(
        [
            *lines,
            "",
            "refseg VERB --help describes a verb. refseg --version prints the version;",
            "refseg --install-completion completes verbs, options and names in your shell.",
        ]
    )
