// The code editor with its ghost text: grey text after the cursor that is no part of the document until it is accepted.

import {
  bracketMatching,
  closeBrackets,
  closeBracketsKeymap,
  Compartment,
  cpp,
  Decoration,
  defaultKeymap,
  drawSelection,
  EditorState,
  EditorView,
  go,
  highlightActiveLine,
  highlightActiveLineGutter,
  HighlightStyle,
  history,
  historyKeymap,
  indentOnInput,
  indentUnit,
  indentWithTab,
  java,
  javascript,
  keymap,
  lineNumbers,
  Prec,
  python,
  rust,
  StateEffect,
  StateField,
  syntaxHighlighting,
  tags,
  WidgetType,
} from "./vendor/codemirror.js";

const LANGUAGES = {
  python,
  javascript,
  typescript: () => javascript({ typescript: true }),
  java,
  c: cpp,
  cpp,
  go,
  rust,
};

const setGhost = StateEffect.define();

class GhostWidget extends WidgetType {
  constructor(text) {
    super();
    this.text = text;
  }

  eq(other) {
    return other.text === this.text;
  }

  toDOM() {
    const span = document.createElement("span");
    span.className = "cm-ghost";
    span.textContent = this.text;
    return span;
  }

  ignoreEvent() {
    return false;
  }
}

// { at, text } or null. Typing what the ghost says shortens it; any other change, or a move of the cursor, removes it.
const ghostField = StateField.define({
  create: () => null,
  update(ghost, transaction) {
    for (const effect of transaction.effects) if (effect.is(setGhost)) return effect.value;
    if (!ghost) return null;
    const cursor = transaction.state.selection.main;
    if (!transaction.docChanged) return cursor.empty && cursor.head === ghost.at ? ghost : null;
    return typedAlong(ghost, transaction);
  },
  provide: (field) =>
    EditorView.decorations.from(field, (ghost) =>
      ghost
        ? Decoration.set(Decoration.widget({ widget: new GhostWidget(ghost.text), side: 1 }).range(ghost.at))
        : Decoration.none,
    ),
});

function typedAlong(ghost, transaction) {
  let typed = null;
  let changes = 0;
  transaction.changes.iterChanges((from, to, _fromNew, _toNew, inserted) => {
    changes += 1;
    if (from === ghost.at && to === ghost.at) typed = inserted.toString();
  });
  const at = ghost.at + (typed?.length ?? 0);
  const cursor = transaction.state.selection.main.head;
  if (changes !== 1 || !typed || !ghost.text.startsWith(typed) || cursor !== at) return null;
  return ghost.text.length > typed.length ? { at, text: ghost.text.slice(typed.length) } : null;
}

/** Typing along goes past the closing of brackets, which would insert more than was typed. */
const typeAlong = EditorView.inputHandler.of((view, from, to, text) => {
  const ghost = view.state.field(ghostField);
  if (!ghost || from !== ghost.at || to !== ghost.at || !ghost.text.startsWith(text)) return false;
  view.dispatch({
    changes: { from, insert: text },
    selection: { anchor: from + text.length },
    userEvent: "input.type",
    scrollIntoView: true,
  });
  return true;
});

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier, tags.self], color: "var(--syntax-keyword)" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: "var(--syntax-string)" },
  { tag: tags.comment, color: "var(--syntax-comment)", fontStyle: "italic" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--syntax-number)" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName)], color: "var(--syntax-name)" },
  { tag: [tags.typeName, tags.className, tags.namespace], color: "var(--syntax-type)" },
]);

const theme = EditorView.theme({
  "&": { flex: "1", minWidth: "0", color: "var(--ink)", backgroundColor: "var(--surface)", fontSize: "14px" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6" },
  ".cm-content": { padding: "14px 0", caretColor: "var(--ink)" },
  ".cm-line": { padding: "0 16px 0 8px" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--ghost)", border: "none" },
  ".cm-lineNumbers .cm-gutterElement": { minWidth: "44px", padding: "0 10px 0 12px" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--active-line)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)", borderLeftWidth: "2px" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--selection)",
  },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--accent-soft)" },
  ".cm-ghost": { color: "var(--ghost)", whiteSpace: "pre-wrap", fontStyle: "italic" },
});

