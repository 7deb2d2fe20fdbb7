"""How long a visitor of the page waits in Chromium, from an empty cache to the reconstruction and to speech.

    npm install --prefix space
    python scripts/build_space.py --output runs/space
    python scripts/benchmarks/benchmark_browser.py --site runs/space --repeats 5

Every turn is a browser of its own, on this machine, which serves the page too, so no network counts. Times are wall
clock. Writes browser.json and .md: medians, and the longest. Needs the extra `browser` and a Chromium on the path.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import soundfile
from benchmark_baseline import machine

from q2d2_tokenizer import read_audio, sample_recording
from q2d2_tokenizer.evaluation.provenance import describe_run, require_commit, written_by
from q2d2_tokenizer.evaluation.tables import rows_table

sys.path.insert(0, str(Path(__file__).parents[1]))
from build_space import server  # noqa: E402

SECONDS = 3
TEXT = "The print could have been placed on the carton."


def visit(browser: Any, address: str, recording: Path) -> dict[str, float]:
    """Seconds that the steps of a first visit take."""
    page = browser.new_page()
    page.set_default_timeout(300_000)
    times = [time.perf_counter()]

    def done(count: int) -> None:
        page.wait_for_selector(f"body[data-done='{count}']", state="attached")
        times.append(time.perf_counter())

    page.goto(f"{address}index.html")
    page.wait_for_selector("#choose:enabled")
    times.append(time.perf_counter())
    before = int(page.get_attribute("body", "data-done"))
    page.set_input_files("#file", recording)
    done(before + 1)
    page.fill("#text", TEXT)
    page.click("#speak")
    done(before + 2)
    steps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    return {
        "opened, models ready": steps[0],
        f"a file of {SECONDS} s: reconstruction": steps[1],
        "both, from a click on a link": steps[0] + steps[1],
        f"{TEXT!r}: all of it is there, its model loaded": steps[2],
    }


def main() -> None:
    """Visit the page and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, required=True, help="folder of the built page")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"), help="folder of the results")
    parser.add_argument("--repeats", type=int, default=5, help="visits")
    args = parser.parse_args()
    if not (args.site / "index.html").exists():
        parser.error(f"--site must be what scripts/build_space.py wrote, got {args.site}")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        parser.error("there is no Chromium on the path")
    from playwright.sync_api import sync_playwright

    require_commit(args.output)
    run = describe_run() | {"machine": machine()}
    served = server(args.site, 0)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    visits = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        recording = Path(folder) / "recording.wav"
        soundfile.write(recording, read_audio(sample_recording(), 24000)[: SECONDS * 24000], 24000)
        for _ in range(args.repeats):
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            visits.append(visit(browser, f"http://127.0.0.1:{served.server_port}/", recording))
            browser.close()
    served.shutdown()
    rows = [
        {
            "what": name,
            "seconds": statistics.median(turn[name] for turn in visits),
            "longest": max(turn[name] for turn in visits),
        }
        for name in visits[0]
    ]
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "browser.json").write_text(
        json.dumps({"run": run, "results": rows, "turns": visits}, indent=2) + "\n"
    )
    source = f"Medians of {args.repeats} visits. Machine: {run['machine']}. {written_by(run)}"
    (args.output / "browser.md").write_text(f"{rows_table(rows)}\n\n{source}\n")
    print(rows_table(rows))


if __name__ == "__main__":
    main()
