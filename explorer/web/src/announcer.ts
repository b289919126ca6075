/** Says what has happened to those who hear the page. */

export class Announcer {
  readonly #region: HTMLElement;

  /** `region` is a live region. */
  constructor(region: HTMLElement) {
    this.#region = region;
  }

  say(text: string): void {
    this.#region.textContent = text;
  }
}
