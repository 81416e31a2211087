"""Writes tests/text/fixtures: 5,000 varied lines and what the Hugging Face libraries make of them.

    python oracle/make_tokenizers.py [--data FOLDER] [--train]

FOLDER (or $DELTAW_DATA) holds `tokenizers/{bert_uncased,gpt2,qwen3}`; without it their fixtures are left as they are.
The small tokenizers are trained if --train is given or they are missing: trainers break ties differently every time.
Two kinds of results: whole encodings for the first lines, a CRC-32 of every encoding for all of them. What is decoded from
them has one CRC-32 for ten lines.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import unicodedata
import zlib

sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).parent.resolve()]
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentencepiece as spm  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402
from sentencepiece import sentencepiece_model_pb2  # noqa: E402
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

SEED = 20240611
LINES = 5000
WHOLE = 100  # lines with whole encodings
PAIRS = 1000
DECODED = 10  # lines that share a checksum of what is decoded
FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "text" / "fixtures"
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLANK = "\u2581"

WORDS = """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so up said what its about
than into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many off before must well back through years where much your way down should because long each
just state those people too mr how little good world make very year still see own work men day get here between both
life being under three never know same last another while us might great go come since against right came take used
himself few house american use place during high without again home around small however found thought went say part
once general upon school every don't does got united number hand course water until always away public something fact
less though far put head think called set almost enough end took government night yet system better four nothing told
eyes city going president why days present point didn't look find asked second group later knew room social business
unaffordable tokenization internationalization electroencephalographically wouldn't they're I'll we've it's John's""".split()

RANGES = {
    "latin": [(0xC0, 0x24F)],
    "ipa": [(0x250, 0x2AF)],
    "greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
    "cyrillic": [(0x400, 0x52F)],
    "armenian": [(0x530, 0x58F)],
    "hebrew": [(0x591, 0x5F4)],
    "arabic": [(0x600, 0x6FF)],
    "devanagari": [(0x900, 0x97F)],
    "bengali": [(0x980, 0x9FF)],
    "tamil": [(0xB80, 0xBFF)],
    "thai": [(0xE01, 0xE5B)],
    "tibetan": [(0xF00, 0xFDA)],
    "georgian": [(0x10A0, 0x10FF)],
    "jamo": [(0x1100, 0x11FF)],
    "ethiopic": [(0x1200, 0x137C)],
    "khmer": [(0x1780, 0x17F9)],
    "mongolian": [(0x1800, 0x18AA)],
    "kana": [(0x3041, 0x30FF)],
    "hangul": [(0xAC00, 0xD7A3)],
    "cjk": [(0x4E00, 0x9FFF)],
    "cjk_extended": [(0x3400, 0x3500), (0x20000, 0x20100), (0xF900, 0xFAD9), (0x2F800, 0x2FA1D)],
    "fullwidth": [(0xFF01, 0xFFDC)],
    "mathematical": [(0x1D400, 0x1D7FF), (0x2100, 0x214F)],
    "enclosed": [(0x2460, 0x24FF), (0x3200, 0x33FF)],
    "punctuation": [(0xA1, 0xBF), (0x2010, 0x205E), (0x3001, 0x303F)],
    "symbols": [(0x2190, 0x23FF), (0x2500, 0x27BF)],
    "gothic": [(0x10330, 0x1034A), (0x10400, 0x1044F)],
    "private": [(0xE000, 0xE010), (0xF0000, 0xF0003)],
}
MARKS = [chr(c) for c in range(0x300, 0x370)] + ["\u0591", "\u064b", "\u0651", "\u093c", "\u3099", "\u20e3"]
CONTROLS = ["\0", "\x01", "\x07", "\x08", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\xad", "\u200b", "\u200c", "\u200d"]
CONTROLS += ["\u200e", "\u202e", "\u2060", "\ufeff", "\ufffd", "\ufffe", "\U000e0001", "\u061c"]
BLANKS = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u180e", "\u2003"]
BLANKS += ["\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\n\n", " \n", "\n ", "    \t  "]
EMOJI = [chr(c) for c in (*range(0x1F600, 0x1F640), *range(0x1F300, 0x1F330), *range(0x1F680, 0x1F6A0), 0x2764, 0x2603)]
SPECIALS = ["[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]", "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<|endoftext|>"]
SPECIALS += ["<|im_start|>", "<|im_end|>", "Deltaword", "deltaword", "DELTAWORD", "subtoken", "[left]", "[right]"]


class Lines:
    """Makes the lines; every choice comes from one seeded generator."""

    def __init__(self):
        self.random = random.Random(SEED)
        self.characters = {
            name: [
                chr(c)
                for first, last in ranges
                for c in range(first, last + 1)
                if unicodedata.category(chr(c)) not in ("Cn", "Cs")
            ]
            for name, ranges in RANGES.items()
        }

    def english(self, count=None):
        r = self.random
        words = [r.choice(WORDS) for _ in range(count or r.randint(3, 16))]
        words = [w.upper() if r.random() < 0.03 else w.capitalize() if r.random() < 0.1 else w for w in words]
        text = words[0]
        for word in words[1:]:
            text += r.choices([" ", ", ", ". ", "; ", " - ", "-", " (", ") ", "? ", "! ", ' "', '" ', "\u2014", " \u201c", "\u2019"],
                              [60, 6, 5, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1])[0] + word
        return text

    def script(self, count=None):
        r = self.random
        characters = self.characters[r.choice(list(self.characters))]
        return " ".join(
            "".join(r.choice(characters) for _ in range(r.randint(1, 7))) for _ in range(count or r.randint(1, 6))
        )

    def emoji(self):
        r = self.random
        kind = r.randrange(6)
        if kind == 0:
            return "\u200d".join(r.choice(EMOJI) for _ in range(r.randint(2, 4)))
        if kind == 1:
            return "".join(chr(0x1F1E6 + r.randrange(26)) for _ in range(2 * r.randint(1, 3)))
        if kind == 2:
            return r.choice(EMOJI) + chr(0x1F3FB + r.randrange(5))
        if kind == 3:
            return r.choice("0123456789#*") + "\ufe0f\u20e3"
        if kind == 4:
            return "\U0001f468\u200d\U0001f469\u200d\U0001f467" + "\u2764\ufe0f"
        return "".join(r.choice(EMOJI) for _ in range(r.randint(1, 4)))

    def marked(self):
        r = self.random
        base = r.choice(["e", "A", "o", "I", "s", "\u0130", "\u00e9", "\u1ebf", "\u1100", "\uac00", "\u0915", "\u304b"])
        return "".join(base + "".join(r.choice(MARKS) for _ in range(r.randint(0, 4))) for _ in range(r.randint(1, 5)))

    def number(self):
        r = self.random
        return r.choice([
            str(r.randrange(10 ** r.randint(1, 12))), f"{r.uniform(-1e4, 1e4):.{r.randint(0, 6)}f}", f"{r.randrange(10**7):,}",
            f"{r.uniform(0, 1):.3e}", f"{r.randrange(2400)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}", f"${r.randrange(999)}.99",
            f"0x{r.randrange(2**32):x}", f"{r.randrange(100)}%", "\u00b2\u00bd\u2167", "\u0663\u0664\u0665", "1st 2nd 3rd",
        ])

    def url(self):
        r = self.random
        return r.choice(["https://", "http://www.", "ftp://", "mailto:a.b@"]) + r.choice(WORDS) + r.choice([".org", ".com/", ".co.uk"]) \
            + "/".join(r.choice(WORDS) for _ in range(r.randint(0, 3))) + r.choice(["", "?q=%20x&y=1", "#top", "/a_b-c~d"])

    def code(self):
        r = self.random
        a, b = r.choice(WORDS), r.choice(WORDS)
        return r.choice([
            f"def {a}_{b}(self, x: int) -> None:\n    return self.{a}[x] ** {r.randrange(99)}\n",
            f"for (int i = 0; i < {a}.size(); ++i) {{\n\t{b}[i] += 0x{r.randrange(256):02X};\n}}",
            f"<div class=\"{a}\">{b}&nbsp;</div><!-- {a} -->", f"SELECT {a}, {b} FROM t WHERE {a}='{b}' -- x",
            f"{a} = {{'{b}': [1, 2.5, None], \"k\": r'\\d+\\w*'}}  # {a}", f"$ {a} --{b}=1 | grep -E '^{a}' > /dev/null 2>&1",
        ])

    def long_word(self):
        r = self.random
        kind = r.randrange(6)
        size = r.choice([99, 100, 101, 150, 300, 600])
        if kind == 0:
            return "a" * size
        if kind == 1:
            return "".join(r.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(size))
        if kind == 2:
            return "".join(r.choice(WORDS) for _ in range(size // 5)).replace("'", "")
        if kind == 3:
            return r.choice(["-", "=", "!?", "\u00e9", "\u4e2d", "\u0301", "\U0001f600"]) * (size // 3)
        if kind == 4:
            return " " * r.randint(1, 60) + "x" + "\n" * r.randint(1, 60) + "\t" * r.randint(0, 9)
        return "".join(r.choice("0123456789") for _ in range(size // 3))

    def controlled(self):
        r = self.random
        return "".join(r.choice([r.choice(CONTROLS), r.choice(WORDS), r.choice(BLANKS)]) for _ in range(r.randint(1, 8)))

    def special(self):
        r = self.random
        glue = ["", " ", "  ", "x", "\n", ".", "\u00e9", "\u3000"]
        return "".join(r.choice(glue) + r.choice(SPECIALS + [r.choice(WORDS)]) + r.choice(glue) for _ in range(r.randint(1, 5)))

    def mixture(self):
        r = self.random
        kinds = [self.script, self.emoji, self.marked, self.number, self.url, self.controlled, self.special,
                 lambda: self.english(3), lambda: r.choice(BLANKS)]
        return r.choice(["", " "]).join(r.choice(kinds)() for _ in range(r.randint(2, 4)))

    def make(self):
        lines = ["", " ", "\n", "  leading", "trailing  ", "\u0301", "\0", "\ufeff", "a", "'s", " 's 'S '\u017f", "\u0130I\u0131i"]
        kinds = [self.english, self.script, self.emoji, self.marked, self.number, self.url, self.code, self.long_word,
                 self.controlled, self.special, self.mixture]
        weights = [26, 18, 5, 7, 4, 4, 5, 2, 6, 8, 15]
        while len(lines) < LINES:
            lines.append(self.random.choices(kinds, weights)[0]())
        return lines


def canonical(encoding):
    rows = zip(encoding.ids, encoding.offsets, encoding.type_ids, encoding.special_tokens_mask, encoding.tokens)
    return "".join(f"{i},{b},{e},{t},{s},{token}\n" for i, (b, e), t, s, token in rows)


def crc(text):
    return format(zlib.crc32(text.encode("utf-8")), "08x")


def decoded(tokenizer, encodings):
    texts = [tokenizer.decode(e.ids) + "\n" for e in encodings]
    return " ".join(crc("".join(texts[i : i + DECODED])) for i in range(0, len(texts), DECODED))


def whole(encoding):
    return {"ids": encoding.ids, "offsets": [x for pair in encoding.offsets for x in pair], "tokens": encoding.tokens}


def provenance():
    return {
        "script": "oracle/make_tokenizers.py",
        "seed": SEED,
        "tokenizers": tokenizers.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
        "unicode": unicodedata.unidata_version,
    }


def pair_length(i):
    return (8, 16, 32, 64)[i % 4]


def goldens(tokenizer, lines, count=LINES, whole_count=WHOLE):
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lines = lines[:count]
    encodings = [tokenizer.encode(line) for line in lines]
    result = {
        "provenance": provenance(),
        "whole": [whole(e) for e in encodings[:whole_count]],
        "encode": " ".join(crc(canonical(e)) for e in encodings),
        "plain": " ".join(crc(canonical(tokenizer.encode(line, add_special_tokens=False))) for line in lines[:PAIRS]),
        "decode": decoded(tokenizer, encodings),
    }
    pairs = []
    for i in range(min(PAIRS, count - 1)):
        tokenizer.enable_truncation(pair_length(i))
        pairs.append(crc(canonical(tokenizer.encode(lines[i], lines[i + 1]))))
    tokenizer.no_truncation()
    result["pair"] = " ".join(pairs)
    return result


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="ascii")
    print(f"{path.stat().st_size:9,d}  {path.relative_to(FOLDER)}")


def added(content, **flags):
    return tokenizers.AddedToken(content, **{"normalized": True, **flags})


def train_wordpiece(lines):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(lines, trainers.WordPieceTrainer(
        vocab_size=2000, special_tokens=marks, limit_alphabet=900, min_frequency=2, show_progress=False))
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_tokens([
        added("Deltaword"), added("subtoken", single_word=True), added("[left]", lstrip=True, normalized=False),
        added("[right]", rstrip=True)])
    return tokenizer


def train_byte_level(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=1600, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True, add_prefix_space=False),
        processors.TemplateProcessing(single="$A <|endoftext|>", pair="$A <|endoftext|> $B:1 <|endoftext|>:1",
                                      special_tokens=[("<|endoftext|>", 0)])])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([
        added("Deltaword", single_word=True), added("subtoken"), added("[left]", lstrip=True),
        added("[right]", rstrip=True, normalized=False)])
    return tokenizer


def train_suffixed(lines):
    """CLIP's kind of BPE: an end-of-word suffix, unknown characters, one pattern for the words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=120, end_of_word_suffix="</w>",
        show_progress=False))
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    return tokenizer


