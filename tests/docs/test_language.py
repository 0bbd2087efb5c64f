"""Prose and names use the terms of the PyTorch documentation and of the GAN literature; :data:`TERMS` lists the others.

Pages, settings and code are searched as they are: comments, docstrings, messages and identifiers.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A pattern of words to avoid, and the terms to write instead. Case is ignored; a space also matches a line break.
TERMS = {
    # metaphors
    r"guests?": "callback",
    r"pictures?|pictured": "image",
    r"laws?": "distribution",
    r"players?": "network, generator, discriminator",
    r"opponents?": "discriminator",
    r"games?": "GAN, model, training",
    r"plays|played|playing|(?:to|will|can|networks|they|and) play": "train, run",
    r"(?:G|D|generator|discriminator|critic|networks?) (?:moves?|moved)|moves? in turn": "update",
    r"li(?:fe|ves)": "run, resumed run",
    r"strangers?": "untrusted",
    r"foreign": "user-supplied, third-party, other",
    r"judg(?:e|es|ed|ing|ment|ments)": "evaluate, score",
    r"minds?": "wait, optimise, warm up",
    r"starv(?:e|es|ed|ing)": "vanishing gradient",
    r"forgiv(?:e|es|ing|en)|forgave": "penalise less",
    r"obey(?:s|ed|ing)?": "match",
    r"films?": "video",
    # software does not speak
    r"told|tells?|telling": "log, print, show, raise",
    r"says?|said|saying": "state, show, log, specify",
    r"asks?|asked|asking": "request, pass, specify",
    r"hears?|heard|hearing|listen(?:s|ed|ing)?": "receive, use",
    r"knows?|knew|knowing": "have, determine",
    r"complain(?:s|ed|ing)?": "raise an error, warn",
    r"refus(?:e|es|ed|ing|al|als)": "reject, raise",
    # terms
    r"(?:go|goes|going|went|gone) on": "resume, continue",
    r"(?:take|takes|taken|took|taking) up": "resume",
    r"faults? (?:of|in|that|are)|(?:a|one|own|these|those|such|its|their) faults?": "error",
    r"anew": "again, from scratch",
    r"slopes?": "gradient, gradient norm",
    r"channels? (?:inner|outer)most": "channels last, contiguous",
    r"lack of (?:memory|room|space)|room": "out of memory, space",
    r"deviations?": "standard deviation",
    r"perceptrons?": "MLP",
    r"(?:the|a|its|no) bars?": "progress bar",
    r"(?:no|no such|its|their|whose|final|same|published|both|all|these|those) figures?": "score, metric, value",
    r"figures (?:of|are|were|in|for|that|as|with)": "scores, metrics, values",
    r"what (?:sees|was seen|is seen)|look(?:s|ed|ing)? through": "feature network, features",
    r"differentiated (?:again|twice)|slow way": "double backward",
    r"appears? whole": "atomic write",
    # phrases
    r"at hand": "available",
    r"(?:stand|stands|stood) still": "fixed",
    r"(?:does|do|did) otherwise": "differs",
    r"comes? to nothing|in vain": "has no effect",
    r"on (?:the|its|their) way": "between, during",
    r"brought along|put back|put into form": "implied, restored, formatted",
    r"what was typed": "overrides",
    r"whoever|who (?:watch|move|call|ask|write|read|type|want)(?:es|s)?": "a noun: callback, caller, reader",
}

# Beginnings of sentences and docstrings that replace a subject or a verb; case-sensitive.
SENTENCES = {
    r"(?:[.] |\n\n)(?:Of (?!course)|Who |Whoever |Such |That which )": "the subject first",
    r'"""(?:Of|Who|Such|That|Where|What|Whether) ': "a verb or a noun first",
}

# Former names in code and configuration; case-sensitive.
IDENTIFIERS = r"""
      descend | weights_of | looks_at_batches | TwoPlayers | refuse_too_large | is_lack_of_memory | LESS_MEMORY
    | halvings | get_ready | made_by | refuse_unlike | with_deviation | first_rank | typeable | NOT_FOR_USERS
    | settings_put_back | left_by | ask_again | told_plainly | cannot_write | by_age | terms_of | figures_of
    | refuse_divergence | keep_lines_until | signs_of_game | faults_of_meaning | in_foreign_class | brought_along
    | take_state | take_networks | refuse_foreign | is_ours | OURS | start_from_normal | normalise_spectrum
    | LabelMap | LabelVector | StepData | StepLoader | eight_bits | FILLED_IN | OF_OTHERS | OF_THE_LINE | MAY_CHANGE
    | OfData | Balls | ranks_of | generator_batch | eval\.num | eval\.labels | data\.known | data\.window
    | data\.deviation | model\.deviation | latent\.reach | latent\.starts | latent\.prior | latent\.picture
    | upsample=transposed | feature=plane | feature=module | callbacks\.scalars | callbacks\.health | callbacks\.stop
"""

