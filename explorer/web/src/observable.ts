/** A value that tells others when it changes. */

export class Observable<T> {
  #value: T;
  readonly #listeners: ((value: T, previous: T) => void)[] = [];

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set value(value: T) {
    if (Object.is(value, this.#value)) return;
    const previous = this.#value;
    this.#value = value;
    for (const listener of this.#listeners) listener(value, previous);
  }

  subscribe(listener: (value: T, previous: T) => void): void {
    this.#listeners.push(listener);
  }
}
