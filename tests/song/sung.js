// Play a line, and tell the first two words that are underlined; then stop by the space bar.
document.querySelector(".lyrics").click();
const sung = () => [...document.querySelectorAll(".sung")].map((word) => word.textContent).join(" ");
const seen = [];
while (seen.length < 2) {
  await new Promise(requestAnimationFrame);
  if (sung() && !seen.includes(sung())) seen.push(sung());
}
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: " ", bubbles: true }));
console.log([...seen, `stopped: ${sung()}`].join(", "));
