// Results of a search show words: formulas are left out of their excerpts.
(function () {
  "use strict";
  if (typeof Search === "undefined" || !Search.htmlToText) return;
  const plain = Search.htmlToText.bind(Search);
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const hidden = ".math, script, style, .evcm-controls, .cell_input, pre, details.evcm-source";
    for (const node of page.querySelectorAll(hidden)) node.remove();
    return plain(page.documentElement.outerHTML, anchor);
  };
})();
