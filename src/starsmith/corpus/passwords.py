"""The rules for passwords: where they stand in code, settings, commands, connections and headers, and what is none.

A pattern finds the place, a judge looks at the value and around it. The plainer the place, the less is asked of the
value. What is left alone on purpose: placeholders of every template language, and passwords of letters only, which in
code are labels and translations.
"""

import base64
import binascii
import re

from starsmith.corpus.secrets import A_PASSWORD, KEY, KNOWN_KEY, PASSWORD, Judge, Rule, entropy

_NAME = r"(?:password|passwd|passphrase|passwort|kennwort|pwd)"
_SHORT = r"(?:(?:\b|[_.-])pass|(?-i:[a-z0-9]Pass))"  # also other things, so more is asked of its value
_CLOSED = r"(?:\\?[\"'\x60]|\]){0,4}"  # a name in quotes, a name in brackets
ENDS = rf"{_CLOSED}[ \t]{{0,20}}"
# An assignment of any language: = := => : == and an optional type between; then the value in quotes, also in quotes
# that are escaped because the code stands in a string itself.
ASSIGNED = r"(?::[ \t]{0,4}[\w.\[\]| ]{1,30}?)?(?:={1,3}|:=|=>|:)[ \t]{0,20}[a-z@$]{0,2}"
_QUOTED = "|".join(
    rf"\\?{quote}((?:[^\\\r\n{quote}]|\\[^\r\n{quote}]){{4,200}})\\?{quote}" for quote in ('"', "'", r"\x60")
)
QUOTE = r"\\?[\"'\x60]"
_FIRST, _MORE = r"[^\s\"'\x60;,#(){}\[\]<>$%&|=]", r"[^\s\"'\x60;,(){}\[\]<>|]"
_LINE_START = r"^[ \t]{0,60}(?:(?:#|//|\*|-)[ \t]{0,20})?"

_NAMES = (b"password", b"passwd", b"passphrase", b"passwort", b"kennwort", b"pwd")
_NAMES_AND_SHORT = (b"pass", b"kennwort", b"pwd")

_PLACEHOLDER_WORDS = re.compile(
    rb"(?i)passw|passphrase|pwd|change.?(?:me|it|this)|example|sample|dummy|placeholder|redacted|censored|hidden|secret_"
    rb"|your|fake|mock|test|foobar|foo|insert|replace|enter|todo|xxx|none|null|undefined|default|required|invalid|wrong"
    rb"|123456|abc123|user_?name|my.?pass|\bpass\b|kennwort"
)
_TEMPLATE = re.compile(
    rb"[$%#@]?\{|\$\(|\$\w|<%|%\(|%[sdr]|%\w+%|<[\w -]*>|\(\?|\[[^\]]*\]|\\[dwsDWSb]|::|->|\w\(|://|^[./~$<@#-]|^--"
)
_WORDS = re.compile(rb"[a-zA-Z]*(?:[ _.:/-]+[a-zA-Z]+)*[ _.:/!?,-]*")
_NAME_WITH_NUMBER = re.compile(rb"[A-Za-z_][A-Za-z_.-]*\d{0,3}[A-Za-z_]*")
_PLACE = re.compile(rb"[\w.-]+:\d{2,5}|(?:[\w.-]+/){2,}[\w.-]*")  # a host and its port, a path
_DATE = re.compile(rb"\d{4}-\d\d-\d\d")
_LEAST_STRENGTH = 2.5  # bits a character of a password that is not in quotes
_EVERYBODYS = (b"pass", b"secret", b"pw", b"admin", b"root", b"guest", b"port", b"bar", b"baz")
_APP_PASSWORD = re.compile(rb"[a-z]{4}(?: [a-z]{4}){3}")  # as Google shows them
# What stands before or after the password in a connection string.
_CONNECTION = re.compile(
    rb"(?i)(?:^|[;\"'\x60 \t?])(?:server|data source|host(?:name)?|address|addr|uid|user ?id|user(?:name)?|database|"
    rb"dbname|initial catalog|dsn|driver|provider)[ \t]?=[^;,(){}=]{1,100}[; \t]"
)
_CONNECTION_REACH = 300  # bytes before and after it that are looked at


