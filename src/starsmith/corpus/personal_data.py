"""The rules that gitleaks has not: e-mail and IP addresses, passwords, and credentials in HTTP headers.

A pattern finds the place, a judge looks at the value and around it. What is left alone on purpose: addresses that
nobody owns (example.com, private and documentation networks), the `git@` of clone URLs, version and section numbers,
placeholders of every template language, and passwords of letters only, which in code are labels and translations.
"""

import base64
import binascii
import ipaddress
import re
from functools import cache, lru_cache

from starsmith.corpus.secrets import (
    A_PASSWORD,
    AN_EMAIL,
    AN_IP_ADDRESS,
    EMAIL,
    IP_ADDRESS,
    KEY,
    KNOWN_KEY,
    PASSWORD,
    Judge,
    Rule,
    entropy,
)

_NAME = r"(?:password|passwd|passphrase|pwd)"
# An assignment of any language: = := => : == and an optional type between; then the value in quotes, also in quotes
# that are escaped because the code stands in a string itself.
_ASSIGNED = r"(?::[ \t]{0,4}[\w.\[\]| ]{1,30}?)?(?:={1,3}|:=|=>|:)[ \t]{0,20}[a-z@$]{0,2}"
_QUOTED = "|".join(
    rf"\\?{quote}((?:[^\\\r\n{quote}]|\\[^\r\n{quote}]){{4,200}})\\?{quote}" for quote in ('"', "'", r"\x60")
)

# Second-level domains and local parts that belong to nobody: RFC 2606 and 6761, and the user of a clone URL.
_NOBODYS_DOMAINS = (
    b".example",
    b".example.com",
    b".example.org",
    b".example.net",
    b".localhost",
    b".local",
    b".test",
    b".invalid",
)
_NOBODYS_LOCAL_PARTS = (b"git", b"hg", b"svn")
_TOP_LEVEL = frozenset(
    b"com org net edu gov mil int info biz name pro aero coop museum mobi jobs travel tel cat asia arpa "
    b"dev app tech cloud online site xyz club shop blog store email live news media studio design digital "
    b"agency solutions systems company group team network foundation science academy institute zone world "
    b"today life works guru ninja rocks engineering technology consulting education health law finance "
    b"bank capital ventures london berlin paris nyc tokyo hamburg wien swiss eus gal bzh scot wales quebec "
    b"page chat social space software tools wiki ac ad ae af ag ai al am ao ar as at au aw ax az ba bb bd "
    b"be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy "
    b"cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr "
    b"gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr "
    b"kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw "
    b"mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro "
    b"rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm "
    b"tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw".split()
)

# Public resolvers: everybody knows them, and they say nothing about anybody.
_KNOWN_ADDRESSES = frozenset(
    b"8.8.8.8 8.8.4.4 1.1.1.1 1.0.0.1 9.9.9.9 149.112.112.112 208.67.222.222 208.67.220.220 76.76.19.19 76.223.122.150 "
    b"94.140.14.14 94.140.15.15 64.6.64.6 64.6.65.6 4.2.2.1 4.2.2.2 4.2.2.3 4.2.2.4 114.114.114.114 223.5.5.5 "
    b"2001:4860:4860::8888 2001:4860:4860::8844 2606:4700:4700::1111 2606:4700:4700::1001 2620:fe::fe 2620:fe::9 "
    b"2620:119:35::35 2620:119:53::53".split()
)
_NUMBERED = re.compile(
    rb"(?i)version|\bver\b|\bvs?[ .:]?$|release|section|\bsec\b|"
    rb"chapter|clause|appendix|annex|figure|table|\boid\b|\bes\d|"
    rb"ecma|\brfc|\biso\b|build|assembly|upgrade|\bsince\b|[=<>~^]=[ \t]*[\"']?$|\xc2\xa7"
)
_ADDRESSED = re.compile(rb"(?i)dns|server|host|addr|\bip|resolver|gateway|peer|remote|client|proxy|route|ping")
_AROUND = 60  # bytes before an address in which such a word counts

_PLACEHOLDER_WORDS = re.compile(
    rb"(?i)passw|passphrase|pwd|change.?(?:me|it|this)|example|sample|dummy|placeholder|redacted|censored|hidden|secret_"
    rb"|your|fake|mock|test|foobar|foo|insert|replace|enter|todo|xxx|none|null|undefined|default|required|invalid|wrong"
    rb"|123456|abc123|user_?name|my.?pass|\bpass\b"
)
_TEMPLATE = re.compile(
    rb"[$%#@]?\{|\$\(|\$\w|<%|%\(|%[sdr]|%\w+%|<[\w -]*>|\(\?|\[[^\]]*\]|\\[dwsDWSb]|::|->|\w\(|://|^[./~$<@#-]|^--"
)
_WORDS = re.compile(rb"[a-zA-Z]*(?:[ _.:/-]+[a-zA-Z]+)*[ _.:/!?,-]*")
_NAME_WITH_NUMBER = re.compile(rb"[A-Za-z_][A-Za-z_.-]*\d{0,3}[A-Za-z_]*")
_LEAST_STRENGTH = 2.5  # bits a character of a password that is not in quotes


