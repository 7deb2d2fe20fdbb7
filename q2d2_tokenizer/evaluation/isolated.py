"""Calls in a process of their own, for libraries whose C code may end the process."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

_CHILD = """
import pickle, sys
out, sys.stdout = sys.stdout.buffer, sys.stderr
while sys.stdin.buffer.peek(1):
    function, arguments = pickle.load(sys.stdin.buffer)
    try:
        answer = True, function(*arguments)
    except Exception as error:
        answer = False, error
    pickle.dump(answer, out)
    out.flush()
"""


class ProcessEnded(Exception):
    """The process of a call ended before it gave an answer."""


class Isolated:
    """Calls functions in one other process, which is started again if a call ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        """What the function returns; it is found by its name, so it must be one of an installed module.

        Raises:
            ProcessEnded: If the call ended the process.
        """
        if self._process is None:
            command = [sys.executable, "-c", _CHILD]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._process
        assert process.stdin and process.stdout
        try:
            pickle.dump((function, arguments), process.stdin)
            process.stdin.flush()
            succeeded, answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            self._process = None
            process.stdout.close()
            raise ProcessEnded(f"{function.__name__} ended its process with status {process.wait()}") from error
        if not succeeded:
            raise answer
        return answer
