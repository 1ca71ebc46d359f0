"""The rules that gitleaks has not, but for passwords: e-mail and IP addresses, and keys by their name or their form.

A pattern finds the place, a judge looks at the value and around it. What is left alone on purpose: addresses that
nobody owns (example.com, private and documentation networks), the `git@` of clone URLs, version and section numbers,
and keys that read like words.
"""

import ipaddress
import re
from functools import cache, lru_cache
from typing import Any

from starsmith.corpus.passwords import ASSIGNED, ENDS, QUOTE, attribute, defined, element, password_rules
from starsmith.corpus.secrets import (
    AN_EMAIL,
    AN_IP_ADDRESS,
    EMAIL,
    GENERIC_KEY,
    IP_ADDRESS,
    KEY,
    KNOWN_KEY,
    Allowed,
    Rule,
    entropy,
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
    rb"chapter|clause|appendix|annex|figure|\btable\b|stable\b|\boid\b|\bes\d|"
    rb"ecma|\brfc|\biso\b|build|assembly|upgrade|\bsince\b|firmware|\bpatch|\b(?:as of|(?:fixed|introduced|added|"
    rb"deprecated|removed|new|available) in)\b|[=<>~^]=[ \t]*[\"']?$|\xc2\xa7"
)
# The arcs of object identifiers (X.500 attributes and extensions, the internet's, ISO's) that addresses look like.
_OBJECT_IDENTIFIER = re.compile(rb"2\.5\.(?:4|29|6|8)\.|1\.3\.(?:6|14|101|132)\.|2\.16\.|2\.23\.|0\.9\.")
_ADDRESSED = re.compile(rb"(?i)dns|server|host|addr|\bip|resolver|gateway|peer|remote|client|proxy|route|ping")
_AROUND = 60  # bytes before an address in which such a word counts

# Keys that begin, or follow, something of their own, in the form that their service documents.
_PREFIXED = (
    r"GOCSPX-[\w-]{28}",  # Google's OAuth clients
    r"ya29\.[\w-]{30,500}",  # Google's access tokens
    r"AAAA[\w-]{7}:APA91b[\w-]{100,200}",  # Firebase's server keys
    r"whsec_[A-Za-z0-9+/]{24,64}={0,2}",  # Stripe's and Svix's webhooks
    r"dckr_[op]at_[\w-]{20,40}",
    r"sk-or-v1-[a-f0-9]{64}",  # OpenRouter
    r"gsk_[A-Za-z0-9]{52}",  # Groq
    r"xai-[A-Za-z0-9]{80}",
    r"nvapi-[\w-]{60,70}",
    r"figd_[\w-]{40}",  # Figma
    r"sbp_[a-f0-9]{40}",  # Supabase
    r"AccountKey=[A-Za-z0-9+/]{86}==",  # Azure's storage
    r"SharedAccessKey=[A-Za-z0-9+/]{43}=",
    r"SSWS[ \t]{1,4}[\w=-]{40,100}",  # Okta, in a header
    r"api/webhooks/[0-9]{17,20}/[\w-]{60,80}",  # Discord
)
_PREFIXES = (
    *(b"gocspx-", b"ya29.", b":apa91b", b"whsec_", b"dckr_", b"sk-or-v1-", b"gsk_", b"xai-", b"nvapi-", b"figd_"),
    *(b"sbp_", b"accountkey=", b"sharedaccesskey=", b"ssws", b"api/webhooks/"),
)
# Names of keys, and not of those that look things up: no `primary_key`, no `cache_key`.
_KEY_NAME = (
    r"(?:secret|api|app|private|encryption|signing|hmac|jwt|session|cookie|master|storage|account|auth|access|client|"
    r"consumer|webhook|shared)[_.-]?(?:key|secret|token|salt)"
)
_KEY_SUFFIX = r"(?:[_-](?:base|base64|hex|s3|prod|production|dev|staging|live|main|primary|secondary|v?[0-9]{1,2}))?"
_KEY_QUOTED = "|".join(rf"\\?{quote}([^\\\s{quote}]{{16,200}})\\?{quote}" for quote in ('"', "'", r"\x60"))
# The first bytes of every value that `named-key` takes, as far after the sign as it takes them.
_KEY_AFTER = re.compile(rb"[ \t]{0,4}[\w+/=.-]{24}|[^\r\n]{0,60}?(?:\"[^\\\s\"]{16}|'[^\\\s']{16}|\x60[^\\\s\x60]{16})")
_NO_KEY = re.compile(
    rb"(?i)key|token|secret|your|example|sample|dummy|test|fake|change|placeholder|xxx|<[\w -]*>|[$#%]?\{|\$\(|://|0123|1234|"
    rb"abcd|^[./~@]"
)
_INSECURE = b"django-insecure-"  # what Django puts before a key that it made
_LEAST_KEY = 3.0  # bits a character; 32 hexadecimal digits of noise have 3.6, and hardly ever so few
_CHANGES = re.compile(rb"[a-z](?![a-z])|[A-Z](?![A-Z])|[0-9](?![0-9])|[^a-zA-Z0-9](?=[a-zA-Z0-9])")
_LEAST_CHANGE = 0.25  # of the characters have one of another class after them; in words fewer
_LEAST_CHANGE_OF_NAMES = 0.45  # where there is but one number: ThisIsANameOfVersion2
_NUMBERS = re.compile(rb"[0-9]+")
_WORD = r"(?:[A-Za-z]+[0-9]{0,3}|[0-9]{1,8}|[0-9]+T[0-9]+Z?)"
_NAMES = re.compile(rf"{_WORD}(?:[._:/+-]+{_WORD})+".encode())
_HEXADECIMAL = re.compile(rb"[0-9a-fA-F]+")
_SHORTEST_HEXADECIMAL = 32  # a shorter one is a number or a short hash
_SENTENCE = 4.75  # bits a character, which no text of words has
_EMULATORS = "eby8vdm02xnocqflquwjpllmetlcdxj1ouzft50usrz6ifsufq2uvercz4i6tq"  # Azure's emulator: the same for all


