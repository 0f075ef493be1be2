// Cells, by V8's own REPL mode: `let` and `const` may be said again, `await` stands where it
// likes, and the value of the last expression is known.

const { Session } = require('inspector');
const { promiseHooks } = require('v8');

const OURS = Symbol('driver'); // where scripts find a function of ours for a moment
const GROUP = 'cell';

/** What takes the place of a cell's end that was interrupted. */
class Interrupted extends Error {}
Interrupted.prototype.name = 'Interrupted';

let exiting = false;
process.on('exit', () => { exiting = true; });

const session = new Session();
session.connect();

/** Calls the inspector where it answers at once. */
function ask(method, parameters) {
  let answer;
  session.post(method, parameters, (_error, result) => { answer = result; });
  return answer;
}

let taken;
globalThis[OURS] = (value) => { taken = value; };
const symbols = ask('Runtime.evaluate', { expression: 'Object.getOwnPropertySymbols(globalThis)' });
const take = ask('Runtime.callFunctionOn', {
  objectId: symbols.result.objectId,
  functionDeclaration: 'function () { return globalThis[this[this.length - 1]]; }',
}).result.objectId;
delete globalThis[OURS];

/** The value itself of what the inspector names. */
function valueOf({ objectId, unserializableValue, value }) {
  const argument = objectId ? { objectId } : unserializableValue ? { unserializableValue } : { value };
  ask('Runtime.callFunctionOn', {
    objectId: take,
    functionDeclaration: 'function (value) { this(value); }',
    arguments: [argument],
  });
  const found = taken;
  taken = undefined;
  return found;
}

/** The promises of cells, some of them abandoned: V8 would tell us, in the midst of its collection, of one it collects. */
const pending = new Set();

/** Evaluates a cell and calls back when its promise has settled, which an interrupt can prevent. */
function evaluate(source, number, over) {
  let promise;
  // The first that comes is the cell's own.
  const stop = promiseHooks.onInit((first) => {
    stop();
    if (!promise) pending.add((promise = first));
  });
  const expression = `${source}\n//# sourceURL=<cell-${number}>`;
  const parameters = { expression, replMode: true, awaitPromise: true, objectGroup: GROUP };
  session.post('Runtime.evaluate', parameters, (error, answer) => {
    pending.delete(promise);
    over(error, answer);
  });
  stop();
}

/** Runs a cell, shows what it leaves, and says that it is over. */
function run({ number, source }) {
  running = number;
  // Not by a promise: an interrupt can clear the queue of what waits for one.
  const over = (show) => {
    if (running !== number || exiting) return; // it was interrupted, or the inspector gives up all it has
    const status = show();
    ask('Runtime.releaseObjectGroup', { objectGroup: GROUP });
    end(status);
  };
  let script;
  try {
    script = withoutImports(strip(source));
  } catch (error) {
    error.stack = String(error.stack).replace(/\n +at [^]*/, ''); // no frame of it is the user's
    over(() => failed(error));
    return;
  }
  evaluate(script, number, (error, answer) => over(() => {
    if (error) return failed(new Interrupted('the cell was interrupted'));
    const { result, exceptionDetails: details } = answer;
    if (details) {
      const thrown = valueOf(details.exception);
      const unread = thrown instanceof SyntaxError && !String(thrown.stack).includes('<cell-');
      return failed(thrown, unread ? place(details, script, number) : '');
    }
    if (result.type !== 'undefined') showResult(valueOf(result));
    return 0;
  }));
}

function end(status) {
  send({ type: 'done', number: running, status });
  running = 0;
}

/** Ends a cell that waits. What it has begun may go on: nothing can stop a promise. */
function interrupt(number) {
  if (running !== number) return;
  failed(new Interrupted('the cell was interrupted'));
  end(1);
}

function failed(error, place) {
  showException(error, place);
  return 1;
}

function showResult(value) {
  globalThis._ = value;
  show(bundleOf(value), { result: true });
}

/** Where a cell is wrong that could not be read. */
function place({ lineNumber, columnNumber }, source, number) {
  const line = source.split('\n')[lineNumber] || '';
  return `<cell ${number}>:${lineNumber + 1}:${columnNumber + 1}\n${line}\n${' '.repeat(columnNumber)}^\n`;
}
