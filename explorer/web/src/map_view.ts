/** Draws the map: points on one canvas; lines, marks and names on another above it. */

import type { Camera } from "./camera";
import { domainCenters, type DomainCenter } from "./domain_centers";
import type { Explorer } from "./explorer";
import { GOOD_SIGNAL } from "./facets";
import { shortName } from "./hub_text";
import { LabelWriter, linesOf } from "./labels";
import { colorIndex, colors, INK } from "./palette";
import { domainTitle } from "./payload";
import { PointRaster } from "./point_raster";

/** How visible a point is while others are meant. */
const FADED = { light: 0.25, dark: 0.18 };

/** The name of a domain of fewer members stands above them: in their middle it would hide them. */
const FEW = 12;

/** Corners of the map that buttons and the count take, in CSS pixels. */
const COUNT = { width: 190, height: 44 };
const BUTTONS = { width: 64, height: 132 };

/** With at most so many points in sight, they have their names beside them. */
const NAMED = 40;

/** A domain's name takes this much room, so that the map is not covered by names [CSS pixels²]. */
const ROOM_OF_A_NAME = 26_000;

const LARGEST_RADIUS = 16;

export class MapView {
  readonly #explorer: Explorer;
  readonly #camera: Camera;
  readonly #points: PointRaster;
  readonly #marks: CanvasRenderingContext2D;
  readonly #labels: LabelWriter;
  readonly #color: Uint8Array;
  readonly #hollow: Uint8Array;
  readonly #bright: Uint8Array;
  #centers: DomainCenter[];
  #inSight: number[] = [];
  #ratio = 1;
  #frame = 0;
  #pointsDue = false;

