"""Comparison of scores: protocol cards, tables over seeds, and significance."""

import math

import pytest

from gan_lightning.errors import UserError
from gan_lightning.evaluation.compare import Row, check_comparable, experiment_names, print_table, summarise, verdict
from gan_lightning.evaluation.score import card_hash, differences


def row(value: float, seed: int = 0, card: dict | None = None, **experiment) -> Row:
    card = card or {"metric": "FID", "num_real": 10}
    line = {"metric": "fid", "value": value, "card": card, "card_hash": card_hash(card), "direction": -1}
    return Row("x", {"model": "dcgan", **experiment}, seed, 10, [line])


def test_card_hash_ignores_origin():
    one = {"num_real": 10, "training_seed": 0, "versions": {"torch": "1"}}
    other = {"num_real": 10, "training_seed": 5, "versions": {"torch": "2"}}
    assert card_hash(one) == card_hash(other)
    assert differences([one, other]) == {}
    assert differences([one, {**one, "num_real": 11}]) == {"num_real": [10, 11]}
    assert differences([one, {**one, "num_real": 11}], allowed=["num_real"]) == {}
    assert differences([{"a": 1}, {}]) == {}, "a missing key counts as a difference"
    assert differences([{"a": 1}, {}, {"a": 2}]) == {"a": [1, 2]}


def test_rows_of_different_protocols_are_error():
    with pytest.raises(UserError, match=r"num_real: 10 \(x\) / 11 \(x\)"):
        check_comparable([row(1.0), row(2.0, card={"metric": "FID", "num_real": 11})])
    check_comparable([row(1.0), row(2.0, seed=1)])


def test_differing_field_is_reported_once():
    rows = [row(1.0), row(2.0), row(3.0, card={"metric": "FID", "num_real": 11})]
    for index, member in enumerate(rows):
        member.path = str(index)
    for member in rows[1:]:
        member.scores.append(member.scores[0] | {"metric": "kid"})
    with pytest.raises(UserError) as caught:
        check_comparable(rows)
    assert [*caught.value.errors[1:-1]] == ["  num_real: 10 (0 and 1 more) / 11 (2)"]


def test_table_is_sorted_and_has_means_over_seeds():
    rows = [row(10 + i, i) for i in range(3)] + [row(5 + i, i, **{"model.k": 2}) for i in range(3)]
    table = summarise(rows, "fid", -1)
    assert [line["experiment"] for line in table] == ["dcgan model.k=2", "dcgan"]
    assert [line["fid"] for line in table] == [6, 11]
    assert [line["fid sd"] for line in table] == [1, 1]
    assert [line["seeds"] for line in table] == [3, 3]
    assert [line["against the best"] for line in table] == ["best", "worse"]
    assert summarise(rows, "fid", 1)[0]["fid"] == 11


def test_missing_score_leaves_gap_in_table(capsys):
    """Unconditional models have no class accuracy."""
    rows = [row(value, seed, model=model) for model in ("cgan", "dcgan") for seed, value in enumerate((1.0, 2.0))]
    for member in rows[:2]:
        member.scores.append(member.scores[0] | {"metric": "class_accuracy", "value": 0.5, "direction": 1})
    table = {line["experiment"]: line for line in summarise(rows, "class_accuracy", 1)}
    assert (table["cgan"]["class_accuracy"], table["cgan"]["class_accuracy sd"]) == (0.5, 0)
    assert math.isnan(table["dcgan"]["class_accuracy"])
    assert table["dcgan"]["against the best"] == "not measured"
    print_table([*table.values()], ["fid", "class_accuracy"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("dcgan")]
    assert " - " in line


def test_score_is_used_if_another_evaluation_of_seed_lacks_it():
    with_kid = row(1.0)
    with_kid.scores.append(with_kid.scores[0] | {"metric": "kid", "value": 0.5})
    (line,) = summarise([row(1.0), with_kid], "fid", -1)
    assert (line["kid"], line["seeds"]) == (0.5, 1)


def test_experiment_names_have_values_only_if_options_are_equal():
    rows = [row(1, model="wgan", **{"model.clip": 1}), row(1, model="dcgan", **{"model.clip": 2})]
    assert experiment_names(rows) == ["wgan", "dcgan"]
    rows += [row(1, model="wgan", **{"model.clip": 3})]
    assert experiment_names(rows) == ["wgan model.clip=1", "dcgan model.clip=2", "wgan model.clip=3"]


def test_experiment_names_omit_implied_and_duplicate_values():
    settings = [{"model.lr": lr, "model.generator.lr": lr, "network.width": 8} for lr in (1, 2)]
    rows = [row(1, model="wgan", network="mlp", **one) for one in settings]
    rows += [row(1, model="dcgan", network="conv", **settings[0] | {"network.width": 16})]
    assert experiment_names(rows) == ["wgan model.lr=1", "wgan model.lr=2", "dcgan model.lr=1"]
    rows += [row(1, model="wgan", network="conv", **settings[0])]
    assert experiment_names(rows)[-1] == "wgan network=conv model.lr=1"
    assert experiment_names([row(1, network="mlp"), row(1, network="conv")]) == [
        "dcgan network=mlp",
        "dcgan network=conv",
    ]


@pytest.mark.parametrize(
    ("best", "values", "expected"),
    [
        ([10, 10.5, 9.5], [20, 21, 19], "worse"),
        ([10, 14, 6], [12, 16, 8], "inconclusive (p = "),
        ([10, 10, 10], [10.1, 10.1, 10.1], "inconclusive (below 1.3 %)"),
        ([10], [20, 21], "inconclusive (one seed)"),
        ([10, 10], [20, 20], "worse"),
        ([10, 10], [float("nan"), 1], "not measured"),
    ],
)
def test_difference_within_noise_is_inconclusive(best, values, expected):
    assert verdict(best, values).startswith(expected)
