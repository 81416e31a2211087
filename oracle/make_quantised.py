"""Writes tests/golden/quantised: what bitsandbytes makes of matrices in 4 and 8 bits, and back.

Its CPU kernel for the scales of double quantisation looks codes up in a table and errs near the midpoints between two
of them; here they are the nearest by definition, as its GPU kernels find them, and must be within one code of its answer.
"""
from common import GOLDEN, generator, normal, save_tensors

import bitsandbytes.functional as bnb
import torch

QUANTISED = GOLDEN / "quantised"
BLOCK, NESTED_BLOCK = 64, 256


def matrices():
    """Name, and the weight in the type of a checkpoint."""
    rng = generator("quantised")
    yield "plain", normal((12, 128), 0.05, rng)
    yield "short", normal((5, 13), 1.0, rng)  # the last block is one element, and the last byte half a code
    holes = normal((8, 64), 2.0, rng)
    holes[3] = 0  # a block and a row without a scale
    yield "holes", holes
    tails = normal((16, 40), 1.0, rng) ** 3
    yield "bf16", tails.to(torch.bfloat16)
    yield "f16", (tails / 50).to(torch.float16)


def nearest_scales(scales):
    """Codes, scales and offset of double quantisation."""
    offset = scales.mean()
    code = bnb.create_dynamic_map()
    rows = torch.nn.functional.pad(scales - offset, (0, -len(scales) % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    nested = rows.abs().amax(1)
    within = (rows * (1 / nested.clamp_min(1e-38)).unsqueeze(1)).clamp(-1, 1).flatten()[:len(scales)]
    return torch.bucketize(within, (code[:-1] + code[1:]) / 2).to(torch.uint8), nested, offset


def four_bits(weight, kind, nested):
    packed, state = bnb.quantize_4bit(weight, blocksize=BLOCK, quant_type=kind)
    record = {"codes": packed.flatten(), "scales": state.absmax}
    if nested:
        _, state = bnb.quantize_4bit(weight, blocksize=BLOCK, quant_type=kind, compress_statistics=True)
        codes, scales, offset = nearest_scales(record["scales"])
        off = (codes.int() - state.absmax.int()).abs()
        assert off.max() <= 1 and off.float().mean() < 0.02, "the nearest codes are not those of bitsandbytes"
        assert torch.equal(scales, state.state2.absmax) and torch.equal(offset, state.offset)
        state.absmax = codes
        record |= {"scales": codes, "nested_scales": scales, "nested_offset": offset}
    state.dtype = torch.float32
    record["dequantised"] = bnb.dequantize_4bit(packed, state)
    # which its CPU kernel gets wrong where a row is 48 wide, for one
    error = (record["dequantised"] - weight.float()).norm() / weight.float().norm()
    assert error < 0.2, f"dequantised weights are off by {error:.2f}"
    if not nested:
        state.dtype = torch.bfloat16
        record["dequantised_bf16"] = bnb.dequantize_4bit(packed, state)
    return record


def eight_bits(weight):
    codes, scales, outliers = bnb.int8_vectorwise_quant(weight.float())
    assert outliers is None
    return {"codes": codes, "scales": scales, "dequantised": bnb.int8_vectorwise_dequant(codes, scales)}


def records(weight):
    for kind in ("nf4", "fp4"):
        yield kind, four_bits(weight, kind, nested=False)
        yield f"{kind}_nested", four_bits(weight, kind, nested=True)
    yield "int8", eight_bits(weight)


def flat(name, kind, record):
    return {f"{name}.{kind}.{key}": value for key, value in record.items()}


def main():
    tensors = {}
    for name, weight in matrices():
        tensors[name] = weight
        for kind, record in records(weight):
            tensors |= flat(name, kind, record)
    save_tensors(QUANTISED / "small.safetensors", tensors, __file__, "quantised")
    # More than one block of scales, the last one short.
    weight = normal((150, 150), 0.02, generator("quantised large")).to(torch.bfloat16)
    record = four_bits(weight, "nf4", nested=True)
    assert len(record["nested_scales"]) == 2
    save_tensors(QUANTISED / "large.safetensors", {"large": weight} | flat("large", "nf4_nested", record), __file__,
                 "quantised large")


if __name__ == "__main__":
    main()