@cache
def own_rules() -> tuple[Rule, ...]:
    """Every rule of this module."""
    return (*_password_rules(), *_header_rules(), *_address_rules())


def _password_rules() -> tuple[Rule, ...]:
    names = (b"password", b"passwd", b"passphrase", b"pwd")
    line_start = r"^[ \t]*(?:(?:#|//|\*|-)[ \t]*)?"
    first, more = r"[^\s\"'\x60;,#(){}\[\]<>$%&|]", r"[^\s\"'\x60;,(){}\[\]<>$|&]"
    return (
        _password(
            "password-quoted",
            rf"(?i){_NAME}[_-]?[0-9]{{0,2}}(?:\\?[\"'\x60]|\]){{0,4}}[ \t]{{0,20}}{_ASSIGNED}(?:{_QUOTED})",
            gate=rf"(?i){_NAME}[_0-9\\\"'\x60\] \t-]*[:=][^\r\n]*[\"'\x60][^\r\n]*[\"'\x60]",
            keywords=names,
        ),
        _password(
            "password-define",
            rf"(?i)#[ \t]*define[ \t]+\w*{_NAME}\w{{0,3}}[ \t]+(?:{_QUOTED})",
            gate=rf"(?i)#[ \t]*define[ \t]+\w*{_NAME}\w*[ \t]+\\?[\"'\x60]",
            keywords=names,
        ),
        _password("password-element", rf"(?i)<[\w:.-]{{0,40}}{_NAME}>([^<>\s]{{4,100}})</", keywords=names),
        _password(
            "password-sql",
            rf"(?i)identified[ \t]+by[ \t]+(?:{_QUOTED})",
            gate=r"(?i)identified[ \t]+by[ \t]+\\?[\"'\x60]",
            keywords=(b"identified",),
        ),
        _password(
            "password-option",
            rf"(?i)--{_NAME}[= ]([^\s\"'\x60$<>{{}}()|;&,]{{4,100}})",
            keywords=names,
            judge=is_unquoted_password,
        ),
        _password(
            "password-environment",
            rf"(?m){line_start}(?:export[ \t]+|ENV[ \t]+)?[A-Z0-9_]{{0,60}}(?:PASSWORD|PASSWD|PWD)[0-9]{{0,2}}"
            rf"=({more}{{4,100}})[ \t]*\r?$",
            gate=rf"(?:PASSWORD|PASSWD|PWD)[0-9]{{0,2}}={more}{{4}}",
            keywords=names,
        ),
        _password(
            "password-setting",
            rf"(?im){line_start}[\"']?[\w.-]{{0,60}}?{_NAME}[0-9]{{0,2}}[\"']?[ \t]*[=:][ \t]*"
            rf"({first}{more}{{5,99}})[ \t]*\r?$",
            gate=rf"(?im){_NAME}[0-9]{{0,2}}[\"']?[ \t]*[=:][ \t]*{first}{more}{{5}}{more}*[ \t]*\r?$",
            keywords=names,
            judge=is_unquoted_password,
        ),
        _password(
            "password-in-url",
            r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'\x60<>{}$%]{0,64}:([^\s/@\"'\x60<>]{3,128})@[\w\[]",
            gate=r"(?i)[a-z0-9+.-]://[^\s:/@\"'\x60<>{}$%]*:[^\s/@\"'\x60<>]+@[\w\[]",
            keywords=(b"://",),
            judge=is_url_password,
        ),
    )


def _password(
    name: str, pattern: str, *, keywords: tuple[bytes, ...], gate: str = "", judge: Judge | None = None
) -> Rule:
    return Rule(
        name=name,
        kind=PASSWORD,
        rank=A_PASSWORD,
        pattern=pattern,
        gate=gate,
        keywords=keywords,
        judge=judge or is_password,
    )


def _header_rules() -> tuple[Rule, ...]:
    header = r"(?i)\bauthorization\\?[\"'\x60]?\]?[ \t]{0,4}(?::|=>?|,)[ \t]{0,4}[a-z]?\\?[\"'\x60]?"
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


