"""Files of runs that any store can take: see docs/portable-runs.md and ADR 14.

What a line has: `fields` (single cells), `events` (as CloudEvents), `kinds` (all other lines),
`shapes` (JSON that the engine reads), `strict_json`. Writing: `writing` (lines), `files` (whole or
not at all). Reading, on trust of nothing: `reading` (line by line), `checks` (what the lines of a
run must say together). Hiding values: `redaction` (a run), `paths` (where they are),
`redacted_state` (changes of a state), `hiding` (texts that stand for them).
"""
