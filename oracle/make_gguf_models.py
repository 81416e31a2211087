"""Writes tests/golden/gguf_models: tiny decoders as llama.cpp's converter writes them, and what transformers makes of them.

    python oracle/make_gguf_models.py [NAME ...]

Needs oracle/requirements-gguf.txt. A checkpoint with random weights is saved by transformers, converted by llama.cpp's
convert_hf_to_gguf.py, undone tensor by tensor with the rules of `gguf_layout.py` and compared bit for bit, and run by
llama.cpp: its log-probabilities must be those of transformers.
"""
from common import GOLDEN, generator, provenance, randomise, save_json, seed_of
from gguf_layout import config_of, tensors_of, undone

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2 as pieces
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (AutoConfig, AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, MistralConfig, Phi3Config,
                          Qwen2Config, Qwen3Config)

from llamacpp import ggml_quantise, log_probabilities

FOLDER = GOLDEN / "gguf_models"
LARGEST = 150 * 1024
TOKENS, CONTEXT = 24, 256  # llama.cpp rounds a context up to 256
NEAR = 0.02                # of llama.cpp's log-probabilities
TEXTS = ["the cat sat on the mat", " two  blanks", "It's 12345 o'clock, isn't it?", "caf\u00e9 \u4e2d\u6587 \U0001f642\n\tend",
         "<s>the</s>", "<|end|> of the text<|end|>", ""]
CORPUS = ["the cat sat on the mat and the dog ran to the end of the road", "it is not what she said that he had heard"] * 20

WORDS = "\u0120the \u0120cat \u0120mat \u0120and \u0120end \u0120on \u0120of \u0120text it is at he th the 12 'd \u0120\u0120"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPLITS = {"gpt-2": GPT2, "llama-bpe": LLAMA3, "qwen2": QWEN2, "gpt-4o": LLAMA3}
CHATML = ("{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] + '<|end|>\n' }}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}")


@dataclass
class Case:
    name: str
    config: object
    tokenizer: str             # of a byte-level BPE the name that llama.cpp has for its split; else sentencepiece
    types: str = "f32"         # what the converter writes
    mix: dict = field(default_factory=dict)  # part of a tensor's name -> type that ggml makes of it afterwards
    beside: dict = field(default_factory=dict)  # keys of config.json that hub checkpoints have and the converter asks for
    lost: str = ""             # what GGUF does not say


def rope(kind, **values):
    return {"rope_type": kind, "rope_theta": 10000.0, **values}


SHAPE = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
         "pad_token_id": None}
BANDS = rope("llama3", factor=8.0, original_max_position_embeddings=64, low_freq_factor=1.0, high_freq_factor=4.0)


def cases():
    """Those of each family; together they have all that the architectures store in ways of their own."""
    yield Case("gpt2", GPT2Config(n_embd=24, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2),
               "gpt-2", beside={"n_ctx": 64})
    llama3 = {**SHAPE, "rope_parameters": BANDS, "tie_word_embeddings": True}
    yield Case("llama_llama3", LlamaConfig(**llama3), "llama-bpe")
    yield Case("llama_f16", LlamaConfig(**llama3), "llama-bpe", types="f16")
    yield Case("llama_biases", LlamaConfig(**{**SHAPE, "intermediate_size": 24}, head_dim=12, attention_bias=True,
                                           mlp_bias=True, rope_parameters=rope("linear", factor=4.0),
                                           rms_norm_eps=1e-3), "sentencepiece")
    yield Case("llama_mix", LlamaConfig(**{**SHAPE, "intermediate_size": 64, "rope_parameters": rope("default")}),
               "sentencepiece",
               mix={"token_embd": "Q8_0", "output.": "Q5_1", "attn_q.": "Q4_0", "attn_k.": "Q4_1", "attn_v.": "Q8_0",
                    "attn_output.": "Q5_0", "ffn_gate": "F16", "ffn_up": "BF16", "ffn_down": "Q5_1"})
    yield Case("mistral", MistralConfig(**SHAPE, sliding_window=8, rope_parameters={**rope("default"), "rope_theta": 1e6}),
               "sentencepiece", lost="sliding_window, and that it is a Mistral")
    yield Case("qwen2", Qwen2Config(**SHAPE, tie_word_embeddings=True, rope_parameters=rope("default")), "qwen2")
    yarn = rope("yarn", factor=4.0, original_max_position_embeddings=32)
    yield Case("qwen2_yarn", Qwen2Config(**SHAPE, rope_parameters=yarn), "qwen2")
    k_mix = {"hidden_size": 256, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1,
             "num_hidden_layers": 1}
    yield Case("qwen3_k_mix", Qwen3Config(**{**SHAPE, **k_mix}, head_dim=32, tie_word_embeddings=True,
                                          rope_parameters=rope("default")), "qwen2",
               mix={"token_embd": "Q4_K", "attn_q.": "Q4_K", "attn_k.": "Q5_K", "attn_v.": "Q6_K", "attn_output.": "Q8_0",
                    "ffn_gate": "Q2_K", "ffn_up": "Q3_K", "ffn_down": "Q4_0"})
    yield Case("qwen3", Qwen3Config(**SHAPE, head_dim=12, tie_word_embeddings=True, rope_parameters=rope("default")), "qwen2")
    long = rope("longrope", long_factor=[1.0, 1.5, 3.0, 6.0], short_factor=[1.0, 1.1, 1.2, 1.5])
    yield Case("phi3_long", Phi3Config(**{**SHAPE, "pad_token_id": 0}, original_max_position_embeddings=16,
                                       rope_parameters=long, sliding_window=None), "sentencepiece")
    part = rope("longrope", long_factor=[1.0, 2.0, 4.0], short_factor=[1.0, 1.25, 1.5], partial_rotary_factor=0.75)
    yield Case("phi3_partial", Phi3Config(**{**SHAPE, "pad_token_id": 0, "max_position_embeddings": 2048},
                                          original_max_position_embeddings=512, rope_parameters=part,
                                          sliding_window=8, tie_word_embeddings=True), "gpt-4o",
               lost="nothing; llama.cpp passes over the window")
    yield Case("gemma2", Gemma2Config(**{**SHAPE, "pad_token_id": 0}, head_dim=12, query_pre_attn_scalar=12,
                                      sliding_window=8, attn_logit_softcapping=20.0, final_logit_softcapping=10.0,
                                      rope_parameters=rope("default")), "sentencepiece",
               lost="query_pre_attn_scalar: head_dim, hidden_size / num_attention_heads where there are 46 layers")