def train_llama3(lines):
    """Llama 3's kind: numbers in threes, whole words before merges, a start token."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<|begin_of_text|>", "<|end_of_text|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                      special_tokens=[("<|begin_of_text|>", 0)])])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_byte_fallback(lines, marks, normalizer, pre_tokenizer, decoder):
    """Characters with U+2581 for blanks, bytes for those that are too rare; `marks` are the first ids."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=1400, special_tokens=marks + [f"<0x{byte:02X}>" for byte in range(256)], limit_alphabet=200,
        show_progress=False))
    value = json.loads(tokenizer.to_str())
    value["added_tokens"] = value["added_tokens"][:len(marks)]
    value.update(normalizer=normalizer, pre_tokenizer=pre_tokenizer, decoder={"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}] + decoder})
    tokenizer = Tokenizer.from_str(json.dumps(value))
    bos = marks[-2]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    return tokenizer


def train_llama2(lines):
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    return train_byte_fallback(
        lines, ["<unk>", "<s>", "</s>"], {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": BLANK}, blanks]},
        None, [{"type": "Strip", "content": " ", "start": 1, "stop": 0}])


def train_gemma(lines):
    return train_byte_fallback(
        lines, ["<pad>", "<eos>", "<bos>", "<unk>"], {"type": "Replace", "pattern": {"String": " "}, "content": BLANK},
        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}, [])


def train_unigram(lines):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator([line for line in lines if line.isascii()], trainers.UnigramTrainer(
        vocab_size=700, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


def roberta_folder(lines, folder, train):
    """vocab.json and merges.txt only: what is read when tokenizer.json is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if train or not (folder / "vocab.json").exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
            vocab_size=1100, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        tokenizer.model.save(str(folder))
    mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False,
            "single_word": False, "special": True}
    write(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True,
                                             "padding_side": "left", "mask_token": mask})
    return transformers.RobertaTokenizerFast.from_pretrained(folder)._tokenizer


def variants():
    """Other parts in place of the WordPiece tokenizer's own: (name, parts)."""
    def regex(source):
        return {"Regex": source}

    def split(pattern, behavior, invert=False):
        return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}

    bert = {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": False, "strip_accents": None, "lowercase": False}
    forms = [(form, {"normalizer": {"type": form}}) for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")]
    behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    splits = [(f"Split {b} {i}", {"pre_tokenizer": split(regex(r"\s+|[aeiou]"), b, i)}) for b in behaviors for i in (False, True)]
    return forms + splits + [
        ("Bert without all", {"normalizer": bert}),
        ("Bert strips, keeps case", {"normalizer": {**bert, "strip_accents": True}}),
        ("Bert lowers, keeps accents", {"normalizer": {**bert, "strip_accents": False, "lowercase": True, "clean_text": True}}),
        ("no normalizer", {"normalizer": None}),
        ("no pre-tokenizer", {"pre_tokenizer": None}),
        ("no decoder, no post-processor", {"decoder": None, "post_processor": None}),
        ("Strip", {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}}),
        ("Strip right", {"normalizer": {"type": "Strip", "strip_left": False, "strip_right": True}}),
        ("Prepend", {"normalizer": {"type": "Prepend", "prepend": "the "}}),
        ("Sequence", {"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
            {"type": "Replace", "pattern": regex(r"\w+@|\bthe\b|[^\S\n]{2,}"), "content": " at "},
            {"type": "Replace", "pattern": {"String": "e"}, "content": "e\u0301"}]}}),
        ("split at a string", {"pre_tokenizer": split({"String": "e"}, "Isolated")}),
        ("words, marks and digits", {"pre_tokenizer": split(regex(r"\w+|\d{1,3}+|\h|\W"), "Isolated")}),
        ("scripts", {"pre_tokenizer": split(regex(r"\p{Han}+|\p{Greek}+|\P{Letter}|(?i:THE|ss)|(?m:a.b)|^.|.$"), "Isolated")}),
        ("Whitespace", {"pre_tokenizer": {"type": "Whitespace"}}),
        ("WhitespaceSplit", {"pre_tokenizer": {"type": "WhitespaceSplit"}}),
        ("Digits", {"pre_tokenizer": {"type": "Digits", "individual_digits": False}}),
        ("Digits apart", {"pre_tokenizer": {"type": "Digits", "individual_digits": True}}),
        ("Punctuation", {"pre_tokenizer": {"type": "Punctuation", "behavior": "MergedWithPrevious"}}),
        ("Sequence of pre-tokenizers", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Contiguous"},
            {"type": "Digits", "individual_digits": True}]}}),
        ("ByteLevel", {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
                       "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}}),
        ("RobertaProcessing", {"post_processor": {"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2],
                                                  "trim_offsets": False, "add_prefix_space": False}}),
        ("BertProcessing", {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}}),
        ("WordPiece decoder without cleanup", {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False}}),
        ("Sequence of decoders", {"decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "##"}, "content": ""},
            {"type": "Replace", "pattern": regex("[aeiou]+"), "content": "_"}, {"type": "Strip", "content": "t", "start": 1, "stop": 0},
            {"type": "Fuse"}]}}),
        ("small words", {"model": {"max_input_chars_per_word": 6, "continuing_subword_prefix": ""}}),
    ]


