// The loop: a cell comes, runs, shows what it leaves, and is over.

const language = process.argv.pop();
const strip = language === 'typescript' ? findStripper() : (source) => source;
if (!strip) {
  console.error(
    `node ${process.version} cannot take the types off by itself; use node 22.13 or newer, ` +
      'install sucrase, esbuild or typescript, or write javascript',
  );
  process.exit(1);
}

/** What went wrong outside of a cell would end a node by itself, some time after the cell that is to blame. */
const complain = (what) => (error) => console.error(`${what} ${inspected(error)}`);
process.on('uncaughtException', complain('Uncaught'));
process.on('unhandledRejection', complain('Uncaught (in promise)'));
process.on('SIGINT', () => {});

// As if a file in the working directory had asked, and without what made node load us.
globalThis.require = require('module').createRequire(path.join(process.cwd(), 'cell.js'));
globalThis.__filename = path.join(process.cwd(), 'cell.js');
globalThis.__dirname = process.cwd();
process.execArgv = [];
delete process._eval;
Object.defineProperty(globalThis, IMPORT, { value: importModule });
Object.defineProperty(globalThis, 'display', { value: display, configurable: true, writable: true });

thread.on('message', (request) => {
  if (request.number) run(request);
  else if (request.interrupt) interrupt(request.interrupt);
});
send({ type: 'ready' });