# ---- tokenizers

def merges_of(words):
    """Each word from its first letter on; a trainer would break ties in another way every time."""
    merges = {}
    for word in words:
        for end in range(1, len(word)):
            merges.setdefault(word[:end + 1], (word[:end], word[end]))
    return merges


def write_byte_level(folder, split):
    special = ["<unk>", "<s>", "</s>", "<|start|>", "<|end|>", "<|endoftext|>"]
    merges = merges_of(WORDS.split())
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *merges]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=list(merges.values()),
                                     ignore_merges=split == "llama-bpe"))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if split == "gpt-2" else \
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLITS[split]), "isolated"),
                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>",
                                                 "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": False,
                                                 "chat_template": CHATML})
    return tokenizer.get_vocab_size(), lambda text: tokenizer.encode(text).ids


def write_sentencepiece(folder, blank_before):
    path = folder / "tokenizer.model"
    with tempfile.TemporaryDirectory() as made:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_prefix=f"{made}/it", model_type="bpe", vocab_size=300,
            byte_fallback=True, add_dummy_prefix=blank_before,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            user_defined_symbols=["<|start|>", "<|end|>"], control_symbols=["<|endoftext|>"], hard_vocab_limit=False,
            num_threads=1, minloglevel=2)
        proto = pieces.ModelProto()
        proto.ParseFromString(Path(f"{made}/it.model").read_bytes())
    proto.trainer_spec.ClearField("input")
    proto.trainer_spec.ClearField("model_prefix")
    path.write_bytes(proto.SerializeToString())
    save_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>",
                                                 "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True,
                                                 "add_eos_token": False, "chat_template": CHATML})
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return model.get_piece_size(), model.encode


def write_tokenizer(case, folder):
    if case.tokenizer != "sentencepiece":
        size, encode = write_byte_level(folder, case.tokenizer)
        return size, [{"text": text, "ids": encode(text)} for text in TEXTS]
    size, encode = write_sentencepiece(folder, case.config.model_type != "gemma2")
    # the library knows no control tokens in a text, others do
    return size, [{"text": text, "ids": encode(text)} for text in TEXTS if "<s>" not in text]


# ---- the two programs

def save_checkpoint(case, folder):
    size, texts = write_tokenizer(case, folder)
    case.config.vocab_size = size
    torch.manual_seed(seed_of(case.name))
    model = randomise(AutoModelForCausalLM.from_config(case.config, attn_implementation="eager").float(), case.name)
    model.save_pretrained(folder)
    path = folder / "config.json"
    save_json(path, {**json.loads(path.read_text()), **case.beside})
    return model, texts


CONVERT = """
import sys, conversion.base
conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: {pre!r}  # it goes by a hash of known vocabularies
import convert_hf_to_gguf
sys.argv = ["convert_hf_to_gguf.py", *{arguments!r}]
convert_hf_to_gguf.main()
"""


