/**
 * Draws discs straight into pixels. A canvas without a GPU takes microseconds for each picture or arc
 * that it is told to draw; with 20,000 a frame, writing the few pixels of each is an order faster
 * (bench/explorer.py), and with a GPU it costs the upload of one picture.
 */

/** A disc's pixels; rows of `size`. */
interface Stamp {
  readonly size: number;
  /** Colors, as `pixel` packs them. */
  readonly colors: Uint32Array;
  /** How much of the pixel is covered, 0 to 256. */
  readonly cover: Uint16Array;
}

const OPAQUE = 0xff000000;

/** From this radius on, in device pixels, a rim of the ground's color keeps touching discs apart. */
const RIMMED = 2.5;

export class PointRaster {
  readonly #context: CanvasRenderingContext2D;
  readonly #stamps = new Map<number, Stamp>();
  #image: ImageData;
  #pixels: Uint32Array;
  #colors: number[] = [];
  #ground = OPAQUE;

  constructor(canvas: HTMLCanvasElement) {
    this.#context = canvas.getContext("2d", { alpha: false })!;
    this.#image = this.#context.createImageData(1, 1);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
  }

  get width(): number {
    return this.#image.width;
  }

  get height(): number {
    return this.#image.height;
  }

  /** Sets the size in device pixels; the picture is empty then. */
  resize(width: number, height: number): void {
    const { canvas } = this.#context;
    canvas.width = Math.max(1, width);
    canvas.height = Math.max(1, height);
    this.#image = this.#context.createImageData(canvas.width, canvas.height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
  }

  /** Sets the colors, `#rrggbb`, that discs are drawn with from now on. */
  paint(colors: readonly string[], ground: string): void {
    this.#colors = colors.map(pixel);
    this.#ground = pixel(ground);
    this.#stamps.clear();
  }

  clear(): void {
    this.#pixels.fill(this.#ground);
  }

  /** Shows what has been drawn since `clear`. */
  show(): void {
    this.#context.putImageData(this.#image, 0, 0);
  }

  /** Draws a disc around a position in device pixels; `strength` is its opacity, 0 to 1. */
  disc(x: number, y: number, radius: number, color: number, hollow: boolean, strength: number): void {
    const stamp = this.#stamp(radius, color, hollow, strength);
    const { size, colors, cover } = stamp;
    const [width, height, pixels] = [this.#image.width, this.#image.height, this.#pixels];
    const left = Math.round(x - size / 2);
    const top = Math.round(y - size / 2);
    const from = Math.max(0, -left);
    const to = Math.min(size, width - left);
    const last = Math.min(size, height - top);
    for (let row = Math.max(0, -top); row < last; row++) {
      let target = (top + row) * width + left + from;
      for (let source = row * size + from; source < row * size + to; source++, target++) {
        const share = cover[source]!;
        if (share === 0) continue;
        pixels[target] = share === 256 ? colors[source]! : mixed(colors[source]!, pixels[target]!, share);
      }
    }
  }

  #stamp(radius: number, color: number, hollow: boolean, strength: number): Stamp {
    const half = Math.max(2, Math.round(radius * 2));
    const key = ((half * 64 + color) * 2 + (hollow ? 1 : 0)) * 256 + Math.round(strength * 255);
    let stamp = this.#stamps.get(key);
    if (!stamp) {
      stamp = this.#cut(half / 2, this.#colors[color]!, hollow, strength);
      this.#stamps.set(key, stamp);
    }
    return stamp;
  }

  #cut(radius: number, color: number, hollow: boolean, strength: number): Stamp {
    const rim = !hollow && radius >= RIMMED ? Math.min(1.4, radius / 4) : 0;
    const wall = hollow ? Math.max(1, radius / 3) : 0;
    const size = 2 * Math.ceil(radius + rim + 0.5);
    const colors = new Uint32Array(size * size);
    const cover = new Uint16Array(size * size);
    for (let place = 0; place < colors.length; place++) {
      const dx = (place % size) + 0.5 - size / 2;
      const dy = Math.floor(place / size) + 0.5 - size / 2;
      const apart = Math.hypot(dx, dy);
      // A pixel whose middle is on an edge is half inside: a good and cheap estimate of its cover.
      const inside = share(radius + 0.5 - apart);
      const ink = hollow ? Math.min(inside, share(apart - (radius - wall) + 0.5)) : inside;
      const whole = share(radius + rim + 0.5 - apart);
      colors[place] = mixed(color, this.#ground, Math.round(256 * ink));
      cover[place] = Math.round(256 * whole * strength);
    }
    return { size, colors, cover };
  }
}

const share = (value: number): number => Math.min(1, Math.max(0, value));

/** `#rrggbb` as a little-endian RGBA pixel. */
function pixel(color: string): number {
  const rgb = Number.parseInt(color.slice(1), 16);
  return (OPAQUE | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

/** A color over another; `part` of 256 is the upper one. */
function mixed(upper: number, lower: number, part: number): number {
  const rest = 256 - part;
  const redBlue = ((upper & 0xff00ff) * part + (lower & 0xff00ff) * rest) >>> 8;
  const green = (((upper >> 8) & 0xff) * part + ((lower >> 8) & 0xff) * rest) & 0xff00;
  return (OPAQUE | (redBlue & 0xff00ff) | green) >>> 0;
}
