"""The page: drawn with the mouse in a real browser, on this machine alone."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, read_one
from draw_samples import STROKES

import mnist_digits as md

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("gradio", reason="Gradio is not installed")

pytestmark = pytest.mark.flaky(reruns=1)  # a browser's timing is not ours

SAMPLES = ROOT / "samples"
SLOW = 90_000  # ms: a browser without a graphics card, on a machine that does something else as well


def serve(temporary):
    """Serve the page as the command line does, its temporary files in a folder; return the process and the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(ROOT / "mnist_digits.py"), "--web", "--port", port, "--model", str(md.BUNDLED)]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert f"draw at http://127.0.0.1:{port}/" in server.stderr.readline()
    return server, f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Serve the page for all tests; return where."""
    server, address = serve(tmp_path_factory.mktemp("uploads"))
    yield address
    server.kill()


@pytest.fixture(scope="module")
def browser():
    """Start Chromium, Playwright's or the system's."""
    with sync_api.sync_playwright() as playwright:
        ways = [{}, {"executable_path": "/usr/bin/chromium"}]
        for way in ways:
            try:
                browser = playwright.chromium.launch(args=["--no-sandbox"], **way)
            except sync_api.Error:
                continue
            yield browser
            browser.close()
            return
        pytest.skip("no Chromium is installed")


@pytest.fixture
def page(browser, address):
    """Open the page as a new visitor."""
    page = open_page(browser, address)
    yield page
    page.close()


def open_page(browser, address, size=(1280, 900), **visitor):
    """Open the page on a screen of a size."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **visitor)
    page.set_default_timeout(SLOW)
    page.goto(address)
    page.locator("canvas").last.wait_for()
    settle(page)
    return page


def settle(page):
    """Wait until Gradio has built what it shows and listens, on a busy machine too; a visitor takes longer."""
    page.wait_for_timeout(500)
    page.evaluate("() => new Promise(requestIdleCallback)")


def draw(page, digit, touch=False):
    """Draw a digit on the canvas with the mouse, or with a finger."""
    frame = page.locator("canvas").last.bounding_box()
    side = 0.5 * min(frame["width"], frame["height"])
    left, top = frame["x"] + (frame["width"] - side) / 2, frame["y"] + (frame["height"] - side) / 2
    finger = page.context.new_cdp_session(page) if touch else None
    for stroke in STROKES[digit]:
        for number, (x, y) in enumerate([(left + x * side, top + y * side) for x, y in stroke]):
            if touch:
                kind = "touchMove" if number else "touchStart"
                finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
            else:
                page.mouse.move(x, y, steps=3 if number else 1)
                if not number:
                    page.mouse.down()
        if touch:
            finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        else:
            page.mouse.up()


def upload(page, path):
    """Give the page a picture."""
    page.get_by_role("tab", name="File").click()
    settle(page)
    page.locator(".block", has_text="Drop a picture here").locator("input[type=file]").set_input_files(path)


def expect_read(page, text):
    """Wait until the page shows that a text was read."""
    sync_api.expect(page.locator("#read textarea, #read input").first).to_have_value(text, timeout=SLOW)


@pytest.mark.parametrize("size, touch", [((1280, 900), False), ((390, 844), True)], ids=["desktop", "phone"])
@pytest.mark.parametrize("digit", ["0", "6"])
def test_the_first_stroke_on_a_fresh_page_is_read(digit, size, touch, browser, address):
    assert len(STROKES[digit]) == 1
    page = open_page(browser, address, size, has_touch=touch, is_mobile=touch)
    draw(page, digit, touch)
    expect_read(page, digit)
    for part in ("#clear", "#read"):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= size[1], "on the first screen"
    page.close()


def test_a_drawn_digit_is_read_and_cleared(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    draw(page, "3")
    expect_read(page, "3")
    bars = page.locator("#bars").inner_text()
    assert bars.split("3")[1].strip(" .\n").startswith("9"), "its probability, never 100 %"
    page.get_by_role("button", name="Clear", exact=True).click()
    expect_read(page, "")
    draw(page, "7")
    expect_read(page, "7")
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in asked), "nothing of the internet"


def test_a_picture_is_read_as_on_the_command_line(page):
    upload(page, SAMPLES / "2026-row.jpg")
    expect_read(page, "2026")
    sync_api.expect(page.locator("#where")).to_contain_text("6")
    sync_api.expect(page.locator("#doubts")).to_contain_text("%")


def test_a_file_that_is_no_picture_is_refused_in_the_same_words(page, tmp_path):
    (tmp_path / "words.txt").write_text("these are words")
    error = read_one(tmp_path / "words.txt").error
    upload(page, tmp_path / "words.txt")
    sync_api.expect(page.locator("#error")).to_have_text(f"error: words.txt: {error}", timeout=SLOW)
    expect_read(page, "")


def test_two_visitors_do_not_mix(page, browser, address):
    other = open_page(browser, address)
    upload(other, SAMPLES / "5.png")
    upload(page, SAMPLES / "8.png")
    expect_read(page, "8")
    expect_read(other, "5")
    other.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends other signals")
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_page_and_leaves_no_picture_behind(end, browser, tmp_path):
    if signal.getsignal(getattr(signal, end)) == signal.SIG_IGN:
        pytest.skip("ignored by whoever runs the tests, as nohup does")
    server, address = serve(tmp_path)
    page = open_page(browser, address)
    upload(page, SAMPLES / "5.png")
    expect_read(page, "5")
    assert list(tmp_path.rglob("5.png"))
    page.close()
    server.send_signal(getattr(signal, end))
    assert server.wait(timeout=60) == 0
    assert not list(tmp_path.rglob("*.png"))


def test_without_gradio_the_way_to_it_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert md.main(["--web"]) == 1
    assert 'pip install "gradio' in capsys.readouterr().err