def convert(case, folder, path):
    arguments = [str(folder), "--outfile", str(path), "--outtype", case.types, "--model-name", case.name]
    program = CONVERT.format(pre=case.tokenizer, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def mixed(case, source, target):
    """The same file with some tensors in other types: metadata copied as they are, blocks by ggml's own quantiser."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, part in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind = part.types[0]
        writer.add_key_value(key, part.contents(), kind, part.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        kind = next((v for k, v in case.mix.items() if k in tensor.name and tensor.name.endswith("weight")
                     and "norm" not in tensor.name and (k != "output." or tensor.name == "output.weight")), None)
        data = np.array(tensor.data, dtype=np.float32)
        if kind is None:
            writer.add_tensor(tensor.name, data)
        else:
            kind = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(tensor.name, ggml_quantise(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- what comes of it

def state_of(model):
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


def compare(case, path, model):
    """The tensors of the file, undone, against the model's: equal to the last bit, or, where types were narrowed, put into
    the model."""
    rows, found = [], {}
    for tensor in tensors_of(path):
        name, rule, value = undone(tensor, model.config)
        rows.append({"gguf": tensor.name, "type": tensor.tensor_type.name, "shape": [int(n) for n in reversed(tensor.shape)],
                     "hf": name, "undo": rule})
        if name:
            found[name] = value
            rows[-1]["crc32"] = zlib.crc32(np.ascontiguousarray(value, dtype="<f4").tobytes())
    state = state_of(model)
    assert set(found) == set(state), set(found) ^ set(state)
    exact = {name: np.array_equal(found[name], state[name]) for name in state}
    for name, same in exact.items():
        assert found[name].shape == state[name].shape, name
        # w + 1 - 1 of a norm: its last bits are lost in the file
        assert same or case.mix or case.types != "f32" or (case.config.model_type == "gemma2" and "norm" in name), name
    if not all(exact.values()):
        model.load_state_dict({k: torch.tensor(v) for k, v in found.items()}, strict=False)
    return rows


def log_probabilities_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)


def told_by(path):
    """The model of the file alone: config.json from its metadata, its tensors undone."""
    config = AutoConfig.for_model(**config_of(path))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    found = [undone(tensor, config) for tensor in tensors_of(path)]
    left = model.load_state_dict({name: torch.tensor(np.ascontiguousarray(v)) for name, _, v in found if name}, strict=False)
    assert left.missing_keys in ([], ["lm_head.weight"]) and not left.unexpected_keys, left
    return model


def without_window(case, model):
    """What llama.cpp runs is a model without the window."""
    if case.config.model_type not in ("mistral", "phi3") or not case.config.sliding_window:
        return None
    config = type(case.config)(**{**case.config.to_dict(), "sliding_window": None})
    other = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    other.load_state_dict(model.state_dict())
    return other


def sha256_of(state):
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode() + np.ascontiguousarray(state[name], dtype="<f4").tobytes())
    return total.hexdigest()


def metadata_of(path):
    reader = gguf.GGUFReader(path)
    return {k: f.contents() for k, f in reader.fields.items() if not k.startswith(("GGUF.", "tokenizer.ggml.tokens",
            "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.chat_template"))}


def write(case):
    path = FOLDER / f"{case.name}.gguf"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / case.name
        folder.mkdir()
        model, texts = save_checkpoint(case, folder)
        plain = Path(made) / "plain.gguf"
        convert(case, folder, plain)
        if case.mix:
            mixed(case, plain, path)
        else:
            shutil.copy(plain, path)
        config = json.loads((folder / "config.json").read_text())
        keep = next((Path(p) for p in sys.argv[1:] if p.startswith("/")), None)
        if keep:
            shutil.copytree(folder, keep / case.name, dirs_exist_ok=True)
    assert path.stat().st_size <= LARGEST, f"{path} has {path.stat().st_size} bytes"
    digest = sha256_of(state_of(model))
    rows = compare(case, path, model)
    ids = [1, *torch.randint(6, case.config.vocab_size, (TOKENS - 1,), generator=generator(case.name + " ids")).tolist()]
    said = log_probabilities_of(model, ids)
    other = without_window(case, model)
    alone = log_probabilities_of(told_by(path), ids)
    assert (alone - (log_probabilities_of(other, ids) if case.config.model_type == "mistral" else said)).abs().max() < 1e-4
    theirs = log_probabilities(path, ids, case.config.vocab_size, CONTEXT)
    error = np.abs(theirs - (log_probabilities_of(other, ids) if other else said).numpy()).max()
    result = {"provenance": {**provenance(__file__, case.name), "convert-hf-to-gguf": version("convert-hf-to-gguf"),
                             "xllamacpp": version("xllamacpp")},
              "config": config, "metadata": metadata_of(path), "lost": case.lost, "state_sha256": digest, "tensors": rows,
              "texts": texts, "input_ids": ids, **picked("", said, ids)}
    if other:
        result |= picked("no_window_", log_probabilities_of(other, ids), ids)
        assert (said - log_probabilities_of(other, ids)).abs().max() > 1, case.name
    save_json(FOLDER / f"{case.name}.json", result)
    print(f"{case.name:14} {path.stat().st_size:7} bytes, llama.cpp differs by {error:.5f}", flush=True)
    return error


def picked(prefix, said, ids):
    """The log-probability of each next token, and of every token after the last."""
    following = said[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return {f"{prefix}next_logprobs": [round(v, 6) for v in following.tolist()],
            f"{prefix}last_logprobs": [round(v, 5) for v in said[-1].tolist()]}


def main():
    logging.disable()
    wanted = [name for name in sys.argv[1:] if not name.startswith("/")]
    errors = {case.name: write(case) for case in cases() if not wanted or case.name in wanted}
    far = {name: error for name, error in errors.items() if error > NEAR and not name.endswith(("mix", "f16"))}
    assert not far, far


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    main()
