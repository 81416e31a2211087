"""Writes tests/golden/columns: small files of columns as pyarrow, polars and datasets write them, and the rows that
pyarrow reads from each (NAME.rows.jsonl). What JSON has no type for stands as deltaw spells it: decimals, dates and
times as text, bytes that are no text as null.

Needs packages that no other script does: python3 -m venv V && V/bin/pip install pyarrow==26.0.1 polars==2.1.0
datasets==5.2.0 && V/bin/python oracle/make_columns.py"""
import datetime
import decimal
import json
import pathlib
import random
import shutil

import datasets
import polars
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "columns"
ROWS = 24
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
EPOCH = datetime.datetime(1970, 1, 1)
draw = random.Random(24)


def maybe(value, share=0.2):
    return None if draw.random() < share else value


def column(make, dtype=None):
    return pa.array([make(i) for i in range(ROWS)], dtype)


def texts():
    words = ["good", "be\u00e9n", "", "a long text " * 4, "\U0001F600", "\u4e2d\u6587"]
    return {
        "text": column(lambda i: maybe(draw.choice(words) + str(i % 5))),
        "numbered": column(lambda i: f"prefix-{i:04d}-{draw.choice(words)}", pa.large_string()),
        "label": column(lambda i: draw.choice(["no", "yes"])).dictionary_encode(),
        "bytes": column(lambda i: maybe(b"ok" if i % 2 else b"\xff\x00"), pa.binary()),
    }


def numbers():
    result = {}
    for bits in (8, 16, 32, 64):
        half = 2 ** (bits - 1)
        result[f"i{bits}"] = column(lambda i: maybe(draw.randint(-half, half - 1)), getattr(pa, f"int{bits}")())
        result[f"u{bits}"] = column(lambda i: maybe(draw.randint(0, 2 * half - 1)), getattr(pa, f"uint{bits}")())
    result["f32"] = column(lambda i: maybe(draw.randint(-99, 99) / 8), pa.float32())
    result["f64"] = column(lambda i: maybe(draw.gauss(0, 1e6)))
    result["bool"] = column(lambda i: maybe(draw.random() < 0.5))
    result["rising"] = column(lambda i: i * i, pa.int64())
    return result


def times():
    day = 86400
    return {
        "decimal": column(lambda i: maybe(decimal.Decimal(draw.randint(-10**12, 10**12)).scaleb(-3)), pa.decimal128(20, 3)),
        "short_decimal": column(lambda i: maybe(decimal.Decimal(draw.randint(-10**4, 10**4)).scaleb(-2)), pa.decimal128(6, 2)),
        "date": column(lambda i: maybe(datetime.date(1600, 2, 29) + datetime.timedelta(days=draw.randrange(300000)))),
        "micro": column(lambda i: maybe(draw.randint(-10**15, 10**15)), pa.timestamp("us")),
        "milli_utc": column(lambda i: maybe(draw.randint(-10**12, 10**12)), pa.timestamp("ms", "UTC")),
        "nano": column(lambda i: maybe(draw.randint(-10**18, 10**18)), pa.timestamp("ns")),
        "time": column(lambda i: maybe(draw.randrange(day * 10**6)), pa.time64("us")),
    }


def nested():
    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    pair = pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.string()), ("d", pa.list_(pa.float64()))]))])
    return {
        "messages": column(lambda i: maybe([maybe({"role": maybe("user"), "content": maybe(f"hi {k}")})
                                            for k in range(draw.randrange(4))]), message),
        "matrix": column(lambda i: maybe([maybe([maybe(k) for k in range(draw.randrange(3))])
                                          for _ in range(draw.randrange(3))]), pa.list_(pa.list_(pa.int64()))),
        "pair": column(lambda i: maybe({"a": maybe(i), "b": maybe({"c": maybe("x"), "d": maybe([maybe(1.5)])})}), pair),
    }


