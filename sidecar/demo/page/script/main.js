// The pages of the explorer, by the fragment of the address; and what a login begins.

import { clearBreakIn, showBreakIn } from "./break-in.js";
import { attempt, button, byId, el, say } from "./dom.js";
import { clearDownload, showDownload } from "./download.js";
import { startJourney } from "./journey.js";
import { finishLogin, logIn } from "./login.js";
import { session, sessions } from "./session.js";
import { clearStudies, loadStudies, onChoice, studies } from "./studies.js";
import { Viewer } from "./viewer/viewer.js";

const PAGES = ["journey", "studies", "viewer", "download", "break-in"];
const NEEDS_LOGIN = new Set(PAGES.slice(1));

let viewer = null;

const chosenPage = () => {
  const name = location.hash.slice(1);
  return PAGES.includes(name) ? name : "journey";
};

/** Show what a page needs a login for. */
function invitation(section) {
  const old = section.querySelector(".invitation");
  const isNeeded = session.token === null && NEEDS_LOGIN.has(section.id.slice("page-".length));
  if (old && !isNeeded) old.remove();
  if (!old && isNeeded) {
    section.append(el("div", { class: "invitation panel" },
      el("p", {}, "This page needs a login. It takes two clicks, and everybody is invented."),
      el("p", {}, button("Log in at the demo EHR", logIn, { class: "primary" }))));
  }
}

function draw() {
  const page = chosenPage();
  for (const name of PAGES) {
    const section = byId(`page-${name}`);
    section.hidden = name !== page;
    invitation(section);
  }
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${byId(`${page}-title`).textContent} — My images, a demo`;
  if (session.token === null) return;
  if (page === "download") showDownload();
  if (page === "break-in") showBreakIn();
  if (page === "viewer" && !viewer) viewer = new Viewer(byId("viewer"));
}

/** Go to a page; the keyboard's focus follows. */
function navigate() {
  say("");
  viewer?.pause();
  draw();
  byId(`${chosenPage()}-title`).focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Go to a page from code. */
function goTo(page) {
  history.pushState(null, "", `#${page}`);
  navigate();
}

function logOutOfPages() {
  viewer?.close();
  viewer = null;
  byId("viewer").replaceChildren();
  clearStudies();
  clearDownload();
  clearBreakIn();
}

onChoice({
  open: async (study) => {
    goTo("viewer");
    await viewer.open(study);
  },
  download: (study) => {
    goTo("download");
    showDownload(study);
  },
});
sessions.addEventListener("change", () => {
  if (session.token === null) logOutOfPages();
  draw();
});
addEventListener("hashchange", navigate);
startJourney();
draw();
attempt(async () => {
  if (!await finishLogin()) return;
  await loadStudies();
  goTo("studies");
  say(`${studies.list.length} studies of ${session.name || session.patient}.`);
});
