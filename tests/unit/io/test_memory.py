"""Detection of allocations that exceed the memory, before they are made or from the error that they raise."""

import sys
from types import SimpleNamespace

import pytest
import torch

from gan_lightning.cli.train import Job
from gan_lightning.errors import UserError
from gan_lightning.io.memory import check_fits_in_memory, is_out_of_memory, peak_memory


def test_size_that_exceeds_memory_is_error():
    check_fits_in_memory("such batches", 1e6, "smaller ones")
    expected = r"^such batches take 1,000,000 GB or more, and this machine has .*; smaller ones$"
    with pytest.raises(UserError, match=expected):
        check_fits_in_memory("such batches", 1e15, "smaller ones")


def test_unknown_memory_size_is_no_error(monkeypatch):
    monkeypatch.delattr("os.sysconf")  # as on Windows
    check_fits_in_memory("such batches", 1e15, "smaller ones")


def test_peak_memory_is_that_of_process_or_of_gpu(monkeypatch):
    usage = SimpleNamespace(getrusage=lambda who: SimpleNamespace(ru_maxrss=7), RUSAGE_SELF=0)
    monkeypatch.setitem(sys.modules, "resource", usage)
    for platform, num_bytes in {"linux": 7 * 1024, "darwin": 7}.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert peak_memory(torch.device("cpu")) == num_bytes
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 5)
    assert peak_memory(torch.device("cuda")) == 5
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory(torch.device("cpu")) is None


@pytest.mark.parametrize("sizes", [(2**50,), (2**40, 2**40)])
def test_out_of_memory_error_of_torch_is_recognized(sizes):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(*sizes)
    assert is_out_of_memory(caught.value)


def test_other_runtime_errors_are_not_out_of_memory():
    with pytest.raises(RuntimeError, match="overflow") as caught:
        torch.full((1,), 2**40, dtype=torch.int16)
    assert not is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())


def test_out_of_memory_error_is_logged_with_its_advice(caplog):
    error = MemoryError()
    error.add_note("trainer.micro_batch=4 computes each minibatch in parts")
    outcome = Job.log_failure(SimpleNamespace(), error)
    assert outcome.error == (
        "out of memory; use a smaller data.batch_size, data.image_size or network.width, or a larger device; "
        "trainer.micro_batch=4 computes each minibatch in parts (MemoryError)"
    )
    assert caplog.messages == [outcome.error]
    assert outcome.exit_status == 1


def test_run_that_exceeds_memory_is_error_naming_key(run, tmp_path):
    for overrides, expected in (
        (("network.width=1000000",), "network: .* M parameters"),
        (("data.image_size=32768",), "data.batch_size: such minibatches"),
        (("data.batch_size=2000000000",), "data.batch_size: such minibatches"),
        (("model=vanilla", "data=gaussian_ring", "data.num=2147483647"), "data.num=2147483647: the points"),
    ):
        with pytest.raises(UserError, match=expected):
            run(tmp_path, *overrides)
