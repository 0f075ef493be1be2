// What the user's code prints. Node would queue it behind a full pipe, and lose it with the process;
// and an interrupt in the midst of a stream's own work would leave the stream stuck.

const { Writable } = require('stream');

class Direct extends Writable {
  constructor(fd) {
    super({ decodeStrings: false });
    this.fd = fd;
    this.on('error', () => {});
  }

  write(chunk, encoding, done) {
    if (typeof encoding === 'function') [encoding, done] = [undefined, encoding];
    const data = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk;
    for (let sent = 0; sent < data.length; ) sent += writeSome(this.fd, data, sent);
    if (done) process.nextTick(done);
    return true;
  }

  _write(chunk, encoding, done) {
    this.write(chunk, encoding);
    done();
  }
}

/** Writes a part, and says how much. A child that shares the pipe may have made it one that does not wait. */
function writeSome(fd, data, from) {
  try {
    return fs.writeSync(fd, data, from);
  } catch (error) {
    if (error.code !== 'EAGAIN') throw error;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    return 0;
  }
}

for (const [name, fd] of [['stdout', 1], ['stderr', 2]]) {
  const stream = new Direct(fd);
  Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => stream });
}