def password_rules() -> tuple[Rule, ...]:
    """Every rule of this module."""
    return (*_assignments(), *_settings(), *_pairs(), *_statements(), *_connections(), *_header_rules())


def _assignments() -> tuple[Rule, ...]:
    """A name, a sign, a value in quotes."""
    return (
        _rule(
            "password-quoted",
            rf"(?i){_NAME}[_-]?[0-9]{{0,2}}{ENDS}{ASSIGNED}(?:{_QUOTED})",
            gate=rf"(?i){_NAME}[_0-9\\\"'\x60\] \t-]*[:=][^\r\n]*[\"'\x60][^\r\n]*[\"'\x60]",
            reach=640,
        ),
        _rule(
            "pass-quoted",
            rf"(?i){_SHORT}[0-9]{{0,2}}{_CLOSED}(?:[ \t]{{0,20}}(?:={{1,3}}|:=|=>)|:)[ \t]{{0,20}}[a-z@]{{0,2}}"
            rf"(?:{_QUOTED})",
            gate=rf"(?i)pass[0-9]{{0,2}}{_CLOSED}(?:[ \t]{{0,20}}:?=|:)",
            reach=100,
            keywords=(b"pass",),
            judge=is_unquoted_password,
        ),
        _rule(
            "password-define",
            rf"(?i)#[ \t]*define[ \t]+\w*{_NAME}\w{{0,3}}[ \t]+(?:{_QUOTED})",
            gate=rf"(?i)#[ \t]*define[ \t]+\w*{_NAME}\w*[ \t]+{QUOTE}",
        ),
        _rule(
            "preshared-key",
            rf"(?i)\b(?:psk|wpa[_-]?psk){ENDS}{ASSIGNED}(?:{_QUOTED})",
            gate=rf"(?i)psk{ENDS}[:=]",
            reach=100,
            keywords=(b"psk",),
            judge=is_unquoted_password,
        ),
    )


def _settings() -> tuple[Rule, ...]:
    """A name, a sign, a value without quotes."""
    short_or_name = rf"(?:{_NAME}|{_SHORT})"
    return (
        _rule(
            "password-environment",
            rf"(?m){_LINE_START}(?:export[ \t]+|ENV[ \t]+)?[A-Z0-9_]{{0,60}}(?:PASSWORD|PASSWD|PWD)[0-9]{{0,2}}"
            rf"=({_MORE}{{4,100}})[ \t]*\r?$",
            gate=rf"(?:PASSWORD|PASSWD|PWD)[0-9]{{0,2}}={_MORE}{{4}}",
        ),
        _rule(
            "password-setting",
            rf"(?im){_LINE_START}[\"']?[\w.-]{{0,60}}?{short_or_name}[0-9]{{0,2}}[\"']?[ \t]{{0,20}}[=:][ \t]{{0,20}}"
            rf"({_FIRST}{_MORE}{{5,99}})[ \t]{{0,20}}\r?$",
            gate=rf"(?im){short_or_name}[0-9]{{0,2}}[\"']?[ \t]*[=:][ \t]*{_FIRST}{_MORE}{{5}}{_MORE}*[ \t]*\r?$",
            reach=400,
            keywords=_NAMES_AND_SHORT,
            judge=is_unquoted_password,
        ),
        _rule(  # among others on one line, as in an inventory or before a command
            "password-inline",
            rf"(?im)(?:^|[ \t])[\w.-]{{0,60}}?(?:{_NAME}|[_-]pass)[0-9]{{0,2}}=({_FIRST}{_MORE}{{5,99}})(?:[ \t]|\r?$)",
            gate=rf"(?i)(?:{_NAME}|[_-]pass)[0-9]{{0,2}}={_FIRST}{_MORE}{{5}}",
            reach=100,
            keywords=_NAMES_AND_SHORT,
            judge=is_unquoted_password,
        ),
        _rule(
            "password-option",
            rf"(?i)--(?:[a-z0-9-]{{1,30}}-)?(?:{_NAME}|pass)[= ]([^\s\"'\x60$<>{{}}()|;&,]{{4,100}})",
            gate=rf"(?i)-(?:{_NAME}|pass)[= ]",
            reach=60,
            keywords=_NAMES_AND_SHORT,
            judge=is_unquoted_password,
        ),
        _rule(
            "password-directive",
            rf"(?im)^[ \t]*(?:requirepass|masterauth)[ \t]+(?:{_QUOTED}|({_FIRST}{_MORE}{{3,99}}))",
            gate=r"(?i)requirepass[ \t]|masterauth[ \t]",
            keywords=(b"requirepass", b"masterauth"),
        ),
        _rule(
            "password-netrc",
            r"\bmachine[ \t]+\S{1,100}\s{1,20}login[ \t]+\S{1,100}\s{1,20}password[ \t]+(\S{4,100})",
            gate=r"\blogin[ \t]+\S+\s+password[ \t]",
            keywords=(b"password",),
            judge=is_plain_password,
        ),
    )


