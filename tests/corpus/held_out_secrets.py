r"""A labelled set by one who had seen no rule: the search for secrets was measured by it once, and mended by it since.

Snippets stand in tables, parted by lines of three tildes. In them ⟦...⟧ is what must go and ⟨...⟩ is made up as well
but harmless; inside both, {a24} stands for 24 random letters and digits, {pass} for a password, and so on, and | for
nothing: it keeps the well-known prefixes of keys apart. No secret stands here; all of them are made at run time.
"""

import base64
import json
import random
import re
import string
import uuid
from collections.abc import Iterator

from corpus.held_out_negatives import NEGATIVES
from corpus.labelled_secrets import Labelled

_SEED = 20_211
_BRACKETS = re.compile(r"[⟦⟨](.*?)[⟧⟩]")
_MADE_UP = re.compile(r"\{([a-zA-Z]+)(\d*)(?::([^}]*))?\}")
_ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "A": string.ascii_uppercase + string.digits,
    "T": string.ascii_uppercase + "234567",
    "b": string.ascii_letters + string.digits + "+/",
    "c": string.ascii_lowercase,
    "d": string.digits,
    "h": "0123456789abcdef",
    "H": "0123456789ABCDEF",
    "l": string.ascii_lowercase + string.digits,
    "L": string.ascii_letters,
    "s": string.ascii_letters + string.digits + "!#%*-_=^+",
    "u": string.ascii_letters + string.digits + "-_",
    "B": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}
_WORDS, _FIRST, _LAST, _DOMAINS = map(
    str.split,
    (
        "amber badger cedar delta ember falcon garnet harbor indigo juniper kestrel lagoon maple nickel",
        "anna bjorn carla dmitri elena farid greta hiro ines jonas katya luca marta nils olga pavel",
        "albrecht bianchi costa dvorak eriksen fontaine garcia horvat ivanov jansen kowalski lindqvist moreau",
        "gmail.com outlook.com posteo.de nordkraft-systems.com lumiere-soft.fr tanaka-works.co.jp kth.se",
    ),
)
_FIRST_OCTETS = (5, 18, 23, 34, 46, 52, 62, 77, 81, 88, 91, 104, 138, 144, 159, 178, 185, 195, 209, 217)
_V6 = ("2a01:4f8", "2a02:c207", "2600:1f18", "2607:f8b0", "2001:41d0", "2a03:b0c0")
_PEM_STARTS = {
    "RSA PRIVATE KEY": "MIIEpAIBAAKCAQEA",
    "PRIVATE KEY": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "ENCRYPTED PRIVATE KEY": "MIIFHDBOBgkqhkiG9w0BBQ0w",
    "DSA PRIVATE KEY": "MIIBuwIBAAKBgQ",
    "OPENSSH PRIVATE KEY": "b3BlbnNzaC1rZXktdjEAAAAA",
}


def held_out_set() -> list[Labelled]:
    """Always the same list."""
    rng = random.Random(_SEED)
    tables = {**POSITIVES, **NEGATIVES}
    return [_labelled(f"held-out: {group}", text, rng) for group in tables for text in _snippets(tables[group])]


def _snippets(table: str) -> Iterator[str]:
    """The snippets of a table, each with one line end at its end."""
    for text in re.split(r"^~~~\n", table.lstrip("\n"), flags=re.MULTILINE):
        yield text.rstrip("\n") + "\n"


def _labelled(group: str, text: str, rng: random.Random) -> Labelled:
    """A snippet with all that is to be made up in it, and the value that must go."""
    values = []

    def fill(found: re.Match[str]) -> str:
        made = _MADE_UP.sub(lambda one: _make(one, rng), found[1].replace("|", ""))
        if found[0].startswith("⟦"):
            values.append(made)
        return made

    filled = _BRACKETS.sub(fill, text)
    return Labelled(group, filled, values[0] if values else None)


def _make(found: re.Match[str], rng: random.Random) -> str:
    """What one {...} stands for."""
    name, count, rest = found[1], int(found[2] or 0), found[3]
    if name in _ALPHABETS:
        return "".join(rng.choices(_ALPHABETS[name], k=count))
    if name == "pem":
        return _pem(rest, count, rng)
    return _word(name, rng)