  constructor(points: HTMLCanvasElement, marks: HTMLCanvasElement, explorer: Explorer, camera: Camera) {
    const { columns, count } = explorer.payload;
    this.#explorer = explorer;
    this.#camera = camera;
    this.#points = new PointRaster(points);
    this.#marks = marks.getContext("2d")!;
    this.#labels = new LabelWriter(this.#marks);
    this.#color = Uint8Array.from(columns.domain, (domain) => colorIndex(domain ?? null));
    this.#hollow = Uint8Array.from(columns.signal, (signal) => ((signal ?? 0) < GOOD_SIGNAL ? 1 : 0));
    this.#bright = new Uint8Array(count).fill(1);
    this.#paint();
    this.#centers = this.#findCenters();
    explorer.theme.subscribe(() => {
      this.#paint();
      this.drawAll();
    });
    explorer.filters.count.subscribe(() => {
      this.#centers = this.#findCenters();
      this.#brighten();
    });
    for (const change of [explorer.selected, explorer.threshold, explorer.emphasized]) {
      change.subscribe(() => this.#brighten());
    }
    explorer.pointed.subscribe(() => this.drawMarks());
  }

  /** Takes the size of the map's element in CSS pixels; if the points are to `stay`, none moves. */
  resize(width: number, height: number, stay: boolean): void {
    this.#ratio = Math.min(devicePixelRatio || 1, 3);
    const { canvas } = this.#marks;
    canvas.width = Math.round(width * this.#ratio);
    canvas.height = Math.round(height * this.#ratio);
    this.#points.resize(canvas.width, canvas.height);
    this.#camera.resize(width, height, stay);
    // A canvas that was resized is empty: it must not be seen so.
    this.#draw(true);
  }

  /** Everything is drawn again in the next frame. */
  drawAll(): void {
    this.#pointsDue = true;
    this.drawMarks();
  }

  /** All but the points is drawn again in the next frame. */
  drawMarks(): void {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw(this.#pointsDue);
    });
  }

  /** Radius of an adapter's point in CSS pixels. */
  radius(index: number): number {
    return Math.min(this.#unit * this.#explorer.scene.radius[index]!, LARGEST_RADIUS);
  }

  /** Radius of the smallest points: smaller on a crowded map, and growing slowly with the zoom. */
  get #unit(): number {
    const crowd = Math.max(1, this.#explorer.payload.count);
    const unit = Math.min(4.5, 9 * crowd ** -0.17);
    return Math.min(unit * this.#camera.magnification ** 0.3, Math.max(unit, 6));
  }

  #draw(points: boolean): void {
    if (points) this.#drawPoints();
    this.#drawMarks();
  }

  #paint(): void {
    const theme = this.#explorer.theme.value;
    this.#points.paint(colors(theme), INK[theme].ground);
  }

  #findCenters(): DomainCenter[] {
    const { payload, scene, filters } = this.#explorer;
    return domainCenters(payload, scene, filters.shown);
  }

  #brighten(): void {
    const { emphasized, selected, payload, filters } = this.#explorer;
    if (emphasized.value !== null && !filters.domain.hidden.has(emphasized.value)) {
      const domain = payload.columns.domain;
      for (let index = 0; index < payload.count; index++) {
        this.#bright[index] = domain[index] === emphasized.value ? 1 : 0;
      }
    } else if (selected.value !== null) {
      this.#bright.fill(0);
      this.#bright[selected.value] = 1;
      for (const { index } of this.#explorer.near()) this.#bright[index] = 1;
    } else {
      this.#bright.fill(1);
    }
    this.drawAll();
  }

  #drawPoints(): void {
    this.#pointsDue = false;
    this.#inSight = [];
    this.#points.clear();
    if (this.#bright.includes(0)) this.#drawThose(0, FADED[this.#explorer.theme.value]);
    this.#drawThose(1, 1);
    this.#points.show();
  }

  #drawThose(bright: number, strength: number): void {
    const points = this.#points;
    const { scene, filters } = this.#explorer;
    const { width, height } = points;
    const ratio = this.#ratio;
    const [scale, left, top] = [this.#camera.scale * ratio, this.#camera.x * ratio, this.#camera.y * ratio];
    const unit = this.#unit * ratio;
    const largest = LARGEST_RADIUS * ratio;
    const [shown, colored, hollow] = [filters.shown, this.#color, this.#hollow];
    for (const index of scene.order) {
      if (!shown[index] || this.#bright[index] !== bright) continue;
      const x = left + scale * scene.x[index]!;
      const y = top + scale * scene.y[index]!;
      if (x < -largest || y < -largest || x > width + largest || y > height + largest) continue;
      const radius = Math.min(unit * scene.radius[index]!, largest);
      points.disc(x, y, radius, colored[index]!, hollow[index] === 1, strength);
      if (this.#inSight.length <= NAMED) this.#inSight.push(index);
    }
  }

  #drawMarks(): void {
    const context = this.#marks;
    const { selected, pointed, theme, filters } = this.#explorer;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    const { width, height } = this.#camera;
    this.#labels.clear();
    this.#labels.reserve(0, 0, COUNT.width, COUNT.height);
    this.#labels.reserve(width - BUTTONS.width, height - BUTTONS.height, width, height);
    const ink = INK[theme.value];
    if (selected.value !== null) {
      this.#drawLines(selected.value, ink.accent);
      this.#ring(selected.value, ink.accent, 2.5);
      const [x, y] = this.#camera.screen(selected.value);
      const radius = this.radius(selected.value) + 4;
      this.#labels.reserve(x - radius, y - radius, x + radius, y + radius);
      this.#name(selected.value, true);
      for (const { index } of this.#explorer.near()) if (filters.shown[index]) this.#name(index, false);
    }
    if (pointed.value !== null && pointed.value !== selected.value) this.#ring(pointed.value, ink.text, 2);
    this.#nameDomains();
    if (selected.value === null && this.#inSight.length <= NAMED) {
      for (const index of this.#inSight) this.#name(index, false);
    }
  }

  #drawLines(from: number, color: string): void {
    const context = this.#marks;
    const { threshold, filters } = this.#explorer;
    const [x, y] = this.#camera.screen(from);
    context.strokeStyle = color;
    for (const { index, distance } of this.#explorer.near()) {
      if (!filters.shown[index]) continue;
      const closeness = 1 - distance / Math.max(threshold.value, 1e-6);
      context.globalAlpha = 0.35 + 0.5 * Math.max(0, closeness);
      context.lineWidth = 1 + 1.5 * Math.max(0, closeness);
      const [otherX, otherY] = this.#camera.screen(index);
      const apart = Math.hypot(otherX - x, otherY - y);
      const start = Math.min(1, (this.radius(from) + 4) / apart);
      const end = Math.max(start, 1 - this.radius(index) / apart);
      context.beginPath();
      context.moveTo(x + start * (otherX - x), y + start * (otherY - y));
      context.lineTo(x + end * (otherX - x), y + end * (otherY - y));
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  #ring(index: number, color: string, thickness: number): void {
    const context = this.#marks;
    const [x, y] = this.#camera.screen(index);
    const radius = this.radius(index) + thickness + 1;
    for (const [style, width] of [[INK[this.#explorer.theme.value].ground, thickness + 3], [color, thickness]] as const) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  #name(index: number, selected: boolean): void {
    const { theme, payload } = this.#explorer;
    const ink = INK[theme.value];
    const [x, y] = this.#camera.screen(index);
    if (x < 0 || y < 0 || x > this.#camera.width || y > this.#camera.height) return;
    const size = selected ? 13 : 11;
    const label = {
      x,
      y: y - this.radius(index) - size - (selected ? 4 : 0),
      size,
      bold: selected,
      color: selected ? ink.text : ink.muted,
    };
    const lines = linesOf(shortName(payload.columns.adapter[index]!).replaceAll(", ", ","));
    this.#labels.write(label, lines, ink.ground, this.#camera.width, this.#camera.height);
  }

  #nameDomains(): void {
    const { theme, payload, emphasized } = this.#explorer;
    const { x, y, scale, width, height } = this.#camera;
    const ink = INK[theme.value];
    const largest = this.#centers[0]?.size ?? 1;
    let room = Math.max(3, Math.floor((width * height) / ROOM_OF_A_NAME));
    for (const center of this.#centers) {
      if (room === 0) break;
      if (emphasized.value !== null && emphasized.value !== center.domain) continue;
      const above = center.size < FEW;
      const label = {
        x: x + scale * center.x,
        y: y + scale * (above ? center.top : center.y) - (above ? 28 : 0),
        size: Math.round(11 + 4 * Math.sqrt(center.size / largest)),
        bold: true,
        color: ink.text,
      };
      if (label.x < 0 || label.y < 0 || label.x > width || label.y > height) continue;
      const lines = linesOf(domainTitle(payload.domains[center.domain]!));
      if (this.#labels.write(label, lines, ink.ground, width, height)) room--;
    }
  }
}
