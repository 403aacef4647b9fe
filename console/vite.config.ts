import { defineConfig } from "vite";

// The gateway serves `dist` under a policy that allows nothing inline and nothing from elsewhere, and keeps `assets/` for a year:
// so every file has a name made of its content, and none is folded into another as a data: address.
export default defineConfig({
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  // `npm run dev` shows the page over a platform that runs: the API answers from the gateway.
  server: { proxy: { "/v1": "http://127.0.0.1:8080" } },
});
