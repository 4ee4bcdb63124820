// Holds the layering: arrows point down, and lib/binding.ts is the only door to the addon.
//   node scripts/layers.mjs [root]     prints each crossing as file:line, what it reaches, and the rule; exits 1 on any
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

// Bottom first.  A file may import what is below its row, and its own folder.
const libLayers = [
  ['errors'],
  ['binding'],
  ['device', 'margins', 'optimizers', 'random'],
  ['tensor'],
  ['autograd'],
  ['ops'],
  ['kernels'],
  ['data', 'eval', 'heads', 'losses', 'nn', 'optim', 'io', 'report'],
  ['train'],
  ['cli'],
  ['index'],
];
const heights = new Map(libLayers.flatMap((row, height) => row.map((name) => [name, height])));

// Which folders of the repository a C++ folder may include from, and which of other people's headers it may not.
const nodeApi = /^(napi|node_api|node|uv|v8)\b/;
const cuda = /^(cuda|cublas|cudnn|nccl|nvml)/;
const onednn = /^(dnnl|oneapi\/)/;
const nativeLayers = {
  'native/common': {
    from: [],
    not: [nodeApi, cuda, onednn],
    why: 'native/common includes no other folder, device or JavaScript',
  },
  'native/cpu': {
    from: ['native/common'],
    not: [nodeApi, cuda, onednn],
    why: 'native/cpu includes native/common only',
  },
  'native/cuda': { from: ['native/common'], not: [nodeApi, onednn], why: 'native/cuda includes native/common only' },
  'native/onednn': { from: ['native/common'], not: [nodeApi, cuda], why: 'native/onednn includes native/common only' },
  src: {
    from: ['native/common', 'native/cpu'],
    not: [cuda, onednn],
    why: 'src knows native/common and native/cpu; the plug-ins are opened at run time',
  },
};

function filesUnder(folder, extensions) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && extensions.test(entry.name))
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

// Comments become blanks of the same number of lines: examples in them are not imports.
const withoutComments = (text) =>
  text.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, '')).replace(/(^|\s)\/\/.*$/gm, '$1');

function* matches(text, pattern) {
  for (const match of text.matchAll(pattern)) {
    yield { target: match[1], line: text.slice(0, match.index + match[0].length).split('\n').length };
  }
}

const imports =
  /(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+|\brequire\s*\(\s*|\bnew\s+URL\s*\(\s*)['"`]([^'"`\n]+)['"`]/g;
const addon =
  /\bprocess\.dlopen\b|^\s*import\s.*['"]bindings['"]|\brequire\(['"]bindings['"]\)|['"`/]flashmargin\.node\b/m;

/** The layer of lib/ops/conv2d.ts is ops, that of lib/tensor.ts is tensor. */
const layerOf = (file) => file.split('/')[1].replace(/\.[cm]?ts$/, '');

function* libCrossings(root) {
  for (const absolute of filesUnder(path.join(root, 'lib'), /\.[cm]?ts$/)) {
    const file = path.relative(root, absolute);
    const text = withoutComments(readFileSync(absolute, 'utf8'));
    const layer = layerOf(file);
    const height = heights.get(layer);
    if (height === undefined) {
      yield { file, line: 1, target: layer, rule: 'this layer has no place yet: give it one in scripts/layers.mjs' };
      continue;
    }
    if (layer !== 'binding' && addon.test(text)) {
      const line = text.slice(0, addon.exec(text).index).split('\n').length;
      yield { file, line, target: 'the addon', rule: 'lib/binding.ts is the only door to the addon' };
    }
    for (const { target, line } of matches(text, imports)) {
      if (!target.startsWith('.')) continue;
      const reached = path.relative(root, path.resolve(path.dirname(absolute), target));
      if (!reached.startsWith(`lib${path.sep}`)) {
        if (/\.(json|[cm]?[jt]s|node)$/.test(reached) && reached !== 'package.json')
          yield { file, line, target: reached, rule: 'lib imports nothing of the repository outside lib' };
        continue;
      }
      const other = layerOf(reached.replace(/\.[cm]?js$/, '.ts'));
      const otherHeight = heights.get(other) ?? -1; // an unplaced layer is reported where its own file is read
      if (other === layer) continue;
      if (otherHeight > height)
        yield { file, line, target: reached, rule: `arrows point down: ${other} is above ${layer}` };
      if (otherHeight === height)
        yield { file, line, target: reached, rule: `arrows point down: ${other} is beside ${layer}` };
    }
  }
}

function* nativeCrossings(root) {
  for (const [folder, { from, not, why }] of Object.entries(nativeLayers)) {
    for (const absolute of filesUnder(path.join(root, folder), /\.(h|hpp|inl|cuh|cpp|cc|cu|def)$/)) {
      const file = path.relative(root, absolute);
      const text = withoutComments(readFileSync(absolute, 'utf8'));
      for (const { target, line } of matches(text, /^\s*#\s*include\s*<([^>]+)>/gm)) {
        if (not.some((pattern) => pattern.test(target))) yield { file, line, target: `<${target}>`, rule: why };
      }
      for (const { target, line } of matches(text, /^\s*#\s*include\s*"([^"]+)"/gm)) {
        const reached = path.relative(root, path.resolve(path.dirname(absolute), target));
        const allowed = [folder, ...from].some((place) => reached.startsWith(`${place}/`));
        const foreign = !existsSync(path.join(root, reached)) && not.some((pattern) => pattern.test(target));
        if (foreign || !allowed) yield { file, line, target: foreign ? target : reached, rule: why };
      }
    }
  }
}

const root = path.resolve(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)));
const crossings = [...libCrossings(root), ...nativeCrossings(root)];
for (const { file, line, target, rule } of crossings)
  console.error(`${file}:${line}: reaches ${target}\n  rule: ${rule}`);
console.log(crossings.length ? `layers: ${crossings.length} crossed` : 'layers: none crossed');
process.exitCode = crossings.length ? 1 : 0;
