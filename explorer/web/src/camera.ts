/** Which part of the map is seen: panning and zooming by drag, wheel, pinch, button and key. */

import { select, type Selection } from "d3-selection";
import "d3-transition";
import { zoom, zoomIdentity, type D3ZoomEvent, type ZoomBehavior } from "d3-zoom";

import type { Scene } from "./scene";

/** Space left around the map when it fits the window, in CSS pixels. */
const MARGIN = 48;

/** What is nearer to the edge than this is not well in sight; less than the margin. */
const EDGE = 24;

const NEAREST = 0.6;
const FURTHEST = 400;

/** How much of the window framed adapters take, and the magnification that they ask for at most. */
const FRAME = 0.6;
const CLOSE = 48;

/** Durations of moves that nobody's hand makes, in milliseconds; 0 if motion is not wanted. */
const MOVE = 350;
const STEP = 160;

type Target = Selection<HTMLElement, unknown, null, undefined>;

/** A position on the screen is `x + scale * (scene's x)`, in CSS pixels of the map's element. */
export class Camera {
  x = 0;
  y = 0;
  scale = 1;
  /** Times the scale at which everything fits. */
  magnification = 1;
  width = 0;
  height = 0;

  readonly #scene: Scene;
  readonly #target: Target;
  readonly #zoom: ZoomBehavior<HTMLElement, unknown>;
  readonly #stillness = matchMedia("(prefers-reduced-motion: reduce)");
  /** Where the scene lies at magnification 1. */
  #fitX = 0;
  #fitY = 0;
  #fitScale = 1;

  constructor(element: HTMLElement, scene: Scene, moved: () => void) {
    this.#scene = scene;
    this.#target = select(element);
    this.#zoom = zoom<HTMLElement, unknown>()
      .scaleExtent([NEAREST, FURTHEST])
      .clickDistance(4)
      .on("zoom", ({ transform }: D3ZoomEvent<HTMLElement, unknown>) => {
        this.magnification = transform.k;
        this.scale = transform.k * this.#fitScale;
        this.x = transform.x + transform.k * this.#fitX;
        this.y = transform.y + transform.k * this.#fitY;
        moved();
      });
    this.#target.call(this.#zoom).on("dblclick.zoom", null);
  }

  /**
   * Takes the element's size in CSS pixels. A map that showed everything still does, unless it is to
   * `stay`: then no point moves, as when a panel opens beside it. Else what is in its middle stays
   * there.
   */
  resize(width: number, height: number, stay: boolean): void {
    if (width === this.width && height === this.height) return;
    const whole = this.width === 0 || (this.#fitted && !stay);
    const [x, y, scale] = [this.x, this.y, this.scale];
    const [dx, dy] = stay ? [0, 0] : [(width - this.width) / 2, (height - this.height) / 2];
    [this.width, this.height] = [width, height];
    const margin = Math.min(MARGIN, width / 8, height / 8);
    const { width: w, height: h } = this.#scene;
    const fits = Math.min((width - 2 * margin) / w, (height - 2 * margin) / h);
    this.#fitScale = Number.isFinite(fits) ? Math.max(fits, 1) : 1;
    this.#fitX = (width - w * this.#fitScale) / 2;
    this.#fitY = (height - h * this.#fitScale) / 2;
    this.#zoom
      .extent([[0, 0], [width, height]])
      .translateExtent([[-width / 2, -height / 2], [1.5 * width, 1.5 * height]]);
    const k = scale / this.#fitScale;
    const same = zoomIdentity.translate(x + dx - k * this.#fitX, y + dy - k * this.#fitY).scale(k);
    this.#target.call(this.#zoom.transform, whole ? zoomIdentity : same);
  }

  /** Where an adapter is on the screen. */
  screen(index: number): [number, number] {
    const { x, y } = this.#scene;
    return [this.x + this.scale * x[index]!, this.y + this.scale * y[index]!];
  }

  zoomBy(factor: number): void {
    this.#zoom.scaleBy(this.#moving(STEP), factor);
  }

  fit(): void {
    this.#zoom.transform(this.#moving(MOVE), zoomIdentity);
  }

  /** Moves an adapter into sight; what is well in sight already stays where it is. */
  reveal(index: number): void {
    const [x, y] = this.screen(index);
    const within = (place: number, size: number): boolean => place >= EDGE && place <= size - EDGE;
    if (within(x, this.width) && within(y, this.height)) return;
    const { x: xs, y: ys } = this.#scene;
    this.#center([xs[index]!, ys[index]!], this.magnification);
  }

  /** Moves adapters into the middle, as close as they all are in sight. */
  frame(indices: number[]): void {
    const xs = indices.map((index) => this.#scene.x[index]!);
    const ys = indices.map((index) => this.#scene.y[index]!);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const fits = FRAME * Math.min(this.width / (right - left), this.height / (bottom - top));
    const magnification = Math.min(fits / this.#fitScale, Math.max(this.magnification, CLOSE));
    this.#center([(left + right) / 2, (top + bottom) / 2], magnification);
  }

  get #fitted(): boolean {
    const [dx, dy] = [this.x - this.#fitX, this.y - this.#fitY];
    return Math.abs(this.magnification - 1) < 1e-6 && Math.hypot(dx, dy) < 1;
  }

  #center([x, y]: [number, number], magnification: number): void {
    const shifted = zoomIdentity
      .translate(this.width / 2, this.height / 2)
      .scale(magnification)
      .translate(-(this.#fitX + this.#fitScale * x), -(this.#fitY + this.#fitScale * y));
    this.#zoom.transform(this.#moving(MOVE), shifted);
  }

  /** What d3-zoom is to change: the element at once, or a transition of it. */
  #moving(duration: number): Target {
    if (this.#stillness.matches) return this.#target.interrupt();
    // d3-zoom takes either; its types know transitions only as another overload.
    return this.#target.transition().duration(duration) as unknown as Target;
  }
}
