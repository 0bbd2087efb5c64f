"""gan-play: live training, its two tabs, the server, and the page in a real browser."""

import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio import Blocks
from hostile import SETTINGS
from training import same, weights

import gan_lightning
from gan_lightning.cli import play as program
from gan_lightning.demo.images_tab import AXES, ImagesTab, StopFlag
from gan_lightning.demo.live_training import FRAME_INTERVAL, MAX_FRAMES, LiveTraining
from gan_lightning.demo.points_tab import MAX_GAUSSIANS, VARIANTS, PointsTab, farthest_points, panels, real_points
from gan_lightning.errors import UserError

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Gradio leaves an event loop open, which warns when it is garbage-collected.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
QUICK = "data.num=500", "network.width=8"


def wait_until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition is not met in time"
        time.sleep(0.01)


@pytest.fixture
def live_training() -> Iterator[Any]:
    started = []

    def live_training(*words: str) -> LiveTraining:
        started.append(LiveTraining([*words, *QUICK]))
        return started[-1]

    yield live_training
    for training in started:
        training.stop()
        training.thread.join()


def update(training: LiveTraining, network: str, times: int = 1) -> LiveTraining:
    """Request updates of a network, wait until each has added a frame, and return the training."""
    frames = len(training.frames)
    training.request(network, times)
    wait_until(lambda: len(training.frames) == frames + times or training.error)
    return training


@pytest.mark.parametrize("name", VARIANTS)
def test_requested_updates_change_requested_network_only(name, live_training):
    training = live_training(*VARIANTS[name][0], "data=gaussian_ring")
    model = training.model
    assert [(frame.g_updates, frame.d_updates) for frame in training.frames] == [(0, 0)]
    g, d = weights(model.generator), weights(model.discriminator)
    update(training, "d", 2)
    assert same(weights(model.generator), g)
    assert not same(weights(model.discriminator), d)
    d = weights(model.discriminator)
    update(training, "g", 2)
    assert same(weights(model.discriminator), d)
    assert not same(weights(model.generator), g)
    update(training, "both")
    k = model.d_steps
    counts = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (3, 2 + k)]
    assert [(frame.g_updates, frame.d_updates) for frame in training.frames] == counts
    last = training.frames[-1]
    assert last.fake.shape == (1000, 2)
    assert last.surface.values.shape == (100, 100)
    assert {"d/adversarial", "g/adversarial", "modes", "quality"} <= set(last.metrics)
    assert torch.equal(last.fake, model.sample(1000))


def test_concurrent_trainings_do_not_affect_each_other(live_training):
    """Weights are initialised from the global random generator, which steps of another training reseed."""
    words = "model=vanilla", "data=gaussian_ring"
    alone = update(live_training(*words, "seed=3"), "both", 2)
    other = live_training(*words)
    other.train(1000)
    wait_until(lambda: len(other.frames) > 2)
    for _ in range(3):
        beside = update(live_training(*words, "seed=3"), "both", 2)
        for one, two in zip(alone.frames, beside.frames, strict=True):
            assert torch.equal(one.fake, two.fake)


def test_single_updates_depend_on_seed(live_training):
    one, other = (update(live_training("model=vanilla", "data=gaussian_ring", f"seed={seed}"), "d") for seed in (0, 1))
    drawn = [torch.randn(3, generator=training.model.rng) for training in (one, other)]
    assert not torch.equal(*drawn)


def test_scheduled_steps_match_gan_train(live_training, run, tmp_path):
    """The same real class, data and seed: after three steps the weights are those of gan-train."""
    words = "model=wgan_gp", "data=gaussian_ring", "trainer.max_steps=3", "data.batch_size=4", "data.num=500"
    trained = run(tmp_path, *words, "network.width=8").lightning_module
    training = update(live_training(*words[:2], "data.batch_size=4"), "both", 3)
    assert same(weights(training.model.generator), weights(trained.generator))
    assert same(weights(training.model.discriminator), weights(trained.discriminator))


def test_same_updates_give_same_samples_and_metrics(live_training):
    one, other = (
        update(update(live_training("model=vanilla", "data=gaussian_grid"), "d", 3), "g", 2) for _ in range(2)
    )
    assert torch.equal(one.frames[-1].fake, other.frames[-1].fake)
    assert one.frames[-1].metrics == other.frames[-1].metrics


def test_training_runs_until_paused(live_training):
    training = live_training("model=vanilla", "data=gaussian_ring")
    training.train(1000)
    wait_until(lambda: len(training.frames) > 4)
    assert training.busy
    training.pause()
    assert not training.busy
    time.sleep(0.2)  # a step may have been running
    steps = training.g_updates
    time.sleep(0.3)
    assert training.g_updates == steps
    assert all(frame.g_updates % FRAME_INTERVAL == 0 for frame in training.frames)


