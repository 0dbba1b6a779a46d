#!/usr/bin/env bash
# What can be checked without running anything: formatting, and the house's rules as far as they are mechanical.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
status=0
complain() {
  [ -z "$2" ] && return
  printf '%s\n%s\n' "$1" "$2"
  status=1
}
swift format lint --strict --recursive Sources Tests Package.swift || status=1
complain "Foundation outside the tests:" "$(grep -rnE '^(package |public |internal )?(@_[a-z]+ )?import Foundation' Sources CShims)"
complain "a package dependency:" "$(grep -nE '\.package\(' Package.swift)"
complain "traps on input:" "$(grep -rnE 'try!|as!|fatalError\(' Sources)"
complain "concurrency in the pipeline:" "$(grep -rnE '\b(await|actor|Task)\b *[({]' Sources)"
complain "left-overs:" "$(grep -rnIsE 'TODO|FIXME|\bXXX\b' Sources CShims Tests Deploy docs README.md Makefile --include='*' | grep -v 'Tests/check.sh')"
# What the documentation names must be there: paths between backticks, and the words of the records.
missing=$(grep -ohE '`(Sources|Tests|docs|CShims|Deploy)/[^` ]*`' README.md docs/*.md docs/decisions/*.md | tr -d '`' | sort -u |
  while read -r path; do compgen -G "$path" >/dev/null || echo "$path"; done)
complain "documentation of files that are not there:" "$missing"
words=$(grep -oE '"[a-z_]+"' Sources/Flows/Verdict.swift | tr -d '"' | sort -u |
  while read -r word; do grep -q "\`$word\`" docs/verdicts.md || echo "$word"; done)
complain "words of the records that docs/verdicts.md does not explain:" "$words"
CShims/bpf.sh --check || status=1
Tests/check-arm64.sh || status=1
[ "$status" -eq 0 ] && echo "checked: nothing to say"
exit "$status"
