"""Writes tests/golden/gguf: words.gguf, a byte-level BPE whose merges reach across words, so that every cut between them
shows; words.json, what the tokenizers library makes of lines with the pre-tokenizer of each name that llama.cpp has for one;
blanks.gguf, the SentencePiece model tests/text/fixtures/sentencepiece/blanks.model as llama.cpp's converter stores it.

The patterns are those of the tokenizer.json of GPT-2, SmolLM2, Llama 3, Qwen2, Qwen3.5, GPT-4o, Mistral NeMo, Seed-Coder,
DeepSeek-Coder and DeepSeek-V3; "default" and "falcon" are llama.cpp's own."""
import json

from gguf import GGUFWriter, TokenType
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

from common import GOLDEN, HERE

FOLDER = GOLDEN / "gguf"
FIXTURES = HERE.parent / "tests" / "text" / "fixtures"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER = ["<think>", "  x  "]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{M}\p{N}]+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = [rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"]
REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = "|".join([part + r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?" for part in CASED] + [r"\p{N}{1,3}", REST])
TEKKEN = "|".join(CASED + [r"\p{N}", REST])
SEED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
             r"\s*[\r\n]+|\s+(?!\S)|\s+")


def splits(*patterns):
    return Sequence([Split(Regex(p), "isolated") for p in patterns] + [ByteLevel(add_prefix_space=False, use_regex=False)])


DIGITS = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
# name: pre-tokenizer, whether NFC comes first, whether whole words are looked up first
NAMES = {
    "gpt-2": (ByteLevel(add_prefix_space=False), False, False), "phi-2": (ByteLevel(add_prefix_space=False), False, False),
    "smollm": (DIGITS, False, False), "starcoder": (DIGITS, False, False), "refact": (DIGITS, False, False),
    "llama-bpe": (splits(LLAMA3), False, True), "dbrx": (splits(LLAMA3), False, False),
    "qwen2": (splits(QWEN2), True, False), "qwen35": (splits(QWEN35), True, False), "gpt-4o": (splits(GPT4O), False, False),
    "llama4": (splits(GPT4O), False, False), "tekken": (splits(TEKKEN), False, True), "seed-coder": (splits(SEED), False, False),
    "deepseek-coder": (splits(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"),
                       False, False),
    "deepseek-v3": (splits(r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK3), False, False),
    "falcon": (splits(r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"), False, False),
    "default": (splits(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"), False, False),
}
NASTY = ["don't DON'T I'll we'Ve it's", "1 22 333 4444 55555 1234567", "a1b22c333 x-1.5e10", "   a  b   ", "a\n\nb\r\n \n c \t d",
         "if (x>0) {\n\treturn x;//y\n}", "caf\u00e9 cafe\u0301 \u0e1b\u0e48\u0e32 \u0928\u092e\u0938\u094d\u0924\u0947",
         "HTTPServer helloWorld ABCdef", "$5 + 3 = 8 ~ `a`", "!!!???...\n\n", "\u4e2d\u6587 \u65e5\u672c\u8a9e\u30c6\u30b9\u30c8 \ud55c\uad6d\uc5b4",
         "\U0001f600\U0001f468\u200d\U0001f469 ok", "#include <a.h>\n#define X_1", "\u00bd \u00b2 \u0663\u0664 \u2160", "<think> x </think>",
         "a<|im_end|>\nb <|im_start|>user", " \u00a0\u3000x", "_x_ (y) [z] {w}", "www.a-b.org/c?d=1&e=2", "a  x  b", "x\u0301y x\u0301y", "a banana", ""]
WORDS = ["don't", "it's a test 123", "return x;\n", "1234567", "hello world", "the end.\n\n", "caf\u00e9 \u4e2d\u6587", "A1 B2 C3", "!!!\n",
         "    if (x)", "HelloWorld", "$5 + 3", "_x_ (y)", "I'll we've", "cafe\u0301", "..\n\n", "www.a-b.org/c", "x\u0301y"]


def trained(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=SPECIAL, initial_alphabet=sorted(ByteLevel.alphabet()),
                                  show_progress=False, max_token_length=6)
    tokenizer.train_from_iterator(lines, trainer)
    return json.loads(tokenizer.to_str())


def rebuilt(vocabulary, merges, name):
    pre_tokenizer, composed, whole = NAMES[name]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in USER])
    return tokenizer


def write_words(model):
    vocabulary = {**model["vocab"]}
    tokens = sorted(vocabulary, key=vocabulary.get) + USER
    types = [TokenType.CONTROL if t in SPECIAL else TokenType.USER_DEFINED if t in USER else TokenType.NORMAL for t in tokens]
    for _ in range(3):  # that fill up the embedding
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(TokenType.UNUSED)
    writer = GGUFWriter(FOLDER / "words.gguf", "llama")
    writer.add_name("Words")
    writer.add_context_length(2048)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
                             "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    writer.add_add_bos_token(False)
    finish(writer)


def write_blanks():
    """As the converter's _create_vocab_sentencepiece; pieces of the user's own are those that tokenizer_config.json lists."""
    model = SentencePieceProcessor(model_file=str(FIXTURES / "sentencepiece" / "blanks.model"))
    tokens, scores, types = [], [], []
    for i in range(model.vocab_size()):
        piece = model.id_to_piece(i)
        kind = (TokenType.UNKNOWN if model.is_unknown(i) else TokenType.CONTROL if model.is_control(i)
                else TokenType.UNUSED if model.is_unused(i) else TokenType.BYTE if model.is_byte(i) else TokenType.NORMAL)
        score = model.get_score(i)
        if kind == TokenType.NORMAL and (piece == "Deltaword" or piece.strip("\u2581") == "" and len(piece) > 1):
            piece, kind, score = piece.replace("\u2581", " "), TokenType.USER_DEFINED, -1000.0
        tokens.append(piece.encode())
        scores.append(score)
        types.append(kind)
    writer = GGUFWriter(FOLDER / "blanks.gguf", "gemma2")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in (FIXTURES / "lines.jsonl").read_text(encoding="ascii").splitlines()]
    file = FOLDER / "words.json"
    if file.exists():  # trainers break ties differently every time
        model = json.loads(file.read_text(encoding="ascii"))["model"]
    else:
        model = trained([line for line in lines if line.isascii()][::6] + WORDS * 40)["model"]
        unreached = len(model["vocab"])  # by merges: found where a whole word is looked up first
        model = {"vocab": {**model["vocab"], "\u0120banana": unreached}, "merges": model["merges"]}
    used = NASTY + lines[3::250]
    write_words(model)
    write_blanks()
    value = {"provenance": {"script": "oracle/make_gguf_tokenizers.py"}, "model": model, "lines": used, "names": {}}
    merges = [tuple(pair) for pair in model["merges"]]
    for name in NAMES:
        tokenizer = rebuilt(model["vocab"], merges, name)
        ids = [tokenizer.encode(line).ids for line in used]
        value["names"][name] = {"ids": ids}
    kinds = {json.dumps(entry) for entry in value["names"].values()}
    print(len(kinds), "ways to cut for", len(NAMES), "names")
    file.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
