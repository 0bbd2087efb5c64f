"""Seeds as a pure function of (seed, generator step, rank), which makes a resumed run draw the same numbers."""

import torch

# Streams of random numbers by purpose. Each seed includes its stream, so that no two streams share one.
WEIGHTS, ORDER, FLIPS, TRAINING_STEP, DROPOUT, POINTS, HELD_OUT, EVALUATION = range(8)


def mix(*words: int) -> int:
    """Hash integers to 32 bits, since torch's CPU generator uses only 32 bits of its seed."""
    state = 0x9E3779B9
    for word in words:
        state = ((state ^ (word & 0xFFFFFFFF)) * 0x85EBCA6B + (word >> 32)) & 0xFFFFFFFF
        state ^= state >> 13
        state = (state * 0xC2B2AE35) & 0xFFFFFFFF
        state ^= state >> 16
    return state


def seed_default(device: torch.device, *words: int) -> None:
    """Seed the default generator of a device. It takes 1 us, ``torch.manual_seed`` takes 100 us."""
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index]
    elif device.type == "mps":
        generator = torch.mps._get_default_mps_generator()
    else:
        generator = torch.default_generator
    generator.manual_seed(mix(*words))
