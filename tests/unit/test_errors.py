"""The text of errors."""

from gan_lightning.errors import first_line


def test_errors_of_others_are_told_short():
    hydra = ValueError("Could not override\nfull_key: a.b\nobject_type=dict")
    assert first_line(hydra) == "Could not override"
    around = ValueError("around")
    around.__cause__ = OSError("what lies behind")
    assert first_line(around) == "what lies behind"
    assert first_line(KeyError()) == "KeyError"
