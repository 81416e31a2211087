"""What the sentencepiece library makes of lines, by small models: tests/text/fixtures/sentencepiece.

    python oracle/make_sentencepiece.py [--data FOLDER]

One model file each and `ids.json`: for every model the ids of all lines, and for the shorter ones the CRC-32 of
them. FOLDER (or $DELTAW_DATA) holds `tokenizers/llama2`; without it its ids are left as they are. A model differs from the
one that was trained in what real ones may: ids in another order than scores, equal scores, pieces of the user's own."""
import argparse
import io
import json
import os
import pathlib
import random
import tempfile
import zlib

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "text" / "fixtures"
NORMAL, USER = 1, 4
BLANK = "\u2581"
NASTY = ["    return x", " ", "  ", "   ", "a  b", " a", "a ", "  a  b  ", "\ta", "a\tb", " \t a", "\u2581a", "\u2581 a", " \u2581a",
         "a\u2581\u2581b", "", "banana ananas", "aaaaaaa", "aaaa aaaa", "anananan", "abababab", "\u00e9t\u00e9 \u00c5ngstr\u00f6m",
         "\u4e2d\u6587 \u65e5\u672c", "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "<0x41>", "<0x0A>x", "<unk>", "a<unk>b",
         "x" * 200, " " * 40, "a" + " " * 17 + "b", "the" + " " * 3 + "end", "\n\n  x", "e\u0301 \u212b \ufb01", "\u3000a\u3000",
         "    if (x > 0) {\n        return 'a  b';\n    }", "1234567890 3.14", "\u0000a\u0001", "\ufeffa", "\u00a0a", "It's John's",
         "Deltaword", "aDeltawordb", " Deltaword ", "deltaword  Deltaword",
         "\u212b\u0301", "s\u0323\u033f", "\uff76\uff9e\uff76", "\uff9e\uff76\uff9e", "a\u0301\ufdfa\u0301b", "\u0e33\u0301 x",
         "\u0301\u212b", "\u00a0\u0301\uff76 ", "a\u2581", "a \u2581 ", "\u2581", "\u0001a\u0001", "\u0001 a", "e\u0301\u0301"]

# A normalization table, from code points to code points: several letters, several words, nothing, entries that begin others.
TABLE = {"65 301": "e9", "212b": "c5", "fb01": "66 69", "ff76": "30ab", "ff76 ff9e": "30ac", "ff9e": "3099", "73 323": "1e63",
         "e33": "e4d e32", "fdfa": "635 6d 20 6e 20 70", "a0": "20", "3000": "20", "9": "20", "feff": "20", "1": ""}


def train(lines, **options):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, model_type="bpe", minloglevel=2,
                                   num_threads=1, **options)
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    proto.trainer_spec.ClearField("input")
    return proto


def shuffled(proto, seed):
    """The same model with its pieces in another order: the library goes by scores alone."""
    result = pb.ModelProto()
    result.CopyFrom(proto)
    normal = [i for i, piece in enumerate(proto.pieces) if piece.type == NORMAL]
    order = normal[:]
    random.Random(seed).shuffle(order)
    for place, source in zip(normal, order):
        result.pieces[place].CopyFrom(proto.pieces[source])
    return result


def coarse(proto, step):
    """Scores of which many are equal."""
    result = pb.ModelProto()
    result.CopyFrom(proto)
    for piece in result.pieces:
        if piece.type == NORMAL:
            piece.score = piece.score // step * step
    return result


def models(lines, table_file):
    ascii_lines = [line for line in lines if line.isascii() and line.isprintable()]
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    llama = train(ascii_lines, vocab_size=700, byte_fallback=True, **plain)
    code = [" " * (1 + i % 9) + line for i, line in enumerate(ascii_lines)]
    blanks = [BLANK * count for count in range(2, 9)]
    result = {
        "llama": llama,
        "shuffled": shuffled(llama, 1),
        "coarse": coarse(shuffled(llama, 2), 20),
        "blanks": train(code, vocab_size=700, byte_fallback=True, add_dummy_prefix=False, user_defined_symbols=["Deltaword", *blanks],
                        **plain),
        "unknown": train(ascii_lines, vocab_size=400, byte_fallback=False, **plain),
        "clean": train(ascii_lines, vocab_size=400, byte_fallback=True, normalization_rule_name="identity"),
        "table": train(ascii_lines, vocab_size=400, byte_fallback=True, normalization_rule_tsv=table_file),
        "table_blanks": train(ascii_lines, vocab_size=400, byte_fallback=True, normalization_rule_tsv=table_file,
                              remove_extra_whitespaces=False, add_dummy_prefix=False),
    }
    result["shuffled_blanks"] = shuffled(result["blanks"], 3)
    return result


def ids_of(proto, lines):
    processor = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())
    return [processor.encode(line) for line in lines]


def crc(ids):
    return f"{zlib.crc32(' '.join(map(str, ids)).encode()):08x}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", default=os.environ.get("DELTAW_DATA"))
    data = arguments.parse_args().data
    folder = FOLDER / "sentencepiece"
    folder.mkdir(exist_ok=True)
    lines = [json.loads(line) for line in (FOLDER / "lines.jsonl").read_text(encoding="ascii").splitlines()]
    controls = ("<s>", "</s>", "<unk>", "<pad>", "<mask>")  # found in a text by transformers and deltaw, not by the library
    used = [line for line in NASTY + lines[::5] if not any(control in line for control in controls)]
    file = folder / "ids.json"
    known = json.loads(file.read_text(encoding="ascii"))["models"] if file.exists() else {}
    value = {"provenance": {"script": "oracle/make_sentencepiece.py", "sentencepiece": spm.__version__},
             "lines": used, "models": {}}
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as table:
        table.writelines(f"{source}\t{target}\n" for source, target in TABLE.items())
        table.flush()
        made = models(lines, table.name)
    for name, proto in made.items():
        (folder / f"{name}.model").write_bytes(proto.SerializeToString())
    if data:
        made["llama2"] = pb.ModelProto()
        made["llama2"].ParseFromString((pathlib.Path(data) / "tokenizers/llama2/tokenizer.model").read_bytes())
    elif "llama2" in known:
        value["models"]["llama2"] = known["llama2"]
    plain = ids_of(made["llama"], used)
    for name, proto in made.items():
        ids = ids_of(proto, used)
        value["models"][name] = {"first": ids[:4], "crc": [crc(row) for row in ids]}
        if name == "shuffled":  # another numbering, the same pieces
            pieces = [[p.piece for p in made[m].pieces] for m in ("llama", "shuffled")]
            assert [[pieces[0][i] for i in row] for row in plain] == [[pieces[1][i] for i in row] for row in ids]
    value["models"] = dict(sorted(value["models"].items()))
    file.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
