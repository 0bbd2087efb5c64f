"""Class names: how they are sanitized, validated, written, and accepted in place of class numbers."""

import logging
from pathlib import Path

import pytest

from gan_lightning.errors import UserError
from gan_lightning.io import class_names
from gan_lightning.io.class_names import (
    caption,
    check_class_order,
    describe_classes,
    file_name,
    normalize_name,
    replace_undrawable,
    resolve_class_numbers,
    sanitize_class_names,
    split,
    validate_class_names,
)

ANIMALS = ["cats", "dogs", "sea lion", "été", "a,b", "10", "x/y"]
PATH = Path("last.ckpt")


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["cats", "dogs"], [0, 1]),
        (["10"], [5]),  # the class named 10, not class number 10
        ([1, 6], [1, 6]),
        (["e\u0301te\u0301"], [3]),  # the decomposed form of macOS
        ([" sea lion "], [2]),
        (["a,b", "x/y"], [4, 6]),
    ],
)
def test_names_have_precedence_over_numbers(classes, expected):
    assert resolve_class_numbers(classes, ANIMALS, len(ANIMALS)) == expected


def test_numeric_names_are_not_class_numbers():
    """With folders 1 to 3, class number 0 would be folder 1."""
    names = ["1", "2", "3"]
    assert resolve_class_numbers(["1", "3"], names, 3) == [0, 2]
    assert resolve_class_numbers([0], names, 3) == [0], "an int is always a class number"
    with pytest.raises(ValueError, match=r"there is no class 0; the classes are 1, 2, 3$"):
        resolve_class_numbers(["0"], names, 3)


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (["3", "010", "999"], [f"{number:03}" for number in range(1000)], [3, 10, 999]),
        (["3", "11"], [f"{number:02}" for number in range(12)], [3, 11]),
        (["1", "01", "0002"], ["1", "01", "2"], [0, 1, 2]),  # an exact name has precedence over an equal value
        (["02", "2"], ["01", "02", "cats", "x"], [1, 1]),
        (["\u0663"], ["01", "02", "03"], [2]),  # an Arabic 3
        (["1", "2.0", "3"], ["1.0", "2.0", "3.0"], [0, 1, 2]),
        (["-1", "+1", "0"], ["-1", "0", "1"], [0, 2, 1]),
        (["1", "3", "background"], ["1", "2", "3", "background"], [0, 2, 3]),
        (["0.50", "1e1"], ["0.5", "10"], [0, 1]),
        ([0, 2], ["1.0", "2.0", "3.0"], [0, 2]),  # an int is always a class number
    ],
)
def test_numeric_names_are_compared_by_value(classes, names, expected):
    assert resolve_class_numbers(classes, names, len(names)) == expected


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (["001"], ["1", "01", "2"], "there is no class 001; the classes are 1, 01, 2"),
        (["1000"], ["000", "001", "002"], "there is no class 1000; the classes are 000, 001, 002"),
        (["9" * 5000], ["1", "2"], "there is no class 999"),
        (["Cat"], ANIMALS, "there is no class 'Cat'; did you mean cats? The classes are cats, dogs"),
        (["Cat"], ["cats", *"abcdef"], "there is no class 'Cat'; did you mean cats? The classes are cats (0), a (1)"),
        (["DOGS"], ANIMALS, "did you mean dogs?"),
        (["7"], ANIMALS, "there is no class 7; "),
        (["5"], ANIMALS, "there is no class 5; the classes are cats, dogs, "),  # 10 is a name, so 5 is no class number
        (["0"], ["1", "2", "3", "background", *"xyz"], "there is no class 0; the classes are 1, 2, 3, background, x"),
        (["2"], ["-1", "0", "1", *"wxyz"], "there is no class 2; the classes are -1, 0, 1, w"),
        (["4"], ["1.0", "2.0", "3.0"], "there is no class 4; the classes are 1.0, 2.0, 3.0"),
        (["nan", "inf"], ["1", "nan"], "there is no class 'inf'; the classes are 1, nan"),
        (["7"], [*"abcdefg"], "there is no class 7; the classes are a (0), b (1)"),
        (["-1"], [], "there is no class '-1'; the classes are 0 to 6"),
        (["what", ""], [], "there is no class 'what', ''; the classes are 0 to 6"),
        (["dogs"], ["dogs", "dogs", *"abcde"], "2 classes have the name dogs; give the number"),
    ],
)
def test_unknown_classes_are_error_with_list_of_classes(classes, names, expected):
    with pytest.raises(ValueError, match="class") as caught:
        resolve_class_numbers(classes, names, 7)
    assert expected in str(caught.value)


def test_long_lists_of_classes_are_shortened():
    names = [f"breed {number}" for number in range(300)]
    assert describe_classes(names, 300).endswith("breed 19 (19) and 280 more")
    assert describe_classes([*map(str, range(300))], 300) == "0 to 299"
    assert describe_classes([], 0) == "none: the model is unconditional"


def test_class_numbers_are_accepted_if_no_name_is_numeric():
    assert resolve_class_numbers(["1", "6", "cats"], ["cats", *"abcdef"], 7) == [1, 6, 0]
    assert resolve_class_numbers(["1", "6"], [], 7) == [1, 6]


