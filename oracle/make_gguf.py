"""Writes tests/golden/gguf: blocks.gguf, a file of the package `gguf` with a tensor of every type that is read and values
of every type; plain.gguf, one whose bytes deltaw writes again; numbers.safetensors, what that package dequantises, and
numbers with what it makes of them as F16, BF16 and Q8_0."""
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value
from gguf import GGUFWriter, dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES

from common import GOLDEN, save_tensors, seed_of

FOLDER = GOLDEN / "gguf"
# Where the halves stand in a block: the scale, and in some types a minimum.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
# Zeros, the smallest and the largest subnormal, the smallest normal, one and the largest number, with both signs.
EXTREME = [sign | bits for bits in (0x0000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x7BFF) for sign in (0, 0x8000)]


def blocks(name, rng):
    """Random blocks; some scales are extreme ones, the others of the size of weights."""
    numbers, size = GGML_QUANT_SIZES[Type[name]]
    count = 12 if numbers == 32 else 4
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    data[0, :] = 0
    data[1, :] = 255
    for place, at in enumerate(HALVES[name]):
        halves = rng.normal(0, 0.05, count).astype(np.float16).view(np.uint16)
        chosen = rng.permutation(EXTREME)[: count // 2]
        halves[: len(chosen)] = chosen if place == 0 else chosen[::-1]
        data[:, at : at + 2] = halves.reshape(-1, 1).view(np.uint8)
    return data.reshape(2, -1)


def plain(rng):
    """Numbers of every size, with halves between two whole ones among those that Q8_0 makes."""
    rows = rng.normal(0, 1, (12, 32)).astype(np.float32)
    rows[1] *= np.float32(1e-30)
    rows[2] *= np.float32(1e-41)
    rows[3] = 0
    rows[4] *= np.float32(1e4)
    rows[5] = np.arange(-16, 16, dtype=np.float32) / 2
    rows[5, 0] = 127
    rows[6, :] = -0.0
    rows[7] *= np.float32(6e-8)
    rows[8] = np.exp2(rng.uniform(-30, 15, 32)).astype(np.float32)
    rows[9] *= np.float32(2e-38)
    rows[10] *= np.float32(4e-37)
    return rows


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_plain(rng):
    """What deltaw writes too: no lists in lists."""
    writer = GGUFWriter(FOLDER / "plain.gguf", "gpt2")
    writer.add_name("plain")
    writer.add_uint32("gpt2.block_count", 2)
    writer.add_float32("gpt2.epsilon", 1e-5)
    writer.add_bool("test.flag", False)
    writer.add_array("tokenizer.ggml.tokens", ["a", "\u0120b", "\u00e9"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.5, -2.0])
    writer.add_tensor("first", rng.normal(0, 1, (2, 3)).astype(np.float32))
    writer.add_tensor("second", quantize(rng.normal(0, 1, (3, 64)).astype(np.float32), Type.Q8_0), raw_dtype=Type.Q8_0)
    writer.add_tensor("third", rng.normal(0, 1, 5).astype(np.float16))
    finish(writer)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed_of("gguf"))
    write_plain(rng)
    writer = GGUFWriter(FOLDER / "blocks.gguf", "llama")
    for name, value in (("UINT8", 200), ("INT8", -3), ("UINT16", 60000), ("INT16", -300), ("UINT32", 2**32 - 1),
                        ("INT32", -7), ("FLOAT32", 1e-5), ("UINT64", 2**63 + 1), ("INT64", -(2**40)), ("FLOAT64", 0.1),
                        ("BOOL", True), ("STRING", "text \u00e9")):
        writer.add_key_value("test." + name.lower(), value, Value[name])
    writer.add_array("test.words", ["one", "", "three"])
    writer.add_array("test.numbers", [1, -2, 3])
    writer.add_array("test.lists", [[1, 2], [3]])
    expected = {}
    for name in HALVES:
        data = blocks(name, rng)
        writer.add_tensor(name, data, raw_dtype=Type[name])
        expected[name] = torch.from_numpy(dequantize(data, Type[name]).copy())
    numbers = rng.normal(0, 1, (2, 3, 4)).astype(np.float32)
    halves = rng.integers(0, 2**16, (5, 7)).astype(np.uint16)
    halves[(halves & 0x7C00) == 0x7C00] = 0x7C00
    halves[0] = [0, 1, 0x3FF, 0x400, 0x7BFF, 0xFC00, 0x8001]
    bfloats = quantize(rng.normal(0, 1, (3, 4)).astype(np.float32), Type.BF16)
    for name, data, kind in (("F32", numbers, None), ("F16", halves.view(np.float16), None),
                             ("F64", rng.normal(0, 1, 3), None), ("BF16", bfloats, Type.BF16),
                             ("I32", np.array([1, -2], np.int32), None)):
        writer.add_tensor(name, data, raw_dtype=kind)
    expected["F32"] = torch.from_numpy(numbers)
    expected["F16"] = torch.from_numpy(dequantize(halves.view(np.float16), Type.F16))
    expected["BF16"] = torch.from_numpy(dequantize(bfloats, Type.BF16).copy())
    finish(writer)

    rows = plain(rng)
    expected["plain"] = torch.from_numpy(rows)
    for name in ("F16", "BF16", "Q8_0"):
        with np.errstate(all="ignore"):
            expected["plain." + name] = torch.from_numpy(quantize(rows, Type[name]).view(np.uint8).copy())
    save_tensors(FOLDER / "numbers.safetensors", expected, __file__, "gguf")


if __name__ == "__main__":
    main()
