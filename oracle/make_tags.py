"""Writes tests/golden/token_cls/tags.json: random tags of sentences and what seqeval counts in them.

    python oracle/make_tags.py        in an environment of its own with `seqeval`; see requirements-tags.txt

Each case is a document with one scheme (null: seqeval's default mode) and holds sentences as texts, blanks between tags.
"""
import json
import random
import warnings
from pathlib import Path

import seqeval
from seqeval import metrics, scheme

SEED = 20261129
DOCUMENTS, SENTENCES, WORDS = 40, 6, 9
TYPES = ["X", "Y", "Z-Z"]
LETTERS = {None: "OOBIESLU", "IOB1": "OOIIB", "IOB2": "OOIIB", "IOE1": "OOIIE", "IOE2": "OOIIE", "IOBES": "OOIIBES",
           "BILOU": "OOIIBLU"}
FILE = Path(__file__).resolve().parent.parent / "tests" / "golden" / "token_cls" / "tags.json"


def tag(rng, letters):
    letter = rng.choice(letters)
    if letter == "O":
        return letter
    return letter if rng.random() < 0.05 and letter in "BIES" else f"{letter}-{rng.choice(TYPES)}"


def sentence(rng, letters):
    return [tag(rng, letters) for _ in range(rng.randint(1, WORDS))]


def disturbed(rng, tags, letters):
    return [tag(rng, letters) if rng.random() < 0.25 else one for one in tags]


def case(name, index):
    rng = random.Random(f"{SEED} {name} {index}")
    letters = LETTERS[name]
    labels = [sentence(rng, letters) for _ in range(SENTENCES)]
    predicted = [disturbed(rng, tags, letters) for tags in labels]
    how = {"mode": "strict", "scheme": getattr(scheme, name)} if name else {}
    report = metrics.classification_report(labels, predicted, output_dict=True, zero_division=0, **how)
    types = {kind: [scores["precision"], scores["recall"], scores["f1-score"], int(scores["support"])]
             for kind, scores in report.items() if not kind.endswith(" avg")}
    scores = {key: float(getattr(metrics, f"{key}_score")(labels, predicted, zero_division=0, **how))
              for key in ("precision", "recall", "f1")}
    scores["f1_macro"] = float(report["macro avg"]["f1-score"])
    scores["accuracy"] = float(metrics.accuracy_score(labels, predicted))
    return {"scheme": name, "labels": [" ".join(tags) for tags in labels],
            "predicted": [" ".join(tags) for tags in predicted], "scores": scores, "types": types}


def main():
    warnings.simplefilter("ignore")
    cases = [case(name, index) for name in LETTERS for index in range(DOCUMENTS)]
    version = getattr(seqeval, "__version__", "1.2.2")
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
    provenance = json.dumps({"script": "oracle/make_tags.py", "seed": str(SEED), "seqeval": version})
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(f'{{"provenance": {provenance}, "cases": [\n{lines}\n]}}\n')
    print(len(cases), "documents,", FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