def _pairs() -> tuple[Rule, ...]:
    """A name in quotes or tags, and its value in others."""
    names = rf"[\w.-]{{0,60}}?(?:{_NAME}|{_SHORT})[0-9]{{0,2}}"
    gate_name = rf"(?:{_NAME}|pass)[0-9]{{0,2}}"
    return (
        _rule("password-element", rf"(?i)<[\w:.-]{{0,40}}{_NAME}>([^<>\s]{{4,100}})</", keywords=_NAMES),
        _rule(
            "password-php-define",
            *defined(names, _QUOTED, gate_name),
            keywords=(b"define",),
        ),
        _rule(
            "password-argument",
            rf"(?i){QUOTE}{names}{QUOTE}[ \t]{{0,20}},[ \t]{{0,20}}(?:{_QUOTED})",
            gate=rf"(?i)(?:{_NAME}|pass)[0-9]{{0,2}}{QUOTE}[ \t]*,[ \t]*{QUOTE}",
            reach=140,
            keywords=_NAMES_AND_SHORT,
            judge=is_unquoted_password,
        ),
        _rule(
            "password-attribute",
            *attribute(names, _QUOTED, gate_name),
            reach=160,
            keywords=(b"value=",),
        ),
        _rule(
            "password-text",
            *element(names, r"[^<>\s]{4,100}", gate_name),
            keywords=(b"<string",),
            judge=is_unquoted_password,
        ),
    )


def defined(name: str, value: str, gate_name: str) -> tuple[str, str]:
    """The pattern and the gate of a constant of PHP; every name has a match of `gate_name` at its end."""
    head = r"(?i)\bdefine\([ \t]*"
    return rf"{head}{QUOTE}{name}{QUOTE}[ \t]*,[ \t]*(?:{value})", rf"{head}{QUOTE}[\w.:-]*{gate_name}"


def attribute(name: str, value: str, gate_name: str) -> tuple[str, str]:
    """The same of a name and its value, each in quotes, in one tag."""
    return (
        rf"(?i)\b(?:key|name|id)={QUOTE}{name}{QUOTE}[ \t]{{1,20}}value=(?:{value})",
        rf"(?i){gate_name}{QUOTE}[ \t]+value={QUOTE}",
    )


def element(name: str, value: str, gate_name: str) -> tuple[str, str]:
    """The same of two tags of a property list, or one of Android's strings."""
    return (
        rf"(?i)(?:<key>{name}</key>\s{{0,100}}<string>|<string[ \t]+name={QUOTE}{name}{QUOTE}[^<>]{{0,60}}>)"
        rf"({value})</string>",
        rf"(?i){gate_name}</key>\s*<string>|<string[ \t]+name={QUOTE}[\w.:-]*{gate_name}",
    )