@cache
def own_rules() -> tuple[Rule, ...]:
    """Every rule that is not of gitleaks."""
    return (*password_rules(), *_key_rules(), *_address_rules())


def _key_rules() -> tuple[Rule, ...]:
    return (*_keys_by_form(), *_keys_by_name())


def _keys_by_form() -> tuple[Rule, ...]:
    prefixed = "|".join(_PREFIXED)
    return (
        _key(
            "prefixed-key",
            rf"\b(?:{prefixed})",
            gate=prefixed,
            reach=512,
            entropy=3.0,
            allowed=(Allowed(patterns=(), stopwords=(_EMULATORS,), target="secret"),),
            keywords=_PREFIXES,
        ),
        _key(
            "discord-bot-token",
            r"\b[MNO][DTjz][\w-]{22,26}\.[\w-]{6}\.[\w-]{27,40}\b",
            gate=r"(?i)discord|\.(?:login|run)\([ \t]*[\"'][MNO]",  # in the file: the token has no literal to look for
            keywords=(b"discord", b".login(", b".run("),
            judge=is_mixed,
        ),
        _key(
            "telegram-bot-token",
            r"(?:\b|bot)([0-9]{8,10}:AA[\w-]{33})\b",
            gate=r"[0-9]:AA[\w-]{33}",
            reach=52,
            keywords=(b":aa",),
            judge=is_mixed,
        ),
    )


