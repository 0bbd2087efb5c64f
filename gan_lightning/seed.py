"""Randomness as a function of (seed, generator step, rank), so that a resumed run draws what the first would have."""

import torch

# What a number is drawn for; the streams never share a seed.
WEIGHTS, ORDER, FLIPS, GAME, DROPOUT, POINTS, HELD_OUT, EVALUATION = range(8)


def mix(*words: int) -> int:
    """Hash integers to 32 bits, all that a CPU generator takes of its seed."""
    state = 0x9E3779B9
    for word in words:
        state = ((state ^ (word & 0xFFFFFFFF)) * 0x85EBCA6B + (word >> 32)) & 0xFFFFFFFF
        state ^= state >> 13
        state = (state * 0xC2B2AE35) & 0xFFFFFFFF
        state ^= state >> 16
    return state


def seed_default(device: torch.device, *words: int) -> None:
    """Seed the default generator of a device; a microsecond, where ``torch.manual_seed`` takes a hundred."""
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index]
    elif device.type == "mps":
        generator = torch.mps._get_default_mps_generator()
    else:
        generator = torch.default_generator
    generator.manual_seed(mix(*words))