# Ordinary English and names of others, with reasons: text that is searched no further.
ALLOWED = {
    r"(?:two-player|minimax) games?": "theory, as in Goodfellow et al.",
    r"browsers? (?:can )?plays?": "videos",
    r"half[- _]li(?:fe|ves)": "of an exponential moving average",
    r"faults? of every kind": "fault injection",
    r"negative_slope": "PyTorch's argument",
    r"`slopes`": "the name in the code of WGAN-GP's authors",
    r'"deviations"': "a field of protocol cards, whose hashes depend on it",
    r"pictures[?]": "names of users' folders",
    r"authors ask": "people",
    r"(?:error|side|tool|menu|colou?r|scroll|progress|progress_)[ _-]?bars?": "terms of plots and pages",
    r"listen\(": "of a socket",
    r"figures? \d": "of a paper",
    r"(?:standard|mean absolute) deviations?": "the full term",
    r"multilayer perceptrons?": "the full term",
}

SPACE = r"(?:[ ]|[ ]*\n[ ]*(?:#[ ]*)?)"  # also a line break, before the rest of a comment or not
START, END = r"(?<![a-z0-9])", r"(?![a-z0-9])"  # a word within an identifier counts


def either(patterns: dict[str, str]) -> str:
    """Return a pattern of all; their spaces, but for those of character sets, match line breaks too."""
    return re.sub(r"\[.*?\]| ", lambda found: SPACE if found[0] == " " else found[0], "|".join(patterns))


IN_LOWER_CASE = re.compile(f"{START}(?:(?P<allowed>{either(ALLOWED)})|(?:{either(TERMS)}){END})")
AS_WRITTEN = re.compile(rf"{'|'.join(SENTENCES)}|\b(?x:{IDENTIFIERS})\b")


def files() -> list[Path]:
    """Return pages, settings and code of the repository, except this file, which lists the words."""
    suffixes = ("docs", "*.md"), ("conf", "*.yaml"), (".github", "*.yml"), ("benchmarks", "*.md")
    suffixes += ("gan_lightning", "*.py"), ("gan_lightning", "*.html"), ("benchmarks", "*.py"), ("tests", "*.py")
    found = [path for folder, suffix in suffixes for path in sorted((ROOT / folder).rglob(suffix))]
    found += [
        *sorted(ROOT.glob("*.md")),
        *(ROOT / name for name in ("Makefile", "Dockerfile", "pyproject.toml", "train.py")),
    ]
    # The page on evaluation is replaced together with the feature network that it describes.
    return [path for path in found if path not in (Path(__file__), ROOT / "docs" / "evaluation.md")]


def search(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the words, and what to write instead, of each match that is not allowed."""
    found = [match for match in IN_LOWER_CASE.finditer(text.lower()) if not match["allowed"]]
    for match in [*found, *AS_WRITTEN.finditer(text)]:
        words = re.sub(r"\s+(?:# *)?", " ", match[0])
        instead = (terms for pattern, terms in (TERMS | SENTENCES).items() if re.fullmatch(pattern, words))
        yield text.count("\n", 0, match.start()) + 1, words.strip(), next(instead, "the present name")


def test_pages_and_code_use_terms_of_the_field():
    errors = [
        f"{path.relative_to(ROOT)}:{line}: {words!r}; write {instead}"
        for path in files()
        for line, words, instead in search(path.read_text(encoding="utf-8"))
    ]
    assert not errors, f"{len(errors)} words to avoid:\n" + "\n".join(errors)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Both players are told the class.",
            [(1, "players", "network, generator, discriminator"), (1, "told", "log, ")],
        ),
        ("# The run then goes\n    # on from its checkpoint.", [(1, "goes on", "resume, continue")]),
        ("The Players move.\nA Picture.", [(1, "players", "network"), (2, "picture", "image")]),
        ("self._opponent_lr = players_lr", [(1, "opponent", "discriminator"), (1, "players", "network")]),
        ('"""Of the last step."""', [(1, '"""Of', "a verb or a noun first")]),
        ("The order is fixed. Such runs end.", [(1, ". Such", "the subject first")]),
        ("from gan_lightning.callbacks import take_state", [(1, "take_state", "the present name")]),
        ("deviation=2", [(1, "deviation", "standard deviation")]),
    ],
)
def test_words_to_avoid_are_found(text, expected):
    found = list(search(text))
    assert [(line, words) for line, words, _ in found] == [(line, words) for line, words, _ in expected]
    assert all(instead.startswith(start) for (*_, instead), (*_, start) in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "The two-player game of Goodfellow et al.; the standard\n# deviation of figures 2 and 3.",
        "half_life = 3  # a flaw of the display, in the foreground; knowledge of gan-play and multilayer perceptrons",
        "nn.LeakyReLU(negative_slope=0.2); socket.listen(); progress_bar.update(); an error bar",
        "Of course, the person who trains it names the run. Resume, reject, log, and evaluate it.",
    ],
)
def test_ordinary_english_is_allowed(text):
    assert list(search(text)) == []


def test_search_covers_every_kind_of_file():
    covered = {str(path.relative_to(ROOT)) for path in files()}
    assert covered >= {"README.md", "docs/course/README.md", "conf/train.yaml", "gan_lightning/seed.py", "Makefile"}
    assert covered >= {
        "CHANGELOG.md",
        "gan_lightning/report/page.html",
        "tests/conftest.py",
        "benchmarks/throughput.py",
    }
    assert len(covered) > 400
