"""Writes tests/golden/fill_mask: a tiny masked language model with its tokenizer, what transformers' fill-mask pipeline makes of
texts with masks, and its scores where every token is masked in turn."""
from common import GOLDEN, provenance, randomise, save_json

import torch
from make_models import bert
from make_segments import MARKS, WORDS
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM, BertTokenizerFast, pipeline

FOLDER = GOLDEN / "fill_mask"
MORE = ["##s", "##ing", "fish", "bank", ".", ","]
TEXTS = ["a man is [MASK] the river", "[MASK] fish in the [MASK] of a firm", "the bank was sold", "", "[MASK]",
         "fishing men [MASK]s, that is a bank."]
LINES = ["a man is not the fish in the river", "the bank was sold", "fishing, the firms in a bank of fishs.", "sold"]


def in_turn(model, tokenizer):
    right = tokens = nll = 0
    for line in LINES:
        encoding = tokenizer(line, return_special_tokens_mask=True, return_tensors="pt")
        ids = encoding["input_ids"][0]
        for place in (encoding["special_tokens_mask"][0] == 0).nonzero().flatten().tolist():
            if ids[place] in tokenizer.all_special_ids:
                continue
            masked = encoding["input_ids"].clone()
            masked[0, place] = tokenizer.mask_token_id
            logits = model(input_ids=masked, token_type_ids=encoding["token_type_ids"]).logits[0, place]
            nll += torch.nn.functional.cross_entropy(logits, ids[place]).item()
            right += int(logits.argmax() == ids[place])
            tokens += 1
    return {"eval_loss": nll / tokens, "eval_accuracy": right / tokens, "eval_tokens": tokens}


def main():
    words = list(dict.fromkeys([*MARKS, *WORDS, *MORE]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    randomise(BertForMaskedLM(bert(vocab_size=len(words))), "fill_mask").save_pretrained(FOLDER)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForMaskedLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager").eval()
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=4)
    with torch.no_grad():
        rows = [{"text": text, "predictions": fill(text) if "[MASK]" in text else None} for text in TEXTS]
        save_json(FOLDER / "case.json", {"provenance": provenance(__file__, "fill_mask"), "rows": rows, "lines": LINES,
                                         "in_turn": in_turn(model, tokenizer)})


if __name__ == "__main__":
    main()