def _statements() -> tuple[Rule, ...]:
    """A word of a language or a command, then the value."""
    options = r"\b[^\r\n|;&]{0,200}?[ \t]"
    commands = (
        r"sshpass[ \t]+-p[ \t]{0,4}",
        rf"(?:mysql\w{{0,20}}|mariadb\w{{0,20}}){options}-p",  # a space would begin another argument
        rf"(?:docker[ \t]+login|mongo\w{{0,20}}){options}-p[ \t]+",
        rf"redis-cli{options}-a[ \t]+",
    )
    value = rf"(?:{_QUOTED}|({_FIRST}{_MORE}{{3,99}}))"
    blanks = r"[ \t]{1,20}"  # no more of them than the reach allows
    return (
        _rule(
            "password-sql",
            rf"(?i)(?:identified{blanks}(?:with{blanks}\S{{1,40}}{blanks})?by|\b(?:with|login|encrypted|"
            rf"user{blanks}\S{{1,60}}|role{blanks}\S{{1,60}}){blanks}password){blanks}(?:{_QUOTED})",
            gate=rf"(?i)(?:identified[ \t]+(?:with[ \t]+\S+[ \t]+)?by|[ \t]password)[ \t]+{QUOTE}",
            reach=160,
            keywords=(b"identified", b"password"),
        ),
        _rule(
            "password-word",
            rf"(?i){_NAME}[ \t]{{1,4}}(?:{_QUOTED})",
            gate=rf"(?i){_NAME}[ \t]{{1,4}}{QUOTE}",
            reach=60,
            judge=is_unquoted_password,
        ),
        _rule(
            "password-command",
            rf"\b(?:{'|'.join(commands)}){value}",
            gate=r"\b(?:sshpass[ \t]+-p|(?:mysql|mariadb|docker[ \t]+login|mongo)[^\r\n]*[ \t]-p|"
            r"redis-cli[^\r\n]*[ \t]-a)",
            keywords=(b"sshpass", b"mysql", b"mariadb", b"docker", b"mongo", b"redis-cli"),
            judge=is_option_password,
        ),
        _rule(
            "secure-string",
            rf"(?i)\bConvertTo-SecureString[ \t]+(?:-String[ \t]+)?(?:{_QUOTED})",
            gate=r"(?i)ConvertTo-SecureString[ \t]",
            keywords=(b"convertto-securestring",),
        ),
        _rule(
            "password-login",
            rf"(?i)\.login\([ \t]*[^,\r\n]{{1,100}},[ \t]*(?:{_QUOTED})[ \t]*\)",
            gate=rf"(?i)\.login\([^\r\n]*,[ \t]*{QUOTE}",
            keywords=(b".login(",),
            judge=is_login_password,
        ),
    )


def _connections() -> tuple[Rule, ...]:
    return (
        _rule(
            "password-in-connection",
            r"(?i)(?:^|[;\s\"'\x60?])(?:password|pwd)[ \t]?=[ \t]?([^;\"'\x60\s<>&]{4,128})",
            gate=r"(?i)(?:password|pwd)[ \t]?=[ \t]?[^;\"'\x60\s<>&]{4}",
            reach=32,
            keywords=(b"password", b"pwd"),
            judge=is_connection_password,
        ),
        _rule(
            "password-in-url",
            r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'\x60<>{}$%]{0,64}:([^\s/@\"'\x60<>]{3,128})@[\w\[]",
            gate=r"(?i)[a-z0-9+.-]://[^\s:/@\"'\x60<>{}$%]*:[^\s/@\"'\x60<>]+@[\w\[]",
            keywords=(b"://",),
            judge=is_url_password,
        ),
    )


def _header_rules() -> tuple[Rule, ...]:
    header = r"(?i)\bauthorization\\?[\"'\x60]?\]?[ \t]{0,4}(?::|=>?|,|[ \t])[ \t]{0,4}[a-z]?\\?[\"'\x60]?"
    gate = r"(?i)\bauthorization[a-z\\\"'\x60\] \t:=>,]*(?:basic|bearer|token)[ \t]+[a-z0-9._~+/-]{8}"
    keywords = (b"authorization",)
    return (
        Rule(
            name="basic-header",
            kind=PASSWORD,
            rank=A_PASSWORD,
            gate=gate,
            pattern=header + r"basic[ \t]{1,4}([a-z0-9+/]{8,400}={0,2})",
            keywords=keywords,
            judge=is_basic_credential,
        ),
        Rule(
            name="bearer-header",
            kind=KEY,
            rank=KNOWN_KEY,
            gate=gate,
            pattern=header + r"(?:bearer|token)[ \t]{1,4}([a-z0-9._~+/-]{20,1000}={0,2})",
            entropy=3.5,
            keywords=keywords,
            judge=is_token,
        ),
    )


