"""Documentation: links, referenced tests and files, quoted code, commands, and the page that adds a variant."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from gan_lightning.cli import evaluate, explore, export, play, report, sample
from gan_lightning.run.command_line import check_command_line

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VARIANTS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
HEADINGS = [
    "## Method",
    "## Paper",
    "## Usage",
    "## Logged metrics",
    "## Implementation details",
    "## Samples",
]

SUPPORT = "tests/support/training.py", "tests/support/tiny.py"
PROGRAMS = {"gan-train", "gan-sample", "gan-evaluate", "gan-export", "gan-report", "gan-explore", "gan-play"}

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
FILE = re.compile(r"`([\w./]+)`:\n\n```(?:yaml|python)\n(.*?)^```", re.M | re.S)  # a code block below its file name
LINK = re.compile(r"\[(?:`[^`]*`|[^\]`])*\]\(([^)\s]+)\)")
CODE = re.compile(r"\[`([^`]+)` in ([\w./]+)\]\(([^)]+)\)")  # quoted code, its file and the link to it
LISTED_COMMAND = re.compile(r"^- `((?:python train\.py|gan-\w+) [^`]+)`", re.M)  # a command at the start of a list item
PATH = re.compile(r"`((?:gan_lightning|conf|tests|benchmarks)/[\w./]*\w/?)`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub generates them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of all gan-lightning commands in a page's code blocks and lists, without variables."""
    found = []
    is_course = page.parent.name == "course"  # test_course.py runs its blocks
    blocks = [] if is_course else BLOCK.findall(page.read_text())
    for language, block in [*blocks, *(("", line) for line in LISTED_COMMAND.findall(prose(page)))]:
        for line in block.replace("\\\n", " ").splitlines() if language in ("bash", "sh", "console", "") else []:
            line = line.strip().removeprefix("$ ")
            is_command = "train.py" in line or any(program in line for program in PROGRAMS)
            words = shlex.split(line, comments=True) if is_command else []
            while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] == "srun"):
                words = words[1:]
            if words and words[0] == "torchrun":
                words = ["python", *words[words.index("train.py") :]]
            if words and words[0].rpartition("/")[2] in ("python", "python3") and words[1] == "train.py":
                found.append(["gan-train", *words[2:]])
            elif words and words[0].rpartition("/")[2] in PROGRAMS:
                found.append([words[0].rpartition("/")[2], *words[1:]])
    return found


