"""What transformers renders from chat templates: tests/text/fixtures/chat/cases.json.

The templates beside that file, one a family of published models, are written for these tests with the constructs that
the family uses. Every template meets every conversation, with and without the prompt for an answer."""
import json
import re
import sys
from pathlib import Path

import jinja2
import tokenizers
import transformers
from transformers.utils import chat_template_utils as hf

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "text" / "fixtures" / "chat"

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a \"city\" <now> & later, caf\u00e9s too.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Its name"},
        "days": {"type": "integer", "minimum": 1, "default": 3},
        "units": {"type": "string", "enum": ["C", "F"]},
        "exact": {"type": ["boolean", "null"]}, "limit": {"type": "number", "maximum": 1.5e-7}},
        "required": ["city"]}, "return": {"type": "string"}}}
CLOCK = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {
    "type": "object", "properties": {}}}}
SYSTEM = {"role": "system", "content": "Be brief.\nBe kind. "}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments, identity="abc123XYZ"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


CITY = {"city": "Z\u00fcrich \U0001F3D4", "days": 2, "exact": True, "limit": 0.1, "more": [1, None, {"a": "<b>"}]}
TURN = [user("Hi"), assistant("Hello! What's up?"), user("  Two\n lines\n"), assistant("Fine.\n\n")]
CONVERSATIONS = {
    "single": {"messages": [user("Hello")]},
    "system": {"messages": [SYSTEM, user("Hello"), assistant("Hi.")]},
    "turns": {"messages": [SYSTEM, *TURN, user("And now?")]},
    "turns_without_system": {"messages": [*TURN, user("And now?"), assistant("Then.")]},
    "empty": {"messages": [{"role": "system", "content": ""}, user(""), assistant("")]},
    "unicode": {"messages": [user("\u00c4\u00d6 \u4f60\u597d \U0001F600 \u0130\u00df '\"\\ \u00a0\u2003"),
                             assistant("\u03a3\u03a3 \u2028 e\u0301 <|im_end|> {{ x }} {% y %}")]},
    "braces": {"messages": [user("{'a': 1}"), assistant("[INST] a [/INST]</s>")]},
    "thinking": {"messages": [user("2+2?"), assistant("<think>\nadd them\n</think>\n\n4"), user("3+3?"),
                              assistant("<think>easy</think>6")]},
    "reasoning": {"messages": [user("2+2?"), assistant("4", reasoning_content="add them\n"), user("3+3?"),
                               assistant("6", reasoning="again")]},
    "no_thinking": {"messages": [user("2+2?")], "more": {"enable_thinking": False, "date_string": "26 Jul 2024"}},
    "tools": {"messages": [SYSTEM, user("Weather?")], "more": {"tools": [WEATHER, CLOCK], "date_string": "1 May 2025"}},
    "no_tools": {"messages": [user("Weather?")], "more": {"tools": []}},
    "tool_call": {"messages": [user("Weather?"), assistant("", tool_calls=[call("get_weather", CITY)]),
                               {"role": "tool", "name": "get_weather", "content": "7 degrees", "tool_call_id": "abc123XYZ"},
                               assistant("It is cold.")], "more": {"tools": [WEATHER]}},
    "null_content": {"messages": [user("Weather?"), assistant(None, tool_calls=[call("now", {})]),
                                  {"role": "tool", "name": "now", "content": "12:00", "tool_call_id": "abc123XYZ"}],
                     "more": {"tools": [CLOCK], "date_string": "1 May 2025"}},
    "null_keys": {"messages": [{"role": "user", "content": "Weather?", "tool_calls": None, "reasoning_content": None},
                               assistant("Cold.", tool_calls=None, thinking=None, reasoning="felt it", name=None)],
                  "more": {"tools": None, "documents": None}},
    "two_calls": {"messages": [user("Both?"), assistant("Let me see", tool_calls=[
        call("get_weather", CITY), call("now", {}, "def456UVW")]),
        {"role": "tool", "name": "get_weather", "content": "{\"t\": 7}", "tool_call_id": "abc123XYZ"},
        {"role": "tool", "name": "now", "content": "12:00", "tool_call_id": "def456UVW"}],
        "more": {"tools": [WEATHER, CLOCK]}},
    "text_arguments": {"messages": [user("Weather?"), assistant("", tool_calls=[call("get_weather", "{\"city\": \"Rome\"}")]),
                                    {"role": "tool", "content": "mild", "tool_call_id": "abc123XYZ"}]},
    "parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                           user([{"type": "text", "text": "Look: "}, {"type": "image"}, {"type": "text", "text": "what?"}]),
                           assistant([{"type": "text", "text": "A cat."}])]},
    "documents": {"messages": [user("Who?")], "more": {"documents": [
        {"title": "One", "text": "First text"}, {"title": "Two", "text": "Second\ntext", "score": 0.5, "n": 1e16}]}},
    "wrong_order": {"messages": [assistant("I begin."), user("No.")]},
    "twice": {"messages": [user("One"), user("Two")]},
    "other_role": {"messages": [user("One"), {"role": "critic", "content": "Bad"}]},
    "no_messages": {"messages": []},
}


