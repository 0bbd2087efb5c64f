"""TensorCache with several processes that request the same entry."""

import multiprocessing

import torch

from gan_lightning.io.cache import TensorCache


def wait_and_get(folder: str, started, counted) -> None:
    started.wait()

    def compute():
        with counted.get_lock():
            counted.value += 1
        return {"x": torch.ones(10)}

    TensorCache(folder).get("x", compute)


def test_concurrent_processes_compute_cached_tensor_once(tmp_path):
    context = multiprocessing.get_context("fork")
    started, counted = context.Event(), context.Value("i", 0)
    jobs = [context.Process(target=wait_and_get, args=(str(tmp_path), started, counted)) for _ in range(4)]
    for job in jobs:
        job.start()
    started.set()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * 4
    assert counted.value == 1
