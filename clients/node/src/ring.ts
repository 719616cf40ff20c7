/** A list that is left at once from any place: cheaper than a Set for the many that come and are soon gone. */
export class Ring<T> {
  private next: Ring<T> = this;
  private last: Ring<T> = this;

  constructor(private readonly value?: T) {}

  add(value: T): Ring<T> {
    const place = new Ring(value);
    place.next = this;
    place.last = this.last;
    this.last = this.last.next = place;
    return place;
  }

  /** Tells whether this place had not been left before. */
  leave(): boolean {
    if (this.next === this) return false;
    this.last.next = this.next;
    this.next.last = this.last;
    this.next = this.last = this;
    return true;
  }

  get all(): T[] {
    const all: T[] = [];
    for (let place = this.next; place !== this; place = place.next) all.push(place.value!);
    return all;
  }
}
