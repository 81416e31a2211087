"""llama.cpp, by the package xllamacpp: log-probabilities of a GGUF file with or without an adapter, and ggml's quantiser.
"""
import ctypes
import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp


def server(path, context, adapter=None, scale=1.0):
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.fit_params = False
    params.verbosity = -1
    params.cache_prompt = False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), scale)]
    return xllamacpp.Server(params)


def after(running, prompt, count):
    """The most likely tokens. An end that is drawn is answered by nothing: drawn again."""
    for seed in range(100):
        answer = running.handle_completions({"prompt": prompt, "n_predict": 1, "n_probs": count, "temperature": 1.0, "top_k": 0,
                                             "top_p": 1.0, "min_p": 0.0, "cache_prompt": False, "seed": seed})
        said = answer["choices"][0]["logprobs"]
        if said and said["content"]:
            return said["content"][0]["top_logprobs"]
    raise AssertionError(f"only the end after {prompt}")


def log_probabilities(path, ids, vocabulary, context=256, adapter=None, first=1):
    """[len(ids), vocabulary] of each token that may follow ids[0..i], by one request a prefix; those before `first` are NaN."""
    running = server(path, context, adapter)
    result = np.full((len(ids), vocabulary), np.nan)
    for length in range(first, len(ids) + 1):
        for entry in after(running, ids[:length], vocabulary):
            result[length - 1, entry["id"]] = entry["logprob"]
    return result


def ggml_quantise(rows, kind):
    """A float32 matrix in blocks of `kind`, as llama.cpp's own quantiser makes them, without an importance matrix."""
    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("*.so"))))
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if kind in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16):
        return gguf.quantize(rows, kind)
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    assert rows.shape[1] % per_block == 0, (rows.shape, kind)
    result = np.empty((rows.shape[0], rows.shape[1] // per_block * block_bytes), dtype=np.uint8)
    quantise = library.ggml_quantize_chunk
    quantise.restype = ctypes.c_size_t
    written = quantise(ctypes.c_int(kind), rows.ctypes.data_as(ctypes.c_void_p), result.ctypes.data_as(ctypes.c_void_p),
                       ctypes.c_int64(0), ctypes.c_int64(rows.shape[0]), ctypes.c_int64(rows.shape[1]), ctypes.c_void_p())
    assert written == result.nbytes
    return result
