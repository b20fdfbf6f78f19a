"use strict";
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", () => {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code); // selected at least, if a page from disk may not copy
    navigator.clipboard?.writeText(code.textContent).then(
      () => { button.textContent = "Copied"; }, () => { button.textContent = "Selected"; });
  });
}