/**
 * Put an editor into `parent`. The handlers are told what the person does:
 * edited(withGhost)   the document changed; withGhost: by typing along the ghost text, and some of it is left
 * moved()             the cursor moved, or the ghost text went away
 * accepted(whole)     ghost text was taken, all of it or a word
 * dismissed()         ghost text was refused
 * asked()             a completion is wanted now
 */
export function createEditor(parent, handlers) {
  const language = new Compartment();
  // A shadow root, since CodeMirror then adds its styles in a way that a strict Content-Security-Policy allows.
  const root = parent.attachShadow({ mode: "open" });
  const frame = document.createElement("link");
  frame.rel = "stylesheet";
  frame.href = new URL("editor.css", import.meta.url).href;
  root.append(frame);

  const ghostOf = (view) => view.state.field(ghostField);

  function insert(view, text, left) {
    const at = view.state.selection.main.head;
    view.dispatch({
      changes: { from: at, insert: text },
      selection: { anchor: at + text.length },
      effects: setGhost.of(left ? { at: at + text.length, text: left } : null),
      scrollIntoView: true,
      userEvent: "input.complete",
    });
    handlers.accepted(!left);
    return true;
  }

  function accept(view) {
    const ghost = ghostOf(view);
    return ghost ? insert(view, ghost.text, "") : false;
  }

  function acceptWord(view) {
    const ghost = ghostOf(view);
    if (!ghost) return false;
    const [word] = ghost.text.match(/^\s*(?:\w+|[^\w\s]+)|^\s+/);
    return insert(view, word, ghost.text.slice(word.length));
  }

  function dismiss(view) {
    if (!ghostOf(view)) return false;
    view.dispatch({ effects: setGhost.of(null) });
    handlers.dismissed();
    return true;
  }

  function ask() {
    handlers.asked();
    return true;
  }

  const listener = EditorView.updateListener.of((update) => {
    if (update.transactions.some((transaction) => transaction.isUserEvent("input.complete"))) return;
    if (update.docChanged) handlers.edited(Boolean(ghostOf(update.view)));
    else if (update.selectionSet) handlers.moved();
  });

  const view = new EditorView({
    parent: root,
    root,
    extensions: [
      Prec.highest(
        keymap.of([
          { key: "Tab", run: accept },
          { key: "Mod-ArrowRight", run: acceptWord },
          { key: "Escape", run: dismiss },
          { key: "Ctrl-Space", run: ask },
        ]),
      ),
      Prec.high(typeAlong),
      lineNumbers(),
      highlightActiveLine(),
      highlightActiveLineGutter(),
      history(),
      drawSelection(),
      indentOnInput(),
      bracketMatching(),
      closeBrackets(),
      keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, indentWithTab]),
      syntaxHighlighting(colours),
      theme,
      ghostField,
      listener,
      language.of([]),
      EditorState.tabSize.of(4),
      EditorView.contentAttributes.of({ "aria-label": "Code" }),
    ],
  });

  return {
    /** Replace the document, its language and the place of the cursor, as if the page had just been opened. */
    open(name, text, cursor) {
      const unit = name === "go" ? "\t" : " ".repeat(name.endsWith("script") ? 2 : 4);
      view.dispatch({
        changes: { from: 0, to: view.state.doc.length, insert: text },
        selection: { anchor: cursor },
        effects: [language.reconfigure([LANGUAGES[name](), indentUnit.of(unit)]), setGhost.of(null)],
      });
      view.focus();
    },
    /** Text before and after the cursor. */
    place() {
      const { doc, selection } = view.state;
      return { before: doc.sliceString(0, selection.main.head), after: doc.sliceString(selection.main.head) };
    },
    /** Show text in grey after the cursor; "" shows none. */
    suggest(text) {
      view.dispatch({ effects: setGhost.of(text ? { at: view.state.selection.main.head, text } : null) });
    },
    hasGhost: () => Boolean(ghostOf(view)),
    focus: () => view.focus(),
  };
}
