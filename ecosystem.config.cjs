// PM2: the server and the aggregator of a machine, as two apps that meet in Redis.
//
//   npx pm2 start ecosystem.config.cjs --env production   both; `online` means ready (wait_ready). Redis is that of
//                                                         config/production.json, or REDIS_URL
//   npx pm2 start ecosystem.config.cjs --only ml-tcp-server   one machine without Redis: the server brings its aggregator
//   npx pm2 sendSignal SIGUSR2 ml-tcp-server   reloads config, models and workers; no connection is dropped
//   npx pm2 stop ml-tcp-server                 answers what is in flight, then stops
//   npx pm2 logs                               JSON, an event a line
//
// Not `pm2 reload`: of an app in fork mode PM2 makes a stop and a start, and clients find no listener in between.
//
// The server runs in fork mode, not in PM2's cluster mode (-i), which it refuses: it forks its workers itself, one a core, and shares the
// machine's connection limit and metrics among them. Environment variables (PORT, REDIS_URL …) are passed on.

const { availableParallelism } = require('node:os');

/** What both apps have in common. */
const app = {
  script: 'bundle/cli.js',
  cwd: __dirname,
  exec_mode: 'fork',
  instances: 1,
  // The app says when it serves; until then PM2 does not call it online. Models may take a while to load.
  wait_ready: true,
  listen_timeout: 30_000,
  // Must exceed server.drainTimeoutSeconds (10 s) and the two seconds that overdue workers get.
  kill_timeout: 15_000,
  // No restart_delay and no exp_backoff_restart_delay: with either, PM2 shows an app that it will not restart
  // (stop_exit_codes) as `waiting restart`. The primary backs off by itself where workers die; PM2 gives up after 16
  // starts that lived less than a second.
  merge_logs: true,
  // PM2 looks at the memory of this one process, which serves nobody and stays below 200 MB; one that grows to this has
  // a leak. Workers are watched by the primary: see max-old-space-size in Node's manual for a limit of theirs.
  max_memory_restart: '1G',
  env: {},
  env_production: { NODE_ENV: 'production' },
};

module.exports = {
  apps: [
    {
      ...app,
      name: 'ml-tcp-server',
      args: 'start',
      env: { ...app.env, WORKERS: process.env.WORKERS ?? String(availableParallelism()) },
      env_production: { ...app.env_production, WORKERS: process.env.WORKERS ?? String(availableParallelism()) },
      // Configuration, a port in use, a model that does not load: restarting does not mend these. Not 0, since PM2
      // takes a kill -9 for that.
      stop_exit_codes: [2, 3, 4, 5],
    },
    { ...app, name: 'ml-tcp-aggregator', args: 'aggregator', stop_exit_codes: [2, 3] },
  ],
};
