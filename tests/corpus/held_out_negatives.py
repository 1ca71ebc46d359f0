"""Snippets in which a reviewer finds no secret, in the notation of held_out_secrets.py: ⟨...⟩ is made up, harmless."""

NEGATIVES = {
    "no secrets (hashes and identifiers)": r"""
commit ⟨{h40}⟩
Merge: ⟨{h7}⟩ ⟨{h7}⟩

    Merge branch 'fix-token-refresh'
~~~
- uses: actions/checkout@⟨{h40}⟩  # v4.1.1
~~~
⟨{h64}⟩  tide-1.4.2.tar.gz
⟨{h64}⟩  tide-1.4.2.zip
~~~
<script src="https://cdn.jsdelivr.net/npm/vue@3" integrity="sha384-⟨{b64}⟩" crossorigin="anonymous"></script>
~~~
  url "https://ftp.gnu.org/gnu/wget/wget-1.21.tar.gz"
  sha256 "⟨{h64}⟩"
~~~
FROM python:3.12-slim@sha256:⟨{h64}⟩
RUN pip install --no-cache-dir tide
~~~
Content-Security-Policy: script-src 'self' 'sha256-⟨{b43}⟩='
~~~
[assembly: Guid("⟨{uuid}⟩")]
[assembly: AssemblyVersion("1.0.0.0")]
~~~
Project("{⟨{uuid}⟩}") = "Shop.Web", "src\Shop.Web.csproj", "{⟨{uuid}⟩}"
~~~
TRACE_ID = "⟨{h32}⟩"
SPAN_ID = "⟨{h16}⟩"
~~~
		⟨{H24}⟩ /* AppDelegate.swift in Sources */ = {isa = PBXBuildFile; fileRef = ⟨{H24}⟩; };
~~~
var doc = db.users.findOne({ _id: ObjectId("⟨{h24}⟩") });
~~~
guid: ⟨{h32}⟩
TextureImporter:
  mipmaps: 0
~~~
ETag: "⟨{h32}⟩"
Cache-Control: max-age=3600
~~~
revision = '⟨{h12}⟩'
down_revision = '⟨{h12}⟩'
~~~
EXPECTED_MD5 = {"train.csv": "⟨{h32}⟩", "test.csv": "⟨{h32}⟩"}
~~~
git submodule status
 ⟨{h40}⟩ vendor/tide (v1.4.2-3-g⟨{h7}⟩)
~~~
arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess
arn:aws:lambda:eu-west-1:123456789012:function:resize
~~~
magnet:?xt=urn:btih:⟨{h40}⟩&dn=debian-12.iso
""",
    "no secrets (placeholders and look-ups)": r"""
API_KEY=your-api-key-here
API_SECRET=your-api-secret-here
~~~
password: ${DB_PASSWORD}
token: ${{ secrets.GITHUB_TOKEN }}
~~~
SECRET_KEY = os.environ["SECRET_KEY"]
password = os.getenv("DB_PASSWORD", "")
~~~
const apiKey = process.env.STRIPE_SECRET_KEY;
if (!apiKey) throw new Error('STRIPE_SECRET_KEY is not set');
~~~
curl -H "Authorization: Bearer <your-access-token>" https://api.acme.io/v1/me
~~~
DATABASE_URL=postgres://<user>:<password>@localhost:5432/<database>
~~~
mongodb://username:password@localhost:27017/mydb
~~~
POSTGRES_PASSWORD=changeme
~~~
spring.datasource.password=@db.password@
spring.datasource.username=@db.user@
~~~
"ClientSecret": "[Enter the client secret obtained from the Azure portal]",
"ClientId": "[Enter the client id]"
~~~
AWS_ACCESS_KEY_ID=⟨AK|IAIOSFODNN7EXAM|PLE⟩
~~~
export TOKEN=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
~~~
token = "ghp_************************************"
~~~
password = var.db_password
secret   = data.vault_generic_secret.app.data["secret"]
~~~
secretKeyRef:
  name: shop-credentials
  key: database-password
~~~
db_password: "{{ vault_db_password }}"
become_password: "{{ lookup('env', 'BECOME_PASS') }}"
~~~
$password = $_POST['password'];
$token = $request->header('X-Auth-Token');
~~~
jdbc:postgresql://db:5432/shop?user=${user}&password=${password}
~~~
echo "$DOCKER_PASSWORD" | docker login -u "$DOCKER_USER" --password-stdin
~~~
client_secret: REPLACE_ME
jwt_secret: TODO
~~~
define( 'AUTH_KEY', 'put your unique phrase here' );
~~~
apiKey: "INSERT_API_KEY_HERE", // see docs/setup.md
~~~
access_token = request.cookies.get("access_token")
refresh_token = tokens["refresh_token"]
~~~
private_key: "⟨-----BEG|IN PRIVATE KEY-----⟩\n...\n-----END PRIVATE KEY-----\n"
""",
    "no secrets (encoded data and minified code)": r"""
<img alt="dot" src="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA⟨{b300}⟩=="/>
~~~
.icon { background: url(data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7); }
~~~
src: url(data:font/woff2;base64,d09GMgABAAAAA⟨{b400}⟩=) format("woff2");
~~~
!function(e,t){"object"==typeof exports?module.exports=t():e.Tide=t()}(this,function(){var n={};function r(e){
if(n[e])return n[e].exports;var t=n[e]={i:e,l:!1,exports:{}};return t.l=!0,t.exports}return r.m=e,r(r.s=0)});
~~~
"mappings": "AAAA,SAASA,EAAEC,GAAG,OAAOA,EAAE,CAACC,MAAMD,EAAEE,KAAKC,IAAI;AACtC,IAAIC,EAAE,SAASC,GAAGA,EAAEC",
~~~
<path d="M12 2C6.48 2 2 6.48 2 12s4.48 10 10 10 10-4.48 10-10S17.52 2 12 2zm0 18c-4.41 0-8-3.59-8-8z"/>
~~~
"outputs": [{"data": {"image/png": "iVBORw0KGgoAAAANSUhEUgAAAX8AAAD4CAYAAAAE⟨{b600}⟩\n"}}]
~~~
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
~~~
BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
~~~
:10010000214601360121470136007EFE09D2190140
:100110002146017E17C20001FF5F16002148011928
:00000001FF
~~~
0000000 7f45 4c46 0201 0100 0000 0000 0000 0000
0000020 0300 3e00 0100 0000 5058 0000 0000 0000
~~~
AAAGACTTCGGATTCCAGGCATTACGGATCCGATTACAGGCTAACGTTAGCCATGCAAATTCGGATCCAA
~~~
MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV
~~~
https://docs.google.com/spreadsheets/d/⟨1{u43}⟩/edit#gid=0
~~~
https://www.youtube.com/watch?v=⟨{u11}⟩&list=PL⟨{u32}⟩
~~~
background: linear-gradient(135deg, #1a2b3c 0%, #4d5e6f 50%, #708192 100%);
~~~
static const uint8_t logo[] = { 0x00, 0x3c, 0x42, 0x99, 0xa1, 0xa1, 0x99, 0x42, 0x3c, 0xff, 0x81, 0xbd };
""",
    "no secrets (addresses that are none or of nobody)": r"""
<input type="email" placeholder="you@example.com">
~~~
client.post("/users", json={"email": "alice@example.org", "name": "Alice"})
~~~
user = User(email="test@test.example", name="Test")
~~~
git clone git@github.com:acme/tide.git
~~~
"repository": "ssh://git@gitlab.com/acme/tide.git"
~~~
import { Component } from '@angular/core';
import tide from '@acme/tide';
~~~
@app.route("/login", methods=["POST"])
@limiter.limit("5/minute")
def login():
~~~
npm install react@18.2.0 @types/node@20.4.1
~~~
EMAIL = re.compile(r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$")
~~~
ssh deploy@web01 "systemctl restart shop"
~~~
@media (max-width: 600px) { .menu { display: none } }
@font-face { font-family: Tide }
~~~
 * @param {string} name the user's name
 * @returns {Promise<void>}
~~~
Retina: logo@2x.png, icon@3x.png
~~~
y = A@B.T + C@D.inv()
~~~
@@ -12,7 +12,9 @@ def load(path):
~~~
[UIImage imageNamed:@"arrow.left"]; NSString *s = [NSString stringWithFormat:@"%@@%@", user, host];
~~~
Follow @tide_dev or @rustlang for news.
~~~
GLIBC_2.17: memcpy@@GLIBC_2.14, printf@GLIBC_2.2.5
""",
    "no secrets (numbers like IP addresses, and private ones)": r"""
server.listen(8080, "127.0.0.1")
app.run(host="0.0.0.0")
~~~
inet 192.168.1.17 netmask 255.255.255.0 broadcast 192.168.1.255
~~~
address: 10.42.0.15/16
gateway: 172.16.0.1
~~~
<assemblyIdentity name="Shop" version="4.12.30.118" />
~~~
Version: 91.0.4472.124
User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/91.0.4472.124 Safari/537.36
~~~
1.3.6.1.4.1.311.21.20
2.5.29.17 subjectAltName
~~~
The documentation uses 192.0.2.44, 198.51.100.7 and 203.0.113.250.
~~~
ping6 2001:db8::8a2e:370:7334
~~~
::1 localhost ip6-localhost
fe80::1%lo0 localhost
ff02::1 ip6-allnodes
~~~
curl http://169.254.169.254/latest/meta-data/
~~~
MCAST_GRP = "239.255.255.250"
MCAST_PORT = 1900
~~~
ether 00:1b:44:11:3a:b7
wwn 50:01:43:80:12:34:56:78
~~~
Fixed in 3.2.14.1, see section 5.18.77.2 of the manual.
~~~
<PackageReference Include="Newtonsoft.Tide" Version="13.81.104.9" />
~~~
at 10:12:13:456, then 00:00:05,120 --> 00:00:07,840
~~~
std::vector<int>::iterator it; a::b::c::d(); auto f = ns::fe::ed();
~~~
acl internal { 10.0.0.0/8; 172.16.0.0/12; 192.168.0.0/16; fc00::/7; };
~~~
dns: ["8.8.8.8", "1.1.1.1"]
""",
    "no secrets (public keys, certificates and test vectors)": r"""
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA⟨{b20}⟩
⟨{b64}⟩
⟨{b56}⟩IDAQAB
-----END PUBLIC KEY-----
~~~
-----BEGIN CERTIFICATE-----
MIIDdzCCAl+gAwIBAgIE⟨{b44}⟩
⟨{b64}⟩
⟨{b64}⟩
⟨{b30}⟩==
-----END CERTIFICATE-----
~~~
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI⟨{b43}⟩ deploy
~~~
github.com ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABg⟨{b320}⟩=
~~~
-----BEGIN PGP SIGNATURE-----

iQIzBAABCgAdFiEE⟨{b48}⟩
⟨{b64}⟩
=⟨{b4}⟩
-----END PGP SIGNATURE-----
~~~
gpg --recv-keys ⟨{H40}⟩
~~~
untrusted comment: minisign public key
RW⟨{b54}⟩
~~~
def test_sha256_of_abc():
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
~~~
// RFC 4231, test case 1
key  = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
data = "4869205468657265"
~~~
static const uint32_t K[] = { 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1 };
~~~
P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F  # the field of secp256k1
~~~
{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "⟨{u22}⟩", "e": "AQAB", "n": "⟨{u342}⟩"}
~~~
[Peer]
PublicKey = ⟨{b43}⟩=
AllowedIPs = 10.8.0.3/32
~~~
if (!pem.startsWith("⟨-----BEG|IN RSA PRIVATE KEY-----⟩")) {
  throw new Error("not a private key");
}
~~~
Public-Key-Pins: pin-sha256="⟨{b43}⟩="; max-age=5184000
~~~
contract = "0x⟨{h40}⟩"  # the token on the main network
""",
    "no secrets (words about passwords and keys)": r"""
password = input("Password: ")
confirm = getpass.getpass("Repeat the password: ")
~~~
"login.password.label": "Password",
"login.password.forgot": "Forgot your password?",
"login.password.error": "Password must have at least 12 characters"
~~~
PASSWORT_VERGESSEN=Passwort vergessen?
PASSWORT_NEU=Neues Passwort eingeben
~~~
msgid "Password:"
msgstr "Mot de passe :"
~~~
PASSWORD_RE = re.compile(r"^(?=.*[A-Z])(?=.*\d)(?=.*[^\w\s]).{10,64}$")
~~~
String password = passwordField.getText();
String token = tokenService.createToken(user, Duration.ofHours(1));
~~~
let token = lexer.next_token();
let secret = derive_secret(&shared, &transcript);
~~~
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = []
~~~
token_url = "https://login.microsoftonline.com/common/oauth2/v2.0/token"
token_type = "urn:ietf:params:oauth:token-type:access_token"
~~~
const TOKEN_STORAGE_KEY = 'acme.auth.token';
const PASSWORD_FIELD_NAME = 'user_password_confirmation';
~~~
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password">
~~~
def get_password(self) -> str:
    return self._password
~~~
tokenizer = "BertWordPieceTokenizer"
pad_token = "[PAD]"
eos_token = "<|endoftext|>"
~~~
key={`${item.category}-${item.id}`} keyExtractor={(item) => item.key}
~~~
primary_key = "customer_account_identifier"
foreign_key = "orders_customer_account_identifier_fk"
~~~
passwordEncoder: org.springframework.security.crypto.bcrypt.BCryptPasswordEncoder
~~~
secret_name = "projects/acme/secrets/database-password/versions/latest"
~~~
password_file: /run/secrets/postgres_password
private_key_path = "~/.ssh/id_rsa"
~~~
HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\CredentialsDelegation
~~~
throw new InvalidTokenException("Token expired or revoked: " + token.substring(0, 4));
~~~
KEY_ESCAPE = 27
KEY_PAGE_DOWN = 338
keycode = Key.ARROW_LEFT
~~~
cache_key = f"user:{user_id}:permissions:v2"
~~~
CREATE TABLE users (id serial PRIMARY KEY, password_hash varchar(255) NOT NULL, reset_token char(64));
~~~
.password-strength-meter--weak { color: #d9534f; }
""",
    "no secrets (packages and lock files)": r"""
"node_modules/lodash": {
  "version": "4.17.21",
  "resolved": "https://⟨registry.|npmjs.org⟩/lodash/-/lodash-4.17.21.tgz",
  "integrity": "sha512-⟨{b86}⟩=="
}
~~~
chalk@^4.1.0:
  version "4.1.2"
  resolved "https://registry.yarnpkg.com/chalk/-/chalk-4.1.2.tgz#⟨{h40}⟩"
  integrity sha512-⟨{b86}⟩==
~~~
[[package]]
name = "serde"
version = "1.0.197"
checksum = "⟨{h64}⟩"
~~~
golang.org/x/text v0.3.7 h1:⟨{b43}⟩=
golang.org/x/text v0.3.7/go.mod h1:⟨{b43}⟩=
~~~
requests==2.31.0 \
    --hash=sha256:⟨{h64}⟩ \
    --hash=sha256:⟨{h64}⟩
~~~
"content-hash": "⟨{h32}⟩",
"reference": "⟨{h40}⟩",
"shasum": "⟨{h40}⟩"
~~~
implementation 'com.fasterxml.jackson.core:jackson-databind:2.15.2'
testImplementation 'org.junit.jupiter:junit-jupiter:5.9.3'
~~~
<groupId>org.apache.maven.plugins</groupId>
<artifactId>maven-surefire-plugin</artifactId>
<version>3.0.0-M7</version>
~~~
  Tide (1.4.2):
  SPEC CHECKSUMS:
    Alamofire: ⟨{h40}⟩
~~~
fetchFromGitHub {
  owner = "acme"; repo = "tide"; rev = "v1.4.2";
  hash = "sha256-⟨{b43}⟩=";
}
~~~
"_resolved": "git+https://github.com/acme/tide.git#⟨{h40}⟩"
~~~
packages:
  /@babel/core@7.22.9:
    resolution: {integrity: sha512-⟨{b86}⟩==}
~~~
zlib-1.3.1-h⟨{h7}⟩_0  https://conda.anaconda.org/conda-forge/linux-64/zlib-1.3.1.conda#⟨{h32}⟩
""",
    "no secrets (numbers, science and plain text)": r"""
weights = [0.12883741, -1.40021398, 3.14159265, 2.71828182, -0.57721566, 1.61803398]
~~~
ATOM      2  CA  MET A   1      38.198  19.582  26.354  1.00 47.18           C
~~~
CC(C)CC1=CC=C(C=C1)C(C)C(=O)O
InChIKey=HEFNNWSXXWATRW-UHFFFAOYSA-N
~~~
{"type": "Point", "coordinates": [13.404954, 52.520008, 34.5]}
~~~
P(x) = 2.5066282746310002 * x**6 - 0.00000573 * x**4 + 1.5056327351493116e-7
~~~
POSIX TZ=EST5EDT,M3.2.0,M11.1.0
Europe/Berlin 2024-03-31T02:00:00+01:00
~~~
ISBN 978-3-16-148410-0, doi:10.1000/182, ISSN 2049-3630
~~~
Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.
~~~
palette = ["#e41a1c", "#377eb8", "#4daf4a", "#984ea3", "#ff7f00", "#ffff33", "#a65628", "#f781bf"]
~~~
r1bk1b1r/ppp2ppp/2n5/3qp3/8/2NP1N2/PPP2PPP/R1BQKB1R w KQ - 0 8
~~~
SUITE_NAMES = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
~~~
MODEL = "meta-llama/Llama-2-70b-chat-hf"
CHECKPOINT = "runs/2024-02-11_14-02-33_lr3e-4_bs256/checkpoint-120000"
~~~
org.eclipse.jdt.core.formatter.alignment_for_parameters_in_constructor_declaration=16
~~~
_ZNSt6vectorIiSaIiEE17_M_realloc_insertIJiEEEvN9__gnu_cxx17__normal_iteratorIPiS1_EEDpOT_
~~~
public class AbstractAuthenticationTokenProviderFactoryBean extends AbstractFactoryBean<TokenProvider> {
""",
}