def bytes_at(text, index):
    return len(text[:index].encode())


def without_nulls(messages):
    """As apply_chat_template hands them on, which gives no ranges of its own."""
    return [{key: value for key, value in message.items() if value is not None} for message in messages]


def checked(template, messages, add, more, text):
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()), **TOKENS)
    whole = tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=add, tokenize=False, **more)
    assert whole == text, (whole, text)


def render(template, messages, add, more):
    """Text and byte ranges as transformers makes them, or the words of its refusal."""
    given, asked, messages, more = messages, more, without_nulls(messages), dict(more)
    spans = bool(re.search(r"\{%-?\s*generation\s*-?%\}", template))
    try:
        texts, ranges = hf.render_jinja_template(
            [messages], tools=more.pop("tools", None), documents=more.pop("documents", None), chat_template=template,
            add_generation_prompt=add, return_assistant_tokens_mask=spans, **TOKENS, **more)
    except jinja2.TemplateSyntaxError as error:
        return {"syntax": str(error)}
    except jinja2.exceptions.TemplateError as error:
        raised = type(error) is jinja2.exceptions.TemplateError
        return {"raised": error.message} if raised else {"error": f"{type(error).__name__}: {error}"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if given:
        checked(template, given, add, asked, texts[0])
    ranges = [[bytes_at(texts[0], begin), bytes_at(texts[0], end)] for begin, end in (ranges[0] if spans else [])]
    return {"text": texts[0], "generated": ranges}


def main():
    cases = []
    for file in sorted(FOLDER.glob("*.jinja")):
        template = file.read_text()
        rendered = 0
        for name, conversation in CONVERSATIONS.items():
            for add in (False, True):
                result = render(template, conversation["messages"], add, conversation.get("more", {}))
                assert "syntax" not in result, (file.name, result)
                rendered += "text" in result
                if not result.get("generated", True):
                    del result["generated"]
                cases.append({"template": file.stem, "conversation": name, "add": add, **result})
        assert rendered >= 16, f"{file.name} renders {rendered} conversations only"
    expressions = []
    for source in json.loads((FOLDER / "expressions.json").read_text()):
        expressions.append({"source": source, **render(source, CONVERSATIONS["tool_call"]["messages"], False,
                                                       CONVERSATIONS["tool_call"]["more"])})
    head = {"provenance": f"oracle/make_chat.py, transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
            "variables": TOKENS}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, rows in {"conversations": CONVERSATIONS, "cases": cases, "expressions": expressions}.items():
        if isinstance(rows, dict):
            inner = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
            lines.append(f"{json.dumps(key)}: {{\n" + ",\n".join(inner) + "\n}")
        else:
            lines.append(f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, rows)) + "\n]")
    (FOLDER / "cases.json").write_text("{" + ",\n".join(lines) + "}\n")
    print(f"{len(cases)} renderings, {len(expressions)} expressions")


if __name__ == "__main__":
    sys.exit(main())