def test_long_history_keeps_every_second_frame(live_training):
    training = update(live_training("model=vanilla", "data=gaussian_ring"), "g", 2)
    frame = training.frames[-1]
    training.frames = [frame] * MAX_FRAMES
    training.request("g")
    wait_until(lambda: len(training.frames) != MAX_FRAMES)
    assert len(training.frames) == MAX_FRAMES // 2 + 1
    assert training.frames[-1].g_updates == 3
    assert training.frame_interval == 2 * FRAME_INTERVAL


def test_diverged_training_reports_error_and_stops(live_training):
    training = live_training("model=wgan_gp", "data=gaussian_ring", "model.discriminator_optimizer.lr=1e30")
    training.request("d", 5)
    wait_until(lambda: training.error)
    assert re.search("diverged.*lower learning rate", training.error)
    training.request("g")
    assert not training.busy


@pytest.fixture
def blocks() -> Iterator[None]:
    """Context for Gradio components; collect garbage afterwards, so that its warnings do not hit other tests."""
    with Blocks():
        yield
    gc.collect()


@pytest.mark.usefixtures("blocks")
def test_points_tab_without_training_shows_message():
    tab = PointsTab()
    updates = tab.show(None, "", None)
    assert updates[tab.status] == "<p>Training has ended: start a new one.</p>"
    assert not updates[tab.clock].active


@pytest.mark.usefixtures("blocks")
def test_selected_frame_stays_selected_when_history_is_thinned(live_training):
    training = update(live_training("model=vanilla", "data=gaussian_ring"), "both", 8)
    tab = PointsTab()
    at = training.frames[4].updates
    training.frames = training.frames[::2]
    shown = tab.show(training, "", at)
    assert "4 updates of G" in shown[tab.status]
    assert "8 updates of G" in tab.show(training, "", None)[tab.status]


@pytest.mark.usefixtures("blocks")
def test_images_tab_lists_runs_loads_one_and_stops_walk(tmp_path, run):
    small = "network.width=4", "data.limit=40", "~logger"
    run(tmp_path / "runs" / "good", "model=dcgan", *small)
    for name in ("torn", os.fsdecode(b"of another \xff"), "good"):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "elsewhere" / "checkpoints").mkdir(parents=True)
    (tmp_path / "elsewhere" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "good" / "samples" / "step_1 copy.png").touch()
    tab = ImagesTab(tmp_path / "runs")
    assert sorted(tab.found()) == ["good", "torn"]
    updates = tab.choose("torn", 0)
    assert "torn" in updates[tab.status]
    assert updates[tab.model] is updates[tab.run] is None, "the model of the previous run is kept"
    updates = tab.choose("good", None)
    assert "latents" in updates[tab.status]
    assert updates[tab.length] == 1
    assert "Step 2" in updates[tab.then]
    walk = updates[tab.model], None, None, None, None
    assert [*tab.walk(StopFlag(), *walk)][-1].startswith("<img")
    flag = StopFlag()
    walk_output = tab.walk(flag, *walk)
    assert next(walk_output) == "<p>4 of 32 images …</p>"
    flag.stopped = True
    assert [*walk_output] == ["<p>Stopped.</p>"], "output after the stop"
    assert [*tab.walk(flag, *walk)][-1].startswith("<img"), "the next walk is stopped, too"


