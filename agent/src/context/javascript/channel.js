// Runs cells in one lasting realm, for the agent that started this node (18 or newer).
//
// What comes in and goes out over the private pipes is what python/channel.py says, and one more
// request: a line "interrupt <number>". A main thread that computes hears nothing, so a thread of
// ours has both pipes. It passes cells on, writes events whole, and ends a cell by V8's own
// termination, which no code can catch and which leaves all state as it is.
//
// The agent joins the files of this directory to one function: they share its scope. This one is
// the channel; `pipes` runs in the thread and sees nothing of the rest.

'use strict';
const fs = require('fs');
const { Worker } = require('worker_threads');

function pipes() {
  const fs = require('fs');
  const { Session } = require('inspector');
  const { Socket } = require('net');
  const { parentPort: main, workerData: written } = require('worker_threads');
  const PATIENCE = 50; // how long the main thread has to end a cell by itself, in milliseconds
  const session = new Session();
  session.connectToMainThread();
  let unread = Buffer.alloc(0);
  let running = 0; // the number of the cell that runs; -1 between cells
  let terminating = false;
  let last; // an end that waits until no termination is on its way any more

  /** The next request; none if not all of it is there. */
  function next() {
    const end = unread.indexOf('\n');
    if (end < 0) return undefined;
    const [first, second] = unread.toString('latin1', 0, end).split(' ');
    const interrupt = first === 'interrupt';
    const body = end + 1 + (interrupt ? 0 : Number(second));
    if (unread.length < body) return undefined;
    const source = unread.toString('utf8', end + 1, body).replace(/^\ufeff/, '');
    unread = unread.subarray(body);
    return interrupt ? { interrupt: Number(second) } : { number: Number(first), source };
  }

  // No fs.read, which would hold up the process's end. At the end of the pipe the agent has gone, and so do we.
  new Socket({ fd: 3, readable: true, writable: false }).on('data', (data) => {
    unread = Buffer.concat([unread, data]);
    for (let request; (request = next()); ) {
      if (request.interrupt) {
        interrupt(request.interrupt);
      } else {
        running = request.number;
        main.postMessage(request);
      }
    }
  });

  /** Asks the main thread to end a cell. It does so where it waits; where it computes, V8 does. */
  function interrupt(number) {
    if (number !== running) return;
    main.postMessage({ interrupt: number });
    setTimeout(() => {
      if (number !== running) return;
      terminating = true;
      session.post('Runtime.terminateExecution', () => {
        terminating = false;
        if (last) write(last);
        last = undefined;
        interrupt(number);
      });
      poke();
    }, PATIENCE);
  }

  /** Gives the main thread something to do, which is what is terminated if it does not compute any more. */
  function poke() {
    if (!terminating) return;
    if (!last) process.kill(0, 'SIGINT'); // to what the cell has started since the agent's
    main.postMessage({});
    setTimeout(poke, PATIENCE);
  }

  function write(data) {
    for (let sent = 0; sent < data.length; ) sent += fs.writeSync(4, data, sent);
  }

  main.on('message', ({ number, data, ticket, done }) => {
    // Between cells the agent reads nothing: it would come to the next cell.
    if (number === running) {
      if (done) running = -1;
      if (done && terminating) last = data;
      else write(data);
    }
    Atomics.store(written, 0, ticket);
    Atomics.notify(written, 0);
  });
}

const written = new Int32Array(new SharedArrayBuffer(4));
const thread = new Worker(`(${pipes})()`, { eval: true, workerData: written });
thread.on('exit', () => process.exit());

let running = 0; // the number of the cell that runs; 0 between cells
let ticket = 0;

/** Sends one event of the cell that runs, and waits until it is on its way: process.exit() may be next. */
function send(header, payload = Buffer.alloc(0)) {
  const head = Buffer.from(JSON.stringify(header));
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(head.length, 0);
  lengths.writeUInt32BE(payload.length, 4);
  ticket = (ticket + 1) | 0;
  const done = header.type === 'done';
  thread.postMessage({ number: running, data: Buffer.concat([lengths, head, payload]), ticket, done });
  for (let seen; (seen = Atomics.load(written, 0)) !== ticket; ) Atomics.wait(written, 0, seen);
}
