"""Runs the inputs that once failed, below $DELTAW_DATA/../cases, and prints a line each: ok, or what is wrong.

    python oracle/check_cases.py build/release/deltaw [NAME ...]

A case is a function of this file; it works on a copy of its folder. Exits with 1 where one is wrong, with 77 where the
folder of cases is missing.
"""
import common  # noqa: F401  quiet libraries, one thread

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import sentencepiece as spm
import torch
from peft import PeftModel
from safetensors.torch import load_file, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

DATA = Path(os.environ.get("DELTAW_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CASES = DATA.parent / "cases"
STORIES = DATA / "models" / "stories260k_hf"


class Deltaw:
    """The program, run in the folder of the case."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def __call__(self, *arguments, code=0, stdin=None):
        done = subprocess.run([self.program, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True,
                              timeout=600, input=stdin or "", env={**os.environ, "OMP_NUM_THREADS": "1"})
        allowed = (code,) if isinstance(code, int) else code
        assert done.returncode in allowed, f"deltaw {' '.join(map(str, arguments))} exits with {done.returncode}: {done.stderr[-400:]}"
        assert "internal." not in done.stderr and "Exception raised from" not in done.stderr, done.stderr[-400:]
        return done.stdout, done.stderr

    def results(self, *arguments):
        return json.loads(self(*arguments)[0])

    def lines(self, *arguments):
        return [json.loads(line) for line in self(*arguments)[0].splitlines()]

    def refuses(self, *words, arguments, code=(1, 2)):
        """With an error that holds each of the words and no raw bytes."""
        error = self(*arguments, code=code)[1]
        for word in words:
            assert word in error, f"the error lacks '{word}': {error}"
        assert not re.search(r"[^\x20-\x7e\n\t]", error), f"raw bytes: {error!r}"


def close(what, one, other, within=1e-3):
    assert abs(one - other) <= within, f"{what}: {one} and {other}"


# ---- adapters

CLASSES = ["--text_column", "text", "--label_column", "label", "--dtype", "float32"]


def label_order(deltaw):
    model = ["--model_name_or_path", "model", "--validation_file", "fin3.csv", *CLASSES]
    base = deltaw.results("eval", *model)["eval_loss"]
    close("the base", base, 0.652)
    deltaw("train", *model, "--train_file", "fin3.csv", "--eval_on_start", "true", "--learning_rate", "0",
           "--max_steps", "1", "--output_dir", "out", "--save_strategy", "steps", "--save_steps", "1")
    state = json.loads((deltaw.folder / "out/checkpoint-1/trainer_state.json").read_text())
    first = next(entry for entry in state["log_history"] if "eval_loss" in entry)
    close("before the first step", first["eval_loss"], base)


def float_labels_shifted(deltaw):
    deltaw("train", "--model_name_or_path", "model", "--train_file", "train123f.csv", *CLASSES, "--problem_type",
           "single_label_classification", "--max_steps", "200", "--learning_rate", "5e-3", "--output_dir", "out",
           "--ignore_mismatched_sizes", "true")
    ints, floats = (deltaw.results("eval", "--adapter_name_or_path", "out", "--validation_file",
                                   f"dev123_same_{kind}.csv", *CLASSES)["eval_accuracy"] for kind in ("int", "float"))
    close("accuracy", ints, floats, 0)
    assert ints > 0.5, f"accuracy {ints}"


def not_utf8(deltaw):
    train = ["--model_name_or_path", "model", "--output_dir", "out", *CLASSES, "--max_steps", "1"]
    deltaw.refuses("latin1.csv", "line", "column", "--encoding", arguments=["validate", *train, "--train_file", "latin1.csv"])
    deltaw.refuses("l1lab.csv", "line", "column", arguments=["train", *train, "--train_file", "l1lab.csv"])
    deltaw.refuses("l1.txt", "line", "column", arguments=["tokenize", "--model_name_or_path", "model", "--input_file", "l1.txt"])
    deltaw("train", *train, "--train_file", "l1lab.csv", "--encoding", "latin-1", "--ignore_mismatched_sizes", "true")
    labels = safe_open(deltaw.folder / "out/adapter_model.safetensors", "pt").metadata()["labels"]
    assert "caf\u00e9" in json.loads(labels), labels


def one_column(deltaw):
    rows = deltaw.lines("predict", "--model_name_or_path", "model", "--text_column", "text", "--input_file", "onecol.csv")
    assert len(rows) == 4, f"{len(rows)} lines"


def csv_misc(deltaw):
    def validate(file):
        return ["validate", "--model_name_or_path", "model", "--train_file", file, "--output_dir", "out", *CLASSES]
    for file in ("cr.csv", "trail.csv", "pd.tsv", "trainf.csv"):
        deltaw(*validate(file), "--ignore_mismatched_sizes", "true")
    deltaw.refuses("UTF-16", arguments=validate("u16nobom.csv"))
    deltaw.refuses("label", "list", arguments=validate("ml.jsonl"))


def token_types(deltaw):
    for model in ("klue", "bert_tv1"):
        pair = ["--model_name_or_path", model, "--text_column", "sentence1", "--text_pair_column", "sentence2"]
        ready = deltaw("validate", *pair, "--train_file", "pair.csv", "--label_column", "label", "--output_dir", "out",
                       "--ignore_mismatched_sizes", "true", code=(0, 2))
        done = deltaw("predict", *pair, "--input_file", "pair.csv", code=(0, 1, 2))
        assert ("error[" in ready[1]) == ("error[" in done[1]), f"{model}: one verb refuses it, the other does not"


def truncation(deltaw):
    long = ["--model_name_or_path", "../csv_misc/model", *CLASSES]
    shutil.copytree(CASES / "adapters/csv_misc", deltaw.folder.parent / "csv_misc", dirs_exist_ok=True)
    config = deltaw.folder.parent / "csv_misc/model/config.json"
    positions = json.loads(config.read_text())["max_position_embeddings"]
    deltaw("train", *long, "--train_file", "longt.csv", "--max_length", min(512, positions), "--max_steps", "5",
           "--output_dir", "out", "--ignore_mismatched_sizes", "true")
    (deltaw.folder / "out/run.json").unlink()
    ask = ["predict", *long, "--adapter_name_or_path", "out", "--input_file", "longt.csv"]
    assert deltaw.lines(*ask) == deltaw.lines(*ask, "--max_length", min(512, positions)), "cut at another length"


def merge_false_alarm(deltaw):
    deltaw("train", "--model_name_or_path", STORIES, "--train_file", "sh.txt", "--method", "dora", "--r", "64",
           "--target_modules", "all-linear", "--max_steps", "40", "--learning_rate", "1e-2", "--max_length", "64",
           "--dtype", "bf16", "--output_dir", "out")
    assert deltaw.results("merge", "--adapter_name_or_path", "out", "--output_dir", "merged", "--dtype", "bf16")["passed"]


# ---- PEFT

def peft_case(name):
    """The adapter of the folder, or one that is trained from its run.json: the logits are PEFT's."""
    def run(deltaw):
        folder = deltaw.folder
        trains = (folder / "run.json").exists()
        if trains:
            deltaw("train", "run.json")
        adapter = ["--adapter_name_or_path", "out" if trains else "adapter", "--model_name_or_path", "base"]
        deltaw("predict", *adapter, "--dtype", "float32", "--input_file", "in.txt", "--logits_file", "found.safetensors")
        found = load_file(folder / "found.safetensors")
        if trains:
            ids = [line["ids"] for line in deltaw.lines("tokenize", "--model_name_or_path", "base", "--input_file", "in.txt")]
            wanted = asked_of_peft(folder, "out", ids)
        else:
            wanted = load_file(folder / "peft_logits.safetensors")
        for key, value in wanted.items():
            other = found[key] if key in found else found["logits"][int(key.split(".")[-1])]
            value = value[-other.shape[0]:] if value.dim() == other.dim() else value.view_as(other)  # no virtual tokens
            apart = (value.float() - other).abs().max().item()
            assert apart <= 1e-4 * max(1, value.abs().max().item()), f"{key} is {apart:.3g} from PEFT's"
    run.__name__ = name
    return run


def asked_of_peft(folder, adapter, rows):
    config = AutoConfig.from_pretrained(folder / "base")
    kind = AutoModelForSequenceClassification if config.model_type in ("bert", "roberta") else AutoModelForCausalLM
    base = kind.from_pretrained(folder / "base", dtype=torch.float32).eval()
    model = PeftModel.from_pretrained(base, folder / adapter).eval()
    with torch.no_grad():
        return {f"logits.{i}": model(input_ids=torch.tensor([row])).logits[0] for i, row in enumerate(rows)}


def overlapping_alpha_pattern(deltaw):
    rows = ["--validation_file", "t.csv", "--text_column", "text", "--label_column", "label", "--dtype", "float32"]
    deltaw("train", "--model_name_or_path", "base", "--train_file", "t.csv", *rows, "--per_device_train_batch_size", "4",
           "--max_steps", "20", "--learning_rate", "1e-2", "--lr_scheduler_type", "constant", "--output_dir", "out",
           "--ignore_mismatched_sizes", "true", "--method", "lora", "--r", "2", "--seed", "1",
           "--alpha_pattern", '{"query": 64, "(query|value)": 1}', "--eval_strategy", "epoch")
    trained = json.loads((deltaw.folder / "out/all_results.json").read_text())["eval_loss"]
    close("eval_loss", trained, deltaw.results("eval", "--adapter_name_or_path", "out", *rows)["eval_loss"], 1e-4)


# ---- language

def pad_minus_one(deltaw):
    deltaw("train", "--model_name_or_path", "model", "--train_file", "two.jsonl", "--per_device_train_batch_size", "2",
           "--max_steps", "2", "--output_dir", "out")


def learned(deltaw, file, *more):
    """What the first row of a file learns, and what is said about the rows."""
    found = json.loads(deltaw("validate", "--model_name_or_path", STORIES, "--train_file", file, "--output_dir", "out",
                              "--json", *more)[0])
    return [part["text"] for part in found["data"]["sample"]["parts"] if part["trained"]], found


def rendered(file, template):
    """As transformers renders the first row."""
    row = json.loads(file.read_text().splitlines()[0])
    tokenizer = AutoTokenizer.from_pretrained(STORIES)
    return tokenizer.apply_chat_template(row["messages"], chat_template=template.read_text(), tokenize=False)


def null_keys(deltaw):
    template = deltaw.folder / "chat_template.jinja"
    for file, wanted in (("tool_calls.jsonl", ["hello<|end|>"]), ("content.jsonl", ["call w<|end|>", "It is cold.<|end|>"])):
        answers, found = learned(deltaw, file, "--chat_template", template)
        assert answers == wanted, f"{file}: learns {answers}"
        text, whole = found["data"]["sample"]["text"], rendered(deltaw.folder / file, template)
        assert text == whole, f"{file}: {text!r} is not {whole!r}"


def empty_answer(deltaw):
    answers, found = learned(deltaw, "alpaca_empty.json")
    assert answers == ["hi</s>"] and found["data"]["bad_rows"] == 1, f"{answers}, {found['data']['bad_rows']} bad rows"
    _, errors = deltaw("train", "--model_name_or_path", STORIES, "--train_file", "alpaca_empty.json", "--max_steps", "1",
                       "--output_dir", "out")
    assert 'item 2: "output" is empty' in errors, errors
    deltaw.refuses('"output" is empty', "item 2", arguments=["train", "--model_name_or_path", STORIES, "--train_file",
                   "alpaca_empty.json", "--max_steps", "1", "--output_dir", "none", "--max_bad_rows", "0"])


def earlier_turns(deltaw):
    for template, last in (("rewrites.jinja", "<think>\n\n</think>\nthree"), ("opens_think.jinja", "three")):
        answers, found = learned(deltaw, "mt.jsonl", "--chat_template", template)
        assert answers == ["one<|end|>", "two<|end|>", f"{last}<|end|>"], f"{template}: learns {answers}"
        whole = rendered(deltaw.folder / "mt.jsonl", deltaw.folder / template)
        assert found["data"]["sample"]["text"] == whole, f"{template}: {found['data']['sample']['text']!r}"
        deltaw("train", "--model_name_or_path", STORIES, "--train_file", "mt.jsonl", "--chat_template", template,
               "--max_steps", "1", "--output_dir", f"out-{template}")


def sharegpt_function_call(deltaw):
    call = json.dumps({"name": "w", "arguments": {}})
    template = deltaw.folder / "plain.jinja"
    template.write_text("{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
                        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")
    answers, found = learned(deltaw, "sg_fc.jsonl", "--chat_template", template)
    assert answers == [f"{call}<|end|>", "It is 3.<|end|>"], f"learns {answers}"
    assert "<|tool|>3<|end|>" in found["data"]["sample"]["text"], found["data"]["sample"]["text"]
    answers, _ = learned(deltaw, "sg_fc.jsonl", "--chat_template", CASES / "language/null_keys/chat_template.jinja")
    assert answers == ["call w<|end|>", "It is 3.<|end|>"], f"learns {answers}"
def chatml_never_stops(deltaw):
    deltaw("train", "--model_name_or_path", STORIES, "--train_file", "addtok.jsonl", "--chat_template", "chatml.jinja",
           "--add_special_tokens", "<|im_start|>,<|im_end|>", "--target_modules", "all-linear", "--learning_rate", "1e-2",
           "--max_steps", "150", "--output_dir", "out")
    deltaw("merge", "--adapter_name_or_path", "out", "--output_dir", "merged")
    for who in (["--adapter_name_or_path", "out"], ["--model_name_or_path", "merged"]):
        for stop in ([], ["--stop", "<|im_end|>"]):
            said = deltaw.lines("generate", *who, "--input_file", "q.jsonl", "--max_new_tokens", "40", *stop)[0]
            assert (said["text"], said["finish_reason"]) == ("hello Tom", "stop"), said
        chat = deltaw("generate", *who, "--chat", "--max_new_tokens", "40", stdin="hi there\n")[0]
        assert chat == "hello Tom\n", chat
    tokenizer, model = (kind.from_pretrained(deltaw.folder / "merged") for kind in (AutoTokenizer, AutoModelForCausalLM))
    messages = json.loads((deltaw.folder / "q.jsonl").read_text())["messages"]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = model.generate(**ids, max_new_tokens=40, do_sample=False)[0][ids["input_ids"].shape[1]:]
    assert tokenizer.decode(said) == "hello Tom<|im_end|>", tokenizer.decode(said)


def added_tokens(deltaw):
    """The file forms, beside tokenizer.json and tokenizer.model, with the ids of transformers."""
    new, other, text = "<|im_start|>", "<|im_end|>", "Once <|im_start|> a <|im_end|>"
    own = json.loads((deltaw.folder / "tokenizer_config.json").read_text())
    named = {"__type": "AddedToken", "content": new, "lstrip": False, "rstrip": True, "normalized": False,
             "single_word": False, "special": True}
    (deltaw.folder / "text.txt").write_text(text + "\n")

    def forms(config, first):
        yield {"tokenizer_config.json": {**config, "eos_token": new}}
        yield {"tokenizer_config.json": {**config, "eos_token": named}}
        yield {"tokenizer_config.json": {**config, "added_tokens_decoder": {
            str(first): {key: value for key, value in named.items() if key != "__type"}}}}
        yield {"tokenizer_config.json": {**config, "additional_special_tokens": [new, other]}}
        yield {"tokenizer_config.json": {**config, "extra_special_tokens": [other, new]}}
        yield {"tokenizer_config.json": {**config, "extra_special_tokens": {"z_token": new, "a_token": other}}}
        yield {"tokenizer_config.json": config, "special_tokens_map.json": {"eos_token": new}}
        yield {"tokenizer_config.json": config, "added_tokens.json": {new: first + 1, other: first}}

    for file, kind in ((deltaw.folder / "tokenizer.json", own["tokenizer_class"]),
                       (DATA / "tokenizers/llama2/tokenizer.model", "LlamaTokenizer")):
        first = 512 if file.suffix == ".json" else 32000
        for number, form in enumerate(forms({**own, "eos_token": "</s>", "tokenizer_class": kind}, first)):
            folder = deltaw.folder / f"{file.suffix[1:]}{number}"
            folder.mkdir()
            shutil.copyfile(file, folder / file.name)
            shutil.copyfile(deltaw.folder / "config.json", folder / "config.json")
            for name, value in form.items():
                (folder / name).write_text(json.dumps(value))
            ids = deltaw.lines("tokenize", "--tokenizer", folder, "--input_file", "text.txt", "--add_special_tokens", "false")[0]["ids"]
            right = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids
            assert ids == right and max(ids) >= first, f"{form}: {ids}, transformers says {right}"
    (deltaw.folder / "json0/added_tokens.json").write_text(json.dumps({new: 600}))
    deltaw.refuses("added_tokens.json", new, "600", arguments=["tokenize", "--tokenizer", "json0", "--input_file", "text.txt"])


def double_bos(deltaw):
    rows = ["--model_name_or_path", STORIES, "--train_file", "fmt.jsonl", "--output_dir", "out"]
    deltaw("validate", *rows, "--rows_file", "rows.jsonl")
    for line in (deltaw.folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["ids"].count(1) == 1 and row["ids"].count(2) == 1 and row["ids"][0] == 1, row
        assert row["token_labels"][0] == -100 and row["token_labels"].count(1) == 0, row


def sentencepiece_ids(deltaw):
    """Of tokenizer.model alone, with no folder of its own."""
    library = spm.SentencePieceProcessor(model_file=str(DATA / "tokenizers/llama2/tokenizer.model"))
    lines = ["    return x", "  's 'S", " a  b ", "\tif x:", "aaaa aaa", "a" + " " * 9 + "b", "\u4e2d\u6587 \U0001f600", "<0x0A>"]
    (deltaw.folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = deltaw.lines("tokenize", "--tokenizer", DATA / "tokenizers/llama2", "--input_file", "text.txt",
                        "--add_special_tokens", "false")
    for line, row in zip(lines, said, strict=True):
        assert row["ids"] == library.encode(line), f"{line!r}: {row['ids']}, the library says {library.encode(line)}"


OWN = {"adapters": [label_order, float_labels_shifted, not_utf8, one_column, csv_misc, token_types, truncation,
                    merge_false_alarm],
       "peft": [overlapping_alpha_pattern],
       "language": [pad_minus_one, null_keys, empty_answer, earlier_turns, sharegpt_function_call, chatml_never_stops,
                    added_tokens, double_bos, sentencepiece_ids]}


def all_cases():
    for kind, functions in OWN.items():
        yield from ((kind, function) for function in functions)
    done = {function.__name__ for _, functions in OWN.items() for function in functions}
    yield from (("peft", peft_case(folder.name)) for folder in sorted((CASES / "peft").iterdir()) if folder.name not in done)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    if not CASES.is_dir():
        print(f"skipped: there is no folder {CASES}")
        sys.exit(77)
    warnings.filterwarnings("ignore")
    wrong = 0
    for kind, case in all_cases():
        name = case.__name__
        if given.names and name not in given.names:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            if (CASES / kind / name).is_dir():
                shutil.copytree(CASES / kind / name, folder, copy_function=shutil.copyfile)
            folder.mkdir(exist_ok=True)
            try:
                case(Deltaw(given.program.resolve(), folder))
                print(f"ok     {name}", flush=True)
            except Exception as problem:
                wrong += 1
                print(f"WRONG  {name}: {type(problem).__name__}: {str(problem)[:400]}".replace("\n", " "), flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
