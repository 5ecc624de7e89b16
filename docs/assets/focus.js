// Code and tables that scroll take the focus, so that they scroll by keyboard too. The theme takes it from code where it finds no
// mouse, and gives it to no table.
const focusable = () => {
  document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex]), .md-typeset pre > code:not([tabindex])").forEach(part => {
    part.tabIndex = 0;
  });
};
new MutationObserver(focusable).observe(document.body, { attributeFilter: ["tabindex"], childList: true, subtree: true });
focusable();