def _keys_by_name() -> tuple[Rule, ...]:
    name, word = rf"{_KEY_NAME}{_KEY_SUFFIX}", r"(?:key|secret|token)\w{0,8}"
    pair, constant = rf"[\w.:-]{{0,60}}{word}", r"(?:key|salt|secret|token)"
    return (
        _key(
            "named-key",
            rf"(?im){name}{ENDS}(?:{ASSIGNED}(?:{_KEY_QUOTED})|[=:][ \t]{{0,4}}([\w+/=.-]{{24,200}})[ \t]*\r?$)",
            gate=rf"(?i){name}{ENDS}[:=]",
            reach=128,
            hint=can_be_named_key,
            keywords=(b"key", b"secret", b"token", b"salt"),
            rank=GENERIC_KEY,
            judge=is_key,
        ),
        _key(
            "laravel-key",
            r"(?i)key[\"']?[ \t]{0,4}(?:=>?|:|,)[ \t]{0,4}[\"']?base64:([a-z0-9+/]{43}=|[a-z0-9+/]{22}==)",
            gate=r"(?i)key[\"']?[ \t]{0,4}(?:=>?|:|,)[ \t]{0,4}[\"']?base64:[a-z0-9+/]{22}",
            reach=100,
            entropy=3.5,
            keywords=(b"base64:",),
        ),
        _key(
            "defined-key",
            *defined(rf"\w{{0,40}}{constant}", r"'([^'\r\n]{16,200})'|\"([^\"\r\n]{16,200})\"", constant),
            keywords=(b"define(",),
            rank=GENERIC_KEY,
            judge=is_key,
        ),
        _key(
            "key-attribute",
            *attribute(pair, rf"{QUOTE}([^\s\"'\x60<>\\]{{16,200}}){QUOTE}", word),
            keywords=(b"value=",),
            rank=GENERIC_KEY,
            judge=is_key,
        ),
        _key(
            "key-element",
            *element(pair, r"[^\s<>]{16,200}", word),
            keywords=(b"<string",),
            rank=GENERIC_KEY,
            judge=is_key,
        ),
        _key(
            "session-cookie",
            r"(?i)\bcookie\\?[\"']?:[ \t]{0,4}\\?[\"']?(?:[^\r\n]{0,400};[ \t]*)?"
            r"[\w.-]{0,40}(?:sess|sid|auth|token)[\w.-]{0,20}=([\w%.+/=-]{20,500})",
            gate=r"(?i)cookie\\?[\"']?:[ \t]*\\?[\"']?[^\r\n]*(?:sess|sid|auth|token)[\w.-]{0,20}=[\w%.+/=-]{20}",
            keywords=(b"cookie",),
            rank=GENERIC_KEY,
            judge=is_key,
        ),
    )


def _key(name: str, pattern: str, gate: str, *, rank: int = KNOWN_KEY, **fields: Any) -> Rule:
    return Rule(name=name, kind=KEY, rank=rank, pattern=pattern, gate=gate, **fields)


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


def is_mixed(data: bytes, start: int, end: int) -> bool:
    """Has digits, small and large letters, as noise in base64 does and names do not."""
    value = data[start:end]
    return all(re.search(kind, value) for kind in (rb"\d", rb"[a-z]", rb"[A-Z]")) and entropy(value) >= 4


def can_be_named_key(data: bytes, end: int) -> bool:
    """Whether a value of 16 characters follows soon after a name and its sign."""
    return _KEY_AFTER.match(data, end) is not None


def is_key(data: bytes, start: int, end: int) -> bool:
    """Whether a value that is called a key is noise, and no name, label, placeholder or text."""
    value = data[start:end].removeprefix(_INSECURE)
    if _NO_KEY.search(value) or not re.search(rb"\d", value) or entropy(value) < _LEAST_KEY:
        return False
    if re.search(rb"\s", value):
        return entropy(value) >= _SENTENCE
    if _NAMES.fullmatch(value) or (_HEXADECIMAL.fullmatch(value) and len(value) < _SHORTEST_HEXADECIMAL):
        return False
    least = _LEAST_CHANGE if len(_NUMBERS.findall(value)) > 1 else _LEAST_CHANGE_OF_NAMES
    return len(_CHANGES.findall(value)) >= least * len(value)


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
    if _NUMBERED.search(before) or (_OBJECT_IDENTIFIER.match(value) and not _ADDRESSED.search(before)):
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
