// `import` in cells. They are scripts, for which node takes neither a statement nor a call of it:
// a statement becomes a declaration, and a call one of a function of ours, whose name is as long.

const IMPORT = 'ımport';
const BEFORE_REGEX = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|await|void|delete|yield|throw|else))$/;
const TOKEN = new RegExp(
  [
    String.raw`(?<space>\s+|//.*|/\*[^]*?\*/)`,
    String.raw`'(?:\\[^]|[^'\\\n])*'|"(?:\\[^]|[^"\\\n])*"`,
    String.raw`(?<regex>/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+/\w*)`,
    String.raw`[\p{ID_Start}$_][\p{ID_Continue}$]*|[^]`,
  ].join('|'),
  'uy',
);
const QUOTED = String.raw`\s*("[^"\n]*"|'[^'\n]*')`;
const STATEMENT = new RegExp(
  String.raw`import(?:\s+([\p{ID_Start}$_][\p{ID_Continue}$]*))?\s*,?\s*` +
    String.raw`(?:\*\s*as\s+([\p{ID_Start}$_][\p{ID_Continue}$]*)|\{([^}]*)\})?\s*(?:\bfrom\b)?${QUOTED}`,
  'uy',
);

/** A cell in which no `import` is left that V8 would not take. */
function withoutImports(source) {
  if (!/\bimport\b/.test(source)) return source;
  let made = '';
  let before = ''; // the last token that is no space
  const nested = []; // for each open brace, whether it is of a template
  for (let at = 0; at < source.length; ) {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(source);
    let [token] = found;
    let becomes = token;
    if (found.groups.regex && !BEFORE_REGEX.test(before)) {
      becomes = token = '/';
    } else if (token === '`' || (token === '}' && nested.pop())) {
      becomes = token = templatePart(source, at);
      if (token.endsWith('${')) nested.push(true);
    } else if (token === '{') {
      nested.push(false);
    } else if (token === 'import' && before !== '.') {
      const rest = source.slice(at + token.length);
      STATEMENT.lastIndex = at;
      const statement = nested.length === 0 && STATEMENT.exec(source);
      if (/^\s*\(/.test(rest)) {
        becomes = IMPORT;
      } else if (statement) {
        [token] = statement;
        becomes = declaration(statement) + '\n'.repeat(token.split('\n').length - 1);
      }
    }
    made += becomes;
    if (!found.groups.space) before = token;
    at += token.length;
  }
  return made;
}

/** A template, or what follows an expression in it, to its end or the next expression. */
function templatePart(source, at) {
  const part = /(?:\\[^]|(?!\$\{)[^`\\])*(?:`|\$\{|$)/y;
  part.lastIndex = at + 1;
  return source[at] + part.exec(source)[0];
}

function declaration([, own, all, some, from]) {
  const module = `await ${IMPORT}(${from})`;
  if (!own && !all && some === undefined) return `void ${module}`;
  const names = (some || '').replace(/\s+as\s+/g, ': ').replace(/\s+/g, ' ');
  if (!all) return `const {${own ? `default: ${own}, ` : ''}${names}} = ${module}`;
  return `const ${all} = ${module}${own ? `, {default: ${own}} = ${all}` : ''}`;
}
