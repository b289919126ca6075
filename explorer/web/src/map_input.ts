/** Pointer and keys on the map: what is pointed at, selected, zoomed. */

import type { Announcer } from "./announcer";
import type { Camera } from "./camera";
import type { Explorer } from "./explorer";

/** How far from a point's middle the pointer may be, in CSS pixels; fingers may be further. */
const REACH = 14;
const REACH_OF_A_FINGER = 28;

const ZOOM = 1.6;

const DIRECTIONS: Record<string, number> = { ArrowRight: 0, ArrowDown: 90, ArrowLeft: 180, ArrowUp: 270 };

export function listenOnMap(canvas: HTMLCanvasElement, explorer: Explorer, camera: Camera, announcer: Announcer): void {
  const { scene, selected, pointed, filters } = explorer;
  const at = (event: MouseEvent, reach: number): number | null => {
    const x = (event.offsetX - camera.x) / camera.scale;
    const y = (event.offsetY - camera.y) / camera.scale;
    return scene.nearest(x, y, reach / camera.scale);
  };
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch" && event.buttons === 0) pointed.value = at(event, REACH);
    canvas.classList.toggle("pointing", pointed.value !== null);
  });
  canvas.addEventListener("pointerleave", () => (pointed.value = null));
  canvas.addEventListener("blur", () => (pointed.value = null));
  canvas.addEventListener("click", (event) => {
    const touched = event instanceof PointerEvent && event.pointerType === "touch";
    selected.value = at(event, touched ? REACH_OF_A_FINGER : REACH);
  });

  /** Where the arrows set out from: the shown adapter nearest to the middle of the map. */
  const middle = (): number | null => {
    const x = (camera.width / 2 - camera.x) / camera.scale;
    const y = (camera.height / 2 - camera.y) / camera.scale;
    return scene.nearest(x, y, Number.POSITIVE_INFINITY);
  };
  const step = (degrees: number): void => {
    const from = pointed.value ?? selected.value;
    const to = from === null ? middle() : scene.towards(from, degrees, filters.shown);
    if (to === null) {
      announcer.say("No adapter in that direction.");
      return;
    }
    camera.reveal(to);
    pointed.value = to;
    announcer.say(`${explorer.payload.columns.adapter[to]}, ${explorer.domainName(to)}`);
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const degrees = DIRECTIONS[event.key];
    if (degrees !== undefined) step(degrees);
    else if (event.key === "Enter" || event.key === " ") selected.value = pointed.value ?? selected.value;
    else if (event.key === "+" || event.key === "=") camera.zoomBy(ZOOM);
    else if (event.key === "-" || event.key === "_") camera.zoomBy(1 / ZOOM);
    else if (event.key === "0") camera.fit();
    else return;
    event.preventDefault();
  });
}

/** The buttons at the map's corner. */
export function listenOnZoomButtons(buttons: { closer: HTMLElement; further: HTMLElement; fit: HTMLElement }, camera: Camera): void {
  buttons.closer.addEventListener("click", () => camera.zoomBy(ZOOM));
  buttons.further.addEventListener("click", () => camera.zoomBy(1 / ZOOM));
  buttons.fit.addEventListener("click", () => camera.fit());
}
