"""Random adapters in both directions: PEFT's read by deltaw, deltaw's read by PEFT and by deltaw itself.

    python oracle/random_adapters.py build/release/deltaw --count 500 --seed 1 [--way peft|deltaw|both] [--only 17,23]
        [--keep FOLDER]

Case i is drawn from the seed and i alone: a tiny base with new weights, a configuration, rows of text. Logits must agree
within 3e-4 max(1, |logits|). Where PEFT disagrees with itself, the adapter as it loads it again decides. A line per case:

    equal      both programs compute the same
    refused    one of the two says that it does not take this configuration, and what it says
    said       PEFT cannot read the adapter, or reads another one, and deltaw warned of that
    DIFFERENT  neither complains, and the logits differ
    BROKEN     deltaw crashed, called it an internal error, or cannot read what it wrote

Exits with 1 where a case is DIFFERENT or BROKEN. --keep leaves the folders of those cases there.
"""
from common import MODELS, is_causal, randomise

import argparse
import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import fields
from pathlib import Path

import torch
from peft import (AdaLoraConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftModel,
                  PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, RandLoraConfig, VeraConfig,
                  get_peft_model)
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

BASES = ["bert_cls", "bert_reg", "roberta_cls", "roberta_reg", "llama_heads", "llama_tied", "llama_biases",
         "mistral_window", "phi3_short", "qwen2_tied", "qwen2_window", "qwen3_tied", "gemma2", "gpt2", "gpt2_scaled"]
SPECIALS = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "roberta": ["<s>", "<pad>", "</s>", "<unk>"]}
OWN = ["moslora", "lora2", "sora", "lora_xs", "houlsby", "pfeiffer", "bitfit", "full", "head"]  # PEFT lacks them
TOLERANCE = 3e-4


class Refused(Exception):
    """One of the two programs does not take the case; the text says which, and why."""


# ---- a base, its tokenizer, and rows

def make_base(rng, folder):
    name = rng.choice(BASES)
    given = json.loads((MODELS / name / "config.json").read_text())
    if given["model_type"] in ("llama", "mistral", "qwen2", "qwen3", "gpt2") and rng.random() < 0.4:
        given["tie_word_embeddings"] = rng.random() < 0.6
    config = AutoConfig.for_model(**given)
    causal = is_causal(config)
    torch.manual_seed(rng.getrandbits(31))
    kind = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
    model = randomise(kind.from_config(config, attn_implementation="eager"), str(rng.random()))
    model.save_pretrained(folder / "base")
    make_tokenizer(config, folder / "base")
    return model