def _word(name: str, rng: random.Random) -> str:
    """What a {...} with a name of several letters stands for."""
    match name:
        case "pass":
            return _password(rng)
        case "basic":
            return base64.b64encode(f"deploy:{_password(rng)}".encode()).decode()
        case "encoded":
            return base64.b64encode("".join(rng.choices(_ALPHABETS["a"], k=40)).encode()).decode()
        case "weak":
            return f"{rng.choice(_WORDS)}{rng.randint(10, 9999)}"
        case "mail":
            return f"{rng.choice(_FIRST)}.{rng.choice(_LAST)}@{rng.choice(_DOMAINS)}"
        case "nick":
            return f"{rng.choice(_FIRST)}{rng.choice(_LAST)[0]}{rng.randint(70, 99)}@{rng.choice(_DOMAINS)}"
        case "ip":
            return ".".join(map(str, (rng.choice(_FIRST_OCTETS), *(rng.randint(2, 253) for _ in range(3)))))
        case "ipv":
            return f"{rng.choice(_V6)}:" + ":".join(f"{rng.randint(0x100, 0xFFFF):x}" for _ in range(6))
        case "ipshort":
            return f"{rng.choice(_V6)}:" + ":".join(f"{rng.randint(0x100, 0xFFFF):x}" for _ in range(2)) + "::1"
        case "uuid":
            return str(uuid.UUID(int=rng.getrandbits(128), version=4))
        case "jwt":
            return _jwt(rng)
    raise ValueError(name)


def _password(rng: random.Random) -> str:
    """A password as people choose them: words, a number and a sign."""
    first, second = rng.sample(_WORDS, 2)
    return f"{first.title()}{rng.choice(['', '-', '_'])}{second.title()}{rng.randint(10, 9999)}{rng.choice('!!$*')}"


def _jwt(rng: random.Random) -> str:
    """A signed web token with a subject and times."""
    issued = rng.randint(1_600_000_000, 1_700_000_000)
    payload = {"sub": str(rng.randint(1000, 99999)), "role": "admin", "iat": issued, "exp": issued + 86_400}
    parts = [json.dumps(part, separators=(",", ":")) for part in ({"alg": "HS256", "typ": "JWT"}, payload)]
    encoded = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "".join(rng.choices(_ALPHABETS["u"], k=43))])


def _pem(rest: str, lines: int, rng: random.Random) -> str:
    """A PEM block; what joins its lines comes after its name, with N for a line end and E for backslash and n."""
    label, _, join = rest.partition(":")
    start = _PEM_STARTS.get(label, "MHcCAQEEI")
    body = start + "".join(rng.choices(_ALPHABETS["b"], k=64 * lines - 22 - len(start))) + "=="
    rows = [body[at : at + 64] for at in range(0, len(body), 64)]
    joiner = join.replace("N", "\n").replace("E", "\\n") or "\n"
    return joiner.join([f"{'-' * 5}BEGIN {label}{'-' * 5}", *rows, f"{'-' * 5}END {label}{'-' * 5}"])