@pytest.mark.usefixtures("blocks")
def test_runs_are_listed_latest_first_then_in_natural_order(tmp_path):
    names = [
        "sweeps/2026-03-02_10-00-00-000001/seed=9",
        "sweeps/2026-03-02_10-00-00-000001/seed=10",
        "cgan-mnist/2026-03-01_10-00-00-000001",
        "vanilla-mnist/2026-02-28_23-59-59-999999",
        "seed=9",
        "seed=10",
    ]
    for name in reversed(names):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "last.ckpt").touch()
        (tmp_path / name / "config.yaml").touch()
    tab = ImagesTab(tmp_path)
    assert tab.found() == names
    beside = tab.side_by_side("sweeps/2026-03-02_10-00-00-000001")
    assert re.findall(r"<b>(.*?)</b>", beside) == ["seed=9", "seed=10"]
    assert re.findall(r"<b>(.*?)</b>", tab.side_by_side(".")) == ["seed=9", "seed=10"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modle=vanilla"], "modle: there is no such key"),
        (["model.lr=3", "loss=minmax"], r"loss=minmax: no such option[^\n]*\nmodel\.lr: there is no such key"),
        (["trainer=ddp", "modle=x"], r"trainer=ddp: belongs to a run[^\n]*\nmodle: there is no such key"),
        (["hydra.run.dir=x"], "hydra.run.dir=x: belongs to a run; only model, loss, network, data, optimizer, seed"),
        (["data=digits", "model=vanilla"], "data: needs points in the plane"),
        (["model=vae", "data=gaussian_ring"], "model: needs a generator and a discriminator"),
        (["experiment=vanilla_gaussian_ring"], "experiment=vanilla_gaussian_ring: belongs to a run"),
        (["metric=modes", "protocol=points"], r"metric=modes: belongs to a run[^\n]*\nprotocol=points: belongs"),
        (["--help"], "--help: belongs to a run"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: belongs to a run"),
        (["run_dir=x"], "run_dir=x: belongs to a run"),
        (["+data_info.shape=[3]"], r"\+data_info.shape=\[3\]: belongs to a run"),
        (["model=vanilla", "data=gaussian_mixture", "data.centres=[]"], "data.centres=.*a list of pairs"),
    ],
)
def test_invalid_settings_are_reported(words, message):
    with pytest.raises(UserError, match=message):
        LiveTraining(words)


ESCAPED = [re.sub(r"\$\{([^{}]*)\}", r"$\\{\1\\}", word) for word in SETTINGS if "'" not in word and '"' not in word]


@pytest.mark.parametrize("word", dict.fromkeys([*SETTINGS, *ESCAPED]))
def test_settings_cannot_set_classes_or_read_environment(word, monkeypatch, tmp_path):
    """Anyone with access to the page can enter settings; Hydra's grammar also takes `$\\{` for `${`."""
    monkeypatch.setenv("SECRET_OF_THE_USER", "hunter2")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        LiveTraining(["model=vanilla", "data=gaussian_ring", word])
    assert len(caught.value.errors) == 1
    assert caught.value.errors[0].startswith(word)
    assert re.search("; (type the value itself|choose a class by its group)", caught.value.errors[0])
    assert "hunter2" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_drawing_becomes_gaussians_along_its_lines():
    line = [[x / 100, 0.5] for x in range(-100, 101)]
    data, centres = real_points("drawn", json.dumps(line))
    points = json.loads(centres.removeprefix("data.centres="))
    assert data == "data=gaussian_mixture"
    assert 15 <= len(points) <= MAX_GAUSSIANS
    assert all(y == 0.5 and -1 <= x <= 1 for x, y in points)
    assert torch.pdist(torch.tensor(points)).min() > 0.05
    assert len(farthest_points(torch.rand(5000, 2) * 4)) == MAX_GAUSSIANS
    assert real_points("drawn", "[[0,0]]")[1] == "data.centres=[[0.0,0.0]]", "integers are not written as floats"
    assert real_points("ring", "[]") == ["data=gaussian_ring"]
    with pytest.raises(UserError, match="The drawing is empty"):
        real_points("drawn", "[]")


def test_curves_have_gaps_before_first_update_of_network(live_training):
    training = update(live_training("model=vanilla", "data=gaussian_ring"), "d")
    steps, curves = panels(training.frames)["losses"]
    assert steps == [0, 0]
    assert [*curves] == ["d/adversarial"]
    assert curves["d/adversarial"][0] != curves["d/adversarial"][0]  # NaN before the first update


def command(*words: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "gan_lightning.cli.play", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def test_invalid_command_line_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    done = command(str(tmp_path / "none"), "--port", "70000")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "--port 70000: must be between 1 and 65,535",
        f"{tmp_path / 'none'}: there is no such folder",
    ]
    assert command(str(tmp_path / "file")).stderr.endswith("is not a folder; give a folder with runs\n")
    assert "invalid int value" in command("--port", "x").stderr
    assert "unrecognized arguments: --share" in command("--share").stderr


