// Installs what the files import that the arguments name: what neither Node.js nor their workspace's node_modules has.

const { spawnSync } = require('child_process');
const { existsSync, readFileSync } = require('fs');
const { builtinModules } = require('module');

const COMMENT = String.raw`//[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/`;
// An import; or else what may look as if there were one in it.
const TOKEN = new RegExp(
  [
    String.raw`(?<![\w$.])(?:require\s*\(|import\s*\(?|(?:import|export)\b(?:[^'"\x60();/]|${COMMENT})*?\bfrom)\s*(["'])(?<module>[^"'\n]*)\1`,
    String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`,
    '`(?:\\\\[^]|[^`\\\\])*`',
    COMMENT,
  ].join('|'),
  'g',
);
// npm's own pattern, but that nothing begins like an option or a path.
const NAME = /^(?:@[a-z0-9][a-z0-9._~-]*\/)?[a-z0-9][a-z0-9._~-]*$/;

/** The names of the packages that a file imports, as far as modules of others come in packages. */
function imported(file) {
  let source;
  try {
    source = readFileSync(file, 'utf8');
  } catch (error) {
    console.error(`${file} was not looked into: ${error.message}`);
    return [];
  }
  const modules = [...source.matchAll(TOKEN)].map((found) => found.groups.module);
  // Not paths, `node:` and other URLs, nor what a package calls its own modules.
  const others = modules.filter((module) => module && !/^(?:[./#]|\w+:)/.test(module));
  return others.map((module) => module.split('/', module.startsWith('@') ? 2 : 1).join('/'));
}

const wanted = new Set();
for (const name of process.argv.slice(1).flatMap(imported)) {
  if (builtinModules.includes(name) || existsSync(`node_modules/${name}`)) continue;
  if (NAME.test(name) && name.length <= 214) wanted.add(name);
  else console.error(`${name} is not installed: no package can have this name`);
}
if (wanted.size === 0) {
  console.log('nothing to install');
} else {
  // They are saved in package.json, which is made: what is not, the next `npm install` of anything removes.
  const argv = ['install', '--no-audit', '--no-fund', ...[...wanted].sort()];
  console.log('$', 'npm', ...argv);
  const { error, status } = spawnSync('npm', argv, { stdio: 'inherit' });
  if (error) {
    const missing = 'the image has no npm: use another, or do without what needs it';
    console.error(error.code === 'ENOENT' ? missing : error.message);
  }
  process.exitCode = status ?? 1;
}