def _rule(
    name: str,
    pattern: str,
    gate: str = "",
    *,
    reach: int = 0,
    keywords: tuple[bytes, ...] = _NAMES,
    judge: Judge | None = None,
) -> Rule:
    return Rule(
        name=name,
        kind=PASSWORD,
        rank=A_PASSWORD,
        pattern=pattern,
        gate=gate,
        reach=reach,
        keywords=keywords,
        judge=judge or is_password,
    )


def is_password(data: bytes, start: int, end: int) -> bool:
    """Whether a value that is called a password looks like one, and not like a placeholder, label or code."""
    value = data[start:end]
    if re.search(rb"\s", value) or not is_plain_password(data, start, end):
        return False
    return not _WORDS.fullmatch(value) and (not value.isdigit() or len(value) >= 6)


def is_plain_password(data: bytes, start: int, end: int) -> bool:
    """Where nothing but a password can stand: whether it is no placeholder."""
    value = data[start:end]
    if value.lower().rstrip(b"0123456789") in _EVERYBODYS:
        return False
    return not (_PLACEHOLDER_WORDS.search(value) or _TEMPLATE.search(value) or len(set(value)) < 3)


def is_unquoted_password(data: bytes, start: int, end: int) -> bool:
    """The same where nothing tells a value from an expression: a name, also one with a number, is none."""
    value = data[start:end]
    return (
        is_password(data, start, end)
        and not (_NAME_WITH_NUMBER.fullmatch(value) or _DATE.match(value) or _PLACE.fullmatch(value))
        and bool(re.search(rb"\d", value) and re.search(rb"[A-Za-z]", value))
        and entropy(value) >= _LEAST_STRENGTH
    )


def is_option_password(data: bytes, start: int, end: int) -> bool:
    """What follows the option of a command: in quotes a password, without them it must not be a name."""
    quoted = data[start - 1 : start] in (b'"', b"'", b"\x60")
    return is_password(data, start, end) if quoted else is_unquoted_password(data, start, end)


def is_login_password(data: bytes, start: int, end: int) -> bool:
    """The second argument of a call: a password, or one that Google made for a program, which is four words."""
    return bool(_APP_PASSWORD.fullmatch(data[start:end])) or is_unquoted_password(data, start, end)


def is_connection_password(data: bytes, start: int, end: int) -> bool:
    """`password=` beside `server=`, `user=` and their like, in one line or literal."""
    if not is_password(data, start, end):
        return False
    line = max(data.rfind(b"\n", 0, start) + 1, start - _CONNECTION_REACH)
    stop = data.find(b"\n", end)
    before = re.split(rb"[\"'\x60]", data[line:start])[-1]
    after = re.split(rb"[\"'\x60]", data[end : min(stop if stop >= 0 else len(data), end + _CONNECTION_REACH)])[0]
    return bool(_CONNECTION.search(before) or (_CONNECTION.search(after + b";") and after[:1] in (b";", b" ")))


def is_url_password(data: bytes, start: int, end: int) -> bool:
    """The password of `scheme://user:password@host`: letters alone count here, the user's own name does not."""
    user = data[data.rfind(b"/", 0, start) + 1 : start - 1]
    return data[start:end].lower() != user.lower() and is_plain_password(data, start, end)


def is_basic_credential(data: bytes, start: int, end: int) -> bool:
    """Whether it decodes to `user:password`."""
    try:
        decoded = base64.b64decode(data[start:end], validate=True)
    except binascii.Error:
        return False
    user, colon, password = decoded.partition(b":")
    if not colon or not decoded.isascii() or decoded == b"Aladdin:open sesame":  # of RFC 7617
        return False
    return password not in (b"", user) and not _PLACEHOLDER_WORDS.search(password)


def is_token(data: bytes, start: int, end: int) -> bool:
    """Has digits and is no example."""
    value = data[start:end]
    return bool(re.search(rb"\d", value)) and not re.search(rb"(?i)example|your|xxx|token", value)
