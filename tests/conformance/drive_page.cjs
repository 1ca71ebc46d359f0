// node drive_page.cjs BROWSER PUPPETEER URL STEPS: takes the steps on the page, prints what it showed after each.
const [browser, puppeteer, url, steps] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"];
const QUIET = ["--disable-background-networking", "--disable-component-update"];
const PATIENCE_MS = 20_000;

// What a person sees; runs in the page.
function look() {
  const text = (id) => document.getElementById(id).textContent;
  const shown = (id) => (document.getElementById(id).hidden ? "" : text(id));
  const editor = document.getElementById("editor").shadowRoot;
  const lines = [...(editor?.querySelectorAll(".cm-line") ?? [])].map((line) => {
    const copy = line.cloneNode(true);
    copy.querySelectorAll(".cm-ghost").forEach((ghost) => ghost.remove());
    return copy.textContent;
  });
  return {
    ghost: editor?.querySelector(".cm-ghost")?.textContent ?? "",
    document: lines.join("\n"),
    completion: text("text"),
    marked: [...document.querySelectorAll("#text mark")].map((mark) => mark.textContent),
    kinds: [...document.querySelectorAll("#text mark")].map((mark) => mark.dataset.kind),
    blocked: shown("blocked"),
    tainted: shown("tainted"),
    viewer: shown("viewer"),
    link: document.getElementById("viewer-link").getAttribute("href"),
    matched: [...document.querySelectorAll("#viewer-code [data-matched]")].map((line) => line.textContent),
    copied: [...document.querySelectorAll("#viewer-code mark")].map((mark) => mark.textContent),
    sources: text("matches") + text("source-message"),
    state: text("state"),
    message: text("message"),
    bad: document.getElementById("message").dataset.tone === "bad",
    model: text("model-id"),
    health: text("health"),
  };
}

async function take(page, [verb, what, value]) {
  if (verb === "type") return page.keyboard.type(what);
  if (verb === "press") return page.keyboard.press(what);
  if (verb === "paste") return page.keyboard.sendCharacter(what);
  if (verb === "click") return page.click(what);
  if (verb === "pause") return new Promise((resolve) => setTimeout(resolve, what));
  if (verb === "token") {
    await page.type("#token", what);
    return page.keyboard.press("Enter");
  }
  const deadline = Date.now() + PATIENCE_MS;
  while ((await page.evaluate(look))[what] !== value) {
    if (Date.now() > deadline) {
      throw new Error(`${what} never became ${JSON.stringify(value)}: ${JSON.stringify(await page.evaluate(look))}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function main() {
  const chromium = await require(puppeteer).launch({ executablePath: browser, args: [...FLAGS, ...QUIET] });
  try {
    const page = await chromium.newPage();
    const result = { shown: [], loaded: [], complaints: [] };
    let asked = 0;
    page.on("request", (request) => {
      result.loaded.push(request.url());
      if (request.url().endsWith("/v1/completions")) asked += 1;
    });
    page.on("console", (message) => result.complaints.push(message.text()));
    page.on("pageerror", (error) => result.complaints.push(error.message));
    await page.goto(url, { waitUntil: "load" });
    for (const step of JSON.parse(steps)) {
      await take(page, step);
      result.shown.push({ ...(await page.evaluate(look)), asked });
    }
    console.log(JSON.stringify(result));
  } finally {
    await chromium.close();
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
