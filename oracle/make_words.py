"""Which word each token is of, and the WordLevel model: tests/text/fixtures/words.json.

    python oracle/make_words.py

The tokenizers and the lines are those of make_tokenizers.py, which must have run. `words` has for each tokenizer a CRC-32 of
every line's word numbers; `wordlevel` a tokenizer whose words are the most frequent of the lines, with results as there;
`smiles` one that a regular expression cuts into tokens.
"""

import collections
import json
import re

import make_tokenizers as made
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

LINES = 400
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Schwaller et al. 2018, arXiv:1711.04810.
SMILES = (
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9])"
)
MOLECULES = [
    "CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "BrCl.ClBr.[Br-].[Na+]", "C%12CCCCC%12", "N[C@@H](C)C(=O)O",
    "F/C=C\\F", "CCO.CC(=O)O>>CC(=O)OCC.O", "O=C=O xyz {not} a molecule", "C1CC1 \u00e9 C#N", "[13CH4]~[Pd]*?$|:", "", "%(123)", "[MASK]CO",
]


def word_numbers(encoding):
    return ",".join(str(-1 if word is None else word) for word in encoding.word_ids)


def with_template(tokenizer):
    tokenizer.add_special_tokens(MARKS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")])
    return tokenizer


def of_words(lines):
    counts = collections.Counter(word for line in lines for word in line.lower().split())
    frequent = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    words = MARKS + [word for word in frequent if word not in MARKS][:600]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return with_template(tokenizer)


def of_smiles():
    tokens = sorted({token for text in MOLECULES[:10] for token in re.findall(SMILES, text)} - {"[Pd]"})
    vocabulary = MARKS + [token for token in tokens if token not in MARKS]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SMILES), "removed", invert=True)
    tokenizer.decoder = decoders.Fuse()
    return with_template(tokenizer)


def main():
    lines = [json.loads(line) for line in (made.FOLDER / "lines.jsonl").read_text(encoding="ascii").splitlines()]
    words = {}
    for name in ("wordpiece", "byte_level", "suffixed", "llama3", "unigram"):
        words[name] = Tokenizer.from_file(str(made.FOLDER / name / "tokenizer.json"))
    words["roberta"] = transformers.RobertaTokenizerFast.from_pretrained(made.FOLDER / "roberta")._tokenizer
    frequent, smiles = of_words(lines), of_smiles()
    words["wordlevel"] = frequent
    made.write(made.FOLDER / "words.json", {
        "provenance": {**made.provenance(), "script": "oracle/make_words.py"},
        "words": {name: " ".join(made.crc(word_numbers(tokenizer.encode(line))) for line in lines[:LINES])
                  for name, tokenizer in words.items()},
        "pairs": " ".join(made.crc(word_numbers(words["wordpiece"].encode(a, b))) for a, b in zip(lines[:LINES], lines[1:])),
        "wordlevel": {"tokenizer": json.loads(frequent.to_str()),
                      **{key: value for key, value in made.goldens(frequent, lines).items() if key in ("encode", "pair", "decode")}},
        "smiles": {"tokenizer": json.loads(smiles.to_str()), "rows": [
            {"text": text, **made.whole(smiles.encode(text)), "decoded": smiles.decode(smiles.encode(text).ids)}
            for text in MOLECULES]},
    })


if __name__ == "__main__":
    main()
