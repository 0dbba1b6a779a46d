#!/usr/bin/env python3
"""Validates JSON lines against docs/records.schema.json, or any other schema, such as docs/flows.schema.json.

usage: validate.py SCHEMA [FILE...]   (standard input without a FILE)

Needs the PyPI package jsonschema (check-jsonschema brings it). Exit 0 if every line is a valid record, 1 if not, 2 if it could not check.
"""
import json
import sys


def unique(pairs):
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError("duplicate key")
    return dict(pairs)


def main():
    try:
        from jsonschema import Draft202012Validator, FormatChecker
    except ImportError as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return 2
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    events = {name: {**schema, "oneOf": [{"$ref": f"#/$defs/{name}"}]} for name in (ref["$ref"].split("/")[-1] for ref in schema["oneOf"])}
    checker = FormatChecker(formats=["ipv4", "ipv6"])
    failures = lines = 0
    for name in sys.argv[2:] or ["-"]:
        source = sys.stdin.buffer if name == "-" else open(name, "rb")
        for number, line in enumerate(source, 1):
            lines += 1
            try:
                record = json.loads(line.decode("utf-8", errors="strict"), object_pairs_hook=unique)
                # Against the schema of its event alone, so that the message names the field and not seven alternatives.
                if "event" in schema.get("required", ()) and record.get("event") not in events:
                    raise ValueError(f"unknown event {record.get('event')!r}")
                errors = list(Draft202012Validator(events.get(record.get("event"), schema), format_checker=checker).iter_errors(record))
                messages = [context.message for error in errors for context in (error.context or [error])]
            except ValueError as error:
                messages = [str(error)]
            for message in messages:
                print(f"{name}:{number}: {message}", file=sys.stderr)
            failures += bool(messages)
    print(f"{lines} lines, {failures} invalid")
    return 1 if failures or not lines else 0


sys.exit(main())
