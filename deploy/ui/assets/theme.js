// Before the first paint: the theme that this browser chose here, else the system's.
const chosen = localStorage.getItem("tfs-theme");
if (chosen) document.documentElement.dataset.theme = chosen;