def patched(text, parts):
    value = json.loads(text)
    for name, part in parts.items():
        value[name] = {**value[name], **part} if name == "model" else part
    return Tokenizer.from_str(json.dumps(value))


def shared(data, lines):
    gpt2 = Tokenizer.from_file(str(data / "gpt2" / "tokenizer.json"))
    write(FOLDER / "shared_gpt2.json", goldens(gpt2, lines))
    write(FOLDER / "shared_bert_uncased.json", goldens(Tokenizer.from_file(str(data / "bert_uncased" / "tokenizer.json")), lines))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(data / "qwen3" / name, folder)
        qwen = transformers.Qwen2TokenizerFast.from_pretrained(folder)
        write(FOLDER / "shared_qwen3.json", goldens(qwen._tokenizer, lines))


def as_the_library(file, tokenizer, lines):
    """Where transformers 5 differs from SentencePiece: merges by score, and its blank before texts that begin with blanks too."""
    def metaspace(replacement, scheme):
        return pre_tokenizers.Metaspace(replacement=replacement, prepend_scheme=scheme, split=False)

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(file.read_bytes())
    scores = {piece.piece: piece.score for piece in proto.pieces}
    value = json.loads(tokenizer.to_str())
    value["model"]["merges"].sort(key=lambda merge: -scores["".join(merge)])
    result = Tokenizer.from_str(json.dumps(value))
    result.pre_tokenizer = pre_tokenizers.Sequence([metaspace(BLANK, "never"), metaspace(" ", "first"), metaspace(BLANK, "never")])
    library = spm.SentencePieceProcessor(model_file=str(file))
    for line in lines:
        if not any(mark in line for mark in ("<s>", "</s>", "<unk>")):
            assert result.encode(line, add_special_tokens=False).ids == library.encode(line), line
    return result


