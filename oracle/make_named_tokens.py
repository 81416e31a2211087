"""What transformers makes of tokens that only the files beside a vocabulary name: tests/text/fixtures/named_tokens.json.

Each form is a set of such files; each base one kind of vocabulary, a folder below tests/text/fixtures. `{0}` and `{1}` in
a form stand for the first two ids behind the vocabulary."""
import json
import os
import pathlib
import shutil
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import tokenizers  # noqa: E402
import transformers  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "text" / "fixtures"
X, Y = "<|open|>", "<|close|>"
TEXTS = [f"Once {X} a {Y} b </s>the [PAD]", f"{X}user\nhi{Y}\n", "<z> <mask>  </s> they",
         f"{X}{Y}{X}", "<image>they  <image>"]
# The files, the class to read them with, and the number of pieces.
BASES = {
    "llama2": (["tokenizer.json"], "PreTrainedTokenizerFast", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "gemma_model": (["tokenizer.model"], "GemmaTokenizer", {"bos_token": "<bos>", "eos_token": "<eos>"}),
    "roberta": (["vocab.json", "merges.txt"], "RobertaTokenizer", {}),
}
# The class drops these lists of special_tokens_map.json; the base with a tokenizer.json shows what they mean.
ONLY_WITH_JSON = {"map_additional"}


def described(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **described(content, **flags)}


def forms(own, first, old):
    """`own`: the base's configuration; `first`: the id behind its pieces; `old`: one of its pieces."""
    second = first + 1

    def config(**keys):
        return {"tokenizer_config.json": {**own, **keys}}

    decoder = {str(first): described(X, special=True), str(second): described(Y, special=False, normalized=True)}
    return {
        "eos_string": config(eos_token=X),
        "eos_object": config(eos_token=typed(X, lstrip=True)),
        "eos_piece": config(eos_token=old),
        "decoder": config(added_tokens_decoder=decoder),
        "decoder_settles": config(added_tokens_decoder={str(first): described(X, special=True, lstrip=True, rstrip=True)}),
        "additional": config(additional_special_tokens=[X, Y]),
        "additional_objects": config(additional_special_tokens=[typed(X, rstrip=True, special=True), Y]),
        "extra_list": config(extra_special_tokens=[Y, X]),
        "extra_names": config(extra_special_tokens={"z_token": X, "a_token": "<image>"}),
        "other_key": config(image_token="<image>", audio_token=X),
        "map_eos": {**config(), "special_tokens_map.json": {"eos_token": X}},
        "map_eos_object": {**config(), "special_tokens_map.json": {"eos_token": described(X, lstrip=True)}},
        "map_wins": {**config(eos_token=X), "special_tokens_map.json": {"eos_token": Y}},
        "map_additional": {**config(), "special_tokens_map.json": {"additional_special_tokens": [X, Y]}},
        "map_beside_decoder": {**config(added_tokens_decoder={str(first): described(X, special=True)}),
                               "special_tokens_map.json": {"eos_token": Y, "pad_token": "[PAD]"}},
        "added": {**config(), "added_tokens.json": {X: second, Y: first}},
        "added_special": {**config(eos_token=Y), "added_tokens.json": {X: first, Y: second}},
        "added_beside_decoder": {**config(added_tokens_decoder={str(first): described(X, special=True)}),
                                 "added_tokens.json": {Y: second}},
        "pad": config(pad_token="[PAD]"),
        "all": {**config(pad_token="[PAD]", additional_special_tokens=[X, Y], mask_token="<mask>"),
                "added_tokens.json": {Y: second, "<z>": first}},
    }


def main():
    cases = []
    for base, (files, kind, own) in BASES.items():
        own = {"tokenizer_class": kind, **own}
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for file in files:
                shutil.copyfile(FOLDER / base / file, folder / file)
            (folder / "tokenizer_config.json").write_text(json.dumps(own))
            plain = getattr(transformers, kind).from_pretrained(folder)
            first, old = plain.vocab_size, next(piece for piece in ("the", "\u0120the", "\u2581the") if piece in plain.get_vocab())
            for name, form in forms(own, first, old).items():
                if name in ONLY_WITH_JSON and base != "llama2":
                    continue
                for stale in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
                    (folder / stale).unlink(missing_ok=True)
                for file, value in form.items():
                    (folder / file).write_text(json.dumps(value))
                tokenizer = getattr(transformers, kind).from_pretrained(folder)
                ids = [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]
                assert name in ("eos_piece", "pad") or any(i >= first for row in ids for i in row), (base, name)
                cases.append({"base": base, "files": files, "name": name, "form": form, "ids": ids, "size": len(tokenizer),
                              "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id})
    value = {"provenance": {"script": "oracle/make_named_tokens.py", "transformers": transformers.__version__,
                            "tokenizers": tokenizers.__version__}, "texts": TEXTS, "cases": cases}
    (FOLDER / "named_tokens.json").write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
