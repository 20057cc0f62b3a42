// Small helpers around the document. Text from outside only ever becomes text nodes.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text nodes, `onclick` a listener. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

/** The lines of a text area that hold something. */
export const lines = (id) => byId(id).value.split("\n").map((line) => line.trim()).filter(Boolean);

export const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`);

export const when = (text) => new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

/** Fills a definition list. */
export function showFacts(list, facts) {
  list.replaceChildren();
  for (const [name, value] of facts) {
    list.append(element("dt", {}, name), element("dd", {}, String(value)));
  }
}

/** Says something to the user; an error says what the problem document says. */
export function notify(what, good = false) {
  const notice = byId("notice");
  notice.hidden = !what;
  notice.classList.toggle("good", good);
  notice.textContent = what instanceof Error ? what.message : what || "";
}

/** Runs a handler with its button disabled and its problems shown. */
export function guarded(button, work) {
  return async (event) => {
    event?.preventDefault();
    button.disabled = true;
    notify("");
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError") notify(error);
    } finally {
      button.disabled = false;
    }
  };
}

/** Switches between light and dark, and remembers it. */
export function setUpTheme(button) {
  const saved = localStorage.getItem("theme");
  if (saved) document.documentElement.dataset.theme = saved;
  button.addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
  });
}
