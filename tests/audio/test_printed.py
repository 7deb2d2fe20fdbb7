"""Lines that mpg123 prints are caught; nothing else is."""

import os
import sys
import threading

import pytest

from q2d2_tokenizer.audio.printed import lines_of_mpg123

LINE = "[src/libmpg123/layer3.c:INT123_do_layer3():1774] error: part2_3_length (992) too large"


def test_lines_of_mpg123_are_caught_and_those_of_others_go_on(capfd):
    with lines_of_mpg123() as lines:
        os.write(2, f"{LINE}\nbar 3%\nNote: Trying to resync...\nWarning: Big change\n".encode())
    assert lines == [LINE, "Note: Trying to resync...", "Warning: Big change"]
    assert capfd.readouterr().err == "bar 3%\n"
    with pytest.raises(KeyError), lines_of_mpg123():
        raise KeyError
    sys.stderr.write("again")
    assert capfd.readouterr().err == "again"


def test_threads_take_turns(capfd):
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        for _ in range(20):
            with lines_of_mpg123() as lines:
                os.write(2, f"Note: {number}\n".encode())
            found.setdefault(number, []).extend(lines)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [f"Note: {number}"] * 20 for number in range(4)}
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_can_catch_lines_too():
    stop, begun = threading.Event(), threading.Event()

    def hold() -> None:
        while not stop.is_set():
            with lines_of_mpg123():
                begun.set()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        with lines_of_mpg123() as lines:
            os.write(2, b"Note: child\n")
        os._exit(0 if lines == ["Note: child"] else 1)
    stop.set()
    assert os.waitpid(child, 0)[1] == 0
    thread.join()


def test_nothing_is_caught_where_there_is_no_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with lines_of_mpg123() as lines:
        pass
    assert lines == []
