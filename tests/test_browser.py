"""The page of space/ in Chromium: tokens, audio and reading of text are those of Python, and bad input is answered."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import lm
from lm.model import LanguageModel
from q2d2_tokenizer import Q2D2Model, default_checkpoint, read_audio, sample_recording

pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUNTIME = ROOT / "space" / "node_modules" / "onnxruntime-web"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on the path"),
    pytest.mark.skipif(not RUNTIME.exists(), reason="there is no onnxruntime-web: npm install --prefix space"),
]
FLAGS = "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --use-fake-device-for-media-stream"
SOFTWARE_GPU = "--enable-unsafe-webgpu --use-webgpu-adapter=swiftshader --enable-features=Vulkan"
PATIENCE_MS = 300_000  # the machine may be busy
SENTENCES = [
    "The print could have been placed on the carton.",
    "Zoë's naïve café—it's “quite” good; isn't it?  Yes...",
    "qwxk Llanfairpwll, a well-known place: somewhere / nowhere",
    "supercalifragilistic O'Brien's 'quoted' words!",
]


@pytest.fixture(scope="module")
def model() -> Q2D2Model:
    return Q2D2Model.from_pretrained(default_checkpoint()).eval()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Folder of the built page; that of the variable Q2D2_SPACE, if there is one."""
    if os.environ.get("Q2D2_SPACE"):
        return Path(os.environ["Q2D2_SPACE"])
    folder = tmp_path_factory.mktemp("space")
    command = [sys.executable, str(ROOT / "scripts" / "build_space.py"), "--output", str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """Of a server of the page."""
    spec = importlib.util.spec_from_file_location("build_space", ROOT / "scripts" / "build_space.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    server = script.server(site, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright) -> Iterator[Any]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS.split(), "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(browser, address) -> Any:
    """The page with its models loaded; it notes its requests and errors."""
    page = browser.new_page(viewport={"width": 1100, "height": 1200})
    page.set_default_timeout(PATIENCE_MS)
    page.requests, page.problems = [], []
    page.on("request", lambda request: page.requests.append((request.method, request.url)))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(f"{address}index.html")
    page.wait_for_selector("#choose:enabled")
    return page


def look(page: Any, expression: str, argument: Any = None) -> Any:
    """Value of an expression over `page`, what the page offers to tests."""
    return page.evaluate(
        f"async (argument) => {{ const {{ page }} = await import('/app.js'); {expression} }}", argument
    )


def shown(page: Any) -> tuple[np.ndarray, np.ndarray]:
    """Codes (T,) and reconstruction (N,) that the page shows."""
    found = look(page, "return [[...page.shown.codes], [...page.shown.reconstruction]];")
    return np.array(found[0]), np.array(found[1], np.float32)


def after(page: Any, action: Callable[[], None]) -> str:
    """Message of the page after an action that computes, when it is done; empty if all went well."""
    done = int(page.get_attribute("body", "data-done"))
    action()
    page.wait_for_selector(f"body[data-done='{done + 1}']", state="attached")
    return page.inner_text("#message") if page.is_visible("#message") else ""


def give(page: Any, path: Path) -> str:
    """Let the page take a file; returns its message."""
    return after(page, lambda: page.set_input_files("#file", path))


def read(page: Any, text: str) -> str:
    """Let the page read a text; returns its message."""
    page.fill("#text", text)
    return after(page, lambda: page.click("#speak"))


def give_samples(page: Any, folder: Path, samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> str:
    soundfile.write(folder / "given.wav", samples, rate, subtype=subtype)
    return give(page, folder / "given.wav")


def decode(model: Q2D2Model, codes: np.ndarray) -> np.ndarray:
    return model.decode(torch.from_numpy(codes).view(1, 1, -1)).audio_values.flatten().numpy()


@pytest.fixture
def sample(page, tmp_path, model) -> np.ndarray:
    """The bundled recording at the rate of the codec, which the page has taken."""
    audio = read_audio(sample_recording(), model.config.sampling_rate)
    assert give_samples(page, tmp_path, audio, 24000, "FLOAT") == ""
    return audio


def test_tokens_and_audio_are_those_of_python(page, model, sample):
    codes, audio = shown(page)
    expected = model.encode(torch.from_numpy(sample).view(1, 1, -1)).audio_codes.flatten().numpy()
    print(f"{(codes != expected).sum()} of {len(expected)} tokens differ")
    assert len(codes) == len(expected) and (codes != expected).mean() < 0.01  # near ties
    assert len(audio) == len(sample)
    assert np.abs(audio - decode(model, codes)[: len(audio)]).max() < 1e-3
    assert f"{len(codes)} tokens, 1077 bit/s" in page.inner_text("#facts")
    if os.environ.get("Q2D2_FIGURES"):
        page.click("#timeline", position={"x": 560, "y": 20})
        page.wait_for_timeout(1000)
        page.locator("main").screenshot(path=Path(os.environ["Q2D2_FIGURES"]) / "browser.png")


def test_weights_are_small_and_all_comes_from_the_server(page, site, address, sample):
    assert sum(path.stat().st_size for path in (site / "models").iterdir()) < 25e6
    assert not [
        request for request in page.requests if request[0] != "GET" or not request[1].startswith((address, "blob:"))
    ]


def test_changed_tokens_are_heard_and_undone(page, model, sample):
    codes, before = shown(page)
    page.click("#timeline", position={"x": 500, "y": 20})
    place = int(re.search(r"Frame (\d+)", page.inner_text("#token"))[1]) - 1
    page.focus("#lattice0")
    page.keyboard.press("ArrowRight" if codes[place] % 145 not in (8, 80) else "ArrowLeft")
    page.wait_for_selector("#undo:enabled")
    page.click("#copy")
    page.wait_for_function("document.querySelector('#token').innerText.includes('changed')")
    wait_until_decoded(page, before)
    changed, after = shown(page)
    assert np.flatnonzero(changed != codes).tolist() == [place]
    neighbours = json.loads(look(page, "return JSON.stringify(await (await fetch('/models/vocabulary.json')).json());"))
    assert changed[place] % 145 in neighbours["neighbours"][0][codes[place] % 145]
    assert changed[place] // 145 == codes[place] // 145
    assert np.abs(after - decode(model, changed)[: len(after)]).max() < 1e-3
    moved = np.flatnonzero(after != before)
    reach = (max(model.decoder.context_frames) + 1) * 320
    assert len(moved) and abs(moved - place * 320).max() < reach + 320
    page.click("#reset")
    wait_until_decoded(page, after)
    assert np.array_equal(shown(page)[0], codes) and np.abs(shown(page)[1] - before).max() < 1e-5


def wait_until_decoded(page: Any, before: np.ndarray) -> None:
    """Wait until the reconstruction is another one."""
    for _ in range(600):
        if np.abs(shown(page)[1] - before).max() > 0:
            return
        page.wait_for_timeout(200)
    raise AssertionError("the change was never decoded")


def test_original_and_reconstruction_play_together(page, sample):
    heard, position = look(
        page,
        """document.querySelector("#play").click();
        document.querySelector("[name=heard][value=original]").click();
        await new Promise((resolve) => setTimeout(resolve, 400));
        const gains = Object.entries(page.player.sources).map(([name, { gain }]) => [name, gain.gain.value]);
        return [gains, page.player.position];""",
    )
    assert dict(heard)["original"] > 0.9 and dict(heard)["reconstruction"] < 0.1 and 0 < position < 3.1
    page.wait_for_function("document.querySelector('#play').innerText === 'Play'")  # it has ended
    assert look(page, "return page.player.playing;") is False
    page.check("[name=heard][value=reconstruction]")


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 96000, 192000])
def test_any_rate_and_stereo(page, tmp_path, speech_like, rate):
    samples = speech_like(rate, sampling_rate=rate)
    assert give_samples(page, tmp_path, np.stack([samples, 0.5 * samples], axis=1), rate) == ""
    codes, audio = shown(page)
    assert len(codes) == 75 and len(audio) == 24000
    loudness = [np.sqrt((one**2).mean()) for one in (audio, samples)]
    assert 0.5 < loudness[0] / (0.75 * loudness[1]) < 1.5


def test_text_is_cut_into_the_same_pieces(page):
    text = LanguageModel.load(lm.default_checkpoint()).text
    assert text is not None
    for sentence in SENTENCES:
        pieces = look(page, "return (await page.ask('pieces', { text: argument })).pieces;", sentence)
        assert pieces == text.encode(sentence).tolist(), sentence


def test_a_sentence_is_read(page, model):
    assert read(page, "It was cold, and the dog barked.") == ""
    codes, audio = shown(page)
    assert 60 < len(codes) < 400 and len(audio) == 320 * len(codes)
    assert np.abs(audio - decode(model, codes)).max() < 1e-3
    assert np.sqrt((audio**2).mean()) > 0.01
    assert page.is_disabled("[name=heard][value=original]")


def test_text_that_the_page_does_not_read(page):
    assert "write “7 €” in words" in read(page, "I have 7 €")
    assert "nothing to read" in read(page, "?!")


def test_files_that_are_no_recordings(page, tmp_path):
    (tmp_path / "text.wav").write_bytes(b"this is no audio" * 100)
    assert "no audio that your browser can read" in give(page, tmp_path / "text.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    assert "is empty" in give(page, tmp_path / "empty.wav")
    soundfile.write(tmp_path / "hour.wav", np.zeros(3600 * 8000, np.int16), 8000, subtype="PCM_U8")
    assert "has 60 minutes; the page takes 10" in give(page, tmp_path / "hour.wav")


def test_the_page_answers_while_it_computes(page, tmp_path, speech_like):
    look(page, "window.ticks = 0; window.timer = setInterval(() => { window.ticks += 1; }, 20);")
    assert give_samples(page, tmp_path, np.tile(speech_like(24000), 20), 24000) == ""
    assert look(page, "clearInterval(window.timer); return window.ticks;") > 20
    assert len(shown(page)[0]) == 1500


def test_a_refused_microphone(page):
    page.click("#record")
    page.wait_for_selector("#message:visible")
    assert "microphone was refused" in page.inner_text("#message")


def test_a_recording_by_microphone(browser, address):
    context = browser.new_context(permissions=["microphone"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{address}index.html")
    page.wait_for_selector("#choose:enabled")
    page.click("#record")
    page.wait_for_selector("#record[aria-pressed=true]")
    page.wait_for_timeout(1500)
    page.click("#record")
    page.wait_for_selector("#result:visible")
    assert len(shown(page)[0]) > 50
    context.close()


def test_a_browser_without_simd(browser, address):
    page = browser.new_page()
    page.add_init_script("WebAssembly.validate = () => false;")
    page.goto(f"{address}index.html")
    page.wait_for_selector("#message:visible")
    assert "lacks WebAssembly with SIMD" in page.inner_text("#message")
    assert page.is_disabled("#choose") and page.is_disabled("#speak")
    page.close()


def test_webgpu(playwright, address, model, tmp_path):
    """With a graphics card in software: slow, but the same shaders."""
    flags = [*FLAGS.split(), *SOFTWARE_GPU.split()]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{address}index.html")
    page.wait_for_selector("#choose:enabled")
    if not page.is_visible("#gpuChoice"):
        pytest.skip("this Chromium offers no WebGPU")
    assert after(page, lambda: page.check("#gpu")) == ""
    assert page.inner_text("#engine") == "decoder on the graphics card"
    audio = read_audio(sample_recording(), model.config.sampling_rate)[24000:26400]
    assert give_samples(page, tmp_path, audio, 24000) == ""
    codes, decoded = shown(page)
    assert np.abs(decoded - decode(model, codes)[: len(decoded)]).max() < 1e-3
    browser.close()


def test_nothing_went_wrong_in_the_page(page):
    assert not page.problems
