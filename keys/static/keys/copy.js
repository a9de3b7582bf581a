// Copies a key when asked to, and forgets it when the page is left: a browser may keep the page for its Back button.
(() => {
  "use strict";

  const selectAll = (element) => {
    const selection = window.getSelection();
    selection.selectAllChildren(element);
    return selection;
  };

  // Without TLS, other than on localhost, browsers have no navigator.clipboard.
  const copyBySelection = (element) => {
    const selection = selectAll(element);
    const copied = document.execCommand("copy");
    selection.removeAllRanges();
    return copied ? Promise.resolve() : Promise.reject(new Error("not copied"));
  };

  const copy = (element) =>
    navigator.clipboard
      ? navigator.clipboard.writeText(element.textContent).catch(() => copyBySelection(element))
      : copyBySelection(element);

  document.querySelectorAll(".keys-copy").forEach((button) => {
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", () => {
      const element = document.getElementById(button.dataset.copies);
      copy(element).then(
        () => {
          button.textContent = button.dataset.copied;
          document.querySelector(".keys-announce").textContent = button.dataset.copied;
          window.setTimeout(() => { button.textContent = label; }, 4000);
        },
        () => selectAll(element),
      );
    });
  });

  window.addEventListener("pagehide", () => {
    document.querySelectorAll(".keys-value").forEach((element) => {
      element.textContent = element.dataset.gone;
    });
    document.querySelectorAll(".keys-copy").forEach((button) => { button.hidden = true; });
  });
})();