COMMANDS = [
    pytest.param(words, page, id=f"{page.stem}: {' '.join(words)}")
    for page in PAGES
    if page.name != "add_a_variant.md"  # its commands need the files that it adds; tested below
    for words in commands(page)
]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_have_existing_targets(page):
    broken = []
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        is_there = file.exists() and file.is_relative_to(ROOT)
        if not is_there or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_referenced_tests_exist(page):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text())
    assert [test for file, test in named if f"\ndef {test}(" not in (ROOT / file).read_text()] == []
    assert page.name != "reliability.md" or len(named) > 40


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_referenced_files_exist(page):
    added = {path for path, _ in FILE.findall(page.read_text())}
    assert [path for path in PATH.findall(prose(page)) if path not in added and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_quoted_code_is_in_linked_file(page):
    quotations = CODE.findall(prose(page))
    links = {target: os.path.relpath(ROOT / path, page.parent) for _, path, target in quotations}
    assert [target for target, right in links.items() if target != right] == []
    assert [(code, path) for code, path, _ in quotations if code not in (ROOT / path).read_text()] == []


def test_patterns_find_commands_and_quotations():
    """Otherwise a change of format would disable the tests of this file silently."""
    assert len(COMMANDS) > 50
    assert {param.values[0][0] for param in COMMANDS} == PROGRAMS
    assert sum(len(CODE.findall(page.read_text())) for page in PAGES) > 50


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of the default model, for commands that resume or load one."""
    folder = tmp_path_factory.mktemp("run")
    tiny = ["network.width=4", "data.batch_size=16", "data.limit=26", "trainer.max_steps=1", "trainer.accelerator=cpu"]
    python(ROOT, "train.py", *tiny, f"hydra.run.dir={folder}")
    return folder / "checkpoints" / "last.ckpt"


def python(cwd: Path, *words: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(cwd)}
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(("words", "page"), COMMANDS)
def test_commands_in_docs_are_valid(words, page, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    program, *arguments = words
    if program in (plain := {"gan-sample": sample, "gan-export": export, "gan-report": report, "gan-play": play}):
        plain[program].build_parser().parse_args(arguments)
        return
    if program == "gan-explore":
        assert explore.compose_config(arguments[1:])[1] == []
        return
    if program == "gan-evaluate":
        assert evaluate.parse_request([word for word in arguments if "=" in word])[1] == []
        return
    values = dict(word.split("=", 1) for word in arguments if "=" in word and not word.startswith("-"))
    if values.get("hydra/launcher") == "ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher")  # incompatible with joblib's launcher
    for path, text in FILE.findall(page.read_text()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    if values.get("data", "image_folder" if values.get("experiment") == "photos" else "") == "image_folder":
        (tmp_path / values["data.root"] / "cats").mkdir(parents=True)
    for key in ("ckpt_path", "init_from"):
        if key in values:
            last = values[key] == "last"
            path = Path(values["hydra.run.dir"], "checkpoints", "last.ckpt") if last else Path(values[key])
            path.parent.mkdir(parents=True)
            shutil.copy(request.getfixturevalue("checkpoint"), path)
    with pytest.raises(SystemExit) if "--help" in arguments else nullcontext():
        check_command_line(arguments)


DOWNLOADED = {"data=mnist": "MNIST", "data=cifar10": "cifar-10-batches-py"}


def test_commands_in_readme_run(tmp_path, free_port):
    """In one folder, in order, at a tiny size; those on downloaded data if GAN_DATA_DIR has the data."""
    for i in range(100):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (20, 30), (2 * i, 0, 90)).save(tmp_path / "photos" / f"{i}.png")
    tiny = ["trainer.max_steps=2", "network.width=4", "data.batch_size=4", "trainer.accelerator=cpu"]
    tiny += ["eval.every_n_steps=null"]  # evaluated by gan-evaluate only
    evaluation = ["eval.num_generated=20", "feature.width=4"]
    ran = []
    for program, *words in commands(ROOT / "README.md"):
        needed = [folder for word, folder in DOWNLOADED.items() if word in words]
        if needed and not Path(os.environ.get("GAN_DATA_DIR", "data"), needed[0]).is_dir():
            continue
        if program == "gan-train" and "--help" not in words:
            resumes = any(word.startswith("ckpt_path") for word in words)
            words += ["trainer.max_steps=3"] if resumes else tiny
        words += evaluation if program == "gan-evaluate" else []
        command = (
            [str(ROOT / "train.py")]
            if program == "gan-train"
            else ["-m", program.replace("gan-", "gan_lightning.cli.")]
        )
        line, environment = [sys.executable, *command, *words], os.environ | {"OMP_NUM_THREADS": "1"}
        if program == "gan-play":  # runs until it is terminated
            line += ["--no-browser", "--port", str(free_port)]
            with subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as page:
                assert page.stdout.readline().startswith(f"http://127.0.0.1:{free_port}")
                page.terminate()  # SIGINT is ignored in background jobs of a script
            continue
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program} {words}: {done.stdout} {done.stderr}"
        ran.append(" ".join(words))
    assert len(ran) >= 6
    assert (tmp_path / "grid.png").exists()
    assert (tmp_path / "evaluation.csv").exists()
    assert (tmp_path / "export" / "generator.onnx").exists()
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "walk.mp4").exists()
    assert len([*(tmp_path / "runs" / "sweeps").rglob("last.ckpt")]) == 9
    assert (tmp_path / "runs" / "first" / "samples" / "step_00000003.png").exists(), "the run was not resumed"


def test_pages_of_models_have_same_headings():
    for variant in VARIANTS:
        page = ROOT / "docs" / f"{variant}.md"
        assert page.exists(), f"conf/model/{variant}.yaml has no page docs/{variant}.md"
        assert re.findall(r"^## .*$", prose(page), re.M) == HEADINGS, page.name
        assert f"({page.name})" in (ROOT / "docs" / "README.md").read_text()
        assert ["gan-train", f"model={variant}", "data=mnist", "trainer.max_steps=3000"] in commands(page)
        assert f"images/{variant}_mnist.png" in page.read_text()


def test_pages_list_logged_metrics(run, tmp_path, learner):
    trainer = run(tmp_path, f"model={learner}", "trainer.max_steps=1")
    logged = set((tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")) - {"step"}
    assert trainer.global_step == 1
    for page in (f"{learner}.md", "configuration.md"):
        table = (ROOT / "docs" / page).read_text().partition("\n## Logged metrics\n")[2].partition("\n## ")[0]
        named = set(re.findall(r"`((?:[gd]/)\w+|images_\w+)`", re.sub(r"^(?!\|).*$", "", table, flags=re.M)))
        assert logged <= named, page
        assert page == "configuration.md" or named == logged, page


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A copy of the repository with the two files of docs/add_a_variant.md."""
    folder = tmp_path_factory.mktemp("add_a_variant")
    for part in ("gan_lightning", "conf"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("train.py", "pyproject.toml", "tests/conftest.py", *SUPPORT, "tests/unit/model/test_model.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    files = dict(FILE.findall((ROOT / "docs" / "add_a_variant.md").read_text()))
    assert sorted(files) == ["conf/model/r1gan.yaml", "gan_lightning/model/r1gan.py"]
    for path, text in files.items():
        assert not (folder / path).exists()
        (folder / path).write_text(text)
    return folder


# A linear discriminator has the gradient norm |a| everywhere, so the penalty is 10 / 2 * (3^2 + 4^2) = 125.
CHECK_PENALTY = """
import torch
from gan_lightning.loss.non_saturating import NonSaturating
from gan_lightning.model.r1gan import R1GAN
from gan_lightning.network.mlp import MLPDiscriminator, MLPGenerator
class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    def forward(self, x, y):
        return x @ self.a
networks = dict(generator=MLPGenerator(2, (2,), 4), discriminator=Linear(), loss=NonSaturating())
model = R1GAN(**networks, generator_optimizer=torch.optim.Adam, discriminator_optimizer=torch.optim.Adam, latent_dim=2)
critic = MLPDiscriminator((2,), norm="batch")
for settings, message in ({"r1_weight": -5}, "r1_weight=-5"), ({"discriminator": critic}, "BatchNorm"):
    try:
        R1GAN(**networks | settings, generator_optimizer=None, discriminator_optimizer=None, latent_dim=2)
    except ValueError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
terms, _ = model.discriminator_loss(torch.randn(5, 2), torch.randn(5, 2), torch.zeros(5, dtype=torch.long))
assert set(terms) == {"adversarial", "r1"}, terms
torch.testing.assert_close(terms["r1"], torch.tensor(125.0))
terms["r1"].backward()
torch.testing.assert_close(model.discriminator.a.grad, torch.tensor([30.0, 40.0]))
from gan_lightning.run.command_line import check_command_line
for words in COMMANDS:
    check_command_line(words)
"""


def test_added_variant_computes_penalty_and_its_commands_are_valid(repository):
    words = [arguments for _, *arguments in commands(ROOT / "docs" / "add_a_variant.md")]
    assert len(words) == 3
    python(repository, "-c", CHECK_PENALTY.replace("COMMANDS", repr(words)))


# Settings that the annotation of an argument and a declaration of the variant reject.
REJECTED = """
import sys
sys.path.insert(0, FOLDER)
from gan_lightning.run.command_line import check_command_line
from gan_lightning.errors import UserError
for word, message in WORDS.items():
    try:
        check_command_line([*FLAGS, "model=r1gan", word])
    except UserError as error:
        assert len(error.errors) == 1 and error.errors[0].startswith(message), error
    else:
        raise AssertionError(word)
assert "torch" not in sys.modules
"""


def check_rejected(folder: Path, cwd: Path, name: str, *flags: str) -> None:
    """Check that the constraints in a variant's source are enforced, with its name in the messages."""
    words = {
        "model.r1_weight=-5": "model.r1_weight=-5: must be a number of at least 0",
        "network.discriminator.norm=batch": f"network.discriminator.norm=batch: {name} needs ",
        "trainer.precision=bf16-true": f"trainer.precision=bf16-true: {name} needs ",
    }
    code = REJECTED.replace("FOLDER", repr(str(folder))).replace("WORDS", repr(words)).replace("FLAGS", repr(flags))
    python(cwd, "-c", code)


def test_added_variant_is_validated(repository):
    check_rejected(repository, repository, "model=r1gan")


def test_variant_outside_repository_is_validated(tmp_path):
    files = dict(FILE.findall((ROOT / "docs" / "add_a_variant.md").read_text()))
    (tmp_path / "r1gan.py").write_text(files["gan_lightning/model/r1gan.py"])
    (tmp_path / "mine" / "model").mkdir(parents=True)
    text = files["conf/model/r1gan.yaml"].replace("gan_lightning.model.r1gan.R1GAN", "r1gan.R1GAN")
    (tmp_path / "mine" / "model" / "r1gan.yaml").write_text(text)
    check_rejected(tmp_path, ROOT, "model._target_=r1gan.R1GAN", f"--config-dir={tmp_path / 'mine'}")


def test_added_variant_trains(repository):
    tiny = ["network.width=4", "data.batch_size=4", "data.limit=26", "data.image_size=16", "trainer.accelerator=cpu"]
    python(repository, "train.py", "model=r1gan", *tiny, "trainer.max_steps=2", "hydra.run.dir=run")
    header, line = (repository / "run" / "metrics.csv").read_text().splitlines()
    metrics = dict(zip(header.split(","), line.split(","), strict=True))
    assert metrics["step"] == "2"
    assert float(metrics["d/r1"]) > 0
    assert (repository / "run" / "checkpoints" / "last.ckpt").exists()


def test_added_variant_passes_model_tests(repository):
    out = python(repository, "-m", "pytest", "-p", "no:cacheprovider", "tests/unit/model/test_model.py", "-k", "r1gan")
    assert int(re.search(r"(\d+) passed", out)[1]) >= 10, out