def make_tokenizer(config, folder):
    """Words w5, w6, ... are the ids 5, 6, ...; a row of an encoder gets its first and last token."""
    specials = SPECIALS.get(config.model_type, ["<unk>", "<s>", "</s>"])
    words = specials + [f"w{i}" for i in range(len(specials), config.vocab_size)]
    unknown = next(word for word in specials if "unk" in word.lower())
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(specials)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": unknown, "model_max_length": 40}
    if config.model_type in SPECIALS:
        first, last = ("[CLS]", "[SEP]") if config.model_type == "bert" else ("<s>", "</s>")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}",
            special_tokens=[(word, words.index(word)) for word in (first, last)])
        settings |= {"cls_token": first, "sep_token": last, "pad_token": specials[config.pad_token_id]}
    else:
        settings |= {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def make_rows(rng, config, count=4):
    return [[rng.randrange(5, config.vocab_size) for _ in range(rng.randint(3, 9))] for _ in range(count)]


def as_text(row):
    return " ".join(f"w{token}" for token in row)


def write_rows(rng, rows, config, folder):
    (folder / "in.txt").write_text("".join(as_text(row) + "\n" for row in rows))
    if is_causal(config):
        text = "".join(json.dumps({"text": as_text(row)}) + "\n" for row in rows)
        (folder / "rows.jsonl").write_text(text)
        return "rows.jsonl"
    with open(folder / "rows.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for i, row in enumerate(rows):
            score = round(rng.uniform(-1, 1), 2) + 0.005
            table.writerow([as_text(row), score if config.num_labels == 1 else i % config.num_labels])
    return "rows.csv"


# ---- what is drawn of a configuration

def chance(rng, share):
    return rng.random() < share


class Names:
    def __init__(self, model):
        def ends(kinds):
            found = [name for name, module in model.named_modules() if isinstance(module, kinds)]
            return [name for name in found if "classifier" not in name and "score" not in name]
        self.full = [name for name in ends((torch.nn.Linear, Conv1D)) if not name.endswith("lm_head")]
        self.leaves = sorted({name.split(".")[-1] for name in self.full})
        self.norms = sorted({name.split(".")[-1] for name, module in model.named_modules()
                             if "norm" in type(module).__name__.lower()})
        self.causal = is_causal(model.config)
        self.tied = bool(model.config.tie_word_embeddings)
        self.words = "wte" if model.config.model_type == "gpt2" else "embed_tokens" if self.causal else "word_embeddings"
        self.blocks = {"gpt2": "h"}.get(model.config.model_type, "layers" if self.causal else "layer")
        self.head = "lm_head" if self.causal else "classifier"
        self.vocabulary = model.config.vocab_size


def draw_targets(rng, names, embeddings):
    """target_modules and the keys that go with them."""
    some = rng.sample(names.leaves, rng.randint(1, min(3, len(names.leaves))))
    kind = rng.choice(["none", "list", "list", "list", "full", "all", "regex", "unmatched", "ends"])
    if kind == "none":
        return {}
    if kind == "all":
        return {"target_modules": rng.choice(["all-linear", "all-linear", "All-Linear"])}
    if kind == "regex":
        return {"target_modules": rf".*\.({'|'.join(some)})"}
    targets = {"target_modules": some}
    if kind == "full":
        some.append(rng.choice(names.full))
    if kind == "unmatched":
        some.append(rng.choice(["no_such_layer", "q_proj", "query", "c_attn"]))
    if kind == "ends" and embeddings:
        some.append(rng.choice([names.words, names.head]))
    if chance(rng, 0.2):
        targets["layers_to_transform"] = rng.choice([0, 1, [0], [1], [0, 1]])
        if chance(rng, 0.4):
            targets["layers_pattern"] = rng.choice([names.blocks, [names.blocks]])
    if chance(rng, 0.15):
        left_out = rng.choice(names.leaves)
        targets["exclude_modules"] = rng.choice([[left_out], rf".*\.0\..*{left_out}"])
    return targets


def draw_patterns(rng, names, low, high):
    one, two = rng.choice(names.leaves), rng.choice(names.leaves)
    keys = [one, f"({one}|{two})", rng.choice(names.full), f"^{rng.choice(names.full)}", f"0.*{two}"]
    rng.shuffle(keys)
    return {key: rng.randint(low, high) for key in keys[:rng.randint(1, 3)]}


def draw_saved(rng, names, options):
    """modules_to_save, bias, tied weights and rows of embeddings."""
    if chance(rng, 0.2):
        wanted = [rng.choice(names.norms), names.words, names.head, "norm", "no_such_module"]
        options["modules_to_save"] = rng.sample(wanted, rng.randint(1, 2))
    if chance(rng, 0.2):
        options["bias"] = rng.choice(["all", "lora_only"])
    if names.causal and chance(rng, 0.15):
        ids = sorted(rng.sample(range(names.vocabulary), 3))
        some = {names.words: ids} | ({names.head: ids[:2]} if chance(rng, 0.4) else {})
        options["trainable_token_indices"] = rng.choice([ids, some])
    if names.tied and chance(rng, 0.3):
        options["ensure_weight_tying"] = True


def draw_lora(rng, names, trained):
    """`trained`: by PEFT, so that the keys which act in its training only, and odd values, may stand in the file."""
    options = {"r": rng.choice([1, 2, 3, 4, 8, 40]), "lora_alpha": rng.choice([1, 4, 8, 16, 5])}
    if trained and chance(rng, 0.05):
        options["lora_alpha"] = rng.choice([0, -2, 0.5])
    options |= draw_targets(rng, names, embeddings=True)
    draw_saved(rng, names, options)
    for key, share in (("use_rslora", 0.2), ("use_dora", 0.2), ("lora_bias", 0.1)):
        if chance(rng, share):
            options[key] = True
    if chance(rng, 0.3):
        options["rank_pattern"] = draw_patterns(rng, names, 1, 6)
    if chance(rng, 0.3):
        options["alpha_pattern"] = draw_patterns(rng, names, 1, 20)
    if chance(rng, 0.2):
        options["init_lora_weights"] = rng.choice(["gaussian", "pissa", "olora", "orthogonal", "pissa_niter_4", False])
    return options


def draw_other(rng, names, method, trained):
    if method == "adalora":
        options = {"init_r": rng.choice([2, 4, 6]), "target_r": 2, "lora_alpha": rng.choice([4, 8])}
        if trained and chance(rng, 0.2):
            options["use_rslora"] = True
    elif method in ("loha", "lokr"):
        options = {"r": rng.choice([1, 2, 4]), "alpha": rng.choice([2, 4, 8])}
        if method == "lokr":
            options |= {"decompose_both": chance(rng, 0.5), "decompose_factor": rng.choice([-1, 2, 4])}
            if trained and chance(rng, 0.2):
                options["rank_dropout_scale"] = True
            if trained and chance(rng, 0.3):
                options["init_weights"] = rng.choice(["lycoris", False])
        for key in ("rank_dropout", "module_dropout"):
            if trained and chance(rng, 0.2):
                options[key] = 0.3
        for key in ("rank_pattern", "alpha_pattern"):
            if chance(rng, 0.2):
                options[key] = draw_patterns(rng, names, 1, 4)
    elif method == "oft":
        options = rng.choice([{"r": 0, "oft_block_size": 4}, {"r": 2, "oft_block_size": 0}])
        options |= {"coft": chance(rng, 0.2), "block_share": chance(rng, 0.2), "use_cayley_neumann": chance(rng, 0.5)}
        if trained and chance(rng, 0.2):
            options["module_dropout"] = 0.3
    elif method == "vera":
        options = {"r": rng.choice([2, 4, 8]), "save_projection": chance(rng, 0.6)}
    elif method == "randlora":
        options = {"r": rng.choice([2, 5, 8]), "randlora_alpha": rng.choice([4, 8]),
                   "save_projection": chance(rng, 0.6), "sparse": chance(rng, 0.2)}
    elif method == "ia3":
        options = {}
        if chance(rng, 0.6):
            options["target_modules"] = rng.sample(names.leaves, min(2, len(names.leaves)))
            options["feedforward_modules"] = options["target_modules"][:rng.randint(0, 1)]
        if not trained and chance(rng, 0.3):  # PEFT makes none with a list that is not among target_modules
            options["feedforward_modules"] = [rng.choice(names.leaves)]
        return options
    else:
        options = {"num_virtual_tokens": rng.randint(1, 6)}
        if trained and method == "prefix_tuning" and chance(rng, 0.4):
            options |= {"prefix_projection": True, "encoder_hidden_size": 8}
        if method == "p_tuning":
            options |= {"encoder_hidden_size": 8, "encoder_reparameterization_type": rng.choice(["MLP", "LSTM"])}
        return options
    return options | draw_targets(rng, names, embeddings=False)


def draw_own(rng, names, method):
    if method not in ("moslora", "lora2", "sora", "lora_xs"):
        return {}
    options = {"r": rng.choice([2, 4])} | ({"k": 2, "target_r": 1} if method == "lora2" else {"lora_alpha": rng.choice([4, 8])})
    return options | draw_targets(rng, names, embeddings=False)


CONFIGS = {"lora": LoraConfig, "adalora": AdaLoraConfig, "loha": LoHaConfig, "lokr": LoKrConfig, "oft": OFTConfig,
           "vera": VeraConfig, "randlora": RandLoraConfig, "ia3": IA3Config, "prompt_tuning": PromptTuningConfig,
           "prefix_tuning": PrefixTuningConfig, "p_tuning": PromptEncoderConfig}


def draw(rng, names, methods, trained):
    method = "lora" if chance(rng, 0.5) else rng.choice(methods)
    if method == "lora":
        return method, draw_lora(rng, names, trained)
    return method, draw_own(rng, names, method) if method in OWN else draw_other(rng, names, method, trained)


# ---- both programs

def peft_logits(folder, adapter, rows):
    """Without padding, so that no mask has a part in it."""
    config = AutoConfig.from_pretrained(folder / "base")
    causal = is_causal(config)
    kind = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
    base = kind.from_pretrained(folder / "base", dtype=torch.float32, attn_implementation="eager").eval()
    model = PeftModel.from_pretrained(base, folder / adapter).eval()
    found = []
    with torch.no_grad():
        for row in rows:
            ids = row if causal else ([2] + row + [3] if config.model_type == "bert" else [0] + row + [2])
            tokens = torch.tensor([ids])
            logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0]
            found.append(logits[-len(ids):] if causal else logits)
    return found


def call(program, folder, *arguments):
    """What deltaw writes to standard output and error, or Refused; a crash is an AssertionError."""
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = done.stderr.strip()
    if done.returncode == 0:
        return done.stdout, said
    errors = re.findall(r"^error\[([\w.-]+)\]: (.*)", said, re.MULTILINE)
    name, what = errors[0] if errors else ("", said[-300:])
    assert done.returncode in (1, 2) and errors and not name.startswith("internal"), \
        f"deltaw {arguments[0]} exits with {done.returncode}: {said[-300:]}"
    raise Refused(f"deltaw {arguments[0]}: {name}: {what}")


def deltaw_logits(program, folder, adapter, count):
    (folder / "logits.safetensors").unlink(missing_ok=True)
    _, said = call(program, folder, "predict", "--model_name_or_path", "base", "--adapter_name_or_path", adapter,
                   "--dtype", "float32", "--input_file", "in.txt", "--logits_file", "logits.safetensors")
    tensors = load_file(folder / "logits.safetensors")
    return list(tensors["logits"]) if "logits" in tensors else [tensors[f"logits.{i}"] for i in range(count)], said


def distance(expected, found):
    """In tolerances; infinite where a number or a shape is wrong."""
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape or not torch.isfinite(other).all():
            return float("inf")
        worst = max(worst, ((one - other).abs().max() / (TOLERANCE * max(1.0, one.abs().max().item()))).item())
    return worst


def verdict(found, said, warning):
    if found <= 1:
        return "equal", f"{found:.2g}"
    return "said" if re.search(warning, said) else "DIFFERENT", f"{found:.3g} tolerances apart"


# ---- the two directions

def from_peft(rng, program, folder):
    base = make_base(rng, folder)
    rows = make_rows(rng, base.config)
    write_rows(rng, rows, base.config, folder)
    names = Names(base)
    method, options = draw(rng, names, [m for m in CONFIGS if m != "lora"], trained=True)
    known = {field.name for field in fields(CONFIGS[method])}
    options = {key: value for key, value in options.items() if key in known}
    task = "CAUSAL_LM" if names.causal else "SEQ_CLS"
    if method in ("lora", "loha") and chance(rng, 0.1):
        task = None
    if method == "adalora":
        options |= {"tinit": 1, "tfinal": 1, "total_step": 10}
    (folder / "options.json").write_text(json.dumps({"method": method, "task_type": task, **options}, indent=1))
    try:
        model = get_peft_model(base, CONFIGS[method](task_type=task, **options))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if value.requires_grad:
                    noise = torch.randn(value.shape) * (0.02 if "vera_lambda" in name or "oft_" in name else 0.1)
                    value.add_(noise)
        model.save_pretrained(folder / "adapter")
        expected = peft_logits(folder, "adapter", rows)
    except Exception as problem:
        raise Refused(f"PEFT: {type(problem).__name__}: {str(problem)[:120]}") from problem
    if not all(torch.isfinite(row).all() for row in expected):
        raise Refused("PEFT: its logits are not finite")
    found, said = deltaw_logits(program, folder, "adapter", len(rows))
    return method, *verdict(distance(expected, found), said, "warn.* drawn again, as PEFT does")


def without(value, name):
    """A list or map less what deltaw says that no module is named by."""
    if isinstance(value, list):
        return [entry for entry in value if entry != name]
    return {key: entry for key, entry in value.items() if key != name} if isinstance(value, dict) else value


def train(program, folder, run):
    """What deltaw says. Names that match nothing are refused in training: those that are drawn are left out."""
    for _ in range(8):
        (folder / "run.json").write_text(json.dumps(run, indent=1))
        try:
            return call(program, folder, "train", "run.json")[1]
        except Refused as problem:
            unmatched = re.search(r"config\.unmatched-\w+: '(.*?)' (?:matches none|names no|is no)", str(problem))
            less = unmatched and {key: without(value, unmatched[1]) for key, value in run.items()}
            if not less or less == run or less.get("target_modules") == []:
                raise
            run = less
    raise Refused("deltaw train: too many names that match nothing")


def from_deltaw(rng, program, folder):
    base = make_base(rng, folder)
    rows = make_rows(rng, base.config)
    file = write_rows(rng, rows, base.config, folder)
    method, options = draw(rng, Names(base), [m for m in CONFIGS if m not in ("lora", "p_tuning")] + OWN, trained=False)
    run = {"model_name_or_path": "base", "dtype": "float32", "train_file": file, "validation_file": file,
           "per_device_train_batch_size": 4, "max_steps": 3, "learning_rate": 0.02, "lr_scheduler_type": "constant",
           "method": method, "output_dir": "out", **options}
    if method == "adalora":
        run |= {"tinit": 1, "tfinal": 1, "max_steps": 5}
    said = train(program, folder, run)
    trained = json.loads((folder / "out" / "all_results.json").read_text())["eval_loss"]
    try:
        found, _ = deltaw_logits(program, folder, "out", len(rows))
        results, _ = call(program, folder, "eval", "--adapter_name_or_path", "out", "--dtype", "float32",
                          "--validation_file", file)
    except Refused as problem:
        raise AssertionError(f"deltaw cannot read what it wrote: {problem}") from problem
    again = json.loads(results)["eval_loss"]
    assert abs(trained - again) <= 1e-4 * max(1.0, abs(trained)), f"eval_loss was {trained} and is {again} when loaded"
    if method in OWN:
        return method, "equal", "with itself"
    try:
        expected = peft_logits(folder, "out", rows)
    except Exception as problem:
        what = f"PEFT: {type(problem).__name__}: {str(problem)[:120]}"
        return method, "said" if re.search("warn.*PEFT", said) else "DIFFERENT", what
    return method, *verdict(distance(expected, found), said, "warn.*PEFT")


def one_case(way, seed, number, program, folder):
    rng = random.Random(f"{way}-{seed}-{number}")
    try:
        return (from_peft if way == "peft" else from_deltaw)(rng, program, folder)
    except Refused as problem:
        return "", "refused", str(problem)
    except AssertionError as problem:
        return "", "BROKEN", str(problem)
    except subprocess.TimeoutExpired:
        return "", "BROKEN", "deltaw does not end"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=500, help="cases of each direction")
    parser.add_argument("--way", choices=["peft", "deltaw", "both"], default="both")
    parser.add_argument("--only", help="numbers of cases")
    parser.add_argument("--keep", type=Path, help="folder for the cases that fail")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    numbers = [int(n) for n in given.only.split(",")] if given.only else range(given.count)
    totals, reasons = Counter(), Counter()
    for way in ["peft", "deltaw"] if given.way == "both" else [given.way]:
        for number in numbers:
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                method, state, how = one_case(way, given.seed, number, given.program.resolve(), folder)
                if given.keep and state.isupper():
                    shutil.copytree(folder, given.keep / f"{way}-{number}", dirs_exist_ok=True)
            totals[way, state] += 1
            if state == "refused":
                reasons[re.sub(r"'[^']*'|\[[^\]]*\]|\d+", "_", how)] += 1
            print(f"{way} {number} {state} {method} {how}".replace("\n", " ")[:300], flush=True)
    for how, count in reasons.most_common():
        print(f"{count:4} refused: {how}"[:200])
    for (way, state), count in sorted(totals.items()):
        print(f"{way}: {count} {state}")
    sys.exit(any(state.isupper() for _, state in totals))


if __name__ == "__main__":
    main()
