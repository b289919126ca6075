/** Puts the page together. */

import { Announcer } from "./announcer";
import { Camera } from "./camera";
import { byId, day, foreign } from "./dom";
import { Explorer } from "./explorer";
import { buildFilters } from "./filter_panel";
import { followLocation } from "./location";
import { listenOnMap, listenOnZoomButtons } from "./map_input";
import { MapView } from "./map_view";
import { Panel } from "./panel";
import { PayloadError, readPayload, type Payload } from "./payload";
import { listenOnSearch } from "./search";
import { followTheme } from "./theme";
import { Tooltip } from "./tooltip";

declare global {
  interface Window {
    /** Where an adapter's point is in the window [CSS pixels], for tests and benchmarks. */
    pointOf?: (adapter: string) => [number, number] | null;
  }
}

function open(payload: Payload): void {
  const explorer = new Explorer(payload, followTheme(byId("theme", HTMLButtonElement)));
  const map = byId("map", HTMLElement);
  const marks = byId("marks", HTMLCanvasElement);
  const announcer = new Announcer(byId("announcer", HTMLElement));
  const camera: Camera = new Camera(marks, explorer.scene, () => {
    view.drawAll();
    tooltip.follow();
  });
  const view = new MapView(byId("points", HTMLCanvasElement), marks, explorer, camera);
  const tooltip = new Tooltip(byId("tooltip", HTMLElement), explorer, camera);
  new Panel(explorer);
  buildFilters(explorer);
  describe(payload);
  marks.setAttribute("aria-label", `Map of ${payload.count} adapters`);
  listenOnMap(marks, explorer, camera, announcer);
  listenOnZoomButtons(
    { closer: byId("closer", HTMLElement), further: byId("further", HTMLElement), fit: byId("fit", HTMLElement) },
    camera,
  );
  const frame = (): void => {
    if (explorer.selected.value === null) return;
    const near = explorer.near().map(({ index }) => index);
    if (near.length) camera.frame([explorer.selected.value, ...near]);
    else camera.fit();
  };
  listenOnSearch(explorer, (index) => {
    explorer.selected.value = index;
    frame();
    byId("panel-title", HTMLElement).focus();
  });
  listenOnPage(explorer, marks);

  const fill = (stay: boolean): void => view.resize(map.clientWidth, map.clientHeight, stay);
  explorer.selected.subscribe((index, previous) => {
    // Opening or closing the panel has changed the map's size.
    fill(true);
    if (index !== null) {
      camera.reveal(index);
      const near = explorer.near().length;
      announcer.say(
        `Selected ${payload.columns.adapter[index]}, ${explorer.domainName(index)}. ` +
          `${near} within ${explorer.threshold.value}.`,
      );
    } else if (previous !== null) {
      announcer.say("Nothing selected.");
    }
  });
  fill(false);
  followLocation(explorer, (name) => {
    const search = byId("search", HTMLInputElement);
    if (search.value === name) return;
    search.value = name;
    if (name) search.focus();
    search.dispatchEvent(new Event("input")); // lists what is like it, or says that nothing is
  });
  frame();
  new ResizeObserver(() => fill(false)).observe(map);
  window.pointOf = (adapter) => {
    const index = explorer.find(adapter);
    if (index === null) return null;
    const { left, top } = marks.getBoundingClientRect();
    const [x, y] = camera.screen(index);
    return [left + x, top + y];
  };
}

/** What the page is about and where it comes from. */
function describe(payload: Payload): void {
  document.title = `${payload.base} · hubdelta`;
  const base = byId("base", HTMLElement);
  base.replaceChildren(foreign(payload.base));
  base.title = payload.base;
  const made = day(payload.made_at);
  const parts = [made, `hubdelta ${payload.version}`, `recipe ${payload.recipe}`].filter(Boolean);
  byId("made", HTMLElement).textContent = parts.join(" · ");
}

function listenOnPage(explorer: Explorer, map: HTMLElement): void {
  const toggle = byId("filters-toggle", HTMLElement);
  const openFilters = (open: boolean): void => {
    document.body.classList.toggle("filtering", open);
    toggle.setAttribute("aria-expanded", String(open));
  };
  toggle.addEventListener("click", () => openFilters(!document.body.classList.contains("filtering")));
  byId("filters-close", HTMLElement).addEventListener("click", () => {
    openFilters(false);
    toggle.focus();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement && event.target.type === "search";
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      byId("search", HTMLInputElement).focus();
    } else if (event.key === "Escape") {
      if (document.body.classList.contains("filtering")) openFilters(false);
      else if (explorer.selected.value !== null) {
        explorer.selected.value = null;
        map.focus();
      }
    }
  });
}

try {
  open(readPayload(byId("payload", HTMLScriptElement).textContent ?? ""));
} catch (error) {
  const empty = byId("empty", HTMLElement);
  empty.hidden = false;
  empty.querySelector("p")!.textContent =
    error instanceof PayloadError ? error.message : "The data of this page cannot be read.";
  if (!(error instanceof PayloadError)) throw error;
}