def test_port_in_use_is_reported(tmp_path):
    with socket.socket() as taken:
        taken.bind((program.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(str(tmp_path), "--no-browser", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == f"--port {port}: is in use, perhaps by another gan-play; choose --port=NUMBER\n"


def test_missing_gradio_error_names_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'gan-lightning\[play\]'"):
        program.build_page(Path("runs"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Train a sweep of two runs, rename one to markup, and train a run on points; return the folder of runs."""
    runs = tmp_path_factory.mktemp("runs")
    small = "data=digits", "network.width=4", "data.limit=40", "trainer.max_steps=2", "eval.every_n_steps=null"
    train = [sys.executable, "-m", "gan_lightning.cli.train"]
    for folder, words in {
        "sweep/one": ("model=cgan", *small),
        "sweep/two": ("model=dcgan", *small),
        "points": ("model=vanilla", "data=gaussian_ring", "trainer.max_steps=2", "eval.every_n_steps=null"),
    }.items():
        subprocess.run([*train, *words, f"hydra.run.dir={runs / folder}"], check=True, capture_output=True)
    (runs / "sweep/two").rename(runs / "sweep/<img src=x onerror=alert(1)>")
    return runs


# Starts gan-play with a walk of 30 s between seeds of the unconditional run: a faster one may end before it is stopped.
SLOW_WALK = """
import time
from gan_lightning.cli.play import main
from gan_lightning.latent.interpolate import Interpolate

class SlowPath:
    def __init__(self, path):
        self.path = path.repeat(13, 1)  # 104 parts of 4 images

    def __len__(self):
        return len(self.path)

    def split(self, num):
        for part in self.path.split(num):
            yield part
            time.sleep(0.3)

path = Interpolate.path
Interpolate.path = lambda self, model: path(self, model) if model.num_classes else SlowPath(path(self, model))
main()
"""


@pytest.fixture(scope="module")
def served(runs, free_port) -> Iterator[str]:
    """Start gan-play behind a proxy that does not answer; return the address of the page."""
    line = [sys.executable, "-c", SLOW_WALK, str(runs), "--no-browser", "--port", str(free_port)]
    behind_a_proxy = os.environ | {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=behind_a_proxy) as server:
        address = server.stdout.readline().split()[0]
        yield address
        server.terminate()


def test_page_is_served_on_loopback_address(served):
    assert served.startswith(f"http://{program.HOST}:")


@pytest.mark.parametrize(
    ("path", "method", "upgrade"),
    [
        ("/", "GET", False),
        ("/config", "GET", False),
        ("/gradio_api/info", "GET", False),
        ("/gradio_api/queue/join", "POST", False),
        ("/gradio_api/queue/data?session_hash=x", "GET", False),
        ("/gradio_api/upload", "POST", False),
        ("/gradio_api/heartbeat/x", "GET", False),
        ("/gradio_api/queue/join", "GET", True),
    ],
)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost@evil", ""]
)
def test_requests_with_other_host_header_are_rejected(served, path, method, upgrade, host):
    """DNS rebinding: a hostile page whose host name resolves to this machine sends that name."""
    port = int(served.rstrip("/").rpartition(":")[2])
    upgraded = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    more = upgraded | {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} if upgrade else {}
    headers = {"Host": host.format(port=port), "Content-Type": "application/json"} | more
    status, content = send_request(port, path, method, headers)
    assert status in (400, 403)
    assert b"gradio" not in content.lower()


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "localhost", "LOCALHOST"])
def test_requests_with_local_host_header_are_answered(served, host):
    port = int(served.rstrip("/").rpartition(":")[2])
    status, content = send_request(port, "/", "GET", {"Host": host.format(port=port)})
    assert status == 200
    assert b"gan-play" in content


def send_request(port: int, path: str, method: str, headers: dict[str, str]) -> tuple[int, bytes]:
    with closing(HTTPConnection(program.HOST, port, timeout=60)) as connection:
        connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
        with connection.getresponse() as answer:
            return answer.status, answer.read() if answer.length else b""


@pytest.fixture
def browser(served) -> Iterator[Any]:
    """Open the page in a browser; afterwards check for errors and for requests to other servers."""
    if BROWSER is None:
        pytest.skip("there is no Chromium, as chromium, chromium-browser or google-chrome")
    sync = pytest.importorskip("playwright.sync_api")
    requested, errors = [], []
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1500, "height": 1100})
        page.set_default_timeout(30_000)
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append("a dialog"))
        page.goto(served)
        yield page
        chromium.close()
    assert errors == []
    assert [url for url in requested if not url.startswith((served, "data:", "blob:"))] == []


def shows(page: Any, place: str, text: str) -> None:
    page.locator(place, has_text=re.compile(text, re.S)).wait_for()


def click(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def enter(page: Any, field: Any, number: int) -> None:
    """Enter a number, and wait as long as Gradio waits for more digits."""
    field.fill(str(number))
    field.press("Enter")
    page.wait_for_timeout(500)


def test_browser_controls_training_and_history(browser):
    click(browser, "New training")
    browser.locator("#plot img").wait_for()
    shows(browser, "#status", "0 updates of G, 0 of D. 0 of 8 modes.*paused")
    enter(browser, browser.get_by_label("Updates per click"), 3)
    click(browser, "Update D")
    shows(browser, "#status", "0 updates of G, 3 of D")
    click(browser, "Update G")
    shows(browser, "#status", "3 updates of G, 3 of D")
    before = browser.locator("#plot img").get_attribute("src")
    click(browser, "Train")
    shows(browser, "#status", r"\d\d+ updates of G.*training")
    click(browser, "Pause")
    shows(browser, "#status", "paused")
    assert browser.locator("#plot img").get_attribute("src") != before
    enter(browser, browser.locator("#history input[type=number]"), 1)
    shows(browser, "#status", "0 updates of G, 1 of D")
    click(browser, "Show the latest")
    shows(browser, "#status", r"\d\d+ updates of G")
    browser.get_by_label("Settings").fill("modle=wgan <b>x</b>")
    click(browser, "New training")
    shows(browser, "#errors", "modle: there is no such key")
    assert browser.locator("#errors b").count() == 0


def test_browser_draws_real_points_with_mouse(browser):
    browser.get_by_label("drawn").check()
    click(browser, "New training")
    shows(browser, "#errors", "The drawing is empty")
    box = browser.locator("#board canvas").bounding_box()
    browser.mouse.move(box["x"] + 60, box["y"] + 150)
    browser.mouse.down()
    browser.mouse.move(box["x"] + 260, box["y"] + 150, steps=30)
    browser.mouse.up()
    browser.get_by_label("Variant").click()
    browser.get_by_role("option", name="wgan_gp").click()
    click(browser, "New training")
    shows(browser, "#status", r"penalty.* of [12]\d modes")


@pytest.fixture
def wait_for_image(browser, runs) -> Callable[..., None]:
    """Function that waits for the first run's image of seed 0, a class and a shift along the first direction."""
    model = gan_lightning.load(runs / "sweep/one/checkpoints/last.ckpt")
    with Blocks():
        tab = ImagesTab(runs)

    def wait_for_image(label: int, shift: float) -> None:
        source = re.search('src="(.*)"', tab.draw(model, 0, label, 1.0, shift, *[0.0] * (AXES - 1))).group(1)
        browser.wait_for_function("src => document.querySelector('#sample img')?.src == src", arg=source)

    return wait_for_image


def test_browser_shows_last_of_many_slider_changes(browser, wait_for_image):
    browser.get_by_role("tab", name="Images of a run").click()
    browser.locator("#run input").click()
    browser.get_by_role("option", name="sweep/one").click()
    wait_for_image(0, 0)
    browser.wait_for_timeout(500)  # Gradio updates its components one after the other
    browser.locator("#axis1 input[type=range]").focus()
    for _ in range(20):
        browser.keyboard.press("ArrowRight")
    wait_for_image(0, 2.0)


def test_browser_explores_generator_of_run(browser, wait_for_image):
    browser.get_by_role("tab", name="Images of a run").click()
    browser.locator("#run input").click()
    browser.get_by_role("option", name="sweep/one").click()
    wait_for_image(0, 0)
    shows(browser, "#images_status", "100 latents, 10 classes")
    browser.wait_for_timeout(500)  # Gradio updates its components one after the other
    enter(browser, browser.locator("#axis1 input[type=number]"), 3)
    wait_for_image(0, 3)
    browser.locator("#class input").click()
    browser.get_by_role("option", name="7").click()
    wait_for_image(7, 3)
    click(browser, "Reset")
    wait_for_image(7, 0)
    shows(browser, "#then", "Step 2")
    enter(browser, browser.locator("#past input[type=number]"), 0)
    shows(browser, "#then", "Step 1")
    click(browser, "Interpolate")
    browser.locator("#video img").wait_for()
    browser.locator("#sweep input").click()
    browser.get_by_role("option", name="sweep").click()
    shows(browser, "#beside", "CGAN on Digits, finished at step 2")
    assert browser.locator("#beside figure").count() == 2
    assert "onerror" in browser.locator("#beside").inner_text()  # shown as text
    browser.locator("#run input").click()
    browser.get_by_role("option", name="points").click()
    shows(browser, "#images_status", "points in the plane; use the other tab")


def test_browser_stops_latent_walk(browser):
    browser.get_by_role("tab", name="Images of a run").click()
    browser.locator("#run input").click()
    browser.get_by_role("option", name="onerror").click()
    shows(browser, "#images_status", "100 latents, no classes")  # set last; updating #video would undo an earlier click
    click(browser, "Interpolate")
    shows(browser, "#video", "\\d+ of 416 images")
    click(browser, "Stop")
    shows(browser, "#video", "Stopped")
    assert browser.locator("#video img").count() == 0
