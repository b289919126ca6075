/** Names on the map, as many as have room. */

/** Where a name goes, and how it looks. */
export interface Label {
  /** Middle, in CSS pixels. */
  readonly x: number;
  readonly y: number;
  /** Height of the letters in CSS pixels. */
  readonly size: number;
  readonly bold: boolean;
  readonly color: string;
}

interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

const LINE = 1.2;
const MOST_LETTERS = 26;
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

/** Lines of a name: parted after commas, each cut to what a label may be wide, two at most. */
export function linesOf(name: string): string[] {
  const lines: string[] = [];
  for (const term of name.slice(0, 200).split(", ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + term.length + 2 <= MOST_LETTERS) {
      lines[lines.length - 1] = `${last}, ${term}`;
    } else {
      lines.push(cut(term));
    }
  }
  return lines.slice(0, 2);
}

function cut(text: string): string {
  const letters = [...text];
  return letters.length > MOST_LETTERS ? `${letters.slice(0, MOST_LETTERS - 1).join("")}…` : text;
}

/** Writes labels onto a canvas, first come first served; what would cover another is left out. */
export class LabelWriter {
  readonly #context: CanvasRenderingContext2D;
  readonly #widths = new Map<string, number>();
  #taken: Box[] = [];

  constructor(context: CanvasRenderingContext2D) {
    this.#context = context;
  }

  clear(): void {
    this.#taken = [];
  }

  /** Keeps labels off a rectangle. */
  reserve(left: number, top: number, right: number, bottom: number): void {
    this.#taken.push({ left, top, right, bottom });
  }

  /** Writes the lines around their middle; whether there was room within the width and height. */
  write(label: Label, lines: string[], ground: string, width: number, height: number): boolean {
    const context = this.#context;
    context.font = `${label.bold ? 650 : 450} ${label.size}px ${FONT}`;
    const widest = Math.max(...lines.map((line) => this.#width(line)));
    const tall = lines.length * label.size * LINE;
    const x = Math.min(Math.max(label.x, widest / 2 + 8), width - widest / 2 - 8);
    const y = Math.min(Math.max(label.y, tall / 2 + 8), height - tall / 2 - 8);
    const box = { left: x - widest / 2 - 6, top: y - tall / 2 - 3, right: x + widest / 2 + 6, bottom: y + tall / 2 + 3 };
    if (this.#taken.some((other) => overlap(box, other))) return false;
    this.#taken.push(box);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3.5;
    context.strokeStyle = ground;
    context.fillStyle = label.color;
    lines.forEach((line, place) => {
      const top = y + (place - (lines.length - 1) / 2) * label.size * LINE;
      context.strokeText(line, x, top);
      context.fillText(line, x, top);
    });
    return true;
  }

  #width(line: string): number {
    const key = `${this.#context.font}\n${line}`;
    let width = this.#widths.get(key);
    if (width === undefined) {
      width = this.#context.measureText(line).width;
      this.#widths.set(key, width);
    }
    return width;
  }
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
