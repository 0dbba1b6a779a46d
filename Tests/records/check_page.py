#!/usr/bin/env python3
"""Reads an OpenMetrics page from standard input with prometheus_client's strict parser. Exit 0 if it is well-formed, 1 if not, 2 if it could not check."""
import sys

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
except ImportError as error:
    print(f"cannot check: {error}", file=sys.stderr)
    sys.exit(2)

try:
    families = list(text_string_to_metric_families(sys.stdin.buffer.read().decode("utf-8", errors="strict")))
except ValueError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
print(f"{len(families)} families, {sum(len(family.samples) for family in families)} samples")