def maps():
    return {"map": column(lambda i: maybe([(f"k{k}", maybe(k)) for k in range(draw.randrange(3))]),
                          pa.map_(pa.string(), pa.int64()))}


def seconds_text(value, dtype):
    per_second = 10 ** DIGITS[dtype.unit]
    whole, rest = divmod(value, per_second)
    moment = EPOCH + datetime.timedelta(seconds=whole)
    text = moment.isoformat() if pa.types.is_timestamp(dtype) else moment.time().isoformat()
    text += f".{rest:0{DIGITS[dtype.unit]}d}" if DIGITS[dtype.unit] else ""
    return text + ("+00:00" if pa.types.is_timestamp(dtype) and dtype.tz else "")


def as_json(value, dtype):
    if value is None:
        return None
    if pa.types.is_map(dtype):
        return {key: as_json(held, dtype.item_type) for key, held in value}
    if pa.types.is_struct(dtype):
        return {field.name: as_json(value[field.name], field.type) for field in dtype}
    if hasattr(dtype, "value_type"):
        if pa.types.is_dictionary(dtype) or pa.types.is_run_end_encoded(dtype):
            return as_json(value, dtype.value_type)
        return [as_json(item, dtype.value_type) for item in value]
    if pa.types.is_decimal(dtype):
        return format(value, "f")
    if pa.types.is_date(dtype):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value


def values_of(array):
    dtype = array.type
    if pa.types.is_timestamp(dtype) or pa.types.is_time(dtype):
        return [None if value is None else seconds_text(value, dtype) for value in array.cast(pa.int64()).to_pylist()]
    return [as_json(value, dtype) for value in array.to_pylist()]


def write_rows(name, table):
    columns = [values_of(table[column]) for column in table.column_names]
    with open(FOLDER / f"{name}.rows.jsonl", "w", encoding="utf-8") as out:
        for row in zip(*columns):
            out.write(json.dumps(dict(zip(table.column_names, row)), ensure_ascii=False) + "\n")


def parquet(name, columns, **options):
    table = pa.table(columns)
    pq.write_table(table, FOLDER / name, write_statistics=False, store_schema=False, **options)
    write_rows(name, pq.read_table(FOLDER / name))


def arrow(name, columns, opener, **options):
    table = pa.table(columns)
    with opener(FOLDER / name, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table, max_chunksize=10)
    write_rows(name, table)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    deltas = {"text": "DELTA_BYTE_ARRAY", "numbered": "DELTA_LENGTH_BYTE_ARRAY"}
    parquet("texts.parquet", texts(), compression="snappy")
    parquet("texts_delta.parquet", texts(), compression="zstd", data_page_version="2.0", use_dictionary=False,
            column_encoding=deltas)
    parquet("numbers.parquet", numbers(), compression="none", row_group_size=9)
    encodings = {f"{sign}{bits}": "DELTA_BINARY_PACKED" for sign in "iu" for bits in (32, 64)}
    encodings |= {"rising": "BYTE_STREAM_SPLIT", "f32": "BYTE_STREAM_SPLIT", "f64": "BYTE_STREAM_SPLIT", "bool": "RLE"}
    parquet("numbers_delta.parquet", numbers(), compression="gzip", use_dictionary=False, column_encoding=encodings,
            data_page_version="2.0")
    parquet("times.parquet", times(), compression="zstd", write_page_checksum=True)
    parquet("int96.parquet", {"nano": times()["nano"]}, use_deprecated_int96_timestamps=True)
    parquet("nested.parquet", nested() | maps(), compression="snappy", row_group_size=17, data_page_size=64,
            max_rows_per_page=5)
    parquet("nested_new_pages.parquet", nested(), compression="zstd", data_page_version="2.0", data_page_size=64,
            max_rows_per_page=5)
    parquet("nested_old_names.parquet", nested(), version="1.0", use_compliant_nested_type=False)
    frame = polars.from_arrow(pa.table(texts() | nested()))
    for name, compression in (("polars.parquet", "zstd"), ("polars_snappy.parquet", "snappy")):
        frame.write_parquet(FOLDER / name, compression=compression, row_group_size=10, statistics=False)
        write_rows(name, pq.read_table(FOLDER / name))
    frame.write_ipc(FOLDER / "polars.arrow", compression="zstd", compat_level=polars.CompatLevel.newest())
    write_rows("polars.arrow", pa.ipc.open_file(FOLDER / "polars.arrow").read_all())
    arrow("file.arrow", texts() | nested() | maps(), pa.ipc.new_file)
    arrow("file_zstd.arrow", numbers() | times(), pa.ipc.new_file, compression="zstd")
    arrow("stream.arrow", texts() | numbers() | nested(), pa.ipc.new_stream)
    rows_of_tasks()
    parts()
    save_sets()