def _address_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            name="email",
            kind=EMAIL,
            rank=AN_EMAIL,
            pattern=r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}\b",
            gate=r"[A-Za-z0-9._+-]@[A-Za-z0-9]",
            reach=64 + len("@") + 6 * (63 + len(".")) + 24,
            keywords=(b"@",),
            judge=is_email,
        ),
        Rule(
            name="ipv4",
            kind=IP_ADDRESS,
            rank=AN_IP_ADDRESS,
            pattern=r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b",
            gate=r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
            reach=len("255.255.255.255"),
            judge=is_ip_address,
        ),
        Rule(  # global unicast is 2000::/3: what begins otherwise is local to somebody, and `std::add` is no address
            name="ipv6",
            kind=IP_ADDRESS,
            rank=AN_IP_ADDRESS,
            pattern=r"(?i)\b[23][0-9a-f]{3}:[0-9a-f:]{1,33}[0-9a-f]|\b[23][0-9a-f]{3}:[0-9a-f:]{0,33}::",
            gate=r"(?i)[23][0-9a-f]{3}:[0-9a-f:]",
            reach=len("2001:") + 33 + len("::"),
            keywords=(b":",),
            judge=is_ip_address,
        ),
    )


def is_password(data: bytes, start: int, end: int) -> bool:
    """Whether a value that is called a password looks like one, and not like a placeholder, label or code."""
    value = data[start:end]
    if re.search(rb"\s", value) or _PLACEHOLDER_WORDS.search(value) or _TEMPLATE.search(value):
        return False
    if _WORDS.fullmatch(value) or len(set(value)) < 3:
        return False
    return not value.isdigit() or len(value) >= 6


def is_unquoted_password(data: bytes, start: int, end: int) -> bool:
    """The same where nothing tells a value from an expression: a name, also one with a number, is none."""
    value = data[start:end]
    return (
        is_password(data, start, end)
        and not _NAME_WITH_NUMBER.fullmatch(value)
        and bool(re.search(rb"\d", value) and re.search(rb"[A-Za-z]", value))
        and entropy(value) >= _LEAST_STRENGTH
    )


def is_url_password(data: bytes, start: int, end: int) -> bool:
    """The password of `scheme://user:password@host`: letters alone count here, the user's own name does not."""
    value = data[start:end]
    user = data[data.rfind(b"/", 0, start) + 1 : start - 1]
    if value.lower() in (b"pass", b"secret", b"pw", b"admin", b"root", b"guest", b"port", b"bar", b"baz", user.lower()):
        return False
    return not (_PLACEHOLDER_WORDS.search(value) or _TEMPLATE.search(value) or len(set(value)) < 3)


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


def is_email(data: bytes, start: int, end: int) -> bool:
    """Whether the address can be somebody's, and is no user of a URL, template or operator of a program."""
    local_part, _, domain = data[start:end].partition(b"@")
    if data[start - 1 : start] in (b"%", b"}", b"$", b"{", b"/", b"@") or data[end : end + 1] in (b"(", b"[", b"="):
        return False
    top = domain.rsplit(b".", 1)[1]
    if top.lower() not in _TOP_LEVEL or not (top.islower() or top.isupper()):
        return False
    if local_part in _NOBODYS_LOCAL_PARTS or _is_nobodys(domain.lower()) or _in_url_user(data, start):
        return False
    return not local_part.endswith(b".") and b".." not in local_part


def _is_nobodys(domain: bytes) -> bool:
    return (b"." + domain).endswith(_NOBODYS_DOMAINS)


def _in_url_user(data: bytes, start: int) -> bool:
    """`scheme://name:` before it: the address is a part of a URL."""
    before = data[max(0, start - 100) : start]
    scheme = before.rfind(b"://")
    return scheme >= 0 and not re.search(rb"[\s/\"'<>]", before[scheme + 3 :])


def is_ip_address(data: bytes, start: int, end: int) -> bool:
    """Whether a valid, public address stands here, and no version or section number."""
    if _is_part_of_more(data, start, end):
        return False
    value = data[start:end]
    if not _is_public(value):
        return False
    if b":" in value:
        return True
    before = data[max(data.rfind(b"\n", 0, start) + 1, start - _AROUND) : start]
    if _NUMBERED.search(before):
        return False
    return max(map(len, value.split(b"."))) > 1 or bool(_ADDRESSED.search(before))


@lru_cache(maxsize=4096)
def _is_public(value: bytes) -> bool:
    """An address somewhere, and no resolver. A file has the same few again and again."""
    try:
        address = ipaddress.ip_address(value.decode())
    except ValueError:
        return False
    return address.is_global and not address.is_multicast and value.lower() not in _KNOWN_ADDRESSES


def _is_part_of_more(data: bytes, start: int, end: int) -> bool:
    """A dotted number with more parts, a name with a number at its end, a hash with colons."""
    before, after = data[max(0, start - 1) : start], data[end : end + 2]
    joined = before in (b".", b"-", b":") and data[max(0, start - 2) : start] not in (b"::", b" :", b": ")
    if joined and (before != b":" or b":" in data[start:end]):
        return True
    if after[:1] in (b"-", b"_") or (after[:1] == b":" and b":" in data[start:end]):
        return after[1:2].isalnum() or after[:1] == b":"
    return after[:1] == b"." and after[1:2].isalnum()
