import pytest

from starsmith.corpus.secrets import EMAIL, IP_ADDRESS, KEY, PASSWORD, scanner

ALL = frozenset({EMAIL, KEY, PASSWORD, IP_ADDRESS})
WORD = "Juniper" + "_Ember944$"  # words with a number and a sign, as people make them


def found(text: str) -> list[tuple[str, str]]:
    data = text.encode()
    return [(span.kind, data[span.start : span.end].decode()) for span in scanner(ALL).find(data)]


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWORD=hunter2hunter",
        "export MYSQL_PWD=x9vbnm",
        "password: k3!vD9_zQ",
        'password := "k3vD9zQ"',
        '"password" => "k3vD9zQ",',
        'const password: string = "k3vD9zQ";',
        '#define WIFI_PASSWORD "k3vD9zQ"',
        "<db:password>k3vD9zQ</db:password>",
        "ALTER USER a IDENTIFIED BY 'k3vD9zQ';",
        "tool --password k3!vD9zQ run",
        r"body = \"{\\\"password\\\": 1}\", \"password\": \"k3vD9zQ\"",
        "redis://:k3vD9zQ@cache:6379/0",
        "if (password == 'k3vD9zQ') {",
        "db.password = `k3vD9zQ`;\r",
        f'"Default": "Server=sql01;Database=Crm;User Id=sa;Password={WORD};Encrypt=True"',
        f'new SqlConnection("Data Source=sql01;uid=hr;pwd={WORD}");',
        f"dsn = 'host=db1 user=app password={WORD} dbname=orders'",
        f"define( 'DB_PASSWORD', '{WORD}' );",
        f"  MYSQL_ROOT_PASSWORD: {WORD}",
        f'ansible_become_pass: "{WORD}"',
        "web01 ansible_user=deploy ansible_ssh_pass=k3vD9_zQ",
        f"auth: {{ user: process.env.SMTP_USER, pass: '{WORD}' }},",
        f"const smtpPass = '{WORD}';",
        f"$config['db_pass'] = '{WORD}';",
        f'props.setProperty("db.password", "{WORD}");',
        "ALTER ROLE billing WITH LOGIN PASSWORD 'k3vD9zQ';",
        "CREATE USER a IDENTIFIED WITH mysql_native_password BY 'k3vD9zQ';",
        f"storePassword '{WORD}'",
        f"sshpass -p '{WORD}' scp a b:",
        "mysqldump -u backup -pk3vD9zQ shop | gzip",
        "docker login -u acme -p k3vD9zQ8w registry.acme.io",
        "redis-cli -h cache -a k3vD9zQ8w ping",
        "mysqladmin --admin-password=k3vD9zQ8w status",
        "requirepass k3vD9zQ",
        "machine ftp.acme.io login deploy password hgTrwQx",
        "machine ftp.acme.io\n  login deploy\n  password hgTrwQx",
        f'  psk="{WORD}"',
        f'$c = ConvertTo-SecureString "{WORD}" -AsPlainText -Force',
        f'server.login(os.environ["MAIL_USER"], "{WORD}")',
        'server.login(user, "qkek nfsi zlev atfb")',
        f'<add key="SmtpPassword" value="{WORD}" />',
        f"<key>FtpPassword</key>\n  <string>{WORD}</string>",
        f'<string name="ftp_password">{WORD}</string>',
        f'passwort = "{WORD}"',
    ],
)
def test_passwords_are_found_in_the_ways_languages_assign_them(line: str) -> None:
    assert {kind for kind, _ in found(line + "\n")} == {PASSWORD}, line


@pytest.mark.parametrize(
    "line",
    [
        "password = user.password2",
        "password = value2",
        "password = sha256",
        'type="password" name="login2"',
        "password: '%(password)s'",
        'PASSWORD="$(cat file2)"',
        "PWD=$HOME/x2",
        'password = "Passwort"',
        "pwd = '/home/x1'",
        "password = request.form['pass1']",
        '"passwordRegex": "^[a-z0-9]{8,}$"',
        "password = '********'",
        "password = 'test1234'",
        "password = get_secret('db1')",
        '"password": "#{pw1}"',
        "https://host:8080@",
        "Server=sql01;User Id=sa;Password=yourPassword1;",
        "Server=sql01;User Id=sa;Password={password};",
        "connect(host=name2, user=me, password=secret2abc)",
        "self.user=name;self.password=row2;",
        "define('DB_PASSWORD', getenv('DB_PASS2'));",
        "define('DB_PASSWORD', 'password_here');",
        "pass: 'shadow-map2'",
        "renderPass = 'geometry2'",
        "pass: 12 of 14",
        "first_pass: 2024-01-01T00:00:00",
        "you pass :data:`h11.CLIENT` as the role",
        "if (pass) return 'x1-y2';",
        "bypass = 'k3vD9zQ8'",
        "('user/name', 'password', 'localhost:8022')",
        'fields = ["username", "password", "email2"]',
        "tool --sasl-password=projects/123/secrets/mine/versions/1",
        "tool --bypass=k3vD9zQ8",
        "# requirepass foobared",
        "the login and password portion is not allowed",
        "mysql -u root -p shop2",
        "mysql -P 3306 -proot",
        "docker run -p 8080:80 image2",
        "docker login -p $TOKEN2 registry",
        "unzip -p archive2.zip",
        "sshpass -p $PASS2 ssh host",
        "psk = 'PSK-SHA256'",
        "page.login(user, 'admin')",
        "page.login('this', 'that one and others')",
        "ConvertTo-SecureString $env:SECRET2",
        '<input name="password" value="password1">',
        '<string name="password">Passwort</string>',
        "ALTER ROLE a PASSWORD 'changeme1'",
    ],
)
def test_placeholders_names_and_calls_are_no_passwords(line: str) -> None:
    assert found(line + "\n") == [], line