def rows_of_tasks():
    """Rows in the types that the Hub has them in: tagged words, questions with answers, questions with choices."""
    def lists(values, dtype):
        return pa.array(values, pa.list_(dtype))

    parquet("words.parquet", {
        "id": pa.array(["0", "1", "2"]),
        "tokens": lists([["Anna", "lives", "in", "Paris", "."], ["Bo", "sleeps"], []], pa.string()),
        "ner_tags": lists([[1, 0, 0, 2, 0], [1, 0], []], pa.int64())})
    answers = [{"text": ["Anna", "nna"], "answer_start": [4, 5]}, {"text": [], "answer_start": []}]
    parquet("questions.parquet", {
        "id": pa.array(["q1", "q2"]), "context": pa.array(["\u00c9t\u00e9 Anna sleeps.", "Nobody."]),
        "question": pa.array(["Who sleeps?", "Who sings?"]),
        "answers": pa.array(answers, pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}))})
    choices = [{"text": ["stone", "rain", "sand"], "label": ["A", "B", "C"]}, {"text": ["hot", "wet"], "label": ["1", "2"]}]
    parquet("choices.parquet", {
        "id": pa.array(["M1", "M2"]), "question": pa.array(["What falls from clouds?", "What is rain?"]),
        "choices": pa.array(choices, pa.struct({"text": pa.list_(pa.string()), "label": pa.list_(pa.string())})),
        "answerKey": pa.array(["B", "2"])})
    parquet("endings.parquet", {
        "ind": pa.array([4, 14], pa.int32()), "ctx": pa.array(["A man sits. he", "Snow falls. the street"]),
        "endings": lists([["eats.", "flies.", "melts."], ["sings.", "eats.", "is white."]], pa.string()),
        "label": pa.array(["0", "2"])})


def parts():
    """A dictionary that grows from batch to batch, and runs of equal values."""
    words = ["red", "green", "blue", "black", "white"]
    table = pa.table({
        "grown": pa.chunked_array([pa.array(words[:held]).dictionary_encode().take(pa.array([0, held - 1, 1, held - 1]))
                                   for held in (2, 3, 5)]),
        "runs": pa.chunked_array([pa.RunEndEncodedArray.from_arrays(pa.array([1, 3, 4], pa.int32()),
                                                                    pa.array([f"a{i}", None, f"c{i}"]))
                                  for i in range(3)])})
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(FOLDER / "parts.arrow", table.schema, options=options) as out:
        out.write_table(table)
    write_rows("parts.arrow", table)


def save_sets():
    def rows(first, count):
        return [{"text": f"row {first + i}", "label": (first + i) % 2} for i in range(count)]

    parts = {"train": datasets.Dataset.from_list(rows(0, 5)), "test": datasets.Dataset.from_list(rows(5, 2))}
    datasets.disable_progress_bars()
    datasets.DatasetDict(parts).save_to_disk(FOLDER / "saved", num_shards={"train": 2, "test": 1})


if __name__ == "__main__":
    main()
