"""What is too large is told before it is allocated, or when it was not to be had."""

import pytest
import torch

from gan_lightning.errors import UserError
from gan_lightning.io.memory import check_fits_in_memory, is_out_of_memory


def test_what_fits_is_let_through():
    check_fits_in_memory("such batches", 1e6, "smaller ones")
    told = r"^such batches take 1,000,000 GB or more, and this machine has .*; smaller ones$"
    with pytest.raises(UserError, match=told):
        check_fits_in_memory("such batches", 1e15, "smaller ones")


def test_a_system_that_does_not_tell_its_memory_is_no_obstacle(monkeypatch):
    monkeypatch.delattr("os.sysconf")  # as on Windows
    check_fits_in_memory("such batches", 1e15, "smaller ones")


@pytest.mark.parametrize("sizes", [(2**50,), (2**40, 2**40)])
def test_torchs_lack_of_memory_is_known(sizes):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(*sizes)
    assert is_out_of_memory(caught.value)


def test_other_faults_are_not():
    with pytest.raises(RuntimeError, match="overflow") as caught:
        torch.full((1,), 2**40, dtype=torch.int16)
    assert not is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())


def test_a_run_that_is_too_large_says_so(run, tmp_path):
    for words, told in (
        (("network.width=1000000",), "network: .* M parameters"),
        (("data.image_size=32768",), "data.batch_size: such minibatches"),
        (("data.batch_size=2000000000",), "data.batch_size: such minibatches"),
        (("model=vanilla", "data=gaussian_ring", "data.num=2147483647"), "data.num=2147483647: the points"),
    ):
        with pytest.raises(UserError, match=told):
            run(tmp_path, *words)