@pytest.mark.parametrize(
    "name", ["a\u3000b", "a\xa0b", "a\u200cb", "a\u200db", "a\u00adb", "x" * 300, "a\nb", "e\u0301"]
)
def test_original_and_sanitized_names_are_accepted(name):
    names = sanitize_class_names(["first", name])
    assert resolve_class_numbers([name], names, 2) == resolve_class_numbers(names[1:], names, 2) == [1]
    assert resolve_class_numbers(split(f"{name},first", names), names, 2) == [1, 0]


def test_split_of_many_classes_is_linear(monkeypatch):
    """Only as many parts are joined as a name has commas, plus one."""
    joined = []
    monkeypatch.setattr(class_names, "normalize_name", lambda name: joined.append(name) or normalize_name(name))
    classes = [f"word {number}" for number in range(3000)]
    assert split(",".join(classes), ["a,b", "c"]) == classes
    assert len(joined) <= 2 * len(classes) + 2
    assert split("1,2,3,4,5,6", ["1,2", "1,2,3", "5,6"]) == ["1,2,3", "4", "5,6"]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("cats,dogs", ["cats", "dogs"]),
        ("cats, a,b ,10", ["cats", "a,b", "10"]),
        ("a,b", ["a,b"]),
        ("a,c", ["a", "c"]),
        ("cats,", ["cats", ""]),
    ],
)
def test_commas_within_names_do_not_separate_classes(text, classes):
    assert split(text, ANIMALS) == classes


def test_names_in_file_names_and_captions():
    assert [file_name(ANIMALS, label) for label in range(7)] == [
        "cats",
        "dogs",
        "sea_lion",
        "été",
        "a_b",
        "class10",
        "x_y",
    ]
    assert file_name([], 3) == "class3"
    assert file_name(["../../etc/\x00"], 0).count("/") == 0
    assert len(file_name(["long" * 100], 0)) == 50
    assert [caption(ANIMALS, label) for label in (0, 5)] == ["cats", "class 10"]
    assert caption([], 5) == "class 5"
    assert caption(["x" * 100], 0) == "x" * 21 + "..."


def test_captions_replace_characters_missing_from_font():
    names = ["犬", "猫", "дом", "λ", "犬 dog", "été", "😀"]
    assert [caption(names, label) for label in range(7)] == ["0: ?", "1: ?", "дом", "λ", "4: ? dog", "été", "😀"]
    assert replace_undrawable("犬 to λ") == "? to λ"


def test_sanitized_names_are_printable_and_short():
    assert sanitize_class_names(["a\x1b[31m", "\udcff", 7, "y" * 1000]) == ["a\\x1b[31m", "\\udcff", "7", "y" * 255]


def test_class_names_of_untrusted_files_are_validated():
    assert validate_class_names(["a", "b"], 2, PATH) == ["a", "b"]
    assert validate_class_names(None, 2, PATH) == validate_class_names([], 2, PATH) == []
    assert validate_class_names(["a", "b"], 0, PATH) == [], "names of an unconditional model are not ignored"
    for invalid in (["a"], ["a", 1], "ab", {"a": 1, "b": 2}, ["a", "\x1b]0;x"], ["a", "b" * 256], 7, ["a", ["b"]]):
        with pytest.raises(UserError, match=r"last\.ckpt: class_names: must be 2 printable texts") as caught:
            validate_class_names(invalid, 2, PATH)
        assert len(caught.value.errors) == 1


@pytest.mark.parametrize(
    ("stored", "names", "expected"),
    [
        (["a", "b"], ["b", "a"], "class 0 is 'a' in the model and 'b' in the data, where 'a' is class 1"),
        # One folder was renamed and is now sorted elsewhere.
        (["a", "b", "c"], ["b", "c", "z"], "class 1 is 'b' in the model and 'c' in the data, where 'b' is class 0"),
        (["a", "b", "c"], ["A", "a", "c"], "class 0 is 'a' in the model and 'A' in the data, where 'a' is class 1"),
    ],
)
def test_class_with_another_number_in_data_is_error(caplog, stored, names, expected):
    with pytest.raises(UserError) as caught:
        check_class_order(PATH, stored, names)
    assert str(caught.value) == f"last.ckpt: {expected}; use the training data, or rename the classes as they were"
    assert not caplog.records


@pytest.mark.parametrize(
    ("stored", "names", "expected"),
    [
        (["a", "b"], ["a", "b"], []),
        ([], ["a", "b"], []),
        (["\u00e9t\u00e9"], ["e\u0301te\u0301"], []),  # the decomposed form of macOS
        (["a", "b"], ["a", "c"], ["last.ckpt: class 1 is 'b' in the model and 'c' in the data"]),
        (["a", "a"], ["a", "c"], ["last.ckpt: class 1 is 'a' in the model and 'c' in the data"]),
    ],
)
def test_class_with_another_name_is_warned_about(caplog, stored, names, expected):
    with caplog.at_level(logging.WARNING):
        check_class_order(PATH, stored, names)
    assert [record.message for record in caplog.records] == expected
