// Suggests owners while somebody writes a name: a combobox with a list box, as the ARIA Authoring Practices have it.
(() => {
  "use strict";

  const WAIT = 200; // milliseconds after the last letter
  let boxes = 0;

  const suggest = (place) => {
    const input = place.querySelector("input");
    const named = place.querySelector(".keys-owner-name");
    const token = input.form && input.form.querySelector("[name=csrfmiddlewaretoken]");
    if (!place.dataset.url || !token || place.querySelector("[role=listbox]")) {
      return;
    }
    const list = document.createElement("ul");
    const status = document.createElement("div");
    boxes += 1;
    list.id = `keys-owners-${boxes}`;
    list.hidden = true;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", place.dataset.label);
    status.className = "keys-owner-status";
    status.setAttribute("role", "status");
    input.after(list, status);
    for (const [name, value] of [
      ["role", "combobox"], ["aria-autocomplete", "list"], ["aria-controls", list.id], ["aria-expanded", "false"],
    ]) {
      input.setAttribute(name, value);
    }

    let timer = 0;
    let asked = 0;
    let chosen = -1;

    const close = () => {
      list.hidden = true;
      chosen = -1;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    };

    const forget = () => {
      window.clearTimeout(timer);
      asked += 1;
      close();
    };

    const mark = (number) => {
      const options = [...list.children];
      chosen = (number + options.length) % options.length;
      options.forEach((option, place) => option.setAttribute("aria-selected", String(place === chosen)));
      input.setAttribute("aria-activedescendant", options[chosen].id);
      options[chosen].scrollIntoView({ block: "nearest" });
    };

    const take = (option) => {
      input.value = option.dataset.ref;
      named.textContent = option.dataset.name;
      status.textContent = "";
      forget();
    };

    const option = (found, number) => {
      const item = document.createElement("li");
      item.id = `${list.id}-${number}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      item.dataset.ref = found.ref;
      item.dataset.name = found.name;
      const about = document.createElement("small");
      about.textContent = [found.ref, found.trouble].filter(Boolean).join(", ");
      item.append(`${found.name} `, about);
      return item;
    };

    const show = ({ found, more }) => {
      list.replaceChildren(...found.map(option));
      list.hidden = found.length === 0;
      chosen = -1;
      input.setAttribute("aria-expanded", String(found.length > 0));
      status.textContent = found.length === 0 ? place.dataset.none : more ? place.dataset.more : "";
    };

    const ask = (text) => {
      const number = asked;
      // As a POST: a name, or what was pasted by mistake, must not get into an address.
      const body = new URLSearchParams({ csrfmiddlewaretoken: token.value, q: text });
      fetch(place.dataset.url, { method: "POST", body, headers: { Accept: "application/json" } })
        .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.statusText))))
        .then((result) => { if (number === asked) show(result); })
        .catch(() => { if (number === asked) { close(); status.textContent = place.dataset.failed; } });
    };

    input.addEventListener("input", () => {
      forget();
      named.textContent = "";
      status.textContent = "";
      const text = input.value.trim();
      if (text) {
        timer = window.setTimeout(ask, WAIT, text);
      }
    });

    input.addEventListener("keydown", (event) => {
      // Enter sends the form where nobody was chosen: the form says then who matches.
      if (list.hidden || (event.key === "Enter" && chosen < 0)) {
        return;
      }
      const keys = {
        ArrowDown: () => mark(chosen + 1),
        ArrowUp: () => mark(chosen < 0 ? -1 : chosen - 1),
        Enter: () => take(list.children[chosen]),
        Escape: close,
      };
      if (event.key in keys) {
        event.preventDefault();
        keys[event.key]();
      }
    });

    input.addEventListener("blur", forget);
    // Before the blur, which closes the list.
    list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const item = event.target.closest("[role=option]");
      if (item) {
        take(item);
      }
    });
  };

  const begin = () => document.querySelectorAll(".keys-owner").forEach(suggest);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", begin) : begin();
})();
