// Values and exceptions as people see them: every form of them bounded.

const util = require('util');

const MAX_TEXT = 64 << 10; // the longest text of a value or an exception, in bytes
const MAX_NAME = 200; // the longest name: of a form, of what is displayed, of an exception
const MAX_IMAGE = 2 << 20; // the largest picture, in bytes: what the front end passes on
const MAX_FORM = 512 << 10; // the longest other form, in bytes
const MAX_FORMS = 4 << 20; // all forms of one value together: what the agent takes
const MAX_KINDS = 32;
const MAX_ITEMS = 10000; // how many values one shown as JSON holds at most
const BINARY = ['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'application/pdf'];
const INSPECT = { depth: 4, maxArrayLength: 200, maxStringLength: MAX_TEXT };
const BUNDLE = Symbol.for('Jupyter.display'); // as in Deno: a method that makes all forms of a value

/** Text as UTF-8 of a bounded length, which says so where it was cut. */
function bounded(text) {
  const data = Buffer.from(text);
  if (data.length <= MAX_TEXT) return data;
  const cut = data.toString('utf8', 0, MAX_TEXT).replace(/\ufffd+$/, '');
  return Buffer.from(`${cut}… (${data.length} bytes in all)`);
}

/** A name of a bounded length. */
const named = (name) => String(name).slice(0, MAX_NAME);

/** What the user's own code makes of a value; it may fail. */
function made(make, value) {
  try {
    return String(make(value));
  } catch (error) {
    return `<a value that cannot be shown: ${isError(error) ? made((e) => e.name, error) : typeof error}>`;
  }
}

const isError = (value) => util.types.isNativeError(value) || value instanceof Error;

/** A value as node shows it; of an error, what has called the cell is cut off. */
function inspected(value) {
  const text = made((value) => util.inspect(value, INSPECT), value);
  return isError(value) ? ownFrames(text) : text;
}

/** The text of an error with the user's frames only. */
function ownFrames(text) {
  const kept = [];
  let cutting = false;
  for (const line of text.split('\n')) {
    const frame = /^ +(at |\.{3} \d+ lines matching)/.test(line);
    cutting = frame && (cutting || /<driver>:|\(node:inspector:|lines matching/.test(line));
    if (!cutting && !(frame && /\(node:internal\//.test(line))) {
      kept.push(line);
    } else if (line.endsWith(' {')) {
      kept[kept.length - 1] += ' {'; // what else the error has follows
    }
  }
  return kept.join('\n').replace(/<cell-(\d+)>/g, '<cell $1>');
}

/** A plain object or array as JSON, if that is all of it and not long. */
function json(value) {
  const plain = (value) => [Object.prototype, Array.prototype, null].includes(Object.getPrototypeOf(value));
  let items = 0;
  const whole = (_key, value) => {
    const shows = value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value);
    if (++items > MAX_ITEMS || !(shows || (typeof value === 'object' && plain(value)))) throw new TypeError();
    return value;
  };
  try {
    if (typeof value !== 'object' || value === null || !plain(value)) return undefined;
    const data = Buffer.from(JSON.stringify(value, whole));
    return data.length <= MAX_TEXT ? data : undefined;
  } catch {
    return undefined;
  }
}

/** All forms of a value by their MIME types. */
function bundleOf(value) {
  try {
    const own = value && value[BUNDLE];
    if (typeof own === 'function') return { 'text/plain': inspected(value), ...own.call(value) };
  } catch (error) {
    console.error(`a value could not be displayed: ${inspected(error)}`);
  }
  return { 'text/plain': inspected(value), 'application/json': json(value) };
}

/** A form as bytes. */
function encoded(mime, data) {
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (typeof data === 'string') return Buffer.from(data, BINARY.includes(mime) ? 'base64' : 'utf8');
  if (mime.endsWith('json')) return Buffer.from(JSON.stringify(data));
  throw new TypeError(`it is of type ${typeof data}`);
}

/** Sends one value in its forms, the text first, and a word on each that is not shown. */
function show(bundle, { result = false, id = '', update = false } = {}) {
  const forms = [];
  let room = MAX_FORMS;
  const order = Object.entries(bundle).sort(([a], [b]) => (b === 'text/plain') - (a === 'text/plain'));
  for (const [mime, value] of order.filter(([, value]) => value != null)) {
    try {
      if (!/^[\x21-\x7e]{1,200}$/.test(mime)) throw new TypeError('it is no MIME type');
      const data = mime === 'text/plain' ? bounded(value) : encoded(mime, value);
      if (data.length > Math.min(room, BINARY.includes(mime) ? MAX_IMAGE : MAX_FORM) || forms.length === MAX_KINDS) {
        throw new RangeError(`${data.length} bytes are too many, save it to a file`);
      }
      room -= data.length;
      forms.push([mime, data]);
    } catch (error) {
      console.error(`[${named(mime)} is left out: ${made((error) => error.message, error)}]`);
    }
  }
  const header = { type: 'display', result, id, update, forms: forms.map(([mime, data]) => [mime, data.length]) };
  send(header, Buffer.concat(forms.map(([, data]) => data)));
}

/** Shows a value in all the forms it has, or with `raw` the forms themselves, by their MIME types. */
function display(value, { raw = false, display_id: id = '', update = false } = {}) {
  show(raw ? value : bundleOf(value), { id: named(id), update: Boolean(update) });
}

/** Shows an exception; place is where a cell that could not be read is wrong. What is thrown need not be an Error. */
function showException(error, place = '') {
  const known = isError(error);
  const value = known ? made((error) => error.message, error) : inspected(error);
  const told = known ? inspected(error) : `Uncaught ${value}`;
  send({
    type: 'exception',
    name: named(known ? made((error) => error.name, error) : typeof error),
    value: bounded(value).toString(),
    traceback: bounded(place + told).toString(),
  });
}
