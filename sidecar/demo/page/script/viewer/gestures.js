// Wheel, pointer and keys on the canvas, as calls of `actions`:
// scroll(steps), scrollTo("first" | "last"), window(dx, dy), move(dx, dy), zoom(factor, x, y),
// reset(), play().

const PIXELS_A_STEP = 12;
const WHEEL_A_STEP = 60;

const KEYS = {
  ArrowUp: ["scroll", -1], ArrowLeft: ["scroll", -1], ArrowDown: ["scroll", 1],
  ArrowRight: ["scroll", 1], PageUp: ["scroll", -10], PageDown: ["scroll", 10],
  Home: ["scrollTo", "first"], End: ["scrollTo", "last"], "+": ["zoom", 1.25],
  "=": ["zoom", 1.25], "-": ["zoom", 0.8], 0: ["reset"], " ": ["play"],
};
const SHIFTED = {
  ArrowUp: ["window", 0, -10], ArrowDown: ["window", 0, 10],
  ArrowLeft: ["window", -10, 0], ArrowRight: ["window", 10, 0],
};

function listenToKeys(canvas, actions) {
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const call = (event.shiftKey && SHIFTED[event.key]) || KEYS[event.key];
    if (!call) return;
    event.preventDefault();
    const [name, ...values] = call;
    actions[name](...values);
  });
}

/** Return a function that scrolls when parts of a step, which it gets, are a whole one. */
function scroller(actions) {
  let rest = 0;
  return (part) => {
    rest += part;
    const steps = Math.trunc(rest);
    rest -= steps;
    if (steps) actions.scroll(steps);
  };
}

function listenToWheel(canvas, actions) {
  const scroll = scroller(actions);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) {
      actions.zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
      return;
    }
    scroll(event.deltaMode === 0 ? event.deltaY / WHEEL_A_STEP : event.deltaY);
  }, { passive: false });
}

/** Two fingers zoom and move. */
function pinch(points, event, canvas, actions) {
  const [still] = [...points].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
  const before = points.get(event.pointerId);
  const distance = (point) => Math.hypot(point.x - still.x, point.y - still.y) || 1;
  const now = { x: event.clientX, y: event.clientY };
  const box = canvas.getBoundingClientRect();
  actions.zoom(distance(now) / distance(before),
    (now.x + still.x) / 2 - box.left, (now.y + still.y) / 2 - box.top);
  actions.move((now.x - before.x) / 2, (now.y - before.y) / 2);
}

function listenToPointers(canvas, actions, toolOf) {
  const points = new Map();
  let scroll = scroller(actions);
  const drag = (event, dx, dy) => {
    const tool = event.shiftKey || event.buttons > 1 ? "move" : toolOf();
    if (tool === "scroll") scroll(dy / PIXELS_A_STEP);
    else actions[tool](dx, dy);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    points.set(event.pointerId, { x: event.clientX, y: event.clientY });
    scroll = scroller(actions);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = points.get(event.pointerId);
    if (!before) return;
    if (points.size === 2) pinch(points, event, canvas, actions);
    else drag(event, event.clientX - before.x, event.clientY - before.y);
    points.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => points.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => actions.reset());
}

/** Listen to everything; `toolOf` returns what a drag does: window, move or scroll. */
export function listen(canvas, actions, toolOf) {
  listenToKeys(canvas, actions);
  listenToWheel(canvas, actions);
  listenToPointers(canvas, actions, toolOf);
}
