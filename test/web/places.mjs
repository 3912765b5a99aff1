// The places where a client lives: this process, and a page in a browser.

import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { newContext } from './browser.mjs';
import * as scenarios from './scenarios.mjs';

/**
 * The places by name. Each runs a scenario (scenarios.mjs) by its name, with its arguments. An
 * argument may be a function, or an object of functions: they are called in this process. `home`
 * returns the browser, and the application whose page it opens.
 */
export const places = (home) => ({
  Node: async (_, name, ...args) => scenarios[name](...args),
  Chromium: async (t, name, ...args) => {
    const { app, browser } = home();
    const bundle = await build({
      entryPoints: [fileURLToPath(new URL('scenarios.mjs', import.meta.url))],
      bundle: true, format: 'iife', globalName: 'scenarios', platform: 'browser', write: false,
    });
    const context = await newContext(browser);
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(app.url);
    await page.addScriptTag({ content: bundle.outputFiles[0].text });
    const sent = await Promise.all(args.map(async (arg, i) => {
      if (typeof arg === 'function') {
        await page.exposeFunction(`call${i}`, arg);
        return { calls: `call${i}` };
      }
      if (!Object.values(arg).some((member) => typeof member === 'function')) return { value: arg };
      const members = {};
      for (const [member, call] of Object.entries(arg)) {
        await page.exposeFunction(`call${i}_${member}`, call);
        members[member] = `call${i}_${member}`;
      }
      return { members };
    }));
    return page.evaluate(([name, sent]) => scenarios[name](...sent.map(({ calls, members, value }) => {
      if (calls) return window[calls];
      if (members) return Object.fromEntries(Object.entries(members).map(([member, call]) => [member, window[call]]));
      return value;
    })), [name, sent]);
  },
});
