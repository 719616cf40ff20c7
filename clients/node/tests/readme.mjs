// Writes the TypeScript blocks of README.md to readme/, with the port of the test's server in place of the default one.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

const port = "Number(process.env['LOCK_PORT'])";
rmSync('readme', { recursive: true, force: true });
mkdirSync('readme');
[...readFileSync('README.md', 'utf8').matchAll(/```ts\n(.*?)```/gs)].forEach(([, block], number) => {
  const moved = block.replace('new Redis()', `new Redis(${port})`).replace('createClient()', `createClient({ socket: { port: ${port} } })`);
  writeFileSync(`readme/block${number + 1}.ts`, moved);
});
