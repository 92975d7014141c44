// Undo and redo of a selection: a line of states, each a sorted list of object numbers as text.

const LONGEST = 200;

export class History {
  constructor(ids = []) {
    this.reset(ids);
  }

  reset(ids) {
    this.states = [pack(ids)];
    this.place = 0;
  }

  get current() {
    return unpack(this.states[this.place]);
  }

  get canUndo() {
    return this.place > 0;
  }

  get canRedo() {
    return this.place < this.states.length - 1;
  }

  /** Adds a state after the current one; with `amend` it takes the current one's place (clicks that cycle are one step). */
  push(ids, amend = false) {
    const state = pack(ids);
    if (amend && this.place > 0) this.place -= 1;
    this.states.length = this.place + 1;
    if (state !== this.states[this.place]) this.states.push(state);
    if (this.states.length > LONGEST) this.states.shift();
    this.place = this.states.length - 1;
  }

  undo() {
    if (this.canUndo) this.place -= 1;
    return this.current;
  }

  redo() {
    if (this.canRedo) this.place += 1;
    return this.current;
  }
}

function pack(ids) {
  return JSON.stringify([...ids].sort((a, b) => (a < b ? -1 : Number(a > b))));
}

function unpack(state) {
  return new Set(JSON.parse(state));
}
