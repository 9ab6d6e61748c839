// Click at each place, and tell which line plays; then stop by the space bar.
const playing = () => [...document.querySelectorAll('.play[aria-pressed="true"]')].map(
  (button) => `${button.closest(".line").id} ${button.textContent}`);
for (const place of PLACES) {
  document.querySelector(place).dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
  await started();
  console.log(playing());
}
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: " ", bubbles: true }));
console.log("stopped", document.querySelector("audio").paused, playing());