POSITIVES = {
    "keys of known services": r"""
import boto3

s3 = boto3.client(
    "s3",
    region_name="eu-central-1",
    aws_access_key_id="⟦AK|IA{T16}⟧",
    aws_secret_access_key=os.environ["AWS_SECRET"],
)
~~~
[default]
region = us-west-2
aws_secret_access_key = ⟦{b40}⟧
~~~
provider "aws" {
  region     = var.region
  access_key = "⟦AK|IA{T16}⟧"
  secret_key = var.secret_key
}
~~~
git clone https://⟦gh|p_{a36}⟧@github.com/acme/infra.git /opt/infra
~~~
name: release
on: [push]
jobs:
  publish:
    runs-on: ubuntu-latest
    env:
      GITHUB_TOKEN: ⟦git|hub_pat_{A22}_{a59}⟧
    steps:
      - uses: actions/checkout@v4
~~~
curl --header "PRIVATE-TOKEN: ⟦gl|pat-{u20}⟧" "https://gitlab.com/api/v4/projects/$ID/pipelines"
~~~
const { WebClient } = require('@slack/web-api');

const web = new WebClient('⟦xo|xb-{d12}-{d12}-{a24}⟧');
web.chat.postMessage({ channel: '#ops', text: 'deployed' });
~~~
alertmanager:
  receivers:
    - name: team
      slack_configs:
        - api_url: https://hooks.sl⟨|⟩ack.com/services/⟦T{A8}/B{A10}/{a24}⟧
~~~
<?php
require 'vendor/autoload.php';
\Stripe\Stripe::setApiKey('⟦sk|_live_{a24}⟧');
$charge = \Stripe\Charge::create(['amount' => 999, 'currency' => 'eur', 'source' => $token]);
~~~
Stripe.api_key = "⟦rk|_live_{a99}⟧"
~~~
<script async src="https://maps.googleapis.com/maps/api/js?key=⟦AI|zaSy{u33}⟧&callback=initMap"></script>
~~~
{"web": {"project_id": "shop-prod", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
  "client_secret": "⟦GOC|SPX-{u28}⟧", "redirect_uris": ["http://localhost:8080"]}}
~~~
spring.mail.host=smtp.sendgrid.net
spring.mail.username=apikey
spring.mail.password=⟦S|G.{u22}.{u43}⟧
~~~
from twilio.rest import Client

account_sid = os.environ["TWILIO_SID"]
auth_token = "⟦{h32}⟧"
client = Client(account_sid, auth_token)
~~~
mailgun = { "api_key" => "⟦ke|y-{h32}⟧", "domain" => "mg.acme.io" }
~~~
MAILCHIMP_API_KEY=⟦{h32}-us14⟧
MAILCHIMP_LIST=newsletter
~~~
{
 "cells": [
  {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 3,
   "source": ["import openai\n", "openai.api_key = \"⟦s|k-{a20}T3Blb|kFJ{a20}⟧\"\n"]}
 ]
}
~~~
export OPENAI_API_KEY="⟦s|k-proj-{u74}T3Blb|kFJ{u74}⟧"
~~~
client = anthropic.Anthropic(api_key="⟦sk|-ant-api03-{u93}AA⟧")
message = client.messages.create(model=MODEL, max_tokens=1024, messages=history)
~~~
from huggingface_hub import login

login(token="⟦h|f_{L34}⟧")
~~~
//registry.example.com/:_authToken=⟦np|m_{a36}⟧
save-exact=true
~~~
[distutils]
index-servers = pypi

[pypi]
username = __token__
password = ⟦py|pi-AgEIcHlwaS5vcmc{u150}⟧
~~~
doctl auth init -t ⟦do|p_v1_{h64}⟧
~~~
{
  "name": "review-app",
  "env": { "HEROKU_API_KEY": "⟦{uuid}⟧", "HEROKU_APP": "acme-stage" }
}
~~~
client.on('ready', () => console.log('up'));
client.login('⟦MT{a22}.G{a5}.{u38}⟧');
~~~
WEBHOOK = "https://discord.com/api/webhooks/⟨9{d17}⟩/⟦{u68}⟧"
requests.post(WEBHOOK, json={"content": "backup finished"})
~~~
func main() {
	bot, err := tgbotapi.NewBotAPI("⟦5{d9}:AA{u33}⟧")
	if err != nil {
		log.Panic(err)
	}
	bot.Debug = true
}
~~~
let shop = Shopify::new("acme.myshopify.com", "⟦shp|at_{h32}⟧")?;
~~~
let accessToken = "⟦sq|0atp-{u22}⟧"
SQIPCore.configure(token: accessToken)
~~~
"ConnectionStrings": {
  "Blob": "DefaultEndpointsProtocol=https;AccountName=acmeprod;AccountKey=⟦{b85}Q==⟧;EndpointSuffix=core.windows.net"
}
~~~
provider "azuread" {
  client_id     = var.client_id
  client_secret = "⟦{a3}8Q~{u34}⟧"
}
~~~
services:
  agent:
    image: gcr.io/datadoghq/agent:7
    environment:
      - DD_API_KEY=⟦{h32}⟧
      - DD_SITE=datadoghq.eu
~~~
curl -X POST https://api.newrelic.com/graphql -H 'API-Key: ⟦NR|AK-{A27}⟧' -d @query.json
~~~
cloudflare_api_token: "⟦{u40}⟧"
cloudflare_zone: acme.io
~~~
vault login ⟦hv|s.CAESI{u90}⟧
~~~
credentials "app.terraform.io" {
  token = "⟦{a14}.atlas|v1.{u67}⟧"
}
~~~
echo ⟦dck|r_pat_{u27}⟧ | docker login -u acmeci --password-stdin
~~~
GrafanaApi grafana = new GrafanaApi("https://grafana.acme.io", "⟦gl|sa_{a32}_{h8}⟧");
~~~
base = Api("⟦pa|t{a14}.{h64}⟧").table(BASE_ID, "Leads")
~~~
fetch(url, { headers: { "X-Figma-Token": "⟦fi|gd_{u40}⟧" } })
~~~
newman run https://api.getpostman.com/collections/17?apikey=⟦PM|AK-{h24}-{h34}⟧
~~~
spark.conf.set("spark.databricks.service.token", "⟦da|pi{h32}⟧")
~~~
:rubygems_api_key: ⟦ruby|gems_{h48}⟧
~~~
const notion = new Client({ auth: "⟦nt|n_{d11}{a35}⟧" });
~~~
Authorization: SSWS ⟦00{u40}⟧
Accept: application/json
Host: acme.okta.com
~~~
val linear = LinearClient("⟦lin|_api_{a40}⟧")
~~~
fcm_server_key: "⟦AA|AA{u7}:APA91b{u134}⟧"
~~~
library(replicate)
Sys.setenv(REPLICATE_API_TOKEN = "⟦r|8_{a37}⟧")
""",
    "generic keys and tokens": r"""
# Django settings for the shop
DEBUG = False
SECRET_KEY = "⟦{s50}⟧"
ALLOWED_HOSTS = ["shop.acme.io"]
~~~
app.use(session({
  secret: '⟦{a32}⟧',
  resave: false,
  saveUninitialized: true,
}));
~~~
production:
  secret_key_base: ⟦{h128}⟧
~~~
APP_ENV=production
APP_KEY=base64:⟦{b42}k=⟧
APP_DEBUG=false
~~~
curl -H "Authorization: Bearer ⟦{jwt}⟧" https://api.acme.io/v2/orders
~~~
final String token = "⟦{jwt}⟧";
HttpRequest request = HttpRequest.newBuilder(uri).header("Authorization", "Bearer " + token).build();
~~~
GET /v1/accounts HTTP/1.1
Host: api.fintrust.io
Authorization: Bearer ⟦{u48}⟧
~~~
headers = {"Authorization": "Basic ⟦{basic}⟧", "Accept": "application/json"}
~~~
proxy_set_header Authorization "Basic ⟦{basic}⟧";
proxy_pass http://jenkins:8080;
~~~
define('AUTH_KEY',         '⟦{s64}⟧');
define('WP_DEBUG',         false);
~~~
apiVersion: v1
kind: Secret
metadata:
  name: gateway
type: Opaque
stringData:
  api-token: ⟦{a40}⟧
~~~
apiVersion: v1
kind: Secret
metadata:
  name: payment
data:
  CLIENT_SECRET: ⟦{encoded}⟧
~~~
"Jwt": {
  "Issuer": "https://id.acme.io",
  "Key": "⟦{a44}⟧",
  "ExpireMinutes": 60
}
~~~
const weatherApiKey = "⟦{h32}⟧";
const url = `https://api.openweathermap.org/data/2.5/weather?q=${city}&appid=${weatherApiKey}`;
~~~
r = requests.get("https://newsapi.org/v2/top-headlines?country=de&apiKey=⟦{h32}⟧")
~~~
<key>AnalyticsToken</key>
<string>⟦{h32}⟧</string>
~~~
private const string ClientSecret = "⟦{u42}⟧";
private const string Scope = "openid profile";
~~~
oauth:
  consumer_key: ${CONSUMER_KEY}
  consumer_secret: ⟦{a50}⟧
~~~
let api_secret = "⟦{a36}⟧".to_string();
let client = Exchange::new(env::var("KEY")?, api_secret);
~~~
ENV RAILS_ENV=production \
    SIDEKIQ_TOKEN=⟦{h40}⟧
~~~
<add key="EncryptionKey" value="⟦{b42}0=⟧" />
~~~
variable "webhook_signing_secret" {
  type    = string
  default = "⟦wh|sec_{a32}⟧"
}
~~~
String apiKey = "⟦{A20}⟧"; // TODO: move to the vault
~~~
hmac_key: "⟦{h64}⟧"
algorithm: sha256
~~~
before_script:
  - export SONAR_TOKEN=⟦sq|p_{h40}⟧
  - mvn -B verify sonar:sonar
~~~
# Usage

Send the key in a header: `X-Api-Key: ⟦{a40}⟧`
~~~
INSERT INTO settings (name, value) VALUES ('sms_api_token', '⟦{h40}⟧');
~~~
local ACCESS_TOKEN = "⟦{u43}⟧"
local res = http.request("https://api.lights.io/state?dim=20")
~~~
$config['encryption_key'] = '⟦{a32}⟧';
~~~
Set-Cookie: sessionid=⟦{l32}⟧; HttpOnly; Path=/; SameSite=Lax
""",
    "passwords": r"""
db = MySQLdb.connect(host="localhost", user="root", passwd="⟦{weak}⟧", db="shop")
~~~
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "USER": "shop",
        "PASSWORD": "⟦{pass}⟧",
        "HOST": "db",
    }
}
~~~
DATABASE_URL=postgres://shop:⟦{a16}⟧@db.internal:5432/shop
~~~
mongoose.connect('mongodb+srv://admin:⟦{a18}⟧@cluster0.ab1cd.mongodb.net/prod?retryWrites=true');
~~~
spring.datasource.url=jdbc:mysql://db:3306/shop
spring.datasource.username=shop
spring.datasource.password=⟦{pass}⟧
~~~
"DefaultConnection": "Server=sql01;Database=Crm;User Id=sa;Password=⟦{pass}⟧;TrustServerCertificate=True"
~~~
var conn = new SqlConnection("Data Source=sql01;Initial Catalog=Hr;uid=hr;pwd=⟦{pass}⟧");
~~~
define( 'DB_NAME', 'wordpress' );
define( 'DB_USER', 'wp' );
define( 'DB_PASSWORD', '⟦{pass}⟧' );
define( 'DB_HOST', 'localhost' );
~~~
services:
  db:
    image: mysql:8
    environment:
      MYSQL_DATABASE: shop
      MYSQL_ROOT_PASSWORD: ⟦{pass}⟧
~~~
CREATE USER 'report'@'%' IDENTIFIED BY '⟦{weak}⟧';
GRANT SELECT ON shop.* TO 'report'@'%';
~~~
ALTER ROLE billing WITH LOGIN PASSWORD '⟦{a20}⟧';
~~~
[web]
web01 ansible_user=deploy ansible_ssh_pass=⟦{weak}⟧
~~~
- hosts: all
  vars:
    ansible_become_pass: "⟦{pass}⟧"
  tasks:
    - apt: name=nginx state=present
~~~
sshpass -p '⟦{pass}⟧' scp build.tar.gz deploy@10.0.0.7:/srv/app
~~~
mysqldump -u backup -p⟦{a14}⟧ shop | gzip > /var/backups/shop.sql.gz
~~~
curl -u admin:⟦{a16}⟧ -T app.war http://nexus.corp:8081/repository/releases/
~~~
broker_url = "amqp://celery:⟦{a16}⟧@rabbit:5672//"
~~~
REDIS_URL=redis://:⟦{a24}⟧@redis:6379/0
~~~
requirepass ⟦{a32}⟧
maxmemory 256mb
~~~
<server>
  <id>releases</id>
  <username>ci</username>
  <password>⟦{pass}⟧</password>
</server>
~~~
dsn := "host=db user=shop password=⟦{a16}⟧ dbname=shop port=5432 sslmode=disable"
db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{})
~~~
resource "aws_db_instance" "main" {
  engine   = "postgres"
  username = "master"
  password = "⟦{pass}⟧"
}
~~~
const transporter = nodemailer.createTransport({
  host: 'smtp.ionos.de',
  auth: { user: process.env.SMTP_USER, pass: '⟦{pass}⟧' },
});
~~~
server.login(os.environ["MAIL_USER"], "⟦{c4} {c4} {c4} {c4}⟧")  # app password of the account
~~~
network={
    ssid="Backoffice"
    psk="⟦{pass}⟧"
}
~~~
const char* ssid = "Workshop";
const char* wifi_password = "⟦{weak}⟧";
WiFi.begin(ssid, wifi_password);
~~~
production:
  adapter: mysql2
  username: rails
  password: "⟦{s18}⟧"
  socket: /tmp/mysql.sock
~~~
storePassword=⟦{a12}⟧
keyAlias=upload
storeFile=../upload.jks
~~~
machine ftp.acme.io login deploy password ⟦{a16}⟧
~~~
$cred = ConvertTo-SecureString "⟦{pass}⟧" -AsPlainText -Force
~~~
# Zugang zum Testsystem
benutzer = "admin"
passwort = "⟦{weak}⟧"
""",
    "private keys": r"""
⟦{pem20:RSA PRIVATE KEY}⟧
~~~
⟦{pem6:OPENSSH PRIVATE KEY}⟧
~~~
⟦{pem3:EC PRIVATE KEY}⟧
~~~
⟦{pem24:PRIVATE KEY}⟧
~~~
⟦{pem10:DSA PRIVATE KEY}⟧
~~~
⟦{pem24:ENCRYPTED PRIVATE KEY}⟧
~~~
{
  "type": "service_account",
  "project_id": "acme-prod",
  "private_key": "⟦{pem22:PRIVATE KEY:E}⟧\n",
  "token_uri": "https://oauth2.googleapis.com/token"
}
~~~
JWT_PRIVATE_KEY="⟦{pem14:RSA PRIVATE KEY:E}⟧\n"
JWT_ALGORITHM=RS256
~~~
apiVersion: v1
kind: Secret
stringData:
  tls.key: |
    ⟦{pem16:RSA PRIVATE KEY:N    }⟧
~~~
private static final String KEY =
    "⟦{pem12:PRIVATE KEY:E" +N    "}⟧\n";
~~~
static const char client_key[] =
"⟦{pem8:RSA PRIVATE KEY:E"N"}⟧\n";
~~~
const key = [
  '⟦{pem4:EC PRIVATE KEY:',N  '}⟧',
].join('\n');
~~~
resource "tls_self_signed_cert" "ca" {
  private_key_pem = <<EOT
⟦{pem16:RSA PRIVATE KEY}⟧
EOT
}
~~~
# age key of the cluster
⟦AGE-SEC|RET-KEY-1{B58}⟧
~~~
[Interface]
Address = 10.8.0.2/24
PrivateKey = ⟦{b42}A=⟧
~~~
module.exports = {
  networks: {
    mainnet: { url: rpc, accounts: [{ privateKey: "⟦0x{h64}⟧" }] },
  },
};
""",
    "e-mail addresses": r"""
__author__ = "Ines Moreau"
__email__ = "⟦{mail}⟧"
__version__ = "1.4.2"
~~~
[project]
name = "tidepool"
authors = [{ name = "Jonas Lindqvist", email = "⟦{mail}⟧" }]
~~~
{
  "name": "left-shift",
  "version": "0.3.1",
  "author": "Marta Kowalski <⟦{mail}⟧> (https://kowalski.dev)",
  "license": "MIT"
}
~~~
/**
 * Parses the header of a tile.
 *
 * @author Pavel Horvat (⟦{mail}⟧)
 * @since 2.1
 */
public final class TileHeader {
~~~
Fix the race in the scheduler

The lock was taken after the queue was read.

Signed-off-by: Nils Eriksen <⟦{mail}⟧>
~~~
Co-authored-by: Luca Bianchi <⟦{nick}⟧>
~~~
Greta Jansen <⟦{mail}⟧> gjansen <greta@localhost>
~~~
Package: libtide
Type: Package
Author: Elena Ivanov
Maintainer: Elena Ivanov <⟦{mail}⟧>
~~~
tide (1.2-1) unstable; urgency=medium

  * New upstream release.

 -- Björn Eriksen <⟦{mail}⟧>  Tue, 04 Feb 2020 10:11:12 +0100
~~~
// 作者: 田中 宏 (⟦{mail}⟧)
// 用途: 画像の読み込み
package images
~~~
# Автор: Дмитрий Иванов, ⟦{nick}⟧
import sys
~~~
[package]
name = "tide"
authors = ["Carla Costa <⟦{mail}⟧>"]
edition = "2021"
~~~
Gem::Specification.new do |s|
  s.name  = "tide"
  s.email = ["⟦{mail}⟧"]
end
~~~
<developer>
  <id>hiro</id>
  <email>⟦{mail}⟧</email>
</developer>
~~~
%% Copyright (c) 2014 Farid Garcia <⟦{nick}⟧>
-module(tide).
~~~
MODULE_AUTHOR("Katya Dvorak <⟦{mail}⟧>");
MODULE_LICENSE("GPL");
~~~
ServerAdmin ⟦{mail}⟧
DocumentRoot /var/www/html
~~~
const recipients = ["⟦{mail}⟧"];
sendReport(recipients, report);
~~~
## Kontakt

Fragen bitte an [Olga Albrecht](mailto:⟦{mail}⟧).
~~~
INSERT INTO customers VALUES (17, 'Anna Fontaine', '⟦{nick}⟧', '2019-03-02');
~~~
id,name,mail,city
1,Luca Costa,⟦{nick}⟧,Torino
~~~
VERSION 5.00
' Rewritten by Nils Horvat 12/03/2004 -- questions to ⟦{nick}⟧
Option Explicit
~~~
git config --global user.email "⟦{mail}⟧"
~~~
2019-05-02  Anna Dvořák  <⟦{mail}⟧>

	* src/tide.c (tide_open): Vérifier le mode.
""",
    "public IP addresses": r"""
Host prod
    HostName ⟦{ip}⟧
    User deploy
    IdentityFile ~/.ssh/id_ed25519
~~~
127.0.0.1   localhost
⟦{ip}⟧   shop-prod
~~~
[web]
web01 ansible_host=⟦{ip}⟧ ansible_user=ubuntu
~~~
⟦{ip}⟧ - - [12/Mar/2021:06:25:14 +0000] "GET /login HTTP/1.1" 200 4523 "-" "Mozilla/5.0"
~~~
Oct  3 04:12:55 vps sshd[2211]: Failed password for root from ⟦{ip}⟧ port 42212 ssh2
~~~
upstream backend {
    server ⟦{ip}⟧:8080 weight=2;
    keepalive 16;
}
~~~
SERVER = "http://⟦{ip}⟧:5000/api"
requests.post(SERVER, json=payload)
~~~
private static final String BASE_URL = "http://⟦{ip}⟧/app/";
~~~
REMOTE_HOST=⟦{ip}⟧
REMOTE_PORT=22
~~~
scp -r dist/* root@⟦{ip}⟧:/var/www/html/
~~~
iptables -A INPUT -s ⟦{ip}⟧ -p tcp --dport 22 -j ACCEPT
~~~
ingress {
  from_port   = 22
  to_port     = 22
  protocol    = "tcp"
  cidr_blocks = ["⟦{ip}⟧/32"]
}
~~~
var client = new TcpClient("⟦{ip}⟧", 9000);
~~~
$mysqli = new mysqli('⟦{ip}⟧', $user, $password, 'shop');
~~~
shop.acme.io.   3600  IN  A  ⟦{ip}⟧
~~~
shop.acme.io.   3600  IN  AAAA  ⟦{ipshort}⟧
~~~
listen [⟦{ipv}⟧]:443 ssl http2;
~~~
Accepted publickey for deploy from ⟦{ipv}⟧ port 50222 ssh2
~~~
network:
  ethernets:
    eth0:
      addresses: ["⟦{ipshort}⟧/64"]
~~~
[Peer]
AllowedIPs = 10.8.0.0/24
Endpoint = ⟦{ip}⟧:51820
~~~
sock, err := net.Dial("udp", "⟦{ip}⟧:27015")
~~~
{"time": "2022-07-01T09:12:44Z", "event": "signup", "remote_addr": "⟦{ip}⟧", "status": 201}
""",
}
