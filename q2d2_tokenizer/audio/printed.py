"""Lines that C libraries print, which name no file: caught, to be said together with the file."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_OF_MPG123 = re.compile(r"(Note|Warning): |\[src/libmpg123/")
_lock = threading.RLock()  # there is one standard error for all threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextmanager
def lines_of_mpg123() -> Iterator[list[str]]:
    """Catch standard error: afterwards the list holds the lines of mpg123; those of other threads are passed on."""
    lines: list[str] = []
    with _lock, tempfile.TemporaryFile() as caught:
        try:
            sys.stderr.flush()
            before = os.dup(2)
        except (AttributeError, OSError, ValueError):  # there is no standard error
            yield lines
            return
        try:
            os.dup2(caught.fileno(), 2)
            yield lines
        finally:
            os.dup2(before, 2)
            os.close(before)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines(keepends=True):
                if _OF_MPG123.match(line):
                    lines.append(line.strip())
                else:
                    sys.stderr.write(line)
