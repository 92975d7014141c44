// Colours of Okabe and Ito (2008), told apart with any common colour vision. Objects differ by colour, then by the dashes
// of their outline and the direction of their hatching, and always by their number: colour alone never carries meaning.

const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];
const DARK_TEXT = "#101418";
const LIGHT_TEXT = "#ffffff";
const TEXTS = [DARK_TEXT, DARK_TEXT, DARK_TEXT, DARK_TEXT, LIGHT_TEXT, DARK_TEXT, DARK_TEXT];
const DASHES = [[], [9, 5], [3, 4], [12, 4, 3, 4]];
export const HATCHES = ["rising", "falling", "level", "upright"];

/** Looks of the object at a place of the list: colour, text colour on it, dashes, hatching. */
export function lookOf(index) {
  const colour = index % COLOURS.length;
  const round = Math.floor(index / COLOURS.length);
  return {
    colour: COLOURS[colour],
    text: TEXTS[colour],
    dash: DASHES[round % DASHES.length],
    // The hatching walks with the colour too: neighbours in the list differ twice.
    hatch: HATCHES[(colour + round) % HATCHES.length],
  };
}

const tiles = new Map();

/** Canvas pattern of hatching lines in a colour, drawn once and kept. */
export function hatching(context, { colour, hatch }) {
  const name = `${colour} ${hatch}`;
  if (!tiles.has(name)) {
    const size = 14; // lines cover a tenth of the object: its own colours stay to be seen
    const tile = document.createElement("canvas");
    tile.width = size;
    tile.height = size;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = 1.4;
    pen.beginPath();
    for (const shift of [-size, 0, size]) {
      if (hatch === "rising") {
        pen.moveTo(shift, size);
        pen.lineTo(shift + size, 0);
      } else if (hatch === "falling") {
        pen.moveTo(shift, 0);
        pen.lineTo(shift + size, size);
      }
    }
    if (hatch === "level") {
      pen.moveTo(0, size / 2);
      pen.lineTo(size, size / 2);
    } else if (hatch === "upright") {
      pen.moveTo(size / 2, 0);
      pen.lineTo(size / 2, size);
    }
    pen.stroke();
    tiles.set(name, tile);
  }
  return context.createPattern(tiles.get(name), "repeat");
}
