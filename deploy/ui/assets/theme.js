// Before the first paint: the theme that this browser chose here, else the system's, also when that changes.
const dark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  document.documentElement.dataset.theme = localStorage.getItem("tfs-theme") ?? (dark.matches ? "dark" : "light");
  dispatchEvent(new Event("themechange"));
}

applyTheme();
dark.addEventListener("change", applyTheme);