def sentencepiece(data, lines):
    """Folders with a SentencePiece model and a configuration only."""
    for name, file, make, config in (
        ("llama2", "llama2/tokenizer.model", transformers.LlamaTokenizer, {"add_bos_token": True, "add_eos_token": False}),
        ("albert", "albert_spiece/spiece.model", transformers.AlbertTokenizer, {}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            shutil.copy(data / "tokenizers" / file, folder)
            (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": make.__name__, **config}))
            tokenizer = make.from_pretrained(folder)._tokenizer
            if name == "llama2":
                tokenizer = as_the_library(data / "tokenizers" / file, tokenizer, lines)
            write(FOLDER / f"shared_{name}.json", goldens(tokenizer, lines))
    stories = transformers.AutoTokenizer.from_pretrained(data / "models" / "stories260k_hf")
    write(FOLDER / "shared_stories260k.json", goldens(stories._tokenizer, lines))


def train_sentencepiece(lines, train):
    """Small models of Gemma's and T5's kind, as folders without a tokenizer.json."""
    kinds = (
        ("gemma_model", "tokenizer.model", transformers.GemmaTokenizer,
         {"add_bos_token": True, "add_eos_token": True, "bos_token": "<bos>", "eos_token": "<eos>"},
         {"model_type": "bpe", "byte_fallback": True, "add_dummy_prefix": False, "remove_extra_whitespaces": False,
          "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "bos_piece": "<bos>", "eos_piece": "<eos>",
          "user_defined_symbols": ["Deltaword", "<start_of_turn>"], "control_symbols": ["[left]"]}),
        ("t5", "spiece.model", transformers.T5Tokenizer, {"extra_ids": 5},
         {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
    )
    for name, file, make, config, options in kinds:
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        if train or not (folder / file).exists():
            with tempfile.TemporaryDirectory() as temporary:
                text = pathlib.Path(temporary) / "lines.txt"
                text.write_text("\n".join(line for line in lines if line.isascii() and line.isprintable()), encoding="ascii")
                spm.SentencePieceTrainer.train(input=str(text), model_prefix=f"{temporary}/m", vocab_size=600,
                                               normalization_rule_name="identity", minloglevel=2, **options)
                shutil.copyfile(f"{temporary}/m.model", folder / file)
        write(folder / "tokenizer_config.json", {"tokenizer_class": make.__name__, **config})
        write(folder / "golden.json", goldens(make.from_pretrained(folder)._tokenizer, lines))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", default=os.environ.get("DELTAW_DATA"))
    arguments.add_argument("--train", action="store_true")
    arguments = arguments.parse_args()
    data = arguments.data
    lines = Lines().make()
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
    corpus = lines * 2
    for name, trained in (("wordpiece", train_wordpiece), ("byte_level", train_byte_level), ("suffixed", train_suffixed),
                          ("llama3", train_llama3), ("llama2", train_llama2), ("gemma", train_gemma), ("unigram", train_unigram)):
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        file = folder / "tokenizer.json"
        if arguments.train or not file.exists():
            text = json.dumps(json.loads(trained(corpus).to_str()), ensure_ascii=True, separators=(",", ":"))
            file.write_text(text + "\n", encoding="ascii")
        text = file.read_text(encoding="ascii")
        tokenizer = Tokenizer.from_str(text)
        write(folder / "golden.json", goldens(tokenizer, lines))
        if name == "wordpiece":
            write(FOLDER / "variants.json", {"provenance": provenance(), "variants": [
                {"name": title, "parts": parts, **{k: v for k, v in goldens(patched(text, parts), lines, 300, 0).items()
                                                   if k in ("encode", "pair", "decode")}}
                for title, parts in variants()]})
    train_sentencepiece(lines, arguments.train)
    write(FOLDER / "roberta" / "golden.json", goldens(roberta_folder(corpus, FOLDER / "roberta", arguments.train), lines))
    if data:
        shared(pathlib.Path(data) / "tokenizers", lines)
        sentencepiece(pathlib.Path(data), lines)


if __name__ == "__main__":
    main()
