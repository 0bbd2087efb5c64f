"""Short messages of exceptions."""

from gan_lightning.errors import short_message


def test_short_message_is_first_line_of_cause():
    hydra = ValueError("Could not override\nfull_key: a.b\nobject_type=dict")
    assert short_message(hydra) == "Could not override"
    around = ValueError("around")
    around.__cause__ = OSError("what lies behind")
    assert short_message(around) == "what lies behind"
    assert short_message(KeyError()) == "KeyError"
