// TypeScript: types are taken off a cell, by node itself or by what the image has for it.

const path = require('path');

/** What makes JavaScript of TypeScript; undefined where nothing does. */
function findStripper() {
  const { stripTypeScriptTypes: strip } = require('module');
  if (strip) return (source) => quietly(() => stripped(strip, source));
  const paths = [process.cwd(), path.resolve(process.execPath, '../../lib/node_modules'), '/usr/local/lib/node_modules'];
  for (const [name, use] of Object.entries(STRIPPERS)) {
    try {
      return use(require(require.resolve(name, { paths })));
    } catch {} // it is not there
  }
  return undefined;
}

/** By blanks, so that every column stays; what is more than a type cannot be taken off like that. */
function stripped(strip, source) {
  try {
    return strip(source);
  } catch (error) {
    if (error.code !== 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX') throw error;
    return strip(source, { mode: 'transform' });
  }
}

/** Without node's word that this is experimental, which is not for the user. */
function quietly(f) {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return f();
  } finally {
    process.emitWarning = emitWarning;
  }
}

const STRIPPERS = {
  sucrase: ({ transform }) => (source) =>
    transform(source, { transforms: ['typescript'], disableESTransforms: true, keepUnusedImports: true }).code,
  esbuild: ({ transformSync }) => (source) =>
    transformSync(source, {
      loader: 'ts',
      target: 'esnext',
      tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
    }).code,
  typescript: (typescript) => (source) => {
    const compilerOptions = { target: 'ESNext', module: 'ESNext', verbatimModuleSyntax: true };
    const { outputText, diagnostics } = typescript.transpileModule(source, { compilerOptions, reportDiagnostics: true });
    const [first] = diagnostics;
    if (first) throw new SyntaxError(typescript.flattenDiagnosticMessageText(first.messageText, '\n'));
    return outputText;
  },
};
