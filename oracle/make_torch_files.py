"""Writes tests/golden/torch_files: one dictionary of tensors as torch.save writes it in its formats, and as safetensors."""
from common import GOLDEN, generator, normal, save_tensors

import os

import torch
from torch import nn

FOLDER = GOLDEN / "torch_files"


class Command:
    """What a hostile pickle would run."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def tensors():
    rng = generator("torch_files")
    module = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))  # its state_dict() has versions beside the tensors
    state = module.state_dict()
    for name in state:
        state[name] = normal(state[name].shape, 1, rng)
    matrix = normal((5, 6), 1, rng)
    state["parameter"] = nn.Parameter(normal((2, 2), 1, rng))
    state["shared"] = matrix
    state["part"] = matrix[1:3, 2:5]
    state["turned"] = matrix.t()
    state["column"] = matrix[:, 4]
    state["empty"] = torch.empty(0, 3)
    state["scalar"] = torch.tensor(-7)
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8):
        state[str(dtype).removeprefix("torch.")] = (normal((3,), 9, rng)).abs().to(dtype)
    state["bool"] = torch.tensor([True, False, True])
    return state


def main():
    state = tensors()
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(state, FOLDER / "zip.bin")
    torch.save(state, FOLDER / "protocol_4.bin", pickle_protocol=4)
    torch.save(state, FOLDER / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": state["0.weight"], "extra": Command()}, FOLDER / "command.bin")
    torch.save({"model": state}, FOLDER / "nested.bin")
    words = normal((7, 4), 1, generator("torch_files tied"))
    torch.save({"bert.embeddings.position_ids": torch.arange(5).unsqueeze(0),
                "bert.embeddings.word_embeddings.weight": words, "cls.predictions.decoder.weight": words,
                "cls.predictions.bias": words[:, 0].clone()}, FOLDER / "tied.bin")
    save_tensors(FOLDER / "tensors.safetensors", state, __file__, "torch_files")


if __name__ == "__main__":
    main()
